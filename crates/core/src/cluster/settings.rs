//! The settings of a cluster. Container Insights is the only one that ECS knows.

use longshore_api::ApiError;
use longshore_api::ecs::types::{ClusterSetting, ClusterSettingName};
use serde::{Deserialize, Serialize};

/// How closely a cluster is observed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ContainerInsights {
    /// Not at all.
    #[default]
    Disabled,
    /// Metrics of clusters and services.
    Enabled,
    /// Metrics of tasks and containers too.
    Enhanced,
}

impl ContainerInsights {
    /// The values, as ECS spells them.
    pub(crate) const VALUES: &'static [&'static str] = &["disabled", "enabled", "enhanced"];

    pub(crate) fn is_disabled(&self) -> bool {
        *self == Self::Disabled
    }

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Disabled => "disabled",
            Self::Enabled => "enabled",
            Self::Enhanced => "enhanced",
        }
    }

    pub(crate) fn parse(value: &str) -> Option<Self> {
        [Self::Disabled, Self::Enabled, Self::Enhanced].into_iter().find(|known| known.as_str() == value)
    }
}

/// What a caller sets; `None` when nothing is.
///
/// # Errors
/// `InvalidParameterException` for a setting without a name, with another value, or given twice.
pub(super) fn check(settings: Option<&[ClusterSetting]>) -> Result<Option<ContainerInsights>, ApiError> {
    let mut checked = None;
    for setting in settings.unwrap_or_default() {
        let Some(name @ ClusterSettingName::ContainerInsights) = setting.name else {
            return Err(ApiError::invalid_parameter("Invalid setting 'name': it must be containerInsights."));
        };
        let Some(value) = setting.value.as_deref().and_then(ContainerInsights::parse) else {
            let allowed = ContainerInsights::VALUES.join(", ");
            return Err(ApiError::invalid_parameter(format!(
                "Invalid setting 'value': {name} can be one of {allowed}."
            )));
        };
        if checked.replace(value).is_some() {
            return Err(ApiError::invalid_parameter(format!("The cluster setting {name} is given twice.")));
        }
    }
    Ok(checked)
}

/// The settings as ECS shows them.
pub(super) fn document(insights: ContainerInsights) -> Vec<ClusterSetting> {
    vec![ClusterSetting {
        name: Some(ClusterSettingName::ContainerInsights),
        value: Some(insights.as_str().to_owned()),
    }]
}
