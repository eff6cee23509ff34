//! Fetches secrets with the credentials of a task's execution role.

use std::collections::{BTreeMap, BTreeSet};

use longshore_api::{secrets_manager, ssm};
use longshore_client::{CallError, Client};
use longshore_wire::sigv4;
use serde_json::Value;

use crate::engine::{Made, ResourceError, SecretPlace, SecretSource, SecretTarget, WantedSecret};

/// Parameters that one call may name.
const NAMES_PER_CALL: usize = 10;

/// Where secrets are to be had.
#[derive(Debug)]
pub(crate) struct SecretStores {
    pub(crate) ssm: SecretStore,
    pub(crate) secrets_manager: SecretStore,
    /// The region of what names none.
    pub(crate) region: String,
}

/// A service that has secrets.
#[derive(Debug)]
pub(crate) enum SecretStore {
    /// The control plane itself: it knows the roles of its tasks.
    Server(Client),
    /// Another one, which this machine calls with keys of its own: it knows nothing of the tasks' roles.
    Foreign(Client, sigv4::Credentials),
}

#[cfg(test)]
impl SecretStores {
    /// The control plane has them all.
    pub(crate) fn of_server(server: &Client, region: &str) -> Self {
        let store = || SecretStore::Server(server.clone());
        Self { ssm: store(), secrets_manager: store(), region: region.to_owned() }
    }
}

/// Fetches what a task's containers are to get.
pub(crate) async fn fetch(
    stores: &SecretStores,
    role: Option<sigv4::Credentials>,
    wanted: Vec<WantedSecret>,
) -> Result<Made, ResourceError> {
    let region_of = |source: &SecretSource| source.region.clone().unwrap_or_else(|| stores.region.clone());
    let sources: BTreeMap<&SecretSource, String> =
        wanted.iter().map(|secret| (&secret.source, region_of(&secret.source))).collect();
    let mut names = BTreeMap::<&str, BTreeSet<&str>>::new();
    let mut secrets = BTreeMap::<&SecretSource, String>::new();
    for (source, region) in &sources {
        match &source.place {
            SecretPlace::Parameter(name) => drop(names.entry(region).or_default().insert(name)),
            SecretPlace::Secret { id, json_key, stage, version } => {
                let request = secrets_manager::GetSecretValueRequest {
                    secret_id: id.clone(),
                    version_id: version.clone(),
                    version_stage: stage.clone(),
                };
                let client = stores.secrets_manager.client(role.as_ref(), region)?;
                let value = secret(&client, &request, json_key.as_deref()).await;
                secrets.insert(
                    source,
                    value.map_err(|error| {
                        stores.secrets_manager.judge(error).in_service("AWS Secrets Manager", region)
                    })?,
                );
            }
        }
    }
    let mut parameters = BTreeMap::<(&str, &str), String>::new();
    for (region, names) in &names {
        let client = stores.ssm.client(role.as_ref(), region)?;
        let names: Vec<&str> = names.iter().copied().collect();
        for names in names.chunks(NAMES_PER_CALL) {
            let answered = get_parameters(&client, names).await;
            let answered =
                answered.map_err(|error| stores.ssm.judge(error).in_service("SSM Parameter Store", region))?;
            parameters.extend(answered.into_iter().map(|(name, value)| ((*region, name), value)));
        }
    }
    let mut made = Made::default();
    for secret in &wanted {
        let value = match &secret.source.place {
            SecretPlace::Parameter(name) => {
                let region = sources.get(&secret.source).map(String::as_str).unwrap_or_default();
                parameters.get(&(region, name.as_str()))
            }
            SecretPlace::Secret { .. } => secrets.get(&secret.source),
        };
        // Each was asked for, and what was not found has failed.
        let Some(value) = value else { continue };
        let provided = made.provided.entry(secret.container.clone()).or_default();
        let given = match secret.target {
            SecretTarget::Environment => &mut provided.environment,
            SecretTarget::LogDriver => &mut provided.log_options,
        };
        given.insert(secret.name.clone(), value.clone());
    }
    Ok(made)
}

impl SecretStore {
    /// Calls it as whoever may read the task's secrets.
    fn client(&self, role: Option<&sigv4::Credentials>, region: &str) -> Result<Client, ResourceError> {
        match (self, role) {
            (Self::Foreign(client, own), _) => Ok(client.signing_as(own.clone(), region)),
            (Self::Server(client), Some(role)) => Ok(client.signing_as(role.clone(), region)),
            (Self::Server(_), None) => {
                Err(ResourceError::NotYet("the credentials of the task's execution role have not come yet".to_owned()))
            }
        }
    }

    /// Whether the server comes back is no question; another endpoint may be none at all.
    fn judge(&self, error: ResourceError) -> ResourceError {
        match (self, error) {
            (Self::Foreign(..), ResourceError::NotYet(why)) => ResourceError::Again(why),
            (_, error) => error,
        }
    }
}

impl ResourceError {
    /// The error, told as the official agent tells it.
    fn in_service(self, service: &str, region: &str) -> Self {
        let told = |why: String| format!("fetching secret data from {service} in {region}: {why}");
        match self {
            Self::NotYet(why) => Self::NotYet(told(why)),
            Self::Again(why) => Self::Again(told(why)),
            Self::Refused(why) => Self::Refused(told(why)),
        }
    }
}

/// The values of some parameters, by the names that they were asked for by.
async fn get_parameters<'a>(client: &Client, names: &[&'a str]) -> Result<BTreeMap<&'a str, String>, ResourceError> {
    let request = ssm::GetParametersRequest {
        names: names.iter().map(|name| (*name).to_owned()).collect(),
        with_decryption: Some(true),
    };
    let answer = client.call(ssm::Operation::GetParameters, request.to_json()).await.map_err(refusal)?;
    let answer = ssm::GetParametersResult::from_json(&answer).map_err(|error| unreadable(&error))?;
    if !answer.invalid_parameters.is_empty() {
        return Err(ResourceError::Refused(format!("invalid parameters: {}", answer.invalid_parameters.join(", "))));
    }
    let value_of = |name: &'a str| {
        let answered = answer.parameters.iter().find(|parameter| is_named(parameter, name));
        let missing = || ResourceError::Refused(format!("the parameter {name} was not answered"));
        Ok((name, answered.ok_or_else(missing)?.value.clone().into_inner()))
    };
    names.iter().copied().map(value_of).collect()
}

/// Whether a parameter is the one that was asked for by this name, or by this ARN.
fn is_named(parameter: &ssm::Parameter, asked: &str) -> bool {
    let selector = parameter.selector.as_deref().unwrap_or_default();
    [Some(parameter.name.as_str()), parameter.arn.as_deref()]
        .into_iter()
        .flatten()
        .any(|name| asked.strip_prefix(name).is_some_and(|rest| rest == selector))
}

async fn secret(
    client: &Client,
    request: &secrets_manager::GetSecretValueRequest,
    json_key: Option<&str>,
) -> Result<String, ResourceError> {
    let id = &request.secret_id;
    let answer = client.call(secrets_manager::Operation::GetSecretValue, request.to_json()).await;
    let answer = answer.map_err(refusal)?;
    let answer = secrets_manager::GetSecretValueResponse::from_json(&answer).map_err(|error| unreadable(&error))?;
    let text = answer.secret_string.ok_or_else(|| ResourceError::Refused(format!("the secret {id} is not text")))?;
    match json_key {
        None => Ok(text.into_inner()),
        Some(key) => member(&text, key).ok_or_else(|| {
            ResourceError::Refused(format!(
                "retrieved secret from Secrets Manager did not contain json key {key} (secret {id})"
            ))
        }),
    }
}

/// A member of a JSON object, as text.
fn member(text: &str, key: &str) -> Option<String> {
    match serde_json::from_str::<Value>(text).ok()?.get(key)? {
        Value::String(value) => Some(value.clone()),
        other => Some(other.to_string()),
    }
}

/// Who does not answer at all is waited for, like everything that this machine cannot reach; what was refused because the
/// credentials are old succeeds with the next ones.
fn refusal(error: CallError) -> ResourceError {
    let told = error.to_string();
    match error {
        CallError::Transport { .. } => ResourceError::NotYet(told),
        _ if error.code() == "ExpiredTokenException" => ResourceError::NotYet(told),
        _ if error.is_passing() => ResourceError::Again(told),
        _ => ResourceError::Refused(told),
    }
}

fn unreadable(error: &dyn std::fmt::Display) -> ResourceError {
    ResourceError::Refused(format!("the answer cannot be read: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_is_found_by_what_it_was_asked_for_by() {
        let arn = "arn:aws:ssm:us-east-1:000000000000:parameter/a";
        let parameter = |selector: Option<&str>| ssm::Parameter {
            arn: Some(arn.to_owned()),
            data_type: None,
            last_modified_date: None,
            name: "/a".to_owned(),
            selector: selector.map(str::to_owned),
            parameter_type: None,
            value: String::new().into(),
            version: Some(3),
        };
        assert!(is_named(&parameter(None), "/a") && is_named(&parameter(None), arn));
        assert!(is_named(&parameter(Some(":3")), "/a:3") && is_named(&parameter(Some(":3")), &format!("{arn}:3")));
        for other in ["/ab", "/a:3", "/", "a"] {
            assert!(!is_named(&parameter(None), other), "{other}");
        }
    }

    #[test]
    fn a_member_of_a_secret_is_text_whatever_it_is() {
        let text = r#"{"user": "u", "port": 5432, "tls": true, "more": {"a": 1}}"#;
        for (key, value) in [
            ("user", Some("u")),
            ("port", Some("5432")),
            ("tls", Some("true")),
            ("more", Some(r#"{"a":1}"#)),
            ("x", None),
        ] {
            assert_eq!(member(text, key).as_deref(), value);
        }
        assert_eq!(member("no JSON", "user"), None);
        assert_eq!(member(r#"["user"]"#, "user"), None);
    }
}
