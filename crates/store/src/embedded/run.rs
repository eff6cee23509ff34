//! Sorted runs: immutable files of entities in key order, written once by folding log segments or merging older runs,
//! and read only from end to end.
//!
//! Blocks of about 64 KiB, each a frame; a last frame says how many entries there must have been. A deletion is an
//! entry without a value, which hides the key in older runs.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::files;
use super::frame::{self, Fields, FileId, Kind};
use super::log::Entry;
use super::manifest::RunInfo;
use crate::StoreError;

const BLOCK_BYTES: usize = 64 << 10;
/// In place of a value's length: the key is deleted.
const DELETED: u32 = u32::MAX;
const BLOCK: u8 = b'B';
const FOOTER: u8 = b'F';

/// Writes a run; nothing refers to it until [`Writer::finish`] has returned and a manifest names it.
#[derive(Debug)]
pub(super) struct Writer {
    file: File,
    path: PathBuf,
    id: FileId,
    offset: u64,
    entries: u64,
    /// The frame being filled; empty between blocks.
    block: Vec<u8>,
}

impl Writer {
    pub(super) fn create(dir: &Path, number: u64) -> Result<Self, StoreError> {
        let path = files::run_path(dir, number);
        let file = files::open(&path, true)?;
        Ok(Self {
            file,
            path,
            id: FileId::new(Kind::Run, number),
            offset: 0,
            entries: 0,
            block: Vec::with_capacity(BLOCK_BYTES + 4096),
        })
    }

    /// Adds an entry; keys strictly ascend.
    pub(super) fn push(&mut self, (key, value): Entry<'_>) -> Result<(), StoreError> {
        if self.block.is_empty() {
            frame::begin(&mut self.block);
            self.block.push(BLOCK);
        }
        let len = |len: usize| u32::try_from(len).unwrap_or(DELETED).to_le_bytes();
        self.block.extend_from_slice(&len(key.len()));
        self.block.extend_from_slice(&value.map_or(DELETED.to_le_bytes(), |value| len(value.len())));
        self.block.extend_from_slice(key);
        self.block.extend_from_slice(value.unwrap_or_default());
        self.entries += 1;
        if self.block.len() >= BLOCK_BYTES { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), StoreError> {
        if self.block.is_empty() {
            return Ok(());
        }
        frame::finish(&mut self.block, 0, self.id, self.offset);
        files::write_at(&self.file, &self.path, &self.block, self.offset)?;
        self.offset += self.block.len() as u64;
        self.block.clear();
        Ok(())
    }

    /// Completes the run and makes it durable. `None`, and no file, when it would hold nothing.
    pub(super) fn finish(mut self) -> Result<Option<RunInfo>, StoreError> {
        if self.entries == 0 {
            files::remove(&self.path);
            return Ok(None);
        }
        self.flush()?;
        frame::begin(&mut self.block);
        self.block.push(FOOTER);
        self.block.extend_from_slice(&self.entries.to_le_bytes());
        self.flush()?;
        self.file.sync_all().map_err(StoreError::io("synchronise", &self.path))?;
        Ok(Some(RunInfo { number: self.id.number, bytes: self.offset }))
    }
}

/// A run that is open: it can be read as often as needed, also after the compaction has removed its name.
#[derive(Clone, Debug)]
pub(super) struct RunFile {
    file: Arc<File>,
    path: PathBuf,
    number: u64,
}

impl RunFile {
    /// Opens the file that the manifest names.
    pub(super) fn open(dir: &Path, run: &RunInfo) -> Result<Self, StoreError> {
        let path = files::run_path(dir, run.number);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(files::damaged(&path, 0, "the file is missing"));
            }
            Err(error) => return Err(StoreError::io("open", &path)(error)),
        };
        let bytes = file.metadata().map_err(StoreError::io("read", &path))?.len();
        if bytes != run.bytes {
            return Err(files::damaged(&path, 0, format!("the file has {bytes} bytes instead of {}", run.bytes)));
        }
        Ok(Self { file: Arc::new(file), path, number: run.number })
    }

    /// A reader that stands on the first entry.
    pub(super) fn reader(&self) -> Result<Reader, StoreError> {
        let mut reader = Reader {
            file: Arc::clone(&self.file),
            path: self.path.clone(),
            id: FileId::new(Kind::Run, self.number),
            offset: 0,
            block: Vec::new(),
            key: 0..0,
            value: None,
            next: 0,
            seen: 0,
            done: false,
        };
        reader.read_block()?;
        reader.advance()?;
        Ok(reader)
    }
}

/// Reads a run from its first entry to its last, checking all of it on the way.
#[derive(Debug)]
pub(super) struct Reader {
    file: Arc<File>,
    path: PathBuf,
    id: FileId,
    offset: u64,
    block: Vec<u8>,
    /// The current entry in `block`: its key, its value, and where the next entry begins. `None` at the end.
    key: std::ops::Range<usize>,
    value: Option<std::ops::Range<usize>>,
    next: usize,
    seen: u64,
    done: bool,
}

impl Reader {
    /// How many entries were stepped on so far; deletions count.
    pub(super) fn seen(&self) -> u64 {
        self.seen
    }

    /// The entry it stands on.
    pub(super) fn peek(&self) -> Option<Entry<'_>> {
        (!self.done).then(|| (&self.block[self.key.clone()], self.value.clone().map(|value| &self.block[value])))
    }

    /// Steps to the next entry.
    pub(super) fn advance(&mut self) -> Result<(), StoreError> {
        while !self.done && self.next == self.block.len() {
            self.read_block()?;
        }
        if self.done {
            return Ok(());
        }
        let mut fields = Fields(&self.block[self.next..]);
        let lens = fields.u32().zip(fields.u32());
        let entry = lens.and_then(|(key, value)| {
            let key_at = self.next + 8;
            let value_at = key_at + key as usize;
            let end = if value == DELETED { value_at } else { value_at + value as usize };
            (end <= self.block.len()).then_some((key_at..value_at, (value != DELETED).then_some(value_at..end), end))
        });
        let Some((key, value, end)) = entry else {
            return Err(self.damaged("an entry is cut short"));
        };
        (self.key, self.value, self.next) = (key, value, end);
        self.seen += 1;
        Ok(())
    }

    fn read_block(&mut self) -> Result<(), StoreError> {
        let mut header = [0; frame::HEADER_BYTES];
        self.fill(&mut header, self.offset)?;
        let (len, crc) = frame::parse_header(&header).map_err(|why| self.damaged(why))?;
        let mut block = std::mem::take(&mut self.block);
        block.resize(len as usize, 0);
        self.fill(&mut block, self.offset + frame::HEADER_BYTES as u64)?;
        self.block = block;
        frame::verify(&self.block, crc, self.id, self.offset).map_err(|why| self.damaged(why))?;
        match self.block.split_first() {
            Some((&BLOCK, _)) => self.next = 1,
            Some((&FOOTER, count)) if Fields(count).u64() == Some(self.seen) => self.done = true,
            _ => return Err(self.damaged("the number of entries is not the one that was written")),
        }
        self.offset += (frame::HEADER_BYTES + len as usize) as u64;
        Ok(())
    }

    fn fill(&self, into: &mut [u8], offset: u64) -> Result<(), StoreError> {
        match self.file.read_exact_at(into, offset) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                Err(self.damaged("the file ends inside a record"))
            }
            Err(error) => Err(StoreError::io("read", &self.path)(error)),
        }
    }

    fn damaged(&self, detail: &str) -> StoreError {
        StoreError::Damaged { file: self.path.clone(), offset: self.offset, detail: detail.to_owned() }
    }
}
