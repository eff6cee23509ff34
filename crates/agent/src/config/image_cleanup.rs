//! When images, and containers that are not ours, are removed to free disk space.

use std::time::Duration;

use super::ConfigError;
use super::source::{HOUR, MINUTE, Source};

/// Settings of the image cleaner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageCleanupConfig {
    /// `ECS_DISABLE_IMAGE_CLEANUP`: nothing is ever removed.
    pub disabled: bool,
    /// `ECS_IMAGE_CLEANUP_INTERVAL`: between two rounds.
    pub interval: Duration,
    /// `ECS_IMAGE_MINIMUM_CLEANUP_AGE`: since an image was last pulled or used by a task.
    pub minimum_age: Duration,
    /// `ECS_NUM_IMAGES_DELETE_PER_CYCLE`: images removed in one round at most.
    pub delete_per_cycle: u32,
    /// `ECS_ENABLE_UNTRACKED_IMAGE_CLEANUP`: also what no task brought here.
    pub untracked: bool,
    /// `NON_ECS_IMAGE_MINIMUM_CLEANUP_AGE`: the age of such an image. A stopped container goes as long after its end as a
    /// task's does, `ECS_ENGINE_TASK_CLEANUP_WAIT_DURATION`.
    pub non_ecs_minimum_age: Duration,
    /// `NONECS_NUM_CONTAINERS_DELETE_PER_CYCLE`: such containers removed in one round at most.
    pub non_ecs_containers_per_cycle: u32,
    /// `ECS_EXCLUDE_UNTRACKED_IMAGE`: names (`alpine:latest`) of images that are never removed as untracked.
    pub exclude: Vec<String>,
}

impl ImageCleanupConfig {
    pub(super) fn read(source: &mut Source) -> Result<Self, ConfigError> {
        let count = |source: &mut Source, name| source.integer(name, 5, 1, 10_000);
        Ok(Self {
            disabled: source.boolean("ECS_DISABLE_IMAGE_CLEANUP", false)?,
            interval: source.duration("ECS_IMAGE_CLEANUP_INTERVAL", 30 * MINUTE, 10 * MINUTE)?,
            minimum_age: source.duration("ECS_IMAGE_MINIMUM_CLEANUP_AGE", HOUR, MINUTE)?,
            delete_per_cycle: count(source, "ECS_NUM_IMAGES_DELETE_PER_CYCLE")? as u32,
            untracked: source.boolean("ECS_ENABLE_UNTRACKED_IMAGE_CLEANUP", false)?,
            non_ecs_minimum_age: source.duration("NON_ECS_IMAGE_MINIMUM_CLEANUP_AGE", HOUR, MINUTE)?,
            non_ecs_containers_per_cycle: count(source, "NONECS_NUM_CONTAINERS_DELETE_PER_CYCLE")? as u32,
            exclude: source.list("ECS_EXCLUDE_UNTRACKED_IMAGE"),
        })
    }
}
