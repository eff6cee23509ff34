//! The two websockets to the control plane, and what both need: where to dial, how to sign, when to hang up.
//!
//! A session moves messages and keeps itself alive. What a message means is the engine's business. Begin with
//! [`acs`]; [`tcs`] is the same with telemetry in it.

pub(crate) mod acs;
mod dial;
pub(crate) mod tcs;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use longshore_api::ecs::Operation;
use longshore_api::ecs::types::{DiscoverPollEndpointRequest, DiscoverPollEndpointResponse};
use longshore_client::{CallError, Client};
use tokio::time::Instant;
use tracing::warn;

/// How long an answer of DiscoverPollEndpoint is good for.
const ENDPOINTS_KEPT: Duration = Duration::from_secs(12 * 3600);

/// Whom the sessions of a container instance speak for.
#[derive(Debug)]
pub(crate) struct Identity {
    /// Cluster as configured.
    pub(crate) cluster: String,
    pub(crate) instance_arn: String,
    /// `20.10.24`
    pub(crate) docker_version: String,
}

/// The agent's version as the control plane sees it.
pub(crate) const AGENT_VERSION: &str = env!("CARGO_PKG_VERSION");
/// Eight hex digits; the official agent puts its commit here. A build without one says zeros.
pub(crate) const AGENT_HASH: &str = "00000000";

/// Where to dial, remembered between dials of both sessions of an instance.
pub(crate) struct Endpoints {
    api: Client,
    identity: Arc<Identity>,
    known: Mutex<Option<Known>>,
}

#[derive(Clone)]
struct Known {
    answer: Arc<DiscoverPollEndpointResponse>,
    fresh_until: Instant,
}

impl Endpoints {
    pub(crate) fn new(api: Client, identity: Arc<Identity>) -> Self {
        Self { api, identity, known: Mutex::new(None) }
    }

    /// The endpoints: remembered, asked for when too old, and the old ones again when asking fails.
    async fn discover(&self) -> Result<Arc<DiscoverPollEndpointResponse>, CallError> {
        let known = self.lock().clone();
        if let Some(known) = &known
            && known.fresh_until > Instant::now()
        {
            return Ok(known.answer.clone());
        }
        match (self.ask().await, known) {
            (Ok(answer), _) => {
                let answer = Arc::new(answer);
                *self.lock() = Some(Known { answer: answer.clone(), fresh_until: Instant::now() + ENDPOINTS_KEPT });
                Ok(answer)
            }
            (Err(error), Some(known)) => {
                warn!(%error, "using the endpoints of last time");
                Ok(known.answer)
            }
            (Err(error), None) => Err(error),
        }
    }

    /// Nobody answers there: ask again before the next dial, in case the control plane moved.
    fn doubt(&self) {
        if let Some(known) = self.lock().as_mut() {
            known.fresh_until = Instant::now();
        }
    }

    async fn ask(&self) -> Result<DiscoverPollEndpointResponse, CallError> {
        const OPERATION: Operation = Operation::DiscoverPollEndpoint;
        let request = DiscoverPollEndpointRequest {
            cluster: Some(self.identity.cluster.clone()),
            container_instance: Some(self.identity.instance_arn.clone()),
            zone_id: Some(String::new()),
        };
        let body = self.api.call(OPERATION, request.to_json()).await?;
        DiscoverPollEndpointResponse::from_json(&body)
            .map_err(|error| CallError::Answer { operation: OPERATION.name(), cause: error.to_string() })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Path and query of `endpoint` with `ws` appended and the parameters sorted by name, `+` for a space.
fn session_target(base_path: &str, parameters: &BTreeMap<&str, &str>) -> String {
    let slash = if base_path.ends_with('/') { "" } else { "/" };
    let query: Vec<String> = parameters.iter().map(|(name, value)| format!("{name}={}", query_encode(value))).collect();
    format!("{base_path}{slash}ws?{}", query.join("&"))
}

fn query_encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                encoded.push(char::from(byte));
            }
            b' ' => encoded.push('+'),
            other => {
                encoded.push('%');
                encoded.push_str(&hex::encode_upper([other]));
            }
        }
    }
    encoded
}

#[cfg(test)]
pub(crate) mod fake_server;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_target_is_spelt_as_the_official_agent_spells_it() {
        let parameters = BTreeMap::from([
            ("seqNum", "1"),
            ("dockerVersion", "DockerVersion: 20.10.24"),
            ("clusterArn", "arn:aws:ecs:r:1:cluster/c"),
        ]);
        let expected =
            "/acs/ws?clusterArn=arn%3Aaws%3Aecs%3Ar%3A1%3Acluster%2Fc&dockerVersion=DockerVersion%3A+20.10.24&seqNum=1";
        assert_eq!(session_target("/acs/", &parameters), expected);
        assert_eq!(session_target("/acs", &parameters), expected);
    }
}
