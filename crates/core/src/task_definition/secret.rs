//! Where a definition's secrets are: `valueFrom` and `credentialsParameter`, read once for the payload and for whoever
//! decides what a task may read.

use std::borrow::Cow;

/// The service that keeps a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecretProvider {
    /// Parameters of Systems Manager.
    Ssm,
    /// Secrets Manager.
    SecretsManager,
}

impl SecretProvider {
    /// The word that agents know.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ssm => "ssm",
            Self::SecretsManager => "asm",
        }
    }
}

/// A secret as its reader has to ask for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretSource<'a> {
    /// Whom to ask.
    pub provider: SecretProvider,
    /// Where; `None` is the region of the task.
    pub region: Option<&'a str>,
    /// What to ask for: the name of a parameter, or the ARN or name of a secret, with its suffix of JSON key, stage and
    /// version.
    pub id: Cow<'a, str>,
}

impl<'a> SecretSource<'a> {
    /// Reads `valueFrom` of a definition that was accepted. Agents find a parameter's value in the answer by its name, so
    /// an ARN is turned into the name that it holds.
    pub fn of_value_from(value_from: &'a str) -> Self {
        let Some((service, region, resource)) = cut(value_from) else {
            return Self { provider: SecretProvider::Ssm, region: None, id: Cow::Borrowed(value_from) };
        };
        match (service, resource.strip_prefix("parameter/")) {
            ("ssm", Some(path)) => {
                // The ARN drops the slash that a name with levels begins with.
                let id = if path.contains('/') { Cow::Owned(format!("/{path}")) } else { Cow::Borrowed(path) };
                Self { provider: SecretProvider::Ssm, region: Some(region), id }
            }
            _ => Self { provider: SecretProvider::SecretsManager, region: Some(region), id: Cow::Borrowed(value_from) },
        }
    }

    /// Reads `credentialsParameter`: the ARN or the name of a secret.
    pub fn of_credentials(parameter: &'a str) -> Self {
        let region = cut(parameter).map(|(_, region, _)| region);
        Self { provider: SecretProvider::SecretsManager, region, id: Cow::Borrowed(parameter) }
    }
}

/// Service, region and resource of an ARN.
fn cut(arn: &str) -> Option<(&str, &str, &str)> {
    let mut parts = arn.strip_prefix("arn:")?.splitn(5, ':');
    let (_, service, region, _) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    Some((service, region, parts.next()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_go_by_name_and_secrets_by_arn() {
        let secret = "arn:aws:secretsmanager:eu-west-1:1:secret:db-AbCdEf:password::";
        for (value_from, provider, region, id) in [
            ("plain", "ssm", None, "plain"),
            ("/with/levels", "ssm", None, "/with/levels"),
            ("arn:aws:ssm:eu-west-1:1:parameter/plain", "ssm", Some("eu-west-1"), "plain"),
            ("arn:aws:ssm:eu-west-1:1:parameter/with/levels", "ssm", Some("eu-west-1"), "/with/levels"),
            (secret, "asm", Some("eu-west-1"), secret),
        ] {
            let source = SecretSource::of_value_from(value_from);
            assert_eq!((source.provider.as_str(), source.region, &*source.id), (provider, region, id), "{value_from}");
        }
    }

    #[test]
    fn credentials_are_always_a_secret() {
        for (parameter, region) in
            [("registry/login", None), ("arn:aws:secretsmanager:eu-west-1:1:secret:login-AbCdEf", Some("eu-west-1"))]
        {
            let source = SecretSource::of_credentials(parameter);
            assert_eq!(
                (source.provider, source.region, &*source.id),
                (SecretProvider::SecretsManager, region, parameter)
            );
        }
    }
}
