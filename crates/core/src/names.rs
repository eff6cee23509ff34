//! ARNs out, names and ARNs in.

use std::str::FromStr;

use longshore_api::ApiError;
use longshore_api::arn::{Arn, ClusterRef, InstanceRef, Resource, Scope, TaskDefinitionRef, TaskRef};

use crate::config::CellConfig;
use crate::entity::Cluster;
use crate::ids::{DefinitionKey, InstanceId, TaskId};
use crate::network;

/// The cluster that a request without one means.
pub(crate) const DEFAULT_CLUSTER: &str = "default";

impl CellConfig {
    /// A cluster's ARN.
    pub fn cluster_arn(&self, name: &str) -> String {
        self.scope.cluster(name)
    }

    /// A container instance's ARN, in the long format.
    pub fn instance_arn(&self, cluster: &str, id: InstanceId) -> String {
        self.scope.container_instance(cluster, id)
    }

    /// A task's ARN, in the long format.
    pub fn task_arn(&self, cluster: &str, id: TaskId) -> String {
        self.scope.task(cluster, id)
    }

    /// A task definition's ARN.
    pub fn definition_arn(&self, key: &DefinitionKey) -> String {
        self.scope.task_definition(&key.family, key.revision.unsigned_abs())
    }

    /// The ARN of the `index`th container of a task: its uuid is derived, so that nothing has to be kept.
    pub fn container_arn(&self, cluster: &str, task: TaskId, index: usize) -> String {
        self.scope.container(cluster, task, uuid(mix(task.0 ^ (index as u128 + 1))))
    }

    /// A capacity provider's ARN.
    pub fn capacity_provider_arn(&self, name: &str) -> String {
        self.scope.capacity_provider(name)
    }

    /// The ARN of the attachment of a task: the interface of an awsvpc task.
    pub(crate) fn attachment_arn(&self, task: TaskId) -> String {
        self.scope.attachment(network::attachment_id(task))
    }

    /// Whether something named without an ARN, or by one of this region and account, can be here.
    fn is_here(&self, scope: Option<&Scope>) -> bool {
        scope.is_none_or(|scope| *scope == self.scope)
    }
}

/// A random-looking uuid of given bits.
pub(crate) fn uuid(bits: u128) -> String {
    format!(
        "{:08x}-{:04x}-4{:03x}-a{:03x}-{:012x}",
        (bits >> 96) as u32,
        (bits >> 80) as u16,
        (bits >> 64) as u16 & 0xfff,
        (bits >> 48) as u16 & 0xfff,
        bits & 0xffff_ffff_ffff,
    )
}

/// Spreads every input bit over all output bits (two rounds of multiply and fold).
pub(crate) fn mix(mut bits: u128) -> u128 {
    for _ in 0..2 {
        bits = (bits ^ (bits >> 61)).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
    }
    bits ^ (bits >> 67)
}

/// The name of the cluster that a request means; `None` when its ARN is of elsewhere, where we know none.
///
/// # Errors
/// `InvalidParameterException` for what is neither name nor ARN of a cluster.
pub(crate) fn cluster(config: &CellConfig, given: Option<&str>) -> Result<Option<String>, ApiError> {
    let Some(given) = given.filter(|given| !given.is_empty()) else { return Ok(Some(DEFAULT_CLUSTER.to_owned())) };
    let ClusterRef { scope, name } = ClusterRef::parse(given)?;
    Ok(config.is_here(scope.as_ref()).then_some(name))
}

/// The name of the capacity provider that a request means; `None` when its ARN is of elsewhere.
///
/// # Errors
/// `InvalidParameterException` for an ARN of something else.
pub(crate) fn capacity_provider(config: &CellConfig, given: &str) -> Result<Option<String>, ApiError> {
    if !given.starts_with("arn:") {
        return Ok(Some(given.to_owned()));
    }
    match given.parse::<Arn>()? {
        Arn { scope, resource: Resource::CapacityProvider { name } } => {
            Ok(config.is_here(Some(&scope)).then_some(name))
        }
        _ => Err(ApiError::invalid_parameter(format!("'{given}' is not the ARN of a capacity provider."))),
    }
}

/// The id of the task that `given` names, which must be of `cluster`.
///
/// # Errors
/// See [`id_in`].
pub(crate) fn task(config: &CellConfig, cluster: &Cluster, given: &str) -> Result<Option<TaskId>, ApiError> {
    let TaskRef { scope, cluster: named, id } = TaskRef::parse(given)?;
    let here = config.is_here(scope.as_ref());
    id_in(here, named.as_deref(), cluster, "taskId", &id)
}

/// The id of the container instance that `given` names, which must be of `cluster`.
///
/// # Errors
/// See [`id_in`].
pub(crate) fn instance(config: &CellConfig, cluster: &Cluster, given: &str) -> Result<Option<InstanceId>, ApiError> {
    let InstanceRef { scope, cluster: named, id } = InstanceRef::parse(given)?;
    let here = config.is_here(scope.as_ref());
    id_in(here, named.as_deref(), cluster, "containerInstanceId", &id)
}

/// The id in a name. `Ok(None)` for a good name of what cannot be here: another region or account, an id of the old kind.
///
/// # Errors
/// `InvalidParameterException` for an ARN of another cluster, and for an id of a length that none has.
fn id_in<T: FromStr>(
    here: bool,
    named: Option<&str>,
    cluster: &Cluster,
    kind: &str,
    id: &str,
) -> Result<Option<T>, ApiError> {
    match named.filter(|named| here && *named != &*cluster.name) {
        Some(other) => Err(ApiError::invalid_parameter(format!(
            "Invalid identifier: Identifier is for cluster {other}. Your cluster is {}",
            cluster.name
        ))),
        None if !matches!(id.len(), 32 | 36) => {
            Err(ApiError::invalid_parameter(format!("{kind} length should be one of [32,36]")))
        }
        None if here => Ok(id.parse().ok()),
        None => Ok(None),
    }
}

/// The cluster's name and the id in a task's full ARN of this cell; agents use no shorter form.
pub(crate) fn task_arn_parts(config: &CellConfig, arn: &str) -> Option<(String, TaskId)> {
    let TaskRef { scope, cluster, id } = TaskRef::parse(arn).ok()?;
    config.is_here(Some(scope.as_ref()?)).then_some(())?;
    Some((cluster?, id.parse().ok()?))
}

/// The cluster's name and the id in an instance's full ARN of this cell; agents use no shorter form.
pub(crate) fn instance_arn_parts(config: &CellConfig, arn: &str) -> Option<(String, InstanceId)> {
    let InstanceRef { scope, cluster, id } = InstanceRef::parse(arn).ok()?;
    config.is_here(Some(scope.as_ref()?)).then_some(())?;
    Some((cluster?, id.parse().ok()?))
}

/// A task definition as a request names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DefinitionName {
    pub(crate) family: String,
    /// `None`: the latest ACTIVE one.
    pub(crate) revision: Option<i32>,
}

/// Reads `family`, `family:revision` or an ARN; `None` when it is none of these, or of elsewhere.
pub(crate) fn definition(config: &CellConfig, given: &str) -> Option<DefinitionName> {
    let TaskDefinitionRef { scope, family, revision } = TaskDefinitionRef::parse(given).ok()?;
    let revision = revision.map(i32::try_from).transpose().ok()?;
    config.is_here(scope.as_ref()).then_some(DefinitionName { family, revision })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::ClusterId;

    fn config() -> CellConfig {
        CellConfig::new("us-east-1", "000000000000")
    }

    fn prod() -> Cluster {
        Cluster::new(ClusterId(1), "prod")
    }

    #[test]
    fn tasks_are_named_by_id_arn_and_old_arn() {
        let task = TaskId(0xabc);
        let long = config().task_arn("prod", task);
        let short = format!("arn:aws:ecs:us-east-1:000000000000:task/{task}");
        for name in [long, short, task.to_string()] {
            assert_eq!(super::task(&config(), &prod(), &name), Ok(Some(task)), "{name}");
        }
    }

    #[test]
    fn a_name_of_elsewhere_is_never_somebody_elses_object() {
        let foreign = config().task_arn("dev", TaskId(1));
        let error = super::task(&config(), &prod(), &foreign).expect_err("of another cluster");
        assert_eq!(error.message, "Invalid identifier: Identifier is for cluster dev. Your cluster is prod");
        let account = CellConfig::new("us-east-1", "111111111111").task_arn("prod", TaskId(1));
        assert_eq!(super::task(&config(), &prod(), &account), Ok(None));
        assert!(super::task(&config(), &prod(), &config().instance_arn("prod", InstanceId(1))).is_err());
        assert!(super::task(&config(), &prod(), "nope").is_err());
    }

    #[test]
    fn definitions_are_named_by_family_revision_and_arn() {
        let key = DefinitionKey { family: "web".into(), revision: 7 };
        let named = Some(DefinitionName { family: "web".to_owned(), revision: Some(7) });
        assert_eq!(definition(&config(), &config().definition_arn(&key)), named);
        assert_eq!(definition(&config(), "web:7"), named);
        assert_eq!(definition(&config(), "web"), Some(DefinitionName { family: "web".to_owned(), revision: None }));
        assert_eq!(definition(&config(), "web:x"), None);
    }

    #[test]
    fn containers_of_one_task_have_different_arns() {
        let first = config().container_arn("prod", TaskId(9), 0);
        assert_ne!(first, config().container_arn("prod", TaskId(9), 1));
        assert_eq!(first, config().container_arn("prod", TaskId(9), 0));
    }
}
