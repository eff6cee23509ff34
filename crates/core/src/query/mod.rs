//! The cluster query language: which container instances are meant.
//!
//! `attribute:ecs.instance-type =~ t2.* and not(task:group == database)`: conditions of the form `subject operator
//! [argument]`, joined by `and` (`&&`), `or` (`||`), `not` (`!`) and parentheses. ListContainerInstances filters with it, and
//! placement constraints of type `memberOf` are written in it.
//!
//! A text is read into an [`Expression`] (what was written, and where), which is compiled into a [`Query`] (what is tried
//! on an instance, patterns and dates understood). Whoever tries one query on thousands of instances compiles it once. What an
//! instance is like comes in as [`Facts`].
//!
//! Where the documentation of ECS is silent:
//!
//! * `and` binds more tightly than `or`, and `not` than both.
//! * `!=`, `not_in` and `not_matches` are exactly what `==`, `in` and `matches` are not. So an instance without an attribute
//!   satisfies every negative condition on it, and `task:group != a` means that no task of group `a` is there.
//! * `task:group` is about the tasks that are there; where it constrains a placement, about those that are wanted too.
//! * An attribute without a value exists, and satisfies no other positive condition.
//! * `>` and its like compare attributes as numbers if both sides are decimal numbers, else as text.
//! * An argument with spaces, parentheses or, in a list, commas is put in single or double quotes.
//! * A pattern is tried on the whole value, as examples such as `t2.*` have it.

mod compile;
mod error;
mod expression;
mod parse;
mod pattern;
#[cfg(test)]
mod tests;
mod value;

pub use compile::{Facts, Query};
pub use error::{Problem, QueryError};
pub use expression::{Argument, Comparison, Condition, Expression, Operator, Subject, Test};
pub(crate) use parse::shortened;

use std::str::FromStr;

impl FromStr for Query {
    type Err = QueryError;

    fn from_str(text: &str) -> Result<Self, QueryError> {
        text.parse::<Expression>()?.compile()
    }
}
