//! Which instances an expression of the cluster query language means.

use longshore_api::{ApiError, Timestamp};

use crate::entity::{Instance, Task};
use crate::query::{Facts, Query};
use crate::read::{ReadModel, Usage};
use crate::task::status::{DesiredStatus, TaskStatus};

/// The filter of a listing, compiled; none when nothing is written.
///
/// # Errors
/// `InvalidParameterException` that says what is wrong, and where.
pub(crate) fn compile(filter: Option<&str>) -> Result<Option<Query>, ApiError> {
    let Some(filter) = filter.filter(|filter| !filter.trim().is_empty()) else { return Ok(None) };
    let query = filter.parse().map_err(|error| ApiError::invalid_parameter(format!("Invalid filter: {error}.")))?;
    Ok(Some(query))
}

/// An instance as a snapshot knows it.
pub(crate) struct Candidate<'a> {
    view: &'a ReadModel,
    instance: &'a Instance,
    usage: Option<&'a Usage>,
    /// Whether a task of the instance belongs to its group.
    belongs: fn(&Task) -> bool,
}

impl<'a> Candidate<'a> {
    pub(crate) fn new(view: &'a ReadModel, instance: &'a Instance) -> Self {
        let belongs = |task: &Task| task.last_status() != TaskStatus::Stopped;
        Self { view, instance, usage: view.usage.get(&instance.key), belongs }
    }

    /// The same for placement, which looks at what is wanted: a task that is to stop belongs to no group any more.
    pub(crate) fn for_placement(view: &'a ReadModel, instance: &'a Instance) -> Self {
        let belongs = |task: &Task| task.desired_status() == DesiredStatus::Running;
        Self { belongs, ..Self::new(view, instance) }
    }
}

impl Facts for Candidate<'_> {
    fn attribute(&self, name: &str) -> Option<Option<&str>> {
        self.instance.attributes.get(name).map(|value| value.as_deref())
    }

    fn agent_connected(&self) -> bool {
        self.usage.is_some_and(|usage| usage.connected)
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
        self.usage.map_or(0, |usage| usage.running)
    }

    fn any_task_group(&self, passes: &mut dyn FnMut(&str) -> bool) -> bool {
        let tasks = self.view.task_index.held_on(self.instance.key).filter_map(|key| self.view.tasks.get(&key));
        let mut here = tasks.filter(|task| task.home() == Some(self.instance.key) && (self.belongs)(task));
        here.any(|task| passes(&task.group))
    }
}
