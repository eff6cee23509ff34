//! That a listing reads what it shows, and little else.

use longshore_api::ecs::Operation::{ListTasks, RegisterTaskDefinition, RunTask, StopTask};
use longshore_api::ecs::Request;
use serde_json::{Value, json};

use super::Filter;
use crate::fixture::{Lab, definition, offer, request};
use crate::ids::TaskId;

/// How many tasks ListTasks reads, and how many of them it shows.
fn read_and_shown(lab: &mut Lab, filters: &Value) -> (usize, usize) {
    let Request::ListTasks(request) = request(ListTasks, filters) else { panic!("a ListTasks") };
    let view = lab.cell.snapshot();
    let cluster = view.cluster(None).expect("the default cluster");
    let filter = Filter::new(&view, cluster, &request).expect("good filters").expect("something to look for");
    let read = filter.candidates(&view, cluster.id, TaskId(0)).count();
    let shown = lab.ok(0, ListTasks, filters)["taskArns"].as_array().map_or(0, Vec::len);
    (read, shown)
}

/// Runs one copy; answers its ARN.
fn run(lab: &mut Lab, request: &Value) -> String {
    lab.ok(0, RunTask, request)["tasks"][0]["taskArn"].as_str().expect("placed").to_owned()
}

#[test]
fn a_launch_type_that_few_tasks_have_is_found_among_the_many_of_another() {
    let mut lab = Lab::new();
    let mut external = offer("host", 100_000, 100_000);
    external["attributes"] = json!([{"name": "ecs.capability.external"}]);
    let arn = lab.register(1, &external);
    lab.connect(1, &arn);
    for family in ["web", "job"] {
        lab.ok(0, RegisterTaskDefinition, &definition(family, 1, 6, &[]));
    }
    for round in 0..40 {
        let launch_type = if round % 20 == 7 { "EC2" } else { "EXTERNAL" };
        let family = if round % 4 == 0 { "job" } else { "web" };
        run(&mut lab, &json!({"taskDefinition": family, "launchType": launch_type}));
    }
    for (filters, tasks) in [
        (json!({}), 40),
        (json!({"launchType": "EC2"}), 2),
        (json!({"launchType": "EXTERNAL"}), 38),
        (json!({"launchType": "FARGATE"}), 0),
        (json!({"family": "job"}), 10),
        (json!({"family": "web", "launchType": "EC2"}), 2),
        (json!({"family": "job", "launchType": "EC2"}), 0),
        (json!({"family": "job", "launchType": "EXTERNAL", "containerInstance": arn}), 10),
    ] {
        assert_eq!(read_and_shown(&mut lab, &filters), (tasks, tasks), "{filters}");
    }
}

#[test]
fn what_an_instance_holds_is_known_without_what_it_held() {
    let mut lab = Lab::new();
    let arn = lab.register(1, &offer("host", 100_000, 100_000));
    let (instance, _) = lab.connect(1, &arn);
    lab.ok(0, RegisterTaskDefinition, &definition("web", 1, 6, &[]));
    let tasks: Vec<String> = (0..6).map(|_| lab.run("web")).collect();
    let held = |lab: &mut Lab| lab.cell.snapshot().task_index.held_on(instance).count();
    assert_eq!(held(&mut lab), 6);
    for task in &tasks[..3] {
        lab.report(1, task, "STOPPED");
    }
    lab.ok(0, StopTask, &json!({"task": tasks[3]}));
    assert_eq!(held(&mut lab), 3, "one that is to stop is there until it has");
    lab.report(1, &tasks[3], "STOPPED");
    assert_eq!(held(&mut lab), 2);
    assert_eq!(read_and_shown(&mut lab, &json!({"containerInstance": arn, "desiredStatus": "STOPPED"})), (4, 4));
}
