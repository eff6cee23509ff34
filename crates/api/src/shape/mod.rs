//! The model as data, and the check of an untrusted value against it.
//!
//! # One value, several protocols
//! Every protocol ends in a [`serde_json::Value`] of one form, which [`check`] examines and the
//! generated types read: the form of awsJson. A reader of another protocol walks the same tables:
//! - **awsJson**: the body is the value.
//! - **awsQuery**: keys like `Tags.member.1.Key` are split at the dots and followed through the
//!   tables: a structure finds its [`Member`] by `location_name` (else `name`), a list strips
//!   `member` (or `item_name`) unless `flattened`, a map reads `entry.N.key`/`entry.N.value`; the
//!   scalar's [`Kind`] says whether the text becomes a string, a number, a boolean or a time. The
//!   answer's XML is written by the same walk the other way round.
//! - **rpcv2Cbor**: the items map one to one; only a tagged time becomes a number of seconds.
//!
//! # What the check accepts
//! `null` is an absent member, members the model does not know are ignored. Integers must be written
//! without a fraction (`5.0` is no integer: no AWS client writes one so, and a silent conversion would
//! hide mistakes). Strings are measured in characters. Types are checked first, over the whole
//! value, then the rest: a request that cannot be read is told so before its limits are discussed.

mod check;
#[cfg(test)]
mod tests;
mod violation;

pub use check::check;
pub(crate) use violation::shortened;
pub use violation::{Violation, ViolationKind};

/// A shape of a service model.
#[derive(Debug)]
pub struct Shape {
    /// The model's name for it.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// Bounds wherever it is used: of a number its value, of anything else its length.
    pub limits: Limits,
    /// Not to be shown in messages or logs.
    pub sensitive: bool,
}

impl Shape {
    pub(crate) const fn new(name: &'static str, kind: Kind) -> Self {
        Self { name, kind, limits: Limits::NONE, sensitive: false }
    }

    pub(crate) const fn within(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    pub(crate) const fn sensitive(self) -> Self {
        Self { sensitive: true, ..self }
    }
}

/// What a shape is, with what only that kind has.
#[derive(Debug)]
pub enum Kind {
    /// Named members.
    Structure {
        /// Sorted by name.
        members: &'static [Member],
        /// Exactly one member must be present.
        union: bool,
    },
    /// Items of one shape.
    List {
        /// The shape of each item.
        item: &'static Shape,
        /// The item's element name in query and XML protocols, when it is not `member`.
        item_name: Option<&'static str>,
        /// Items stand without a wrapping element in query and XML protocols.
        flattened: bool,
    },
    /// Values of one shape under free keys.
    Map {
        /// The shape of each key, a string.
        key: &'static Shape,
        /// The shape of each value.
        value: &'static Shape,
        /// Entries stand without a wrapping element in query and XML protocols.
        flattened: bool,
    },
    /// Text.
    String(Pattern),
    /// One of these texts.
    Enum(&'static [&'static str]),
    /// A whole number of 32 bits.
    Integer,
    /// A whole number of 64 bits.
    Long,
    /// A number.
    Double,
    /// `true` or `false`.
    Boolean,
    /// A number of seconds since the epoch.
    Timestamp,
    /// Any JSON.
    Document,
}

/// A member of a structure.
#[derive(Debug)]
pub struct Member {
    /// The name in JSON.
    pub name: &'static str,
    /// The name in query and XML protocols, when it differs.
    pub location_name: Option<&'static str>,
    /// What it holds.
    pub shape: &'static Shape,
    /// It must be present.
    pub required: bool,
    /// Bounds of this use of the shape, besides the shape's own.
    pub limits: Limits,
}

impl Member {
    pub(crate) const fn optional(name: &'static str, shape: &'static Shape) -> Self {
        Self { name, location_name: None, shape, required: false, limits: Limits::NONE }
    }

    pub(crate) const fn required(name: &'static str, shape: &'static Shape) -> Self {
        Self { required: true, ..Self::optional(name, shape) }
    }

    pub(crate) const fn within(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }
}

/// Inclusive bounds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// The least that is allowed.
    pub min: Option<i64>,
    /// The most that is allowed.
    pub max: Option<i64>,
}

impl Limits {
    /// No bounds.
    pub const NONE: Self = Self { min: None, max: None };
}

/// Which characters a string may have. The models' few patterns are all of this kind.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Pattern {
    /// Any.
    Any,
    /// Tag keys and values: letters, digits, spaces of any script and `_.:/=+-@`.
    Tag,
    /// Instance types with wildcards: ASCII letters and digits and `.*-`, at least one.
    InstanceType,
}

impl Pattern {
    /// Whether `text` has only characters that are allowed.
    pub fn matches(self, text: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Tag => text
                .chars()
                .all(|c| c.is_alphanumeric() || c.is_whitespace() && !c.is_control() || "_.:/=+-@".contains(c)),
            Self::InstanceType => {
                !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || ".*-".contains(c))
            }
        }
    }
}
