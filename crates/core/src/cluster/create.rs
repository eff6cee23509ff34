//! CreateCluster.

use std::sync::Arc;

use imbl::OrdMap;
use longshore_api::ApiError;
use longshore_api::ecs::{Response, types};

use super::describe::{Include, document};
use super::{check_name, configuration, refuse_namespace, settings};
use crate::capacity;
use crate::cell::Turn;
use crate::entity::{Cluster, Entity, EntityKey};
use crate::ids::ClusterId;
use crate::limits;
use crate::names::DEFAULT_CLUSTER;
use crate::principal::Principal;
use crate::tags;

type Clusters = OrdMap<Arc<str>, Arc<Cluster>>;

/// CreateCluster. A cluster that is ACTIVE already is answered as it is, if what is asked for does not contradict it.
pub(crate) fn create(
    turn: &mut Turn<'_>,
    principal: &Principal,
    request: &types::CreateClusterRequest,
) -> Result<Response, ApiError> {
    let wanted = Wanted::check(turn, request)?;
    let known = turn.tables.view().clusters.get(wanted.name).filter(|cluster| cluster.active).cloned();
    let cluster = match known {
        Some(cluster) if wanted.agrees_with(&cluster) => cluster,
        Some(_) => {
            return Err(ApiError::invalid_parameter(
                "Arguments on this idempotent request are inconsistent with arguments used in previous request(s).",
            ));
        }
        None => {
            if let Some(oldest) = crowded_out(&turn.tables.view().clusters, wanted.name, limits::CLUSTERS)? {
                turn.tables.remove(&oldest);
            }
            let cluster = Arc::new(wanted.made(turn, principal));
            turn.tables.put(Entity::Cluster(cluster.clone()));
            cluster
        }
    };
    let cluster = Some(document(turn.tables.view(), &cluster, Include::CREATED));
    Ok(Response::CreateCluster(Box::new(types::CreateClusterResponse { cluster })))
}

/// A request, checked. What it does not give is empty or `None`.
struct Wanted<'a> {
    name: &'a str,
    tags: Vec<types::Tag>,
    insights: Option<settings::ContainerInsights>,
    configuration: Option<types::ClusterConfiguration>,
    providers: Vec<Arc<str>>,
    strategy: Vec<types::CapacityProviderStrategyItem>,
}

impl<'a> Wanted<'a> {
    fn check(turn: &Turn<'_>, request: &'a types::CreateClusterRequest) -> Result<Self, ApiError> {
        refuse_namespace("CreateCluster", request.service_connect_defaults.as_ref())?;
        let name = match request.cluster_name.as_deref() {
            None | Some("") => DEFAULT_CLUSTER,
            Some(name) => check_name(name)?,
        };
        let tags = tags::check(request.tags.as_deref())?;
        let insights = settings::check(request.settings.as_deref())?;
        let configuration = request.configuration.as_ref().map(configuration::check).transpose()?.flatten();
        let providers = request.capacity_providers.as_deref().unwrap_or_default();
        let providers = capacity::check_providers(turn.tables.view(), providers)?;
        let strategy = request.default_capacity_provider_strategy.as_deref().unwrap_or_default();
        let strategy = capacity::check_default(strategy, &providers)?;
        Ok(Self { name, tags, insights, configuration, providers, strategy })
    }

    /// Whether a cluster has everything that is asked for. What is left out says nothing.
    fn agrees_with(&self, known: &Cluster) -> bool {
        (self.tags.is_empty() || are_alike(&self.tags, &known.tags))
            && self.insights.is_none_or(|insights| insights == known.container_insights)
            && (self.configuration.is_none() || self.configuration == known.configuration)
            && (self.providers.is_empty() || are_alike(&self.providers, &known.capacity_providers))
            && (self.strategy.is_empty() || are_alike(&self.strategy, &known.default_strategy))
    }

    fn made(self, turn: &mut Turn<'_>, principal: &Principal) -> Cluster {
        let insights = self.insights.unwrap_or_else(|| turn.tables.view().container_insights_of(&principal.arn));
        Cluster {
            tags: self.tags,
            container_insights: insights,
            configuration: self.configuration,
            capacity_providers: self.providers,
            default_strategy: self.strategy,
            ..Cluster::new(ClusterId(turn.next_sequence()), self.name)
        }
    }
}

/// Whether two lists without repetitions have the same members: clients that keep sets send them in any order.
fn are_alike<T: PartialEq>(one: &[T], other: &[T]) -> bool {
    one.len() == other.len() && one.iter().all(|member| other.contains(member))
}

/// The INACTIVE cluster, created before all others of them, that must go so that `name` is one of at most `most`.
pub(super) fn crowded_out(clusters: &Clusters, name: &str, most: usize) -> Result<Option<EntityKey>, ApiError> {
    if clusters.len() < most || clusters.contains_key(name) {
        return Ok(None);
    }
    let inactive = clusters.values().filter(|cluster| !cluster.active);
    match inactive.min_by_key(|cluster| cluster.id) {
        Some(oldest) => Ok(Some(EntityKey::Cluster(oldest.name.clone()))),
        None => Err(ApiError::client(format!("The number of clusters has reached its limit of {most}."))),
    }
}
