//! Where an agent's settings come from: flags before environment before files.

use std::collections::BTreeMap;

use longshore_agent::{AgentConfig, ConfigFiles};

use crate::cli::{HostArgs, Pair, RunArgs};
use crate::error::CliError;

/// Variables by which keys reach a shell.
const KEYS: [&str; 4] = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"];

/// The settings of an agent that is started with these arguments.
pub(super) async fn load(args: &RunArgs) -> Result<AgentConfig, CliError> {
    let mut environment = environment();
    environment.extend(variables(&args.host).into_iter().map(|(name, value)| (name.to_owned(), value)));
    let files = files(args, &environment).await?;
    let load = |environment| {
        let config = AgentConfig::load(files.clone(), environment);
        config.map_err(|error| CliError::AgentConfig(Box::new(error)))
    };
    let has_keys = KEYS.iter().any(|name| environment.contains_key(*name));
    let config = load(environment.clone())?;
    if has_keys && config.data_dir.join("identity.json").exists() {
        // The keys of a shell are often an administrator's, from `longshore env`. A machine that has joined has its own.
        environment.retain(|name, _| !KEYS.contains(&name.as_str()));
        return load(environment);
    }
    Ok(config)
}

/// The files of settings, fetched if they are elsewhere.
pub(super) async fn files(args: &RunArgs, environment: &BTreeMap<String, String>) -> Result<ConfigFiles, CliError> {
    match &args.config {
        None => Ok(ConfigFiles::Usual),
        Some(location) => location.fetched(environment).await.map_err(|error| CliError::AgentConfig(Box::new(error))),
    }
}

/// This process's environment. Variables that are not UTF-8 cannot be settings.
pub(super) fn environment() -> BTreeMap<String, String> {
    let variables = std::env::vars_os();
    variables.filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))).collect()
}

/// Flags as the variables that they stand for; only those that were given.
pub(super) fn variables(host: &HostArgs) -> Vec<(&'static str, String)> {
    let object = |pairs: &[Pair]| {
        let members = pairs.iter().map(|pair| (pair.key.clone(), pair.value.clone().into()));
        (!pairs.is_empty()).then(|| serde_json::Value::Object(members.collect()).to_string())
    };
    [
        ("LONGSHORE_INSTANCES", host.instances.map(|instances| instances.to_string())),
        ("LONGSHORE_CPU", host.sizes.cpu.clone()),
        ("LONGSHORE_MEMORY", host.sizes.memory.clone()),
        ("LONGSHORE_ZONE", host.sizes.zone.clone()),
        ("LONGSHORE_AWSLOGS_AS", host.awslogs_as.clone()),
        ("ECS_INSTANCE_ATTRIBUTES", object(&host.attributes)),
        ("ECS_CONTAINER_INSTANCE_TAGS", object(&host.tags)),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name, value?)))
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::SizeArgs;

    #[test]
    fn flags_are_the_variables_they_stand_for() {
        assert_eq!(variables(&HostArgs::default()), []);
        let host = HostArgs {
            instances: Some(2),
            sizes: SizeArgs { cpu: Some("512,256".into()), ..SizeArgs::default() },
            awslogs_as: Some("json-file".into()),
            attributes: vec!["disk=ssd".parse().unwrap(), "say=\"hi\"".parse().unwrap()],
            tags: Vec::new(),
        };
        let expected = [
            ("LONGSHORE_INSTANCES", "2"),
            ("LONGSHORE_CPU", "512,256"),
            ("LONGSHORE_AWSLOGS_AS", "json-file"),
            ("ECS_INSTANCE_ATTRIBUTES", r#"{"disk":"ssd","say":"\"hi\""}"#),
        ];
        assert_eq!(variables(&host), expected.map(|(name, value)| (name, value.to_owned())));
    }
}
