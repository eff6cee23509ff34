//! GPUs of this machine: whether tasks get them, and how.

use std::path::PathBuf;

use super::ConfigError;
use super::source::Source;
use crate::engine::GpuAccess;

/// Where the official tooling writes down which GPUs a machine has.
const INFO_FILE: &str = "/var/lib/ecs/gpu/nvidia-gpu-info.json";

/// What is done about GPUs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GpuConfig {
    /// `ECS_ENABLE_GPU_SUPPORT`: register them, and give them to tasks.
    pub enabled: bool,
    /// How containers see theirs.
    pub access: GpuAccess,
    /// `LONGSHORE_GPU_INFO_FILE`: which there are. Without that file the driver's own tool is asked.
    pub info_file: PathBuf,
}

impl GpuConfig {
    /// `external`: whether the machine is one that is not Amazon's, where the official agent asks Docker itself for devices.
    pub(super) fn read(source: &mut Source, external: bool) -> Result<Self, ConfigError> {
        let runtime = source.text("ECS_NVIDIA_RUNTIME").unwrap_or_else(|| "nvidia".to_owned());
        Ok(Self {
            enabled: source.boolean("ECS_ENABLE_GPU_SUPPORT", false)?,
            access: if external { GpuAccess::Requests } else { GpuAccess::Runtime(runtime) },
            info_file: source.parsed("LONGSHORE_GPU_INFO_FILE", PathBuf::from(INFO_FILE), |text| {
                let path = PathBuf::from(text);
                if path.is_absolute() { Ok(path) } else { Err("an absolute path".to_owned()) }
            })?,
        })
    }
}
