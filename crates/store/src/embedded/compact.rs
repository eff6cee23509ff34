//! Keeping the directory small, in a thread of its own: full log segments are folded into sorted runs, runs are merged.
//!
//! Nothing here is needed for durability: each step writes new files, makes them durable, names them in a new manifest,
//! and only then removes what they replace. A step that fails (a full disk) is undone and tried again later.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::files;
use super::log::{self, Entry, Sorted, Tail};
use super::manifest::{Manifest, RunInfo};
use super::merge::{Source, merge};
use super::run::{RunFile, Writer};
use crate::{CommitNumber, StoreError};

/// How long after a failed step the next one is tried. Space on a full disk comes back in human time.
const RETRY: Duration = Duration::from_secs(5);
/// A commit waits while so many full segments are unfolded: the disk then holds at most this many more than it should,
/// and a start reads no more.
const MAX_BACKLOG: u64 = 32;
/// Runs of about one size are merged once there are this many: each entity is rewritten a few times on its way to the
/// largest run, not once per fold.
const TIER_RUNS: usize = 4;

/// The thread and what it shares with the committing one.
#[derive(Debug)]
pub(super) struct Compactor {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    dir: PathBuf,
    state: Mutex<State>,
    changed: Condvar,
    /// Ends the thread, also in mid-step: a large merge must not hold up a server that is told to stop.
    stop: AtomicBool,
}

#[derive(Debug)]
struct State {
    manifest: Manifest,
    /// The segment being written; all before it are complete.
    active: u64,
    failing: bool,
}

impl Shared {
    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // The state is replaced in single assignments, so it is sound even if a holder panicked.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Compactor {
    /// Starts the thread on the state that recovery found.
    pub(super) fn start(dir: &Path, manifest: Manifest, active: u64) -> Result<Self, StoreError> {
        let state = Mutex::new(State { manifest, active, failing: false });
        let shared =
            Arc::new(Shared { dir: dir.to_owned(), state, changed: Condvar::new(), stop: AtomicBool::new(false) });
        let worker = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("store-compact".to_owned())
            .spawn(move || {
                let _ended = Ended(&worker);
                work(&worker);
            })
            .map_err(StoreError::io("start the compaction of", dir))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Says that `active` is now the segment being written, and waits while too many full ones are unfolded (unless
    /// folding fails: a full disk must show as a failed commit, not as a commit that hangs).
    pub(super) fn rolled(&self, active: u64) {
        let mut state = self.shared.lock();
        state.active = active;
        self.shared.changed.notify_all();
        while state.active - state.manifest.first_segment > MAX_BACKLOG && !state.failing {
            state = self.shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Waits until nothing is left to fold or merge. For tests and checks.
    #[cfg(test)]
    pub(super) fn settle(&self) {
        let mut state = self.shared.lock();
        while next_step(&state).is_some() && !state.failing {
            state = self.shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Runs `with` on the current manifest, whose files stay in place meanwhile.
    pub(super) fn with_manifest<T>(&self, with: impl FnOnce(&Manifest) -> T) -> T {
        with(&self.shared.lock().manifest)
    }
}

impl Drop for Compactor {
    fn drop(&mut self) {
        {
            // Under the lock, so that the thread is either still to look at it or already waits to be woken.
            let _state = self.shared.lock();
            self.shared.stop.store(true, Ordering::Relaxed);
            self.shared.changed.notify_all();
        }
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the store's compaction thread panicked");
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// Fold the oldest segment into a run.
    Fold,
    /// Merge the runs from this one to the newest.
    Merge(usize),
}

/// Folding goes first: it is what a start and a waiting commit depend on.
fn next_step(state: &State) -> Option<Step> {
    if state.manifest.first_segment < state.active {
        return Some(Step::Fold);
    }
    merge_from(&state.manifest.runs).map(Step::Merge)
}

/// The run from which on to merge, if any. Two rules: all runs after the first together stay smaller than the first (so
/// the disk holds at most twice what lives), and no [`TIER_RUNS`] runs at the end are of about one size (so that a load
/// reads few files).
fn merge_from(runs: &[RunInfo]) -> Option<usize> {
    let (first, newer) = runs.split_first()?;
    if newer.is_empty() {
        return None;
    }
    if newer.iter().map(|run| run.bytes).sum::<u64>() >= first.bytes {
        return Some(0);
    }
    let from = runs.len().checked_sub(TIER_RUNS)?;
    let smallest = runs[from..].iter().map(|run| run.bytes).min()?;
    (runs[from].bytes <= smallest.saturating_mul(TIER_RUNS as u64)).then_some(from)
}

/// When the thread ends, for whatever reason, nobody waits for it any longer.
struct Ended<'a>(&'a Shared);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.lock().failing = true;
        self.0.changed.notify_all();
    }
}

fn work(shared: &Shared) {
    let mut state = shared.lock();
    while !shared.stopped() {
        let Some(step) = next_step(&state) else {
            state = shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            continue;
        };
        let before = state.manifest.clone();
        drop(state);
        let outcome = run_step(shared, &before, &step);
        state = shared.lock();
        match outcome {
            Ok(after) => {
                state.failing = false;
                state.manifest = after.clone();
                remove_superseded(&shared.dir, &before, &after);
                shared.changed.notify_all();
            }
            Err(StepError::Stopped) => return,
            Err(StepError::Store(error)) => {
                if !state.failing {
                    tracing::warn!(%error, "the store cannot be compacted and grows until it can");
                }
                // The failed step may have made its manifest visible all the same, so the run that it names is not
                // written over.
                state.manifest.next_run += 1;
                state.failing = true;
                shared.changed.notify_all();
                state = wait_to_retry(shared, state);
            }
        }
    }
}

/// Waits until it is time to try again, or until a new segment shows that there is room once more (or something to fold,
/// when a merge failed: a fold needs little).
fn wait_to_retry<'a>(shared: &Shared, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
    let active = state.active;
    let waited = shared.changed.wait_timeout_while(state, RETRY, |state| !shared.stopped() && state.active == active);
    waited.unwrap_or_else(PoisonError::into_inner).0
}

/// Why a step did not complete.
#[derive(Debug)]
enum StepError {
    Stopped,
    Store(StoreError),
}

impl From<StoreError> for StepError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

fn remove_superseded(dir: &Path, before: &Manifest, after: &Manifest) {
    for segment in before.first_segment..after.first_segment {
        files::remove(&files::log_path(dir, segment));
    }
    for run in before.runs.iter().filter(|run| !after.runs.contains(run)) {
        files::remove(&files::run_path(dir, run.number));
    }
}

/// Performs a step and returns the manifest it made durable.
fn run_step(shared: &Shared, before: &Manifest, step: &Step) -> Result<Manifest, StepError> {
    let dir = &shared.dir;
    let undo = || files::remove(&files::run_path(dir, before.next_run));
    let after = new_run(shared, before, step).inspect_err(|_| undo())?;
    after.write(dir).inspect_err(|_| {
        if matches!(Manifest::read(dir), Ok(Some(visible)) if visible != after) {
            undo();
        }
    })?;
    Ok(after)
}

/// Writes the run of a step, durable, and returns the manifest that is to name it.
fn new_run(shared: &Shared, before: &Manifest, step: &Step) -> Result<Manifest, StepError> {
    let mut after = before.clone();
    after.next_run += 1;
    let run = match *step {
        Step::Fold => {
            let (run, last) = fold(&shared.dir, before)?;
            after.first_segment += 1;
            after.folded = last;
            run
        }
        Step::Merge(from) => {
            after.runs.truncate(from);
            merge_runs(shared, before, from)?
        }
    };
    after.runs.extend(run);
    files::sync_dir(&shared.dir)?;
    Ok(after)
}

fn fold(dir: &Path, manifest: &Manifest) -> Result<(Option<RunInfo>, CommitNumber), StoreError> {
    let number = manifest.first_segment;
    let path = files::log_path(dir, number);
    let bytes = files::read(&path)?.ok_or_else(|| files::damaged(&path, 0, "the file is missing"))?;
    files::expect_room(dir, bytes.len() as u64)?;
    let mut entries = Vec::new();
    let after = Some(manifest.folded);
    let scan = log::scan(&bytes, &path, number, after, Tail::Complete, &mut |entry| {
        entries.push(entry);
    })?;
    let sorted = Sorted::new(entries);
    let mut writer = Writer::create(dir, manifest.next_run)?;
    let oldest = manifest.runs.is_empty();
    for &entry in &sorted.entries {
        write_entry(&mut writer, entry, oldest)?;
    }
    Ok((writer.finish()?, scan.last))
}

fn merge_runs(shared: &Shared, manifest: &Manifest, from: usize) -> Result<Option<RunInfo>, StepError> {
    let runs = &manifest.runs[from..];
    files::expect_room(&shared.dir, runs.iter().map(|run| run.bytes).sum())?;
    let reader = |run| RunFile::open(&shared.dir, run)?.reader();
    let sources = runs.iter().map(|run| reader(run).map(Source::Run)).collect::<Result<_, _>>()?;
    let mut writer = Writer::create(&shared.dir, manifest.next_run)?;
    merge(sources, &mut |entry| {
        if shared.stopped() {
            return Err(StepError::Stopped);
        }
        Ok(write_entry(&mut writer, entry, from == 0)?)
    })?;
    Ok(writer.finish()?)
}

/// A deletion with nothing older beneath it has nothing to hide.
fn write_entry(writer: &mut Writer, entry: Entry<'_>, oldest: bool) -> Result<(), StoreError> {
    if oldest && entry.1.is_none() { Ok(()) } else { writer.push(entry) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn runs(sizes: &[u64]) -> Vec<RunInfo> {
        sizes.iter().zip(1..).map(|(&bytes, number)| RunInfo { number, bytes }).collect()
    }

    #[test]
    fn merges_start_where_the_rules_say() {
        for (sizes, expected) in [
            (&[][..], None),
            (&[16], None),
            (&[16, 16], Some(0)),
            (&[64, 16], None),
            (&[64, 16, 16, 32], Some(0)),
            (&[400, 16, 16, 16], None),
            (&[400, 16, 16, 16, 16], Some(1)),
            (&[4000, 400, 16, 16, 16], None),
            (&[4000, 400, 64, 64, 64, 16], Some(2)),
        ] {
            assert_eq!(merge_from(&runs(sizes)), expected, "{sizes:?}");
        }
    }

    proptest! {
        /// Folding equal segments for ever keeps few runs, at most twice the data, and rewrites each entity a bounded
        /// number of times.
        #[test]
        fn runs_stay_few_and_work_stays_bounded(folds in 1u64..2000) {
            let mut sizes: Vec<u64> = Vec::new();
            let mut written = 0;
            for _ in 0..folds {
                sizes.extend([16]);
                while let Some(from) = merge_from(&runs(&sizes)) {
                    let merged = sizes.drain(from..).sum();
                    written += merged;
                    sizes.push(merged);
                }
            }
            prop_assert!(sizes.len() <= 20, "{sizes:?}");
            prop_assert!(written <= folds * 16 * 6, "{written} written for {folds} folds");
        }
    }
}
