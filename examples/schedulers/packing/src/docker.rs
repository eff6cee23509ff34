//! What containers use, as their Docker Engine measures it. Longshore's agents label each container with its task and instance.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::{Request, header};
use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;

use crate::cluster::Failure;

const TASK: &str = "com.amazonaws.ecs.task-arn";
const INSTANCE: &str = "longshore.container-instance-arn";

/// What a container uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Measured {
    /// The ARN of its task.
    pub task: String,
    /// The ARN of its container instance.
    pub instance: String,
    /// Seconds since it was made.
    pub age: u64,
    /// Memory without caches that the kernel can take back.
    pub bytes: u64,
}

/// A Docker Engine.
pub struct Engine {
    socket: PathBuf,
}

impl Engine {
    /// The one that listens there.
    pub fn at(socket: &Path) -> Self {
        Self { socket: socket.to_owned() }
    }

    /// Every container of a task that runs.
    pub async fn containers(&self) -> Result<Vec<Measured>, Failure> {
        // {"label":["longshore.container-instance-arn"]}
        let filters = "%7B%22label%22%3A%5B%22longshore.container-instance-arn%22%5D%7D";
        let listed = self.get(&format!("/containers/json?filters={filters}")).await?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        let mut measured = Vec::new();
        for container in listed.as_array().into_iter().flatten() {
            let label = |name: &str| container["Labels"][name].as_str().unwrap_or_default().to_owned();
            let id = container["Id"].as_str().unwrap_or_default();
            // One that ended meanwhile uses nothing.
            let Ok(stats) = self.get(&format!("/containers/{id}/stats?stream=false&one-shot=true")).await else {
                continue;
            };
            let age = now.saturating_sub(container["Created"].as_u64().unwrap_or(now));
            measured.push(Measured { task: label(TASK), instance: label(INSTANCE), age, bytes: in_use(&stats) });
        }
        Ok(measured)
    }

    async fn get(&self, path: &str) -> Result<Value, Failure> {
        let stream = TokioIo::new(UnixStream::connect(&self.socket).await?);
        let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await?;
        tokio::spawn(connection);
        let request = Request::get(path).header(header::HOST, "docker").body(Empty::<Bytes>::new())?;
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        match status.is_success() {
            true => Ok(serde_json::from_slice(&body)?),
            false => Err(format!("the Docker Engine answers {path} with {status}").into()),
        }
    }
}

/// As `docker stats` counts: cgroup v1 and v2 call the cache by different names.
fn in_use(stats: &Value) -> u64 {
    let memory = &stats["memory_stats"];
    let cache = ["total_inactive_file", "inactive_file"].iter().find_map(|name| memory["stats"][name].as_u64());
    memory["usage"].as_u64().unwrap_or_default().saturating_sub(cache.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn caches_are_not_counted() {
        let v1 = serde_json::json!({"memory_stats": {"usage": 100, "stats": {"total_inactive_file": 30}}});
        let v2 = serde_json::json!({"memory_stats": {"usage": 100, "stats": {"inactive_file": 20}}});
        assert_eq!((in_use(&v1), in_use(&v2), in_use(&Value::Null)), (70, 80, 0));
    }
}
