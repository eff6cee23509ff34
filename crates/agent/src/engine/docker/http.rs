//! [`Docker`] over the Engine's HTTP API.
//!
//! A client of our own, for a dozen calls: the bodies of `create` come ready-made in the Engine's vocabulary and must reach it
//! untouched, each call needs its own time limit, and the errors must carry the Engine's words. Every call opens its own
//! connection (a unix socket costs some tens of microseconds), so an Engine that was restarted is never met with a stale
//! one.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tracing::{debug, warn};

use super::wire;
use super::{
    ApiVersion, CgroupSetup, Container, ContainerEvent, Docker, DockerError, EngineVersion, Image, LABEL_INSTANCE,
    Listed, ListedImage, LogChunks, LogQuery, PULL, PULL_PROGRESS, PullLimits, Volume, VolumeRequest,
};
use crate::config::{RegistryAuth, RegistryLogin};

/// The newest API this client was written against; an Engine that has it gets it, so that its answers mean what we know.
const NEWEST_API: ApiVersion = ApiVersion::new(1, 44);
/// Health checks in `create` need it, and no supported Engine is older.
const OLDEST_API: ApiVersion = ApiVersion::new(1, 24);
/// For calls that only look.
const QUICK: Duration = Duration::from_secs(30);
/// What we import is small.
const IMPORT: Duration = Duration::from_secs(60);
/// A volume driver may have to talk to its storage; the official agent's limit.
const VOLUME: Duration = Duration::from_secs(300);
/// Removing may have to delete much.
const REMOVE: Duration = Duration::from_secs(120);
/// How much longer than its grace a `stop` may take.
const STOP_MARGIN: Duration = Duration::from_secs(120);
/// An inspect is some kilobytes, a list of thousands of containers some megabytes.
const MAX_BODY_BYTES: usize = 64 << 20;
/// One line of a stream.
const MAX_LINE_BYTES: usize = 1 << 20;
/// Events that may wait for the listener; more, and the Engine waits (it drops a listener that never reads).
const EVENT_QUEUE: usize = 1024;
/// Pieces of a container's output that may wait for their reader, some kilobytes each; then the Engine waits.
const LOG_QUEUE: usize = 4;
/// The events that tell something; everything else the agent knows from its own calls. Exec noise stays with the Engine.
const EVENT_ACTIONS: [&str; 2] = ["die", "health_status"];

/// The Engine behind a unix socket or a TCP port.
pub(crate) struct HttpDocker {
    endpoint: Endpoint,
    logins: RegistryAuth,
    /// `/v1.41`, once negotiated; forgotten when the Engine goes away, as it may come back as another version.
    prefix: RwLock<Option<Arc<str>>>,
}

enum Endpoint {
    Unix(PathBuf),
    Tcp(String),
}

/// What a request carries beside its path.
enum Payload {
    Nothing,
    Json(Vec<u8>),
    Archive(Vec<u8>),
    /// Value of `X-Registry-Auth`; marked so that no log ever shows it.
    Login(HeaderValue),
}

impl HttpDocker {
    /// `docker_host` as `DOCKER_HOST` has it: `unix:///path` or `tcp://host:port`.
    pub(crate) fn new(docker_host: &str) -> Self {
        let endpoint = match docker_host.strip_prefix("tcp://") {
            Some(address) => Endpoint::Tcp(address.trim_end_matches('/').to_owned()),
            None => Endpoint::Unix(docker_host.strip_prefix("unix://").unwrap_or(docker_host).into()),
        };
        Self { endpoint, logins: RegistryAuth::default(), prefix: RwLock::new(None) }
    }

    /// The folder with all that the Engine keeps, as it names it; none if it is, or may be, on another machine.
    pub(crate) async fn data_root(&self) -> Result<Option<PathBuf>, DockerError> {
        if let Endpoint::Tcp(_) = self.endpoint {
            return Ok(None);
        }
        let info: wire::Info = self.fetch("info", Method::GET, "/info", Payload::Nothing, QUICK).await?;
        Ok(Some(info.docker_root_dir))
    }

    /// Logs in at these registries when it pulls from them.
    pub(crate) fn with_logins(self, logins: RegistryAuth) -> Self {
        Self { logins, ..self }
    }

    /// The drivers of volumes, with the plugins that run.
    pub(crate) async fn volume_drivers(&self) -> Result<Vec<String>, DockerError> {
        let info: wire::PluginInfo = self.fetch("info", Method::GET, "/info", Payload::Nothing, QUICK).await?;
        Ok(info.plugins.volume.unwrap_or_default())
    }

    /// The Engine was not reached, so that it was asked for nothing.
    fn unreached(&self, cause: impl std::fmt::Display) -> DockerError {
        self.unavailable(false, cause)
    }

    /// The Engine was asked, and went away before it answered.
    fn hung_up(&self, cause: impl std::fmt::Display) -> DockerError {
        self.unavailable(true, cause)
    }

    fn unavailable(&self, asked: bool, cause: impl std::fmt::Display) -> DockerError {
        *self.prefix.write().unwrap_or_else(PoisonError::into_inner) = None;
        let endpoint = match &self.endpoint {
            Endpoint::Unix(path) => path.display().to_string(),
            Endpoint::Tcp(address) => address.clone(),
        };
        DockerError::Unavailable { asked, endpoint, cause: cause.to_string() }
    }

    /// Sends one request on a connection of its own and waits for the head of the answer.
    async fn send(&self, method: Method, path: &str, payload: Payload) -> Result<Response<Incoming>, DockerError> {
        let mut request = Request::builder().method(method).uri(path).header("host", "docker");
        let body = match payload {
            Payload::Nothing => Vec::new(),
            Payload::Json(body) => {
                request = request.header("content-type", "application/json");
                body
            }
            Payload::Archive(body) => {
                request = request.header("content-type", "application/x-tar");
                body
            }
            Payload::Login(login) => {
                request = request.header("x-registry-auth", login);
                Vec::new()
            }
        };
        let request = request
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| DockerError::Protocol { call: "a request", detail: error.to_string() })?;
        match &self.endpoint {
            Endpoint::Unix(socket) => {
                let stream = UnixStream::connect(socket).await.map_err(|error| self.unreached(error))?;
                self.exchange(stream, request).await
            }
            Endpoint::Tcp(address) => {
                let stream = TcpStream::connect(address).await.map_err(|error| self.unreached(error))?;
                self.exchange(stream, request).await
            }
        }
    }

    async fn exchange<S>(&self, stream: S, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, DockerError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| self.unreached(error))?;
        // Ends by itself: with the answer's body, or when the caller gives up and drops it.
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                debug!(%error, "connection to the Engine ended");
            }
        });
        sender.send_request(request).await.map_err(|error| self.hung_up(error))
    }

    /// The version prefix for paths, negotiated at need.
    async fn prefix(&self) -> Result<Arc<str>, DockerError> {
        let known = self.prefix.read().unwrap_or_else(PoisonError::into_inner).clone();
        match known {
            Some(prefix) => Ok(prefix),
            None => {
                let version = self.version().await?;
                Ok(format!("/v{}", version.api).into())
            }
        }
    }

    /// One call: the answer's head within `limit`, its error as [`DockerError`].
    async fn open(
        &self,
        call: &'static str,
        method: Method,
        path: &str,
        payload: Payload,
        limit: Duration,
    ) -> Result<Response<Incoming>, DockerError> {
        let work = async {
            let path = format!("{}{path}", self.prefix().await.map_err(DockerError::before_asking)?);
            let response = self.send(method, &path, payload).await?;
            let status = response.status();
            if status.is_success() || status == StatusCode::NOT_MODIFIED {
                return Ok(response);
            }
            Err(refusal(status, self.collect(response).await?))
        };
        timeout(limit, work).await.unwrap_or(Err(DockerError::Timeout { call, limit }))
    }

    async fn collect(&self, response: Response<Incoming>) -> Result<Bytes, DockerError> {
        match Limited::new(response.into_body(), MAX_BODY_BYTES).collect().await {
            Ok(collected) => Ok(collected.to_bytes()),
            Err(error) => Err(self.hung_up(error)),
        }
    }

    /// One call whose answer is a JSON document.
    async fn fetch<T: DeserializeOwned>(
        &self,
        call: &'static str,
        method: Method,
        path: &str,
        payload: Payload,
        limit: Duration,
    ) -> Result<T, DockerError> {
        let work = async {
            let response = self.open(call, method, path, payload, limit).await?;
            parse(call, &self.collect(response).await?)
        };
        timeout(limit, work).await.unwrap_or(Err(DockerError::Timeout { call, limit }))
    }

    /// One call whose answer says nothing beyond its status.
    async fn order(&self, call: &'static str, method: Method, path: &str, limit: Duration) -> Result<(), DockerError> {
        let response = self.open(call, method, path, Payload::Nothing, limit).await?;
        timeout(limit, self.collect(response)).await.unwrap_or(Err(DockerError::Timeout { call, limit })).map(drop)
    }
}

impl Docker for HttpDocker {
    async fn version(&self) -> Result<EngineVersion, DockerError> {
        const CALL: &str = "version";
        let work = async {
            // The one path that every Engine has without a version in it.
            let response = self.send(Method::GET, "/version", Payload::Nothing).await?;
            let status = response.status();
            let body = self.collect(response).await?;
            if !status.is_success() {
                return Err(refusal(status, body));
            }
            parse::<wire::Version>(CALL, &body)
        };
        let version = timeout(QUICK, work).await.unwrap_or(Err(DockerError::Timeout { call: CALL, limit: QUICK }))?;
        let number = |text: &str| {
            ApiVersion::parse(text)
                .ok_or_else(|| DockerError::Protocol { call: CALL, detail: format!("API version {text:?}") })
        };
        let (min, max) = (number(&version.min_api_version)?, number(&version.api_version)?);
        if min > NEWEST_API || max < OLDEST_API {
            return Err(DockerError::Refused {
                status: 400,
                message: format!(
                    "Docker Engine {} speaks API {min} to {max}, this agent {OLDEST_API} to {NEWEST_API}: \
                     install an Engine, or an agent, that meets the other",
                    version.version
                ),
            });
        }
        let api = max.min(NEWEST_API);
        *self.prefix.write().unwrap_or_else(PoisonError::into_inner) = Some(format!("/v{api}").into());
        Ok(EngineVersion { version: version.version, api, max_api: max })
    }

    /// The default bridge is made anew at every start, unless the daemon found containers running that it leaves alone
    /// (`live-restore`); `--bridge=none` has none.
    async fn life(&self) -> Result<Option<String>, DockerError> {
        let made =
            self.fetch::<wire::Network>("inspect network", Method::GET, "/networks/bridge", Payload::Nothing, QUICK);
        match made.await {
            Ok(network) => Ok(Some(network.created)),
            Err(DockerError::NotFound(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn inspect_image(&self, name: &str) -> Result<Image, DockerError> {
        let path = format!("/images/{}/json", encode(name));
        let call = "inspect image";
        self.fetch::<wire::ImageInspect>(call, Method::GET, &path, Payload::Nothing, QUICK).await.map(Image::from)
    }

    async fn images(&self) -> Result<Vec<ListedImage>, DockerError> {
        let path = "/images/json";
        let listed: Vec<wire::ListedImage> =
            self.fetch("list images", Method::GET, path, Payload::Nothing, QUICK).await?;
        Ok(listed.into_iter().map(ListedImage::from).collect())
    }

    async fn remove_image(&self, reference: &str) -> Result<(), DockerError> {
        let path = format!("/images/{}", encode(reference));
        self.order("remove image", Method::DELETE, &path, REMOVE).await
    }

    async fn import(&self, archive: Vec<u8>, name: &str, change: &str) -> Result<(), DockerError> {
        const CALL: &str = "import";
        let (image, tag) = split_reference(name);
        let query = format!("fromSrc=-&repo={}&tag={}&changes={}", encode(image), encode(tag), encode(change));
        let path = format!("/images/create?{query}");
        let work = async {
            let response = self.open(CALL, Method::POST, &path, Payload::Archive(archive), IMPORT).await?;
            let mut lines = Lines::new(response.into_body());
            while let Some(line) = lines.next().await.map_err(|cause| self.hung_up(cause))? {
                if let Some(message) = parse::<wire::PullProgress>(CALL, &line)?.error {
                    return Err(DockerError::Broken(message));
                }
            }
            Ok(())
        };
        timeout(IMPORT, work).await.unwrap_or(Err(DockerError::Timeout { call: CALL, limit: IMPORT }))
    }

    async fn cgroups(&self) -> Result<CgroupSetup, DockerError> {
        let info: wire::CgroupInfo = self.fetch("info", Method::GET, "/info", Payload::Nothing, QUICK).await?;
        Ok(info.into())
    }

    async fn create_volume(&self, request: &VolumeRequest) -> Result<(), DockerError> {
        let body = serde_json::json!({
            "Name": request.name,
            "Driver": request.driver,
            "DriverOpts": request.options,
            "Labels": request.labels,
        });
        let body = Payload::Json(body.to_string().into_bytes());
        let response = self.open("create volume", Method::POST, "/volumes/create", body, VOLUME).await?;
        self.collect(response).await.map(drop)
    }

    async fn inspect_volume(&self, name: &str) -> Result<Volume, DockerError> {
        let path = format!("/volumes/{}", encode(name));
        let call = "inspect volume";
        self.fetch::<wire::VolumeInspect>(call, Method::GET, &path, Payload::Nothing, QUICK).await.map(Volume::from)
    }

    async fn remove_volume(&self, name: &str) -> Result<(), DockerError> {
        let path = format!("/volumes/{}", encode(name));
        self.order("remove volume", Method::DELETE, &path, VOLUME).await
    }

    async fn pull(&self, name: &str, login: Option<&RegistryLogin>, limits: PullLimits) -> Result<(), DockerError> {
        let (image, tag) = split_reference(name);
        let path = format!("/images/create?fromImage={}&tag={}", encode(image), encode(tag));
        let work = async {
            let login = login.or_else(|| self.logins.for_image(name));
            let login = login.map_or(Payload::Nothing, |login| Payload::Login(login.to_header()));
            let response = self.open(PULL_PROGRESS, Method::POST, &path, login, limits.inactivity).await?;
            let mut lines = Lines::new(response.into_body());
            loop {
                let line = timeout(limits.inactivity, lines.next())
                    .await
                    .map_err(|_| DockerError::Timeout { call: PULL_PROGRESS, limit: limits.inactivity })?
                    .map_err(|cause| self.hung_up(cause))?;
                let Some(line) = line else { return Ok(()) };
                let progress: wire::PullProgress = parse(PULL, &line)?;
                if let Some(message) = progress.error {
                    return Err(DockerError::Broken(message));
                }
            }
        };
        timeout(limits.total, work).await.unwrap_or(Err(DockerError::Timeout { call: PULL, limit: limits.total }))
    }

    async fn digest(&self, name: &str, login: Option<&RegistryLogin>, limit: Duration) -> Result<String, DockerError> {
        let login = login.or_else(|| self.logins.for_image(name));
        let login = login.map_or(Payload::Nothing, |login| Payload::Login(login.to_header()));
        let path = format!("/distribution/{}/json", encode(name));
        let found = self.fetch::<wire::Distribution>("ask a registry", Method::GET, &path, login, limit).await?;
        Ok(found.descriptor.digest)
    }

    async fn tag(&self, image: &str, name: &str) -> Result<(), DockerError> {
        let (repository, tag) = split_reference(name);
        let path = format!("/images/{}/tag?repo={}&tag={}", encode(image), encode(repository), encode(tag));
        self.order("tag", Method::POST, &path, QUICK).await
    }

    async fn create(&self, name: &str, body: &serde_json::Value, limit: Duration) -> Result<String, DockerError> {
        let path = format!("/containers/create?name={}", encode(name));
        let body = body.to_string().into_bytes();
        self.fetch::<wire::Created>("create", Method::POST, &path, Payload::Json(body), limit)
            .await
            .map(|created| created.id)
    }

    async fn start(&self, id: &str, limit: Duration) -> Result<(), DockerError> {
        let path = format!("/containers/{}/start", encode(id));
        self.order("start", Method::POST, &path, limit).await
    }

    async fn stop(&self, id: &str, grace: Duration) -> Result<(), DockerError> {
        let path = format!("/containers/{}/stop?t={}", encode(id), grace.as_secs());
        self.order("stop", Method::POST, &path, grace + STOP_MARGIN).await
    }

    async fn inspect(&self, id_or_name: &str) -> Result<Container, DockerError> {
        let path = format!("/containers/{}/json", encode(id_or_name));
        let call = "inspect";
        self.fetch::<wire::ContainerInspect>(call, Method::GET, &path, Payload::Nothing, QUICK)
            .await
            .map(Container::from)
    }

    async fn remove(&self, id: &str) -> Result<(), DockerError> {
        let path = format!("/containers/{}?v=true", encode(id));
        self.order("remove", Method::DELETE, &path, REMOVE).await
    }

    async fn list(&self, labels: &[&str]) -> Result<Vec<Listed>, DockerError> {
        let filters = serde_json::json!({ "label": labels }).to_string();
        let path = format!("/containers/json?all=true&filters={}", encode(&filters));
        let listed: Vec<wire::Listed> = self.fetch("list", Method::GET, &path, Payload::Nothing, QUICK).await?;
        Ok(listed.into_iter().map(Listed::from).collect())
    }

    async fn logs(&self, id: &str, query: &LogQuery) -> Result<LogChunks, DockerError> {
        let mut path = format!("/containers/{}/logs?stdout=1&stderr=1&timestamps=1", encode(id));
        if let Some((seconds, nanoseconds)) = query.since {
            path.push_str(&format!("&since={seconds}.{nanoseconds:09}"));
        }
        path.push_str(&query.tail.map_or_else(|| "&tail=all".to_owned(), |lines| format!("&tail={lines}")));
        path.push_str(if query.follow { "&follow=1" } else { "" });
        let mut body = self.open("logs", Method::GET, &path, Payload::Nothing, QUICK).await?.into_body();
        let (sender, receiver) = mpsc::channel(LOG_QUEUE);
        // Ends with the output, or when nobody reads it any more.
        tokio::spawn(async move {
            loop {
                let frame = tokio::select! {
                    frame = body.frame() => frame,
                    () = sender.closed() => return,
                };
                let piece = match frame {
                    None => return,
                    Some(Ok(frame)) => match frame.into_data() {
                        Ok(data) => Ok(data),
                        Err(_) => continue,
                    },
                    Some(Err(error)) => Err(DockerError::Broken(error.to_string())),
                };
                let last = piece.is_err();
                if sender.send(piece).await.is_err() || last {
                    return;
                }
            }
        });
        Ok(receiver)
    }

    async fn events(&self) -> Result<mpsc::Receiver<ContainerEvent>, DockerError> {
        let filters = serde_json::json!({
            "type": ["container"],
            "event": EVENT_ACTIONS,
            "label": [LABEL_INSTANCE],
        })
        .to_string();
        let path = format!("/events?filters={}", encode(&filters));
        let response = self.open("events", Method::GET, &path, Payload::Nothing, QUICK).await?;
        let (sender, receiver) = mpsc::channel(EVENT_QUEUE);
        // Ends when the Engine hangs up or the receiver is dropped.
        tokio::spawn(async move {
            let mut lines = Lines::new(response.into_body());
            loop {
                let line = tokio::select! {
                    line = lines.next() => line,
                    () = sender.closed() => return,
                };
                match line {
                    Ok(Some(line)) => match serde_json::from_slice::<wire::Event>(&line) {
                        Ok(event) => {
                            let Some(event) = event.into_ours() else {
                                continue;
                            };
                            if sender.send(event).await.is_err() {
                                return;
                            }
                        }
                        Err(error) => warn!(%error, "an event of the Engine cannot be read"),
                    },
                    Ok(None) => return,
                    Err(error) => {
                        debug!(%error, "the event stream broke off");
                        return;
                    }
                }
            }
        });
        Ok(receiver)
    }
}

/// The lines of a streamed body.
struct Lines {
    body: Incoming,
    buffer: BytesMut,
}

impl Lines {
    fn new(body: Incoming) -> Self {
        Self { body, buffer: BytesMut::new() }
    }

    /// The next line that is not empty; `None` at the end. Safe to cancel: nothing read is lost.
    async fn next(&mut self) -> Result<Option<Bytes>, String> {
        loop {
            while let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line = self.buffer.split_to(end + 1).freeze();
                if !line.trim_ascii().is_empty() {
                    return Ok(Some(line));
                }
            }
            if self.buffer.len() > MAX_LINE_BYTES {
                return Err(format!("a line longer than {MAX_LINE_BYTES} bytes"));
            }
            match self.body.frame().await {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                }
                Some(Err(error)) => return Err(error.to_string()),
                None if self.buffer.trim_ascii().is_empty() => return Ok(None),
                None => return Ok(Some(self.buffer.split().freeze())),
            }
        }
    }
}

fn parse<T: DeserializeOwned>(call: &'static str, body: &[u8]) -> Result<T, DockerError> {
    serde_json::from_slice(body).map_err(|error| DockerError::Protocol { call, detail: error.to_string() })
}

fn refusal(status: StatusCode, body: Bytes) -> DockerError {
    let message = serde_json::from_slice::<wire::ErrorBody>(&body)
        .map(|body| body.message)
        .unwrap_or_else(|_| String::from_utf8_lossy(&body).trim().to_owned());
    match status {
        StatusCode::NOT_FOUND => DockerError::NotFound(message),
        StatusCode::CONFLICT => DockerError::Conflict(message),
        other => DockerError::Refused { status: other.as_u16(), message },
    }
}

/// `repo[:tag]` or `repo@digest` as the Engine's pull wants it: without a tag it would fetch every tag there is.
pub(super) fn split_reference(name: &str) -> (&str, &str) {
    if let Some((image, digest)) = name.split_once('@') {
        return (image, digest);
    }
    // A colon before the last slash belongs to the registry's port.
    let last = name.rfind('/').map_or(0, |slash| slash + 1);
    match name[last..].find(':') {
        Some(colon) => (&name[..last + colon], &name[last + colon + 1..]),
        None => (name, "latest"),
    }
}

/// Percent-encodes a path segment or query value; image names keep their slashes, as the Engine's routes expect.
fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'/' | b':' | b'@' => {
                encoded.push(char::from(byte));
            }
            other => {
                encoded.push('%');
                encoded.push_str(&hex::encode_upper([other]));
            }
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE;
    use longshore_wire::sigv4::Secret;

    use super::*;

    #[test]
    fn references_are_split_where_the_tag_begins() {
        for (name, expected) in [
            ("web", ("web", "latest")),
            ("web:1", ("web", "1")),
            ("host:5000/web", ("host:5000/web", "latest")),
            ("host:5000/a/web:1", ("host:5000/a/web", "1")),
            ("web@sha256:ab", ("web", "sha256:ab")),
            ("host:5000/web@sha256:ab", ("host:5000/web", "sha256:ab")),
        ] {
            assert_eq!(split_reference(name), expected, "{name}");
        }
    }

    #[test]
    fn values_are_encoded() {
        assert_eq!(encode("a/b:1 ü?&"), "a/b:1%20%C3%BC%3F%26");
    }

    /// An Engine that says yes to everything, and tells the head of every request.
    async fn yes_man() -> (String, mpsc::UnboundedReceiver<String>) {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (sender, heads) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(stream.read_u8().await.unwrap());
                }
                let head = String::from_utf8(head).unwrap();
                let version = r#"{"Version":"1","ApiVersion":"1.41","MinAPIVersion":"1.12"}"#;
                let body = if head.starts_with("GET /version") { version } else { "" };
                let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
                stream.write_all(answer.as_bytes()).await.unwrap();
                sender.send(head).unwrap();
            }
        });
        (address, heads)
    }

    #[tokio::test]
    async fn a_pull_carries_the_login_of_its_registry_and_no_other() {
        let env = [
            ("ECS_BACKEND_HOST", "http://127.0.0.1:1"),
            ("AWS_ACCESS_KEY_ID", "id"),
            ("AWS_SECRET_ACCESS_KEY", "secret"),
            ("ECS_DATADIR", "/nonexistent"),
            ("ECS_ENGINE_AUTH_TYPE", "docker"),
            (
                "ECS_ENGINE_AUTH_DATA",
                r#"{"https://registry.example":{"username":"me","password":"hush?>","email":""}}"#,
            ),
        ];
        let env = env.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let config = crate::AgentConfig::load(Some(std::path::Path::new("/dev/null")), env).unwrap();
        let (address, mut heads) = yes_man().await;
        let docker = HttpDocker::new(&format!("tcp://{address}")).with_logins(config.engine_auth);
        let limits = PullLimits { total: QUICK, inactivity: QUICK };
        docker.pull("registry.example/app:1", None, limits).await.unwrap();
        docker.pull("elsewhere.example/app:1", None, limits).await.unwrap();
        let own = RegistryLogin {
            server: "registry.example".to_owned(),
            username: "task".to_owned(),
            password: Secret::new("its own"),
            email: String::new(),
        };
        docker.pull("registry.example/app:1", Some(&own), limits).await.unwrap();
        assert!(heads.recv().await.unwrap().starts_with("GET /version"));
        let with = heads.recv().await.unwrap();
        let login = |head: &str| -> serde_json::Value {
            let login = head.lines().find_map(|line| line.strip_prefix("x-registry-auth: ")).unwrap();
            serde_json::from_slice(&URL_SAFE.decode(login).unwrap()).unwrap()
        };
        let machine = login(&with);
        assert_eq!((&machine["username"], &machine["password"]), (&"me".into(), &"hush?>".into()));
        assert_eq!(machine["serveraddress"], "https://registry.example");
        let without = heads.recv().await.unwrap();
        assert!(without.starts_with("POST /v1.41/images/create?fromImage=elsewhere.example/app"));
        assert!(!without.contains("x-registry-auth"), "{without}");
        // What a task brings goes before what the machine has.
        let own = login(&heads.recv().await.unwrap());
        assert_eq!((&own["username"], &own["password"]), (&"task".into(), &"its own".into()));
    }

    #[tokio::test]
    async fn an_engine_that_is_not_there_is_named() {
        let docker = HttpDocker::new("unix:///nonexistent/docker.sock");
        let error = docker.version().await.unwrap_err();
        assert!(error.is_transient());
        assert!(error.to_string().contains("/nonexistent/docker.sock"));
    }
}
