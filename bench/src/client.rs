//! A client of the ECS API that adds as little as possible to what it measures: one kept connection, signed awsJson,
//! answers as plain JSON.

use std::fs;
use std::path::Path;
use std::time::SystemTime;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use longshore_api::Timestamp;
use longshore_wire::aws_json::{ECS_TARGET_PREFIX, TARGET};
use longshore_wire::sigv4::{Credentials, Secret, sign};
use serde_json::{Value, json};
use tokio::net::TcpStream;

/// Where a server is and how to sign for it.
#[derive(Clone)]
pub(crate) struct Access {
    /// `host:port`
    pub(crate) authority: String,
    pub(crate) region: String,
    pub(crate) credentials: Credentials,
}

impl Access {
    /// What the server of this data directory wrote, if process `pid` is the one that did.
    pub(crate) fn of(data_dir: &Path, pid: u32) -> Option<Self> {
        let file = |name: &str| serde_json::from_slice::<Value>(&fs::read(data_dir.join(name)).ok()?).ok();
        let (facts, key) = (file("server.json")?, file("root-access-key")?);
        let text = |value: &Value| value.as_str().map(str::to_owned);
        (facts["pid"].as_u64() == Some(u64::from(pid))).then_some(())?;
        Some(Self {
            authority: text(&facts["endpoint"])?.strip_prefix("http://")?.to_owned(),
            region: text(&facts["region"])?,
            credentials: Credentials {
                access_key_id: text(&key["accessKeyId"])?,
                secret: Secret::new(text(&key["secretAccessKey"])?),
                session_token: None,
            },
        })
    }

    /// What [`Access::variables`] gave to this process.
    pub(crate) fn from_variables() -> Self {
        let variable = |name: &str| std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set"));
        Self {
            authority: variable("ECS_BACKEND_HOST").trim_start_matches("http://").to_owned(),
            region: variable("AWS_DEFAULT_REGION"),
            credentials: Credentials {
                access_key_id: variable("AWS_ACCESS_KEY_ID"),
                secret: Secret::new(variable("AWS_SECRET_ACCESS_KEY")),
                session_token: None,
            },
        }
    }

    /// The variables by which an agent finds the server.
    pub(crate) fn variables(&self) -> [(&'static str, String); 4] {
        [
            ("ECS_BACKEND_HOST", format!("http://{}", self.authority)),
            ("AWS_DEFAULT_REGION", self.region.clone()),
            ("AWS_ACCESS_KEY_ID", self.credentials.access_key_id.clone()),
            ("AWS_SECRET_ACCESS_KEY", self.credentials.secret.reveal().to_owned()),
        ]
    }

    /// The headers that sign a request, which has these headers already.
    pub(crate) fn sign(
        &self,
        method: &Method,
        target: &str,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Vec<(HeaderName, HeaderValue)> {
        sign(&self.credentials, &self.region, "ecs", now(), method.as_str(), target, headers, body)
            .expect("what we sign can be signed")
    }

    /// All headers of a call of an operation, signed.
    pub(crate) fn headers(&self, operation: &str, body: &[u8]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let value = |text: &str| HeaderValue::try_from(text).expect("plain text");
        headers.insert(HOST, value(&self.authority));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-amz-json-1.1"));
        headers.insert(TARGET, value(&format!("{ECS_TARGET_PREFIX}.{operation}")));
        headers.extend(self.sign(&Method::POST, "/", &headers, body));
        headers
    }

    /// Opens a connection.
    pub(crate) async fn connect(&self) -> EcsClient {
        let stream = TcpStream::connect(&self.authority).await.expect("the server accepts connections");
        stream.set_nodelay(true).expect("a TCP socket");
        let (sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.expect("HTTP/1.1 needs no handshake");
        tokio::spawn(connection);
        EcsClient { access: self.clone(), sender }
    }
}

/// One connection to the API.
pub(crate) struct EcsClient {
    access: Access,
    sender: SendRequest<Full<Bytes>>,
}

impl EcsClient {
    /// Calls an operation, which must succeed.
    pub(crate) async fn call(&mut self, operation: &str, request: &Value) -> Value {
        let answer = self.exchange(operation, request.to_string().into_bytes()).await;
        serde_json::from_slice(&answer).expect("the answer is JSON")
    }

    /// All container instances of the cluster `default`, described.
    pub(crate) async fn instances(&mut self) -> Vec<Value> {
        let (mut instances, mut request) = (Vec::new(), json!({}));
        loop {
            let page = self.call("ListContainerInstances", &request).await;
            let arns = &page["containerInstanceArns"];
            if arns.as_array().is_some_and(|arns| !arns.is_empty()) {
                let describe = json!({ "containerInstances": arns });
                let mut described = self.call("DescribeContainerInstances", &describe).await;
                if let Value::Array(more) = described["containerInstances"].take() {
                    instances.extend(more);
                }
            }
            match page.get("nextToken") {
                Some(token) => request = json!({ "nextToken": token }),
                None => return instances,
            }
        }
    }

    /// The same with the bodies as they travel.
    pub(crate) async fn exchange(&mut self, operation: &str, body: Vec<u8>) -> Bytes {
        let headers = self.access.headers(operation, &body);
        let mut request = Request::post("/").body(Full::new(Bytes::from(body))).expect("a request");
        *request.headers_mut() = headers;
        // On another thread the connection may still be putting the answer before this away.
        self.sender.ready().await.expect("a connection that lives");
        let (head, body) = self.sender.send_request(request).await.expect("the server answers").into_parts();
        let body = body.collect().await.expect("the whole answer").to_bytes();
        assert_eq!(head.status, StatusCode::OK, "{operation}: {}", String::from_utf8_lossy(&body));
        body
    }
}

/// The wall clock.
pub(crate) fn now() -> Timestamp {
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX))
}
