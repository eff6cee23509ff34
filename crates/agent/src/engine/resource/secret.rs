//! Secrets of containers and of their log drivers: where each is to be had, and who gets it.

use longshore_agent_protocol::acs;
use serde::{Deserialize, Serialize};

use super::{Before, Resource, ResourceKey, ResourceSpec};

/// A secret that a container gets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WantedSecret {
    /// The container.
    pub container: String,
    /// The variable, or the log driver's option.
    pub name: String,
    /// Which of the two.
    pub target: SecretTarget,
    /// Where it is to be had.
    pub source: SecretSource,
}

/// What of a container gets a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SecretTarget {
    /// Its environment.
    Environment,
    /// Its log driver.
    LogDriver,
}

/// Where a secret is to be had.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SecretSource {
    /// Its region; the agent's own where none is said.
    pub region: Option<String>,
    /// In which service.
    pub place: SecretPlace,
}

/// A secret in its service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum SecretPlace {
    /// A parameter of SSM, by name or ARN.
    Parameter(String),
    /// A secret of Secrets Manager.
    Secret {
        /// Name or ARN, without what a task definition appends to it.
        id: String,
        /// The member that is meant, where the value is a JSON object.
        json_key: Option<String>,
        /// The label of the version.
        stage: Option<String>,
        /// The id of the version.
        version: Option<String>,
    },
}

/// The secrets of a task, if it has any.
pub(super) fn plan(task: &acs::Task) -> Result<Option<Resource>, String> {
    let wanted = wanted(task)?;
    Ok((!wanted.is_empty()).then_some(Resource {
        key: ResourceKey::Secrets,
        spec: ResourceSpec::Secrets(wanted),
        container: None,
        before: Before::Create,
        after: None,
        volatile: true,
        brief: false,
    }))
}

fn wanted(task: &acs::Task) -> Result<Vec<WantedSecret>, String> {
    let mut wanted = Vec::new();
    for container in &task.containers {
        for secret in &container.secrets {
            let read = read(container, secret);
            wanted.push(read.map_err(|why| format!("container {}: secret {} {why}", container.name, secret.name))?);
        }
    }
    Ok(wanted)
}

fn read(container: &acs::Container, secret: &acs::SecretReference) -> Result<WantedSecret, String> {
    if secret.name.is_empty() || secret.value_from.is_empty() {
        return Err("lacks its name or valueFrom".to_owned());
    }
    let target = match secret.target.as_deref().filter(|target| !target.is_empty()) {
        None | Some("CONTAINER") => SecretTarget::Environment,
        Some("LOG_DRIVER") => SecretTarget::LogDriver,
        Some(other) => return Err(format!("has the unknown target {other:?}")),
    };
    match (secret.secret_type.as_deref().filter(|kind| !kind.is_empty()), target) {
        (None | Some("ENVIRONMENT_VARIABLE"), _) | (Some("BOOTSTRAP"), SecretTarget::LogDriver) => {}
        (Some(other), _) => return Err(format!("has the type {other:?}, which is not supported by this agent")),
    }
    let place = match secret.provider.as_deref() {
        Some("ssm") => SecretPlace::Parameter(secret.value_from.clone()),
        Some("asm") => secret_of(&secret.value_from),
        other => return Err(format!("has the unknown provider {:?}", other.unwrap_or_default())),
    };
    let region = secret.region.clone().filter(|region| !region.is_empty());
    let source = SecretSource { region, place };
    Ok(WantedSecret { container: container.name.clone(), name: secret.name.clone(), target, source })
}

/// `arn:aws:secretsmanager:<region>:<account>:secret:<name>[:<json key>:<label>:<version>]`, or a name.
fn secret_of(value_from: &str) -> SecretPlace {
    const PARTS_OF_ARN: usize = 7;
    let mut rest =
        value_from.split(':').skip(PARTS_OF_ARN).map(|part| Some(part.to_owned()).filter(|part| !part.is_empty()));
    let (json_key, stage, version) = match value_from.starts_with("arn:") {
        true => (rest.next().flatten(), rest.next().flatten(), rest.next().flatten()),
        false => (None, None, None),
    };
    let id = match value_from.match_indices(':').nth(PARTS_OF_ARN - 1) {
        Some((end, _)) if value_from.starts_with("arn:") => &value_from[..end],
        _ => value_from,
    };
    SecretPlace::Secret { id: id.to_owned(), json_key, stage, version }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARN: &str = "arn:aws:secretsmanager:us-east-1:000000000000:secret:db-AbCdEf";

    fn task(secret: acs::SecretReference) -> acs::Task {
        let container = acs::Container { name: "c".into(), secrets: vec![secret], ..acs::Container::default() };
        acs::Task { containers: vec![container], ..acs::Task::default() }
    }

    fn secret(provider: &str, value_from: &str) -> acs::SecretReference {
        acs::SecretReference {
            name: "N".into(),
            value_from: value_from.into(),
            provider: Some(provider.into()),
            ..acs::SecretReference::default()
        }
    }

    fn wanted(secret: acs::SecretReference) -> Result<WantedSecret, String> {
        Ok(super::wanted(&task(secret))?.remove(0))
    }

    #[test]
    fn what_is_appended_to_an_arn_says_which_part_of_which_version() {
        let some = |text: &str| Some(text.to_owned());
        for (appended, json_key, stage, version) in [
            ("", None, None, None),
            (":key::", some("key"), None, None),
            (":key", some("key"), None, None),
            ("::AWSPREVIOUS:", None, some("AWSPREVIOUS"), None),
            (":key:AWSPREVIOUS:v", some("key"), some("AWSPREVIOUS"), some("v")),
        ] {
            let place = wanted(secret("asm", &format!("{ARN}{appended}"))).unwrap().source.place;
            assert_eq!(place, SecretPlace::Secret { id: ARN.into(), json_key, stage, version }, "{appended}");
        }
        let plain = wanted(secret("asm", "db")).unwrap().source.place;
        let expected = SecretPlace::Secret { id: "db".into(), json_key: None, stage: None, version: None };
        assert_eq!(plain, expected);
        let parameter = wanted(secret("ssm", "/a:3")).unwrap().source.place;
        assert_eq!(parameter, SecretPlace::Parameter("/a:3".into()));
    }

    #[test]
    fn what_is_not_understood_is_refused_by_name() {
        let with = |change: fn(&mut acs::SecretReference)| {
            let mut secret = secret("ssm", "/a");
            change(&mut secret);
            wanted(secret).expect_err("refused")
        };
        assert!(with(|secret| secret.provider = Some("vault".into())).contains("container c: secret N"));
        assert!(with(|secret| secret.provider = None).contains("provider"));
        assert!(with(|secret| secret.target = Some("FILE".into())).contains("FILE"));
        assert!(with(|secret| secret.secret_type = Some("MOUNT_POINT".into())).contains("MOUNT_POINT"));
        assert!(with(|secret| secret.value_from = String::new()).contains("valueFrom"));
        let mut option = secret("ssm", "/a");
        (option.target, option.secret_type) = (Some("LOG_DRIVER".into()), Some("BOOTSTRAP".into()));
        assert_eq!(wanted(option).unwrap().target, SecretTarget::LogDriver);
    }

    #[test]
    fn a_task_without_secrets_needs_nothing() {
        let container = acs::Container { name: "c".into(), ..acs::Container::default() };
        let task = acs::Task { containers: vec![container], ..acs::Task::default() };
        assert_eq!(plan(&task), Ok(None));
    }
}
