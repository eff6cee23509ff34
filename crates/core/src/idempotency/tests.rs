//! How many tokens are remembered, and which go first.

use longshore_api::ecs::Operation::{RegisterTaskDefinition, RunTask};
use longshore_api::ecs::types::Failure;
use serde_json::{Value, json};

use super::*;
use crate::cell::{Command, Reply};
use crate::fixture::{Lab, START, api, definition, offer};
use crate::ids::TaskId;
use crate::tables::Change;

const CLUSTER: ClusterId = ClusterId(1);

/// The `n`th token of an operation, as it was remembered a millisecond after the one before.
fn key(operation: &str, n: usize) -> TokenKey {
    TokenKey { operation: operation.into(), cluster: CLUSTER, token: format!("old-{n}").into() }
}

fn load(lab: &mut Lab, operation: &str, count: usize, made: &Made) {
    for n in 0..count {
        let at = START.plus_millis(limits::CLIENT_TOKEN_LIFE_MS + n as i64);
        let token = Token { key: key(operation, n), request: "r".into(), made: made.clone(), expires_at: at };
        lab.cell.load(Entity::Token(Arc::new(token)));
    }
}

/// A day's worth of tokens is too much to recount after each command.
fn apply(lab: &mut Lab, command: Command) -> (Value, Vec<Change>) {
    lab.now = lab.now.plus_millis(1);
    let (now, entropy) = (lab.now, lab.chance());
    let outcome = lab.cell.apply(now, entropy, command);
    let Reply::Api(Ok(answer)) = outcome.reply else { panic!("{:?}", outcome.reply) };
    let changes = outcome.group.map(|group| group.changes).unwrap_or_default();
    (serde_json::from_slice(&answer.to_json()).expect("JSON"), changes)
}

/// The tokens among some changes that were forgotten.
fn forgotten(changes: &[Change]) -> Vec<&EntityKey> {
    changes.iter().filter(|change| change.new.is_none()).map(|change| &change.key).collect()
}

#[test]
fn a_full_room_takes_new_tokens_and_forgets_the_oldest_of_the_same_operation() {
    let mut lab = Lab::new();
    lab.instance(1, 1_000, 1_000);
    lab.ok(0, RegisterTaskDefinition, &definition("web", 1, 6, &[]));
    load(
        &mut lab,
        "RegisterContainerInstance",
        limits::REGISTRATION_TOKENS,
        &Made::Instance(crate::ids::InstanceId(1)),
    );
    load(&mut lab, "RunTask", limits::CLIENT_TOKENS, &Made::Tasks { tasks: vec![TaskId(1)], failures: Vec::new() });
    // Later than all that is remembered.
    lab.now = lab.now.plus_millis(3_600_000);
    let run = |token: &str| api(0, RunTask, &json!({"taskDefinition": "web", "count": 2, "clientToken": token}));
    let (first, changes) = apply(&mut lab, run("new-1"));
    assert_eq!(first["tasks"].as_array().map(Vec::len), Some(2));
    assert_eq!(forgotten(&changes), [&EntityKey::Token(key("RunTask", 0))], "in the same group as what took its room");
    let (_, changes) = apply(&mut lab, run("new-2"));
    assert_eq!(forgotten(&changes), [&EntityKey::Token(key("RunTask", 1))]);
    let (again, changes) = apply(&mut lab, run("new-1"));
    assert_eq!((&again["tasks"], changes), (&first["tasks"], Vec::new()));
    let mut agent = offer("host-2", 10, 10);
    agent["clientToken"] = json!("start");
    let (_, changes) = apply(&mut lab, api(2, longshore_api::ecs::Operation::RegisterContainerInstance, &agent));
    assert_eq!(forgotten(&changes), [&EntityKey::Token(key("RegisterContainerInstance", 0))]);
    lab.cell.check().unwrap_or_else(|violation| panic!("{violation}"));
}

#[test]
fn old_tokens_keep_what_they_made_and_one_failure_when_there_are_too_many() {
    let mut lab = Lab::new();
    for agent in 1..=3 {
        lab.instance(agent, 10, 100);
    }
    lab.ok(0, RegisterTaskDefinition, &definition("web", 10, 6, &[]));
    let failure = |n| Failure { arn: Some(format!("arn-{n}")), reason: Some("AGENT".to_owned()), detail: None };
    let failures: Vec<Failure> = (0..=limits::RUN_TASK_FAILURES).map(failure).collect();
    let made = Made::Tasks { tasks: vec![TaskId(7)], failures };
    load(&mut lab, "RunTask", limits::CLIENT_TOKEN_FAILURES / limits::RUN_TASK_FAILURES, &made);
    let run = api(0, RunTask, &json!({"taskDefinition": "web", "count": 4, "clientToken": "new"}));
    let (first, changes) = apply(&mut lab, run.clone());
    assert_eq!(first["failures"].as_array().map(Vec::len), Some(3), "one of each instance");
    let Some(Change { key: shortened, new: Some(Entity::Token(token)), .. }) = changes.last() else {
        panic!("{changes:?}")
    };
    assert_eq!(*shortened, EntityKey::Token(key("RunTask", 0)), "the oldest");
    assert_eq!(token.made, Made::Tasks { tasks: vec![TaskId(7)], failures: vec![failure(0)] });
    let (again, changes) = apply(&mut lab, run);
    assert_eq!((again, changes), (first, Vec::new()), "a repetition soon after is answered the same");
    lab.cell.check().unwrap_or_else(|violation| panic!("{violation}"));
}
