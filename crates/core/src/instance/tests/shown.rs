//! What DescribeContainerInstances, ListContainerInstances and UpdateContainerAgent say.

use longshore_agent_protocol::tcs;
use longshore_api::Timestamp;
use longshore_api::ecs::Operation::{
    DescribeContainerInstances, ListContainerInstances, PutAttributes, RegisterContainerInstance, RunTask, TagResource,
    UntagResource, UpdateContainerAgent, UpdateContainerInstancesState,
};

use super::*;
use crate::fixture::principal;
use crate::limits;

/// The instances that a filter means, by the numbers of their agents, gathered from pages of two.
fn meant(lab: &mut Lab, machines: &[Machine], filter: &str, status: Option<&str>) -> Vec<u32> {
    lab.cell.snapshot();
    let mut request = json!({"filter": filter, "status": status, "maxResults": 2});
    let mut agents = Vec::new();
    loop {
        let answer = lab.ok(0, ListContainerInstances, &request);
        let arns = answer["containerInstanceArns"].as_array().expect("a list");
        assert!(arns.len() <= 2);
        agents.extend(arns.iter().map(|arn| {
            machines.iter().find(|machine| *arn == machine.arn.as_str()).map(|machine| machine.agent).expect("ours")
        }));
        match &answer["nextToken"] {
            Value::Null => return agents,
            token => request["nextToken"] = token.clone(),
        }
    }
}

fn put(lab: &mut Lab, machine: &Machine, name: &str, value: &str) {
    lab.ok(0, PutAttributes, &json!({"attributes": [{"name": name, "value": value, "targetId": machine.arn}]}));
}

#[test]
fn tags_are_the_owners_once_an_instance_is_registered() {
    let (mut lab, _) = lab(1);
    let mut offered = offer("host-9", 1_000, 1_000);
    offered["tags"] = json!([{"key": "first", "value": "agent"}]);
    let arn = lab.register(9, &offered);
    lab.ok(0, TagResource, &json!({"resourceArn": arn, "tags": [{"key": "second", "value": "owner"}]}));
    lab.ok(0, UntagResource, &json!({"resourceArn": arn, "tagKeys": ["first"]}));
    // Agents send theirs at every start.
    offered["containerInstanceArn"] = arn.clone().into();
    assert_eq!(lab.register(9, &offered), arn);
    let shown = lab.ok(0, DescribeContainerInstances, &json!({"containerInstances": [arn], "include": ["TAGS"]}));
    assert_eq!(shown["containerInstances"][0]["tags"], json!([{"key": "second", "value": "owner"}]));
}

#[test]
fn a_listing_is_filtered_by_expression_and_status_and_paged_without_a_loss() {
    let (mut lab, machines) = lab(5);
    for machine in &machines {
        put(&mut lab, machine, "rack", &machine.agent.to_string());
    }
    for (filter, expected) in [
        ("", &[1, 2, 3, 4, 5][..]),
        ("attribute:rack exists", &[1, 2, 3, 4, 5]),
        ("attribute:rack > 2", &[3, 4, 5]),
        ("attribute:rack in [1, 5] or attribute:rack =~ [3]", &[1, 3, 5]),
        ("attribute:longshore.host-id == host-4", &[4]),
        ("attribute:ecs.availability-zone != us-east-1a", &[]),
        ("agentVersion >= 1.0 and agentVersion < 1.0.1", &[1, 2, 3, 4, 5]),
        ("registeredAt > 2023-11-14 and registeredAt < 2023-11-15", &[1, 2, 3, 4, 5]),
        ("ec2InstanceId in [i-1]", &[]),
    ] {
        assert_eq!(meant(&mut lab, &machines, filter, None), expected, "{filter}");
    }
    let drain = json!({"containerInstances": [machines[3].arn], "status": "DRAINING"});
    lab.ok(0, UpdateContainerInstancesState, &drain);
    assert_eq!(meant(&mut lab, &machines, "attribute:rack > 2", Some("DRAINING")), [4]);
    assert_eq!(meant(&mut lab, &machines, "attribute:rack > 2", Some("ACTIVE")), [3, 5]);
    vanish(&mut lab, &machines[0]);
    assert_eq!(meant(&mut lab, &machines, "agentConnected == false", None), [1]);
    let (code, message) = lab.refused(0, ListContainerInstances, &json!({"filter": "attribute:rack >"}));
    assert_eq!(code, "InvalidParameterException");
    assert_eq!(message, "Invalid filter: expected an argument, found the end (at character 17).");
}

#[test]
fn a_filter_sees_the_tasks_that_are_there_now() {
    let (mut lab, machines) = lab(3);
    let tasks = task_on_each(&mut lab, &machines[..1]);
    let busy = |lab: &mut Lab| meant(lab, &machines, "task:group == family:web", None).contains(&1);
    assert!(busy(&mut lab), "a task that waits is there");
    lab.report(1, &tasks[0], "RUNNING");
    assert_eq!(meant(&mut lab, &machines, "runningTasksCount == 1", None), [1]);
    lab.ok(0, longshore_api::ecs::Operation::StopTask, &json!({"task": tasks[0]}));
    assert!(busy(&mut lab), "it is there until it has stopped");
    lab.report(1, &tasks[0], "STOPPED");
    let others = lab.ok(0, RunTask, &json!({"taskDefinition": "web", "group": "night", "count": 3}));
    assert_eq!(others["failures"], json!([]));
    let with_night = meant(&mut lab, &machines, "task:group == night", None);
    assert!(!with_night.is_empty());
    let without = meant(&mut lab, &machines, "task:group != night", None);
    assert_eq!(with_night.len() + without.len(), 3);
    let idle = meant(&mut lab, &machines, "task:group !exists", None);
    assert_eq!(idle, meant(&mut lab, &machines, "not(task:group =~ .*)", None));
    assert_eq!(with_night, meant(&mut lab, &machines, "task:group =~ 'n(igh)t'", None));
}

/// What an agent publishes of its container runtime.
fn runtime(state: &str) -> tcs::InstanceStatus {
    tcs::InstanceStatus {
        check_type: "ContainerRuntime".to_owned(),
        status: state.to_owned(),
        last_status_change: Some(Timestamp::from_millis(1_000)),
        last_updated: Some(Timestamp::from_millis(2_000)),
        status_reason: (state == "IMPAIRED").then(|| "no answer".repeat(1_000)),
    }
}

fn publish(lab: &mut Lab, machine: &Machine, key: u32, statuses: Vec<tcs::InstanceStatus>) {
    let (instance_arn, principal) = (machine.arn.clone(), principal(key));
    let outcome = lab.apply(Command::InstanceStatus { instance_arn, principal, statuses });
    assert_eq!((outcome.group, outcome.effects), (None, Vec::new()), "it is volatile");
}

fn health(lab: &mut Lab, machine: &Machine) -> Value {
    lab.cell.snapshot();
    let request = json!({"containerInstances": [machine.arn], "include": ["CONTAINER_INSTANCE_HEALTH"]});
    lab.ok(0, DescribeContainerInstances, &request)["containerInstances"][0]["healthStatus"].clone()
}

#[test]
fn health_is_what_the_connected_agent_said_last() {
    let (mut lab, mut machines) = lab(2);
    let unknown = json!({
        "overallStatus": "INSUFFICIENT_DATA",
        "details": [{"type": "CONTAINER_RUNTIME", "status": "INSUFFICIENT_DATA"}],
    });
    assert_eq!(health(&mut lab, &machines[0]), unknown);
    assert_eq!(described(&mut lab, &machines[0])["healthStatus"], Value::Null, "only if asked for");
    publish(&mut lab, &machines[0], 1, vec![runtime("OK")]);
    let good = json!({
        "overallStatus": "OK",
        "details": [{"type": "CONTAINER_RUNTIME", "status": "OK", "lastStatusChange": 1.0, "lastUpdated": 2.0}],
    });
    assert_eq!(health(&mut lab, &machines[0]), good);
    assert_eq!(health(&mut lab, &machines[1]), unknown);
    publish(&mut lab, &machines[0], 2, vec![runtime("IMPAIRED")]);
    assert_eq!(health(&mut lab, &machines[0]), good, "another key does not speak for it");
    let other = tcs::InstanceStatus { check_type: "Agent".to_owned(), ..runtime("IMPAIRED") };
    publish(&mut lab, &machines[0], 1, vec![other, runtime("OK"), runtime("IMPAIRED")]);
    assert_eq!(health(&mut lab, &machines[0]), good, "one result of a check, of those that ECS shows");
    publish(&mut lab, &machines[0], 1, vec![runtime("IMPAIRED")]);
    let bad = health(&mut lab, &machines[0]);
    assert_eq!(bad["overallStatus"], "IMPAIRED");
    assert_eq!(bad["details"][0]["statusReason"].as_str().map(str::len), Some(limits::REASON));
    vanish(&mut lab, &machines[0]);
    assert_eq!(health(&mut lab, &machines[0]), unknown, "nobody says how it is");
    publish(&mut lab, &machines[0], 1, vec![runtime("OK")]);
    assert_eq!(health(&mut lab, &machines[0]), unknown);
    come_back(&mut lab, &mut machines[0]);
    assert_eq!(health(&mut lab, &machines[0]), unknown, "what was said in an earlier session is forgotten");
}

#[test]
fn the_most_severe_check_decides() {
    let (mut lab, machines) = lab(1);
    let gpu = |state: &str| tcs::InstanceStatus { check_type: "ACCELERATED_COMPUTE".to_owned(), ..runtime(state) };
    for (runtime_is, gpu_is, overall) in [
        ("OK", "OK", "OK"),
        ("OK", "INITIALIZING", "INITIALIZING"),
        ("INITIALIZING", "INSUFFICIENT_DATA", "INSUFFICIENT_DATA"),
        ("INSUFFICIENT_DATA", "IMPAIRED", "IMPAIRED"),
        ("IMPAIRED", "OK", "IMPAIRED"),
        ("OK", "nonsense", "INSUFFICIENT_DATA"),
    ] {
        publish(&mut lab, &machines[0], 1, vec![runtime(runtime_is), gpu(gpu_is)]);
        assert_eq!(health(&mut lab, &machines[0])["overallStatus"], overall, "{runtime_is} {gpu_is}");
    }
}

#[test]
fn a_machine_of_ec2_is_described_with_its_identity_document() {
    let mut lab = Lab::new();
    let mut offer = offer("host-1", 100, 100);
    offer["instanceIdentityDocument"] = json!(
        json!({"instanceId": "i-0abc", "instanceType": "t3.small", "imageId": "ami-1", "availabilityZone": "us-east-1c",
               "accountId": "1", "devpayProductCodes": null})
        .to_string()
    );
    let arn = lab.register(1, &offer);
    let shown = |lab: &mut Lab| {
        let instance = lab.ok(0, DescribeContainerInstances, &json!({"containerInstances": [arn]}));
        let instance = instance["containerInstances"][0].clone();
        let value = |name: &str| {
            let attributes = instance["attributes"].as_array().expect("a list");
            attributes.iter().find(|each| each["name"] == name).map(|each| each["value"].clone()).unwrap_or_default()
        };
        let names = ["ecs.instance-type", "ecs.ami-id", "ecs.availability-zone"];
        (instance["ec2InstanceId"].clone(), names.map(value))
    };
    assert_eq!(shown(&mut lab), (json!("i-0abc"), [json!("t3.small"), json!("ami-1"), json!("us-east-1c")]));
    let listed =
        lab.ok(0, ListContainerInstances, &json!({"filter": "ec2InstanceId =~ i-.* and attribute:ecs.ami-id exists"}));
    assert_eq!(listed["containerInstanceArns"], json!([arn]));
    offer["containerInstanceArn"] = json!(arn);
    lab.ok(1, RegisterContainerInstance, &offer);
    assert_eq!(shown(&mut lab).1[0], "t3.small");
    for bad in ["{", "7", r#"{"instanceId": 7}"#, r#"{"instanceId": "i 1 "}"#] {
        offer["instanceIdentityDocument"] = json!(bad);
        let (code, message) = lab.refused(1, RegisterContainerInstance, &offer);
        assert_eq!(code, "ClientException");
        assert!(message.starts_with("instanceIdentityDocument is not valid"), "{message}");
    }
}

#[test]
fn no_agent_is_updated_and_the_answer_says_what_to_do_instead() {
    let (mut lab, machines) = lab(1);
    let ask = |lab: &mut Lab, arn: &str| lab.refused(0, UpdateContainerAgent, &json!({"containerInstance": arn}));
    let (code, message) = ask(&mut lab, &machines[0].arn);
    assert_eq!(code, "NoUpdateAvailableException");
    assert!(message.starts_with("There is no update available for your container agent."), "{message}");
    assert!(message.contains("1.0.0") && message.contains("replace the longshore binary"), "{message}");
    let mut official = offer("host-2", 100, 100);
    official["attributes"] = json!([]);
    let arn = lab.register(2, &official);
    assert_eq!(ask(&mut lab, &arn).0, "MissingVersionException");
    lab.connect(2, &arn);
    assert!(ask(&mut lab, &arn).1.contains("ecs-init"));
    let unknown = "0".repeat(32);
    assert_eq!(
        ask(&mut lab, &unknown),
        ("ClientException".to_owned(), format!("Referenced container instance {unknown} not found."))
    );
    let request = json!({"cluster": "none", "containerInstance": unknown});
    assert_eq!(lab.refused(0, UpdateContainerAgent, &request).0, "ClusterNotFoundException");
}
