//! What `longshore status --output json` prints, and the tables are made of. Names and meanings are for programs: they stay.

use longshore_api::Timestamp;
use longshore_api::admin::{ContainerInstanceState, DescribeServerResponse};
use longshore_api::ecs::types::{Cluster, ContainerInstance, InstanceHealthCheckState, Resource};
use serde::Serialize;

/// Everything.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Report {
    pub(super) server: ServerReport,
    /// ACTIVE ones.
    pub(super) clusters: Vec<ClusterReport>,
    pub(super) container_instances: Vec<InstanceReport>,
    pub(super) problems: Vec<Problem>,
}

#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ServerReport {
    pub(super) endpoint: String,
    pub(super) reachable: bool,
    pub(super) version: String,
    pub(super) region: String,
    pub(super) account_id: String,
    pub(super) availability_zone: String,
    /// Its store cannot be written.
    pub(super) read_only: bool,
}

#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ClusterReport {
    pub(super) name: String,
    pub(super) instances: usize,
    /// Of them, those whose agent is there.
    pub(super) connected: usize,
    /// Of them, those that were given up.
    pub(super) lost: usize,
    /// Of them, those that take nothing new.
    pub(super) draining: usize,
    pub(super) running_tasks: i32,
    pub(super) pending_tasks: i32,
    /// CPU units.
    pub(super) cpu: Amount,
    /// MiB.
    pub(super) memory: Amount,
}

#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct InstanceReport {
    pub(super) arn: String,
    pub(super) cluster: String,
    pub(super) status: String,
    pub(super) connected: bool,
    /// When its agent was last heard of, if it is not connected and that is known; seconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) disconnected_at: Option<Timestamp>,
    /// It was given up, and has not returned.
    pub(super) lost: bool,
    /// Its container runtime is not well: Docker is away, or its disk has no room for images.
    pub(super) impaired: bool,
    pub(super) running_tasks: i32,
    pub(super) pending_tasks: i32,
    pub(super) cpu: Amount,
    pub(super) memory: Amount,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) zone: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) host: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) agent_version: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Amount {
    pub(super) used: i64,
    pub(super) total: i64,
}

/// Something that somebody should look after.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Problem {
    pub(super) problem: String,
    pub(super) next_step: String,
}

impl Report {
    /// Of a server that does not answer.
    pub(super) fn of_nobody(endpoint: &str) -> Self {
        Self { server: ServerReport { endpoint: endpoint.to_owned(), ..ServerReport::default() }, ..Self::default() }
    }
}

impl ServerReport {
    pub(super) fn new(endpoint: &str, server: DescribeServerResponse) -> Self {
        Self {
            endpoint: endpoint.to_owned(),
            reachable: true,
            version: server.version,
            region: server.region,
            account_id: server.account_id,
            availability_zone: server.availability_zone,
            read_only: server.read_only,
        }
    }
}

impl ClusterReport {
    pub(super) fn new(cluster: &Cluster, instances: &[InstanceReport]) -> Self {
        let count = |which: fn(&InstanceReport) -> bool| instances.iter().filter(|instance| which(instance)).count();
        let sum = |amount: fn(&InstanceReport) -> Amount| {
            instances
                .iter()
                .map(amount)
                .fold(Amount::default(), |sum, one| Amount { used: sum.used + one.used, total: sum.total + one.total })
        };
        Self {
            name: cluster.cluster_name.clone().unwrap_or_default(),
            instances: instances.len(),
            connected: count(|instance| instance.connected),
            lost: count(|instance| instance.lost),
            draining: count(|instance| instance.status == "DRAINING"),
            running_tasks: cluster.running_tasks_count.unwrap_or(0),
            pending_tasks: cluster.pending_tasks_count.unwrap_or(0),
            cpu: sum(|instance| instance.cpu),
            memory: sum(|instance| instance.memory),
        }
    }
}

impl InstanceReport {
    pub(super) fn new(cluster: &str, state: &ContainerInstanceState, instance: &ContainerInstance) -> Self {
        let mut attributes = instance.attributes.iter().flatten();
        let zone = attributes.find(|attribute| attribute.name == "ecs.availability-zone");
        Self {
            arn: state.container_instance_arn.clone(),
            cluster: cluster.to_owned(),
            status: state.status.clone(),
            connected: state.agent_connected,
            disconnected_at: state.disconnected_at.filter(|_| !state.agent_connected),
            lost: state.lost_at.is_some(),
            impaired: instance
                .health_status
                .as_ref()
                .is_some_and(|health| health.overall_status == Some(InstanceHealthCheckState::Impaired)),
            running_tasks: state.running_tasks_count,
            pending_tasks: state.pending_tasks_count,
            cpu: amount(instance, "CPU"),
            memory: amount(instance, "MEMORY"),
            zone: zone.and_then(|zone| zone.value.clone()),
            host: state.host.clone(),
            agent_version: state.agent_version.clone(),
        }
    }
}

fn amount(instance: &ContainerInstance, name: &str) -> Amount {
    let of = |resources: &Option<Vec<Resource>>| {
        let named = resources.iter().flatten().find(|resource| resource.name.as_deref() == Some(name));
        i64::from(named.and_then(|resource| resource.integer_value).unwrap_or(0))
    };
    let total = of(&instance.registered_resources);
    Amount { used: total - of(&instance.remaining_resources), total }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::status) fn instance(id: &str, connected: bool) -> InstanceReport {
        let resource = |name: &str, value| Resource {
            name: Some(name.to_owned()),
            integer_value: Some(value),
            ..Resource::default()
        };
        let described = ContainerInstance {
            registered_resources: Some(vec![resource("CPU", 1024), resource("MEMORY", 2048)]),
            remaining_resources: Some(vec![resource("CPU", 924), resource("MEMORY", 1848)]),
            ..ContainerInstance::default()
        };
        let state = ContainerInstanceState {
            container_instance_arn: format!("arn:aws:ecs:r:1:container-instance/prod/{id}"),
            status: "ACTIVE".to_owned(),
            agent_connected: connected,
            disconnected_at: Some(Timestamp::from_millis(0)),
            lost_at: None,
            running_tasks_count: 2,
            pending_tasks_count: 1,
            host: Some("h1".to_owned()),
            agent_version: None,
        };
        InstanceReport { zone: Some("z1".to_owned()), ..InstanceReport::new("prod", &state, &described) }
    }

    pub(in crate::status) fn cluster(name: &str, instances: &[InstanceReport]) -> ClusterReport {
        let counters = Cluster {
            cluster_name: Some(name.to_owned()),
            running_tasks_count: Some(2 * instances.len() as i32),
            pending_tasks_count: Some(instances.len() as i32),
            ..Cluster::default()
        };
        ClusterReport::new(&counters, instances)
    }

    #[test]
    fn what_is_used_is_what_was_registered_less_what_remains() {
        assert_eq!(instance("a", true).cpu, Amount { used: 100, total: 1024 });
        assert_eq!(instance("a", true).disconnected_at, None);
        let report = cluster("prod", &[instance("a", true), instance("b", false)]);
        assert_eq!((report.instances, report.connected, report.memory.used), (2, 1, 400));
    }
}
