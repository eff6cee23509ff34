//! `types`: structures and enums of the wire.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::names;
use crate::Failure;
use crate::model::{Model, Shape};

/// Entities that are stored one record each: read straight from bytes, without the detour through
/// a `Value`, because a restart reads a million of them.
const PERSISTED: &[&str] = &[
    "Attribute",
    "CapacityProvider",
    "Cluster",
    "ContainerInstance",
    "Service",
    "ServiceDeployment",
    "ServiceRevision",
    "Setting",
    "Task",
    "TaskDefinition",
    "TaskSet",
];

/// `enums.rs`, `requests.rs`, `answers.rs`, `documents.rs` and `types.rs`, which joins them.
pub(super) fn files(model: &Model) -> Result<Vec<(&'static str, String)>, Failure> {
    let requests: BTreeSet<&str> = model.operations.values().flat_map(|o| &o.input).map(|r| r.shape.as_str()).collect();
    let answers: BTreeSet<&str> = model.operations.values().flat_map(|o| &o.output).map(|r| r.shape.as_str()).collect();
    let defaulted = with_default(model);
    let mut texts: [(&'static str, String, Vec<&str>); 3] = [
        ("requests.rs", String::new(), Vec::new()),
        ("answers.rs", String::new(), Vec::new()),
        ("documents.rs", String::new(), Vec::new()),
    ];
    for (name, shape) in model.shapes.iter().filter(|(_, shape)| is_struct(shape)) {
        let file = match (requests.contains(name.as_str()), answers.contains(name.as_str())) {
            (true, _) => 0,
            (_, true) => 1,
            _ => 2,
        };
        texts[file].1.push_str(&structure(model, name, shape, defaulted.contains(name.as_str()))?);
        if file != 2 {
            texts[file].2.push(name);
        }
    }
    for name in PERSISTED {
        model.shape(name)?;
    }
    let mut files = vec![("enums.rs", enums(model)?), ("types.rs", TYPES.to_owned())];
    for (file, text, roots) in texts {
        let (import, json) = if file == "documents.rs" {
            ("", format!("crate::json::stored_json! {{ {} }}\n", PERSISTED.join(", ")))
        } else {
            ("use super::documents::*;\n", format!("crate::json::wire_json! {{ {} }}\n", roots.join(", ")))
        };
        files.push((file, format!("{PRELUDE}{import}\n{text}\n{json}")));
    }
    Ok(files)
}

const TYPES: &str =
    "pub use super::answers::*;\npub use super::documents::*;\npub use super::enums::*;\npub use super::requests::*;\n";

const PRELUDE: &str = "#![allow(unused_imports, reason = \"one prelude for three files\")]

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Sensitive, Timestamp};
use super::enums::*;
";

/// Exceptions become error codes, not types; documents are free JSON.
fn is_struct(shape: &Shape) -> bool {
    shape.kind == "structure" && !shape.exception && !shape.document
}

fn structure(model: &Model, name: &str, shape: &Shape, defaulted: bool) -> Result<String, Failure> {
    let mut derives = vec!["Clone", "PartialEq", "Deserialize", "Serialize"];
    if !shape.sensitive {
        derives.push("Debug");
    }
    if defaulted {
        derives.push("Default");
    }
    derives.sort_unstable();
    let mut text = format!("#[derive({})]\npub struct {name} {{\n", derives.join(", "));
    let mut seen = BTreeMap::new();
    for (wire, reference) in &shape.members {
        let field = names::field(wire);
        if let Some(other) = seen.insert(field.clone(), wire) {
            return Err(Failure::Model(format!("{name}: members {other} and {wire} get one Rust name")));
        }
        let required = shape.required.contains(wire);
        let mut attributes = Vec::new();
        if field.trim_start_matches("r#") != wire {
            attributes.push(format!("rename = \"{wire}\""));
        }
        if !required {
            attributes.push("skip_serializing_if = \"Option::is_none\"".to_owned());
        }
        if !attributes.is_empty() {
            let _ = writeln!(text, "#[serde({})]", attributes.join(", "));
        }
        let kind = rust_type(model, &reference.shape)?;
        let kind = if required { kind } else { format!("Option<{kind}>") };
        let _ = writeln!(text, "pub {field}: {kind},");
    }
    text.push_str("}\n\n");
    if shape.sensitive {
        let _ = writeln!(
            text,
            "impl std::fmt::Debug for {name} {{\nfn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {{\nf.write_str(\"{name}(redacted)\")\n}}\n}}\n"
        );
    }
    Ok(text)
}

fn rust_type(model: &Model, name: &str) -> Result<String, Failure> {
    let shape = model.shape(name)?;
    let kind = match shape.kind.as_str() {
        "structure" if shape.document => "serde_json::Value".to_owned(),
        // A sensitive structure redacts itself.
        "structure" => return Ok(name.to_owned()),
        "string" if !shape.values.is_empty() => name.to_owned(),
        "string" => "String".to_owned(),
        "integer" => "i32".to_owned(),
        "long" => "i64".to_owned(),
        "float" | "double" => "f64".to_owned(),
        "boolean" => "bool".to_owned(),
        "timestamp" => "Timestamp".to_owned(),
        "list" => format!("Vec<{}>", rust_type(model, target(name, &shape.member)?)?),
        "map" => format!("BTreeMap<String, {}>", rust_type(model, target(name, &shape.value)?)?),
        other => {
            return Err(Failure::Model(format!("{name}: type {other} is not supported yet")));
        }
    };
    Ok(if shape.sensitive { format!("Sensitive<{kind}>") } else { kind })
}

fn target<'a>(name: &str, reference: &'a Option<crate::model::Reference>) -> Result<&'a str, Failure> {
    let reference = reference.as_ref();
    reference.map(|r| r.shape.as_str()).ok_or_else(|| Failure::Model(format!("{name} does not say what it holds")))
}

/// The structures whose required members all have a default: everything but enums, transitively.
fn with_default(model: &Model) -> BTreeSet<&str> {
    let mut defaulted: BTreeSet<&str> =
        model.shapes.iter().filter(|(_, shape)| shape.kind == "structure").map(|(name, _)| name.as_str()).collect();
    loop {
        let without: Vec<&str> = defaulted
            .iter()
            .copied()
            .filter(|name| {
                let shape = &model.shapes[*name];
                shape.required.iter().filter_map(|member| shape.members.get(member)).any(|member| {
                    let target = &model.shapes[&member.shape];
                    let structure_without = target.kind == "structure" && !defaulted.contains(member.shape.as_str());
                    !target.values.is_empty() || structure_without
                })
            })
            .collect();
        if without.is_empty() {
            return defaulted;
        }
        for name in without {
            defaulted.remove(name);
        }
    }
}

fn enums(model: &Model) -> Result<String, Failure> {
    let mut text = "crate::json::wire_enums! {\n".to_owned();
    for (name, shape) in model.shapes.iter().filter(|(_, shape)| !shape.values.is_empty()) {
        let _ = writeln!(text, "{name} {{");
        let mut seen = BTreeMap::new();
        for wire in &shape.values {
            let variant = names::variant(wire);
            if let Some(other) = seen.insert(variant.clone(), wire) {
                return Err(Failure::Model(format!("{name}: values {other} and {wire} get one Rust name")));
            }
            let _ = writeln!(text, "{variant} = \"{wire}\",");
        }
        text.push_str("}\n");
    }
    text.push_str("}\n");
    Ok(text)
}
