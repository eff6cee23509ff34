//! Asks the external schedulers of clusters where tasks are to go, and tells the cell what they wish.
//!
//! Nothing is kept here that would be missed: which tasks wait is in the state, so a server that starts asks again. One question of
//! a cluster is under way at a time. A scheduler that is down, slow or out of its mind is asked again with growing pauses, while the
//! cell sees to the tasks' deadlines; what it answers is a wish, which the cell holds against its pool.

mod call;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use longshore_client::{Proxies, Transport, Trust};
use longshore_core::cell::Delivery;
use longshore_core::ids::ClusterId;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::runner::{Perform, Runner};
use crate::sessions::Sessions;
use call::{Conversation, Next};

/// Between two questions when the first placed nothing: a cluster of many machines changes all the time.
const REST: Duration = Duration::from_millis(100);

/// The clusters whose schedulers are to be asked.
#[derive(Debug, Default)]
pub(crate) struct Schedulers {
    due: Mutex<BTreeSet<ClusterId>>,
    woken: Notify,
}

/// What a cell's orders are carried out by: agents' sessions, and the schedulers.
pub(crate) struct Performers {
    pub(crate) sessions: Arc<Sessions>,
    pub(crate) schedulers: Arc<Schedulers>,
}

impl Perform for Performers {
    fn perform(&self, delivery: Delivery) {
        self.sessions.perform(delivery);
    }

    fn ask_scheduler(&self, cluster: ClusterId) {
        self.schedulers.ask(cluster);
    }
}

/// How it stands with a cluster's scheduler.
#[derive(Debug)]
struct Asked {
    /// None while a question is under way.
    conversation: Option<Conversation>,
    /// Something happened since the last question.
    wanted: bool,
    /// It is not asked before.
    not_before: Instant,
    /// It is asked by then, whatever happens: tasks wait that it did not decide about.
    at: Option<Instant>,
}

impl Asked {
    fn new(now: Instant) -> Self {
        Self { conversation: Some(Conversation::default()), wanted: false, not_before: now, at: None }
    }

    /// When it is to be asked next, if no question is under way.
    fn due(&self) -> Option<Instant> {
        self.conversation.as_ref()?;
        let wanted = self.wanted.then_some(self.not_before);
        wanted.into_iter().chain(self.at).min()
    }
}

impl Schedulers {
    /// Tasks wait for the scheduler of a cluster, or an instance of it changed.
    fn ask(&self, cluster: ClusterId) {
        self.due.lock().unwrap_or_else(PoisonError::into_inner).insert(cluster);
        self.woken.notify_one();
    }

    /// Asks whenever there is a reason to, until the server stops.
    pub(crate) async fn serve(self: Arc<Self>, runner: Runner, stop: CancellationToken) {
        let transport = Transport::new(Trust::default(), Proxies::default());
        runner.snapshot().clusters_asking().into_iter().for_each(|cluster| self.ask(cluster));
        let mut clusters: BTreeMap<ClusterId, Asked> = BTreeMap::new();
        let mut calls: JoinSet<(ClusterId, Conversation, Next)> = JoinSet::new();
        loop {
            let next = clusters.values().filter_map(Asked::due).min();
            let alarm = async {
                match next {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.woken.notified() => {
                    let due = std::mem::take(&mut *self.due.lock().unwrap_or_else(PoisonError::into_inner));
                    for cluster in due {
                        clusters.entry(cluster).or_insert_with(|| Asked::new(Instant::now())).wanted = true;
                    }
                }
                Some(ended) = calls.join_next(), if !calls.is_empty() => match ended {
                    Ok((cluster, conversation, next)) => heard(&mut clusters, cluster, conversation, next),
                    // A call that panicked: its tasks wait for their deadlines, or for the next start.
                    Err(error) => tracing::error!(%error, "a question to a scheduler panicked"),
                },
                () = alarm => {}
            }
            let now = Instant::now();
            for (cluster, asked) in &mut clusters {
                let due = asked.due().is_some_and(|at| at <= now);
                if let Some(conversation) = asked.conversation.take_if(|_| due) {
                    (asked.wanted, asked.at) = (false, None);
                    calls.spawn(conversation.go_on(runner.clone(), transport.clone(), *cluster));
                }
            }
        }
    }
}

/// A question was answered, or was not.
fn heard(clusters: &mut BTreeMap<ClusterId, Asked>, cluster: ClusterId, conversation: Conversation, next: Next) {
    let Some(asked) = clusters.get_mut(&cluster) else { return };
    let now = Instant::now();
    match next {
        Next::Nothing if !asked.wanted => {
            clusters.remove(&cluster);
            return;
        }
        Next::Nothing | Next::AtOnce => (asked.not_before, asked.at) = (now, (next == Next::AtOnce).then_some(now)),
        Next::WhenSomethingHappens { at_last } => (asked.not_before, asked.at) = (now + REST, Some(now + at_last)),
        Next::After(pause) => (asked.not_before, asked.at) = (now + pause, Some(now + pause)),
    }
    asked.conversation = Some(conversation);
}
