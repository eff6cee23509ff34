//! The Docker Engine called directly: the peer of every start, and the witness of ours. Like the agent, one connection
//! per call.

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};
use tokio::net::UnixStream;

const SOCKET: &str = "/var/run/docker.sock";

/// Calls the Engine; an error answer ends the benchmark with the Engine's words.
async fn call(method: Method, path: &str, body: Option<&Value>) -> Value {
    let stream = UnixStream::connect(SOCKET).await.expect("the Docker Engine runs");
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.expect("HTTP/1.1 needs no handshake");
    tokio::spawn(connection);
    let request = Request::builder().method(&method).uri(path).header("host", "docker");
    let request = request.header("content-type", "application/json");
    let body = body.map(Value::to_string).unwrap_or_default();
    let request = request.body(Full::new(Bytes::from(body))).expect("a request");
    let (head, body) = sender.send_request(request).await.expect("the Engine answers").into_parts();
    let body = body.collect().await.expect("the whole answer").to_bytes();
    let ok = head.status.is_success() || head.status == http::StatusCode::NOT_MODIFIED;
    assert!(ok, "{method} {path}: {}", String::from_utf8_lossy(&body));
    serde_json::from_slice(&body).unwrap_or_default()
}

/// The Engine's version.
pub(crate) async fn version() -> Value {
    call(Method::GET, "/version", None).await
}

/// Whether there is such an image.
pub(crate) async fn has_image(name: &str) -> bool {
    let images = call(Method::GET, "/images/json", None).await;
    let mut images = images.as_array().into_iter().flatten();
    images.any(|image| image["RepoTags"].as_array().is_some_and(|tags| tags.contains(&json!(name))))
}

/// Creates a container; its id.
pub(crate) async fn create(name: &str, body: &Value) -> String {
    let created = call(Method::POST, &format!("/containers/create?name={name}"), Some(body)).await;
    created["Id"].as_str().expect("the id of the container").to_owned()
}

pub(crate) async fn start(id: &str) {
    call(Method::POST, &format!("/containers/{id}/start"), None).await;
}

pub(crate) async fn inspect(id: &str) -> Value {
    call(Method::GET, &format!("/containers/{id}/json"), None).await
}

/// Kills and removes a container.
pub(crate) async fn remove(id: &str) {
    call(Method::DELETE, &format!("/containers/{id}?force=true&v=true"), None).await;
}

/// Ids of all containers with a label of this value, running or not.
pub(crate) async fn labelled(label: &str, value: &str) -> Vec<String> {
    let filters = json!({ "label": [format!("{label}={value}")] }).to_string();
    let filters = utf8_percent_encode(&filters, NON_ALPHANUMERIC);
    let listed = call(Method::GET, &format!("/containers/json?all=true&filters={filters}"), None).await;
    let ids = listed.as_array().into_iter().flatten().filter_map(|one| one["Id"].as_str());
    ids.map(str::to_owned).collect()
}
