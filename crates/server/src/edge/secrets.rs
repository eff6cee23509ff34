//! The life of a call of SSM or Secrets Manager at the edge. Values are encrypted here before anything else hears of them, and
//! decrypted here for whoever may read them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::request::Parts;
use longshore_api::ecs::types;
use longshore_api::error::{INTERNAL_FAILURE, UNKNOWN_OPERATION_EXCEPTION};
use longshore_api::{ApiError, ErrorCode, Sensitive, secrets_manager, ssm};
use longshore_core::secret::{self, Answer, NewVersion, Sealed};
use longshore_core::{Principal, limits};
use longshore_wire::aws_json;
use longshore_wire::request_id::RequestId;
use longshore_wire::sigv4;
use zeroize::Zeroizing;

use super::Edge;
use super::request::Trace;
use crate::auth::Claimed;
use crate::vault::{Place, Vault, VaultError};

/// A call that is verified and typed, to be carried out.
pub(super) struct Call {
    principal: Principal,
    request: secret::Request,
    /// Values that were given as secret are wanted in clear.
    decrypt: bool,
}

/// Reads a call of SSM.
pub(super) fn read_ssm(
    edge: &Edge,
    head: &Parts,
    claimed: Claimed,
    body: &[u8],
    trace: &mut Trace,
) -> Result<Call, ApiError> {
    let principal = claimed.prove(&sigv4::Request::new(head, body))?;
    trace.principal = Some(principal.clone());
    let name = aws_json::target(&head.headers)?.operation;
    let operation = ssm::Operation::from_name(name)
        .ok_or_else(|| not_served("SSM", name, ssm::Operation::ALL.iter().map(|operation| operation.name())))?;
    trace.operation = Some(operation.name());
    aws_json::check_content_type(&head.headers)?;
    let value = aws_json::parse_body(body)?;
    let mut decrypt = true;
    let request = match ssm::Request::decode(operation, &value)? {
        ssm::Request::GetParameters(request) => {
            decrypt = request.with_decryption == Some(true);
            secret::Request::GetParameters(request)
        }
        ssm::Request::PutParameter(request) => {
            secret::authorise_write(&principal, "ssm:PutParameter")?;
            secret::Request::PutParameter(put_parameter(vault(edge)?, request)?)
        }
        ssm::Request::DeleteParameter(request) => secret::Request::DeleteParameter(request),
    };
    Ok(Call { principal, request, decrypt })
}

/// Reads a call of Secrets Manager.
pub(super) fn read_secrets_manager(
    edge: &Edge,
    head: &Parts,
    claimed: Claimed,
    body: &[u8],
    trace: &mut Trace,
) -> Result<Call, ApiError> {
    use secrets_manager::{Operation, Request};
    let principal = claimed.prove(&sigv4::Request::new(head, body))?;
    trace.principal = Some(principal.clone());
    let name = aws_json::target(&head.headers)?.operation;
    let operation = Operation::from_name(name)
        .ok_or_else(|| not_served("Secrets Manager", name, Operation::ALL.iter().map(|operation| operation.name())))?;
    trace.operation = Some(operation.name());
    aws_json::check_content_type(&head.headers)?;
    let value = aws_json::parse_body(body)?;
    let request = match Request::decode(operation, &value)? {
        Request::GetSecretValue(request) => secret::Request::GetSecretValue(request),
        Request::CreateSecret(request) => {
            secret::authorise_write(&principal, "secretsmanager:CreateSecret")?;
            secret::Request::CreateSecret(create_secret(vault(edge)?, request)?)
        }
        Request::PutSecretValue(request) => {
            secret::authorise_write(&principal, "secretsmanager:PutSecretValue")?;
            secret::Request::PutSecretValue(put_secret_value(edge, request)?)
        }
        Request::DeleteSecret(request) => secret::Request::DeleteSecret(request),
    };
    Ok(Call { principal, request, decrypt: true })
}

/// Carries a call out; the answer is its JSON.
pub(super) async fn answer(edge: &Edge, call: Call) -> Result<Vec<u8>, ApiError> {
    let Call { principal, request, decrypt } = call;
    match edge.orchestrator.secrets(principal, request).await? {
        Answer::Ssm(response) => Ok(response.to_json()),
        Answer::SecretsManager(response) => Ok(response.to_json()),
        Answer::Parameters(found, invalid_parameters) => {
            let reveal = |(parameter, sealed)| parameter_with_value(vault(edge)?, parameter, &sealed, decrypt);
            let parameters = found.into_iter().map(reveal).collect::<Result<_, ApiError>>()?;
            Ok(ssm::GetParametersResult { invalid_parameters, parameters }.to_json())
        }
        Answer::SecretValue(mut response, version) => {
            let place = Place::SecretVersion { secret: &response.name, id: &version.id };
            let failed = |error| failed(secrets_manager::error::DECRYPTION_FAILURE, error);
            let clear = vault(edge)?.unseal(place, &version.value).map_err(failed)?;
            match version.binary {
                true => response.secret_binary = Some(STANDARD.encode(&*clear).into()),
                false => response.secret_string = Some(text(&clear)),
            }
            Ok(response.to_json())
        }
    }
}

/// A parameter as it is answered. Without `WithDecryption` a secure one is answered as it is kept.
fn parameter_with_value(
    vault: &Vault,
    parameter: ssm::Parameter,
    sealed: &Sealed,
    decrypt: bool,
) -> Result<ssm::Parameter, ApiError> {
    if !decrypt && parameter.parameter_type == Some(ssm::ParameterType::SecureString) {
        return Ok(ssm::Parameter { value: sealed.text.to_string().into(), ..parameter });
    }
    let clear = vault.unseal(Place::Parameter(&parameter.name), sealed);
    let clear = clear.map_err(|error| failed(ssm::error::INVALID_KEY_ID, error))?;
    Ok(ssm::Parameter { value: text(&clear), ..parameter })
}

fn put_parameter(vault: &Vault, request: ssm::PutParameterRequest) -> Result<secret::PutParameter, ApiError> {
    let invalid = |message: &str| Err(ApiError::new(ssm::error::VALIDATION_EXCEPTION, message));
    refuse(
        ssm::error::VALIDATION_EXCEPTION,
        "PutParameter",
        &[
            ("AllowedPattern", request.allowed_pattern.as_deref().is_some_and(|pattern| !pattern.is_empty())),
            ("DataType", request.data_type.as_deref().is_some_and(|data_type| data_type != "text")),
            ("KeyId", request.key_id.as_deref().is_some_and(|key| key != "alias/aws/ssm")),
            ("Policies", request.policies.is_some()),
        ],
    )?;
    let (name, value) = (request.name.trim().to_owned(), request.value);
    if value.is_empty() {
        return invalid(
            "1 validation error detected: Value at 'value' failed to satisfy constraint: Member must have length greater than or equal to 1",
        );
    }
    if value.len() > limits::ADVANCED_PARAMETER_BYTES {
        return invalid("The parameter's value is larger than any tier allows.");
    }
    let sealed = vault.seal(Place::Parameter(&name), value.as_bytes());
    Ok(secret::PutParameter {
        value: sealed.map_err(|error| failed(ssm::error::INVALID_KEY_ID, error))?,
        bytes: value.len(),
        name,
        parameter_type: request.parameter_type,
        tier: request.tier,
        overwrite: request.overwrite == Some(true),
        description: request.description,
        tags: request.tags.into_iter().flatten().map(|ssm::Tag { key, value }| tag(key, value)).collect(),
    })
}

fn create_secret(
    vault: &Vault,
    request: secrets_manager::CreateSecretRequest,
) -> Result<secret::CreateSecret, ApiError> {
    let given = |text: &Option<String>| text.as_deref().is_some_and(|text| !text.is_empty());
    refuse(
        secrets_manager::error::INVALID_PARAMETER_EXCEPTION,
        "CreateSecret",
        &[
            ("AddReplicaRegions", request.add_replica_regions.is_some()),
            ("CrossAccountPrimaryARN", given(&request.cross_account_primary_arn)),
            ("ForceOverwriteReplicaSecret", request.force_overwrite_replica_secret == Some(true)),
            (
                "KmsKeyId",
                given(&request.kms_key_id) && request.kms_key_id.as_deref() != Some("alias/aws/secretsmanager"),
            ),
            ("Type", given(&request.secret_type)),
        ],
    )?;
    let tags = request.tags.into_iter().flatten();
    let given = (request.client_request_token, request.secret_string, request.secret_binary);
    let version = version(vault, &request.name, given)?;
    Ok(secret::CreateSecret {
        name: request.name,
        version,
        description: request.description,
        tags: tags.map(|secrets_manager::Tag { key, value }| tag(key, value)).collect(),
    })
}

fn put_secret_value(
    edge: &Edge,
    request: secrets_manager::PutSecretValueRequest,
) -> Result<secret::PutSecretValue, ApiError> {
    refuse(
        secrets_manager::error::INVALID_PARAMETER_EXCEPTION,
        "PutSecretValue",
        &[("RotationToken", request.rotation_token.is_some())],
    )?;
    // Of one that is not there the cell says so; should it be there by then, the value is sealed for another name and refused.
    let name = edge.orchestrator.secret_name(&request.secret_id);
    let sealed_for = name.unwrap_or_else(|| request.secret_id.as_str().into());
    let given = (request.client_request_token, request.secret_string, request.secret_binary);
    let version = version(vault(edge)?, &sealed_for, given)?;
    if version.value.is_none() {
        let message = "You must provide either SecretString or SecretBinary.";
        return Err(ApiError::new(secrets_manager::error::INVALID_REQUEST_EXCEPTION, message));
    }
    let stages = request.version_stages.unwrap_or_default();
    Ok(secret::PutSecretValue { secret_id: request.secret_id, sealed_for, version, stages })
}

/// What a request says of a version: the token that names it, and its value as text or as bytes.
type GivenVersion = (Option<String>, Option<Sensitive<String>>, Option<Sensitive<String>>);

/// The version of a secret that a request makes, its value encrypted. Whoever names none has it named.
fn version(vault: &Vault, secret: &str, (token, string, binary): GivenVersion) -> Result<NewVersion, ApiError> {
    let invalid = |message: &str| ApiError::new(secrets_manager::error::INVALID_PARAMETER_EXCEPTION, message);
    let id = token.unwrap_or_else(|| RequestId::random().to_string());
    let (clear, binary) = match (string, binary) {
        (Some(_), Some(_)) => {
            return Err(invalid(
                "You can't specify both a binary secret value and a string secret value in the same secret.",
            ));
        }
        (None, None) => return Ok(NewVersion { id, value: None, binary: false }),
        (Some(string), None) => (Zeroizing::new(string.into_inner().into_bytes()), false),
        (None, Some(binary)) => {
            let bytes = STANDARD.decode(binary.as_bytes()).map_err(|_| invalid("SecretBinary is not base64."))?;
            (Zeroizing::new(bytes), true)
        }
    };
    if clear.len() > limits::SECRET_BYTES {
        return Err(invalid("The secret value has more than 65536 bytes."));
    }
    let sealed = vault.seal(Place::SecretVersion { secret, id: &id }, &clear);
    let sealed = sealed.map_err(|error| failed(secrets_manager::error::ENCRYPTION_FAILURE, error))?;
    Ok(NewVersion { id, value: Some(sealed), binary })
}

fn tag(key: String, value: String) -> types::Tag {
    types::Tag { key: Some(key), value: Some(value) }
}

/// What was sealed as text is text.
fn text(clear: &[u8]) -> Sensitive<String> {
    String::from_utf8_lossy(clear).into_owned().into()
}

/// Members that are not obeyed are refused by name.
fn refuse(code: ErrorCode, operation: &str, members: &[(&str, bool)]) -> Result<(), ApiError> {
    match members.iter().find(|(_, given)| *given) {
        None => Ok(()),
        Some((member, _)) => {
            Err(ApiError::new(code, format!("{operation}: Longshore does not support '{member}'. Leave it out.")))
        }
    }
}

fn not_served(service: &str, operation: &str, served: impl Iterator<Item = &'static str>) -> ApiError {
    let served: Vec<&str> = served.collect();
    let operation: String = operation.chars().take(64).flat_map(char::escape_default).collect();
    let message = format!("Longshore does not serve '{operation}' of {service}; it serves {}.", served.join(", "));
    ApiError::new(UNKNOWN_OPERATION_EXCEPTION, message)
}

fn vault(edge: &Edge) -> Result<&Vault, ApiError> {
    edge.vault.as_ref().ok_or_else(|| ApiError::new(INTERNAL_FAILURE, "This server keeps no secrets."))
}

/// Where the key should be is for the operator, who reads our log; that it is missing is for the caller, too.
fn failed(code: ErrorCode, error: VaultError) -> ApiError {
    let message = match error {
        VaultError::Lost { .. } | VaultError::NotOurs { .. } => {
            "The key that the value is encrypted under is not available; the server's log says where it should be."
        }
        VaultError::Key(_) | VaultError::Randomness => "The value could not be encrypted; the server's log says why.",
    };
    ApiError::new(code, message).with_context(error.to_string())
}
