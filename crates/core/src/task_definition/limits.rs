//! Limits of task definitions, each with the quota it mirrors.

/// Characters of a family, a container name and a link. ECS's quota.
pub(crate) const NAME: usize = 255;
/// Characters of an image reference, or of what stands before its digest. ECS's quota.
pub(crate) const IMAGE: usize = 255;
/// Containers of a definition. ECS's quota.
pub(crate) const CONTAINERS: usize = 10;
/// Bytes of a definition. ECS's quota; it also bounds every list and string that has no limit of its own.
pub(crate) const DEFINITION_BYTES: usize = 64 * 1024;
/// Characters of all overrides of a task, including their JSON. ECS's quota.
pub(crate) const OVERRIDES: usize = 8192;
/// Environment files of a container. ECS's quota.
pub(crate) const ENVIRONMENT_FILES: usize = 10;
/// MiB that the Docker Engine reserves for a container at least (20.10 and later).
pub(crate) const MIN_MEMORY_MIB: i32 = 6;
/// CPU units of a task: 0.125 to 192 vCPUs.
pub(crate) const TASK_CPU: std::ops::RangeInclusive<u32> = 128..=196_608;
/// CPU units of a task that agents without `ecs.capability.increased-task-cpu-limit` can grant.
pub(crate) const BASIC_TASK_CPU: u32 = 10 * 1024;
/// Characters of the name of a port mapping. ECS's quota.
pub(crate) const PORT_NAME: usize = 64;
/// Port ranges of a container. ECS's quota.
pub(crate) const PORT_RANGES: usize = 100;
/// Exit codes that a restart policy may ignore. ECS's quota.
pub(crate) const IGNORED_EXIT_CODES: usize = 50;
/// Seconds between restarts in place, and what ECS assumes when nothing is said.
pub(crate) const RESTART_PERIOD_S: std::ops::RangeInclusive<i32> = 60..=1800;
/// Seconds that a container must have run to be restarted, unless its policy says otherwise. ECS's default.
pub(crate) const DEFAULT_RESTART_PERIOD_S: i32 = 300;
/// Seconds that Fargate waits for a container to start or to stop. ECS's quota.
pub(crate) const FARGATE_TIMEOUT_S: std::ops::RangeInclusive<i32> = 2..=120;
