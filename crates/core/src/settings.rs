//! Account settings: PutAccountSetting, PutAccountSettingDefault, DeleteAccountSetting, ListAccountSettings.
//!
//! A setting belongs to a principal. Those of the root user are the account's defaults: they hold for everybody who has none of
//! their own, and where they are not set, ECS's own default holds. Only the root user comes here
//! ([`crate::identity::authorise`]), and may speak for anybody.
//!
//! What can be set has its effect: `containerInsights` in CreateCluster, `defaultLogDriverMode` in the orders that agents get;
//! the rest say how Longshore is anyway, and other values of theirs are refused. Only the root user calls yet: what is set for
//! another principal is kept and shown, and waits for one that calls.

use std::collections::BTreeMap;
use std::sync::Arc;

use longshore_api::ApiError;
use longshore_api::ecs::types::SettingName as Name;
use longshore_api::ecs::{Response, error, types};

use crate::cell::Turn;
use crate::cluster::ContainerInsights;
use crate::config::CellConfig;
use crate::entity::{AccountSetting, Entity, EntityKey, SettingKey};
use crate::limits;
use crate::principal::Principal;
use crate::read::{Page, ReadModel, bad_token, page_of};
use crate::unsupported::refuse;

/// PutAccountSetting: for the caller, or for the principal it names.
pub(crate) fn put(
    turn: &mut Turn<'_>,
    caller: &Principal,
    request: &types::PutAccountSettingRequest,
) -> Result<Response, ApiError> {
    let principal = principal_of(turn.config, caller, request.principal_arn.as_deref())?;
    let setting = Some(set(turn, "PutAccountSetting", principal, request.name, &request.value)?);
    Ok(Response::PutAccountSetting(Box::new(types::PutAccountSettingResponse { setting })))
}

/// PutAccountSettingDefault: what holds for everybody who has no setting of their own is the root user's.
pub(crate) fn put_default(
    turn: &mut Turn<'_>,
    request: &types::PutAccountSettingDefaultRequest,
) -> Result<Response, ApiError> {
    let root = root_arn(turn.config).into();
    let setting = Some(set(turn, "PutAccountSettingDefault", root, request.name, &request.value)?);
    Ok(Response::PutAccountSettingDefault(Box::new(types::PutAccountSettingDefaultResponse { setting })))
}

/// DeleteAccountSetting: the default holds again. There need not be one to delete.
pub(crate) fn delete(
    turn: &mut Turn<'_>,
    caller: &Principal,
    request: &types::DeleteAccountSettingRequest,
) -> Result<Response, ApiError> {
    let (name, principal) = (request.name, principal_of(turn.config, caller, request.principal_arn.as_deref())?);
    if let Verdict::Fixed(why) = verdict(name, default(name)) {
        return Err(ApiError::invalid_parameter(why));
    }
    turn.tables.remove(&EntityKey::Setting(SettingKey { principal: principal.clone(), name }));
    let value = turn.tables.view().account_setting(&principal, name);
    let setting = Some(document(name, value, &principal));
    Ok(Response::DeleteAccountSetting(Box::new(types::DeleteAccountSettingResponse { setting })))
}

/// ListAccountSettings: what is set for a principal, or what is in effect for it; in the order of the names.
pub(crate) fn list(
    view: &ReadModel,
    caller: &Principal,
    request: &types::ListAccountSettingsRequest,
) -> Result<Response, ApiError> {
    let principal = principal_of(&view.config, caller, request.principal_arn.as_deref())?;
    let root = root_arn(&view.config);
    let after = request.next_token.as_deref();
    if after.is_some_and(|name| name.parse::<Name>().is_err()) {
        return Err(bad_token());
    }
    let value = request.value.as_deref().filter(|value| !value.is_empty());
    if value.is_some() && request.name.is_none() {
        return Err(ApiError::invalid_parameter("To filter by value, name the account setting too."));
    }
    let in_effect = request.effective_settings == Some(true);
    let by_name: BTreeMap<&str, Name> = Name::ALL.iter().map(|name| (name.as_str(), *name)).collect();
    let found = by_name.into_values().filter_map(|name| match view.set_for(&principal, name) {
        Some(own) => Some(document(name, &own.value, &principal)),
        None if in_effect => Some(document(name, view.account_setting(&principal, name), &root)),
        None => None,
    });
    let asked = found.filter(|setting| {
        request.name.is_none_or(|name| setting.name == Some(name))
            && value.is_none_or(|value| setting.value.as_deref() == Some(value))
            && after.is_none_or(|after| setting.name.is_some_and(|name| name.as_str() > after))
    });
    let cursor = |setting: &types::Setting| setting.name.map(Name::as_str).unwrap_or_default().to_owned();
    let Page { items, next } = page_of(asked, request.max_results, limits::SETTINGS_PAGE, cursor);
    let response = types::ListAccountSettingsResponse { settings: Some(items), next_token: next };
    Ok(Response::ListAccountSettings(Box::new(response)))
}

impl ReadModel {
    /// What a principal has set itself.
    fn set_for(&self, principal: &str, name: Name) -> Option<&Arc<AccountSetting>> {
        self.settings.get(&SettingKey { principal: principal.into(), name })
    }

    /// What is in effect for a principal.
    fn account_setting(&self, principal: &str, name: Name) -> &str {
        let root = || self.set_for(&root_arn(&self.config), name);
        self.set_for(principal, name).or_else(root).map_or(default(name), |setting| &*setting.value)
    }

    /// How closely the new clusters of a principal are observed.
    pub(crate) fn container_insights_of(&self, principal: &str) -> ContainerInsights {
        ContainerInsights::parse(self.account_setting(principal, Name::ContainerInsights)).unwrap_or_default()
    }

    /// How the output of a container reaches its log driver when its definition does not say: `blocking` or `non-blocking`. The
    /// account's, for nobody but the root user runs tasks.
    pub(crate) fn default_log_driver_mode(&self) -> &str {
        self.account_setting(&root_arn(&self.config), Name::DefaultLogDriverMode)
    }
}

fn set(
    turn: &mut Turn<'_>,
    operation: &str,
    principal: Arc<str>,
    name: Name,
    value: &str,
) -> Result<types::Setting, ApiError> {
    match verdict(name, value) {
        Verdict::Works => {}
        Verdict::Unsupported => refuse(operation, &[(&format!("{name}: {value}"), true)])?,
        Verdict::Fixed(why) => return Err(ApiError::invalid_parameter(why)),
        Verdict::NoValue => {
            return Err(ApiError::invalid_parameter(format!("Invalid setting 'value': {name} cannot be '{value}'.")));
        }
    }
    if name == Name::FargateTaskRetirementWaitPeriod && *principal != *root_arn(turn.config) {
        return Err(ApiError::invalid_parameter(format!("{name} can be set for the root user alone.")));
    }
    let key = SettingKey { principal, name };
    let settings = &turn.tables.view().settings;
    if settings.len() >= limits::ACCOUNT_SETTINGS && !settings.contains_key(&key) {
        return Err(ApiError::new(
            error::LIMIT_EXCEEDED_EXCEPTION,
            format!("{} account settings are set: delete some.", limits::ACCOUNT_SETTINGS),
        ));
    }
    let setting = document(name, value, &key.principal);
    turn.tables.put(Entity::Setting(Arc::new(AccountSetting { key, value: value.into() })));
    Ok(setting)
}

/// What becomes of a value that somebody sets.
enum Verdict {
    /// It has the effect that ECS documents.
    Works,
    /// ECS knows it, and Longshore could not do what it says.
    Unsupported,
    /// ECS does not let anybody change it (any more).
    Fixed(&'static str),
    /// The setting has no such value.
    NoValue,
}

fn verdict(name: Name, value: &str) -> Verdict {
    match (name, value) {
        (Name::GuardDutyActivate, _) => Verdict::Fixed("guardDutyActivate is read-only: GuardDuty controls it."),
        (Name::ServiceLongArnFormat | Name::TaskLongArnFormat | Name::ContainerInstanceLongArnFormat, "disabled") => {
            Verdict::Fixed("You can no longer disable Long Arn settings")
        }
        (Name::TagResourceAuthorization, "off") => Verdict::Fixed("You can no longer disable tagging authorization."),
        (Name::AwsvpcTrunking | Name::FargateFipsMode | Name::FargateEventWindows, "enabled")
        | (Name::FargateTaskRetirementWaitPeriod, "0" | "14") => Verdict::Unsupported,
        (Name::DefaultLogDriverMode, "blocking") => Verdict::Works,
        (Name::ContainerInsights, value) if ContainerInsights::parse(value).is_some() => Verdict::Works,
        (name, value) if value == default(name) => Verdict::Works,
        _ => Verdict::NoValue,
    }
}

/// What holds where nothing is set.
fn default(name: Name) -> &'static str {
    match name {
        Name::ServiceLongArnFormat | Name::TaskLongArnFormat | Name::ContainerInstanceLongArnFormat => "enabled",
        Name::AwsvpcTrunking | Name::ContainerInsights | Name::FargateFipsMode | Name::FargateEventWindows => {
            "disabled"
        }
        Name::TagResourceAuthorization => "on",
        Name::FargateTaskRetirementWaitPeriod => "7",
        Name::GuardDutyActivate => "off",
        Name::DefaultLogDriverMode => "non-blocking",
    }
}

fn document(name: Name, value: &str, principal: &str) -> types::Setting {
    let managed = name == Name::GuardDutyActivate;
    types::Setting {
        name: Some(name),
        value: Some(value.to_owned()),
        principal_arn: Some(principal.to_owned()),
        r#type: Some(if managed { types::SettingType::AwsManaged } else { types::SettingType::User }),
    }
}

fn root_arn(config: &CellConfig) -> String {
    iam_arn(config, "root")
}

fn iam_arn(config: &CellConfig, resource: &str) -> String {
    format!("arn:aws:iam::{}:{resource}", config.scope.account)
}

/// Whose settings a request is about: the caller's, or those of the user, role or root user it names.
///
/// # Errors
/// `InvalidParameterException` for anything else. A federated user has no settings but the root user's.
fn principal_of(config: &CellConfig, caller: &Principal, given: Option<&str>) -> Result<Arc<str>, ApiError> {
    let Some(given) = given.filter(|given| !given.is_empty()) else { return Ok(caller.arn.clone()) };
    let named = |kind: &str| given.strip_prefix(&iam_arn(config, kind)).is_some_and(|name| !name.is_empty());
    let printable = given.len() <= limits::PRINCIPAL_ARN && given.bytes().all(|byte| byte.is_ascii_graphic());
    match printable && (given == root_arn(config) || named("user/") || named("role/")) {
        true => Ok(given.into()),
        false => Err(ApiError::invalid_parameter(format!(
            "Invalid principalArn: give the ARN of a user, a role or the root user of the account {}.",
            config.scope.account
        ))),
    }
}

#[cfg(test)]
mod tests;
