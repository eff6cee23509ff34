//! What waiting tasks promise: placed once, oldest first, ended in time, and forgotten by nobody.

mod random;

use longshore_api::ecs::Operation::{
    self, CreateCluster, DeleteCluster, DescribeClusters, ListTasks, RegisterTaskDefinition, RunTask, StartTask,
    StopTask, TagResource, UpdateContainerInstancesState,
};
use serde_json::{Value, json};

use crate::cell::{Cell, Command, Effect, Reply};
use crate::fixture::{Lab, api, config, definition, offer};

fn tags(pairs: &[(&str, &str)]) -> Value {
    pairs.iter().map(|(key, value)| json!({"key": key, "value": value})).collect()
}

/// Runs copies that may wait for so long; answers their ARNs, in order.
fn patient(lab: &mut Lab, family: &str, count: usize, max_wait: &str) -> Vec<String> {
    let request = json!({"taskDefinition": family, "count": count, "tags": tags(&[("longshore:max-wait", max_wait)])});
    let answer = lab.ok(0, RunTask, &request);
    assert_eq!(answer["failures"], json!([]), "who waits does not fail");
    let tasks = answer["tasks"].as_array().expect("tasks");
    tasks.iter().map(|task| task["taskArn"].as_str().expect("an ARN").to_owned()).collect()
}

fn status(lab: &mut Lab, task: &str) -> String {
    lab.describe(task)["lastStatus"].as_str().expect("a status").to_owned()
}

fn statuses(lab: &mut Lab, tasks: &[String]) -> Vec<String> {
    tasks.iter().map(|task| status(lab, task)).collect()
}

/// Forgets all that is volatile: the state as the store has it.
fn restart(lab: &mut Lab) {
    let mut cell = Cell::new(config());
    lab.cell.entities().for_each(|entity| {
        let bytes = entity.encode().expect("entities are JSON");
        let loaded = crate::entity::Entity::decode(&entity.key().encode(), &bytes).expect("they are read again");
        assert_eq!(loaded, entity);
        cell.load(loaded);
    });
    cell.loaded(lab.cell.sequence());
    lab.cell = cell;
    lab.cell.check().expect("what is derived is derived again");
}

#[test]
fn what_fits_is_placed_at_once_and_the_rest_waits_for_its_turn() {
    let mut lab = Lab::new();
    lab.instance(1, 1_000, 1_000);
    lab.ok(0, RegisterTaskDefinition, &definition("web", 400, 100, &[]));
    let tasks = patient(&mut lab, "web", 4, "1h");
    assert_eq!(statuses(&mut lab, &tasks), ["PENDING", "PENDING", "PROVISIONING", "PROVISIONING"]);
    let shown = lab.describe(&tasks[2]);
    assert_eq!(
        (&shown["containerInstanceArn"], &shown["desiredStatus"], &shown["containers"][0]["lastStatus"]),
        (&Value::Null, &json!("RUNNING"), &json!("PENDING"))
    );
    let listed = lab.ok(0, ListTasks, &json!({}));
    assert_eq!(listed["taskArns"].as_array().expect("tasks").len(), 4, "who waits is wanted");
    let clusters = lab.ok(0, DescribeClusters, &json!({}));
    assert_eq!(clusters["clusters"][0]["pendingTasksCount"], 4);
    // Nothing happens by itself.
    lab.pass(60_000);
    assert_eq!(status(&mut lab, &tasks[2]), "PROVISIONING");
    lab.report(1, &tasks[0], "STOPPED");
    let effects = lab.pass(10);
    assert_eq!(effects.iter().filter(|effect| matches!(effect, Effect::Start { .. })).count(), 1, "{effects:?}");
    assert_eq!(statuses(&mut lab, &tasks), ["STOPPED", "PENDING", "PENDING", "PROVISIONING"]);
    let instance = lab.describe(&tasks[2])["containerInstanceArn"].clone();
    let on_instance = lab.ok(0, ListTasks, &json!({"containerInstance": instance}));
    assert_eq!(on_instance["taskArns"].as_array().expect("tasks").len(), 2);
}

#[test]
fn nothing_ends_for_want_of_instances_whose_agents_are_on_their_way_back() {
    let mut lab = Lab::new();
    let instance = lab.instance(1, 1_000, 1_000);
    let gone = lab.instance(2, 10, 10);
    lab.ok(0, RegisterTaskDefinition, &definition("web", 600, 100, &[]));
    let tasks = patient(&mut lab, "web", 2, "5s");
    lab.report(1, &tasks[0], "STOPPED");
    restart(&mut lab);
    // Longer than it may wait; the server begins with nobody there.
    lab.now = lab.now.plus_millis(6_000);
    lab.pass(1_000);
    assert_eq!(status(&mut lab, &tasks[1]), "PROVISIONING");
    lab.connect(1, &instance);
    lab.pass(1_000);
    assert_eq!(status(&mut lab, &tasks[1]), "PENDING");
    // One that does not come back holds nobody up for ever.
    let [late] = patient(&mut lab, "web", 1, "1s").try_into().expect("one");
    lab.pass(2_000);
    assert_eq!(status(&mut lab, &late), "PROVISIONING", "{gone} may be back");
    lab.pass(600_000);
    assert_eq!(status(&mut lab, &late), "STOPPED");
}

#[test]
fn tasks_of_many_groups_are_of_one_kind_unless_groups_are_looked_at() {
    let mut lab = Lab::new();
    lab.ok(0, RegisterTaskDefinition, &definition("web", 400, 100, &[]));
    let waiting = tags(&[("longshore:max-wait", "1h")]);
    let run = |lab: &mut Lab, group: &str, more: Value| {
        let mut request = json!({"taskDefinition": "web", "group": group, "tags": waiting});
        request.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        lab.ok(0, RunTask, &request);
        let cluster = lab.cell.snapshot().tasks().next().expect("a task").key.cluster;
        lab.cell.line().count(cluster)
    };
    assert_eq!(run(&mut lab, "a", json!({})), (1, 1));
    assert_eq!(run(&mut lab, "b", json!({})), (2, 1));
    let alone = json!({"placementConstraints": [{"type": "distinctInstance"}]});
    assert_eq!(run(&mut lab, "a", alone.clone()), (3, 2));
    assert_eq!(run(&mut lab, "b", alone), (4, 3));
}

#[test]
fn a_cluster_can_make_its_run_task_calls_patient() {
    let mut lab = Lab::new();
    lab.ok(0, CreateCluster, &json!({"clusterName": "batch", "tags": tags(&[("longshore:max-wait", "10m")])}));
    lab.ok(0, RegisterTaskDefinition, &definition("web", 400, 100, &[]));
    // There is no instance at all.
    let answer = lab.ok(0, RunTask, &json!({"taskDefinition": "web", "cluster": "batch"}));
    assert_eq!((&answer["tasks"][0]["lastStatus"], &answer["tasks"][0]["tags"]), (&json!("PROVISIONING"), &json!([])));
    let (code, _) = lab.refused(0, DeleteCluster, &json!({"cluster": "batch"}));
    assert_eq!(code, "ClusterContainsTasksException");
    let stopped = lab.ok(0, StopTask, &json!({"cluster": "batch", "task": answer["tasks"][0]["taskArn"]}));
    let task = &stopped["task"];
    assert_eq!(
        (&task["lastStatus"], &task["stopCode"], &task["desiredStatus"], &task["containers"][0]["lastStatus"]),
        (&json!("STOPPED"), &json!("UserInitiated"), &json!("STOPPED"), &json!("STOPPED"))
    );
    lab.ok(0, DeleteCluster, &json!({"cluster": "batch"}));
    let (code, _) = lab.refused(0, RunTask, &json!({"taskDefinition": "web"}));
    assert_eq!(code, "InvalidParameterException", "the other cluster is not patient");
}

#[test]
fn who_waited_long_enough_fails_to_start_and_says_what_refused_it() {
    let mut lab = Lab::new();
    lab.instance(1, 300, 1_000);
    lab.ok(0, RegisterTaskDefinition, &definition("web", 400, 100, &[]));
    let [task] = &patient(&mut lab, "web", 1, "90s")[..] else { panic!("one task") };
    lab.pass(89_000);
    assert_eq!(status(&mut lab, task), "PROVISIONING");
    lab.pass(2_000);
    let shown = lab.describe(task);
    assert_eq!((&shown["lastStatus"], &shown["stopCode"]), (&json!("STOPPED"), &json!("TaskFailedToStart")));
    let reason = shown["stoppedReason"].as_str().expect("a reason");
    assert!(reason.contains("90 seconds") && reason.contains("RESOURCE:CPU"), "{reason}");
    assert!(reason.contains("100 CPU units too few"), "{reason}");
    // What is over is forgotten like any other.
    lab.pass(700_000);
    assert_eq!(lab.describe(task), Value::Null);
}

#[test]
fn a_task_that_runs_too_long_is_stopped() {
    let mut lab = Lab::new();
    let arn = lab.instance(1, 1_000, 1_000);
    lab.ok(0, RegisterTaskDefinition, &definition("web", 400, 100, &[]));
    let tags = tags(&[("longshore:max-run", "10s")]);
    let run = lab.ok(0, RunTask, &json!({"taskDefinition": "web", "tags": tags}));
    let started = lab.ok(0, StartTask, &json!({"taskDefinition": "web", "tags": tags, "containerInstances": [arn]}));
    for answer in [run, started] {
        let task = answer["tasks"][0]["taskArn"].as_str().expect("an ARN").to_owned();
        // It counts from its start.
        lab.pass(30_000);
        assert_eq!(lab.describe(&task)["desiredStatus"], "RUNNING");
        lab.report(1, &task, "RUNNING");
        restart(&mut lab);
        lab.connect(1, &arn);
        lab.pass(9_000);
        assert_eq!(lab.describe(&task)["desiredStatus"], "RUNNING");
        let effects = lab.pass(2_000);
        assert!(effects.iter().any(|effect| matches!(effect, Effect::Stop { .. })), "{effects:?}");
        let shown = lab.describe(&task);
        assert_eq!((&shown["desiredStatus"], &shown["stopCode"]), (&json!("STOPPED"), &json!("UserInitiated")));
        assert!(shown["stoppedReason"].as_str().is_some_and(|reason| reason.contains("10s")), "{shown}");
        lab.report(1, &task, "STOPPED");
    }
}

#[test]
fn the_line_outlives_a_restart_in_its_order() {
    let mut lab = Lab::new();
    let arn = lab.instance(1, 1_000, 1_000);
    lab.ok(0, RegisterTaskDefinition, &definition("web", 1_000, 100, &[]));
    let tasks: Vec<String> = (0..4).flat_map(|_| patient(&mut lab, "web", 1, "1h")).collect();
    for (at, task) in tasks.iter().enumerate() {
        restart(&mut lab);
        lab.connect(1, &arn);
        lab.pass(10);
        let waits = (at + 1..tasks.len()).map(|_| "PROVISIONING");
        let expected: Vec<&str> = (0..at).map(|_| "STOPPED").chain(["PENDING"]).chain(waits).collect();
        assert_eq!(statuses(&mut lab, &tasks), expected);
        lab.report(1, task, "STOPPED");
    }
}

#[test]
fn every_change_for_the_better_is_noticed() {
    let mut lab = Lab::new();
    lab.ok(0, RegisterTaskDefinition, &definition("port", 1, 6, &[80]));
    let mut waiting = || patient(&mut lab, "port", 1, "1h").remove(0);
    let (first, second) = (waiting(), waiting());
    // An instance registers: its agent is not there yet.
    let arn = lab.register(1, &offer("host", 100, 100));
    lab.pass(10);
    assert_eq!(status(&mut lab, &first), "PROVISIONING");
    lab.ok(0, UpdateContainerInstancesState, &json!({"containerInstances": [arn], "status": "DRAINING"}));
    lab.connect(1, &arn);
    lab.pass(10);
    assert_eq!(status(&mut lab, &first), "PROVISIONING");
    // It takes tasks again.
    lab.ok(0, UpdateContainerInstancesState, &json!({"containerInstances": [arn], "status": "ACTIVE"}));
    lab.pass(10);
    assert_eq!((status(&mut lab, &first), status(&mut lab, &second)), ("PENDING".into(), "PROVISIONING".into()));
    // Another instance of its host, in another cluster, has its port.
    let stop = |lab: &mut Lab, task: &str| {
        lab.ok(0, StopTask, &json!({"task": task}));
        lab.report(1, task, "STOPPED");
        lab.pass(10);
    };
    stop(&mut lab, &first);
    assert_eq!(status(&mut lab, &second), "PENDING");
    // An attribute, and a task of a group that another one wants to be near.
    let constrained = |lab: &mut Lab, expression: &str| {
        let constraint = json!([{"type": "memberOf", "expression": expression}]);
        let tags = tags(&[("longshore:max-wait", "1h")]);
        lab.ok(0, RegisterTaskDefinition, &definition("small", 1, 6, &[]));
        let request = json!({"taskDefinition": "small", "placementConstraints": constraint, "tags": tags});
        lab.ok(0, RunTask, &request)["tasks"][0]["taskArn"].as_str().expect("an ARN").to_owned()
    };
    let ssd = constrained(&mut lab, "attribute:disk == ssd");
    let near = constrained(&mut lab, "task:group == family:small");
    lab.pass(10);
    assert_eq!((status(&mut lab, &ssd), status(&mut lab, &near)), ("PROVISIONING".into(), "PROVISIONING".into()));
    let disk =
        json!({"attributes": [{"name": "disk", "value": "ssd", "targetId": arn, "targetType": "container-instance"}]});
    lab.ok(0, Operation::PutAttributes, &disk);
    lab.pass(10);
    assert_eq!((status(&mut lab, &ssd), status(&mut lab, &near)), ("PENDING".into(), "PENDING".into()));
}

#[test]
fn tags_that_say_nothing_are_refused_and_so_are_those_that_come_too_late() {
    let mut lab = Lab::new();
    let arn = lab.instance(1, 1_000, 1_000);
    lab.ok(0, RegisterTaskDefinition, &definition("web", 400, 100, &[]));
    for (operation, request) in [
        (RunTask, json!({"taskDefinition": "web", "tags": tags(&[("longshore:max-wait", "soon")])})),
        (CreateCluster, json!({"clusterName": "c", "tags": tags(&[("longshore:max-run", "1")])})),
        (
            StartTask,
            json!({
                "taskDefinition": "web", "containerInstances": [arn], "tags": tags(&[("longshore:max-wait", "1s")]),
            }),
        ),
    ] {
        let (code, message) = lab.refused(0, operation, &request);
        assert_eq!(code, "InvalidParameterException");
        assert!(message.contains("longshore:max-"), "{message}");
    }
    let task = lab.run("web");
    let late = json!({"resourceArn": task, "tags": tags(&[("longshore:max-run", "1s")])});
    let (code, message) = lab.refused(0, TagResource, &late);
    assert_eq!((code.as_str(), message.contains("RunTask")), ("InvalidParameterException", true));
}

#[test]
fn a_long_line_costs_others_nothing() {
    let mut lab = Lab::new();
    lab.instance(1, 1_000, 1_000);
    lab.ok(0, RegisterTaskDefinition, &definition("web", 1_000, 100, &[]));
    lab.ok(0, RegisterTaskDefinition, &definition("tiny", 0, 6, &[]));
    let first = lab.run("web");
    // Without `Lab::apply`, which recounts everything after each command.
    for _ in 0..1_000 {
        let request = json!({"taskDefinition": "web", "count": 10, "tags": tags(&[("longshore:max-wait", "1h")])});
        let entropy = lab.chance();
        lab.now = lab.now.plus_millis(1);
        let outcome = lab.cell.apply(lab.now, entropy, api(0, RunTask, &request));
        assert!(matches!(outcome.reply, Reply::Api(Ok(_))));
    }
    lab.cell.check().expect("all invariants");
    let cluster = lab.cell.snapshot().clusters.values().next().expect("a cluster").id;
    let kinds = |lab: &Lab| lab.cell.line().count(cluster);
    assert_eq!(kinds(&lab), (10_000, 1));
    // One tick looks at the first of them, and finds that nothing can take it.
    let tick = lab.apply(Command::Tick);
    assert_eq!(tick.group.map_or(0, |group| group.changes.len()), 0);
    assert_ne!(lab.cell.next_deadline(), Some(longshore_api::Timestamp::from_millis(0)), "nothing more is to be done");
    // What needs nothing that they wait for passes by.
    lab.run("tiny");
    lab.report(1, &first, "STOPPED");
    lab.pass(10);
    assert_eq!(kinds(&lab), (9_999, 1));
}
