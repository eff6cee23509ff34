//! The logins with which images are pulled, where a container's definition names a secret for that.

use longshore_agent_protocol::acs;
use serde::{Deserialize, Serialize};

use super::{Before, Resource, ResourceKey, ResourceSpec, SecretPlace, SecretSource};

/// A login to be fetched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WantedLogin {
    /// The container whose image it is for.
    pub container: String,
    /// The image.
    pub image: String,
    /// Where user and password are: JSON, `{"username":…,"password":…}`.
    pub source: SecretSource,
}

/// The logins of a task; an error names what is wrong with one.
pub(super) fn plan(task: &acs::Task) -> Result<Vec<Resource>, String> {
    task.containers.iter().filter_map(|container| login(container).transpose()).collect()
}

fn login(container: &acs::Container) -> Result<Option<Resource>, String> {
    let Some(asked) = &container.registry_authentication else { return Ok(None) };
    let named = |what: &str| format!("container {}: registryAuthentication {what}", container.name);
    match asked.authentication_type.as_str() {
        "asm" => {}
        // The server's own registry is asked by whoever pulls.
        "ecr" => return Ok(None),
        other => return Err(named(&format!("has the unknown type {other:?}"))),
    }
    let data = asked.asm_auth_data.as_ref();
    let id = data.and_then(|data| data.credentials_parameter.clone()).filter(|id| !id.is_empty());
    let id = id.ok_or_else(|| named("has no credentialsParameter"))?;
    let region = data.and_then(|data| data.region.clone()).filter(|region| !region.is_empty());
    let place = SecretPlace::Secret { id, json_key: None, stage: None, version: None };
    let wanted = WantedLogin {
        container: container.name.clone(),
        image: container.image.clone(),
        source: SecretSource { region, place },
    };
    Ok(Some(Resource {
        key: ResourceKey::Login(container.name.clone()),
        spec: ResourceSpec::Login(wanted),
        container: Some(container.name.clone()),
        before: Before::Pull,
        after: None,
        volatile: true,
        brief: false,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(asked: acs::RegistryAuthentication) -> acs::Task {
        let container = acs::Container {
            name: "c".into(),
            image: "registry.example/web:1".into(),
            registry_authentication: Some(asked),
            ..acs::Container::default()
        };
        acs::Task { containers: vec![container], ..acs::Task::default() }
    }

    fn asked(kind: &str, secret: Option<&str>) -> acs::RegistryAuthentication {
        let data = acs::AsmAuthData { credentials_parameter: secret.map(str::to_owned), region: None };
        acs::RegistryAuthentication {
            authentication_type: kind.into(),
            asm_auth_data: Some(data),
            ..acs::RegistryAuthentication::default()
        }
    }

    #[test]
    fn a_login_is_needed_before_the_pull_of_its_container_alone() {
        let planned = plan(&task(asked("asm", Some("arn:s")))).unwrap();
        let [resource] = planned.as_slice() else { panic!("{planned:?}") };
        assert_eq!((resource.before, resource.container.as_deref()), (Before::Pull, Some("c")));
        assert!(resource.volatile);
        let ResourceSpec::Login(wanted) = &resource.spec else { panic!() };
        let place = SecretPlace::Secret { id: "arn:s".into(), json_key: None, stage: None, version: None };
        assert_eq!((wanted.image.as_str(), &wanted.source.place), ("registry.example/web:1", &place));
    }

    #[test]
    fn what_is_no_secret_is_refused_by_name_and_ecr_needs_none() {
        assert_eq!(plan(&task(asked("ecr", None))), Ok(Vec::new()));
        assert!(plan(&task(asked("asm", None))).unwrap_err().contains("container c: registryAuthentication"));
        assert!(plan(&task(asked("vault", Some("x")))).unwrap_err().contains("vault"));
    }
}
