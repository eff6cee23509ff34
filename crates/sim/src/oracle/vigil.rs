//! Who was heard of when, and what may follow from it: loss comes neither early nor late (19), and the mass-loss brake
//! holds (20).
//!
//! Times here are the world's, whatever the clocks of machines say. Where the world cannot know to the millisecond what the
//! server knew, it is on the server's side.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use longshore_api::Timestamp;
use longshore_core::Released;
use longshore_core::config::LossPolicy;
use longshore_core::entity::{Entity, Instance, Task};
use longshore_core::ids::{ClusterId, InstanceId, SessionId};
use longshore_core::instance::{AgentKind, InstanceStatus};
use longshore_core::read::ReadModel;
use longshore_core::task::status::TaskStatus;

use super::{Step, ensure, id_of};
use crate::server::SLOW_COMMIT_MS;

/// A decision is published at most so much later than it was made.
pub(super) const LATEST_PUBLICATION_MS: i64 = 3 * SLOW_COMMIT_MS;
/// How soon after a return it is looked whether a brake can let go.
const REVIEW_MS: i64 = 1_000;
/// Moments of decision that are remembered.
const MOMENTS: usize = 256;
/// Fewer hosts than this vanish by ordinary loss, unless none is left (DESIGN §4).
const MASS: usize = 3;

#[derive(Debug)]
pub(crate) struct Vigil {
    loss: LossPolicy,
    /// How late a decision may be seen: the tick, and the commits before it and with it.
    slack_ms: i64,
    watched: BTreeMap<InstanceId, Watched>,
    /// The last published record of each instance.
    records: BTreeMap<InstanceId, Arc<Instance>>,
    clusters: BTreeMap<ClusterId, Arc<str>>,
    /// When the server began to serve, last.
    begun: Timestamp,
    /// The last time that something kept the server from deciding in time.
    hindered: Timestamp,
    /// When the operator gave up what is missing in a cluster.
    released: BTreeMap<Arc<str>, Vec<Timestamp>>,
    /// Until when the server may know of more than was released: sessions that the operator ended, and whatever waits for
    /// a slow disk.
    blurred_until: Timestamp,
    braked: BTreeSet<Arc<str>>,
    /// Since when a brake has had nothing to hold.
    recovered: BTreeMap<Arc<str>, Timestamp>,
    /// What was known when the server decided, by the server's own clock.
    moments: VecDeque<(Timestamp, Moment)>,
}

/// What is known of an instance's agent.
#[derive(Clone, Copy, Debug, Default)]
struct Watched {
    session: Option<SessionId>,
    /// The server is about to answer a dial: for its cell the session may be open.
    opening: bool,
    heard: Timestamp,
    /// By how much the server may have thought that it was earlier.
    unsure_ms: i64,
    /// Whether it had a session since the server began, or was made since.
    since_begun: bool,
    /// Its clock was started anew, with the time that a new leader gives.
    restarted: Timestamp,
    generous: bool,
    /// Since when it is lost for clients.
    lost_seen: Option<Timestamp>,
}

/// What was known at a moment.
#[derive(Clone, Debug)]
struct Moment {
    now: Timestamp,
    begun: Timestamp,
    hindered: Timestamp,
    watched: BTreeMap<InstanceId, Watched>,
}

/// How a host fares, worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fate {
    /// Given up before.
    Lost(Timestamp),
    Missing(Timestamp),
    /// It still has time to return.
    Awaited,
    Connected,
}

impl Vigil {
    pub(crate) fn new(loss: LossPolicy, commit_ms: i64) -> Self {
        let start = Timestamp::from_millis(0);
        Self {
            loss,
            slack_ms: 1_500 + 6 * commit_ms,
            watched: BTreeMap::new(),
            records: BTreeMap::new(),
            clusters: BTreeMap::new(),
            begun: start,
            hindered: start,
            released: BTreeMap::new(),
            blurred_until: start,
            braked: BTreeSet::new(),
            recovered: BTreeMap::new(),
            moments: VecDeque::new(),
        }
    }

    /// Whether a snapshot has instances in a cluster whose name is not known.
    pub(crate) fn lacks_names(&self, snapshot: &ReadModel) -> bool {
        snapshot.instances().any(|record| !self.clusters.contains_key(&record.key.cluster))
    }

    /// The disk holds an entity.
    pub(crate) fn learns(&mut self, entity: &Entity) {
        if let Entity::Cluster(cluster) = entity {
            self.clusters.insert(cluster.id, cluster.name.clone());
        }
    }

    /// The server begins to serve, or takes its state back: all sessions are gone.
    pub(crate) fn server_begins(&mut self, now: Timestamp) {
        self.begun = now;
        self.hindered(now);
        self.braked.clear();
        self.recovered.clear();
        for watched in self.watched.values_mut() {
            (watched.session, watched.opening, watched.since_begun) = (None, false, false);
        }
    }

    /// Something keeps the server from deciding in time.
    pub(crate) fn hindered(&mut self, now: Timestamp) {
        self.hindered = self.hindered.max(now);
    }

    /// The server asks its cell about a session.
    pub(crate) fn opening(&mut self, arn: &str) {
        if let Ok(id) = id_of(arn).parse() {
            self.watched.entry(id).or_default().opening = true;
        }
    }

    /// The cell does not want the session.
    pub(crate) fn refused(&mut self, arn: &str) {
        if let Ok(id) = id_of(arn).parse() {
            self.watched.entry(id).or_default().opening = false;
        }
    }

    pub(crate) fn connected(&mut self, id: InstanceId, session: SessionId, heard: Timestamp) {
        let watched = self.watched.entry(id).or_default();
        (watched.session, watched.since_begun, watched.opening) = (Some(session), true, false);
        watched.generous = false;
        // What was heard over an older session meanwhile says nothing.
        (watched.heard, watched.unsure_ms) = (heard, 0);
    }

    pub(crate) fn heard(&mut self, id: InstanceId, session: SessionId, now: Timestamp) {
        // A newer session that is about to be answered counts already.
        let current = |watched: &&mut Watched| watched.session == Some(session) && !watched.opening;
        if let Some(watched) = self.watched.get_mut(&id).filter(current) {
            watched.heard = now;
        }
    }

    /// The server noticed the end of a session, whose agent was heard of at `heard`.
    pub(crate) fn disconnected(&mut self, id: InstanceId, session: SessionId, heard: Timestamp) {
        if let Some(watched) = self.watched.get_mut(&id).filter(|watched| watched.session == Some(session)) {
            (watched.session, watched.heard) = (None, watched.heard.max(heard));
        }
    }

    /// The cell ended a session.
    pub(crate) fn dismissed(&mut self, id: InstanceId, session: SessionId, now: Timestamp) {
        if let Some(watched) = self.watched.get_mut(&id).filter(|watched| watched.session == Some(session)) {
            (watched.session, watched.heard, watched.unsure_ms) = (None, now, LATEST_PUBLICATION_MS);
        }
    }

    /// The operator's word that what is missing is gone reaches the server.
    pub(crate) fn released(&mut self, cluster: &str, now: Timestamp) {
        self.released.entry(cluster.into()).or_default().push(now);
    }

    /// What the server knows and what it has released begin to differ.
    pub(crate) fn blurs(&mut self, now: Timestamp) {
        self.blurred_until = now.plus_millis(LATEST_PUBLICATION_MS);
    }

    /// The server is about to decide.
    pub(crate) fn deciding(&mut self, shown: Timestamp, now: Timestamp) {
        if self.moments.len() == MOMENTS {
            self.moments.pop_front();
        }
        let moment = self.moment(now);
        self.moments.push_back((shown, moment));
    }

    fn moment(&self, now: Timestamp) -> Moment {
        Moment { now, begun: self.begun, hindered: self.hindered, watched: self.watched.clone() }
    }

    /// A brake engages: there must be a reason.
    pub(crate) fn brake_engaged(&mut self, cluster: &Arc<str>, now: Timestamp) -> Step {
        self.braked.insert(cluster.clone());
        let recent = self.moments.iter().rev().take_while(|(_, moment)| now.since(moment.now) < LATEST_PUBLICATION_MS);
        let reason = recent.into_iter().any(|(_, moment)| self.may_be_mass_loss(cluster, moment));
        ensure(reason || now <= self.blurred_until, 20, || {
            format!("the brake of {cluster} engaged, and there is no mass loss")
        })
    }

    /// A brake lets go: an operator said so, or enough hosts are back.
    pub(crate) fn brake_released(&mut self, cluster: &Arc<str>, why: Released, now: Timestamp) -> Step {
        self.braked.remove(cluster);
        self.recovered.remove(cluster);
        let recent = self.moments.iter().rev().take_while(|(_, moment)| now.since(moment.now) < LATEST_PUBLICATION_MS);
        let reason = recent.into_iter().any(|(_, moment)| !self.is_still_mass_loss(cluster, moment));
        ensure(reason || why == Released::Operator || now <= self.blurred_until, 20, || {
            format!("the brake of {cluster} was released, and as many are missing as before")
        })?;
        for (id, watched) in &mut self.watched {
            let record = self.records.get(id);
            if record.and_then(|record| self.clusters.get(&record.key.cluster)) == Some(cluster) {
                (watched.restarted, watched.unsure_ms) = (now, LATEST_PUBLICATION_MS);
                watched.generous = true;
            }
        }
        Ok(())
    }

    /// Whether those who are missing are too many, whenever they vanished.
    fn is_still_mass_loss(&self, cluster: &Arc<str>, moment: &Moment) -> bool {
        let hosts = self.hosts(cluster, moment, true);
        let connected = hosts.iter().filter(|fate| **fate == Fate::Connected).count();
        let missing = hosts.iter().filter(|fate| matches!(fate, Fate::Missing(_))).count();
        self.is_mass(missing, hosts.len(), connected)
    }

    /// A brake that has nothing to hold any more lets go.
    pub(crate) fn brakes_let_go(&mut self, now: Timestamp) -> Step {
        for cluster in self.braked.clone() {
            let moment = self.moment(now);
            if self.may_be_mass_loss(&cluster, &moment) {
                self.recovered.remove(&cluster);
                continue;
            }
            let since = (*self.recovered.entry(cluster.clone()).or_insert(now)).max(self.hindered);
            let idle_ms = now.since(since);
            ensure(idle_ms <= REVIEW_MS + self.slack_ms, 20, || {
                format!("the brake of {cluster} has had nothing to hold for {idle_ms} ms")
            })?;
        }
        Ok(())
    }

    pub(crate) fn status(&self, id: &str) -> Option<InstanceStatus> {
        self.record(id).map(|record| record.status)
    }

    pub(crate) fn record(&self, id: &str) -> Option<&Arc<Instance>> {
        self.records.get(&id.parse().ok()?)
    }

    /// A snapshot is published: whoever is lost in it had to be. In a leap of the clock an instance may be given back and
    /// forgotten between two publications.
    pub(crate) fn published(&mut self, snapshot: &ReadModel, leaps: bool, now: Timestamp) -> Step {
        let mut lost = Vec::new();
        if snapshot.instances().count() < self.records.len() {
            let shown: BTreeSet<InstanceId> = snapshot.instances().map(|record| record.key.id).collect();
            for (id, record) in self.records.extract_if(.., |id, _| !shown.contains(id)) {
                ensure(leaps || record.status == InstanceStatus::Inactive, 4, || {
                    format!("instance {id} vanished, it was {:?}", record.status)
                })?;
            }
        }
        for record in snapshot.instances() {
            let id = record.key.id;
            if self.records.get(&id).is_some_and(|known| Arc::ptr_eq(known, record)) {
                continue;
            }
            let before = self.records.insert(id, record.clone());
            let watched = self.watched.entry(id).or_default();
            if before.is_none() && !watched.since_begun {
                (watched.since_begun, watched.heard, watched.unsure_ms) = (true, now, LATEST_PUBLICATION_MS);
            }
            watched.lost_seen = record.lost_at.map(|_| watched.lost_seen.unwrap_or(now));
            let (was_lost, was) = before.map(|before| (before.lost_at, before.status)).unwrap_or_default();
            ensure(may_follow(was, record.status), 5, || {
                format!("instance {id} is {:?} after {was:?}", record.status)
            })?;
            let in_service = matches!(record.status, InstanceStatus::Active | InstanceStatus::Draining);
            if was_lost.is_none() && in_service {
                lost.extend(record.lost_at.map(|lost_at| (record.clone(), lost_at)));
            }
        }
        lost.into_iter().try_for_each(|(record, lost_at)| self.lost(&record, lost_at, now))
    }

    /// An instance was given up: it had been silent long enough, and no brake held.
    fn lost(&self, record: &Instance, lost_at: Timestamp, now: Timestamp) -> Step {
        let id = record.key.id;
        let current = self.moment(now);
        let moment = self.moments.iter().rev().find(|(shown, _)| *shown == lost_at).map(|(_, moment)| moment);
        let moment = moment.unwrap_or(&current);
        let Some(watched) = moment.watched.get(&id) else { return Ok(()) };
        if moment.now <= self.blurred_until {
            return Ok(());
        }
        ensure(watched.session.is_none(), 19, || format!("instance {id} was given up while it was connected"))?;
        let since = self.since(record, watched, moment);
        let cluster = self.cluster_of(record);
        // What an operator gave up may go at once.
        if self.is_condemned(&cluster, since.plus_millis(-watched.unsure_ms), moment) {
            return Ok(());
        }
        let after_ms = self.loss.clock(AgentKind::of(record)).lost_after_ms;
        let silent_ms = moment.now.since(since);
        ensure(after_ms.is_some_and(|after_ms| silent_ms + watched.unsure_ms >= after_ms), 19, || {
            format!("instance {id} was given up after {silent_ms} ms of silence, and not {after_ms:?}")
        })?;
        ensure(!self.is_mass_loss(&cluster, since, moment), 20, || format!("instance {id} was given up in a mass loss"))
    }

    fn cluster_of(&self, record: &Instance) -> Arc<str> {
        self.clusters.get(&record.key.cluster).cloned().unwrap_or_default()
    }

    fn is_condemned(&self, cluster: &Arc<str>, since: Timestamp, moment: &Moment) -> bool {
        self.released.get(cluster).into_iter().flatten().any(|at| *at >= since && *at <= moment.now)
    }

    /// Since when an instance without a session counts as missing.
    fn since(&self, record: &Instance, watched: &Watched, moment: &Moment) -> Timestamp {
        let grace_ms = self.loss.clock(AgentKind::of(record)).grace_ms;
        let since = if watched.since_begun { watched.heard } else { moment.begun.plus_millis(grace_ms) };
        since.max(watched.restarted)
    }

    fn may_be_awaited(&self, record: &Instance, watched: &Watched, moment: &Moment) -> bool {
        let grace_ms = self.loss.clock(AgentKind::of(record)).grace_ms;
        !watched.since_begun && moment.hindered.plus_millis(grace_ms) > moment.now
    }

    /// How the hosts of a cluster fared at a moment. `generous` counts dials that were not answered yet as sessions, and
    /// instances that were made and not published yet not at all.
    fn hosts(&self, cluster: &Arc<str>, moment: &Moment, generous: bool) -> Vec<Fate> {
        let mut hosts: BTreeMap<String, Fate> = BTreeMap::new();
        let here = |record: &&Arc<Instance>| self.clusters.get(&record.key.cluster) == Some(cluster);
        let in_service = |record: &&Arc<Instance>| record.status != InstanceStatus::Inactive;
        for record in self.records.values().filter(here).filter(in_service) {
            let fate = match moment.watched.get(&record.key.id) {
                None if generous => continue,
                None => Fate::Missing(moment.now),
                Some(watched) if watched.session.is_some() || (generous && watched.opening) => Fate::Connected,
                Some(watched) => match self.since(record, watched, moment) {
                    since if watched.lost_seen.is_some() => Fate::Lost(since),
                    since if since > moment.now => Fate::Awaited,
                    // While its clock lags the server waits longer than the world does.
                    _ if generous && self.may_be_awaited(record, watched, moment) => Fate::Awaited,
                    since => Fate::Missing(since),
                },
            };
            let host = record.attributes.get("longshore.host-id").cloned().flatten();
            let host = host.map_or_else(|| record.key.id.to_string(), |host| host.to_string());
            let known = hosts.entry(host).or_insert(fate);
            *known = fate.max(*known);
        }
        hosts.into_values().collect()
    }

    /// Whether an instance that has been missing since then is part of a mass loss, however one counts.
    fn is_mass_loss(&self, cluster: &Arc<str>, since: Timestamp, moment: &Moment) -> bool {
        let hosts = self.hosts(cluster, moment, true);
        let connected = hosts.iter().filter(|fate| **fate == Fate::Connected).count();
        let missing = hosts.iter().filter_map(|fate| match fate {
            Fate::Missing(at) if !self.is_condemned(cluster, *at, moment) => Some(*at),
            _ => None,
        });
        let missing: Vec<Timestamp> = missing.collect();
        let window = self.loss.brake_window_ms;
        let within = |from: Timestamp| missing.iter().filter(|at| (0..=window).contains(&at.since(from))).count();
        let windows = missing.iter().filter(|from| (0..=window).contains(&since.since(**from)));
        let most = windows.map(|from| within(*from)).max().unwrap_or(0);
        self.is_mass(most, hosts.len(), connected)
    }

    /// Whether there is a mass loss if one counts everything for it.
    fn may_be_mass_loss(&self, cluster: &Arc<str>, moment: &Moment) -> bool {
        let hosts = self.hosts(cluster, moment, false);
        let count = |wanted: Fate| hosts.iter().filter(|fate| **fate == wanted).count();
        let (connected, awaited) = (count(Fate::Connected), count(Fate::Awaited));
        let vanished = hosts.iter().filter(|fate| matches!(fate, Fate::Missing(_) | Fate::Lost(_))).count();
        self.is_mass(vanished, connected + awaited + vanished, connected)
    }

    fn is_mass(&self, vanished: usize, of: usize, connected: usize) -> bool {
        vanished * 100 > of * self.loss.brake_percent as usize && (vanished >= MASS || connected == 0)
    }

    /// Whoever has been silent for too long is given up by now, and so are its tasks.
    pub(crate) fn overdue<'a>(&self, tasks: impl Iterator<Item = &'a Arc<Task>>, now: Timestamp) -> Step {
        let moment = Moment { now, begun: self.begun, hindered: self.hindered, watched: BTreeMap::new() };
        for record in self.records.values().filter(|record| record.lost_at.is_none()) {
            let clock = self.loss.clock(AgentKind::of(record));
            // A session over which nothing is heard is none.
            let (Some(after_ms), Some(watched)) = (clock.lost_after_ms, self.watched.get(&record.key.id)) else {
                continue;
            };
            let in_service = matches!(record.status, InstanceStatus::Active | InstanceStatus::Draining);
            if !in_service || watched.opening || self.braked.contains(&self.cluster_of(record)) {
                continue;
            }
            let able = self.hindered.plus_millis(clock.grace_ms);
            let since = self.since(record, watched, &moment);
            // When a brake has let go, the last ones are given the time that a new leader gives.
            let after_ms = if watched.generous { after_ms.max(clock.grace_ms) } else { after_ms };
            let silent_ms = now.since(since.max(able));
            ensure(silent_ms <= after_ms + self.slack_ms, 19, || {
                format!("instance {} has been silent for {silent_ms} ms and is not given up", record.key.id)
            })?;
        }
        for task in tasks.filter(|task| task.verdict.is_none() && task.known != TaskStatus::Stopped) {
            let lost = task.instance.and_then(|id| self.watched.get(&id)).and_then(|watched| watched.lost_seen);
            let late_ms = lost.map_or(0, |lost| now.since(lost.max(self.hindered)));
            ensure(late_ms <= self.slack_ms, 19, || {
                format!("task {} has no verdict {late_ms} ms after its instance was lost", task.key.id)
            })?;
        }
        Ok(())
    }
}

/// An instance drains and takes tasks again as its operator likes; once it is being given back there is no way back.
fn may_follow(was: InstanceStatus, is: InstanceStatus) -> bool {
    match was {
        InstanceStatus::Active | InstanceStatus::Draining => true,
        InstanceStatus::Deregistering => matches!(is, InstanceStatus::Deregistering | InstanceStatus::Inactive),
        InstanceStatus::Inactive => is == InstanceStatus::Inactive,
    }
}
