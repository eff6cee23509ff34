//! `longshore instance`: the machines that joined, and what is to become of those that vanished.

use longshore_api::Timestamp;
use longshore_api::admin::{ContainerInstanceState, InstanceIdentity, RevokeInstanceIdentityRequest};

use crate::cli::{EvictArgs, Format, InstanceCommand, ListInstancesArgs, RevokeInstanceArgs};
use crate::client::EcsClient;
use crate::data_dir::DataDir;
use crate::error::CliError;
use crate::output::{self, Output, ago_text, print_json};
use crate::table::Table;

/// Runs the command.
pub(crate) async fn instance(command: InstanceCommand, program: &str) -> Result<(), CliError> {
    match command {
        InstanceCommand::List(args) => list(args, program).await,
        InstanceCommand::Revoke(args) => revoke(args, program).await,
        InstanceCommand::Evict(args) => evict(args, program).await,
    }
}

async fn list(args: ListInstancesArgs, program: &str) -> Result<(), CliError> {
    let data_dir = DataDir::new(&args.data_dir.data_dir)?;
    let (client, _) = EcsClient::running(&data_dir, program)?;
    let rows = client.instance_identities(args.cluster).await?;
    match args.output.output {
        Format::Json => print_json(&serde_json::json!({ "instanceIdentities": rows })),
        Format::Table => output::print(&table(&rows, longshore_client::now())),
    }
}

async fn revoke(args: RevokeInstanceArgs, program: &str) -> Result<(), CliError> {
    let data_dir = DataDir::new(&args.data_dir.data_dir)?;
    let (client, _) = EcsClient::running(&data_dir, program)?;
    let request = if args.id.starts_with("arn:") {
        RevokeInstanceIdentityRequest { container_instance: Some(args.id), ..Default::default() }
    } else {
        RevokeInstanceIdentityRequest { access_key_id: Some(args.id), ..Default::default() }
    };
    let identity = client.revoke_instance_identity(&request).await?;
    let mut output = Output::new();
    output.tick(format_args!(
        "key {} is revoked; its instances of cluster {} count as lost soon",
        identity.access_key_id, identity.cluster
    ));
    output.note("containers on that machine run on: stop its agent and `docker stop` them there");
    Ok(())
}

async fn evict(args: EvictArgs, program: &str) -> Result<(), CliError> {
    let data_dir = DataDir::new(&args.data_dir.data_dir)?;
    let (client, _) = EcsClient::running(&data_dir, program)?;
    let evicted = client.release_mass_loss_brake(&args.cluster).await?;
    let mut output = Output::new();
    match evicted {
        0 => output
            .note(format_args!("nothing to give up: the mass-loss brake does not hold in cluster {}", args.cluster)),
        evicted => output
            .tick(format_args!("{evicted} instance(s) of cluster {} given up; their tasks are STOPPED", args.cluster)),
    }
    Ok(())
}

fn table(rows: &[InstanceIdentity], now: Timestamp) -> String {
    let mut table = Table::new(["KEY ID", "CLUSTER", "CONTAINER INSTANCE", "STATUS", "AGENT", "TASKS", "HOST"]);
    for row in rows {
        let instance = row.container_instance.as_ref();
        let of_instance = |text: fn(&ContainerInstanceState) -> String| instance.map(text).unwrap_or_default();
        table.row([
            row.access_key_id.clone(),
            row.cluster.clone(),
            of_instance(|instance| id_of(&instance.container_instance_arn).to_owned()),
            status(row),
            instance.map(|instance| agent(instance, now)).unwrap_or_default(),
            of_instance(tasks),
            of_instance(|instance| instance.host.clone().unwrap_or_default()),
        ]);
    }
    table.text()
}

/// What is last in an ARN says which of a cluster's instances it is.
fn id_of(arn: &str) -> &str {
    arn.rsplit('/').next().unwrap_or(arn)
}

fn status(row: &InstanceIdentity) -> String {
    let revoked = row.identity.as_ref().is_some_and(|identity| identity.revoked_at.is_some());
    match &row.container_instance {
        Some(instance) if instance.lost_at.is_some() => format!("{} lost", instance.status),
        Some(instance) => instance.status.clone(),
        None if revoked => "revoked".to_owned(),
        None => "no instance yet".to_owned(),
    }
}

fn agent(instance: &ContainerInstanceState, now: Timestamp) -> String {
    match (instance.agent_connected, instance.disconnected_at) {
        (true, _) => {
            instance.agent_version.clone().map_or_else(|| "connected".to_owned(), |v| format!("connected {v}"))
        }
        (false, Some(heard)) => format!("last heard {}", ago_text(heard, now)),
        (false, None) => "not connected".to_owned(),
    }
}

fn tasks(instance: &ContainerInstanceState) -> String {
    match (instance.running_tasks_count, instance.pending_tasks_count) {
        (running, 0) => running.to_string(),
        (running, pending) => format!("{running} +{pending} pending"),
    }
}

#[cfg(test)]
mod tests {
    use longshore_api::admin::Identity;

    use super::*;

    fn row(instance: Option<ContainerInstanceState>, revoked: bool) -> InstanceIdentity {
        let identity = Identity {
            access_key_id: "LSINA".into(),
            cluster: "default".into(),
            token_id: "LSTKA".into(),
            instances: 1,
            created_at: Timestamp::from_millis(0),
            revoked_at: revoked.then_some(Timestamp::from_millis(5)),
        };
        InstanceIdentity {
            access_key_id: "LSINA".into(),
            cluster: "default".into(),
            identity: Some(identity),
            container_instance: instance,
        }
    }

    fn state(connected: bool) -> ContainerInstanceState {
        ContainerInstanceState {
            container_instance_arn: "arn:aws:ecs:us-east-1:000000000000:container-instance/default/abc".into(),
            status: "ACTIVE".into(),
            agent_connected: connected,
            disconnected_at: (!connected).then_some(Timestamp::from_millis(0)),
            lost_at: (!connected).then_some(Timestamp::from_millis(60_000)),
            running_tasks_count: 2,
            pending_tasks_count: 1,
            host: Some("h1".into()),
            agent_version: Some("0.1.0".into()),
        }
    }

    #[test]
    fn a_row_says_at_a_glance_how_a_machine_is() {
        let rows = [row(Some(state(true)), false), row(Some(state(false)), true), row(None, false), row(None, true)];
        let text = table(&rows, Timestamp::from_millis(90_000));
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[1].contains("abc") && lines[1].contains("connected 0.1.0") && lines[1].contains("2 +1 pending"));
        assert!(lines[2].contains("ACTIVE lost") && lines[2].contains("last heard 1m30s ago"), "{text}");
        assert!(lines[3].contains("no instance yet") && lines[4].contains("revoked"), "{text}");
    }
}
