//! The commit thread: encodes batches, makes them durable, loads the state.

use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use longshore_core::CellConfig;
use longshore_core::cell::{Cell, Violation};
use longshore_core::entity::{DecodeError, Entity};
use longshore_core::pipeline::{Batch, Committed};
use longshore_store::{CommitError, CommitNumber, Group, Store, StoreError, Term, Write};
use thiserror::Error;

use super::CommitOrder;
use super::inbox::{Event, Inbox};

/// The pauses between attempts to load again, after the outcome of a commit was unknown.
const LOAD_AGAIN: [Duration; 4] =
    [Duration::from_millis(100), Duration::from_secs(1), Duration::from_secs(5), Duration::from_secs(15)];

/// A part of a batch is committed when it has grown to this size. The embedded store refuses more than 64 MiB at once, and two
/// thousand large definitions that come together are more than that.
const PART_BYTES: usize = 8 << 20;

/// Why the state could not be loaded.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The store cannot be led or read.
    #[error("the store cannot be loaded")]
    Store(#[from] StoreError),
    /// A record cannot be read.
    #[error("the store holds a record that cannot be read")]
    Record(#[from] DecodeError),
    /// The records contradict each other.
    #[error("the store's records contradict each other ({0})")]
    Inconsistent(Violation),
    /// The system gave no randomness.
    #[error("the operating system gave no random bytes: try again")]
    Randomness,
    /// A thread could not be started.
    #[error("cannot start a thread: raise the limit of processes (ulimit -u)")]
    Thread {
        /// What the system said.
        source: io::Error,
    },
}

/// Another server leads: this one is to write nothing more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fenced;

/// The store and who leads it.
pub(super) struct Committer {
    config: CellConfig,
    store: Box<dyn Store>,
    term: Term,
}

impl Committer {
    pub(super) fn new(config: CellConfig, store: Box<dyn Store>) -> Self {
        Self { config, store, term: Term(0) }
    }

    /// Leads, and loads everything into a new cell.
    pub(super) fn load(&mut self) -> Result<Cell, LoadError> {
        self.term = self.store.lead()?;
        let mut cell = Cell::new(self.config.clone());
        let mut unreadable = None;
        let last = self.store.load(&mut |key, value| {
            if unreadable.is_none() {
                match Entity::decode(key, value) {
                    Ok(entity) => cell.load(entity),
                    Err(error) => unreadable = Some(error),
                }
            }
        })?;
        if let Some(error) = unreadable {
            return Err(error.into());
        }
        cell.loaded(last.0);
        cell.check().map_err(LoadError::Inconsistent)?;
        Ok(cell)
    }

    /// Carries out orders until the cell's thread ends, or another server leads: it does so for good reason, and taking the
    /// lead back from it would set both on each other for ever. The end of this thread ends the server.
    pub(super) fn run(mut self, orders: &Receiver<CommitOrder>, inbox: &Inbox) {
        while let Ok(order) = orders.recv() {
            inbox.tell(match order {
                CommitOrder::Commit(batch) => match self.commit(&batch) {
                    Ok(committed) => Event::Committed(committed),
                    Err(Fenced) => return,
                },
                CommitOrder::Load => match self.load_again(orders) {
                    Some(cell) => Event::Loaded(Box::new(cell)),
                    None => return,
                },
            });
        }
    }

    /// Commits a batch, in parts when it is large: what is durable is a prefix of it at any time.
    pub(super) fn commit(&mut self, batch: &Batch) -> Result<Committed, Fenced> {
        let (mut part, mut bytes, mut durable) = (Vec::new(), 0, 0);
        for (at, group) in batch.groups.iter().enumerate() {
            let encoded = match encode(group) {
                Ok(encoded) => encoded,
                Err(error) => {
                    tracing::error!(%error, "a change cannot be encoded; it is taken back");
                    return Ok(Committed::Failed { durable });
                }
            };
            bytes += encoded.writes.iter().map(size).sum::<usize>();
            part.push(encoded);
            if bytes >= PART_BYTES || at + 1 == batch.groups.len() {
                match self.commit_part(std::mem::take(&mut part))? {
                    Committed::Durable => (bytes, durable) = (0, group.number),
                    failed => return Ok(failed),
                }
            }
        }
        Ok(Committed::Durable)
    }

    fn commit_part(&mut self, groups: Vec<Group>) -> Result<Committed, Fenced> {
        match self.store.commit(self.term, &longshore_store::Batch { groups }) {
            Ok(()) => Ok(Committed::Durable),
            Err(CommitError::Failed { durable, source }) => {
                tracing::error!(error = %source, "a commit failed; its changes are taken back");
                Ok(Committed::Failed { durable: durable.0 })
            }
            Err(error @ CommitError::Unknown { .. }) => {
                tracing::error!(%error, "the outcome of a commit is unknown; the state is loaded again");
                Ok(Committed::Lost)
            }
            Err(error @ CommitError::Fenced { .. }) => {
                tracing::error!(%error, "another server leads; this one ends");
                Err(Fenced)
            }
        }
    }

    /// Tries until it succeeds; `None` when the cell's thread has ended meanwhile. It orders nothing while it waits for this.
    fn load_again(&mut self, orders: &Receiver<CommitOrder>) -> Option<Cell> {
        let mut pauses = LOAD_AGAIN.iter();
        let mut pause = LOAD_AGAIN[0];
        loop {
            match self.load() {
                Ok(cell) => return Some(cell),
                Err(error) => {
                    pause = pauses.next().copied().unwrap_or(pause);
                    tracing::error!(%error, ?pause, "the state cannot be loaded; trying again");
                    if let Err(RecvTimeoutError::Disconnected) = orders.recv_timeout(pause) {
                        return None;
                    }
                }
            }
        }
    }
}

fn encode(group: &longshore_core::cell::Group) -> Result<Group, serde_json::Error> {
    let writes = group.changes.iter().map(|change| {
        let key = change.key.encode();
        Ok(match &change.new {
            Some(entity) => Write::Put { key, value: entity.encode()? },
            None => Write::Delete { key },
        })
    });
    Ok(Group { number: CommitNumber(group.number), writes: writes.collect::<Result<_, serde_json::Error>>()? })
}

fn size(write: &Write) -> usize {
    match write {
        Write::Put { key, value } => key.len() + value.len(),
        Write::Delete { key } => key.len(),
    }
}
