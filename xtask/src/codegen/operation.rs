//! `operation`, `request`, `response`, `error`: the tables of a service's operations.

use std::fmt::Write as _;

use super::names;
use crate::Failure;
use crate::model::{Model, Operation};

/// One operation, with what the model may leave open made definite.
struct Row<'a> {
    name: &'a str,
    input: &'a str,
    output: &'a str,
    facts: &'a Operation,
}

pub(super) fn files(model: &Model) -> Result<Vec<(&'static str, String)>, Failure> {
    let rows = rows(model)?;
    Ok(vec![
        ("operation.rs", service(model)? + &operation(&rows)),
        ("request.rs", request(&rows)),
        ("response.rs", response(&rows)),
        ("error.rs", errors(model)?),
    ])
}

fn rows(model: &Model) -> Result<Vec<Row<'_>>, Failure> {
    let rows = model.operations.iter().map(|(name, facts)| {
        let (Some(input), Some(output)) = (&facts.input, &facts.output) else {
            return Err(Failure::Model(format!("operation {name} has no input or no output shape")));
        };
        Ok(Row { name, input: &input.shape, output: &output.shape, facts })
    });
    rows.collect()
}

/// What a front needs to recognise the service.
fn service(model: &Model) -> Result<String, Failure> {
    let mut text = "use super::{error, shapes};\nuse crate::operation::OperationFacts;\n\n".to_owned();
    for (fact, constant, doc) in [
        ("targetPrefix", "TARGET_PREFIX", "The service in `X-Amz-Target`, before the dot."),
        ("jsonVersion", "JSON_VERSION", "The version in `application/x-amz-json-<version>`."),
        ("signingName", "SIGNING_NAME", "The service in the scope of a signature."),
    ] {
        let value = model.metadata.get(fact).and_then(serde_json::Value::as_str);
        let value = value.ok_or_else(|| Failure::Model(format!("the metadata has no {fact}")))?;
        let _ = writeln!(text, "/// {doc}\npub const {constant}: &str = {value:?};\n");
    }
    Ok(text)
}

/// One line per operation, written by `line`.
fn lines(rows: &[Row<'_>], line: impl Fn(&Row<'_>) -> String) -> String {
    rows.iter().map(|row| line(row) + "\n").collect()
}

fn operation(rows: &[Row<'_>]) -> String {
    let variants = lines(rows, |row| format!("{},", row.name));
    let all = lines(rows, |row| format!("Self::{},", row.name));
    let from_name = lines(rows, |row| format!("\"{0}\" => Some(Self::{0}),", row.name));
    let facts = lines(rows, |row| {
        let errors: Vec<String> =
            row.facts.errors.iter().map(|error| format!("error::{}", names::constant(&error.shape))).collect();
        format!(
            "OperationFacts {{ name: \"{name}\", input: &shapes::{input}, output: &shapes::{output}, errors: &[{errors}], readonly: {readonly}, idempotent: {idempotent} }},",
            name = row.name,
            input = names::constant(row.input),
            output = names::constant(row.output),
            errors = errors.join(", "),
            readonly = row.facts.readonly,
            idempotent = row.facts.idempotent,
        )
    });
    format!(
        "/// An operation of the service.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Operation {{
{variants}}}

impl Operation {{
/// All operations, in the order of their names.
pub const ALL: [Self; {count}] = [{all}];

/// The operation of this name, as it stands in `X-Amz-Target` after the dot.
pub fn from_name(name: &str) -> Option<Self> {{
match name {{
{from_name}_ => None,
}}
}}

/// The name on the wire.
pub fn name(self) -> &'static str {{
self.facts().name
}}

/// What the model says about the operation.
pub fn facts(self) -> &'static OperationFacts {{
&FACTS[self as usize]
}}
}}

/// In the order of the variants.
static FACTS: [OperationFacts; {count}] = [{facts}];

impl std::fmt::Display for Operation {{
fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {{
f.write_str(self.name())
}}
}}
",
        count = rows.len(),
    )
}

fn request(rows: &[Row<'_>]) -> String {
    let variants = lines(rows, |row| format!("{}(Box<types::{}>),", row.name, row.input));
    let operations = lines(rows, |row| format!("Self::{0}(_) => Operation::{0},", row.name));
    let parse = lines(rows, |row| {
        format!(
            "Operation::{name} => types::{input}::from_value(value).map(|r| Self::{name}(Box::new(r))),",
            name = row.name,
            input = row.input
        )
    });
    let write = lines(rows, |row| format!("Self::{}(request) => request.to_json(),", row.name));
    let from = conversions(rows, "Request", |row| row.input);
    format!(
        "use serde_json::Value;

use super::operation::Operation;
use super::types;
use crate::json::JsonError;

/// A request of the service, typed.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {{
{variants}}}

impl Request {{
/// The operation that is asked for.
pub fn operation(&self) -> Operation {{
match self {{
{operations}}}
}}

/// Reads a value that `shape::check` found good; `decode` is the way in from outside.
pub(crate) fn parse(operation: Operation, value: &Value) -> Result<Self, JsonError> {{
match operation {{
{parse}}}
}}

/// The request as JSON text.
pub fn to_json(&self) -> Vec<u8> {{
match self {{
{write}}}
}}
}}

{from}"
    )
}

fn response(rows: &[Row<'_>]) -> String {
    let variants = lines(rows, |row| format!("{}(Box<types::{}>),", row.name, row.output));
    let operations = lines(rows, |row| format!("Self::{0}(_) => Operation::{0},", row.name));
    let write = lines(rows, |row| format!("Self::{}(response) => response.to_json(),", row.name));
    let from = conversions(rows, "Response", |row| row.output);
    format!(
        "use super::operation::Operation;
use super::types;

/// An answer of the service, typed.
#[derive(Clone, Debug, PartialEq)]
pub enum Response {{
{variants}}}

impl Response {{
/// The operation that is answered.
pub fn operation(&self) -> Operation {{
match self {{
{operations}}}
}}

/// The answer as JSON text.
pub fn to_json(&self) -> Vec<u8> {{
match self {{
{write}}}
}}
}}

{from}"
    )
}

/// `From` for every shape that belongs to one operation only.
fn conversions<'a>(rows: &'a [Row<'a>], target: &str, shape: impl Fn(&Row<'a>) -> &'a str) -> String {
    let mut text = String::new();
    for row in rows {
        let own = shape(row);
        if rows.iter().filter(|other| shape(other) == own).count() > 1 {
            continue;
        }
        let _ = writeln!(
            text,
            "impl From<types::{own}> for {target} {{\nfn from(value: types::{own}) -> Self {{\nSelf::{}(Box::new(value))\n}}\n}}\n",
            row.name
        );
    }
    text
}

fn errors(model: &Model) -> Result<String, Failure> {
    let mut text = "use crate::error::ErrorCode;\n\n".to_owned();
    for (name, shape) in model.shapes.iter().filter(|(_, shape)| shape.exception) {
        let code = shape.error.as_ref().and_then(|e| e.code.as_deref()).unwrap_or(name);
        let status =
            shape.error.as_ref().and_then(|e| e.http_status_code).unwrap_or(if shape.fault { 500 } else { 400 });
        let _ =
            writeln!(text, "pub const {}: ErrorCode = ErrorCode::new(\"{code}\", {status});", names::constant(name));
    }
    for operation in model.operations.values() {
        for error in &operation.errors {
            if !model.shape(&error.shape)?.exception {
                return Err(Failure::Model(format!("{} names {}, which is no exception", operation.name, error.shape)));
            }
        }
    }
    Ok(text)
}
