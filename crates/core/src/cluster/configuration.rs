//! The configuration of a cluster: where the output of ExecuteCommand goes, and which keys encrypt what ECS stores. Neither has
//! an effect before there are such sessions and volumes; it is kept for them.

use longshore_api::ApiError;
use longshore_api::ecs::types::{
    ClusterConfiguration, ExecuteCommandConfiguration, ExecuteCommandLogConfiguration, ExecuteCommandLogging,
    ManagedStorageConfiguration,
};

use crate::limits;

/// The configuration with what ECS fills in; `None` when nothing is configured.
///
/// # Errors
/// `InvalidParameterException` for what contradicts itself or is too long to name anything.
pub(super) fn check(given: &ClusterConfiguration) -> Result<Option<ClusterConfiguration>, ApiError> {
    let checked = ClusterConfiguration {
        execute_command_configuration: given
            .execute_command_configuration
            .as_ref()
            .map(check_execute_command)
            .transpose()?,
        managed_storage_configuration: given.managed_storage_configuration.clone(),
    };
    if let Some(storage) = &checked.managed_storage_configuration {
        check_storage(storage)?;
    }
    Ok(Some(checked).filter(|checked| *checked != ClusterConfiguration::default()))
}

fn check_execute_command(given: &ExecuteCommandConfiguration) -> Result<ExecuteCommandConfiguration, ApiError> {
    check_length("kmsKeyId", given.kms_key_id.as_deref(), limits::KMS_KEY_ID)?;
    let logging = given.logging.unwrap_or(ExecuteCommandLogging::Default);
    match (logging, &given.log_configuration) {
        (ExecuteCommandLogging::Override, Some(destination)) if names_destination(destination) => {
            check_destination(destination)?;
        }
        (ExecuteCommandLogging::Override, _) => {
            let message = "A CloudWatch log group name or S3 bucket name must be specified when overriding the default log configuration";
            return Err(ApiError::invalid_parameter(message));
        }
        (ExecuteCommandLogging::None | ExecuteCommandLogging::Default, Some(_)) => {
            let message = "You must set logging to 'OVERRIDE' when you supply a log configuration";
            return Err(ApiError::invalid_parameter(message));
        }
        (ExecuteCommandLogging::None | ExecuteCommandLogging::Default, None) => {}
    }
    Ok(ExecuteCommandConfiguration { logging: Some(logging), ..given.clone() })
}

fn names_destination(destination: &ExecuteCommandLogConfiguration) -> bool {
    let names = [&destination.cloud_watch_log_group_name, &destination.s3_bucket_name];
    names.into_iter().flatten().any(|name| !name.is_empty())
}

fn check_destination(destination: &ExecuteCommandLogConfiguration) -> Result<(), ApiError> {
    check_length("cloudWatchLogGroupName", destination.cloud_watch_log_group_name.as_deref(), limits::LOG_GROUP_NAME)?;
    check_length("s3BucketName", destination.s3_bucket_name.as_deref(), limits::S3_BUCKET_NAME)?;
    check_length("s3KeyPrefix", destination.s3_key_prefix.as_deref(), limits::S3_KEY_PREFIX)
}

fn check_storage(storage: &ManagedStorageConfiguration) -> Result<(), ApiError> {
    let keys = [
        ("kmsKeyId", &storage.kms_key_id),
        ("fargateEphemeralStorageKmsKeyId", &storage.fargate_ephemeral_storage_kms_key_id),
    ];
    for (member, key) in keys {
        check_length(member, key.as_deref(), limits::KMS_KEY_ID)?;
        // The ids of keys that several regions share begin so, in an ARN too.
        if key.as_deref().is_some_and(|key| key.starts_with("mrk-") || key.contains("key/mrk-")) {
            let message = format!("managedStorageConfiguration: {member} must be the key of a single region.");
            return Err(ApiError::invalid_parameter(message));
        }
    }
    Ok(())
}

fn check_length(member: &str, value: Option<&str>, most: usize) -> Result<(), ApiError> {
    match value.is_some_and(|value| value.chars().count() > most) {
        false => Ok(()),
        true => Err(ApiError::invalid_parameter(format!("{member} can have at most {most} characters."))),
    }
}
