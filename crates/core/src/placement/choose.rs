//! Choosing: the best of the instances that can take a task, by its strategy.
//!
//! Cells are looked at in the order of what the strategy says of them, most promising first, and no further than one can be better
//! than what was found. In a cell, only packing tells instances apart, and the view has them in that order.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Need;
use super::constraint::Constraints;
use super::groups::Groups;
use super::ordered::Amounts;
use super::pool::{HostBook, Slot};
use super::strategy::{Field, Resource, Step, Strategy};
use super::view::{CellKey, Changes, Expression, Kind, Members, View, Views, amounts};
use crate::entropy::Entropy;
use crate::ids::{ClusterId, InstanceId, InstanceKey};
use crate::limits;
use crate::network::NetworkRequest;
use crate::resources::HostPort;
use crate::task_definition::RequiredAttribute;

/// What is asked of a placement, read once for all copies of a task: everything but how much they take.
#[derive(Clone, Debug, Default)]
pub(crate) struct Placement {
    pub(crate) constraints: Constraints,
    strategy: Strategy,
    group: Arc<str>,
    kind: Kind,
}

impl Placement {
    /// Puts together what is asked.
    pub(crate) fn new(
        (requires, host_ports, gpus): (&[RequiredAttribute], &[HostPort], u32),
        network: Option<&NetworkRequest>,
        constraints: Constraints,
        strategy: Strategy,
        group: Arc<str>,
    ) -> Self {
        let mut member_of: Vec<Expression> = constraints.member_of.iter().cloned().map(Expression).collect();
        member_of.sort_unstable();
        let kind = Kind {
            requires: requires.into(),
            member_of: member_of.into(),
            host_ports: host_ports.into(),
            gpus,
            zones: network.and_then(NetworkRequest::zones),
            spread: strategy.attributes().into(),
            packs: strategy.packs().unwrap_or_default(),
            group: None,
        };
        Self { constraints, strategy, group, kind }
    }

    /// Constraints alone, where nothing is to be chosen.
    pub(crate) fn of(constraints: Constraints, group: Arc<str>) -> Self {
        Self { constraints, group, ..Self::default() }
    }

    /// The group of the tasks.
    pub(crate) fn group(&self) -> &Arc<str> {
        &self.group
    }

    /// Whether it matters how many tasks of the group an instance has.
    fn counts_neighbours(&self) -> bool {
        self.constraints.distinct_instance || self.strategy.spreads_over_instances()
    }
}

/// What a strategy says of an instance, step by step; less is better.
type Rank = [u32; limits::PLACEMENT_STRATEGIES];

/// What the choice is made from.
pub(super) struct Cluster<'a> {
    pub(super) slots: &'a [Slot],
    pub(super) indexes: &'a [usize],
    pub(super) hosts: &'a BTreeMap<Arc<str>, HostBook>,
    pub(super) id: ClusterId,
    pub(super) by_key: &'a BTreeMap<InstanceKey, usize>,
    pub(super) groups: &'a mut Groups,
    pub(super) changes: &'a Changes,
    pub(super) views: &'a mut Views,
}

/// Chooses the instance for one copy: its number in the cluster.
pub(super) fn choose(cluster: Cluster<'_>, need: Need<'_>, entropy: &mut Entropy) -> Option<u32> {
    let placement = need.placement;
    let Cluster { slots, indexes, hosts, id, by_key, groups, changes, views } = cluster;
    let slot = |instance| by_key.get(&InstanceKey { cluster: id, id: instance }).map(|&index| &slots[index]);
    let fits = |member: u32| {
        let slot = &slots[indexes[member as usize]];
        slot.fits(hosts.get(slot.host()), need).is_ok()
    };
    if placement.strategy.is_random()
        && let Some(drawn) = draw(limits::PLACEMENT_DRAWS.min(indexes.len()), indexes.len(), entropy, fits)
    {
        return Some(drawn);
    }
    groups.count_by(&placement.group, &placement.kind.spread, |instance| Some(&slot(instance)?.instance));
    let members = Members { slots, indexes, hosts, groups };
    let neighbours = groups.places(&placement.group).filter(|_| placement.counts_neighbours());
    // Few neighbours are looked at one by one; of many, the view keeps account.
    let few = neighbours.is_none_or(|places| places.len() <= limits::PLACEMENT_NEIGHBOURS);
    let grouped;
    let kind = match few {
        true => &placement.kind,
        false => {
            grouped = Kind { group: Some(placement.group.clone()), ..placement.kind.clone() };
            &grouped
        }
    };
    let view = views.of(kind, changes, &members);
    let least = amounts(kind.packs, i64::from(need.cpu.0), i64::from(need.memory.0));
    let neighbours = neighbours.filter(|_| few);
    Search { view, placement, groups, least, neighbours, members, slot: &slot, fits: &fits }.best(entropy)
}

/// Draws members until one is accepted, up to so many times. Whichever it is, each that would be is as likely.
fn draw(times: usize, members: usize, entropy: &mut Entropy, accept: impl Fn(u32) -> bool) -> Option<u32> {
    (0..times).map(|_| entropy.below(members) as u32).find(|&member| accept(member))
}

struct Search<'a> {
    view: &'a View,
    placement: &'a Placement,
    groups: &'a Groups,
    least: Amounts,
    /// Instances with tasks of the group, which the view does not tell from others.
    neighbours: Option<&'a BTreeMap<InstanceId, u32>>,
    members: Members<'a>,
    slot: &'a dyn Fn(InstanceId) -> Option<&'a Slot>,
    fits: &'a dyn Fn(u32) -> bool,
}

impl Search<'_> {
    fn best(&self, entropy: &mut Entropy) -> Option<u32> {
        let neighbours = self.ranked_neighbours();
        let bound = neighbours.iter().map(|(rank, _)| *rank).min();
        let mut cells: Vec<(Rank, u32)> = self
            .view
            .cells()
            .filter(|(_, cell)| cell.key.tasks == 0 || !self.placement.constraints.distinct_instance)
            .map(|(index, cell)| (self.rank(&cell.key, cell.key.tasks, Amounts::default()), index))
            .collect();
        cells.sort_unstable();
        let found = match self.placement.strategy.packs() {
            Some(_) => self.packed(&cells, bound),
            None => self.drawn(&cells, bound, entropy),
        };
        found.or_else(|| {
            let best: Vec<u32> =
                neighbours.iter().filter(|(rank, _)| Some(*rank) == bound).map(|(_, member)| *member).collect();
            best.get(entropy.below(best.len())).copied()
        })
    }

    /// Of cells with their lower bounds: the best instance, if it is better than `bound`.
    fn packed(&self, cells: &[(Rank, u32)], bound: Option<Rank>) -> Option<u32> {
        let mut best: Option<(Rank, u32)> = None;
        for &(least, index) in cells {
            let limit = best.map(|(rank, _)| rank).or(bound);
            if limit.is_some_and(|limit| least >= limit) {
                break;
            }
            let cell = self.view.cell_at(index);
            let Some(member) = self.view.first(cell, self.least, &mut |member| self.accepts(member)) else { continue };
            let Some((_, amounts)) = self.view.place(member) else { continue };
            let rank = self.rank(&cell.key, cell.key.tasks, amounts);
            if bound.is_none_or(|bound| rank < bound) && best.is_none_or(|(best, _)| rank < best) {
                best = Some((rank, member));
            }
        }
        best.map(|(_, member)| member)
    }

    /// Of cells with their ranks: any instance of the best ones that have any, each as likely as any other.
    fn drawn(&self, cells: &[(Rank, u32)], bound: Option<Rank>, entropy: &mut Entropy) -> Option<u32> {
        let better = |rank: Rank| bound.is_none_or(|bound| rank < bound);
        for equals in cells.chunk_by(|one, other| one.0 == other.0).take_while(|equals| better(equals[0].0)) {
            let among = |cell: u32| equals.binary_search_by_key(&cell, |(_, index)| *index).is_ok();
            let any = |&(_, index): &(Rank, u32)| {
                let cell = self.view.cell_at(index);
                self.view.first(cell, self.least, &mut |member| self.accepts(member)).is_some()
            };
            if !equals.iter().any(any) {
                continue;
            }
            let good = |member: u32| {
                let place = self.view.place(member);
                let enough = place.is_some_and(|(cell, amounts)| amounts.cover(self.least) && among(cell));
                enough && self.accepts(member)
            };
            let count = self.members.indexes.len();
            return draw(limits::PLACEMENT_VIEW_DRAWS, count, entropy, good).or_else(|| {
                let mut all = Vec::new();
                for (_, index) in equals {
                    let mut list = |member| {
                        if self.accepts(member) {
                            all.push(member);
                        }
                        false
                    };
                    self.view.first(self.view.cell_at(*index), self.least, &mut list);
                }
                all.get(entropy.below(all.len())).copied()
            });
        }
        None
    }

    /// Whether an instance that the view proposes takes the task, and is not one of the neighbours.
    fn accepts(&self, member: u32) -> bool {
        let apart = |places: &BTreeMap<InstanceId, u32>| {
            self.members.get(member).is_some_and(|slot| !places.contains_key(&slot.instance.key.id))
        };
        self.neighbours.is_none_or(apart) && (self.fits)(member)
    }

    /// The instances with tasks of the group that take one more.
    fn ranked_neighbours(&self) -> Vec<(Rank, u32)> {
        let places = self.neighbours.into_iter().flatten();
        let ranked = places.filter_map(|(id, tasks)| {
            let member = (self.slot)(*id)?.member;
            let (cell, amounts) = self.view.place(member)?;
            let rank = self.rank(&self.view.cell_at(cell).key, *tasks, amounts);
            (amounts.cover(self.least) && (self.fits)(member)).then_some((rank, member))
        });
        ranked.collect()
    }

    fn rank(&self, key: &CellKey, tasks: u32, amounts: Amounts) -> Rank {
        let Placement { strategy, kind, group, .. } = self.placement;
        let mut rank = Rank::default();
        for (step, rank) in strategy.steps().iter().zip(&mut rank) {
            *rank = match step {
                Step::Spread(Field::Instance) => tasks,
                Step::Spread(Field::Attribute(name)) => {
                    let at = kind.spread.iter().position(|attribute| attribute == name);
                    at.and_then(|at| key.values.get(at)).map_or(0, |value| self.groups.with(group, name, value))
                }
                Step::Binpack(resource) if *resource == kind.packs => amounts.first,
                Step::Binpack(Resource::Cpu | Resource::Memory) => amounts.second,
            };
        }
        rank
    }
}
