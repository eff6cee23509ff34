use std::sync::Arc;

use longshore_api::ecs::Operation::{
    CreateCapacityProvider, CreateCluster, DeleteCapacityProvider, DescribeCapacityProviders,
    DescribeContainerInstances, ListContainerInstances, ListTagsForResource, PutClusterCapacityProviders,
    RegisterTaskDefinition, RunTask, StopTask, TagResource, UpdateCapacityProvider,
};
use proptest::prelude::*;
use proptest::strategy::Strategy as _;
use serde_json::{Value, json};

use super::{ATTRIBUTE, LauncherAnswer, LauncherOrder, Strategy, Work};
use crate::cell::Command;
use crate::config::{CellConfig, FleetSize, ScalingConfig};
use crate::entity::Cluster;
use crate::fixture::{Lab, config, definition, offer};
use crate::ids::ClusterId;
use crate::limits;
use crate::task::status::TaskStatus;

const INVALID: &str = "InvalidParameterException";
const CLIENT: &str = "ClientException";

/// A cell with a launcher `local` of up to ten machines, which removes after a minute.
fn lab() -> Lab {
    let launchers = [(Arc::from("local"), FleetSize { minimum: 0, maximum: 10 })].into();
    let scaling = ScalingConfig { launchers, scale_in_after_ms: 60_000, ..ScalingConfig::default() };
    Lab::with(CellConfig { scaling, ..config() })
}

fn group(more: Value) -> Value {
    let mut group = json!({"autoScalingGroupArn": "local"});
    for (name, value) in more.as_object().expect("members") {
        group[name] = value.clone();
    }
    group
}

fn create(lab: &mut Lab, name: &str, group: Value) -> Value {
    let request = json!({"name": name, "autoScalingGroupProvider": group});
    lab.ok(0, CreateCapacityProvider, &request)["capacityProvider"].clone()
}

fn put(lab: &mut Lab, providers: Value, strategy: Value) -> Value {
    let request =
        json!({"cluster": "default", "capacityProviders": providers, "defaultCapacityProviderStrategy": strategy});
    lab.ok(0, PutClusterCapacityProviders, &request)
}

fn described(lab: &mut Lab, name: &str) -> Value {
    let request = json!({"capacityProviders": [name], "include": ["TAGS"]});
    lab.ok(0, DescribeCapacityProviders, &request)["capacityProviders"][0].clone()
}

/// An instance of a provider, registered and connected.
fn machine(lab: &mut Lab, key: u32, provider: &str) -> String {
    let mut offer = offer(&format!("host-{key}"), 1_000, 1_000);
    let attributes = offer["attributes"].as_array_mut().expect("attributes");
    attributes.push(json!({"name": ATTRIBUTE, "value": provider}));
    let arn = lab.register(key, &offer);
    lab.connect(key, &arn);
    arn
}

#[test]
fn a_provider_is_shown_with_what_ecs_fills_in() {
    let mut lab = lab();
    let arn = "arn:aws:autoscaling:us-east-1:000000000000:autoScalingGroup:1-2:autoScalingGroupName/local";
    let given = json!({"autoScalingGroupArn": arn, "managedScaling": {"status": "ENABLED", "targetCapacity": 80},
        "managedTerminationProtection": "ENABLED"});
    let request =
        json!({"name": "burst", "autoScalingGroupProvider": given, "tags": [{"key": "team", "value": "blue"}]});
    let made = lab.ok(0, CreateCapacityProvider, &request)["capacityProvider"].clone();
    assert_eq!(
        made,
        json!({
            "capacityProviderArn": "arn:aws:ecs:us-east-1:000000000000:capacity-provider/burst",
            "name": "burst", "status": "ACTIVE", "type": "EC2_AUTOSCALING", "updateStatus": "CREATE_COMPLETE",
            "tags": [{"key": "team", "value": "blue"}],
            "autoScalingGroupProvider": {
                "autoScalingGroupArn": arn, "managedDraining": "ENABLED", "managedTerminationProtection": "ENABLED",
                "managedScaling": {"status": "ENABLED", "targetCapacity": 80, "minimumScalingStepSize": 1,
                    "maximumScalingStepSize": 10_000, "instanceWarmupPeriod": 300},
            },
        })
    );
    assert_eq!(described(&mut lab, "burst"), made);
    assert_eq!(described(&mut lab, made["capacityProviderArn"].as_str().expect("an ARN")), made);
    let plain = create(&mut lab, "plain", json!({"autoScalingGroupArn": "whatever"}));
    let scaling = &plain["autoScalingGroupProvider"]["managedScaling"];
    assert_eq!((&scaling["status"], &scaling["targetCapacity"]), (&json!("DISABLED"), &json!(100)));
}

#[test]
fn everybody_has_fargate_and_pages_have_ten() {
    let mut lab = lab();
    for number in 0..11 {
        create(&mut lab, &format!("p{number:02}"), json!({"autoScalingGroupArn": format!("g{number}")}));
    }
    let names = |page: &Value| -> Vec<String> {
        let all = page["capacityProviders"].as_array().expect("providers").iter();
        all.map(|provider| provider["name"].as_str().expect("a name").to_owned()).collect()
    };
    let first = lab.ok(0, DescribeCapacityProviders, &json!({}));
    assert_eq!(names(&first).len(), 10);
    assert_eq!(names(&first)[..2], ["FARGATE", "FARGATE_SPOT"]);
    let next = lab.ok(0, DescribeCapacityProviders, &json!({"nextToken": first["nextToken"]}));
    assert_eq!(names(&next), ["p08", "p09", "p10"]);
    let known = lab.ok(0, DescribeCapacityProviders, &json!({"capacityProviders": ["FARGATE", "nobody"]}));
    assert_eq!(names(&known), ["FARGATE"]);
    assert_eq!(known["failures"][0]["reason"], "MISSING");
    put(&mut lab, json!(["p03", "FARGATE"]), json!([]));
    assert_eq!(names(&lab.ok(0, DescribeCapacityProviders, &json!({"cluster": "default"}))), ["FARGATE", "p03"]);
}

#[test]
fn what_cannot_be_is_refused_by_name() {
    let mut lab = lab();
    create(&mut lab, "taken", json!({"autoScalingGroupArn": "local"}));
    let of = |name: &str, group: Value| json!({"name": name, "autoScalingGroupProvider": group});
    let other = json!({"autoScalingGroupArn": "other"});
    for (request, code, words) in [
        (of("taken", other.clone()), CLIENT, "already exists"),
        (of("mine", group(json!({}))), CLIENT, "already being used by another capacity provider"),
        (of("fargate-x", other.clone()), INVALID, "reserved"),
        (of("AWSome", other.clone()), INVALID, "reserved"),
        (of("a b", other.clone()), INVALID, "name is invalid"),
        (of("mine", json!({"autoScalingGroupArn": "a/b"})), INVALID, "ARN is invalid"),
        (
            of("mine", json!({"autoScalingGroupArn": "other", "managedScaling": {"status": "ENABLED"}})),
            INVALID,
            "--launcher other=",
        ),
        (
            of("mine", json!({"autoScalingGroupArn": "other", "managedTerminationProtection": "ENABLED"})),
            INVALID,
            "managed scaling must be enabled",
        ),
        (
            of(
                "mine",
                json!({"autoScalingGroupArn": "other", "managedScaling":
                    {"minimumScalingStepSize": 3, "maximumScalingStepSize": 2}}),
            ),
            INVALID,
            "minimumScalingStepSize",
        ),
        (json!({"name": "mine"}), INVALID, "autoScalingGroupProvider"),
        (
            json!({"name": "mine", "cluster": "default", "autoScalingGroupProvider": other}),
            "UnsupportedFeatureException",
            "'cluster'",
        ),
    ] {
        let (given, message) = lab.refused(0, CreateCapacityProvider, &request);
        assert!(given == code && message.contains(words), "{request}: {given}: {message}");
    }
    let managed = json!({"name": "m", "managedInstancesProvider": {"infrastructureRoleArn": "r",
        "instanceLaunchTemplate": {"ec2InstanceProfileArn": "p", "networkConfiguration": {"subnets": ["s"]}}}});
    assert!(lab.refused(0, CreateCapacityProvider, &managed).1.contains("managedInstancesProvider"));
    for operation in [DeleteCapacityProvider, UpdateCapacityProvider] {
        let (member, update) = match operation {
            DeleteCapacityProvider => ("capacityProvider", json!({})),
            _ => ("name", json!({"autoScalingGroupProvider": {}})),
        };
        for (name, words) in [("FARGATE", "reserved"), ("nobody", "does not exist")] {
            let mut request = update.clone();
            request[member] = json!(name);
            let (code, message) = lab.refused(0, operation, &request);
            assert!(code == CLIENT && message.contains(words), "{operation:?} {name}: {message}");
        }
    }
}

#[test]
fn an_update_changes_what_it_names() {
    let mut lab = lab();
    create(&mut lab, "burst", group(json!({"managedScaling": {"status": "ENABLED", "targetCapacity": 70}})));
    let update = json!({"name": "burst", "autoScalingGroupProvider":
        {"managedScaling": {"instanceWarmupPeriod": 30}, "managedDraining": "DISABLED"}});
    let made = lab.ok(0, UpdateCapacityProvider, &update)["capacityProvider"].clone();
    let shown = &made["autoScalingGroupProvider"];
    assert_eq!(shown["managedScaling"]["targetCapacity"], 70);
    assert_eq!(shown["managedScaling"]["status"], "ENABLED");
    assert_eq!(shown["managedScaling"]["instanceWarmupPeriod"], 30);
    assert_eq!((&shown["managedDraining"], &made["updateStatus"]), (&json!("DISABLED"), &json!("UPDATE_COMPLETE")));
    let off = json!({"name": "burst", "autoScalingGroupProvider": {"managedScaling": {"status": "DISABLED"}}});
    lab.ok(0, UpdateCapacityProvider, &off);
    let silent = lab.ok(0, UpdateCapacityProvider, &update)["capacityProvider"].clone();
    assert_eq!(silent["autoScalingGroupProvider"]["managedScaling"]["status"], "DISABLED", "as it was");
}

#[test]
fn one_that_a_cluster_has_is_not_deleted() {
    let mut lab = lab();
    create(&mut lab, "burst", group(json!({})));
    put(&mut lab, json!(["burst"]), json!([]));
    let delete = json!({"capacityProvider": "burst"});
    let failed = lab.ok(0, DeleteCapacityProvider, &delete)["capacityProvider"].clone();
    assert_eq!((&failed["status"], &failed["updateStatus"]), (&json!("ACTIVE"), &json!("DELETE_FAILED")));
    assert!(failed["updateStatusReason"].as_str().expect("a reason").contains("associated with cluster: default"));
    put(&mut lab, json!([]), json!([]));
    let deleted = lab.ok(0, DeleteCapacityProvider, &delete)["capacityProvider"].clone();
    assert_eq!((&deleted["status"], &deleted["updateStatus"]), (&json!("INACTIVE"), &json!("DELETE_COMPLETE")));
    assert_eq!(described(&mut lab, "burst")["status"], "INACTIVE");
    let unknown = json!({"cluster": "default", "capacityProviders": ["burst"], "defaultCapacityProviderStrategy": []});
    assert!(lab.refused(0, PutClusterCapacityProviders, &unknown).1.contains("was not found"));
    assert_eq!(create(&mut lab, "burst", group(json!({})))["status"], "ACTIVE", "the name is free again");
}

#[test]
fn a_provider_has_tags_like_anything_else() {
    let mut lab = lab();
    let made = create(&mut lab, "burst", group(json!({})));
    let arn = made["capacityProviderArn"].clone();
    lab.ok(0, TagResource, &json!({"resourceArn": arn, "tags": [{"key": "a", "value": "b"}]}));
    assert_eq!(
        lab.ok(0, ListTagsForResource, &json!({"resourceArn": arn}))["tags"],
        json!([{"key": "a", "value": "b"}])
    );
    assert_eq!(described(&mut lab, "burst")["tags"], json!([{"key": "a", "value": "b"}]));
}

#[test]
fn tasks_go_to_the_instances_of_their_provider_by_base_and_weight() {
    let mut lab = lab();
    for (number, name) in [(1, "one"), (2, "two")] {
        create(&mut lab, name, json!({"autoScalingGroupArn": format!("g-{name}")}));
        machine(&mut lab, number, name);
    }
    lab.instance(3, 1_000, 1_000);
    lab.ok(0, RegisterTaskDefinition, &definition("web", 10, 10, &[]));
    let strategy =
        json!([{"capacityProvider": "one", "base": 2, "weight": 1}, {"capacityProvider": "two", "weight": 3}]);
    put(&mut lab, json!(["one", "two"]), strategy.clone());
    for request in [
        json!({"taskDefinition": "web", "count": 10}),
        json!({"taskDefinition": "web", "count": 10, "capacityProviderStrategy": strategy}),
    ] {
        let made = lab.ok(0, RunTask, &request);
        let tasks = made["tasks"].as_array().expect("tasks");
        let of = |name: &str| tasks.iter().filter(|task| task["capacityProviderName"] == name).count();
        assert_eq!((of("one"), of("two")), (4, 6), "{made}");
        for task in tasks {
            let arn = task["containerInstanceArn"].as_str().expect("it was placed");
            let shown = lab.ok(0, DescribeContainerInstances, &json!({"containerInstances": [arn]}));
            assert_eq!(shown["containerInstances"][0]["capacityProviderName"], task["capacityProviderName"]);
            assert_eq!(task["launchType"], "EC2");
        }
    }
    let plain = lab.ok(0, RunTask, &json!({"taskDefinition": "web", "launchType": "EC2"}));
    assert_eq!(plain["tasks"][0]["capacityProviderName"], Value::Null, "who names a launch type means no provider");
    let gone = json!({"cluster": "default", "capacityProviders": ["two"], "defaultCapacityProviderStrategy": []});
    assert_eq!(lab.refused(0, PutClusterCapacityProviders, &gone).0, "ResourceInUseException");
}

#[test]
fn without_managed_scaling_what_has_no_room_fails() {
    let mut lab = lab();
    create(&mut lab, "one", json!({"autoScalingGroupArn": "g"}));
    put(&mut lab, json!(["one"]), json!([{"capacityProvider": "one", "weight": 1}]));
    lab.instance(1, 1_000, 1_000);
    lab.ok(0, RegisterTaskDefinition, &definition("web", 10, 10, &[]));
    let made = lab.ok(0, RunTask, &json!({"taskDefinition": "web"}));
    assert_eq!((&made["tasks"], &made["failures"][0]["reason"]), (&json!([]), &json!("ATTRIBUTE")));
}

#[test]
fn a_fargate_strategy_runs_fargate_tasks_on_the_clusters_instances() {
    let mut lab = lab();
    let mut host = offer("host", 4_096, 8_192);
    host["attributes"].as_array_mut().expect("attributes").push(json!({"name": "ecs.capability.task-eni"}));
    let arn = lab.register(1, &host);
    lab.connect(1, &arn);
    put(&mut lab, json!(["FARGATE", "FARGATE_SPOT"]), json!([{"capacityProvider": "FARGATE_SPOT", "weight": 1}]));
    lab.ok(0, RegisterTaskDefinition, &definition("web", 10, 10, &[]));
    let (code, message) = lab.refused(0, RunTask, &json!({"taskDefinition": "web"}));
    assert!(code == INVALID && message.contains("FARGATE"), "{message}");
    let constrained = json!({"taskDefinition": "web", "placementConstraints": [{"type": "distinctInstance"}]});
    assert!(lab.refused(0, RunTask, &constrained).1.contains("not supported with FARGATE"));
    let mixed = json!({"cluster": "default", "capacityProviders": ["FARGATE", "own"], "defaultCapacityProviderStrategy":
        [{"capacityProvider": "FARGATE", "weight": 1}, {"capacityProvider": "own", "weight": 1}]});
    create(&mut lab, "own", group(json!({})));
    assert!(lab.refused(0, PutClusterCapacityProviders, &mixed).1.contains("mix of capacity providers"));
}

proptest! {
    /// The base is had first; of the rest nobody is a whole task away from its share; all are given away.
    #[test]
    fn a_strategy_is_exact(
        weights in prop::collection::vec(0usize..=1_000, 1..6),
        base in 0usize..20,
        based in 0usize..6,
        count in 1usize..200,
    ) {
        prop_assume!(weights.iter().any(|&weight| weight > 0));
        let based = based % weights.len();
        let mut lab = lab();
        let items: Vec<_> = weights.iter().enumerate().map(|(at, weight)| {
            create(&mut lab, &format!("p{at}"), json!({"autoScalingGroupArn": format!("g{at}")}));
            json!({"capacityProvider": format!("p{at}"), "weight": weight, "base": if at == based { base } else { 0 }})
        }).collect();
        let items: Vec<longshore_api::ecs::types::CapacityProviderStrategyItem> =
            serde_json::from_value(json!(items)).expect("items");
        let cluster = Cluster { default_strategy: items, ..Cluster::new(ClusterId(1), "c") };
        let strategy = Strategy::of_call(&lab.cell.snapshot(), &cluster, &[]).expect("it can be used");
        let strategy = strategy.expect("there is one");
        let shares = strategy.distribute(count);
        prop_assert_eq!(shares.iter().map(|(_, share)| share).sum::<usize>(), count);
        let share = |at: usize| {
            let own = shares.iter().find(|(name, _)| **name == format!("p{at}"));
            own.map_or(0, |(_, share)| *share)
        };
        let rest = count - base.min(count);
        let sum: usize = weights.iter().sum();
        for (at, weight) in weights.iter().enumerate() {
            let own = share(at) - if at == based { base.min(count) } else { 0 };
            prop_assert!((own * sum).abs_diff(rest * weight) < sum, "{shares:?}");
            prop_assert!(*weight > 0 || own == 0, "weight 0 gets nothing but its base");
        }
    }
}

/// A provider `burst` over the launcher, in the default cluster, by default.
fn bursting(scaling: Value) -> Lab {
    let mut lab = lab();
    let mut managed = json!({"status": "ENABLED", "instanceWarmupPeriod": 20});
    for (name, value) in scaling.as_object().expect("members") {
        managed[name] = value.clone();
    }
    create(&mut lab, "burst", group(json!({"managedScaling": managed, "managedTerminationProtection": "ENABLED"})));
    put(&mut lab, json!(["burst"]), json!([{"capacityProvider": "burst", "weight": 1}]));
    lab.ok(0, RegisterTaskDefinition, &definition("half", 500, 100, &[]));
    lab
}

fn run(lab: &mut Lab, count: usize) -> Vec<String> {
    let made = lab.ok(0, RunTask, &json!({"taskDefinition": "half", "count": count}));
    assert_eq!(made["failures"], json!([]));
    let tasks = made["tasks"].as_array().expect("tasks").iter();
    tasks.map(|task| task["taskArn"].as_str().expect("an ARN").to_owned()).collect()
}

fn orders(lab: &mut Lab) -> Vec<LauncherOrder> {
    let now = lab.now;
    lab.cell.snapshot().launcher_orders(now)
}

/// How many machines the launcher is to add.
fn to_add(lab: &mut Lab) -> u32 {
    orders(lab).iter().filter_map(|order| order.request.count).sum()
}

fn answer(lab: &mut Lab, order: &LauncherOrder, outcome: Result<(), Arc<str>>) {
    let (fleet, order) = (order.fleet.clone(), order.order);
    lab.apply(Command::LauncherAnswered(LauncherAnswer { fleet, order, outcome }));
}

fn waiting(lab: &mut Lab) -> usize {
    lab.cell.snapshot().tasks().filter(|task| task.last_status() == TaskStatus::Provisioning).count()
}

fn stop_all(lab: &mut Lab, tasks: &[String], keys: std::ops::RangeInclusive<u32>) {
    for task in tasks {
        lab.ok(0, StopTask, &json!({"task": task}));
        let home = lab.describe(task)["containerInstanceArn"].clone();
        if home.is_null() {
            continue;
        }
        for key in keys.clone() {
            let shown = lab.ok(0, DescribeContainerInstances, &json!({"containerInstances": [home]}));
            let host = format!("host-{key}");
            if shown["containerInstances"][0]["attributes"].to_string().contains(&host) {
                lab.report(key, task, "STOPPED");
            }
        }
    }
}

#[test]
fn tasks_wait_until_machines_have_come() {
    let mut lab = bursting(json!({}));
    let tasks = run(&mut lab, 5);
    assert_eq!(lab.describe(&tasks[0])["lastStatus"], "PROVISIONING");
    assert_eq!(lab.describe(&tasks[0])["capacityProviderName"], "burst");
    lab.pass(1_500);
    assert_eq!(to_add(&mut lab), 1, "nobody knows yet how large a machine is");
    let order = orders(&mut lab).remove(0);
    assert_eq!(order.request.instance_attributes[ATTRIBUTE], "burst".into());
    answer(&mut lab, &order, Ok(()));
    lab.pass(3_000);
    assert!(orders(&mut lab).is_empty(), "it is on its way");
    machine(&mut lab, 1, "burst");
    lab.pass(10);
    assert_eq!(waiting(&mut lab), 3, "two fit a machine");
    lab.pass(1_500);
    assert_eq!(to_add(&mut lab), 2, "three more tasks are two more machines");
    let order = orders(&mut lab).remove(0);
    answer(&mut lab, &order, Ok(()));
    machine(&mut lab, 2, "burst");
    lab.pass(3_000);
    assert_eq!((waiting(&mut lab), to_add(&mut lab)), (1, 0));
    machine(&mut lab, 3, "burst");
    lab.pass(3_000);
    assert_eq!((waiting(&mut lab), orders(&mut lab)), (0, Vec::new()));
    assert!(lab.cell.snapshot().fleets.values().all(|fleet| fleet.orders.is_empty()), "everything came");
}

#[test]
fn machines_are_neither_asked_for_twice_nor_waited_for_for_ever() {
    let mut lab = bursting(json!({"minimumScalingStepSize": 2, "maximumScalingStepSize": 3}));
    run(&mut lab, 10);
    lab.pass(5_000);
    let order = orders(&mut lab).remove(0);
    assert_eq!(order.request.count, Some(2), "the minimum step");
    answer(&mut lab, &order, Err("out of machines".into()));
    assert!(orders(&mut lab).is_empty(), "not at once");
    let reason = described(&mut lab, "burst")["updateStatusReason"].clone();
    assert!(reason.as_str().expect("a reason").contains("out of machines"), "{reason}");
    lab.pass(1_200);
    assert_eq!(orders(&mut lab), vec![order.clone()], "the same order, with the same number");
    answer(&mut lab, &order, Ok(()));
    answer(&mut lab, &order, Ok(()));
    assert_eq!(described(&mut lab, "burst")["updateStatusReason"], Value::Null);
    lab.pass(15_000);
    assert_eq!(to_add(&mut lab), 0, "they may still come");
    lab.pass(10_000);
    let again = orders(&mut lab).remove(0);
    assert!(again.order > order.order, "those of before are given up after the warm-up");
    // Those of before come late; those of now too. What is too much goes again one day.
    answer(&mut lab, &again, Ok(()));
    (1..=4).for_each(|key| drop(machine(&mut lab, key, "burst")));
    lab.pass(10_000);
    assert_eq!(waiting(&mut lab), 2);
    assert_eq!(to_add(&mut lab), 2, "the minimum step, though one is enough");
}

#[test]
fn no_more_machines_than_the_launcher_may_have() {
    let mut lab = bursting(json!({}));
    machine(&mut lab, 1, "burst");
    (0..4).for_each(|_| drop(run(&mut lab, 10)));
    lab.pass(10_000);
    assert_eq!(to_add(&mut lab), 9);
    lab.pass(899_000);
    assert!(waiting(&mut lab) == 0, "a quarter of an hour is all that a task waits");
    assert_eq!(lab.wanted(), 2);
}

#[test]
fn a_surplus_goes_slowly_and_never_with_a_task() {
    let mut lab = bursting(json!({}));
    (1..=5).for_each(|key| drop(machine(&mut lab, key, "burst")));
    let mut tasks = Vec::new();
    (0..5).for_each(|_| tasks.extend(run(&mut lab, 2)));
    assert_eq!(waiting(&mut lab), 0);
    lab.pass(120_000);
    assert!(orders(&mut lab).is_empty(), "all are in use");
    let kept = tasks.split_off(9);
    stop_all(&mut lab, &tasks, 1..=5);
    lab.pass(50_000);
    assert!(orders(&mut lab).is_empty(), "not before they were too many for long enough");
    lab.pass(15_000);
    let order = orders(&mut lab).remove(0);
    assert_eq!(order.request.container_instances.len(), 2, "half of four");
    answer(&mut lab, &order, Ok(()));
    lab.pass(30_000);
    assert!(orders(&mut lab).is_empty(), "a step at a time");
    lab.pass(200_000);
    let gone: usize = orders(&mut lab).iter().map(|order| order.request.container_instances.len()).sum();
    assert_eq!(gone, 2);
    let left = lab.ok(0, ListContainerInstances, &json!({}))["containerInstanceArns"].clone();
    assert_eq!(left, json!([lab.describe(&kept[0])["containerInstanceArn"]]), "the one with the task");
}

#[test]
fn a_burst_ends_a_surplus() {
    let mut lab = bursting(json!({}));
    (1..=4).for_each(|key| drop(machine(&mut lab, key, "burst")));
    lab.pass(50_000);
    let tasks = run(&mut lab, 8);
    lab.pass(30_000);
    stop_all(&mut lab, &tasks, 1..=4);
    lab.pass(50_000);
    assert!(orders(&mut lab).is_empty(), "the clock began anew");
}

#[test]
fn what_is_under_way_survives_a_restart_and_ends_with_the_provider() {
    let mut lab = bursting(json!({}));
    run(&mut lab, 2);
    lab.pass(2_000);
    let before = orders(&mut lab);
    let entities: Vec<_> = lab.cell.entities().collect();
    let mut restarted = crate::cell::Cell::new((**lab.cell.config()).clone());
    for entity in entities {
        let bytes = entity.encode().expect("JSON");
        restarted
            .load(crate::entity::Entity::decode(&entity.key().encode(), &bytes).expect("what was written is read"));
    }
    restarted.loaded(lab.cell.sequence());
    lab.cell = restarted;
    lab.pass(5_000);
    assert_eq!(orders(&mut lab), before, "the same order under the same number, and no other");
    let off = json!({"name": "burst", "autoScalingGroupProvider":
        {"managedScaling": {"status": "DISABLED"}, "managedTerminationProtection": "DISABLED"}});
    lab.ok(0, UpdateCapacityProvider, &off);
    lab.pass(3_000);
    assert!(orders(&mut lab).is_empty() && lab.cell.snapshot().fleets.is_empty());
    assert_eq!(
        lab.cell.next_deadline().filter(|due| due.since(lab.now) < 5_000),
        None,
        "nothing is looked at any more"
    );
}

#[test]
fn what_a_launcher_cannot_bring_does_not_keep_what_is_there() {
    let mut lab = bursting(json!({}));
    (1..=2).for_each(|key| drop(machine(&mut lab, key, "burst")));
    let tasks = run(&mut lab, 5);
    lab.pass(1_500);
    assert_eq!(to_add(&mut lab), 1, "one task found no room");
    let order = orders(&mut lab).remove(0);
    answer(&mut lab, &order, Err("no more of them".into()));
    lab.pass(1_200);
    assert_eq!(orders(&mut lab), vec![order.clone()], "the task still waits");
    stop_all(&mut lab, &tasks, 1..=2);
    lab.pass(3_000);
    assert_eq!(orders(&mut lab), vec![order.clone()], "the launcher may be at it just now");
    answer(&mut lab, &order, Err("still none".into()));
    lab.pass(3_000);
    assert_eq!(orders(&mut lab), Vec::new(), "nobody needs it any more");
    lab.pass(70_000);
    let removal = orders(&mut lab).remove(0);
    assert_eq!((removal.request.action, removal.request.container_instances.len()), ("remove", 1));
}

#[test]
fn an_order_that_is_needed_is_not_given_anew() {
    let mut lab = bursting(json!({"minimumScalingStepSize": 5}));
    machine(&mut lab, 1, "burst");
    run(&mut lab, 3);
    lab.pass(1_500);
    let order = orders(&mut lab).remove(0);
    assert_eq!(order.request.count, Some(5), "one is needed, and four are a surplus");
    for _ in 0..30 {
        for due in orders(&mut lab) {
            assert_eq!(due, order, "it is tried again, later and later");
            answer(&mut lab, &due, Err("none".into()));
        }
        lab.pass(1_000);
    }
}

#[test]
fn a_fleet_is_found_by_the_attribute_of_its_instances() {
    let mut lab = bursting(json!({}));
    machine(&mut lab, 1, "burst");
    machine(&mut lab, 2, "other");
    lab.instance(3, 1_000, 1_000);
    lab.pass(200_000);
    let gone: Vec<_> = orders(&mut lab).into_iter().flat_map(|order| order.request.container_instances).collect();
    assert_eq!(gone.len(), 1, "of three without tasks only one is the provider's");
    assert_eq!(gone[0].attributes[ATTRIBUTE], "burst".into());
}

#[test]
fn a_machine_is_removed_whatever_becomes_of_its_provider() {
    let mut lab = bursting(json!({}));
    machine(&mut lab, 1, "burst");
    lab.pass(90_000);
    let order = orders(&mut lab).remove(0);
    assert_eq!(order.request.container_instances[0].attributes[ATTRIBUTE], "burst".into());
    answer(&mut lab, &order, Err("not now".into()));
    put(&mut lab, json!([]), json!([]));
    lab.pass(3_000);
    assert_eq!(orders(&mut lab), vec![order.clone()], "its cluster has the provider no more");
    lab.ok(0, DeleteCapacityProvider, &json!({"capacityProvider": "burst"}));
    answer(&mut lab, &order, Err("not now either".into()));
    lab.pass(limits::INACTIVE_LIFE_MS + 10_000);
    assert!(lab.cell.snapshot().instances.is_empty(), "the instance is forgotten");
    assert_eq!(orders(&mut lab), vec![order.clone()], "the launcher is told as much as before");
    answer(&mut lab, &order, Ok(()));
    lab.pass(3_000);
    assert!(lab.cell.snapshot().fleets.is_empty(), "then it is over");
}

/// Whatever comes, and in whatever order: no machine with a task is removed, there are never more than there may be,
/// and in the end, when nothing is asked for any more, none is left.
#[derive(Clone, Debug)]
enum Step {
    Run(usize),
    Stop,
    Answer(bool),
    Come,
    Wait(i64),
}

fn steps() -> impl proptest::strategy::Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        (1usize..=10).prop_map(Step::Run),
        Just(Step::Stop),
        any::<bool>().prop_map(Step::Answer),
        Just(Step::Come),
        (100i64..70_000).prop_map(Step::Wait),
    ];
    prop::collection::vec(step, 1..40)
}

/// Machines that the launcher started and has not removed.
fn removed(lab: &mut Lab) -> Vec<String> {
    let all = orders(lab).into_iter().flat_map(|order| order.request.container_instances);
    all.map(|machine| machine.container_instance_arn).collect()
}

fn live_on(lab: &mut Lab, arn: &str) -> usize {
    let snapshot = lab.cell.snapshot();
    let here = |id: String| arn.ends_with(&id);
    let live = snapshot.tasks().filter(|task| task.known != TaskStatus::Stopped);
    live.filter(|task| task.instance.is_some_and(|id| here(id.to_string()))).count()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn nothing_is_removed_under_a_task(steps in steps()) {
        let mut lab = bursting(json!({}));
        let (mut tasks, mut key, mut owed) = (Vec::<String>::new(), 0u32, 0u32);
        for step in steps {
            match step {
                Step::Run(count) => tasks.extend(run(&mut lab, count)),
                Step::Stop => {
                    let ended: Vec<String> = tasks.drain(..tasks.len().div_ceil(2)).collect();
                    stop_all(&mut lab, &ended, 1..=key);
                }
                Step::Answer(good) => {
                    for order in orders(&mut lab) {
                        if good {
                            owed += order.request.count.unwrap_or(0);
                        }
                        answer(&mut lab, &order, if good { Ok(()) } else { Err("no".into()) });
                    }
                }
                Step::Come if owed > 0 => {
                    owed -= 1;
                    key += 1;
                    machine(&mut lab, key, "burst");
                }
                Step::Come => {}
                Step::Wait(ms) => drop(lab.pass(ms)),
            }
            for arn in removed(&mut lab) {
                prop_assert_eq!(live_on(&mut lab, &arn), 0);
            }
            let snapshot = lab.cell.snapshot();
            let asked = snapshot.fleets.values().flat_map(|fleet| &fleet.orders).map(|order| match &order.work {
                Work::Add { count, .. } => *count,
                Work::Remove { .. } => 0,
            });
            prop_assert!(asked.sum::<u32>() <= 10);
        }
    }
}

#[test]
fn a_new_cluster_may_have_providers_at_once() {
    let mut lab = lab();
    create(&mut lab, "burst", group(json!({})));
    let made = lab.ok(0, CreateCluster, &json!({"clusterName": "prod", "capacityProviders": ["burst"]}));
    assert_eq!(made["cluster"]["capacityProviders"], json!(["burst"]));
}
