//! What the agent watches on its machine: the room on its disks, and whether the machine is about to go.

use std::path::PathBuf;
use std::time::Duration;

use super::ConfigError;
use super::source::Source;

/// How the room on the disks of Docker and the agent is guarded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskConfig {
    /// `LONGSHORE_DISK_MIN_FREE`: MiB that pulls leave free. Unset, what suits the disk; 0, nothing is guarded.
    pub min_free_mib: Option<u64>,
}

/// Where a notice appears that this machine will be taken away.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NoticeConfig {
    /// `LONGSHORE_TERMINATION_NOTICE_FILE`: it exists once there is a notice.
    pub file: Option<PathBuf>,
    /// `LONGSHORE_TERMINATION_NOTICE_HOOK`: a program that succeeds once there is a notice.
    pub hook: Option<PathBuf>,
    /// `LONGSHORE_TERMINATION_NOTICE_INTERVAL`: between looks.
    pub interval: Duration,
}

impl DiskConfig {
    pub(super) fn read(source: &mut Source) -> Result<Self, ConfigError> {
        let min_free_mib = source.parsed("LONGSHORE_DISK_MIN_FREE", None, |text| {
            let number = text.parse().ok().filter(|mib| *mib <= u64::from(u32::MAX));
            number.map(Some).ok_or_else(|| "MiB to leave free on the disk, or 0 to guard nothing".to_owned())
        })?;
        Ok(Self { min_free_mib })
    }
}

impl NoticeConfig {
    pub(super) fn read(source: &mut Source) -> Result<Self, ConfigError> {
        let path = |text: &str| match PathBuf::from(text) {
            path if path.is_absolute() => Ok(Some(path)),
            _ => Err("an absolute path".to_owned()),
        };
        Ok(Self {
            file: source.parsed("LONGSHORE_TERMINATION_NOTICE_FILE", None, path)?,
            hook: source.parsed("LONGSHORE_TERMINATION_NOTICE_HOOK", None, path)?,
            interval: source.duration("LONGSHORE_TERMINATION_NOTICE_INTERVAL", 5, 1)?,
        })
    }
}
