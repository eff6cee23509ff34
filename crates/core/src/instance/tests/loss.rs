use longshore_api::Timestamp;
use longshore_api::admin;
use longshore_api::ecs::Operation::{
    DescribeClusters, DescribeTasks, ListTasks, RegisterContainerInstance, RunTask, StopTask, SubmitTaskStateChange,
};
use serde_json::json;

use super::*;
use crate::cell::{Cell, CloseReason, Reply};
use crate::config::{CellConfig, LossPolicy};
use crate::decision::Released;
use crate::fixture::{config, principal};
use crate::instance::SessionRefusal;
use crate::limits;

/// The default patience with our agent.
const PATIENCE: i64 = 60_000;

fn lab_with(loss: LossPolicy, machines: u32) -> (Lab, Vec<Machine>) {
    let mut lab = Lab::with(CellConfig { loss, ..config() });
    lab.ok(0, RegisterTaskDefinition, &definition("web", 10, 10, &[]));
    let machines = (1..=machines).map(|agent| machine(&mut lab, agent, &format!("host-{agent}"))).collect();
    (lab, machines)
}

#[test]
fn an_instance_is_lost_when_its_agent_was_not_heard_of_for_the_time_and_not_later_for_our_not_noticing() {
    let (mut lab, machines) = lab(2);
    let heard_at = lab.now;
    lab.pass(20_000);
    let (instance, session) = (machines[0].key, machines[0].session);
    let effects = lab.apply(Command::SessionClosed { instance, session, heard_at }).effects;
    let lost_at = heard_at.plus_millis(PATIENCE);
    assert_eq!(notes(&effects), [Decision::InstanceVanished { instance, heard_at, lost_at: Some(lost_at) }]);
    let left = lost_at.since(lab.now);
    assert!(notes(&lab.pass(left - 1)).is_empty() && !is_lost(&mut lab, &machines[0]));
    assert_eq!(notes(&lab.pass(2)), [Decision::InstanceLost { instance, silent_ms: PATIENCE, tasks: 0 }]);
    assert!(is_lost(&mut lab, &machines[0]));
    assert_eq!(described(&mut lab, &machines[0])["status"], "ACTIVE", "loss is not a status");
}

#[test]
fn the_tasks_of_a_lost_instance_are_stopped_for_the_api_and_hold_what_they_hold() {
    let (mut lab, machines) = lab(2);
    let tasks = task_on_each(&mut lab, &machines);
    lab.report(1, &tasks[0], "RUNNING");
    let free = described(&mut lab, &machines[0])["remainingResources"].clone();
    vanish(&mut lab, &machines[0]);
    lab.pass(PATIENCE + 1_000);
    let task = lab.describe(&tasks[0]);
    assert_eq!((&task["lastStatus"], &task["desiredStatus"]), (&json!("STOPPED"), &json!("STOPPED")));
    assert_eq!(task["stopCode"], "InfrastructureHealth");
    let id = machines[0].key.id;
    let reason = format!("Container instance {id} was lost: its agent was not heard of for 60 seconds");
    assert_eq!(task["stoppedReason"], reason);
    assert!(task["stoppedAt"].is_number() && task["stoppingAt"].is_number());
    assert_eq!(task["containers"][0]["lastStatus"], "STOPPED");
    let instance = described(&mut lab, &machines[0]);
    assert_eq!((&instance["runningTasksCount"], &instance["pendingTasksCount"]), (&json!(0), &json!(0)));
    assert_eq!(instance["remainingResources"], free, "a stale copy may still run");
    let filter = json!({"containerInstance": machines[0].arn, "desiredStatus": "STOPPED"});
    assert!(lab.ok(0, ListTasks, &filter)["taskArns"].as_array().expect("a list").contains(&json!(tasks[0])));
    let running = lab.ok(0, ListTasks, &json!({"containerInstance": machines[0].arn}));
    assert_eq!(running["taskArns"], json!([]));
    assert_eq!(lab.ok(0, DescribeClusters, &json!({}))["clusters"][0]["runningTasksCount"], 0);
    assert_eq!(lab.describe(&tasks[1])["lastStatus"], "PENDING", "the others are not meant");
}

#[test]
fn an_official_agent_has_more_time_and_never_means_never() {
    let official = |lab: &mut Lab| {
        let mut offer = offer("host-9", 1_000, 1_000);
        offer["attributes"] = json!([]);
        let arn = lab.register(9, &offer);
        let (key, session) = lab.connect(9, &arn);
        Machine { agent: 9, arn, key, session }
    };
    let (mut lab, _) = lab(2);
    let machine = official(&mut lab);
    vanish(&mut lab, &machine);
    lab.pass(299_000);
    assert!(!is_lost(&mut lab, &machine));
    lab.pass(2_000);
    assert!(is_lost(&mut lab, &machine));

    let (mut lab, machines) = lab_with(LossPolicy::default().lost_after(None), 2);
    let machine = official(&mut lab);
    let effects = [vanish(&mut lab, &machine), vanish(&mut lab, &machines[0])].concat();
    assert!(notes(&effects).iter().all(|note| matches!(note, Decision::InstanceVanished { lost_at: None, .. })));
    lab.pass(10 * 24 * 3_600_000);
    assert!(!is_lost(&mut lab, &machine) && !is_lost(&mut lab, &machines[0]));
}

/// The clock is set forward by an hour, or the machine sleeps for one.
fn leap(lab: &mut Lab) {
    lab.now = lab.now.plus_millis(3_600_000);
    lab.apply(Command::ClockLeapt { by_ms: 3_600_000 });
}

#[test]
fn a_leap_of_the_clock_gives_nobody_up() {
    let (mut lab, machines) = lab(3);
    vanish(&mut lab, &machines[0]);
    lab.pass(PATIENCE / 2);
    leap(&mut lab);
    // Each command takes the lab a millisecond.
    lab.pass(PATIENCE / 2 - 10);
    assert!(!is_lost(&mut lab, &machines[0]), "it was silent for a minute by the clock on the wall alone");
    lab.pass(20);
    assert!(is_lost(&mut lab, &machines[0]));
    assert!(!is_lost(&mut lab, &machines[1]), "it is connected");
}

#[test]
fn a_leap_before_the_first_command_leaves_the_grace_alone() {
    let (mut lab, machines) = lab(3);
    lab.cell.reset_sessions();
    leap(&mut lab);
    lab.pass(1);
    let grace = LossPolicy::default().return_grace_ms;
    lab.pass(grace + PATIENCE - 10);
    assert!(!is_lost(&mut lab, &machines[0]));
    leap(&mut lab);
    lab.pass(1_000);
    assert!(machines.iter().all(|machine| !is_lost(&mut lab, machine)), "nobody is left: the brake holds");
}

#[test]
fn what_is_said_of_when_an_agent_was_heard_of_lies_within_its_session() {
    let (mut lab, machines) = lab(3);
    let opened_at = lab.now;
    lab.pass(5_000);
    let Machine { key: instance, session, .. } = machines[1];
    lab.apply(Command::SessionClosed { instance, session, heard_at: Timestamp::from_millis(0) });
    lab.pass(opened_at.plus_millis(PATIENCE - 100).since(lab.now));
    assert!(!is_lost(&mut lab, &machines[1]));
    let Machine { key: instance, session, .. } = machines[0];
    let early = lab.now.plus_millis(3_600_000);
    lab.apply(Command::SessionClosed { instance, session, heard_at: early });
    lab.pass(PATIENCE + 1_000);
    assert!(is_lost(&mut lab, &machines[0]), "a time to come is now");
}

#[test]
fn an_agent_that_registers_and_never_opens_a_session_is_lost_too() {
    let (mut lab, mut machines) = lab(2);
    let arn = lab.register(3, &offer("host-3", 100, 100));
    let id = arn.rsplit('/').next().and_then(|id| id.parse().ok()).expect("an id");
    machines.push(Machine { agent: 3, arn, key: InstanceKey { id, ..machines[0].key }, session: SessionId(0) });
    lab.pass(PATIENCE + 1_000);
    assert!(is_lost(&mut lab, &machines[2]));
    come_back(&mut lab, &mut machines[2]);
    assert!(!is_lost(&mut lab, &machines[2]));
}

/// A cell with the same entities, as a new leader loads it.
fn reload(lab: &mut Lab) {
    let mut cell = Cell::new(CellConfig::clone(lab.cell.config()));
    lab.cell.entities().for_each(|entity| cell.load(entity));
    cell.loaded(lab.cell.sequence());
    lab.cell = cell;
}

#[test]
fn a_new_leader_gives_agents_time_to_come_before_their_clocks_start() {
    let (mut lab, mut machines) = lab(3);
    vanish(&mut lab, &machines[0]);
    lab.pass(PATIENCE - 1_000);
    reload(&mut lab);
    assert!(lab.cell.next_deadline().is_some_and(|due| due <= lab.now), "the first tick starts the clocks");
    let effects = lab.apply(Command::Tick).effects;
    assert_eq!(notes(&effects), [Decision::ReturnsAwaited { instances: 3 }]);
    come_back(&mut lab, &mut machines[1]);
    come_back(&mut lab, &mut machines[2]);
    lab.pass(30_000 + PATIENCE - 1_000);
    assert!(!is_lost(&mut lab, &machines[0]));
    lab.pass(2_000);
    assert!(is_lost(&mut lab, &machines[0]) && !is_lost(&mut lab, &machines[1]));
}

#[test]
fn after_the_store_could_not_be_written_agents_have_the_same_time() {
    let (mut lab, mut machines) = lab(3);
    let sequence = lab.cell.sequence();
    lab.cell.revert([].iter(), sequence);
    // Hours pass while nothing can be written; what happens meanwhile begins nothing.
    lab.disconnect(machines[0].key, machines[0].session);
    lab.now = lab.now.plus_millis(3 * 3_600_000);
    lab.cell.loaded(sequence);
    lab.apply(Command::Tick);
    lab.pass(29_000);
    machines[1..].iter_mut().for_each(|machine| drop(come_back(&mut lab, machine)));
    lab.pass(PATIENCE);
    assert!(!is_lost(&mut lab, &machines[0]));
    lab.pass(2_000);
    assert!(is_lost(&mut lab, &machines[0]) && !is_lost(&mut lab, &machines[1]));
}

#[test]
fn thousands_of_verdicts_are_given_in_small_steps_and_soon() {
    let (mut lab, machines) = lab(1);
    for _ in 0..40 {
        lab.ok(0, RunTask, &json!({"taskDefinition": "web", "count": 10}));
    }
    machine(&mut lab, 2, "host-2");
    vanish(&mut lab, &machines[0]);
    lab.now = lab.now.plus_millis(PATIENCE);
    let begun = lab.now;
    let stopped = |lab: &mut Lab| lab.cell.snapshot().tasks().filter(|task| task.verdict.is_some()).count();
    let mut before = 0;
    while stopped(&mut lab) < 400 {
        let due = lab.cell.next_deadline().expect("more to do");
        lab.now = lab.now.max(due.plus_millis(-1));
        let changes = lab.apply(Command::Tick).group.map_or(0, |group| group.changes.len());
        assert!(changes <= limits::CHANGES_PER_GROUP && stopped(&mut lab) > before, "{changes} changes");
        before = stopped(&mut lab);
    }
    assert!(lab.now.since(begun) <= 200, "{} ms", lab.now.since(begun));
    let group = lab.apply(Command::Tick).group;
    assert_eq!(group, None, "nothing more is done");
}

#[test]
fn verdicts_that_a_server_did_not_give_before_it_ended_are_given_by_the_next() {
    let (mut lab, machines) = lab(1);
    for _ in 0..20 {
        lab.ok(0, RunTask, &json!({"taskDefinition": "web", "count": 10}));
    }
    machine(&mut lab, 2, "host-2");
    vanish(&mut lab, &machines[0]);
    lab.now = lab.now.plus_millis(PATIENCE);
    lab.apply(Command::Tick);
    assert!(is_lost(&mut lab, &machines[0]));
    let stale = |lab: &mut Lab| lab.cell.snapshot().tasks().filter(|task| task.is_stale()).count();
    assert!((1..200).contains(&stale(&mut lab)));
    reload(&mut lab);
    lab.pass(1_000);
    assert_eq!(stale(&mut lab), 200);
}

#[test]
fn an_instance_that_returns_is_told_to_stop_its_stale_copies_before_anything_else() {
    let (mut lab, mut machines) = lab(2);
    let task = task_on_each(&mut lab, &machines).remove(0);
    vanish(&mut lab, &machines[0]);
    lab.pass(PATIENCE + 1_000);
    let outcome = come_back(&mut lab, &mut machines[0]);
    let kinds: Vec<&str> = outcome
        .effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Manifest { .. } => Some("manifest"),
            Effect::Stop { .. } => Some("stop"),
            Effect::Start { .. } => Some("start"),
            _ => None,
        })
        .collect();
    let stale = kinds.len() - 1;
    assert!(stale > 0 && kinds[0] == "manifest" && kinds[1..].iter().all(|kind| *kind == "stop"), "{kinds:?}");
    let [Decision::InstanceReturned { instance, stale: noted, .. }] = notes(&outcome.effects)[..] else {
        panic!("a note")
    };
    assert_eq!((instance, noted), (machines[0].key, stale));
    assert!(!is_lost(&mut lab, &machines[0]));
    assert_eq!(lab.describe(&task)["lastStatus"], "STOPPED", "it is not taken back");
    // A new task comes, the agent reconnects: the stale copies go first.
    task_on_each(&mut lab, &machines[..1]);
    let outcome = come_back(&mut lab, &mut machines[0]);
    let order: Vec<bool> = outcome
        .effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Stop { .. } => Some(true),
            Effect::Start { .. } => Some(false),
            _ => None,
        })
        .collect();
    assert!(order.iter().filter(|stop| **stop).count() == stale && order.is_sorted_by_key(|stop| !stop), "{order:?}");
}

#[test]
fn reports_on_stale_copies_free_what_they_held_one_by_one_and_change_no_status() {
    let (mut lab, mut machines) = lab(1);
    let tasks: Vec<String> = (0..2).map(|_| lab.run("web")).collect();
    lab.report(1, &tasks[0], "RUNNING");
    machine(&mut lab, 2, "host-2");
    vanish(&mut lab, &machines[0]);
    lab.pass(PATIENCE + 1_000);
    come_back(&mut lab, &mut machines[0]);
    let shown = lab.describe(&tasks[0]);
    let cpu =
        |lab: &mut Lab, machine: &Machine| described(lab, machine)["remainingResources"][0]["integerValue"].clone();
    assert_eq!(cpu(&mut lab, &machines[0]), 9_980);
    lab.report(1, &tasks[1], "RUNNING");
    assert_eq!(lab.describe(&tasks[1])["lastStatus"], "STOPPED");
    assert_eq!(lab.describe(&tasks[1])["startedAt"], json!(null));
    let report = json!({"cluster": "default", "task": tasks[0], "status": "STOPPED", "reason": "x",
        "containers": [{"containerName": "main", "status": "STOPPED", "exitCode": 137}]});
    lab.ok(1, SubmitTaskStateChange, &report);
    assert_eq!(cpu(&mut lab, &machines[0]), 9_990);
    let now = lab.describe(&tasks[0]);
    assert_eq!(now["containers"][0]["exitCode"], 137);
    for member in ["lastStatus", "stopCode", "stoppedReason", "stoppedAt", "startedAt"] {
        assert_eq!(now[member], shown[member], "{member}");
    }
    lab.report(1, &tasks[1], "STOPPED");
    assert_eq!(cpu(&mut lab, &machines[0]), 10_000);
}

#[test]
fn a_stale_task_is_kept_until_its_agent_says_stopped_and_only_then_retention_counts() {
    let (mut lab, mut machines) = lab(1);
    let task = lab.run("web");
    machine(&mut lab, 2, "host-2");
    vanish(&mut lab, &machines[0]);
    // The retention of the lab is ten minutes at most.
    lab.pass(3_600_000);
    assert_eq!(lab.describe(&task)["lastStatus"], "STOPPED");
    come_back(&mut lab, &mut machines[0]);
    lab.report(1, &task, "STOPPED");
    lab.pass(599_000);
    assert_eq!(lab.describe(&task)["lastStatus"], "STOPPED");
    lab.pass(2_000);
    assert_eq!(lab.ok(0, DescribeTasks, &json!({"tasks": [task]}))["failures"][0]["reason"], "MISSING");
}

#[test]
fn stopping_a_task_with_a_verdict_changes_nothing_and_answers_it() {
    let (mut lab, machines) = lab(1);
    let task = lab.run("web");
    machine(&mut lab, 2, "host-2");
    vanish(&mut lab, &machines[0]);
    lab.pass(PATIENCE + 1_000);
    let before = lab.describe(&task);
    let answer = lab.ok(0, StopTask, &json!({"task": task, "reason": "mine"}));
    assert_eq!(
        (&answer["task"]["stoppedReason"], &answer["task"]["version"]),
        (&before["stoppedReason"], &before["version"])
    );
}

#[test]
fn a_task_that_a_user_stopped_before_its_instance_was_lost_keeps_the_users_reason() {
    let (mut lab, machines) = lab(1);
    let task = lab.run("web");
    machine(&mut lab, 2, "host-2");
    lab.ok(0, StopTask, &json!({"task": task, "reason": "mine"}));
    vanish(&mut lab, &machines[0]);
    lab.pass(PATIENCE + 1_000);
    let task = lab.describe(&task);
    assert_eq!((&task["lastStatus"], &task["stoppedReason"]), (&json!("STOPPED"), &json!("mine")));
}

#[test]
fn what_has_no_verdict_yet_when_its_instance_returns_lives_on() {
    let (mut lab, mut machines) = lab(1);
    for _ in 0..20 {
        lab.ok(0, RunTask, &json!({"taskDefinition": "web", "count": 10}));
    }
    machine(&mut lab, 2, "host-2");
    vanish(&mut lab, &machines[0]);
    lab.now = lab.now.plus_millis(PATIENCE);
    lab.apply(Command::Tick);
    come_back(&mut lab, &mut machines[0]);
    lab.pass(5_000);
    let over = lab.cell.snapshot().tasks().filter(|task| task.verdict.is_some()).count();
    assert!((1..200).contains(&over), "{over}");
    assert_eq!(lab.wanted(), 200 - over);
}

#[test]
fn registering_again_does_not_bring_a_lost_instance_back_and_a_session_does() {
    let (mut lab, mut machines) = lab(2);
    vanish(&mut lab, &machines[0]);
    lab.pass(PATIENCE + 1_000);
    let mut again = offer("host-1", 5_000, 5_000);
    again["containerInstanceArn"] = json!(machines[0].arn);
    lab.ok(1, RegisterContainerInstance, &again);
    assert!(is_lost(&mut lab, &machines[0]));
    come_back(&mut lab, &mut machines[0]);
    assert!(!is_lost(&mut lab, &machines[0]));
}

/// Every host of a cluster but the first two vanishes.
fn mass_loss(hosts: u32) -> (Lab, Vec<Machine>) {
    let (mut lab, machines) = lab(hosts);
    machines[2..].iter().for_each(|machine| drop(vanish(&mut lab, machine)));
    (lab, machines)
}

#[test]
fn when_much_of_a_cluster_vanishes_at_once_nothing_is_evicted_until_enough_return() {
    let (mut lab, mut machines) = mass_loss(6);
    let told = notes(&lab.pass(24 * 3_600_000));
    assert_eq!(told, [Decision::BrakeEngaged { cluster: "default".into(), vanished: 4, of: 6 }]);
    assert!(machines.clone().iter().all(|machine| !is_lost(&mut lab, machine)));
    // One more vanishes: the brake holds it too.
    let told = notes(&vanish(&mut lab, &machines[1]));
    assert!(matches!(told[..], [Decision::InstanceVanished { lost_at: None, .. }]), "{told:?}");
    for machine in &mut machines[2..5] {
        come_back(&mut lab, machine);
    }
    // Two of six are ordinary loss, and their clocks start anew.
    let told = notes(&lab.pass(PATIENCE - 2_000));
    let released = Decision::BrakeReleased { cluster: "default".into(), why: Released::Returned, missing: 2 };
    assert_eq!(told, [released]);
    assert!(!is_lost(&mut lab, &machines[1]) && !is_lost(&mut lab, &machines[5]));
    lab.pass(5_000);
    assert!(is_lost(&mut lab, &machines[1]) && is_lost(&mut lab, &machines[5]) && !is_lost(&mut lab, &machines[0]));
}

#[test]
fn a_released_brake_gives_the_last_ones_time_to_come_however_short_the_patience_is() {
    let (mut lab, mut machines) = lab_with(LossPolicy::default().lost_after(Some(5_000)), 6);
    machines[2..].iter().for_each(|machine| drop(vanish(&mut lab, machine)));
    assert!(matches!(notes(&lab.pass(10_000))[..], [Decision::BrakeEngaged { .. }]));
    for machine in &mut machines[2..5] {
        come_back(&mut lab, machine);
    }
    assert!(matches!(notes(&lab.pass(2_000))[..], [Decision::BrakeReleased { why: Released::Returned, .. }]));
    let grace = LossPolicy::default().return_grace_ms;
    lab.pass(grace - 3_000);
    assert!(!is_lost(&mut lab, &machines[5]), "its agent may be between two attempts");
    lab.pass(3_000);
    assert!(is_lost(&mut lab, &machines[5]));
}

/// The clusters that `longshore status` warns of.
fn braked(lab: &mut Lab) -> Vec<String> {
    crate::look::describe_server(&lab.cell.snapshot()).braked_clusters
}

#[test]
fn an_operator_releases_the_brake_and_evicts_at_once() {
    let (mut lab, mut machines) = mass_loss(6);
    let task = lab.run("web");
    lab.pass(PATIENCE + 5_000);
    assert_eq!(braked(&mut lab), ["default"]);
    let request = admin::ReleaseMassLossBrakeRequest { cluster: "default".to_owned() };
    let request = admin::Request::ReleaseMassLossBrake(request);
    let outcome = lab.apply(Command::Admin { principal: principal(0), request });
    assert!(matches!(outcome.reply, Reply::Admin(Ok(_))));
    let released = Decision::BrakeReleased { cluster: "default".into(), why: Released::Operator, missing: 4 };
    assert_eq!(notes(&outcome.effects), [released]);
    assert_eq!(braked(&mut lab), Vec::<String>::new());
    come_back(&mut lab, &mut machines[2]);
    lab.pass(10);
    assert_eq!([2, 3, 4, 5].map(|at| is_lost(&mut lab, &machines[at])), [false, true, true, true]);
    assert_eq!(lab.describe(&task)["lastStatus"], "PENDING", "those that are there are not meant");
    // Those it gave up are no reason to brake what vanishes next.
    vanish(&mut lab, &machines[2]);
    lab.pass(PATIENCE + 1_000);
    assert!(is_lost(&mut lab, &machines[2]));
}

#[test]
fn hosts_are_counted_and_not_instances() {
    let mut lab = Lab::new();
    lab.ok(0, RegisterTaskDefinition, &definition("web", 10, 10, &[]));
    let machines: Vec<Machine> =
        (1..=6).map(|agent| machine(&mut lab, agent, &format!("host-{}", agent / 4))).collect();
    // Instances 4 to 6 share a machine: one of two hosts is gone, and the other takes over.
    machines[3..].iter().for_each(|machine| drop(vanish(&mut lab, machine)));
    lab.pass(PATIENCE + 1_000);
    assert!(machines[3..].iter().all(|machine| is_lost(&mut lab, machine)));
}

#[test]
fn the_only_host_of_a_cluster_is_never_evicted_by_itself() {
    let (mut lab, mut machines) = lab(1);
    let task = lab.run("web");
    vanish(&mut lab, &machines[0]);
    let told = notes(&lab.pass(24 * 3_600_000));
    assert!(matches!(told[..], [Decision::BrakeEngaged { vanished: 1, of: 1, .. }]), "{told:?}");
    assert_eq!(lab.describe(&task)["lastStatus"], "PENDING");
    come_back(&mut lab, &mut machines[0]);
    let told = notes(&lab.pass(5_000));
    assert!(matches!(told[..], [Decision::BrakeReleased { why: Released::Returned, missing: 0, .. }]), "{told:?}");
}

#[test]
fn a_brake_holds_its_own_cluster_only() {
    let (mut lab, machines) = mass_loss(6);
    lab.ok(0, longshore_api::ecs::Operation::CreateCluster, &json!({"clusterName": "other"}));
    let mut elsewhere = offer("host-7", 10, 10);
    elsewhere["cluster"] = json!("other");
    let arn = lab.register(7, &elsewhere);
    elsewhere["attributes"][0]["value"] = json!("host-8");
    let stays = lab.register(8, &elsewhere);
    lab.connect(8, &stays);
    let (key, session) = lab.connect(7, &arn);
    let other = Machine { agent: 7, arn, key, session };
    vanish(&mut lab, &other);
    lab.pass(PATIENCE + 1_000);
    assert!(is_lost(&mut lab, &other) && !is_lost(&mut lab, &machines[5]));
}

#[test]
fn a_key_that_reaches_for_anothers_instance_is_refused_and_told_of() {
    let (mut lab, machines) = lab(1);
    let stranger = lab.opened(2, &machines[0].arn);
    let outcome = lab.apply(stranger);
    let refusal = SessionRefusal::AccessDenied;
    assert_eq!(outcome.reply, Reply::Session(Err(refusal)));
    let access_key_id = principal(2).access_key_id;
    let instance_arn = machines[0].arn.as_str().into();
    assert_eq!(notes(&outcome.effects), [Decision::SessionRefused { instance_arn, access_key_id, refusal }]);
    assert_eq!(described(&mut lab, &machines[0])["agentConnected"], true);
}

#[test]
fn a_newer_session_of_the_same_key_replaces_the_older_one_and_starts_no_clock() {
    let (mut lab, mut machines) = lab(2);
    let older = machines[0].session;
    let outcome = come_back(&mut lab, &mut machines[0]);
    let (instance, newer) = (machines[0].key, machines[0].session);
    assert!(notes(&outcome.effects).contains(&Decision::SessionReplaced { instance, older, newer }));
    let close = Effect::Close { instance, session: older, reason: CloseReason::Replaced };
    assert!(outcome.effects.contains(&close));
    assert!(lab.disconnect(instance, older).effects.is_empty());
    lab.pass(10 * PATIENCE);
    assert!(!is_lost(&mut lab, &machines[0]));
}

#[test]
fn connected_instances_leave_nothing_to_do_with_time() {
    let (lab, _) = lab(3);
    assert_eq!(lab.cell.next_deadline(), None);
}
