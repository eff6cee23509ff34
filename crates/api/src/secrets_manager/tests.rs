use serde_json::{Value, json};

use super::*;
use crate::ApiError;

fn refused(operation: Operation, value: &Value) -> (&'static str, String) {
    let error = ApiError::from(Request::decode(operation, value).expect_err("refused"));
    (error.code.name, error.message)
}

#[test]
fn limits_are_broken_in_the_services_own_code() {
    let cases = [
        (Operation::GetSecretValue, json!({}), "SecretId is required and must not be null."),
        (
            Operation::CreateSecret,
            json!({"Name": "a", "SecretString": "x".repeat(65_537)}),
            "SecretString must have a length of at most 65536, but has 65537.",
        ),
        (
            Operation::PutSecretValue,
            json!({"SecretId": "a", "ClientRequestToken": "short"}),
            "ClientRequestToken must have a length of at least 32, but has 5.",
        ),
    ];
    for (operation, value, message) in cases {
        assert_eq!(refused(operation, &value), ("ValidationException", message.to_owned()));
    }
}

#[test]
fn a_value_is_shown_on_the_wire_and_nowhere_else() {
    let value = json!({"Name": "a", "SecretString": "hidden", "Tags": [{"Key": "k", "Value": "v"}]});
    let request = Request::decode(Operation::CreateSecret, &value).expect("decodes");
    assert!(!format!("{request:?}").contains("hidden"));
    assert_eq!(serde_json::from_slice::<Value>(&request.to_json()).expect("JSON"), value);
}
