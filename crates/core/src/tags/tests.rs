use longshore_api::ecs::Operation::{
    CreateCluster, DeleteCluster, DeleteTaskDefinitions, DeregisterContainerInstance, DeregisterTaskDefinition,
    DescribeClusters, DescribeContainerInstances, DescribeTaskDefinition, DescribeTasks, ListTagsForResource,
    RegisterTaskDefinition, RunTask, TagResource, UntagResource,
};
use serde_json::{Value, json};

use super::*;
use crate::fixture::{Lab, definition};
use crate::ids::DefinitionKey;

fn tag(key: &str, value: &str) -> Tag {
    Tag { key: Some(key.to_owned()), value: Some(value.to_owned()) }
}

#[test]
fn good_tags_pass_and_bad_ones_are_named() {
    assert!(check(Some(&[tag("team", "blue"), tag("größe", "7 + 1"), tag("awsome", "aws")])).is_ok());
    let long = "x".repeat(129);
    for (tags, word) in [
        (vec![tag("", "x")], "tag 0"),
        (vec![tag(&long, "x")], "128"),
        (vec![tag("k", &"v".repeat(257))], "'k'"),
        (vec![tag("aws:x", "y")], "reserved"),
        (vec![tag("AWS:x", "y")], "reserved"),
        (vec![tag("x", "aWs:y")], "reserved"),
        (vec![tag("a", "b"), tag("a", "c")], "twice"),
        (vec![tag("a\u{7}", "b")], "character"),
        ((0..51).map(|i| tag(&format!("k{i}"), "v")).collect(), "maximum is 50"),
    ] {
        let error = check(Some(&tags)).expect_err("refused");
        assert!(error.message.contains(word), "{}", error.message);
    }
}

/// A lab with one of each that can have tags, and their ARNs.
fn lab() -> (Lab, [String; 4]) {
    let mut lab = Lab::new();
    let instance = lab.instance(1, 1_000, 1_000);
    lab.ok(0, RegisterTaskDefinition, &definition("web", 10, 10, &[]));
    let task = lab.run("web");
    let cluster = lab.cell.config().cluster_arn("default");
    let definition = lab.cell.config().definition_arn(&DefinitionKey { family: "web".into(), revision: 1 });
    (lab, [cluster, definition, instance, task])
}

fn tags_of(lab: &mut Lab, arn: &str) -> Value {
    lab.ok(0, ListTagsForResource, &json!({"resourceArn": arn}))["tags"].clone()
}

#[test]
fn whatever_has_tags_is_tagged_untagged_and_described_with_them() {
    let (mut lab, arns) = lab();
    for arn in &arns {
        let version = |lab: &mut Lab| (lab.describe(&arns[3])["version"].clone(), lab.cell.sequence());
        let before = version(&mut lab);
        let given = json!([{"key": "team", "value": "blue"}, {"key": "stage", "value": ""}]);
        assert_eq!(lab.ok(0, TagResource, &json!({"resourceArn": arn, "tags": given})), json!({}));
        assert_eq!(tags_of(&mut lab, arn), given);
        let other = json!([{"key": "stage", "value": "prod"}, {"key": "zone", "value": "a"}]);
        lab.ok(0, TagResource, &json!({"resourceArn": arn, "tags": other}));
        lab.ok(0, UntagResource, &json!({"resourceArn": arn, "tagKeys": ["team", "nothing"]}));
        assert_eq!(tags_of(&mut lab, arn), other);
        let after = version(&mut lab);
        assert_eq!((after.0, after.1), (before.0, before.1 + 3), "three writes, and no new version");
        lab.ok(0, TagResource, &json!({"resourceArn": arn, "tags": other}));
        assert_eq!(lab.cell.sequence(), after.1, "nothing changed, nothing is written");
    }
    let [_, definition, instance, task] = &arns;
    let expected = json!([{"key": "stage", "value": "prod"}, {"key": "zone", "value": "a"}]);
    let described = [
        lab.ok(0, DescribeClusters, &json!({"include": ["TAGS"]}))["clusters"][0]["tags"].clone(),
        lab.ok(0, DescribeTaskDefinition, &json!({"taskDefinition": definition, "include": ["TAGS"]}))["tags"].clone(),
        lab.ok(0, DescribeContainerInstances, &json!({"containerInstances": [instance], "include": ["TAGS"]}))
            ["containerInstances"][0]["tags"]
            .clone(),
        lab.ok(0, DescribeTasks, &json!({"tasks": [task], "include": ["TAGS"]}))["tasks"][0]["tags"].clone(),
    ];
    assert!(described.iter().all(|tags| *tags == expected), "{described:?}");
    let without = lab.ok(0, DescribeContainerInstances, &json!({"containerInstances": [instance]}));
    assert_eq!(without["containerInstances"][0]["tags"], json!([]));
}

#[test]
fn a_resource_has_at_most_fifty_tags_without_those_of_the_control_plane() {
    let (mut lab, [cluster, ..]) = lab();
    let many = |from: usize, to: usize| -> Vec<Value> {
        (from..to).map(|i| json!({"key": format!("k{i}"), "value": "v"})).collect()
    };
    lab.ok(0, TagResource, &json!({"resourceArn": cluster, "tags": many(0, 30)}));
    lab.ok(0, TagResource, &json!({"resourceArn": cluster, "tags": many(20, 50)}));
    let (code, message) = lab.refused(0, TagResource, &json!({"resourceArn": cluster, "tags": many(50, 51)}));
    assert_eq!(code, "LimitExceededException");
    assert!(message.contains("51"), "{message}");
    lab.ok(0, TagResource, &json!({"resourceArn": cluster, "tags": [{"key": "k7", "value": "new"}]}));
    let task =
        lab.ok(0, RunTask, &json!({"taskDefinition": "web", "enableECSManagedTags": true}))["tasks"][0]["taskArn"]
            .clone();
    lab.ok(0, TagResource, &json!({"resourceArn": task, "tags": many(0, 50)}));
    let task = task.as_str().expect("an ARN");
    let reserved = |lab: &mut Lab| {
        tags_of(lab, task)
            .as_array()
            .map_or(0, |tags| tags.iter().filter(|tag| tag["key"].as_str().is_some_and(is_reserved)).count())
    };
    assert_eq!(reserved(&mut lab), 1);
    let (code, message) =
        lab.refused(0, UntagResource, &json!({"resourceArn": task, "tagKeys": ["aws:ecs:clusterName"]}));
    assert_eq!(code, "InvalidParameterException");
    assert!(message.contains("aws:ecs:clusterName"), "{message}");
    assert_eq!(reserved(&mut lab), 1);
}

/// The codes of the three operations, and their message.
fn refusals(lab: &mut Lab, arn: &str) -> ([String; 3], String) {
    let (tag, message) =
        lab.refused(0, TagResource, &json!({"resourceArn": arn, "tags": [{"key": "a", "value": "b"}]}));
    let (untag, same) = lab.refused(0, UntagResource, &json!({"resourceArn": arn, "tagKeys": ["a"]}));
    let (list, also) = lab.refused(0, ListTagsForResource, &json!({"resourceArn": arn}));
    assert_eq!((&same, &also), (&message, &message));
    ([tag, untag, list], message)
}

#[test]
fn what_cannot_have_tags_is_refused_for_the_reason_that_it_has() {
    let (mut lab, [cluster, definition, instance, task]) = lab();
    let id = "0123456789abcdef0123456789abcdef";
    let of = |kind: &str| cluster.replace("cluster/default", kind);
    let invalid = ["InvalidParameterException"; 3];
    let absent = ["ResourceNotFoundException", "ResourceNotFoundException", "InvalidParameterException"];
    let no_cluster = ["ClusterNotFoundException"; 3];
    for (arn, codes, word) in [
        ("default".to_owned(), invalid, "is not an ARN"),
        ("arn:aws:s3:::bucket".to_owned(), invalid, "another service"),
        (of("nonsense/x"), invalid, "no kind of resource"),
        (of(&format!("container/default/{id}/{id}")), invalid, "Unsupported resource type: container"),
        (of(&format!("service-deployment/default/web/{id}")), invalid, "Unsupported resource type: service-deployment"),
        (of(&format!("task/{id}")), invalid, "Long arn format must be used for tagging operations"),
        (of(&format!("container-instance/{id}")), invalid, "Long arn format must be used"),
        (of("service/web"), invalid, "Long arn format must be used"),
        (of("cluster/other"), no_cluster, "Cluster not found."),
        (of(&format!("task/other/{id}")), no_cluster, "Cluster not found."),
        (cluster.replace("000000000000", "111111111111"), no_cluster, "Cluster not found."),
        (of(&format!("task/default/{id}")), absent, "The specified task was not found"),
        (of("task/default/web"), absent, "The specified task was not found"),
        (of(&format!("container-instance/default/{id}")), absent, "The specified container instance was not found"),
        (definition.replace(":1", ":2"), absent, "The specified task definition was not found"),
        (definition.replace("us-east-1", "us-east-2"), absent, "The specified task definition was not found"),
        (of("service/default/web"), absent, "The specified service was not found"),
        (of("capacity-provider/spot"), absent, "The specified capacity provider was not found"),
    ] {
        let (given, message) = refusals(&mut lab, &arn);
        assert_eq!(given, codes.map(str::to_owned), "{arn}: {message}");
        assert!(message.contains(word), "{arn}: {message}");
    }
    lab.report(1, &task, "STOPPED");
    let (codes, message) = refusals(&mut lab, &task);
    assert_eq!(codes, invalid.map(str::to_owned));
    assert_eq!(message, "The specified task is stopped. Specify a running task and try again.");
    lab.ok(0, DeregisterContainerInstance, &json!({"containerInstance": instance}));
    assert!(refusals(&mut lab, &instance).1.contains("container instance is inactive"));
    lab.ok(0, DeleteCluster, &json!({"cluster": "default"}));
    let (codes, message) = refusals(&mut lab, &cluster);
    assert_eq!(codes, invalid.map(str::to_owned));
    assert_eq!(message, "The specified cluster is inactive. Specify an active cluster and try again.");
    lab.ok(0, CreateCluster, &json!({}));
    assert_eq!(tags_of(&mut lab, &cluster), json!([]), "a cluster that is made anew has none of the old one's tags");
}

#[test]
fn a_deregistered_definition_keeps_its_tags_until_it_is_deleted() {
    let mut lab = Lab::new();
    lab.ok(0, RegisterTaskDefinition, &definition("job", 10, 10, &[]));
    let arn =
        lab.ok(0, DeregisterTaskDefinition, &json!({"taskDefinition": "job:1"}))["taskDefinition"]["taskDefinitionArn"]
            .clone();
    let arn = arn.as_str().expect("an ARN");
    lab.ok(0, TagResource, &json!({"resourceArn": arn, "tags": [{"key": "a", "value": "b"}]}));
    assert_eq!(tags_of(&mut lab, arn), json!([{"key": "a", "value": "b"}]));
    lab.ok(0, DeleteTaskDefinitions, &json!({"taskDefinitions": [arn]}));
    lab.pass(2 * limits::DELETION_SHOWN_MS);
    assert!(refusals(&mut lab, arn).1.contains("task definition was not found"));
}
