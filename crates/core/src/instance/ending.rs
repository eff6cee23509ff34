//! The end of an instance's tasks that the cell decides: verdicts on a lost instance, orders to stop on one that is being
//! deregistered. There may be thousands, so they are decided a bounded number per tick, each tick leaving the state valid.

use std::ops::Bound;
use std::sync::Arc;

use longshore_api::Timestamp;
use longshore_api::ecs::types;

use crate::cell::Turn;
use crate::decision::seconds;
use crate::entity::{Instance, Stop, Task, Verdict};
use crate::ids::{InstanceKey, TaskId, TaskKey};
use crate::instance::{InstanceStatus, deregister};
use crate::limits;
use crate::task::status::{DesiredStatus, TaskStatus};
use crate::task::stop;

/// How the tasks of an instance end.
#[derive(Clone, Debug)]
enum Ending {
    /// It is lost: each gets the verdict, and holds what it holds until the agent says STOPPED.
    Verdict(Stop),
    /// It is deregistered and its agent is not there to ask: each gets the verdict, and holds nothing any more.
    Close(Stop),
    /// It is being deregistered and its agent is there: each is ordered to stop.
    Order(Stop),
}

impl Ending {
    /// How the tasks of an instance are to end by now; `None` when they are not, because it is back.
    fn of(instance: &Instance, connected: bool) -> Option<Self> {
        let deregistering = instance.status == InstanceStatus::Deregistering;
        match (deregistering, instance.lost_at, connected) {
            (true, _, true) => Some(Self::Order(forced())),
            (true, Some(lost_at), false) => Some(Self::Close(lost(instance, lost_at).unwrap_or_else(forced))),
            // Its agent vanished meanwhile: its loss clock runs.
            (true, None, false) | (false, None, _) => None,
            (false, Some(lost_at), _) => lost(instance, lost_at).map(Self::Verdict),
        }
    }
}

/// What ECS writes when an instance is deregistered with tasks on it.
fn forced() -> Stop {
    let reason = "Container instance deregistration forced by user".into();
    Stop { code: types::TaskStopCode::UserInitiated, reason }
}

/// ECS says "Host EC2 (instance id) terminated", which we cannot know. `None` when nobody waited for the agent.
fn lost(instance: &Instance, lost_at: Timestamp) -> Option<Stop> {
    let silent = seconds(lost_at.since(instance.heard_at?));
    let reason = format!("Container instance {} was lost: its agent was not heard of for {silent}", instance.key.id);
    Some(Stop { code: types::TaskStopCode::InfrastructureHealth, reason: reason.into() })
}

/// Takes the endings one step further.
pub(crate) fn tick(turn: &mut Turn<'_>) {
    let mut most = limits::ENDED_PER_TICK;
    while let Some((key, after)) = turn.liveness.ending(turn.now).filter(|_| most > 0) {
        most -= step(turn, key, after, most);
    }
    if most < limits::ENDED_PER_TICK {
        turn.liveness.pause_endings(turn.now);
    }
}

/// Ends as many tasks of an instance as one command may, and leaves the rest to the ticks.
pub(crate) fn start(turn: &mut Turn<'_>, key: InstanceKey) {
    turn.liveness.begin_ending(turn.now, key);
    step(turn, key, TaskId(0), limits::ENDED_PER_TICK);
}

/// Looks at up to `most` tasks of an instance behind `after`; answers how many it looked at, and counts the end as one.
fn step(turn: &mut Turn<'_>, key: InstanceKey, after: TaskId, most: usize) -> usize {
    let slot = turn.tables.pool().slot(key);
    let ending = slot.and_then(|slot| Ending::of(&slot.instance, slot.connected));
    let (Some(slot), Some(ending)) = (slot, ending) else {
        turn.liveness.ended(key);
        return 1;
    };
    let behind = slot.tasks.range((Bound::Excluded(after), Bound::Unbounded));
    let ids: Vec<TaskId> = behind.take(most).copied().collect();
    for &id in &ids {
        let task = turn.tables.view().tasks.get(&TaskKey { cluster: key.cluster, id }).cloned();
        if let Some(task) = task {
            end(turn, task, &ending);
        }
    }
    match ids.last() {
        Some(last) if ids.len() == most => {
            turn.liveness.ended_up_to(key, *last);
            most
        }
        _ => {
            turn.liveness.ended(key);
            deregister::finish(turn, key);
            ids.len() + 1
        }
    }
}

fn end(turn: &mut Turn<'_>, task: Arc<Task>, ending: &Ending) {
    match ending {
        Ending::Order(stop) => drop(stop::order(turn, task, stop.clone())),
        Ending::Verdict(_) if task.verdict.is_some() => {}
        Ending::Verdict(stop) => {
            let mut next = Task::clone(&task);
            convict(&mut next, turn.now, stop);
            put(turn, next);
        }
        Ending::Close(stop) => {
            let mut next = Task::clone(&task);
            convict(&mut next, turn.now, stop);
            next.known = TaskStatus::Stopped;
            next.verdict = next.verdict.map(|verdict| Verdict { settled_at: Some(turn.now), ..verdict });
            put(turn, next);
        }
    }
}

/// Gives a task the verdict. The first verdict, and the first reason to stop, stay.
fn convict(task: &mut Task, now: Timestamp, stop: &Stop) {
    if task.verdict.is_none() {
        task.verdict = Some(Verdict { at: now, settled_at: None });
        task.desired = DesiredStatus::Stopped;
        task.stop.get_or_insert_with(|| stop.clone());
        task.life.stopping_at.get_or_insert(now);
        task.life.stopped_at = Some(now);
    }
}

fn put(turn: &mut Turn<'_>, mut task: Task) {
    task.version += 1;
    turn.tables.put_task(task);
}
