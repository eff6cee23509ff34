//! awsJson 1.0 and 1.1, server side: which operation is meant, what its body says, how an answer and an error look.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use http::{Response, StatusCode};
use longshore_api::ApiError;
use longshore_api::error::{SERIALIZATION_EXCEPTION, UNKNOWN_OPERATION_EXCEPTION};
use serde_json::Value;

use crate::request_id::RequestId;

/// Names service and operation of a request.
pub const TARGET: HeaderName = HeaderName::from_static("x-amz-target");
/// Carries the request id on every answer.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-amzn-requestid");
/// Carries the error's type on every error, as `__type` of the body does.
pub const ERROR_TYPE: HeaderName = HeaderName::from_static("x-amzn-errortype");

/// What every answer declares itself to be. Clients of 1.0 read it too: the two differ in this header alone.
const CONTENT_TYPE_1_1: HeaderValue = HeaderValue::from_static("application/x-amz-json-1.1");

/// What ECS calls itself in targets.
pub const ECS_TARGET_PREFIX: &str = "AmazonEC2ContainerServiceV20141113";

/// The two halves of an `X-Amz-Target` header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target<'a> {
    /// The service with its version, such as [`ECS_TARGET_PREFIX`].
    pub service: &'a str,
    /// The operation, such as `RunTask`.
    pub operation: &'a str,
}

/// Reads the target of a request.
pub fn target(headers: &HeaderMap) -> Result<Target<'_>, ApiError> {
    let unknown = |message: String| ApiError::new(UNKNOWN_OPERATION_EXCEPTION, message);
    let mut values = headers.get_all(&TARGET).iter();
    let value = values.next().ok_or_else(|| {
        unknown(format!("The request names no operation: send X-Amz-Target: {ECS_TARGET_PREFIX}.<Operation>."))
    })?;
    let split = value.to_str().ok().filter(|_| values.next().is_none()).and_then(|text| text.rsplit_once('.'));
    match split {
        Some((service, operation)) if !service.is_empty() && !operation.is_empty() => Ok(Target { service, operation }),
        _ => Err(unknown(format!("X-Amz-Target must be one {ECS_TARGET_PREFIX}.<Operation>."))),
    }
}

/// Refuses a body that is not declared as awsJson 1.0 or 1.1.
pub fn check_content_type(headers: &HeaderMap) -> Result<(), ApiError> {
    let declared = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media_type = declared.split(';').next().unwrap_or_default().trim();
    if ["application/x-amz-json-1.1", "application/x-amz-json-1.0"]
        .iter()
        .any(|known| media_type.eq_ignore_ascii_case(known))
    {
        return Ok(());
    }
    Err(ApiError::new(
        SERIALIZATION_EXCEPTION,
        format!("Content-Type '{}' is not supported: send application/x-amz-json-1.1.", media_type.escape_default()),
    ))
}

/// Parses a request's body. An empty body is an empty request; anything but an object is refused. Nesting is bounded by
/// [`MAX_JSON_DEPTH`](crate::limits::MAX_JSON_DEPTH).
pub fn parse_body(body: &[u8]) -> Result<Value, ApiError> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok(Value::Object(serde_json::Map::new()));
    }
    // The parser's message names line and column, never the text: it may go to the caller.
    let value: Value = serde_json::from_slice(body).map_err(|error| {
        ApiError::new(SERIALIZATION_EXCEPTION, format!("The request's body is not valid JSON: {error}."))
    })?;
    if value.is_object() {
        return Ok(value);
    }
    Err(ApiError::new(SERIALIZATION_EXCEPTION, "The request's body must be a JSON object.".to_owned()))
}

/// A successful answer.
pub fn response(body: Bytes, request_id: &RequestId) -> Response<Bytes> {
    build(StatusCode::OK, body, request_id)
}

/// An error, as SDKs read it: the type in the header and in `__type`, the text in `message`. The error's private context
/// stays here.
pub fn error_response(error: &ApiError, request_id: &RequestId) -> Response<Bytes> {
    let mut body = serde_json::json!({ "__type": error.code.name, "message": error.message });
    if !error.resource_ids.is_empty() {
        body["resourceIds"] = error.resource_ids.clone().into();
    }
    let status = StatusCode::from_u16(error.code.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = build(status, body.to_string().into(), request_id);
    response.headers_mut().insert(ERROR_TYPE, HeaderValue::from_static(error.code.name));
    response
}

fn build(status: StatusCode, body: Bytes, request_id: &RequestId) -> Response<Bytes> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, CONTENT_TYPE_1_1);
    if let Ok(id) = HeaderValue::try_from(request_id.to_string()) {
        headers.insert(REQUEST_ID, id);
    }
    response
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::limits::MAX_JSON_DEPTH;

    fn headers(name: HeaderName, values: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(name.clone(), HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        headers
    }

    #[test]
    fn a_target_is_split_at_its_last_dot() {
        let known = headers(TARGET, &["AmazonEC2ContainerServiceV20141113.RunTask"]);
        assert_eq!(target(&known).unwrap(), Target { service: ECS_TARGET_PREFIX, operation: "RunTask" });
        for bad in [&[][..], &["RunTask"], &["A."], &[".B"], &[""], &["A.B", "A.C"], &["A.\u{e9}"]] {
            let error = target(&headers(TARGET, bad)).unwrap_err();
            assert_eq!(error.code, UNKNOWN_OPERATION_EXCEPTION, "{bad:?}");
        }
    }

    #[test]
    fn both_versions_are_content_types_and_nothing_else_is() {
        for good in
            ["application/x-amz-json-1.1", "application/x-amz-json-1.0", "Application/X-Amz-Json-1.1; charset=utf-8"]
        {
            assert!(check_content_type(&headers(CONTENT_TYPE, &[good])).is_ok(), "{good}");
        }
        for bad in [&["text/plain"][..], &["application/x-amz-json-1.2"], &[]] {
            assert_eq!(
                check_content_type(&headers(CONTENT_TYPE, bad)).unwrap_err().code,
                SERIALIZATION_EXCEPTION,
                "{bad:?}"
            );
        }
    }

    #[test]
    fn a_body_is_an_object_or_nothing() {
        assert_eq!(parse_body(b" \n").unwrap(), serde_json::json!({}));
        assert_eq!(parse_body(br#"{"a":[1]}"#).unwrap(), serde_json::json!({"a": [1]}));
        for bad in [&b"[]"[..], b"1", b"{", b"{\"a\":1}x", b"\xff", b"null"] {
            assert_eq!(parse_body(bad).unwrap_err().code, SERIALIZATION_EXCEPTION);
        }
    }

    #[test]
    fn nesting_is_bounded() {
        let nested = |levels: usize| format!("{}0{}", "{\"a\":".repeat(levels), "}".repeat(levels));
        assert!(parse_body(nested(MAX_JSON_DEPTH - 1).as_bytes()).is_ok());
        assert!(parse_body(nested(MAX_JSON_DEPTH).as_bytes()).is_err());
        assert!(parse_body("[".repeat(1_000_000).as_bytes()).is_err());
    }

    #[test]
    fn an_error_shows_its_type_twice_and_its_context_never() {
        let error = ApiError::new(SERIALIZATION_EXCEPTION, "no".to_owned()).with_context("secret".to_owned());
        let id = RequestId::random();
        let response = error_response(&error, &id);
        assert_eq!(response.status(), 400);
        assert_eq!(response.headers()[ERROR_TYPE], "SerializationException");
        assert_eq!(response.headers()[REQUEST_ID], id.to_string());
        assert_eq!(response.headers()[CONTENT_TYPE], "application/x-amz-json-1.1");
        let body: Value = serde_json::from_slice(response.body()).unwrap();
        assert_eq!(body, serde_json::json!({"__type": "SerializationException", "message": "no"}));
    }

    proptest! {
        #[test]
        fn no_body_makes_the_parser_panic(body: Vec<u8>) {
            let _ = parse_body(&body);
        }
    }
}
