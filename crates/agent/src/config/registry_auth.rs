//! `ECS_ENGINE_AUTH_TYPE` and `ECS_ENGINE_AUTH_DATA`: the machine's own logins to private registries.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use http::HeaderValue;
use longshore_wire::sigv4::Secret;
use serde::Deserialize;

use super::ConfigError;
use super::source::Source;

const TYPE: &str = "ECS_ENGINE_AUTH_TYPE";
const DATA: &str = "ECS_ENGINE_AUTH_DATA";

/// How Docker spells its own registry where logins are kept.
const DOCKER_HUB: &str = "index.docker.io";

/// Logins by registry. Passwords are wiped when dropped and never printed.
#[derive(Clone, Debug, Default)]
pub struct RegistryAuth {
    by_registry: BTreeMap<String, RegistryLogin>,
}

/// A login to one registry.
#[derive(Clone, Debug)]
pub struct RegistryLogin {
    /// The registry as it was configured: Docker wants it back in that form.
    pub server: String,
    /// Who.
    pub username: String,
    /// The password or token.
    pub password: Secret,
    /// Some registries still ask for one.
    pub email: String,
}

impl RegistryLogin {
    /// In the form that the Engine passes on to the registry: the value of `X-Registry-Auth`, marked so that no log shows it.
    pub fn to_header(&self) -> HeaderValue {
        let document = serde_json::json!({
            "username": self.username,
            "password": self.password.reveal(),
            "email": self.email,
            "serveraddress": self.server,
        });
        let encoded = URL_SAFE.encode(document.to_string());
        // The alphabet of base64 is that of header values.
        let mut value = HeaderValue::from_str(&encoded).unwrap_or_else(|_| HeaderValue::from_static(""));
        value.set_sensitive(true);
        value
    }
}

impl PartialEq for RegistryLogin {
    fn eq(&self, other: &Self) -> bool {
        (&self.server, &self.username, self.password.reveal(), &self.email)
            == (&other.server, &other.username, other.password.reveal(), &other.email)
    }
}

/// An entry of type `docker`.
#[derive(Deserialize)]
struct Plain {
    username: String,
    password: String,
    #[serde(default)]
    email: String,
}

/// An entry of type `dockercfg`.
#[derive(Deserialize)]
struct Encoded {
    auth: String,
    #[serde(default)]
    email: String,
}

impl RegistryAuth {
    /// The login for the registry that `image` comes from.
    pub fn for_image(&self, image: &str) -> Option<&RegistryLogin> {
        self.by_registry.get(registry_of(image))
    }

    pub(super) fn read(source: &mut Source) -> Result<Self, ConfigError> {
        // Both are secrets as a whole as far as errors go: the data, because it is one; and neither means much alone.
        let (kind, data) = (source.text(TYPE), source.text(DATA));
        let logins = match (kind.as_deref(), data) {
            (None, None) => return Ok(Self::default()),
            (Some("docker"), Some(data)) => plain(&data),
            (Some("dockercfg"), Some(data)) => encoded(&data),
            (Some(_), Some(_)) => return Err(source.bad(TYPE, "docker or dockercfg".into())),
            (Some(_), None) => {
                return Err(ConfigError::Missing {
                    name: DATA,
                    expected: "the logins that ECS_ENGINE_AUTH_TYPE announces",
                });
            }
            (None, Some(_)) => {
                return Err(ConfigError::Missing {
                    name: TYPE,
                    expected: "docker or dockercfg, the form of ECS_ENGINE_AUTH_DATA",
                });
            }
        };
        let logins = logins.map_err(|expected| source.bad_secret(DATA, expected))?;
        let by_registry = logins.into_iter().map(|login| (host_of(&login.server).to_owned(), login)).collect();
        Ok(Self { by_registry })
    }
}

fn plain(data: &str) -> Result<Vec<RegistryLogin>, String> {
    let entries: BTreeMap<String, Plain> = serde_json::from_str(data)
        .map_err(|_| r#"JSON like {"https://registry":{"username":"…","password":"…"}}"#.to_owned())?;
    let login = |(server, entry): (String, Plain)| RegistryLogin {
        server,
        username: entry.username,
        password: Secret::new(entry.password),
        email: entry.email,
    };
    Ok(entries.into_iter().map(login).collect())
}

fn encoded(data: &str) -> Result<Vec<RegistryLogin>, String> {
    let entries: BTreeMap<String, Encoded> = serde_json::from_str(data)
        .map_err(|_| r#"JSON like {"registry":{"auth":"base64 of user:password"}}"#.to_owned())?;
    let login = |(server, entry): (String, Encoded)| {
        let decoded = STANDARD.decode(entry.auth.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        let Some((username, password)) = decoded.as_deref().and_then(|text| text.split_once(':')) else {
            return Err(format!("base64 of user:password as the auth of {server}"));
        };
        // Docker's tools pad with zero bytes.
        let password = Secret::new(password.trim_end_matches('\0'));
        Ok(RegistryLogin { username: username.to_owned(), password, email: entry.email, server })
    };
    entries.into_iter().map(login).collect()
}

/// The host in `https://host/v1/`.
fn host_of(server: &str) -> &str {
    let rest = server.strip_prefix("https://").or_else(|| server.strip_prefix("http://")).unwrap_or(server);
    match rest.split('/').next().unwrap_or(rest) {
        "docker.io" | "registry-1.docker.io" => DOCKER_HUB,
        host => host,
    }
}

/// A first part with a dot or a port, or `localhost`, is a registry; without one the image is Docker's.
pub(crate) fn registry_of(image: &str) -> &str {
    match image.split_once('/') {
        Some((first, _)) if first.contains(['.', ':']) || first == "localhost" => host_of(first),
        _ => DOCKER_HUB,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn auth(kind: &str, data: &str) -> Result<RegistryAuth, ConfigError> {
        let mut source = Source::default();
        source.add(TYPE, kind, "test");
        source.add(DATA, data, "test");
        RegistryAuth::read(&mut source)
    }

    fn login(auth: &RegistryAuth, image: &str) -> Option<(String, String)> {
        auth.for_image(image).map(|login| (login.username.clone(), login.password.reveal().to_owned()))
    }

    #[test]
    fn logins_are_found_by_the_registry_of_the_image() {
        let found = |user: &str| Some((user.to_owned(), "hush".to_owned()));
        let auth = auth(
            "docker",
            r#"{"https://index.docker.io/v1/":{"username":"hub","password":"hush","email":"a@b"},
                "registry.example:5000":{"username":"own","password":"hush"}}"#,
        )
        .unwrap();
        for (image, expected) in [
            ("nginx", found("hub")),
            ("library/nginx:1", found("hub")),
            ("docker.io/library/nginx", found("hub")),
            ("registry.example:5000/team/app@sha256:00", found("own")),
            ("registry.example/team/app", None),
            ("localhost/app", None),
        ] {
            assert_eq!(login(&auth, image), expected, "{image}");
        }
        assert!(!format!("{auth:?}").contains("hush"));
    }

    #[test]
    fn dockercfg_holds_user_and_password_in_one() {
        let auth = auth("dockercfg", r#"{"quay.example":{"auth":"dXNlcjpwYTpzcw==","email":""}}"#).unwrap();
        assert_eq!(login(&auth, "quay.example/x"), Some(("user".into(), "pa:ss".into())));
    }

    #[test]
    fn bad_data_is_refused_without_being_shown() {
        for (kind, data) in [
            ("docker", r#"{"https://r":{"username":"hush-user"}}"#),
            ("dockercfg", r#"{"r":{"auth":"hush!"}}"#),
            ("dockercfg", "hush"),
        ] {
            let error = auth(kind, data).unwrap_err().to_string();
            assert!(error.contains(DATA) && !error.contains("hush"), "{error}");
        }
        assert!(auth("ecr", "{}").unwrap_err().to_string().contains("docker or dockercfg"));
        assert!(auth("docker", "").unwrap_err().to_string().contains(DATA));
        assert!(auth("", "{}").unwrap_err().to_string().contains(TYPE));
    }
}
