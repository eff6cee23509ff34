//! Asks the external schedulers of clusters where tasks are to go, and tells the cell what they wish.
//!
//! Nothing is kept here that would be missed: which tasks wait is in the state, so a server that starts asks again. One question of
//! a cluster is under way at a time. A scheduler that is down, slow or out of its mind is asked again with growing pauses, while the
//! cell sees to the tasks' deadlines; what it answers is a wish, which the cell holds against its pool.

mod call;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use longshore_client::{Proxies, Transport, Trust};
use longshore_core::cell::Delivery;
use longshore_core::ids::ClusterId;
use tokio::sync::Notify;
use tokio::task::{self, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::runner::{Perform, Runner};
use crate::sessions::Sessions;
use call::{Conversation, LONGEST_PAUSE, Next, REST};

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

/// What has the conversation with a scheduler.
#[derive(Debug)]
enum Talk {
    Idle(Conversation),
    /// The question that is under way.
    UnderWay(task::Id),
}

/// How it stands with a cluster's scheduler.
#[derive(Debug)]
struct Asked {
    talk: Talk,
    /// Something happened since the last question.
    wanted: bool,
    /// It is not asked before.
    not_before: Instant,
    /// It is asked by then, whatever happens: tasks wait that it did not decide about.
    at: Option<Instant>,
}

impl Asked {
    fn new(now: Instant) -> Self {
        Self { talk: Talk::Idle(Conversation::default()), wanted: false, not_before: now, at: None }
    }

    /// When it is to be asked next, if no question is under way.
    fn due(&self) -> Option<Instant> {
        match self.talk {
            Talk::UnderWay(_) => None,
            Talk::Idle(_) => self.wanted.then_some(self.not_before).into_iter().chain(self.at).min(),
        }
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
                    Err(error) => {
                        tracing::error!(%error, "a question to a scheduler panicked");
                        panicked(&mut clusters, error.id());
                    }
                },
                () = alarm => {}
            }
            let now = Instant::now();
            for (cluster, asked) in &mut clusters {
                if asked.due().is_none_or(|at| at > now) {
                    continue;
                }
                if let Talk::Idle(conversation) = &mut asked.talk {
                    let conversation = std::mem::take(conversation);
                    let call = calls.spawn(conversation.go_on(runner.clone(), transport.clone(), *cluster));
                    *asked = Asked { talk: Talk::UnderWay(call.id()), wanted: false, at: None, ..*asked };
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
        Next::Rested(rest) => (asked.not_before, asked.at) = (now + rest, Some(now + rest)),
        Next::WhenSomethingHappens { at_last } => (asked.not_before, asked.at) = (now + REST, Some(now + at_last)),
        Next::After(pause) => (asked.not_before, asked.at) = (now + pause, Some(now + pause)),
    }
    asked.talk = Talk::Idle(conversation);
}

/// A question came to nothing, and its conversation with it: its cluster begins anew, later.
fn panicked(clusters: &mut BTreeMap<ClusterId, Asked>, call: task::Id) {
    let asked = clusters.values_mut().find(|asked| matches!(asked.talk, Talk::UnderWay(one) if one == call));
    if let Some(asked) = asked {
        let later = Instant::now() + LONGEST_PAUSE;
        *asked = Asked { not_before: later, at: Some(later), ..Asked::new(later) };
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_cluster_whose_question_panicked_is_asked_again() {
        let (first, second) = (ClusterId(1), ClusterId(2));
        let mut calls = JoinSet::<()>::new();
        let call = calls.spawn(async { panic!("as a test") });
        let under_way = Asked { talk: Talk::UnderWay(call.id()), ..Asked::new(Instant::now()) };
        let mut clusters = BTreeMap::from([(first, under_way), (second, Asked::new(Instant::now()))]);
        assert_eq!(clusters[&first].due(), None);
        let error = calls.join_next().await.expect("it ends").expect_err("it panics");
        panicked(&mut clusters, error.id());
        assert!(clusters[&first].due().is_some_and(|at| at > Instant::now()), "it is, but not at once");
        assert_eq!(clusters[&second].due(), None, "nothing happened to the other");
    }

    #[test]
    fn what_changes_meanwhile_cuts_no_rest_short() {
        let cluster = ClusterId(1);
        let mut clusters = BTreeMap::from([(cluster, Asked::new(Instant::now()))]);
        let (began, rest) = (Instant::now(), Duration::from_secs(300));
        heard(&mut clusters, cluster, Conversation::default(), Next::Rested(rest));
        assert!(clusters[&cluster].due().is_some_and(|at| at >= began + rest));
        clusters.get_mut(&cluster).expect("it is there").wanted = true;
        assert!(clusters[&cluster].due().is_some_and(|at| at >= began + rest));
    }
}
