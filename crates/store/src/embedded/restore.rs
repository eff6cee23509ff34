//! Making a store out of a backup, and putting it where a server finds it, in one step that a crash cannot halve.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use super::backup::{self, Attachment, Summary};
use super::files;
use super::leader::Leader;
use super::manifest::Manifest;
use super::mark::Mark;
use super::run::Writer;
use super::snapshot::Snapshot;
use crate::{CommitNumber, StoreError};

/// How far a restored store goes on above every number that is known to have been used.
///
/// Agents have seen the numbers of commits that came after the backup, and ignore what does not exceed them. How many
/// there were nobody knows any more, but at a hundred thousand commits a second it takes twelve hours to use these up;
/// and 2^21 restores fit below 2^53, up to which every JSON reader counts exactly.
pub const NUMBERS_SKIPPED: u64 = 1 << 32;

/// A restored store, complete on disk beside its place, and the lock on what is in that place now. Dropped without
/// [`Staged::put_in_place`], it leaves everything as it was.
#[derive(Debug)]
pub struct Staged {
    dir: PathBuf,
    staging: PathBuf,
    /// Whether a store is in its place.
    present: bool,
    /// Of the directory in its place, if there is one: no server starts on it meanwhile.
    lock: Option<Leader>,
    summary: Summary,
    number: CommitNumber,
}

/// What [`Staged::put_in_place`] did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// How many entities were restored.
    pub entities: u64,
    /// The number of the last commit in the backup.
    pub backed_up: CommitNumber,
    /// The number that the restored store goes on from.
    pub number: CommitNumber,
    /// Where the store is that was in its place.
    pub moved: Option<PathBuf>,
}

/// Reads the backup `file` and makes a store of it, which is to be put into `dir`. The store there, if any, is locked,
/// read for its numbers, and otherwise left alone; it must be meant to be replaced. The new store's numbers begin at
/// `at_least`, or at [`NUMBERS_SKIPPED`] above every known one if that is more.
///
/// # Errors
/// [`StoreError::StoreExists`] when there is one that is not to be replaced, [`StoreError::Locked`] while a server uses
/// it, those of [`backup::read`], or what the system refused.
pub fn stage(file: &Path, dir: &Path, replace: bool, at_least: CommitNumber) -> Result<Staged, StoreError> {
    let present = dir.is_dir() && holds_store(dir)?;
    if present && !replace {
        return Err(StoreError::StoreExists { path: dir.to_owned() });
    }
    let lock = dir.is_dir().then(|| Leader::lock(dir)).transpose()?;
    if let Some(parent) = dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        files::create_dir(parent)?;
    }
    let mut name = dir.file_name().unwrap_or_default().to_owned();
    name.push(".restoring");
    let staging = dir.with_file_name(name);
    // Only a restore that was killed leaves this name, and it held a copy of a backup.
    remove_dir(&staging)?;
    DirBuilder::new().recursive(true).mode(0o700).create(&staging).map_err(StoreError::io("create", &staging))?;
    let mut staged =
        Staged { dir: dir.to_owned(), staging, present, lock, summary: Summary::default(), number: last_number(dir) };
    staged.fill(file, at_least)?;
    Ok(staged)
}

impl Staged {
    /// Writes the store: one run with everything, and a manifest that says from which number it goes on.
    fn fill(&mut self, file: &Path, at_least: CommitNumber) -> Result<(), StoreError> {
        let mut manifest = Manifest::empty();
        let mut run = Writer::create(&self.staging, manifest.next_run)?;
        self.summary = backup::read(file, &mut |key, value| run.push((key, Some(value))))?;
        manifest.runs.extend(run.finish()?);
        manifest.next_run += 1;
        let above = self.number.0.max(self.summary.number.0).saturating_add(NUMBERS_SKIPPED);
        self.number = CommitNumber(above).max(at_least);
        manifest.folded = self.number;
        manifest.write(&self.staging)
    }

    /// The files beside the store that the backup holds: whoever wants them puts them in their places now.
    #[must_use]
    pub fn attachments(&self) -> &[Attachment] {
        &self.summary.attachments
    }

    /// Puts the store in its place, at once and durably: after a crash there is what was there, or the whole new one.
    /// The store that was there is `aside` afterwards.
    ///
    /// # Errors
    /// What the system refused; then nothing has changed.
    pub fn put_in_place(self, aside: &Path) -> Result<Restored, StoreError> {
        let parent = self.dir.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        if self.lock.is_some() {
            self.exchange(aside)?;
        } else {
            fs::rename(&self.staging, &self.dir).map_err(StoreError::io("put the restored store into", &self.dir))?;
        }
        files::sync_dir(parent)?;
        if self.lock.is_some() && !self.present {
            remove_dir(aside)?;
        }
        Ok(Restored {
            entities: self.summary.entities,
            backed_up: self.summary.number,
            number: self.number,
            moved: self.present.then(|| aside.to_owned()),
        })
    }

    /// The new store takes the name `aside` first, then the two change names in one step.
    fn exchange(&self, aside: &Path) -> Result<(), StoreError> {
        let refused = |error| match error {
            Errno::INVAL | Errno::NOSYS => StoreError::CannotExchange { path: self.dir.clone() },
            error => StoreError::io("move the present store to", aside)(error.into()),
        };
        renameat_with(CWD, &self.staging, CWD, aside, RenameFlags::NOREPLACE).map_err(refused)?;
        renameat_with(CWD, aside, CWD, &self.dir, RenameFlags::EXCHANGE).or_else(|error| {
            remove_dir(aside)?;
            Err(refused(error))
        })
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        // Gone already, if it was put in place.
        if let Err(error) = remove_dir(&self.staging) {
            tracing::warn!(%error, "a restored store that is not wanted stays beside its place");
        }
    }
}

/// Whether anything lies in `dir` that only a store writes.
fn holds_store(dir: &Path) -> Result<bool, StoreError> {
    let numbered = |prefix| files::numbers(dir, prefix).map(|numbers| !numbers.is_empty());
    Ok(Manifest::path(dir).exists() || numbered(files::LOG)? || numbered(files::RUN)?)
}

/// The greatest number that the store in `dir` shows, however damaged it is.
fn last_number(dir: &Path) -> CommitNumber {
    let log = Snapshot::now(dir).ok().flatten().and_then(|snapshot| snapshot.scan().ok()).map(|scan| scan.last);
    let folded = Manifest::read(dir).ok().flatten().map(|manifest| manifest.folded);
    let acknowledged = Mark::read(dir).ok();
    log.max(folded).max(acknowledged).unwrap_or_default()
}

fn remove_dir(dir: &Path) -> Result<(), StoreError> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(StoreError::io("remove", dir)(error)),
        _ => Ok(()),
    }
}
