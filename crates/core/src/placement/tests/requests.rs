//! Strategies, constraints and Fargate as requests have them.

use std::collections::BTreeMap;

use longshore_api::ecs::Operation::{
    DescribeClusters, DescribeTasks, PutAttributes, RegisterTaskDefinition, RunTask, StartTask, StopTask,
};
use serde_json::{Value, json};

use crate::fixture::{Lab, definition, offer};

/// An instance with attributes of its own.
fn join(lab: &mut Lab, key: u32, cpu: i64, attributes: &[(&str, &str)]) -> String {
    let mut offer = offer(&format!("host-{key}"), cpu, 1_000);
    let offered = offer["attributes"].as_array_mut().expect("attributes");
    offered.extend(attributes.iter().map(|(name, value)| json!({"name": name, "value": value})));
    let arn = lab.register(key, &offer);
    lab.connect(key, &arn);
    arn
}

/// Six instances in three zones, two of each: the first with rack 1, the second with rack 2.
fn zones(lab: &mut Lab) -> Vec<String> {
    let zone = |key: u32| ["a", "b", "c"][key as usize % 3];
    let rack = |key: u32| if key < 3 { "1" } else { "2" };
    (0..6).map(|key| join(lab, key + 1, 1_000, &[("ecs.availability-zone", zone(key)), ("rack", rack(key))])).collect()
}

fn run(lab: &mut Lab, members: &Value) -> Value {
    let mut request = json!({"taskDefinition": "web"});
    for (member, value) in members.as_object().expect("members") {
        request[member] = value.clone();
    }
    lab.ok(0, RunTask, &request)
}

/// Where the tasks of an answer are, and how many on each.
fn places(answer: &Value) -> BTreeMap<&str, usize> {
    let mut places = BTreeMap::new();
    for task in answer["tasks"].as_array().expect("tasks") {
        *places.entry(task["containerInstanceArn"].as_str().expect("an ARN")).or_insert(0) += 1;
    }
    places
}

fn reasons(answer: &Value) -> Vec<&str> {
    answer["failures"].as_array().expect("failures").iter().filter_map(|failure| failure["reason"].as_str()).collect()
}

fn member_of(expression: &str) -> Value {
    json!([{"type": "memberOf", "expression": expression}])
}

#[test]
fn tasks_of_a_group_are_spread_and_others_are_not_counted() {
    let mut lab = Lab::new();
    let arns = zones(&mut lab);
    lab.ok(0, RegisterTaskDefinition, &definition("web", 10, 10, &[]));
    // What others run in one zone does not weigh.
    run(&mut lab, &json!({"group": "other", "count": 5, "placementConstraints": member_of("attribute:rack == 1")}));
    let spread = json!([{"type": "spread", "field": "attribute:ecs.availability-zone"},
        {"type": "spread", "field": "instanceId"}]);
    let answer = run(&mut lab, &json!({"count": 10, "placementStrategy": spread}));
    let places = places(&answer);
    let zone = |zone: usize| places.get(&*arns[zone]).unwrap_or(&0) + places.get(&*arns[zone + 3]).unwrap_or(&0);
    let mut zones = [zone(0), zone(1), zone(2)];
    zones.sort_unstable();
    assert_eq!(zones, [3, 3, 4]);
    assert!(places.values().all(|&count| count == 1 || count == 2), "{places:?}");
}

#[test]
fn packing_fills_the_fullest_first() {
    let mut lab = Lab::new();
    let small = join(&mut lab, 1, 100, &[]);
    let large = join(&mut lab, 2, 1_000, &[]);
    lab.ok(0, RegisterTaskDefinition, &definition("web", 40, 6, &[]));
    let pack = json!({"count": 3, "placementStrategy": [{"type": "binpack", "field": "cpu"}]});
    assert_eq!(places(&run(&mut lab, &pack)), BTreeMap::from([(&*small, 2), (&*large, 1)]));
}

#[test]
fn distinct_instances_and_members_only() {
    let mut lab = Lab::new();
    let arns = zones(&mut lab);
    lab.ok(0, RegisterTaskDefinition, &definition("web", 1, 6, &[]));
    let mut constraints = member_of("attribute:rack == 2");
    constraints.as_array_mut().expect("a list").push(json!({"type": "distinctInstance"}));
    let answer = run(&mut lab, &json!({"count": 4, "placementConstraints": constraints}));
    let expected: BTreeMap<&str, usize> = arns[3..].iter().map(|arn| (arn.as_str(), 1)).collect();
    assert_eq!(places(&answer), expected);
    let (members, distinct) =
        ("MemberOf placement constraint unsatisfied.", "DistinctInstance placement constraint unsatisfied.");
    assert_eq!(reasons(&answer), [members, members, members, distinct, distinct, distinct]);
    // Another group is no neighbour, and a task that is to stop is none any more.
    assert_eq!(
        places(&run(&mut lab, &json!({"group": "g", "count": 3, "placementConstraints": constraints}))),
        expected
    );
    let stopped = answer["tasks"][0].clone();
    lab.ok(0, StopTask, &json!({"task": stopped["taskArn"]}));
    let again = run(&mut lab, &json!({"placementConstraints": constraints}));
    assert_eq!(again["tasks"][0]["containerInstanceArn"], stopped["containerInstanceArn"]);
}

#[test]
fn the_constraints_of_a_definition_hold_for_every_call() {
    let mut lab = Lab::new();
    let arns = zones(&mut lab);
    let mut document = definition("web", 1, 6, &[]);
    document["placementConstraints"] = member_of("attribute:rack == 1");
    let known = lab.ok(0, RegisterTaskDefinition, &document);
    assert_eq!(known["taskDefinition"]["placementConstraints"], member_of("attribute:rack == 1"));
    let answer =
        run(&mut lab, &json!({"count": 3, "placementConstraints": member_of("attribute:ecs.availability-zone != b")}));
    assert!(places(&answer).keys().all(|arn| *arn == arns[0] || *arn == arns[2]), "{answer}");
    let started = lab.ok(0, StartTask, &json!({"taskDefinition": "web", "containerInstances": [arns[1], arns[4]]}));
    assert_eq!((places(&started), reasons(&started).len()), (BTreeMap::from([(&*arns[1], 1)]), 1));
    assert!(started["failures"][0]["detail"].as_str().is_some_and(|detail| detail.contains("attribute:rack == 1")));
    // An attribute that changes is seen at once, and groups count where tasks are.
    lab.ok(0, PutAttributes, &json!({"attributes": [{"name": "rack", "value": "1", "targetId": arns[5]}]}));
    let beside = member_of("task:group == db");
    let first = run(&mut lab, &json!({"group": "db", "placementConstraints": member_of("not(attribute:rack != 1)")}));
    let answer = run(&mut lab, &json!({"count": 5, "placementConstraints": beside}));
    assert_eq!(
        places(&answer).into_keys().collect::<Vec<_>>(),
        [first["tasks"][0]["containerInstanceArn"].as_str().expect("an ARN")]
    );
}

#[test]
fn what_cannot_be_read_is_refused_with_its_place() {
    let mut lab = Lab::new();
    zones(&mut lab);
    let mut document = definition("web", 1, 6, &[]);
    document["placementConstraints"] =
        json!([member_of("attribute:rack == 1")[0], member_of("attribute:rack == 1")[0]]);
    lab.ok(0, RegisterTaskDefinition, &document);
    let nine = json!(vec![member_of("agentConnected == true")[0].clone(); 9]);
    for (members, part) in [
        (json!({"placementConstraints": member_of("attribute:rack === 1")}), "placementConstraints[0]"),
        (json!({"placementConstraints": member_of("")}), "placementConstraints[0]"),
        (json!({"placementConstraints": member_of("attribute:rack == 1 and nothing == 2")}), "at character 25"),
        (json!({"placementConstraints": [{"expression": "attribute:rack exists"}]}), "no type"),
        (json!({"placementConstraints": [{"type": "distinctInstance", "expression": "a"}]}), "takes no expression"),
        (
            json!({"placementConstraints": nine}),
            "at most 10 items, those of the task definition included; there are 11",
        ),
        (json!({"placementStrategy": [{"type": "binpack", "field": "disk"}]}), "placementStrategy[0]"),
    ] {
        let mut request = json!({"taskDefinition": "web"});
        for (member, value) in members.as_object().expect("members") {
            request[member] = value.clone();
        }
        let (code, message) = lab.refused(0, RunTask, &request);
        assert_eq!(code, "InvalidParameterException", "{message}");
        assert!(message.contains(part), "{members}: {message}");
    }
}

#[test]
fn a_fargate_task_follows_its_rules_and_runs_on_an_instance_that_has_room() {
    let mut lab = Lab::new();
    let capable = [("ecs.capability.task-eni", "1"), ("ecs.capability.task-cpu-mem-limit", "1")];
    join(&mut lab, 1, 1_000, &[]);
    let arn = join(&mut lab, 2, 600, &capable);
    let mut document = definition("web", 0, 6, &[]);
    for (member, value) in [
        ("requiresCompatibilities", json!(["FARGATE"])),
        ("networkMode", json!("awsvpc")),
        ("cpu", json!(".25 vCPU")),
        ("memory", json!("512")),
    ] {
        document[member] = value;
    }
    lab.ok(0, RegisterTaskDefinition, &document);
    let request = |more: Value| {
        let mut request = json!({"launchType": "FARGATE", "networkConfiguration": {"awsvpcConfiguration": {"subnets": ["subnet-00000000"]}}});
        for (member, value) in more.as_object().expect("members") {
            request[member] = value.clone();
        }
        request
    };
    let answer = run(&mut lab, &request(json!({"count": 3, "platformVersion": "LATEST"})));
    let task = &answer["tasks"][0];
    assert_eq!(
        [&task["launchType"], &task["platformVersion"], &task["platformFamily"], &task["cpu"], &task["memory"]],
        ["FARGATE", "1.4.0", "Linux", "256", "512"]
    );
    assert_eq!(places(&answer), BTreeMap::from([(&*arn, 1)]), "the memory of one");
    assert_eq!(reasons(&answer), ["ATTRIBUTE", "RESOURCE:MEMORY"]);
    let described = lab.ok(0, DescribeTasks, &json!({"tasks": [task["taskArn"]]}));
    assert_eq!(described["tasks"][0]["platformVersion"], "1.4.0");
    let clusters = lab.ok(0, DescribeClusters, &json!({"include": ["STATISTICS"]}));
    let statistics = clusters["clusters"][0]["statistics"].as_array().expect("statistics").clone();
    assert!(statistics.contains(&json!({"name": "pendingFargateTasksCount", "value": "1"})), "{statistics:?}");
    assert!(statistics.contains(&json!({"name": "pendingEC2TasksCount", "value": "0"})), "{statistics:?}");
    for (more, part) in [
        (json!({"overrides": {"cpu": "256", "memory": "8192"}}), "No Fargate configuration exists for given values."),
        (
            json!({"networkConfiguration": {"awsvpcConfiguration": {"subnets": ["subnet-00000000"], "assignPublicIp": "ENABLED"}}}),
            "assignPublicIp",
        ),
    ] {
        let mut request = request(more);
        request["taskDefinition"] = json!("web");
        let (_, message) = lab.refused(0, RunTask, &request);
        assert!(message.contains(part), "{message}");
    }
}
