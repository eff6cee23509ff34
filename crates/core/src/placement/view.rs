//! The instances of a cluster as one kind of task sees them: those that it may run on at all, in the order in which it
//! prefers them.
//!
//! A [`View`] is made when a kind is seen for the first time, in time linear in the instances, and from then on brought up to date by
//! reading what changed since it was used last ([`Changes`]). So a change costs nothing but a note, however many views there are; a view
//! that nobody uses costs nothing but its room, and those used longest ago make room for others.
//!
//! What a view says is a proposal. Whoever chooses by it asks the instance itself before a task is put there, so that a view
//! that is wrong could make a placement worse, but never put more on an instance than it has.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::constraint::MemberOf;
use super::groups::{Groups, Value, value};
use super::ordered::{Amounts, Forest, NONE};
use super::pool::{HostBook, Slot};
use super::strategy::Resource;
use crate::instance::InstanceStatus;
use crate::limits;
use crate::network;
use crate::resources::HostPort;
use crate::task_definition::RequiredAttribute;

/// What makes two tasks the same kind. How much CPU and memory they take does not: that is what views are searched by.
///
/// What else an instance must have of a scarce thing belongs here, as far as it is worth an index: what is not here is asked of
/// each instance that is proposed.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Kind {
    /// Attributes that the definition requires.
    pub(super) requires: Arc<[RequiredAttribute]>,
    /// The expressions of its constraints.
    pub(super) member_of: Arc<[Expression]>,
    /// Fixed host ports, all of which must be free.
    pub(super) host_ports: Arc<[HostPort]>,
    /// GPUs, so many of which must be free.
    pub(super) gpus: u32,
    /// For awsvpc, unless one of its subnets is for every zone: the zones that it can be in.
    pub(super) zones: Option<Arc<[Arc<str>]>>,
    /// The attributes it is spread over.
    pub(super) spread: Arc<[Arc<str>]>,
    /// What it is packed by.
    pub(super) packs: Resource,
    /// Its group, where instances differ by how many tasks of it they have.
    pub(super) group: Option<Arc<str>>,
}

/// A constraint, compared by its text.
#[derive(Clone, Debug)]
pub(crate) struct Expression(pub(super) Arc<MemberOf>);

impl PartialEq for Expression {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl Eq for Expression {}

impl PartialOrd for Expression {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Expression {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.expression().cmp(other.0.expression())
    }
}

/// The instances of a cluster, by their number in it.
#[derive(Clone, Copy)]
pub(super) struct Members<'a> {
    pub(super) slots: &'a [Slot],
    pub(super) indexes: &'a [usize],
    pub(super) hosts: &'a BTreeMap<Arc<str>, HostBook>,
    pub(super) groups: &'a Groups,
}

impl<'a> Members<'a> {
    pub(super) fn get(&self, member: u32) -> Option<&'a Slot> {
        self.indexes.get(member as usize).map(|&index| &self.slots[index])
    }
}

/// What changed of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// Its record, or whether its agent is connected.
    Itself,
    /// What tasks hold of it.
    Load,
}

/// What changed lately, oldest first. What is older than this is not told: a view that missed it is made anew.
#[derive(Clone, Debug, Default)]
pub(super) struct Changes {
    /// The number of the oldest.
    first: u64,
    /// Whom each change was of.
    kept: VecDeque<u32>,
    /// By member, whether kept or not.
    latest: Vec<Latest>,
}

/// When a member changed last: a change's number and one more, 0 for never.
#[derive(Clone, Copy, Debug, Default)]
struct Latest {
    any: u64,
    itself: u64,
}

impl Changes {
    pub(super) fn note(&mut self, member: u32, change: Change, members: usize) {
        // More than that is dearer to read than a new view is to make.
        if self.kept.len() >= limits::PLACEMENT_CHANGES.max(members / 4) {
            self.kept.pop_front();
            self.first += 1;
        }
        self.kept.push_back(member);
        let at = member as usize;
        if self.latest.len() <= at {
            self.latest.resize(at + 1, Latest::default());
        }
        self.latest[at].any = self.next();
        if change == Change::Itself {
            self.latest[at].itself = self.next();
        }
    }

    fn next(&self) -> u64 {
        self.first + self.kept.len() as u64
    }

    /// Who changed from a number on, and how, if all of it is still known. However often a member changed, it is told once:
    /// where many kinds take turns at packing the same few instances, that is most of what there is to read.
    fn since(&self, number: u64) -> Option<impl Iterator<Item = (u32, Change)>> {
        let from = usize::try_from(number.checked_sub(self.first)?).ok()?;
        let unread = (number + 1..).zip(self.kept.range(from.min(self.kept.len())..));
        Some(unread.filter_map(move |(change, &member)| {
            let latest = self.latest[member as usize];
            let what = if latest.itself > number { Change::Itself } else { Change::Load };
            (latest.any == change).then_some((member, what))
        }))
    }
}

/// The views of a cluster.
#[derive(Clone, Debug, Default)]
pub(super) struct Views {
    known: BTreeMap<Kind, View>,
    uses: u64,
}

impl Views {
    /// The view of a kind as of now.
    pub(super) fn of(&mut self, kind: &Kind, changes: &Changes, members: &Members<'_>) -> &View {
        self.uses += 1;
        if !self.known.contains_key(kind) {
            self.make_room(members.indexes.len());
        }
        let view = self.known.entry(kind.clone()).or_insert_with(|| View::new(kind));
        view.used = self.uses;
        view.catch_up(changes, members);
        view
    }

    /// Whether anybody would read of a change.
    pub(super) fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    fn make_room(&mut self, members: usize) {
        let most = (limits::PLACEMENT_VIEW_MEMBERS / members.max(1)).clamp(4, limits::PLACEMENT_VIEWS);
        while self.known.len() >= most {
            let oldest = self.known.iter().min_by_key(|(_, view)| view.used).map(|(kind, _)| kind.clone());
            oldest.and_then(|oldest| self.known.remove(&oldest));
        }
    }
}

/// Instances in cells; in each, they differ by what is free of them alone.
#[derive(Clone, Debug)]
pub(super) struct View {
    kind: Kind,
    /// Whether what tasks do changes more than how much is free.
    watches_tasks: bool,
    /// The number of the next change to read; none before the first time.
    next: Option<u64>,
    used: u64,
    forest: Forest,
    cells: Vec<Cell>,
    cells_by_key: BTreeMap<CellKey, u32>,
    vacant: Vec<u32>,
    states: Vec<State>,
}

/// Instances that no spreading tells apart.
#[derive(Clone, Debug)]
pub(super) struct Cell {
    pub(super) key: CellKey,
    pub(super) root: u32,
}

/// What the instances of a cell have in common.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct CellKey {
    /// For each attribute of [`Kind::spread`].
    pub(super) values: Vec<Value>,
    /// How many tasks of the kind's group each of them has.
    pub(super) tasks: u32,
}

/// Of one instance.
#[derive(Clone, Copy, Debug)]
struct State {
    /// Whether it itself is suitable, whatever its tasks are.
    suits: bool,
    /// [`NONE`] unless it is in one.
    cell: u32,
}

const NOWHERE: State = State { suits: false, cell: NONE };

impl View {
    fn new(kind: &Kind) -> Self {
        let looks = kind.member_of.iter().any(|expression| expression.0.looks_at_tasks());
        Self {
            watches_tasks: looks || !kind.host_ports.is_empty() || kind.gpus > 0 || kind.group.is_some(),
            kind: kind.clone(),
            next: None,
            used: 0,
            forest: Forest::default(),
            cells: Vec::new(),
            cells_by_key: BTreeMap::new(),
            vacant: Vec::new(),
            states: Vec::new(),
        }
    }

    fn catch_up(&mut self, changes: &Changes, members: &Members<'_>) {
        let count = members.indexes.len();
        let unread = self.next.and_then(|next| changes.since(next));
        match unread {
            Some(unread) => {
                self.grow(count);
                for (member, change) in unread {
                    self.read(member, change, members);
                }
            }
            None => {
                *self = Self { used: self.used, ..Self::new(&self.kind) };
                self.grow(count);
                self.make(members);
            }
        }
        self.next = Some(changes.next());
    }

    /// Reads every instance.
    fn make(&mut self, members: &Members<'_>) {
        let mut lists: Vec<Vec<(Amounts, u32)>> = Vec::new();
        for (member, &index) in members.indexes.iter().enumerate() {
            let slot = &members.slots[index];
            let suits = self.suits(slot);
            self.states[member].suits = suits;
            if suits && self.has_room(slot, members) {
                let cell = self.cell(self.key(slot, members));
                self.states[member].cell = cell;
                lists.resize_with(self.cells.len(), Vec::new);
                lists[cell as usize].push((self.amounts(slot), member as u32));
            }
        }
        for (cell, list) in self.cells.iter_mut().zip(&mut lists) {
            list.sort_unstable();
            cell.root = self.forest.build(list);
        }
    }

    fn grow(&mut self, members: usize) {
        self.forest.reserve(members);
        if self.states.len() < members {
            self.states.resize(members, NOWHERE);
        }
    }

    /// Puts an instance where it belongs now.
    fn read(&mut self, member: u32, change: Change, members: &Members<'_>) {
        // A change of a member that came and went since.
        let Some(&State { suits, cell }) = self.states.get(member as usize) else { return };
        let slot = members.get(member);
        let suits = match change {
            Change::Itself => slot.is_some_and(|slot| self.suits(slot)),
            Change::Load => suits && slot.is_some(),
        };
        self.states[member as usize].suits = suits;
        let taken = slot.filter(|slot| suits && self.has_room(slot, members)).map(|slot| (slot, self.amounts(slot)));
        let Some((slot, amounts)) = taken else {
            self.leave(member, cell);
            return;
        };
        let tasks = self.tasks(slot, members);
        let stays = cell != NONE && change == Change::Load && self.cells[cell as usize].key.tasks == tasks;
        if stays {
            if self.forest.amounts(member) != amounts {
                let root = self.forest.remove(self.cells[cell as usize].root, member);
                self.cells[cell as usize].root = self.forest.insert(root, member, amounts);
            }
            return;
        }
        self.leave(member, cell);
        let cell = self.cell(self.key(slot, members));
        self.cells[cell as usize].root = self.forest.insert(self.cells[cell as usize].root, member, amounts);
        self.states[member as usize].cell = cell;
    }

    /// How many tasks of the kind's group an instance has, if that matters.
    fn tasks(&self, slot: &Slot, members: &Members<'_>) -> u32 {
        self.kind.group.as_deref().map_or(0, |group| members.groups.on(group, slot.instance.key.id))
    }

    fn key(&self, slot: &Slot, members: &Members<'_>) -> CellKey {
        let values = self.kind.spread.iter().map(|attribute| value(&slot.instance, attribute)).collect();
        CellKey { values, tasks: self.tasks(slot, members) }
    }

    fn leave(&mut self, member: u32, cell: u32) {
        if cell == NONE {
            return;
        }
        self.states[member as usize].cell = NONE;
        let known = &mut self.cells[cell as usize];
        known.root = self.forest.remove(known.root, member);
        if known.root == NONE {
            self.cells_by_key.remove(&known.key);
            self.vacant.push(cell);
        }
    }

    fn cell(&mut self, key: CellKey) -> u32 {
        if let Some(&cell) = self.cells_by_key.get(&key) {
            return cell;
        }
        let new = Cell { key: key.clone(), root: NONE };
        let cell = match self.vacant.pop() {
            Some(cell) => {
                self.cells[cell as usize] = new;
                cell
            }
            None => {
                self.cells.push(new);
                self.cells.len() as u32 - 1
            }
        };
        self.cells_by_key.insert(key, cell);
        cell
    }

    /// Whether an instance is suitable, as far as tasks do not change that.
    fn suits(&self, slot: &Slot) -> bool {
        let expressions = self.kind.member_of.iter().filter(|expression| !expression.0.looks_at_tasks());
        slot.status == InstanceStatus::Active
            && slot.connected
            && self.kind.requires.iter().all(|required| required.is_met_by(&slot.instance))
            && self
                .kind
                .zones
                .as_ref()
                .is_none_or(|zones| zones.iter().any(|zone| **zone == *network::zone(&slot.instance)))
            && { expressions }.all(|expression| expression.0.admits(slot))
    }

    /// Whether its tasks leave room for any of this kind.
    fn has_room(&self, slot: &Slot, members: &Members<'_>) -> bool {
        if slot.cpu_free < 0 || slot.memory_free < 0 {
            return false;
        }
        if !self.watches_tasks {
            return true;
        }
        let taken = members.hosts.get(slot.host());
        let mut expressions = self.kind.member_of.iter().filter(|expression| expression.0.looks_at_tasks());
        taken.is_none_or(|book| self.kind.host_ports.iter().all(|port| !book.ports.contains_key(port)))
            && (self.kind.gpus == 0 || slot.gpus_free(taken).count() >= self.kind.gpus as usize)
            && expressions.all(|expression| expression.0.admits(slot))
    }

    fn amounts(&self, slot: &Slot) -> Amounts {
        amounts(self.kind.packs, slot.cpu_free, slot.memory_free)
    }

    /// The cells that have instances.
    pub(super) fn cells(&self) -> impl Iterator<Item = (u32, &Cell)> {
        self.cells_by_key.values().map(|&cell| (cell, &self.cells[cell as usize]))
    }

    /// The cell of an instance, and what it has.
    pub(super) fn place(&self, member: u32) -> Option<(u32, Amounts)> {
        let cell = self.states[member as usize].cell;
        (cell != NONE).then(|| (cell, self.forest.amounts(member)))
    }

    /// One cell.
    pub(super) fn cell_at(&self, cell: u32) -> &Cell {
        &self.cells[cell as usize]
    }

    /// The first instance of a cell that has enough and is accepted.
    pub(super) fn first(&self, cell: &Cell, least: Amounts, accept: &mut dyn FnMut(u32) -> bool) -> Option<u32> {
        self.forest.first(cell.root, least, accept)
    }
}

/// What is free, or needed, in the order of what is packed.
pub(super) fn amounts(packs: Resource, cpu: i64, memory: i64) -> Amounts {
    let clamped = |amount: i64| u32::try_from(amount.max(0)).unwrap_or(u32::MAX);
    let (cpu, memory) = (clamped(cpu), clamped(memory));
    match packs {
        Resource::Cpu => Amounts { first: cpu, second: memory },
        Resource::Memory => Amounts { first: memory, second: cpu },
    }
}
