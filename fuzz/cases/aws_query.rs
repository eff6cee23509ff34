//! awsQuery: no form makes the reader panic; what it reads is of the shape's types, and can be written as XML from which no
//! text breaks out.
//!
//! Input: the query, a line feed, the body.

use longshore_api::shape::{self, Kind, Limits, Member, Pattern, Shape, ViolationKind};
use longshore_api::sts;
use longshore_wire::aws_query::{self, Form};
use longshore_wire::request_id::RequestId;

const fn shape(kind: Kind) -> Shape {
    Shape { name: "Shape", kind, limits: Limits::NONE, sensitive: false }
}

const fn member(name: &'static str, shape: &'static Shape) -> Member {
    Member { name, location_name: None, shape, required: false, limits: Limits::NONE }
}

static STRING: Shape = shape(Kind::String(Pattern::Any));
static INTEGER: Shape = shape(Kind::Integer);
static LONG: Shape = shape(Kind::Long);
static DOUBLE: Shape = shape(Kind::Double);
static FLAG: Shape = shape(Kind::Boolean);
static TIME: Shape = shape(Kind::Timestamp);
static LIST: Shape = shape(Kind::List { item: &ALL, item_name: None, flattened: false });
static FLAT: Shape = shape(Kind::List { item: &INTEGER, item_name: None, flattened: true });
static MAP: Shape = shape(Kind::Map { key: &STRING, value: &LONG, flattened: false });
static ALL: Shape = shape(Kind::Structure {
    members: &[
        member("A", &ALL),
        member("Double", &DOUBLE),
        member("Flag", &FLAG),
        Member { location_name: Some("flat"), ..member("Flat", &FLAT) },
        member("Int", &INTEGER),
        member("List", &LIST),
        member("Map", &MAP),
        member("S", &STRING),
        member("Time", &TIME),
    ],
    union: false,
});

pub(crate) fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (query, body) = text.split_once('\n').unwrap_or(("", text));
    let Ok(form) = Form::read(query, body.as_bytes()) else { return };
    let _ = (form.action(), form.version());
    let input = sts::Operation::GetCallerIdentity.facts().input;
    let nothing = form.value(input).expect("a request without members is read from anything");
    assert!(sts::Request::decode(sts::Operation::GetCallerIdentity, &nothing).is_ok());
    let Ok(value) = form.value(&ALL) else { return };
    if let Err(violation) = shape::check(&ALL, &value) {
        assert_eq!(violation.kind, ViolationKind::TooDeep, "the types are right");
    }
    let answer = aws_query::response("urn:x", "Act", &ALL, &value, &RequestId::random());
    let xml = std::str::from_utf8(answer.body()).expect("it is UTF-8");
    let (opened, closed) = (xml.matches('<').count(), xml.matches("</").count());
    assert_eq!(opened, 2 * closed, "every element is closed, and no text opens one");
    assert_eq!(xml.matches('>').count(), opened);
    assert!(!xml.chars().any(|c| c.is_control() && !"\t\n\u{7f}".contains(c) && !('\u{80}'..='\u{9f}').contains(&c)));
}
