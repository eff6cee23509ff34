//! Writing XML by the tables of a model.

use jiff::tz::TimeZone;
use longshore_api::shape::{Kind, Shape};
use serde_json::Value;

/// A document that grows. No whitespace between elements, no prologue: what AWS sends, and all that SDKs need.
#[derive(Debug, Default)]
pub(crate) struct Xml(String);

impl Xml {
    /// The document.
    pub(crate) fn into_text(self) -> String {
        self.0
    }

    /// The outermost element.
    pub(crate) fn root(&mut self, name: &str, namespace: Option<&str>, content: impl FnOnce(&mut Self)) {
        self.0.push('<');
        self.0.push_str(name);
        if let Some(namespace) = namespace {
            self.0.push_str(" xmlns=\"");
            self.escaped(namespace);
            self.0.push('"');
        }
        self.0.push('>');
        content(self);
        self.close(name);
    }

    /// An element with others in it.
    pub(crate) fn element(&mut self, name: &str, content: impl FnOnce(&mut Self)) {
        self.root(name, None, content);
    }

    /// An element with text in it.
    pub(crate) fn text(&mut self, name: &str, text: &str) {
        self.element(name, |xml| xml.escaped(text));
    }

    /// A value, in the form that its shape has in query and XML protocols. What does not fit the shape is left out: answers are
    /// made from the types of the same model.
    pub(crate) fn value(&mut self, name: &str, shape: &Shape, value: &Value) {
        match (&shape.kind, value) {
            (Kind::Structure { members, .. }, Value::Object(object)) => self.element(name, |xml| {
                for member in *members {
                    if let Some(value) = object.get(member.name) {
                        xml.value(member.location_name.unwrap_or(member.name), member.shape, value);
                    }
                }
            }),
            (Kind::List { item, flattened: true, .. }, Value::Array(items)) => {
                items.iter().for_each(|value| self.value(name, item, value));
            }
            (Kind::List { item, item_name, .. }, Value::Array(items)) => self.element(name, |xml| {
                items.iter().for_each(|value| xml.value(item_name.unwrap_or("member"), item, value));
            }),
            (Kind::Map { value: shape, flattened, .. }, Value::Object(entries)) => match flattened {
                true => self.entries(name, shape, entries),
                false => self.element(name, |xml| xml.entries("entry", shape, entries)),
            },
            (Kind::Timestamp, Value::Number(seconds)) => {
                if let Some(text) = seconds.as_f64().and_then(date_time) {
                    self.text(name, &text);
                }
            }
            (_, Value::String(text)) => self.text(name, text),
            (_, Value::Bool(_) | Value::Number(_)) => self.text(name, &value.to_string()),
            _ => {}
        }
    }

    fn entries(&mut self, name: &str, shape: &Shape, entries: &serde_json::Map<String, Value>) {
        for (key, value) in entries {
            self.element(name, |xml| {
                xml.text("key", key);
                xml.value("value", shape, value);
            });
        }
    }

    fn close(&mut self, name: &str) {
        self.0.push_str("</");
        self.0.push_str(name);
        self.0.push('>');
    }

    /// Text that is read back as it was; characters that XML cannot have, escaped or not, are replaced.
    fn escaped(&mut self, text: &str) {
        for character in text.chars() {
            match character {
                '&' => self.0.push_str("&amp;"),
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '"' => self.0.push_str("&quot;"),
                // A parser would make a line feed of it.
                '\r' => self.0.push_str("&#xD;"),
                '\t' | '\n' => self.0.push(character),
                '\u{0}'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => self.0.push(char::REPLACEMENT_CHARACTER),
                _ => self.0.push(character),
            }
        }
    }
}

/// `2015-08-30T12:36:00Z`, with milliseconds if there are any.
fn date_time(seconds: f64) -> Option<String> {
    let at = jiff::Timestamp::from_millisecond((seconds * 1000.0).round() as i64).ok()?;
    let format = if at.subsec_millisecond() == 0 { "%Y-%m-%dT%H:%M:%SZ" } else { "%Y-%m-%dT%H:%M:%S%.3fZ" };
    Some(at.to_zoned(TimeZone::UTC).strftime(format).to_string())
}

#[cfg(test)]
mod tests {
    use longshore_api::shape::{Member, Pattern};
    use serde_json::json;

    use super::super::fixture::{member, shape};
    use super::*;

    static STRING: Shape = shape(Kind::String(Pattern::Any));
    static LIST: Shape = shape(Kind::List { item: &STRING, item_name: None, flattened: false });
    static ITEMS: Shape = shape(Kind::List { item: &STRING, item_name: Some("Item"), flattened: false });
    static FLAT: Shape = shape(Kind::List { item: &STRING, item_name: None, flattened: true });
    static MAP: Shape = shape(Kind::Map { key: &STRING, value: &STRING, flattened: false });
    static FLAT_MAP: Shape = shape(Kind::Map { key: &STRING, value: &STRING, flattened: true });
    static NUMBER: Shape = shape(Kind::Integer);
    static FLAG: Shape = shape(Kind::Boolean);
    static TIME: Shape = shape(Kind::Timestamp);
    static ALL: Shape = shape(Kind::Structure {
        members: &[
            member("List", &LIST),
            member("Items", &ITEMS),
            Member { location_name: Some("flat"), ..member("Flat", &FLAT) },
            member("Map", &MAP),
            member("FlatMap", &FLAT_MAP),
            member("Number", &NUMBER),
            member("Flag", &FLAG),
            member("Time", &TIME),
        ],
        union: false,
    });

    fn written(value: Value) -> String {
        let mut xml = Xml::default();
        xml.value("A", &ALL, &value);
        xml.into_text()
    }

    #[test]
    fn every_kind_has_its_form() {
        for (value, inside) in [
            (json!({"List": ["a", "b"]}), "<List><member>a</member><member>b</member></List>"),
            (json!({"List": []}), "<List></List>"),
            (json!({"Items": ["a"]}), "<Items><Item>a</Item></Items>"),
            (json!({"Flat": ["a", "b"]}), "<flat>a</flat><flat>b</flat>"),
            (json!({"Map": {"k": "v"}}), "<Map><entry><key>k</key><value>v</value></entry></Map>"),
            (json!({"FlatMap": {"k": "v"}}), "<FlatMap><key>k</key><value>v</value></FlatMap>"),
            (json!({"Number": -7, "Flag": true}), "<Number>-7</Number><Flag>true</Flag>"),
            (json!({"Time": 1_440_938_160}), "<Time>2015-08-30T12:36:00Z</Time>"),
            (json!({"Time": 1_440_938_160.25}), "<Time>2015-08-30T12:36:00.250Z</Time>"),
            (json!({"Unknown": 1, "List": null}), ""),
        ] {
            assert_eq!(written(value), format!("<A>{inside}</A>"));
        }
    }

    #[test]
    fn text_cannot_leave_its_element() {
        let text = written(json!({"List": ["</member>&\"\r\n\u{1}\u{e9}"]}));
        assert_eq!(text, "<A><List><member>&lt;/member&gt;&amp;&quot;&#xD;\n\u{fffd}\u{e9}</member></List></A>");
    }
}
