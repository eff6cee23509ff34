//! What the cell promises, operation by operation.

use longshore_api::ecs::Operation::{
    DeleteCluster, DescribeContainerInstances, ListTaskDefinitions, ListTasks, RegisterContainerInstance,
    RegisterTaskDefinition, RunTask, StopTask, SubmitTaskStateChange,
};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{CloseReason, Command, Effect, Reply};
use crate::fixture::{Lab, definition, offer};
use crate::ids::InstanceKey;
use crate::instance::SessionRefusal;

/// A lab with one instance of 1,000 CPU units and 1,000 MiB, and a small definition `web`.
fn lab() -> (Lab, String) {
    let mut lab = Lab::new();
    let arn = lab.instance(1, 1_000, 1_000);
    lab.ok(0, RegisterTaskDefinition, &definition("web", 100, 100, &[]));
    (lab, arn)
}

#[test]
fn run_task_places_what_fits_and_names_why_the_rest_does_not() {
    let (mut lab, arn) = lab();
    lab.ok(0, RegisterTaskDefinition, &definition("cpu", 600, 10, &[]));
    lab.ok(0, RegisterTaskDefinition, &definition("memory", 10, 600, &[]));
    lab.ok(0, RegisterTaskDefinition, &definition("port", 10, 10, &[80]));
    lab.ok(0, RegisterTaskDefinition, &definition("ssh", 10, 10, &[22]));
    for (family, placed, reason) in [
        ("cpu", 1, "RESOURCE:CPU"),
        ("memory", 1, "RESOURCE:MEMORY"),
        ("port", 1, "RESOURCE:PORTS"),
        ("ssh", 0, "RESOURCE:PORTS"),
    ] {
        let answer = lab.ok(0, RunTask, &json!({"taskDefinition": family, "count": 2}));
        assert_eq!(answer["tasks"].as_array().map(Vec::len), Some(placed), "{family}");
        assert_eq!(answer["failures"][0]["reason"], reason, "{family}");
        assert_eq!(answer["failures"][0]["arn"], arn.as_str(), "{family}");
    }
}

#[test]
fn an_instance_without_agent_or_attribute_takes_nothing() {
    let (mut lab, _) = lab();
    let silent = lab.register(2, &offer("other", 1_000, 1_000));
    let checked = json!({"family": "checked", "containerDefinitions": [
        {"name": "main", "image": "i", "memory": 10, "healthCheck": {"command": ["CMD", "true"]}}
    ]});
    lab.ok(0, RegisterTaskDefinition, &checked);
    let answer = lab.ok(0, RunTask, &json!({"taskDefinition": "checked"}));
    let failures = answer["failures"].as_array().expect("failures");
    let reasons: Vec<&str> = failures.iter().filter_map(|failure| failure["reason"].as_str()).collect();
    assert_eq!(reasons, ["ATTRIBUTE", "AGENT"]);
    assert_eq!(failures[1]["arn"], silent.as_str());
}

#[test]
fn refusals_change_nothing() {
    let (mut lab, _) = lab();
    let before: Vec<_> = lab.cell.entities().collect();
    for document in [
        json!({"taskDefinition": "nothing"}),
        json!({"taskDefinition": "web", "cluster": "nowhere"}),
        json!({"taskDefinition": "web", "launchType": "FARGATE"}),
    ] {
        lab.refused(0, RunTask, &document);
    }
    assert!(lab.cell.entities().eq(before));
}

#[test]
fn a_client_token_gives_the_same_tasks_or_a_conflict() {
    let (mut lab, _) = lab();
    let document = json!({"taskDefinition": "web", "count": 3, "clientToken": "once"});
    let first = lab.ok(0, RunTask, &document);
    let again = lab.apply(crate::fixture::api(0, RunTask, &document));
    assert!(again.effects.is_empty() && again.group.is_none(), "a repetition orders nothing");
    let Reply::Api(Ok(again)) = again.reply else { panic!("refused") };
    assert_eq!(serde_json::from_slice::<Value>(&again.to_json()).expect("JSON")["tasks"], first["tasks"]);
    let (code, _) = lab.refused(0, RunTask, &json!({"taskDefinition": "web", "count": 2, "clientToken": "once"}));
    assert_eq!(code, "ConflictException");
    assert_eq!(lab.wanted(), 3);
    // A day later the token is forgotten.
    lab.now = lab.now.plus_millis(crate::limits::CLIENT_TOKEN_LIFE_MS);
    lab.apply(Command::Tick);
    assert_ne!(lab.ok(0, RunTask, &document)["tasks"], first["tasks"]);
}

#[test]
fn stop_task_orders_once_and_keeps_the_first_reason() {
    let (mut lab, _) = lab();
    let task = lab.run("web");
    let order = |reason: &str| crate::fixture::api(0, StopTask, &json!({"task": task, "reason": reason}));
    let first = lab.apply(order("first"));
    assert!(matches!(first.effects.as_slice(), [Effect::Stop { .. }]), "{:?}", first.effects);
    let second = lab.apply(order("second"));
    assert!(second.effects.is_empty() && second.group.is_none());
    lab.report(1, &task, "STOPPED");
    let third = lab.apply(order("third"));
    assert!(third.effects.is_empty() && third.group.is_none());
    let described = lab.describe(&task);
    assert_eq!(described["stoppedReason"], "first");
    assert_eq!(described["stopCode"], "UserInitiated");
    assert_eq!(described["lastStatus"], "STOPPED");
}

#[test]
fn reports_repeat_and_overtake_each_other() {
    let reports = |order: &[&str]| {
        let (mut lab, _) = lab();
        let task = lab.run("web");
        for status in order {
            lab.report(1, &task, status);
        }
        lab.describe(&task)["lastStatus"].as_str().map(str::to_owned)
    };
    for order in [&["RUNNING", "PENDING"][..], &["RUNNING", "RUNNING"], &["PENDING", "RUNNING"]] {
        assert_eq!(reports(order).as_deref(), Some("RUNNING"), "{order:?}");
    }
    for order in [&["STOPPED", "RUNNING"][..], &["STOPPED", "STOPPED", "PENDING"], &["RUNNING", "STOPPED"]] {
        assert_eq!(reports(order).as_deref(), Some("STOPPED"), "{order:?}");
    }
}

#[test]
fn a_report_that_says_nothing_new_writes_nothing() {
    let (mut lab, _) = lab();
    let task = lab.run("web");
    let document =
        json!({"task": task, "status": "RUNNING", "containers": [{"containerName": "main", "status": "RUNNING"}]});
    let report = || crate::fixture::api(1, SubmitTaskStateChange, &document);
    assert!(lab.apply(report()).group.is_some());
    assert!(lab.apply(report()).group.is_none());
}

#[test]
fn reports_and_sessions_are_taken_from_the_key_that_registered_only() {
    let (mut lab, arn) = lab();
    let task = lab.run("web");
    let document = json!({"task": task, "status": "STOPPED"});
    assert_eq!(lab.refused(2, SubmitTaskStateChange, &document).0, "AccessDeniedException");
    let stranger = lab.opened(2, &arn);
    assert_eq!(lab.apply(stranger).reply, Reply::Session(Err(SessionRefusal::AccessDenied)));
    let nobody =
        lab.opened(1, "arn:aws:ecs:us-east-1:000000000000:container-instance/default/00000000000000000000000000000000");
    assert_eq!(lab.apply(nobody).reply, Reply::Session(Err(SessionRefusal::InvalidInstance)));
    let mut again = offer("host-1", 1, 1);
    again["containerInstanceArn"] = json!(arn);
    assert_eq!(lab.refused(2, RegisterContainerInstance, &again).0, "AccessDeniedException");
}

#[test]
fn the_newest_session_counts() {
    let (mut lab, arn) = lab();
    let (instance, older) = lab.connect(1, &arn);
    let command = lab.opened(1, &arn);
    let outcome = lab.apply(command);
    let closed = Effect::Close { instance, session: older, reason: CloseReason::Replaced };
    assert_eq!(outcome.effects.first(), Some(&closed));
    // The end of the older one says nothing about the agent.
    lab.disconnect(instance, older);
    assert_eq!(connected(&mut lab, &arn), json!(true));
    lab.disconnect(instance, crate::ids::SessionId(older.0 + 1));
    assert_eq!(connected(&mut lab, &arn), json!(false));
}

fn connected(lab: &mut Lab, arn: &str) -> Value {
    lab.cell.snapshot();
    let answer = lab.ok(0, DescribeContainerInstances, &json!({"containerInstances": [arn]}));
    answer["containerInstances"][0]["agentConnected"].clone()
}

#[test]
fn an_agent_that_connects_is_told_what_it_has_not_done() {
    let (mut lab, arn) = lab();
    let (waits, runs, stops) = (lab.run("web"), lab.run("web"), lab.run("web"));
    lab.report(1, &runs, "RUNNING");
    lab.report(1, &stops, "RUNNING");
    lab.ok(0, StopTask, &json!({"task": stops}));
    let ended = lab.run("web");
    lab.report(1, &ended, "STOPPED");
    let command = lab.opened(1, &arn);
    let outcome = lab.apply(command);
    let snapshot = lab.cell.snapshot();
    let name = |task: &crate::ids::TaskKey| snapshot.config.task_arn("default", task.id);
    let mut told = Vec::new();
    let mut numbers = Vec::new();
    for effect in &outcome.effects {
        match effect {
            Effect::Close { .. } | Effect::Network { .. } | Effect::AskScheduler { .. } => {}
            Effect::Manifest { tasks, sequence, .. } => {
                numbers.push(*sequence);
                told.push(format!("manifest of {}", tasks.len()));
            }
            Effect::Start { task, sequence, .. } => {
                numbers.push(*sequence);
                assert_eq!(name(task), waits);
                told.push("start".to_owned());
            }
            Effect::Stop { task, sequence, .. } => {
                numbers.push(*sequence);
                assert_eq!(name(task), stops);
                told.push("stop".to_owned());
            }
            Effect::Note(_) => {}
            Effect::ConfirmStops { .. } => panic!("nobody asked"),
        }
    }
    assert_eq!(told, ["manifest of 3", "start", "stop"], "a task that ever ran is never ordered to start again");
    assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
    assert_eq!(outcome.group.map(|group| group.number), numbers.last().copied());
}

#[test]
fn stop_candidates_are_confirmed_unless_they_are_wanted() {
    let (mut lab, arn) = lab();
    let (instance, session) = lab.connect(1, &arn);
    let (wanted, unwanted) = (lab.run("web"), lab.run("web"));
    lab.ok(0, StopTask, &json!({"task": unwanted}));
    let unknown = "arn:aws:ecs:us-east-1:000000000000:task/default/00000000000000000000000000000000".to_owned();
    let ask = |session| Command::StopCandidates {
        instance,
        session,
        message_id: "m".to_owned(),
        candidates: vec![wanted.clone(), unwanted.clone(), unknown.clone()],
    };
    let stale = crate::ids::SessionId(session.0 + 100);
    assert!(lab.apply(ask(stale)).effects.is_empty(), "only the current session is answered");
    let effects = lab.apply(ask(session)).effects;
    assert_eq!(
        effects,
        [Effect::ConfirmStops {
            instance,
            session,
            message_id: "m".to_owned(),
            tasks: vec![unwanted.clone(), unknown.clone()]
        }]
    );
}

#[test]
fn a_returning_agent_is_the_same_instance() {
    let (mut lab, arn) = lab();
    let mut again = offer("host-1", 2_000, 500);
    again["containerInstanceArn"] = json!(arn);
    let task = lab.run("web");
    assert_eq!(lab.register(1, &again), arn);
    assert_eq!(lab.describe(&task)["containerInstanceArn"], arn.as_str());
    let mut with_token = offer("host-9", 10, 10);
    with_token["clientToken"] = json!("start");
    let first = lab.register(9, &with_token);
    assert_eq!(lab.register(9, &with_token), first, "a repeated token names one start of one agent");
    assert_ne!(lab.register(8, &with_token), first, "another key is another agent");
}

#[test]
fn stopped_tasks_live_their_time_and_no_longer() {
    let (mut lab, _) = lab();
    let tasks: Vec<String> = (0..5).map(|_| lab.run("web")).collect();
    tasks.iter().for_each(|task| drop(lab.report(1, task, "STOPPED")));
    let kept = |lab: &mut Lab| {
        lab.apply(Command::Tick);
        lab.cell.snapshot().task_count()
    };
    lab.now = lab.now.plus_millis(50_000);
    assert_eq!(kept(&mut lab), 5, "all live their shortest time");
    lab.now = lab.now.plus_millis(11_000);
    assert_eq!(kept(&mut lab), 3, "then only so many");
    assert_eq!(lab.describe(&tasks[0]), Value::Null);
    lab.now = lab.now.plus_millis(600_000);
    assert_eq!(kept(&mut lab), 0, "and none longer than the longest");
    assert_eq!(lab.cell.next_deadline(), None);
}

#[test]
fn a_client_token_that_outlives_its_task_starts_no_other() {
    let (mut lab, _) = lab();
    let document = json!({"taskDefinition": "web", "clientToken": "once"});
    let first = lab.ok(0, RunTask, &document);
    let task = first["tasks"][0]["taskArn"].as_str().expect("an ARN").to_owned();
    lab.report(1, &task, "STOPPED");
    lab.now = lab.now.plus_millis(700_000);
    lab.apply(Command::Tick);
    let again = lab.ok(0, RunTask, &document);
    assert_eq!(again["tasks"], json!([]));
    assert_eq!(again["failures"], json!([{"arn": task, "reason": "MISSING"}]));
    assert_eq!(lab.wanted(), 0);
}

#[test]
fn a_listing_neither_repeats_nor_loses_what_stays() {
    let (mut lab, _) = lab();
    lab.ok(0, RegisterTaskDefinition, &definition("tiny", 0, 6, &[]));
    let tasks: Vec<String> = (0..20).map(|_| lab.run("tiny")).collect();
    let mut listed: Vec<String> = Vec::new();
    let mut document = json!({"maxResults": 3});
    for turn in 0.. {
        let answer = lab.ok(0, ListTasks, &document);
        listed.extend(answer["taskArns"].as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned));
        let Some(token) = answer["nextToken"].as_str() else { break };
        document["nextToken"] = json!(token);
        // Meanwhile a task that was listed and one that was not go, and others come.
        lab.ok(0, StopTask, &json!({"task": tasks[turn]}));
        lab.ok(0, StopTask, &json!({"task": tasks[19 - turn / 2]}));
        lab.run("tiny");
    }
    let mut once = listed.clone();
    once.sort();
    once.dedup();
    assert_eq!(once.len(), listed.len(), "a task was listed twice");
    for task in &tasks {
        let stays = lab.describe(task)["desiredStatus"] == "RUNNING";
        assert!(!stays || listed.contains(task), "{task} stays and was not listed");
    }
}

#[test]
fn every_instance_that_fits_is_as_likely() {
    let mut lab = Lab::new();
    let arns: Vec<String> = (1..=4).map(|key| lab.instance(key, 1_000, 10_000)).collect();
    lab.ok(0, RegisterTaskDefinition, &definition("tiny", 0, 6, &[]));
    let mut counts = [0usize; 4];
    for _ in 0..120 {
        let answer = lab.ok(0, RunTask, &json!({"taskDefinition": "tiny", "count": 10}));
        for task in answer["tasks"].as_array().expect("tasks") {
            let at = arns.iter().position(|arn| task["containerInstanceArn"] == arn.as_str()).expect("one of ours");
            counts[at] += 1;
        }
    }
    // 300 each are expected, with a standard deviation of 15.
    assert!(counts.iter().all(|count| (225..375).contains(count)), "{counts:?}");
}

/// Something that changes what is free.
#[derive(Clone, Debug)]
enum Move {
    Register { host: u8, cpu: i64, memory: i64 },
    Connect { instance: usize, open: bool },
    Run { definition: usize },
    Stop { task: usize },
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let one = prop_oneof![
        1 => (0u8..3, 0i64..500, 100i64..500).prop_map(|(host, cpu, memory)| Move::Register { host, cpu, memory }),
        2 => (any::<usize>(), any::<bool>()).prop_map(|(instance, open)| Move::Connect { instance, open }),
        6 => (0usize..5).prop_map(|definition| Move::Run { definition }),
        3 => any::<usize>().prop_map(|task| Move::Stop { task }),
    ];
    prop::collection::vec(one, 1..60)
}

/// CPU, memory and host ports of the definitions that `Move::Run` names.
const DEFINITIONS: [(i64, i64, &[u16]); 5] =
    [(100, 50, &[]), (0, 6, &[8080]), (300, 100, &[]), (1, 6, &[8080, 9090]), (10, 300, &[])];

/// An instance as the test counts it.
struct Counted {
    arn: String,
    key: u32,
    host: u8,
    cpu: i64,
    memory: i64,
    session: Option<(InstanceKey, crate::ids::SessionId)>,
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    /// A task is placed if and only if some instance fits, and then on one that does, counted from nothing but what was asked.
    #[test]
    fn placement_is_exact(moves in moves()) {
        let mut lab = Lab::new();
        for (index, (cpu, memory, ports)) in DEFINITIONS.iter().enumerate() {
            lab.ok(0, RegisterTaskDefinition, &definition(&format!("d{index}"), *cpu, *memory, ports));
        }
        let mut instances: Vec<Counted> = Vec::new();
        // Task, instance, definition.
        let mut tasks: Vec<(String, usize, usize)> = Vec::new();
        for step in moves {
            match step {
                Move::Register { host, cpu, memory } => {
                    let key = instances.len() as u32 + 1;
                    let arn = lab.register(key, &offer(&format!("host-{host}"), cpu, memory));
                    instances.push(Counted { arn, key, host, cpu, memory, session: None });
                }
                Move::Connect { instance, open } => {
                    let Some(at) = instance.checked_rem(instances.len()) else { continue };
                    let (key, arn) = (instances[at].key, instances[at].arn.clone());
                    match (open, instances[at].session.take()) {
                        (true, _) => instances[at].session = Some(lab.connect(key, &arn)),
                        (false, Some((instance, session))) => drop(lab.disconnect(instance, session)),
                        (false, None) => {}
                    }
                }
                Move::Run { definition } => {
                    if instances.is_empty() {
                        continue;
                    }
                    let fits = |at: usize| fits(&instances, &tasks, at, definition);
                    let answer = lab.ok(0, RunTask, &json!({"taskDefinition": format!("d{definition}")}));
                    match answer["tasks"][0]["taskArn"].as_str() {
                        None => prop_assert!(!(0..instances.len()).any(fits), "an instance fits, and {answer}"),
                        Some(task) => {
                            let on = &answer["tasks"][0]["containerInstanceArn"];
                            let at = instances.iter().position(|instance| *on == instance.arn.as_str()).expect("one of ours");
                            prop_assert!(fits(at), "placed where it does not fit");
                            tasks.push((task.to_owned(), at, definition));
                        }
                    }
                }
                Move::Stop { task } => {
                    let Some(at) = task.checked_rem(tasks.len()) else { continue };
                    let (arn, on, _) = tasks.swap_remove(at);
                    lab.report(instances[on].key, &arn, "STOPPED");
                }
            }
        }
    }
}

fn fits(instances: &[Counted], tasks: &[(String, usize, usize)], at: usize, wanted: usize) -> bool {
    let instance = &instances[at];
    let (cpu, memory, ports) = DEFINITIONS[wanted];
    let here = tasks.iter().filter(|(_, on, _)| *on == at);
    let taken = here.fold((0, 0), |(cpu, memory), (_, _, definition)| {
        (cpu + DEFINITIONS[*definition].0, memory + DEFINITIONS[*definition].1)
    });
    let on_host = tasks.iter().filter(|(_, on, _)| instances[*on].host == instance.host);
    let port_taken = on_host.flat_map(|(_, _, definition)| DEFINITIONS[*definition].2).any(|port| ports.contains(port));
    instance.session.is_some() && cpu <= instance.cpu - taken.0 && memory <= instance.memory - taken.1 && !port_taken
}

#[test]
fn a_capability_that_is_not_sent_again_is_gone_and_a_custom_attribute_stays() {
    let mut lab = Lab::new();
    let with = |attributes: Value| {
        let mut offer = offer("host", 1_000, 1_000);
        offer["attributes"] = attributes;
        offer
    };
    let arn = lab.register(1, &with(json!([{"name": "ecs.capability.new"}, {"name": "rack", "value": "7"}])));
    let mut again = with(json!([{"name": "com.amazonaws.ecs.capability.old"}]));
    again["containerInstanceArn"] = json!(arn);
    lab.register(1, &again);
    let described = lab.ok(0, DescribeContainerInstances, &json!({"containerInstances": [arn]}));
    let attributes = described["containerInstances"][0]["attributes"].as_array().expect("attributes");
    let names: Vec<&str> = attributes.iter().filter_map(|attribute| attribute["name"].as_str()).collect();
    assert_eq!(names, ["com.amazonaws.ecs.capability.old", "ecs.availability-zone", "rack"]);
}

#[test]
fn what_an_agent_says_of_itself_is_bounded() {
    let mut lab = Lab::new();
    let mut greedy = offer("host", 1_000, 1_000);
    let ports: Vec<String> = (1..=2_000).map(|port| port.to_string()).collect();
    greedy["totalResources"][2]["stringSetValue"] = json!(ports);
    let (code, message) = lab.refused(1, RegisterContainerInstance, &greedy);
    assert_eq!((code.as_str(), message.contains("1000 ports, not 2000")), ("ClientException", true), "{message}");
    let mut wordy = offer("host", 1_000, 1_000);
    wordy["versionInfo"] = json!({"agentVersion": "1".repeat(100_000)});
    let arn = lab.register(1, &wordy);
    let described = lab.ok(0, DescribeContainerInstances, &json!({"containerInstances": [arn]}));
    let version = &described["containerInstances"][0]["versionInfo"]["agentVersion"];
    assert_eq!(version.as_str().map(str::len), Some(crate::limits::VERSION));
    for round in 0..3 {
        let many: Vec<Value> = (0..90).map(|index| json!({"name": format!("custom-{round}-{index}")})).collect();
        let mut more = offer("host", 1_000, 1_000);
        more["attributes"] = json!(many);
        more["containerInstanceArn"] = json!(arn);
        match round {
            0 | 1 => drop(lab.register(1, &more)),
            _ => assert_eq!(lab.refused(1, RegisterContainerInstance, &more).0, "ClientException"),
        }
    }
}

#[test]
fn delete_cluster_never_means_the_default_cluster_by_an_empty_name() {
    let mut lab = Lab::new();
    assert_eq!(lab.refused(0, DeleteCluster, &json!({"cluster": ""})).0, "InvalidParameterException");
}

#[test]
fn filters_by_what_cannot_exist_yet_are_answered_as_for_what_does_not_exist() {
    let (mut lab, _) = lab();
    lab.run("web");
    assert_eq!(lab.refused(0, ListTasks, &json!({"serviceName": "web"})).0, "ServiceNotFoundException");
    for filter in [json!({"daemonName": "d"}), json!({"desiredStatus": "PENDING"})] {
        assert_eq!(lab.ok(0, ListTasks, &filter)["taskArns"], json!([]), "{filter}");
    }
    let faults = json!({"family": "faults", "networkMode": "host", "enableFaultInjection": true,
        "containerDefinitions": [{"name": "main", "image": "i", "memory": 10}]});
    lab.ok(0, RegisterTaskDefinition, &faults);
    let (code, message) = lab.refused(0, RunTask, &json!({"taskDefinition": "faults", "launchType": "EXTERNAL"}));
    assert_eq!((code.as_str(), message.contains("EXTERNAL")), ("InvalidParameterException", true), "{message}");
}

#[test]
fn a_returning_instance_is_answered_with_what_is_left_of_what_it_offers_now() {
    let (mut lab, arn) = lab();
    lab.run("web");
    let mut again = offer("host-1", 2_000, 1_000);
    again["containerInstanceArn"] = json!(arn);
    let answer = lab.ok(1, RegisterContainerInstance, &again);
    assert_eq!(answer["containerInstance"]["remainingResources"][0]["integerValue"], 1_900);
}

#[test]
fn task_definitions_are_listed_in_pages_both_ways() {
    let mut lab = Lab::new();
    for family in ["a", "b", "c"] {
        for _ in 0..3 {
            lab.ok(0, RegisterTaskDefinition, &definition(family, 1, 10, &[]));
        }
    }
    let mut list = |sort: &str, family: Option<&str>| {
        let (mut found, mut token) = (Vec::new(), Value::Null);
        loop {
            let request = json!({"sort": sort, "familyPrefix": family, "maxResults": 2, "nextToken": token});
            let answer = lab.ok(0, ListTaskDefinitions, &request);
            let page = answer["taskDefinitionArns"].as_array().expect("a page");
            found.extend(
                page.iter().filter_map(Value::as_str).filter_map(|arn| arn.rsplit('/').next()).map(str::to_owned),
            );
            token = answer["nextToken"].clone();
            if token.is_null() {
                return found.join(" ");
            }
        }
    };
    assert_eq!(list("ASC", None), "a:1 a:2 a:3 b:1 b:2 b:3 c:1 c:2 c:3");
    assert_eq!(list("DESC", None), "c:3 c:2 c:1 b:3 b:2 b:1 a:3 a:2 a:1");
    assert_eq!(list("ASC", Some("b")), "b:1 b:2 b:3");
    assert_eq!(list("DESC", Some("b")), "b:3 b:2 b:1");
    for token in ["a:1", "b:0", "b:-1", "b", "b:2147483647"] {
        lab.refused(0, ListTaskDefinitions, &json!({"familyPrefix": "b", "nextToken": token}));
    }
}
