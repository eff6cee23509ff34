//! The room on the disks of Docker and the agent: before it runs out, pulls stop and clean-up begins.
//!
//! A full disk takes down everything on a machine at once: containers that write, Docker's own state, the agent's. What fills
//! it is images, and those can be refused: the task then fails with a reason, and its like is placed elsewhere. Two lines are
//! drawn. Below the first one unused images go sooner than they would; below the second nothing is pulled any more.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use longshore_client::now;
use rustix::fs::statvfs;
use tokio::sync::{Notify, watch};
use tokio::time::{MissedTickBehavior, interval};
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

/// Watches over these disks.
#[derive(Debug)]
pub(crate) struct DiskGuard {
    paths: Vec<PathBuf>,
    min_free_mib: Option<u64>,
    room: watch::Sender<Room>,
    /// Rung whenever unused images should go.
    clean: Notify,
}

impl DiskGuard {
    /// Of the file systems with these paths; one that cannot be asked (Docker may be on another machine) is left out.
    pub(crate) fn new(paths: Vec<PathBuf>, min_free_mib: Option<u64>) -> Self {
        Self { paths, min_free_mib, room: watch::channel(Room::Enough).0, clean: Notify::new() }
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

    /// How much room there is now: that of the disk which has least.
    pub(crate) fn look(&self) -> Room {
        let mut room = Room::Enough;
        for path in &self.paths {
            let Ok(disk) = statvfs(path) else { continue };
            let mib = |blocks: u64| blocks.saturating_mul(disk.f_frsize) >> 20;
            let usual = USUAL_MIN_FREE_MIB.min(mib(disk.f_blocks) / AT_MOST_ONE_IN);
            match judge(mib(disk.f_bavail), self.min_free_mib.unwrap_or(usual)) {
                Verdict::Enough => {}
                Verdict::Scarce if room == Room::Enough => room = Room::Scarce,
                Verdict::Scarce => {}
                Verdict::Out { free_mib, least_mib } => {
                    room = Room::Out(DiskPressure { path: path.clone(), free_mib, least_mib });
                    break;
                }
            }
        }
        if room != Room::Enough {
            self.clean.notify_one();
        }
        // How much exactly is free changes all the time, and is no news.
        self.room.send_if_modified(|known| {
            let changed = std::mem::discriminant(known) != std::mem::discriminant(&room);
            *known = room.clone();
            changed
        });
        room
    }

    /// Does what fills the disk, as long as there is room for it. Dropping a pull ends it.
    pub(crate) async fn guarding<T>(&self, filling: impl Future<Output = T>) -> Result<T, DiskPressure> {
        if let Room::Out(pressure) = self.look() {
            return Err(pressure);
        }
        tokio::pin!(filling);
        let mut looks = interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                done = &mut filling => return Ok(done),
                _ = looks.tick() => {
                    if let Room::Out(pressure) = self.look() {
                        return Err(pressure);
                    }
                }
            }
        }
    }

    /// Looks until dropped, and tells `told` how the runtime is: as `docker` has it, and impaired without room.
    pub(crate) async fn watch(&self, mut docker: watch::Receiver<RuntimeHealth>, told: watch::Sender<RuntimeHealth>) {
        let mut looks = interval(WATCH_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut room = self.room.subscribe();
        loop {
            tokio::select! {
                _ = looks.tick() => {
                    self.look();
                    if !room.has_changed().unwrap_or(false) {
                        continue;
                    }
                    match &*room.borrow_and_update() {
                        Room::Out(pressure) => warn!("{pressure}: nothing is pulled until there is room"),
                        Room::Scarce => info!("little room is left on the disk: unused images go sooner"),
                        Room::Enough => info!("there is room on the disk again"),
                    }
                }
                changed = docker.changed() => if changed.is_err() {
                    // Its watcher is gone, and so is the agent.
                    return std::future::pending().await;
                },
            }
            tell(&told, docker.borrow_and_update().clone(), &room.borrow());
        }
    }
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
        let disk = statvfs("/tmp").unwrap();
        (disk.f_bavail * disk.f_frsize) >> 20
    }

    fn guard(min_free_mib: Option<u64>) -> DiskGuard {
        DiskGuard::new(vec!["/nonexistent".into(), "/tmp".into()], min_free_mib)
    }

    #[tokio::test]
    async fn what_fills_a_disk_without_room_is_refused_with_the_figures() {
        let full = guard(Some(free_mib() + 1_000_000));
        let refused = full.guarding(pending::<()>()).await.unwrap_err().to_string();
        assert!(refused.contains("on the disk of /tmp") && refused.contains("LONGSHORE_DISK_MIN_FREE"), "{refused}");
        // Somebody is told to clean up.
        full.wants_cleaning().await;
        assert_eq!(guard(Some(0)).guarding(async { 7 }).await, Ok(7));
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
