//! A launcher that is a program: `PROGRAM add COUNT` or `PROGRAM remove INSTANCE_ARN…`, with everything there is to
//! know as JSON on its standard input. It has done what it was asked for when it ends with 0; what it prints is logged.

use std::process::Stdio;

use longshore_core::capacity::LauncherRequest;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;
use tokio::time::timeout;

use super::LauncherConfig;
use crate::limits::{LAUNCHER_OUTPUT_BYTES, LAUNCHER_TIME};

/// Runs the program once.
///
/// # Errors
/// Why it did not do it, in words: it cannot be started, takes too long, or ends otherwise than with 0.
pub(super) async fn run(config: &LauncherConfig, request: &LauncherRequest) -> Result<(), String> {
    let program = config.program.display();
    let mut command = Command::new(&config.program);
    command.arg(request.action).args(request.count.map(|count| count.to_string()));
    command.args(request.container_instances.iter().map(|machine| &machine.container_instance_arn));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().map_err(|error| format!("{program} cannot be started: {error}"))?;
    let document = serde_json::to_vec(request).map_err(|error| error.to_string())?;
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let tell = async {
        if let Some(mut stdin) = stdin {
            // One that does not read what it is told has its reasons; how it ends is what counts.
            drop(stdin.write_all(&document).await);
        }
    };
    let exchange = async {
        let ((), said, complained) = tokio::join!(tell, head(stdout), head(stderr));
        (child.wait().await, said, complained)
    };
    let ended = timeout(LAUNCHER_TIME, exchange).await;
    let (status, said, complained) =
        ended.map_err(|_| format!("{program} did not end within {} seconds", LAUNCHER_TIME.as_secs()))?;
    for line in said.lines().chain(complained.lines()) {
        tracing::info!(launcher = &*config.name, "{line}");
    }
    let status = status.map_err(|error| format!("{program}: {error}"))?;
    match status.success() {
        true => Ok(()),
        false => Err(match complained.lines().rev().find(|line| !line.trim().is_empty()) {
            Some(last) => format!("{program} ended with {status}: {last}"),
            None => format!("{program} ended with {status}"),
        }),
    }
}

/// The beginning of what a stream holds; it is read to its end, so that nobody who writes has to wait.
async fn head(stream: Option<impl AsyncRead + Unpin>) -> String {
    let mut kept = Vec::new();
    let mut buffer = [0; 4_096];
    if let Some(mut stream) = stream {
        while let Ok(read @ 1..) = stream.read(&mut buffer).await {
            let room = LAUNCHER_OUTPUT_BYTES.saturating_sub(kept.len()).min(read);
            kept.extend_from_slice(&buffer[..room]);
        }
    }
    String::from_utf8_lossy(&kept).into_owned()
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

    async fn launched(script: &str) -> (Result<(), String>, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("launch");
        std::fs::write(&program, format!("#!/bin/sh\ncd '{}'\n{script}\n", dir.path().display())).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let config = LauncherConfig { name: "local".into(), size: FleetSize::default(), program };
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
}
