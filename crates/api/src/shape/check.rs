//! The walk over a value and its shape: once for types, once for everything else.

use serde_json::{Map, Value};

use super::{Kind, Limits, Member, Shape, Violation, ViolationKind, shortened};

/// The deepest shape of the ECS model has some ten levels; a cyclic one would be cut here.
const MAX_DEPTH: usize = 32;

/// Checks an untrusted value against its shape; reports the first thing found.
pub fn check(shape: &Shape, value: &Value) -> Result<(), Violation> {
    Walk { pass: Pass::Types }.shape(shape, Limits::NONE, value, 0)?;
    Walk { pass: Pass::Limits }.shape(shape, Limits::NONE, value, 0)
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum Pass {
    Types,
    Limits,
}

#[derive(Clone, Copy)]
struct Walk {
    pass: Pass,
}

type Outcome = Result<(), Violation>;

impl Walk {
    fn shape(self, shape: &Shape, limits: Limits, value: &Value, depth: usize) -> Outcome {
        if depth > MAX_DEPTH {
            return Err(Violation::new(ViolationKind::TooDeep));
        }
        match (&shape.kind, value) {
            (Kind::Structure { members, union }, Value::Object(object)) => {
                self.structure(members, *union, object, depth)
            }
            (Kind::List { item, .. }, Value::Array(items)) => {
                self.length(shape, limits, items.len())?;
                items.iter().enumerate().try_for_each(|(index, value)| {
                    self.shape(item, Limits::NONE, value, depth + 1).map_err(|violation| violation.at(index))
                })
            }
            (Kind::Map { key, value, .. }, Value::Object(object)) => {
                self.length(shape, limits, object.len())?;
                object.iter().try_for_each(|(name, entry)| self.entry(key, value, name, entry, depth))
            }
            (Kind::Document, _) => Ok(()),
            (_, value) => match self.pass {
                Pass::Types => scalar_type(shape, value),
                Pass::Limits => scalar_limits(shape, limits, value),
            },
        }
    }

    fn structure(self, members: &[Member], union: bool, object: &Map<String, Value>, depth: usize) -> Outcome {
        let mut found = 0;
        for member in members {
            match object.get(member.name) {
                None | Some(Value::Null) if member.required && self.pass == Pass::Limits => {
                    return Err(Violation::new(ViolationKind::MissingRequired).under(member.name));
                }
                None | Some(Value::Null) => {}
                Some(value) => {
                    found += 1;
                    self.shape(member.shape, member.limits, value, depth + 1)
                        .map_err(|violation| violation.under(member.name))?;
                }
            }
        }
        if union && found != 1 && self.pass == Pass::Limits {
            return Err(Violation::new(ViolationKind::NotExactlyOne { found }));
        }
        Ok(())
    }

    fn entry(self, key: &Shape, shape: &Shape, name: &str, value: &Value, depth: usize) -> Outcome {
        let within = |violation: Violation| violation.under(&format!("[{:?}]", shortened(name)));
        if self.pass == Pass::Limits {
            scalar_limits(key, Limits::NONE, &Value::String(name.to_owned())).map_err(within)?;
        }
        self.shape(shape, Limits::NONE, value, depth + 1).map_err(within)
    }

    fn length(self, shape: &Shape, limits: Limits, len: usize) -> Outcome {
        match self.pass {
            Pass::Types => Ok(()),
            Pass::Limits => length(shape.limits, len).and_then(|()| length(limits, len)),
        }
    }
}

/// Whether a scalar has its shape's JSON type, and whether a number fits its width.
fn scalar_type(shape: &Shape, value: &Value) -> Outcome {
    let (fits, expected) = match shape.kind {
        Kind::String(_) | Kind::Enum(_) => (value.is_string(), "a string"),
        Kind::Integer => (value.as_i64().is_some_and(|n| i32::try_from(n).is_ok()), "an integer of 32 bits"),
        Kind::Long => (value.is_i64(), "an integer of 64 bits"),
        Kind::Double => (value.is_number(), "a number"),
        Kind::Timestamp => (value.is_number(), "a number of seconds since the epoch"),
        Kind::Boolean => (value.is_boolean(), "a boolean"),
        Kind::Structure { .. } => (false, "an object"),
        Kind::Map { .. } => (false, "an object"),
        Kind::List { .. } => (false, "a list"),
        Kind::Document => (true, "any JSON"),
    };
    if fits { Ok(()) } else { Err(Violation::new(ViolationKind::WrongType { expected, found: found(value) })) }
}

/// Whether a scalar of the right type keeps its enum, pattern and bounds.
fn scalar_limits(shape: &Shape, limits: Limits, value: &Value) -> Outcome {
    match (&shape.kind, value) {
        (Kind::Enum(allowed), Value::String(text)) if !allowed.contains(&text.as_str()) => {
            Err(Violation::new(ViolationKind::NotInEnum { value: shortened(text), allowed }))
        }
        (Kind::String(pattern), Value::String(text)) => {
            let len = text.chars().count();
            length(shape.limits, len).and_then(|()| length(limits, len))?;
            if pattern.matches(text) { Ok(()) } else { Err(Violation::new(ViolationKind::BadCharacters)) }
        }
        (Kind::Integer | Kind::Long | Kind::Double, Value::Number(number)) => {
            let number = number.as_f64().unwrap_or(f64::NAN);
            range(shape.limits, number, value).and_then(|()| range(limits, number, value))
        }
        _ => Ok(()),
    }
}

fn length(limits: Limits, len: usize) -> Outcome {
    let len = len as u64;
    match limits {
        Limits { min: Some(min), .. } if i128::from(len) < i128::from(min) => {
            Err(Violation::new(ViolationKind::TooShort { len, min }))
        }
        Limits { max: Some(max), .. } if i128::from(len) > i128::from(max) => {
            Err(Violation::new(ViolationKind::TooLong { len, max }))
        }
        _ => Ok(()),
    }
}

/// Bounds of the models are far below 2^53: a double compares them exactly.
fn range(limits: Limits, number: f64, value: &Value) -> Outcome {
    let below = limits.min.is_some_and(|min| number < min as f64);
    let above = limits.max.is_some_and(|max| number > max as f64);
    if !below && !above {
        return Ok(());
    }
    Err(Violation::new(ViolationKind::OutOfRange { value: value.to_string(), min: limits.min, max: limits.max }))
}

fn found(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(number) if number.is_f64() => "a number with a fraction",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
