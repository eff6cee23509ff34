//! What several tests need: a key, certificates, servers that answer one thing.

use std::sync::{Arc, Mutex};

use longshore_wire::sigv4::{Credentials, Secret};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// A key of nobody.
pub(crate) fn credentials() -> Credentials {
    Credentials { access_key_id: "AKIA".into(), secret: Secret::new("hush"), session_token: None }
}

/// What a server presents, its own certificate first.
pub(crate) struct Certificates {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    /// Of the last in the chain.
    pub(crate) last_pem: String,
    key: KeyPair,
}

impl Certificates {
    /// A certificate for `name` from a CA of its own, which is presented too.
    pub(crate) fn with_ca(name: &str) -> Self {
        let ca_key = KeyPair::generate().unwrap();
        let mut ca = CertificateParams::new(Vec::<String>::new()).unwrap();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca_certificate = ca.self_signed(&ca_key).unwrap();
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let leaf = params.signed_by(&key, &Issuer::from_params(&ca, &ca_key)).unwrap();
        let chain = vec![leaf.der().clone(), ca_certificate.der().clone()];
        Self { chain, last_pem: ca_certificate.pem(), key }
    }

    /// One that was made by hand: its own issuer, and its own CA.
    pub(crate) fn by_hand(name: &str, until_year: i32) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(until_year, 1, 1);
        let certificate = params.self_signed(&key).unwrap();
        Self { chain: vec![certificate.der().clone()], last_pem: certificate.pem(), key }
    }

    fn acceptor(&self) -> TlsAcceptor {
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(self.key.serialize_der()));
        let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(self.chain.clone(), key)
            .unwrap();
        TlsAcceptor::from(Arc::new(config))
    }
}

/// Answers every request on 127.0.0.1 with `{}`; the port it listens on.
pub(crate) async fn tls_server(certificates: &Certificates) -> u16 {
    let acceptor = certificates.acceptor();
    serve(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            if let Ok(stream) = acceptor.accept(stream).await {
                answer(stream, &Requests::default()).await;
            }
        }
    })
    .await
}

/// As above, without TLS; what was asked is noted.
pub(crate) async fn plain_server(requests: Requests) -> u16 {
    serve(move |stream| {
        let requests = requests.clone();
        async move { answer(stream, &requests).await }
    })
    .await
}

/// As above, but each request gets the next of these answers, which begin with the status and end with the connection.
pub(crate) async fn scripted_server(requests: Requests, answers: &[&str]) -> u16 {
    let answers: Vec<String> = answers.iter().rev().map(|answer| format!("HTTP/1.1 {answer}")).collect();
    let answers = Arc::new(Mutex::new(answers));
    serve(move |mut stream| {
        let (requests, answers) = (requests.clone(), answers.clone());
        async move {
            let head = head_of(&mut stream).await;
            requests.lock().unwrap().push(head);
            let answer = answers.lock().unwrap().pop().unwrap();
            let _ = stream.write_all(answer.as_bytes()).await;
            let _ = stream.shutdown().await;
        }
    })
    .await
}

/// A proxy that tunnels to wherever it is told, except that it takes every host name for this machine.
pub(crate) async fn tunnel_proxy(requests: Requests) -> u16 {
    serve(move |mut stream| {
        let requests = requests.clone();
        async move {
            let head = head_of(&mut stream).await;
            let port = head.split([' ', ':']).nth(2).and_then(|port| port.parse::<u16>().ok()).unwrap();
            requests.lock().unwrap().push(head);
            let mut onward = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
            let _ = copy_bidirectional(&mut stream, &mut onward).await;
        }
    })
    .await
}

/// Heads of requests.
pub(crate) type Requests = Arc<Mutex<Vec<String>>>;

async fn serve<F: Future<Output = ()> + Send + 'static>(each: impl Fn(TcpStream) -> F + Send + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(each(stream));
        }
    });
    port
}

async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin, requests: &Requests) {
    let head = head_of(&mut stream).await;
    requests.lock().unwrap().push(head);
    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}").await;
    let _ = stream.shutdown().await;
}

/// Up to the empty line.
async fn head_of(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8(head).unwrap()
}
