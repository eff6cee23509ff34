//! The Elastic Container Registry, as far as it is served: tokens to log in with at the server's own registry.
//!
//! awsJson, like ECS. The types are written by hand, and checked by the same walk over shapes as those of ECS.

use serde::{Deserialize, Serialize};

use crate::error::ErrorCode;
use crate::json::wire_json;
use crate::operation::OperationFacts;
use crate::shape::{self, Kind, Limits, Member, Pattern, Shape, Violation};
use crate::{Sensitive, Timestamp};

/// What calls to it are signed for.
pub const SIGNING_NAME: &str = "ecr";
/// What it calls itself in targets.
pub const TARGET_PREFIX: &str = "AmazonEC2ContainerRegistry_V20150921";

/// What a request says does not go together with what there is.
pub const INVALID_PARAMETER_EXCEPTION: ErrorCode = ErrorCode::new("InvalidParameterException", 400);

/// The registries of one question.
const REGISTRIES: Limits = Limits { min: Some(1), max: Some(10) };
/// An account id has twelve digits; that they are digits is looked at where they are compared.
const ACCOUNT: Limits = Limits { min: Some(12), max: Some(12) };

static REGISTRY_ID: Shape = Shape::new("RegistryId", Kind::String(Pattern::Any)).within(ACCOUNT);

static REGISTRY_IDS: Shape = Shape::new(
    "GetAuthorizationTokenRegistryIdList",
    Kind::List { item: &REGISTRY_ID, item_name: None, flattened: false },
)
.within(REGISTRIES);

static GET_AUTHORIZATION_TOKEN_REQUEST: Shape = Shape::new(
    "GetAuthorizationTokenRequest",
    Kind::Structure { members: &[Member::optional("registryIds", &REGISTRY_IDS)], union: false },
);

static STRING: Shape = Shape::new("String", Kind::String(Pattern::Any));
static SECRET: Shape = Shape::new("Base64", Kind::String(Pattern::Any)).sensitive();
static EXPIRATION: Shape = Shape::new("ExpirationTimestamp", Kind::Timestamp);

static AUTHORIZATION_DATA: Shape = Shape::new(
    "AuthorizationData",
    Kind::Structure {
        members: &[
            Member::optional("authorizationToken", &SECRET),
            Member::optional("expiresAt", &EXPIRATION),
            Member::optional("proxyEndpoint", &STRING),
        ],
        union: false,
    },
);

static AUTHORIZATION_DATA_LIST: Shape =
    Shape::new("AuthorizationDataList", Kind::List { item: &AUTHORIZATION_DATA, item_name: None, flattened: false });

static GET_AUTHORIZATION_TOKEN_RESPONSE: Shape = Shape::new(
    "GetAuthorizationTokenResponse",
    Kind::Structure { members: &[Member::optional("authorizationData", &AUTHORIZATION_DATA_LIST)], union: false },
);

static GET_AUTHORIZATION_TOKEN: OperationFacts = OperationFacts {
    name: "GetAuthorizationToken",
    input: &GET_AUTHORIZATION_TOKEN_REQUEST,
    output: &GET_AUTHORIZATION_TOKEN_RESPONSE,
    errors: &[INVALID_PARAMETER_EXCEPTION],
    readonly: true,
    idempotent: true,
};

/// An operation that is served.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Operation {
    /// Makes a token to log in with.
    GetAuthorizationToken,
}

impl Operation {
    /// Every operation that is served.
    pub const ALL: &'static [Self] = &[Self::GetAuthorizationToken];

    /// The operation of a name; spelled exactly so.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|operation| operation.facts().name == name)
    }

    /// Its row in the table.
    pub fn facts(self) -> &'static OperationFacts {
        match self {
            Self::GetAuthorizationToken => &GET_AUTHORIZATION_TOKEN,
        }
    }
}

/// Asks for a token to log in with.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GetAuthorizationTokenRequest {
    /// The accounts whose registries are meant; the caller's own if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registry_ids: Option<Vec<String>>,
}

/// Tokens, one for each registry that was asked for.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GetAuthorizationTokenResponse {
    /// In the order of the question.
    #[serde(default)]
    pub authorization_data: Vec<AuthorizationData>,
}

/// A token.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AuthorizationData {
    /// User and password as `user:password` in base64.
    pub authorization_token: Sensitive<String>,
    /// From then on it opens nothing.
    pub expires_at: Timestamp,
    /// The registry that it opens, as a URL.
    pub proxy_endpoint: String,
}

wire_json!(GetAuthorizationTokenRequest, GetAuthorizationTokenResponse);

/// Checks a request against its shape and types it.
///
/// # Errors
/// What the shape does not allow, by name.
pub fn decode(operation: Operation, value: &serde_json::Value) -> Result<GetAuthorizationTokenRequest, Violation> {
    shape::check(operation.facts().input, value)?;
    match operation {
        Operation::GetAuthorizationToken => Ok(serde_json::from_value(value.clone()).unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_request_names_up_to_ten_registries() {
        let decode = |value| decode(Operation::GetAuthorizationToken, &value).ok().map(|request| request.registry_ids);
        assert_eq!(decode(json!({})), Some(None));
        assert_eq!(decode(json!({"registryIds": ["000000000000"]})), Some(Some(vec!["0".repeat(12)])));
        for bad in [json!([]), json!(["0"]), json!("000000000000"), json!(vec!["000000000000"; 11])] {
            assert_eq!(decode(json!({"registryIds": bad})), None);
        }
    }

    #[test]
    fn an_answer_has_the_members_of_the_model() {
        let data = AuthorizationData {
            authorization_token: Sensitive::new("hush".into()),
            expires_at: Timestamp::from_millis(1_500),
            proxy_endpoint: "https://h".into(),
        };
        let answer = GetAuthorizationTokenResponse { authorization_data: vec![data] };
        let value: serde_json::Value = serde_json::from_slice(&answer.to_json()).unwrap();
        let expected = json!({"authorizationToken": "hush", "expiresAt": 1.5, "proxyEndpoint": "https://h"});
        assert_eq!(value, json!({"authorizationData": [expected]}));
        assert!(shape::check(Operation::GetAuthorizationToken.facts().output, &value).is_ok());
        assert!(!format!("{answer:?}").contains("hush"));
    }

    #[test]
    fn what_is_served_is_found_by_its_name() {
        assert_eq!(Operation::from_name("GetAuthorizationToken"), Some(Operation::GetAuthorizationToken));
        assert_eq!(Operation::from_name("DescribeImages"), None);
    }
}
