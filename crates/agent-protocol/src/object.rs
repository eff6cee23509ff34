//! How every protocol object is read and written, stated once.
//!
//! Peers decode with Go's rules: names match without regard to case, unknown members are ignored, `null` is the same as
//! absent, a wrong type spoils the whole message. serde's derive matches names exactly and takes `null` for `Option` only,
//! hence this small macro instead. Names are matched against the members of the very object that is being read, so the keys
//! of maps that users fill (environment variables, driver options) are never touched.

use std::collections::BTreeMap;
use std::fmt;

use longshore_api::Timestamp;
use serde::{Deserialize, Serialize};

/// A value that may be a member of a protocol object.
pub(crate) trait Member {
    /// Whether a peer reads the value and the absence of the member alike, so that it need not be sent.
    fn is_absent(&self) -> bool {
        false
    }
}

macro_rules! always_present {
    ($($ty:ty),*) => { $( impl Member for $ty {} )* };
}
always_present!(bool, i32, i64, f64, String, Secret, Timestamp, Box<serde_json::value::RawValue>);

impl<T> Member for Option<T> {
    fn is_absent(&self) -> bool {
        self.is_none()
    }
}

impl<T> Member for Vec<T> {
    fn is_absent(&self) -> bool {
        self.is_empty()
    }
}

impl<K, V> Member for BTreeMap<K, V> {
    fn is_absent(&self) -> bool {
        self.is_empty()
    }
}

/// A string that never shows in logs: its `Debug` form says only whether there is one.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "Secret(empty)" } else { "Secret(redacted)" })
    }
}

impl From<String> for Secret {
    fn from(value: String) -> Self {
        Self(value)
    }
}

/// Declares protocol objects: `member: Type = "wireName"`, with `always` behind the name of a list or map that is sent even
/// when it is empty. All members are public, all objects have a `Default`, in which every member is absent.
macro_rules! object {
    ($( $(#[$meta:meta])* $vis:vis struct $name:ident {
        $( $(#[$member_meta:meta])* $member:ident : $ty:ty = $wire:literal $($always:ident)?, )*
    } )*) => { $(
        $(#[$meta])*
        #[derive(Clone, Debug, Default, PartialEq)]
        $vis struct $name { $( $(#[$member_meta])* $vis $member: $ty, )* }

        impl $crate::object::Member for $name {}

        impl ::serde::Serialize for $name {
            fn serialize<S: ::serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                use ::serde::ser::SerializeMap;
                let mut map = serializer.serialize_map(None)?;
                $( if $crate::object::object!(@always $($always)?)
                    || !$crate::object::Member::is_absent(&self.$member)
                {
                    map.serialize_entry($wire, &self.$member)?;
                } )*
                map.end()
            }
        }

        impl<'de> ::serde::Deserialize<'de> for $name {
            fn deserialize<D: ::serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Members;
                impl<'de> ::serde::de::Visitor<'de> for Members {
                    type Value = $name;
                    fn expecting(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                        f.write_str(concat!("an object (", stringify!($name), ")"))
                    }
                    fn visit_map<A: ::serde::de::MapAccess<'de>>(self, mut map: A) -> Result<$name, A::Error> {
                        use ::serde::de::Error as _;
                        let mut value = $name::default();
                        while let Some(key) = map.next_key::<String>()? {
                            $( if key.eq_ignore_ascii_case($wire) {
                                let read = map.next_value::<Option<$ty>>();
                                if let Some(read) = read.map_err(|e| A::Error::custom(format!("{}: {e}", $wire)))? {
                                    value.$member = read;
                                }
                                continue;
                            } )*
                            map.next_value::<::serde::de::IgnoredAny>()?;
                        }
                        Ok(value)
                    }
                }
                deserializer.deserialize_map(Members)
            }
        }
    )* };
    (@always) => { false };
    (@always always) => { true };
}
pub(crate) use object;
