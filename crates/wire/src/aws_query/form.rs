//! Parameters of a request, and the value that they spell.

use std::str::Split;

use http::Method;
use http::header::CONTENT_TYPE;
use http::request::Parts;
use longshore_api::ApiError;
use longshore_api::shape::{Kind, Member, Shape};
use percent_encoding::percent_decode;
use serde_json::{Map, Value};

use super::{MALFORMED_INPUT, MALFORMED_QUERY_STRING, MISSING_ACTION};
use crate::limits::{MAX_FORM_DEPTH, MAX_FORM_PARAMETERS};

/// The content type of a form.
pub const FORM: &str = "application/x-www-form-urlencoded";

/// What begins the names of parameters that are about the signature.
const OF_SIGNATURE: &str = "X-Amz-";

/// The parameters of one request.
///
/// They are kept sorted by the parts of their names (`Tags.member.1.Key` has four), so that whatever lies below a name is one
/// slice: following a name through the tables copies nothing, however deep it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Form {
    parameters: Vec<Parameter>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Parameter {
    name: String,
    value: String,
}

impl Parameter {
    fn parts(&self) -> Split<'_, char> {
        self.name.split('.')
    }

    /// The part of the name at a depth.
    fn part(&self, depth: usize) -> Option<&str> {
        self.parts().nth(depth)
    }
}

impl Form {
    /// The parameters of a request: those of its query, signature aside, and those of its body.
    ///
    /// # Errors
    /// `MalformedInput` for a body that is no form, `MalformedQueryString` for one that cannot be read or says one thing
    /// twice.
    pub fn of(head: &Parts, body: &[u8]) -> Result<Self, ApiError> {
        let of_body = if head.method == Method::GET { &[] } else { body };
        if !of_body.is_empty() && !is_form(head) {
            return Err(ApiError::new(MALFORMED_INPUT, format!("The body must be a form: send Content-Type {FORM}.")));
        }
        Self::read(head.uri.query().unwrap_or_default(), of_body)
    }

    /// The parameters of this query and this body.
    ///
    /// # Errors
    /// As [`Form::of`].
    pub fn read(query: &str, body: &[u8]) -> Result<Self, ApiError> {
        let pairs = query.as_bytes().split(|byte| *byte == b'&').chain(body.trim_ascii().split(|byte| *byte == b'&'));
        let mut parameters = Vec::new();
        for pair in pairs.filter(|pair| !pair.is_empty()) {
            if parameters.len() == MAX_FORM_PARAMETERS {
                return Err(malformed(format!("There are more than {MAX_FORM_PARAMETERS} parameters.")));
            }
            let parameter = parameter(pair)?;
            if !parameter.name.starts_with(OF_SIGNATURE) {
                parameters.push(parameter);
            }
        }
        parameters.sort_unstable_by(|one, two| one.parts().cmp(two.parts()));
        if let Some([twice, _]) = parameters.array_windows().find(|[one, two]| one.name == two.name) {
            return Err(malformed(format!("The parameter '{}' is given twice.", shown(&twice.name))));
        }
        Ok(Self { parameters })
    }

    /// The action that is asked for.
    ///
    /// # Errors
    /// `MissingAction`.
    pub fn action(&self) -> Result<&str, ApiError> {
        self.text("Action").filter(|action| !action.is_empty()).ok_or_else(|| {
            ApiError::new(MISSING_ACTION, "The request names no action: send the parameters Action and Version.")
        })
    }

    /// The version of the service's API that is meant.
    pub fn version(&self) -> Option<&str> {
        self.text("Version")
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|parameter| parameter.name == name).map(|parameter| parameter.value.as_str())
    }

    /// The parameters as a request of this shape: the value that awsJson would have sent. Those that the shape does not know are
    /// ignored; that what must be there is there, and within its limits, is for the check of the shape to say.
    ///
    /// # Errors
    /// `MalformedInput`, for what cannot be of its member's type.
    pub fn value(&self, shape: &Shape) -> Result<Value, ApiError> {
        Branch { parameters: &self.parameters, depth: 0 }.value(shape)
    }
}

/// Whether the body is declared to be a form.
pub(crate) fn is_form(head: &Parts) -> bool {
    let declared = head.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    declared.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(FORM)
}

fn parameter(pair: &[u8]) -> Result<Parameter, ApiError> {
    let equals = pair.iter().position(|byte| *byte == b'=');
    let (name, value) = equals.map_or((pair, &[][..]), |at| (&pair[..at], &pair[at + 1..]));
    let parameter = Parameter { name: decoded(name)?, value: decoded(value)? };
    if parameter.parts().count() > MAX_FORM_DEPTH {
        return Err(malformed(format!("The name of a parameter has more than {MAX_FORM_DEPTH} parts.")));
    }
    Ok(parameter)
}

fn decoded(text: &[u8]) -> Result<String, ApiError> {
    let spaced: Vec<u8> = text.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte }).collect();
    String::from_utf8(percent_decode(&spaced).collect()).map_err(|_| malformed("A parameter is not UTF-8.".to_owned()))
}

fn malformed(message: String) -> ApiError {
    ApiError::new(MALFORMED_QUERY_STRING, message)
}

/// A name as messages show it.
fn shown(name: &str) -> String {
    name.chars().take(128).flat_map(char::escape_default).collect()
}

/// All parameters whose names begin with the same parts. Never empty, but for an empty form.
#[derive(Clone, Copy)]
struct Branch<'a> {
    parameters: &'a [Parameter],
    /// How many parts they share.
    depth: usize,
}

impl<'a> Branch<'a> {
    fn value(self, shape: &Shape) -> Result<Value, ApiError> {
        match &shape.kind {
            Kind::Structure { members, .. } => self.structure(members),
            Kind::List { item, item_name, flattened } => {
                self.list(item, if *flattened { None } else { Some(item_name.unwrap_or("member")) })
            }
            Kind::Map { value, flattened, .. } => self.map(value, if *flattened { None } else { Some("entry") }),
            Kind::String(_) | Kind::Enum(_) | Kind::Document => Ok(Value::String(self.text("a text")?.to_owned())),
            Kind::Integer => self.scalar("a whole number", |text| text.parse::<i32>().ok().map(Value::from)),
            Kind::Long => self.scalar("a whole number", |text| text.parse::<i64>().ok().map(Value::from)),
            Kind::Double => self.scalar("a number", |text| number(text.parse().ok()?)),
            Kind::Boolean => self.scalar("true or false", |text| text.parse::<bool>().ok().map(Value::from)),
            Kind::Timestamp => self.scalar("a time such as 2015-08-30T12:36:00Z", seconds),
        }
    }

    fn structure(self, members: &[Member]) -> Result<Value, ApiError> {
        let mut object = Map::new();
        for member in members {
            if let Some(branch) = self.child(member.location_name.unwrap_or(member.name)) {
                object.insert(member.name.to_owned(), branch.value(member.shape)?);
            }
        }
        Ok(Value::Object(object))
    }

    /// Items are numbered, from any number on and with any gaps. A list that is there and has none is spelled `Name=`.
    fn list(self, item: &Shape, wrapper: Option<&str>) -> Result<Value, ApiError> {
        let items = self.numbered(wrapper)?;
        items.into_iter().map(|branch| branch.value(item)).collect::<Result<Vec<_>, _>>().map(Value::Array)
    }

    fn map(self, shape: &Shape, wrapper: Option<&str>) -> Result<Value, ApiError> {
        let mut object = Map::new();
        for entry in self.numbered(wrapper)? {
            let key = entry.child("key").ok_or_else(|| entry.wrong("an entry with a key"))?.text("a text")?;
            let value = entry.child("value").ok_or_else(|| entry.wrong("an entry with a value"))?;
            object.insert(key.to_owned(), value.value(shape)?);
        }
        Ok(Value::Object(object))
    }

    fn scalar(self, expected: &str, read: impl FnOnce(&str) -> Option<Value>) -> Result<Value, ApiError> {
        read(self.text(expected)?).ok_or_else(|| self.wrong(expected))
    }

    /// The value of the parameter that ends here; there may be no others.
    fn text(self, expected: &str) -> Result<&'a str, ApiError> {
        match self.parameters {
            [only] if only.part(self.depth).is_none() => Ok(&only.value),
            _ => Err(self.wrong(expected)),
        }
    }

    /// What lies under a further part.
    fn child(self, part: &str) -> Option<Self> {
        let from = self.parameters.partition_point(|parameter| parameter.part(self.depth) < Some(part));
        let count = self.parameters[from..].partition_point(|parameter| parameter.part(self.depth) == Some(part));
        (count > 0).then(|| Self { parameters: &self.parameters[from..from + count], depth: self.depth + 1 })
    }

    /// What lies under the numbers below `wrapper`, in their order.
    fn numbered(self, wrapper: Option<&str>) -> Result<Vec<Self>, ApiError> {
        let empty = matches!(self.parameters, [only] if only.part(self.depth).is_none() && only.value.is_empty());
        if empty {
            return Ok(Vec::new());
        }
        let below = match wrapper {
            Some(wrapper) => self.child(wrapper).ok_or_else(|| self.wrong("a list"))?,
            None => self,
        };
        let mut items = Vec::new();
        for parameters in below.parameters.chunk_by(|one, two| one.part(below.depth) == two.part(below.depth)) {
            let number = parameters[0].part(below.depth).filter(|part| part.bytes().all(|byte| byte.is_ascii_digit()));
            let number: u32 = number.and_then(|part| part.parse().ok()).ok_or_else(|| self.wrong("a list"))?;
            items.push((number, Self { parameters, depth: below.depth + 1 }));
        }
        items.sort_by_key(|(number, _)| *number);
        Ok(items.into_iter().map(|(_, branch)| branch).collect())
    }

    fn wrong(self, expected: &str) -> ApiError {
        let parts = self.parameters.first().map(|first| first.parts().take(self.depth).collect::<Vec<_>>().join("."));
        let name = parts.unwrap_or_default();
        ApiError::new(MALFORMED_INPUT, format!("The parameter '{}' must be {expected}.", shown(&name)))
    }
}

/// A number that JSON can have.
fn number(value: f64) -> Option<Value> {
    serde_json::Number::from_f64(value).map(Value::Number)
}

/// ISO 8601 or seconds since the epoch, as seconds.
fn seconds(text: &str) -> Option<Value> {
    match text.parse::<jiff::Timestamp>() {
        Ok(at) => number(at.as_millisecond() as f64 / 1000.0),
        Err(_) => number(text.parse().ok()?),
    }
}

#[cfg(test)]
mod tests {
    use longshore_api::shape::Pattern;
    use proptest::prelude::*;
    use serde_json::json;

    use super::super::fixture::{member, shape};
    use super::*;

    static STRING: Shape = shape(Kind::String(Pattern::Any));
    static INTEGER: Shape = shape(Kind::Integer);
    static DOUBLE: Shape = shape(Kind::Double);
    static FLAG: Shape = shape(Kind::Boolean);
    static TIME: Shape = shape(Kind::Timestamp);
    static TAG: Shape =
        shape(Kind::Structure { members: &[member("Key", &STRING), member("Value", &STRING)], union: false });
    static TAGS: Shape = shape(Kind::List { item: &TAG, item_name: None, flattened: false });
    static NAMES: Shape = shape(Kind::List { item: &STRING, item_name: Some("Name"), flattened: false });
    static FLAT: Shape = shape(Kind::List { item: &INTEGER, item_name: None, flattened: true });
    static MAP: Shape = shape(Kind::Map { key: &STRING, value: &INTEGER, flattened: false });
    static NESTED: Shape =
        shape(Kind::Structure { members: &[member("Again", &NESTED), member("End", &STRING)], union: false });
    static ALL: Shape = shape(Kind::Structure {
        members: &[
            member("Again", &NESTED),
            member("Count", &INTEGER),
            member("Flag", &FLAG),
            Member { location_name: Some("flat"), ..member("Flat", &FLAT) },
            member("Map", &MAP),
            member("Name", &STRING),
            member("Names", &NAMES),
            member("Share", &DOUBLE),
            member("Since", &TIME),
            member("Tags", &TAGS),
        ],
        union: false,
    });

    fn value(body: &str) -> Result<Value, (&'static str, String)> {
        let form = Form::read("", body.as_bytes()).and_then(|form| form.value(&ALL));
        form.map_err(|error| (error.code.name, error.message))
    }

    #[test]
    fn every_kind_is_read_from_its_spelling() {
        for (body, expected) in [
            ("", json!({})),
            ("Action=A&Version=1&Unknown.member.1=x", json!({})),
            ("Name=a+b%2Bc%3D", json!({"Name": "a b+c="})),
            ("Name", json!({"Name": ""})),
            ("Count=-7&Flag=true&Share=0.5", json!({"Count": -7, "Flag": true, "Share": 0.5})),
            ("Since=2015-08-30T12:36:00Z", json!({"Since": 1_440_938_160.0})),
            ("Since=1440938160.25", json!({"Since": 1_440_938_160.25})),
            ("flat.2=2&flat.10=10&flat.1=1", json!({"Flat": [1, 2, 10]})),
            ("Names.Name.1=a&Names.Name.3=c", json!({"Names": ["a", "c"]})),
            ("Names=", json!({"Names": []})),
            ("Map.entry.1.key=k&Map.entry.1.value=5", json!({"Map": {"k": 5}})),
            (
                "Tags.member.2.Key=b&Tags.member.1.Value=1&Tags.member.1.Key=a",
                json!({"Tags": [{"Key": "a", "Value": "1"}, {"Key": "b"}]}),
            ),
            ("Again.Again.End=x", json!({"Again": {"Again": {"End": "x"}}})),
        ] {
            assert_eq!(value(body).unwrap(), expected, "{body}");
        }
    }

    #[test]
    fn what_is_not_of_its_type_is_named() {
        for (body, name) in [
            ("Count=seven", "'Count'"),
            ("Count=1.5", "'Count'"),
            ("Count=2147483648", "'Count'"),
            ("Count=1&Count.x=2", "'Count'"),
            ("Flag=yes", "'Flag'"),
            ("Share=NaN", "'Share'"),
            ("Since=yesterday", "'Since'"),
            ("Name.member.1=a", "'Name'"),
            ("Tags.1.Key=a", "'Tags'"),
            ("Tags.member.x.Key=a", "'Tags'"),
            ("Tags.member.+1.Key=a", "'Tags'"),
            ("Tags.member.=a", "'Tags'"),
            ("Tags.member.4294967296.Key=a", "'Tags'"),
            ("Tags=a", "'Tags'"),
            ("Map.entry.1.value=5", "'Map.entry.1'"),
            ("Map.entry.1.key=k", "'Map.entry.1'"),
        ] {
            let (code, message) = value(body).unwrap_err();
            assert_eq!(code, "MalformedInput", "{body}");
            assert!(message.contains(name), "{body}: {message}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        let deep = "a.".repeat(MAX_FORM_DEPTH) + "b=1";
        let many: String = (0..=MAX_FORM_PARAMETERS).map(|number| format!("p{number}=1&")).collect();
        for body in ["Name=a&Name=b", "Name=%FF", "%FF=1", &deep, &many] {
            assert_eq!(value(body).unwrap_err().0, "MalformedQueryString", "{}", &body[..body.len().min(40)]);
        }
    }

    #[test]
    fn query_and_body_are_one_form_and_the_signature_is_no_part_of_it() {
        let form = Form::read("Action=A&X-Amz-Signature=1&X-Amz-Signature=2", b"Version=2011-06-15\n").unwrap();
        assert_eq!((form.action().unwrap(), form.version()), ("A", Some("2011-06-15")));
        for without in ["", "Action=", "action=A"] {
            assert_eq!(Form::read(without, b"").unwrap().action().unwrap_err().code, MISSING_ACTION, "{without}");
        }
    }

    #[test]
    fn a_body_must_be_declared_as_a_form_and_that_of_a_get_is_nothing() {
        let head = |method: &str, content_type: &str| {
            let request = http::Request::builder().method(method).uri("/?Action=A").header(CONTENT_TYPE, content_type);
            request.body(()).unwrap().into_parts().0
        };
        assert!(Form::of(&head("POST", "application/x-www-form-urlencoded; charset=utf-8"), b"Version=1").is_ok());
        assert_eq!(Form::of(&head("POST", "application/json"), b"{}").unwrap_err().code, MALFORMED_INPUT);
        assert!(Form::of(&head("POST", "application/json"), b"").is_ok());
        let get = Form::of(&head("GET", FORM), b"Action=B").unwrap();
        assert_eq!(get.action().unwrap(), "A");
    }

    proptest! {
        #[test]
        fn no_form_makes_the_reader_panic(query in "\\PC{0,60}", body: Vec<u8>) {
            if let Ok(form) = Form::read(&query, &body) {
                let _ = form.value(&ALL);
            }
        }

        #[test]
        fn names_of_the_shape_never_make_the_walk_panic(
            body in "((Tags|Names|flat|Map|Again|Count)(\\.(member|entry|Name|key|value|Again|[0-9]{1,3})){0,6}=[a-z0-9]{0,3}&){0,8}",
        ) {
            let _ = value(&body);
        }
    }
}
