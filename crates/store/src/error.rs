//! Everything that can go wrong in a store, and what to do about it.

use std::io;
use std::path::{Path, PathBuf};

use crate::{CommitNumber, Term};

/// Why a store could not be led or loaded; also the cause inside a [`CommitError`].
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process (or another handle of this one) leads this store.
    #[error("the store in {path} is in use by another process{}: \
         stop that server, or give this one a data directory of its own", holder(*.pid))]
    Locked {
        /// The store's directory.
        path: PathBuf,
        /// The process that holds it, when it left its id.
        pid: Option<u32>,
    },
    /// An acknowledged write cannot be read back.
    #[error(
        "the store is damaged: {file} at byte {offset}: {detail}. Nothing was repaired. Run `longshore store check \
         --data-dir {dir}` to see what can be read, then bring a backup back with `longshore store restore FILE \
         --data-dir {dir} --force`",
        dir = data_dir(.file)
    )]
    Damaged {
        /// The damaged file.
        file: PathBuf,
        /// Where in it the damage begins.
        offset: u64,
        /// What was expected there.
        detail: String,
    },
    /// A newer release wrote this store.
    #[error(
        "the store in {path} has format {found}, this release reads up to {supported}: \
         start the release that wrote it, or a newer one"
    )]
    NewerFormat {
        /// The store's directory.
        path: PathBuf,
        /// The format found there.
        found: u32,
        /// The newest format that this release knows.
        supported: u32,
    },
    /// There is nothing to read.
    #[error("there is no store in {path}: name the server's data directory with --data-dir")]
    NoStore {
        /// Where one was looked for.
        path: PathBuf,
    },
    /// A restore would replace a store.
    #[error(
        "there is a store in {path} already: restore into a data directory of its own, or pass --force, which moves \
         the present one aside"
    )]
    StoreExists {
        /// The store that is there.
        path: PathBuf,
    },
    /// The file system cannot exchange two directories in one step.
    #[error(
        "the file system of {path} cannot exchange directories in one step: move that directory away by hand, then \
         restore without --force"
    )]
    CannotExchange {
        /// The store that is there.
        path: PathBuf,
    },
    /// A backup would replace a file.
    #[error("{path} exists already: choose another name, or pass --force to replace it")]
    BackupExists {
        /// The file that is there.
        path: PathBuf,
    },
    /// A file is too large to go with a backup.
    #[error(
        "the file {name} has {bytes} bytes, more than the {limit} that a backup takes along: it is not what belongs there"
    )]
    AttachmentTooLarge {
        /// The file.
        name: String,
        /// Its size.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// A backup cannot be read back, so nothing of it is used.
    #[error("the backup {file} is damaged at byte {offset}: {detail}. Nothing was changed; take another backup")]
    BadBackup {
        /// The backup.
        file: PathBuf,
        /// Where in it the damage begins.
        offset: u64,
        /// What was expected there.
        detail: String,
    },
    /// A newer release wrote this backup.
    #[error(
        "the backup {file} has format {found}, this release reads up to {supported}: restore it with the release that \
         wrote it, or a newer one"
    )]
    NewerBackup {
        /// The backup.
        file: PathBuf,
        /// The format found in it.
        found: u32,
        /// The newest format that this release knows.
        supported: u32,
    },
    /// The operating system refused.
    #[error("cannot {action} {path}: {}", hint(.source))]
    Io {
        /// What was tried, as a verb phrase.
        action: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The caller broke the contract: numbers must strictly increase.
    #[error(
        "commit number {number} is not greater than {last}, the last one used: \
         numbers are never used twice; load the store again and go on from the number it reports"
    )]
    NumberNotIncreasing {
        /// The number refused.
        number: CommitNumber,
        /// The number it had to exceed.
        last: CommitNumber,
    },
    /// The batch does not fit what an engine can write at once.
    #[error("a batch of {bytes} bytes is larger than the {limit} that fit one commit: commit it in smaller batches")]
    BatchTooLarge {
        /// Its encoded size.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// A commit whose outcome is unknown came before, and nobody settled it.
    #[error("the outcome of an earlier commit is unknown: lead again and load before writing")]
    Unsettled,
}

impl StoreError {
    /// Wraps the system's answer with what was tried on which file.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, path: path.to_owned(), source }
    }

    /// Whether the cause is a disk (or quota) without room: it passes when somebody makes space, so the caller waits
    /// and tries again.
    #[must_use]
    pub fn is_disk_full(&self) -> bool {
        match self {
            Self::Io { source, .. } => {
                matches!(
                    source.kind(),
                    io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
                )
            }
            _ => false,
        }
    }
}

/// What became of a batch that was not committed, or not known to be.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// Known: nothing after `durable` is durable, nor ever will be. Go back to that state and try again later (DESIGN
    /// §3.7).
    #[error("the commit failed, everything up to number {durable} is kept: {source}")]
    Failed {
        /// The last durable number. At least that of the last successful commit; more when a first part of this batch
        /// was kept.
        durable: CommitNumber,
        /// Why.
        source: StoreError,
    },
    /// Not known: any first part of the batch, none, or all of it may be durable. Drop memory, lead again, load.
    #[error("it is not known whether the commit succeeded; lead and load again to find out: {source}")]
    Unknown {
        /// Why.
        source: StoreError,
    },
    /// Somebody leads with a newer term; nothing was written. This process is no longer the leader and must stop acting
    /// as one.
    #[error(
        "term {held} is over, the store is led with term {current}: this server no longer leads and must drop its state"
    )]
    Fenced {
        /// The term that the caller used.
        held: Term,
        /// The term that is in force.
        current: Term,
    },
}

/// The data directory of a store's file, as commands take it: `DIR/store/FILE`.
fn data_dir(file: &Path) -> String {
    let dir = file.parent().and_then(Path::parent).filter(|dir| !dir.as_os_str().is_empty());
    dir.unwrap_or(Path::new(".")).display().to_string()
}

fn holder(pid: Option<u32>) -> String {
    pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default()
}

fn hint(source: &io::Error) -> String {
    let todo = match source.kind() {
        io::ErrorKind::StorageFull => "free space on this disk; writing goes on by itself then",
        io::ErrorKind::QuotaExceeded => "raise the disk quota; writing goes on by itself then",
        io::ErrorKind::PermissionDenied => "let the server's user own the data directory, or run it as that user",
        io::ErrorKind::ReadOnlyFilesystem => "remount the file system writable",
        _ => return source.to_string(),
    };
    format!("{source} ({todo})")
}
