//! Requests, answers and what they are made of. An absent member is left out, times are seconds since the epoch.

#![allow(missing_docs, reason = "the members are those of the service's own reference")]

use serde::{Deserialize, Serialize};

use crate::json::{wire_enums, wire_json};
use crate::{Sensitive, Timestamp};

wire_enums! {
    ParameterType {
        String = "String",
        StringList = "StringList",
        SecureString = "SecureString",
    }
    ParameterTier {
        Standard = "Standard",
        Advanced = "Advanced",
        IntelligentTiering = "Intelligent-Tiering",
    }
}

/// Reads parameters by name or ARN, each perhaps with `:<version>`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct GetParametersRequest {
    pub names: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub with_decryption: Option<bool>,
}

/// What was found, and what was not.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct GetParametersResult {
    #[serde(default)]
    pub invalid_parameters: Vec<String>,
    #[serde(default)]
    pub parameters: Vec<Parameter>,
}

/// A version of a parameter.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Parameter {
    #[serde(rename = "ARN", skip_serializing_if = "Option::is_none")]
    pub arn: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_modified_date: Option<Timestamp>,
    pub name: String,
    /// `:<version>`, as it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
    #[serde(rename = "Type", skip_serializing_if = "Option::is_none")]
    pub parameter_type: Option<ParameterType>,
    pub value: Sensitive<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<i64>,
}

/// Makes a parameter, or a further version of one.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct PutParameterRequest {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allowed_pattern: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_id: Option<String>,
    pub name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overwrite: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policies: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tags: Option<Vec<Tag>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tier: Option<ParameterTier>,
    #[serde(rename = "Type", skip_serializing_if = "Option::is_none")]
    pub parameter_type: Option<ParameterType>,
    pub value: Sensitive<String>,
}

/// The version that was made.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct PutParameterResult {
    pub tier: ParameterTier,
    pub version: i64,
}

/// Removes a parameter.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct DeleteParameterRequest {
    pub name: String,
}

/// It is gone.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct DeleteParameterResult {}

/// A tag.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Tag {
    pub key: String,
    pub value: String,
}

wire_json!(
    GetParametersRequest,
    GetParametersResult,
    PutParameterRequest,
    PutParameterResult,
    DeleteParameterRequest,
    DeleteParameterResult,
);
