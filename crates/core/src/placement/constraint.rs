//! Placement constraints: where a task may not go, whatever is free there.

use std::collections::BTreeMap;
use std::sync::Arc;

use longshore_api::ecs::types::{PlacementConstraint, PlacementConstraintType};
use longshore_api::{ApiError, Timestamp};

use super::Refusal;
use super::pool::Slot;
use crate::limits;
use crate::query::{Facts, Query, QueryError};

/// The constraints of a task: those of its definition, and those of the call.
#[derive(Clone, Debug, Default)]
pub(crate) struct Constraints {
    /// All of them have to hold.
    pub(crate) member_of: Vec<Arc<MemberOf>>,
    /// Not beside another task of its group.
    pub(crate) distinct_instance: bool,
}

/// A constraint of type `memberOf`: an expression of the cluster query language, read once.
#[derive(Clone, Debug)]
pub struct MemberOf {
    expression: Arc<str>,
    /// None if a stored expression is none any more: then nothing satisfies it.
    query: Option<Query>,
}

/// Its text says all.
impl PartialEq for MemberOf {
    fn eq(&self, other: &Self) -> bool {
        self.expression == other.expression
    }
}

impl Eq for MemberOf {}

impl MemberOf {
    /// The constraint of an expression that a definition has. What was refused at registration is satisfied by nothing.
    pub(crate) fn stored(expression: &str) -> Self {
        Self { expression: expression.into(), query: expression.parse().ok() }
    }

    /// Reads an expression.
    ///
    /// # Errors
    /// What is wrong with it, and where.
    pub(crate) fn read(expression: &str) -> Result<Self, QueryError> {
        Ok(Self { expression: expression.into(), query: Some(expression.parse()?) })
    }

    /// As it was written.
    pub(crate) fn expression(&self) -> &Arc<str> {
        &self.expression
    }

    /// Whether an instance satisfies it.
    pub(crate) fn admits(&self, facts: &impl Facts) -> bool {
        self.query.as_ref().is_some_and(|query| query.matches(facts))
    }

    /// Whether tasks that come and go can change what it says of an instance.
    pub(crate) fn looks_at_tasks(&self) -> bool {
        self.query.as_ref().is_some_and(Query::looks_at_tasks)
    }
}

impl Constraints {
    /// Whether a task of a group may go to an instance; if not, the first reason.
    pub(super) fn admit(&self, slot: &Slot, group: &str) -> Result<(), Refusal> {
        if let Some(unmet) = self.member_of.iter().find(|member_of| !member_of.admits(slot)) {
            return Err(Refusal::MemberOf { expression: unmet.expression.clone() });
        }
        match self.distinct_instance && slot.groups.contains_key(group) {
            true => Err(Refusal::DistinctInstance { group: group.into() }),
            false => Ok(()),
        }
    }
}

/// The expressions that calls used lately, read: whoever runs a task a second does not have its patterns compiled each time.
/// Volatile.
#[derive(Clone, Debug, Default)]
pub(crate) struct Expressions {
    known: BTreeMap<Arc<str>, Arc<MemberOf>>,
}

impl Expressions {
    fn read(&mut self, expression: &str) -> Result<Arc<MemberOf>, QueryError> {
        if let Some(known) = self.known.get(expression) {
            return Ok(known.clone());
        }
        let read = Arc::new(MemberOf::read(expression)?);
        if self.known.len() >= limits::REMEMBERED_EXPRESSIONS {
            self.known.clear();
        }
        self.known.insert(read.expression.clone(), read.clone());
        Ok(read)
    }
}

impl Constraints {
    /// Those of a definition and those that a request adds, at most ten together.
    ///
    /// # Errors
    /// `InvalidParameterException` that names the item and what is wrong with it.
    pub(crate) fn read(
        expressions: &mut Expressions,
        of_definition: &[Arc<MemberOf>],
        given: &[PlacementConstraint],
    ) -> Result<Self, ApiError> {
        let all = of_definition.len() + given.len();
        if all > limits::PLACEMENT_CONSTRAINTS {
            return Err(ApiError::invalid_parameter(format!(
                "placementConstraints can have at most {} items, those of the task definition included; there are {all}.",
                limits::PLACEMENT_CONSTRAINTS
            )));
        }
        let mut constraints = Self { member_of: of_definition.to_vec(), distinct_instance: false };
        for (at, item) in given.iter().enumerate() {
            let refuse =
                |why: String| Err(ApiError::invalid_parameter(format!("Invalid placementConstraints[{at}]: {why}")));
            let expression = item.expression.as_deref().unwrap_or_default();
            match item.r#type {
                None => return refuse("it has no type; use distinctInstance or memberOf.".to_owned()),
                Some(PlacementConstraintType::DistinctInstance) if !expression.is_empty() => {
                    return refuse("distinctInstance takes no expression.".to_owned());
                }
                Some(PlacementConstraintType::DistinctInstance) => constraints.distinct_instance = true,
                Some(PlacementConstraintType::MemberOf) => match expressions.read(expression) {
                    Ok(member_of) => constraints.member_of.push(member_of),
                    Err(error) => return refuse(format!("the expression '{expression}' is not valid: {error}.")),
                },
            }
        }
        Ok(constraints)
    }
}

impl Facts for Slot {
    fn attribute(&self, name: &str) -> Option<Option<&str>> {
        self.instance.attributes.get(name).map(|value| value.as_deref())
    }

    fn agent_connected(&self) -> bool {
        self.connected
    }

    fn agent_version(&self) -> Option<&str> {
        self.instance.version_info.as_ref()?.agent_version.as_deref()
    }

    fn ec2_instance_id(&self) -> Option<&str> {
        self.instance.ec2_instance_id.as_deref()
    }

    fn registered_at(&self) -> Timestamp {
        self.instance.registered_at
    }

    fn running_tasks(&self) -> u32 {
        self.running
    }

    fn any_task_group(&self, passes: &mut dyn FnMut(&str) -> bool) -> bool {
        self.groups.keys().any(|group| passes(group))
    }
}
