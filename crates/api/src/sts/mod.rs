//! The Security Token Service, as far as it is served: who am I.
//!
//! awsQuery: a form comes in, XML goes out. The types are written by hand, and checked and written by the same walk over
//! shapes as those of ECS.

mod shapes;
mod types;

use crate::operation::OperationFacts;
use crate::shape::{self, Violation};

pub use types::{GetCallerIdentityRequest, GetCallerIdentityResponse};

/// What credentials for it are scoped to.
pub const SIGNING_NAME: &str = "sts";
/// The one version of its API.
pub const VERSION: &str = "2011-06-15";
/// The namespace of its answers.
pub const NAMESPACE: &str = "https://sts.amazonaws.com/doc/2011-06-15/";

/// The actions of STS that are not served, so that a refusal can say that it knows them.
pub const NOT_SERVED: [&str; 10] = [
    "AssumeRole",
    "AssumeRoleWithSAML",
    "AssumeRoleWithWebIdentity",
    "AssumeRoot",
    "DecodeAuthorizationMessage",
    "GetAccessKeyInfo",
    "GetDelegatedAccessToken",
    "GetFederationToken",
    "GetSessionToken",
    "GetWebIdentityToken",
];

static GET_CALLER_IDENTITY: OperationFacts = OperationFacts {
    name: "GetCallerIdentity",
    input: &shapes::GET_CALLER_IDENTITY_REQUEST,
    output: &shapes::GET_CALLER_IDENTITY_RESPONSE,
    errors: &[],
    readonly: true,
    idempotent: true,
};

/// An action that is served.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Operation {
    /// Says whose access key signed.
    GetCallerIdentity,
}

impl Operation {
    /// Every action that is served.
    pub const ALL: &'static [Self] = &[Self::GetCallerIdentity];

    /// The action of a name; spelled exactly so.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|operation| operation.facts().name == name)
    }

    /// Its row in the table.
    pub fn facts(self) -> &'static OperationFacts {
        match self {
            Self::GetCallerIdentity => &GET_CALLER_IDENTITY,
        }
    }
}

/// A request, typed.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    /// Says whose access key signed.
    GetCallerIdentity(GetCallerIdentityRequest),
}

impl Request {
    /// Checks `value` against the action's shape and types it.
    ///
    /// # Errors
    /// What the shape does not allow, by name.
    pub fn decode(operation: Operation, value: &serde_json::Value) -> Result<Self, Violation> {
        shape::check(operation.facts().input, value)?;
        match operation {
            Operation::GetCallerIdentity => Ok(Self::GetCallerIdentity(GetCallerIdentityRequest {})),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_served_is_found_by_its_name_and_not_listed_as_missing() {
        for operation in Operation::ALL {
            let name = operation.facts().name;
            assert_eq!(Operation::from_name(name), Some(*operation));
            assert!(!NOT_SERVED.contains(&name));
        }
        assert_eq!(Operation::from_name("getcalleridentity"), None);
    }

    #[test]
    fn an_answer_has_the_members_of_the_model() {
        let answer =
            GetCallerIdentityResponse { user_id: "AIDA".to_owned(), account: "0".to_owned(), arn: "arn:x".to_owned() };
        let value = answer.to_value();
        assert_eq!(value, json!({"UserId": "AIDA", "Account": "0", "Arn": "arn:x"}));
        assert!(shape::check(Operation::GetCallerIdentity.facts().output, &value).is_ok());
    }

    #[test]
    fn a_request_needs_nothing() {
        let request = Request::decode(Operation::GetCallerIdentity, &json!({}));
        assert_eq!(request.unwrap(), Request::GetCallerIdentity(GetCallerIdentityRequest {}));
        assert!(Request::decode(Operation::GetCallerIdentity, &json!([])).is_err());
    }
}
