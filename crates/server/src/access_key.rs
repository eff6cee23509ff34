//! The keys of an installation: the root access key that its owner signs with, and the server's own key from which
//! everything it authenticates to itself is derived. Both are made at the first start and kept beside the store.

use std::fmt;
use std::path::Path;

use aws_lc_rs::hmac;
use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use longshore_wire::sigv4::{Secret, SecretKeys};
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

use crate::error::ServerError;
use crate::files;

/// The name of the root access key's file in the data directory: JSON, `{"accessKeyId","secretAccessKey"}`, mode 0600.
pub const ROOT_ACCESS_KEY_FILE: &str = "root-access-key";
/// The name of the server key's file in the data directory: 64 hexadecimal digits, mode 0600.
pub const SERVER_KEY_FILE: &str = "server-key";

/// Access key ids have AWS's form, 20 capitals and digits, but their own beginning: no tool mistakes one for AWS's.
const ID_PREFIX: &str = "LSIA";
const ID_ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
const ID_CHARS: usize = 20;
const SECRET_ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const SECRET_CHARS: usize = 40;

/// The access key that may do everything.
#[derive(Clone)]
pub struct RootAccessKey {
    id: String,
    secret: Secret,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Stored {
    access_key_id: String,
    secret_access_key: String,
}

impl Drop for Stored {
    fn drop(&mut self) {
        self.secret_access_key.zeroize();
    }
}

impl RootAccessKey {
    /// The key of this data directory, made now if there is none.
    pub fn load_or_create(data_dir: &Path) -> Result<Self, ServerError> {
        let path = data_dir.join(ROOT_ACCESS_KEY_FILE);
        if let Some(bytes) = files::read_secret(&path)? {
            return Self::parse(&bytes).map_err(|problem| ServerError::DamagedFile { path, problem });
        }
        let key = Self::generate()?;
        let stored = Stored { access_key_id: key.id.clone(), secret_access_key: key.secret.reveal().to_owned() };
        let text = Zeroizing::new(serde_json::to_vec(&stored).unwrap_or_default());
        files::replace(&path, &text, files::SECRET_MODE)?;
        Ok(key)
    }

    fn parse(bytes: &[u8]) -> Result<Self, String> {
        let stored: Stored = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        let id = stored.access_key_id.as_str();
        if id.len() != ID_CHARS || !id.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit()) {
            return Err("accessKeyId is not 20 capitals and digits".to_owned());
        }
        if stored.secret_access_key.len() != SECRET_CHARS {
            return Err("secretAccessKey has not 40 characters".to_owned());
        }
        Ok(Self { id: id.to_owned(), secret: Secret::new(stored.secret_access_key.clone()) })
    }

    fn generate() -> Result<Self, ServerError> {
        let id = format!("{ID_PREFIX}{}", *random_text(ID_CHARS - ID_PREFIX.len(), ID_ALPHABET)?);
        let mut secret = random_text(SECRET_CHARS, SECRET_ALPHABET)?;
        Ok(Self { id, secret: Secret::new(std::mem::take(&mut *secret)) })
    }

    /// The public half.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The secret half.
    pub fn secret(&self) -> &Secret {
        &self.secret
    }
}

impl SecretKeys for RootAccessKey {
    fn secret(&self, access_key_id: &str, session_token: Option<&str>) -> Option<Secret> {
        (access_key_id == self.id && session_token.is_none()).then(|| self.secret.clone())
    }
}

impl fmt::Debug for RootAccessKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RootAccessKey").field("id", &self.id).finish_non_exhaustive()
    }
}

/// The server's own key. Never used itself: each purpose gets a key derived from it.
pub struct ServerKey(Zeroizing<[u8; 32]>);

impl ServerKey {
    /// The key of this data directory, made now if there is none.
    pub fn load_or_create(data_dir: &Path) -> Result<Self, ServerError> {
        let path = data_dir.join(SERVER_KEY_FILE);
        let mut key = Zeroizing::new([0; 32]);
        if let Some(bytes) = files::read_secret(&path)? {
            return match hex::decode_to_slice(bytes.trim_ascii(), key.as_mut()) {
                Ok(()) => Ok(Self(key)),
                Err(_) => Err(ServerError::DamagedFile { path, problem: "not 64 hexadecimal digits".to_owned() }),
            };
        }
        SystemRandom::new().fill(key.as_mut()).map_err(|_| ServerError::Randomness)?;
        files::replace(&path, Zeroizing::new(hex::encode(key.as_ref())).as_bytes(), files::SECRET_MODE)?;
        Ok(Self(key))
    }

    /// The key for one purpose. Knowing one derived key tells nothing about the others.
    pub fn derive(&self, purpose: &str) -> [u8; 32] {
        let mut derived = [0; 32];
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.0.as_ref());
        derived.copy_from_slice(hmac::sign(&key, purpose.as_bytes()).as_ref());
        derived
    }
}

impl fmt::Debug for ServerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServerKey(..)")
    }
}

/// Random characters of an alphabet whose size divides 256, so that each is equally likely.
fn random_text(chars: usize, alphabet: &[u8]) -> Result<Zeroizing<String>, ServerError> {
    let mut bytes = Zeroizing::new(vec![0; chars]);
    SystemRandom::new().fill(&mut bytes).map_err(|_| ServerError::Randomness)?;
    Ok(Zeroizing::new(bytes.iter().map(|byte| char::from(alphabet[usize::from(*byte) % alphabet.len()])).collect()))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_root_key_is_made_once_and_kept_closed() {
        let dir = tempfile::tempdir().unwrap();
        let made = RootAccessKey::load_or_create(dir.path()).unwrap();
        let loaded = RootAccessKey::load_or_create(dir.path()).unwrap();
        assert_eq!((made.id(), made.secret().reveal()), (loaded.id(), loaded.secret().reveal()));
        assert_eq!(made.id().len(), 20);
        assert_eq!(made.secret().reveal().len(), 40);
        let mode = fs::metadata(dir.path().join(ROOT_ACCESS_KEY_FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let other = RootAccessKey::load_or_create(tempfile::tempdir().unwrap().path()).unwrap();
        assert_ne!(made.id(), other.id());
    }

    #[test]
    fn only_its_own_id_without_a_token_finds_the_secret() {
        let key = RootAccessKey::generate().unwrap();
        assert!(SecretKeys::secret(&key, key.id(), None).is_some());
        assert!(SecretKeys::secret(&key, key.id(), Some("token")).is_none());
        assert!(SecretKeys::secret(&key, "LSIAOTHER", None).is_none());
    }

    #[test]
    fn open_or_damaged_files_are_refused_and_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(ROOT_ACCESS_KEY_FILE);
        fs::write(&path, "{}").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(
            RootAccessKey::load_or_create(dir.path()),
            Err(ServerError::SecretPermissions { mode: 0o640, .. })
        ));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert!(matches!(RootAccessKey::load_or_create(dir.path()), Err(ServerError::DamagedFile { .. })));
        assert_eq!(fs::read(&path).unwrap(), b"{}");
    }

    #[test]
    fn the_server_key_is_kept_and_gives_each_purpose_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let made = ServerKey::load_or_create(dir.path()).unwrap();
        let loaded = ServerKey::load_or_create(dir.path()).unwrap();
        assert_eq!(made.derive("a"), loaded.derive("a"));
        assert_ne!(made.derive("a"), made.derive("b"));
    }

    #[test]
    fn debug_shows_no_secret() {
        let key = RootAccessKey::generate().unwrap();
        assert!(!format!("{key:?}").contains(key.secret().reveal()));
    }
}
