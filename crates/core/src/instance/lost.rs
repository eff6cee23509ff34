//! Loss: the loss clocks run out, the mass-loss brake holds them, an operator overrules it.
//!
//! Every function here is a bounded step, taken when time or an operator asks for it. What the tasks of a lost instance
//! get is decided in [`super::ending`].

use std::collections::BTreeMap;
use std::sync::Arc;

use longshore_api::Timestamp;

use crate::cell::Turn;
use crate::decision::{Decision, Released};
use crate::entity::{Entity, Instance};
use crate::ids::{ClusterId, InstanceKey};
use crate::instance::brake::Hosts;
use crate::instance::{InstanceStatus, ending};
use crate::limits;

/// The cell begins to serve: whoever has no session has time to return before its clock starts.
pub(crate) fn begin(turn: &mut Turn<'_>) {
    turn.liveness.set_begun();
    let slots = turn.tables.pool().slots();
    for slot in slots.iter().filter(|slot| !slot.connected && slot.instance.lost_at.is_none()) {
        turn.liveness.await_return(&turn.config.loss, &slot.instance, turn.now);
    }
    // What a server did not end before it ended itself.
    for slot in slots {
        if slot.instance.lost_at.is_some() || slot.status == InstanceStatus::Deregistering {
            turn.liveness.begin_ending(turn.now, slot.instance.key);
        }
    }
    let instances = turn.liveness.missing_count();
    if instances > 0 {
        turn.note(Decision::ReturnsAwaited { instances });
    }
}

/// Time has passed.
pub(crate) fn tick(turn: &mut Turn<'_>) {
    for cluster in turn.liveness.take_reviews(turn.now) {
        review(turn, cluster);
    }
    evict(turn);
    ending::tick(turn);
}

/// Gives up the instances whose time is over, unless the brake holds them.
fn evict(turn: &mut Turn<'_>) {
    let mut counted: BTreeMap<ClusterId, bool> = BTreeMap::new();
    for key in turn.liveness.due(turn.now) {
        let condemned = turn.liveness.missing(key).is_some_and(|missing| missing.condemned);
        let held = !condemned && *counted.entry(key.cluster).or_insert_with(|| brakes(turn, key.cluster));
        if !held {
            lose(turn, key);
        }
    }
}

/// Engages the brake of a cluster if it has to be; answers whether it is engaged.
fn brakes(turn: &mut Turn<'_>, cluster: ClusterId) -> bool {
    let Some(loss) = hosts(turn, cluster).mass_loss(&turn.config.loss) else { return false };
    turn.liveness.engage(cluster);
    let cluster = cluster_name(turn, cluster);
    turn.note(Decision::BrakeEngaged { cluster, vanished: loss.vanished, of: loss.of });
    true
}

/// Releases the brake of a cluster if enough hosts are back.
fn review(turn: &mut Turn<'_>, cluster: ClusterId) {
    let hosts = hosts(turn, cluster);
    if turn.liveness.is_braked(cluster) && hosts.recovered(&turn.config.loss) {
        turn.liveness.release(turn.now, cluster);
        let cluster = cluster_name(turn, cluster);
        turn.note(Decision::BrakeReleased { cluster, why: Released::Returned, missing: hosts.missing.len() });
    }
}

/// An operator says that whatever has vanished in a cluster is gone, whether the brake is engaged or not; answers how many
/// instances that are. The next ticks give them up.
pub(crate) fn evict_all(turn: &mut Turn<'_>, cluster: ClusterId) -> usize {
    let missing = hosts(turn, cluster).missing.len();
    let condemned = turn.liveness.condemn(turn.now, cluster);
    if turn.liveness.is_braked(cluster) {
        turn.liveness.release(turn.now, cluster);
        let cluster = cluster_name(turn, cluster);
        turn.note(Decision::BrakeReleased { cluster, why: Released::Operator, missing });
    }
    condemned
}

/// How a host fares: the best that is known of its instances, worst first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fate {
    Lost(Timestamp),
    Missing(Timestamp),
    Awaited,
    Connected,
}

/// Counts the hosts of a cluster. Takes time in its size, so it is done when something is due there, and not per command.
fn hosts(turn: &Turn<'_>, cluster: ClusterId) -> Hosts {
    let mut fates: BTreeMap<&str, Fate> = BTreeMap::new();
    for slot in turn.tables.pool().members(cluster) {
        let key = slot.instance.key;
        let fate = match (slot.connected, turn.liveness.missing(key), turn.liveness.lost_since(key)) {
            (true, ..) => Fate::Connected,
            // What an operator gave up says nothing about the network.
            (false, Some(missing), _) if missing.condemned => continue,
            (false, Some(missing), _) if missing.since > turn.now => Fate::Awaited,
            (false, Some(missing), _) => Fate::Missing(missing.since),
            (false, None, Some(since)) => Fate::Lost(since),
            (false, None, None) => continue,
        };
        let known = fates.entry(slot.host()).or_insert(fate);
        *known = fate.max(*known);
    }
    let mut hosts = Hosts::default();
    for fate in fates.into_values() {
        match fate {
            Fate::Connected => hosts.connected += 1,
            Fate::Awaited => hosts.awaited += 1,
            Fate::Missing(since) => hosts.missing.push(since),
            Fate::Lost(since) => hosts.lost.push(since),
        }
    }
    hosts
}

fn cluster_name(turn: &Turn<'_>, cluster: ClusterId) -> Arc<str> {
    turn.tables.view().cluster_names.get(&cluster).cloned().unwrap_or_default()
}

/// Gives an instance up.
fn lose(turn: &mut Turn<'_>, key: InstanceKey) {
    let Some(missing) = turn.liveness.give_up(key) else { return };
    let Some(slot) = turn.tables.pool().slot(key) else { return };
    let (lost_at, heard_at) = (Some(turn.now), Some(missing.heard_at));
    let tasks = (slot.pending + slot.running) as usize;
    let version = slot.instance.version + 1;
    let known = Instance::clone(&slot.instance);
    let next = Instance { lost_at, heard_at, agent_connected: false, version, ..known };
    turn.tables.put(Entity::Instance(Arc::new(next)));
    turn.liveness.begin_ending(turn.now, key);
    let silent_ms = turn.now.since(missing.heard_at);
    turn.note(Decision::InstanceLost { instance: key, silent_ms, tasks });
}

const _: () = assert!(limits::LOST_PER_TICK + limits::ENDED_PER_TICK < limits::CHANGES_PER_GROUP);
