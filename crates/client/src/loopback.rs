//! A door on this machine's own loopback interface that leads to the server.
//!
//! A Docker Engine speaks plain HTTP to registries on 127.0.0.0/8 and to no others, and trusts certificates that are installed
//! on its machine. So that nobody has to configure Engines, whoever is connected to the server lends them its connection: what
//! comes in here goes out there, by TLS and through proxies as for any call. It opens nothing: who may do what is decided by
//! the server, by the token that comes with each request.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncWriteExt as _, copy, split};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

use crate::chain;
use crate::transport::{Origin, Transport};

/// Connections at once. An Engine fetches three layers of an image at a time, each over one.
const MAX_CONNECTIONS: usize = 64;
/// Who connects has something to say.
const FIRST_BYTE: Duration = Duration::from_secs(10);
/// When no connection can be accepted, the next attempt waits so long: something must close first.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// The first byte of a TLS handshake.
const TLS_HANDSHAKE: u8 = 0x16;
/// What Engines, who try TLS first, take for "speak plain HTTP".
const NOT_TLS: &[u8] = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

/// The door.
#[derive(Debug)]
pub struct Loopback {
    listener: TcpListener,
    address: SocketAddr,
    transport: Transport,
    origin: Origin,
}

impl Loopback {
    /// Opens it at this port, or at a free one where that is taken or zero.
    ///
    /// # Errors
    /// When no port can be had.
    pub async fn open(port: u16, transport: Transport, origin: Origin) -> io::Result<Self> {
        let listener = match TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?
            }
            other => other?,
        };
        let address = listener.local_addr()?;
        Ok(Self { listener, address, transport, origin })
    }

    /// `127.0.0.1:PORT`
    pub fn authority(&self) -> String {
        self.address.to_string()
    }

    /// Lets through what comes, until dropped.
    pub async fn serve(self) {
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let mut connections = JoinSet::new();
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            // Those that have ended are forgotten.
            while connections.try_join_next().is_some() {}
            let (near, _) = match self.listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    warn!(%error, "the way to the registry cannot take a connection; trying again");
                    sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let (transport, origin) = (self.transport.clone(), self.origin.clone());
            connections.spawn(async move {
                if let Err(error) = pass(near, &transport, &origin).await {
                    debug!(error, "a connection to the registry ended");
                }
                drop(place);
            });
        }
    }
}

async fn pass(mut near: TcpStream, transport: &Transport, origin: &Origin) -> Result<(), String> {
    let mut first = [0];
    let seen = timeout(FIRST_BYTE, near.peek(&mut first)).await.map_err(|_| "nothing was asked".to_owned())?;
    match seen.map_err(|error| error.to_string())? {
        0 => return Ok(()),
        _ if first == [TLS_HANDSHAKE] => return near.write_all(NOT_TLS).await.map_err(|error| error.to_string()),
        _ => {}
    }
    let far = transport.connect(origin).await.map_err(|error| chain(&error))?;
    let ((mut near_in, mut near_out), (mut far_in, mut far_out)) = (near.split(), split(far));
    let there = async {
        copy(&mut near_in, &mut far_out).await?;
        far_out.shutdown().await
    };
    let back = async {
        copy(&mut far_in, &mut near_out).await?;
        near_out.shutdown().await
    };
    // It is over when the server says so, who lets nobody be silent for long. Whoever stays on the near side for ever would
    // keep others from their places.
    let ended = tokio::select! {
        ended = back => ended,
        Err(error) = there => Err(error),
    };
    ended.map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;

    use super::*;
    use crate::proxy::Proxies;
    use crate::trust::Trust;

    async fn through(far: &TcpListener, port: u16) -> Loopback {
        let (origin, _) = Origin::of(&format!("http://{}", far.local_addr().unwrap())).unwrap();
        Loopback::open(port, Transport::new(Trust::default(), Proxies::default()), origin).await.unwrap()
    }

    #[tokio::test]
    async fn what_is_said_at_one_end_is_heard_at_the_other() {
        let far = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let door = through(&far, 0).await;
        let address = door.authority();
        let open = tokio::spawn(door.serve());
        let mut near = TcpStream::connect(address).await.unwrap();
        near.write_all(b"GET").await.unwrap();
        let (mut server, _) = far.accept().await.unwrap();
        let mut heard = [0; 3];
        server.read_exact(&mut heard).await.unwrap();
        server.write_all(b"yes").await.unwrap();
        drop(server);
        let mut answer = String::new();
        near.read_to_string(&mut answer).await.unwrap();
        assert_eq!((&heard, answer.as_str()), (b"GET", "yes"));
        open.abort();
    }

    #[tokio::test]
    async fn nobody_stays_longer_than_the_server_lets_him() {
        let far = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (origin, _) = Origin::of(&format!("http://{}", far.local_addr().unwrap())).unwrap();
        let transport = Transport::new(Trust::default(), Proxies::default());
        let door = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut near = TcpStream::connect(door.local_addr().unwrap()).await.unwrap();
        near.write_all(b"GET").await.unwrap();
        let (passed, _) = door.accept().await.unwrap();
        let passing = tokio::spawn(async move { pass(passed, &transport, &origin).await });
        let (server, _) = far.accept().await.unwrap();
        drop(server);
        // The near end is still open.
        let ended = timeout(FIRST_BYTE, passing).await;
        assert!(ended.is_ok(), "its place is not free again");
        drop(near);
    }

    #[tokio::test]
    async fn who_speaks_tls_is_told_not_to() {
        let far = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let door = through(&far, 0).await;
        let address = door.authority();
        let open = tokio::spawn(door.serve());
        let mut near = TcpStream::connect(address).await.unwrap();
        near.write_all(&[TLS_HANDSHAKE]).await.unwrap();
        let mut answer = [0; 8];
        near.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1");
        open.abort();
    }

    #[tokio::test]
    async fn a_port_that_is_taken_is_left_to_others() {
        let far = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let first = through(&far, 0).await;
        let second = through(&far, first.address.port()).await;
        assert_ne!(first.authority(), second.authority());
    }
}
