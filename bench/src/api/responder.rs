//! The floor under every call: a server made of nothing but hyper, which takes the same bytes and gives as many back.

use std::convert::Infallible;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use bytes::Bytes;
use clap::Args;
use http::Response;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::net::TcpListener;

/// What to answer.
#[derive(Args)]
pub(crate) struct Options {
    /// The length of every answer's body.
    #[arg(long)]
    bytes: usize,
}

/// Serves until it is killed; says first where.
pub(crate) fn run(options: &Options) {
    // As many threads as the server has.
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let body = Bytes::from(vec![b' '; options.bytes]);
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        println!("{}", listener.local_addr().expect("an address"));
        std::io::stdout().flush().expect("somebody reads");
        loop {
            let (stream, _) = listener.accept().await.expect("connections");
            stream.set_nodelay(true).expect("a TCP socket");
            tokio::spawn(serve(stream, body.clone()));
        }
    });
}

async fn serve(stream: tokio::net::TcpStream, body: Bytes) {
    let service = service_fn(move |request: http::Request<Incoming>| {
        let body = body.clone();
        async move {
            request.into_body().collect().await.expect("the whole body");
            Ok::<_, Infallible>(Response::new(Full::new(body)))
        }
    });
    // A client that leaves ends it, in whichever way.
    let _ = auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
}

/// One in a process of its own, so that what it costs can be told; killed when dropped.
pub(crate) struct Responder {
    child: Child,
    pub(crate) authority: String,
}

impl Responder {
    /// One that answers with so many bytes.
    pub(crate) fn start(bytes: usize) -> Self {
        let own = std::env::current_exe().expect("this program has a path");
        let mut command = Command::new(own);
        command.args(["responder", "--bytes", &bytes.to_string()]).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("this program starts");
        let mut line = String::new();
        let output = child.stdout.take().expect("its output is ours");
        BufReader::new(output).read_line(&mut line).expect("it says where it listens");
        let address: SocketAddr = line.trim().parse().expect("it says where it listens");
        Self { child, authority: address.to_string() }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        // Both fail only if it has ended, which is what we want.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
