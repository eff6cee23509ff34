//! Who may write: a lock for as long as the process lives, and a term that grows for ever.
//!
//! Terms alternate between two slots that are written in place, so a torn write spoils at most the newer one, and a
//! full disk does not keep a server from leading (and so from serving what it has).

use std::fs::File;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::files;
use super::frame::{self, Fields, FileId, Kind, Parsed};
use crate::{StoreError, Term};

const NAME: &str = "leader";
const FILE: FileId = FileId::new(Kind::Leader, 0);
const SLOT_BYTES: usize = 512;
/// [`holder`] takes the lock for an instant to see whether it is free; nobody is refused because of that.
const LOCK_ATTEMPTS: u32 = 5;
const LOCK_PAUSE: Duration = Duration::from_millis(5);

/// The lock, held until dropped.
#[derive(Debug)]
pub(super) struct Leader {
    file: File,
    path: PathBuf,
}

impl Leader {
    /// Takes the lock. It belongs to the open file, so another handle of the same process is refused as another process
    /// is.
    pub(super) fn lock(dir: &Path) -> Result<Self, StoreError> {
        let path = dir.join(NAME);
        let file = files::open(&path, false)?;
        for attempt in 1.. {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => break,
                Err(Errno::WOULDBLOCK) if attempt < LOCK_ATTEMPTS => sleep(LOCK_PAUSE),
                Err(Errno::WOULDBLOCK) => {
                    let pid = files::read(&path)?.and_then(|bytes| newest(&bytes)).map(|slot| slot.pid);
                    return Err(StoreError::Locked { path: dir.to_owned(), pid });
                }
                Err(error) => return Err(StoreError::io("lock", &path)(error.into())),
            }
        }
        Ok(Self { file, path })
    }

    /// Takes the next term, durable before it is returned.
    pub(super) fn next_term(&self) -> Result<Term, StoreError> {
        let bytes = files::read(&self.path)?.unwrap_or_default();
        let last = newest(&bytes);
        if last.is_none() && bytes.len() > SLOT_BYTES {
            return Err(files::damaged(&self.path, 0, "no term can be read"));
        }
        let (term, slot) = last.map_or((1, 0), |slot| (slot.term + 1, 1 - slot.index));
        let mut payload = term.to_le_bytes().to_vec();
        payload.extend_from_slice(&std::process::id().to_le_bytes());
        let offset = slot * SLOT_BYTES;
        files::write_at(&self.file, &self.path, &frame::encode(&payload, FILE, offset as u64), offset as u64)?;
        self.file.sync_all().map_err(StoreError::io("synchronise", &self.path))?;
        Ok(Term(term))
    }
}

/// Who leads the store in `dir` at this moment, seen without keeping anybody from it and without a write: nobody, or a
/// process, with its id if it left it.
pub(super) fn holder(dir: &Path) -> Result<Option<Option<u32>>, StoreError> {
    let path = dir.join(NAME);
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(StoreError::io("open", &path)(error)),
    };
    match flock(&file, FlockOperation::NonBlockingLockShared) {
        Ok(()) => Ok(None),
        Err(Errno::WOULDBLOCK) => Ok(Some(files::read(&path)?.and_then(|bytes| newest(&bytes)).map(|slot| slot.pid))),
        Err(error) => Err(StoreError::io("lock", &path)(error.into())),
    }
}

struct Slot {
    index: usize,
    term: u64,
    pid: u32,
}

fn newest(bytes: &[u8]) -> Option<Slot> {
    (0..2).filter_map(|index| slot(bytes, index)).max_by_key(|slot| slot.term)
}

fn slot(bytes: &[u8], index: usize) -> Option<Slot> {
    let Parsed::Frame(range) = frame::parse(bytes, index * SLOT_BYTES, FILE) else {
        return None;
    };
    let mut fields = Fields(&bytes[range]);
    Some(Slot { index, term: fields.u64()?, pid: fields.u32()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_grow_over_reopening_and_over_a_torn_slot() {
        let dir = tempfile::tempdir().unwrap();
        for expected in 1..=5 {
            assert_eq!(Leader::lock(dir.path()).unwrap().next_term().unwrap(), Term(expected));
        }
        let path = dir.path().join(NAME);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[14] ^= 0xff;
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(
            Leader::lock(dir.path()).unwrap().next_term().unwrap(),
            Term(5),
            "the torn term was never returned to anybody"
        );
        std::fs::write(&path, vec![7; 2 * SLOT_BYTES]).unwrap();
        assert!(matches!(Leader::lock(dir.path()).unwrap().next_term(), Err(StoreError::Damaged { .. })));
    }

    #[test]
    fn the_refusal_names_the_holder() {
        let dir = tempfile::tempdir().unwrap();
        let held = Leader::lock(dir.path()).unwrap();
        held.next_term().unwrap();
        let error = Leader::lock(dir.path()).unwrap_err();
        assert!(matches!(error, StoreError::Locked { pid: Some(pid), .. } if pid == std::process::id()));
        assert_eq!(holder(dir.path()).unwrap(), Some(Some(std::process::id())));
        drop(held);
        assert_eq!(holder(dir.path()).unwrap(), None, "and seeing that took nothing");
        Leader::lock(dir.path()).unwrap();
    }
}
