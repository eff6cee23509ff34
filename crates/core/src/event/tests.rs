//! The event stream against what was done.

use longshore_api::ecs::Operation::{
    PutAttributes, RegisterTaskDefinition, RunTask, StopTask, SubmitTaskStateChange, TagResource,
    UpdateContainerInstancesState,
};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Cursor, DetailType, Filter, Start};
use crate::cell::Cell;
use crate::entity::Entity;
use crate::fixture::{Lab, definition, principal};
use crate::limits::MILESTONES_PER_INSTANCE;
use crate::principal::{Principal, Role};

/// What identifies an event and says what it tells.
fn brief(event: &str) -> (String, String) {
    let event: Value = serde_json::from_str(event).expect("JSON");
    let detail = &event["detail"];
    let text = |name: &str| detail[name].as_str().unwrap_or("-").to_owned();
    let told = match event["detail-type"].as_str() {
        Some("ECS Task State Change") => format!("{}/{}", text("lastStatus"), text("desiredStatus")),
        _ => format!("{}/{}", text("status"), detail["agentConnected"]),
    };
    (event["id"].as_str().expect("an id").to_owned(), format!("{told} v{}", detail["version"]))
}

/// Everything behind a cursor, each event with the cursor behind it; and the cursor at the end.
fn read(lab: &mut Lab, after: Cursor, filter: &Filter) -> (Vec<(Cursor, String)>, Cursor) {
    let snapshot = lab.cell.snapshot();
    let (mut events, mut next) = (Vec::new(), after);
    loop {
        let reading = snapshot.read_events(&principal(0), next, filter).expect("a good cursor");
        assert!(reading.next >= next, "reading goes on");
        events.extend(reading.events);
        next = reading.next;
        if reading.complete {
            return (events, next);
        }
    }
}

fn now(lab: &mut Lab) -> Cursor {
    let filter = Filter::default();
    lab.cell.snapshot().begin_events(&principal(0), Start::Latest, &filter).expect("a cursor")
}

fn oldest(lab: &mut Lab, filter: &Filter) -> Cursor {
    lab.cell.snapshot().begin_events(&principal(0), Start::Oldest, filter).expect("a cursor")
}

/// The same state in another process: what the store holds, and nothing else.
fn restart(lab: &mut Lab) {
    let mut cell = Cell::new(lab.cell.config().as_ref().clone());
    for entity in lab.cell.entities() {
        let (key, value) = (entity.key().encode(), entity.encode().expect("JSON"));
        cell.load(Entity::decode(&key, &value).expect("what was written"));
    }
    cell.loaded(lab.cell.sequence());
    lab.cell = cell;
}

fn task_events() -> Filter {
    Filter { kinds: [DetailType::Task].into(), ..Filter::default() }
}

#[test]
fn the_life_of_a_task_is_told_in_order_and_the_same_after_a_restart() {
    let mut lab = Lab::new();
    lab.ok(0, RegisterTaskDefinition, &definition("web", 100, 50, &[]));
    lab.instance(1, 1_000, 1_000);
    let start = now(&mut lab);
    let task = lab.run("web");
    lab.report(1, &task, "RUNNING");
    lab.ok(0, TagResource, &json!({"resourceArn": task, "tags": [{"key": "k", "value": "v"}]}));
    lab.ok(0, StopTask, &json!({"task": task}));
    let exit = json!({"cluster": "default", "task": task, "status": "STOPPED",
        "containers": [{"containerName": "main", "status": "STOPPED", "exitCode": 3}]});
    lab.ok(1, SubmitTaskStateChange, &exit);
    let (events, _) = read(&mut lab, start, &task_events());
    let told: Vec<String> = events.iter().map(|(_, event)| brief(event).1).collect();
    assert_eq!(told, ["PENDING/RUNNING v1", "RUNNING/RUNNING v2", "RUNNING/STOPPED v3", "STOPPED/STOPPED v4"]);
    let event: Value = serde_json::from_str(&events[1].1).expect("JSON");
    assert_eq!((&event["version"], &event["source"]), (&json!("0"), &json!("aws.ecs")));
    assert_eq!(event["resources"], json!([task]));
    let detail = &event["detail"];
    let (started, updated) = (detail["startedAt"].as_str().expect("a time"), detail["updatedAt"].as_str());
    assert!(started.starts_with("2023-11-14T22:13:20.") && Some(started) == updated, "{detail}");
    let nothing_of_later = ["stopCode", "stoppedReason", "stoppingAt", "stoppedAt", "tags"];
    assert!(nothing_of_later.iter().all(|name| detail.get(name).is_none()), "{detail}");
    assert_eq!(detail["containers"][0].get("exitCode"), None);
    let last: Value = serde_json::from_str(&events[3].1).expect("JSON");
    assert_eq!(last["detail"]["containers"][0]["exitCode"], 3);
    restart(&mut lab);
    assert_eq!(read(&mut lab, start, &task_events()).0, events);
}

#[test]
fn an_agent_that_is_back_soon_was_never_away() {
    let mut lab = Lab::new();
    let start = now(&mut lab);
    let arn = lab.register(1, &crate::fixture::offer("host-1", 1_000, 1_000));
    let told = |lab: &mut Lab| -> Vec<String> {
        read(lab, start, &Filter::default()).0.iter().map(|(_, event)| brief(event).1).collect()
    };
    let (instance, session) = lab.connect(1, &arn);
    lab.disconnect(instance, session);
    lab.pass(4_000);
    let (instance, session) = lab.connect(1, &arn);
    lab.pass(60_000);
    assert_eq!(told(&mut lab), ["ACTIVE/false v1", "ACTIVE/true v2"]);
    lab.disconnect(instance, session);
    lab.pass(6_000);
    assert_eq!(told(&mut lab).last().expect("events"), "ACTIVE/false v3");
    lab.connect(1, &arn);
    lab.ok(0, PutAttributes, &json!({"attributes": [{"name": "rack", "value": "1", "targetId": arn}]}));
    let drain = json!({"containerInstances": [arn], "status": "DRAINING"});
    lab.ok(0, UpdateContainerInstancesState, &drain);
    assert_eq!(told(&mut lab)[3..], ["ACTIVE/true v4", "ACTIVE/true v5", "DRAINING/true v6"]);
    // A new server: who does not come back in the time that agents have is told of.
    restart(&mut lab);
    lab.apply(crate::cell::Command::Tick);
    assert_eq!(told(&mut lab).len(), 6);
    lab.pass(60_000);
    assert_eq!(told(&mut lab)[6], "DRAINING/false v7");
}

#[test]
fn a_cursor_to_forgotten_events_is_refused_and_says_what_to_do() {
    let mut lab = Lab::new();
    lab.ok(0, RegisterTaskDefinition, &definition("web", 1, 6, &[]));
    lab.instance(1, 1_000, 1_000);
    let start = now(&mut lab);
    let tasks: Vec<String> = (0..5).map(|_| lab.run("web")).collect();
    let middle = now(&mut lab);
    for task in &tasks {
        lab.report(1, task, "STOPPED");
    }
    let end = now(&mut lab);
    lab.pass(120_000);
    for _ in 0..2 {
        let refused = lab.cell.snapshot().read_events(&principal(0), start, &Filter::default()).expect_err("refused");
        assert_eq!((refused.code.name, refused.code.status), ("CursorExpiredException", 410));
        assert!(refused.message.contains(&now(&mut lab).to_string()), "{}", refused.message);
        assert!(lab.cell.snapshot().read_events(&principal(0), middle, &Filter::default()).is_err());
        assert_eq!(read(&mut lab, end, &task_events()).0, [], "nothing is missing behind this one");
        restart(&mut lab);
    }
    let all = oldest(&mut lab, &Filter::default());
    assert_eq!(read(&mut lab, all, &task_events()).0.len(), 3, "the three that are kept");
}

#[test]
fn an_instance_that_changes_often_leaves_no_silent_gap() {
    let mut lab = Lab::new();
    lab.ok(0, RegisterTaskDefinition, &definition("web", 1, 6, &[]));
    let arn = lab.instance(1, 1_000, 1_000);
    lab.run("web");
    let instances = Filter { kinds: [DetailType::ContainerInstance].into(), ..Filter::default() };
    let before = oldest(&mut lab, &Filter::default());
    let known = read(&mut lab, before, &instances).0.len();
    let change = |lab: &mut Lab, rack: usize| {
        let attribute = json!({"name": "rack", "value": rack.to_string(), "targetId": arn});
        lab.ok(0, PutAttributes, &json!({"attributes": [attribute]}));
    };
    (known..MILESTONES_PER_INSTANCE).for_each(|rack| change(&mut lab, rack));
    assert_eq!(read(&mut lab, before, &instances).0.len(), MILESTONES_PER_INSTANCE, "nothing is forgotten yet");
    change(&mut lab, 100);
    for _ in 0..2 {
        for filter in [&instances, &Filter::default()] {
            let refused = lab.cell.snapshot().read_events(&principal(0), before, filter).expect_err("refused");
            assert_eq!((refused.code.name, refused.code.status), ("CursorExpiredException", 410));
        }
        let begin = oldest(&mut lab, &instances);
        assert_eq!(read(&mut lab, begin, &instances).0.len(), MILESTONES_PER_INSTANCE);
        assert_eq!(read(&mut lab, before, &task_events()).0.len(), 1, "who reads of tasks alone misses nothing");
        restart(&mut lab);
    }
}

#[test]
fn what_is_asked_wrongly_is_refused() {
    let mut lab = Lab::new();
    let view = lab.cell.snapshot();
    for role in [Role::Instance, Role::JoinToken, Role::TaskExecution] {
        let machine = Principal::new(role, "LSIN1", "000000000000");
        let refused = view.begin_events(&machine, Start::Latest, &Filter::default()).expect_err("refused");
        assert_eq!(refused.code.name, "AccessDeniedException");
    }
    let ahead = Cursor::end_of(u64::MAX);
    let refused = view.begin_events(&principal(0), Start::After(ahead), &Filter::default()).expect_err("refused");
    assert!(refused.message.contains("another server's"), "{}", refused.message);
    let nowhere = Filter { cluster: Some("nope".to_owned()), ..Filter::default() };
    let refused = view.begin_events(&principal(0), Start::Latest, &nowhere).expect_err("refused");
    assert_eq!(refused.code.name, "ClusterNotFoundException");
    for text in
        ["", "x", "-1", "1-", "1-t-1", "1-x-1-00000000000000000000000000000000", "99999999999999999999", "1-t-1-zz-"]
    {
        assert!(text.parse::<Cursor>().is_err(), "{text}");
    }
}

/// A step of the world.
#[derive(Clone, Debug)]
enum Step {
    Run(usize),
    Running(usize),
    Stop(usize),
    Stopped(usize),
    Away,
    Back,
    Pass(i64),
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (1..5_usize).prop_map(Step::Run),
        any::<usize>().prop_map(Step::Running),
        any::<usize>().prop_map(Step::Stop),
        any::<usize>().prop_map(Step::Stopped),
        Just(Step::Away),
        Just(Step::Back),
        (1..30_000_i64).prop_map(Step::Pass),
        Just(Step::Restart),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Whoever reads along sees what one sees who comes later, from wherever he stopped and with restarts in between; each
    /// resource's versions rise.
    #[test]
    fn reading_in_pieces_is_reading_at_once(steps in prop::collection::vec(step(), 1..40), cuts in any::<u64>()) {
        // Nothing is forgotten meanwhile.
        let mut lab = Lab::with(crate::CellConfig::new("us-east-1", "000000000000"));
        lab.ok(0, RegisterTaskDefinition, &definition("web", 1, 6, &[]));
        let arn = lab.instance(1, 1_000, 1_000);
        let (mut live, mut at) = read(&mut lab, Cursor::end_of(0), &Filter::default());
        let (mut tasks, mut session): (Vec<String>, _) = (Vec::new(), None);
        for step in steps {
            let some = |tasks: &[String], n: usize| tasks.get(n % tasks.len().max(1)).cloned();
            match step {
                Step::Run(count) => {
                    let made = lab.ok(0, RunTask, &json!({"taskDefinition": "web", "count": count}));
                    let arns = made["tasks"].as_array().expect("tasks").iter();
                    tasks.extend(arns.map(|task| task["taskArn"].as_str().expect("an ARN").to_owned()));
                }
                Step::Running(n) => drop(some(&tasks, n).map(|task| lab.report(1, &task, "RUNNING"))),
                Step::Stop(n) => drop(some(&tasks, n).map(|task| lab.ok(0, StopTask, &json!({"task": task})))),
                Step::Stopped(n) => drop(some(&tasks, n).map(|task| lab.report(1, &task, "STOPPED"))),
                Step::Away => {
                    let (instance, id) = session.take().unwrap_or_else(|| lab.connect(1, &arn));
                    lab.disconnect(instance, id);
                }
                Step::Back => session = Some(lab.connect(1, &arn)),
                Step::Pass(ms) => drop(lab.pass(ms)),
                Step::Restart => {
                    restart(&mut lab);
                    session = None;
                }
            }
            let (more, next) = read(&mut lab, at, &Filter::default());
            live.extend(more);
            at = next;
        }
        // An instance keeps its newest milestones only, and then there is no reading from the very beginning; nothing else is missing.
        let begin = oldest(&mut lab, &Filter::default());
        let (whole, _) = read(&mut lab, begin, &Filter::default());
        let told: Vec<_> = whole.iter().map(|(_, event)| brief(event)).collect();
        let kept: Vec<_> = live.iter().filter(|(at, _)| *at > begin).map(|(_, event)| brief(event)).collect();
        prop_assert_eq!(&kept, &told);
        for (cursor, _) in live.iter().filter(|(at, _)| *at < begin) {
            prop_assert!(lab.cell.snapshot().read_events(&principal(0), *cursor, &Filter::default()).is_err());
        }
        // Of tasks all is there from the beginning.
        let tasks_of = |events: &[(Cursor, String)]| -> Vec<_> {
            let of_tasks = events.iter().filter(|(_, event)| event.contains(DetailType::Task.as_str()));
            of_tasks.map(|(_, event)| brief(event)).collect()
        };
        let (of_tasks, _) = read(&mut lab, Cursor::end_of(0), &task_events());
        prop_assert_eq!(tasks_of(&of_tasks), tasks_of(&live));
        for (index, (cursor, _)) in whole.iter().enumerate().filter(|(index, _)| cuts >> (index % 64) & 1 == 1) {
            let parsed: Cursor = cursor.to_string().parse().expect("a cursor");
            prop_assert_eq!(parsed, *cursor);
            prop_assert_eq!(&read(&mut lab, parsed, &Filter::default()).0[..], &whole[index + 1..]);
        }
        let mut versions = std::collections::BTreeMap::new();
        for (_, event) in &whole {
            let event: Value = serde_json::from_str(event).expect("JSON");
            let version = event["detail"]["version"].as_i64().expect("a version");
            let before = versions.insert(event["resources"][0].to_string(), version);
            prop_assert!(before < Some(version));
        }
    }
}
