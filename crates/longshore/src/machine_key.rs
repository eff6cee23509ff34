//! The access key of the agent that `up` starts.
//!
//! It is a machine's key like any other's, so that what runs beside the containers may only do what an agent needs. An
//! earlier release gave its agents the owner's key; instances that were registered with it answer to no other, so they
//! keep it.

use std::path::Path;

use longshore_agent::{Fingerprint, JoinRequest};
use longshore_api::admin::CreateJoinTokenRequest;

use crate::client::EcsClient;
use crate::data_dir::{AccessKey, DataDir, ServerFacts};
use crate::error::CliError;
use crate::supervisor::CLUSTER;

/// The token lives for as long as a start may take at most.
const TOKEN_LIVES_S: i32 = 600;
/// Instances that the machine may have: `--instances` can grow without another key.
const INSTANCES: &str = "256";

/// By which key the agent calls the server.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum MachineKey {
    /// Its own, from `agent/identity.json`.
    Own,
    /// The owner's, because its instances were registered with it.
    Owner(AccessKey),
}

/// Finds or makes the key, and lets the machine follow a server whose address or certificate has changed.
pub(crate) async fn of(data_dir: &DataDir, server: &ServerFacts, owner: AccessKey) -> Result<MachineKey, CliError> {
    let agent = data_dir.agent();
    if agent.join("identity.json").exists() {
        let moved = longshore_agent::rebind(&agent, &server.endpoint, server.certificates()?);
        moved.map_err(|error| CliError::MachineKey(Box::new(error)))?;
        return Ok(MachineKey::Own);
    }
    if agent.join("agent.redb").exists() {
        return Ok(MachineKey::Owner(owner));
    }
    join(data_dir, server, &agent).await?;
    Ok(MachineKey::Own)
}

async fn join(data_dir: &DataDir, server: &ServerFacts, agent: &Path) -> Result<(), CliError> {
    let Some(client) = EcsClient::for_data_dir(data_dir)? else {
        return Ok(());
    };
    let request = CreateJoinTokenRequest {
        cluster: Some(CLUSTER.to_owned()),
        uses: Some(1),
        expires_in_seconds: Some(TOKEN_LIVES_S),
    };
    let token = client.create_join_token(&request).await?.token.into_inner();
    let fingerprint = server.ca_fingerprint.as_deref().map(str::parse::<Fingerprint>).transpose();
    let request = JoinRequest {
        server: server.endpoint.clone(),
        token,
        ca_fingerprint: fingerprint.map_err(CliError::Fingerprint)?,
        ca_file: None,
        // Both ends are this machine.
        insecure: true,
        settings: Default::default(),
    };
    let variables = [
        ("ECS_DATADIR", agent.display().to_string()),
        ("LONGSHORE_INSTANCES", INSTANCES.to_owned()),
        ("AWS_DEFAULT_REGION", server.region.clone()),
    ];
    let variables = variables.map(|(name, value)| (name.to_owned(), value));
    let joined = longshore_agent::join(request, Some(&data_dir.agent_config()), variables).await;
    joined.map_err(|error| CliError::Join(Box::new(error)))?;
    // What `up` knows the server by is a file that it may write anew; the machine is to hold the same.
    longshore_agent::rebind(agent, &server.endpoint, server.certificates()?)
        .map_err(|error| CliError::MachineKey(Box::new(error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner() -> AccessKey {
        AccessKey { access_key_id: "owner".into(), secret_access_key: "hush".into() }
    }

    #[tokio::test]
    async fn instances_of_an_earlier_release_keep_the_owners_key_and_a_machine_that_joined_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let data_dir = DataDir::new(folder.path()).unwrap();
        data_dir.create().unwrap();
        std::fs::write(data_dir.agent().join("agent.redb"), "").unwrap();
        let server = ServerFacts { endpoint: "http://127.0.0.1:2".into(), ..ServerFacts::default() };
        assert!(of(&data_dir, &server, owner()).await.unwrap() == MachineKey::Owner(owner()));

        let identity = r#"{"server":"http://127.0.0.1:1","region":"r","cluster":"default","accessKeyId":"LSIN",
            "secretAccessKey":"s","instances":256}"#;
        let path = data_dir.agent().join("identity.json");
        std::fs::write(&path, identity).unwrap();
        assert!(of(&data_dir, &server, owner()).await.unwrap() == MachineKey::Own);
        assert!(std::fs::read_to_string(&path).unwrap().contains("http://127.0.0.1:2"), "it follows the server");
    }
}
