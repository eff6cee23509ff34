//! Fetches logins for registries: user and password are a secret in JSON, read with the task's execution role.

use std::sync::Arc;

use longshore_wire::sigv4::{Credentials, Secret};
use serde::Deserialize;

use super::secret::{self, SecretStores};
use crate::config::{RegistryLogin, registry_of};
use crate::engine::{Made, Provided, ResourceError, SecretTarget, WantedLogin, WantedSecret};

/// By which name the secret is asked for among others.
const LOGIN: &str = "login";

#[derive(Deserialize)]
struct UserAndPassword {
    username: String,
    password: String,
}

/// Fetches the login for a container's image.
pub(crate) async fn fetch(
    stores: &SecretStores,
    role: Option<Credentials>,
    wanted: WantedLogin,
) -> Result<Made, ResourceError> {
    let WantedLogin { container, image, source } = wanted;
    let secret = WantedSecret {
        container: container.clone(),
        name: LOGIN.to_owned(),
        target: SecretTarget::Environment,
        source,
    };
    let made = secret::fetch(stores, role, vec![secret]).await?;
    let text = made.provided.get(&container).and_then(|provided| provided.environment.get(LOGIN));
    let login = login(&image, text.map_or("", String::as_str))?;
    let provided = Provided { login: Some(Arc::new(login)), ..Provided::default() };
    Ok(Made { provided: [(container, provided)].into(), ..Made::default() })
}

fn login(image: &str, text: &str) -> Result<RegistryLogin, ResourceError> {
    // What is in the secret is not repeated.
    let bad = |_| {
        let expected = r#"JSON like {"username":"…","password":"…"}"#;
        ResourceError::Refused(format!("the secret of the login for {image} is not {expected}"))
    };
    let UserAndPassword { username, password } = serde_json::from_str(text).map_err(bad)?;
    Ok(RegistryLogin {
        server: registry_of(image).to_owned(),
        username,
        password: Secret::new(password),
        email: String::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_is_for_the_registry_of_its_image() {
        let login = login("registry.example:5000/web:1", r#"{"username":"u","password":"p","more":1}"#).unwrap();
        assert_eq!((login.server.as_str(), login.username.as_str()), ("registry.example:5000", "u"));
        assert_eq!(login.password.reveal(), "p");
    }

    #[test]
    fn a_secret_that_is_none_is_refused_without_being_shown() {
        for text in ["hush", r#"{"username":"hush"}"#, ""] {
            let Err(ResourceError::Refused(why)) = login("web:1", text) else { panic!("{text}") };
            assert!(why.contains("username") && !why.contains("hush"), "{why}");
        }
    }
}
