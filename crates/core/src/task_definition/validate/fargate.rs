//! What definitions for Fargate must look like: `awsvpc`, and one of the sizes that Fargate has.

use longshore_api::ApiError;
use longshore_api::ecs::types::{Compatibility, NetworkMode, RegisterTaskDefinitionRequest};

use super::Task;
use crate::resources::{CpuUnits, MemoryMib};

pub(super) fn check(request: &RegisterTaskDefinitionRequest, task: &Task) -> Result<(), ApiError> {
    let wanted = request.requires_compatibilities.as_deref().unwrap_or_default();
    if !wanted.contains(&Compatibility::Fargate) {
        return Ok(());
    }
    if task.mode != NetworkMode::Awsvpc {
        return Err(ApiError::client(
            "Fargate only supports network mode ‘awsvpc’. Correct 'networkMode' or 'requiresCompatibilities'.",
        ));
    }
    let Some(cpu) = task.cpu else {
        return Err(ApiError::client("Fargate requires that 'cpu' be defined at the task level."));
    };
    let Some(memory) = task.memory else {
        return Err(ApiError::client("Fargate requires that 'memory' be defined at the task level."));
    };
    if is_size(cpu, memory) {
        Ok(())
    } else {
        Err(ApiError::client(format!(
            "No Fargate configuration exists for given values. 'cpu' {cpu} does not go with 'memory' {memory}."
        )))
    }
}

/// The documented table of task sizes.
fn is_size(cpu: CpuUnits, memory: MemoryMib) -> bool {
    const GB: u32 = 1024;
    let (low, high, step) = match cpu.0 {
        256 => return [512, GB, 2 * GB].contains(&memory.0),
        512 => (1, 4, 1),
        1024 => (2, 8, 1),
        2048 => (4, 16, 1),
        4096 => (8, 30, 1),
        8192 => (16, 60, 4),
        16384 => (32, 120, 8),
        _ => return false,
    };
    (low * GB..=high * GB).contains(&memory.0) && (memory.0 - low * GB).is_multiple_of(step * GB)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (cpu, memory, there) in [
            (256, 512, true),
            (256, 1024, true),
            (256, 1536, false),
            (256, 2048, true),
            (512, 512, false),
            (512, 4096, true),
            (1024, 1024, false),
            (2048, 16_384, true),
            (4096, 30_720, true),
            (4096, 31_744, false),
            (8192, 20_480, true),
            (8192, 18_432, false),
            (16_384, 122_880, true),
            (300, 1024, false),
        ] {
            assert_eq!(is_size(CpuUnits(cpu), MemoryMib(memory)), there, "{cpu} {memory}");
        }
    }
}
