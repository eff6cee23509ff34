//! What an external scheduler can do, and what it cannot.

use longshore_api::admin;
use longshore_api::ecs::Operation::{
    CreateCapacityProvider, PutClusterCapacityProviders, RegisterTaskDefinition, RunTask, StopTask,
};
use serde_json::{Value, json};

use super::{Question, Wish};
use crate::cell::{Command, Effect, Reply};
use crate::fixture::{Lab, api, definition, principal};

const URL: &str = "http://127.0.0.1:9/place";

fn administer(lab: &mut Lab, operation: admin::Operation, document: &Value) -> Result<admin::Response, String> {
    let request = admin::Request::decode(operation, document).expect("a request");
    match lab.apply(Command::Admin { principal: principal(0), request }).reply {
        Reply::Admin(Ok(crate::identity::Answer::Complete(answer))) => Ok(answer),
        Reply::Admin(Err(error)) => Err(error.message),
        other => panic!("{other:?}"),
    }
}

/// A cell whose default cluster has a scheduler.
fn lab(fallback: &str) -> Lab {
    let mut lab = Lab::new();
    let request = json!({"url": URL, "deadlineSeconds": 5, "fallback": fallback});
    administer(&mut lab, admin::Operation::SetClusterScheduler, &request).expect("it is set");
    lab.ok(0, RegisterTaskDefinition, &definition("web", 400, 100, &[]));
    lab
}

fn run(lab: &mut Lab, count: usize) -> Vec<String> {
    let outcome = lab.apply(api(0, RunTask, &json!({"taskDefinition": "web", "count": count})));
    let asks = outcome.effects.iter().filter(|effect| matches!(effect, Effect::AskScheduler { .. })).count();
    assert_eq!((asks, outcome.effects.len()), (1, 1), "the scheduler is asked, and nothing is started");
    let Reply::Api(Ok(answer)) = outcome.reply else { panic!("refused") };
    let answer: Value = serde_json::from_slice(&answer.to_json()).expect("JSON");
    let arn = |task: &Value| {
        assert_eq!(task["lastStatus"], "PROVISIONING");
        task["taskArn"].as_str().expect("an ARN").to_owned()
    };
    answer["tasks"].as_array().expect("tasks").iter().map(arn).collect()
}

fn question(lab: &mut Lab) -> Option<Question> {
    let snapshot = lab.cell.snapshot();
    let cluster = snapshot.clusters_asking().first().copied()?;
    snapshot.scheduler_question(cluster, None, Vec::new())
}

/// Places tasks; answers why not.
fn wish(lab: &mut Lab, wishes: &[(&str, &str)]) -> Vec<Option<String>> {
    let wish = |(task, instance): &(&str, &str)| Wish {
        task_arn: (*task).to_owned(),
        container_instance_arn: (*instance).to_owned(),
    };
    let wishes: Vec<Wish> = wishes.iter().map(wish).collect();
    match lab.apply(Command::Place { cluster: "default".into(), wishes }).reply {
        Reply::Placed(done) => done.into_iter().map(|done| done.err().map(|refused| refused.reason)).collect(),
        other => panic!("{other:?}"),
    }
}

fn shown(lab: &mut Lab, task: &str) -> (String, String) {
    let task = lab.describe(task);
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    (text(&task["lastStatus"]), text(&task["stoppedReason"]))
}

#[test]
fn a_scheduler_is_asked_and_its_wishes_are_held_against_the_pool() {
    let mut lab = lab("wait");
    let first = lab.instance(1, 1_000, 1_000);
    let second = lab.instance(2, 300, 1_000);
    let tasks = run(&mut lab, 4);
    let asked = question(&mut lab).expect("a question");
    assert_eq!(asked.tasks.iter().map(|task| &task.task_arn).collect::<Vec<_>>(), {
        let mut sorted: Vec<&String> = tasks.iter().collect();
        sorted.sort();
        sorted
    });
    let [candidate] = &asked.tasks[0].candidates[..] else { panic!("{:?}", asked.tasks[0].candidates) };
    assert_eq!((candidate.container_instance_arn.as_str(), candidate.remaining_cpu), (first.as_str(), 1_000));
    let json = serde_json::to_value(&asked).expect("JSON");
    assert_eq!((&json["tasks"][0]["cpu"], &json["moreTasks"]), (&json!(400), &json!(false)));
    let elsewhere = first.replace("/default/", "/other/");
    let reasons = wish(
        &mut lab,
        &[
            (&tasks[0], &first),
            (&tasks[0], &first),
            (&tasks[1], &second),
            (&tasks[1], &elsewhere),
            ("nonsense", &first),
            (&tasks[1], "nonsense"),
            (&tasks[1], &first),
            (&tasks[2], &first),
        ],
    );
    let reasons: Vec<Option<&str>> = reasons.iter().map(Option::as_deref).collect();
    let expected =
        [None, Some("DECIDED"), Some("RESOURCE:CPU"), Some("MISSING"), Some("MISSING"), Some("MISSING"), None];
    assert_eq!(reasons[..7], expected);
    assert_eq!(reasons[7], Some("RESOURCE:CPU"), "two of 400 fill 1,000 to less than a third one");
    lab.ok(0, StopTask, &json!({"task": tasks[2]}));
    // Without a deadline it waits for ever.
    lab.pass(1_000_000);
    assert_eq!(shown(&mut lab, &tasks[3]).0, "PROVISIONING");
    assert_eq!(question(&mut lab).expect("a question").tasks.len(), 1);
}

#[test]
fn who_is_not_decided_about_goes_the_way_of_the_fallback() {
    let mut stop = lab("stop");
    stop.instance(1, 1_000, 1_000);
    let tasks = run(&mut stop, 1);
    stop.pass(4_000);
    assert_eq!(shown(&mut stop, &tasks[0]).0, "PROVISIONING");
    stop.pass(2_000);
    let (status, reason) = shown(&mut stop, &tasks[0]);
    assert_eq!(status, "STOPPED");
    assert!(reason.contains(URL) && reason.contains("5 seconds"), "{reason}");
    assert_eq!(wish(&mut stop, &[(&tasks[0], "nonsense")]), [Some("DECIDED".to_owned())]);

    let mut place = lab("place");
    place.instance(1, 1_000, 1_000);
    let tasks = run(&mut place, 3);
    place.pass(6_000);
    let mut all: Vec<(String, String)> = tasks.iter().map(|task| shown(&mut place, task)).collect();
    all.sort();
    let statuses: Vec<&str> = all.iter().map(|(status, _)| status.as_str()).collect();
    assert_eq!(statuses, ["PENDING", "PENDING", "STOPPED"], "{all:?}");
    assert!(all[2].1.contains("RESOURCE:CPU"), "{all:?}");
}

#[test]
fn tasks_of_a_capacity_provider_are_offered_its_instances_alone() {
    let mut lab = lab("wait");
    let provider = json!({"name": "burst", "autoScalingGroupProvider": {"autoScalingGroupArn": "group"}});
    lab.ok(0, CreateCapacityProvider, &provider);
    let strategy = json!([{"capacityProvider": "burst", "weight": 1}]);
    let put =
        json!({"cluster": "default", "capacityProviders": ["burst"], "defaultCapacityProviderStrategy": strategy});
    lab.ok(0, PutClusterCapacityProviders, &put);
    let other = lab.instance(1, 1_000, 1_000);
    let mut offer = crate::fixture::offer("host-2", 1_000, 1_000);
    let attributes = offer["attributes"].as_array_mut().expect("attributes");
    attributes.push(json!({"name": crate::capacity::ATTRIBUTE, "value": "burst"}));
    let own = lab.register(2, &offer);
    lab.connect(2, &own);
    let tasks = run(&mut lab, 1);
    let asked = question(&mut lab).expect("a question");
    let offered: Vec<&str> = asked.tasks[0].candidates.iter().map(|one| one.container_instance_arn.as_str()).collect();
    assert_eq!(offered, [own.as_str()]);
    let json = serde_json::to_value(&asked).expect("JSON");
    assert_eq!(json["tasks"][0]["capacityProviderName"], "burst");
    assert_eq!(wish(&mut lab, &[(&tasks[0], &other), (&tasks[0], &own)]), [Some("ATTRIBUTE".to_owned()), None]);
}

#[test]
fn who_waits_when_the_scheduler_changes_has_its_deadline_anew_and_once() {
    let mut lab = lab("wait");
    lab.instance(1, 1_000, 1_000);
    let tasks = run(&mut lab, 1);
    lab.pass(1_000_000);
    let set = |lab: &mut Lab, fallback: &str| {
        let request = json!({"url": URL, "deadlineSeconds": 5, "fallback": fallback});
        administer(lab, admin::Operation::SetClusterScheduler, &request).expect("it is set");
    };
    set(&mut lab, "stop");
    assert!(question(&mut lab).expect("a question").tasks[0].decide_by.is_some());
    lab.pass(3_000);
    assert_eq!(shown(&mut lab, &tasks[0]).0, "PROVISIONING", "the scheduler has its time");
    set(&mut lab, "stop");
    lab.pass(3_000);
    assert_eq!(shown(&mut lab, &tasks[0]).0, "STOPPED", "to say the same again gives no more of it");

    let tasks = run(&mut lab, 2);
    set(&mut lab, "wait");
    lab.pass(1_000_000);
    assert_eq!(shown(&mut lab, &tasks[0]).0, "PROVISIONING", "it has no deadline any more");
    set(&mut lab, "place");
    lab.pass(6_000);
    assert_eq!(tasks.iter().map(|task| shown(&mut lab, task).0).collect::<Vec<_>>(), ["PENDING", "PENDING"]);
}

#[test]
fn without_its_scheduler_what_fits_nowhere_ends_unless_it_may_wait() {
    let mut lab = lab("wait");
    let asleep = run(&mut lab, 1);
    let tags = json!([{"key": "longshore:max-wait", "value": "1h"}]);
    let patient = lab.ok(0, RunTask, &json!({"taskDefinition": "web", "tags": tags}))["tasks"][0]["taskArn"].clone();
    administer(&mut lab, admin::Operation::UnsetClusterScheduler, &json!({})).expect("it is unset");
    lab.pass(10);
    let (status, reason) = shown(&mut lab, &asleep[0]);
    assert_eq!(status, "STOPPED", "{reason}");
    assert_eq!(shown(&mut lab, patient.as_str().expect("an ARN")).0, "PROVISIONING");
}

#[test]
fn without_its_scheduler_a_cluster_places_itself() {
    let mut lab = lab("wait");
    lab.instance(1, 1_000, 1_000);
    let tasks = run(&mut lab, 1);
    administer(&mut lab, admin::Operation::UnsetClusterScheduler, &json!({})).expect("it is unset");
    lab.pass(10);
    assert_eq!(shown(&mut lab, &tasks[0]).0, "PENDING");
    let answer = administer(&mut lab, admin::Operation::DescribeClusterScheduler, &json!({})).expect("an answer");
    let admin::Response::DescribeClusterScheduler(answer) = answer else { panic!("{answer:?}") };
    assert_eq!((answer.scheduler, answer.waiting_tasks), (None, 0));
    for url in ["ftp://h/", "http://", "http:///x", "http://u@h/", "http://h/?a", "http://h /", "nonsense"] {
        let refused = administer(&mut lab, admin::Operation::SetClusterScheduler, &json!({"url": url}));
        assert!(refused.is_err_and(|message| message.contains("url")), "{url}");
    }
}

#[test]
fn a_change_of_an_instance_is_a_reason_to_ask_again_and_many_are_asked_about_in_turn() {
    let mut lab = lab("wait");
    let tasks: Vec<String> = (0..3).flat_map(|_| run(&mut lab, 10)).collect();
    let arn = lab.register(1, &crate::fixture::offer("host", 1_000, 1_000));
    lab.connect(1, &arn);
    let effects = lab.pass(10);
    assert!(effects.iter().any(|effect| matches!(effect, Effect::AskScheduler { .. })), "{effects:?}");
    let asked = question(&mut lab).expect("a question");
    assert_eq!((asked.tasks.len(), asked.more_tasks), (25, true));
    let snapshot = lab.cell.snapshot();
    let cluster = snapshot.clusters_asking()[0];
    let rest = snapshot.scheduler_question(cluster, asked.last, Vec::new()).expect("the rest");
    assert_eq!((rest.tasks.len(), rest.more_tasks), (5, true));
    let again = snapshot.scheduler_question(cluster, rest.last, Vec::new()).expect("from the beginning");
    assert_eq!((again.tasks.len(), tasks.len()), (25, 30));
    // A command does as much as fits a commit; the rest is sent again.
    let wishes: Vec<(&str, &str)> = tasks.iter().map(|task| (task.as_str(), arn.as_str())).collect();
    assert_eq!(wish(&mut lab, &wishes).iter().filter(|refused| refused.is_none()).count(), 2);
}
