//! Processes of earlier commands, found again without ever mistaking another one for them.
//!
//! A pid alone names nothing: it is used again after its process has ended. A pid together with the time its process
//! started does, and a pidfd, once held, keeps naming the same process whatever becomes of the number.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::timeout;

use crate::error::CliError;

/// How long a process that was killed may take to be gone; the kernel needs milliseconds, a loaded machine more.
const KILL_TAKES_AT_MOST: Duration = Duration::from_secs(5);

/// What identifies a process, on paper.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ProcessId {
    pub(crate) pid: i32,
    /// Clock ticks from boot to its start.
    pub(crate) start_time: u64,
}

impl ProcessId {
    /// The identity of the process that has this pid now.
    pub(crate) fn of(pid: i32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        Some(Self { pid, start_time: start_time(&stat)? })
    }

    /// The identity of the process that asks.
    pub(crate) fn of_this() -> Result<Self, CliError> {
        let pid = rustix::process::getpid().as_raw_pid();
        Self::of(pid).ok_or_else(|| CliError::Process {
            doing: "read the start time of",
            name: "this one",
            pid,
            source: std::io::ErrorKind::NotFound.into(),
        })
    }

    /// Takes hold of the process if it still lives and is what it was recorded as: this executable's subcommand
    /// `name`, started for `data_dir` if one is given.
    pub(crate) fn hold(self, name: &'static str, data_dir: Option<&Path>) -> Option<Process> {
        let pidfd = pidfd_open(Pid::from_raw(self.pid)?, PidfdFlags::NONBLOCK).ok()?;
        // Compared after the pidfd is open: what is true of the pid now was true of it when the pidfd was taken,
        // because the process held cannot hand its pid on before it has ended, and then its start time is gone.
        let cmdline = fs::read(format!("/proc/{}/cmdline", self.pid)).ok()?;
        if Self::of(self.pid) != Some(self) || !is_ours(&cmdline, name, data_dir) {
            return None;
        }
        Process::new(self, name, pidfd).ok()
    }
}

/// A process held by its pidfd: to signal, and to await its end. Parent or not makes no difference.
#[derive(Debug)]
pub(crate) struct Process {
    id: ProcessId,
    name: &'static str,
    pidfd: AsyncFd<OwnedFd>,
}

impl Process {
    fn new(id: ProcessId, name: &'static str, pidfd: OwnedFd) -> std::io::Result<Self> {
        #[expect(
            deprecated,
            reason = "its replacement is unsafe, for types whose descriptor may close or change; an OwnedFd's cannot"
        )]
        let pidfd = AsyncFd::with_interest(pidfd, Interest::READABLE)?;
        Ok(Self { id, name, pidfd })
    }

    /// Takes hold of a child that was just started; it cannot be anybody else until it is waited for.
    pub(crate) fn of_child(name: &'static str, pid: i32) -> Result<Self, CliError> {
        let fail = |source| CliError::Process { doing: "watch", name, pid, source };
        let id = ProcessId::of(pid).ok_or_else(|| fail(std::io::ErrorKind::NotFound.into()))?;
        let raw = Pid::from_raw(pid).ok_or_else(|| fail(std::io::ErrorKind::InvalidInput.into()))?;
        let pidfd = pidfd_open(raw, PidfdFlags::NONBLOCK).map_err(|error| fail(error.into()))?;
        Self::new(id, name, pidfd).map_err(fail)
    }

    pub(crate) fn id(&self) -> ProcessId {
        self.id
    }

    /// Whether it runs the very executable that this process runs: not one that was built or installed since.
    pub(crate) fn is_this_build(&self) -> bool {
        let file = |pid: &str| {
            let metadata = fs::metadata(format!("/proc/{pid}/exe")).ok()?;
            Some((metadata.dev(), metadata.ino()))
        };
        let own = file("self");
        own.is_some() && file(&self.id.pid.to_string()) == own
    }

    /// Waits for its end. Safe to drop and call again.
    pub(crate) async fn ended(&self) {
        // A pidfd becomes readable when its process ends, and stays so. An error here would be one of the event
        // loop itself; to treat it as the end is the safe side: whoever cares looks again.
        let _ = self.pidfd.readable().await;
    }

    /// SIGTERM; after `grace`, SIGKILL. Returns when it is gone.
    pub(crate) async fn stop(&self, grace: Duration) -> Result<(), CliError> {
        self.signal(Signal::TERM)?;
        if timeout(grace, self.ended()).await.is_ok() {
            return Ok(());
        }
        self.signal(Signal::KILL)?;
        timeout(KILL_TAKES_AT_MOST, self.ended())
            .await
            .map_err(|_| CliError::Unkillable { name: self.name, pid: self.id.pid })
    }

    fn signal(&self, signal: Signal) -> Result<(), CliError> {
        match pidfd_send_signal(self.pidfd.get_ref(), signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => {
                Err(CliError::Process { doing: "signal", name: self.name, pid: self.id.pid, source: error.into() })
            }
        }
    }
}

/// The 22nd field of `/proc/PID/stat`. The second, the program's name, may hold spaces and parentheses.
fn start_time(stat: &str) -> Option<u64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.split_ascii_whitespace().nth(19)?.parse().ok()
}

/// Whether a command line (arguments, each ended by a zero byte) is `longshore NAME …` for this data directory.
fn is_ours(cmdline: &[u8], name: &str, data_dir: Option<&Path>) -> bool {
    let arguments: Vec<&[u8]> = cmdline.split(|byte| *byte == 0).collect();
    let lies_in = |argument: &[u8], folder: &Path| {
        argument
            .strip_prefix(folder.as_os_str().as_encoded_bytes())
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
    };
    arguments.get(1).is_some_and(|second| *second == name.as_bytes())
        && data_dir.is_none_or(|folder| arguments.iter().skip(2).any(|argument| lies_in(argument, folder)))
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command};

    use proptest::prelude::*;

    use super::*;

    fn impostor(script: &str) -> Child {
        Command::new("sh").args(["-c", script]).spawn().unwrap()
    }

    fn pid(child: &Child) -> i32 {
        child.id() as i32
    }

    #[test]
    fn one_process_has_one_identity_and_another_has_another() {
        let own = std::process::id() as i32;
        assert_eq!(ProcessId::of(own), ProcessId::of(own));
        assert!(ProcessId::of(own).is_some());
        assert_eq!(ProcessId::of(-1), None);
    }

    #[test]
    fn the_command_line_tells_ours_from_theirs() {
        let ours = |line: &str, name| is_ours(line.replace(' ', "\0").as_bytes(), name, Some(Path::new("/data/ls")));
        assert!(ours("longshore server --data-dir /data/ls --listen x", "server"));
        assert!(ours("/usr/bin/longshore agent --config /data/ls/ecs.config", "agent"));
        assert!(!ours("longshore server --data-dir /data/ls2", "server"));
        assert!(!ours("longshore server --data-dir /data/ls", "agent"));
        assert!(!ours("longshore", "server"));
        assert!(!ours("", "server"));
    }

    #[tokio::test]
    async fn a_pid_with_another_start_time_is_nobody() {
        let mut child = impostor("exec sleep 600");
        let id = ProcessId::of(pid(&child)).unwrap();
        let other = ProcessId { start_time: id.start_time + 1, ..id };
        assert!(other.hold("server", Some(Path::new("/"))).is_none());
        // The right time is not enough either: this one is not ours.
        assert!(id.hold("server", Some(Path::new("/data/ls"))).is_none());
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(ProcessId::of(id.pid), None);
    }

    #[tokio::test]
    async fn stop_ends_a_process_that_obeys_and_one_that_does_not() {
        // The shell's own child outlives it, with our output open: not for long.
        for script in ["exec sleep 600", "trap '' TERM; while :; do sleep 0.1; done"] {
            let mut child = impostor(script);
            let process = Process::of_child("server", pid(&child)).unwrap();
            process.stop(Duration::from_millis(300)).await.unwrap();
            process.ended().await;
            child.wait().unwrap();
            process.stop(Duration::ZERO).await.unwrap();
        }
    }

    proptest! {
        #[test]
        fn the_program_name_cannot_confuse_the_start_time(name in ".{0,40}", ticks: u64) {
            let name = name.replace('\n', " ");
            let stat = format!("42 ({name}) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 {ticks} 20 21\n");
            prop_assert_eq!(start_time(&stat), Some(ticks));
        }

        #[test]
        fn no_stat_text_panics(text in ".{0,200}") {
            let _ = start_time(&text);
        }
    }
}
