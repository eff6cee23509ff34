//! The cell's inbox: a bounded queue of commands, and the news of the commit thread, which never wait behind them.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use longshore_core::cell::{Cell, Command, Reply};
use longshore_core::pipeline::Committed;
use tokio::sync::oneshot;

/// Something the cell's thread reacts to.
pub(super) enum Event {
    Command(Command, oneshot::Sender<Reply>),
    Committed(Committed),
    Loaded(Box<Cell>),
}

/// Why a command was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    Full,
    Closed,
}

/// The queue. Its bound counts commands until they are answered, not until they are taken.
pub(super) struct Inbox {
    state: Mutex<State>,
    woken: Condvar,
    max_waiting: usize,
}

#[derive(Default)]
struct State {
    commands: VecDeque<(Command, oneshot::Sender<Reply>)>,
    news: Vec<Event>,
    waiting: usize,
    loading: bool,
    closed: bool,
    abandoned: bool,
}

impl Inbox {
    pub(super) fn new(max_waiting: usize) -> Self {
        Self { state: Mutex::default(), woken: Condvar::new(), max_waiting }
    }

    /// Takes a command, unless too many wait.
    pub(super) fn submit(&self, command: Command, answer: oneshot::Sender<Reply>) -> Result<(), Refused> {
        let state = self.lock();
        match state.waiting >= self.max_waiting {
            true => Err(Refused::Full),
            false => self.push(state, command, answer),
        }
    }

    /// Takes a command whoever waits.
    pub(super) fn submit_always(&self, command: Command, answer: oneshot::Sender<Reply>) -> Result<(), Refused> {
        self.push(self.lock(), command, answer)
    }

    fn push(
        &self,
        mut state: MutexGuard<'_, State>,
        command: Command,
        answer: oneshot::Sender<Reply>,
    ) -> Result<(), Refused> {
        if state.closed {
            return Err(Refused::Closed);
        }
        state.waiting += 1;
        state.commands.push_back((command, answer));
        drop(state);
        self.woken.notify_one();
        Ok(())
    }

    /// A command was answered.
    pub(super) fn answered(&self) {
        let mut state = self.lock();
        state.waiting = state.waiting.saturating_sub(1);
    }

    /// News of the commit thread.
    pub(super) fn tell(&self, event: Event) {
        let mut state = self.lock();
        state.loading &= !matches!(event, Event::Loaded(_));
        state.news.push(event);
        drop(state);
        self.woken.notify_one();
    }

    /// Whether a load is to be ordered now: one at a time.
    pub(super) fn begin_loading(&self) -> bool {
        !std::mem::replace(&mut self.lock().loading, true)
    }

    /// Takes no more commands.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.woken.notify_one();
    }

    /// A thread of the runner has ended: nothing more will be answered. Whoever waits in the queue is told by the end of its
    /// channel, and the cell's thread by an end of events.
    pub(super) fn abandon(&self) {
        let mut state = self.lock();
        (state.closed, state.abandoned) = (true, true);
        let never_taken = std::mem::take(&mut state.commands);
        drop(state);
        self.woken.notify_one();
        drop(never_taken);
    }

    /// Waits for events: the news, and the commands too if there is room for them. Empty when the pause is over;
    /// `None` when the inbox is closed and everything in it was answered, or when it was abandoned.
    pub(super) fn take(&self, pause: Option<Duration>, room: bool) -> Option<Vec<Event>> {
        let idle = |state: &mut State| {
            let ended = state.abandoned || (state.closed && state.waiting == 0);
            state.news.is_empty() && (state.commands.is_empty() || !room) && !ended
        };
        let state = self.lock();
        let mut state = match pause {
            Some(pause) => self.woken.wait_timeout_while(state, pause, idle).unwrap_or_else(PoisonError::into_inner).0,
            None => self.woken.wait_while(state, idle).unwrap_or_else(PoisonError::into_inner),
        };
        if state.abandoned || (state.closed && state.waiting == 0 && state.news.is_empty()) {
            return None;
        }
        let mut events = std::mem::take(&mut state.news);
        if room {
            let taken = state.commands.len().min(longshore_core::limits::GROUPS_PER_BATCH);
            events.extend(state.commands.drain(..taken).map(|(command, answer)| Event::Command(command, answer)));
        }
        Some(events)
    }

    /// A thread that panicked with the lock held left plain counters behind: they still count.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
