//! One file that holds a whole store, to be kept elsewhere: what a restore needs, and nothing of how the store arranges
//! its own files.
//!
//! It is a sequence of the store's frames (`magic f5 4c 53 fa, length, CRC-32, payload`; numbers are little-endian; the
//! checksum covers the frame's offset, so none can be moved). The payload's first byte says what it is, in this order:
//!
//! | | payload | how many |
//! |---|---|---|
//! | `H` | the text `longshore backup`, format (u32), commit number (u64) | one |
//! | `A` | mode (u32), length of the name (u32), name, content: a small file that belongs to the store | any |
//! | `B` | entities in key order: length of key (u32), length of value (u32), key, value | any |
//! | `F` | number of entities (u64), CRC-32 of everything before this frame (u32) | one, at the very end |
//!
//! A backup that was cut off has no `F`, and parts of two backups do not share its checksum: both are refused.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{BufReader, BufWriter, Read, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use crc32fast::Hasher;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use super::files;
use super::frame::{self, Fields, FileId, Kind};
use super::snapshot::Snapshot;
use crate::{CommitNumber, Each, StoreError};

/// The format of backups. A release reads its own and all older ones.
pub const FORMAT: u32 = 1;

const FILE: FileId = FileId::new(Kind::Backup, 0);
const TITLE: &[u8] = b"longshore backup";
const BLOCK_BYTES: usize = 64 << 10;
/// Keys and certificates are a few kilobytes; what is larger does not belong into a backup.
const MAX_ATTACHMENT_BYTES: usize = 1 << 20;
const MAX_ATTACHMENTS: usize = 64;

const HEADER: u8 = b'H';
const ATTACHMENT: u8 = b'A';
const BLOCK: u8 = b'B';
const FOOTER: u8 = b'F';

/// A small file that goes with the store.
#[derive(Clone, PartialEq, Eq)]
pub struct Attachment {
    /// Its path in the data directory.
    pub name: String,
    /// Its permission bits.
    pub mode: u32,
    /// What is in it; perhaps a secret.
    pub content: Vec<u8>,
}

impl fmt::Debug for Attachment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attachment").field("name", &self.name).finish_non_exhaustive()
    }
}

/// What a backup holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Everything up to this commit is in it, and nothing after it.
    pub number: CommitNumber,
    /// How many entities.
    pub entities: u64,
    /// The size of the file.
    pub file_bytes: u64,
    /// The files beside the store.
    pub attachments: Vec<Attachment>,
}

/// Writes a backup of the store in `dir` to the file `target`, for its owner's eyes only. A server may use the store
/// meanwhile: the backup then holds all that was acknowledged before the call, and perhaps some of what came during it,
/// always a prefix of the commits.
///
/// `target` appears when it is complete and durable; until then its name is free, or is an older file's if `replace` is
/// given.
///
/// # Errors
/// [`StoreError::NoStore`], [`StoreError::Damaged`], [`StoreError::BackupExists`], or what the system refused.
pub fn create(dir: &Path, target: &Path, attachments: Vec<Attachment>, replace: bool) -> Result<Summary, StoreError> {
    let exists = || StoreError::BackupExists { path: target.to_owned() };
    if !replace && target.symlink_metadata().is_ok() {
        return Err(exists());
    }
    let limit = MAX_ATTACHMENT_BYTES;
    if let Some(Attachment { name, content, .. }) = attachments.iter().find(|file| file.content.len() > limit) {
        let (name, bytes, limit) = (name.clone(), content.len() as u64, limit as u64);
        return Err(StoreError::AttachmentTooLarge { name, bytes, limit });
    }
    let snapshot = Snapshot::now(dir)?.ok_or_else(|| StoreError::NoStore { path: dir.to_owned() })?;
    let temporary = temporary(target);
    let written = Writer::create(&temporary).and_then(|writer| writer.write(&snapshot, attachments));
    let moved = written.and_then(|summary| {
        move_into_place(&temporary, target, replace).map_err(|error| match error {
            Errno::EXIST => exists(),
            error => StoreError::io("write", target)(error.into()),
        })?;
        files::sync_dir(folder(target))?;
        Ok(summary)
    });
    moved.inspect_err(|_| files::remove(&temporary))
}

fn move_into_place(temporary: &Path, target: &Path, replace: bool) -> Result<(), Errno> {
    let flags = if replace { RenameFlags::empty() } else { RenameFlags::NOREPLACE };
    match renameat_with(CWD, temporary, CWD, target, flags) {
        // Not every file system knows the flag; that the name was free was seen a moment ago.
        Err(Errno::INVAL) => renameat_with(CWD, temporary, CWD, target, RenameFlags::empty()),
        result => result,
    }
}

/// Beside the target, so that it can be renamed; of this process alone.
fn temporary(target: &Path) -> PathBuf {
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    target.with_file_name(format!(".{name}.{}.tmp", std::process::id()))
}

fn folder(file: &Path) -> &Path {
    file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// A backup being written.
struct Writer {
    out: BufWriter<File>,
    path: PathBuf,
    offset: u64,
    /// Of everything written.
    hasher: Hasher,
    frame: Vec<u8>,
}

impl Writer {
    fn create(path: &Path) -> Result<Self, StoreError> {
        // A process with our number that was killed left it; nobody else uses the name.
        let _ = fs::remove_file(path);
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
        let file = file.map_err(StoreError::io("create", path))?;
        Ok(Self {
            out: BufWriter::new(file),
            path: path.to_owned(),
            offset: 0,
            hasher: Hasher::new(),
            frame: Vec::with_capacity(BLOCK_BYTES + 4096),
        })
    }

    fn write(mut self, snapshot: &Snapshot, attachments: Vec<Attachment>) -> Result<Summary, StoreError> {
        let number = snapshot.scan()?.last;
        self.begin(HEADER);
        self.frame.extend_from_slice(TITLE);
        self.frame.extend_from_slice(&FORMAT.to_le_bytes());
        self.frame.extend_from_slice(&number.0.to_le_bytes());
        self.finish()?;
        for Attachment { name, mode, content } in &attachments {
            self.begin(ATTACHMENT);
            self.frame.extend_from_slice(&mode.to_le_bytes());
            self.put_len(name.len());
            self.frame.extend_from_slice(name.as_bytes());
            self.frame.extend_from_slice(content);
            self.finish()?;
        }
        let mut entities = 0_u64;
        snapshot.merge(&mut |key, value| {
            entities += 1;
            if self.frame.is_empty() {
                self.begin(BLOCK);
            }
            self.put_len(key.len());
            self.put_len(value.len());
            self.frame.extend_from_slice(key);
            self.frame.extend_from_slice(value);
            if self.frame.len() >= BLOCK_BYTES { self.finish() } else { Ok(()) }
        })?;
        if !self.frame.is_empty() {
            self.finish()?;
        }
        let crc = self.hasher.clone().finalize();
        self.begin(FOOTER);
        self.frame.extend_from_slice(&entities.to_le_bytes());
        self.frame.extend_from_slice(&crc.to_le_bytes());
        self.finish()?;
        self.out.flush().map_err(StoreError::io("write to", &self.path))?;
        self.out.get_ref().sync_all().map_err(StoreError::io("synchronise", &self.path))?;
        Ok(Summary { number, entities, file_bytes: self.offset, attachments })
    }

    fn begin(&mut self, kind: u8) {
        frame::begin(&mut self.frame);
        self.frame.push(kind);
    }

    /// What came out of a store's frame fits a frame.
    fn put_len(&mut self, len: usize) {
        self.frame.extend_from_slice(&u32::try_from(len).unwrap_or(u32::MAX).to_le_bytes());
    }

    fn finish(&mut self) -> Result<(), StoreError> {
        frame::finish(&mut self.frame, 0, FILE, self.offset);
        self.out.write_all(&self.frame).map_err(StoreError::io("write to", &self.path))?;
        self.hasher.update(&self.frame);
        self.offset += self.frame.len() as u64;
        self.frame.clear();
        Ok(())
    }
}

/// Reads the backup `file` from its first byte to its last, checking all of it, and gives every entity to `each`, in key
/// order. What `each` was given counts only if this succeeds.
///
/// # Errors
/// [`StoreError::BadBackup`], [`StoreError::NewerBackup`], what the system refused, or what `each` answered.
pub fn read<E: From<StoreError>>(file: &Path, each: &mut Each<'_, E>) -> Result<Summary, E> {
    let input = File::open(file).map_err(StoreError::io("open", file))?;
    let mut reader = Reader {
        input: BufReader::new(input),
        path: file.to_owned(),
        at: 0,
        offset: 0,
        hasher: Hasher::new(),
        payload: Vec::new(),
    };
    let mut summary = reader.header()?;
    // Greater than no key, so that the first one may be empty.
    let mut last_key: Option<Vec<u8>> = None;
    loop {
        let crc = reader.hasher.clone().finalize();
        match reader.next()? {
            ATTACHMENT if last_key.is_none() && summary.attachments.len() < MAX_ATTACHMENTS => {
                let attachment = attachment(&reader.payload[1..]);
                summary.attachments.push(attachment.ok_or_else(|| reader.bad("an attached file is cut short"))?);
            }
            BLOCK => {
                let mut fields = Fields(&reader.payload[1..]);
                while !fields.0.is_empty() {
                    let (key, value) = entity(&mut fields).ok_or_else(|| reader.bad("an entity is cut short"))?;
                    if last_key.as_deref().is_some_and(|last| last >= key) {
                        return Err(reader.bad("the entities are out of order").into());
                    }
                    let last = last_key.get_or_insert_default();
                    last.clear();
                    last.extend_from_slice(key);
                    summary.entities += 1;
                    each(key, value)?;
                }
            }
            FOOTER => {
                let mut fields = Fields(&reader.payload[1..]);
                if (fields.u64(), fields.u32()) != (Some(summary.entities), Some(crc)) {
                    return Err(reader.bad("the records are not those that were written together").into());
                }
                reader.expect_end()?;
                summary.file_bytes = reader.offset;
                return Ok(summary);
            }
            _ => return Err(reader.bad("a record of unknown kind").into()),
        }
    }
}

fn attachment(payload: &[u8]) -> Option<Attachment> {
    let mut fields = Fields(payload);
    let (mode, name_len) = (fields.u32()?, fields.u32()?);
    let name = String::from_utf8(fields.bytes(name_len as usize)?.to_vec()).ok()?;
    (fields.0.len() <= MAX_ATTACHMENT_BYTES).then(|| Attachment { name, mode, content: fields.0.to_vec() })
}

fn entity<'a>(fields: &mut Fields<'a>) -> Option<(&'a [u8], &'a [u8])> {
    let (key_len, value_len) = (fields.u32()?, fields.u32()?);
    Some((fields.bytes(key_len as usize)?, fields.bytes(value_len as usize)?))
}

/// A backup being read.
struct Reader {
    input: BufReader<File>,
    path: PathBuf,
    /// Where the current record begins.
    at: u64,
    /// Where the next one does.
    offset: u64,
    hasher: Hasher,
    payload: Vec<u8>,
}

impl Reader {
    fn header(&mut self) -> Result<Summary, StoreError> {
        let no_backup = |path: &Path| StoreError::BadBackup {
            file: path.to_owned(),
            offset: 0,
            detail: "it does not begin as a backup does".to_owned(),
        };
        let kind = self.next().map_err(|error| match error {
            StoreError::BadBackup { .. } => no_backup(&self.path),
            other => other,
        })?;
        let Some(rest) = self.payload[1..].strip_prefix(TITLE).filter(|_| kind == HEADER) else {
            return Err(no_backup(&self.path));
        };
        let mut fields = Fields(rest);
        let found = fields.u32().ok_or_else(|| no_backup(&self.path))?;
        if found > FORMAT {
            return Err(StoreError::NewerBackup { file: self.path.clone(), found, supported: FORMAT });
        }
        let number = fields.u64().map(CommitNumber).ok_or_else(|| no_backup(&self.path))?;
        Ok(Summary { number, ..Summary::default() })
    }

    /// Reads the next record, and returns its kind.
    fn next(&mut self) -> Result<u8, StoreError> {
        self.at = self.offset;
        let mut header = [0; frame::HEADER_BYTES];
        self.fill(&mut header)?;
        let (len, crc) = frame::parse_header(&header).map_err(|why| self.bad(why))?;
        let mut payload = std::mem::take(&mut self.payload);
        payload.resize(len as usize, 0);
        self.fill(&mut payload)?;
        self.payload = payload;
        frame::verify(&self.payload, crc, FILE, self.at).map_err(|why| self.bad(why))?;
        self.payload.first().copied().ok_or_else(|| self.bad("the record is empty"))
    }

    fn fill(&mut self, into: &mut [u8]) -> Result<(), StoreError> {
        match self.input.read_exact(into) {
            Ok(()) => {
                self.hasher.update(into);
                self.offset += into.len() as u64;
                Ok(())
            }
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                Err(self.bad("the file ends before its last record: it was cut off"))
            }
            Err(error) => Err(StoreError::io("read", &self.path)(error)),
        }
    }

    fn expect_end(&mut self) -> Result<(), StoreError> {
        self.at = self.offset;
        match self.input.read(&mut [0]) {
            Ok(0) => Ok(()),
            Ok(_) => Err(self.bad("something follows the last record")),
            Err(error) => Err(StoreError::io("read", &self.path)(error)),
        }
    }

    fn bad(&self, detail: &str) -> StoreError {
        StoreError::BadBackup { file: self.path.clone(), offset: self.at, detail: detail.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backup_of_a_newer_format_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("backup");
        let mut payload = vec![HEADER];
        payload.extend_from_slice(TITLE);
        payload.extend_from_slice(&(FORMAT + 1).to_le_bytes());
        fs::write(&file, frame::encode(&payload, FILE, 0)).unwrap();
        let error = read(&file, &mut |_, _| Ok::<_, StoreError>(())).unwrap_err();
        assert!(error.to_string().contains("has format 2, this release reads up to 1"), "{error}");
    }
}
