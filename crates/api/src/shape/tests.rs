use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Kind, Shape, Violation, ViolationKind, check};
use crate::ecs::{Operation, Request, shapes};
use crate::error::ApiError;

/// Decodes `value` as a request of `operation`; the code and message the caller would see.
fn refusal(operation: Operation, value: &Value) -> Option<(&'static str, String)> {
    Request::decode(operation, value).err().map(|violation| {
        let error = ApiError::from(violation);
        (error.code.name, error.message)
    })
}

fn path_of(operation: Operation, value: &Value) -> String {
    Request::decode(operation, value).expect_err("is refused").path
}

#[test]
fn a_good_request_passes_whatever_else_it_carries() {
    let value = json!({"taskDefinition": "f:1", "count": 2, "cluster": null, "group": null, "notAMember": [null]});
    let Ok(Request::RunTask(request)) = Request::decode(Operation::RunTask, &value) else { panic!("refused") };
    assert_eq!((request.task_definition.as_str(), request.count, request.cluster), ("f:1", Some(2), None));
}

#[test]
fn wrong_types_are_serialization_exceptions_with_a_path() {
    for (value, path) in [
        (json!([]), ""),
        (json!({"family": 5}), "family"),
        (json!({"family": "f", "containerDefinitions": {}}), "containerDefinitions"),
        (json!({"family": "f", "containerDefinitions": [null]}), "containerDefinitions[0]"),
        (json!({"family": "f", "containerDefinitions": [{"name": "a", "cpu": "5"}]}), "containerDefinitions[0].cpu"),
        (json!({"family": "f", "containerDefinitions": [{"cpu": 5.0}]}), "containerDefinitions[0].cpu"),
        (json!({"family": "f", "containerDefinitions": [{"cpu": 2_147_483_648_u64}]}), "containerDefinitions[0].cpu"),
        (json!({"family": "f", "containerDefinitions": [{"essential": "true"}]}), "containerDefinitions[0].essential"),
        (
            json!({"family": "f", "containerDefinitions": [{}, {"dockerLabels": {"a.b": 1}}]}),
            "containerDefinitions[1].dockerLabels[\"a.b\"]",
        ),
    ] {
        let violation = Request::decode(Operation::RegisterTaskDefinition, &value).expect_err("is refused");
        assert_eq!(violation.path, path, "{value}");
        assert!(matches!(violation.kind, ViolationKind::WrongType { .. }), "{violation}");
        assert_eq!(ApiError::from(violation).code.name, "SerializationException");
    }
}

#[test]
fn types_come_before_what_is_missing() {
    let value = json!({"containerDefinitions": [{"cpu": "5"}]});
    assert_eq!(path_of(Operation::RegisterTaskDefinition, &value), "containerDefinitions[0].cpu");
}

#[test]
fn a_missing_member_is_refused_with_the_operations_own_code() {
    let value = json!({"containerDefinitions": []});
    let expected = Some(("ClientException", "family is required and must not be null.".to_owned()));
    assert_eq!(refusal(Operation::RegisterTaskDefinition, &value), expected);
    let expected = Some(("InvalidParameterException", "taskDefinition is required and must not be null.".to_owned()));
    assert_eq!(refusal(Operation::RunTask, &json!({"taskDefinition": null})), expected);
}

#[test]
fn enums_are_closed() {
    let value = json!({"taskDefinition": "f", "launchType": "MOON"});
    let (code, message) = refusal(Operation::RunTask, &value).expect("is refused");
    assert_eq!(code, "InvalidParameterException");
    assert!(message.starts_with("launchType must be one of [EC2, FARGATE,"), "{message}");
    assert!(message.ends_with("but was 'MOON'."), "{message}");
}

#[test]
fn limits_of_the_overlay_hold_on_one_use_of_a_shared_shape() {
    for (count, good) in [(0, false), (1, true), (10, true), (11, false)] {
        let value = json!({"taskDefinition": "f", "count": count});
        assert_eq!(refusal(Operation::RunTask, &value).is_none(), good, "{count}");
    }
    let tasks: Vec<String> = (0..101).map(|n| n.to_string()).collect();
    let expected =
        Some(("InvalidParameterException", "tasks must have a length of at most 100, but has 101.".to_owned()));
    assert_eq!(refusal(Operation::DescribeTasks, &json!({"tasks": tasks})), expected);
    assert_eq!(refusal(Operation::DescribeTasks, &json!({"tasks": tasks[1..]})), None);
    let expected = Some(("InvalidParameterException", "Tasks cannot be empty.".to_owned()));
    assert_eq!(refusal(Operation::DescribeTasks, &json!({"tasks": []})), expected);
}

#[test]
fn limits_of_the_model_hold_wherever_the_shape_is_used() {
    let tag = |key: &str| json!({"taskDefinition": "f", "tags": [{"key": "fine"}, {"key": key, "value": "v"}]});
    assert_eq!(refusal(Operation::RunTask, &tag("team:a/b +é@x")), None);
    assert_eq!(path_of(Operation::RunTask, &tag(&"k".repeat(129))), "tags[1].key");
    assert_eq!(path_of(Operation::RunTask, &tag("")), "tags[1].key");
    assert_eq!(path_of(Operation::RunTask, &tag("a;b")), "tags[1].key");
    // Characters, not bytes, are counted.
    assert_eq!(refusal(Operation::RunTask, &tag(&"é".repeat(128))), None);
    let many: Vec<Value> = (0..51).map(|n| json!({"key": n.to_string()})).collect();
    assert_eq!(path_of(Operation::RunTask, &json!({"taskDefinition": "f", "tags": many})), "tags");
    let base = json!({"taskDefinition": "f", "capacityProviderStrategy": [{"capacityProvider": "x", "base": 100_001}]});
    assert_eq!(path_of(Operation::RunTask, &base), "capacityProviderStrategy[0].base");
}

#[test]
fn a_union_has_exactly_one_member() {
    let violation = check(&shapes::SHARING_STRATEGY, &json!({})).expect_err("is refused");
    assert_eq!(violation.kind, ViolationKind::NotExactlyOne { found: 0 });
}

#[test]
fn a_shape_that_holds_itself_is_cut_off() {
    static NEST: Shape = Shape::new("Nest", Kind::List { item: &NEST, item_name: None, flattened: false });
    let nested = |depth| (0..depth).fold(json!([]), |inner, _| json!([inner]));
    assert_eq!(check(&NEST, &nested(20)), Ok(()));
    assert_eq!(check(&NEST, &nested(100)).expect_err("is refused").kind, ViolationKind::TooDeep);
}

#[test]
fn messages_do_not_repeat_megabytes() {
    let value = json!({"taskDefinition": "f", "launchType": "x".repeat(1_000_000)});
    assert!(refusal(Operation::RunTask, &value).expect("is refused").1.len() < 1000);
}

#[test]
fn members_that_only_agents_send_are_read() {
    let value = json!({"clientToken": "t", "cluster": "c"});
    let Ok(Request::RegisterContainerInstance(request)) = Request::decode(Operation::RegisterContainerInstance, &value)
    else {
        panic!("refused")
    };
    assert_eq!(request.client_token.as_deref(), Some("t"));
    let decoded = Request::decode(Operation::DiscoverPollEndpoint, &json!({"zoneId": "use1-az1"}));
    let Ok(Request::DiscoverPollEndpoint(request)) = decoded else { panic!("refused") };
    assert_eq!(request.zone_id.as_deref(), Some("use1-az1"));
}

#[test]
fn a_path_joins_members_and_indexes() {
    let violation = Violation::new(ViolationKind::MissingRequired).under("name").at(3).under("containerDefinitions");
    assert_eq!(violation.path, "containerDefinitions[3].name");
}

/// Any JSON, built mostly from names that the models know, so that the walk gets somewhere.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-5_i64..300).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[A-Z]{1,7}|bridge|\\PC{0,5}".prop_map(Value::from),
    ];
    let name = proptest::sample::select(vec![
        "family",
        "containerDefinitions",
        "name",
        "image",
        "cpu",
        "memory",
        "tags",
        "key",
        "value",
        "environment",
        "portMappings",
        "hostPort",
        "volumes",
        "host",
        "overrides",
        "containerOverrides",
        "command",
        "networkMode",
        "taskDefinition",
        "count",
        "placementStrategy",
        "type",
        "dockerLabels",
        "tasks",
        "cluster",
        "settings",
    ]);
    leaf.prop_recursive(6, 64, 6, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::vec((name.clone(), inner), 0..6)
                .prop_map(|entries| entries.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()),
        ]
    })
}

proptest! {
    /// The tables and the types agree: what the check lets through, the types read. And whatever
    /// is read is written so that it reads the same.
    #[test]
    fn the_check_never_panics_and_passes_only_what_the_types_read(value in any_json(), index in 0..Operation::ALL.len()) {
        let operation = Operation::ALL[index];
        match Request::decode(operation, &value) {
            Err(violation) => prop_assert!(!matches!(violation.kind, ViolationKind::Unreadable(_)), "{violation:?}"),
            Ok(request) => {
                let written: Value = serde_json::from_slice(&request.to_json()).unwrap();
                prop_assert_eq!(Request::decode(operation, &written).unwrap(), request);
            }
        }
    }
}
