//! The review: once a second it is compared, for each provider that scales by itself, how many machines its tasks need
//! with how many there are, and the difference becomes an order for its launcher.
//!
//! * **Out** at once, by target tracking ([`super::tracking`]). Tasks that wait are packed into what is on its way
//!   first. An instance whose agent is connected was tried already by the line of waiting tasks, so it counts as full
//!   for them.
//! * **In** slowly: machines have to be a surplus for a quarter of an hour, while no task waits; then half of them
//!   go, a minute later half of the rest. Only instances that have no task are chosen, those that have been there
//!   longer than a warm-up; they are drained, and when they are found without tasks once more they become INACTIVE and
//!   their machines are removed. In one command: so no task can come in between, whatever
//!   [`managedTerminationProtection`](super::CapacityProvider::termination_protection) says.

use std::collections::BTreeSet;
use std::sync::Arc;

use longshore_api::Timestamp;

use super::fleet::{Departed, Fleet, FleetKey, Order, Surplus, Work, note};
use super::reservation::{Demand, MachineSize, Room, pack, reservation};
use super::tracking::{Tracked, step_in, track};
use super::{CapacityProvider, Reserved};
use crate::cell::Turn;
use crate::config::FleetSize;
use crate::decision::FleetNews;
use crate::entity::{EntityKey, Task};
use crate::ids::{InstanceId, InstanceKey};
use crate::instance::{InstanceStatus, deregister, state};
use crate::limits;
use crate::placement::pool::Slot;
use crate::tables::Tables;

/// When the next review is. Volatile.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reviews {
    next: Option<Timestamp>,
    /// Where one that was too much for a tick goes on: behind this fleet.
    after: Option<FleetKey>,
    /// Fleets that need more machines than may be asked for: that is said once.
    refused: BTreeSet<FleetKey>,
}

/// When the next review is due; `None` while no provider scales.
pub(crate) fn next_due(tables: &Tables, reviews: &Reviews) -> Option<Timestamp> {
    let view = tables.view();
    let any = !view.fleets.is_empty() || view.providers.values().any(|provider| scales(provider));
    any.then(|| reviews.next.unwrap_or(Timestamp::from_millis(0)))
}

fn scales(provider: &CapacityProvider) -> bool {
    provider.is_active() && provider.scaling.enabled
}

/// Reviews every fleet, if it is time.
pub(crate) fn tick(turn: &mut Turn<'_>) {
    if turn.reviews.next.is_some_and(|next| next > turn.now) || next_due(turn.tables, turn.reviews).is_none() {
        return;
    }
    turn.reviews.next = Some(turn.now.plus_millis(limits::SCALING_REVIEW_MS));
    forget(turn);
    let mut reviewed = turn.reviews.after.take();
    let mut looked_at = 0;
    for (key, provider, size) in scaling_fleets(turn, reviewed.as_ref()) {
        // A step writes the fleet, retires instances and drains others; who finds no room is the first of the next
        // tick.
        if looked_at >= limits::INSTANCES_REVIEWED_PER_TICK || !turn.has_room_for(limits::CHANGES_PER_REVIEW) {
            turn.reviews.next = Some(turn.now);
            turn.reviews.after = reviewed;
            return;
        }
        looked_at += turn.tables.pool().fleet_size(&key);
        reviewed = Some(key.clone());
        Review::new(turn, key, &provider, size).run(turn);
    }
}

/// The fleets that scale and have a launcher, in the order of their keys, behind a certain one.
fn scaling_fleets(turn: &Turn<'_>, after: Option<&FleetKey>) -> Vec<(FleetKey, Arc<CapacityProvider>, FleetSize)> {
    let view = turn.tables.view();
    let mut fleets = Vec::new();
    for cluster in view.clusters.values().filter(|cluster| cluster.active) {
        for name in cluster.capacity_providers.iter().filter(|name| Reserved::of(name).is_none()) {
            let Some(provider) = view.providers.get(name).filter(|provider| scales(provider)) else { continue };
            let Some(size) = turn.config.scaling.launchers.get(provider.group_name()) else { continue };
            let key = FleetKey { cluster: cluster.id, provider: name.clone() };
            if after.is_none_or(|after| *after < key) {
                fleets.push((key, provider.clone(), *size));
            }
        }
    }
    fleets.sort_by(|(one, ..), (other, ..)| one.cmp(other));
    fleets
}

/// What is under way for a provider that its cluster does not have any more, or that does not scale any more, is over,
/// but for the machines that its launcher is removing.
fn forget(turn: &mut Turn<'_>) {
    let view = turn.tables.view();
    let stays = |key: &FleetKey| {
        let cluster = view.cluster_names.get(&key.cluster).and_then(|name| view.clusters.get(name));
        cluster.is_some_and(|cluster| cluster.active && cluster.capacity_providers.contains(&key.provider))
            && view.providers.get(&key.provider).is_some_and(|provider| scales(provider))
    };
    // A cluster that was forgotten has no name left by which its instances could be called.
    let rest = |fleet: &Fleet| fleet.ended().filter(|_| view.cluster_names.contains_key(&fleet.key.cluster));
    let over = view.fleets.values().filter(|fleet| !stays(&fleet.key)).map(|fleet| (fleet, rest(fleet)));
    let over: Vec<(FleetKey, Option<Fleet>)> = over
        .filter(|(fleet, rest)| rest.as_ref() != Some(&***fleet))
        .map(|(fleet, rest)| (fleet.key.clone(), rest))
        .collect();
    for (key, rest) in over {
        if !turn.has_room() {
            turn.reviews.next = Some(turn.now);
            return;
        }
        turn.reviews.refused.remove(&key);
        match rest {
            Some(rest) => rest.put(turn),
            None => turn.tables.remove(&EntityKey::Fleet(key)),
        }
    }
}

/// One fleet under review.
struct Review<'a> {
    provider: &'a CapacityProvider,
    size: FleetSize,
    fleet: Fleet,
}

/// An instance of the fleet that counts: it is ACTIVE, and not lost.
struct Machine {
    key: InstanceKey,
    size: MachineSize,
    has_tasks: bool,
    /// Room that nothing was tried on yet: its agent has not come, or only just.
    untried: Option<Room>,
    warm: bool,
    connected: bool,
}

impl<'a> Review<'a> {
    fn new(turn: &Turn<'_>, key: FleetKey, provider: &'a CapacityProvider, size: FleetSize) -> Self {
        let known = turn.tables.view().fleets.get(&key).map(|known| Fleet::clone(known));
        Self { provider, size, fleet: known.unwrap_or_else(|| Fleet::new(key)) }
    }

    fn run(mut self, turn: &mut Turn<'_>) {
        self.give_up_missing(turn);
        self.remove_drained(turn);
        let machines = self.machines(turn);
        let waiting = waiting(turn, &self.fleet.key);
        let (any_waits, coming) = (!waiting.is_empty(), self.fleet.coming());
        let there = machines.len() + coming;
        match self.needed(&machines, waiting, coming).map(|needed| (needed, self.track(needed, there))) {
            Some((needed, Tracked::Add(more))) => {
                self.fleet.surplus = None;
                self.add(turn, more, reservation(needed, there));
            }
            Some((_, Tracked::Surplus(surplus))) => {
                let surplus = surplus - self.withdraw(turn, surplus);
                match !any_waits && surplus > 0 && self.fleet.coming() == 0 {
                    true => self.shrink(turn, &machines, surplus),
                    false => self.fleet.surplus = None,
                }
            }
            Some((_, Tracked::Enough)) | None => self.fleet.surplus = None,
        }
        self.fleet.put(turn);
    }

    fn track(&self, needed: usize, there: usize) -> Tracked {
        track(&self.provider.scaling, self.size, needed, there)
    }

    /// How many machines are needed. `None` while nobody can know: tasks wait, and none of the machines on their way
    /// has ever been seen.
    fn needed(&self, machines: &[Machine], waiting: Vec<Demand>, coming: usize) -> Option<usize> {
        let used = machines.iter().filter(|machine| machine.has_tasks).count();
        if waiting.is_empty() {
            return Some(used);
        }
        let there = machines.len() + coming;
        // Those that were there before it scaled tell as much as one that was launched.
        let size = self.fleet.machine.or(machines.last().map(|machine| machine.size));
        if size.is_none() && coming > 0 {
            return None;
        }
        let mut rooms: Vec<Room> = machines.iter().filter_map(|machine| machine.untried.clone()).collect();
        rooms.extend(size.into_iter().flat_map(|size| (0..coming).map(move |_| Room::empty(size))));
        let filled = pack(waiting, rooms, size, self.size.maximum as usize);
        // When all that is untried is not enough, what was tried is too full for them, and needed as it is.
        Some(match filled.more {
            0 => used + filled.offered,
            more => there + more,
        })
    }

    /// Machines that did not register within their warm-up are not waited for any longer.
    fn give_up_missing(&mut self, turn: &mut Turn<'_>) {
        let patience_ms =
            i64::from(self.provider.scaling.warmup_s).saturating_mul(1_000).max(limits::LAUNCH_PATIENCE_MS);
        let late = |order: &Order| order.done_at.is_some_and(|at| at.plus_millis(patience_ms) <= turn.now);
        let (late, orders): (Vec<Order>, Vec<Order>) = self.fleet.orders.drain(..).partition(late);
        self.fleet.orders = orders;
        for order in late {
            let machines = order.missing();
            note(turn, &self.fleet.key, FleetNews::Missing { order: order.id, machines });
        }
    }

    /// What is asked for in vain and not needed any more is not asked for any longer. How many machines that is.
    fn withdraw(&mut self, turn: &mut Turn<'_>, surplus: usize) -> usize {
        let withdrawn = self.fleet.withdraw(surplus, turn.now);
        for order in &withdrawn {
            note(turn, &self.fleet.key, FleetNews::Withdrawn { order: order.id, machines: order.missing() });
        }
        withdrawn.iter().map(Order::missing).sum()
    }

    /// Those that were drained and have no task go: INACTIVE first, so that nothing can come between.
    fn remove_drained(&mut self, turn: &mut Turn<'_>) {
        if self.fleet.removals() >= limits::FLEET_REMOVALS {
            return;
        }
        let mut gone = Vec::new();
        let leaving = std::mem::take(&mut self.fleet.leaving);
        for id in leaving {
            let key = InstanceKey { cluster: self.fleet.key.cluster, id };
            let Some(slot) = turn.tables.pool().slot(key) else { continue };
            // An operator who made it ACTIVE again wants it.
            if slot.status != InstanceStatus::Draining {
                continue;
            }
            match slot.tasks.is_empty() {
                true => {
                    let instance = slot.instance.clone();
                    deregister::retire(turn, &instance);
                    gone.push(Departed::of(&instance));
                }
                false => self.fleet.leaving.push(id),
            }
        }
        self.remove(turn, gone);
    }

    fn remove(&mut self, turn: &mut Turn<'_>, machines: Vec<Departed>) {
        if !machines.is_empty() {
            note(turn, &self.fleet.key, FleetNews::Removing { machines: machines.len() });
            self.order(turn, Work::Remove { launcher: self.provider.group_name().into(), machines });
        }
    }

    fn add(&mut self, turn: &mut Turn<'_>, machines: usize, reservation: usize) {
        let orders = self.fleet.additions();
        if orders >= limits::FLEET_ORDERS {
            if turn.reviews.refused.insert(self.fleet.key.clone()) {
                note(turn, &self.fleet.key, FleetNews::TooManyOrders { orders });
            }
            return;
        }
        turn.reviews.refused.remove(&self.fleet.key);
        let count = u32::try_from(machines).unwrap_or(u32::MAX);
        note(turn, &self.fleet.key, FleetNews::Adding { machines, reservation });
        self.order(turn, Work::Add { count, missing: count });
    }

    fn order(&mut self, turn: &mut Turn<'_>, work: Work) {
        let id = turn.next_sequence();
        self.fleet.orders.push(Order { id, work, done_at: None, trouble: None });
    }

    /// Half of a surplus that has lasted long enough goes.
    fn shrink(&mut self, turn: &mut Turn<'_>, machines: &[Machine], surplus: usize) {
        let after_ms = turn.config.scaling.scale_in_after_ms;
        let due = self.fleet.surplus.get_or_insert(Surplus { due: turn.now.plus_millis(after_ms) }).due;
        if due > turn.now || self.fleet.removals() >= limits::FLEET_REMOVALS {
            return;
        }
        let room = limits::INSTANCES_LEAVING.saturating_sub(self.fleet.leaving.len());
        let mut idle: Vec<&Machine> = machines.iter().filter(|machine| !machine.has_tasks && machine.warm).collect();
        // Those whose agents are away first, then the youngest: the others have their images.
        idle.sort_by_key(|machine| (machine.connected, std::cmp::Reverse(machine.key)));
        let chosen: Vec<InstanceKey> =
            idle.iter().take(step_in(surplus).min(room)).map(|machine| machine.key).collect();
        if chosen.is_empty() {
            return;
        }
        self.fleet.surplus = Some(Surplus { due: turn.now.plus_millis(limits::SCALE_IN_PAUSE_MS.min(after_ms)) });
        match self.provider.draining {
            true => {
                note(turn, &self.fleet.key, FleetNews::Draining { machines: chosen.len() });
                for key in &chosen {
                    if let Some(instance) = turn.tables.view().instances.get(key).cloned() {
                        state::set(turn, instance, InstanceStatus::Draining);
                    }
                }
                self.fleet.leaving.extend(chosen.iter().map(|key| key.id));
            }
            false => {
                let mut gone = Vec::new();
                for key in &chosen {
                    if let Some(instance) = turn.tables.view().instances.get(key).cloned() {
                        deregister::retire(turn, &instance);
                        gone.push(Departed::of(&instance));
                    }
                }
                self.remove(turn, gone);
            }
        }
    }

    /// The instances of the fleet that count, in the order of their ids.
    fn machines(&self, turn: &Turn<'_>) -> Vec<Machine> {
        let warmup_ms = i64::from(self.provider.scaling.warmup_s).saturating_mul(1_000);
        let leaving: BTreeSet<InstanceId> = self.fleet.leaving.iter().copied().collect();
        let members = turn.tables.pool().fleet(&self.fleet.key).filter(|slot| {
            let instance = &slot.instance;
            instance.status == InstanceStatus::Active
                && instance.lost_at.is_none()
                && !leaving.contains(&instance.key.id)
        });
        let machine = |slot: &Slot| {
            let age_ms = turn.now.since(slot.instance.registered_at);
            // An agent that has not come by now may never come: nobody waits for it. One that was here may be back soon.
            let coming = !slot.connected && (age_ms < warmup_ms || turn.liveness.may_return(slot.instance.key));
            let untried = age_ms < limits::SETTLING_MS || coming;
            let (has_tasks, ports) = (!slot.tasks.is_empty(), || slot.held.ports.keys().copied().collect());
            Machine {
                key: slot.instance.key,
                size: MachineSize { cpu: slot.instance.cpu, memory: slot.instance.memory },
                has_tasks,
                untried: untried.then(|| Room::left(slot.cpu_free, slot.memory_free, ports(), has_tasks)),
                warm: age_ms >= warmup_ms,
                connected: slot.connected,
            }
        };
        members.map(machine).collect()
    }
}

/// The kinds of tasks that wait for machines of a fleet.
fn waiting(turn: &Turn<'_>, fleet: &FleetKey) -> Vec<Demand> {
    let tasks = &turn.tables.view().tasks;
    let kinds = turn.tables.line().kinds(fleet.cluster).filter_map(|(first, count)| Some((tasks.get(&first)?, count)));
    let own = kinds.filter(|(task, _)| task.capacity_provider.as_deref() == Some(&*fleet.provider));
    let demand = |(task, count): (&Arc<Task>, usize)| Demand {
        cpu: task.cpu,
        memory: task.memory,
        host_ports: task.host_ports.clone(),
        count,
    };
    own.map(demand).collect()
}
