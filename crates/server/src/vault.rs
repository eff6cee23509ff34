//! The key that values of parameters and secrets are encrypted under, and what is done with it.
//!
//! It lies in a file outside the data directory, so that whoever has a copy of the data directory, or a backup of it, has no
//! secret. It is made when the first value is stored, and never where values are stored that another one opens.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use longshore_core::secret::Sealed;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::access_key::random_key;
use crate::error::ServerError;
use crate::files;

/// What is derived from the key in the file; other texts would make what is stored unreadable.
const CIPHER_PURPOSE: &[u8] = b"longshore-secret-values";
const MARK_PURPOSE: &[u8] = b"longshore-secret-marks";
const ID_PURPOSE: &[u8] = b"longshore-secrets-key-id";

/// Bytes of a mark: enough that no two values have the same by accident.
const MARK_BYTES: usize = 16;
/// Bytes of a key's id.
const ID_BYTES: usize = 8;

/// What a value belongs to. It is sealed together with it: a value that was moved to another place does not open.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Place<'a> {
    /// A parameter, by name.
    Parameter(&'a str),
    /// A version of a secret. Its id is a client's token, which may name versions of several secrets.
    SecretVersion {
        /// The secret's name.
        secret: &'a str,
        /// The version's id.
        id: &'a str,
    },
}

impl Place<'_> {
    fn bytes(self) -> Vec<u8> {
        match self {
            Self::Parameter(name) => [b"ssm\0", name.as_bytes()].concat(),
            Self::SecretVersion { secret, id } => {
                [b"secretsmanager\0", secret.as_bytes(), b"\0", id.as_bytes()].concat()
            }
        }
    }
}

/// Why a value cannot be sealed or opened.
#[derive(Debug, Error)]
pub(crate) enum VaultError {
    /// Values are stored, and their key is not there.
    #[error("the key of the stored secrets is not in {}: bring that file back from its backup and restart the server", path.display())]
    Lost {
        /// Where it should be.
        path: PathBuf,
    },
    /// A value that another key sealed, or that was tampered with.
    #[error("the value was not sealed with the key in {}: bring back the file that it was sealed with", path.display())]
    NotOurs {
        /// Where the present key is.
        path: PathBuf,
    },
    /// The key cannot be made.
    #[error(transparent)]
    Key(#[from] ServerError),
    /// The provider gave no random bytes.
    #[error("the operating system gave no random bytes: try again")]
    Randomness,
}

/// Seals and opens values.
pub(crate) struct Vault {
    path: PathBuf,
    state: Mutex<State>,
}

enum State {
    /// The key is here.
    Open(Arc<Keys>),
    /// There is none, and nothing that needs it: it is made with the first value.
    Fresh,
    /// There is none, or another one, and values are stored.
    Lost,
}

struct Keys {
    id: Arc<str>,
    cipher: RandomizedNonceKey,
    marks: hmac::Key,
}

impl Vault {
    /// The vault whose key is in this file. `needed` is the key under which values are stored already.
    pub(crate) fn open(path: &Path, needed: Option<&str>) -> Result<Self, ServerError> {
        let keys = files::read_secret(path)?.map(|text| Keys::parse(path, &text)).transpose()?;
        let state = match (keys, needed) {
            (Some(keys), needed) if needed.is_none_or(|needed| *keys.id == *needed) => State::Open(Arc::new(keys)),
            (None, None) => State::Fresh,
            (Some(_) | None, _) => {
                tracing::error!(
                    file = %path.display(),
                    "the key of the stored secrets is not there: secrets can be neither read nor written until it is brought back"
                );
                State::Lost
            }
        };
        Ok(Self { path: path.to_owned(), state: Mutex::new(state) })
    }

    /// Encrypts a value. The first one makes the key.
    pub(crate) fn seal(&self, place: Place<'_>, clear: &[u8]) -> Result<Sealed, VaultError> {
        let keys = self.keys(true)?;
        let place = place.bytes();
        let mut text = Zeroizing::new(clear.to_vec());
        let sealed = keys.cipher.seal_in_place_append_tag(Aad::from(&place), &mut *text);
        let nonce = sealed.map_err(|_| VaultError::Randomness)?;
        let text = STANDARD.encode([nonce.as_ref().as_slice(), &text].concat());
        let mut mark = hmac::Context::with_key(&keys.marks);
        mark.update(&place);
        mark.update(b"\0");
        mark.update(clear);
        let mark = hex::encode(&mark.sign().as_ref()[..MARK_BYTES]);
        Ok(Sealed { key: keys.id.clone(), text: text.into(), mark: mark.into() })
    }

    /// Decrypts a value.
    pub(crate) fn unseal(&self, place: Place<'_>, sealed: &Sealed) -> Result<Zeroizing<Vec<u8>>, VaultError> {
        let keys = self.keys(false)?;
        let foreign = || VaultError::NotOurs { path: self.path.clone() };
        let bytes = STANDARD.decode(sealed.text.as_bytes()).map_err(|_| foreign())?;
        let (nonce, text) = bytes.split_at_checked(NONCE_LEN).ok_or_else(foreign)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| foreign())?;
        let mut text = Zeroizing::new(text.to_vec());
        let opened = keys.cipher.open_in_place(nonce, Aad::from(place.bytes()), &mut text).map_err(|_| foreign())?;
        let length = opened.len();
        text.truncate(length);
        Ok(text)
    }

    fn keys(&self, make: bool) -> Result<Arc<Keys>, VaultError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match &*state {
            State::Open(keys) => Ok(Arc::clone(keys)),
            State::Fresh if make => {
                let keys = Arc::new(Keys::make(&self.path)?);
                *state = State::Open(Arc::clone(&keys));
                Ok(keys)
            }
            State::Fresh | State::Lost => Err(VaultError::Lost { path: self.path.clone() }),
        }
    }
}

impl Keys {
    fn parse(path: &Path, text: &[u8]) -> Result<Self, ServerError> {
        let mut key = Zeroizing::new([0; 32]);
        match hex::decode_to_slice(text.trim_ascii(), key.as_mut()) {
            Ok(()) => Self::of(&key),
            Err(_) => Err(ServerError::DamagedSecretsKey { path: path.to_owned() }),
        }
    }

    fn make(path: &Path) -> Result<Self, ServerError> {
        let key = random_key()?;
        if let Some(dir) = path.parent() {
            files::create_data_dir(dir)?;
        }
        files::replace(path, Zeroizing::new(hex::encode(key.as_ref())).as_bytes(), files::SECRET_MODE)?;
        tracing::info!(file = %path.display(), "made the key of the secrets: without it they are lost, so back it up, apart from the data directory");
        Self::of(&key)
    }

    fn of(key: &[u8; 32]) -> Result<Self, ServerError> {
        let root = hmac::Key::new(hmac::HMAC_SHA256, key);
        let derive = |purpose| hmac::sign(&root, purpose);
        let cipher = RandomizedNonceKey::new(&AES_256_GCM, derive(CIPHER_PURPOSE).as_ref());
        Ok(Self {
            id: hex::encode(&derive(ID_PURPOSE).as_ref()[..ID_BYTES]).into(),
            cipher: cipher.map_err(|_| ServerError::Randomness)?,
            marks: hmac::Key::new(hmac::HMAC_SHA256, derive(MARK_PURPOSE).as_ref()),
        })
    }
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vault").field("path", &self.path).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    const HERE: Place<'_> = Place::Parameter("/app/db");

    #[test]
    fn the_first_value_makes_the_key_and_the_next_server_opens_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys").join("secrets-key");
        let vault = Vault::open(&path, None).unwrap();
        assert!(!path.exists());
        let sealed = vault.seal(HERE, b"hunter2").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(!format!("{sealed:?}").contains("hunter2"));
        let next = Vault::open(&path, Some(&sealed.key)).unwrap();
        assert_eq!(next.unseal(HERE, &sealed).unwrap().as_slice(), b"hunter2");
    }

    #[test]
    fn a_value_opens_only_where_it_was_put_and_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let vault = Vault::open(&dir.path().join("k"), None).unwrap();
        let sealed = vault.seal(HERE, b"hunter2").unwrap();
        let version = |secret, id| Place::SecretVersion { secret, id };
        for elsewhere in [Place::Parameter("/app/d"), version("/app/db", ""), version("", "/app/db")] {
            assert!(matches!(vault.unseal(elsewhere, &sealed), Err(VaultError::NotOurs { .. })));
        }
        // Two secrets may have versions of one token.
        let of_one = vault.seal(version("one", "token"), b"hunter2").unwrap();
        let of_other = vault.seal(version("other", "token"), b"hunter2").unwrap();
        assert!(vault.unseal(version("one", "token"), &of_one).is_ok() && of_one.mark != of_other.mark);
        assert!(matches!(vault.unseal(version("other", "token"), &of_one), Err(VaultError::NotOurs { .. })));
        let mut bytes = STANDARD.decode(sealed.text.as_bytes()).unwrap();
        for index in [0, NONCE_LEN, bytes.len() - 1] {
            bytes[index] ^= 1;
            let changed = Sealed { text: STANDARD.encode(&bytes).into(), ..sealed.clone() };
            assert!(vault.unseal(HERE, &changed).is_err());
            bytes[index] ^= 1;
        }
        for text in ["", "AAAA", "?"] {
            assert!(vault.unseal(HERE, &Sealed { text: text.into(), ..sealed.clone() }).is_err());
        }
    }

    #[test]
    fn the_same_value_has_the_same_mark_and_never_the_same_text() {
        let dir = tempfile::tempdir().unwrap();
        let vault = Vault::open(&dir.path().join("k"), None).unwrap();
        let (one, same, other) = (vault.seal(HERE, b"a"), vault.seal(HERE, b"a"), vault.seal(HERE, b"b"));
        let (one, same, other) = (one.unwrap(), same.unwrap(), other.unwrap());
        assert!(one.mark == same.mark && one.text != same.text && one.mark != other.mark);
    }

    #[test]
    fn no_key_is_made_in_place_of_one_that_is_missed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("k");
        let sealed = Vault::open(&path, None).unwrap().seal(HERE, b"a").unwrap();
        fs::remove_file(&path).unwrap();
        let vault = Vault::open(&path, Some(&sealed.key)).unwrap();
        assert!(matches!(vault.unseal(HERE, &sealed), Err(VaultError::Lost { .. })));
        assert!(matches!(vault.seal(HERE, b"b"), Err(VaultError::Lost { .. })) && !path.exists());
        // Nor is another one used.
        Vault::open(&path, None).unwrap().seal(HERE, b"a").unwrap();
        let vault = Vault::open(&path, Some(&sealed.key)).unwrap();
        assert!(matches!(vault.unseal(HERE, &sealed), Err(VaultError::Lost { .. })));
        fs::write(&path, "no key").unwrap();
        assert!(matches!(Vault::open(&path, None), Err(ServerError::DamagedSecretsKey { .. })));
    }
}
