//! What clusters keep, refuse and show.

use longshore_api::ecs::Operation::{
    self, CreateCluster, DeleteCluster, DeregisterContainerInstance, DescribeClusters, PutAccountSettingDefault,
    PutClusterCapacityProviders, RegisterTaskDefinition, RunTask, SubmitTaskStateChange, UpdateCluster,
    UpdateClusterSettings,
};
use serde_json::{Value, json};

use super::create::crowded_out;
use crate::entity::{Cluster, Entity, EntityKey};
use crate::fixture::{Lab, definition, offer};
use crate::ids::ClusterId;

const INVALID: &str = "InvalidParameterException";
const UNSUPPORTED: &str = "UnsupportedFeatureException";

/// The cluster in an answer that holds one.
fn cluster(lab: &mut Lab, operation: Operation, request: &Value) -> Value {
    lab.ok(0, operation, request)["cluster"].clone()
}

/// The only cluster described, with everything there is to include.
fn described(lab: &mut Lab, name: &str) -> Value {
    let include = ["ATTACHMENTS", "CONFIGURATIONS", "SETTINGS", "TAGS"];
    lab.ok(0, DescribeClusters, &json!({"clusters": [name], "include": include}))["clusters"][0].clone()
}

fn insights(value: &str) -> Value {
    json!([{"name": "containerInsights", "value": value}])
}

fn logged_to(group: &str) -> Value {
    json!({"executeCommandConfiguration": {
        "kmsKeyId": "k", "logging": "OVERRIDE", "logConfiguration": {"cloudWatchLogGroupName": group},
    }})
}

/// Everything that CreateCluster keeps.
fn everything() -> Value {
    json!({
        "clusterName": "prod",
        "tags": [{"key": "team", "value": "blue"}, {"key": "stage", "value": "prod"}],
        "settings": insights("enhanced"),
        "configuration": logged_to("exec"),
        "capacityProviders": ["FARGATE", "FARGATE_SPOT"],
        "defaultCapacityProviderStrategy": [{"capacityProvider": "FARGATE_SPOT", "weight": 2}],
    })
}

/// A request with one member changed.
fn with(mut request: Value, member: &str, value: Value) -> Value {
    request[member] = value;
    request
}

#[test]
fn inactive_clusters_make_room_for_new_ones_and_active_ones_do_not() {
    let mut lab = Lab::new();
    for name in ["first", "second"] {
        lab.ok(0, CreateCluster, &json!({"clusterName": name}));
        lab.ok(0, DeleteCluster, &json!({"cluster": name}));
    }
    let clusters = lab.cell.snapshot().clusters;
    assert_eq!(crowded_out(&clusters, "third", 4), Ok(None));
    assert_eq!(crowded_out(&clusters, "third", 3), Ok(Some(EntityKey::Cluster("first".into()))));
    assert_eq!(crowded_out(&clusters, "second", 3), Ok(None), "a name that is known takes no more room");
    let active = clusters.into_iter().filter(|(_, cluster)| cluster.active).collect();
    assert!(crowded_out(&active, "third", 1).is_err());
}

#[test]
fn nothing_is_counted_of_a_cluster_that_is_gone() {
    let mut lab = Lab::new();
    let before = lab.cell.snapshot().counters.len();
    for _ in 0..3 {
        lab.ok(0, CreateCluster, &json!({"clusterName": "brief"}));
        let mut machine = offer("host", 100, 100);
        machine["cluster"] = json!("brief");
        let arn = lab.register(1, &machine);
        lab.connect(1, &arn);
        lab.ok(0, RegisterTaskDefinition, &definition("web", 10, 10, &[]));
        let task = lab.ok(0, RunTask, &json!({"cluster": "brief", "taskDefinition": "web"}))["tasks"][0].clone();
        let stopped = json!({"cluster": "brief", "task": task["taskArn"], "status": "STOPPED"});
        lab.ok(1, SubmitTaskStateChange, &stopped);
        assert_eq!(lab.cell.snapshot().counters.len(), before + 1);
        lab.ok(0, DeregisterContainerInstance, &json!({"cluster": "brief", "containerInstance": arn}));
        lab.ok(0, DeleteCluster, &json!({"cluster": "brief"}));
        assert_eq!(lab.cell.snapshot().counters.len(), before, "though the stopped task is still described");
    }
    lab.pass(3_600_000);
    assert_eq!(lab.cell.snapshot().counters.len(), before, "nor when it is forgotten");
}

#[test]
fn statistics_tell_launch_types_apart() {
    let mut lab = Lab::new();
    let mut external = offer("host", 1_000, 1_000);
    external["attributes"] = json!([{"name": "ecs.capability.external"}]);
    let arn = lab.register(1, &external);
    lab.connect(1, &arn);
    lab.ok(0, RegisterTaskDefinition, &definition("web", 10, 10, &[]));
    let task = lab.run("web");
    lab.report(1, &task, "RUNNING");
    lab.ok(0, RunTask, &json!({"taskDefinition": "web", "launchType": "EXTERNAL", "count": 2}));
    let described = lab.ok(0, DescribeClusters, &json!({"include": ["STATISTICS"]}));
    let statistics = described["clusters"][0]["statistics"].as_array().expect("statistics");
    let counted: Vec<_> = statistics.iter().filter(|pair| pair["value"] != "0").collect();
    let pair = |name: &str, value: &str| json!({"name": name, "value": value});
    assert_eq!(counted, [&pair("runningEC2TasksCount", "1"), &pair("pendingExternalTasksCount", "2")]);
}

#[test]
fn everything_given_is_kept_and_shown_where_it_is_asked_for() {
    let mut lab = Lab::new();
    let made = cluster(&mut lab, CreateCluster, &everything());
    let request = everything();
    for member in ["tags", "settings", "configuration", "capacityProviders"] {
        assert_eq!(made[member], request[member], "{member}");
    }
    let strategy = json!([{"capacityProvider": "FARGATE_SPOT", "base": 0, "weight": 2}]);
    assert_eq!(made["defaultCapacityProviderStrategy"], strategy, "filled in");
    assert_eq!((&made["attachments"], &made["attachmentsStatus"]), (&json!([]), &json!("UPDATE_COMPLETE")));
    assert_eq!(described(&mut lab, "prod"), made);

    let plain = lab.ok(0, DescribeClusters, &json!({"clusters": ["prod"]}))["clusters"][0].clone();
    for member in ["configuration", "attachments", "attachmentsStatus"] {
        assert_eq!(plain[member], Value::Null, "{member} only when asked for");
    }
    for member in ["settings", "tags", "statistics"] {
        assert_eq!(plain[member], json!([]), "{member}");
    }
    assert_eq!(plain["capacityProviders"], request["capacityProviders"], "always");
    assert_eq!(plain["defaultCapacityProviderStrategy"], strategy, "always");
}

#[test]
fn a_cluster_of_a_name_alone_has_what_ecs_gives_it() {
    let mut lab = Lab::new();
    let made = cluster(&mut lab, CreateCluster, &json!({"clusterName": "prod"}));
    assert_eq!(made["settings"], insights("disabled"));
    assert_eq!((&made["capacityProviders"], &made["defaultCapacityProviderStrategy"]), (&json!([]), &json!([])));
    assert_eq!((&made["configuration"], &made["attachmentsStatus"]), (&Value::Null, &Value::Null));
    let empty = json!({"clusterName": "dev", "configuration": {}, "serviceConnectDefaults": {"namespace": ""}});
    assert_eq!(cluster(&mut lab, CreateCluster, &empty)["configuration"], Value::Null);
}

#[test]
fn creating_again_is_answered_unless_it_contradicts_what_is_there() {
    let mut lab = Lab::new();
    let made = cluster(&mut lab, CreateCluster, &everything());
    assert_eq!(cluster(&mut lab, CreateCluster, &everything()), made);
    assert_eq!(
        cluster(&mut lab, CreateCluster, &json!({"clusterName": "prod"})),
        made,
        "what is left out says nothing"
    );
    let reordered = json!([{"key": "stage", "value": "prod"}, {"key": "team", "value": "blue"}]);
    assert_eq!(cluster(&mut lab, CreateCluster, &with(everything(), "tags", reordered)), made);
    for list in ["capacityProviders", "defaultCapacityProviderStrategy"] {
        let mut reversed = everything();
        reversed[list].as_array_mut().expect("a list").reverse();
        assert_eq!(cluster(&mut lab, CreateCluster, &reversed), made, "{list}");
    }
    for (member, value) in [
        ("tags", json!([{"key": "team", "value": "red"}])),
        ("settings", insights("disabled")),
        ("configuration", logged_to("elsewhere")),
        ("capacityProviders", json!(["FARGATE_SPOT"])),
        ("defaultCapacityProviderStrategy", json!([{"capacityProvider": "FARGATE_SPOT", "weight": 3}])),
    ] {
        let (code, message) = lab.refused(0, CreateCluster, &with(everything(), member, value));
        assert_eq!(code, INVALID, "{member}");
        assert!(message.starts_with("Arguments on this idempotent request are inconsistent"), "{message}");
    }
}

#[test]
fn an_inactive_name_is_made_anew_with_nothing_of_the_old() {
    let mut lab = Lab::new();
    lab.ok(0, CreateCluster, &everything());
    let deleted = cluster(&mut lab, DeleteCluster, &json!({"cluster": "prod"}));
    assert_eq!((&deleted["status"], &deleted["settings"]), (&json!("INACTIVE"), &insights("enhanced")));
    let before = lab.cell.sequence();
    assert_eq!(cluster(&mut lab, DeleteCluster, &json!({"cluster": "prod"})), deleted, "it is deleted already");
    assert_eq!(lab.cell.sequence(), before, "and nothing is written for it");
    for (operation, request) in [
        (UpdateCluster, json!({"cluster": "prod", "settings": insights("enabled")})),
        (UpdateClusterSettings, json!({"cluster": "prod", "settings": insights("enabled")})),
        (
            PutClusterCapacityProviders,
            json!({"cluster": "prod", "capacityProviders": [], "defaultCapacityProviderStrategy": []}),
        ),
    ] {
        assert_eq!(lab.refused(0, operation, &request).0, "ClusterNotFoundException", "{operation:?}");
    }
    let made = cluster(&mut lab, CreateCluster, &json!({"clusterName": "prod"}));
    assert_eq!((&made["settings"], &made["tags"]), (&insights("disabled"), &json!([])));
    assert_eq!(described(&mut lab, "prod")["configuration"], Value::Null);
}

#[test]
fn an_update_changes_what_it_names_and_nothing_else() {
    let mut lab = Lab::new();
    lab.ok(0, CreateCluster, &everything());
    let updated = cluster(&mut lab, UpdateCluster, &json!({"cluster": "prod", "settings": insights("enabled")}));
    assert_eq!((&updated["settings"], &updated["configuration"]), (&insights("enabled"), &logged_to("exec")));
    assert_eq!(updated["tags"], json!([]), "an update shows no tags");
    let storage = json!({"managedStorageConfiguration": {"kmsKeyId": "a", "fargateEphemeralStorageKmsKeyId": "b"}});
    let updated = cluster(&mut lab, UpdateCluster, &json!({"cluster": "prod", "configuration": storage}));
    assert_eq!(updated["configuration"], storage, "as a whole");
    let updated =
        cluster(&mut lab, UpdateClusterSettings, &json!({"cluster": "prod", "settings": insights("disabled")}));
    assert_eq!((&updated["settings"], &updated["configuration"]), (&insights("disabled"), &storage));
    let nothing = json!({"cluster": "prod", "configuration": {}});
    assert_eq!(cluster(&mut lab, UpdateCluster, &nothing)["configuration"], Value::Null);
    let shown = described(&mut lab, "prod");
    assert_eq!(shown["capacityProviders"], everything()["capacityProviders"]);
    assert_eq!(shown["tags"], everything()["tags"]);
}

#[test]
fn providers_are_put_as_a_whole() {
    let mut lab = Lab::new();
    let put = |providers: Value, strategy: Value| json!({"cluster": "default", "capacityProviders": providers, "defaultCapacityProviderStrategy": strategy});
    let strategy = json!([
        {"capacityProvider": "FARGATE", "base": 100_000, "weight": 0},
        {"capacityProvider": "FARGATE_SPOT", "base": 0, "weight": 1_000},
    ]);
    let both = put(json!(["FARGATE", "FARGATE_SPOT"]), strategy.clone());
    let shown = cluster(&mut lab, PutClusterCapacityProviders, &both);
    assert_eq!(shown["defaultCapacityProviderStrategy"], strategy);
    assert_eq!(shown["attachmentsStatus"], "UPDATE_COMPLETE");
    let shown = cluster(&mut lab, PutClusterCapacityProviders, &put(json!(["FARGATE"]), json!([])));
    assert_eq!(
        (&shown["capacityProviders"], &shown["defaultCapacityProviderStrategy"]),
        (&json!(["FARGATE"]), &json!([]))
    );
    let shown = cluster(&mut lab, PutClusterCapacityProviders, &put(json!([]), json!([])));
    assert_eq!((&shown["capacityProviders"], &shown["attachmentsStatus"]), (&json!([]), &Value::Null));
    let nobody = json!({"cluster": "", "capacityProviders": [], "defaultCapacityProviderStrategy": []});
    assert_eq!(lab.refused(0, PutClusterCapacityProviders, &nobody).0, INVALID, "an empty variable is not `default`");
}

/// Refusals that are the same for CreateCluster and for the operation that changes the member later.
#[test]
fn what_contradicts_itself_is_refused_in_ecs_words() {
    let mut lab = Lab::new();
    let strategy = |items: Value| json!({"capacityProviders": ["FARGATE", "FARGATE_SPOT"], "defaultCapacityProviderStrategy": items});
    let exec = |configuration: Value| json!({"configuration": {"executeCommandConfiguration": configuration}});
    let storage = |configuration: Value| json!({"configuration": {"managedStorageConfiguration": configuration}});
    let logs = json!({"cloudWatchLogGroupName": "exec"});
    for (members, words) in [
        (json!({"settings": insights("on")}), "Invalid setting 'value'"),
        (json!({"settings": [{"name": "containerInsights"}]}), "Invalid setting 'value'"),
        (json!({"settings": [{"value": "enabled"}]}), "Invalid setting 'name'"),
        (json!({"settings": [insights("enabled")[0], insights("disabled")[0]]}), "twice"),
        (exec(json!({"logging": "NONE", "logConfiguration": logs})), "You must set logging to 'OVERRIDE'"),
        (exec(json!({"logConfiguration": logs})), "You must set logging to 'OVERRIDE'"),
        (exec(json!({"logging": "OVERRIDE"})), "A CloudWatch log group name or S3 bucket name must be specified"),
        (exec(json!({"logging": "OVERRIDE", "logConfiguration": {"s3KeyPrefix": "x"}})), "must be specified"),
        (exec(json!({"kmsKeyId": "k".repeat(2_049)})), "kmsKeyId can have at most 2048"),
        (storage(json!({"kmsKeyId": "arn:aws:kms:us-east-1:000000000000:key/mrk-1"})), "single region"),
        (storage(json!({"fargateEphemeralStorageKmsKeyId": "mrk-1"})), "single region"),
        (json!({"capacityProviders": ["mine"]}), "The specified capacity provider was not found"),
        (json!({"capacityProviders": ["FARGATE", "FARGATE"]}), "twice"),
        (json!({"capacityProviders": vec!["FARGATE"; 21]}), "maximum number of capacity providers per cluster"),
        (
            json!({"capacityProviders": ["FARGATE"], "defaultCapacityProviderStrategy": [{"capacityProvider": "FARGATE_SPOT"}]}),
            "not associated with the cluster",
        ),
        (
            strategy(
                json!([{"capacityProvider": "FARGATE", "base": 1}, {"capacityProvider": "FARGATE_SPOT", "base": 2}]),
            ),
            "multiple capacity providers with a base value defined",
        ),
        (strategy(json!([{"capacityProvider": "FARGATE"}, {"capacityProvider": "FARGATE"}])), "twice in the strategy"),
    ] {
        let with_name = |name: &str| with(members.clone(), name, json!("default"));
        let later = match &members {
            members if members["capacityProviders"].is_array() => PutClusterCapacityProviders,
            _ => UpdateCluster,
        };
        let mut update = with_name("cluster");
        if later == PutClusterCapacityProviders && update["defaultCapacityProviderStrategy"].is_null() {
            update["defaultCapacityProviderStrategy"] = json!([]);
        }
        for (operation, request) in [(CreateCluster, with_name("clusterName")), (later, update)] {
            let (code, message) = lab.refused(0, operation, &request);
            assert_eq!(code, INVALID, "{operation:?} {request}");
            assert!(message.contains(words), "{operation:?}: {message}");
        }
    }
    let settings = json!({"cluster": "default", "settings": []});
    assert_eq!(lab.refused(0, UpdateClusterSettings, &settings).0, INVALID);
    for operation in [UpdateCluster, UpdateClusterSettings, DeleteCluster] {
        let (code, message) = lab.refused(0, operation, &json!({"cluster": "", "settings": insights("enabled")}));
        assert_eq!(code, INVALID);
        assert!(message.starts_with("Cluster can not be blank"), "{message}");
    }
}

#[test]
fn a_namespace_is_refused_by_name() {
    let mut lab = Lab::new();
    let defaults = json!({"namespace": "internal"});
    for (operation, request) in [
        (CreateCluster, json!({"clusterName": "prod", "serviceConnectDefaults": defaults})),
        (UpdateCluster, json!({"cluster": "default", "serviceConnectDefaults": defaults})),
    ] {
        let (code, message) = lab.refused(0, operation, &request);
        assert_eq!(code, UNSUPPORTED);
        assert!(message.contains("serviceConnectDefaults"), "{message}");
    }
}

#[test]
fn logging_that_nobody_names_is_ecs_default() {
    let mut lab = Lab::new();
    let given = json!({"cluster": "default", "configuration": {"executeCommandConfiguration": {"kmsKeyId": "k"}}});
    let shown = cluster(&mut lab, UpdateCluster, &given)["configuration"].clone();
    assert_eq!(shown, json!({"executeCommandConfiguration": {"kmsKeyId": "k", "logging": "DEFAULT"}}));
}

#[test]
fn a_default_strategy_is_never_passed_over() {
    let mut lab = Lab::new();
    lab.instance(1, 1_000, 1_000);
    lab.ok(0, RegisterTaskDefinition, &definition("web", 10, 10, &[]));
    let put = |weight: i32| {
        json!({"cluster": "default", "capacityProviders": ["FARGATE"],
        "defaultCapacityProviderStrategy": [{"capacityProvider": "FARGATE", "base": 1, "weight": weight}]})
    };
    let run = json!({"taskDefinition": "web"});
    lab.ok(0, PutClusterCapacityProviders, &put(1));
    let (code, message) = lab.refused(0, RunTask, &run);
    assert_eq!((code.as_str(), message.as_str()), (INVALID, "Task definition does not support launch_type FARGATE."));
    lab.ok(0, PutClusterCapacityProviders, &put(0));
    let (code, message) = lab.refused(0, RunTask, &run);
    assert_eq!(code, INVALID);
    assert!(message.starts_with("There are no capacity providers with a weight value greater than zero"), "{message}");
    let placed = lab.ok(0, RunTask, &with(run.clone(), "launchType", json!("EC2")));
    assert_eq!(placed["failures"], json!([]), "a launch type says it all");
    let none = json!({"cluster": "default", "capacityProviders": ["FARGATE"], "defaultCapacityProviderStrategy": []});
    lab.ok(0, PutClusterCapacityProviders, &none);
    lab.run("web");
}

#[test]
fn new_clusters_are_observed_as_the_account_says_unless_they_say_themselves() {
    let mut lab = Lab::new();
    lab.ok(0, PutAccountSettingDefault, &json!({"name": "containerInsights", "value": "enhanced"}));
    assert_eq!(described(&mut lab, "default")["settings"], insights("disabled"), "what is there stays as it is");
    let made = cluster(&mut lab, CreateCluster, &json!({"clusterName": "prod"}));
    assert_eq!(made["settings"], insights("enhanced"));
    let own = json!({"clusterName": "dev", "settings": insights("disabled")});
    assert_eq!(cluster(&mut lab, CreateCluster, &own)["settings"], insights("disabled"));
    let again = cluster(&mut lab, CreateCluster, &json!({"clusterName": "dev"}));
    assert_eq!(again["settings"], insights("disabled"), "a default contradicts nothing");
}

#[test]
fn old_records_load_and_are_written_as_they_were_and_new_ones_survive() {
    let key = EntityKey::Cluster("prod".into());
    let old = r#"{"id":7,"name":"prod","active":true}"#;
    let read = Entity::decode(&key.encode(), old.as_bytes()).expect("old records load");
    assert_eq!(read, Entity::Cluster(Cluster::new(ClusterId(7), "prod").into()));
    assert_eq!(String::from_utf8(read.encode().expect("JSON")).expect("text"), old);

    let mut lab = Lab::new();
    lab.ok(0, CreateCluster, &everything());
    let known = lab.cell.snapshot().clusters.get("prod").cloned().expect("made");
    let stored = Entity::Cluster(known.clone()).encode().expect("JSON");
    assert_eq!(Entity::decode(&key.encode(), &stored).expect("reads"), Entity::Cluster(known));
}
