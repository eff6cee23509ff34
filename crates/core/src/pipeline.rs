//! Group commit, without IO: the order in which commands are applied, made durable, and answered.
//!
//! The contract (DESIGN §3): commands are applied as they come and collected into a batch. While one batch is being
//! committed the next one grows. When a commit is durable, its snapshot is published, then its replies are released,
//! then its effects are performed. A reply that wrote nothing waits for the commit whose state it saw.
//!
//! The server's runner drives this with threads and a real store, the simulator with a simulated one. Both call
//! [`Pipeline::submit`], do what [`Pipeline::step`] says, and report with [`Pipeline::committed`].

use std::mem;

use longshore_api::{ApiError, Timestamp, error};

use crate::cell::{Cell, Command, Effect, Group, Outcome, Reply};
use crate::entropy::Entropy;
use crate::instance::SessionRefusal;
use crate::limits;
use crate::read::ReadModel;

/// Names a command to whoever submitted it.
pub type Ticket = u64;

/// Groups to be committed together: each is atomic, and what becomes durable is a prefix.
#[derive(Clone, Debug)]
pub struct Batch {
    /// In order of their numbers; never empty.
    pub groups: Vec<Group>,
}

/// What became of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Committed {
    /// All of it is durable.
    Durable,
    /// It is known that nothing beyond this commit number is durable.
    Failed {
        /// The last durable commit number.
        durable: u64,
    },
    /// Nobody knows, or another server leads: memory must be dropped and the store loaded again.
    Lost,
}

/// What to do next.
#[derive(Debug)]
pub enum Step {
    /// Commit this, then call [`Pipeline::committed`].
    Commit(Batch),
    /// Release this; nothing needs to be committed for it.
    Release(Box<Release>),
    /// Load the store again and hand the new cell to [`Pipeline::reload`].
    Reload,
    /// Nothing, until a command comes or a commit ends.
    Wait,
}

/// What may be seen now, to be done in this order.
#[derive(Debug, Default)]
pub struct Release {
    /// Publish this first.
    pub snapshot: Option<ReadModel>,
    /// Then answer.
    pub replies: Vec<(Ticket, Reply)>,
    /// Then do.
    pub effects: Vec<Effect>,
}

/// A cell with its commits.
#[derive(Debug)]
pub struct Pipeline {
    cell: Cell,
    open: Work,
    in_flight: Option<InFlight>,
    /// The highest commit number known to be durable.
    durable: u64,
    mode: Mode,
    /// Whether the state seen by readers differs from the cell's in something volatile only.
    stale: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Normal,
    /// A commit failed: nothing is written until an empty one succeeds.
    ReadOnly,
    /// The state in memory may not be the store's.
    Lost,
}

/// Applied and not yet handed to the store. Replies and effects carry the commit number whose state they saw.
#[derive(Debug, Default)]
struct Work {
    groups: Vec<Group>,
    replies: Vec<(u64, Ticket, Reply)>,
    effects: Vec<(u64, Effect)>,
}

impl Work {
    fn is_empty(&self) -> bool {
        self.groups.is_empty() && self.replies.is_empty() && self.effects.is_empty()
    }
}

#[derive(Debug)]
struct InFlight {
    work: Work,
    snapshot: ReadModel,
    last: u64,
}

impl Pipeline {
    /// A pipeline over a loaded cell.
    pub fn new(cell: Cell) -> Self {
        let durable = cell.sequence();
        Self { cell, open: Work::default(), in_flight: None, durable, mode: Mode::Normal, stale: true }
    }

    /// The cell, to be looked at.
    pub fn cell(&self) -> &Cell {
        &self.cell
    }

    /// Whether writes are refused because the store cannot be written.
    pub fn read_only(&self) -> bool {
        self.mode != Mode::Normal
    }

    /// Whether a command may be submitted now, or had better wait until a commit ends: bounds what one batch holds.
    pub fn has_room(&self) -> bool {
        self.open.groups.len() < limits::GROUPS_PER_BATCH && self.open.replies.len() < 4 * limits::GROUPS_PER_BATCH
    }

    /// Applies a command. Its reply comes with a [`Release`].
    pub fn submit(&mut self, ticket: Ticket, now: Timestamp, entropy: Entropy, command: Command) {
        if self.mode != Mode::Normal && Cell::may_write(&command) {
            return self.reply(ticket, refusal(&command));
        }
        // What is volatile is shown, too: connectedness, health, and the brakes that a tick engages.
        self.stale |= matches!(command, Command::SessionClosed { .. } | Command::InstanceStatus { .. } | Command::Tick);
        let Outcome { reply, group, effects } = self.cell.apply(now, entropy, command);
        self.open.groups.extend(group);
        let saw = self.cell.sequence();
        self.open.effects.extend(effects.into_iter().map(|effect| (saw, effect)));
        self.reply(ticket, reply);
    }

    /// Asks whether the store can be written again, after a failure: the next batch is an empty group.
    pub fn probe(&mut self) {
        if self.mode == Mode::ReadOnly && self.in_flight.is_none() && self.open.groups.is_empty() {
            self.open.groups.push(Group { number: self.cell.sequence() + 1, changes: Vec::new() });
        }
    }

    /// What to do now.
    pub fn step(&mut self) -> Step {
        if self.mode == Mode::Lost {
            // Only refusals come while the state is lost: they saw none of it and wait for nothing.
            return match self.open.is_empty() {
                true => Step::Reload,
                false => Step::Release(Box::new(release(mem::take(&mut self.open), None))),
            };
        }
        if self.in_flight.is_some() || (self.open.is_empty() && !self.stale) {
            return Step::Wait;
        }
        let work = mem::take(&mut self.open);
        let snapshot = self.cell.snapshot();
        self.stale = false;
        match work.groups.last() {
            None => Step::Release(Box::new(release(work, Some(snapshot)))),
            Some(group) => {
                let last = group.number;
                let batch = Batch { groups: work.groups.clone() };
                self.in_flight = Some(InFlight { work, snapshot, last });
                Step::Commit(batch)
            }
        }
    }

    /// Reports what became of the batch under way.
    pub fn committed(&mut self, outcome: Committed) -> Release {
        let Some(in_flight) = self.in_flight.take() else { return Release::default() };
        match outcome {
            Committed::Durable => {
                self.durable = in_flight.last;
                if self.mode == Mode::ReadOnly {
                    self.mode = Mode::Normal;
                    self.cell.loaded(in_flight.last);
                }
                release(in_flight.work, Some(in_flight.snapshot))
            }
            Committed::Failed { durable } => self.take_back(in_flight, durable),
            Committed::Lost => self.lose(in_flight),
        }
    }

    /// Goes on with a cell loaded anew, after [`Step::Reload`].
    pub fn reload(&mut self, cell: Cell) -> Release {
        self.durable = cell.sequence();
        self.cell = cell;
        self.mode = Mode::Normal;
        self.stale = false;
        Release { snapshot: Some(self.cell.snapshot()), ..Release::default() }
    }

    fn reply(&mut self, ticket: Ticket, reply: Reply) {
        self.open.replies.push((self.cell.sequence(), ticket, reply));
    }

    /// A commit is known to have failed: back to the last durable state, and read-only until a probe succeeds.
    fn take_back(&mut self, in_flight: InFlight, durable: u64) -> Release {
        let durable = durable.max(self.durable);
        let open = mem::take(&mut self.open);
        let undone = in_flight.work.groups.iter().chain(&open.groups).filter(|group| group.number > durable);
        let undone: Vec<&Group> = undone.collect();
        let closed = self.cell.revert(undone.into_iter(), durable);
        self.durable = durable;
        self.mode = Mode::ReadOnly;
        self.stale = false;
        let mut release = Release { snapshot: Some(self.cell.snapshot()), ..Release::default() };
        for work in [in_flight.work, open] {
            give_up(work, durable, not_written, &mut release);
        }
        release.effects.extend(closed);
        release
    }

    /// The outcome is unknown: everything that waits is answered with an error, and the caller may ask again.
    fn lose(&mut self, in_flight: InFlight) -> Release {
        self.mode = Mode::Lost;
        let mut release = Release::default();
        for work in [in_flight.work, mem::take(&mut self.open)] {
            give_up(work, self.durable, unsure, &mut release);
        }
        release.effects.extend(self.cell.reset_sessions());
        release
    }
}

fn release(work: Work, snapshot: Option<ReadModel>) -> Release {
    Release {
        snapshot,
        replies: work.replies.into_iter().map(|(_, ticket, reply)| (ticket, reply)).collect(),
        effects: work.effects.into_iter().map(|(_, effect)| effect).collect(),
    }
}

/// Releases what saw durable state only, and refuses the rest. Sessions are closed in any case.
fn give_up(work: Work, durable: u64, error: fn() -> ApiError, release: &mut Release) {
    for (saw, ticket, reply) in work.replies {
        let reply = if saw <= durable { reply } else { unavailable(&reply, error) };
        release.replies.push((ticket, reply));
    }
    let survives = |saw: u64, effect: &Effect| saw <= durable || matches!(effect, Effect::Close { .. });
    let effects = work.effects.into_iter().filter(|(saw, effect)| survives(*saw, effect));
    release.effects.extend(effects.map(|(_, effect)| effect));
}

/// The refusal of a command that could write, while nothing can be written.
fn refusal(command: &Command) -> Reply {
    match command {
        Command::Api { .. } => Reply::Api(Err(not_written())),
        Command::Admin { .. } => Reply::Admin(Err(not_written())),
        Command::Secrets { .. } => Reply::Secrets(Err(not_written())),
        Command::SessionOpened { .. } => Reply::Session(Err(SessionRefusal::Unavailable)),
        Command::SessionClosed { .. }
        | Command::InstanceStatus { .. }
        | Command::StopCandidates { .. }
        | Command::Place { .. }
        | Command::ClockLeapt { .. }
        | Command::LauncherAnswered(_)
        | Command::Tick => Reply::None,
    }
}

fn unavailable(reply: &Reply, error: fn() -> ApiError) -> Reply {
    match reply {
        Reply::Api(_) => Reply::Api(Err(error())),
        Reply::Admin(_) => Reply::Admin(Err(error())),
        Reply::Secrets(_) => Reply::Secrets(Err(error())),
        Reply::Session(_) => Reply::Session(Err(SessionRefusal::Unavailable)),
        // Whoever asked the scheduler asks it again.
        Reply::Placed(_) | Reply::None => Reply::None,
    }
}

fn not_written() -> ApiError {
    ApiError::new(
        error::SERVICE_UNAVAILABLE,
        "The store cannot be written at the moment (is its disk full?); nothing was changed. Describe and List work. \
         Free some space and try again.",
    )
}

/// Whoever waited for a commit whose outcome nobody knows must not be told that nothing happened.
fn unsure() -> ApiError {
    ApiError::new(
        error::SERVICE_UNAVAILABLE,
        "The store did not say whether the request was carried out: it may have been. Look with Describe or List, or try \
         again with the same clientToken.",
    )
}

#[cfg(test)]
mod tests;
