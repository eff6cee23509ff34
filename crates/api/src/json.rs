//! The only place where serde's generic code meets the generated types.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{self, Visitor};

use crate::shape::shortened;

/// JSON that is not what it should be.
#[derive(Debug, thiserror::Error)]
#[error("{kind} is not as expected: {cause}")]
pub struct JsonError {
    kind: &'static str,
    cause: serde_json::Error,
}

impl JsonError {
    pub(crate) fn new(kind: &'static str, cause: serde_json::Error) -> Self {
        Self { kind, cause }
    }
}

/// A string that is no value of its enum.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{value:?} is no {kind}")]
pub struct UnknownValue {
    /// The enum.
    pub kind: &'static str,
    /// The string.
    pub value: String,
}

/// What the generated enums have in common, so that one visitor serves them all.
pub(crate) trait WireEnum: Sized {
    const NAME: &'static str;

    fn from_wire(value: &str) -> Option<Self>;
}

pub(crate) struct EnumVisitor<T>(pub(crate) PhantomData<T>);

impl<T: WireEnum> Visitor<'_> for EnumVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a value of {}", T::NAME)
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<T, E> {
        T::from_wire(value).ok_or_else(|| E::invalid_value(de::Unexpected::Str(value), &self))
    }
}

pub(crate) fn unknown(kind: &'static str, value: &str) -> UnknownValue {
    UnknownValue { kind, value: shortened(value) }
}

/// Enums of wire strings: `Name { Variant = "wire", … }`.
macro_rules! wire_enums {
    ($($name:ident { $($variant:ident = $wire:literal,)+ })+) => {$(
        #[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
        pub enum $name { $($variant,)+ }

        impl $name {
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $wire,)+ }
            }
        }

        impl $crate::json::WireEnum for $name {
            const NAME: &'static str = stringify!($name);

            fn from_wire(value: &str) -> Option<Self> {
                match value { $($wire => Some(Self::$variant),)+ _ => None }
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::json::UnknownValue;

            fn from_str(value: &str) -> Result<Self, Self::Err> {
                use $crate::json::WireEnum as _;
                Self::from_wire(value).ok_or_else(|| $crate::json::unknown(stringify!($name), value))
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_str($crate::json::EnumVisitor(std::marker::PhantomData))
            }
        }
    )+};
}

/// Requests and answers: read through a `Value`, because that is what has been checked.
macro_rules! wire_json {
    ($($name:ident),+ $(,)?) => {$(
        impl $name {
            /// Reads JSON text. Does not check limits: `Request::decode` does.
            pub fn from_json(bytes: &[u8]) -> Result<Self, $crate::json::JsonError> {
                let value = $crate::json::parse(stringify!($name), bytes)?;
                Self::from_value(&value)
            }

            /// Reads a parsed value. Does not check limits: `Request::decode` does.
            pub fn from_value(value: &serde_json::Value) -> Result<Self, $crate::json::JsonError> {
                serde::Deserialize::deserialize(value)
                    .map_err(|cause| $crate::json::JsonError::new(stringify!($name), cause))
            }

            /// JSON text, absent members left out.
            pub fn to_json(&self) -> Vec<u8> {
                $crate::json::written(serde_json::to_vec(self))
            }
        }
    )+};
}

/// Stored documents: read straight from the bytes, because a restart reads very many.
macro_rules! stored_json {
    ($($name:ident),+ $(,)?) => {$(
        impl $name {
            /// Reads JSON text.
            pub fn from_json(bytes: &[u8]) -> Result<Self, $crate::json::JsonError> {
                serde_json::from_slice(bytes)
                    .map_err(|cause| $crate::json::JsonError::new(stringify!($name), cause))
            }

            /// JSON text, absent members left out.
            pub fn to_json(&self) -> Vec<u8> {
                $crate::json::written(serde_json::to_vec(self))
            }
        }
    )+};
}

pub(crate) use {stored_json, wire_enums, wire_json};

pub(crate) fn parse(kind: &'static str, bytes: &[u8]) -> Result<serde_json::Value, JsonError> {
    serde_json::from_slice(bytes).map_err(|cause| JsonError::new(kind, cause))
}

/// Writing to memory fails only for map keys that are not strings; the models have none.
pub(crate) fn written(result: Result<Vec<u8>, serde_json::Error>) -> Vec<u8> {
    result.expect("generated types have string keys only")
}
