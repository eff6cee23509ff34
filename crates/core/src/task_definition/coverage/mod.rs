//! What becomes of every member of a task definition and of the overrides of a task: the source of
//! `docs/task-definition-coverage.md`.
//!
//! That [`TABLE`] has every member of every shape that the two roots reach is checked when this crate is compiled; that
//! what it calls refused is refused, in these words, by the tests below.

mod table;

use longshore_api::ecs::shapes;
use longshore_api::shape::{Kind, Shape};

pub use table::TABLE;

/// The members of one shape.
#[derive(Clone, Copy, Debug)]
pub struct ShapeCoverage {
    /// The model's name for it.
    pub shape: &'static str,
    /// Its members, in the model's order: sorted by name.
    pub members: &'static [MemberCoverage],
}

/// What becomes of a member.
#[derive(Clone, Copy, Debug)]
pub struct MemberCoverage {
    /// Its name.
    pub name: &'static str,
    /// How far it goes.
    pub support: MemberSupport,
    /// What a reader should know besides.
    pub note: &'static str,
    /// Values that are refused, though the member is not.
    pub refused_values: &'static [RefusedValue],
}

/// How far a member goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemberSupport {
    /// It does what ECS documents.
    Works,
    /// It does, but could not be run on the machines that Longshore is built on.
    BuiltNotRun,
    /// It is refused with this message; `…` stands for what differs.
    Refused(&'static str),
    /// It is a part of this member, which is refused.
    PartOf(&'static str),
}

/// A value that is refused.
#[derive(Clone, Copy, Debug)]
pub struct RefusedValue {
    /// The value, in words.
    pub what: &'static str,
    /// The message; `…` stands for what differs.
    pub error: &'static str,
}

/// The shapes from which the table begins.
pub const ROOTS: [&Shape; 2] = [&shapes::TASK_DEFINITION, &shapes::TASK_OVERRIDE];

const _: () = {
    cover(ROOTS[0]);
    cover(ROOTS[1]);
};

/// Fails, at compile time, at the first member that the table has not. The models have no shape that contains itself.
const fn cover(shape: &Shape) {
    match shape.kind {
        Kind::Structure { members, .. } => {
            let covered = members_of(shape.name);
            let mut index = 0;
            while index < members.len() {
                if index >= covered.len() || !same(members[index].name, covered[index].name) {
                    panic!("{}", members[index].name);
                }
                cover(members[index].shape);
                index += 1;
            }
            assert!(covered.len() == members.len(), "the table has a member that the model has not");
        }
        Kind::List { item, .. } => cover(item),
        Kind::Map { value, .. } => cover(value),
        Kind::String(_)
        | Kind::Enum(_)
        | Kind::Integer
        | Kind::Long
        | Kind::Double
        | Kind::Boolean
        | Kind::Timestamp
        | Kind::Document => {}
    }
}

const fn members_of(shape: &'static str) -> &'static [MemberCoverage] {
    let mut index = 0;
    while index < TABLE.len() {
        if same(TABLE[index].shape, shape) {
            return TABLE[index].members;
        }
        index += 1;
    }
    panic!("{}", shape)
}

const fn same(a: &str, b: &str) -> bool {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    if a.len() != b.len() {
        return false;
    }
    let mut index = 0;
    while index < a.len() {
        if a[index] != b[index] {
            return false;
        }
        index += 1;
    }
    true
}

#[cfg(test)]
mod tests;
