//! Reading the whole store: which files count, and their merge as of one moment, also while a server goes on writing.

use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use super::files;
use super::leader;
use super::log::{self, Scan, Sorted, Tail};
use super::manifest::Manifest;
use super::mark::Mark;
use super::merge::{self, Source};
use super::run::RunFile;
use crate::{CommitNumber, Each, StoreError};

/// How often a reader beside a running server starts over because files were folded or merged away under it. Each time
/// the server has rewritten megabytes, and the reader has merely opened files: it wins soon.
const MOVED_ATTEMPTS: u32 = 1000;
/// How often what looks like damage is looked at again although no file was replaced: a record that is being written
/// while it is read may look so for an instant.
const STILL_ATTEMPTS: u32 = 4;
const STILL_PAUSE: Duration = Duration::from_millis(20);

/// Which files there are, checked against the manifest.
#[derive(Debug)]
pub(super) struct Survey {
    pub(super) manifest: Manifest,
    /// The log segments that count, ascending without a gap.
    pub(super) segments: Vec<u64>,
    /// A newest segment that a crash kept from being begun; it counts for nothing.
    pub(super) unbegun: Option<u64>,
}

impl Survey {
    /// `None` for a directory that no store was ever in.
    pub(super) fn read(dir: &Path) -> Result<Option<Self>, StoreError> {
        let mut segments = files::numbers(dir, files::LOG)?;
        let Some(manifest) = Manifest::read(dir)? else {
            if segments.is_empty() && files::numbers(dir, files::RUN)?.is_empty() {
                return Ok(None);
            }
            return Err(files::damaged(&Manifest::path(dir), 0, "the file is missing, although there are others"));
        };
        segments.retain(|&number| number >= manifest.first_segment);
        for (number, expected) in segments.iter().zip(manifest.first_segment..) {
            if *number != expected {
                return Err(files::damaged(&files::log_path(dir, expected), 0, "the file is missing"));
            }
        }
        let mut unbegun = None;
        if let Some(&newest) = segments.last()
            && log::never_begun(&read_segment(dir, newest)?, newest)
        {
            unbegun = segments.pop();
        }
        Ok(Some(Self { manifest, segments, unbegun }))
    }

    /// Removes what a crash left half made or half removed.
    pub(super) fn remove_leftovers(&self, dir: &Path) -> Result<(), StoreError> {
        // A manifest that was renamed into place just before a crash must be there for good before what it supersedes
        // goes.
        files::sync_dir(dir)?;
        let reused = self.segments.is_empty().then_some(self.manifest.first_segment);
        let old = files::numbers(dir, files::LOG)?.into_iter().filter(|&number| number < self.manifest.first_segment);
        for number in old.chain(self.unbegun.filter(|&number| Some(number) != reused)) {
            files::remove(&files::log_path(dir, number));
        }
        for number in files::numbers(dir, files::RUN)? {
            if !self.manifest.has_run(number) {
                files::remove(&files::run_path(dir, number));
            }
        }
        let unfinished = Manifest::next_path(dir);
        if unfinished.exists() {
            files::remove(&unfinished);
        }
        Ok(())
    }
}

/// A segment that must be there.
pub(super) fn read_segment(dir: &Path, number: u64) -> Result<Vec<u8>, StoreError> {
    let path = files::log_path(dir, number);
    files::read(&path)?.ok_or_else(|| files::damaged(&path, 0, "the file is missing"))
}

/// The store as of one moment: the log in memory, the runs open. It stays readable whatever is removed later.
#[derive(Debug)]
pub(super) struct Snapshot {
    pub(super) dir: PathBuf,
    /// What the log's first segment goes on from.
    pub(super) folded: CommitNumber,
    /// Oldest first.
    pub(super) runs: Vec<RunFile>,
    /// Ascending.
    pub(super) segments: Vec<Segment>,
}

/// A log segment in memory.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) number: u64,
    pub(super) bytes: Vec<u8>,
    pub(super) tail: Tail,
}

impl Snapshot {
    /// Opens the files of `manifest`, and of the log the segments `numbers`: the newest only as far as `len` when that
    /// is known to be its valid part.
    pub(super) fn open(dir: &Path, manifest: &Manifest, numbers: &[u64], len: Option<u64>) -> Result<Self, StoreError> {
        let mut segments = Vec::new();
        for &number in numbers {
            let mut bytes = read_segment(dir, number)?;
            let newest = Some(&number) == numbers.last();
            let tail = if newest && len.is_none() { Tail::MayBeTorn } else { Tail::Complete };
            if let Some(len) = len.filter(|_| newest) {
                bytes.truncate(usize::try_from(len).unwrap_or(usize::MAX));
            }
            segments.push(Segment { number, bytes, tail });
        }
        let runs = open_runs(dir, manifest)?;
        Ok(Self { dir: dir.to_owned(), folded: manifest.folded, runs, segments })
    }

    /// The store as of a moment after the call, without a lock and without a write, whoever writes meanwhile; `None`
    /// when there is no store. It holds at least what was acknowledged before the call.
    pub(super) fn now(dir: &Path) -> Result<Option<Self>, StoreError> {
        if !dir.try_exists().map_err(StoreError::io("look for", dir))? {
            return Ok(None);
        }
        let doubtful = |result: &Result<_, _>| matches!(result, Err(StoreError::Damaged { .. }));
        settled(dir, doubtful, || {
            // Read before the log: what it promises must be in there.
            let acknowledged = Mark::read(dir)?;
            let Some(Survey { manifest, segments, .. }) = Survey::read(dir)? else {
                expect_acknowledged(dir, acknowledged, 1, 0, CommitNumber(0))?;
                return Ok(None);
            };
            let snapshot = Self::open(dir, &manifest, &segments, None)?;
            let scan = snapshot.scan()?;
            let newest = segments.last().copied().unwrap_or(manifest.first_segment);
            expect_acknowledged(dir, acknowledged, newest, scan.len as u64, scan.last)?;
            Ok(Some(snapshot))
        })
    }

    /// Where the newest segment ends.
    pub(super) fn scan(&self) -> Result<Scan, StoreError> {
        let mut scan = Scan { len: 0, last: self.folded, torn: 0 };
        for Segment { number, bytes, tail } in &self.segments {
            let path = files::log_path(&self.dir, *number);
            scan = log::scan(bytes, &path, *number, Some(scan.last), *tail, &mut |_| ())?;
        }
        Ok(scan)
    }

    /// Merges the log over the runs and gives what lives to `each`, in key order. Returns where the newest segment ends.
    pub(super) fn merge<E: From<StoreError>>(&self, each: &mut Each<'_, E>) -> Result<Scan, E> {
        let mut scan = Scan { len: 0, last: self.folded, torn: 0 };
        let mut sources = self.runs.iter().map(|run| run.reader().map(Source::Run)).collect::<Result<Vec<_>, _>>()?;
        for Segment { number, bytes, tail } in &self.segments {
            let mut entries = Vec::new();
            let path = files::log_path(&self.dir, *number);
            let collect = &mut |entry| entries.push(entry);
            scan = log::scan(bytes, &path, *number, Some(scan.last), *tail, collect)?;
            sources.push(Source::Segment(Sorted::new(entries), 0));
        }
        merge::merge(sources, &mut |(key, value)| match value {
            Some(value) => each(key, value),
            None => Ok(()),
        })?;
        Ok(scan)
    }
}

pub(super) fn open_runs(dir: &Path, manifest: &Manifest) -> Result<Vec<RunFile>, StoreError> {
    manifest.runs.iter().map(|run| RunFile::open(dir, run)).collect()
}

/// Repeats `read` as long as its result is `doubtful` and a server at work may be the reason for it.
pub(super) fn settled<T>(dir: &Path, doubtful: impl Fn(&T) -> bool, read: impl Fn() -> T) -> T {
    let (mut moved, mut still) = (0, 0);
    loop {
        let before = Manifest::read(dir).ok();
        let result = read();
        if !doubtful(&result) {
            return result;
        }
        if Manifest::read(dir).ok() != before {
            moved += 1;
        } else if matches!(leader::holder(dir), Ok(Some(_))) {
            still += 1;
            sleep(STILL_PAUSE);
        } else {
            return result;
        }
        if moved > MOVED_ATTEMPTS || still > STILL_ATTEMPTS {
            return result;
        }
    }
}

/// Refuses a log that ends, at `len` of `segment`, before the last acknowledged commit.
pub(super) fn expect_acknowledged(
    dir: &Path,
    acknowledged: CommitNumber,
    segment: u64,
    len: u64,
    last: CommitNumber,
) -> Result<(), StoreError> {
    if acknowledged <= last {
        return Ok(());
    }
    let detail =
        format!("the log ends here with commit number {last}, although number {acknowledged} was acknowledged");
    Err(StoreError::Damaged { file: files::log_path(dir, segment), offset: len, detail })
}
