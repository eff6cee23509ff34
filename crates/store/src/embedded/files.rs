//! Names and system calls: private modes, and directory entries that survive a power failure.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use crate::StoreError;

/// Makes what was written to a file durable. A field wherever it is called, so that tests can let it fail.
pub(super) type Sync = fn(&File) -> std::io::Result<()>;

/// What the names of log segments begin with.
pub(super) const LOG: &str = "log-";
/// What the names of runs begin with.
pub(super) const RUN: &str = "run-";

pub(super) fn log_path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{LOG}{number:016x}"))
}

pub(super) fn run_path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{RUN}{number:016x}"))
}

/// The numbers of all files named `prefix` and sixteen hexadecimal digits, ascending.
pub(super) fn numbers(dir: &Path, prefix: &str) -> Result<Vec<u64>, StoreError> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(dir).map_err(StoreError::io("list", dir))? {
        let name = entry.map_err(StoreError::io("list", dir))?.file_name();
        let digits = name.to_str().and_then(|name| name.strip_prefix(prefix)).filter(|digits| digits.len() == 16);
        numbers.extend(digits.and_then(|digits| u64::from_str_radix(digits, 16).ok()));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// Creates `dir` and its missing parents, readable by nobody else, and makes the new entry durable. An existing
/// directory keeps its mode.
pub(super) fn create_dir(dir: &Path) -> Result<(), StoreError> {
    if dir.is_dir() {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(StoreError::io("create the directory", dir))?;
    match dir.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => sync_dir(parent),
        _ => sync_dir(Path::new(".")),
    }
}

/// Makes created, renamed and removed entries of `dir` durable.
pub(super) fn sync_dir(dir: &Path) -> Result<(), StoreError> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(StoreError::io("synchronise the directory", dir))
}

/// Opens `path` to read and write, private to this user, created if missing, emptied if `truncate`.
pub(super) fn open(path: &Path, truncate: bool) -> Result<File, StoreError> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(truncate)
        .mode(0o600)
        .open(path)
        .map_err(StoreError::io("open", path))
}

pub(super) fn write_at(file: &File, path: &Path, bytes: &[u8], offset: u64) -> Result<(), StoreError> {
    file.write_all_at(bytes, offset).map_err(StoreError::io("write to", path))
}

/// The whole content, or `None` when there is no such file.
pub(super) fn read(path: &Path) -> Result<Option<Vec<u8>>, StoreError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(StoreError::io("read", path)(error)),
    }
}

/// Where what is to replace `name` is made.
pub(super) fn next_path(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!("{name}.new"))
}

/// Replaces `name` in `dir` as a whole: after a crash the old content is there, or the new one, durable.
pub(super) fn replace(dir: &Path, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
    let path = dir.join(name);
    let next = next_path(dir, name);
    let file = open(&next, true)?;
    write_at(&file, &next, bytes, 0)?;
    file.sync_all().map_err(StoreError::io("synchronise", &next))?;
    fs::rename(&next, &path).map_err(StoreError::io("replace", &path))?;
    sync_dir(dir)
}

/// Refuses when a rewrite of `bytes` would leave hardly any room: a rewrite that can wait must not be what makes
/// commits fail.
pub(super) fn expect_room(dir: &Path, bytes: u64) -> Result<(), StoreError> {
    let disk =
        rustix::fs::statvfs(dir).map_err(|error| StoreError::io("ask the size of the disk of", dir)(error.into()))?;
    if disk.f_bavail.saturating_mul(disk.f_frsize) >= bytes + bytes / 4 {
        return Ok(());
    }
    Err(StoreError::io("rewrite files in", dir)(std::io::ErrorKind::StorageFull.into()))
}

/// Removes a file that nothing refers to any more. One that stays is found and removed at the next start, so failing
/// here is no error.
pub(super) fn remove(path: &Path) {
    if let Err(error) = fs::remove_file(path) {
        tracing::debug!(path = %path.display(), %error, "a superseded file stays until the next start");
    }
}

pub(super) fn damaged(file: &Path, offset: usize, detail: impl Into<String>) -> StoreError {
    StoreError::Damaged { file: file.to_owned(), offset: offset as u64, detail: detail.into() }
}
