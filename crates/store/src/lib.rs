//! Where the orchestrator's state survives: the [`Store`] trait, its three verbs, and the engines behind it.
//!
//! **For**: making batches of writes durable in order, letting one leader write at a time, and streaming every entity
//! back at start.
//!
//! **Must not know**: what a key or a value means, who asks for a commit, time, async, or the network. It depends on no
//! other crate of ours. Memory answers every question; a store has no query, no watch and no iterator that outlives
//! [`Store::load`].
//!
//! **Begin reading** with [`Store`] here, then [`memory`] (the contract in its plainest form, with faults on demand),
//! then [`embedded`] (the crash-safe files, their check, backup and restore). Any engine proves itself with [`conformance`].

pub mod conformance;
pub mod embedded;
mod error;
pub mod memory;

use std::fmt;

pub use embedded::{EmbeddedStore, backup, check, restore};
pub use error::{CommitError, StoreError};
pub use memory::{MemoryDisk, MemoryStore};

/// A fencing term: each call of [`Store::lead`], by anybody, gets a greater one, and only the greatest may write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Term(pub u64);

/// The number of a committed group. It only grows, across crashes and leaders; 0 means that nothing was ever committed.
/// Agents see it as their sequence number (DESIGN §3.6), so a number that was used is never used again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommitNumber(pub u64);

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for CommitNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What is given every key and its value, in ascending key order, until it answers an error.
pub type Each<'a, E> = dyn FnMut(&[u8], &[u8]) -> Result<(), E> + 'a;

/// One change of one entity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// Set the whole value of `key`, whether or not it existed.
    Put {
        /// The entity's key.
        key: Vec<u8>,
        /// Its new value.
        value: Vec<u8>,
    },
    /// Remove `key`; removing one that does not exist is no error.
    Delete {
        /// The entity's key.
        key: Vec<u8>,
    },
}

impl Write {
    /// The key that this write changes.
    #[must_use]
    pub fn key(&self) -> &[u8] {
        match self {
            Self::Put { key, .. } | Self::Delete { key } => key,
        }
    }
}

/// The writes of one command: all of them become durable, or none.
///
/// A group may be empty; it then only moves the commit number. Writes apply in order, so a later one of the same key
/// wins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Group {
    /// Greater than the number of every group before it; gaps are allowed.
    pub number: CommitNumber,
    /// What changes.
    pub writes: Vec<Write>,
}

/// Groups committed together, at the price of one disk synchronisation. Their numbers strictly increase.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// The groups, oldest first.
    pub groups: Vec<Group>,
}

impl Batch {
    /// The number of the last group, or `None` when there is no group.
    #[must_use]
    pub fn last_number(&self) -> Option<CommitNumber> {
        self.groups.last().map(|group| group.number)
    }

    /// Checks that the numbers strictly increase, starting above `last`.
    ///
    /// # Errors
    /// [`StoreError::NumberNotIncreasing`] naming the first number that does not.
    pub fn check_numbers(&self, mut last: CommitNumber) -> Result<(), StoreError> {
        for group in &self.groups {
            if group.number <= last {
                return Err(StoreError::NumberNotIncreasing { number: group.number, last });
            }
            last = group.number;
        }
        Ok(())
    }
}

/// Durable state behind three verbs. Synchronous: the runner calls it from a thread of its own.
///
/// What every engine promises, and [`conformance`] checks:
///
/// - **Atomic groups.** No crash, at any instant, leaves part of a group.
/// - **Durable prefix.** What survives is every group up to some number and none after it, counting from the first ever
///   committed. That number is at least that of the last group for which [`Store::commit`] returned `Ok`.
/// - **Numbers.** A group whose number is not greater than the last durable one is refused, and nothing of its batch is
///   kept.
/// - **One writer.** [`Store::lead`] makes its caller the only writer: afterwards every commit under an older term
///   fails with [`CommitError::Fenced`], or (engines that live on one machine) `lead` itself is refused while another
///   process leads.
/// - **Honest errors.** [`CommitError::Failed`] is returned only when it is known what is durable; when that is not
///   known the answer is [`CommitError::Unknown`]; a failed synchronisation is never reported as success, nor retried
///   as if it had been one.
pub trait Store: Send {
    /// Become the only writer. Returns a term greater than any before it; the caller's own older terms are fenced too.
    ///
    /// After [`CommitError::Unknown`] this is the way back: it settles what is durable, and the [`Store::load`] that
    /// follows reports it.
    ///
    /// # Errors
    /// [`StoreError::Locked`] when another process leads and cannot be fenced; otherwise what kept the store from being
    /// opened or repaired.
    fn lead(&mut self) -> Result<Term, StoreError>;

    /// Calls `each` once per entity, in ascending key order, and returns the last durable number (0 for a store that
    /// never saw a commit).
    ///
    /// What it reports is durable: it never shows a write that a crash could still take back. It works while commits
    /// fail.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] when an acknowledged write is missing or unreadable: then nothing that `each` was given
    /// may be used.
    fn load(&mut self, each: &mut dyn FnMut(&[u8], &[u8])) -> Result<CommitNumber, StoreError>;

    /// Makes `batch` durable, and returns once it is. An empty batch does nothing but check the term.
    ///
    /// # Errors
    /// See [`CommitError`]: each variant says what became of the batch and what the caller does next.
    fn commit(&mut self, term: Term, batch: &Batch) -> Result<(), CommitError>;
}
