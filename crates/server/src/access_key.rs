//! The keys of an installation: the root access key that its owner signs with, and the server's own key from which
//! everything else is derived. Both are made at the first start and kept beside the store.
//!
//! Join tokens and the keys of machines have no secret that is kept: it is derived from their id, so that whoever reads the
//! store has none of them, and a machine that asks again is given the same one. Which of them are good is the state's to say.

use std::fmt;
use std::path::Path;

use aws_lc_rs::hmac;
use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use longshore_core::Role;
use longshore_wire::sigv4::Secret;
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

/// What the secrets of join tokens and of machines' keys are derived for; other texts would make those that were handed out
/// invalid.
const JOIN_TOKEN_PURPOSE: &str = "join-token-secret";
const INSTANCE_PURPOSE: &str = "instance-secret";

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
        key = random_key()?;
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

/// Every access key that opens something here.
pub trait AccessKeys: Send + Sync + 'static {
    /// The secret of a key and what kind it is; nothing for one that was never issued, or is dead.
    fn find(&self, access_key_id: &str) -> Option<(Secret, Role)>;

    /// The secret of a key that is being issued.
    fn issue(&self, role: Role, access_key_id: &str) -> Secret;
}

/// The keys of a server: its root key, and what it issued as far as the state knows it.
pub(crate) struct KeyRing<K> {
    root: RootAccessKey,
    join_tokens: Zeroizing<[u8; 32]>,
    instances: Zeroizing<[u8; 32]>,
    role_of: K,
}

impl<K: Fn(&str) -> Option<Role>> KeyRing<K> {
    /// `role_of` asks the state for a key's kind.
    pub(crate) fn new(root: RootAccessKey, server_key: &ServerKey, role_of: K) -> Self {
        let derive = |purpose| Zeroizing::new(server_key.derive(purpose));
        Self { root, join_tokens: derive(JOIN_TOKEN_PURPOSE), instances: derive(INSTANCE_PURPOSE), role_of }
    }
}

impl<K: Fn(&str) -> Option<Role> + Send + Sync + 'static> AccessKeys for KeyRing<K> {
    fn find(&self, access_key_id: &str) -> Option<(Secret, Role)> {
        if access_key_id == self.root.id {
            return Some((self.root.secret.clone(), Role::Owner));
        }
        let role = (self.role_of)(access_key_id)?;
        Some((self.issue(role, access_key_id), role))
    }

    fn issue(&self, role: Role, access_key_id: &str) -> Secret {
        match role {
            Role::Owner => self.root.secret.clone(),
            Role::Instance => derived_secret(&self.instances, access_key_id),
            Role::JoinToken => derived_secret(&self.join_tokens, access_key_id),
            // It follows from a session token, not from the id: `task_roles` knows it. This one opens nothing.
            Role::TaskExecution => derived_secret(&self.instances, access_key_id),
        }
    }
}

/// A secret of AWS's form: 40 characters of base64, which are 240 bits.
fn derived_secret(key: &[u8; 32], access_key_id: &str) -> Secret {
    let mac = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), access_key_id.as_bytes());
    Secret::new(STANDARD.encode(&mac.as_ref()[..SECRET_CHARS / 4 * 3]))
}

/// A new key of 256 bits.
pub(crate) fn random_key() -> Result<Zeroizing<[u8; 32]>, ServerError> {
    let mut key = Zeroizing::new([0; 32]);
    SystemRandom::new().fill(key.as_mut()).map_err(|_| ServerError::Randomness)?;
    Ok(key)
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

    fn ring(dir: &Path) -> KeyRing<fn(&str) -> Option<Role>> {
        let role_of: fn(&str) -> Option<Role> = |id| match id {
            "token" => Some(Role::JoinToken),
            "machine" => Some(Role::Instance),
            _ => None,
        };
        let (root, server) = (RootAccessKey::load_or_create(dir), ServerKey::load_or_create(dir));
        KeyRing::new(root.unwrap(), &server.unwrap(), role_of)
    }

    #[test]
    fn keys_are_found_by_what_the_state_says_of_them() {
        let dir = tempfile::tempdir().unwrap();
        let ring = ring(dir.path());
        let root = ring.root.id.clone();
        assert_eq!(ring.find(&root).unwrap().1, Role::Owner);
        assert_eq!(ring.find("token").unwrap().1, Role::JoinToken);
        assert_eq!(ring.find("machine").unwrap().1, Role::Instance);
        assert!(ring.find("other").is_none());
    }

    #[test]
    fn a_derived_secret_is_the_same_each_time_and_like_no_other() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let first = ring(one.path());
        let secret = first.find("machine").unwrap().0;
        assert_eq!(secret.reveal().len(), 40);
        assert_eq!(secret.reveal(), ring(one.path()).issue(Role::Instance, "machine").reveal());
        for other in [
            first.issue(Role::Instance, "machine2"),
            first.issue(Role::JoinToken, "machine"),
            ring(two.path()).issue(Role::Instance, "machine"),
        ] {
            assert_ne!(secret.reveal(), other.reveal());
        }
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
