//! What a machine of EC2 says of itself.

use std::sync::Arc;

use longshore_api::ApiError;
use serde::Deserialize;

use crate::attributes;

/// The parts of an instance identity document that an instance is described with. Its signature is EC2's, whose word nobody
/// asks for here: the access key that registers an instance answers for it.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct IdentityDocument {
    pub(crate) instance_id: Option<Arc<str>>,
    instance_type: Option<Arc<str>>,
    image_id: Option<Arc<str>>,
    availability_zone: Option<Arc<str>>,
}

impl IdentityDocument {
    /// Reads the document; agents outside EC2 send an empty one.
    ///
    /// # Errors
    /// `ClientException` when it is no such document.
    pub(crate) fn read(text: Option<&str>) -> Result<Self, ApiError> {
        let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(Self::default()) };
        let refuse = |why: &str| ApiError::client(format!("instanceIdentityDocument is not valid: {why}."));
        let document: Self = serde_json::from_str(text).map_err(|error| refuse(&error.to_string()))?;
        let parts = [&document.instance_id, &document.instance_type, &document.image_id, &document.availability_zone];
        if let Some(bad) = parts.into_iter().flatten().find(|part| !attributes::is_value(part)) {
            return Err(refuse(&format!("it has {:?}", &**bad)));
        }
        Ok(document)
    }

    /// The attributes that ECS adds to those that the agent sends.
    pub(crate) fn attributes(self) -> impl Iterator<Item = (Arc<str>, Option<Arc<str>>)> {
        let named = [
            ("ecs.instance-type", self.instance_type),
            ("ecs.ami-id", self.image_id),
            ("ecs.availability-zone", self.availability_zone),
        ];
        named.into_iter().filter_map(|(name, value)| Some((name.into(), Some(value?))))
    }
}
