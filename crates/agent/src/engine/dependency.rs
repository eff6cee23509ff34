//! The order among a task's containers: `dependsOn`, and what links and `volumesFrom` imply.

use std::collections::BTreeMap;

use longshore_agent_protocol::acs;
use longshore_api::Timestamp;

use super::container::{ContainerRecord, Status};
use super::input::HealthStatus;

/// What must be true of the other container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Condition {
    /// Its Docker container exists, so that its volumes can be mounted.
    Create,
    Start,
    Complete,
    Success,
    Healthy,
}

/// A condition on another container of the task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Dependency {
    /// Position of the other container.
    pub(crate) on: usize,
    pub(crate) condition: Condition,
    /// How long the other container may take, from its start.
    pub(crate) timeout_s: Option<i64>,
}

/// Whether a container may go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Readiness {
    Ready,
    /// Not yet; when the wait is limited, until then.
    Waiting(Option<Timestamp>),
    /// Never, and why.
    Never(String),
}

/// The dependencies of every container, by position; an error if they cannot be met by any order.
pub(crate) fn resolve(task: &acs::Task) -> Result<Vec<Vec<Dependency>>, String> {
    let positions: BTreeMap<&str, usize> =
        task.containers.iter().enumerate().map(|(position, container)| (container.name.as_str(), position)).collect();
    let unresolved = |why: String| format!("Task dependencies cannot be resolved, taskArn: {}: {why}", task.arn);
    let mut all = Vec::with_capacity(task.containers.len());
    for container in &task.containers {
        let mut dependencies = Vec::new();
        let mut add = |name: &str, condition: Condition| {
            let on = *positions.get(name).ok_or_else(|| {
                unresolved(format!("container {} depends on {name}, which is not in the task", container.name))
            })?;
            let timeout_s = task.containers.get(on).and_then(|other| other.start_timeout).filter(|s| *s > 0);
            dependencies.push(Dependency { on, condition, timeout_s });
            Ok::<(), String>(())
        };
        for dependency in &container.depends_on {
            let condition = match dependency.condition.as_str() {
                "START" => Condition::Start,
                "COMPLETE" => Condition::Complete,
                "SUCCESS" => Condition::Success,
                "HEALTHY" => Condition::Healthy,
                other => {
                    return Err(unresolved(format!(
                        "container {} has the unknown condition {other:?}",
                        container.name
                    )));
                }
            };
            add(&dependency.container_name, condition)?;
        }
        for link in &container.links {
            add(link.split(':').next().unwrap_or_default(), Condition::Start)?;
        }
        for from in &container.volumes_from {
            add(&from.source_container, Condition::Create)?;
        }
        all.push(dependencies);
    }
    if has_cycle(&all) {
        return Err(unresolved("containers depend on each other in a circle".to_owned()));
    }
    Ok(all)
}

/// Takes away, again and again, every container all of whose dependencies are gone: what a circle holds stays.
fn has_cycle(all: &[Vec<Dependency>]) -> bool {
    let mut gone = vec![false; all.len()];
    loop {
        let free = all.iter().enumerate().position(|(position, dependencies)| {
            !gone[position] && dependencies.iter().all(|dependency| gone.get(dependency.on).copied().unwrap_or(true))
        });
        match free {
            Some(position) => gone[position] = true,
            None => return gone.contains(&false),
        }
    }
}

/// Whether a container with these dependencies may go on.
pub(crate) fn readiness(dependencies: &[Dependency], containers: &[ContainerRecord], now: Timestamp) -> Readiness {
    let mut outcome = Readiness::Ready;
    for dependency in dependencies {
        let Some(other) = containers.get(dependency.on) else {
            continue;
        };
        match (one(dependency, other, now), &outcome) {
            (Readiness::Ready, _) => {}
            (never @ Readiness::Never(_), _) => return never,
            (Readiness::Waiting(Some(until)), Readiness::Waiting(Some(have))) if have <= &until => {}
            (Readiness::Waiting(None), Readiness::Waiting(_)) => {}
            (waiting @ Readiness::Waiting(_), _) => outcome = waiting,
        }
    }
    outcome
}

fn one(dependency: &Dependency, other: &ContainerRecord, now: Timestamp) -> Readiness {
    let never = |why: &str| Readiness::Never(format!("TaskDependencyError: container {} {why}", other.name));
    let ended = other.known == Status::Stopped;
    let healthy = other.health.as_ref().is_some_and(|health| health.status == HealthStatus::Healthy);
    match (dependency.condition, ended, other.exit_code) {
        (Condition::Create, _, _) if other.known >= Status::Created && other.docker_id.is_some() => {
            return Readiness::Ready;
        }
        (Condition::Create, true, _) => return never("ended and left no volumes"),
        (Condition::Create, false, _) => return Readiness::Waiting(None),
        (Condition::Start, ended, _) if ended || other.known == Status::Running => {
            return Readiness::Ready;
        }
        (Condition::Start, _, _) => return Readiness::Waiting(None),
        (Condition::Complete, true, Some(_)) | (Condition::Success, true, Some(0)) => {
            return Readiness::Ready;
        }
        (Condition::Complete | Condition::Success, true, None) => {
            return never("ended without ever completing");
        }
        (Condition::Success, true, Some(code)) => {
            return never(&format!("exited with code {code} instead of 0"));
        }
        (Condition::Healthy, true, _) => return never("ended before it became healthy"),
        (Condition::Healthy, false, _) if healthy => return Readiness::Ready,
        (Condition::Complete | Condition::Success | Condition::Healthy, false, _) => {}
    }
    match (other.started_at, dependency.timeout_s) {
        (Some(started), Some(seconds)) => {
            let until = started.plus_millis(seconds.saturating_mul(1000));
            if until <= now {
                never(&format!("did not get ready within its startTimeout of {seconds}s"))
            } else {
                Readiness::Waiting(Some(until))
            }
        }
        _ => Readiness::Waiting(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::input::Health;

    fn task(containers: &[(&str, &[(&str, &str)])]) -> acs::Task {
        let containers = containers.iter().map(|(name, dependencies)| acs::Container {
            name: (*name).to_owned(),
            depends_on: dependencies
                .iter()
                .map(|(on, condition)| acs::ContainerDependency {
                    container_name: (*on).to_owned(),
                    condition: (*condition).to_owned(),
                })
                .collect(),
            ..acs::Container::default()
        });
        acs::Task { arn: "t".to_owned(), containers: containers.collect(), ..acs::Task::default() }
    }

    #[test]
    fn circles_and_strangers_are_refused() {
        for (containers, expected) in [
            (task(&[("a", &[("b", "START")]), ("b", &[("a", "START")])]), "in a circle"),
            (task(&[("a", &[("a", "START")])]), "in a circle"),
            (task(&[("a", &[("z", "START")])]), "a depends on z, which is not in the task"),
            (task(&[("a", &[("b", "SOON")]), ("b", &[])]), "unknown condition \"SOON\""),
        ] {
            let error = resolve(&containers).unwrap_err();
            assert!(error.starts_with("Task dependencies cannot be resolved, taskArn: t"), "{error}");
            assert!(error.contains(expected), "{error}");
        }
        assert!(
            resolve(&task(&[("a", &[("b", "START"), ("c", "SUCCESS")]), ("b", &[("c", "START")]), ("c", &[])])).is_ok()
        );
    }

    /// The table of conditions: a state of the dependency, and what each condition makes of it.
    #[test]
    fn conditions() {
        use Status::{Created, Running, Stopped};
        type State = (&'static str, Status, Option<i32>, Option<HealthStatus>, [&'static str; 5]);
        let states: [State; 8] = [
            // name, known, exit code, health, [CREATE, START, COMPLETE, SUCCESS, HEALTHY]
            ("pulled", Status::Pulled, None, None, ["wait", "wait", "wait", "wait", "wait"]),
            ("created", Created, None, None, ["ready", "wait", "wait", "wait", "wait"]),
            ("running", Running, None, None, ["ready", "ready", "wait", "wait", "wait"]),
            ("healthy", Running, None, Some(HealthStatus::Healthy), ["ready", "ready", "wait", "wait", "ready"]),
            ("unhealthy", Running, None, Some(HealthStatus::Unhealthy), ["ready", "ready", "wait", "wait", "wait"]),
            ("exit 0", Stopped, Some(0), None, ["ready", "ready", "ready", "ready", "never"]),
            ("exit 3", Stopped, Some(3), None, ["ready", "ready", "ready", "never", "never"]),
            ("never ran", Stopped, None, None, ["never", "ready", "never", "never", "never"]),
        ];
        let conditions =
            [Condition::Create, Condition::Start, Condition::Complete, Condition::Success, Condition::Healthy];
        for (name, known, exit_code, health, expected) in &states {
            let health = health.map(|status| Health { status, output: None });
            let docker_id = (*known >= Created && *name != "never ran").then(|| "id".to_owned());
            let other = ContainerRecord {
                known: *known,
                exit_code: *exit_code,
                health,
                docker_id,
                ..ContainerRecord::default()
            };
            for (condition, expected) in conditions.iter().zip(expected) {
                let dependency = Dependency { on: 0, condition: *condition, timeout_s: None };
                let word = match one(&dependency, &other, Timestamp::default()) {
                    Readiness::Ready => "ready",
                    Readiness::Waiting(_) => "wait",
                    Readiness::Never(_) => "never",
                };
                assert_eq!(word, *expected, "{name} {condition:?}");
            }
        }
    }

    #[test]
    fn a_start_timeout_counts_from_the_start_of_the_dependency() {
        let dependency = Dependency { on: 0, condition: Condition::Healthy, timeout_s: Some(10) };
        let at = Timestamp::from_millis;
        let mut other = ContainerRecord { known: Status::Running, ..ContainerRecord::default() };
        assert_eq!(readiness(&[dependency], &[other.clone()], at(99_000)), Readiness::Waiting(None));
        other.started_at = Some(at(5_000));
        assert_eq!(readiness(&[dependency], &[other.clone()], at(14_999)), Readiness::Waiting(Some(at(15_000))));
        let Readiness::Never(why) = readiness(&[dependency], &[other], at(15_000)) else { panic!("still waits") };
        assert!(why.contains("startTimeout of 10s"), "{why}");
    }
}
