use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::*;
use crate::error::SERIALIZATION_EXCEPTION;
use crate::{ApiError, Sensitive, Timestamp, ecs};

fn refused(operation: Operation, value: &Value) -> (&'static str, String) {
    let error = ApiError::from(Request::decode(operation, value).expect_err("refused"));
    (error.code.name, error.message)
}

#[test]
fn names_lead_back_and_are_none_of_ecs() {
    let names: BTreeSet<&str> = Operation::ALL.iter().map(|operation| operation.name()).collect();
    assert_eq!(names.len(), Operation::ALL.len());
    for operation in Operation::ALL {
        assert_eq!(Operation::from_name(operation.name()), Some(*operation));
        assert_eq!(ecs::Operation::from_name(operation.name()), None);
    }
    assert_eq!(Operation::from_name("createJoinToken"), None);
}

#[test]
fn what_a_client_writes_the_server_reads() {
    let requests: [Request; 16] = [
        CreateJoinTokenRequest { cluster: Some("prod".to_owned()), uses: Some(2), expires_in_seconds: None }.into(),
        ListJoinTokensRequest { max_results: Some(5), next_token: Some("x".to_owned()) }.into(),
        RevokeJoinTokenRequest { token_id: "LSTK".to_owned() }.into(),
        JoinContainerInstanceRequest { client_token: "c".to_owned(), instances: Some(256) }.into(),
        ListInstanceIdentitiesRequest::default().into(),
        RevokeInstanceIdentityRequest { access_key_id: Some("LSIN".to_owned()), container_instance: None }.into(),
        ReleaseMassLossBrakeRequest { cluster: "default".to_owned() }.into(),
        DescribeServerRequest {}.into(),
        FindTasksRequest { cluster: None, id_prefix: "01a2".to_owned() }.into(),
        ExplainPlacementRequest { count: Some(3), task_definition: "web:1".to_owned(), ..Default::default() }.into(),
        DescribeNetworkRequest {}.into(),
        SetClusterSchedulerRequest {
            cluster: Some("c".to_owned()),
            deadline_seconds: Some(5),
            fallback: Some(SchedulerFallback::Wait),
            url: "http://127.0.0.1:1/place".to_owned(),
        }
        .into(),
        UnsetClusterSchedulerRequest::default().into(),
        DescribeClusterSchedulerRequest::default().into(),
        GetTaskLogsRequest {
            since: Some(Timestamp::from_millis(1_500)),
            tail: Some(0),
            task: "01a2".to_owned(),
            wait_seconds: Some(10),
            ..GetTaskLogsRequest::default()
        }
        .into(),
        SubmitTaskLogsRequest {
            entries: vec![LogEntry { data: "aGkK".to_owned(), stream: LogStream::Stderr, time: "t".to_owned() }],
            failure: Some(LogFailure { message: "no".to_owned(), reason: LogFailureReason::NoContainer }),
            request_id: "r".to_owned(),
            ..SubmitTaskLogsRequest::default()
        }
        .into(),
    ];
    for request in requests {
        let value = serde_json::from_slice(&request.to_json()).expect("JSON");
        assert_eq!(Request::decode(request.operation(), &value).expect("readable"), request);
    }
}

#[test]
fn what_is_wrong_is_named() {
    use Operation::{
        CreateJoinToken, ExplainPlacement, FindTasks, GetTaskLogs, JoinContainerInstance, ListJoinTokens,
        ReleaseMassLossBrake, RevokeInstanceIdentity, SubmitTaskLogs,
    };
    let cases = [
        (CreateJoinToken, json!({"uses": 0}), "uses must be between 1 and 10000, but was 0."),
        (CreateJoinToken, json!({"uses": 10_001}), "uses must be between 1 and 10000, but was 10001."),
        (
            CreateJoinToken,
            json!({"expiresInSeconds": 59}),
            "expiresInSeconds must be between 60 and 2592000, but was 59.",
        ),
        (CreateJoinToken, json!({"cluster": ""}), "Cluster cannot be empty."),
        (JoinContainerInstance, json!({}), "clientToken is required and must not be null."),
        (JoinContainerInstance, json!({"clientToken": ""}), "ClientToken cannot be empty."),
        (
            JoinContainerInstance,
            json!({"clientToken": "c", "instances": 257}),
            "instances must be between 1 and 256, but was 257.",
        ),
        (ListJoinTokens, json!({"maxResults": 101}), "maxResults must be between 1 and 100, but was 101."),
        (RevokeInstanceIdentity, json!({}), "The request must have exactly one member, but has 0."),
        (
            RevokeInstanceIdentity,
            json!({"accessKeyId": "a", "containerInstance": "b"}),
            "The request must have exactly one member, but has 2.",
        ),
        (ReleaseMassLossBrake, json!({}), "cluster is required and must not be null."),
        (FindTasks, json!({"idPrefix": ""}), "IdPrefix cannot be empty."),
        (ExplainPlacement, json!({"taskDefinition": "x", "count": 0}), "count must be between 1 and 10000, but was 0."),
        (GetTaskLogs, json!({"task": "x", "waitSeconds": 11}), "waitSeconds must be between 0 and 10, but was 11."),
        (GetTaskLogs, json!({"task": "x", "tail": -1}), "tail must be between 0 and 1000000, but was -1."),
        (SubmitTaskLogs, json!({"entries": [], "end": true}), "requestId is required and must not be null."),
    ];
    for (operation, value, message) in cases {
        assert_eq!(refused(operation, &value), ("InvalidParameterException", message.to_owned()), "{value}");
    }
}

#[test]
fn wrong_types_are_serialization_exceptions() {
    let cases = [
        (Operation::CreateJoinToken, json!({"uses": "1"}), "uses must be an integer of 32 bits, but is a string."),
        (Operation::CreateJoinToken, json!({"cluster": 7}), "cluster must be a string, but is a number."),
        (
            Operation::CreateJoinToken,
            json!({"expiresInSeconds": 60.5}),
            "expiresInSeconds must be an integer of 32 bits, but is a number with a fraction.",
        ),
        (Operation::JoinContainerInstance, json!({"clientToken": []}), "clientToken must be a string, but is a list."),
        (Operation::ListJoinTokens, json!([]), "The request must be an object, but is a list."),
    ];
    for (operation, value, message) in cases {
        assert_eq!(refused(operation, &value), (SERIALIZATION_EXCEPTION.name, message.to_owned()), "{value}");
    }
}

#[test]
fn answers_leave_out_what_is_absent_and_debug_shows_no_secret() {
    let time = Timestamp::from_millis(1_500);
    let join_token = JoinToken {
        token_id: "LSTK".to_owned(),
        cluster: "default".to_owned(),
        uses: 2,
        uses_left: 1,
        created_at: time,
        expires_at: time,
        revoked: false,
    };
    let response: Response =
        CreateJoinTokenResponse { join_token, token: Sensitive::new("LSTK.hidden".to_owned()) }.into();
    assert!(!format!("{response:?}").contains("hidden"));
    let value: Value = serde_json::from_slice(&response.to_json()).expect("JSON");
    let expected = json!({
        "joinToken": {
            "tokenId": "LSTK", "cluster": "default", "uses": 2, "usesLeft": 1, "createdAt": 1.5, "expiresAt": 1.5,
            "revoked": false,
        },
        "token": "LSTK.hidden",
    });
    assert_eq!(value, expected);
    let row = InstanceIdentity {
        access_key_id: "LSIN".to_owned(),
        cluster: "default".to_owned(),
        identity: None,
        container_instance: None,
    };
    let page = ListInstanceIdentitiesResponse { instance_identities: vec![row], next_token: None };
    let read = ListInstanceIdentitiesResponse::from_json(&page.to_json()).expect("readable");
    assert_eq!(read, page);
    assert_eq!(page.to_json(), br#"{"instanceIdentities":[{"accessKeyId":"LSIN","cluster":"default"}]}"#);
}
