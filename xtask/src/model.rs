//! The reduced service model, as it lies in `models/`, and the overlay laid over it.
//!
//! The reduced file keeps the names botocore uses, so that a model update is a readable diff.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::Failure;

/// A service model reduced to facts: no documentation text, no endpoint rules.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Model {
    pub(crate) source: Source,
    pub(crate) metadata: BTreeMap<String, serde_json::Value>,
    pub(crate) operations: BTreeMap<String, Operation>,
    pub(crate) shapes: BTreeMap<String, Shape>,
}

/// Where the facts were read.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Source {
    pub(crate) package: String,
    pub(crate) version: String,
    pub(crate) file: String,
}

/// One operation of the service.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Operation {
    pub(crate) name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) http: Option<Http>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) input: Option<Reference>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) output: Option<Reference>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) errors: Vec<Reference>,
    #[serde(default, skip_serializing_if = "is_false")]
    pub(crate) readonly: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    pub(crate) idempotent: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    pub(crate) deprecated: bool,
}

/// How an operation is bound to HTTP. All of ECS is `POST /`; REST services differ.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Http {
    pub(crate) method: String,
    pub(crate) request_uri: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) response_code: Option<u16>,
}

/// A shape: a structure, a list, a map or a scalar.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Shape {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) members: BTreeMap<String, Reference>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) required: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) member: Option<Reference>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) key: Option<Reference>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) value: Option<Reference>,
    #[serde(rename = "enum", default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) values: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) min: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) max: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) pattern: Option<String>,
    #[serde(default, skip_serializing_if = "is_false")]
    pub(crate) sensitive: bool,
    #[serde(rename = "box", default, skip_serializing_if = "is_false")]
    pub(crate) boxed: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    pub(crate) deprecated: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    pub(crate) union: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    pub(crate) document: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    pub(crate) exception: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    pub(crate) fault: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<ErrorTrait>,
    #[serde(default, skip_serializing_if = "is_false")]
    pub(crate) flattened: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) timestamp_format: Option<String>,
}

/// The `error` trait of older services: the wire code and HTTP status of an exception.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ErrorTrait {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) code: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) http_status_code: Option<u16>,
    #[serde(default, skip_serializing_if = "is_false")]
    pub(crate) sender_fault: bool,
}

/// A use of a shape: by a member, a list item, a map's key or value, an operation.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Reference {
    pub(crate) shape: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) location_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) location: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) query_name: Option<String>,
    #[serde(default, skip_serializing_if = "is_false")]
    pub(crate) flattened: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    pub(crate) xml_attribute: bool,
    #[serde(rename = "box", default, skip_serializing_if = "is_false")]
    pub(crate) boxed: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    pub(crate) deprecated: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    pub(crate) idempotency_token: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    pub(crate) streaming: bool,
    /// Set by the overlay: a bound of this use of the shape, not of the shape.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) min: Option<i64>,
    /// Set by the overlay: a bound of this use of the shape, not of the shape.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) max: Option<i64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Overlay {
    #[serde(default)]
    members: Vec<AddedMember>,
    #[serde(default)]
    limits: Vec<AddedLimit>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct AddedMember {
    shape: String,
    member: String,
    target: String,
    source: String,
}

/// A bound on a member, or, without `member`, on the shape wherever it is used.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct AddedLimit {
    shape: String,
    member: Option<String>,
    min: Option<i64>,
    max: Option<i64>,
    source: String,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's skip_serializing_if passes a reference")]
fn is_false(value: &bool) -> bool {
    !*value
}

impl Model {
    /// Reads `models/<service>.json` and lays `models/overlay/<service>.json` over it.
    pub(crate) fn load(root: &Path, service: &str) -> Result<Self, Failure> {
        let models = root.join("models");
        let mut model: Self = read_json(&models.join(format!("{service}.json")))?;
        let overlay = models.join("overlay").join(format!("{service}.json"));
        model.apply(&read_json(&overlay)?)?;
        model.check_references()?;
        Ok(model)
    }

    pub(crate) fn shape(&self, name: &str) -> Result<&Shape, Failure> {
        self.shapes.get(name).ok_or_else(|| Failure::Model(format!("shape {name} is referred to but not defined")))
    }

    fn apply(&mut self, overlay: &Overlay) -> Result<(), Failure> {
        for added in &overlay.members {
            need_source(&added.source, &added.shape, Some(&added.member))?;
            let members = &mut self.shape_mut(&added.shape)?.members;
            let reference = Reference { shape: added.target.clone(), ..Reference::default() };
            if members.insert(added.member.clone(), reference).is_some() {
                return Err(Failure::Model(format!(
                    "overlay adds {}.{}, which the model has by now: remove it from the overlay",
                    added.shape, added.member
                )));
            }
        }
        for limit in &overlay.limits {
            need_source(&limit.source, &limit.shape, limit.member.as_deref())?;
            self.apply_limit(limit)?;
        }
        Ok(())
    }

    fn apply_limit(&mut self, limit: &AddedLimit) -> Result<(), Failure> {
        let shape = self.shape_mut(&limit.shape)?;
        let (min, max) = match &limit.member {
            None => (&mut shape.min, &mut shape.max),
            Some(member) => {
                let reference = shape.members.get_mut(member).ok_or_else(|| {
                    Failure::Model(format!("overlay limits {}.{member}, which does not exist", limit.shape))
                })?;
                (&mut reference.min, &mut reference.max)
            }
        };
        if min.is_some() || max.is_some() {
            return Err(Failure::Model(format!(
                "overlay limits {} {:?}, which has a limit already: compare the two and remove one",
                limit.shape, limit.member
            )));
        }
        (*min, *max) = (limit.min, limit.max);
        Ok(())
    }

    fn shape_mut(&mut self, name: &str) -> Result<&mut Shape, Failure> {
        self.shapes
            .get_mut(name)
            .ok_or_else(|| Failure::Model(format!("overlay names shape {name}, which does not exist")))
    }

    fn check_references(&self) -> Result<(), Failure> {
        for shape in self.shapes.values() {
            let uses = shape.members.values().chain(&shape.member).chain(&shape.key).chain(&shape.value);
            for reference in uses {
                self.shape(&reference.shape)?;
            }
        }
        Ok(())
    }
}

fn need_source(source: &str, shape: &str, member: Option<&str>) -> Result<(), Failure> {
    if source.trim().is_empty() {
        return Err(Failure::Model(format!("overlay entry for {shape} {member:?} names no source")));
    }
    Ok(())
}

fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, Failure> {
    let bytes = std::fs::read(path).map_err(|cause| Failure::Read(path.to_owned(), cause))?;
    serde_json::from_slice(&bytes).map_err(|cause| Failure::Json(path.to_owned(), cause))
}
