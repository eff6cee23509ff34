use serde_json::{Value, json};

use super::*;
use crate::{ApiError, Sensitive};

fn refused(operation: Operation, value: &Value) -> (&'static str, String) {
    let error = ApiError::from(Request::decode(operation, value).expect_err("refused"));
    (error.code.name, error.message)
}

#[test]
fn limits_are_broken_in_the_services_own_code() {
    let names: Vec<String> = (0..11).map(|number| number.to_string()).collect();
    let cases = [
        (Operation::GetParameters, json!({}), "Names is required and must not be null."),
        (Operation::GetParameters, json!({ "Names": names }), "Names must have a length of at most 10, but has 11."),
        (Operation::PutParameter, json!({"Name": "a"}), "Value is required and must not be null."),
        (
            Operation::PutParameter,
            json!({"Name": "a", "Value": "v", "Type": "Text"}),
            "Type must be one of [String, StringList, SecureString], but was 'Text'.",
        ),
    ];
    for (operation, value, message) in cases {
        assert_eq!(refused(operation, &value), ("ValidationException", message.to_owned()));
    }
    assert_eq!(refused(Operation::DeleteParameter, &json!({"Name": 1})).0, "SerializationException");
}

#[test]
fn a_value_is_shown_on_the_wire_and_nowhere_else() {
    let value = json!({"Name": "/a", "Value": "hidden", "Type": "SecureString", "Overwrite": true});
    let request = Request::decode(Operation::PutParameter, &value).expect("decodes");
    assert!(!format!("{request:?}").contains("hidden"));
    assert_eq!(serde_json::from_slice::<Value>(&request.to_json()).expect("JSON"), value);
    let parameter = Parameter {
        arn: None,
        data_type: None,
        last_modified_date: None,
        name: "/a".to_owned(),
        selector: None,
        parameter_type: None,
        value: Sensitive::new("hidden".to_owned()),
        version: Some(1),
    };
    let answer: Response = GetParametersResult { invalid_parameters: vec![], parameters: vec![parameter] }.into();
    assert!(!format!("{answer:?}").contains("hidden"));
    assert!(String::from_utf8(answer.to_json()).expect("text").contains(r#""Value":"hidden""#));
}
