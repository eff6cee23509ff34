use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::types::{
    CPUArchitecture, ContainerDefinition, KeyValuePair, LogDriver, RepositoryCredentials, RunTaskResponse,
    TaskDefinition, TaskStopCode,
};
use super::{Operation, Response, error};
use crate::{Sensitive, Timestamp};

#[test]
fn the_whole_service_is_there_and_names_lead_back() {
    assert_eq!(Operation::ALL.len(), 88);
    for operation in Operation::ALL {
        assert_eq!(Operation::from_name(operation.name()), Some(operation));
        assert_eq!(format!("{operation:?}"), operation.name());
    }
    assert_eq!(Operation::from_name("runTask"), None);
    let names: BTreeSet<&str> = Operation::ALL.iter().map(|operation| operation.name()).collect();
    assert_eq!(names.len(), 88);
}

#[test]
fn facts_are_the_models() {
    let facts = Operation::RunTask.facts();
    assert_eq!((facts.input.name, facts.output.name), ("RunTaskRequest", "RunTaskResponse"));
    assert!(!facts.readonly && Operation::DescribeTasks.facts().readonly);
    assert!(facts.errors.contains(&error::CLUSTER_NOT_FOUND_EXCEPTION));
    assert_eq!((error::SERVER_EXCEPTION.status, error::CLIENT_EXCEPTION.status), (500, 400));
    assert_eq!((super::TARGET_PREFIX, super::JSON_VERSION), ("AmazonEC2ContainerServiceV20141113", "1.1"));
}

#[test]
fn enums_are_spelled_as_on_the_wire() {
    for (value, wire) in [(LogDriver::JsonFile.as_str(), "json-file"), (CPUArchitecture::X86_64.as_str(), "X86_64")] {
        assert_eq!(value, wire);
    }
    for code in TaskStopCode::ALL {
        assert_eq!(code.as_str().parse(), Ok(*code));
        let json = serde_json::to_string(code).unwrap();
        assert_eq!(serde_json::from_str::<TaskStopCode>(&json).unwrap(), *code);
    }
    let error = "Boredom".parse::<TaskStopCode>().unwrap_err();
    assert_eq!(error.to_string(), "\"Boredom\" is no TaskStopCode");
}

#[test]
fn answers_leave_out_what_is_absent_and_keep_empty_lists() {
    let response: Response = RunTaskResponse { tasks: Some(Vec::new()), failures: None }.into();
    assert_eq!(response.operation(), Operation::RunTask);
    assert_eq!(response.to_json(), b"{\"tasks\":[]}");
}

#[test]
fn stored_documents_come_back_the_same() {
    let definition = TaskDefinition {
        family: Some("f_producer".to_owned()),
        revision: Some(1),
        registered_at: Some(Timestamp::from_millis(1_700_000_000_123)),
        container_definitions: Some(vec![ContainerDefinition {
            name: Some("producer".to_owned()),
            cpu: Some(50),
            environment: Some(Sensitive::new(vec![KeyValuePair {
                name: Some("MODE".to_owned()),
                value: Some("producer".to_owned()),
            }])),
            ..ContainerDefinition::default()
        }]),
        ..TaskDefinition::default()
    };
    let bytes = definition.to_json();
    assert_eq!(TaskDefinition::from_json(&bytes).unwrap(), definition);
    let value: Value = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(value["registeredAt"], json!(1_700_000_000.123));
    assert_eq!(value["containerDefinitions"][0]["environment"], json!([{"name": "MODE", "value": "producer"}]));
}

#[test]
fn what_the_model_calls_sensitive_is_not_in_debug_output() {
    let definition = ContainerDefinition {
        environment: Some(Sensitive::new(vec![KeyValuePair { name: None, value: Some("hunter2".to_owned()) }])),
        repository_credentials: Some(RepositoryCredentials { credentials_parameter: "hunter2".to_owned() }),
        ..ContainerDefinition::default()
    };
    let shown = format!("{definition:?}");
    assert!(!shown.contains("hunter2") && shown.contains("redacted"), "{shown}");
}

#[test]
fn unreadable_documents_say_what_they_should_have_been() {
    let error = TaskDefinition::from_json(b"{\"revision\":\"one\"}").unwrap_err();
    assert!(error.to_string().starts_with("TaskDefinition is not as expected: "), "{error}");
}
