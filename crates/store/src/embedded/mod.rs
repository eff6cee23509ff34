//! The embedded engine: crash-safe files in one directory, made for the three verbs and for nothing else.
//!
//! A commit appends one checksummed frame to a log and synchronises it: that is all, so a commit costs what the disk
//! costs. In the background, full log segments are folded into sorted runs and runs are merged; since nobody ever looks
//! a key up, there is no index, no cache and no table in memory: an idle store holds a few file handles. Loading is one
//! merge over the runs and the log.
//!
//! | file | what it is | written |
//! |---|---|---|
//! | `leader` | the lock, and the term | in place, alternating between two slots |
//! | `MANIFEST` | format, the runs, the first log segment that counts | replaced as a whole |
//! | `log-…` | batches in the order of commits | appended; only the newest |
//! | `run-…` | entities in key order | once |
//! | `mark` | the last acknowledged number | in place, after each commit |
//!
//! The manifest names the [`FORMAT`] of all of them. A release reads its own and every older one; a newer one it refuses
//! by name, untouched.
//!
//! Begin reading with [`EmbeddedStore`]'s three verbs below, then `log` (what a commit is), `compact` (what becomes of
//! it), `frame` (why it can be trusted). [`mod@check`], [`mod@backup`] and [`read`] look at a store from outside, also
//! while a server uses it: they take no lock and write nothing into it, and start over when files are folded away under
//! them (`snapshot`). [`restore`] puts a new store in place of an old one.

pub mod backup;
pub mod check;
mod compact;
mod files;
mod frame;
mod leader;
mod log;
mod manifest;
mod mark;
mod merge;
pub mod restore;
mod run;
mod snapshot;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::path::{Path, PathBuf};

use self::compact::Compactor;
use self::leader::Leader;
pub use self::manifest::FORMAT;

use self::log::{AppendError, Config, Log, Tail};
use self::manifest::Manifest;
use self::mark::Mark;
use self::snapshot::{Snapshot, Survey, expect_acknowledged, open_runs, read_segment};
use crate::{Batch, CommitError, CommitNumber, Each, Store, StoreError, Term};

/// What can be tuned. The defaults are the product's; tests use small segments to see folding and merging soon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// A log segment is full at this size, and is then folded in memory: a fold takes about this much of it for an
    /// instant, and a start reads at least one segment. Larger ones are rewritten less often.
    pub segment_bytes: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self { segment_bytes: 8 << 20 }
    }
}

/// A store in a directory of the local disk. One process leads it at a time.
///
/// Beyond the contract of [`Store`]: [`Store::load`] before [`Store::lead`] needs the store for itself while it reads,
/// and is refused as [`StoreError::Locked`] when another process leads; a batch larger than 64 MiB is refused; a batch
/// that failed for want of space leaves the store as it was, and the next commit simply tries again.
#[derive(Debug)]
pub struct EmbeddedStore {
    dir: PathBuf,
    config: Config,
    active: Option<Active>,
    /// The last term this handle was given.
    term: Term,
    /// A segment whose end is in doubt after a failed synchronisation, and the length up to which it is not. The next
    /// leader cuts it there: what the cache still shows of the rest may not be on the disk.
    doubt: Option<Doubt>,
}

#[derive(Clone, Copy, Debug)]
struct Doubt {
    segment: u64,
    len: u64,
}

/// What a leader holds.
#[derive(Debug)]
struct Active {
    // Dropped in this order: the compaction ends before the lock is released.
    compactor: Compactor,
    log: Log,
    mark: Mark,
    leader: Leader,
}

impl EmbeddedStore {
    /// Opens the store in `dir`, which is created (mode 0700) if it does not exist. Nothing in it is read or locked
    /// before [`Store::lead`].
    ///
    /// # Errors
    /// What kept the directory from being made.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self, StoreError> {
        Self::open_with(dir, Options::default())
    }

    /// As [`EmbeddedStore::open`], tuned.
    ///
    /// # Errors
    /// What kept the directory from being made.
    pub fn open_with(dir: impl AsRef<Path>, options: Options) -> Result<Self, StoreError> {
        let dir = dir.as_ref().to_owned();
        files::create_dir(&dir)?;
        Ok(Self {
            dir,
            config: Config { segment_bytes: options.segment_bytes, sync: File::sync_data },
            active: None,
            term: Term(0),
            doubt: None,
        })
    }

    /// Finds out what is durable, cuts off what is not, and readies everything to go on from there.
    fn recover(&self, leader: Leader) -> Result<Active, StoreError> {
        let dir = &self.dir;
        let acknowledged = Mark::read(dir)?;
        let survey = match Survey::read(dir)? {
            Some(survey) => survey,
            None => {
                expect_acknowledged(dir, acknowledged, 1, 0, CommitNumber(0))?;
                Manifest::empty().write(dir)?;
                Survey { manifest: Manifest::empty(), segments: Vec::new(), unbegun: None }
            }
        };
        // What is missing shows before anything is touched; what is changed inside shows when it is loaded.
        open_runs(dir, &survey.manifest)?;
        let log = match survey.segments.last() {
            None => {
                let Manifest { first_segment, folded, .. } = survey.manifest;
                expect_acknowledged(dir, acknowledged, first_segment, 0, folded)?;
                Log::create(dir, first_segment, folded, self.config)?
            }
            Some(&number) => {
                let path = files::log_path(dir, number);
                let mut bytes = read_segment(dir, number)?;
                if let Some(doubt) = self.doubt.filter(|doubt| doubt.segment == number) {
                    bytes.truncate(usize::try_from(doubt.len).unwrap_or(usize::MAX));
                }
                let scan = log::scan(&bytes, &path, number, None, Tail::MayBeTorn, &mut |_| ())?;
                expect_acknowledged(dir, acknowledged, number, scan.len as u64, scan.last)?;
                if scan.torn > 0 {
                    tracing::warn!(
                        file = %path.display(), offset = scan.len, bytes = scan.torn, last = scan.last.0,
                        "the store's last record was being written when the machine stopped; nobody was promised it, \
                         and it is cut off"
                    );
                }
                Log::resume(dir, number, &scan, self.config)?
            }
        };
        survey.remove_leftovers(dir)?;
        let mark = Mark::open(dir, log.last())?;
        let compactor = Compactor::start(dir, survey.manifest, log.number())?;
        Ok(Active { compactor, log, mark, leader })
    }
}

/// Gives every entity of the store in `dir` to `each`, in key order, as of one moment, and returns the last commit number:
/// without a lock and without a write, whoever uses the store.
///
/// # Errors
/// [`StoreError::NoStore`], [`StoreError::Damaged`] (then what `each` was given is not all), or what `each` answered.
pub fn read<E: From<StoreError>>(dir: &Path, each: &mut Each<'_, E>) -> Result<CommitNumber, E> {
    let snapshot = Snapshot::now(dir)?.ok_or_else(|| StoreError::NoStore { path: dir.to_owned() })?;
    Ok(snapshot.merge(each)?.last)
}

impl Store for EmbeddedStore {
    fn lead(&mut self) -> Result<Term, StoreError> {
        let leader = match self.active.take() {
            Some(Active { leader, .. }) => leader,
            None => Leader::lock(&self.dir)?,
        };
        let active = self.recover(leader)?;
        self.doubt = None;
        self.term = active.leader.next_term()?;
        self.active = Some(active);
        Ok(self.term)
    }

    fn load(&mut self, each: &mut dyn FnMut(&[u8], &[u8])) -> Result<CommitNumber, StoreError> {
        let each = &mut |key: &[u8], value: &[u8]| {
            each(key, value);
            Ok::<_, StoreError>(())
        };
        if let Some(active) = &self.active {
            // Only opening needs the files to stay; what was opened can be read even after the compaction has removed
            // it.
            let snapshot = active.compactor.with_manifest(|manifest| {
                let segments: Vec<_> = (manifest.first_segment..=active.log.number()).collect();
                Snapshot::open(&self.dir, manifest, &segments, Some(active.log.len()))
            })?;
            return Ok(snapshot.merge(each)?.last);
        }
        let _lock = Leader::lock(&self.dir)?;
        let acknowledged = Mark::read(&self.dir)?;
        let Some(Survey { manifest, segments, .. }) = Survey::read(&self.dir)? else {
            expect_acknowledged(&self.dir, acknowledged, 1, 0, CommitNumber(0))?;
            return Ok(CommitNumber(0));
        };
        let doubt = self.doubt.filter(|doubt| segments.last() == Some(&doubt.segment)).map(|doubt| doubt.len);
        if let Some(&newest) = segments.last() {
            // A batch that was written but not synchronised by a process that died would otherwise be shown on the
            // strength of the cache alone.
            let path = files::log_path(&self.dir, newest);
            let synced = File::open(&path).and_then(|file| (self.config.sync)(&file));
            synced.map_err(StoreError::io("synchronise", &path))?;
        }
        let scan = Snapshot::open(&self.dir, &manifest, &segments, doubt)?.merge(each)?;
        let newest = segments.last().copied().unwrap_or(manifest.first_segment);
        expect_acknowledged(&self.dir, acknowledged, newest, scan.len as u64, scan.last)?;
        Ok(scan.last)
    }

    fn commit(&mut self, term: Term, batch: &Batch) -> Result<(), CommitError> {
        if term != self.term {
            return Err(CommitError::Fenced { held: term, current: self.term });
        }
        let Some(active) = self.active.as_mut().filter(|_| self.doubt.is_none()) else {
            return Err(CommitError::Unknown { source: StoreError::Unsettled });
        };
        let durable = active.log.last();
        let failed = |source| CommitError::Failed { durable, source };
        batch.check_numbers(durable).map_err(failed)?;
        if batch.groups.is_empty() {
            return Ok(());
        }
        if active.log.len() >= self.config.segment_bytes {
            active.log.complete();
            active.log = Log::create(&self.dir, active.log.number() + 1, durable, self.config).map_err(failed)?;
            active.compactor.rolled(active.log.number());
        }
        match active.log.append(batch) {
            Ok(()) => {
                active.mark.set(active.log.last());
                Ok(())
            }
            Err(AppendError::Clean(source)) => Err(failed(source)),
            Err(AppendError::Doubtful(source)) => {
                self.doubt = Some(Doubt { segment: active.log.number(), len: active.log.len() });
                Err(CommitError::Unknown { source })
            }
        }
    }
}
