//! Cgroups of this host: made for tasks, so that Docker puts all containers of a task below one limit.
//!
//! Docker decides what a cgroup is called: with its driver `cgroupfs` a path, in the hierarchies of the first version or in the
//! one of the second, which are written here; with its driver `systemd` the name of a slice, which systemd is asked for.

mod files;
mod systemd;

use std::io;
use std::path::{Path, PathBuf};

use tokio::sync::OnceCell;
use tokio::task::spawn_blocking;

use crate::engine::CgroupSpec;
use crate::engine::docker::{CgroupSetup, Docker};

/// Where all tasks are: `/ecs/<task id>`, as with the official agent.
const PARENT: &str = "ecs";
/// Name of the cgroup that is made and removed to see whether that works.
const PROBE: &str = "longshore-probe";

/// The cgroups of this host, which are looked for until they are found: what kept them out of reach once may pass, and there may
/// be some of tasks that an earlier agent started.
#[derive(Debug)]
pub(crate) struct CgroupKeeper {
    root: PathBuf,
    found: OnceCell<Cgroups>,
}

impl CgroupKeeper {
    /// Of the cgroups that the kernel shows there.
    pub(crate) fn new(root: PathBuf) -> Self {
        Self { root, found: OnceCell::new() }
    }

    /// How they are made; the error says why that is not known, or not possible.
    pub(crate) async fn ready(&self, docker: &impl Docker) -> Result<&Cgroups, String> {
        let look = || async {
            let setup = docker.cgroups().await.map_err(|error| error.to_string())?;
            Cgroups::find(&setup, &self.root).await
        };
        self.found.get_or_try_init(look).await
    }
}

/// How cgroups of tasks are made on this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Cgroups {
    /// One hierarchy for each controller, below this path.
    First(PathBuf),
    /// One hierarchy, at this path.
    Second(PathBuf),
    /// Slices of the second version's hierarchy, kept by systemd.
    Slices,
}

impl Cgroups {
    /// How they are made for an Engine that keeps its own like this; the error says why not at all.
    pub(crate) async fn find(setup: &CgroupSetup, root: &Path) -> Result<Self, String> {
        let found = match (setup.driver.as_str(), setup.version.as_str()) {
            ("cgroupfs", "1") => Self::First(root.to_owned()),
            ("cgroupfs", "2") => Self::Second(root.to_owned()),
            ("systemd", "2") => Self::Slices,
            (driver, version) => {
                return Err(format!(
                    "the Docker Engine keeps cgroups of version {version} with its driver {driver:?}: \
                     version 1 with cgroupfs, and version 2, are those that tasks can be bounded with"
                ));
            }
        };
        let probe = CgroupSpec {
            task_id: format!("{PROBE}-{}", std::process::id()),
            cpu_us_per_second: Some(1_000_000),
            cpu_shares: 2,
            memory_bytes: Some(64 << 20),
            pids: Some(16),
        };
        let made = found.make(&probe).await;
        let removed = found.remove(&probe.task_id).await;
        made.and(removed).map_err(|error| format!("a cgroup cannot be made and removed: {error}"))?;
        Ok(found)
    }

    /// Makes a task's cgroup, or sets its limits anew; the answer is what Docker calls it.
    pub(crate) async fn make(&self, spec: &CgroupSpec) -> io::Result<String> {
        match self {
            Self::First(root) => blocking(root, spec.clone(), |root, spec| files::make_first(root, &spec)).await?,
            Self::Second(root) => blocking(root, spec.clone(), |root, spec| files::make_second(root, &spec)).await?,
            Self::Slices => return systemd::make(spec).await,
        }
        Ok(format!("/{PARENT}/{}", spec.task_id))
    }

    /// Removes a task's cgroup, unless processes are left in it. One that is gone is fine.
    pub(crate) async fn remove(&self, task_id: &str) -> io::Result<()> {
        match self {
            Self::First(root) => blocking(root, task_id.to_owned(), |root, id| files::remove_first(root, &id)).await,
            Self::Second(root) => blocking(root, task_id.to_owned(), |root, id| files::remove_second(root, &id)).await,
            Self::Slices => systemd::remove(task_id).await,
        }
    }
}

/// The kernel may take long over a limit: it frees memory first.
async fn blocking<T: Send + 'static>(
    root: &Path,
    what: T,
    work: impl FnOnce(&Path, T) -> io::Result<()> + Send + 'static,
) -> io::Result<()> {
    let root = root.to_owned();
    spawn_blocking(move || work(&root, what)).await.map_err(io::Error::other)?
}
