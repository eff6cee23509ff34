//! A whole server: real store, real core, from an empty data directory over a restart.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use longshore_server::{RunningServer, Server, ServerConfig, ServerError};
use serde_json::{Value, json};
use support::{Answer, call, send};
use tokio::time::timeout;

const SOON: Duration = Duration::from_secs(20);

fn config(dir: &Path) -> ServerConfig {
    let mut config = ServerConfig::new(dir);
    config.listen = SocketAddr::from(([127, 0, 0, 1], 0));
    config.account_id = "123456789012".to_owned();
    config
}

async fn start(dir: &Path) -> RunningServer {
    timeout(SOON, Server::start(config(dir))).await.unwrap().unwrap()
}

fn json_file(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// Calls as the holder of the root access key.
async fn root(server: &RunningServer, dir: &Path, operation: &str, body: Value) -> Answer {
    let key = json_file(&dir.join("root-access-key"));
    let mut call = call(operation, body.to_string());
    call.key_id = key["accessKeyId"].as_str().unwrap().to_owned();
    call.secret = key["secretAccessKey"].as_str().unwrap().to_owned();
    send(server.local_addr(), call.request(server.local_addr())).await
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    // Made by the server, closed to others.
    let dir = dir.path().join("data");
    let server = start(&dir).await;
    let created = root(&server, &dir, "CreateCluster", json!({ "clusterName": "kept" })).await;
    assert_eq!(created.status, 200, "{}", created.body);
    let arn = "arn:aws:ecs:us-east-1:123456789012:cluster/kept";
    assert_eq!(created.body["cluster"]["clusterArn"], arn);
    timeout(SOON, server.shutdown()).await.unwrap();

    let server = start(&dir).await;
    let listed = root(&server, &dir, "ListClusters", json!({})).await;
    assert_eq!(listed.body["clusterArns"], json!([arn]));
    timeout(SOON, server.shutdown()).await.unwrap();
}

#[tokio::test]
async fn the_data_directory_says_where_the_server_is_while_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("data");
    let server = start(&dir).await;
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&dir), 0o700);
    assert_eq!(mode(&dir.join("root-access-key")), 0o600);
    assert_eq!(mode(&dir.join("server-key")), 0o600);
    assert_eq!(
        json_file(&dir.join("server.json")),
        json!({
            "endpoint": format!("http://{}", server.local_addr()),
            "listen": server.local_addr().to_string(),
            "pid": std::process::id(),
            "region": "us-east-1",
            "accountId": "123456789012",
        })
    );
    let key = fs::read(dir.join("root-access-key")).unwrap();
    timeout(SOON, server.shutdown()).await.unwrap();
    assert!(!dir.join("server.json").exists());
    let server = start(&dir).await;
    assert_eq!(fs::read(dir.join("root-access-key")).unwrap(), key);
    timeout(SOON, server.shutdown()).await.unwrap();
}

#[tokio::test]
async fn page_tokens_of_before_a_restart_are_still_good() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(dir.path()).await;
    for name in ["one", "two", "three"] {
        root(&server, dir.path(), "CreateCluster", json!({ "clusterName": name })).await;
    }
    let first = root(&server, dir.path(), "ListClusters", json!({ "maxResults": 2 })).await;
    let mut arns = first.body["clusterArns"].as_array().unwrap().clone();
    assert_eq!(arns.len(), 2);
    timeout(SOON, server.shutdown()).await.unwrap();
    let server = start(dir.path()).await;
    let next = json!({ "maxResults": 2, "nextToken": first.body["nextToken"] });
    let second = root(&server, dir.path(), "ListClusters", next).await;
    arns.extend(second.body["clusterArns"].as_array().unwrap().clone());
    arns.sort_by_key(|arn| arn.as_str().unwrap().to_owned());
    arns.dedup();
    assert_eq!(arns.len(), 3, "{}", second.body);
    assert_eq!(second.body["nextToken"], Value::Null);
    timeout(SOON, server.shutdown()).await.unwrap();
}

#[tokio::test]
async fn a_server_that_cannot_start_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(dir.path()).await;

    let mut taken = config(tempfile::tempdir().unwrap().path());
    taken.listen = server.local_addr();
    assert!(matches!(Server::start(taken).await, Err(ServerError::Listen { .. })));

    let second = Server::start(config(dir.path())).await;
    assert!(matches!(second, Err(ServerError::Load(_))), "two servers wrote one store");
    assert!(dir.path().join("server.json").exists());

    let mut open = config(dir.path());
    open.listen = SocketAddr::from(([0, 0, 0, 0], 0));
    assert!(matches!(Server::start(open).await, Err(ServerError::PlainHttpBeyondLoopback { .. })));
    timeout(SOON, server.shutdown()).await.unwrap();

    fs::set_permissions(dir.path().join("root-access-key"), fs::Permissions::from_mode(0o644)).unwrap();
    assert!(matches!(Server::start(config(dir.path())).await, Err(ServerError::SecretPermissions { .. })));
}

#[tokio::test]
async fn an_operation_that_does_not_work_yet_names_itself() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(dir.path()).await;
    let body = json!({ "serviceName": "web", "taskDefinition": "t", "cluster": "default", "desiredCount": 1 });
    let answer = root(&server, dir.path(), "CreateService", body).await;
    assert_eq!(answer.error(), (400, "UnsupportedFeatureException"));
    assert!(answer.message().contains("CreateService"));
    timeout(SOON, server.shutdown()).await.unwrap();
}
