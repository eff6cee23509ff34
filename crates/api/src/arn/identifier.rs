//! Parameters that name a thing: a short name or id, or an ARN.
//!
//! A reference keeps what the caller said. Whether its scope and cluster are the right ones is for
//! whoever looks it up: only they know theirs.

use super::{Arn, ArnError, Resource, Scope, id, name, revision_number};
use crate::shape::shortened;

/// A cluster, by name or ARN.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ClusterRef {
    /// From the ARN, if one was given.
    pub scope: Option<Scope>,
    /// The cluster's name.
    pub name: String,
}

/// A container instance, by id or ARN.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct InstanceRef {
    /// From the ARN, if one was given.
    pub scope: Option<Scope>,
    /// The cluster's name, if the ARN has one.
    pub cluster: Option<String>,
    /// The instance's id.
    pub id: String,
}

/// A task, by id or ARN.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TaskRef {
    /// From the ARN, if one was given.
    pub scope: Option<Scope>,
    /// The cluster's name, if the ARN has one.
    pub cluster: Option<String>,
    /// The task's id.
    pub id: String,
}

/// A service, by name or ARN.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ServiceRef {
    /// From the ARN, if one was given.
    pub scope: Option<Scope>,
    /// The cluster's name, if the ARN has one.
    pub cluster: Option<String>,
    /// The service's name.
    pub name: String,
}

/// A task definition, by family, `family:revision` or ARN.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TaskDefinitionRef {
    /// From the ARN, if one was given.
    pub scope: Option<Scope>,
    /// The family.
    pub family: String,
    /// The revision; without one, the latest ACTIVE is meant.
    pub revision: Option<u32>,
}

impl ClusterRef {
    /// Reads a `cluster` parameter.
    pub fn parse(text: &str) -> Result<Self, ArnError> {
        match arn(text)? {
            None => Ok(Self { scope: None, name: name("Cluster", text)? }),
            Some(Arn { scope, resource: Resource::Cluster { name } }) => Ok(Self { scope: Some(scope), name }),
            Some(_) => Err(other(text, "cluster")),
        }
    }
}

impl InstanceRef {
    /// Reads a `containerInstance` parameter.
    pub fn parse(text: &str) -> Result<Self, ArnError> {
        match arn(text)? {
            None => Ok(Self { scope: None, cluster: None, id: id(text)? }),
            Some(Arn { scope, resource: Resource::ContainerInstance { cluster, id } }) => {
                Ok(Self { scope: Some(scope), cluster, id })
            }
            Some(_) => Err(other(text, "container instance")),
        }
    }
}

impl TaskRef {
    /// Reads a `task` parameter.
    pub fn parse(text: &str) -> Result<Self, ArnError> {
        match arn(text)? {
            None => Ok(Self { scope: None, cluster: None, id: id(text)? }),
            Some(Arn { scope, resource: Resource::Task { cluster, id } }) => {
                Ok(Self { scope: Some(scope), cluster, id })
            }
            Some(_) => Err(other(text, "task")),
        }
    }
}

impl ServiceRef {
    /// Reads a `service` parameter.
    pub fn parse(text: &str) -> Result<Self, ArnError> {
        match arn(text)? {
            None => Ok(Self { scope: None, cluster: None, name: name("Service", text)? }),
            Some(Arn { scope, resource: Resource::Service { cluster, name } }) => {
                Ok(Self { scope: Some(scope), cluster, name })
            }
            Some(_) => Err(other(text, "service")),
        }
    }
}

impl TaskDefinitionRef {
    /// Reads a `taskDefinition` parameter.
    pub fn parse(text: &str) -> Result<Self, ArnError> {
        match (arn(text)?, text.split_once(':')) {
            (Some(Arn { scope, resource: Resource::TaskDefinition { family, revision } }), _) => {
                Ok(Self { scope: Some(scope), family, revision: Some(revision) })
            }
            (Some(_), _) => Err(other(text, "task definition")),
            (None, Some((family, revision))) => {
                let revision = Some(revision_number(revision)?);
                Ok(Self { scope: None, family: name("Family", family)?, revision })
            }
            (None, None) => Ok(Self { scope: None, family: name("Family", text)?, revision: None }),
        }
    }
}

/// The ARN, if the text claims to be one. No short form has that prefix and six parts.
fn arn(text: &str) -> Result<Option<Arn>, ArnError> {
    // `arn:7` is revision 7 of a family called arn.
    let claims = text.starts_with("arn:") && text.matches(':').count() > 1;
    if claims { text.parse().map(Some) } else { Ok(None) }
}

fn other(text: &str, wanted: &'static str) -> ArnError {
    ArnError::OtherResource { text: shortened(text), wanted }
}
