//! Keys for signatures, and the AWS file that may hold them.

use std::fmt;
use std::path::{Path, PathBuf};

use longshore_wire::sigv4;

use super::ConfigError;
use super::source::Source;
use crate::identity::MachineIdentity;

const ID: &str = "AWS_ACCESS_KEY_ID";
const SECRET: &str = "AWS_SECRET_ACCESS_KEY";

/// Keys for signing calls.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The public half.
    pub access_key_id: String,
    /// The secret half.
    pub secret_access_key: String,
    /// Present with temporary keys.
    pub session_token: Option<String>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("access_key_id", &self.access_key_id).finish_non_exhaustive()
    }
}

impl Credentials {
    /// As signing wants them.
    pub(crate) fn for_signing(&self) -> sigv4::Credentials {
        sigv4::Credentials {
            access_key_id: self.access_key_id.clone(),
            secret: sigv4::Secret::new(self.secret_access_key.clone()),
            session_token: self.session_token.clone(),
        }
    }

    /// The first there are of: variables, what the machine received when it joined, the AWS credentials file.
    pub(super) fn read(source: &mut Source, identity: Option<&MachineIdentity>) -> Result<Self, ConfigError> {
        let in_variables = of_variables(source)?;
        let (profile, file, home) =
            (source.text("AWS_PROFILE"), source.text("AWS_SHARED_CREDENTIALS_FILE"), source.text("HOME"));
        match (in_variables, identity) {
            (Some(keys), _) => return Ok(keys),
            (None, Some(identity)) => {
                return Ok(Self {
                    access_key_id: identity.access_key_id.clone(),
                    secret_access_key: identity.secret_access_key.clone(),
                    session_token: None,
                });
            }
            (None, None) => {}
        }
        let named = profile.is_some() || file.is_some();
        let profile = profile.unwrap_or_else(|| "default".into());
        let path = file.map(PathBuf::from).or_else(|| Some(Path::new(&home?).join(".aws/credentials")));
        let text = match &path {
            Some(path) => match std::fs::read_to_string(path) {
                Ok(text) => text,
                Err(source) if named => return Err(ConfigError::Unreadable { path: path.clone(), source }),
                Err(_) => String::new(),
            },
            None => String::new(),
        };
        match (from_file(&text, &profile), path) {
            (Some(credentials), _) => Ok(credentials),
            (None, Some(path)) if named => Err(ConfigError::NoProfile { profile, path }),
            (None, _) => Err(ConfigError::Missing {
                name: ID,
                expected: "the access key id the control plane gave this machine, or join it with `longshore agent join`",
            }),
        }
    }
}

/// The keys in variables, if there are any.
pub(super) fn of_variables(source: &mut Source) -> Result<Option<Credentials>, ConfigError> {
    let missing = |name, expected| Err(ConfigError::Missing { name, expected });
    let session_token = source.text("AWS_SESSION_TOKEN");
    match (source.text(ID), source.text(SECRET)) {
        (Some(access_key_id), Some(secret_access_key)) => {
            Ok(Some(Credentials { access_key_id, secret_access_key, session_token }))
        }
        (Some(_), None) => missing(SECRET, "the secret access key that belongs to AWS_ACCESS_KEY_ID"),
        (None, Some(_)) => missing(ID, "the access key id that AWS_SECRET_ACCESS_KEY belongs to"),
        (None, None) => Ok(None),
    }
}

/// The keys of a profile in the file that AWS's tools share.
pub(super) fn from_file(text: &str, profile: &str) -> Option<Credentials> {
    let mut inside = false;
    let (mut access_key_id, mut secret_access_key, mut session_token) = (None, None, None);
    for line in text.lines().map(str::trim) {
        if let Some(section) = line.strip_prefix('[').and_then(|rest| rest.split(']').next()) {
            inside = section.trim() == profile;
        } else if inside
            && !line.starts_with(['#', ';'])
            && let Some((name, value)) = line.split_once('=')
        {
            let value = Some(value.trim().to_owned()).filter(|value| !value.is_empty());
            match name.trim().to_ascii_lowercase().as_str() {
                "aws_access_key_id" => access_key_id = value,
                "aws_secret_access_key" => secret_access_key = value,
                "aws_session_token" => session_token = value,
                _ => {}
            }
        }
    }
    Some(Credentials { access_key_id: access_key_id?, secret_access_key: secret_access_key?, session_token })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "# keys\n[default]\naws_access_key_id = AKIA1\naws_secret_access_key=one=\n\n[ other ]\n\
        AWS_ACCESS_KEY_ID=AKIA2\n; aws_secret_access_key = no\naws_secret_access_key = two\naws_session_token=t\n[half]\naws_access_key_id=x\n";

    #[test]
    fn profiles_of_the_shared_file() {
        let keys =
            |profile: &str| from_file(FILE, profile).map(|c| (c.access_key_id, c.secret_access_key, c.session_token));
        assert_eq!(keys("default"), Some(("AKIA1".into(), "one=".into(), None)));
        assert_eq!(keys("other"), Some(("AKIA2".into(), "two".into(), Some("t".into()))));
        assert_eq!(keys("half"), None);
        assert_eq!(keys("none"), None);
    }
}
