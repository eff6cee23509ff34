//! The line moves: tasks are placed as instances change, and end when they waited or ran long enough. A bounded number a tick.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use longshore_api::admin::SchedulerFallback;
use longshore_api::ecs::types;
use longshore_api::{ApiError, Timestamp};

use super::patience::Shown;
use super::{Waiting, WaitingFor};
use crate::cell::Turn;
use crate::entity::{Stop, Task};
use crate::ids::{ClusterId, InstanceId, InstanceKey, KindId, TaskKey};
use crate::instance::liveness::Liveness;
use crate::limits;
use crate::placement::Refusal;
use crate::scheduler::SchedulerHook;
use crate::tables::Tables;
use crate::task::fit::Fit;
use crate::task::status::{DesiredStatus, TaskStatus};
use crate::task::stop;

/// When the line moves next: at once if an instance changed or something may fit, else at a deadline.
pub(crate) fn next_due(tables: &Tables, liveness: &Liveness) -> Option<Timestamp> {
    let line = tables.line();
    if line.next().is_some() || tables.pool().is_stirred() {
        return Some(Timestamp::from_millis(0));
    }
    let undecided = line.asking().filter_map(|cluster| oldest_undecided(tables, cluster)).map(|(at, _)| at);
    let at = line.deadlines().first().map(|(at, _)| *at).into_iter().chain(undecided).min()?;
    Some(liveness.returns_awaited_until().map_or(at, |until| at.max(until)))
}

/// Takes the line one step further. No time is up while agents are on their way back to a server that has just started: what waits
/// may fit where they are.
pub(crate) fn tick(turn: &mut Turn<'_>) {
    let mut fits = BTreeMap::new();
    let returns_are_awaited = turn.liveness.returns_awaited_until().is_some_and(|until| turn.now < until);
    if !returns_are_awaited {
        fall_back(turn);
    }
    listen(turn, &mut fits);
    place(turn, &mut fits);
    if !returns_are_awaited {
        expire(turn);
    }
}

/// What is needed to place the kinds that were looked at in this tick.
pub(crate) type Fits = BTreeMap<KindId, Fit>;

/// Room for what one step writes: a task, the block of addresses that its host needs, and subnets that are adopted anew; and for the
/// horizon of events.
pub(crate) fn has_room(turn: &Turn<'_>) -> bool {
    turn.has_room_for(limits::CHANGES_PER_PLACEMENT)
}

/// Ends what waited or ran long enough; nothing while there is something that may be placed, which can be the same task, or an
/// instance that changed was not asked yet.
fn expire(turn: &mut Turn<'_>) {
    while has_room(turn) && turn.tables.line().next().is_none() && !turn.tables.pool().is_stirred() {
        let due = turn.tables.line().deadlines().first().copied().filter(|(at, _)| *at <= turn.now);
        let Some(task) = due.and_then(|(_, key)| turn.tables.view().tasks.get(&key).cloned()) else { break };
        let stop = match &task.waiting {
            Some(waiting) => gave_up(turn, &task, waiting),
            None => ran_long(&task),
        };
        stop::order(turn, task, stop);
    }
}

/// The task of a cluster that its scheduler must decide about first, and by when; at once if it has none any more. Whoever was
/// made later has more time, so none of the others needs a look.
fn oldest_undecided(tables: &Tables, cluster: ClusterId) -> Option<(Timestamp, &Arc<Task>)> {
    let view = tables.view();
    let task = view.tasks.get(&view.asking.behind(cluster, None).next()?)?;
    let decide_by = match scheduler_of(tables, cluster) {
        Some(hook) => hook.decide_by(task.created_at)?,
        None => Timestamp::from_millis(0),
    };
    Some((decide_by, task))
}

/// What a scheduler did not decide about in time goes the way that its cluster wants; what waits for a scheduler that is gone
/// waits for room.
fn fall_back(turn: &mut Turn<'_>) {
    let asking: Vec<ClusterId> = turn.tables.line().asking().collect();
    for cluster in asking {
        while has_room(turn) {
            let due = oldest_undecided(turn.tables, cluster).filter(|(at, _)| *at <= turn.now);
            let Some(task) = due.map(|(_, task)| task.clone()) else { break };
            let Some(waiting) = &task.waiting else { break };
            match scheduler_of(turn.tables, cluster) {
                Some(SchedulerHook { fallback: SchedulerFallback::Stop, url, deadline_s, .. }) => {
                    let reason = format!("The scheduler {url} did not place the task within {deadline_s} seconds");
                    let stop = Stop { code: types::TaskStopCode::TaskFailedToStart, reason: reason.into() };
                    stop::order(turn, task, stop);
                }
                // With `wait` nothing is ever due.
                Some(SchedulerHook { fallback: SchedulerFallback::Place | SchedulerFallback::Wait, .. }) | None => {
                    stand_in_line(turn, &task, waiting);
                }
            }
        }
    }
}

/// From now on a task waits for room. Who was not allowed to wait is tried once, and fails then as its RunTask would have.
fn stand_in_line(turn: &mut Turn<'_>, task: &Task, waiting: &Waiting) {
    let until = Some(waiting.until.unwrap_or(turn.now));
    let waiting = Waiting { on: WaitingFor::Room, until, ..waiting.clone() };
    turn.tables.put_task(Task { waiting: Some(Arc::new(waiting)), version: task.version + 1, ..task.clone() });
}

fn scheduler_of(tables: &Tables, cluster: ClusterId) -> Option<&SchedulerHook> {
    let view = tables.view();
    view.clusters.get(view.cluster_names.get(&cluster)?)?.scheduler.as_ref()
}

/// The first refusal stands for all, as the failure of a RunTask that does not wait.
fn gave_up(turn: &mut Turn<'_>, task: &Task, waiting: &Waiting) -> Stop {
    let refusal = match Fit::again(turn, task, waiting) {
        Err(error) => error.message,
        Ok(fit) => match fit.refusals(turn).next() {
            Some((instance, refusal)) => {
                format!("{} (container instance {instance}: {refusal})", refusal.reason())
            }
            None => "No Container Instances were found in your cluster.".to_owned(),
        },
    };
    let waited = crate::decision::seconds(turn.now.since(task.created_at));
    let reason = format!("The task waited {waited} for an instance, which is its maximum: {refusal}");
    Stop { code: types::TaskStopCode::TaskFailedToStart, reason: reason.into() }
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
        if turn.tables.line().asks_in(instance.cluster) {
            turn.ask_scheduler(instance.cluster);
        }
        let hopes: Vec<(KindId, TaskKey)> = {
            let Some(slot) = turn.tables.pool().slot(instance) else { continue };
            let (cpu, memory) = (slot.cpu_free, slot.memory_free);
            let stalled = turn.tables.line().stalled(instance.cluster);
            let enough =
                stalled.filter(|(_, _, kind)| i64::from(kind.cpu.0) <= cpu && i64::from(kind.memory.0) <= memory);
            enough.map(|(id, first, _)| (id, first)).collect()
        };
        for (kind, first) in hopes {
            let Some(task) = turn.tables.view().tasks.get(&first).cloned() else { continue };
            let Some(waiting) = task.waiting.as_deref() else { continue };
            let takes = match fit_of(turn, fits, &task, waiting) {
                Ok(fit) => {
                    let pool = turn.tables.pool();
                    let takes = |slot| pool.fits(slot, fit.need(turn.tables.addresses())).is_ok();
                    pool.slot(instance).is_some_and(takes)
                }
                // It cannot be placed at all any more: whoever tries it ends it.
                Err(_) => true,
            };
            if takes {
                turn.tables.line_mut().encourage(instance.cluster, kind);
            }
        }
    }
}

/// What is needed to place a task, found out once for its kind.
fn fit_of<'a>(turn: &mut Turn<'_>, fits: &'a mut Fits, task: &Task, waiting: &Waiting) -> Result<&'a Fit, ApiError> {
    match fits.entry(waiting.kind) {
        Entry::Occupied(known) => Ok(known.into_mut()),
        Entry::Vacant(new) => Ok(new.insert(Fit::again(turn, task, waiting)?)),
    }
}

/// Places what may fit, the oldest task first.
fn place(turn: &mut Turn<'_>, fits: &mut Fits) {
    while has_room(turn) {
        let Some((key, kind)) = turn.tables.line().next() else { break };
        let Some(task) = turn.tables.view().tasks.get(&key).cloned() else { break };
        let Some(waiting) = task.waiting.as_deref() else { break };
        let placed = match fit_of(turn, fits, &task, waiting) {
            Ok(fit) => fit.choose(turn).is_some_and(|instance| settle(turn, &task, fit, instance).is_ok()),
            // Its subnet is not configured any longer, for example.
            Err(error) => {
                let stop = Stop { code: types::TaskStopCode::TaskFailedToStart, reason: error.message.into() };
                end(turn, &task, stop);
                continue;
            }
        };
        if !placed {
            turn.tables.line_mut().stall(key.cluster, kind);
        }
    }
}

/// Puts a task that waited on an instance that fits, and orders it to run.
fn settle(turn: &mut Turn<'_>, task: &Task, fit: &Fit, instance: InstanceId) -> Result<(), Refusal> {
    let mut next = Task { waiting: None, known: TaskStatus::Pending, version: task.version + 1, ..task.clone() };
    fit.settle(turn, instance, &mut next)?;
    let next = turn.tables.put_task(next);
    turn.send_start(&next);
    Ok(())
}

/// Puts a task that waits on an instance that somebody else chose, if it can take it; else why not, in ECS's words and ours.
pub(crate) fn place_on(
    turn: &mut Turn<'_>,
    task: &Task,
    waiting: &Waiting,
    instance: InstanceKey,
    fits: &mut Fits,
) -> Result<(), (String, String)> {
    let unknown = |error: ApiError| (error.code.name.to_owned(), error.message);
    let fit = fit_of(turn, fits, task, waiting).map_err(unknown)?;
    let refused = |refusal: Refusal| (refusal.reason().to_owned(), refusal.to_string());
    let pool = turn.tables.pool();
    let verdict = match pool.slot(instance) {
        Some(slot) => pool.fits(slot, fit.need(turn.tables.addresses())),
        None => Err(Refusal::Inactive),
    };
    verdict.and_then(|()| settle(turn, task, fit, instance.id)).map_err(refused)
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
    turn.tables.put_task(next)
}
