//! Blobs on their way out: read in pieces, as fast as somebody takes them.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};

use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt as _, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::Frame;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::spawn_blocking;

use super::answer::Pulse;
use super::limits::PIECE_BYTES;

/// The bytes from `first` on, so many of them. The permit is held, and the pulse beats, as long as somebody takes them.
pub(super) fn body(
    file: File,
    first: u64,
    bytes: u64,
    permit: OwnedSemaphorePermit,
    pulse: Pulse,
) -> UnsyncBoxBody<Bytes, io::Error> {
    let reader = Reader { file, at: first, left: bytes };
    let pieces = stream::try_unfold((reader, permit, pulse), |(reader, permit, pulse)| async move {
        if reader.left == 0 {
            return Ok(None);
        }
        pulse.beat();
        let (piece, reader) = spawn_blocking(move || reader.read()).await.map_err(io::Error::other)??;
        Ok::<_, io::Error>(Some((Frame::data(piece), (reader, permit, pulse))))
    });
    StreamBody::new(pieces).boxed_unsync()
}

struct Reader {
    file: File,
    at: u64,
    left: u64,
}

impl Reader {
    fn read(mut self) -> io::Result<(Bytes, Self)> {
        let size = usize::try_from(self.left).unwrap_or(PIECE_BYTES).min(PIECE_BYTES);
        let mut piece = vec![0; size];
        self.file.seek(SeekFrom::Start(self.at))?;
        self.file.read_exact(&mut piece)?;
        self.at += size as u64;
        self.left -= size as u64;
        Ok((piece.into(), self))
    }
}
