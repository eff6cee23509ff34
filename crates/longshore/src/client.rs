//! The binary's own client of the ECS API, for the commands that look at a running server: typed calls, signed with
//! the data directory's root access key.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST, HeaderMap, HeaderValue};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use longshore_api::Timestamp;
use longshore_api::ecs::types::{
    ContainerInstance, CreateClusterRequest, CreateClusterResponse, DescribeContainerInstancesRequest,
    DescribeContainerInstancesResponse, DescribeTasksRequest, DescribeTasksResponse, ListContainerInstancesRequest,
    ListContainerInstancesResponse, ListTasksRequest, ListTasksResponse, RegisterTaskDefinitionResponse,
    RunTaskRequest, RunTaskResponse, StopTaskRequest, StopTaskResponse, Task,
};
use longshore_wire::aws_json::{ECS_TARGET_PREFIX, TARGET};
use longshore_wire::sigv4::{Credentials, Secret, sign};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use crate::data_dir::{DataDir, ServerFacts};
use crate::error::{CliError, with_causes};

/// A local server answers in milliseconds; one that takes so long is stuck, and saying so is better than waiting on.
const CALL_TAKES_AT_MOST: Duration = Duration::from_secs(15);
/// The most ARNs that the Describe operations take at once.
const DESCRIBE_AT_ONCE: usize = 100;

/// The API of the server that a data directory names.
#[derive(Clone)]
pub(crate) struct EcsClient {
    http: Client<HttpConnector, Full<Bytes>>,
    endpoint: String,
    region: String,
    credentials: Credentials,
}

impl EcsClient {
    /// For the server that runs in `data_dir`; `None` if none says that it does.
    pub(crate) fn for_data_dir(data_dir: &DataDir) -> Result<Option<Self>, CliError> {
        let (Some(server), Some(key)) = (data_dir.server()?, data_dir.root_access_key()?) else {
            return Ok(None);
        };
        let ServerFacts { endpoint, region, .. } = server;
        Ok(Some(Self {
            http: Client::builder(TokioExecutor::new()).build_http(),
            endpoint,
            region,
            credentials: Credentials {
                access_key_id: key.access_key_id,
                secret: Secret::new(key.secret_access_key),
                session_token: None,
            },
        }))
    }

    pub(crate) async fn create_cluster(&self, name: &str) -> Result<(), CliError> {
        let request = CreateClusterRequest { cluster_name: Some(name.to_owned()), ..CreateClusterRequest::default() };
        let _: CreateClusterResponse = self.call("CreateCluster", &request).await?;
        Ok(())
    }

    /// Registers a definition exactly as it stands in its file, and returns its ARN.
    pub(crate) async fn register_task_definition(&self, definition: Vec<u8>) -> Result<String, CliError> {
        const OPERATION: &str = "RegisterTaskDefinition";
        let answer: RegisterTaskDefinitionResponse = self.send(OPERATION, definition).await?;
        answer
            .task_definition
            .and_then(|definition| definition.task_definition_arn)
            .ok_or_else(|| self.failed(OPERATION, "the answer names no task definition"))
    }

    pub(crate) async fn run_task(&self, cluster: &str, definition: &str) -> Result<RunTaskResponse, CliError> {
        let request = RunTaskRequest {
            cluster: Some(cluster.to_owned()),
            task_definition: definition.to_owned(),
            ..RunTaskRequest::default()
        };
        self.call("RunTask", &request).await
    }

    pub(crate) async fn stop_task(&self, cluster: &str, task: &str, reason: &str) -> Result<(), CliError> {
        let request = StopTaskRequest {
            cluster: Some(cluster.to_owned()),
            task: task.to_owned(),
            reason: Some(reason.to_owned()),
        };
        let _: StopTaskResponse = self.call("StopTask", &request).await?;
        Ok(())
    }

    /// ARNs of all tasks that are to run and match `filter`, through all pages.
    pub(crate) async fn list_tasks(&self, mut filter: ListTasksRequest) -> Result<Vec<String>, CliError> {
        let mut arns = Vec::new();
        loop {
            let page: ListTasksResponse = self.call("ListTasks", &filter).await?;
            arns.extend(page.task_arns.unwrap_or_default());
            filter.next_token = page.next_token;
            if filter.next_token.is_none() {
                return Ok(arns);
            }
        }
    }

    pub(crate) async fn describe_tasks(&self, cluster: &str, arns: &[String]) -> Result<Vec<Task>, CliError> {
        let mut tasks = Vec::new();
        for some in arns.chunks(DESCRIBE_AT_ONCE) {
            let request = DescribeTasksRequest {
                cluster: Some(cluster.to_owned()),
                tasks: some.to_vec(),
                ..DescribeTasksRequest::default()
            };
            let answer: DescribeTasksResponse = self.call("DescribeTasks", &request).await?;
            tasks.extend(answer.tasks.unwrap_or_default());
        }
        Ok(tasks)
    }

    /// All container instances of a cluster.
    pub(crate) async fn container_instances(&self, cluster: &str) -> Result<Vec<ContainerInstance>, CliError> {
        let mut request = ListContainerInstancesRequest {
            cluster: Some(cluster.to_owned()),
            ..ListContainerInstancesRequest::default()
        };
        let mut instances = Vec::new();
        loop {
            let page: ListContainerInstancesResponse = self.call("ListContainerInstances", &request).await?;
            let arns = page.container_instance_arns.unwrap_or_default();
            if !arns.is_empty() {
                let describe = DescribeContainerInstancesRequest {
                    cluster: Some(cluster.to_owned()),
                    container_instances: arns,
                    ..DescribeContainerInstancesRequest::default()
                };
                let answer: DescribeContainerInstancesResponse =
                    self.call("DescribeContainerInstances", &describe).await?;
                instances.extend(answer.container_instances.unwrap_or_default());
            }
            request.next_token = page.next_token;
            if request.next_token.is_none() {
                return Ok(instances);
            }
        }
    }

    async fn call<Q: Serialize, A: DeserializeOwned>(&self, operation: &str, request: &Q) -> Result<A, CliError> {
        let body = serde_json::to_vec(request).map_err(|error| self.failed(operation, &error.to_string()))?;
        self.send(operation, body).await
    }

    async fn send<A: DeserializeOwned>(&self, operation: &str, body: Vec<u8>) -> Result<A, CliError> {
        let answer = timeout(CALL_TAKES_AT_MOST, self.exchange(operation, body))
            .await
            .unwrap_or_else(|_| Err(format!("no answer within {} s", CALL_TAKES_AT_MOST.as_secs())))
            .map_err(|reason| self.failed(operation, &reason))?;
        serde_json::from_slice(&answer).map_err(|error| self.failed(operation, &error.to_string()))
    }

    async fn exchange(&self, operation: &str, body: Vec<u8>) -> Result<Bytes, String> {
        let request = self.signed(operation, body)?;
        // HTTP errors hide the one useful word, "connection refused" for instance, in their causes.
        let answer = self.http.request(request).await.map_err(|error| with_causes(&error))?;
        let status = answer.status();
        let body = answer.into_body().collect().await.map_err(|error| with_causes(&error))?;
        let body = body.to_bytes();
        if status == StatusCode::OK { Ok(body) } else { Err(refusal(status, &body)) }
    }

    fn signed(&self, operation: &str, body: Vec<u8>) -> Result<Request<Full<Bytes>>, String> {
        let authority = self.endpoint.strip_prefix("http://").unwrap_or(&self.endpoint);
        let value = |text: &str| HeaderValue::try_from(text).map_err(|error| error.to_string());
        let mut headers = HeaderMap::new();
        headers.insert(HOST, value(authority)?);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-amz-json-1.1"));
        headers.insert(TARGET, value(&format!("{ECS_TARGET_PREFIX}.{operation}"))?);
        let signature =
            sign(&self.credentials, &self.region, "ecs", now(), Method::POST.as_str(), "/", &headers, &body)
                .map_err(|error| error.to_string())?;
        headers.extend(signature);
        let mut request = Request::post(format!("{}/", self.endpoint))
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| error.to_string())?;
        *request.headers_mut() = headers;
        Ok(request)
    }

    fn failed(&self, operation: &str, reason: &str) -> CliError {
        CliError::Call { operation: operation.to_owned(), endpoint: self.endpoint.clone(), reason: reason.to_owned() }
    }
}

/// The wall clock, as the API's own type.
fn now() -> Timestamp {
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX))
}

/// An ECS error as its type and message; anything else as the status it came with.
fn refusal(status: StatusCode, body: &[u8]) -> String {
    #[derive(serde::Deserialize)]
    struct Refusal {
        #[serde(rename = "__type")]
        kind: String,
        #[serde(alias = "Message")]
        message: Option<String>,
    }
    match serde_json::from_slice::<Refusal>(body) {
        Ok(Refusal { kind, message }) => format!("{kind}: {}", message.unwrap_or_default()),
        Err(_) => format!("answered {status}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_shows_type_and_message_or_at_least_the_status() {
        let body = br#"{"__type":"ClusterNotFoundException","message":"Cluster not found."}"#;
        assert_eq!(refusal(StatusCode::BAD_REQUEST, body), "ClusterNotFoundException: Cluster not found.");
        assert_eq!(refusal(StatusCode::BAD_GATEWAY, b"<html>"), "answered 502 Bad Gateway");
    }
}
