//! The kernel's packet rules, by way of `iptables-save` and `iptables-restore`.

use std::io;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::time::timeout;

use super::NetworkError;

const SAVE: &str = "iptables-save";
const RESTORE: &str = "iptables-restore";
/// Seconds to wait for others who change rules.
const LOCK_WAIT_S: &str = "10";
/// Thousands of rules take a fraction of a second; the rest is for whoever holds the lock.
const DONE_WITHIN: Duration = Duration::from_secs(30);

/// All rules there are, in iptables' words.
pub(super) async fn save() -> Result<String, NetworkError> {
    run(SAVE, &[], None).await
}

/// Puts rules into force, each table at once, and leaves what is not named alone.
pub(super) async fn restore(rules: &str) -> Result<(), NetworkError> {
    run(RESTORE, &["-w", LOCK_WAIT_S, "--noflush"], Some(rules)).await.map(|_| ())
}

/// Whether rules could be put into force.
pub(super) async fn test(rules: &str) -> Result<(), NetworkError> {
    run(RESTORE, &["-w", LOCK_WAIT_S, "--noflush", "--test"], Some(rules)).await.map(|_| ())
}

async fn run(program: &str, arguments: &[&str], input: Option<&str>) -> Result<String, NetworkError> {
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => {
            NetworkError::Failed(format!("install Debian's package iptables: there is no {program}"))
        }
        _ => NetworkError::Failed(format!("{program}: {error}")),
    };
    // These are programs of the administrator, whose folders an agent need not have in its path.
    let path = std::env::var("PATH").unwrap_or_default();
    let mut child = Command::new(program)
        .args(arguments)
        .env("PATH", format!("{path}:/usr/sbin:/sbin"))
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(failed)?;
    let stdin = child.stdin.take();
    let work = async {
        if let (Some(mut stdin), Some(input)) = (stdin, input) {
            // One that refuses a line does not read the rest, and says why by itself.
            let _ = stdin.write_all(input.as_bytes()).await;
        }
        child.wait_with_output().await
    };
    let output = timeout(DONE_WITHIN, work)
        .await
        .map_err(|_| NetworkError::Failed(format!("{program} did not end within {} s", DONE_WITHIN.as_secs())))?
        .map_err(failed)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let why = String::from_utf8_lossy(&output.stderr);
    Err(NetworkError::Failed(format!("{program}: {}", why.trim())))
}
