//! A server behind TLS, over real sockets: its own authority or a given certificate, and who does not speak TLS.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use aws_lc_rs::digest;
use futures_util::StreamExt as _;
use longshore_server::{RunningServer, Server, ServerConfig, ServerError, TlsConfig};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::{Value, json};
use support::door::{Door, acs, connector, handshake, root};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

const SOON: Duration = Duration::from_secs(20);

fn config(dir: &Path, tls: TlsConfig) -> ServerConfig {
    let mut config = ServerConfig::new(dir);
    config.listen = SocketAddr::from(([127, 0, 0, 1], 0));
    config.limits.header_timeout = Duration::from_millis(500);
    config.tls = Some(tls);
    config
}

fn own() -> TlsConfig {
    TlsConfig::Own { names: vec!["ecs.example".to_owned()] }
}

async fn start(config: ServerConfig) -> RunningServer {
    timeout(SOON, Server::start(config)).await.unwrap().unwrap()
}

fn server_file(dir: &Path) -> Value {
    serde_json::from_slice(&fs::read(dir.join("server.json")).unwrap()).unwrap()
}

fn fingerprint(certificate: &[u8]) -> String {
    format!("sha256:{}", hex::encode(digest::digest(&digest::SHA256, certificate)))
}

#[tokio::test]
async fn the_own_authority_is_shown_with_the_certificate_and_named_in_server_json() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(config(dir.path(), own())).await;
    let (addr, file) = (server.local_addr(), server_file(dir.path()));
    assert_eq!(file["endpoint"], format!("https://{addr}"));
    let ca = fs::read(file["caFile"].as_str().unwrap()).unwrap();
    assert_eq!(file["caFile"], dir.path().join("tls/ca.pem").to_str().unwrap());
    let bundle = fs::read(file["caBundle"].as_str().unwrap()).unwrap();

    // Every name leads to it, and the chain ends in what is pinned.
    for (name, roots) in [("127.0.0.1", &ca), ("localhost", &ca), ("ecs.example", &ca), ("::1", &bundle)] {
        let stream = timeout(SOON, handshake(addr, name, &connector(roots, &[]))).await.unwrap().unwrap();
        let chain = stream.get_ref().1.peer_certificates().unwrap();
        assert_eq!(chain.len(), 2);
        assert_eq!(file["caFingerprint"], fingerprint(chain.last().unwrap()), "{name}");
        assert_eq!(chain.last().unwrap(), &CertificateDer::from_pem_slice(&ca).unwrap());
    }
    assert!(handshake(addr, "other.example", &connector(&ca, &[])).await.is_err());
    assert!(handshake(addr, "localhost", &connector(b"", &[])).await.is_err(), "a stranger's authority");
    for (offered, chosen) in [(&b"h2"[..], b"h2".to_vec()), (b"http/1.1", b"http/1.1".to_vec())] {
        let stream = handshake(addr, "localhost", &connector(&ca, &[offered])).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&*chosen));
    }
    timeout(SOON, server.shutdown()).await.unwrap();
}

#[tokio::test]
async fn calls_and_sessions_go_through_it_and_agents_are_sent_to_it() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(config(dir.path(), own())).await;
    let ca = fs::read(dir.path().join("tls/ca.pem")).unwrap();
    let door = Door::tls(server.local_addr(), "localhost", &ca);
    let machine = door.join(&root(dir.path()), 1).await;
    let arn = door.register(&machine).await;
    let poll = door.ask(&machine, "DiscoverPollEndpoint", json!({"containerInstance": arn})).await;
    assert_eq!(poll.body["endpoint"], format!("https://{}/acs/", door.host));
    assert_eq!(poll.body["telemetryEndpoint"], format!("https://{}/tcs/", door.host));
    let mut socket = door.socket(&machine, &acs(&arn)).await.unwrap();
    let first = timeout(SOON, socket.next()).await.unwrap().unwrap().unwrap();
    assert!(first.to_text().unwrap().contains("TaskManifestMessage"), "{first}");
    timeout(SOON, server.shutdown()).await.unwrap();
}

#[tokio::test]
async fn the_authority_stays_and_its_files_are_as_open_as_they_may_be() {
    let dir = tempfile::tempdir().unwrap();
    timeout(SOON, start(config(dir.path(), own())).await.shutdown()).await.unwrap();
    let read = |name: &str| fs::read(dir.path().join("tls").join(name)).unwrap();
    let (ca, leaf) = (read("ca.pem"), read("server.pem"));
    let mode = |name: &str| fs::metadata(dir.path().join("tls").join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("ca-key.pem"), mode("server-key.pem"), mode("ca.pem")), (0o600, 0o600, 0o644));
    let server = start(config(dir.path(), own())).await;
    assert_eq!(read("ca.pem"), ca);
    assert_ne!(read("server.pem"), leaf, "a new certificate at each start");
    assert!(handshake(server.local_addr(), "localhost", &connector(&ca, &[])).await.is_ok());
    timeout(SOON, server.shutdown()).await.unwrap();

    fs::set_permissions(dir.path().join("tls/ca-key.pem"), fs::Permissions::from_mode(0o644)).unwrap();
    let refused = Server::start(config(dir.path(), own())).await;
    assert!(matches!(refused, Err(ServerError::SecretPermissions { .. })));
    fs::remove_file(dir.path().join("tls/ca-key.pem")).unwrap();
    let refused = Server::start(config(dir.path(), own())).await.err().unwrap().to_string();
    assert!(refused.contains("ca-key.pem, is missing") && refused.contains("restore"), "{refused}");
}

#[tokio::test]
async fn other_machines_are_offered_tls_but_not_plain_http() {
    let dir = tempfile::tempdir().unwrap();
    let mut everywhere = config(dir.path(), own());
    everywhere.listen = SocketAddr::from(([0, 0, 0, 0], 0));
    let mut plain = everywhere.clone();
    plain.tls = None;
    let refused = Server::start(plain).await.err().unwrap().to_string();
    assert!(refused.contains("--tls"), "{refused}");
    let server = start(everywhere).await;
    assert!(server.endpoint().starts_with("https://127.0.0.1:"), "{}", server.endpoint());
    timeout(SOON, server.shutdown()).await.unwrap();
    let mut misnamed = config(dir.path(), own());
    misnamed.tls = Some(TlsConfig::Own { names: vec!["not a name".to_owned()] });
    let refused = Server::start(misnamed).await.err().unwrap().to_string();
    assert!(refused.contains("--tls-name is 'not a name'"), "{refused}");
}

/// A chain of an authority and a certificate for these names, in two files.
fn given(dir: &Path, names: &[&str]) -> (PathBuf, PathBuf, Vec<u8>) {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let leaf = CertificateParams::new(names).unwrap().signed_by(&key, &ca).unwrap();
    let (cert_file, key_file) = (dir.join("cert.pem"), dir.join("key.pem"));
    fs::write(&cert_file, leaf.pem() + &ca.pem()).unwrap();
    fs::write(&key_file, key.serialize_pem()).unwrap();
    (cert_file, key_file, ca.pem().into_bytes())
}

#[tokio::test]
async fn a_given_certificate_is_shown_and_its_authority_pinned() {
    let (dir, files) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (cert, key, ca) = given(files.path(), &["ecs.example"]);
    let server = start(config(dir.path(), TlsConfig::Given { cert, key })).await;
    let (addr, file) = (server.local_addr(), server_file(dir.path()));
    assert_eq!(file["endpoint"], format!("https://ecs.example:{}", addr.port()), "the name that is in it");
    assert_eq!(file["caFingerprint"], fingerprint(&CertificateDer::from_pem_slice(&ca).unwrap()));
    assert_eq!((file.get("caFile"), file.get("caBundle")), (None, None));
    assert!(!dir.path().join("tls").exists(), "no authority is made that is not used");
    let door = Door::tls(addr, "ecs.example", &ca);
    let answer = door.ask(&root(dir.path()), "ListClusters", json!({})).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    timeout(SOON, server.shutdown()).await.unwrap();
}

#[tokio::test]
async fn a_given_certificate_that_cannot_be_used_says_which_file_and_why() {
    let (dir, files, other) =
        (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (cert, key, _) = given(files.path(), &["ecs.example"]);
    let (_, foreign, _) = given(other.path(), &["ecs.example"]);
    let missing = files.path().join("missing.pem");
    let text = files.path().join("text.pem");
    fs::write(&text, "no PEM at all").unwrap();
    for (cert, key, setting, part) in [
        (&cert, &foreign, "--tls-key", "not the key of the first certificate"),
        (&missing, &key, "--tls-cert", "No such file"),
        (&cert, &missing, "--tls-key", "No such file"),
        (&text, &key, "--tls-cert", "holds no CERTIFICATE"),
        (&cert, &text, "--tls-key", "holds no PRIVATE KEY"),
        (&key, &key, "--tls-cert", "holds no CERTIFICATE"),
    ] {
        let tls = TlsConfig::Given { cert: cert.clone(), key: key.clone() };
        let refused = Server::start(config(dir.path(), tls)).await.err().unwrap().to_string();
        assert!(refused.starts_with(setting) && refused.contains(part), "{refused}");
    }
}

#[tokio::test]
async fn plain_http_to_a_tls_port_gets_a_clear_end() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(config(dir.path(), own())).await;
    let mut stream = TcpStream::connect(server.local_addr()).await.unwrap();
    stream.write_all(b"POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 2\r\n\r\n{}").await.unwrap();
    let mut text = String::new();
    timeout(SOON, stream.read_to_string(&mut text)).await.unwrap().unwrap();
    assert!(text.starts_with("HTTP/1.1 400") && text.contains("write https://"), "{text}");
    timeout(SOON, server.shutdown()).await.unwrap();
}

#[tokio::test]
async fn a_handshake_that_dawdles_is_cut_off_and_holds_no_place() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path(), own());
    config.limits.max_connections = 1;
    let server = start(config).await;
    let ca = fs::read(dir.path().join("tls/ca.pem")).unwrap();
    // Nothing at all, the beginning of a handshake, and one that trickles.
    for sent in [&b""[..], &[0x16, 0x03, 0x01, 0x02]] {
        let mut stream = TcpStream::connect(server.local_addr()).await.unwrap();
        stream.write_all(sent).await.unwrap();
        let began = Instant::now();
        let mut rest = Vec::new();
        let _ = timeout(SOON, stream.read_to_end(&mut rest)).await.unwrap();
        assert!(began.elapsed() < Duration::from_secs(5), "closed after {:?}", began.elapsed());
    }
    let mut stream = TcpStream::connect(server.local_addr()).await.unwrap();
    let trickle = async {
        stream.write_all(&[0x16, 0x03, 0x01, 0x40, 0x00]).await?;
        loop {
            stream.write_all(&[0]).await?;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        #[allow(unreachable_code, reason = "gives the block its type")]
        Ok::<(), std::io::Error>(())
    };
    assert!(timeout(SOON, trickle).await.unwrap().is_err());
    let door = Door::tls(server.local_addr(), "localhost", &ca);
    assert_eq!(door.ask(&root(dir.path()), "ListClusters", json!({})).await.status, 200, "the place is free again");
    timeout(SOON, server.shutdown()).await.unwrap();
}
