//! `longshore store dump`: every record as a line of JSON, without what the API's model calls sensitive.

use std::io::{self, BufWriter, Write};
use std::path::Path;

use longshore_api::ecs::shapes;
use longshore_api::shape::{self, Shape};
use longshore_core::entity::Entity;
use serde_json::Value;

use super::{Refusal, store_of};
use crate::cli::{DumpArgs, Kind};
use crate::error::{CliError, with_causes};

/// In place of what is not shown.
const REDACTED: &str = "(redacted)";

/// Writes records as they are read: no more than one is held, and what the log holds that is not in a run yet.
pub(super) fn dump(args: &DumpArgs) -> Result<(), CliError> {
    let (data_dir, store) = store_of(&args.data_dir)?;
    let mut out = BufWriter::new(io::stdout().lock());
    let mut problems = Vec::new();
    let dumped = longshore_store::embedded::read(&store, &mut |key, value| match Entity::decode(key, value) {
        Ok(entity) if args.kinds.is_empty() || args.kinds.contains(&Kind::of(&entity)) => {
            let hidden = if args.with_values { None } else { redacted(&entity, value) };
            line(&mut out, Kind::of(&entity).name(), key, hidden.as_deref().unwrap_or(value)).map_err(written)
        }
        Ok(_) => Ok(()),
        Err(error) => {
            problems.push(with_causes(&error));
            Ok(())
        }
    });
    match dumped.and_then(|_| out.flush().map_err(written)) {
        // A reader that has gone (`longshore store dump | head`) needs no more of it.
        Err(CliError::File { source, .. }) if source.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
        result => result?,
    }
    if problems.is_empty() {
        return Ok(());
    }
    Err(Refusal::Damaged { data_dir: data_dir.path().to_owned(), problems: problems.join("\n  ") }.into())
}

fn written(error: io::Error) -> CliError {
    CliError::file("write to", Path::new("standard output"))(error)
}

/// The stored value is JSON already, and is told as it is.
fn line(out: &mut impl Write, kind: &str, key: &[u8], value: &[u8]) -> io::Result<()> {
    let key = Value::from(key.escape_ascii().to_string());
    write!(out, "{{\"kind\":\"{kind}\",\"key\":{key},\"value\":")?;
    out.write_all(value)?;
    out.write_all(b"}\n")
}

/// The record without what must not be seen; `None` when records of its kind hold nothing of that sort.
fn redacted(entity: &Entity, value: &[u8]) -> Option<Vec<u8>> {
    let (member, shape): (&str, &Shape) = match entity {
        Entity::Definition(_) => ("document", &shapes::TASK_DEFINITION),
        Entity::Task(_) => ("overrides", &shapes::TASK_OVERRIDE),
        Entity::Schedule(_) => ("target", &shapes::RUN_TASK_REQUEST),
        Entity::Cluster(_)
        | Entity::Family(_)
        | Entity::Instance(_)
        | Entity::Token(_)
        | Entity::JoinToken(_)
        | Entity::Identity(_)
        | Entity::Setting(_)
        | Entity::Subnet(_)
        | Entity::SecurityGroup(_)
        | Entity::Block(_)
        | Entity::Horizon(_)
        | Entity::CapacityProvider(_)
        | Entity::Fleet(_)
        // Encrypted; what opens them is not in the store.
        | Entity::Parameter(_)
        | Entity::Secret(_) => return None,
    };
    // It was decoded a moment ago, so it is JSON; should it not be, nothing is shown.
    let mut value: Value = serde_json::from_slice(value).unwrap_or_default();
    if let Some(member) = value.get_mut(member) {
        redact(member, shape);
    }
    Some(value.to_string().into_bytes())
}

/// Blanks what the model marks as sensitive. Lists and structures keep their form and the names in them, so that one
/// sees which variables a container is given.
fn redact(value: &mut Value, shape: &Shape) {
    if shape.sensitive {
        return blank(value);
    }
    match (value, &shape.kind) {
        (Value::Object(object), shape::Kind::Structure { members, .. }) => {
            for member in *members {
                if let Some(value) = object.get_mut(member.name) {
                    redact(value, member.shape);
                }
            }
        }
        (Value::Array(items), shape::Kind::List { item, .. }) => items.iter_mut().for_each(|value| redact(value, item)),
        (Value::Object(object), shape::Kind::Map { value: shape, .. }) => {
            object.values_mut().for_each(|value| redact(value, shape));
        }
        _ => {}
    }
}

fn blank(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(blank),
        Value::Object(object) => {
            object.iter_mut().filter(|(name, _)| *name != "name").for_each(|(_, value)| blank(value));
        }
        other => *other = REDACTED.into(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::json;

    use super::*;

    #[test]
    fn a_line_is_json_whatever_the_key() {
        let mut out = Vec::new();
        line(&mut out, "tasks", b"t\0\xff\"", br#"{"a":1}"#).unwrap();
        let read: Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(read, json!({"kind": "tasks", "key": "t\\x00\\xff\\\"", "value": {"a": 1}}));
    }

    #[test]
    fn no_value_of_an_environment_is_shown_and_everything_else_is() {
        let store = Path::new(env!("CARGO_MANIFEST_DIR")).join("../store/tests/fixtures/format-1/server");
        let mut shown = 0;
        let each = &mut |key: &[u8], value: &[u8]| {
            let entity = Entity::decode(key, value).unwrap();
            let Some(redacted) = redacted(&entity, value) else { return Ok(()) };
            let (mut before, after): (Value, Value) =
                (serde_json::from_slice(value).unwrap(), serde_json::from_slice(&redacted).unwrap());
            let text = String::from_utf8(redacted).unwrap();
            assert!(!["correct horse", "overridden secret", "Ærøskøbing"].iter().any(|secret| text.contains(secret)));
            for containers in ["/document/containerDefinitions", "/overrides/containerOverrides"] {
                for container in before.pointer_mut(containers).and_then(Value::as_array_mut).into_iter().flatten() {
                    for variable in container["environment"].as_array_mut().into_iter().flatten() {
                        assert!(variable["name"].as_str().is_some_and(|name| name == "PASSWORD" || name == "UNICODE"));
                        variable["value"] = REDACTED.into();
                        shown += 1;
                    }
                }
            }
            assert_eq!(after, before);
            Ok::<_, longshore_store::StoreError>(())
        };
        longshore_store::embedded::read(&store, each).unwrap();
        assert_eq!(shown, 3, "two variables of a definition, one of an override");
    }
}
