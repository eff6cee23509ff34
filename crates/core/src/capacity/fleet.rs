//! The machines of a capacity provider in a cluster: what its launcher was asked for, and what came of it.
//!
//! Nothing here is a message. An order is a durable record; the shell reads the orders of the committed state, has the
//! launcher carry them out, and says what came of it ([`answered`]). A shell that ends in the middle does it again,
//! with the same number: a launcher that knows the number has nothing left to do. A machine that was asked for counts
//! as being there until it registers, or until its warm-up is over; so it is neither asked for twice nor waited for for
//! ever.

use std::collections::BTreeMap;
use std::sync::Arc;

use longshore_api::Timestamp;
use serde::{Deserialize, Serialize};

use super::reservation::MachineSize;
use crate::cell::Turn;
use crate::decision::{Decision, FleetNews};
use crate::entity::{Entity, Instance};
use crate::ids::{ClusterId, InstanceId};
use crate::limits;

/// Which machines.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FleetKey {
    /// The cluster they are in.
    pub cluster: ClusterId,
    /// The name of their capacity provider.
    pub provider: Arc<str>,
}

impl FleetKey {
    /// Whose an instance is.
    pub(crate) fn of(instance: &Instance) -> Option<Self> {
        let provider = instance.capacity_provider()?.into();
        Some(Self { cluster: instance.key.cluster, provider })
    }
}

/// What is under way between a capacity provider and its launcher in one cluster. Durable; written by
/// [`super::review`], by the launcher's answers, and when a machine registers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fleet {
    /// Which machines.
    pub key: FleetKey,
    /// What the launcher is to do or has done without effect yet, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub orders: Vec<Order>,
    /// Instances that are drained, to be removed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub leaving: Vec<InstanceId>,
    /// Since when there have been more machines than needed, or when the last of them were chosen to go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub surplus: Option<Surplus>,
    /// What the machine that registered last offers: what the next one will.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<MachineSize>,
}

/// More machines than needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Surplus {
    /// When some of them go.
    pub due: Timestamp,
}

/// Something that a launcher is to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// Its number: no other order of this cell has it.
    pub id: u64,
    /// What.
    pub work: Work,
    /// When the launcher said that it has done it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub done_at: Option<Timestamp>,
    /// That it failed, and how often.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<Trouble>,
}

/// What a launcher does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Work {
    /// Add machines.
    Add {
        /// How many.
        count: u32,
        /// How many of them have not registered yet.
        missing: u32,
    },
    /// Remove the machines of instances that are INACTIVE.
    Remove {
        /// Who has them: the provider may be gone by then, or have been made anew with another launcher.
        launcher: Arc<str>,
        /// Which.
        machines: Vec<Departed>,
    },
}

/// The machine of an instance that is INACTIVE, with what its launcher knows it by: the instance is forgotten in the
/// end, an order stays until it is done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Departed {
    /// The instance that it was.
    pub instance: InstanceId,
    /// Its id at EC2, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ec2_instance_id: Option<Arc<str>>,
    /// Its attributes, but for those that say what its agent is capable of. One without a value has an empty one.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<Arc<str>, Arc<str>>,
}

impl Departed {
    pub(super) fn of(instance: &Instance) -> Self {
        let capability = |name: &str| name.starts_with("ecs.capability.") || name.starts_with("com.amazonaws.");
        let own = instance.attributes.iter().filter(|(name, _)| !capability(name));
        let valued = own.map(|(name, value)| (name.clone(), value.clone().unwrap_or_else(|| "".into())));
        Self {
            instance: instance.key.id,
            ec2_instance_id: instance.ec2_instance_id.clone(),
            attributes: valued.take(limits::DEPARTED_ATTRIBUTES).collect(),
        }
    }
}

/// What went wrong with an order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trouble {
    /// How often in a row.
    pub failures: u32,
    /// The last time, in words.
    pub reason: Arc<str>,
    /// When it is tried again.
    pub retry_at: Timestamp,
}

impl Order {
    /// Whether the launcher is to be asked at this time.
    pub fn is_due(&self, now: Timestamp) -> bool {
        self.done_at.is_none() && self.trouble.as_ref().is_none_or(|trouble| trouble.retry_at <= now)
    }

    /// How many machines it will still bring.
    pub(super) fn missing(&self) -> usize {
        match self.work {
            Work::Add { missing, .. } => missing as usize,
            Work::Remove { .. } => 0,
        }
    }

    pub(super) fn removes(&self) -> bool {
        matches!(self.work, Work::Remove { .. })
    }
}

impl Fleet {
    pub(super) fn new(key: FleetKey) -> Self {
        Self { key, orders: Vec::new(), leaving: Vec::new(), surplus: None, machine: None }
    }

    /// How many machines are on their way.
    pub(super) fn coming(&self) -> usize {
        self.orders.iter().map(Order::missing).sum()
    }

    /// How many orders to add machines are under way.
    pub(super) fn additions(&self) -> usize {
        self.orders.len() - self.removals()
    }

    /// Takes orders to add machines back, the newest first, as long as all that they would still bring is a surplus.
    /// Only those that failed and rest: the launcher is not at them.
    pub(super) fn withdraw(&mut self, mut surplus: usize, now: Timestamp) -> Vec<Order> {
        let mut withdrawn = Vec::new();
        for at in (0..self.orders.len()).rev() {
            let order = &self.orders[at];
            let rests = order.done_at.is_none() && !order.is_due(now);
            if rests && !order.removes() && order.missing() <= surplus {
                surplus -= order.missing();
                withdrawn.push(self.orders.remove(at));
            }
        }
        withdrawn
    }

    /// How many orders to remove machines are under way.
    pub(super) fn removals(&self) -> usize {
        self.orders.iter().filter(|order| order.removes()).count()
    }

    /// What is left of it when its provider does not scale its cluster any more: machines whose instances are INACTIVE
    /// are removed all the same, as nobody would know them afterwards.
    pub(super) fn ended(&self) -> Option<Self> {
        let orders: Vec<Order> = self.orders.iter().filter(|order| order.removes()).cloned().collect();
        (!orders.is_empty()).then(|| Self { orders, ..Self::new(self.key.clone()) })
    }

    /// What the launcher failed at last, if it has not succeeded since.
    pub(super) fn trouble(&self) -> Option<&Trouble> {
        self.orders.iter().rev().find_map(|order| order.trouble.as_ref())
    }

    /// Writes it if it is other than before.
    pub(super) fn put(self, turn: &mut Turn<'_>) {
        if turn.tables.view().fleets.get(&self.key).is_none_or(|known| **known != self) {
            turn.tables.put(Entity::Fleet(Arc::new(self)));
        }
    }
}

/// What came of an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LauncherAnswer {
    /// Whose order it was.
    pub fleet: FleetKey,
    /// Its number.
    pub order: u64,
    /// Why it failed, if it did.
    pub outcome: Result<(), Arc<str>>,
}

/// A launcher has carried out an order, or has not. An order that is not known any more needs no answer.
pub(crate) fn answered(turn: &mut Turn<'_>, answer: LauncherAnswer) {
    let Some(known) = turn.tables.view().fleets.get(&answer.fleet) else { return };
    let mut fleet = Fleet::clone(known);
    let Some(at) = fleet.orders.iter().position(|order| order.id == answer.order && order.done_at.is_none()) else {
        return;
    };
    match answer.outcome {
        Ok(()) => {
            let order = &mut fleet.orders[at];
            order.done_at = Some(turn.now);
            order.trouble = None;
            // Whose machines have all registered has nothing left to wait for.
            if order.missing() == 0 {
                fleet.orders.remove(at);
            }
        }
        Err(reason) => {
            let order = &mut fleet.orders[at];
            let failures = order.trouble.as_ref().map_or(0, |trouble| trouble.failures).saturating_add(1);
            let reason: Arc<str> = reason.chars().take(limits::REASON).collect::<String>().into();
            let retry_at = turn.now.plus_millis(retry_pause_ms(failures));
            order.trouble = Some(Trouble { failures, reason: reason.clone(), retry_at });
            note(turn, &answer.fleet, FleetNews::LauncherFailed { order: answer.order, failures, reason });
        }
    }
    fleet.put(turn);
}

/// How long after so many failures in a row a launcher is asked again, in milliseconds.
pub fn retry_pause_ms(failures: u32) -> i64 {
    let doubled = limits::LAUNCHER_RETRY_MS.saturating_mul(1 << failures.saturating_sub(1).min(20));
    doubled.min(limits::LAUNCHER_RETRY_MOST_MS)
}

/// An instance registered for the first time: if it is one that was asked for, it is on its way no more.
pub(crate) fn registered(turn: &mut Turn<'_>, instance: &Instance) {
    let Some(key) = FleetKey::of(instance) else { return };
    if turn.tables.view().providers.get(&key.provider).is_none_or(|provider| !provider.scaling.enabled) {
        return;
    }
    let mut fleet = turn.tables.view().fleets.get(&key).map_or_else(|| Fleet::new(key), |known| Fleet::clone(known));
    fleet.machine = Some(MachineSize { cpu: instance.cpu, memory: instance.memory });
    for order in &mut fleet.orders {
        if let Work::Add { missing: missing @ 1.., .. } = &mut order.work {
            *missing -= 1;
            break;
        }
    }
    // One whose launcher has not answered yet stays, until it does.
    fleet.orders.retain(|order| order.done_at.is_none() || order.missing() > 0);
    fleet.put(turn);
}

/// Tells operators.
pub(super) fn note(turn: &mut Turn<'_>, fleet: &FleetKey, news: FleetNews) {
    let cluster = turn.tables.view().cluster_names.get(&fleet.cluster).cloned().unwrap_or_else(|| "".into());
    turn.note(Decision::Fleet { cluster, provider: fleet.provider.clone(), news });
}
