//! The cluster query language: no text makes the reader panic, and an expression that is read prints as one that means the same.
//!
//! Input: an expression.

use longshore_api::Timestamp;
use longshore_core::query::{Expression, Facts, Problem};

struct Instance;

impl Facts for Instance {
    fn attribute(&self, name: &str) -> Option<Option<&str>> {
        match name {
            "ecs.instance-type" => Some(Some("t2.micro")),
            "stack" => Some(None),
            _ => None,
        }
    }

    fn agent_connected(&self) -> bool {
        true
    }

    fn agent_version(&self) -> Option<&str> {
        Some("1.105.1")
    }

    fn ec2_instance_id(&self) -> Option<&str> {
        None
    }

    fn registered_at(&self) -> Timestamp {
        Timestamp::from_millis(1_440_938_160_000)
    }

    fn running_tasks(&self) -> u32 {
        3
    }

    fn any_task_group(&self, passes: &mut dyn FnMut(&str) -> bool) -> bool {
        ["family:web", "database"].into_iter().any(passes)
    }
}

pub(crate) fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let expression = match text.parse::<Expression>() {
        Ok(expression) => expression,
        Err(error) => return drop(error.to_string()),
    };
    let again = match expression.to_string().parse::<Expression>() {
        Ok(again) => again,
        // Printed negations have parentheses, and printed arguments quotes: at its very limits an expression outgrows them.
        Err(error) if matches!(error.problem, Problem::TooDeep | Problem::TooLong) => return,
        Err(error) => panic!("what is printed is read: {error}"),
    };
    assert_eq!(again, expression);
    match (expression.compile(), again.compile()) {
        (Ok(query), Ok(again)) => assert_eq!(query.matches(&Instance), again.matches(&Instance)),
        (Err(error), Err(_)) => drop(error.to_string()),
        _ => panic!("one of them compiles"),
    }
}
