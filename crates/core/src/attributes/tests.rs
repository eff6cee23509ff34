use longshore_api::ecs::Operation::{
    CreateCluster, DeleteAttributes, DeregisterContainerInstance, DescribeContainerInstances, ListAttributes,
    ListContainerInstances, PutAttributes, RegisterContainerInstance, RegisterTaskDefinition, RunTask,
};
use serde_json::{Value, json};

use super::*;
use crate::cell::Cell;
use crate::config::CellConfig;
use crate::fixture::{Lab, definition, offer};

fn put(lab: &mut Lab, arn: &str, name: &str, value: &str) -> Value {
    lab.ok(0, PutAttributes, &json!({"attributes": [{"name": name, "value": value, "targetId": arn}]}))
}

/// The attributes of an instance that callers chose.
fn custom(lab: &mut Lab, arn: &str) -> Vec<(String, Option<String>)> {
    let answer = lab.ok(0, DescribeContainerInstances, &json!({"containerInstances": [arn]}));
    let attributes = answer["containerInstances"][0]["attributes"].as_array().cloned().expect("a list");
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let all = attributes.iter().filter_map(|each| Some((text(&each["name"])?, text(&each["value"]))));
    all.filter(|(name, _)| is_custom(name)).collect()
}

#[test]
fn names_and_values_are_those_that_ecs_documents() {
    for good in ["a", "stack", "A-1_b./\\c", &"x".repeat(128)] {
        assert!(is_name(good), "{good}");
    }
    for bad in ["", "a b", "a:b", "ä", "a@b", &"x".repeat(129)] {
        assert!(!is_name(bad), "{bad}");
    }
    for good in ["a", "team blue", "A-1_b./\\c@d:e", &"x".repeat(128)] {
        assert!(is_value(good), "{good}");
    }
    for bad in ["", " a", "a ", "ä", "a,b", "a\tb", &"x".repeat(129)] {
        assert!(!is_value(bad), "{bad}");
    }
}

#[test]
fn what_is_put_is_answered_described_and_replaced() {
    let mut lab = Lab::new();
    let arn = lab.instance(1, 1_000, 1_000);
    let answer = put(&mut lab, &arn, "stack", "blue");
    assert_eq!(answer, json!({"attributes": [{"name": "stack", "value": "blue", "targetId": arn}]}));
    let id = arn.rsplit('/').next().expect("an id");
    let short = json!({"name": "bare", "targetId": id, "targetType": "container-instance"});
    let answer = lab.ok(0, PutAttributes, &json!({"attributes": [short]}));
    assert_eq!(answer, json!({"attributes": [{"name": "bare", "targetId": arn}]}), "the full ARN, and no value");
    put(&mut lab, &arn, "stack", "green");
    let expected = [("bare".to_owned(), None), ("stack".to_owned(), Some("green".to_owned()))];
    assert_eq!(custom(&mut lab, &arn), expected);
    let before = lab.cell.sequence();
    put(&mut lab, &arn, "stack", "green");
    assert_eq!(lab.cell.sequence(), before, "nothing changed, nothing is written");
    let gone = json!({"attributes": [{"name": "stack", "targetId": arn}, {"name": "never", "targetId": arn}]});
    let answer = lab.ok(0, DeleteAttributes, &gone);
    assert_eq!(answer, json!({"attributes": [{"name": "stack", "value": "green", "targetId": arn}]}));
    assert_eq!(custom(&mut lab, &arn), [("bare".to_owned(), None)]);
}

#[test]
fn one_request_changes_several_instances_or_none() {
    let mut lab = Lab::new();
    let arns = [lab.instance(1, 100, 100), lab.instance(2, 100, 100)];
    let to = |arn: &str, name: &str| json!({"name": name, "value": "x", "targetId": arn});
    lab.ok(0, PutAttributes, &json!({"attributes": [to(&arns[0], "a"), to(&arns[1], "a"), to(&arns[1], "b")]}));
    assert_eq!((custom(&mut lab, &arns[0]).len(), custom(&mut lab, &arns[1]).len()), (1, 2));
    let unknown = format!("{}0", &arns[1][..arns[1].len() - 1]);
    let (code, _) = lab.refused(0, PutAttributes, &json!({"attributes": [to(&arns[0], "c"), to(&unknown, "c")]}));
    assert_eq!(code, "TargetNotFoundException");
    assert_eq!(custom(&mut lab, &arns[0]).len(), 1);
}

#[test]
fn an_instance_has_at_most_ten_custom_attributes() {
    let mut lab = Lab::new();
    let arn = lab.instance(1, 1_000, 1_000);
    let ten: Vec<_> = (0..10).map(|i| json!({"name": format!("a{i}"), "value": "x", "targetId": arn})).collect();
    lab.ok(0, PutAttributes, &json!({"attributes": ten}));
    let (code, message) =
        lab.refused(0, PutAttributes, &json!({"attributes": [{"name": "b", "value": "x", "targetId": arn}]}));
    assert_eq!(code, "AttributeLimitExceededException");
    assert!(message.contains("DeleteAttributes"), "{message}");
    put(&mut lab, &arn, "a3", "y");
    lab.ok(0, DeleteAttributes, &json!({"attributes": [{"name": "a3", "targetId": arn}]}));
    put(&mut lab, &arn, "b", "x");
}

#[test]
fn what_is_wrong_with_a_request_is_said() {
    let mut lab = Lab::new();
    lab.ok(0, CreateCluster, &json!({"clusterName": "other"}));
    let arn = lab.instance(1, 1_000, 1_000);
    let id = arn.rsplit('/').next().expect("an id").to_owned();
    let attribute = |name: &str, value: &str| json!({"name": name, "value": value, "targetId": arn});
    for (attributes, code, word) in [
        (json!([attribute("a b", "x")]), "InvalidParameterException", "a b"),
        (json!([attribute("a", " x")]), "InvalidParameterException", "\" x\""),
        (json!([attribute("a", "")]), "InvalidParameterException", "value of attribute 0"),
        (json!([attribute("ecs.os-type", "x")]), "InvalidParameterException", "ecs.os-type is built in"),
        (json!([attribute("com.amazonaws.ecs.capability.x", "x")]), "InvalidParameterException", "built in"),
        (json!([attribute("longshore.host-id", "x")]), "InvalidParameterException", "built in"),
        (json!([attribute("a", "x"), attribute("a", "y")]), "InvalidParameterException", "twice"),
        (json!([{"name": "a", "value": "x"}]), "InvalidParameterException", "no targetId"),
        (json!([{"name": "a", "value": "x", "targetId": id}]), "InvalidParameterException", "no targetType"),
        (
            json!([{"name": "a", "value": "x", "targetId": "short", "targetType": "container-instance"}]),
            "InvalidParameterException",
            "length",
        ),
        (
            json!([{"name": "a", "value": "x", "targetId": "0".repeat(32), "targetType": "container-instance"}]),
            "TargetNotFoundException",
            "was not found",
        ),
        (
            json!([{"name": "a", "value": "x", "targetId": arn.replace("/default/", "/other/")}]),
            "InvalidParameterException",
            "Identifier is for cluster other",
        ),
        (
            json!([{"name": "a", "value": "x", "targetId": arn.replace("container-instance", "task")}]),
            "InvalidParameterException",
            "not the ARN of",
        ),
        (
            json!([{"name": "a", "value": "x", "targetId": arn.replace("000000000000", "111111111111")}]),
            "TargetNotFoundException",
            "was not found",
        ),
    ] {
        let (given, message) = lab.refused(0, PutAttributes, &json!({"attributes": attributes}));
        assert_eq!(given, code, "{attributes}: {message}");
        assert!(message.contains(word), "{attributes}: {message}");
    }
    let (code, _) = lab.refused(0, DeleteAttributes, &json!({"attributes": [attribute("a", "x")]}));
    assert_eq!(code, "InvalidParameterException");
    let built_in = json!({"attributes": [{"name": "ecs.availability-zone", "targetId": arn}]});
    assert_eq!(lab.refused(0, DeleteAttributes, &built_in).0, "InvalidParameterException");
    let elsewhere = json!({"cluster": "none", "attributes": [attribute("a", "x")]});
    assert_eq!(lab.refused(0, PutAttributes, &elsewhere).0, "ClusterNotFoundException");
    lab.ok(0, DeregisterContainerInstance, &json!({"containerInstance": arn}));
    let (code, _) = lab.refused(0, PutAttributes, &json!({"attributes": [attribute("a", "x")]}));
    assert_eq!(code, "TargetNotFoundException");
}

#[test]
fn listings_are_filtered_and_paged_without_a_loss() {
    let mut lab = Lab::new();
    let arns: Vec<String> = (1..=3).map(|key| lab.instance(key, 100, 100)).collect();
    for (index, arn) in arns.iter().enumerate() {
        put(&mut lab, arn, "rack", &format!("{}", index % 2));
        put(&mut lab, arn, "stack", "blue");
    }
    let list = |lab: &mut Lab, filter: Value| {
        let mut request = json!({"targetType": "container-instance", "maxResults": 2});
        request.as_object_mut().expect("an object").extend(filter.as_object().expect("an object").clone());
        let mut listed = Vec::new();
        loop {
            let answer = lab.ok(0, ListAttributes, &request);
            let page = answer["attributes"].as_array().expect("a list");
            assert!(page.len() <= 2);
            listed.extend(page.iter().cloned());
            match &answer["nextToken"] {
                Value::Null => return listed,
                token => request["nextToken"] = token.clone(),
            }
        }
    };
    let rack = |arn: &str, value: &str| json!({"name": "rack", "value": value, "targetId": arn});
    assert_eq!(
        list(&mut lab, json!({"attributeName": "rack"})),
        [rack(&arns[0], "0"), rack(&arns[1], "1"), rack(&arns[2], "0")],
    );
    assert_eq!(list(&mut lab, json!({"attributeName": "rack", "attributeValue": "1"})), [rack(&arns[1], "1")]);
    assert_eq!(list(&mut lab, json!({"attributeName": "rack", "attributeValue": "2"})), [] as [Value; 0]);
    let all = list(&mut lab, json!({}));
    let names: Vec<(&str, &str)> = all
        .iter()
        .map(|each| (each["targetId"].as_str().expect("an ARN"), each["name"].as_str().expect("a name")))
        .collect();
    let expected: Vec<(&str, &str)> = arns
        .iter()
        .flat_map(|arn| {
            ["ecs.availability-zone", "longshore.host-id", "rack", "stack"].map(|name| (arn.as_str(), name))
        })
        .collect();
    assert_eq!(names, expected);

    let request = json!({"targetType": "container-instance", "maxResults": 6});
    let token = lab.ok(0, ListAttributes, &request)["nextToken"].clone();
    lab.ok(0, DeleteAttributes, &json!({"attributes": [{"name": "longshored", "targetId": arns[1]}]}));
    put(&mut lab, &arns[0], "zebra", "late");
    lab.ok(0, DeleteAttributes, &json!({"attributes": [{"name": "rack", "targetId": arns[1]}]}));
    let rest = lab.ok(0, ListAttributes, &json!({"targetType": "container-instance", "nextToken": token}));
    assert_eq!(rest["attributes"].as_array().map(Vec::len), Some(5), "what stayed is there, once: {rest}");

    let (code, _) = lab.refused(0, ListAttributes, &json!({"targetType": "container-instance", "attributeValue": "x"}));
    assert_eq!(code, "InvalidParameterException");
    for token in ["x", "x/y", "0/"] {
        let request = json!({"targetType": "container-instance", "nextToken": token});
        assert_eq!(lab.refused(0, ListAttributes, &request).0, "InvalidParameterException");
    }
    // A token of another filter begins behind what it names.
    let id = arns[0].rsplit('/').next().expect("an id");
    for (name, left) in [("a", 3), ("stack", 2), ("zebra", 2)] {
        let token = format!("{id}/{name}");
        let listed = list(&mut lab, json!({"attributeName": "stack", "nextToken": token}));
        assert_eq!(listed.len(), left, "{name}");
    }
    lab.ok(0, DeregisterContainerInstance, &json!({"containerInstance": arns[0]}));
    assert_eq!(list(&mut lab, json!({"attributeName": "stack"})).len(), 2, "an INACTIVE instance has none");
}

#[test]
fn placement_sees_a_change_at_once() {
    let mut lab = Lab::new();
    lab.ok(0, RegisterTaskDefinition, &definition("web", 10, 10, &[]));
    let arn = lab.instance(1, 1_000, 1_000);
    let listed = |lab: &mut Lab, filter: &str| {
        let answer = lab.ok(0, ListContainerInstances, &json!({"filter": filter}));
        answer["containerInstanceArns"].as_array().map_or(0, Vec::len)
    };
    assert_eq!(listed(&mut lab, "attribute:stack == blue"), 0);
    put(&mut lab, &arn, "stack", "blue");
    assert_eq!(listed(&mut lab, "attribute:stack == blue"), 1);
    let slots = lab.cell.snapshot();
    assert!(slots.instances().all(|instance| instance.attributes.contains_key("stack")));
    lab.ok(0, RunTask, &json!({"taskDefinition": "web"}));
}

#[test]
fn what_was_put_outlives_the_agent_and_the_server() {
    let mut lab = Lab::new();
    let mut first = offer("host-1", 1_000, 1_000);
    first["attributes"].as_array_mut().expect("a list").push(json!({"name": "from-agent", "value": "1"}));
    let arn = lab.register(1, &first);
    put(&mut lab, &arn, "stack", "blue");
    put(&mut lab, &arn, "from-agent", "2");
    let mut again = offer("host-1", 1_000, 1_000);
    again["containerInstanceArn"] = json!(arn);
    lab.ok(1, RegisterContainerInstance, &again);
    let expected = [("from-agent".to_owned(), Some("2".to_owned())), ("stack".to_owned(), Some("blue".to_owned()))];
    assert_eq!(custom(&mut lab, &arn), expected);
    lab.ok(0, DeleteAttributes, &json!({"attributes": [{"name": "from-agent", "targetId": arn}]}));
    lab.ok(1, RegisterContainerInstance, &again);
    let mut cell = Cell::new(CellConfig::clone(lab.cell.config()));
    lab.cell.entities().for_each(|entity| cell.load(entity));
    cell.loaded(lab.cell.sequence());
    lab.cell = cell;
    assert_eq!(custom(&mut lab, &arn), expected[1..]);
}
