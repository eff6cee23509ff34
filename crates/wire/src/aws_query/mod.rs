//! awsQuery, server side: parameters of a form come in, XML goes out.
//!
//! [`Form`] makes of a request the one value that every protocol ends in (`longshore_api::shape`), so that a service which
//! speaks this protocol is decoded and checked like any other; [`response`] writes an answer by the same tables.

#[cfg(test)]
mod fixture;
mod form;
mod xml;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Response, StatusCode};
use longshore_api::error::{
    ACCESS_DENIED_EXCEPTION, EXPIRED_TOKEN_EXCEPTION, INCOMPLETE_SIGNATURE_EXCEPTION, INVALID_SIGNATURE_EXCEPTION,
    MISSING_AUTHENTICATION_TOKEN_EXCEPTION, REQUEST_ENTITY_TOO_LARGE, SERIALIZATION_EXCEPTION, SERVICE_UNAVAILABLE,
    THROTTLING_EXCEPTION, UNKNOWN_OPERATION_EXCEPTION, UNRECOGNIZED_CLIENT_EXCEPTION,
};
use longshore_api::shape::Shape;
use longshore_api::{ApiError, ErrorCode};
use serde_json::Value;

use crate::aws_json::REQUEST_ID;
use crate::request_id::RequestId;
pub(crate) use form::is_form;
pub use form::{FORM, Form};
pub(crate) use xml::Xml;

/// The request names no action.
pub const MISSING_ACTION: ErrorCode = ErrorCode::new("MissingAction", 400);
/// The service has no such action in this version.
pub const INVALID_ACTION: ErrorCode = ErrorCode::new("InvalidAction", 400);
/// A parameter has not the form of its type.
pub const MALFORMED_INPUT: ErrorCode = ErrorCode::new("MalformedInput", 400);
/// The parameters cannot be read at all.
pub const MALFORMED_QUERY_STRING: ErrorCode = ErrorCode::new("MalformedQueryString", 404);

/// The namespace of errors that are no service's own, such as those of calls that name none.
pub const FAULT_NAMESPACE: &str = "http://webservices.amazon.com/AWSFault/2005-15-09";

/// A successful answer of an action.
pub fn response(
    namespace: &str,
    action: &str,
    output: &Shape,
    answer: &Value,
    request_id: &RequestId,
) -> Response<Bytes> {
    let mut xml = Xml::default();
    xml.root(&format!("{action}Response"), Some(namespace), |xml| {
        xml.value(&format!("{action}Result"), output, answer);
        xml.element("ResponseMetadata", |xml| xml.text("RequestId", &request_id.to_string()));
    });
    build(StatusCode::OK, xml, request_id)
}

/// An error, as SDKs read it. Codes have their own spelling here, and signatures their own status. The error's private context
/// stays here.
pub fn error_response(namespace: &str, error: &ApiError, request_id: &RequestId) -> Response<Bytes> {
    let code = spelled(error.code);
    let at_fault = if code.status < 500 { "Sender" } else { "Receiver" };
    let mut xml = Xml::default();
    xml.root("ErrorResponse", Some(namespace), |xml| {
        xml.element("Error", |xml| {
            xml.text("Type", at_fault);
            xml.text("Code", code.name);
            xml.text("Message", &error.message);
        });
        xml.text("RequestId", &request_id.to_string());
    });
    build(status(code), xml, request_id)
}

/// The XML services' spelling of a code that all services have; others keep theirs.
pub(crate) fn spelled(code: ErrorCode) -> ErrorCode {
    match code {
        MISSING_AUTHENTICATION_TOKEN_EXCEPTION => ErrorCode::new("MissingAuthenticationToken", 403),
        INCOMPLETE_SIGNATURE_EXCEPTION => ErrorCode::new("IncompleteSignature", 400),
        INVALID_SIGNATURE_EXCEPTION => ErrorCode::new("SignatureDoesNotMatch", 403),
        UNRECOGNIZED_CLIENT_EXCEPTION => ErrorCode::new("InvalidClientTokenId", 403),
        EXPIRED_TOKEN_EXCEPTION => ErrorCode::new("ExpiredToken", 403),
        ACCESS_DENIED_EXCEPTION => ErrorCode::new("AccessDenied", 403),
        UNKNOWN_OPERATION_EXCEPTION => INVALID_ACTION,
        SERIALIZATION_EXCEPTION => MALFORMED_INPUT,
        THROTTLING_EXCEPTION => ErrorCode::new("Throttling", 400),
        REQUEST_ENTITY_TOO_LARGE => ErrorCode::new("RequestEntityTooLarge", 413),
        SERVICE_UNAVAILABLE => ErrorCode::new("ServiceUnavailable", 503),
        code => code,
    }
}

/// The HTTP status of a code.
pub(crate) fn status(code: ErrorCode) -> StatusCode {
    StatusCode::from_u16(code.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

/// An answer that holds this document.
pub(crate) fn build(status: StatusCode, xml: Xml, request_id: &RequestId) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from(xml.into_text()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/xml"));
    if let Ok(id) = HeaderValue::try_from(request_id.to_string()) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    response
}

#[cfg(test)]
mod tests {
    use longshore_api::sts;
    use serde_json::json;

    use super::*;

    fn text(response: &Response<Bytes>) -> &str {
        std::str::from_utf8(response.body()).unwrap()
    }

    #[test]
    fn an_answer_is_wrapped_and_carries_its_request_id_twice() {
        let id = RequestId::random();
        let output = sts::Operation::GetCallerIdentity.facts().output;
        let answer = json!({"Account": "000000000000", "Arn": "arn:aws:iam::000000000000:root", "UserId": "<&>"});
        let response = response(sts::NAMESPACE, "GetCallerIdentity", output, &answer, &id);
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()[CONTENT_TYPE], "text/xml");
        assert_eq!(response.headers()[REQUEST_ID], id.to_string());
        assert_eq!(
            text(&response),
            format!(
                "<GetCallerIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><GetCallerIdentityResult>\
                 <Account>000000000000</Account><Arn>arn:aws:iam::000000000000:root</Arn>\
                 <UserId>&lt;&amp;&gt;</UserId></GetCallerIdentityResult><ResponseMetadata><RequestId>{id}</RequestId>\
                 </ResponseMetadata></GetCallerIdentityResponse>"
            )
        );
    }

    #[test]
    fn an_error_says_who_is_at_fault_and_keeps_its_context() {
        let id = RequestId::random();
        let error = ApiError::new(UNRECOGNIZED_CLIENT_EXCEPTION, "no").with_context("secret");
        let response = error_response(FAULT_NAMESPACE, &error, &id);
        assert_eq!(response.status(), 403);
        assert_eq!(
            text(&response),
            format!(
                "<ErrorResponse xmlns=\"{FAULT_NAMESPACE}\"><Error><Type>Sender</Type><Code>InvalidClientTokenId</Code>\
                 <Message>no</Message></Error><RequestId>{id}</RequestId></ErrorResponse>"
            )
        );
        let ours = error_response(FAULT_NAMESPACE, &ApiError::new(SERVICE_UNAVAILABLE, "soon"), &id);
        assert_eq!(ours.status(), 503);
        assert!(text(&ours).contains("<Type>Receiver</Type><Code>ServiceUnavailable</Code>"));
    }
}
