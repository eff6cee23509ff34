//! A connection's socket, and the news that its peer has hung up.
//!
//! A request that is answered at once does not care: who has said all he has to say (half a connection closed) still hears the
//! answer, so HTTP keeps quiet about it. A request that *waits* for something has to care, or it waits for nobody.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;

/// The socket for whoever reads and writes it.
#[derive(Debug)]
pub(crate) struct Socket(Arc<TcpStream>);

/// The same socket for whoever wants to know whether anybody is there.
#[derive(Clone, Debug)]
pub(crate) struct FarEnd(Arc<TcpStream>);

impl Socket {
    /// Both views of a connection.
    pub(crate) fn new(stream: TcpStream) -> (Self, FarEnd) {
        let stream = Arc::new(stream);
        (Self(Arc::clone(&stream)), FarEnd(stream))
    }

    /// What comes next, left where it is.
    pub(crate) async fn peek(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.peek(buffer).await
    }
}

impl FarEnd {
    /// Waits until the peer sends no more: it closed its side, was reset, or is gone. What it sent before may be unread.
    pub(crate) async fn hung_up(&self) {
        // Asks the system nothing. Nobody sends urgent data; of the rest, this readiness is the end of reading alone, which,
        // unlike being readable, lasts.
        let _ = self.0.ready(Interest::PRIORITY).await;
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.0.poll_read_ready(cx))?;
            match self.0.try_read(buf.initialize_unfilled()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return Poll::Ready(result.map(|read| buf.advance(read))),
            }
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.0.poll_write_ready(cx))?;
            match self.0.try_write_vectored(slices) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return Poll::Ready(result),
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(rustix::net::shutdown(&*self.0, rustix::net::Shutdown::Write).map_err(io::Error::from))
    }
}
