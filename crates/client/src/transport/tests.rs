//! Ways to servers, believed ones and others.

use longshore_api::ecs;

use super::*;
use crate::testing::{self, Certificates, Requests};
use crate::trust::TrustSources;
use crate::{CallError, Client, ClientConfig};

fn pinned(pem: &str) -> Trust {
    Trust::new(TrustSources { pinned_pem: Some(pem.to_owned()), ..TrustSources::default() })
}

async fn call(url: String, trust: Trust, proxies: Proxies) -> Result<bytes::Bytes, CallError> {
    let mut config = ClientConfig::new(url, "us-east-1", testing::credentials());
    (config.trust, config.proxies) = (trust, proxies);
    Client::new(config).unwrap().call(ecs::Operation::ListClusters, "{}").await
}

async fn call_tls(host: &str, port: u16, pem: &str) -> Result<bytes::Bytes, CallError> {
    call(format!("https://{host}:{port}"), pinned(pem), Proxies::default()).await
}

#[track_caller]
fn refused(outcome: Result<bytes::Bytes, CallError>, why: &str) {
    let error = outcome.unwrap_err().to_string();
    assert!(error.contains("TLS with") && error.contains(why), "{error}");
}

#[tokio::test]
async fn a_server_whose_ca_is_pinned_is_believed_by_its_names_only() {
    let certificates = Certificates::with_ca("localhost");
    let port = testing::tls_server(&certificates).await;
    assert_eq!(call_tls("localhost", port, &certificates.last_pem).await.unwrap(), "{}");
    refused(call_tls("127.0.0.1", port, &certificates.last_pem).await, "not valid for name");
}

#[tokio::test]
async fn a_server_of_another_ca_is_not_believed() {
    let port = testing::tls_server(&Certificates::with_ca("localhost")).await;
    refused(
        call_tls("localhost", port, &Certificates::with_ca("localhost").last_pem).await,
        "invalid peer certificate",
    );
}

#[tokio::test]
async fn a_certificate_made_by_hand_is_believed_when_it_is_the_pinned_one() {
    let certificates = Certificates::by_hand("127.0.0.1", 2100);
    let port = testing::tls_server(&certificates).await;
    assert_eq!(call_tls("127.0.0.1", port, &certificates.last_pem).await.unwrap(), "{}");
    refused(call_tls("localhost", port, &certificates.last_pem).await, "not valid for name");
    assert!(call_tls("127.0.0.1", port, &Certificates::by_hand("127.0.0.1", 2100).last_pem).await.is_err());
}

#[tokio::test]
async fn a_pinned_certificate_expires_all_the_same() {
    let certificates = Certificates::by_hand("127.0.0.1", 2021);
    let port = testing::tls_server(&certificates).await;
    refused(call_tls("127.0.0.1", port, &certificates.last_pem).await, "expired");
}

#[tokio::test]
async fn files_are_trusted_besides_or_instead_of_the_system() {
    let certificates = Certificates::with_ca("localhost");
    let port = testing::tls_server(&certificates).await;
    let url = format!("https://localhost:{port}");
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("ca.pem");
    std::fs::write(&file, &certificates.last_pem).unwrap();
    let dirs = format!("/nonexistent-first:{}", dir.path().display());
    let folder = dir.path().display().to_string();
    for (sources, fine) in [
        (TrustSources { ca_file: Some(file.clone()), cert_dir: Some(folder.clone()), ..TrustSources::default() }, true),
        (TrustSources { cert_file: Some(file.clone()), ..TrustSources::default() }, true),
        (TrustSources { cert_dir: Some(folder), ..TrustSources::default() }, true),
        (TrustSources { cert_dir: Some(dirs), ..TrustSources::default() }, false),
        (TrustSources { cert_file: Some(dir.path().join("none.pem")), ..TrustSources::default() }, false),
    ] {
        let shown = format!("{sources:?}");
        let trust = Trust::new(sources);
        let outcome = match trust.load() {
            Ok(()) => call(url.clone(), trust, Proxies::default()).await.map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        assert_eq!(outcome.is_ok(), fine, "{shown}: {outcome:?}");
    }
    std::fs::write(&file, "no certificate").unwrap();
    let error = Trust::new(TrustSources { ca_file: Some(file), ..TrustSources::default() }).load().unwrap_err();
    assert!(error.to_string().contains("ca.pem holds no certificate"), "{error}");
}

#[tokio::test]
async fn what_a_server_presents_can_be_looked_at_and_pinned() {
    let certificates = Certificates::with_ca("localhost");
    let port = testing::tls_server(&certificates).await;
    let (origin, _) = Origin::of(&format!("https://localhost:{port}")).unwrap();
    let transport = Transport::new(Trust::default(), Proxies::default());
    let presented = transport.presented(&origin).await.unwrap();
    assert_eq!(presented.len(), 2);
    assert_ne!(presented[0].fingerprint, presented[1].fingerprint);
    assert_eq!(call_tls("localhost", port, &presented[1].pem).await.unwrap(), "{}");
}

#[tokio::test]
async fn a_proxy_forwards_plain_calls_and_tunnels_the_rest() {
    let requests = Requests::default();
    let forwarding = testing::plain_server(requests.clone()).await;
    let proxies = Proxies::new(Some(&format!("http://user:pass@127.0.0.1:{forwarding}")), None, "").unwrap();
    call("http://server.example:8470".into(), Trust::default(), proxies).await.unwrap();
    let head = requests.lock().unwrap().remove(0).to_lowercase();
    assert!(head.starts_with("post http://server.example:8470/ http/1.1\r\n"), "{head}");
    assert!(head.contains("\r\nproxy-authorization: basic ") && head.contains("\r\nhost: server.example:8470\r\n"));

    let certificates = Certificates::with_ca("server.example");
    let port = testing::tls_server(&certificates).await;
    let tunnelling = testing::tunnel_proxy(requests.clone()).await;
    let proxy = format!("user:pass@127.0.0.1:{tunnelling}");
    let proxies = Proxies::new(Some(&proxy), Some(&proxy), "").unwrap();
    let trust = pinned(&certificates.last_pem);
    call(format!("https://server.example:{port}"), trust.clone(), proxies.clone()).await.unwrap();
    let head = requests.lock().unwrap().remove(0);
    assert!(head.starts_with(&format!("CONNECT server.example:{port} HTTP/1.1\r\n")), "{head}");
    assert!(head.contains("Proxy-Authorization: Basic "));

    // A connection for something else than HTTP is tunnelled, encrypted or not.
    let plain = testing::plain_server(Requests::default()).await;
    let (origin, _) = Origin::of(&format!("ws://server.example:{plain}/acs")).unwrap();
    Transport::new(trust, proxies).connect(&origin).await.unwrap();
    assert!(requests.lock().unwrap().remove(0).starts_with("CONNECT server.example:"));
}

#[tokio::test]
async fn nobody_there_is_said_in_the_systems_words() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    drop(listener);
    let trust = pinned(&Certificates::with_ca("localhost").last_pem);
    let error = call(url, trust, Proxies::default()).await.unwrap_err().to_string();
    assert!(error.contains("refused"), "{error}");
}

#[test]
fn origins() {
    let origin = |url: &str| Origin::of(url).map(|(origin, path)| (origin.url(), origin.is_loopback(), path));
    for (url, expected, loopback, path) in [
        ("http://h:1/a/", "http://h:1", false, "/a/"),
        ("wss://h", "https://h", false, "/"),
        ("https://[::1]:8470", "https://[::1]:8470", true, "/"),
        ("http://127.3.2.1", "http://127.3.2.1", true, "/"),
        ("ws://LocalHost:9/acs", "http://LocalHost:9", true, "/acs"),
    ] {
        assert_eq!(origin(url), Ok((expected.to_owned(), loopback, path.to_owned())), "{url}");
    }
    for bad in ["", "h", "h:80", "/path", "ftp://h", "http://", "http://u@h", "http://h/?q"] {
        assert_eq!(origin(bad), Err(OriginError), "{bad}");
    }
}
