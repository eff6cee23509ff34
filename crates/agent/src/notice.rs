//! Termination notices: a machine that is about to be taken away drains itself.
//!
//! Clouds tell it in ways of their own, so what is watched is a file that somebody writes, or a program that finds out. The
//! instances then take no new tasks, and services move theirs. A notice that was taken back leaves them draining: whoever
//! knows that the machine stays says so (`longshore agent drain --undo`), and the next notice counts again. Which one was obeyed is
//! remembered: an agent that is started anew contradicts nobody.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, UNIX_EPOCH};

use longshore_api::ecs::types::ContainerInstanceStatus;
use tokio::process::Command;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use crate::backoff::Backoff;
use crate::config::NoticeConfig;
use crate::drain::Instances;
use crate::state::{Change, State};

/// A program that takes longer hangs.
const HOOK_LIMIT: Duration = Duration::from_secs(30);
/// Of what a notice says, so much is told.
const MOST_CHARS: usize = 200;

/// Looks in a row that find no notice, and no error either, before it counts as gone: a hook may fail for a moment.
const CLEAR_LOOKS: u32 = 3;

/// There is a notice.
#[derive(Debug, PartialEq, Eq)]
struct Notice {
    /// What it says, for people.
    words: String,
    /// What tells it from others: an agent that starts anew must know whether it has obeyed this one.
    identity: String,
}

/// What a look found.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    Notice(Notice),
    Nothing,
    /// It could not be found out.
    Unknown,
}

/// The notice that was obeyed and has not gone yet.
enum Obeyed {
    /// By this process. While it watches there is but one: what a hook prints may change from look to look.
    Now,
    /// By an earlier one, if it is still the same.
    Earlier(String),
}

/// Watches for notices until dropped, and drains these instances at each. `obeyed` is what was saved of an earlier notice.
pub(crate) async fn watch(config: NoticeConfig, instances: Instances, state: State, obeyed: Option<String>) {
    let mut obeyed = obeyed.map(Obeyed::Earlier);
    let mut hook_failed = false;
    let mut clear_looks = 0;
    loop {
        match look(&config, &mut hook_failed).await {
            Found::Notice(notice) => {
                clear_looks = 0;
                match obeyed {
                    Some(Obeyed::Now) => {}
                    Some(Obeyed::Earlier(identity)) if identity == notice.identity => {
                        info!(notice.words, "the notice that was obeyed before is still there");
                    }
                    None | Some(Obeyed::Earlier(_)) => obey(&notice, &instances, &state).await,
                }
                obeyed = Some(Obeyed::Now);
            }
            Found::Nothing => {
                clear_looks = CLEAR_LOOKS.min(clear_looks + 1);
                if clear_looks == CLEAR_LOOKS && obeyed.take().is_some() {
                    state.write(vec![Change::Notice(None)]);
                    info!("the notice is gone; the next one counts again");
                }
            }
            Found::Unknown => clear_looks = 0,
        }
        sleep(config.interval).await;
    }
}

/// An agent that is killed before it has saved that does it again, which does no harm.
async fn obey(notice: &Notice, instances: &Instances, state: &State) {
    warn!(notice.words, "this machine is about to be taken away: its instances take no new tasks from now on");
    drain(instances).await;
    info!("the instances drain; `longshore agent drain --undo` takes that back");
    state.write(vec![Change::Notice(Some(notice.identity.clone()))]);
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

/// Whether there is a notice.
async fn look(config: &NoticeConfig, hook_failed: &mut bool) -> Found {
    if let Some(notice) = in_file(config).await {
        return Found::Notice(notice);
    }
    let Some(hook) = config.hook.as_deref() else { return Found::Nothing };
    let (found, failure) = match ask(hook).await {
        Ok(Some(text)) => {
            let words = worded(&text, hook);
            (Found::Notice(Notice { identity: words.clone(), words }), None)
        }
        Ok(None) => (Found::Nothing, None),
        Err(why) => (Found::Unknown, Some(why)),
    };
    // Once, not at every look.
    if let Some(why) = failure.as_ref().filter(|_| !*hook_failed) {
        warn!(hook = %hook.display(), why, "whether a termination notice is there cannot be found out");
    }
    *hook_failed = failure.is_some();
    found
}

/// A file that was written anew is another notice, even with the same words.
async fn in_file(config: &NoticeConfig) -> Option<Notice> {
    let file = config.file.as_deref()?;
    let written = tokio::fs::metadata(file).await.ok()?.modified().ok();
    let since = written.and_then(|at| at.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
    let words = worded(&tokio::fs::read(file).await.unwrap_or_default(), file);
    Some(Notice { identity: format!("{} {words}", since.as_nanos()), words })
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
    use std::sync::atomic::{AtomicU32, Ordering};

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

    /// A server that takes whatever comes, and instances of its.
    async fn server(refusals: u32) -> (FakeServer, Instances) {
        let refusals = AtomicU32::new(refusals);
        let server = FakeServer::start(move |_| {
            let left = refusals.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
            match left {
                Ok(_) => (500, json!({ "__type": "ServerException", "message": "not now" })),
                Err(_) => (200, json!({ "containerInstances": [], "failures": [] })),
            }
        })
        .await;
        let instances = Instances { api: server.client(), cluster: "c".into(), arns: vec!["arn:i".into()] };
        (server, instances)
    }

    async fn drained(server: &mut FakeServer) {
        let call = timeout(Duration::from_secs(10), server.call("UpdateContainerInstancesState")).await.unwrap();
        assert_eq!((&call["status"], &call["containerInstances"]), (&json!("DRAINING"), &json!(["arn:i"])));
    }

    async fn left_alone(server: &mut FakeServer) {
        let call = timeout(Duration::from_millis(200), server.call("UpdateContainerInstancesState")).await;
        assert!(call.is_err(), "{call:?}");
    }

    #[tokio::test]
    async fn each_notice_drains_once_and_a_server_that_is_away_is_waited_for() {
        let (mut server, instances) = server(1).await;
        let dir = tempfile::tempdir().unwrap();
        let (state, _writer, _) = State::open(None).unwrap();
        let watching = tokio::spawn(watch(config(dir.path()), instances, state, None));
        for calls in [2, 1] {
            fs::write(dir.path().join("notice"), "terminate at noon\n").unwrap();
            for _ in 0..calls {
                drained(&mut server).await;
            }
            fs::remove_file(dir.path().join("notice")).unwrap();
            sleep(Duration::from_millis(100)).await;
        }
        watching.abort();
    }

    #[tokio::test]
    async fn an_agent_that_starts_anew_knows_which_notice_it_has_obeyed() {
        let (mut server, instances) = server(0).await;
        let dir = tempfile::tempdir().unwrap();
        let notice = dir.path().join("notice");
        fs::write(&notice, "terminate at noon").unwrap();
        // What is there at each start, and whether it is obeyed.
        let starts: [(&dyn Fn(), bool); 4] = [
            (&|| {}, true),
            (&|| {}, false),
            (&|| fs::write(&notice, "terminate at one").unwrap(), true),
            (&|| {}, false),
        ];
        for (change, obeyed) in starts {
            change();
            let (state, writer, loaded) = State::open(Some(dir.path())).unwrap();
            let watching = tokio::spawn(watch(config(dir.path()), instances.clone(), state, loaded.notice));
            if obeyed {
                drained(&mut server).await;
            }
            left_alone(&mut server).await;
            watching.abort();
            let _ = watching.await;
            writer.close();
        }
        // What went while it watched counts when it comes again, whoever watches then.
        let (state, writer, loaded) = State::open(Some(dir.path())).unwrap();
        let watching = tokio::spawn(watch(config(dir.path()), instances, state, loaded.notice));
        fs::remove_file(&notice).unwrap();
        left_alone(&mut server).await;
        watching.abort();
        let _ = watching.await;
        writer.close();
        assert_eq!(State::open(Some(dir.path())).unwrap().2.notice, None);
    }

    #[tokio::test]
    async fn a_hook_that_fails_for_a_moment_takes_no_notice_back() {
        let (mut server, instances) = server(0).await;
        let dir = tempfile::tempdir().unwrap();
        // Yes, twice no notice or an error, yes, and so on.
        let text = "n=$(cat $0.n 2>/dev/null || echo 0); echo $((n + 1)) >$0.n; case $((n % 4)) in 1) exit 1;; 2) exit 2;; esac";
        let hook = Some(script(dir.path(), text));
        let config = NoticeConfig { hook, ..config(dir.path()) };
        let (state, _writer, _) = State::open(None).unwrap();
        let watching = tokio::spawn(watch(config, instances, state, None));
        drained(&mut server).await;
        left_alone(&mut server).await;
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
            let words = |found: Found| match found {
                Found::Notice(notice) => Some(notice.words),
                Found::Nothing | Found::Unknown => None,
            };
            assert_eq!(words(look(&config, &mut hook_failed).await).as_deref(), notice, "{text}");
            assert_eq!(hook_failed, failed, "{text}");
        }
        let nobody = NoticeConfig { hook: Some("/nonexistent/hook".into()), ..NoticeConfig::default() };
        let mut hook_failed = false;
        assert_eq!(look(&nobody, &mut hook_failed).await, Found::Unknown);
        assert!(hook_failed);
    }
}
