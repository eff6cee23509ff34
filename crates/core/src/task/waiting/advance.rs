//! The line moves: tasks are placed as instances change, and end when they waited or ran long enough. A bounded number a tick.

use std::collections::BTreeMap;
use std::sync::Arc;

use longshore_api::Timestamp;
use longshore_api::ecs::types;

use super::Waiting;
use super::patience::Shown;
use crate::cell::Turn;
use crate::entity::{Entity, Stop, Task};
use crate::ids::{InstanceKey, KindId, TaskKey};
use crate::limits;
use crate::placement::Refusal;
use crate::tables::Tables;
use crate::task::fit::Fit;
use crate::task::status::{DesiredStatus, TaskStatus};
use crate::task::stop;

/// When the line moves next: at once if an instance changed or something may fit, else at a deadline.
pub(crate) fn next_due(tables: &Tables) -> Option<Timestamp> {
    let line = tables.line();
    if line.next().is_some() || tables.pool().is_stirred() {
        return Some(Timestamp::from_millis(0));
    }
    line.deadlines().first().map(|(at, _)| *at)
}

/// Takes the line one step further.
pub(crate) fn tick(turn: &mut Turn<'_>) {
    let mut fits = BTreeMap::new();
    listen(turn, &mut fits);
    place(turn, &mut fits);
    // Last, so that nothing ends for want of an instance that is there: it has room only when all that can be is placed.
    expire(turn);
}

/// What is needed to place the kinds that were looked at in this tick.
type Fits = BTreeMap<KindId, Fit>;

/// Room for what one step writes: a task, the block of addresses that its host needs, and subnets that are adopted anew.
fn has_room(turn: &Turn<'_>) -> bool {
    turn.tables.changes_made() + limits::CHANGES_PER_PLACEMENT <= limits::CHANGES_PER_GROUP
}

/// Ends what waited or ran long enough.
fn expire(turn: &mut Turn<'_>) {
    while has_room(turn) {
        let due = turn.tables.line().deadlines().first().copied().filter(|(at, _)| *at <= turn.now);
        let Some(task) = due.and_then(|(_, key)| turn.tables.view().tasks.get(&key).cloned()) else { break };
        let stop = match &task.waiting {
            Some(waiting) => gave_up(turn, &task, waiting),
            None => ran_long(&task),
        };
        stop::order(turn, task, stop);
    }
}

/// The first refusal stands for all, as the failure of a RunTask that does not wait.
fn gave_up(turn: &mut Turn<'_>, task: &Task, waiting: &Waiting) -> Stop {
    let refusal = match Fit::again(turn, task, waiting) {
        Err(error) => error.message,
        Ok(fit) => match refusal(turn, task, &fit) {
            Some((instance, refusal)) => {
                format!("{} (container instance {}: {refusal})", refusal.reason(), instance.id)
            }
            None => "No Container Instances were found in your cluster.".to_owned(),
        },
    };
    let waited = crate::decision::seconds(turn.now.since(task.created_at));
    let reason = format!("The task waited {waited} for an instance, which is its maximum: {refusal}");
    Stop { code: types::TaskStopCode::TaskFailedToStart, reason: reason.into() }
}

/// The first ACTIVE instance of a task's cluster, and why it does not take it.
fn refusal(turn: &Turn<'_>, task: &Task, fit: &Fit) -> Option<(InstanceKey, Refusal)> {
    let pool = turn.tables.pool();
    let refusals = pool.members(task.key.cluster).filter_map(|slot| {
        let refusal = pool.fits(slot, fit.need(turn.tables.addresses())).err()?;
        Some((slot.instance.key, refusal))
    });
    refusals.into_iter().find(|(_, refusal)| *refusal != Refusal::Inactive)
}

/// There is no code of ECS's for it. Who limits the run time of a task of ECS has it stopped, which is this one.
fn ran_long(task: &Task) -> Stop {
    let limit = Shown(task.max_run_ms.unwrap_or_default());
    let reason = format!("The task ran for {limit}, which is its maximum (longshore:max-run)");
    Stop { code: types::TaskStopCode::UserInitiated, reason: reason.into() }
}

/// Asks the instances that changed whether they can take what nothing could.
fn listen(turn: &mut Turn<'_>, fits: &mut Fits) {
    for _ in 0..limits::INSTANCES_HEARD_PER_TICK {
        let Some(instance) = turn.tables.take_stirred() else { break };
        let hopes: Vec<(KindId, TaskKey)> = {
            let Some(slot) = turn.tables.pool().slot(instance) else { continue };
            let (cpu, memory) = (slot.cpu_free, slot.memory_free);
            let stalled = turn.tables.line().stalled(instance.cluster);
            let enough =
                stalled.filter(|(_, _, kind)| i64::from(kind.cpu.0) <= cpu && i64::from(kind.memory.0) <= memory);
            enough.map(|(id, first, _)| (id, first)).collect()
        };
        for (kind, first) in hopes {
            let Some(fit) = fit_of(turn, fits, kind, first) else { continue };
            let pool = turn.tables.pool();
            let takes = |slot| pool.fits(slot, fit.need(turn.tables.addresses())).is_ok();
            if pool.slot(instance).is_some_and(takes) {
                turn.tables.line_mut().encourage(instance.cluster, kind);
            }
        }
    }
}

/// What is needed to place a kind. One that cannot be placed any more, as its subnet is not configured any longer, is promising
/// nonetheless: so [`place`] comes to end it.
fn fit_of<'a>(turn: &mut Turn<'_>, fits: &'a mut Fits, kind: KindId, first: TaskKey) -> Option<&'a Fit> {
    if !fits.contains_key(&kind) {
        let task = turn.tables.view().tasks.get(&first).cloned()?;
        match Fit::again(turn, &task, task.waiting.as_deref()?) {
            Ok(fit) => drop(fits.insert(kind, fit)),
            Err(_) => turn.tables.line_mut().encourage(first.cluster, kind),
        }
    }
    fits.get(&kind)
}

/// Places what may fit, the oldest task first.
fn place(turn: &mut Turn<'_>, fits: &mut Fits) {
    while has_room(turn) {
        let Some((key, kind)) = turn.tables.line().next() else { break };
        let Some(task) = turn.tables.view().tasks.get(&key).cloned() else { break };
        let Some(waiting) = task.waiting.clone() else { break };
        if !fits.contains_key(&kind) {
            match Fit::again(turn, &task, &waiting) {
                Ok(fit) => drop(fits.insert(kind, fit)),
                Err(error) => {
                    let stop = Stop { code: types::TaskStopCode::TaskFailedToStart, reason: error.message.into() };
                    stop::order(turn, task, stop);
                    continue;
                }
            }
        }
        let placed = fits.get(&kind).is_some_and(|fit| {
            let instance = fit.choose(turn);
            instance.is_some_and(|instance| {
                let mut next = Task { waiting: None, known: TaskStatus::Pending, ..Task::clone(&task) };
                let settled = fit.settle(turn, instance, &mut next).is_ok();
                if settled {
                    next.version += 1;
                    let next = Arc::new(next);
                    turn.tables.put(Entity::Task(next.clone()));
                    turn.send_start(&next);
                }
                settled
            })
        });
        if !placed {
            turn.tables.line_mut().stall(key.cluster, kind);
        }
    }
}

/// Ends a task that was never placed: nobody has to be told.
pub(crate) fn end(turn: &mut Turn<'_>, task: &Task, stop: Stop) -> Arc<Task> {
    let mut next = task.clone();
    next.waiting = None;
    next.known = TaskStatus::Stopped;
    next.desired = DesiredStatus::Stopped;
    next.stop = Some(stop);
    next.containers.iter_mut().for_each(|container| container.status = TaskStatus::Stopped);
    next.life.stopping_at = Some(turn.now);
    next.life.stopped_at = Some(turn.now);
    next.version += 1;
    let next = Arc::new(next);
    turn.tables.put(Entity::Task(next.clone()));
    next
}
