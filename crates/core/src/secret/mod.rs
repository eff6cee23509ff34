//! Secrets: the parameters of SSM and the secrets of Secrets Manager, who may read them, and which roles tasks have.
//!
//! No value is known here in clear: the edge encrypts it before it says what is to be done with it ([`Request`]), and decrypts
//! what is answered ([`Answer`]). What a task's agent may read follows from the task's definition alone ([`reference`]).

mod access;
mod parameter;
mod reference;
mod stored;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use longshore_api::ecs::types;
use longshore_api::{ApiError, Timestamp, secrets_manager, ssm};
use serde::{Deserialize, Serialize};

use crate::cell::Turn;
use crate::entity::EntityKey;
use crate::limits;
use crate::principal::Principal;
use crate::read::ReadModel;
use crate::tables::Tables;

pub use access::{RoleHolder, authorise_write};
pub use parameter::{Parameter, ParameterVersion};
pub use stored::{SecretVersion, StoredSecret};

/// An encrypted value. Made and opened at the edge; here it is carried and kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sealed {
    /// Which key it is encrypted under.
    pub key: Arc<str>,
    /// Nonce, ciphertext and tag, in base64.
    pub text: Arc<str>,
    /// A keyed hash of the clear value: tells whether two are the same, and nothing to whoever has not the key.
    pub mark: Arc<str>,
}

/// What is asked of parameters and secrets.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    /// PutParameter.
    PutParameter(PutParameter),
    /// DeleteParameter.
    DeleteParameter(ssm::DeleteParameterRequest),
    /// GetParameters.
    GetParameters(ssm::GetParametersRequest),
    /// CreateSecret.
    CreateSecret(CreateSecret),
    /// PutSecretValue.
    PutSecretValue(PutSecretValue),
    /// DeleteSecret.
    DeleteSecret(secrets_manager::DeleteSecretRequest),
    /// GetSecretValue.
    GetSecretValue(secrets_manager::GetSecretValueRequest),
}

/// PutParameter, its value encrypted.
#[derive(Clone, Debug, PartialEq)]
pub struct PutParameter {
    /// The parameter's name.
    pub name: String,
    /// Its value.
    pub value: Sealed,
    /// How many bytes the value has in clear: a parameter's tier bounds them.
    pub bytes: usize,
    /// What kind of text it is; a parameter that exists keeps its own.
    pub parameter_type: Option<ssm::ParameterType>,
    /// How large it may be.
    pub tier: Option<ssm::ParameterTier>,
    /// It may exist already.
    pub overwrite: bool,
    /// For people.
    pub description: Option<String>,
    /// For people and tools.
    pub tags: Vec<types::Tag>,
}

/// A version of a secret that is to be made.
#[derive(Clone, Debug, PartialEq)]
pub struct NewVersion {
    /// Its id: the token of the client that makes it.
    pub id: String,
    /// Its value; a secret may be made without one.
    pub value: Option<Sealed>,
    /// The value is bytes, not text.
    pub binary: bool,
}

/// CreateSecret, its value encrypted.
#[derive(Clone, Debug, PartialEq)]
pub struct CreateSecret {
    /// The secret's name.
    pub name: String,
    /// Its first version.
    pub version: NewVersion,
    /// For people.
    pub description: Option<String>,
    /// For people and tools.
    pub tags: Vec<types::Tag>,
}

/// PutSecretValue, the value encrypted.
#[derive(Clone, Debug, PartialEq)]
pub struct PutSecretValue {
    /// Name or ARN.
    pub secret_id: String,
    /// The name of the secret that the value was encrypted for.
    pub sealed_for: Arc<str>,
    /// The version.
    pub version: NewVersion,
    /// The labels that move to it; AWSCURRENT when there are none.
    pub stages: Vec<String>,
}

/// What is answered.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// Of SSM, complete.
    Ssm(ssm::Response),
    /// Of Secrets Manager, complete.
    SecretsManager(secrets_manager::Response),
    /// Parameters, each with its value to be decrypted; and the names that mean none.
    Parameters(Vec<(ssm::Parameter, Sealed)>, Vec<String>),
    /// A version of a secret, its value to be decrypted.
    SecretValue(Box<secrets_manager::GetSecretValueResponse>, SecretVersion),
}

impl Request {
    /// The service and the operation, as refusals and policies name them.
    pub fn action(&self) -> &'static str {
        match self {
            Self::PutParameter(_) => "ssm:PutParameter",
            Self::DeleteParameter(_) => "ssm:DeleteParameter",
            Self::GetParameters(_) => "ssm:GetParameters",
            Self::CreateSecret(_) => "secretsmanager:CreateSecret",
            Self::PutSecretValue(_) => "secretsmanager:PutSecretValue",
            Self::DeleteSecret(_) => "secretsmanager:DeleteSecret",
            Self::GetSecretValue(_) => "secretsmanager:GetSecretValue",
        }
    }
}

impl Sealed {
    /// How many bytes of memory it takes, nearly.
    fn bytes(&self) -> usize {
        self.text.len()
    }
}

/// Whether the values of all parameters and secrets have room for this one in place of what was there.
fn has_room(tables: &Tables, before: usize, after: usize) -> bool {
    after <= before || tables.sealed_bytes() - before + after <= limits::SEALED_BYTES
}

/// Carries a request out.
pub(crate) fn perform(turn: &mut Turn<'_>, principal: &Principal, request: &Request) -> Result<Answer, ApiError> {
    turn.tables.view().authorise_secrets(principal, request)?;
    match request {
        Request::PutParameter(request) => parameter::put(turn, request),
        Request::DeleteParameter(request) => parameter::delete(turn, request),
        Request::CreateSecret(request) => stored::create(turn, request),
        Request::PutSecretValue(request) => stored::put(turn, request),
        Request::DeleteSecret(request) => stored::delete(turn, request),
        // A read that came this way is answered from the state it would meet.
        Request::GetParameters(request) => Ok(parameter::get(turn.tables.view(), request)),
        Request::GetSecretValue(request) => stored::get(turn.tables.view(), request),
    }
}

impl ReadModel {
    /// Answers a request that only reads; `None` when it is for the cell.
    ///
    /// # Errors
    /// When `principal` may not ask, for every request.
    pub fn answer_secrets(&self, principal: &Principal, request: &Request) -> Result<Option<Answer>, ApiError> {
        self.authorise_secrets(principal, request)?;
        match request {
            Request::GetParameters(request) => Ok(Some(parameter::get(self, request))),
            Request::GetSecretValue(request) => stored::get(self, request).map(Some),
            _ => Ok(None),
        }
    }

    /// The key that some value here is encrypted under, if there is any value: it must not be lost.
    pub fn sealed_under(&self) -> Option<Arc<str>> {
        let parameters = self.parameters.values().flat_map(|parameter| &parameter.versions);
        let secrets = self.secrets.values().flat_map(|secret| &secret.versions);
        parameters
            .map(|version| &version.value)
            .chain(secrets.map(|version| &version.value))
            .next()
            .map(|value| value.key.clone())
    }
}

/// Removes secrets whose recovery window is over; as many as the tick's group has room for.
pub(crate) fn expire(turn: &mut Turn<'_>) {
    while turn.has_room() {
        match turn.tables.secrets_ending().first().cloned() {
            Some((at, name)) if at <= turn.now => turn.tables.remove(&EntityKey::Secret(name)),
            _ => break,
        }
    }
}

/// When a secret is to be removed next.
pub(crate) fn next_due(tables: &Tables) -> Option<Timestamp> {
    tables.secrets_ending().first().map(|(at, _)| *at)
}
