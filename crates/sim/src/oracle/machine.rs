//! What happens on machines: containers, sessions and registrations of agents.

use std::collections::BTreeSet;

use longshore_agent::engine::ContainerKey;
use longshore_agent_protocol::acs::TaskManifestMessage;
use longshore_api::Timestamp;
use longshore_core::instance::InstanceStatus;
use longshore_core::task::status::{DesiredStatus, TaskStatus};

use super::{Oracle, Step, broken, ensure, id_of, is_on};
use crate::catalog::RestartPolicy;
use crate::event::ConnId;

/// What became of one container of a task.
#[derive(Debug)]
pub(super) struct Run {
    instance_arn: String,
    starts: u32,
    began: Timestamp,
    /// How its last run ended by itself: exit code and time.
    ended: Option<(i32, Timestamp)>,
    /// It was stopped, or nobody knows whether it ran: it must not run again.
    over: bool,
}

impl Oracle {
    /// An agent has registered, with its disk as it was left by its birth's last registration.
    pub(crate) fn instance_of(&mut self, birth: (usize, u32), arn: &str) -> Step {
        let known = self.instances.entry(birth).or_insert_with(|| arn.to_owned());
        ensure(known == arn, 11, || format!("{birth:?} registered {known} and then {arn}"))
    }

    /// A machine has joined: the same join gives the same key.
    pub(crate) fn joined(&mut self, join: (usize, u32), access_key_id: &str) -> Step {
        let known = self.joins.entry(join).or_insert_with(|| access_key_id.to_owned());
        ensure(known == access_key_id, 11, || format!("join {join:?} gave {known} and then {access_key_id}"))
    }

    /// On which machine an instance is.
    pub(crate) fn lives_on(&mut self, arn: &str, host: usize) {
        self.hosts.insert(id_of(arn).to_owned(), host);
    }

    /// An agent is told that its instance is no more: nobody may hear that of one that is merely lost.
    pub(crate) fn told_inactive(&self, arn: &str) -> Step {
        let status = self.vigil.status(id_of(arn));
        ensure(status.is_none_or(|status| status == InstanceStatus::Inactive), 19, || {
            format!("the agent of {arn}, which is {status:?}, was told that it is inactive")
        })
    }

    /// An agent dials.
    pub(crate) fn dialled(&mut self, agent: usize, conn: ConnId) {
        self.newest_conn.insert(agent, conn);
    }

    /// An agent does what came over a connection: its newest.
    pub(crate) fn obeyed(&self, agent: usize, conn: ConnId) -> Step {
        let newest = self.newest_conn.get(&agent);
        ensure(newest == Some(&conn), 12, || format!("agent {agent} obeys {conn}, its session is {newest:?}"))
    }

    /// The tasks that were published as being on an instance, and not reported STOPPED.
    pub(crate) fn lives_there(&self, instance_arn: &str) -> Vec<String> {
        let theirs = self.tasks.iter().filter(|(_, task)| is_on(task, id_of(instance_arn)));
        theirs.filter(|(_, task)| task.known != TaskStatus::Stopped).map(|(id, _)| id.clone()).collect()
    }

    /// A manifest names what is on its instance: everything that was there before the agent came, and nothing from elsewhere.
    pub(crate) fn manifest_sent(&self, manifest: &TaskManifestMessage, expected: &[String]) -> Step {
        let instance = id_of(&manifest.container_instance_arn);
        let listed: BTreeSet<&str> = manifest.tasks.iter().map(|task| id_of(&task.task_arn)).collect();
        let here = |id: &str| self.tasks.get(id).is_none_or(|task| is_on(task, instance));
        let foreign = listed.iter().find(|id| !here(id));
        ensure(foreign.is_none(), 2, || format!("the manifest of {instance} has {foreign:?}, which is elsewhere"))?;
        let lives = |id: &&String| self.tasks.get(*id).is_some_and(|task| task.known != TaskStatus::Stopped);
        let left_out = expected.iter().filter(lives).find(|id| !listed.contains(id.as_str()));
        ensure(left_out.is_none(), 12, || format!("the manifest of {instance} leaves {left_out:?} out"))
    }

    /// A container of a task exists.
    pub(crate) fn created(&mut self, key: &ContainerKey, instance_arn: &str) -> Step {
        let id = (key.task_arn.clone(), key.name.clone());
        let new = || Run {
            instance_arn: instance_arn.to_owned(),
            starts: 0,
            began: Timestamp::default(),
            ended: None,
            over: false,
        };
        let run = self.runs.entry(id).or_insert_with(new);
        // One that never ran may be made again, if somebody removed it.
        ensure(run.starts == 0 && run.instance_arn == instance_arn, 2, || {
            format!("{key:?} ran on {} and was created again on {instance_arn}", run.instance_arn)
        })?;
        let placed = self.tasks.get(id_of(&key.task_arn)).and_then(|task| task.instance).map(|id| id.to_string());
        // An agent that nobody can reach goes on with what was forgotten with its instance.
        let forgotten = self.is_gone(&key.task_arn) && self.is_given_back(key);
        ensure(placed.as_deref() == Some(id_of(instance_arn)) || forgotten, 2, || {
            format!("{key:?} was created on {instance_arn}, its task was placed on {placed:?}")
        })
    }

    /// A container's process begins: once, or again if its restart policy has it so. `clock_set_at` is when the machine's clock
    /// was set last; what the clock measured over that is not judged.
    pub(crate) fn started(
        &mut self,
        key: &ContainerKey,
        instance_arn: &str,
        policy: Option<RestartPolicy>,
        clock_set_at: Option<Timestamp>,
        now: Timestamp,
    ) -> Step {
        let Some(run) = self.runs.get_mut(&(key.task_arn.clone(), key.name.clone())) else {
            return broken(2, format!("{key:?} was started and never created"));
        };
        run.starts += 1;
        let before = (run.starts > 1).then(|| (run.began, run.ended.take()));
        run.began = now;
        let (starts, over) = (run.starts, run.over);
        let Some((began, ended)) = before else { return Ok(()) };
        let (Some(policy), Some((code, at)), false) = (policy, ended, over) else {
            return broken(2, format!("{key:?} ran {starts} times, last on {instance_arn}"));
        };
        ensure(code != policy.ignored, 2, || format!("{key:?} was restarted after an exit with {code}"))?;
        let measured = clock_set_at.is_none_or(|set| set < began);
        ensure(!measured || at.since(began) >= policy.period_ms, 2, || {
            format!("{key:?} ran for {} ms and was restarted", at.since(began))
        })
    }

    /// A container's process has ended by itself.
    pub(crate) fn ended(&mut self, key: &ContainerKey, exit_code: i32, now: Timestamp) {
        if let Some(run) = self.runs.get_mut(&(key.task_arn.clone(), key.name.clone())) {
            run.ended = Some((exit_code, now));
        }
    }

    /// A container's process has ended because its agent stopped it: for good, if that was wanted. An agent that stops it for
    /// reasons of its own, and dies before it has said so, may find it ended like any other.
    pub(crate) fn stopped(&mut self, key: &ContainerKey, now: Timestamp) {
        let task = self.tasks.get(id_of(&key.task_arn));
        match task.is_some_and(|task| task.desired == DesiredStatus::Running) {
            true => self.ended(key, 143, now),
            false => self.over(key),
        }
    }

    /// A container must not run again, whatever its policy says.
    pub(crate) fn over(&mut self, key: &ContainerKey) {
        if let Some(run) = self.runs.get_mut(&(key.task_arn.clone(), key.name.clone())) {
            run.over = true;
        }
    }

    /// The task has a reason to end by itself.
    pub(crate) fn excuse(&mut self, task_arn: &str) {
        self.excused.insert(id_of(task_arn).to_owned());
    }

    /// An agent stopped a running container: somebody must have wanted that.
    pub(crate) fn stopped_by_agent(&self, key: &ContainerKey, now: Timestamp) -> Step {
        let id = id_of(&key.task_arn);
        let wanted = self.tasks.get(id).is_some_and(|task| task.desired == DesiredStatus::Running);
        ensure(!wanted || self.excused.contains(id), 12, || {
            format!("at {now} {key:?} was stopped and nobody wanted that")
        })
    }

    /// Whether the instance of a container was deregistered without its agent, and perhaps forgotten since: what runs there
    /// is nobody's.
    pub(crate) fn is_given_back(&self, key: &ContainerKey) -> bool {
        let run = self.runs.get(&(key.task_arn.clone(), key.name.clone()));
        let status = |run: &Run| self.vigil.status(id_of(&run.instance_arn));
        run.is_some_and(|run| status(run).is_none_or(|status| status == InstanceStatus::Inactive))
    }

    /// The container of a task of which its agent said STOPPED does not run.
    pub(crate) fn may_run(&self, key: &ContainerKey) -> Step {
        let stopped = self.tasks.get(id_of(&key.task_arn)).is_some_and(|task| task.known == TaskStatus::Stopped);
        ensure(!stopped || self.is_given_back(key), 7, || format!("{key:?} runs, its task is shown as STOPPED"))
    }
}
