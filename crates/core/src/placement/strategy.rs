//! Placement strategies: which of the instances that can take a task gets it.

use std::sync::Arc;

use longshore_api::ApiError;
use longshore_api::ecs::types::{PlacementStrategy, PlacementStrategyType};

use crate::attributes;

/// What is compared, in the order given: a later step decides among those that are equal for all before it. What is equal for
/// all of them is drawn at random, or, where tasks are packed, is the next one in order.
///
/// `random` makes everything that follows it meaningless, and is what comes last anyway: a strategy ends before it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Strategy {
    steps: Vec<Step>,
}

/// One comparison. Less is better.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// How many tasks of the group run where the field has the same value.
    Spread(Field),
    /// How much of a resource is left.
    Binpack(Resource),
}

/// What tasks are spread over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Field {
    /// `instanceId`, or `host`, which is another word for it.
    Instance,
    /// `attribute:<name>`. Instances without it, or without a value, are one place together.
    Attribute(Arc<str>),
}

/// What tasks are packed by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Resource {
    /// CPU units.
    #[default]
    Cpu,
    /// Memory.
    Memory,
}

impl Strategy {
    /// Reads what a request says: at most five items, by its shape.
    ///
    /// # Errors
    /// `InvalidParameterException` that names the item and what it may be.
    pub(crate) fn read(given: &[PlacementStrategy]) -> Result<Self, ApiError> {
        let steps = given.iter().enumerate().map(|(at, item)| Step::read(at, item));
        let steps = steps.collect::<Result<Vec<Option<Step>>, ApiError>>()?;
        Ok(Self { steps: steps.into_iter().map_while(|step| step).collect() })
    }

    /// The comparisons.
    pub(crate) fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// Whether every instance is as good as the other.
    pub(crate) fn is_random(&self) -> bool {
        self.steps.is_empty()
    }

    /// The attributes that tasks are spread over, each once, in the order of their mention.
    pub(crate) fn attributes(&self) -> Vec<Arc<str>> {
        let mut names = Vec::new();
        for step in &self.steps {
            if let Step::Spread(Field::Attribute(name)) = step
                && !names.contains(name)
            {
                names.push(name.clone());
            }
        }
        names
    }

    /// Whether tasks are spread over instances.
    pub(crate) fn spreads_over_instances(&self) -> bool {
        self.steps.contains(&Step::Spread(Field::Instance))
    }

    /// The resource that tasks are packed by first.
    pub(crate) fn packs(&self) -> Option<Resource> {
        self.steps.iter().find_map(|step| match step {
            Step::Binpack(resource) => Some(*resource),
            Step::Spread(_) => None,
        })
    }
}

impl Step {
    /// The step of an item; none for `random`.
    fn read(at: usize, item: &PlacementStrategy) -> Result<Option<Self>, ApiError> {
        let refuse = |why: String| Err(ApiError::invalid_parameter(format!("Invalid placementStrategy[{at}]: {why}")));
        let field = item.field.as_deref().unwrap_or_default();
        match item.r#type {
            None => refuse("it has no type; use random, spread or binpack.".to_owned()),
            Some(PlacementStrategyType::Random) => Ok(None),
            Some(PlacementStrategyType::Spread) => match Field::read(field) {
                Some(field) => Ok(Some(Self::Spread(field))),
                None => refuse(format!("spread takes the field instanceId, host or attribute:<name>, not '{field}'.")),
            },
            Some(PlacementStrategyType::Binpack) => match Resource::read(field) {
                Some(resource) => Ok(Some(Self::Binpack(resource))),
                None => refuse(format!("binpack takes the field cpu or memory, not '{field}'.")),
            },
        }
    }
}

impl Field {
    fn read(field: &str) -> Option<Self> {
        match field {
            "instanceId" | "host" => Some(Self::Instance),
            _ => {
                let name = field.strip_prefix("attribute:").filter(|name| attributes::is_name(name))?;
                Some(Self::Attribute(name.into()))
            }
        }
    }
}

impl Resource {
    /// ECS answers these in capitals, and takes both.
    fn read(field: &str) -> Option<Self> {
        match field {
            "cpu" | "CPU" => Some(Self::Cpu),
            "memory" | "MEMORY" => Some(Self::Memory),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use longshore_api::ecs::Operation;
    use longshore_api::ecs::Request;
    use serde_json::{Value, json};

    use super::*;

    fn read(items: &Value) -> Result<Strategy, String> {
        let request =
            crate::fixture::request(Operation::RunTask, &json!({"taskDefinition": "web", "placementStrategy": items}));
        let Request::RunTask(request) = request else { panic!("another request") };
        Strategy::read(request.placement_strategy.as_deref().unwrap_or_default()).map_err(|error| error.message)
    }

    #[test]
    fn what_ecs_documents_is_read_and_ends_at_random() {
        let strategy = read(&json!([
            {"type": "spread", "field": "attribute:ecs.availability-zone"},
            {"type": "spread", "field": "host"},
            {"type": "binpack", "field": "MEMORY"},
            {"type": "random"},
            {"type": "binpack", "field": "cpu"},
        ]));
        let zone = Field::Attribute("ecs.availability-zone".into());
        let steps = vec![Step::Spread(zone), Step::Spread(Field::Instance), Step::Binpack(Resource::Memory)];
        assert_eq!(strategy, Ok(Strategy { steps }));
        assert!(read(&json!([{"type": "random", "field": "cpu"}])).expect("good").is_random());
    }

    #[test]
    fn anything_else_is_refused_with_its_place() {
        for (items, part) in [
            (json!([{"type": "spread"}]), "placementStrategy[0]: spread takes"),
            (json!([{"type": "random"}, {"type": "binpack", "field": "disk"}]), "placementStrategy[1]: binpack takes"),
            (json!([{"type": "spread", "field": "attribute:"}]), "not 'attribute:'"),
            (json!([{"type": "spread", "field": "cpu"}]), "not 'cpu'"),
            (json!([{"field": "cpu"}]), "no type"),
        ] {
            let refused = read(&items).expect_err("refused");
            assert!(refused.contains(part), "{items}: {refused}");
        }
    }
}
