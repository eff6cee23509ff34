//! A store in memory, for tests and the simulator: deterministic, with every failure of the contract on demand.
//!
//! A [`MemoryDisk`] is the hardware: clone the handle and it outlives any store object. A [`MemoryStore`] is a process
//! using that disk: dropping it is a crash, opening another one on the same disk sees exactly the durable prefix.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::{Batch, CommitError, CommitNumber, Group, Store, StoreError, Term, Write};

/// What the next commit does instead of succeeding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// [`CommitError::Failed`] with the first `kept` groups durable: a full disk.
    Fail {
        /// How many groups of the batch are kept; the whole batch at most.
        kept: usize,
    },
    /// [`CommitError::Unknown`] with the first `kept` groups durable: a connection lost in mid-commit, a failed
    /// synchronisation. Until somebody leads again, every further commit answers `Unknown` as well.
    Unknown {
        /// How many groups of the batch are kept; the whole batch at most.
        kept: usize,
    },
    /// Power fails in mid-commit: the first `kept` groups are whole on disk, and the group after them is half written.
    /// The store object is dead from then on (`Unknown` to everything); the next one opened cuts the half group off.
    Torn {
        /// How many groups of the batch are whole; the one after them, if any, is torn.
        kept: usize,
    },
}

#[derive(Debug, Default)]
struct DiskState {
    entities: BTreeMap<Vec<u8>, Vec<u8>>,
    number: CommitNumber,
    term: Term,
    /// A group that a power failure cut in half. No reader ever sees it; the next leader removes it.
    torn: Option<Group>,
    torn_cut: u64,
    faults: VecDeque<Fault>,
    full: bool,
    damaged: bool,
    commits: u64,
}

impl DiskState {
    fn apply(&mut self, groups: &[Group]) {
        for group in groups {
            for write in &group.writes {
                match write {
                    Write::Put { key, value } => {
                        self.entities.insert(key.clone(), value.clone());
                    }
                    Write::Delete { key } => {
                        self.entities.remove(key);
                    }
                }
            }
            self.number = group.number;
        }
    }
}

/// The shared "hardware" under any number of [`MemoryStore`]s, one after the other or competing. Clones are handles to
/// the same disk.
#[derive(Clone, Debug, Default)]
pub struct MemoryDisk {
    state: Arc<Mutex<DiskState>>,
}

impl MemoryDisk {
    /// An empty disk.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn lock(&self) -> MutexGuard<'_, DiskState> {
        // Every mutation under this lock is complete before anything can panic, so a poisoned lock guards a sound
        // state.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a fault: the next commit that is not fenced meets the first one queued, and uses it up.
    pub fn inject(&self, fault: Fault) {
        self.lock().faults.push_back(fault);
    }

    /// The next commit fails, known, after `kept` of its groups became durable.
    pub fn fail_next_commit(&self, kept: usize) {
        self.inject(Fault::Fail { kept });
    }

    /// The next commit's outcome is unknown to the caller; `kept` of its groups are durable.
    pub fn lose_next_commit(&self, kept: usize) {
        self.inject(Fault::Unknown { kept });
    }

    /// Power fails during the next commit, which leaves `kept` whole groups and half of one more.
    pub fn tear_next_commit(&self, kept: usize) {
        self.inject(Fault::Torn { kept });
    }

    /// While set, every commit with groups fails, known, and keeps nothing. Loading goes on.
    pub fn set_full(&self, full: bool) {
        self.lock().full = full;
    }

    /// While set, loading is refused as [`StoreError::Damaged`].
    pub fn set_damaged(&self, damaged: bool) {
        self.lock().damaged = damaged;
    }

    /// Another leader appears: takes a newer term, so that every store open on this disk is fenced.
    pub fn fence(&self) -> Term {
        let mut state = self.lock();
        state.term.0 += 1;
        state.term
    }

    /// The last durable number.
    #[must_use]
    pub fn number(&self) -> CommitNumber {
        self.lock().number
    }

    /// The term in force.
    #[must_use]
    pub fn term(&self) -> Term {
        self.lock().term
    }

    /// How many commits succeeded on this disk: what a real one would have synchronised.
    #[must_use]
    pub fn commits(&self) -> u64 {
        self.lock().commits
    }

    /// How many torn groups were cut off by leaders of this disk.
    #[must_use]
    pub fn torn_cut(&self) -> u64 {
        self.lock().torn_cut
    }

    /// The durable entities, as a reader would be given them.
    #[must_use]
    pub fn entities(&self) -> BTreeMap<Vec<u8>, Vec<u8>> {
        self.lock().entities.clone()
    }

    /// An independent copy of the durable state, as after a restore from a backup taken now: no faults pending.
    #[must_use]
    pub fn snapshot(&self) -> Self {
        let state = self.lock();
        let copy = DiskState {
            entities: state.entities.clone(),
            number: state.number,
            term: state.term,
            ..DiskState::default()
        };
        Self { state: Arc::new(Mutex::new(copy)) }
    }
}

/// One process's view of a [`MemoryDisk`].
#[derive(Debug)]
pub struct MemoryStore {
    disk: MemoryDisk,
    unsettled: bool,
    dead: bool,
}

impl MemoryStore {
    /// Opens the disk; what a former store left durable is there, nothing else.
    #[must_use]
    pub fn open(disk: MemoryDisk) -> Self {
        Self { disk, unsettled: false, dead: false }
    }

    /// A store on a disk of its own.
    #[must_use]
    pub fn new() -> Self {
        Self::open(MemoryDisk::new())
    }

    /// The disk underneath: survives this object.
    #[must_use]
    pub fn disk(&self) -> MemoryDisk {
        self.disk.clone()
    }

    fn power_lost() -> StoreError {
        simulated("use", io::ErrorKind::NotConnected)
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl Store for MemoryStore {
    fn lead(&mut self) -> Result<Term, StoreError> {
        if self.dead {
            return Err(Self::power_lost());
        }
        let mut disk = self.disk.lock();
        disk.term.0 += 1;
        if disk.torn.take().is_some() {
            disk.torn_cut += 1;
        }
        self.unsettled = false;
        Ok(disk.term)
    }

    fn load(&mut self, each: &mut dyn FnMut(&[u8], &[u8])) -> Result<CommitNumber, StoreError> {
        if self.dead {
            return Err(Self::power_lost());
        }
        let disk = self.disk.lock();
        if disk.damaged {
            return Err(StoreError::Damaged {
                file: PathBuf::from("memory"),
                offset: 0,
                detail: "simulated damage".to_owned(),
            });
        }
        for (key, value) in &disk.entities {
            each(key, value);
        }
        Ok(disk.number)
    }

    fn commit(&mut self, term: Term, batch: &Batch) -> Result<(), CommitError> {
        if self.dead {
            return Err(CommitError::Unknown { source: Self::power_lost() });
        }
        let mut disk = self.disk.lock();
        if term != disk.term {
            return Err(CommitError::Fenced { held: term, current: disk.term });
        }
        if self.unsettled {
            return Err(CommitError::Unknown { source: StoreError::Unsettled });
        }
        let durable = disk.number;
        batch.check_numbers(durable).map_err(|source| CommitError::Failed { durable, source })?;
        if batch.groups.is_empty() {
            return Ok(());
        }
        let whole = batch.groups.len();
        match disk.faults.pop_front() {
            None if disk.full => {
                Err(CommitError::Failed { durable, source: simulated("write to", io::ErrorKind::StorageFull) })
            }
            None => {
                disk.apply(&batch.groups);
                disk.commits += 1;
                Ok(())
            }
            Some(Fault::Fail { kept }) => {
                disk.apply(&batch.groups[..kept.min(whole)]);
                Err(CommitError::Failed {
                    durable: disk.number,
                    source: simulated("write to", io::ErrorKind::StorageFull),
                })
            }
            Some(Fault::Unknown { kept }) => {
                disk.apply(&batch.groups[..kept.min(whole)]);
                self.unsettled = true;
                Err(CommitError::Unknown { source: simulated("synchronise", io::ErrorKind::TimedOut) })
            }
            Some(Fault::Torn { kept }) => {
                disk.apply(&batch.groups[..kept.min(whole)]);
                disk.torn = batch.groups.get(kept).cloned();
                self.dead = true;
                Err(CommitError::Unknown { source: Self::power_lost() })
            }
        }
    }
}

fn simulated(action: &'static str, kind: io::ErrorKind) -> StoreError {
    StoreError::Io { action, path: PathBuf::from("memory"), source: kind.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::{Entities, batch, group, load, put};

    fn three() -> Batch {
        batch([group(2, [put("a", "2"), put("b", "2")]), group(3, [put("c", "3")]), group(4, [put("d", "4")])])
    }

    fn entities(keys: &[&str]) -> Entities {
        let value = |key: &str| match key {
            "z" => "1",
            "a" | "b" => "2",
            "c" => "3",
            _ => "4",
        };
        keys.iter().map(|key| (key.as_bytes().to_vec(), value(key).as_bytes().to_vec())).collect()
    }

    /// A disk with commit 1, its store and term.
    fn store() -> (MemoryDisk, MemoryStore, Term) {
        let mut store = MemoryStore::new();
        let term = store.lead().unwrap();
        store.commit(term, &batch([group(1, [put("z", "1")])])).unwrap();
        (store.disk(), store, term)
    }

    const PREFIXES: [(usize, u64, &[&str]); 5] = [
        (0, 1, &["z"]),
        (1, 2, &["a", "b", "z"]),
        (2, 3, &["a", "b", "c", "z"]),
        (3, 4, &["a", "b", "c", "d", "z"]),
        (9, 4, &["a", "b", "c", "d", "z"]),
    ];

    #[test]
    fn a_known_failure_keeps_the_groups_it_says() {
        for (kept, number, keys) in PREFIXES {
            let (disk, mut store, term) = store();
            disk.fail_next_commit(kept);
            let failed = store.commit(term, &three());
            assert!(matches!(failed, Err(CommitError::Failed { durable, .. }) if durable.0 == number), "{failed:?}");
            let expected = (CommitNumber(number), entities(keys));
            assert_eq!(load(&mut store).unwrap(), expected);
            store.commit(term, &batch([group(9, [])])).unwrap();
        }
    }

    #[test]
    fn an_unknown_outcome_is_settled_by_leading_again() {
        for (kept, number, keys) in PREFIXES {
            let (disk, mut store, term) = store();
            disk.lose_next_commit(kept);
            let unknown = store.commit(term, &three());
            assert!(matches!(unknown, Err(CommitError::Unknown { .. })));
            let again = store.commit(term, &batch([group(9, [])]));
            assert!(matches!(again, Err(CommitError::Unknown { .. })));
            let term = store.lead().unwrap();
            let expected = (CommitNumber(number), entities(keys));
            assert_eq!(load(&mut store).unwrap(), expected);
            store.commit(term, &batch([group(9, [])])).unwrap();
        }
    }

    #[test]
    fn a_crash_leaves_the_durable_prefix_and_the_torn_group_is_cut() {
        for (kept, number, keys) in PREFIXES {
            let (disk, mut store, term) = store();
            disk.tear_next_commit(kept);
            let torn = store.commit(term, &three());
            assert!(matches!(torn, Err(CommitError::Unknown { .. })));
            assert!(store.lead().is_err(), "that process is gone");
            drop(store);
            let mut store = MemoryStore::open(disk.clone());
            store.lead().unwrap();
            let expected = (CommitNumber(number), entities(keys));
            assert_eq!(load(&mut store).unwrap(), expected);
            assert_eq!(disk.torn_cut(), u64::from(kept < 3));
        }
    }

    #[test]
    fn another_leader_fences() {
        let (disk, mut store, term) = store();
        let newer = disk.fence();
        let fenced = store.commit(term, &three());
        assert!(matches!(fenced, Err(CommitError::Fenced { held, current }) if (held, current) == (term, newer)));
        assert_eq!(disk.entities(), entities(&["z"]));
    }

    #[test]
    fn a_full_disk_serves_what_it_has_and_works_again_with_room() {
        let (disk, mut store, term) = store();
        disk.set_full(true);
        for _ in 0..2 {
            let failed = store.commit(term, &three());
            assert!(
                matches!(&failed, Err(CommitError::Failed { durable: CommitNumber(1), source }) if source.is_disk_full()),
                "{failed:?}"
            );
            assert_eq!(load(&mut store).unwrap(), (CommitNumber(1), entities(&["z"])));
        }
        disk.set_full(false);
        store.commit(term, &three()).unwrap();
        assert_eq!((disk.number(), disk.commits()), (CommitNumber(4), 2));
    }

    #[test]
    fn damage_refuses_to_load_and_a_snapshot_is_independent() {
        let (disk, mut store, term) = store();
        let backup = disk.snapshot();
        disk.set_damaged(true);
        assert!(matches!(load(&mut store), Err(StoreError::Damaged { .. })));
        store.commit(term, &three()).unwrap();
        assert_eq!(backup.number(), CommitNumber(1));
        let mut restored = MemoryStore::open(backup);
        assert_eq!(load(&mut restored).unwrap(), (CommitNumber(1), entities(&["z"])));
    }
}
