//! How many machines a provider needs, and what that is in percent of those it has: `CapacityProviderReservation`.
//! Pure.
//!
//! `M` is the machines that are needed: those with tasks, and those that the waiting tasks would fill. `N` is the
//! machines there are. The reservation is `M / N` in percent; without machines it is 100 when none is needed, and 200
//! when any is.
//!
//! Waiting tasks are packed first-fit, the largest first, by CPU, memory and fixed ports. What ECS calls a lower bound:
//! constraints and addresses may ask for more machines, and then the tasks go on waiting, and more are asked for when
//! those have come.

use crate::resources::{CpuUnits, HostPort, MemoryMib};
use serde::{Deserialize, Serialize};

/// What a machine offers to tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineSize {
    /// CPU units.
    pub cpu: CpuUnits,
    /// Memory, in MiB.
    pub memory: MemoryMib,
}

/// Waiting tasks with the same needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Demand {
    pub(super) cpu: CpuUnits,
    pub(super) memory: MemoryMib,
    pub(super) host_ports: Vec<HostPort>,
    pub(super) count: usize,
}

/// What is free on a machine that is there or to come.
#[derive(Clone, Debug)]
pub(super) struct Room {
    cpu: i64,
    memory: i64,
    ports: Vec<HostPort>,
    filled: bool,
    /// It has tasks already: nobody has to be told that it is needed.
    in_use: bool,
}

impl Room {
    /// What is left on a machine, which may have tasks already.
    pub(super) fn left(cpu: i64, memory: i64, ports: Vec<HostPort>, in_use: bool) -> Self {
        Self { cpu, memory, ports, filled: false, in_use }
    }

    /// All of a machine.
    pub(super) fn empty(size: MachineSize) -> Self {
        Self::left(i64::from(size.cpu.0), i64::from(size.memory.0), Vec::new(), false)
    }

    /// How many copies have room here; with a fixed port it is one.
    fn copies(&self, demand: &Demand) -> usize {
        if demand.host_ports.iter().any(|port| self.ports.contains(port)) {
            return 0;
        }
        let times = |free: i64, each: u32| match each {
            0 => usize::MAX,
            each => usize::try_from(free / i64::from(each)).unwrap_or(0),
        };
        let most = times(self.cpu, demand.cpu.0).min(times(self.memory, demand.memory.0));
        if demand.host_ports.is_empty() { most } else { most.min(1) }
    }

    fn take(&mut self, demand: &Demand, copies: usize) {
        let copies = i64::try_from(copies).unwrap_or(i64::MAX);
        self.cpu = self.cpu.saturating_sub(i64::from(demand.cpu.0).saturating_mul(copies));
        self.memory = self.memory.saturating_sub(i64::from(demand.memory.0).saturating_mul(copies));
        self.ports.extend(demand.host_ports.iter().copied());
        self.filled = true;
    }
}

/// How many machines waiting tasks would fill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Filled {
    /// Of those that were offered and are not in use.
    pub(super) offered: usize,
    /// Beyond these.
    pub(super) more: usize,
}

/// Packs waiting tasks into what is offered, and then into as many machines of a size as they take, at most `most`.
/// Tasks that are larger than such a machine are left out: more machines would not help them. As long as no machine was
/// seen, one is taken to have room for all.
pub(super) fn pack(mut demands: Vec<Demand>, mut offered: Vec<Room>, size: Option<MachineSize>, most: usize) -> Filled {
    demands.sort_by_key(|demand| std::cmp::Reverse((demand.memory, demand.cpu, demand.count)));
    let mut more: Vec<Room> = Vec::new();
    let mut unknown = false;
    for demand in &demands {
        let mut left = demand.count;
        for room in offered.iter_mut().chain(&mut more) {
            let copies = room.copies(demand).min(left);
            if copies > 0 {
                room.take(demand, copies);
                left -= copies;
            }
        }
        match size {
            None => unknown |= left > 0,
            Some(size) => {
                while left > 0 && more.len() < most {
                    let mut room = Room::empty(size);
                    let copies = room.copies(demand).min(left);
                    if copies == 0 {
                        break;
                    }
                    room.take(demand, copies);
                    left -= copies;
                    more.push(room);
                }
            }
        }
    }
    let offered = offered.iter().filter(|room| room.filled && !room.in_use).count();
    Filled { offered, more: more.len() + usize::from(unknown) }
}

/// `CapacityProviderReservation` in percent.
pub(super) fn reservation(needed: usize, there: usize) -> usize {
    match (needed, there) {
        (0, 0) => 100,
        (_, 0) => 200,
        (needed, there) => needed * 100 / there,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::resources::Protocol;

    const SIZE: MachineSize = MachineSize { cpu: CpuUnits(1_000), memory: MemoryMib(1_000) };

    fn demand(cpu: u32, memory: u32, count: usize) -> Demand {
        Demand { cpu: CpuUnits(cpu), memory: MemoryMib(memory), host_ports: Vec::new(), count }
    }

    #[test]
    fn the_reservation_is_what_ecs_documents() {
        assert_eq!(reservation(0, 0), 100);
        assert_eq!(reservation(3, 0), 200);
        assert_eq!(reservation(9, 10), 90);
        assert_eq!(reservation(11, 10), 110);
        assert_eq!(reservation(0, 4), 0);
    }

    #[test]
    fn what_is_on_its_way_is_filled_before_more_is_asked_for() {
        let coming = || vec![Room::empty(SIZE), Room::empty(SIZE)];
        assert_eq!(pack(vec![demand(500, 500, 4)], coming(), Some(SIZE), 100), Filled { offered: 2, more: 0 });
        assert_eq!(pack(vec![demand(500, 500, 5)], coming(), Some(SIZE), 100), Filled { offered: 2, more: 1 });
        assert_eq!(pack(vec![demand(500, 500, 1)], coming(), Some(SIZE), 100), Filled { offered: 1, more: 0 });
    }

    #[test]
    fn a_port_is_had_once_a_machine_and_what_is_too_large_is_left_out() {
        let port = HostPort { port: 80, protocol: Protocol::Tcp };
        let web = Demand { host_ports: vec![port], ..demand(10, 10, 3) };
        assert_eq!(pack(vec![web], Vec::new(), Some(SIZE), 100).more, 3);
        assert_eq!(pack(vec![demand(2_000, 10, 3)], Vec::new(), Some(SIZE), 100).more, 0);
        assert_eq!(pack(vec![demand(2_000, 10, 3)], Vec::new(), None, 100).more, 1, "nothing is known of the machines");
        assert_eq!(pack(vec![demand(600, 10, 50)], Vec::new(), Some(SIZE), 7).more, 7, "no more than there may be");
    }

    proptest! {
        /// No fewer machines than the sums ask for, no more than one a task, and no more than twice the bound and one
        /// for a resource alone, as first-fit guarantees.
        #[test]
        fn packing_stays_within_its_bounds(sizes in prop::collection::vec((1u32..=1_000, 1usize..6), 0..12)) {
            let demands: Vec<Demand> = sizes.iter().map(|&(cpu, count)| demand(cpu, 1, count)).collect();
            let all: usize = sizes.iter().map(|&(_, count)| count).sum();
            let cpu: usize = sizes.iter().map(|&(cpu, count)| cpu as usize * count).sum();
            let more = pack(demands, Vec::new(), Some(SIZE), 1_000).more;
            prop_assert!(more >= cpu.div_ceil(1_000) && more <= all, "{more}");
            prop_assert!(more <= 2 * cpu.div_ceil(1_000) + 1, "{more}");
        }
    }
}
