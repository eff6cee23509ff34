//! A client of a whole server, through plain HTTP or TLS, with any access key.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http::header::{HeaderMap, HeaderValue};
use hyper_util::rt::TokioIo;
use longshore_wire::sigv4::{Credentials, Secret, sign};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::{WebSocketStream, client_async};

use super::{Answer, call, now, read};

const SOON: Duration = Duration::from_secs(20);

/// A connection of either kind.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

pub type Socket = WebSocketStream<Box<dyn Stream>>;

/// The way to a server.
#[derive(Clone)]
pub struct Door {
    pub addr: SocketAddr,
    /// As the URL has it.
    pub host: String,
    tls: Option<TlsConnector>,
}

impl Door {
    pub fn plain(addr: SocketAddr) -> Self {
        Self { addr, host: addr.to_string(), tls: None }
    }

    /// Called by this name, trusting the authorities in `ca`.
    pub fn tls(addr: SocketAddr, name: &str, ca: &[u8]) -> Self {
        Self { addr, host: format!("{name}:{}", addr.port()), tls: Some(connector(ca, &[])) }
    }

    pub async fn connect(&self) -> io::Result<Box<dyn Stream>> {
        match &self.tls {
            None => Ok(Box::new(TcpStream::connect(self.addr).await?)),
            Some(connector) => {
                let name = self.host.rsplit_once(':').unwrap().0.trim_matches(['[', ']']);
                Ok(Box::new(handshake(self.addr, name, connector).await?))
            }
        }
    }

    /// Calls an operation of ECS, or another service's as `Service.Operation`.
    pub async fn ask(&self, key: &Credentials, operation: &str, body: Value) -> Answer {
        let stream = TokioIo::new(self.connect().await.unwrap());
        let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        let mut call = call(operation, body.to_string());
        call.key_id.clone_from(&key.access_key_id);
        call.secret = key.secret.reveal().to_owned();
        read(timeout(SOON, sender.send_request(call.request_to(&self.host))).await.unwrap().unwrap()).await
    }

    /// Opens a websocket.
    pub async fn socket(&self, key: &Credentials, target: &str) -> Result<Socket, Error> {
        let mut headers = HeaderMap::new();
        headers.insert("host", HeaderValue::try_from(&self.host).unwrap());
        let signature = sign(key, "us-east-1", "ecs", now(), "GET", target, &headers, b"").unwrap();
        let mut request = http::Request::get(format!("ws://{}{target}", self.host))
            .header("host", &self.host)
            .header("connection", "Upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
            .body(())
            .unwrap();
        request.headers_mut().extend(signature);
        let stream = self.connect().await.unwrap();
        timeout(SOON, client_async(request, stream)).await.unwrap().map(|(socket, _)| socket)
    }

    /// What an operator does and a machine: a token, and the key for it.
    pub async fn join(&self, root: &Credentials, instances: u32) -> Credentials {
        let made = self.ask(root, "Longshore.CreateJoinToken", json!({})).await;
        assert_eq!(made.status, 200, "{}", made.body);
        let token = token(&made);
        let body = json!({"clientToken": "mine", "instances": instances});
        let joined = self.ask(&token, "Longshore.JoinContainerInstance", body).await;
        assert_eq!(joined.status, 200, "{}", joined.body);
        credentials(&joined.body)
    }

    /// Registers a container instance; its ARN.
    pub async fn register(&self, key: &Credentials) -> String {
        let answer = self.ask(key, "RegisterContainerInstance", offer()).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.body["containerInstance"]["containerInstanceArn"].as_str().unwrap().to_owned()
    }
}

/// What an agent sends when it registers.
pub fn offer() -> Value {
    json!({
        "cluster": "default",
        "totalResources": [
            {"name": "CPU", "type": "INTEGER", "integerValue": 1000},
            {"name": "MEMORY", "type": "INTEGER", "integerValue": 1000},
        ],
    })
}

pub fn connector(ca: &[u8], alpn: &[&[u8]]) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(ca) {
        roots.add(certificate.unwrap()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    TlsConnector::from(Arc::new(config))
}

pub async fn handshake(addr: SocketAddr, name: &str, connector: &TlsConnector) -> io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(addr).await?;
    connector.connect(ServerName::try_from(name.to_owned()).unwrap(), stream).await
}

/// The root key of a data directory.
pub fn root(dir: &Path) -> Credentials {
    credentials(&serde_json::from_slice(&std::fs::read(dir.join("root-access-key")).unwrap()).unwrap())
}

/// The key that an answer holds.
pub fn credentials(answer: &Value) -> Credentials {
    let part = |name: &str| answer[name].as_str().unwrap().to_owned();
    key(&part("accessKeyId"), &part("secretAccessKey"))
}

/// The key that a token is.
pub fn token(made: &Answer) -> Credentials {
    let (id, secret) = made.body["token"].as_str().unwrap().split_once('.').unwrap();
    assert_eq!(made.body["joinToken"]["tokenId"], id);
    key(id, secret)
}

pub fn key(access_key_id: &str, secret: &str) -> Credentials {
    Credentials { access_key_id: access_key_id.to_owned(), secret: Secret::new(secret), session_token: None }
}

fn encoded(text: &str) -> String {
    text.replace(':', "%3A").replace('/', "%2F")
}

pub fn acs(instance_arn: &str) -> String {
    format!(
        "/acs/ws?agentHash=0bcd1234&agentVersion=1.105.1&clusterArn=default&containerInstanceArn={}\
         &dockerVersion=20.10.24&protocolVersion=2&sendCredentials=true&seqNum=1",
        encoded(instance_arn)
    )
}

pub fn tcs(instance_arn: &str) -> String {
    let instance = encoded(instance_arn);
    format!(
        "/tcs/ws?agentHash=0bcd1234&agentVersion=1.105.1&cluster=default&containerInstance={instance}&dockerVersion=1"
    )
}
