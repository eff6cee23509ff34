use longshore_api::ecs::Operation::{
    CreateCluster, DeleteCluster, DeregisterContainerInstance, DescribeClusters, ListContainerInstances,
    RegisterContainerInstance, RunTask, UpdateContainerInstancesState,
};

use super::*;
use crate::cell::{CloseReason, Reply};
use crate::entity::Entity;
use crate::instance::{InstanceStatus, SessionRefusal};
use crate::limits;

fn set(lab: &mut Lab, machine: &Machine, status: &str) -> Value {
    lab.ok(0, UpdateContainerInstancesState, &json!({"containerInstances": [machine.arn], "status": status}))
}

fn listed(lab: &mut Lab, status: Option<&str>) -> Vec<Value> {
    let answer = lab.ok(0, ListContainerInstances, &json!({"status": status}));
    answer["containerInstanceArns"].as_array().cloned().expect("a list")
}

fn deregister(lab: &mut Lab, machine: &Machine, force: bool) -> Outcome {
    let document = json!({"containerInstance": machine.arn, "force": force});
    lab.apply(crate::fixture::api(0, DeregisterContainerInstance, &document))
}

fn status(lab: &mut Lab, machine: &Machine) -> String {
    described(lab, machine)["status"].as_str().expect("a status").to_owned()
}

#[test]
fn a_draining_instance_gets_nothing_new_and_keeps_what_it_has() {
    let (mut lab, machines) = lab(2);
    let tasks = task_on_each(&mut lab, &machines);
    let answer = set(&mut lab, &machines[0], "DRAINING");
    assert_eq!((&answer["containerInstances"][0]["status"], &answer["failures"]), (&json!("DRAINING"), &json!([])));
    for _ in 0..30 {
        let task = lab.run("web");
        assert_eq!(lab.describe(&task)["containerInstanceArn"], machines[1].arn.as_str());
    }
    assert_eq!(lab.describe(&tasks[0])["desiredStatus"], "RUNNING");
    assert_eq!(listed(&mut lab, Some("DRAINING")), [json!(machines[0].arn)]);
    assert_eq!(listed(&mut lab, Some("ACTIVE")), [json!(machines[1].arn)]);
    assert_eq!(listed(&mut lab, None).len(), 2);
    lab.cell.snapshot();
    assert_eq!(lab.ok(0, DescribeClusters, &json!({}))["clusters"][0]["registeredContainerInstancesCount"], 2);
    set(&mut lab, &machines[1], "DRAINING");
    let (code, message) = lab.refused(0, RunTask, &json!({"taskDefinition": "web"}));
    assert_eq!(code, "InvalidParameterException");
    assert_eq!(message, "No Container Instances were found in your cluster.");
    set(&mut lab, &machines[0], "ACTIVE");
    let task = lab.run("web");
    assert_eq!(lab.describe(&task)["containerInstanceArn"], machines[0].arn.as_str());
}

#[test]
fn draining_instances_are_not_named_among_the_failures_of_a_placement() {
    let (mut lab, machines) = lab(2);
    set(&mut lab, &machines[0], "DRAINING");
    lab.ok(0, RegisterTaskDefinition, &definition("huge", 100, 20_000, &[]));
    let failures = lab.ok(0, RunTask, &json!({"taskDefinition": "huge"}))["failures"].clone();
    assert_eq!(failures.as_array().map(Vec::len), Some(1));
    assert_eq!(failures[0]["arn"], machines[1].arn.as_str());
}

#[test]
fn states_that_cannot_be_set_and_instances_that_have_none_are_named() {
    let (mut lab, machines) = lab(2);
    let one = |status: &str| json!({"containerInstances": [machines[0].arn], "status": status});
    for bad in ["DEREGISTERING", "REGISTERING", "REGISTRATION_FAILED"] {
        assert_eq!(lab.refused(0, UpdateContainerInstancesState, &one(bad)).0, "InvalidParameterException", "{bad}");
    }
    deregister(&mut lab, &machines[1], false);
    let unknown = "00000000000000000000000000000000";
    let document = json!({"containerInstances": [machines[0].arn, machines[1].arn, unknown], "status": "DRAINING"});
    let answer = lab.ok(0, UpdateContainerInstancesState, &document);
    assert_eq!(answer["containerInstances"].as_array().map(Vec::len), Some(1));
    let reasons: Vec<&str> = answer["failures"]
        .as_array()
        .expect("failures")
        .iter()
        .filter_map(|failure| failure["reason"].as_str())
        .collect();
    assert_eq!(reasons, ["INACTIVE", "MISSING"]);
    let command = crate::fixture::api(0, UpdateContainerInstancesState, &one("DRAINING"));
    assert!(lab.apply(command).group.is_none(), "to set what is set writes nothing");
}

#[test]
fn an_agent_that_registers_again_does_not_end_its_draining() {
    let (mut lab, mut machines) = lab(1);
    set(&mut lab, &machines[0], "DRAINING");
    let mut again = offer("host-1", 5_000, 5_000);
    again["containerInstanceArn"] = json!(machines[0].arn);
    let answer = lab.ok(1, RegisterContainerInstance, &again);
    assert_eq!(answer["containerInstance"]["status"], "DRAINING");
    come_back(&mut lab, &mut machines[0]);
    assert_eq!(status(&mut lab, &machines[0]), "DRAINING");
}

#[test]
fn an_instance_with_tasks_is_deregistered_by_force_only() {
    let (mut lab, machines) = lab(1);
    lab.run("web");
    let (code, message) = lab.refused(0, DeregisterContainerInstance, &json!({"containerInstance": machines[0].arn}));
    assert_eq!(
        (code.as_str(), message.as_str()),
        ("InvalidParameterException", "Found running tasks on the instance.")
    );
    let unknown = json!({"containerInstance": "00000000000000000000000000000000", "force": true});
    assert_eq!(lab.refused(0, DeregisterContainerInstance, &unknown).0, "ClientException");
}

#[test]
fn a_deregistered_instance_is_gone_and_describable_for_an_hour() {
    let (mut lab, mut machines) = lab(2);
    let outcome = deregister(&mut lab, &machines[0], false);
    let Reply::Api(Ok(answer)) = outcome.reply else { panic!("refused") };
    let answer: Value = serde_json::from_slice(&answer.to_json()).expect("JSON");
    assert_eq!(answer["containerInstance"]["status"], "INACTIVE");
    assert_eq!(answer["containerInstance"]["agentConnected"], false);
    let (instance, session) = (machines[0].key, machines[0].session);
    let close = Effect::Close { instance, session, reason: CloseReason::Deregistered };
    assert!(outcome.effects.contains(&close));
    let (from, to) = (InstanceStatus::Active, InstanceStatus::Inactive);
    assert_eq!(notes(&outcome.effects), [Decision::StatusChanged { instance, from, to }]);
    assert!(lab.disconnect(instance, session).effects.is_empty(), "its session ended before");

    assert_eq!(come_back(&mut lab, &mut machines[0]).reply, Reply::Session(Err(SessionRefusal::Inactive)));
    assert_eq!(SessionRefusal::Inactive.name(), "InactiveInstanceException");
    let mut again = offer("host-1", 10, 10);
    again["containerInstanceArn"] = json!(machines[0].arn);
    let (code, message) = lab.refused(1, RegisterContainerInstance, &again);
    let words = format!("Referenced container instance {} not registered.", instance.id);
    assert_eq!((code.as_str(), message), ("ClientException", words));
    assert_eq!(
        lab.refused(0, DeregisterContainerInstance, &json!({"containerInstance": machines[0].arn})).0,
        "ClientException"
    );

    assert_eq!(status(&mut lab, &machines[0]), "INACTIVE");
    assert_eq!(listed(&mut lab, None), [json!(machines[1].arn)]);
    assert_eq!(lab.ok(0, DescribeClusters, &json!({}))["clusters"][0]["registeredContainerInstancesCount"], 1);
    lab.pass(limits::INACTIVE_LIFE_MS - 60_000);
    assert_eq!(status(&mut lab, &machines[0]), "INACTIVE");
    lab.pass(120_000);
    let answer = lab.ok(0, DescribeContainerInstances, &json!({"containerInstances": [machines[0].arn]}));
    assert_eq!(answer["failures"][0]["reason"], "MISSING");
    assert_eq!(lab.cell.next_deadline(), None);
}

#[test]
fn the_client_token_of_a_deregistered_instance_makes_no_other() {
    let (mut lab, _) = lab(1);
    let mut offer = offer("host-7", 10, 10);
    offer["clientToken"] = json!("start-1");
    let arn = lab.register(7, &offer);
    lab.ok(0, DeregisterContainerInstance, &json!({"containerInstance": arn}));
    assert_eq!(lab.refused(7, RegisterContainerInstance, &offer).0, "ClientException");
}

#[test]
fn an_agent_that_names_its_instance_leaves_no_client_token_behind() {
    let (mut lab, machines) = lab(1);
    let mut offer = offer("host-1", 10_000, 10_000);
    offer["containerInstanceArn"] = json!(machines[0].arn);
    for start in 0..3 {
        offer["clientToken"] = json!(format!("start-{start}"));
        assert_eq!(lab.register(1, &offer), machines[0].arn);
    }
    assert!(!lab.cell.entities().any(|entity| matches!(entity, Entity::Token(_))));
}

#[test]
fn force_stops_the_tasks_first_when_the_agent_is_there() {
    let (mut lab, machines) = lab(1);
    let tasks = [lab.run("web"), lab.run("web")];
    let outcome = deregister(&mut lab, &machines[0], true);
    let stops = outcome.effects.iter().filter(|effect| matches!(effect, Effect::Stop { .. })).count();
    assert_eq!(stops, 2);
    assert_eq!(status(&mut lab, &machines[0]), "DEREGISTERING");
    assert_eq!(listed(&mut lab, Some("DEREGISTERING")), [json!(machines[0].arn)]);
    let task = lab.describe(&tasks[0]);
    assert_eq!((&task["desiredStatus"], &task["lastStatus"]), (&json!("STOPPED"), &json!("PENDING")));
    assert_eq!(task["stoppedReason"], "Container instance deregistration forced by user");
    assert_eq!(task["stopCode"], "UserInitiated");
    lab.refused(0, RunTask, &json!({"taskDefinition": "web"}));
    lab.pass(600_000);
    lab.report(1, &tasks[0], "STOPPED");
    assert_eq!(status(&mut lab, &machines[0]), "DEREGISTERING");
    let last = json!({"cluster": "default", "task": tasks[1], "status": "STOPPED"});
    let outcome = lab.apply(crate::fixture::api(1, longshore_api::ecs::Operation::SubmitTaskStateChange, &last));
    let (instance, session) = (machines[0].key, machines[0].session);
    let close = Effect::Close { instance, session, reason: CloseReason::Deregistered };
    assert!(outcome.effects.contains(&close), "{:?}", outcome.effects);
    assert_eq!(status(&mut lab, &machines[0]), "INACTIVE");
}

#[test]
fn force_on_many_tasks_orders_them_in_steps() {
    let (mut lab, machines) = lab(1);
    for _ in 0..30 {
        lab.ok(0, RunTask, &json!({"taskDefinition": "web", "count": 10}));
    }
    let changes = deregister(&mut lab, &machines[0], true).group.expect("changes").changes.len();
    assert!(changes <= limits::CHANGES_PER_GROUP);
    let effects = lab.pass(1_000);
    let stops = effects.iter().filter(|effect| matches!(effect, Effect::Stop { .. })).count();
    assert_eq!(stops + changes - 1, 300);
    assert_eq!(lab.wanted(), 0);
    // An agent that reconnects is told again, and the rest is not forgotten.
    assert_eq!(status(&mut lab, &machines[0]), "DEREGISTERING");
}

#[test]
fn force_without_an_agent_gives_the_tasks_the_verdict_at_once() {
    let (mut lab, machines) = lab(1);
    let task = lab.run("web");
    vanish(&mut lab, &machines[0]);
    deregister(&mut lab, &machines[0], true);
    assert_eq!(status(&mut lab, &machines[0]), "INACTIVE");
    let task = lab.describe(&task);
    assert_eq!((&task["lastStatus"], &task["stopCode"]), (&json!("STOPPED"), &json!("UserInitiated")));
    assert_eq!(task["stoppedReason"], "Container instance deregistration forced by user");
    lab.ok(0, DeleteCluster, &json!({"cluster": "default"}));
    assert!(lab.cell.snapshot().tasks().all(|task| !task.is_stale()), "nothing is held any more");
}

#[test]
fn force_without_an_agent_on_many_tasks_is_done_in_steps_that_a_restart_does_not_undo() {
    let (mut lab, machines) = lab(1);
    for _ in 0..30 {
        lab.ok(0, RunTask, &json!({"taskDefinition": "web", "count": 10}));
    }
    vanish(&mut lab, &machines[0]);
    deregister(&mut lab, &machines[0], true);
    assert_eq!(status(&mut lab, &machines[0]), "DEREGISTERING");
    let sequence = lab.cell.sequence();
    lab.cell.revert([].iter(), sequence);
    lab.pass(1_000);
    assert_eq!(status(&mut lab, &machines[0]), "INACTIVE");
    assert_eq!(lab.wanted(), 0);
}

#[test]
fn a_deregistering_instance_that_vanishes_is_inactive_once_it_is_lost() {
    let (mut lab, machines) = lab(2);
    let task = task_on_each(&mut lab, &machines).remove(0);
    deregister(&mut lab, &machines[0], true);
    vanish(&mut lab, &machines[0]);
    lab.pass(55_000);
    assert_eq!(status(&mut lab, &machines[0]), "DEREGISTERING");
    assert_eq!(lab.describe(&task)["lastStatus"], "PENDING");
    lab.pass(10_000);
    assert_eq!(status(&mut lab, &machines[0]), "INACTIVE");
    assert_eq!(lab.describe(&task)["lastStatus"], "STOPPED");
    // Or whoever deregisters it says once more that it is gone.
    deregister(&mut lab, &machines[1], true);
    vanish(&mut lab, &machines[1]);
    deregister(&mut lab, &machines[1], true);
    assert_eq!(status(&mut lab, &machines[1]), "INACTIVE");
}

#[test]
fn a_deregistering_instance_that_returns_is_told_to_stop_what_it_was_not_told_yet() {
    let (mut lab, mut machines) = lab(1);
    for _ in 0..20 {
        lab.ok(0, RunTask, &json!({"taskDefinition": "web", "count": 10}));
    }
    deregister(&mut lab, &machines[0], true);
    vanish(&mut lab, &machines[0]);
    lab.pass(1_000);
    assert!(lab.wanted() > 0, "nobody is there to be told");
    let orders = come_back(&mut lab, &mut machines[0]).effects;
    assert!(!orders.iter().any(|effect| matches!(effect, Effect::Start { .. })), "{orders:?}");
    lab.pass(1_000);
    assert_eq!(lab.wanted(), 0);
}

#[test]
fn a_lost_instance_is_deregistered_without_force_and_its_stale_copies_hold_nothing_any_more() {
    let (mut lab, machines) = lab(2);
    let task = task_on_each(&mut lab, &machines).remove(0);
    vanish(&mut lab, &machines[0]);
    lab.pass(65_000);
    let before = lab.describe(&task);
    deregister(&mut lab, &machines[0], false);
    assert_eq!(status(&mut lab, &machines[0]), "INACTIVE");
    let after = lab.describe(&task);
    assert_eq!((&after["stoppedReason"], &after["stoppedAt"]), (&before["stoppedReason"], &before["stoppedAt"]));
    assert!(lab.cell.snapshot().tasks().all(|task| !task.is_stale()));
    // From then on its retention counts: ten minutes at most.
    lab.pass(610_000);
    assert_eq!(lab.describe(&task), Value::Null);
}

#[test]
fn a_returned_instance_with_stale_copies_stops_them_before_it_is_deregistered() {
    let (mut lab, mut machines) = lab(1);
    let task = lab.run("web");
    machine(&mut lab, 2, "host-2");
    vanish(&mut lab, &machines[0]);
    lab.pass(65_000);
    come_back(&mut lab, &mut machines[0]);
    deregister(&mut lab, &machines[0], false);
    assert_eq!(status(&mut lab, &machines[0]), "DEREGISTERING");
    lab.report(1, &task, "STOPPED");
    assert_eq!(status(&mut lab, &machines[0]), "INACTIVE");
}

#[test]
fn a_cluster_is_deleted_only_when_no_instance_is_in_service() {
    let (mut lab, machines) = lab(1);
    lab.ok(0, CreateCluster, &json!({"clusterName": "other"}));
    set(&mut lab, &machines[0], "DRAINING");
    let refused = lab.refused(0, DeleteCluster, &json!({"cluster": "default"}));
    assert_eq!(refused.0, "ClusterContainsContainerInstancesException");
    deregister(&mut lab, &machines[0], false);
    lab.ok(0, DeleteCluster, &json!({"cluster": "default"}));
}
