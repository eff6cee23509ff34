//! The GPUs of this machine, found out once: from the file in which the official tooling writes them down, or else from the
//! driver's own tool.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde::Deserialize;
use thiserror::Error;
use tokio::process::Command;
use tokio::time::timeout;
use tracing::warn;

use crate::config::GpuConfig;

/// The tool of the driver.
const TOOL: &str = "nvidia-smi";
/// It wakes every GPU that sleeps, which takes seconds; one that takes longer hangs in the driver.
const TOOL_LIMIT: Duration = Duration::from_secs(60);

/// The GPUs that tasks can have.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Gpus {
    /// The driver's version, where it is known.
    #[serde(rename = "DriverVersion", default, deserialize_with = "nonempty")]
    pub(crate) driver: Option<String>,
    /// `GPU-…`, each once.
    #[serde(rename = "GPUIDs", default)]
    pub(crate) ids: Vec<String>,
}

/// GPUs are to be had, and which there are cannot be found out. An instance without would take none of the tasks that it is for,
/// and tell nobody why.
#[derive(Debug, Error)]
pub enum GpuError {
    /// The file cannot be read.
    #[error("cannot read {path}, which says which GPUs there are", path = path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file says something else.
    #[error(
        "{path} does not say which GPUs there are; it must be {{\"DriverVersion\":\"…\",\"GPUIDs\":[\"GPU-…\"]}}",
        path = path.display()
    )]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// The driver's tool failed.
    #[error("{TOOL} does not say which GPUs there are (ECS_ENABLE_GPU_SUPPORT is true): {why}")]
    Tool {
        /// Why.
        why: String,
    },
}

impl Gpus {
    /// Those there are, if tasks are to have any.
    pub(crate) async fn find(config: &GpuConfig) -> Result<Self, GpuError> {
        if !config.enabled {
            return Ok(Self::default());
        }
        let found = match from_file(&config.info_file)? {
            Some(found) => Some(found),
            None => from_tool(TOOL).await?,
        };
        Ok(found.unwrap_or_else(|| {
            warn!(
                file = %config.info_file.display(),
                "ECS_ENABLE_GPU_SUPPORT is true, but there is neither this file nor {TOOL}: no GPUs are offered"
            );
            Self::default()
        }))
    }

    fn each_once(mut self) -> Self {
        let mut seen = BTreeSet::new();
        self.ids.retain(|id| !id.is_empty() && seen.insert(id.clone()));
        self
    }
}

fn nonempty<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Ok(Option::<String>::deserialize(deserializer)?.filter(|text| !text.is_empty()))
}

fn from_file(path: &Path) -> Result<Option<Gpus>, GpuError> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(GpuError::Unreadable { path: path.to_owned(), source }),
    };
    match serde_json::from_str::<Gpus>(&text) {
        Ok(found) => Ok(Some(found.each_once())),
        Err(source) => Err(GpuError::Malformed { path: path.to_owned(), source }),
    }
}

async fn from_tool(tool: &str) -> Result<Option<Gpus>, GpuError> {
    let failed = |why: String| GpuError::Tool { why };
    let mut command = Command::new(tool);
    command.args(["--query-gpu=uuid,driver_version", "--format=csv,noheader"]);
    let asked = command.stdin(Stdio::null()).kill_on_drop(true).output();
    let output = match timeout(TOOL_LIMIT, asked).await {
        Ok(Ok(output)) => output,
        Ok(Err(error)) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Ok(Err(error)) => return Err(failed(error.to_string())),
        Err(_) => return Err(failed(format!("no answer within {} s", TOOL_LIMIT.as_secs()))),
    };
    if !output.status.success() {
        let said = [output.stdout, output.stderr].concat();
        return Err(failed(format!("{}: {}", output.status, String::from_utf8_lossy(&said).trim())));
    }
    Ok(Some(listed(&String::from_utf8_lossy(&output.stdout))))
}

/// `GPU-…, 535.104.05`, one per line.
fn listed(text: &str) -> Gpus {
    let mut found = Gpus::default();
    for (id, driver) in text.lines().filter_map(|line| line.split_once(',')) {
        found.ids.push(id.trim().to_owned());
        found.driver = Some(driver.trim().to_owned()).filter(|driver| !driver.is_empty());
    }
    found.each_once()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_file_says_which_there_are() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("info.json");
        assert_eq!(from_file(&path).unwrap(), None);
        std::fs::write(&path, r#"{"DriverVersion":"535.1","GPUIDs":["GPU-1","GPU-2","GPU-1",""],"Other":1}"#).unwrap();
        let both = Gpus { driver: Some("535.1".into()), ids: vec!["GPU-1".into(), "GPU-2".into()] };
        assert_eq!(from_file(&path).unwrap(), Some(both));
        std::fs::write(&path, r#"{"DriverVersion":"","GPUIDs":[]}"#).unwrap();
        assert_eq!(from_file(&path).unwrap(), Some(Gpus::default()));
        std::fs::write(&path, r#"{"GPUIDs":7}"#).unwrap();
        assert!(matches!(from_file(&path), Err(GpuError::Malformed { .. })));
    }

    #[tokio::test]
    async fn without_the_file_the_tool_is_asked() {
        let folder = tempfile::tempdir().unwrap();
        let tool = folder.path().join("smi");
        let name = tool.to_str().unwrap();
        assert_eq!(from_tool(name).await.unwrap(), None);
        let script = |text: &str| {
            std::fs::write(&tool, format!("#!/bin/sh\n{text}\n")).unwrap();
            std::fs::set_permissions(&tool, std::fs::Permissions::from_mode(0o755)).unwrap();
        };
        script("test $1 = --query-gpu=uuid,driver_version && printf 'GPU-a, 535.1\\nGPU-b, 535.1\\n'");
        let both = Gpus { driver: Some("535.1".into()), ids: vec!["GPU-a".into(), "GPU-b".into()] };
        assert_eq!(from_tool(name).await.unwrap(), Some(both));
        script("echo no driver; exit 9");
        let why = from_tool(name).await.unwrap_err().to_string();
        assert!(why.contains("no driver"), "{why}");
    }

    #[tokio::test]
    async fn who_asks_for_none_is_not_looked_at() {
        let folder = tempfile::tempdir().unwrap();
        let info_file = folder.path().join("info.json");
        std::fs::write(&info_file, "nonsense").unwrap();
        let access = crate::engine::GpuAccess::Requests;
        let config = |enabled| GpuConfig { enabled, access: access.clone(), info_file: info_file.clone() };
        assert_eq!(Gpus::find(&config(false)).await.unwrap(), Gpus::default());
        assert!(Gpus::find(&config(true)).await.is_err());
    }
}
