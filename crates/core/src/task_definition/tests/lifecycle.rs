//! ACTIVE → INACTIVE → DELETE_IN_PROGRESS → gone, as clients see it and as the store keeps it.

use std::sync::Arc;

use longshore_api::ecs::Operation::{
    DeleteTaskDefinitions, DeregisterTaskDefinition, DescribeTaskDefinition, ListTaskDefinitionFamilies,
    ListTaskDefinitions, RegisterTaskDefinition, RunTask, StopTask,
};
use serde_json::{Value, json};

use crate::cell::{Cell, Command};
use crate::entity::{Entity, Family};
use crate::fixture::{Lab, config, definition};
use crate::limits;

fn register(lab: &mut Lab, family: &str) {
    lab.ok(0, RegisterTaskDefinition, &definition(family, 1, 6, &[]));
}

fn deregister(lab: &mut Lab, name: &str) -> Value {
    lab.ok(0, DeregisterTaskDefinition, &json!({"taskDefinition": name}))["taskDefinition"].clone()
}

fn delete(lab: &mut Lab, names: &[&str]) -> Value {
    lab.ok(0, DeleteTaskDefinitions, &json!({"taskDefinitions": names}))
}

/// The status as DescribeTaskDefinition shows it; `None` when it is gone.
fn status(lab: &mut Lab, name: &str) -> Option<String> {
    let answer = lab.call(0, DescribeTaskDefinition, &json!({"taskDefinition": name}));
    let answer: Value = serde_json::from_slice(&answer.ok()?.to_json()).expect("JSON");
    Some(answer["taskDefinition"]["status"].as_str().expect("a status").to_owned())
}

/// What ListTaskDefinitions has, as `family:revision`.
fn listed(lab: &mut Lab, status: &str) -> Vec<String> {
    let answer = lab.ok(0, ListTaskDefinitions, &json!({"status": status}));
    let arns = answer["taskDefinitionArns"].as_array().expect("ARNs");
    arns.iter().filter_map(|arn| Some(arn.as_str()?.rsplit('/').next()?.to_owned())).collect()
}

fn families(lab: &mut Lab, request: Value) -> Vec<Value> {
    lab.ok(0, ListTaskDefinitionFamilies, &request)["families"].as_array().expect("families").clone()
}

/// How many definitions the store holds.
fn kept(lab: &Lab) -> usize {
    lab.cell.entities().filter(|entity| matches!(entity, Entity::Definition(_))).count()
}

/// A cell that loads what the store holds goes on where this one was.
fn restart(lab: &mut Lab) {
    let (entities, sequence): (Vec<Entity>, u64) = (lab.cell.entities().collect(), lab.cell.sequence());
    lab.cell = Cell::new(config());
    for entity in entities {
        let stored = entity.encode().expect("JSON");
        lab.cell.load(Entity::decode(&entity.key().encode(), &stored).expect("reads back"));
    }
    lab.cell.loaded(sequence);
    lab.cell.check().unwrap_or_else(|violation| panic!("{violation}"));
}

#[test]
fn a_definition_that_nothing_uses_goes_after_a_while_and_its_number_is_not_used_again() {
    let mut lab = Lab::new();
    register(&mut lab, "web");
    register(&mut lab, "web");
    deregister(&mut lab, "web:1");
    let answer = delete(&mut lab, &["web:1"]);
    assert_eq!(answer["failures"], json!([]));
    let document = &answer["taskDefinitions"][0];
    assert_eq!((&document["status"], &document["revision"]), (&json!("DELETE_IN_PROGRESS"), &json!(1)));
    assert!(document["deleteRequestedAt"].is_number() && document["deregisteredAt"].is_number(), "{document}");
    assert_eq!(status(&mut lab, "web:1").as_deref(), Some("DELETE_IN_PROGRESS"));
    assert_eq!(listed(&mut lab, "DELETE_IN_PROGRESS"), ["web:1"]);
    assert_eq!(listed(&mut lab, "ACTIVE"), ["web:2"]);
    assert_eq!(listed(&mut lab, "INACTIVE"), Vec::<String>::new());
    let refused = lab.refused(0, RunTask, &json!({"taskDefinition": "web:1"}));
    assert_eq!(refused, ("ClientException".to_owned(), "TaskDefinition is inactive".to_owned()));
    assert_eq!(lab.refused(0, DeregisterTaskDefinition, &json!({"taskDefinition": "web:1"})).0, "ClientException");
    let again = delete(&mut lab, &["web:1"]);
    assert_eq!(again, answer, "it is asked for once");
    restart(&mut lab);
    lab.pass(limits::DELETION_SHOWN_MS + 1);
    assert_eq!((status(&mut lab, "web:1"), kept(&lab)), (None, 1));
    assert_eq!(listed(&mut lab, "DELETE_IN_PROGRESS"), Vec::<String>::new());
    deregister(&mut lab, "web:2");
    delete(&mut lab, &["web:2"]);
    lab.pass(limits::DELETION_SHOWN_MS + 1);
    assert_eq!((kept(&lab), families(&mut lab, json!({}))), (0, vec![]));
    restart(&mut lab);
    register(&mut lab, "web");
    assert_eq!(status(&mut lab, "web:3").as_deref(), Some("ACTIVE"), "a number is never used twice");
}

#[test]
fn a_deletion_waits_for_tasks_and_stopped_ones_stay_described() {
    let mut lab = Lab::new();
    lab.instance(1, 1_000, 1_000);
    register(&mut lab, "web");
    let (first, second) = (lab.run("web"), lab.run("web"));
    deregister(&mut lab, "web:1");
    delete(&mut lab, &["web:1"]);
    lab.pass(10 * limits::DELETION_SHOWN_MS);
    assert_eq!(status(&mut lab, "web:1").as_deref(), Some("DELETE_IN_PROGRESS"), "two tasks run");
    lab.report(1, &first, "RUNNING");
    lab.report(1, &first, "STOPPED");
    lab.pass(1_000);
    assert_eq!(status(&mut lab, "web:1").as_deref(), Some("DELETE_IN_PROGRESS"), "one still does");
    restart(&mut lab);
    lab.ok(0, StopTask, &json!({"task": second}));
    lab.pass(1_000);
    assert!(status(&mut lab, "web:1").is_some(), "the order to stop is not the end");
    lab.report(1, &second, "STOPPED");
    lab.pass(1_000);
    assert_eq!((status(&mut lab, "web:1"), kept(&lab)), (None, 1));
    assert_eq!(listed(&mut lab, "DELETE_IN_PROGRESS"), Vec::<String>::new());
    assert_eq!(families(&mut lab, json!({})), Vec::<Value>::new());
    restart(&mut lab);
    for task in [&first, &second] {
        assert_eq!(lab.describe(task)["containers"][0]["name"], "main", "a stopped task is described with it");
    }
    lab.pass(lab.cell.config().retention.at_most_ms);
    assert_eq!((lab.describe(&second), kept(&lab)), (Value::Null, 0), "the record goes with the last task");
    assert_eq!(lab.cell.next_deadline(), None);
}

#[test]
fn each_name_that_cannot_be_deleted_says_why() {
    let mut lab = Lab::new();
    register(&mut lab, "web");
    register(&mut lab, "web");
    deregister(&mut lab, "web:2");
    let elsewhere = "arn:aws:ecs:us-east-1:111111111111:task-definition/web:2";
    let answer = delete(&mut lab, &["web:1", "web:9", "web", "a b", elsewhere, "web:2"]);
    let reasons: Vec<(&str, &str)> = answer["failures"]
        .as_array()
        .expect("failures")
        .iter()
        .map(|failure| (failure["arn"].as_str().unwrap_or(""), failure["reason"].as_str().unwrap_or("")))
        .collect();
    let words = ["still in ACTIVE status", "does not exist", "is invalid", "is invalid", "does not exist"];
    assert_eq!(reasons.len(), words.len());
    for ((arn, reason), (name, word)) in
        reasons.iter().zip(["web:1", "web:9", "web", "a b", elsewhere].into_iter().zip(words))
    {
        assert_eq!(*arn, name);
        assert!(reason.contains(word), "{name}: {reason}");
    }
    assert_eq!(answer["taskDefinitions"][0]["revision"], 2);
    assert_eq!(answer["taskDefinitions"].as_array().map(Vec::len), Some(1));
}

#[test]
fn deregistering_needs_a_revision_and_can_be_repeated() {
    let mut lab = Lab::new();
    register(&mut lab, "web");
    let first = deregister(&mut lab, "web:1");
    assert_eq!(first["status"], "INACTIVE");
    assert_eq!(deregister(&mut lab, "web:1"), first, "the time stays");
    for (name, word) in [("web", "Revision is missing"), ("web:2", "does not exist"), ("other:1", "does not exist")] {
        let (code, message) = lab.refused(0, DeregisterTaskDefinition, &json!({"taskDefinition": name}));
        assert_eq!(code, "ClientException");
        assert!(message.contains(word), "{message}");
    }
    assert_eq!(lab.refused(0, DescribeTaskDefinition, &json!({"taskDefinition": "web"})).0, "ClientException");
    assert_eq!(status(&mut lab, "web:1").as_deref(), Some("INACTIVE"));
}

#[test]
fn there_is_a_limit_of_families_and_those_that_there_are_go_on() {
    let mut lab = Lab::new();
    register(&mut lab, "web");
    for n in 1..limits::FAMILIES {
        let family = Family { name: format!("family-{n}").into(), last_revision: 1 };
        lab.cell.load(Entity::Family(Arc::new(family)));
    }
    let (code, message) = lab.refused(0, RegisterTaskDefinition, &definition("one-more", 1, 6, &[]));
    assert_eq!(code, "LimitExceededException");
    assert!(message.contains("families has reached its limit of 100000"), "{message}");
    register(&mut lab, "web");
    register(&mut lab, "family-1");
    assert_eq!(listed(&mut lab, "ACTIVE"), ["family-1:2", "web:1", "web:2"]);
}

#[test]
fn a_family_moves_with_the_status_of_its_revisions() {
    let mut lab = Lab::new();
    let indexed = |lab: &mut Lab| -> Vec<String> {
        let index = lab.cell.snapshot().families_by_status;
        index.iter().map(|(status, name)| format!("{name} {}", status.as_str())).collect()
    };
    register(&mut lab, "web");
    register(&mut lab, "web");
    deregister(&mut lab, "web:2");
    assert_eq!(indexed(&mut lab), ["web ACTIVE"]);
    deregister(&mut lab, "web:1");
    assert_eq!(indexed(&mut lab), ["web INACTIVE"]);
    delete(&mut lab, &["web:1", "web:2"]);
    assert_eq!(indexed(&mut lab), ["web INACTIVE"]);
    lab.pass(3_600_000);
    assert_eq!(indexed(&mut lab), Vec::<String>::new(), "only its counter is left, and no listing reads it");
    register(&mut lab, "web");
    assert_eq!(
        (indexed(&mut lab), listed(&mut lab, "ACTIVE")),
        (vec!["web ACTIVE".to_owned()], vec!["web:3".to_owned()])
    );
    restart(&mut lab);
    assert_eq!(indexed(&mut lab), ["web ACTIVE"]);
}

#[test]
fn families_are_listed_while_they_have_a_revision() {
    let mut lab = Lab::new();
    for family in ["a", "web", "web-1", "web-2", "x"] {
        register(&mut lab, family);
    }
    for name in ["web-1:1", "x:1"] {
        deregister(&mut lab, name);
    }
    delete(&mut lab, &["x:1"]);
    let all = json!(["a", "web", "web-1", "web-2", "x"]);
    assert_eq!(json!(families(&mut lab, json!({}))), all, "of every status, unless one is asked for");
    assert_eq!(json!(families(&mut lab, json!({"status": "ALL"}))), all);
    assert_eq!(json!(families(&mut lab, json!({"status": "ACTIVE"}))), json!(["a", "web", "web-2"]));
    assert_eq!(json!(families(&mut lab, json!({"status": "INACTIVE"}))), json!(["web-1", "x"]));
    assert_eq!(json!(families(&mut lab, json!({"familyPrefix": "web"}))), json!(["web", "web-1", "web-2"]));
    let mut request = json!({"familyPrefix": "web", "maxResults": 1});
    let mut found = Vec::new();
    loop {
        let answer = lab.ok(0, ListTaskDefinitionFamilies, &request);
        found.extend(answer["families"].as_array().expect("families").iter().cloned());
        let Some(token) = answer.get("nextToken") else { break };
        request["nextToken"] = token.clone();
    }
    assert_eq!(json!(found), json!(["web", "web-1", "web-2"]));
    lab.pass(limits::DELETION_SHOWN_MS + 1);
    assert_eq!(json!(families(&mut lab, json!({"status": "INACTIVE"}))), json!(["web-1"]));
}

#[test]
fn many_deletions_end_a_bounded_number_at_a_time() {
    let mut lab = Lab::new();
    let names: Vec<String> = (1..=120).map(|revision| format!("web:{revision}")).collect();
    for name in &names {
        register(&mut lab, "web");
        deregister(&mut lab, name);
    }
    for ten in names.chunks(10) {
        delete(&mut lab, &ten.iter().map(String::as_str).collect::<Vec<_>>());
    }
    lab.now = lab.now.plus_millis(limits::DELETION_SHOWN_MS);
    let group = lab.apply(Command::Tick).group.expect("some went");
    assert_eq!(group.changes.len(), limits::EXPIRED_PER_TICK);
    lab.pass(1_000);
    assert_eq!(kept(&lab), 0);
}
