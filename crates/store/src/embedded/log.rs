//! The log: numbered segments of batches, in the order of their commits. Every commit is one frame, one write and one
//! synchronisation here.
//!
//! Each frame names the number that it follows, and a segment's first frame the number that the segment goes on from: a
//! missing frame or a missing segment breaks the chain. Only the newest segment is written, in space made one step
//! ahead (zeros), so that a synchronisation need not also record a new file size.

use std::fs::File;
use std::path::{Path, PathBuf};

use super::files::{self, Sync};
use super::frame::{self, Fields, FileId, Kind, Parsed};
use crate::{Batch, CommitNumber, StoreError, Write};

/// How far ahead of its content a segment is extended. Small, because it is read at start.
const STEP_BYTES: u64 = 1 << 20;
/// Up to this size of a batch the step ahead is really written, with zeros: a synchronisation then finds its blocks in
/// place and the file system has nothing of its own to record, which is most of what a single small commit waits for.
/// Larger batches would pay more for the zeros than they save.
const ZEROED_BATCH_BYTES: usize = 64 << 10;
/// The encoding buffer is kept between commits up to this size; one huge batch does not cost memory for good.
const KEPT_BUFFER_BYTES: usize = 1 << 20;

const PUT: u8 = 1;
const DELETE: u8 = 2;

/// A write as it lies in a buffer: the value is `None` for a deletion.
pub(super) type Entry<'a> = (&'a [u8], Option<&'a [u8]>);

fn id(number: u64) -> FileId {
    FileId::new(Kind::Log, number)
}

/// The newest segment, open for appending.
#[derive(Debug)]
pub(super) struct Log {
    file: File,
    path: PathBuf,
    number: u64,
    /// Everything before this offset is valid and synchronised; nothing after it counts.
    len: u64,
    /// The file's size.
    capacity: u64,
    /// The number of the last group that is durable.
    last: CommitNumber,
    buffer: Vec<u8>,
    config: Config,
}

/// How segments are made and synchronised.
#[derive(Clone, Copy, Debug)]
pub(super) struct Config {
    pub(super) segment_bytes: u64,
    pub(super) sync: Sync,
}

impl Config {
    /// Never further ahead than a segment is long.
    fn step(self) -> u64 {
        self.segment_bytes.clamp(4 << 10, STEP_BYTES)
    }
}

/// How an append ended, other than well.
#[derive(Debug)]
pub(super) enum AppendError {
    /// Nothing of the batch is in the file.
    Clean(StoreError),
    /// Some of it may be, or become, durable.
    Doubtful(StoreError),
}

impl Log {
    /// Begins segment `number`, which goes on from `after`. Whatever a failed attempt left under that name is
    /// overwritten.
    pub(super) fn create(dir: &Path, number: u64, after: CommitNumber, config: Config) -> Result<Self, StoreError> {
        let path = files::log_path(dir, number);
        let file = files::open(&path, true)?;
        let header = frame::encode(&after.0.to_le_bytes(), id(number), 0);
        files::write_at(&file, &path, &header, 0)?;
        (config.sync)(&file).map_err(StoreError::io("synchronise", &path))?;
        files::sync_dir(dir)?;
        let len = header.len() as u64;
        Ok(Self { file, path, number, len, capacity: len, last: after, buffer: Vec::new(), config })
    }

    /// Goes on with a segment that was scanned: cuts off what follows its valid part, and settles on disk what was read
    /// from the cache.
    pub(super) fn resume(dir: &Path, number: u64, scan: &Scan, config: Config) -> Result<Self, StoreError> {
        let path = files::log_path(dir, number);
        let file = files::open(&path, false)?;
        let len = scan.len as u64;
        let log = Self { file, path, number, len, capacity: len, last: scan.last, buffer: Vec::new(), config };
        log.cut()?;
        Ok(log)
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }

    pub(super) fn len(&self) -> u64 {
        self.len
    }

    pub(super) fn last(&self) -> CommitNumber {
        self.last
    }

    /// Takes away whatever lies after the valid part, durably.
    fn cut(&self) -> Result<(), StoreError> {
        self.file.set_len(self.len).map_err(StoreError::io("shorten", &self.path))?;
        (self.config.sync)(&self.file).map_err(StoreError::io("synchronise", &self.path))
    }

    /// Makes `batch` durable. Its numbers were checked.
    pub(super) fn append(&mut self, batch: &Batch) -> Result<(), AppendError> {
        let bytes = self.encode(batch).map_err(AppendError::Clean)?;
        let end = self.len + bytes;
        if let Err(error) = self.write(end) {
            // A part of the frame is no frame, so it is enough that the next one does not begin behind it.
            self.capacity = self.len;
            return Err(match self.file.set_len(self.len) {
                Ok(()) => AppendError::Clean(error),
                Err(_) => AppendError::Doubtful(error),
            });
        }
        if let Err(error) = (self.config.sync)(&self.file) {
            // The system may have dropped the pages that it could not write, so asking again would prove nothing.
            // Cutting is worth a try: it spares the next reader a batch that only the cache has.
            let error = StoreError::io("synchronise", &self.path)(error);
            if let Err(cut) = self.cut() {
                tracing::warn!(error = %cut, "a batch of unknown outcome could not be cut off yet");
            }
            return Err(AppendError::Doubtful(error));
        }
        self.len = end;
        self.last = batch.last_number().unwrap_or(self.last);
        if self.buffer.capacity() > KEPT_BUFFER_BYTES {
            self.buffer = Vec::new();
        }
        Ok(())
    }

    fn write(&mut self, end: u64) -> Result<(), StoreError> {
        if end > self.capacity {
            let capacity = end.next_multiple_of(self.config.step());
            if self.buffer.len() <= ZEROED_BATCH_BYTES {
                let zeros = vec![0; usize::try_from(capacity - self.len).unwrap_or(0)];
                if let Err(error) = files::write_at(&self.file, &self.path, &zeros, self.len) {
                    tracing::debug!(%error, "no room for the step ahead; perhaps there is for the batch");
                }
            }
            self.file.set_len(capacity).map_err(StoreError::io("extend", &self.path))?;
            self.capacity = capacity;
        }
        files::write_at(&self.file, &self.path, &self.buffer, self.len)
    }

    /// Gives back the space ahead, once nothing more is to be written. Zeros that stay do no harm.
    pub(super) fn complete(&self) {
        if let Err(error) = self.file.set_len(self.len) {
            tracing::debug!(%error, "a full segment keeps its unused end");
        }
    }

    /// Encodes into the buffer and returns the frame's size.
    fn encode(&mut self, batch: &Batch) -> Result<u64, StoreError> {
        let payload = payload_bytes(batch);
        let limit = frame::MAX_PAYLOAD_BYTES as u64;
        if payload > limit {
            return Err(StoreError::BatchTooLarge { bytes: payload, limit });
        }
        let out = &mut self.buffer;
        out.clear();
        let start = frame::begin(out);
        out.extend_from_slice(&self.last.0.to_le_bytes());
        put_len(out, batch.groups.len());
        for group in &batch.groups {
            out.extend_from_slice(&group.number.0.to_le_bytes());
            put_len(out, group.writes.len());
            for write in &group.writes {
                put_write(out, write);
            }
        }
        frame::finish(out, start, id(self.number), self.len);
        Ok(out.len() as u64)
    }
}

fn payload_bytes(batch: &Batch) -> u64 {
    let writes = batch.groups.iter().flat_map(|group| &group.writes);
    let content: usize = writes
        .map(|write| match write {
            Write::Put { key, value } => 9 + key.len() + value.len(),
            Write::Delete { key } => 5 + key.len(),
        })
        .sum();
    (12 + batch.groups.len() * 12 + content) as u64
}

/// Lengths fit: the whole batch was bounded first.
fn put_len(out: &mut Vec<u8>, len: usize) {
    out.extend_from_slice(&u32::try_from(len).unwrap_or(u32::MAX).to_le_bytes());
}

fn put_write(out: &mut Vec<u8>, write: &Write) {
    match write {
        Write::Put { key, value } => {
            out.push(PUT);
            put_len(out, key.len());
            put_len(out, value.len());
            out.extend_from_slice(key);
            out.extend_from_slice(value);
        }
        Write::Delete { key } => {
            out.push(DELETE);
            put_len(out, key.len());
            out.extend_from_slice(key);
        }
    }
}

/// What a segment holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Scan {
    /// Bytes of the valid part: where the next frame goes.
    pub(super) len: usize,
    /// The number of the last group in it, or the number that it goes on from.
    pub(super) last: CommitNumber,
    /// Bytes after that which are no record and not empty either: a batch that was being written when the machine
    /// stopped, and that nobody was promised.
    pub(super) torn: usize,
}

/// Whether a segment may end in a batch that was being written when the machine stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tail {
    /// The newest segment.
    MayBeTorn,
    /// An older one: it was complete before the next one began.
    Complete,
}

/// Whether `bytes`, the newest segment, is one that was never begun: a crash came before its first frame was whole, so
/// it holds no commit.
pub(super) fn never_begun(bytes: &[u8], number: u64) -> bool {
    !matches!(frame::parse(bytes, 0, id(number)), Parsed::Frame(_)) && frame::find(bytes, 0, id(number)).is_none()
}

/// Reads all batches of segment `number`, which must go on from `after` if that is given, and gives every write in
/// order to `each`.
pub(super) fn scan<'a>(
    bytes: &'a [u8],
    path: &Path,
    number: u64,
    after: Option<CommitNumber>,
    tail: Tail,
    each: &mut dyn FnMut(Entry<'a>),
) -> Result<Scan, StoreError> {
    let file = id(number);
    let Parsed::Frame(header) = frame::parse(bytes, 0, file) else {
        return Err(files::damaged(path, 0, "the segment's first record is unreadable"));
    };
    let begins = Fields(&bytes[header.clone()]).u64().map(CommitNumber);
    let Some(begins) = begins.filter(|&begins| after.is_none_or(|after| begins == after)) else {
        let expected = after.unwrap_or_default();
        return Err(files::damaged(path, 0, format!("the segment does not go on from commit number {expected}")));
    };
    let mut scan = Scan { len: header.end, last: begins, torn: 0 };
    loop {
        match frame::parse(bytes, scan.len, file) {
            Parsed::Frame(range) => {
                let end = range.end;
                let last = decode(&bytes[range], scan.last, each).ok_or_else(|| {
                    files::damaged(
                        path,
                        scan.len,
                        format!("the record does not go on from commit number {}", scan.last),
                    )
                })?;
                scan = Scan { len: end, last, torn: 0 };
            }
            Parsed::End => return Ok(scan),
            Parsed::Bad(why) if tail == Tail::Complete => {
                return Err(files::damaged(path, scan.len, why));
            }
            Parsed::Bad(why) => match frame::find(bytes, scan.len + 1, file) {
                Some(next) => {
                    return Err(files::damaged(
                        path,
                        scan.len,
                        format!("{why}, and a valid record follows at byte {next}"),
                    ));
                }
                None => {
                    let used = bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
                    return Ok(Scan { torn: used.saturating_sub(scan.len), ..scan });
                }
            },
        }
    }
}

/// The number that the first valid record at or after `from` follows: what lies before it and is unreadable held the
/// commits up to that number.
pub(super) fn resumes_after(bytes: &[u8], from: usize, number: u64) -> Option<CommitNumber> {
    let at = frame::find(bytes, from, id(number))?;
    match frame::parse(bytes, at, id(number)) {
        Parsed::Frame(range) => Fields(&bytes[range]).u64().map(CommitNumber),
        Parsed::End | Parsed::Bad(_) => None,
    }
}

/// Gives each write of one batch to `each`; `None` when the payload is not a batch that goes on from `last`.
fn decode<'a>(payload: &'a [u8], mut last: CommitNumber, each: &mut dyn FnMut(Entry<'a>)) -> Option<CommitNumber> {
    let mut fields = Fields(payload);
    if fields.u64()? != last.0 {
        return None;
    }
    for _ in 0..fields.u32()? {
        let number = CommitNumber(fields.u64()?);
        if number <= last {
            return None;
        }
        last = number;
        for _ in 0..fields.u32()? {
            each(take_write(&mut fields)?);
        }
    }
    fields.0.is_empty().then_some(last)
}

fn take_write<'a>(fields: &mut Fields<'a>) -> Option<Entry<'a>> {
    match fields.bytes(1)? {
        [PUT] => {
            let (key_len, value_len) = (fields.u32()?, fields.u32()?);
            Some((fields.bytes(key_len as usize)?, Some(fields.bytes(value_len as usize)?)))
        }
        [DELETE] => {
            let key_len = fields.u32()?;
            Some((fields.bytes(key_len as usize)?, None))
        }
        _ => None,
    }
}

/// The last write of every key of a segment, in key order.
#[derive(Debug)]
pub(super) struct Sorted<'a> {
    pub(super) entries: Vec<Entry<'a>>,
}

impl<'a> Sorted<'a> {
    /// Sorts writes that come in the order of their commits.
    pub(super) fn new(mut entries: Vec<Entry<'a>>) -> Self {
        // Newest first within a key, then only the first of each key is kept.
        entries.reverse();
        entries.sort_by_key(|entry| entry.0);
        entries.dedup_by_key(|entry| entry.0);
        Self { entries }
    }
}
