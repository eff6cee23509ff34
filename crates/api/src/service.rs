//! What the services that are written by hand have in common: the table of their operations.

/// The operations of a service: name, request, answer. One table, so that nothing is decoded that has no operation.
macro_rules! operations {
    (refused with $code:expr; $($(#[$doc:meta])* $name:ident($request:ident => $response:ident, $shape:ident),)+) => {
        /// An operation of the service.
        #[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
        pub enum Operation { $($(#[$doc])* $name,)+ }

        /// A request, typed.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Request { $($(#[$doc])* $name($request),)+ }

        /// An answer, typed.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Response { $($(#[$doc])* $name($response),)+ }

        impl Operation {
            /// Every operation.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// The name on the wire.
            pub fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)+ }
            }

            /// The operation of a name; spelled exactly so.
            pub fn from_name(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|operation| operation.name() == name)
            }

            /// The shape of its request.
            pub fn input(self) -> &'static $crate::shape::Shape {
                match self { $(Self::$name => &$shape,)+ }
            }
        }

        impl Request {
            /// What it asks for.
            pub fn operation(&self) -> Operation {
                match self { $(Self::$name(_) => Operation::$name,)+ }
            }

            /// The body that asks for it.
            pub fn to_json(&self) -> Vec<u8> {
                match self { $(Self::$name(request) => request.to_json(),)+ }
            }

            /// Checks `value` against the operation's shape and types it.
            ///
            /// # Errors
            /// `SerializationException` for a wrong JSON type, the service's own code for a missing member or one beyond
            /// its limits; both name the member.
            pub fn decode(
                operation: Operation,
                value: &serde_json::Value,
            ) -> Result<Self, $crate::shape::Violation> {
                use $crate::shape::{Violation, ViolationKind, check};
                check(operation.input(), value).map_err(|violation| violation.with_code($code))?;
                let unreadable = |cause: $crate::JsonError| Violation::new(ViolationKind::Unreadable(cause.to_string()));
                match operation {
                    $(Operation::$name => $request::from_value(value).map(Self::$name).map_err(unreadable),)+
                }
            }
        }

        impl Response {
            /// The answer's body.
            pub fn to_json(&self) -> Vec<u8> {
                match self { $(Self::$name(response) => response.to_json(),)+ }
            }
        }

        $(impl From<$request> for Request {
            fn from(request: $request) -> Self {
                Self::$name(request)
            }
        }

        impl From<$response> for Response {
            fn from(response: $response) -> Self {
                Self::$name(response)
            }
        })+
    };
}

pub(crate) use operations;
