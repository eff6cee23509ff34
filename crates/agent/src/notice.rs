//! Termination notices: a machine that is about to be taken away drains itself.
//!
//! Clouds tell it in ways of their own, so what is watched is a file that somebody writes, or a program that finds out. The
//! instances then take no new tasks, and services move theirs. A notice that was taken back leaves them draining: whoever
//! knows that the machine stays says so (`longshore agent drain --undo`), and the next notice counts again.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use longshore_api::ecs::types::ContainerInstanceStatus;
use tokio::process::Command;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use crate::backoff::Backoff;
use crate::config::NoticeConfig;
use crate::drain::Instances;

/// A program that takes longer hangs.
const HOOK_LIMIT: Duration = Duration::from_secs(30);
/// Of what a notice says, so much is told.
const MOST_CHARS: usize = 200;

/// Watches for notices until dropped, and drains these instances at each.
pub(crate) async fn watch(config: NoticeConfig, instances: Instances) {
    let mut hook_failed = false;
    loop {
        let notice = loop {
            if let Some(notice) = look(&config, &mut hook_failed).await {
                break notice;
            }
            sleep(config.interval).await;
        };
        warn!(notice, "this machine is about to be taken away: its instances take no new tasks from now on");
        drain(&instances).await;
        info!("the instances drain; `longshore agent drain --undo` takes that back");
        while look(&config, &mut hook_failed).await.is_some() {
            sleep(config.interval).await;
        }
        info!("the notice is gone; the next one counts again");
    }
}

/// However long it takes: the server may be away just now.
async fn drain(instances: &Instances) {
    let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30), 2.0, 0.2);
    while let Err(error) = instances.set_status(ContainerInstanceStatus::Draining).await {
        let pause = backoff.next();
        warn!(%error, ?pause, "the instances cannot be drained yet");
        sleep(pause).await;
    }
}

/// What a notice says, if there is one.
async fn look(config: &NoticeConfig, hook_failed: &mut bool) -> Option<String> {
    if let Some(file) = config.file.as_deref().filter(|file| file.exists()) {
        let text = tokio::fs::read(file).await.unwrap_or_default();
        return Some(worded(&text, file));
    }
    let hook = config.hook.as_deref()?;
    let (notice, failure) = match ask(hook).await {
        Ok(said) => (said.map(|text| worded(&text, hook)), None),
        Err(why) => (None, Some(why)),
    };
    // Once, not at every look.
    if let Some(why) = failure.as_ref().filter(|_| !*hook_failed) {
        warn!(hook = %hook.display(), why, "whether a termination notice is there cannot be found out");
    }
    *hook_failed = failure.is_some();
    notice
}

/// Success is a notice, with what was printed; failure with code 1 is none. Everything else is an error.
async fn ask(hook: &Path) -> Result<Option<Vec<u8>>, String> {
    let mut command = Command::new(hook);
    // What lets machines join is nothing for a program that only looks.
    command.env_remove("LONGSHORE_TOKEN");
    command.stdin(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    let output = timeout(HOOK_LIMIT, command.output()).await;
    let output = output.map_err(|_| format!("it takes longer than {}s", HOOK_LIMIT.as_secs()))?;
    let output = output.map_err(|error| error.to_string())?;
    match output.status.code() {
        Some(0) => Ok(Some(output.stdout)),
        Some(1) => Ok(None),
        _ => Err(format!("it ended with {}", output.status)),
    }
}

/// The first line, or where the notice came from.
fn worded(text: &[u8], from: &Path) -> String {
    let text = String::from_utf8_lossy(text);
    match text.lines().map(str::trim).find(|line| !line.is_empty()) {
        Some(line) => line.chars().take(MOST_CHARS).collect(),
        None => from.display().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;
    use std::sync::atomic::{AtomicBool, Ordering};

    use serde_json::json;

    use super::*;
    use crate::session::fake_server::FakeServer;

    fn config(dir: &Path) -> NoticeConfig {
        NoticeConfig { file: Some(dir.join("notice")), hook: None, interval: Duration::from_millis(5) }
    }

    fn script(dir: &Path, text: &str) -> PathBuf {
        let path = dir.join("hook");
        fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    #[tokio::test]
    async fn each_notice_drains_once_and_a_server_that_is_away_is_waited_for() {
        let away = AtomicBool::new(true);
        let mut server = FakeServer::start(move |_| {
            if away.swap(false, Ordering::Relaxed) {
                return (500, json!({ "__type": "ServerException", "message": "not now" }));
            }
            (200, json!({ "containerInstances": [], "failures": [] }))
        })
        .await;
        let dir = tempfile::tempdir().unwrap();
        let instances = Instances { api: server.client(), cluster: "c".into(), arns: vec!["arn:i".into()] };
        let watching = tokio::spawn(watch(config(dir.path()), instances));
        for calls in [2, 1] {
            fs::write(dir.path().join("notice"), "terminate at noon\n").unwrap();
            for _ in 0..calls {
                let call = server.call("UpdateContainerInstancesState").await;
                assert_eq!((&call["status"], &call["containerInstances"]), (&json!("DRAINING"), &json!(["arn:i"])));
            }
            fs::remove_file(dir.path().join("notice")).unwrap();
            sleep(Duration::from_millis(100)).await;
        }
        watching.abort();
    }

    #[tokio::test]
    async fn a_hook_says_yes_no_or_nothing_useful() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hook").display().to_string();
        for (text, notice, failed) in [
            ("echo; echo ' at noon'; exit 0", Some("at noon"), false),
            ("exit 0", Some(path.as_str()), false),
            ("exit 1", None, false),
            ("exit 2", None, true),
        ] {
            let hook = Some(script(dir.path(), text));
            let config = NoticeConfig { hook, ..NoticeConfig::default() };
            let mut hook_failed = false;
            assert_eq!(look(&config, &mut hook_failed).await.as_deref(), notice, "{text}");
            assert_eq!(hook_failed, failed, "{text}");
        }
        let nobody = NoticeConfig { hook: Some("/nonexistent/hook".into()), ..NoticeConfig::default() };
        let mut hook_failed = false;
        assert_eq!(look(&nobody, &mut hook_failed).await, None);
        assert!(hook_failed);
    }
}
