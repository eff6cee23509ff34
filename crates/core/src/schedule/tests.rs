//! What schedules do, in a cell with a clock of its own.

use longshore_api::ecs::Operation;
use longshore_api::{ApiError, Timestamp, admin};
use serde_json::{Value, json};

use crate::cell::{Cell, Command, Effect, Reply};
use crate::fixture::{Lab, config, definition, principal};
use crate::identity::Answer;
use crate::limits;
use crate::principal::{Principal, Role};

const MINUTE: i64 = 60_000;

fn lab() -> Lab {
    let mut lab = Lab::new();
    // A whole minute, so that times can be read.
    lab.now = Timestamp::from_millis(1_700_000_040_000);
    lab.instance(1, 1_000, 1_000);
    lab.ok(0, Operation::RegisterTaskDefinition, &definition("web", 100, 100, &[]));
    lab
}

fn call(lab: &mut Lab, operation: admin::Operation, request: &Value) -> Result<Value, ApiError> {
    let request = admin::Request::decode(operation, request).map_err(ApiError::from)?;
    match lab.apply(Command::Admin { principal: principal(0), request }).reply {
        Reply::Admin(Ok(Answer::Complete(answer))) => Ok(serde_json::from_slice(&answer.to_json()).expect("JSON")),
        Reply::Admin(Err(error)) => Err(error),
        other => panic!("{other:?}"),
    }
}

fn create(lab: &mut Lab, expression: &str, more: &Value) -> Value {
    let mut request = json!({"name": "s", "scheduleExpression": expression, "target": {"taskDefinition": "web"}});
    for (member, value) in more.as_object().into_iter().flatten() {
        request[member] = value.clone();
    }
    call(lab, admin::Operation::CreateSchedule, &request).unwrap_or_else(|error| panic!("{request}: {error:?}"))
}

fn about(lab: &mut Lab, operation: admin::Operation) -> Value {
    call(lab, operation, &json!({"name": "s"})).expect("an answer")
}

/// The history, newest first, as (outcome, attempts, tasks).
fn history(lab: &mut Lab) -> Vec<(String, i64, usize)> {
    let answer = about(lab, admin::Operation::DescribeSchedule);
    let history = answer["schedule"]["history"].as_array().expect("a history").iter();
    let row = |each: &Value| {
        let tasks = each["tasks"].as_array().map_or(0, Vec::len);
        (each["outcome"].as_str().expect("an outcome").to_owned(), each["attempts"].as_i64().expect("a number"), tasks)
    };
    history.map(row).collect()
}

fn outcomes(lab: &mut Lab) -> Vec<String> {
    history(lab).into_iter().map(|(outcome, ..)| outcome).collect()
}

/// What is new in a history, its tasks by ARN.
fn newest(lab: &mut Lab) -> Value {
    about(lab, admin::Operation::DescribeSchedule)["schedule"]["history"][0].clone()
}

fn task_of(invocation: &Value) -> String {
    invocation["tasks"][0]["taskArn"].as_str().expect("an ARN").to_owned()
}

fn stopped(lab: &mut Lab, task: &str, exit_code: i32) {
    let containers = json!([{"containerName": "main", "exitCode": exit_code, "status": "STOPPED"}]);
    lab.ok(
        1,
        Operation::SubmitTaskStateChange,
        &json!({"cluster": "default", "task": task, "status": "STOPPED", "containers": containers}),
    );
    lab.pass(2);
}

/// A cell that loaded what this one stored, with time in between.
fn restart(lab: &mut Lab, after_ms: i64) {
    let mut cell = Cell::new(config());
    lab.cell.entities().for_each(|entity| {
        let (key, value) = (entity.key().encode(), entity.encode().expect("JSON"));
        cell.load(crate::entity::Entity::decode(&key, &value).expect("reads back"));
    });
    cell.loaded(lab.cell.sequence());
    lab.cell = cell;
    lab.now = lab.now.plus_millis(after_ms);
    lab.cell.check().expect("what is derived is derived again");
    let arns = lab.ok(0, Operation::ListContainerInstances, &json!({}))["containerInstanceArns"].clone();
    lab.connect(1, arns[0].as_str().expect("an ARN"));
}

#[test]
fn a_rate_runs_a_task_at_once_and_again_and_says_whose_it_is() {
    let mut lab = lab();
    let made = create(&mut lab, "rate(1 minute)", &json!({}));
    assert_eq!(made["schedule"]["state"], "ENABLED");
    lab.pass(10);
    assert_eq!(history(&mut lab), [("RUNNING".to_owned(), 1, 1)]);
    let task = task_of(&newest(&mut lab));
    let shown = lab.ok(0, Operation::DescribeTasks, &json!({"tasks": [task], "include": ["TAGS"]}))["tasks"][0].clone();
    assert_eq!((&shown["startedBy"], &shown["group"]), (&json!("schedule/s"), &json!("schedule:s")));
    assert_eq!(shown["tags"], json!([{"key": "longshore:schedule", "value": "s"}]));
    stopped(&mut lab, &task, 0);
    let ended = newest(&mut lab);
    assert_eq!((&ended["outcome"], &ended["tasks"][0]["exitCodes"]), (&json!("SUCCEEDED"), &json!([0])));
    // The latest ACTIVE revision at that time.
    lab.ok(0, Operation::RegisterTaskDefinition, &definition("web", 50, 50, &[]));
    lab.pass(MINUTE);
    assert_eq!(outcomes(&mut lab), ["RUNNING", "SUCCEEDED"]);
    let task = task_of(&newest(&mut lab));
    assert!(lab.describe(&task)["taskDefinitionArn"].as_str().expect("an ARN").ends_with("web:2"));
    stopped(&mut lab, &task, 7);
    let failed = newest(&mut lab);
    assert_eq!((&failed["outcome"], &failed["tasks"][0]["exitCodes"]), (&json!("FAILED"), &json!([7])));
    assert!(failed["reason"].as_str().expect("a reason").contains("(exit codes 7)"), "{failed}");
}

#[test]
fn a_single_time_ends_the_schedule() {
    let mut lab = lab();
    create(&mut lab, "at(2023-11-14T23:15:00)", &json!({"scheduleExpressionTimezone": "Europe/Berlin"}));
    lab.pass(30_000);
    assert_eq!(outcomes(&mut lab), Vec::<String>::new());
    lab.pass(MINUTE);
    assert_eq!(outcomes(&mut lab), ["RUNNING"]);
    let shown = about(&mut lab, admin::Operation::DescribeSchedule);
    assert_eq!((&shown["schedule"]["state"], &shown["schedule"]["nextDue"]), (&json!("ENDED"), &Value::Null));
    // 22:15 UTC.
    assert_eq!(shown["schedule"]["history"][0]["dueAt"], json!(1_700_000_100.0));
}

#[test]
fn what_overlaps_is_allowed_skipped_or_replaced() {
    let mut lab = lab();
    create(&mut lab, "rate(1 minute)", &json!({}));
    lab.pass(MINUTE + 10);
    assert_eq!((outcomes(&mut lab), lab.wanted()), (vec!["RUNNING".to_owned(); 2], 2));
    about(&mut lab, admin::Operation::DeleteSchedule);

    let mut lab = self::lab();
    create(&mut lab, "rate(1 minute)", &json!({"overlapPolicy": "SKIP"}));
    lab.pass(MINUTE + 10);
    assert_eq!((outcomes(&mut lab), lab.wanted()), (vec!["SKIPPED".to_owned(), "RUNNING".to_owned()], 1));
    assert!(newest(&mut lab)["reason"].as_str().expect("a reason").contains("is not STOPPED"));

    let mut lab = self::lab();
    create(&mut lab, "rate(1 minute)", &json!({"overlapPolicy": "REPLACE"}));
    lab.pass(10);
    let first = task_of(&newest(&mut lab));
    lab.pass(MINUTE);
    assert_eq!((outcomes(&mut lab), lab.wanted()), (vec!["WAITING".to_owned(), "REPLACED".to_owned()], 0));
    assert_eq!(lab.describe(&first)["stoppedReason"], "Replaced by the next invocation of the schedule s");
    // Not before the old one is really over.
    stopped(&mut lab, &first, 137);
    assert_eq!((outcomes(&mut lab), lab.wanted()), (vec!["RUNNING".to_owned(), "REPLACED".to_owned()], 1));
}

#[test]
fn what_finds_no_room_is_tried_again_after_longer_and_longer_times() {
    let mut lab = lab();
    lab.ok(0, Operation::RegisterTaskDefinition, &definition("huge", 100, 900, &[]));
    let blocking = lab.run("huge");
    let more = json!({"target": {"taskDefinition": "web", "count": 3}, "retryAttempts": 3});
    create(&mut lab, "rate(1 day)", &more);
    lab.pass(10);
    assert_eq!(history(&mut lab), [("WAITING".to_owned(), 1, 1)]);
    assert!(newest(&mut lab)["reason"].as_str().expect("a reason").contains("RESOURCE:MEMORY (1)"));
    lab.pass(5_010);
    assert_eq!(history(&mut lab), [("WAITING".to_owned(), 2, 1)]);
    lab.pass(5_010);
    assert_eq!(history(&mut lab), [("WAITING".to_owned(), 2, 1)], "twice as long");
    stopped(&mut lab, &blocking, 0);
    lab.pass(5_010);
    assert_eq!(history(&mut lab), [("RUNNING".to_owned(), 3, 3)], "the two that were missing");
    for index in 0..3 {
        let task = newest(&mut lab)["tasks"][index]["taskArn"].as_str().expect("an ARN").to_owned();
        stopped(&mut lab, &task, 0);
    }
    assert_eq!(history(&mut lab), [("SUCCEEDED".to_owned(), 3, 3)]);
}

#[test]
fn an_attempt_that_fails_in_the_middle_leaves_nothing_behind() {
    let mut lab = lab();
    let patient = json!([{"key": "longshore:max-wait", "value": "1h"}]);
    for index in 0..limits::WAITING_KINDS {
        let family = format!("huge{index}");
        lab.ok(0, Operation::RegisterTaskDefinition, &definition(&family, 2_000, 100, &[]));
        lab.ok(0, Operation::RunTask, &json!({"taskDefinition": family, "tags": patient}));
    }
    let before = lab.wanted();
    // Ten fit, one would have to wait, and there is no room in the line for another kind.
    create(&mut lab, "rate(1 day)", &json!({"target": {"taskDefinition": "web", "count": 10, "tags": patient}}));
    lab.ok(0, Operation::RunTask, &json!({"taskDefinition": "web"}));
    let orders = lab.pass(10);
    assert_eq!(history(&mut lab), [("WAITING".to_owned(), 1, 0)]);
    assert_eq!(lab.wanted(), before + 1);
    assert!(!orders.iter().any(|effect| matches!(effect, Effect::Start { .. })), "{orders:?}");
    lab.cell.check().expect("nothing is held by what is not there");
}

#[test]
fn a_date_that_is_none_is_refused() {
    let mut lab = lab();
    for (member, date) in [("startDate", -1e18), ("endDate", 1e18), ("startDate", 7_258_118_400.0)] {
        let request = json!({
            "name": "s", "scheduleExpression": "rate(1 minute)", "target": {"taskDefinition": "web"}, member: date
        });
        let error = call(&mut lab, admin::Operation::CreateSchedule, &request).expect_err("a date of no calendar");
        assert_eq!(error.message, format!("{member} must be in the years 1970 to 2199."));
    }
}

#[test]
fn what_waited_in_vain_is_tried_again_like_what_was_not_placed() {
    let mut lab = lab();
    lab.ok(0, Operation::RegisterTaskDefinition, &definition("huge", 2_000, 100, &[]));
    let patient = json!([{"key": "longshore:max-wait", "value": "10s"}]);
    create(
        &mut lab,
        "rate(1 day)",
        &json!({"target": {"taskDefinition": "huge", "tags": patient}, "retryAttempts": 3}),
    );
    lab.pass(10);
    assert_eq!(history(&mut lab), [("RUNNING".to_owned(), 1, 1)]);
    lab.pass(10_010);
    assert_eq!(history(&mut lab), [("WAITING".to_owned(), 1, 0)]);
    assert!(newest(&mut lab)["reason"].as_str().expect("a reason").contains("RESOURCE:CPU"));
    lab.pass(5_010);
    assert_eq!(history(&mut lab), [("RUNNING".to_owned(), 2, 1)]);
}

#[test]
fn attempts_end_with_their_number_with_their_window_and_with_the_next_due_time() {
    let failing = json!({"taskDefinition": "web", "placementConstraints": [{"type": "memberOf", "expression": "attribute:no exists"}]});
    let mut lab = lab();
    create(&mut lab, "rate(1 day)", &json!({"target": failing, "retryAttempts": 1}));
    lab.pass(60_000);
    assert_eq!(history(&mut lab), [("FAILED".to_owned(), 2, 0)]);

    let mut lab = self::lab();
    create(&mut lab, "rate(1 day)", &json!({"target": failing, "retryWindowSeconds": 60}));
    lab.pass(10 * MINUTE);
    assert_eq!(history(&mut lab), [("FAILED".to_owned(), 4, 0)], "after 5, 15 and 35 seconds; not after 75");

    let mut lab = self::lab();
    create(&mut lab, "rate(1 minute)", &json!({"target": failing}));
    lab.pass(MINUTE + 10);
    assert_eq!(outcomes(&mut lab), ["WAITING", "SUPERSEDED"]);
}

#[test]
fn what_fails_is_run_again_if_that_is_asked_for() {
    let mut lab = lab();
    let more = json!({"retryOn": "EXIT", "retryAttempts": 2, "target": {"taskDefinition": "web", "count": 2}});
    create(&mut lab, "rate(1 day)", &more);
    lab.pass(10);
    let first = newest(&mut lab);
    let arn = |index: usize| first["tasks"][index]["taskArn"].as_str().expect("an ARN").to_owned();
    stopped(&mut lab, &arn(0), 0);
    stopped(&mut lab, &arn(1), 1);
    assert_eq!(history(&mut lab), [("WAITING".to_owned(), 1, 1)]);
    lab.pass(5_010);
    assert_eq!(history(&mut lab), [("RUNNING".to_owned(), 2, 2)], "what ended well is not run again");
    let again = newest(&mut lab)["tasks"][1]["taskArn"].as_str().expect("an ARN").to_owned();
    lab.ok(0, Operation::StopTask, &json!({"task": again}));
    stopped(&mut lab, &again, 137);
    assert_eq!(history(&mut lab), [("FAILED".to_owned(), 2, 2)], "who stops a task does not want it again");
}

#[test]
fn of_what_was_missed_the_last_is_made_up_for_within_the_window() {
    let mut lab = lab();
    create(&mut lab, "cron(0/10 * * * ? *)", &json!({"retryWindowSeconds": 300}));
    lab.pass(10 * MINUTE);
    assert_eq!(outcomes(&mut lab), ["RUNNING"]);
    // 22:20:… → 22:54: due at 30, 40 and 50, the last of them four minutes ago.
    restart(&mut lab, 30 * MINUTE);
    lab.pass(10);
    assert_eq!(outcomes(&mut lab), ["RUNNING", "MISSED", "RUNNING"]);
    let shown = about(&mut lab, admin::Operation::DescribeSchedule);
    assert_eq!(shown["schedule"]["history"][1]["missed"], 2);
    // 22:54 → 23:58: eight minutes are too late.
    restart(&mut lab, 64 * MINUTE);
    lab.pass(10);
    assert_eq!(outcomes(&mut lab)[..2], ["MISSED", "RUNNING"]);
    assert_eq!(newest(&mut lab)["missed"], 6);
}

#[test]
fn years_of_missed_times_take_no_time() {
    let mut lab = lab();
    create(&mut lab, "cron(* * * * ? *)", &json!({}));
    lab.pass(MINUTE);
    restart(&mut lab, 20 * 365 * 24 * 60 * MINUTE);
    lab.pass(10);
    assert_eq!(outcomes(&mut lab)[..2], ["RUNNING", "MISSED"]);
    let shown = about(&mut lab, admin::Operation::DescribeSchedule);
    assert_eq!(shown["schedule"]["history"][1]["missed"], limits::MISSED_COUNTED);
}

#[test]
fn a_clock_that_was_set_back_makes_nothing_due_again() {
    let mut lab = lab();
    create(&mut lab, "rate(1 minute)", &json!({}));
    lab.pass(3 * MINUTE + 10);
    assert_eq!(outcomes(&mut lab).len(), 4);
    restart(&mut lab, -3 * MINUTE);
    lab.pass(2 * MINUTE);
    about(&mut lab, admin::Operation::PauseSchedule);
    about(&mut lab, admin::Operation::ResumeSchedule);
    lab.pass(MINUTE);
    assert_eq!(outcomes(&mut lab).len(), 4, "these minutes had their tasks");
    lab.pass(MINUTE);
    assert_eq!(outcomes(&mut lab).len(), 5);
}

#[test]
fn a_paused_schedule_is_not_due_and_not_made_up_for_but_runs_by_hand() {
    let mut lab = lab();
    create(&mut lab, "rate(1 minute)", &json!({}));
    lab.pass(10);
    assert_eq!(about(&mut lab, admin::Operation::PauseSchedule)["schedule"]["state"], "PAUSED");
    lab.pass(5 * MINUTE);
    assert_eq!(outcomes(&mut lab).len(), 1);
    let by_hand = about(&mut lab, admin::Operation::RunSchedule);
    assert_eq!(
        (&by_hand["invocation"]["outcome"], &by_hand["invocation"]["byHand"]),
        (&json!("RUNNING"), &json!(true))
    );
    about(&mut lab, admin::Operation::ResumeSchedule);
    lab.pass(10);
    assert_eq!(outcomes(&mut lab).len(), 2, "what was due meanwhile is not made up for");
    lab.pass(MINUTE);
    assert_eq!(outcomes(&mut lab).len(), 3);
}

#[test]
fn a_history_has_an_end_and_a_deleted_schedule_leaves_its_tasks() {
    let mut lab = lab();
    create(&mut lab, "rate(1 minute)", &json!({"overlapPolicy": "SKIP"}));
    lab.pass(60 * MINUTE);
    let outcomes = outcomes(&mut lab);
    assert_eq!((outcomes.len(), outcomes.last().map(String::as_str)), (limits::SCHEDULE_HISTORY, Some("RUNNING")));
    assert_eq!(lab.wanted(), 1, "what runs is not forgotten for what was skipped");
    about(&mut lab, admin::Operation::DeleteSchedule);
    assert_eq!(lab.wanted(), 1);
    let gone = call(&mut lab, admin::Operation::DescribeSchedule, &json!({"name": "s"})).expect_err("gone");
    assert_eq!(gone.code.name, "ResourceNotFoundException");
    lab.pass(5 * MINUTE);
}

#[test]
fn what_cannot_be_a_schedule_is_refused_by_name() {
    let mut lab = lab();
    let good = json!({"name": "s", "scheduleExpression": "rate(1 day)", "target": {"taskDefinition": "web"}});
    for (member, value, code, words) in [
        ("name", json!("a b"), "InvalidParameterException", "0-9 a-z A-Z - _ and the dot"),
        (
            "scheduleExpression",
            json!("rate(1 days)"),
            "InvalidParameterException",
            "scheduleExpression: with the value 1",
        ),
        ("scheduleExpression", json!("at(2020-01-01T00:00:00)"), "InvalidParameterException", "never due"),
        ("scheduleExpression", json!("cron(0 0 30 2 ? *)"), "InvalidParameterException", "never due"),
        ("scheduleExpressionTimezone", json!("Mars/Olympus"), "InvalidParameterException", "Europe/Berlin"),
        ("target", json!({"taskDefinition": "nope"}), "ClientException", "TaskDefinition not found"),
        (
            "target",
            json!({"taskDefinition": "web", "cluster": "nope"}),
            "ClusterNotFoundException",
            "Cluster not found",
        ),
        ("target", json!({"taskDefinition": "web", "count": 11}), "InvalidParameterException", "between 1 and 10"),
        (
            "target",
            json!({"taskDefinition": "web", "startedBy": "me"}),
            "InvalidParameterException",
            "target.startedBy",
        ),
        (
            "target",
            json!({"taskDefinition": "web", "clientToken": "t"}),
            "InvalidParameterException",
            "target.clientToken",
        ),
        (
            "target",
            json!({"taskDefinition": "web", "group": "x".repeat(40_000)}),
            "InvalidParameterException",
            "bytes of JSON",
        ),
    ] {
        let mut request = good.clone();
        request[member] = value;
        let error = call(&mut lab, admin::Operation::CreateSchedule, &request).expect_err(words);
        assert!(error.code.name == code && error.message.contains(words), "{request}: {error:?}");
    }
    call(&mut lab, admin::Operation::CreateSchedule, &good).expect("good");
    let twice = call(&mut lab, admin::Operation::CreateSchedule, &good).expect_err("taken");
    assert_eq!(twice.code.name, "ConflictException");
    let request = admin::Request::decode(admin::Operation::RunSchedule, &json!({"name": "s"})).expect("a request");
    let machine = Principal::new(Role::JoinToken, "LSTK", "000000000000");
    let Reply::Admin(Err(denied)) = lab.apply(Command::Admin { principal: machine, request }).reply else {
        panic!("only the owner may")
    };
    assert_eq!(denied.code.name, "AccessDeniedException");
}

#[test]
fn schedules_are_listed_in_pages_without_what_they_run() {
    let mut lab = lab();
    for name in ["b", "a", "c"] {
        create(&mut lab, "rate(1 day)", &json!({"name": name}));
    }
    let page = call(&mut lab, admin::Operation::ListSchedules, &json!({"maxResults": 2})).expect("a page");
    let names: Vec<_> = page["schedules"].as_array().expect("rows").iter().map(|row| row["name"].clone()).collect();
    assert_eq!(names, ["a", "b"]);
    assert_eq!(page["schedules"][0]["target"], Value::Null);
    let rest = json!({"nextToken": page["nextToken"]});
    let rest = call(&mut lab, admin::Operation::ListSchedules, &rest).expect("a page");
    assert_eq!((rest["schedules"].as_array().map(Vec::len), &rest["nextToken"]), (Some(1), &Value::Null));
}

/// Everything a record can hold, as it is written: what this writes must be read for good.
#[test]
fn a_record_is_read_back_as_it_was_written() {
    const STORED: &str = r#"{"name":"nightly","expression":"cron(0 3 ? * MON-FRI *)","zone":"Europe/Berlin","start":1700000000.0,
        "end":1800000000.0,"target":{"cluster":"default","count":2,"taskDefinition":"web"},"overlap":"REPLACE",
        "retry":{"attempts":3,"window_ms":60000,"on":"EXIT"},"created_at":1700000000.0,"next_due":1700000400.0,
        "last_due":1700000300.0,"history":[{"due":1700000100.0,"fired_at":1700000100.5,"state":{"Missed":{"times":2}}},
        {"due":1700000200.0,"by_hand":true,"fired_at":1700000200.5,"attempts":1,"tasks":[{"task":{"cluster":1,
        "id":"018bcfe56807aaaaaaaaaaaaaaaaaaaa"},"end":{"at":1700000201.0,"well":false,"exit_codes":[137,null],
        "code":"UserInitiated","reason":"enough"}}],"state":"Replaced"},{"due":1700000300.0,"fired_at":1700000300.5,"attempts":1,
        "short":1,"state":{"Waiting":{"at":1700000305.5}},"why":"not placed"}],"version":4}"#;
    let key = crate::entity::EntityKey::Schedule("nightly".into()).encode();
    let entity = crate::entity::Entity::decode(&key, STORED.as_bytes()).expect("reads");
    let written: Value = serde_json::from_slice(&entity.encode().expect("JSON")).expect("JSON");
    assert_eq!(written, serde_json::from_str::<Value>(STORED).expect("JSON"));
}

/// Whatever happens in between (restarts, clocks set back and forward, tasks that fail, people), no due time counts twice.
#[test]
fn no_due_time_counts_twice_whatever_happens() {
    use std::collections::BTreeMap;
    let policies = [("ALLOW", "PLACEMENT"), ("SKIP", "EXIT"), ("REPLACE", "EXIT")];
    for (round, (overlap, retry_on)) in policies.into_iter().cycle().take(12).enumerate() {
        let mut lab = lab();
        for _ in 0..round {
            lab.chance();
        }
        let more = json!({"overlapPolicy": overlap, "retryOn": retry_on, "retryWindowSeconds": 240});
        let expression = if round % 2 == 0 { "cron(0/3 * * * ? *)" } else { "rate(2 minutes)" };
        create(&mut lab, expression, &more);
        let mut fired: BTreeMap<i64, (i64, usize)> = BTreeMap::new();
        for _ in 0..150 {
            let mut chance = lab.chance();
            let invocation = newest(&mut lab);
            let open =
                invocation["tasks"].as_array().and_then(|tasks| tasks.iter().find(|task| task["stoppedAt"].is_null()));
            match chance.below(12) {
                0 => restart(&mut lab, chance.below(20) as i64 * MINUTE - 6 * MINUTE),
                1 => drop(about(&mut lab, admin::Operation::RunSchedule)),
                2 => drop(about(&mut lab, admin::Operation::PauseSchedule)),
                3 | 4 => drop(about(&mut lab, admin::Operation::ResumeSchedule)),
                5..=7 if open.is_some() => {
                    let task = open.and_then(|task| task["taskArn"].as_str()).expect("an ARN").to_owned();
                    stopped(&mut lab, &task, chance.below(2) as i32);
                }
                _ => drop(lab.pass(chance.below(200) as i64 * 1_000)),
            }
            let shown = about(&mut lab, admin::Operation::DescribeSchedule);
            for each in shown["schedule"]["history"].as_array().expect("a history") {
                if each["byHand"] == false && each["outcome"] != "MISSED" {
                    let ms = |member: &str| (each[member].as_f64().expect("a time") * 1_000.0) as i64;
                    let known = fired.entry(ms("dueAt")).or_insert((ms("firedAt"), round));
                    assert_eq!(known.0, ms("firedAt"), "{overlap}: due at {} twice", ms("dueAt"));
                }
            }
        }
        assert!(fired.len() > 5, "{overlap}: {fired:?}");
    }
}
