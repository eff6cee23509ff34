//! Secrets of Secrets Manager: CreateSecret, PutSecretValue, GetSecretValue, DeleteSecret.
//!
//! A secret's versions carry labels, each of which is on one version at most. AWSCURRENT is what is read where nothing else is
//! asked for; it leaves AWSPREVIOUS on the version that it moves from. A version without a label is forgotten when newer ones
//! need its room.

use std::sync::Arc;

use longshore_api::ecs::types;
use longshore_api::secrets_manager::{self, error};
use longshore_api::ssm::error::VALIDATION_EXCEPTION;
use longshore_api::{ApiError, Timestamp};
use serde::{Deserialize, Serialize};

use super::{Answer, CreateSecret, NewVersion, PutSecretValue, Sealed, has_room};
use crate::cell::Turn;
use crate::entity::{Entity, EntityKey};
use crate::entropy::Entropy;
use crate::limits;
use crate::read::ReadModel;
use crate::tags;

/// The label of the version that is read where no other is asked for.
const CURRENT: &str = "AWSCURRENT";
/// The label of the version that was it before.
const PREVIOUS: &str = "AWSPREVIOUS";
/// The days in which the name of a deleted secret is held, where the caller does not say.
const RECOVERY_DAYS: i64 = 30;
const DAY_MS: i64 = 24 * 3_600_000;

/// A secret with its versions. Durable; written by the operations on secrets and removed when its recovery window is over.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StoredSecret {
    /// Its name.
    pub name: Arc<str>,
    /// The six characters behind the name in its ARN: a secret that is made anew has another ARN.
    pub suffix: Arc<str>,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<Arc<str>>,
    /// Tags given at its creation.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<types::Tag>,
    /// Oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub versions: Vec<SecretVersion>,
    /// When it is removed: it was deleted, and nobody can read it any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ends_at: Option<Timestamp>,
}

/// A version of a secret.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SecretVersion {
    /// The token of the client that made it.
    pub id: Arc<str>,
    /// Its labels.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stages: Vec<Arc<str>>,
    /// Its value.
    pub value: Sealed,
    /// The value is bytes, not text.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub binary: bool,
    /// When it was made.
    pub at: Timestamp,
}

/// CreateSecret. Repeated with the same token and value it is the same secret.
pub(super) fn create(turn: &mut Turn<'_>, request: &CreateSecret) -> Result<Answer, ApiError> {
    check_name(&request.name)?;
    let tags = tags::check(Some(&request.tags))?;
    let view = turn.tables.view();
    if let Some(known) = view.secrets.get(request.name.as_str()) {
        return repeated(view, known, request);
    }
    if view.secrets.len() >= limits::SECRETS {
        let message = format!("There are {} secrets already: delete some.", limits::SECRETS);
        return Err(ApiError::new(error::LIMIT_EXCEEDED_EXCEPTION, message));
    }
    let version = request.version.value.is_some().then(|| request.version.id.clone());
    let versions = version_of(&request.version, turn.now, vec![CURRENT.into()]).into_iter().collect();
    let secret = Arc::new(StoredSecret {
        name: request.name.as_str().into(),
        suffix: suffix(&mut turn.entropy),
        description: request.description.as_deref().map(Arc::from),
        tags,
        versions,
        ends_at: None,
    });
    if !has_room(turn.tables, 0, secret.bytes()) {
        return Err(no_room());
    }
    let arn = turn.config.secret_arn(&secret);
    turn.tables.put(Entity::Secret(secret));
    let response = secrets_manager::CreateSecretResponse { arn, name: request.name.clone(), version_id: version };
    Ok(Answer::SecretsManager(response.into()))
}

/// A secret of this name is there already.
fn repeated(view: &ReadModel, known: &StoredSecret, request: &CreateSecret) -> Result<Answer, ApiError> {
    if known.ends_at.is_some() {
        let message = "You can't create this secret because a secret with this name is already scheduled for deletion.";
        return Err(ApiError::new(error::INVALID_REQUEST_EXCEPTION, message));
    }
    let mark = request.version.value.as_ref().map(|value| &value.mark);
    let same = known.version(&request.version.id).is_some_and(|version| Some(&version.value.mark) == mark);
    if !same {
        let message = format!("The operation failed because the secret {} already exists.", known.name);
        return Err(ApiError::new(error::RESOURCE_EXISTS_EXCEPTION, message));
    }
    let response = secrets_manager::CreateSecretResponse {
        arn: view.config.secret_arn(known),
        name: known.name.to_string(),
        version_id: Some(request.version.id.clone()),
    };
    Ok(Answer::SecretsManager(response.into()))
}

/// PutSecretValue. Repeated with the same token and value it changes nothing.
pub(super) fn put(turn: &mut Turn<'_>, request: &PutSecretValue) -> Result<Answer, ApiError> {
    let known = turn.tables.view().living_secret(&request.secret_id)?.clone();
    // It came to be, or to be meant, while the value was on its way here.
    if known.name != request.sealed_for {
        return Err(not_found());
    }
    let stages = match known.version(&request.version.id) {
        Some(version) => {
            let mark = request.version.value.as_ref().map(|value| &value.mark);
            if Some(&version.value.mark) != mark {
                let message = format!(
                    "You can't use ClientRequestToken {} because that value is already in use for a version of secret {}.",
                    version.id,
                    turn.config.secret_arn(&known)
                );
                return Err(ApiError::new(error::RESOURCE_EXISTS_EXCEPTION, message));
            }
            version.stages.clone()
        }
        None => {
            let secret = known.with_version(&request.version, &request.stages, turn.now)?;
            let stages = secret.version(&request.version.id).map(|version| version.stages.clone()).unwrap_or_default();
            if !has_room(turn.tables, known.bytes(), secret.bytes()) {
                return Err(no_room());
            }
            turn.tables.put(Entity::Secret(Arc::new(secret)));
            stages
        }
    };
    let response = secrets_manager::PutSecretValueResponse {
        arn: turn.config.secret_arn(&known),
        name: known.name.to_string(),
        version_id: request.version.id.clone(),
        version_stages: stages.iter().map(|stage| stage.to_string()).collect(),
    };
    Ok(Answer::SecretsManager(response.into()))
}

/// GetSecretValue.
pub(super) fn get(view: &ReadModel, request: &secrets_manager::GetSecretValueRequest) -> Result<Answer, ApiError> {
    let secret = view.living_secret(&request.secret_id)?;
    let version = secret.chosen(request.version_id.as_deref(), request.version_stage.as_deref())?;
    let response = secrets_manager::GetSecretValueResponse {
        arn: view.config.secret_arn(secret),
        created_date: Some(version.at),
        name: secret.name.to_string(),
        secret_binary: None,
        secret_string: None,
        version_id: Some(version.id.to_string()),
        version_stages: Some(version.stages.iter().map(|stage| stage.to_string()).collect()),
    };
    Ok(Answer::SecretValue(Box::new(response), version.clone()))
}

/// DeleteSecret: for good, or so that nobody can read it until it is.
pub(super) fn delete(turn: &mut Turn<'_>, request: &secrets_manager::DeleteSecretRequest) -> Result<Answer, ApiError> {
    let invalid = |message: &str| Err(ApiError::new(error::INVALID_PARAMETER_EXCEPTION, message));
    let force = request.force_delete_without_recovery == Some(true);
    if force && request.recovery_window_in_days.is_some() {
        return invalid("You can't use ForceDeleteWithoutRecovery in conjunction with RecoveryWindowInDays.");
    }
    let days = request.recovery_window_in_days.unwrap_or(RECOVERY_DAYS);
    if !(7..=RECOVERY_DAYS).contains(&days) {
        return invalid("The RecoveryWindowInDays value must be between 7 and 30 days (inclusive).");
    }
    let known = turn.tables.view().secret(&request.secret_id).cloned();
    let (arn, name, deletion_date) = match known {
        Some(known) => {
            let (arn, name) = (turn.config.secret_arn(&known), known.name.to_string());
            let ends_at = if force {
                turn.tables.remove(&EntityKey::Secret(known.name.clone()));
                turn.now
            } else if known.ends_at.is_some() {
                let message = "You tried to perform the operation on a secret that's currently marked deleted.";
                return Err(ApiError::new(error::INVALID_REQUEST_EXCEPTION, message));
            } else {
                let ends_at = turn.now.plus_millis(days * DAY_MS);
                let ended = StoredSecret { ends_at: Some(ends_at), ..StoredSecret::clone(&known) };
                turn.tables.put(Entity::Secret(Arc::new(ended)));
                ends_at
            };
            (arn, name, ends_at)
        }
        // What is to be gone for good and is not there is gone.
        None if force => (request.secret_id.clone(), request.secret_id.clone(), turn.now),
        None => return Err(not_found()),
    };
    let response = secrets_manager::DeleteSecretResponse { arn, deletion_date, name };
    Ok(Answer::SecretsManager(response.into()))
}

impl StoredSecret {
    /// How many bytes its values have.
    pub(crate) fn bytes(&self) -> usize {
        self.versions.iter().map(|version| version.value.bytes()).sum()
    }

    fn version(&self, id: &str) -> Option<&SecretVersion> {
        self.versions.iter().find(|version| *version.id == *id)
    }

    fn labelled(&self, stage: &str) -> Option<&SecretVersion> {
        self.versions.iter().find(|version| version.has(stage))
    }

    /// The version that is asked for, by its id, its label, both or neither.
    fn chosen(&self, id: Option<&str>, stage: Option<&str>) -> Result<&SecretVersion, ApiError> {
        let missing = |what: String| {
            let message = format!("Secrets Manager can't find the specified secret value for {what}");
            ApiError::new(error::RESOURCE_NOT_FOUND_EXCEPTION, message)
        };
        match (id, stage) {
            (None, stage) => {
                let stage = stage.unwrap_or(CURRENT);
                self.labelled(stage).ok_or_else(|| missing(format!("staging label: {stage}")))
            }
            (Some(id), stage) => {
                let version = self.version(id).ok_or_else(|| missing(format!("VersionId: {id}")))?;
                match stage {
                    Some(stage) if !version.has(stage) => Err(ApiError::new(
                        error::INVALID_REQUEST_EXCEPTION,
                        "You provided a VersionStage that is not associated to the provided VersionId.",
                    )),
                    _ => Ok(version),
                }
            }
        }
    }

    /// The secret with a further version, to which these labels move.
    fn with_version(&self, new: &NewVersion, stages: &[String], now: Timestamp) -> Result<Self, ApiError> {
        let mut labels: Vec<Arc<str>> = Vec::new();
        let first = self.versions.is_empty().then_some(CURRENT);
        let default = stages.is_empty().then_some(CURRENT);
        for label in first.into_iter().chain(default).chain(stages.iter().map(String::as_str)) {
            if labels.iter().all(|known| **known != *label) {
                labels.push(label.into());
            }
        }
        let current = self.labelled(CURRENT).map(|version| version.id.clone());
        let moves = labels.iter().any(|label| **label == *CURRENT);
        let mut versions = self.versions.clone();
        for version in &mut versions {
            let left_current = moves && current.as_ref() == Some(&version.id);
            version
                .stages
                .retain(|stage| !(labels.contains(stage) || moves && current.is_some() && **stage == *PREVIOUS));
            if left_current && labels.iter().all(|label| **label != *PREVIOUS) {
                version.stages.push(PREVIOUS.into());
            }
        }
        versions.extend(version_of(new, now, labels));
        // The oldest without a label go first.
        while versions.len() > limits::SECRET_VERSIONS
            && let Some(index) = versions.iter().position(|version| version.stages.is_empty())
        {
            versions.remove(index);
        }
        if versions.len() > limits::SECRET_VERSIONS {
            let message = format!("A secret can have {} versions with staging labels.", limits::SECRET_VERSIONS);
            return Err(ApiError::new(error::LIMIT_EXCEEDED_EXCEPTION, message));
        }
        if versions.iter().map(|version| version.stages.len()).sum::<usize>() > limits::SECRET_STAGES {
            let message = format!("A secret can have {} staging labels.", limits::SECRET_STAGES);
            return Err(ApiError::new(error::LIMIT_EXCEEDED_EXCEPTION, message));
        }
        Ok(Self { versions, ..self.clone() })
    }
}

impl SecretVersion {
    fn has(&self, stage: &str) -> bool {
        self.stages.iter().any(|label| **label == *stage)
    }
}

fn version_of(new: &NewVersion, at: Timestamp, stages: Vec<Arc<str>>) -> Option<SecretVersion> {
    let value = new.value.clone()?;
    Some(SecretVersion { id: new.id.as_str().into(), stages, value, binary: new.binary, at })
}

impl ReadModel {
    /// The name of the secret that is meant by a name or an ARN.
    pub fn secret_name(&self, given: &str) -> Option<Arc<str>> {
        self.secret(given).map(|secret| secret.name.clone())
    }

    /// The secret that a request means, if it can be read and written.
    fn living_secret(&self, given: &str) -> Result<&Arc<StoredSecret>, ApiError> {
        let secret = self.secret(given).ok_or_else(not_found)?;
        match secret.ends_at {
            None => Ok(secret),
            Some(_) => Err(ApiError::new(
                error::INVALID_REQUEST_EXCEPTION,
                "You can't perform this operation on the secret because it was marked for deletion.",
            )),
        }
    }
}

fn no_room() -> ApiError {
    let message = "The values of all parameters and secrets have reached their limit: delete some.";
    ApiError::new(error::LIMIT_EXCEEDED_EXCEPTION, message)
}

fn not_found() -> ApiError {
    ApiError::new(error::RESOURCE_NOT_FOUND_EXCEPTION, "Secrets Manager can't find the specified secret.")
}

fn check_name(name: &str) -> Result<(), ApiError> {
    match name.chars().all(|c| c.is_ascii_alphanumeric() || "-/_+=.@!".contains(c)) {
        true => Ok(()),
        false => Err(ApiError::new(
            VALIDATION_EXCEPTION,
            "Invalid name. Must be a valid name containing alphanumeric characters, or any of the following: -/_+=.@!",
        )),
    }
}

fn suffix(entropy: &mut Entropy) -> Arc<str> {
    const ALPHABET: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    (0..limits::SECRET_SUFFIX).map(|_| char::from(ALPHABET[entropy.below(ALPHABET.len())])).collect::<String>().into()
}
