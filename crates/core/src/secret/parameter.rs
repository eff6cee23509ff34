//! Parameters of SSM: PutParameter, GetParameters, DeleteParameter.

use std::sync::Arc;

use longshore_api::ecs::types;
use longshore_api::error::ACCESS_DENIED_EXCEPTION;
use longshore_api::ssm::{self, ParameterTier, ParameterType, error};
use longshore_api::{ApiError, Timestamp};
use serde::{Deserialize, Serialize};

use super::reference::ParameterRef;
use super::{Answer, PutParameter, Sealed, has_room};
use crate::cell::Turn;
use crate::config::CellConfig;
use crate::entity::{Entity, EntityKey};
use crate::limits;
use crate::read::ReadModel;
use crate::tags;

/// A parameter with its latest versions. Durable; written by PutParameter and DeleteParameter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Parameter {
    /// Its name.
    pub name: Arc<str>,
    /// What kind of text its value is.
    pub parameter_type: ParameterType,
    /// How large it may be: Standard or Advanced.
    pub tier: ParameterTier,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<Arc<str>>,
    /// Tags given at its creation.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<types::Tag>,
    /// Oldest first, never empty.
    pub versions: Vec<ParameterVersion>,
}

/// A version of a parameter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ParameterVersion {
    /// 1 for the first; each further one is one more.
    pub version: i64,
    /// Its value.
    pub value: Sealed,
    /// When it was made.
    pub at: Timestamp,
}

impl Parameter {
    /// How many bytes its values have.
    pub(crate) fn bytes(&self) -> usize {
        self.versions.iter().map(|version| version.value.bytes()).sum()
    }
}

/// PutParameter.
pub(super) fn put(turn: &mut Turn<'_>, request: &PutParameter) -> Result<Answer, ApiError> {
    check_name(turn.config, &request.name)?;
    let known = turn.tables.view().parameters.get(&*request.name).cloned();
    if known.is_some() && !request.overwrite {
        let message =
            "The parameter already exists. To overwrite this value, set the overwrite option in the request to true.";
        return Err(ApiError::new(error::PARAMETER_ALREADY_EXISTS, message));
    }
    if request.overwrite && !request.tags.is_empty() {
        return invalid(
            "Invalid request: tags and overwrite can't be used together. To create a parameter with tags, please remove \
             overwrite flag.",
        );
    }
    let tier = tier(known.as_deref(), request)?;
    let last = known.as_ref().and_then(|known| known.versions.last());
    let version = ParameterVersion {
        version: last.map_or(1, |last| last.version + 1),
        value: request.value.clone(),
        at: turn.now,
    };
    let number = version.version;
    let before = known.as_ref().map_or(0, |known| known.bytes());
    let description = request.description.as_deref().map(Arc::from);
    let parameter = match known {
        Some(known) => {
            check_type(&known, request)?;
            let mut versions = known.versions.clone();
            versions.push(version);
            versions.drain(..versions.len().saturating_sub(limits::PARAMETER_VERSIONS));
            let description = description.or_else(|| known.description.clone());
            Parameter { tier, description, versions, ..Parameter::clone(&known) }
        }
        None => Parameter {
            name: request.name.as_str().into(),
            parameter_type: new_type(turn, request)?,
            tier,
            description,
            tags: check_tags(&request.tags)?,
            versions: vec![version],
        },
    };
    if !has_room(turn.tables, before, parameter.bytes()) {
        let message = "The values of all parameters and secrets have reached their limit: delete some.";
        return Err(ApiError::new(error::PARAMETER_LIMIT_EXCEEDED, message));
    }
    turn.tables.put(Entity::Parameter(Arc::new(parameter)));
    Ok(Answer::Ssm(ssm::PutParameterResult { tier, version: number }.into()))
}

/// DeleteParameter.
pub(super) fn delete(turn: &mut Turn<'_>, request: &ssm::DeleteParameterRequest) -> Result<Answer, ApiError> {
    let name = turn.tables.view().parameters.get_key_value(request.name.as_str()).map(|(name, _)| name.clone());
    let name = name
        .ok_or_else(|| ApiError::new(error::PARAMETER_NOT_FOUND, format!("Parameter {} not found.", request.name)))?;
    turn.tables.remove(&EntityKey::Parameter(name));
    Ok(Answer::Ssm(ssm::DeleteParameterResult {}.into()))
}

/// GetParameters: in the order of names, as SSM has it.
pub(super) fn get(view: &ReadModel, request: &ssm::GetParametersRequest) -> Answer {
    let (mut found, mut invalid) = (Vec::new(), Vec::new());
    for given in &request.names {
        let reference = ParameterRef::parse(&view.config, given);
        match reference.and_then(|reference| view.parameter_version(&reference)) {
            Some((parameter, version, selector)) => {
                found.push((document(&view.config, parameter, version, selector), version.value.clone()));
            }
            None => invalid.push(given.clone()),
        }
    }
    found.sort_by(|(one, _), (other, _)| one.name.cmp(&other.name));
    Answer::Parameters(found, invalid)
}

impl ReadModel {
    /// The version of a parameter that is meant: the latest unless another one is named; and how it was named.
    fn parameter_version(
        &self,
        reference: &ParameterRef<'_>,
    ) -> Option<(&Parameter, &ParameterVersion, Option<String>)> {
        let parameter = self.parameter(reference)?;
        match reference.selector {
            None => Some((parameter, parameter.versions.last()?, None)),
            Some(selector) => {
                let number: i64 = selector.parse().ok()?;
                let version = parameter.versions.iter().find(|version| version.version == number)?;
                Some((parameter, version, Some(format!(":{selector}"))))
            }
        }
    }
}

/// The answer's parameter; its value is still to be filled in.
fn document(
    config: &CellConfig,
    parameter: &Parameter,
    version: &ParameterVersion,
    selector: Option<String>,
) -> ssm::Parameter {
    ssm::Parameter {
        arn: Some(config.parameter_arn(&parameter.name)),
        data_type: Some("text".to_owned()),
        last_modified_date: Some(version.at),
        name: parameter.name.to_string(),
        selector,
        parameter_type: Some(parameter.parameter_type),
        value: String::new().into(),
        version: Some(version.version),
    }
}

/// The rules of names, in SSM's words.
fn check_name(config: &CellConfig, name: &str) -> Result<(), ApiError> {
    let first = name.trim_start_matches('/').to_ascii_lowercase();
    if first.starts_with("aws") {
        let message = format!("No access to reserved parameter name: {name}.");
        return Err(ApiError::new(ACCESS_DENIED_EXCEPTION, message));
    }
    let levels: Vec<&str> = name.strip_prefix('/').unwrap_or(name).split('/').collect();
    let allowed = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    if first.starts_with("ssm") || levels.iter().any(|level| level.is_empty() || !level.chars().all(allowed)) {
        return invalid(
            "Parameter name: can't be prefixed with \"ssm\" (case-insensitive). If formed as a path, it can consist of \
             sub-paths divided by slash symbol; each sub-path can be formed as a mix of letters, numbers and the following 3 \
             symbols .-_",
        );
    }
    if levels.len() > 1 && !name.starts_with('/') {
        return invalid("Parameter name must be a fully qualified name.");
    }
    if levels.len() > limits::PARAMETER_LEVELS {
        let message = format!("A hierarchy can have a maximum of {} levels.", limits::PARAMETER_LEVELS);
        return Err(ApiError::new(error::HIERARCHY_LEVEL_LIMIT_EXCEEDED_EXCEPTION, message));
    }
    let (most, prefix) = (limits::PARAMETER_ARN, config.parameter_arn("").len());
    if config.parameter_arn(name).len() > most {
        return invalid(format!(
            "Parameter name: with the {prefix} characters that precede it in the ARN it can have a maximum of {most} characters."
        ));
    }
    Ok(())
}

/// The tier that holds from now on, if the value fits it.
fn tier(known: Option<&Parameter>, request: &PutParameter) -> Result<ParameterTier, ApiError> {
    let before = known.map(|known| known.tier);
    let fits_standard = request.bytes <= limits::STANDARD_PARAMETER_BYTES;
    let tier = match (request.tier, before) {
        (Some(ParameterTier::Standard), Some(ParameterTier::Advanced)) => {
            return invalid(
                "This parameter uses the advanced-parameter tier. You can't downgrade a parameter from the \
                 advanced-parameter tier to the standard-parameter tier. If necessary, you can delete the advanced parameter \
                 and recreate it as a standard parameter.",
            );
        }
        (Some(ParameterTier::Advanced), _) | (_, Some(ParameterTier::Advanced)) => ParameterTier::Advanced,
        (Some(ParameterTier::IntelligentTiering), _) if !fits_standard => ParameterTier::Advanced,
        _ => ParameterTier::Standard,
    };
    match tier {
        ParameterTier::Standard if !fits_standard => invalid(format!(
            "Standard tier parameters support a maximum parameter value of {} characters. To create a larger parameter value, \
             upgrade the parameter to use the advanced-parameter tier.",
            limits::STANDARD_PARAMETER_BYTES
        )),
        _ if request.bytes > limits::ADVANCED_PARAMETER_BYTES => invalid(format!(
            "Advanced tier parameters support a maximum parameter value of {} characters.",
            limits::ADVANCED_PARAMETER_BYTES
        )),
        tier => Ok(tier),
    }
}

fn check_type(known: &Parameter, request: &PutParameter) -> Result<(), ApiError> {
    match request.parameter_type {
        Some(asked) if asked != known.parameter_type => Err(ApiError::new(
            error::HIERARCHY_TYPE_MISMATCH_EXCEPTION,
            format!("The parameter is a {}: to make it a {asked}, delete it and create it anew.", known.parameter_type),
        )),
        _ => Ok(()),
    }
}

/// The type of a parameter that is made now, if there is room for it.
fn new_type(turn: &Turn<'_>, request: &PutParameter) -> Result<ParameterType, ApiError> {
    if turn.tables.view().parameters.len() >= limits::PARAMETERS {
        let message = format!("There are {} parameters already: delete some.", limits::PARAMETERS);
        return Err(ApiError::new(error::PARAMETER_LIMIT_EXCEEDED, message));
    }
    match request.parameter_type {
        Some(parameter_type) => Ok(parameter_type),
        None => invalid("A parameter type is required when you create a parameter."),
    }
}

fn check_tags(tags: &[types::Tag]) -> Result<Vec<types::Tag>, ApiError> {
    tags::check(Some(tags)).map_err(|refused| ApiError::new(error::VALIDATION_EXCEPTION, refused.message))
}

fn invalid<T>(message: impl Into<String>) -> Result<T, ApiError> {
    Err(ApiError::new(error::VALIDATION_EXCEPTION, message))
}
