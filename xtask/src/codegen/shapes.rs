//! `shapes`: the static tables that `shape::check` and the readers of other protocols walk.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::names;
use crate::Failure;
use crate::model::{Model, Reference, Shape};

pub(super) fn file(model: &Model) -> Result<String, Failure> {
    let mut text = "use crate::shape::{Kind, Limits, Member, Pattern, Shape};\n\n".to_owned();
    let mut seen = BTreeMap::new();
    for (name, shape) in &model.shapes {
        let constant = names::constant(name);
        if let Some(other) = seen.insert(constant.clone(), name) {
            return Err(Failure::Model(format!("shapes {other} and {name} get one Rust name")));
        }
        let bounds = match (shape.min, shape.max) {
            (None, None) => String::new(),
            (min, max) => format!(".within({})", limits(min, max)),
        };
        let _ = writeln!(
            text,
            "pub static {constant}: Shape = Shape::new(\"{name}\", {}){}{};\n",
            kind(name, shape)?,
            bounds,
            if shape.sensitive { ".sensitive()" } else { "" },
        );
    }
    Ok(text)
}

fn kind(name: &str, shape: &Shape) -> Result<String, Failure> {
    Ok(match shape.kind.as_str() {
        "structure" if shape.document => "Kind::Document".to_owned(),
        "structure" => {
            let members: String = shape
                .members
                .iter()
                .map(|(wire, reference)| member(wire, reference, shape.required.contains(wire)) + ", ")
                .collect();
            format!("Kind::Structure {{ members: &[{members}], union: {} }}", shape.union)
        }
        "list" => {
            let item = reference(name, &shape.member)?;
            format!(
                "Kind::List {{ item: &{}, item_name: {:?}, flattened: {} }}",
                names::constant(&item.shape),
                item.location_name,
                shape.flattened
            )
        }
        "map" => {
            let key = reference(name, &shape.key)?;
            let value = reference(name, &shape.value)?;
            format!(
                "Kind::Map {{ key: &{}, value: &{}, flattened: {} }}",
                names::constant(&key.shape),
                names::constant(&value.shape),
                shape.flattened
            )
        }
        "string" if !shape.values.is_empty() => format!("Kind::Enum(&{:?})", shape.values),
        "string" => format!("Kind::String({})", pattern(name, shape.pattern.as_deref())?),
        "integer" => "Kind::Integer".to_owned(),
        "long" => "Kind::Long".to_owned(),
        "float" | "double" => "Kind::Double".to_owned(),
        "boolean" => "Kind::Boolean".to_owned(),
        "timestamp" => "Kind::Timestamp".to_owned(),
        other => {
            return Err(Failure::Model(format!("{name}: type {other} is not supported yet")));
        }
    })
}

fn member(wire: &str, reference: &Reference, required: bool) -> String {
    let constructor = if required { "required" } else { "optional" };
    let mut text = format!("Member::{constructor}({wire:?}, &{})", names::constant(&reference.shape));
    if reference.min.is_some() || reference.max.is_some() {
        let _ = write!(text, ".within({})", limits(reference.min, reference.max));
    }
    match &reference.location_name {
        None => text,
        Some(location) => format!("Member {{ location_name: Some({location:?}), ..{text} }}"),
    }
}

fn limits(min: Option<i64>, max: Option<i64>) -> String {
    format!("Limits {{ min: {min:?}, max: {max:?} }}")
}

fn reference<'a>(name: &str, reference: &'a Option<Reference>) -> Result<&'a Reference, Failure> {
    reference.as_ref().ok_or_else(|| Failure::Model(format!("{name} does not say what it holds")))
}

/// Patterns are few, and each is a set of characters: known ones are named, a new one stops the
/// generator until somebody has looked at it. So no regular expression engine rides along.
fn pattern(name: &str, pattern: Option<&str>) -> Result<&'static str, Failure> {
    match pattern {
        None => Ok("Pattern::Any"),
        Some(r"([\p{L}\p{Z}\p{N}_.:/=+\-@]*)") => Ok("Pattern::Tag"),
        Some(r"[a-zA-Z0-9\.\*\-]+") => Ok("Pattern::InstanceType"),
        Some(other) => Err(Failure::Model(format!("{name}: add pattern {other} to shape::Pattern"))),
    }
}
