//! Addresses are given once, out of blocks of the task's host; what agents are told leads them to the same picture.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::Arc;

use longshore_agent_protocol::acs;
use longshore_api::admin::ExplainPlacementRequest;
use longshore_api::ecs::Operation::{
    DeregisterContainerInstance, RegisterContainerInstance, RegisterTaskDefinition, RunTask, StartTask, StopTask,
    SubmitTaskStateChange,
};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::cell::{Cell, Command, Delivery, Effect, NetworkNews, Reply};
use crate::config::{CellConfig, LossPolicy};
use crate::fixture::{Lab, config, definition, offer};
use crate::ids::SessionId;

/// A cell with these subnets and groups.
fn lab(subnets: &[&str], groups: &[&str], adopt: bool) -> Lab {
    let network = NetworkConfig {
        subnets: subnets.iter().map(|text| Arc::new(text.parse().expect("a subnet"))).collect(),
        groups: groups.iter().map(|text| Arc::new(text.parse().expect("a group"))).collect(),
        adopt,
        block_prefix: 30,
        ..NetworkConfig::default()
    };
    network.check().expect("a configuration");
    let loss = LossPolicy { lost_after_ms: Some(60_000), ..LossPolicy::default() };
    let mut lab = Lab::with(CellConfig { network, loss, ..config() });
    lab.ok(0, RegisterTaskDefinition, &awsvpc("web"));
    lab
}

fn awsvpc(family: &str) -> Value {
    let mut request = definition(family, 1, 6, &[80]);
    request["networkMode"] = json!("awsvpc");
    request
}

/// What an agent with task networks offers.
fn able(host: &str, address: &str, zone: &str) -> Value {
    let mut offer = offer(host, 10_000, 10_000);
    let attributes = offer["attributes"].as_array_mut().expect("attributes");
    attributes.push(json!({"name": "ecs.capability.task-eni"}));
    attributes.push(json!({"name": "longshore.host-address", "value": address}));
    attributes.push(json!({"name": "ecs.availability-zone", "value": zone}));
    offer
}

/// A connected instance with task networks.
fn join(lab: &mut Lab, key: u32, host: &str) -> (String, InstanceKey, SessionId) {
    let arn = lab.register(key, &able(host, &format!("192.0.2.{key}"), "a"));
    let (instance, session) = lab.connect(key, &arn);
    (arn, instance, session)
}

fn request(subnets: &[&str], groups: &[&str]) -> Value {
    json!({"taskDefinition": "web", "networkConfiguration": {
        "awsvpcConfiguration": {"subnets": subnets, "securityGroups": groups},
    }})
}

fn run(lab: &mut Lab, subnets: &[&str], groups: &[&str]) -> Value {
    lab.ok(0, RunTask, &request(subnets, groups))
}

/// A detail of the task's attachment.
fn detail(task: &Value, name: &str) -> String {
    let details = task["attachments"][0]["details"].as_array().expect("details");
    let found = details.iter().find(|detail| detail["name"] == name).expect("the detail");
    found["value"].as_str().expect("text").to_owned()
}

fn messages(lab: &mut Lab, effects: &[Effect]) -> Vec<(InstanceKey, acs::ServerMessage)> {
    let snapshot = lab.cell.snapshot();
    let sent = effects.iter().filter_map(|effect| match snapshot.render(effect, lab.now) {
        Some(Delivery::Send { instance, message, .. }) => Some((instance, *message)),
        _ => None,
    });
    sent.collect()
}

#[test]
fn a_task_has_an_address_and_says_so() {
    let mut lab = lab(&["subnet-a=10.1.0.0/24"], &[], false);
    let (arn, ..) = join(&mut lab, 1, "h1");
    let answer = run(&mut lab, &["subnet-a"], &[]);
    let task = &answer["tasks"][0];
    let address: Ipv4Addr = detail(task, "privateIPv4Address").parse().expect("an address");
    assert!("10.1.0.0/30".parse::<Ipv4Range>().expect("a range").has(address), "{address} is in the first block");
    assert_eq!(detail(task, "subnetId"), "subnet-a");
    assert_eq!(detail(task, "macAddress"), format!("0a:58:0a:01:00:{:02x}", address.octets()[3]));
    assert_eq!(detail(task, "privateDnsName"), format!("ip-10-1-0-{}.ec2.internal", address.octets()[3]));
    assert!(detail(task, "networkInterfaceId").starts_with("eni-") && detail(task, "networkInterfaceId").len() == 21);
    let attachment = &task["attachments"][0];
    assert_eq!((&attachment["type"], &attachment["status"]), (&json!("ElasticNetworkInterface"), &json!("ATTACHING")));
    let interfaces = json!([{"attachmentId": attachment["id"], "privateIpv4Address": address.to_string()}]);
    assert_eq!(task["containers"][0]["networkInterfaces"], interfaces);
    let task = task["taskArn"].as_str().expect("an ARN").to_owned();
    lab.report(1, &task, "RUNNING");
    assert_eq!(lab.describe(&task)["attachments"][0]["status"], "ATTACHED");
    // The official agent reports its interface; that of another task is no business of this one.
    let report = |arn: &str| json!({"cluster": "default", "task": task, "attachments": [{"attachmentArn": arn, "status": "ATTACHED"}]});
    let own = format!("arn:aws:ecs:us-east-1:000000000000:attachment/{}", attachment["id"].as_str().expect("an id"));
    lab.ok(1, SubmitTaskStateChange, &report(&own));
    assert_eq!(lab.refused(1, SubmitTaskStateChange, &report("arn:x")).0, "InvalidParameterException");
    lab.report(1, &task, "STOPPED");
    assert_eq!(lab.describe(&task)["attachments"][0]["status"], "DELETED");
    assert_eq!(lab.cell.snapshot().hosts.len(), 1, "the block stays with {arn}");
}

#[test]
fn the_payload_has_the_interface_and_no_published_ports() {
    let mut lab = lab(&["subnet-a=10.1.0.0/24"], &["sg-a=in tcp 80 0.0.0.0/0"], false);
    join(&mut lab, 1, "h1");
    let command = crate::fixture::api(0, RunTask, &request(&["subnet-a"], &["sg-a"]));
    let effects = lab.apply(command).effects;
    let sent = messages(&mut lab, &effects);
    let [(_, acs::ServerMessage::Network(network)), (_, acs::ServerMessage::Payload(payload))] = sent.as_slice() else {
        panic!("the network comes before the task: {sent:?}")
    };
    assert_eq!(network.peers[0].blocks, ["10.1.0.0/30"]);
    assert_eq!((network.groups[0].id.as_str(), network.groups[0].rules.len(), network.complete), ("sg-a", 2, true));
    let task = &payload.tasks[0];
    let interface = &task.elastic_network_interfaces[0];
    assert_eq!(task.network_mode.as_deref(), Some("awsvpc"));
    assert_eq!(interface.subnet_gateway_ipv4_address.as_deref(), Some("10.1.0.1/24"));
    assert_eq!(interface.security_groups, ["sg-a"]);
    assert!(interface.ipv4_addresses[0].primary && interface.mac_address.is_some() && interface.ec2_id.is_some());
    assert_eq!(task.containers[0].port_mappings, []);
    let host = task.containers[0].docker_config.as_ref().and_then(|docker| docker.host_config.as_deref());
    assert!(host.expect("a host configuration").contains(r#""NetworkMode":"none""#));
}

#[test]
fn what_is_asked_must_fit_the_mode_and_exist() {
    let mut lab = lab(&["subnet-a=10.1.0.0/24"], &[], false);
    let (arn, ..) = join(&mut lab, 1, "h1");
    lab.ok(0, RegisterTaskDefinition, &definition("bridge", 1, 6, &[]));
    let network = |configuration: Value| json!({"awsvpcConfiguration": configuration});
    let public = json!({"subnets": ["subnet-a"], "assignPublicIp": "ENABLED"});
    for (definition, given, words) in [
        ("web", json!(null), "must be provided when networkMode 'awsvpc'"),
        ("web", json!({}), "must be provided when networkMode 'awsvpc'"),
        ("bridge", network(json!({"subnets": ["subnet-a"]})), "not valid for the given networkMode"),
        (
            "web",
            network(json!({"subnets": ["subnet-b"]})),
            "The subnet ID 'subnet-b' does not exist (ErrorCode: InvalidSubnetID.NotFound)",
        ),
        ("web", network(json!({"subnets": ["subnet-a"], "securityGroups": ["sg-b"]})), "'sg-b' does not exist"),
        ("web", network(public), "Assign public IP is not supported for this launch type."),
    ] {
        let mut request = json!({"taskDefinition": definition, "networkConfiguration": given});
        if given.is_null() {
            request.as_object_mut().expect("an object").remove("networkConfiguration");
        }
        let (code, message) = lab.refused(0, RunTask, &request);
        assert!(code == "InvalidParameterException" && message.contains(words), "{message}");
        request["containerInstances"] = json!([arn]);
        assert!(lab.refused(0, StartTask, &request).1.contains(words));
    }
    let mut external = request(&["subnet-a"], &[]);
    external["launchType"] = json!("EXTERNAL");
    assert_eq!(lab.refused(0, RunTask, &external).1, "Task definition does not support launch_type EXTERNAL.");
}

#[test]
fn who_cannot_take_a_task_says_why() {
    let mut lab = lab(&["subnet-a=10.1.0.0/28@a", "subnet-b=10.2.0.0/28@b"], &[], false);
    let reason = |answer: &Value| answer["failures"][0]["reason"].as_str().unwrap_or_default().to_owned();
    lab.instance(7, 100, 100);
    let answer = run(&mut lab, &["subnet-a"], &[]);
    assert_eq!(reason(&answer), "ATTRIBUTE");
    assert!(answer["failures"][0]["detail"].as_str().expect("why").contains("ecs.capability.task-eni"));
    let (arn, ..) = join(&mut lab, 1, "h1");
    let mut there = request(&["subnet-b"], &[]);
    there["containerInstances"] = json!([arn]);
    let answer = lab.ok(0, StartTask, &there);
    assert_eq!(reason(&answer), "ATTRIBUTE");
    assert!(answer["failures"][0]["detail"].as_str().expect("why").contains("zone a"));
    // Sixteen addresses, of which the first of each block, the gateway and the last one are kept; all others are found.
    let mut taken = BTreeSet::new();
    for _ in 0..10 {
        let answer = run(&mut lab, &["subnet-b", "subnet-a"], &[]);
        assert!(taken.insert(detail(&answer["tasks"][0], "privateIPv4Address")));
    }
    let answer = run(&mut lab, &["subnet-a"], &[]);
    assert_eq!(answer["tasks"], json!([]));
    let reasons: Vec<&str> =
        answer["failures"].as_array().expect("failures").iter().filter_map(|one| one["reason"].as_str()).collect();
    assert!(reasons.contains(&"RESOURCE:ENI"), "{reasons:?}");
}

/// What placement does is the oracle: RunTask and StartTask refuse for the reason that is named.
#[test]
fn what_keeps_a_task_from_an_address_is_explained() {
    let mut lab = lab(&["subnet-a=10.1.0.0/28@a", "subnet-b=10.2.0.0/28@b"], &[], false);
    let explain = |lab: &mut Lab, subnets: Option<&[&str]>| {
        let request = ExplainPlacementRequest {
            task_definition: "web".to_owned(),
            subnets: subnets.map(|ids| ids.iter().map(|id| (*id).to_owned()).collect()),
            count: Some(100),
            ..ExplainPlacementRequest::default()
        };
        crate::placement::explain::explain(&lab.cell.snapshot(), &request)
    };
    join(&mut lab, 1, "h1");
    let zone = explain(&mut lab, Some(&["subnet-b"])).expect("explained");
    assert_eq!((zone.placeable, zone.instances[0].refusals[0].reason.as_str()), (0, "ATTRIBUTE"));
    assert!(zone.instances[0].refusals[0].detail.contains("zone a") && zone.advice[0].contains("zone"), "{zone:?}");
    for left in (0..10).rev() {
        let before = explain(&mut lab, None).expect("explained").placeable;
        assert!(before > left, "{before} of {left}");
        assert_ne!(run(&mut lab, &["subnet-a", "subnet-b"], &[])["tasks"], json!([]));
    }
    let full = explain(&mut lab, None).expect("explained");
    assert_eq!(run(&mut lab, &["subnet-a", "subnet-b"], &[])["failures"][0]["reason"], "RESOURCE:ENI");
    assert_eq!((full.placeable, full.instances[0].refusals[0].reason.as_str()), (0, "RESOURCE:ENI"));
    assert!(full.advice[0].contains("no free address"), "{:?}", full.advice);
    let error = explain(&mut lab, Some(&["subnet-x"])).expect_err("unknown");
    assert!(error.message.contains("'subnet-x' does not exist"), "{}", error.message);
}

#[test]
fn an_address_is_free_again_when_the_agent_said_stopped_and_not_before() {
    let mut lab = lab(&["subnet-a=10.1.0.0/28"], &[], false);
    let (_, instance, session) = join(&mut lab, 1, "h1");
    // With nobody left the brake would hold.
    lab.instance(7, 100, 100);
    let first = run(&mut lab, &["subnet-a"], &[])["tasks"][0].clone();
    let arn = first["taskArn"].as_str().expect("an ARN").to_owned();
    (1..10).for_each(|_| drop(run(&mut lab, &["subnet-a"], &[])));
    let full = |lab: &mut Lab| run(lab, &["subnet-a"], &[])["tasks"] == json!([]);
    lab.ok(0, StopTask, &json!({"task": arn}));
    assert!(full(&mut lab), "an order to stop is no stop");
    lab.disconnect(instance, session);
    lab.pass(120_000);
    assert_eq!(lab.describe(&arn)["lastStatus"], "STOPPED", "lost");
    let instance_arn = first["containerInstanceArn"].as_str().expect("an ARN").to_owned();
    lab.connect(1, &instance_arn);
    assert!(full(&mut lab), "a verdict is no stop");
    lab.report(1, &arn, "STOPPED");
    let next = run(&mut lab, &["subnet-a"], &[])["tasks"][0].clone();
    assert_eq!(detail(&next, "privateIPv4Address"), detail(&first, "privateIPv4Address"));
    assert_ne!(next["attachments"][0]["id"], first["attachments"][0]["id"]);
}

#[test]
fn instances_of_a_host_share_its_blocks_which_go_with_the_last_of_them() {
    let mut lab = lab(&["subnet-a=10.1.0.0/24"], &[], false);
    let hosts = ["h1", "h1", "h2"];
    let joined: Vec<_> = (1..=3).map(|key| join(&mut lab, key, hosts[key as usize - 1])).collect();
    let blocks = |lab: &mut Lab| -> BTreeMap<String, usize> {
        let hosts = lab.cell.snapshot().hosts;
        hosts.iter().map(|(host, network)| (host.to_string(), network.blocks.len())).collect()
    };
    for (arn, ..) in &joined {
        let mut there = request(&["subnet-a"], &[]);
        there["containerInstances"] = json!([arn]);
        lab.ok(0, StartTask, &there);
    }
    assert_eq!(blocks(&mut lab), BTreeMap::from([("h1".to_owned(), 1), ("h2".to_owned(), 1)]));
    for (index, left) in [(0, 2), (1, 1), (2, 0)] {
        let (arn, instance, session) = &joined[index];
        lab.disconnect(*instance, *session);
        lab.ok(0, DeregisterContainerInstance, &json!({"containerInstance": arn, "force": true}));
        lab.pass(1_000);
        assert_eq!(blocks(&mut lab).len(), left);
    }
    assert_eq!(lab.cell.addresses().held(), 0);
}

#[test]
fn unknown_ids_are_adopted_where_that_is_allowed() {
    let mut lab = lab(&["subnet-a=10.212.0.0/16"], &["sg-a=in all sg-new"], true);
    join(&mut lab, 1, "h1");
    let answer = run(&mut lab, &["subnet-new"], &["sg-new"]);
    assert_eq!(detail(&answer["tasks"][0], "subnetId"), "subnet-new");
    let snapshot = lab.cell.snapshot();
    assert_eq!(snapshot.subnet("subnet-new").expect("adopted").range.to_string(), "10.213.0.0/20");
    assert_eq!(snapshot.security_group("sg-new").expect("adopted").rules.len(), 2);
    run(&mut lab, &["subnet-newer"], &["sg-new"]);
    assert_eq!(lab.cell.snapshot().subnet("subnet-newer").expect("adopted").range.to_string(), "10.213.16.0/20");
    assert!(lab.refused(0, RunTask, &request(&["default"], &[])).1.contains("does not exist"), "that is no id");
    // What was adopted is there after a restart, also for a server that adopts nothing.
    let config =
        CellConfig { network: NetworkConfig { adopt: false, ..lab.cell.config().network.clone() }, ..config() };
    let mut loaded = Cell::new(config);
    lab.cell.entities().for_each(|entity| loaded.load(entity));
    loaded.loaded(lab.cell.sequence());
    loaded.check().expect("what is derived is a recount");
    assert!(loaded.snapshot().subnet("subnet-new").is_some());
}

#[test]
fn members_of_a_group_that_a_rule_names_are_told_to_whom_it_concerns() {
    let mut lab = lab(&["subnet-a=10.1.0.0/24"], &["sg-db=in tcp 5432 sg-web", "sg-web="], false);
    let (db, at_db, _) = join(&mut lab, 1, "h1");
    let (web, at_web, _) = join(&mut lab, 2, "h2");
    let start = |lab: &mut Lab, arn: &str, group: &str| {
        let mut there = request(&["subnet-a"], &[group]);
        there["containerInstances"] = json!([arn]);
        let outcome = lab.apply(crate::fixture::api(0, StartTask, &there));
        messages(lab, &outcome.effects)
    };
    let networks = |sent: &[(InstanceKey, acs::ServerMessage)], to: InstanceKey| -> Vec<acs::NetworkMessage> {
        let of = sent.iter().filter(|(instance, _)| *instance == to);
        of.filter_map(|(_, message)| match message {
            acs::ServerMessage::Network(network) => Some(network.clone()),
            _ => None,
        })
        .collect()
    };
    start(&mut lab, &db, "sg-db");
    let sent = start(&mut lab, &web, "sg-web");
    let to_db = networks(&sent, at_db);
    let told = to_db.iter().flat_map(|network| &network.groups).find(|group| group.id == "sg-web").expect("told");
    assert_eq!(told.members.len(), 1);
    assert!(
        to_db.iter().flat_map(|network| &network.peers).any(|peer| peer.host_address.as_deref() == Some("192.0.2.2"))
    );
    assert!(networks(&sent, at_web).iter().flat_map(|network| &network.groups).all(|group| group.id == "sg-web"));
    // Who comes back is told everything, before its manifest.
    let command = lab.opened(1, &db);
    let outcome = lab.apply(command);
    let sent = messages(&mut lab, &outcome.effects);
    let (_, acs::ServerMessage::Network(all)) = &sent[0] else { panic!("{sent:?}") };
    assert!(all.complete && all.peers.len() == 2);
    assert_eq!(all.groups.iter().map(|group| group.id.as_str()).collect::<Vec<_>>(), ["sg-db", "sg-web"]);
}

#[test]
fn a_block_that_nobody_uses_goes_to_who_needs_one() {
    let mut lab = lab(&["subnet-a=10.1.0.0/28"], &[], false);
    // As many blocks as hosts, but for one.
    let hosts: Vec<_> = (1..=5).map(|key| join(&mut lab, key, &format!("h{key}"))).collect();
    let start = |lab: &mut Lab, at: usize| {
        let mut there = request(&["subnet-a"], &[]);
        there["containerInstances"] = json!([hosts[at].0]);
        lab.ok(0, StartTask, &there)
    };
    let arn = |answer: &Value| answer["tasks"][0]["taskArn"].as_str().map(str::to_owned);
    let tasks: Vec<String> = (0..4).map(|at| arn(&start(&mut lab, at)).expect("placed")).collect();
    let refused = start(&mut lab, 4);
    assert_eq!(refused["failures"][0]["reason"], "RESOURCE:ENI", "every block is in use");
    lab.report(3, &tasks[2], "STOPPED");
    let before = lab.cell.snapshot().hosts["h3"].blocks.clone();
    assert!(arn(&start(&mut lab, 4)).is_some());
    let hosts = lab.cell.snapshot().hosts;
    assert_eq!((hosts["h5"].blocks.clone(), hosts.contains_key("h3")), (before, false));
}

/// What is looked for once in a request is looked for again when one of its copies took it.
#[test]
fn one_request_fills_as_many_blocks_as_it_needs() {
    let mut lab = lab(&["subnet-a=10.1.0.0/28"], &[], false);
    join(&mut lab, 1, "h1");
    let many = |lab: &mut Lab, count: i64| {
        let mut many = request(&["subnet-a"], &[]);
        many["count"] = json!(count);
        lab.ok(0, RunTask, &many)
    };
    let answer = many(&mut lab, 10);
    assert_eq!((answer["tasks"].as_array().map(Vec::len), &answer["failures"]), (Some(10), &json!([])));
    let answer = many(&mut lab, 2);
    assert_eq!((&answer["tasks"], &answer["failures"][0]["reason"]), (&json!([]), &json!("RESOURCE:ENI")));
}

/// As a VPC's subnet of that size, a /24 serves many machines.
#[test]
fn small_subnets_have_small_blocks() {
    let config = NetworkConfig::default();
    for (subnet, prefix) in [("10.0.0.0/16", 26), ("10.0.0.0/21", 26), ("10.0.0.0/24", 29), ("10.0.0.0/28", 30)] {
        assert_eq!(config.block_prefix_in(subnet.parse().expect("a range")), prefix, "{subnet}");
    }
}

#[test]
fn only_the_key_that_has_a_host_says_where_it_is() {
    let mut lab = lab(&["subnet-a=10.1.0.0/24"], &[], false);
    let (arn, instance, session) = join(&mut lab, 1, "h1");
    run(&mut lab, &["subnet-a"], &[]);
    join(&mut lab, 2, "h1");
    // With nobody left the brake would hold.
    lab.instance(7, 100, 100);
    let address = |lab: &mut Lab| lab.cell.snapshot().hosts["h1"].address.expect("said").to_string();
    assert_eq!(address(&mut lab), "192.0.2.1", "a later one of another key is not heard");
    lab.disconnect(instance, session);
    lab.pass(120_000);
    assert_eq!(address(&mut lab), "192.0.2.2", "the first one was given up");
    lab.connect(1, &arn);
    assert_eq!(address(&mut lab), "192.0.2.1", "it is back");
}

/// What one request adopts fits one group: the shapes of the API bound it.
#[test]
fn no_request_names_more_than_ecs_allows() {
    let ids = |kind: &str, count: usize| (0..count).map(|index| format!("{kind}-{index}")).collect::<Vec<_>>();
    for (subnets, groups, allowed) in [(16, 5, true), (17, 5, false), (16, 6, false)] {
        let asked = json!({"subnets": ids("subnet", subnets), "securityGroups": ids("sg", groups)});
        let given = json!({"taskDefinition": "web", "networkConfiguration": {"awsvpcConfiguration": asked}});
        assert_eq!(longshore_api::ecs::Request::decode(RunTask, &given).is_ok(), allowed, "{subnets} and {groups}");
    }
}

/// Agents of several instances keep one picture of the network, and may hear one session long before the other.
#[test]
fn all_instances_of_a_host_are_told_the_same_under_the_same_number() {
    let mut lab = lab(&["subnet-a=10.1.0.0/24"], &["sg-a=in all sg-b", "sg-b="], false);
    let hosts: Vec<_> = ["h1", "h1", "h2"].iter().zip(1..).map(|(host, key)| join(&mut lab, key, host)).collect();
    let mut start = |groups: &[&str]| {
        let mut there = request(&["subnet-a"], groups);
        there["containerInstances"] = json!([hosts[0].0]);
        let effects = lab.apply(crate::fixture::api(0, StartTask, &there)).effects;
        let mut told: BTreeMap<InstanceKey, Vec<(u64, NetworkNews)>> = BTreeMap::new();
        for effect in effects {
            if let Effect::Network { instance, sequence, news, .. } = effect {
                told.entry(instance).or_default().push((sequence, news));
            }
        }
        (told.get(&hosts[0].1).cloned(), told.get(&hosts[1].1).cloned(), told.get(&hosts[2].1).cloned())
    };
    // At first the host has no addresses and was told of nobody.
    for (groups, complete) in [(["sg-a"], true), (["sg-b"], false)] {
        let (one, same, other) = start(&groups);
        let one = one.expect("told");
        assert_eq!((one.len(), Some(&one)), (1, same.as_ref()));
        assert!(one[0].1.groups.iter().any(|group| **group == *groups[0]));
        assert_eq!((one[0].1.complete, other), (complete, None), "who has no addresses is told of nobody");
    }
    let (one, ..) = start(&["sg-a"]);
    assert_eq!(one.expect("a further block")[0].1.groups, [], "both groups are known there");
}

/// What may happen to a few hosts.
#[derive(Clone, Debug)]
enum Move {
    /// Agents hear what was sent to them, first all that is for one instance, then all that is for the next.
    Hear {
        first: usize,
    },
    Run {
        subnet: usize,
        group: usize,
    },
    Report {
        at: usize,
        status: &'static str,
    },
    Stop {
        at: usize,
    },
    Vanish {
        at: usize,
    },
    Return {
        at: usize,
    },
    Deregister {
        at: usize,
    },
    Revert,
    Pass {
        ms: i64,
    },
    Reload,
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let one = prop_oneof![
        8 => any::<usize>().prop_map(|first| Move::Hear { first }),
        8 => (0usize..3, 0usize..3).prop_map(|(subnet, group)| Move::Run { subnet, group }),
        6 => (any::<usize>(), prop::sample::select(vec!["RUNNING", "STOPPED"])).prop_map(|(at, status)| Move::Report { at, status }),
        2 => any::<usize>().prop_map(|at| Move::Stop { at }),
        2 => any::<usize>().prop_map(|at| Move::Vanish { at }),
        4 => any::<usize>().prop_map(|at| Move::Return { at }),
        1 => any::<usize>().prop_map(|at| Move::Deregister { at }),
        1 => Just(Move::Revert),
        2 => (0i64..100_000).prop_map(|ms| Move::Pass { ms }),
        1 => Just(Move::Reload),
    ];
    prop::collection::vec(one, 1..60)
}

/// What the agent of a host believes, from what it was told in the sessions of its instances.
#[derive(Clone, Debug, Default, PartialEq)]
struct Belief {
    timeline: i64,
    peers: BTreeMap<String, acs::NetworkPeer>,
    groups: BTreeMap<String, acs::SecurityGroup>,
}

impl Belief {
    fn hear(&mut self, message: &acs::NetworkMessage) {
        if message.timeline < self.timeline {
            return;
        }
        if message.complete {
            *self = Self::default();
        }
        self.timeline = message.timeline;
        for peer in &message.peers {
            self.peers.insert(peer.host_id.clone(), peer.clone());
        }
        self.peers.retain(|_, peer| !peer.blocks.is_empty());
        self.groups.extend(message.groups.iter().map(|group| (group.id.clone(), group.clone())));
    }
}

struct Machine {
    arn: String,
    instance: InstanceKey,
    session: Option<SessionId>,
    host: String,
    /// What is on its way.
    sent: Vec<acs::NetworkMessage>,
}

struct World {
    lab: Lab,
    machines: Vec<Machine>,
    /// By host.
    beliefs: BTreeMap<String, Belief>,
    tasks: Vec<(String, u32)>,
    next_key: u32,
}

const SUBNETS: [&str; 3] = ["subnet-a", "subnet-b", "subnet-c"];
const GROUPS: [&str; 3] = ["sg-a", "sg-b", "sg-00000000"];

impl World {
    fn new() -> Self {
        let lab =
            lab(&["subnet-a=10.1.0.0/27", "subnet-b=10.2.0.0/28@a"], &["sg-a=in all sg-b", "sg-b=in all sg-b"], true);
        let mut world = Self { lab, machines: Vec::new(), beliefs: BTreeMap::new(), tasks: Vec::new(), next_key: 1 };
        (0..3).for_each(|index| world.add(&format!("h{}", index % 2)));
        world
    }

    fn add(&mut self, host: &str) {
        let key = self.next_key;
        let offered = able(host, &format!("192.0.2.{key}"), "a");
        let outcome = self.lab.apply(crate::fixture::api(key, RegisterContainerInstance, &offered));
        self.deliver(&outcome.effects);
        let Reply::Api(Ok(answer)) = outcome.reply else { panic!("refused") };
        let answer: Value = serde_json::from_slice(&answer.to_json()).expect("JSON");
        let arn = answer["containerInstance"]["containerInstanceArn"].as_str().expect("an ARN").to_owned();
        let command = self.lab.opened(key, &arn);
        let outcome = self.lab.apply(command.clone());
        let (Reply::Session(Ok(instance)), Command::SessionOpened { session, .. }) = (outcome.reply, command) else {
            panic!("refused")
        };
        let host = host.to_owned();
        self.machines.push(Machine { arn, instance, session: Some(session), host, sent: Vec::new() });
        self.next_key += 1;
        self.deliver(&outcome.effects);
    }

    fn key(&self, at: usize) -> u32 {
        u32::try_from(at).expect("few") + 1
    }

    fn apply(&mut self, command: Command) {
        let effects = self.lab.apply(command).effects;
        self.deliver(&effects);
    }

    fn deliver(&mut self, effects: &[Effect]) {
        for (instance, message) in messages(&mut self.lab, effects) {
            let machine = self.machines.iter_mut().find(|machine| machine.instance == instance).expect("known");
            if let acs::ServerMessage::Network(network) = message {
                machine.sent.push(network);
            }
        }
    }

    fn take(&mut self, step: Move) {
        let count = self.machines.len();
        match step {
            Move::Hear { first } => {
                for at in (0..count).map(|index| (first % count + index) % count) {
                    let machine = &mut self.machines[at];
                    let belief = self.beliefs.entry(machine.host.clone()).or_default();
                    machine.sent.drain(..).for_each(|message| belief.hear(&message));
                }
                self.agree();
            }
            Move::Run { subnet, group } => {
                let request = request(&[SUBNETS[subnet]], &[GROUPS[group]]);
                let outcome = self.lab.apply(crate::fixture::api(0, RunTask, &request));
                self.deliver(&outcome.effects);
                let Reply::Api(Ok(answer)) = outcome.reply else { return };
                let answer: Value = serde_json::from_slice(&answer.to_json()).expect("JSON");
                for task in answer["tasks"].as_array().expect("tasks") {
                    let text = |name: &str| task[name].as_str().expect("text").to_owned();
                    let home = text("containerInstanceArn");
                    let at = self.machines.iter().position(|machine| machine.arn == home).expect("known");
                    self.tasks.push((text("taskArn"), self.key(at)));
                }
            }
            Move::Report { at, status } if !self.tasks.is_empty() => {
                let (task, key) = self.tasks[at % self.tasks.len()].clone();
                let report = json!({"cluster": "default", "task": task, "status": status});
                self.apply(crate::fixture::api(key, SubmitTaskStateChange, &report));
            }
            Move::Stop { at } if !self.tasks.is_empty() => {
                let (task, _) = self.tasks[at % self.tasks.len()].clone();
                self.apply(crate::fixture::api(0, StopTask, &json!({"task": task})));
            }
            Move::Vanish { at } => {
                let machine = &mut self.machines[at % count];
                machine.sent.clear();
                if let Some(session) = machine.session.take() {
                    let (instance, heard_at) = (machine.instance, self.lab.now);
                    self.apply(Command::SessionClosed { instance, session, heard_at });
                }
            }
            Move::Return { at } => {
                let at = at % count;
                let command = self.lab.opened(self.key(at), &self.machines[at].arn.clone());
                self.machines[at].sent.clear();
                let outcome = self.lab.apply(command.clone());
                if let (Reply::Session(Ok(_)), Command::SessionOpened { session, .. }) = (&outcome.reply, command) {
                    self.machines[at].session = Some(session);
                }
                self.deliver(&outcome.effects);
            }
            Move::Deregister { at } => {
                let machine = &self.machines[at % count];
                let (arn, host) = (machine.arn.clone(), machine.host.clone());
                let request = json!({"containerInstance": arn, "force": true});
                self.apply(crate::fixture::api(0, DeregisterContainerInstance, &request));
                if self.machines.len() < 8 {
                    self.add(&host);
                }
            }
            Move::Revert => {
                let before = self.lab.cell.sequence();
                let command = crate::fixture::api(0, RunTask, &request(&[SUBNETS[0]], &[GROUPS[0]]));
                let outcome = self.lab.apply(command);
                self.lab.cell.revert(outcome.group.iter(), before);
                self.disconnect_all();
            }
            Move::Pass { ms } => {
                let effects = self.lab.pass(ms);
                self.deliver(&effects);
            }
            Move::Reload => {
                let mut loaded = Cell::new(CellConfig::clone(self.lab.cell.config()));
                // In the order of the store: blocks before the hosts that have them.
                let mut entities: Vec<_> = self.lab.cell.entities().collect();
                entities.sort_by_key(|entity| entity.key().encode());
                entities.into_iter().for_each(|entity| loaded.load(entity));
                loaded.loaded(self.lab.cell.sequence());
                self.lab.cell = loaded;
                self.disconnect_all();
            }
            Move::Report { .. } | Move::Stop { .. } => {}
        }
        self.lab.cell.check().unwrap_or_else(|violation| panic!("{violation}"));
    }

    fn disconnect_all(&mut self) {
        for machine in &mut self.machines {
            (machine.session, machine.sent) = (None, Vec::new());
        }
    }

    /// Who is connected believes what is true, of all hosts and of the groups that matter to it.
    fn agree(&mut self) {
        let snapshot = self.lab.cell.snapshot();
        let truth: BTreeMap<String, (Option<String>, Vec<String>)> = snapshot
            .hosts
            .iter()
            .map(|(host, network)| {
                let address = network.address.map(|address| address.to_string());
                (host.to_string(), (address, network.blocks.iter().map(ToString::to_string).collect()))
            })
            .collect();
        for machine in &self.machines {
            let known = snapshot.instances.get(&machine.instance);
            let inactive = known.is_none_or(|known| known.status == crate::instance::InstanceStatus::Inactive);
            if machine.session.is_none() || inactive {
                continue;
            }
            let belief = &self.beliefs[&machine.host];
            let own = belief.peers.get(&machine.host).map(|peer| peer.blocks.clone()).unwrap_or_default();
            if !truth.contains_key(&machine.host) {
                assert_eq!(own, [""; 0], "{} has no addresses", machine.arn);
                continue;
            }
            let of = |peer: &acs::NetworkPeer| (peer.host_address.clone(), peer.blocks.clone());
            let believed: BTreeMap<_, _> = belief.peers.iter().map(|(host, peer)| (host.clone(), of(peer))).collect();
            assert_eq!(believed, truth, "what {} believes of hosts", machine.arn);
            let home =
                snapshot.tasks().filter(|task| task.home() == Some(machine.instance) && task.address().is_some());
            for group in home.flat_map(|task| task.network.iter().flat_map(|network| network.groups.clone())) {
                let told = belief.groups.get(&*group).unwrap_or_else(|| panic!("{group} was not told"));
                for named in told.rules.iter().filter_map(|rule| rule.group_id.clone()) {
                    let members: BTreeSet<String> = snapshot
                        .tasks()
                        .filter(|task| {
                            task.network.iter().any(|network| network.groups.iter().any(|id| **id == *named))
                        })
                        .filter_map(|task| Some(task.address()?.to_string()))
                        .collect();
                    let told = belief.groups.get(&named).map(|group| group.members.iter().cloned().collect());
                    assert_eq!(told, Some(members), "what {} believes of {named}", machine.arn);
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    /// No address is given twice, whatever happens (`Cell::check` looks after every step); agents know what is true; and when
    /// all instances are gone, nothing is left.
    #[test]
    fn addresses_are_given_once_and_agents_know_where_they_are(moves in moves()) {
        let mut world = World::new();
        for step in moves {
            world.take(step);
        }
        for at in 0..world.machines.len() {
            world.take(Move::Vanish { at });
        }
        for machine in 0..world.machines.len() {
            let request = json!({"containerInstance": world.machines[machine].arn, "force": true});
            world.apply(crate::fixture::api(0, DeregisterContainerInstance, &request));
            let effects = world.lab.pass(10_000);
            world.deliver(&effects);
        }
        prop_assert_eq!(world.lab.cell.addresses(), &AddressBook::default());
    }
}
