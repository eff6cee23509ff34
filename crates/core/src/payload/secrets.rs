//! What an agent fetches with the task's execution role before a container can be: secrets, files of variables, and the
//! login at its image's registry.

use longshore_agent_protocol::acs;
use longshore_api::ecs::types::{ContainerDefinition, EnvironmentFile, Secret};

use super::TaskFacts;
use crate::task_definition::{ImageReference, SecretSource};

/// Whom a secret is for.
#[derive(Clone, Copy)]
enum Target {
    Container,
    LogDriver,
}

/// The secrets of a container and of its log driver.
pub(super) fn references(facts: &TaskFacts<'_>, document: &ContainerDefinition) -> Vec<acs::SecretReference> {
    let own = document.secrets.iter().flatten().map(|secret| (secret, Target::Container));
    let logging = document.log_configuration.as_ref().and_then(|logging| logging.secret_options.as_deref());
    let of_driver = logging.unwrap_or_default().iter().map(|secret| (secret, Target::LogDriver));
    own.chain(of_driver).map(|(secret, target)| reference(facts, secret, target)).collect()
}

fn reference(facts: &TaskFacts<'_>, secret: &Secret, target: Target) -> acs::SecretReference {
    let source = SecretSource::of_value_from(&secret.value_from);
    let (kind, target) = match target {
        Target::Container => ("ENVIRONMENT_VARIABLE", "CONTAINER"),
        Target::LogDriver => ("BOOTSTRAP", "LOG_DRIVER"),
    };
    acs::SecretReference {
        name: secret.name.clone(),
        value_from: source.id.into_owned(),
        region: source.region.or(facts.region()).map(str::to_owned),
        provider: Some(source.provider.as_str().to_owned()),
        secret_type: Some(kind.to_owned()),
        target: Some(target.to_owned()),
        container_path: None,
    }
}

/// The files of variables, in the order in which they count.
pub(super) fn environment_files(files: &[EnvironmentFile]) -> Vec<acs::EnvironmentFile> {
    let file = |file: &EnvironmentFile| acs::EnvironmentFile {
        file_type: file.r#type.as_str().to_owned(),
        value: file.value.clone(),
    };
    files.iter().map(file).collect()
}

/// How to log in where the image is: with the credentials that the definition names, or with a token of ECR.
pub(super) fn registry_authentication(
    facts: &TaskFacts<'_>,
    document: &ContainerDefinition,
) -> Option<acs::RegistryAuthentication> {
    if let Some(credentials) = &document.repository_credentials {
        let source = SecretSource::of_credentials(&credentials.credentials_parameter);
        return Some(acs::RegistryAuthentication {
            authentication_type: "asm".to_owned(),
            asm_auth_data: Some(acs::AsmAuthData {
                credentials_parameter: Some(source.id.into_owned()),
                region: source.region.or(facts.region()).map(str::to_owned),
            }),
            ..acs::RegistryAuthentication::default()
        });
    }
    let registry = ImageReference::parse(document.image.as_deref()?).ok()?.ecr()?;
    Some(acs::RegistryAuthentication {
        authentication_type: "ecr".to_owned(),
        ecr_auth_data: Some(acs::EcrAuthData {
            region: Some(registry.region.to_owned()),
            registry_id: Some(registry.account.to_owned()),
            use_execution_role: Some(facts.effective.execution_role.is_some()),
            ..acs::EcrAuthData::default()
        }),
        ..acs::RegistryAuthentication::default()
    })
}
