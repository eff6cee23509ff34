//! awsJson: no body makes the decoder of any operation panic, and what it accepts it writes so that it reads it again.
//!
//! Input: a byte that chooses the operation, then the body.

use longshore_api::{admin, ecs};
use longshore_wire::aws_json;

pub(crate) fn run(data: &[u8]) {
    let Some((&choice, body)) = data.split_first() else { return };
    let Ok(value) = aws_json::parse_body(body) else { return };
    let operation = ecs::Operation::ALL[usize::from(choice) % ecs::Operation::ALL.len()];
    if let Ok(request) = ecs::Request::decode(operation, &value) {
        assert_eq!(request.operation(), operation);
        let written = aws_json::parse_body(&request.to_json()).expect("it is an object");
        let again = ecs::Request::decode(operation, &written).expect("what was accepted is accepted again");
        assert_eq!(again.to_json(), request.to_json());
    }
    let operation = admin::Operation::ALL[usize::from(choice) % admin::Operation::ALL.len()];
    if let Ok(request) = admin::Request::decode(operation, &value) {
        let written = aws_json::parse_body(&request.to_json()).expect("it is an object");
        let again = admin::Request::decode(operation, &written).expect("what was accepted is accepted again");
        assert_eq!(again.to_json(), request.to_json());
    }
}
