//! `xtask reduce`: a botocore service model in, `models/<service>.json` out.
//!
//! Facts are chosen by name: what is not listed here is dropped, so documentation text can never
//! slip in with a new key. A new *fact* is noticed because its key is reported.

use std::collections::BTreeSet;
use std::io::Read;
use std::path::Path;

use serde_json::{Map, Value, json};

use crate::Failure;
use crate::model::Model;

const METADATA: &[&str] = &[
    "apiVersion",
    "jsonVersion",
    "protocol",
    "protocols",
    "serviceAbbreviation",
    "serviceFullName",
    "serviceId",
    "signatureVersion",
    "signingName",
    "targetPrefix",
    "uid",
    "xmlNamespace",
];

const OPERATION: &[&str] = &["name", "http", "input", "output", "errors", "readonly", "idempotent", "deprecated"];

const SHAPE: &[&str] = &[
    "type",
    "members",
    "required",
    "member",
    "key",
    "value",
    "enum",
    "min",
    "max",
    "pattern",
    "sensitive",
    "box",
    "deprecated",
    "union",
    "document",
    "exception",
    "fault",
    "error",
    "flattened",
    "timestampFormat",
];

const REFERENCE: &[&str] = &[
    "shape",
    "location",
    "locationName",
    "queryName",
    "flattened",
    "xmlAttribute",
    "box",
    "deprecated",
    "idempotencyToken",
    "streaming",
];

/// Known to carry no fact that we use.
const DROPPED: &[&str] =
    &["auth", "deprecatedMessage", "deprecatedSince", "documentation", "documentationUrl", "endpointPrefix"];

/// Reads the model at `path` and writes the reduced one; returns the unknown keys it dropped.
pub(crate) fn run(root: &Path, path: &Path) -> Result<BTreeSet<String>, Failure> {
    let full: Value = serde_json::from_slice(&read(path)?).map_err(|cause| Failure::Json(path.to_owned(), cause))?;
    let mut dropped = BTreeSet::new();
    let mut reduced = reduce(&full, &mut dropped);
    let service = service_name(path)?;
    reduced["source"] = json!({
        "package": "botocore",
        "version": botocore_version(path)?,
        "file": format!("{service}/{}/service-2.json", full["metadata"]["apiVersion"].as_str().unwrap_or_default()),
    });
    // Through the typed model, so that a file we could not read again is never written.
    let model: Model = serde_json::from_value(reduced).map_err(|cause| Failure::Json(path.to_owned(), cause))?;
    let target = root.join("models").join(format!("{service}.json"));
    let mut text = serde_json::to_string_pretty(&model).map_err(|cause| Failure::Json(target.clone(), cause))?;
    text.push('\n');
    std::fs::write(&target, text).map_err(|cause| Failure::Write(target, cause))?;
    Ok(dropped)
}

fn reduce(full: &Value, dropped: &mut BTreeSet<String>) -> Value {
    let operations = each(&full["operations"], |operation| keep(operation, OPERATION, dropped));
    let shapes = each(&full["shapes"], |shape| whole_bounds(keep(shape, SHAPE, dropped)));
    json!({
        "metadata": keep(&full["metadata"], METADATA, dropped),
        "operations": each(&operations, |operation| {
            references(operation, &["input", "output"], &[], &["errors"], dropped)
        }),
        "shapes": each(&shapes, |shape| references(shape, &["member", "key", "value"], &["members"], &[], dropped)),
    })
}

/// Bounds of doubles are written `100.0`; all bounds are whole numbers so far, and kept as such.
fn whole_bounds(mut shape: Value) -> Value {
    for name in ["min", "max"] {
        if let Some(bound) = shape.get_mut(name)
            && let Some(number) = bound.as_f64().filter(|number| number.fract() == 0.0)
        {
            *bound = json!(number as i64);
        }
    }
    shape
}

/// Reduces the references inside an operation or a shape: single ones, maps and lists of them.
fn references(value: &Value, single: &[&str], maps: &[&str], lists: &[&str], dropped: &mut BTreeSet<String>) -> Value {
    let mut value = value.clone();
    for name in single {
        if let Some(reference) = value.get_mut(*name) {
            *reference = keep(reference, REFERENCE, dropped);
        }
    }
    for name in maps {
        if let Some(map) = value.get_mut(*name) {
            *map = each(map, |reference| keep(reference, REFERENCE, dropped));
        }
    }
    for name in lists {
        if let Some(Value::Array(items)) = value.get_mut(*name) {
            for item in items {
                *item = keep(item, REFERENCE, dropped);
            }
        }
    }
    value
}

fn each(map: &Value, mut change: impl FnMut(&Value) -> Value) -> Value {
    let entries = map.as_object().into_iter().flatten();
    Value::Object(entries.map(|(name, value)| (name.clone(), change(value))).collect())
}

fn keep(value: &Value, names: &[&str], dropped: &mut BTreeSet<String>) -> Value {
    let mut kept = Map::new();
    for (name, fact) in value.as_object().into_iter().flatten() {
        if names.contains(&name.as_str()) {
            kept.insert(name.clone(), fact.clone());
        } else if !DROPPED.contains(&name.as_str()) {
            dropped.insert(name.clone());
        }
    }
    Value::Object(kept)
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let bytes = std::fs::read(path).map_err(|cause| Failure::Read(path.to_owned(), cause))?;
    if path.extension().is_none_or(|extension| extension != "gz") {
        return Ok(bytes);
    }
    let mut unpacked = Vec::new();
    flate2::read::GzDecoder::new(bytes.as_slice())
        .read_to_end(&mut unpacked)
        .map_err(|cause| Failure::Read(path.to_owned(), cause))?;
    Ok(unpacked)
}

/// The folder above the API version: `…/data/ecs/2014-11-13/service-2.json.gz` is `ecs`.
fn service_name(path: &Path) -> Result<String, Failure> {
    let folder = path.ancestors().nth(2).and_then(Path::file_name);
    folder.map(|name| name.to_string_lossy().into_owned()).ok_or_else(|| {
        Failure::Usage(format!("{}: expected …/data/<service>/<version>/service-2.json[.gz]", path.display()))
    })
}

/// Read from `botocore/__init__.py`, four folders above the model.
fn botocore_version(path: &Path) -> Result<String, Failure> {
    let package = path.ancestors().nth(4).map(|folder| folder.join("__init__.py"));
    let init = package.ok_or_else(|| Failure::Usage("the model must lie inside an installed botocore".to_owned()))?;
    let text = std::fs::read_to_string(&init).map_err(|cause| Failure::Read(init.clone(), cause))?;
    text.lines()
        .find_map(|line| line.strip_prefix("__version__ = "))
        .map(|version| version.trim_matches(['\'', '"']).to_owned())
        .ok_or_else(|| Failure::Usage(format!("{}: no __version__ line", init.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documentation_never_survives_and_new_keys_are_reported() {
        let full = json!({
            "metadata": {"apiVersion": "1", "endpointPrefix": "x"},
            "operations": {"Go": {"name": "Go", "documentation": "prose", "input": {"shape": "In", "documentation": "prose"},
                "errors": [{"shape": "Bad", "documentation": "prose"}]}},
            "shapes": {"In": {"type": "structure", "novelty": 1, "members": {
                "a": {"shape": "String", "documentation": "prose", "locationName": "A"}}}},
        });
        let mut dropped = BTreeSet::new();
        let reduced = reduce(&full, &mut dropped);
        assert!(!reduced.to_string().contains("prose"), "{reduced}");
        assert_eq!(dropped, BTreeSet::from(["novelty".to_owned()]));
        assert_eq!(reduced["shapes"]["In"]["members"]["a"], json!({"shape": "String", "locationName": "A"}));
    }
}
