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
//! Begin reading with [`EmbeddedStore`]'s three verbs below, then `log` (what a commit is), `compact` (what becomes of
//! it), `frame` (why it can be trusted).

mod compact;
mod files;
mod frame;
mod leader;
mod log;
mod manifest;
mod mark;
mod merge;
mod run;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::path::{Path, PathBuf};

use self::compact::Compactor;
use self::leader::Leader;
use self::log::{AppendError, Config, Log, Scan, Sorted, Tail};
use self::manifest::Manifest;
use self::mark::Mark;
use self::merge::Source;
use self::run::Reader;
use crate::{Batch, CommitError, CommitNumber, Store, StoreError, Term};

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

/// What [`EmbeddedStore::check`] found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// The last durable number.
    pub number: CommitNumber,
    /// How many entities there are.
    pub entities: u64,
    /// Their keys and values together.
    pub bytes: u64,
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

    /// Reads every record of the store in `dir` and checks it, changing nothing: `longshore store check`. The store
    /// must not be in use.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] with the first damage found, [`StoreError::Locked`] while a server uses the store.
    pub fn check(dir: impl AsRef<Path>) -> Result<CheckReport, StoreError> {
        let dir = dir.as_ref();
        std::fs::read_dir(dir).map_err(StoreError::io("list", dir))?;
        let mut report = CheckReport::default();
        report.number = Self::open(dir)?.load(&mut |key, value| {
            report.entities += 1;
            report.bytes += (key.len() + value.len()) as u64;
        })?;
        Ok(report)
    }

    /// Finds out what is durable, cuts off what is not, and readies everything to go on from there.
    fn recover(&self, leader: Leader) -> Result<Active, StoreError> {
        let dir = &self.dir;
        let survey = match Survey::read(dir)? {
            Some(survey) => survey,
            None => {
                check_mark(dir, 1, 0, CommitNumber(0))?;
                Manifest::empty().write(dir)?;
                Survey { manifest: Manifest::empty(), segments: Vec::new(), unbegun: None }
            }
        };
        // What is missing shows before anything is touched; what is changed inside shows when it is loaded.
        open_runs(dir, &survey.manifest)?;
        let log = match survey.segments.last() {
            None => {
                let Manifest { first_segment, folded, .. } = survey.manifest;
                check_mark(dir, first_segment, 0, folded)?;
                Log::create(dir, first_segment, folded, self.config)?
            }
            Some(&number) => {
                let path = files::log_path(dir, number);
                let mut bytes = files::read(&path)?.unwrap_or_default();
                if let Some(doubt) = self.doubt.filter(|doubt| doubt.segment == number) {
                    bytes.truncate(usize::try_from(doubt.len).unwrap_or(usize::MAX));
                }
                let scan = log::scan(&bytes, &path, number, None, Tail::MayBeTorn, &mut |_| ())?;
                check_mark(dir, number, scan.len as u64, scan.last)?;
                Log::resume(dir, number, &scan, self.config)?
            }
        };
        survey.remove_leftovers(dir)?;
        let mark = Mark::open(dir, log.last())?;
        let compactor = Compactor::start(dir, survey.manifest, log.number())?;
        Ok(Active { compactor, log, mark, leader })
    }
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
        if let Some(active) = &self.active {
            // Only opening needs the files to stay; what was opened can be read even after the compaction has removed
            // it.
            let (snapshot, runs) = active.compactor.with_manifest(|manifest| {
                let segments: Vec<_> = (manifest.first_segment..=active.log.number()).collect();
                let snapshot = Snapshot::read(&self.dir, manifest, &segments, Some(active.log.len()))?;
                Ok::<_, StoreError>((snapshot, open_runs(&self.dir, manifest)?))
            })?;
            return Ok(snapshot.merge(runs, each)?.last);
        }
        let _lock = Leader::lock(&self.dir)?;
        let Some(Survey { manifest, segments, .. }) = Survey::read(&self.dir)? else {
            check_mark(&self.dir, 1, 0, CommitNumber(0))?;
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
        let snapshot = Snapshot::read(&self.dir, &manifest, &segments, doubt)?;
        let scan = snapshot.merge(open_runs(&self.dir, &manifest)?, each)?;
        check_mark(&self.dir, segments.last().copied().unwrap_or(manifest.first_segment), scan.len as u64, scan.last)?;
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

/// Which files there are, checked against the manifest.
#[derive(Debug)]
struct Survey {
    manifest: Manifest,
    /// The log segments that count, ascending without a gap.
    segments: Vec<u64>,
    /// A newest segment that a crash kept from being begun; it counts for nothing.
    unbegun: Option<u64>,
}

impl Survey {
    /// `None` for a directory that no store was ever in.
    fn read(dir: &Path) -> Result<Option<Self>, StoreError> {
        let mut segments = files::numbers(dir, "log-")?;
        let Some(manifest) = Manifest::read(dir)? else {
            if segments.is_empty() && files::numbers(dir, "run-")?.is_empty() {
                return Ok(None);
            }
            return Err(files::damaged(&dir.join("MANIFEST"), 0, "the file is missing, although there are others"));
        };
        segments.retain(|&number| number >= manifest.first_segment);
        for (number, expected) in segments.iter().zip(manifest.first_segment..) {
            if *number != expected {
                return Err(files::damaged(&files::log_path(dir, expected), 0, "the file is missing"));
            }
        }
        let mut unbegun = None;
        if let Some(&newest) = segments.last()
            && log::never_begun(&files::read(&files::log_path(dir, newest))?.unwrap_or_default(), newest)
        {
            unbegun = segments.pop();
        }
        Ok(Some(Self { manifest, segments, unbegun }))
    }

    /// Removes what a crash left half made or half removed.
    fn remove_leftovers(&self, dir: &Path) -> Result<(), StoreError> {
        // A manifest that was renamed into place just before a crash must be there for good before what it supersedes
        // goes.
        files::sync_dir(dir)?;
        let reused = self.segments.is_empty().then_some(self.manifest.first_segment);
        let old = files::numbers(dir, "log-")?.into_iter().filter(|&number| number < self.manifest.first_segment);
        for number in old.chain(self.unbegun.filter(|&number| Some(number) != reused)) {
            files::remove(&files::log_path(dir, number));
        }
        for number in files::numbers(dir, "run-")? {
            if !self.manifest.runs.iter().any(|run| run.number == number) {
                files::remove(&files::run_path(dir, number));
            }
        }
        Ok(())
    }
}

/// The log as of one moment, in memory.
struct Snapshot {
    dir: PathBuf,
    folded: CommitNumber,
    segments: Vec<Segment>,
}

struct Segment {
    number: u64,
    bytes: Vec<u8>,
    tail: Tail,
}

impl Snapshot {
    /// Reads the segments `numbers`, the newest only as far as `len` when that is known to be its valid part.
    fn read(dir: &Path, manifest: &Manifest, numbers: &[u64], len: Option<u64>) -> Result<Self, StoreError> {
        let mut segments = Vec::new();
        for &number in numbers {
            let path = files::log_path(dir, number);
            let mut bytes = files::read(&path)?.ok_or_else(|| files::damaged(&path, 0, "the file is missing"))?;
            let newest = Some(&number) == numbers.last();
            let tail = if newest && len.is_none() { Tail::MayBeTorn } else { Tail::Complete };
            if let Some(len) = len.filter(|_| newest) {
                bytes.truncate(usize::try_from(len).unwrap_or(usize::MAX));
            }
            segments.push(Segment { number, bytes, tail });
        }
        Ok(Self { dir: dir.to_owned(), folded: manifest.folded, segments })
    }

    /// Merges the log over `runs` and gives what lives to `each`. Returns where the newest segment ends.
    fn merge(&self, runs: Vec<Reader>, each: &mut dyn FnMut(&[u8], &[u8])) -> Result<Scan, StoreError> {
        let mut scan = Scan { len: 0, last: self.folded };
        let mut sources: Vec<_> = runs.into_iter().map(Source::Run).collect();
        for Segment { number, bytes, tail } in &self.segments {
            let mut entries = Vec::new();
            let path = files::log_path(&self.dir, *number);
            let collect = &mut |entry| entries.push(entry);
            scan = log::scan(bytes, &path, *number, Some(scan.last), *tail, collect)?;
            sources.push(Source::Segment(Sorted::new(entries), 0));
        }
        merge::merge(sources, &mut |(key, value)| {
            if let Some(value) = value {
                each(key, value);
            }
            Ok::<_, StoreError>(())
        })?;
        Ok(scan)
    }
}

fn open_runs(dir: &Path, manifest: &Manifest) -> Result<Vec<Reader>, StoreError> {
    manifest.runs.iter().map(|run| Reader::open(dir, run)).collect()
}

/// Refuses a log that ends, at `len` of `segment`, before the last acknowledged commit.
fn check_mark(dir: &Path, segment: u64, len: u64, last: CommitNumber) -> Result<(), StoreError> {
    let acknowledged = Mark::read(dir)?;
    if acknowledged <= last {
        return Ok(());
    }
    let detail =
        format!("the log ends here with commit number {last}, although number {acknowledged} was acknowledged");
    Err(StoreError::Damaged { file: files::log_path(dir, segment), offset: len, detail })
}
