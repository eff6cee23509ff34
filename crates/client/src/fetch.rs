//! Plain requests, without a signature, to the small services that tell a machine or a container who it is.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST, HeaderName, HeaderValue};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::rt::TokioExecutor;
use tokio::time::timeout;

use crate::call::reason;
use crate::transport::{Connector, Origin, Transport};

/// Names and keys: some hundred bytes.
const MAX_BODY_BYTES: usize = 64 << 10;

/// One request, answered within `limit` or not at all. An error is in words.
///
/// # Errors
/// When the URL is none, or there is no whole answer in time.
pub async fn fetch(
    transport: &Transport,
    method: Method,
    url: &str,
    headers: &[(HeaderName, String)],
    limit: Duration,
) -> Result<(StatusCode, String), String> {
    let request = request(method, url, headers, Bytes::new())?;
    exchange(transport, request, MAX_BODY_BYTES, limit).await
}

/// Posts JSON to a service that somebody named, and reads an answer of at most so many bytes.
///
/// # Errors
/// As [`fetch`].
pub async fn post_json(
    transport: &Transport,
    url: &str,
    body: Vec<u8>,
    most_bytes: usize,
    limit: Duration,
) -> Result<(StatusCode, String), String> {
    let request = request(Method::POST, url, &[(CONTENT_TYPE, "application/json".to_owned())], body.into())?;
    exchange(transport, request, most_bytes, limit).await
}

fn request(
    method: Method,
    url: &str,
    headers: &[(HeaderName, String)],
    body: Bytes,
) -> Result<Request<Full<Bytes>>, String> {
    let (origin, _) =
        Origin::of(url.split('?').next().unwrap_or(url)).map_err(|error| format!("{url} is not {error}"))?;
    let value = |text: &str| HeaderValue::try_from(text).map_err(|error| error.to_string());
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = method;
    *request.uri_mut() = url.parse().map_err(|error: http::uri::InvalidUri| error.to_string())?;
    request.headers_mut().insert(HOST, value(origin.authority())?);
    for (name, text) in headers {
        request.headers_mut().insert(name, value(text)?);
    }
    Ok(request)
}

async fn exchange(
    transport: &Transport,
    request: Request<Full<Bytes>>,
    most_bytes: usize,
    limit: Duration,
) -> Result<(StatusCode, String), String> {
    let http: HttpClient<Connector, Full<Bytes>> =
        HttpClient::builder(TokioExecutor::new()).build(Connector(transport.clone()));
    let exchange = async {
        let response = http.request(request).await.map_err(|error| reason(&error))?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, most_bytes).collect().await.map_err(|error| error.to_string())?.to_bytes();
        Ok((head.status, String::from_utf8_lossy(&body).into_owned()))
    };
    timeout(limit, exchange).await.unwrap_or_else(|_| Err(format!("no answer within {}s", limit.as_secs_f32())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Requests, plain_server};
    use crate::{Proxies, Trust};

    #[tokio::test]
    async fn what_is_asked_arrives_and_who_is_not_there_is_an_error() {
        let requests = Requests::default();
        let port = plain_server(requests.clone()).await;
        let transport = Transport::new(Trust::default(), Proxies::default());
        let headers = [(HeaderName::from_static("x-token"), "t".to_owned())];
        let limit = Duration::from_secs(5);
        let url = format!("http://127.0.0.1:{port}/latest/api?x=1");
        let (status, _) = fetch(&transport, Method::PUT, &url, &headers, limit).await.unwrap();
        assert!(status.is_success());
        let head = requests.lock().unwrap().pop().unwrap();
        assert!(head.starts_with("PUT /latest/api?x=1 HTTP/1.1\r\n") && head.contains("x-token: t\r\n"), "{head}");
        assert!(fetch(&transport, Method::GET, "http://127.0.0.1:1/", &[], limit).await.is_err());
        assert!(fetch(&transport, Method::GET, "nowhere", &[], limit).await.unwrap_err().contains("nowhere"));
    }
}
