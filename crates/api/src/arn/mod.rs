//! Names of ECS things: ARNs, read and written, and the identifiers of parameters, which may be an
//! ARN or something shorter.
//!
//! Reading is strict about structure and characters and lenient about lengths of ids: an id of a
//! length that we never make finds nothing, which is the caller's answer already.

mod identifier;
#[cfg(test)]
mod tests;

use std::fmt::{self, Write as _};
use std::ops::RangeInclusive;
use std::str::FromStr;

pub use identifier::{ClusterRef, InstanceRef, ServiceRef, TaskDefinitionRef, TaskRef};

use crate::error::ApiError;
use crate::shape::shortened;

/// Room for nearly every ARN of a task or container from the start. Growing step by step was a tenth of what a placement
/// costs, for each answer holds six ARNs per task.
const USUAL_BYTES: usize = 128;

/// What precedes the resource in an ARN: whose it is, and where.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Scope {
    /// `aws`, `aws-cn`, …
    pub partition: String,
    /// `us-east-1`, …
    pub region: String,
    /// Twelve digits.
    pub account: String,
}

impl Scope {
    /// The scope of a region and account in the partition `aws`.
    pub fn new(region: impl Into<String>, account: impl Into<String>) -> Self {
        Self { partition: "aws".to_owned(), region: region.into(), account: account.into() }
    }

    /// The text of the ARN of `resource` in this scope.
    pub fn arn(&self, resource: &Resource) -> String {
        self.text(resource)
    }

    /// `…:cluster/<name>`
    pub fn cluster(&self, name: &str) -> String {
        self.text(format_args!("cluster/{name}"))
    }

    /// `…:container-instance/<cluster>/<id>`
    pub fn container_instance(&self, cluster: &str, id: impl fmt::Display) -> String {
        self.text(format_args!("container-instance/{cluster}/{id}"))
    }

    /// `…:task/<cluster>/<id>`
    pub fn task(&self, cluster: &str, id: impl fmt::Display) -> String {
        self.text(format_args!("task/{cluster}/{id}"))
    }

    /// `…:task-definition/<family>:<revision>`
    pub fn task_definition(&self, family: &str, revision: u32) -> String {
        self.text(format_args!("task-definition/{family}:{revision}"))
    }

    /// `…:container/<cluster>/<task>/<uuid>`
    pub fn container(&self, cluster: &str, task: impl fmt::Display, id: impl fmt::Display) -> String {
        self.text(format_args!("container/{cluster}/{task}/{id}"))
    }

    /// `…:capacity-provider/<name>`
    pub fn capacity_provider(&self, name: &str) -> String {
        self.text(format_args!("capacity-provider/{name}"))
    }

    /// `…:attachment/<uuid>`
    pub fn attachment(&self, id: impl fmt::Display) -> String {
        self.text(format_args!("attachment/{id}"))
    }

    fn text(&self, resource: impl fmt::Display) -> String {
        let mut text = String::with_capacity(USUAL_BYTES);
        // Writing to a string cannot fail.
        let _ = write!(text, "arn:{}:ecs:{}:{}:{resource}", self.partition, self.region, self.account);
        text
    }
}

/// The ARN of something of ECS.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Arn {
    /// Whose, and where.
    pub scope: Scope,
    /// What.
    pub resource: Resource,
}

/// What an ARN names. `cluster: None` is the old short form, which did not name the cluster.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[allow(missing_docs, reason = "the members are the parts that the variant's form shows")]
pub enum Resource {
    /// `cluster/<name>`
    Cluster { name: String },
    /// `container-instance/[<cluster>/]<id>`
    ContainerInstance { cluster: Option<String>, id: String },
    /// `task/[<cluster>/]<id>`
    Task { cluster: Option<String>, id: String },
    /// `task-definition/<family>:<revision>`
    TaskDefinition { family: String, revision: u32 },
    /// `service/[<cluster>/]<name>`
    Service { cluster: Option<String>, name: String },
    /// `task-set/<cluster>/<service>/ecs-svc/<id>`
    TaskSet { cluster: String, service: String, id: String },
    /// `capacity-provider/<name>`
    CapacityProvider { name: String },
    /// `service-deployment/<cluster>/<service>/<id>`
    ServiceDeployment { cluster: String, service: String, id: String },
    /// `service-revision/<cluster>/<service>/<id>`
    ServiceRevision { cluster: String, service: String, id: String },
    /// `container/<cluster>/<task>/<id>`, formerly `container/<id>`
    Container { owner: Option<ContainerOwner>, id: String },
    /// `attachment/<id>`
    Attachment { id: String },
}

/// The cluster and task a container's ARN names.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ContainerOwner {
    /// The cluster's name.
    pub cluster: String,
    /// The task's id.
    pub task: String,
}

/// Why a text names nothing of ECS.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ArnError {
    /// Not `arn:<partition>:<service>:<region>:<account>:<resource>`.
    #[error("'{0}' is not an ARN: write arn:aws:ecs:<region>:<account>:<resource>")]
    NotAnArn(String),
    /// The ARN of another service.
    #[error("'{0}' is an ARN of another service, not of ecs")]
    OtherService(String),
    /// The ARN of another kind of thing than is asked for.
    #[error("'{text}' is not the ARN of a {wanted}")]
    OtherResource {
        /// The ARN.
        text: String,
        /// What it should name.
        wanted: &'static str,
    },
    /// A resource that has none of the known forms.
    #[error("'{0}' names no kind of resource that ECS has, or not in its form")]
    UnknownResource(String),
    /// A part that is empty, too long, or has characters that are not allowed.
    #[error("{part} must match {pattern}, but was '{value}'")]
    BadPart {
        /// Which part.
        part: &'static str,
        /// What it must look like.
        pattern: &'static str,
        /// What it is.
        value: String,
    },
}

impl From<ArnError> for ApiError {
    fn from(error: ArnError) -> Self {
        Self::invalid_parameter(format!("Invalid identifier: {error}."))
    }
}

impl fmt::Display for Arn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Scope { partition, region, account } = &self.scope;
        write!(f, "arn:{partition}:ecs:{region}:{account}:{}", self.resource)
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cluster { name } => write!(f, "cluster/{name}"),
            Self::ContainerInstance { cluster: Some(cluster), id } => write!(f, "container-instance/{cluster}/{id}"),
            Self::ContainerInstance { cluster: None, id } => write!(f, "container-instance/{id}"),
            Self::Task { cluster: Some(cluster), id } => write!(f, "task/{cluster}/{id}"),
            Self::Task { cluster: None, id } => write!(f, "task/{id}"),
            Self::TaskDefinition { family, revision } => {
                write!(f, "task-definition/{family}:{revision}")
            }
            Self::Service { cluster: Some(cluster), name } => write!(f, "service/{cluster}/{name}"),
            Self::Service { cluster: None, name } => write!(f, "service/{name}"),
            Self::TaskSet { cluster, service, id } => write!(f, "task-set/{cluster}/{service}/ecs-svc/{id}"),
            Self::CapacityProvider { name } => write!(f, "capacity-provider/{name}"),
            Self::ServiceDeployment { cluster, service, id } => {
                write!(f, "service-deployment/{cluster}/{service}/{id}")
            }
            Self::ServiceRevision { cluster, service, id } => write!(f, "service-revision/{cluster}/{service}/{id}"),
            Self::Container { owner: Some(ContainerOwner { cluster, task }), id } => {
                write!(f, "container/{cluster}/{task}/{id}")
            }
            Self::Container { owner: None, id } => write!(f, "container/{id}"),
            Self::Attachment { id } => write!(f, "attachment/{id}"),
        }
    }
}

impl FromStr for Arn {
    type Err = ArnError;

    fn from_str(text: &str) -> Result<Self, ArnError> {
        let mut parts = text.splitn(6, ':');
        let (Some("arn"), Some(partition), Some(service), Some(region), Some(account), Some(resource)) =
            (parts.next(), parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(ArnError::NotAnArn(shortened(text)));
        };
        if service != "ecs" {
            return Err(ArnError::OtherService(shortened(text)));
        }
        let lower = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let scope = Scope {
            partition: part("partition", "^[a-z0-9-]{1,32}$", partition, 1..=32, lower)?,
            region: part("region", "^[a-z0-9-]{1,32}$", region, 1..=32, lower)?,
            account: part("account", "^[0-9]{12}$", account, 12..=12, |c| c.is_ascii_digit())?,
        };
        Ok(Self { scope, resource: resource.parse()? })
    }
}

impl FromStr for Resource {
    type Err = ArnError;

    fn from_str(text: &str) -> Result<Self, ArnError> {
        // More parts than any form has are as wrong as any others: bounded, whatever comes.
        let parts: Vec<&str> = text.splitn(6, '/').collect();
        Ok(match parts.as_slice() {
            ["cluster", cluster] => Self::Cluster { name: name("Cluster", cluster)? },
            ["container-instance", own] => Self::ContainerInstance { cluster: None, id: id(own)? },
            ["container-instance", cluster, own] => {
                Self::ContainerInstance { cluster: Some(name("Cluster", cluster)?), id: id(own)? }
            }
            ["task", own] => Self::Task { cluster: None, id: id(own)? },
            ["task", cluster, own] => Self::Task { cluster: Some(name("Cluster", cluster)?), id: id(own)? },
            ["task-definition", definition] => {
                let (family, revision) =
                    definition.split_once(':').ok_or_else(|| ArnError::UnknownResource(shortened(text)))?;
                Self::TaskDefinition { family: name("Family", family)?, revision: revision_number(revision)? }
            }
            ["service", own] => Self::Service { cluster: None, name: name("Service", own)? },
            ["service", cluster, own] => {
                Self::Service { cluster: Some(name("Cluster", cluster)?), name: name("Service", own)? }
            }
            ["task-set", cluster, service, "ecs-svc", own] => {
                let (cluster, service) = (name("Cluster", cluster)?, name("Service", service)?);
                Self::TaskSet { cluster, service, id: id(own)? }
            }
            ["capacity-provider", own] => Self::CapacityProvider { name: name("Capacity provider", own)? },
            ["service-deployment", cluster, service, own] => {
                let (cluster, service) = (name("Cluster", cluster)?, name("Service", service)?);
                Self::ServiceDeployment { cluster, service, id: id(own)? }
            }
            ["service-revision", cluster, service, own] => {
                let (cluster, service) = (name("Cluster", cluster)?, name("Service", service)?);
                Self::ServiceRevision { cluster, service, id: id(own)? }
            }
            ["container", own] => Self::Container { owner: None, id: id(own)? },
            ["container", cluster, task, own] => {
                let owner = ContainerOwner { cluster: name("Cluster", cluster)?, task: id(task)? };
                Self::Container { owner: Some(owner), id: id(own)? }
            }
            ["attachment", own] => Self::Attachment { id: id(own)? },
            _ => return Err(ArnError::UnknownResource(shortened(text))),
        })
    }
}

/// A name that a user chose.
fn name(what: &'static str, value: &str) -> Result<String, ArnError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    part(what, "^[a-zA-Z0-9\\-_]{1,255}$", value, 1..=255, allowed)
}

/// An id that a control plane made: 32 hexadecimal digits, a UUID, a number.
fn id(value: &str) -> Result<String, ArnError> {
    part("id", "^[a-zA-Z0-9\\-_]{1,64}$", value, 1..=64, |c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
}

/// Revisions start at 1 and are written plainly: no sign, no leading zero, or two texts would name
/// one thing.
fn revision_number(value: &str) -> Result<u32, ArnError> {
    let plain = value.bytes().all(|b| b.is_ascii_digit()) && !value.starts_with('0');
    value.parse().ok().filter(|_| plain).ok_or_else(|| ArnError::BadPart {
        part: "revision",
        pattern: "^[1-9][0-9]*$",
        value: shortened(value),
    })
}

fn part(
    part: &'static str,
    pattern: &'static str,
    value: &str,
    len: RangeInclusive<usize>,
    allowed: impl Fn(char) -> bool,
) -> Result<String, ArnError> {
    if !len.contains(&value.len()) || !value.chars().all(allowed) {
        return Err(ArnError::BadPart { part, pattern, value: shortened(value) });
    }
    Ok(value.to_owned())
}
