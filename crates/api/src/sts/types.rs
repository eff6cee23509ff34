//! Requests and answers.

use serde::Serialize;
use serde_json::Value;

/// Asks whose access key signed this very request.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GetCallerIdentityRequest {}

/// Whose it is.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct GetCallerIdentityResponse {
    /// The account id for the account's owner; the access key id of a machine or of a join token.
    pub user_id: String,
    /// Twelve digits.
    pub account: String,
    /// The caller's ARN, as in refusals and in `registeredBy`.
    pub arn: String,
}

impl GetCallerIdentityResponse {
    /// The value that every protocol's answer is written from.
    pub fn to_value(&self) -> Value {
        serde_json::to_value(self).expect("its keys are strings")
    }
}
