//! The protocols of AWS, as far as it takes to tell an error: whoever calls a service that is not served here should read so in
//! the words of its own protocol, and not wonder about an answer that cannot be parsed.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Method, Response};
use longshore_api::ApiError;

use crate::aws_query::{self, FAULT_NAMESPACE, Xml, is_form};
use crate::request_id::RequestId;
use crate::{aws_json, query};

/// Names the protocol, where it is one of the newer kind.
const SMITHY_PROTOCOL: HeaderName = HeaderName::from_static("smithy-protocol");
const RPC_V2_CBOR: HeaderValue = HeaderValue::from_static("rpc-v2-cbor");

/// A protocol, as an error looks in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Target in a header, JSON both ways.
    AwsJson,
    /// A form in, XML out.
    AwsQuery {
        /// Of the service's answers.
        namespace: &'static str,
    },
    /// EC2's own kind of it.
    Ec2Query,
    /// JSON over paths and methods.
    RestJson,
    /// XML over paths and methods, as S3 has it.
    RestXml,
    /// CBOR both ways.
    RpcV2Cbor,
}

impl Protocol {
    /// The protocol of a call: by its form, and where that tells nothing by the service that it is signed for.
    pub fn of(head: &Parts, service: Option<&str>) -> Self {
        if head.headers.contains_key(aws_json::TARGET) {
            return Self::AwsJson;
        }
        if head.headers.get(SMITHY_PROTOCOL) == Some(&RPC_V2_CBOR) {
            return Self::RpcV2Cbor;
        }
        match service {
            Some("ec2") => Self::Ec2Query,
            Some("s3" | "s3express" | "s3-outposts" | "s3-object-lambda") => Self::RestXml,
            // XML over paths like S3, with errors like those of query services.
            Some("route53" | "cloudfront") => Self::AwsQuery { namespace: FAULT_NAMESPACE },
            _ if is_query(head) => Self::AwsQuery { namespace: FAULT_NAMESPACE },
            Some("ecs") | None => Self::AwsJson,
            Some(_) => Self::RestJson,
        }
    }

    /// An error, as SDKs read it in this protocol. Its private context stays here.
    pub fn error_response(self, error: &ApiError, request_id: &RequestId) -> Response<Bytes> {
        match self {
            Self::AwsJson => aws_json::error_response(error, request_id),
            Self::AwsQuery { namespace } => aws_query::error_response(namespace, error, request_id),
            Self::Ec2Query => ec2_error(error, request_id),
            Self::RestXml => rest_xml_error(error, request_id),
            Self::RestJson => {
                let mut response = aws_json::error_response(error, request_id);
                response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
                response
            }
            Self::RpcV2Cbor => {
                let mut response = aws_json::error_response(error, request_id);
                *response.body_mut() = Bytes::from(cbor_error(error));
                response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/cbor"));
                response.headers_mut().insert(SMITHY_PROTOCOL, RPC_V2_CBOR);
                response
            }
        }
    }
}

/// Whether a call is a form, in its body or in its query.
pub fn is_query(head: &Parts) -> bool {
    let of_body = head.method == Method::POST && is_form(head);
    of_body || query::parameter(head.uri.query().unwrap_or_default(), "Action").is_some()
}

fn ec2_error(error: &ApiError, request_id: &RequestId) -> Response<Bytes> {
    let code = aws_query::spelled(error.code);
    let mut xml = Xml::default();
    xml.root("Response", None, |xml| {
        xml.element("Errors", |xml| {
            xml.element("Error", |xml| {
                xml.text("Code", code.name);
                xml.text("Message", &error.message);
            });
        });
        xml.text("RequestID", &request_id.to_string());
    });
    aws_query::build(aws_query::status(code), xml, request_id)
}

fn rest_xml_error(error: &ApiError, request_id: &RequestId) -> Response<Bytes> {
    let code = aws_query::spelled(error.code);
    let mut xml = Xml::default();
    xml.root("Error", None, |xml| {
        xml.text("Code", code.name);
        xml.text("Message", &error.message);
        xml.text("RequestId", &request_id.to_string());
    });
    aws_query::build(aws_query::status(code), xml, request_id)
}

/// A map of two texts.
fn cbor_error(error: &ApiError) -> Vec<u8> {
    const MAP_OF_TWO: u8 = 0xa2;
    let mut bytes = vec![MAP_OF_TWO];
    for text in ["__type", error.code.name, "message", &error.message] {
        cbor_text(&mut bytes, text);
    }
    bytes
}

/// A text, with its length in four bytes: longer than need be for most, and valid for all.
fn cbor_text(bytes: &mut Vec<u8>, text: &str) {
    const TEXT_OF_LONG_LENGTH: u8 = 0x7a;
    let kept = &text[..text.floor_char_boundary(usize::from(u16::MAX))];
    bytes.push(TEXT_OF_LONG_LENGTH);
    bytes.extend_from_slice(&u32::try_from(kept.len()).unwrap_or_default().to_be_bytes());
    bytes.extend_from_slice(kept.as_bytes());
}

#[cfg(test)]
mod tests {
    use longshore_api::error::UNKNOWN_OPERATION_EXCEPTION;

    use super::*;

    fn head(method: &str, uri: &str, header: Option<(&str, &str)>) -> Parts {
        let mut request = http::Request::builder().method(method).uri(uri);
        if let Some((name, value)) = header {
            request = request.header(name, value);
        }
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn a_call_is_known_by_its_form_and_then_by_its_service() {
        let query = Protocol::AwsQuery { namespace: FAULT_NAMESPACE };
        let form = Some(("content-type", "application/x-www-form-urlencoded"));
        let target = Some(("x-amz-target", "DynamoDB_20120810.ListTables"));
        for (head, service, protocol) in [
            (head("POST", "/", target), Some("dynamodb"), Protocol::AwsJson),
            (head("POST", "/", target), None, Protocol::AwsJson),
            (head("POST", "/", Some(("content-type", "application/x-amz-json-1.1"))), Some("ecs"), Protocol::AwsJson),
            (head("POST", "/", form), Some("iam"), query),
            (head("POST", "/", form), None, query),
            (head("GET", "/?Action=ListUsers", None), Some("iam"), query),
            (head("POST", "/", form), Some("ec2"), Protocol::Ec2Query),
            (head("GET", "/bucket?list-type=2", None), Some("s3"), Protocol::RestXml),
            (head("GET", "/2013-04-01/hostedzone", None), Some("route53"), query),
            (head("GET", "/2015-03-31/functions", None), Some("lambda"), Protocol::RestJson),
            (
                head("POST", "/service/X/operation/Y", Some(("smithy-protocol", "rpc-v2-cbor"))),
                Some("monitoring"),
                Protocol::RpcV2Cbor,
            ),
            (head("GET", "/", None), None, Protocol::AwsJson),
        ] {
            assert_eq!(Protocol::of(&head, service), protocol, "{head:?} {service:?}");
        }
    }

    #[test]
    fn an_error_is_told_in_each() {
        let id = RequestId::random();
        let error = ApiError::new(UNKNOWN_OPERATION_EXCEPTION, "not <here>").with_context("secret");
        let answer = |protocol: Protocol| {
            let response = protocol.error_response(&error, &id);
            assert_eq!(response.status(), 400);
            assert_eq!(response.headers()[aws_json::REQUEST_ID], id.to_string());
            let content_type = response.headers()[CONTENT_TYPE].to_str().unwrap().to_owned();
            (content_type, String::from_utf8_lossy(response.body()).into_owned())
        };
        let xml = "text/xml".to_owned();
        assert_eq!(
            answer(Protocol::Ec2Query),
            (
                xml.clone(),
                format!(
                    "<Response><Errors><Error><Code>InvalidAction</Code><Message>not &lt;here&gt;</Message></Error></Errors>\
                     <RequestID>{id}</RequestID></Response>"
                )
            )
        );
        assert_eq!(
            answer(Protocol::RestXml),
            (
                xml,
                format!(
                    "<Error><Code>InvalidAction</Code><Message>not &lt;here&gt;</Message><RequestId>{id}</RequestId>\
                     </Error>"
                )
            )
        );
        let json = r#"{"__type":"UnknownOperationException","message":"not <here>"}"#;
        assert_eq!(answer(Protocol::RestJson), ("application/json".to_owned(), json.to_owned()));
        assert_eq!(answer(Protocol::AwsJson), ("application/x-amz-json-1.1".to_owned(), json.to_owned()));
        assert!(answer(Protocol::AwsQuery { namespace: FAULT_NAMESPACE }).1.contains("<Code>InvalidAction</Code>"));
        let cbor = Protocol::RpcV2Cbor.error_response(&error, &id);
        assert_eq!(cbor.headers()[SMITHY_PROTOCOL], RPC_V2_CBOR);
        assert_eq!(
            &cbor.body()[..],
            b"\xa2\x7a\0\0\0\x06__type\x7a\0\0\0\x19UnknownOperationException\x7a\0\0\0\x07message\x7a\0\0\0\x0anot <here>"
        );
    }
}
