//! A look at every byte of a store that changes none of them, also while a server uses it: what is there, what a crash
//! left, what is damaged and what of it is lost.

use std::path::{Path, PathBuf};

use super::files;
use super::leader;
use super::log::{self, Scan, Tail};
use super::manifest::{self, Manifest};
use super::mark::Mark;
use super::run::RunFile;
use super::snapshot::{Segment, Snapshot, settled};
use crate::{CommitNumber, StoreError};

/// What [`check`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The format of the files; `None` when the manifest, which names it, is unreadable.
    pub format: Option<u32>,
    /// The process that uses the store, if any does: files then come and go while they are looked at.
    pub in_use: Option<Holder>,
    /// The last commit number that can be read.
    pub number: CommitNumber,
    /// The last commit number of which the store noted that it was acknowledged; never greater, unless commits are
    /// lost. After a power failure the note may be old.
    pub acknowledged: CommitNumber,
    /// How many entities there are. Counted only when nothing is damaged.
    pub entities: u64,
    /// Their keys and values together. Counted only when nothing is damaged.
    pub bytes: u64,
    /// The files that count, runs first, in the order in which they are read.
    pub files: Vec<FileReport>,
    /// A last record that was being written when the machine stopped. Nobody was promised it; the next start cuts it
    /// off.
    pub torn: Option<Torn>,
    /// What an acknowledged write may be missing through. A server refuses to start on it.
    pub damage: Vec<Damage>,
    /// Files that a crash left and that count for nothing; the next start removes them. None while the store is in use.
    pub leftovers: Vec<PathBuf>,
}

/// Who uses a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Its process id, if it left it.
    pub pid: Option<u32>,
}

/// A file that counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileReport {
    /// Where it is.
    pub file: PathBuf,
    /// Its size; a log's is that of its records, without the space made ahead.
    pub bytes: u64,
    /// How many writes it holds.
    pub records: u64,
}

/// A record that was cut short by the end of the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Torn {
    /// In which file.
    pub file: PathBuf,
    /// Where it begins.
    pub offset: u64,
    /// What will be cut off.
    pub bytes: u64,
}

/// A place that cannot be read as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// In which file.
    pub file: PathBuf,
    /// Where it begins.
    pub offset: u64,
    /// What was expected there.
    pub detail: String,
    /// What cannot be read because of it.
    pub lost: String,
}

/// Reads all of the store in `dir` and gives every entity to `each`, in key order, if nothing is damaged. It takes no
/// lock and writes nothing.
///
/// # Errors
/// [`StoreError::NoStore`], [`StoreError::NewerFormat`], or what the system refused. Damage is no error: it is in the report.
pub fn check(dir: &Path, each: &mut dyn FnMut(&[u8], &[u8])) -> Result<Report, StoreError> {
    if !dir.try_exists().map_err(StoreError::io("look for", dir))? {
        return Err(StoreError::NoStore { path: dir.to_owned() });
    }
    let in_use = leader::holder(dir)?.map(|pid| Holder { pid });
    let doubtful = |looked: &Result<Look, _>| looked.as_ref().is_ok_and(|look| !look.report.damage.is_empty());
    let Look { mut report, runs, snapshot } = settled(dir, doubtful, || Look::at(dir))?;
    report.in_use = in_use;
    if in_use.is_some() {
        // What is being made at this moment looks like what a crash left.
        report.leftovers.clear();
    }
    for (run, file) in runs.iter().zip(&mut report.files) {
        if let Err(error) = read_run(run, &mut file.records) {
            let lost = format!("entities among the {} bytes of this file", file.bytes);
            note(&mut report.damage, error, lost)?;
        }
    }
    if let Some(snapshot) = snapshot.filter(|_| report.damage.is_empty()) {
        snapshot.merge(&mut |key, value| {
            report.entities += 1;
            report.bytes += (key.len() + value.len()) as u64;
            each(key, value);
            Ok::<_, StoreError>(())
        })?;
    }
    Ok(report)
}

/// Steps through a run; what it holds is counted as far as it can be read.
fn read_run(run: &RunFile, records: &mut u64) -> Result<(), StoreError> {
    let mut reader = run.reader()?;
    while reader.peek().is_some() {
        *records = reader.seen();
        reader.advance()?;
    }
    Ok(())
}

/// Adds an error to the damage if it is about what the disk holds; anything else is the caller's problem.
fn note(damage: &mut Vec<Damage>, error: StoreError, lost: String) -> Result<(), StoreError> {
    let (file, offset, detail) = match error {
        StoreError::Damaged { file, offset, detail } => (file, offset, detail),
        StoreError::Io { action: "read", path, source } => (path, 0, format!("the disk cannot read it: {source}")),
        other => return Err(other),
    };
    damage.push(Damage { file, offset, detail, lost });
    Ok(())
}

/// Everything but the insides of the runs, as of one moment.
struct Look {
    report: Report,
    /// The first [`Report::files`] are of these.
    runs: Vec<RunFile>,
    /// There when nothing is damaged so far.
    snapshot: Option<Snapshot>,
}

impl Look {
    fn at(dir: &Path) -> Result<Self, StoreError> {
        let mut report = Report { acknowledged: Mark::read(dir)?, ..Report::default() };
        let present = files::numbers(dir, files::LOG)?;
        let read = Manifest::read(dir);
        let lost_list = "which files count: without it, all of the store";
        let manifest = match read {
            Ok(Some(manifest)) => manifest,
            Ok(None) => {
                if present.is_empty() && files::numbers(dir, files::RUN)?.is_empty() && report.acknowledged.0 == 0 {
                    return Err(StoreError::NoStore { path: dir.to_owned() });
                }
                let missing = files::damaged(&Manifest::path(dir), 0, "the file is missing");
                note(&mut report.damage, missing, lost_list.to_owned())?;
                return Ok(Self { report, runs: Vec::new(), snapshot: None });
            }
            Err(error) => {
                note(&mut report.damage, error, lost_list.to_owned())?;
                return Ok(Self { report, runs: Vec::new(), snapshot: None });
            }
        };
        report.format = Some(manifest::FORMAT);
        let mut runs = Vec::new();
        for run in &manifest.runs {
            match RunFile::open(dir, run) {
                Ok(file) => {
                    let path = files::run_path(dir, run.number);
                    report.files.push(FileReport { file: path, bytes: run.bytes, records: 0 });
                    runs.push(file);
                }
                Err(error) => note(&mut report.damage, error, format!("entities among its {} bytes", run.bytes))?,
            }
        }
        let segments = LogLook::at(dir, &manifest, &present, &mut report)?;
        leftovers(dir, &manifest, &present, &segments, &mut report)?;
        let sound = report.damage.is_empty();
        let snapshot = Snapshot { dir: dir.to_owned(), folded: manifest.folded, runs: runs.clone(), segments };
        Ok(Self { report, runs, snapshot: sound.then_some(snapshot) })
    }
}

/// The log, segment by segment.
struct LogLook<'a> {
    dir: &'a Path,
    /// What the next segment goes on from; `None` after damage, when that is not known.
    after: Option<CommitNumber>,
    report: &'a mut Report,
}

impl LogLook<'_> {
    /// Looks at all segments that count and returns those that can be read.
    fn at(dir: &Path, manifest: &Manifest, present: &[u64], report: &mut Report) -> Result<Vec<Segment>, StoreError> {
        report.number = manifest.folded;
        let mut look = LogLook { dir, after: Some(manifest.folded), report };
        let mut readable = Vec::new();
        let mut end = (manifest.first_segment, 0);
        let mut expected = manifest.first_segment;
        for &number in present.iter().filter(|&&number| number >= manifest.first_segment) {
            if number != expected {
                look.missing(expected)?;
            }
            expected = number.saturating_add(1);
            if let Some((segment, len)) = look.segment(number, Some(&number) == present.last())? {
                end = (number, len);
                readable.push(segment);
            }
        }
        look.expect_acknowledged(end)?;
        Ok(readable)
    }

    /// It, and the length of its valid part; `None` when it does not count, because it was never begun, or is
    /// unreadable.
    fn segment(&mut self, number: u64, is_newest: bool) -> Result<Option<(Segment, u64)>, StoreError> {
        let path = files::log_path(self.dir, number);
        let bytes = match files::read(&path) {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return self.missing(number).map(|()| None),
            Err(error) => return self.unreadable(error, None).map(|()| None),
        };
        if is_newest && log::never_begun(&bytes, number) {
            return Ok(None);
        }
        let tail = if is_newest { Tail::MayBeTorn } else { Tail::Complete };
        let mut records = 0;
        match log::scan(&bytes, &path, number, self.after, tail, &mut |_| records += 1) {
            Ok(Scan { len, last, torn }) => {
                self.after = Some(last);
                self.report.number = self.report.number.max(last);
                if torn > 0 {
                    self.report.torn = Some(Torn { file: path.clone(), offset: len as u64, bytes: torn as u64 });
                }
                self.report.files.push(FileReport { file: path, bytes: len as u64, records });
                Ok(Some((Segment { number, bytes, tail }, len as u64)))
            }
            Err(error) => {
                let from = match &error {
                    StoreError::Damaged { offset, .. } => usize::try_from(*offset).unwrap_or(usize::MAX),
                    _ => 0,
                };
                let before = bytes.get(..from).unwrap_or_default();
                if let Ok(scan) = log::scan(before, &path, number, self.after, Tail::Complete, &mut |_| ()) {
                    self.report.number = scan.last;
                }
                let up_to = log::resumes_after(&bytes, from.saturating_add(1), number);
                self.unreadable(error, up_to).map(|()| None)
            }
        }
    }

    fn missing(&mut self, number: u64) -> Result<(), StoreError> {
        self.unreadable(files::damaged(&files::log_path(self.dir, number), 0, "the file is missing"), None)
    }

    /// Commits are lost after the last one read, `up_to` another if that is known.
    fn unreadable(&mut self, error: StoreError, up_to: Option<CommitNumber>) -> Result<(), StoreError> {
        self.after = None;
        let Report { number, acknowledged, .. } = &*self.report;
        let lost = match up_to {
            Some(last) if last <= *number => "no commit".to_owned(),
            Some(last) => format!("commits after number {number}, up to {last}"),
            None => format!("commits after number {number}, at least up to {}", acknowledged.max(number)),
        };
        note(&mut self.report.damage, error, lost)
    }

    /// A log that ends before the last acknowledged commit has lost some, although every record in it is whole.
    fn expect_acknowledged(&mut self, (segment, len): (u64, u64)) -> Result<(), StoreError> {
        let Report { number, acknowledged, damage, .. } = &mut *self.report;
        if !damage.is_empty() || *acknowledged <= *number {
            return Ok(());
        }
        let lost = format!("commits after number {number}, up to {acknowledged}");
        let path = files::log_path(self.dir, segment);
        note(damage, StoreError::Damaged { file: path, offset: len, detail: "the log ends too early".to_owned() }, lost)
    }
}

/// Files in the way of nobody: superseded, or never finished.
fn leftovers(
    dir: &Path,
    manifest: &Manifest,
    present: &[u64],
    counted: &[Segment],
    report: &mut Report,
) -> Result<(), StoreError> {
    let damaged: Vec<&Path> = report.damage.iter().map(|damage| damage.file.as_path()).collect();
    let mut found: Vec<PathBuf> = Vec::new();
    let counts = |number: u64| counted.iter().any(|segment| segment.number == number);
    let logs = present.iter().filter(|&&number| !counts(number)).map(|&number| files::log_path(dir, number));
    found.extend(logs.filter(|path| !damaged.contains(&path.as_path())));
    let runs = files::numbers(dir, files::RUN)?;
    found.extend(runs.into_iter().filter(|&run| !manifest.has_run(run)).map(|run| files::run_path(dir, run)));
    found.extend(Some(Manifest::next_path(dir)).filter(|path| path.exists()));
    report.leftovers = found;
    Ok(())
}
