//! A launcher that is a program: `PROGRAM add COUNT` or `PROGRAM remove INSTANCE_ARN…`, with everything there is to
//! know as JSON on its standard input. It has done what it was asked for when it ends with 0; what it prints is logged.
//!
//! It is the first of a process group. When its time is over, or the server stops, all of the group is killed: nothing
//! of an order goes on beside its repetition. What it started and left behind when it ended by itself lives on, even if
//! that keeps its outputs open.

use std::process::{ExitStatus, Stdio};

use longshore_core::capacity::LauncherRequest;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::LauncherConfig;
use crate::limits::{LAUNCHER_LAST_WORDS, LAUNCHER_OUTPUT_BYTES, LAUNCHER_TIME};

/// Runs the program once.
///
/// # Errors
/// Why it did not do it, in words: it cannot be started, takes too long, or ends otherwise than with 0.
pub(super) async fn run(config: &LauncherConfig, request: &LauncherRequest) -> Result<(), String> {
    let program = config.program.display();
    let mut command = Command::new(&config.program);
    command.arg(request.action).args(request.count.map(|count| count.to_string()));
    command.args(request.container_instances.iter().map(|machine| &machine.container_instance_arn));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let document = serde_json::to_vec(request).map_err(|error| error.to_string())?;
    let child = command.spawn().map_err(|error| format!("{program} cannot be started: {error}"))?;
    let (mut said, mut complained) = (Vec::new(), Vec::new());
    let ended = timeout(LAUNCHER_TIME, exchange(child, &document, &mut said, &mut complained)).await;
    let (said, complained) = (String::from_utf8_lossy(&said), String::from_utf8_lossy(&complained));
    for line in said.lines().chain(complained.lines()) {
        tracing::info!(launcher = &*config.name, "{line}");
    }
    let status = ended
        .map_err(|_| format!("{program} did not end within {} seconds", LAUNCHER_TIME.as_secs()))?
        .map_err(|error| format!("{program}: {error}"))?;
    match status.success() {
        true => Ok(()),
        false => Err(match complained.lines().rev().find(|line| !line.trim().is_empty()) {
            Some(last) => format!("{program} ended with {status}: {last}"),
            None => format!("{program} ended with {status}"),
        }),
    }
}

/// Tells the program what to do, and waits until it ends; its outputs need not.
async fn exchange(
    child: Child,
    document: &[u8],
    said: &mut Vec<u8>,
    complained: &mut Vec<u8>,
) -> std::io::Result<ExitStatus> {
    let mut group = Group(child);
    let (stdin, stdout, stderr) = (group.0.stdin.take(), group.0.stdout.take(), group.0.stderr.take());
    let tell = async {
        if let Some(mut stdin) = stdin {
            // One that does not read what it is told has its reasons; how it ends is what counts.
            drop(stdin.write_all(document).await);
        }
    };
    let talk = async { tokio::join!(tell, head(stdout, said), head(stderr, complained)) };
    tokio::pin!(talk);
    tokio::select! {
        status = group.0.wait() => {
            drop(timeout(LAUNCHER_LAST_WORDS, talk).await);
            status
        }
        _ = &mut talk => group.0.wait().await,
    }
}

/// The process group of a program. Dropped before the program has ended, all of it is killed.
struct Group(Child);

impl Drop for Group {
    fn drop(&mut self) {
        // There is no number any more once its end was seen: nobody else who got it since is killed.
        let leader = self.0.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        if let Some(leader) = leader {
            kill_process_group(leader, Signal::KILL).ok();
        }
    }
}

/// Keeps the beginning of what a stream holds; it is read to its end, so that nobody who writes has to wait.
async fn head(stream: Option<impl AsyncRead + Unpin>, kept: &mut Vec<u8>) {
    let mut buffer = [0; 4_096];
    if let Some(mut stream) = stream {
        while let Ok(read @ 1..) = stream.read(&mut buffer).await {
            let room = LAUNCHER_OUTPUT_BYTES.saturating_sub(kept.len()).min(read);
            kept.extend_from_slice(&buffer[..room]);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;

    use longshore_core::config::FleetSize;

    use super::*;

    fn request(action: &'static str) -> LauncherRequest {
        LauncherRequest {
            action,
            order_id: "7".to_owned(),
            capacity_provider: "burst".into(),
            cluster: "default".into(),
            count: Some(2),
            instance_attributes: [("longshore.capacity-provider", "burst".into())].into(),
            container_instances: Vec::new(),
        }
    }

    fn script(dir: &tempfile::TempDir, script: &str) -> LauncherConfig {
        let program = dir.path().join("launch");
        std::fs::write(&program, format!("#!/bin/sh\ncd '{}'\n{script}\n", dir.path().display())).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        LauncherConfig { name: "local".into(), size: FleetSize::default(), program }
    }

    async fn launched(words: &str) -> (Result<(), String>, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let config = script(&dir, words);
        (run(&config, &request("add")).await, dir)
    }

    #[tokio::test]
    async fn a_program_is_told_in_words_and_as_json() {
        let (outcome, dir) = launched("echo \"$@\" > words; cat > json").await;
        assert_eq!(outcome, Ok(()));
        let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap();
        assert_eq!(read("words"), "add 2\n");
        let told: serde_json::Value = serde_json::from_str(&read("json")).unwrap();
        let expected = serde_json::json!({
            "action": "add", "orderId": "7", "capacityProvider": "burst", "cluster": "default", "count": 2,
            "instanceAttributes": {"longshore.capacity-provider": "burst"},
        });
        assert_eq!(told, expected);
    }

    #[tokio::test]
    async fn a_program_that_fails_says_why() {
        let (outcome, _dir) = launched("echo first >&2; echo no more machines >&2; exit 3").await;
        let reason = outcome.unwrap_err();
        assert!(reason.contains("exit status: 3") && reason.ends_with("no more machines"), "{reason}");
        let nowhere =
            LauncherConfig { name: "x".into(), size: FleetSize::default(), program: PathBuf::from("/nowhere/launch") };
        assert!(run(&nowhere, &request("add")).await.unwrap_err().contains("/nowhere/launch cannot be started"));
    }

    #[tokio::test]
    async fn a_program_that_says_much_and_reads_nothing_ends_all_the_same() {
        assert_eq!(launched("head -c 1000000 /dev/zero; head -c 1000000 /dev/zero >&2").await.0, Ok(()));
    }

    #[tokio::test]
    async fn what_a_program_leaves_behind_does_not_keep_it_from_having_ended() {
        let begun = std::time::Instant::now();
        let (outcome, dir) = launched("sleep 60 & echo $! > left; echo it is done >&2; exit 3").await;
        assert!(outcome.unwrap_err().ends_with("it is done"), "what it said by then counts");
        assert!(begun.elapsed() < std::time::Duration::from_secs(20), "nobody waits for what it left");
        let left = process(&dir, "left");
        rustix::process::kill_process(left, Signal::KILL).expect("it lives on");
    }

    #[tokio::test]
    async fn a_program_that_is_given_up_is_killed_with_all_that_it_started() {
        let dir = tempfile::tempdir().unwrap();
        let config = script(&dir, "sleep 60 & echo $! > child.new && mv child.new child; wait");
        let order = request("add");
        tokio::select! {
            outcome = run(&config, &order) => panic!("{outcome:?}"),
            () = async { while !dir.path().join("child").exists() { tokio::task::yield_now().await } } => {}
        }
        let child = process(&dir, "child");
        let ended = || {
            std::fs::read_to_string(format!("/proc/{}/stat", child.as_raw_nonzero()))
                .map_or(true, |stat| stat.rsplit(')').next().is_some_and(|rest| rest.starts_with(" Z")))
        };
        let killed = async {
            while !ended() {
                tokio::task::yield_now().await
            }
        };
        timeout(std::time::Duration::from_secs(10), killed).await.expect("it is killed");
    }

    fn process(dir: &tempfile::TempDir, name: &str) -> Pid {
        let number = std::fs::read_to_string(dir.path().join(name)).unwrap();
        Pid::from_raw(number.trim().parse().unwrap()).unwrap()
    }
}
