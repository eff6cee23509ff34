//! The room on the disks of Docker and the agent: before it runs out, pulls stop and clean-up begins.
//!
//! A full disk takes down everything on a machine at once: containers that write, Docker's own state, the agent's. What fills
//! it is images, and those can be refused: the task then fails with a reason, and its like is placed elsewhere. Two lines are
//! drawn. Below the first one unused images go sooner than they would; below the second nothing is pulled any more.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use longshore_client::now;
use rustix::fs::statvfs;
use tokio::sync::{Notify, watch};
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use crate::session::tcs::{RuntimeHealth, RuntimeStatus};

/// Left free unless somebody says otherwise …
const USUAL_MIN_FREE_MIB: u64 = 1024;
/// … but of a small disk at most this part: what is left must still be of use.
const AT_MOST_ONE_IN: u64 = 10;
/// Unused images go once less than so many times the least is free.
const SCARCE_FACTOR: u64 = 2;
/// A fast pull fills some hundred megabytes a second.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// While nothing is pulled only containers fill the disk.
const WATCH_EVERY: Duration = Duration::from_secs(5);

/// Too little is free.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DiskPressure {
    path: PathBuf,
    free_mib: u64,
    least_mib: u64,
}

impl fmt::Display for DiskPressure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, free_mib, least_mib } = self;
        write!(
            f,
            "disk pressure: {free_mib} MiB are free on the disk of {}, and pulls leave {least_mib} MiB \
             (LONGSHORE_DISK_MIN_FREE)",
            path.display()
        )
    }
}

/// How much room there is, in the order of how little.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Room {
    #[default]
    Enough,
    /// Unused images should go.
    Scarce,
    /// Nothing may be pulled.
    Out(DiskPressure),
}

/// How large a file system is, and how much of it is free.
#[derive(Clone, Copy, Debug)]
struct Disk {
    mib: u64,
    free_mib: u64,
}

/// Asks the file system that has this path. It may take as long as a file system of the network does.
type Gauge = dyn Fn(&Path) -> Option<Disk> + Send + Sync;

fn gauge(path: &Path) -> Option<Disk> {
    let found = statvfs(path).ok()?;
    let mib = |blocks: u64| blocks.saturating_mul(found.f_frsize) >> 20;
    Some(Disk { mib: mib(found.f_blocks), free_mib: mib(found.f_bavail) })
}

/// Watches over these disks.
pub(crate) struct DiskGuard {
    paths: Arc<[PathBuf]>,
    min_free_mib: Option<u64>,
    gauge: Arc<Gauge>,
    room: watch::Sender<Room>,
    /// How much is under way that fills the disks.
    filling: watch::Sender<usize>,
    /// Rung whenever unused images should go.
    clean: Notify,
}

/// Something that fills the disks, until dropped.
struct Filling<'a>(&'a watch::Sender<usize>);

impl Drop for Filling<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|filling| *filling -= 1);
    }
}

impl DiskGuard {
    /// Of the file systems with these paths; one that cannot be asked (Docker may be on another machine) is left out.
    pub(crate) fn new(paths: Vec<PathBuf>, min_free_mib: Option<u64>) -> Self {
        Self {
            paths: paths.into(),
            min_free_mib,
            gauge: Arc::new(gauge),
            room: watch::channel(Room::Enough).0,
            filling: watch::channel(0).0,
            clean: Notify::new(),
        }
    }

    /// Rung by [`Self::look`] as long as there is little room.
    pub(crate) async fn wants_cleaning(&self) {
        self.clean.notified().await;
    }

    /// As if there were little room.
    #[cfg(test)]
    pub(crate) fn ring(&self) {
        self.clean.notify_one();
    }

    /// Finds out how much room there is now. A file system that does not answer holds up this look, and nothing else.
    async fn look(&self) {
        let (paths, min_free_mib, gauge) = (self.paths.clone(), self.min_free_mib, self.gauge.clone());
        let Ok(room) = spawn_blocking(move || room(&paths, min_free_mib, &*gauge)).await else { return };
        if room != Room::Enough {
            self.clean.notify_one();
        }
        // How much exactly is free changes all the time, and is no news.
        self.room.send_if_modified(|known| {
            let changed = std::mem::discriminant(known) != std::mem::discriminant(&room);
            *known = room;
            changed
        });
    }

    /// Looks until dropped: one look for all, more often while something fills the disks.
    async fn keep_looking(&self) {
        loop {
            self.look().await;
            let mut filling = self.filling.subscribe();
            if *filling.borrow_and_update() > 0 {
                sleep(LOOK_EVERY).await;
            } else {
                let _ = timeout(WATCH_EVERY, filling.wait_for(|filling| *filling > 0)).await;
            }
        }
    }

    /// Waits until nothing may be pulled.
    async fn out_of_room(&self) -> DiskPressure {
        let mut room = self.room.subscribe();
        loop {
            if let Room::Out(pressure) = &*room.borrow_and_update() {
                return pressure.clone();
            }
            // Its sender is ours.
            let _ = room.changed().await;
        }
    }

    /// Does what fills the disk, as long as there is room for it, which [`Self::watch`] looks after. Dropping a pull ends it.
    pub(crate) async fn guarding<T>(&self, filling: impl Future<Output = T>) -> Result<T, DiskPressure> {
        self.filling.send_modify(|filling| *filling += 1);
        let _filling = Filling(&self.filling);
        tokio::select! {
            biased;
            pressure = self.out_of_room() => Err(pressure),
            done = filling => Ok(done),
        }
    }

    /// Looks until dropped, and tells `told` how the runtime is: as `docker` has it, and impaired without room.
    pub(crate) async fn watch(&self, mut docker: watch::Receiver<RuntimeHealth>, told: watch::Sender<RuntimeHealth>) {
        let mut room = self.room.subscribe();
        let looks = self.keep_looking();
        tokio::pin!(looks);
        loop {
            tokio::select! {
                () = &mut looks => return,
                _ = room.changed() => match &*room.borrow_and_update() {
                    Room::Out(pressure) => warn!("{pressure}: nothing is pulled until there is room"),
                    Room::Scarce => info!("little room is left on the disk: unused images go sooner"),
                    Room::Enough => info!("there is room on the disk again"),
                },
                changed = docker.changed() => if changed.is_err() {
                    // Its watcher is gone, and so is the agent.
                    return std::future::pending().await;
                },
            }
            tell(&told, docker.borrow_and_update().clone(), &room.borrow());
        }
    }
}

impl fmt::Debug for DiskGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DiskGuard").field("paths", &self.paths).field("room", &self.room).finish_non_exhaustive()
    }
}

/// The room on the disk that has least.
fn room(paths: &[PathBuf], min_free_mib: Option<u64>, gauge: &Gauge) -> Room {
    let mut room = Room::Enough;
    for path in paths {
        let Some(disk) = gauge(path) else { continue };
        let usual = USUAL_MIN_FREE_MIB.min(disk.mib / AT_MOST_ONE_IN);
        match judge(disk.free_mib, min_free_mib.unwrap_or(usual)) {
            Verdict::Enough => {}
            Verdict::Scarce => room = Room::Scarce,
            Verdict::Out { free_mib, least_mib } => {
                return Room::Out(DiskPressure { path: path.clone(), free_mib, least_mib });
            }
        }
    }
    room
}

/// Docker that is away is the greater trouble.
fn tell(told: &watch::Sender<RuntimeHealth>, docker: RuntimeHealth, room: &Room) {
    let health = match (docker.status, room) {
        (RuntimeStatus::Ok, Room::Out(pressure)) => {
            RuntimeHealth { status: RuntimeStatus::Impaired, since: now(), reason: Some(pressure.to_string()) }
        }
        _ => docker,
    };
    told.send_if_modified(|known| {
        let changed = known.status != health.status || known.reason.is_some() != health.reason.is_some();
        if changed {
            *known = health;
        }
        changed
    });
}

enum Verdict {
    Enough,
    Scarce,
    Out { free_mib: u64, least_mib: u64 },
}

fn judge(free_mib: u64, least_mib: u64) -> Verdict {
    if free_mib < least_mib {
        Verdict::Out { free_mib, least_mib }
    } else if free_mib < least_mib.saturating_mul(SCARCE_FACTOR) {
        Verdict::Scarce
    } else {
        Verdict::Enough
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    /// What is free in the folder for temporary files.
    fn free_mib() -> u64 {
        gauge(Path::new("/tmp")).unwrap().free_mib
    }

    /// A guard that is on watch, over a Docker that is well.
    fn on_watch(guard: DiskGuard) -> (Arc<DiskGuard>, tokio::task::JoinHandle<()>) {
        let (guard, ok) = (Arc::new(guard), RuntimeHealth { status: RuntimeStatus::Ok, since: now(), reason: None });
        let (docker, docker_health) = watch::channel(ok.clone());
        let watcher = guard.clone();
        let watching = tokio::spawn(async move {
            let _docker = docker;
            watcher.watch(docker_health, watch::channel(ok).0).await;
        });
        (guard, watching)
    }

    fn guard(min_free_mib: Option<u64>) -> DiskGuard {
        DiskGuard::new(vec!["/nonexistent".into(), "/tmp".into()], min_free_mib)
    }

    #[tokio::test]
    async fn what_fills_a_disk_without_room_is_refused_with_the_figures() {
        let (full, watching) = on_watch(guard(Some(free_mib() + 1_000_000)));
        let refused = full.guarding(pending::<()>()).await.unwrap_err().to_string();
        assert!(refused.contains("on the disk of /tmp") && refused.contains("LONGSHORE_DISK_MIN_FREE"), "{refused}");
        // Somebody is told to clean up.
        full.wants_cleaning().await;
        watching.abort();
        assert_eq!(guard(Some(0)).guarding(async { 7 }).await, Ok(7));
    }

    #[tokio::test]
    async fn a_file_system_that_does_not_answer_holds_up_one_look_and_no_pull() {
        let (answer, answers) = std::sync::mpsc::channel::<()>();
        let looks = Arc::new(std::sync::Mutex::new((answers, 0)));
        let counted = looks.clone();
        let hangs = move |_: &Path| {
            let mut looks = counted.lock().unwrap();
            looks.1 += 1;
            let _ = looks.0.recv();
            None
        };
        let guard = DiskGuard { gauge: Arc::new(hangs), ..DiskGuard::new(vec!["/nfs".into()], None) };
        let (guard, watching) = on_watch(guard);
        let pulls = (0..100).map(|pull| {
            let guard = guard.clone();
            tokio::spawn(async move { guard.guarding(sleep(Duration::from_millis(20))).await.map(|()| pull) })
        });
        for (number, pull) in pulls.collect::<Vec<_>>().into_iter().enumerate() {
            assert_eq!(pull.await.unwrap(), Ok(number));
        }
        watching.abort();
        drop(answer);
        assert_eq!(looks.lock().unwrap().1, 1);
    }

    #[test]
    fn two_lines_are_drawn() {
        let word = |free, least| match judge(free, least) {
            Verdict::Enough => "enough",
            Verdict::Scarce => "scarce",
            Verdict::Out { .. } => "out",
        };
        assert_eq!(
            [word(2048, 1024), word(2047, 1024), word(1024, 1024), word(1023, 1024)],
            ["enough", "scarce", "scarce", "out"]
        );
        assert_eq!(word(0, 0), "enough", "nothing is guarded");
    }

    #[tokio::test]
    async fn a_runtime_without_room_is_impaired_and_one_that_is_away_even_more() {
        let health = |status| RuntimeHealth { status, since: now(), reason: None };
        let (docker, docker_health) = watch::channel(health(RuntimeStatus::Initializing));
        let (told, mut heard) = watch::channel(health(RuntimeStatus::Initializing));
        let full = guard(Some(free_mib() + 1_000_000));
        let watching = tokio::spawn(async move { full.watch(docker_health, told).await });
        docker.send_replace(health(RuntimeStatus::Ok));
        let impaired = |health: &RuntimeHealth| health.status == RuntimeStatus::Impaired;
        let reason = heard.wait_for(impaired).await.unwrap().reason.clone();
        assert!(reason.unwrap().starts_with("disk pressure: "));
        let away = RuntimeHealth { reason: Some("gone".into()), ..health(RuntimeStatus::Initializing) };
        docker.send_replace(away);
        heard.wait_for(|health| health.reason.as_deref() == Some("gone")).await.unwrap();
        watching.abort();
    }

    #[tokio::test]
    async fn with_room_the_runtime_is_as_docker_is() {
        let ok = RuntimeHealth { status: RuntimeStatus::Ok, since: now(), reason: None };
        let (docker, docker_health) =
            watch::channel(RuntimeHealth { status: RuntimeStatus::Initializing, ..ok.clone() });
        let (told, mut heard) = watch::channel(RuntimeHealth { status: RuntimeStatus::Initializing, ..ok.clone() });
        let watching = tokio::spawn(async move { guard(Some(0)).watch(docker_health, told).await });
        docker.send_replace(ok);
        heard.wait_for(|health| health.status == RuntimeStatus::Ok).await.unwrap();
        watching.abort();
    }
}
