//! What tasks promise: RunTask and StartTask alike, ListTasks, and the reports of agents.

use longshore_api::ecs::Operation::{
    CreateCluster, DeregisterContainerInstance, DeregisterTaskDefinition, DescribeContainerInstances, DescribeTasks,
    ListTasks, RegisterTaskDefinition, RunTask, StartTask, StopTask, SubmitContainerStateChange, SubmitTaskStateChange,
    UpdateContainerInstancesState,
};
use serde_json::{Value, json};

use crate::cell::{Effect, Reply};
use crate::fixture::{Lab, api, definition, offer};

/// The id at the end of an ARN.
fn id(arn: &str) -> &str {
    arn.rsplit('/').next().expect("an ARN has an end")
}

/// Each failure's ARN and reason.
fn failures(answer: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let failures = answer["failures"].as_array().expect("failures");
    failures.iter().map(|failure| (text(&failure["arn"]), text(&failure["reason"]))).collect()
}

fn tasks(answer: &Value) -> &[Value] {
    answer["tasks"].as_array().expect("tasks")
}

#[test]
fn start_task_puts_one_on_each_instance_that_is_named() {
    let mut lab = Lab::new();
    let arns: Vec<String> = (1..=3).map(|key| lab.instance(key, 1_000, 1_000)).collect();
    lab.ok(0, RegisterTaskDefinition, &definition("web", 100, 100, &[80]));
    let overrides = json!({"containerOverrides": [{"name": "main", "cpu": 300}]});
    let request = json!({
        "taskDefinition": "web", "containerInstances": [arns[2], id(&arns[0])], "startedBy": "mine", "group": "batch",
        "tags": [{"key": "a", "value": "b"}], "enableECSManagedTags": true, "overrides": overrides,
    });
    let outcome = lab.apply(api(0, StartTask, &request));
    let starts = outcome.effects.iter().filter(|effect| matches!(effect, Effect::Start { .. })).count();
    assert_eq!(
        (starts, outcome.group.map(|group| group.changes.len())),
        (2, Some(2)),
        "orders go with what is durable"
    );
    let Reply::Api(Ok(answer)) = outcome.reply else { panic!("refused") };
    let answer: Value = serde_json::from_slice(&answer.to_json()).expect("JSON");
    assert_eq!(answer["failures"], json!([]));
    for (task, instance) in tasks(&answer).iter().zip([&arns[2], &arns[0]]) {
        assert_eq!(task["containerInstanceArn"], instance.as_str());
        assert_eq!(
            (&task["startedBy"], &task["group"], &task["cpu"]),
            (&json!("mine"), &json!("batch"), &json!("300"))
        );
        assert_eq!(task["overrides"]["containerOverrides"], overrides["containerOverrides"]);
        let tags = json!([{"key": "a", "value": "b"}, {"key": "aws:ecs:clusterName", "value": "default"}]);
        assert_eq!(
            (&task["tags"], &task["launchType"], &task["lastStatus"]),
            (&tags, &json!("EC2"), &json!("PENDING"))
        );
    }
    lab.cell.snapshot();
    let left = lab.ok(0, DescribeContainerInstances, &json!({"containerInstances": arns}));
    let left: Vec<&Value> = left["containerInstances"].as_array().expect("instances").iter().collect();
    let cpu: Vec<i64> = left.iter().filter_map(|one| one["remainingResources"][0]["integerValue"].as_i64()).collect();
    assert_eq!(cpu, [700, 1_000, 700]);
}

#[test]
fn start_task_says_of_each_instance_why_it_is_refused() {
    let mut lab = Lab::new();
    let arns: Vec<String> = (1..=5).map(|key| lab.instance(key, 1_000, 100 * i64::from(key))).collect();
    let silent = lab.register(6, &offer("silent", 1_000, 1_000));
    let checked = json!({"family": "web", "containerDefinitions": [
        {"name": "main", "image": "i", "cpu": 500, "memory": 200, "portMappings": [{"containerPort": 80, "hostPort": 80}]},
    ]});
    lab.ok(0, RegisterTaskDefinition, &checked);
    lab.ok(0, UpdateContainerInstancesState, &json!({"containerInstances": [arns[3]], "status": "DRAINING"}));
    lab.ok(0, DeregisterContainerInstance, &json!({"containerInstance": arns[4], "force": true}));
    let missing = format!("{}{}", arns[0].trim_end_matches(id(&arns[0])), "0".repeat(32));
    let named = [&arns[0], &arns[1], &arns[1], &arns[2], &arns[3], &arns[4], &silent, &missing];
    let answer = lab.ok(0, StartTask, &json!({"taskDefinition": "web", "containerInstances": named}));
    let placed: Vec<&Value> = tasks(&answer).iter().map(|task| &task["containerInstanceArn"]).collect();
    assert_eq!(placed, [arns[1].as_str(), arns[2].as_str()]);
    let expected = [
        (&arns[0], "RESOURCE:MEMORY"),
        // The first copy took it all.
        (&arns[1], "RESOURCE:MEMORY"),
        (&arns[3], "INACTIVE"),
        (&arns[4], "INACTIVE"),
        (&silent, "AGENT"),
        (&missing, "MISSING"),
    ];
    let expected: Vec<(String, String)> =
        expected.into_iter().map(|(arn, reason)| (arn.clone(), reason.to_owned())).collect();
    assert_eq!(failures(&answer), expected);
    let reasons = |lab: &mut Lab, family: &str| {
        let request = json!({"taskDefinition": family, "containerInstances": [arns[2]]});
        failures(&lab.ok(0, StartTask, &request)).into_iter().map(|(_, reason)| reason).collect::<Vec<_>>()
    };
    lab.ok(0, RegisterTaskDefinition, &definition("port", 1, 6, &[80]));
    lab.ok(0, RegisterTaskDefinition, &definition("cpu", 501, 6, &[]));
    let init = json!({"family": "init", "containerDefinitions": [
        {"name": "main", "image": "i", "memory": 6, "linuxParameters": {"initProcessEnabled": true}},
    ]});
    lab.ok(0, RegisterTaskDefinition, &init);
    assert_eq!(reasons(&mut lab, "port"), ["RESOURCE:PORTS"]);
    assert_eq!(reasons(&mut lab, "cpu"), ["RESOURCE:CPU"]);
    assert_eq!(reasons(&mut lab, "init"), ["ATTRIBUTE"]);
}

#[test]
fn start_task_refuses_what_it_cannot_do_and_changes_nothing() {
    let mut lab = Lab::new();
    let arn = lab.instance(1, 1_000, 1_000);
    lab.ok(0, CreateCluster, &json!({"clusterName": "other"}));
    lab.ok(0, RegisterTaskDefinition, &definition("web", 1, 6, &[]));
    lab.ok(0, RegisterTaskDefinition, &definition("old", 1, 6, &[]));
    lab.ok(0, DeregisterTaskDefinition, &json!({"taskDefinition": "old:1"}));
    let network = json!({"awsvpcConfiguration": {"subnets": ["subnet-1"]}});
    let ghost = json!({"containerOverrides": [{"name": "ghost", "cpu": 1}]});
    for (member, value, code, word) in [
        ("containerInstances", json!(["short"]), "InvalidParameterException", "32,36"),
        ("cluster", json!("other"), "InvalidParameterException", "Your cluster is other"),
        ("cluster", json!("nowhere"), "ClusterNotFoundException", "Cluster not found."),
        ("taskDefinition", json!("nothing"), "ClientException", "TaskDefinition not found."),
        ("taskDefinition", json!("old:1"), "ClientException", "TaskDefinition is inactive"),
        ("overrides", ghost, "InvalidParameterException", "ghost"),
        ("startedBy", json!("ecs-svc/1"), "InvalidParameterException", "startedBy"),
        ("group", json!("service:web"), "InvalidParameterException", "group"),
        ("tags", json!([{"key": "aws:x", "value": "y"}]), "InvalidParameterException", "aws:"),
        ("propagateTags", json!("SERVICE"), "InvalidParameterException", "propagateTags"),
        ("enableExecuteCommand", json!(true), "UnsupportedFeatureException", "enableExecuteCommand"),
        ("networkConfiguration", network, "InvalidParameterException", "Network Configuration is not valid"),
        ("referenceId", json!("r"), "UnsupportedFeatureException", "referenceId"),
        ("volumeConfigurations", json!([{"name": "v"}]), "UnsupportedFeatureException", "volumeConfigurations"),
    ] {
        let mut request = json!({"taskDefinition": "web", "containerInstances": [arn]});
        request[member] = value;
        let (given, message) = lab.refused(0, StartTask, &request);
        assert_eq!(given, code, "{member}: {message}");
        assert!(message.contains(word), "{member}: {message}");
    }
    assert_eq!(lab.wanted(), 0);
}

#[test]
fn run_task_refuses_bad_requests_before_what_is_missing() {
    let mut lab = Lab::new();
    lab.instance(1, 1_000, 1_000);
    lab.ok(0, RegisterTaskDefinition, &definition("web", 1, 6, &[]));
    let strategy = json!([{"capacityProvider": "p", "weight": 1}]);
    for (members, code, word) in [
        (json!({"clientToken": "two words"}), "InvalidParameterException", "33 to 126"),
        (json!({"clientToken": "ü"}), "InvalidParameterException", "33 to 126"),
        (json!({"platformVersion": "1.4.0"}), "InvalidParameterException", "platform version"),
        (
            json!({"launchType": "EC2", "capacityProviderStrategy": strategy}),
            "InvalidParameterException",
            "both a launch type and capacity provider strategy",
        ),
        (json!({"capacityProviderStrategy": strategy}), "InvalidParameterException", "not associated with the cluster"),
        (json!({"launchType": "FARGATE"}), "InvalidParameterException", "does not support launch_type FARGATE"),
        (json!({"launchType": "FARGATE", "platformVersion": "9.9"}), "PlatformUnknownException", "9.9"),
        (
            json!({"launchType": "FARGATE", "placementStrategy": [{"type": "random"}]}),
            "InvalidParameterException",
            "Placement strategies are not supported with FARGATE launch type.",
        ),
        (
            json!({"launchType": "FARGATE", "placementConstraints": [{"type": "distinctInstance"}]}),
            "InvalidParameterException",
            "Placement constraints are not supported with FARGATE launch type.",
        ),
        (json!({"enableExecuteCommand": true, "group": "service:x"}), "InvalidParameterException", "group"),
        (json!({"referenceId": "r"}), "UnsupportedFeatureException", "referenceId"),
    ] {
        let mut request = json!({"taskDefinition": "web"});
        for (key, value) in members.as_object().expect("members") {
            request[key] = value.clone();
        }
        let (given, message) = lab.refused(0, RunTask, &request);
        assert_eq!(given, code, "{members}: {message}");
        assert!(message.contains(word), "{members}: {message}");
    }
    // What a skeleton leaves empty is not given.
    let empty = json!({"taskDefinition": "web", "referenceId": "", "platformVersion": "", "group": "", "startedBy": "",
        "clientToken": "", "capacityProviderStrategy": [], "placementConstraints": [], "placementStrategy": []});
    let answer = lab.ok(0, RunTask, &empty);
    assert_eq!((&tasks(&answer)[0]["group"], tasks(&answer)[0].get("startedBy")), (&json!("family:web"), None));
}

#[test]
fn tags_are_given_propagated_and_managed() {
    let mut lab = Lab::new();
    let arn = lab.instance(1, 10_000, 10_000);
    let mut tagged = definition("web", 1, 6, &[]);
    tagged["tags"] = json!([{"key": "team", "value": "blue"}, {"key": "stage", "value": "test"}]);
    lab.ok(0, RegisterTaskDefinition, &tagged);
    let own = json!([{"key": "team", "value": "red"}]);
    let both = json!([{"key": "team", "value": "red"}, {"key": "stage", "value": "test"}]);
    let managed = json!([{"key": "aws:ecs:clusterName", "value": "default"}]);
    for (members, expected) in [
        (json!({}), json!([])),
        (json!({"tags": own}), own.clone()),
        (json!({"propagateTags": "NONE"}), json!([])),
        (json!({"propagateTags": "TASK_DEFINITION"}), tagged["tags"].clone()),
        (json!({"propagateTags": "TASK_DEFINITION", "tags": own}), both),
        (json!({"enableECSManagedTags": true}), managed),
    ] {
        for operation in [RunTask, StartTask] {
            let mut request = json!({"taskDefinition": "web"});
            if operation == StartTask {
                request["containerInstances"] = json!([arn]);
            }
            for (key, value) in members.as_object().expect("members") {
                request[key] = value.clone();
            }
            let answer = lab.ok(0, operation, &request);
            assert_eq!(tasks(&answer)[0]["tags"], expected, "{members}");
            let task = tasks(&answer)[0]["taskArn"].clone();
            let plain = lab.ok(0, DescribeTasks, &json!({"tasks": [task]}));
            assert_eq!(tasks(&plain)[0]["tags"], json!([]), "only who asks is told");
            let told = lab.ok(0, DescribeTasks, &json!({"tasks": [task], "include": ["TAGS"]}));
            assert_eq!(tasks(&told)[0]["tags"], expected);
        }
    }
    // The managed tag does not count.
    let fifty: Vec<Value> = (0..50).map(|n| json!({"key": format!("k{n}"), "value": ""})).collect();
    let full = json!({"taskDefinition": "web", "tags": fifty, "enableECSManagedTags": true});
    assert_eq!(tasks(&lab.ok(0, RunTask, &full))[0]["tags"].as_array().map(Vec::len), Some(51));
    let more = json!({"taskDefinition": "web", "tags": fifty, "propagateTags": "TASK_DEFINITION"});
    assert!(lab.refused(0, RunTask, &more).1.contains("52 tags"));
}

/// Every combination of filters, against a plain walk over all tasks.
#[test]
fn list_tasks_finds_what_a_walk_over_all_finds() {
    let mut lab = Lab::new();
    let arns = [lab.instance(1, 10_000, 10_000), lab.instance(2, 10_000, 10_000)];
    for family in ["a", "b"] {
        lab.ok(0, RegisterTaskDefinition, &definition(family, 1, 6, &[]));
    }
    let mut known: Vec<Value> = Vec::new();
    for round in 0..24 {
        let (family, mark, arn) = (["a", "b"][round % 2], ["x", "y", ""][round % 3], &arns[round / 2 % 2]);
        let request = json!({"taskDefinition": family, "containerInstances": [arn], "startedBy": mark});
        known.push(tasks(&lab.ok(0, StartTask, &request))[0].clone());
    }
    for (round, task) in known.iter().enumerate() {
        let arn = task["taskArn"].as_str().expect("an ARN");
        let key = if task["containerInstanceArn"] == arns[0].as_str() { 1 } else { 2 };
        match round % 4 {
            0 => drop(lab.report(key, arn, "RUNNING")),
            1 => drop(lab.ok(0, StopTask, &json!({"task": arn}))),
            2 => drop(lab.report(key, arn, "STOPPED")),
            _ => {}
        }
    }
    let described: Vec<Value> =
        known.iter().map(|task| lab.describe(task["taskArn"].as_str().expect("an ARN"))).collect();
    let mut found = 0;
    for family in [None, Some("a"), Some("none")] {
        for instance in [None, Some(&arns[0])] {
            for launch_type in [None, Some("EC2"), Some("EXTERNAL")] {
                for desired in [None, Some("RUNNING"), Some("STOPPED"), Some("PENDING")] {
                    for size in [1, 3, 100] {
                        let request = json!({"family": family, "containerInstance": instance, "launchType": launch_type,
                            "desiredStatus": desired, "maxResults": size});
                        let expected = described.iter().filter(|task| {
                            family.is_none_or(|family| {
                                task["taskDefinitionArn"]
                                    .as_str()
                                    .is_some_and(|arn| arn.ends_with(&format!("/{family}:1")))
                            }) && instance.is_none_or(|arn| task["containerInstanceArn"] == arn.as_str())
                                && launch_type.is_none_or(|launch_type| task["launchType"] == launch_type)
                                && task["desiredStatus"] == desired.unwrap_or("RUNNING")
                        });
                        let expected: Vec<&Value> = expected.map(|task| &task["taskArn"]).collect();
                        found += expected.len();
                        assert_eq!(listed(&mut lab, request.clone()).iter().collect::<Vec<_>>(), expected, "{request}");
                    }
                }
            }
        }
    }
    assert!(found > 200, "{found}");
    for mark in ["x", "y", "z"] {
        for desired in ["RUNNING", "STOPPED"] {
            let expected: Vec<&Value> = described
                .iter()
                .filter(|task| task["startedBy"] == mark && task["desiredStatus"] == desired)
                .map(|task| &task["taskArn"])
                .collect();
            let found = listed(&mut lab, json!({"startedBy": mark, "desiredStatus": desired}));
            assert_eq!(found.iter().collect::<Vec<_>>(), expected);
        }
    }
    let alone = lab.refused(0, ListTasks, &json!({"startedBy": "x", "family": "a"}));
    let message = "cannot specify startedBy with other arguments".to_owned();
    assert_eq!(alone, ("InvalidParameterException".to_owned(), message));
    assert_eq!(lab.refused(0, ListTasks, &json!({"serviceName": "web"})).0, "ServiceNotFoundException");
    assert_eq!(listed(&mut lab, json!({"daemonName": "d"})), Vec::<Value>::new());
    assert_eq!(lab.refused(0, ListTasks, &json!({"nextToken": "x"})).0, "InvalidParameterException");
}

/// All pages of a listing.
fn listed(lab: &mut Lab, mut request: Value) -> Vec<Value> {
    let mut arns = Vec::new();
    loop {
        let answer = lab.ok(0, ListTasks, &request);
        arns.extend(answer["taskArns"].as_array().expect("ARNs").iter().cloned());
        match answer.get("nextToken") {
            Some(token) => request["nextToken"] = token.clone(),
            None => return arns,
        }
    }
}

#[test]
fn a_live_task_is_disconnected_while_its_agent_is_away() {
    let mut lab = Lab::new();
    let arn = lab.register(1, &offer("host", 1_000, 1_000));
    let (instance, session) = lab.connect(1, &arn);
    lab.ok(0, RegisterTaskDefinition, &definition("web", 1, 6, &[]));
    let (runs, ends) = (lab.run("web"), lab.run("web"));
    let shown = |lab: &mut Lab, task: &str| {
        lab.cell.snapshot();
        lab.describe(task)["connectivity"].clone()
    };
    assert_eq!(shown(&mut lab, &runs), Value::Null, "nobody heard of it yet");
    lab.report(1, &runs, "RUNNING");
    lab.report(1, &ends, "RUNNING");
    lab.report(1, &ends, "STOPPED");
    assert_eq!(shown(&mut lab, &runs), "CONNECTED");
    lab.disconnect(instance, session);
    assert_eq!((shown(&mut lab, &runs), shown(&mut lab, &ends)), (json!("DISCONNECTED"), json!("CONNECTED")));
    lab.connect(1, &arn);
    assert_eq!(shown(&mut lab, &runs), "CONNECTED");
}

#[test]
fn a_described_task_has_every_field_that_ecs_fills_in() {
    let mut lab = Lab::new();
    lab.instance(1, 1_000, 1_000);
    lab.ok(0, RegisterTaskDefinition, &definition("web", 0, 64, &[]));
    let task = lab.run("web");
    let described = lab.describe(&task);
    for (member, value) in [
        ("attachments", json!([])),
        ("attributes", json!([])),
        ("cpu", json!("0")),
        ("memory", json!("64")),
        ("desiredStatus", json!("RUNNING")),
        ("enableExecuteCommand", json!(false)),
        ("group", json!("family:web")),
        ("healthStatus", json!("UNKNOWN")),
        ("lastStatus", json!("PENDING")),
        ("launchType", json!("EC2")),
        ("overrides", json!({"containerOverrides": [{"name": "main"}], "inferenceAcceleratorOverrides": []})),
        ("tags", json!([])),
        ("version", json!(1)),
    ] {
        assert_eq!(described[member], value, "{member}");
    }
    let container = &described["containers"][0];
    for (member, value) in [
        ("name", json!("main")),
        ("image", json!("i")),
        ("taskArn", json!(task)),
        ("lastStatus", json!("PENDING")),
        ("networkBindings", json!([])),
        ("networkInterfaces", json!([])),
        ("healthStatus", json!("UNKNOWN")),
        ("cpu", json!("0")),
        ("memory", json!("64")),
    ] {
        assert_eq!(container[member], value, "{member}");
    }
    for absent in ["startedBy", "startedAt", "connectivity", "stopCode", "platformVersion", "capacityProviderName"] {
        assert_eq!(described.get(absent), None, "{absent}");
    }
    for absent in ["exitCode", "reason", "runtimeId", "imageDigest", "memoryReservation"] {
        assert_eq!(container.get(absent), None, "{absent}");
    }
}

#[test]
fn a_digest_is_told_before_the_pull_and_is_that_of_what_runs() {
    let mut lab = Lab::new();
    lab.instance(1, 1_000, 1_000);
    lab.ok(0, RegisterTaskDefinition, &definition("web", 0, 64, &[]));
    let task = lab.run("web");
    let name = lab.describe(&task)["containers"][0]["name"].clone();
    // What runs may be an image that was there already, and one that no registry knows has no digest.
    for (status, told, shown) in [
        ("PENDING", json!("sha256:1"), json!("sha256:1")),
        ("RUNNING", json!("sha256:2"), json!("sha256:2")),
        ("RUNNING", json!(null), json!(null)),
        ("RUNNING", json!("sha256:2"), json!("sha256:2")),
        ("STOPPED", json!(null), json!("sha256:2")),
    ] {
        let container = json!({"containerName": name, "status": status, "imageDigest": told});
        let report = json!({"cluster": "default", "task": task, "status": status, "containers": [container]});
        lab.ok(1, SubmitTaskStateChange, &report);
        let described = lab.describe(&task);
        assert_eq!(described["lastStatus"], status);
        assert_eq!(described["containers"][0]["imageDigest"], shown);
    }
}

#[test]
fn reports_name_their_own_cluster_and_nothing_that_a_task_has_not() {
    let mut lab = Lab::new();
    lab.instance(1, 1_000, 1_000);
    lab.ok(0, CreateCluster, &json!({"clusterName": "other"}));
    lab.ok(0, RegisterTaskDefinition, &definition("web", 1, 6, &[]));
    let task = lab.run("web");
    let own = "arn:aws:ecs:us-east-1:000000000000:cluster/default";
    for cluster in [json!(null), json!(""), json!("default"), json!(own)] {
        lab.ok(1, SubmitTaskStateChange, &json!({"cluster": cluster, "task": task, "status": "PENDING"}));
    }
    let attachment = json!([{"attachmentArn": "arn:x", "status": "ATTACHED"}]);
    let agent = json!([{"containerName": "main", "managedAgentName": "ExecuteCommandAgent", "status": "RUNNING"}]);
    for (member, value, word) in [
        ("cluster", json!("other"), "Identifier is for cluster default. Your cluster is other"),
        ("cluster", json!("nowhere"), "Your cluster is nowhere"),
        ("cluster", json!(own.replace("us-east-1", "eu-west-1")), "Your cluster is arn:"),
        ("attachments", attachment, "arn:x"),
        ("managedAgents", agent, "main"),
    ] {
        let mut report = json!({"cluster": "default", "task": task, "status": "STOPPED"});
        report[member] = value;
        let (code, message) = lab.refused(1, SubmitTaskStateChange, &report);
        assert_eq!(code, "InvalidParameterException");
        assert!(message.contains(word), "{message}");
    }
    let other = json!({"cluster": "other", "task": task, "containerName": "main", "status": "STOPPED"});
    assert_eq!(lab.refused(1, SubmitContainerStateChange, &other).0, "InvalidParameterException");
    assert_eq!(lab.describe(&task)["lastStatus"], "PENDING");
}
