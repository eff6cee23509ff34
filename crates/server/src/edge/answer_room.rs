//! How much of the memory may be answers that nobody has read yet.

use std::sync::Arc;

use bytes::Bytes;
use longshore_api::ApiError;
use longshore_api::error::THROTTLING_EXCEPTION;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::limits::COUNTED_ANSWER_BYTES;

/// The room, a permit per byte.
#[derive(Debug)]
pub(super) struct AnswerRoom(Arc<Semaphore>);

/// An answer that takes its room for as long as the connection has not passed it on.
struct Counted {
    bytes: Vec<u8>,
    _room: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl AnswerRoom {
    /// Room for so many bytes.
    pub(super) fn new(most: usize) -> Self {
        Self(Arc::new(Semaphore::new(most.min(Semaphore::MAX_PERMITS))))
    }

    /// The answer to something that was only read. What changed something must be told, and is not asked for room: those who
    /// wait for a commit are bounded themselves.
    ///
    /// # Errors
    /// `ThrottlingException`: it may be asked again.
    pub(super) fn admit(&self, bytes: Vec<u8>) -> Result<Bytes, ApiError> {
        if bytes.len() < COUNTED_ANSWER_BYTES {
            return Ok(bytes.into());
        }
        let room = u32::try_from(bytes.len()).ok().and_then(|len| Arc::clone(&self.0).try_acquire_many_owned(len).ok());
        match room {
            Some(_room) => Ok(Bytes::from_owner(Counted { bytes, _room })),
            None => Err(ApiError::new(
                THROTTLING_EXCEPTION,
                "Rate exceeded: too many answers wait to be read. Read them, and try again with growing pauses.",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_takes_its_room_until_it_is_gone() {
        let room = AnswerRoom::new(3 * COUNTED_ANSWER_BYTES);
        let large = || vec![b' '; 2 * COUNTED_ANSWER_BYTES];
        let first = room.admit(large()).unwrap();
        let rest = first.slice(1..);
        drop(first);
        assert_eq!(room.admit(large()).unwrap_err().code, THROTTLING_EXCEPTION);
        assert!(room.admit(vec![b' '; COUNTED_ANSWER_BYTES - 1]).is_ok(), "a small one is not counted");
        drop(rest);
        assert_eq!(room.admit(large()).unwrap(), large());
    }
}
