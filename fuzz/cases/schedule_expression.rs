//! Schedule expressions: no text makes the reader panic, and an expression that is read prints as one that means the same.
//!
//! Input: an expression.

use longshore_core::schedule::expression::Expression;

pub(crate) fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match text.parse::<Expression>() {
        Ok(expression) => {
            let printed = expression.to_string();
            assert_eq!(printed.parse(), Ok(expression));
            assert_eq!(printed.parse::<Expression>().map(|again| again.to_string()), Ok(printed));
        }
        Err(error) => assert!(error.at <= text.chars().count() + 1, "{error} is outside of {text:?}"),
    }
}
