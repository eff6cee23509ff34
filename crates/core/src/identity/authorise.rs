//! What each kind of access key may do. Nothing is performed or answered without the proof that is made here, from the very
//! state that the request meets.

use longshore_api::ecs::{self, Request};
use longshore_api::error::ACCESS_DENIED_EXCEPTION;
use longshore_api::{ApiError, admin};

use crate::entity::Identity;
use crate::ids::{InstanceKey, TaskKey};
use crate::names;
use crate::principal::{Principal, Role};
use crate::read::ReadModel;

/// A request that its principal may make. Only [`ReadModel::authorise`] and [`ReadModel::authorise_admin`] make one.
#[derive(Debug)]
pub struct Authorised<'a, R> {
    principal: &'a Principal,
    request: &'a R,
}

impl<R> Clone for Authorised<'_, R> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<R> Copy for Authorised<'_, R> {}

impl<'a, R> Authorised<'a, R> {
    /// Who makes it.
    pub fn principal(&self) -> &'a Principal {
        self.principal
    }

    /// What is asked.
    pub fn request(&self) -> &'a R {
        self.request
    }
}

/// What a denied request was about, as refusals name it.
const ANYTHING: &str = "*";

impl ReadModel {
    /// Decides whether `principal` may make this request of ECS now.
    ///
    /// # Errors
    /// `AccessDeniedException` in AWS's form; `UnrecognizedClientException` when the key died since its signature was
    /// verified.
    pub fn authorise<'a>(
        &self,
        principal: &'a Principal,
        request: &'a Request,
    ) -> Result<Authorised<'a, Request>, ApiError> {
        let denied = match principal.role {
            Role::Owner => None,
            Role::Instance => self.denied_to_instance(self.identity_of(principal)?, request)?,
            Role::JoinToken | Role::TaskExecution => Some(ANYTHING.to_owned()),
        };
        match denied {
            None => Ok(Authorised { principal, request }),
            Some(resource) => Err(denial(principal, ecs::SIGNING_NAME, request.operation().name(), &resource)),
        }
    }

    /// Decides whether `principal` may make this request of the administration now.
    ///
    /// # Errors
    /// As [`ReadModel::authorise`].
    pub fn authorise_admin<'a>(
        &self,
        principal: &'a Principal,
        request: &'a admin::Request,
    ) -> Result<Authorised<'a, admin::Request>, ApiError> {
        let joins = matches!(request, admin::Request::JoinContainerInstance(_));
        // Whether the instance that was asked is this key's is looked at where the answer is taken.
        let gives_logs = matches!(request, admin::Request::SubmitTaskLogs(_));
        let allowed = match principal.role {
            // Only a token says for which cluster.
            Role::Owner => !joins,
            Role::JoinToken => joins,
            Role::Instance => gives_logs,
            Role::TaskExecution => false,
        };
        match allowed {
            true => Ok(Authorised { principal, request }),
            false => Err(denial(principal, "longshore", request.operation().name(), ANYTHING)),
        }
    }

    /// What an agent needs, for the machine's own cluster and instances: the resource that is denied, if one is.
    fn denied_to_instance(&self, identity: &Identity, request: &Request) -> Result<Option<String>, ApiError> {
        match request {
            Request::RegisterContainerInstance(request) => self.foreign_cluster(identity, request.cluster.as_deref()),
            Request::DiscoverPollEndpoint(request) => {
                let named = request.container_instance.iter().filter(|named| !named.is_empty());
                self.foreign(identity, request.cluster.as_deref(), named)
            }
            Request::DescribeContainerInstances(request) => {
                self.foreign(identity, request.cluster.as_deref(), &request.container_instances)
            }
            Request::UpdateContainerInstancesState(request) => {
                self.foreign(identity, request.cluster.as_deref(), &request.container_instances)
            }
            Request::ListTagsForResource(request) => Ok(self.foreign_resource(identity, &request.resource_arn)),
            // The reports name tasks by ARN; that a task's instance was registered by this key is checked where the task is
            // looked up, for every kind of key.
            Request::SubmitTaskStateChange(request) => self.foreign_report(identity, request.cluster.as_deref()),
            Request::SubmitContainerStateChange(request) => self.foreign_report(identity, request.cluster.as_deref()),
            Request::SubmitAttachmentStateChanges(request) => self.foreign_report(identity, request.cluster.as_deref()),
            _ => Ok(Some(ANYTHING.to_owned())),
        }
    }

    /// The resource, if it is neither one of the identity's instances nor a task on one: of these, containers can ask their agent
    /// for the tags.
    fn foreign_resource(&self, identity: &Identity, arn: &str) -> Option<String> {
        let cluster = |name: &str| Some(self.clusters.get(name).filter(|_| *name == *identity.cluster)?.id);
        let instance = match (names::instance_arn_parts(&self.config, arn), names::task_arn_parts(&self.config, arn)) {
            (Some((name, id)), _) => cluster(&name).map(|cluster| InstanceKey { cluster, id }),
            (None, Some((name, id))) => {
                let task = cluster(&name).and_then(|cluster| self.tasks.get(&TaskKey { cluster, id }));
                task.and_then(|task| task.home())
            }
            (None, None) => None,
        };
        let known = instance.and_then(|key| self.instances.get(&key));
        let own = known.is_some_and(|known| known.principal == identity.access_key_id);
        (!own).then(|| arn.to_owned())
    }

    fn foreign_report(&self, identity: &Identity, cluster: Option<&str>) -> Result<Option<String>, ApiError> {
        match cluster.filter(|cluster| !cluster.is_empty()) {
            Some(named) => self.foreign_cluster(identity, Some(named)),
            None => Ok(None),
        }
    }

    /// The cluster, if it is not the identity's.
    fn foreign_cluster(&self, identity: &Identity, given: Option<&str>) -> Result<Option<String>, ApiError> {
        Ok(match names::cluster(&self.config, given)? {
            Some(name) if *name == *identity.cluster => None,
            Some(name) => Some(self.config.cluster_arn(&name)),
            None => given.map(str::to_owned),
        })
    }

    /// The cluster, or the first of the instances, that is not the identity's. One that does not exist is nobody's: a key
    /// learns nothing of what others have.
    fn foreign<'n>(
        &self,
        identity: &Identity,
        given: Option<&str>,
        instances: impl IntoIterator<Item = &'n String>,
    ) -> Result<Option<String>, ApiError> {
        if let Some(foreign) = self.foreign_cluster(identity, given)? {
            return Ok(Some(foreign));
        }
        let Some(cluster) = self.clusters.get(&identity.cluster) else { return Ok(None) };
        for named in instances {
            let id = names::instance(&self.config, cluster, named)?;
            let instance = id.and_then(|id| self.instances.get(&InstanceKey { cluster: cluster.id, id }));
            if instance.is_none_or(|instance| instance.principal != identity.access_key_id) {
                return Ok(Some(named.clone()));
            }
        }
        Ok(None)
    }
}

/// AWS's sentence, and why it is so.
pub(crate) fn denial(principal: &Principal, service: &str, operation: &str, resource: &str) -> ApiError {
    let why = match principal.role {
        Role::Owner => "only a join token joins",
        Role::Instance => "the access key of a machine may do what its agent needs, for its own container instances",
        Role::JoinToken => "a join token does nothing but join",
        Role::TaskExecution => {
            "the credentials of a task's execution role read what its definition refers to, while it lives"
        }
    };
    let message = format!(
        "User: {} is not authorized to perform: {service}:{operation} on resource: {resource} because {why}",
        principal.arn
    );
    ApiError::new(ACCESS_DENIED_EXCEPTION, message)
}
