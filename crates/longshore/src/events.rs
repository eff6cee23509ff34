//! `longshore events`: the server's event stream, for eyes and for programs.

use std::io::{self, Write};
use std::time::Duration;

use longshore_client::{Block, CallError};
use longshore_wire::query::encode;
use serde_json::Value;

use crate::cli::{EventKind, EventsArgs, Format};
use crate::error::CliError;
use crate::output::{self, harmless};
use crate::reach::Reach;
use crate::shutdown;
use crate::task::last_part;

/// Before a connection that broke is opened anew.
const PAUSE: Duration = Duration::from_secs(1);

/// Runs the command. Ctrl-C ends it, and is no failure.
pub(crate) async fn events(args: &EventsArgs, program: &str) -> Result<(), CliError> {
    let reach = Reach::new(&args.reach, program);
    tokio::select! {
        () = shutdown::requested() => Ok(()),
        shown = show(args, &reach) => shown,
    }
}

async fn show(args: &EventsArgs, reach: &Reach) -> Result<(), CliError> {
    let mut cursor = args.since.clone();
    // The first connection has to be made; one that breaks later is made again.
    let mut began = false;
    loop {
        let before = cursor.clone();
        let ended = read(args, reach, &mut cursor, &mut began).await;
        match ended {
            // It broke off in the middle. Who asks for the rest gets it, or learns why there is none.
            Err(CliError::Call(CallError::Transport { .. })) if !args.follow && cursor != before => {}
            Ok(()) | Err(CliError::Call(CallError::Transport { .. }) | CliError::NotRunning { .. })
                if args.follow && began =>
            {
                tokio::time::sleep(PAUSE).await;
            }
            ended => return ended,
        }
    }
}

/// One connection: prints what comes, and keeps the cursor behind it.
async fn read(args: &EventsArgs, reach: &Reach, cursor: &mut Option<String>, began: &mut bool) -> Result<(), CliError> {
    // Looked up anew each time: a server that was started again may listen elsewhere.
    let client = reach.connect()?.client;
    let query = query(args, cursor.as_deref());
    let mut stream = client.raw().events(&query).await.map_err(CliError::Call)?;
    *began = true;
    while let Some(Block { id, data }) = stream.next().await.map_err(CliError::Call)? {
        if let Some(event) = data {
            let event: Value = serde_json::from_str(&event).unwrap_or_default();
            print(args.output.output, id.as_deref().unwrap_or_default(), &event)?;
        }
        *cursor = id.or_else(|| cursor.take());
    }
    Ok(())
}

fn query(args: &EventsArgs, cursor: Option<&str>) -> String {
    let after = cursor.unwrap_or(if args.follow { "latest" } else { "oldest" });
    let mut query = format!("after={}&follow={}", encode(after), args.follow);
    if let Some(cluster) = &args.cluster {
        query += &format!("&cluster={}", encode(cluster));
    }
    if let Some(kind) = args.kind {
        let kind = match kind {
            EventKind::Task => "ECS Task State Change",
            EventKind::Instance => "ECS Container Instance State Change",
        };
        query += &format!("&detail-type={}", encode(kind));
    }
    query
}

/// At once: whoever reads a pipe waits for each event.
fn print(format: Format, cursor: &str, event: &Value) -> Result<(), CliError> {
    let line = match format {
        Format::Json => serde_json::json!({ "cursor": cursor, "event": event }).to_string(),
        Format::Table => line(event),
    };
    let mut out = io::stdout().lock();
    output::written(writeln!(out, "{line}").and_then(|()| out.flush()))
}

/// An event in a line for people.
fn line(event: &Value) -> String {
    let detail = &event["detail"];
    let text = |value: &Value| harmless(value.as_str().unwrap_or("-")).into_owned();
    let arn = event["resources"][0].as_str();
    let (what, change) = match event["detail-type"].as_str() {
        Some("ECS Task State Change") => {
            let (last, desired) = (text(&detail["lastStatus"]), text(&detail["desiredStatus"]));
            let wanted = if last == desired { String::new() } else { format!(" (wanted {desired})") };
            let reason = detail["stoppedReason"].as_str().map(|reason| format!(": {}", harmless(reason)));
            let family = last_part(detail["taskDefinitionArn"].as_str()).to_owned();
            ("task", format!("{last}{wanted} {family}{}", reason.unwrap_or_default()))
        }
        _ => {
            let connected = detail["agentConnected"].as_bool().unwrap_or_default();
            let agent = if connected { "agent connected" } else { "agent not connected" };
            ("instance", format!("{} {agent}", text(&detail["status"])))
        }
    };
    let (at, id) = (text(&detail["updatedAt"]), last_part(arn));
    format!("{at}  {what:<8}  {}  {id}  {change}", last_part(detail["clusterArn"].as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_what_became_of_what() {
        let task = serde_json::json!({
            "detail-type": "ECS Task State Change",
            "resources": ["arn:aws:ecs:r:1:task/default/01"],
            "detail": {"lastStatus": "RUNNING", "desiredStatus": "STOPPED", "updatedAt": "T", "stoppedReason": "e\u{1b}nd",
                "clusterArn": "arn:aws:ecs:r:1:cluster/default", "taskDefinitionArn": "arn:aws:ecs:r:1:task-definition/web:1"},
        });
        let told = line(&task);
        assert!(told.starts_with("T  task      default  01  RUNNING (wanted STOPPED) web:1: e"), "{told}");
        assert!(!told.contains('\u{1b}'));
        let instance = serde_json::json!({
            "detail-type": "ECS Container Instance State Change",
            "resources": ["arn:aws:ecs:r:1:container-instance/default/02"],
            "detail": {"status": "ACTIVE", "agentConnected": false, "updatedAt": "T",
                "clusterArn": "arn:aws:ecs:r:1:cluster/default"},
        });
        assert_eq!(line(&instance), "T  instance  default  02  ACTIVE agent not connected");
    }
}
