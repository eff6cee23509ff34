//! The last acknowledged number, rewritten in place after every commit and never synchronised.
//!
//! It tells a torn tail (never acknowledged, cut off) from a damaged last record (acknowledged, refused). Whatever a
//! killed process acknowledged is in it; after a power failure it may lag behind, never run ahead, because the commit
//! was durable before it was written.

use std::fs::File;
use std::path::{Path, PathBuf};

use super::files;
use super::frame::{self, Fields, FileId, Kind, Parsed};
use crate::{CommitNumber, StoreError};

const NAME: &str = "mark";
const FILE: FileId = FileId::new(Kind::Mark, 0);

#[derive(Debug)]
pub(super) struct Mark {
    file: File,
    path: PathBuf,
}

impl Mark {
    /// Opens it for writing, and gives it its space while there may be some.
    pub(super) fn open(dir: &Path, number: CommitNumber) -> Result<Self, StoreError> {
        let path = dir.join(NAME);
        let mark = Self { file: files::open(&path, false)?, path };
        mark.set(number);
        Ok(mark)
    }

    /// The number it holds; 0 when it has none that can be read, which only weakens the check.
    pub(super) fn read(dir: &Path) -> Result<CommitNumber, StoreError> {
        let path = dir.join(NAME);
        let bytes = files::read(&path)?.unwrap_or_default();
        let number = match frame::parse(&bytes, 0, FILE) {
            Parsed::Frame(range) => Fields(&bytes[range]).u64(),
            Parsed::End => Some(0),
            Parsed::Bad(_) => None,
        };
        if number.is_none() {
            tracing::warn!(path = %path.display(), "the mark of the last acknowledged commit is unreadable; \
                 damage at the log's very end cannot be noticed this time");
        }
        Ok(CommitNumber(number.unwrap_or(0)))
    }

    pub(super) fn set(&self, number: CommitNumber) {
        let bytes = frame::encode(&number.0.to_le_bytes(), FILE, 0);
        if let Err(error) = files::write_at(&self.file, &self.path, &bytes, 0) {
            tracing::debug!(%error, "the mark stays behind");
        }
    }
}
