//! One container: what is known of it, what it needs next, and what the result of each step means.
//!
//! A container moves one step at a time: image, create, start, stop. It counts as stopped only when Docker says that it does
//! not run, or when it was never asked to start it; and once it was asked to start it, it is never created again.

use longshore_agent_protocol::acs;
use longshore_api::Timestamp;
use serde::{Deserialize, Serialize};

use super::dependency::Readiness;
use super::input::{DockerError, DockerLife, Health, ImageInfo, Inspection, PortBinding, PullError, RunState};
use super::restart::{self, Ended, Restarts, Verdict};
use super::{EngineConfig, ImagePullBehavior, internal};

/// How far a container or a task has come. Only ever grows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Status {
    /// Nothing was done yet.
    #[default]
    None,
    /// The image is on this host.
    Pulled,
    /// The Docker container exists.
    Created,
    /// Its process was started.
    Running,
    /// It ended, or never will start.
    Stopped,
}

impl Status {
    /// The word that introspection and metadata use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "NONE",
            Self::Pulled => "PULLED",
            Self::Created => "CREATED",
            Self::Running => "RUNNING",
            Self::Stopped => "STOPPED",
        }
    }
}

/// What is known of a container. Durable. Written by this module from Docker's answers, `reported` by the task from the
/// control plane's.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ContainerRecord {
    /// The container's name in its task.
    pub name: String,
    /// The Docker container's name.
    pub docker_name: String,
    /// Whether the task ends with this container.
    pub essential: bool,
    /// How far it has come.
    pub known: Status,
    /// Docker's id, once created.
    pub docker_id: Option<String>,
    /// Set before Docker is asked to start it: from then on it must not be created again, whatever became of it.
    pub start_intended: bool,
    /// Which Docker was, when it was last meant to be started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_asked_of: Option<DockerLife>,
    /// Whether its process ever ran.
    pub started: bool,
    /// When Docker said that it runs.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// Its process's exit code.
    pub exit_code: Option<i32>,
    /// The first thing that went wrong.
    pub reason: Option<String>,
    /// Repository digest of its image.
    pub image_digest: Option<String>,
    /// Whether its image was pulled for it. Nothing reads it but release 0.1.0, which reads no record without it: whoever goes
    /// back to that finds his tasks.
    pub image_pulled: bool,
    /// Published ports; `None` while Docker has not been asked yet.
    pub bindings: Option<Vec<PortBinding>>,
    /// Health, if it has a health check.
    pub health: Option<Health>,
    /// Since when its health is what it is.
    pub health_since: Option<Timestamp>,
    /// The status that the control plane has: None, Running or Stopped; Pulled means that it has the image's digest.
    pub reported: Status,
    /// Whether its Docker container was removed.
    pub removed: bool,
    /// What its restart policy has made of it.
    #[serde(skip_serializing_if = "Restarts::is_none")]
    pub restarts: Restarts,
}

impl ContainerRecord {
    /// Whether the agent added it, and nobody is told of it.
    pub(crate) fn is_internal(&self) -> bool {
        internal::is_internal(&self.name)
    }

    /// Docker's id, or the name where the id is not known.
    pub(crate) fn target(&self) -> String {
        self.docker_id.clone().unwrap_or_else(|| self.docker_name.clone())
    }
}

/// Something that Docker is asked to do for a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    InspectImage,
    ResolveDigest,
    PullImage,
    Create,
    Start,
    Stop,
    Inspect,
    Remove,
}

/// What the image of a container still needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Image {
    /// Nothing was tried.
    #[default]
    Untried,
    /// It is not on this host.
    Absent,
    /// The last pull failed; whether a local image will do is being found out.
    PullFailed(PullError),
}

/// What is under way for a container. Volatile: an agent that starts anew finds out by asking Docker.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Work {
    /// The step whose result is awaited.
    pub(crate) in_flight: Option<Step>,
    /// No step before then.
    pub(crate) retry_at: Option<Timestamp>,
    /// Docker is to be asked about the container before anything else.
    pub(crate) inspect_wanted: bool,
    /// Restored, and Docker not seen since: nothing may be done.
    pub(crate) unverified: bool,
    /// Docker was told to stop it, and not asked since whether it did.
    stop_sent: bool,
    /// It was to be started, and what came of it was never heard: Docker went away, or the agent did. Another Docker than the
    /// one that was asked knows nothing of the process that ran, and must not be asked again.
    pub(crate) start_unsure: bool,
    /// The container has failed with this reason, and ends once Docker says that it does not run.
    pub(crate) failing: Option<String>,
    /// Exit code of the event stream, should Docker have forgotten the container when it is asked.
    pub(crate) died_with: Option<i32>,
    /// When the first pull began.
    pub(crate) pull_began: Option<Timestamp>,
    /// It failed in a way that ends the task, essential or not.
    pub(crate) fails_task: bool,
    /// It runs although it has ended: it must be stopped before it can be removed.
    pub(crate) stop_first: bool,
    image: Image,
    /// The registry was asked what the image's name stands for.
    digest_tried: bool,
    pulls: u32,
    failures: u32,
}

/// What a container needs next.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Next {
    /// Nothing now; something must happen first (or time pass, if given).
    Wait(Option<Timestamp>),
    /// Docker's help.
    Do(Step),
    /// It ends without Docker's help.
    End { reason: Option<String>, exit_code: Option<i32> },
}

/// What [`next`] has to know beside the container itself.
pub(crate) struct Surroundings {
    pub(crate) now: Timestamp,
    /// The task is to stop.
    pub(crate) stopping: bool,
    /// The containers it depends on.
    pub(crate) readiness: Readiness,
    /// Everything that depends on it has ended.
    pub(crate) dependents_down: bool,
    /// A resource that its pull needs is not there yet.
    pub(crate) held_before_pull: bool,
    /// A resource that its creation needs is not there yet.
    pub(crate) held_before_create: bool,
    /// A resource that each of its starts needs is not there (any more).
    pub(crate) held_before_start: bool,
    pub(crate) pull_dependents_upfront: bool,
    pub(crate) pull_behavior: ImagePullBehavior,
    /// Its image is named by its digest.
    pub(crate) pinned: bool,
}

/// After the third failure in a row a pull is pointless for minutes; five tries ride out a hiccup of a registry.
const PULL_TRIES: u32 = 5;
const PULL_PAUSE_MS: i64 = 1_100;
const PULL_PAUSE_MAX_MS: i64 = 5_000;
/// Docker restarts within seconds, or somebody has to come and look.
const DOCKER_PAUSE_MS: i64 = 2_000;
const DOCKER_PAUSE_MAX_MS: i64 = 200_000;
/// Between attempts to remove a container. Nobody waits for it, and an operator may be looking at it.
const REMOVE_PAUSE_MS: i64 = 30_000;
const REMOVE_PAUSE_MAX_MS: i64 = 600_000;

/// Why a container ends that Docker says was never started, and may have been.
const START_UNSURE: &str = "CannotStartContainerError: Docker went away while the container was being started; whether it ran is \
     not known, so it is not started again";

/// The pause after so many attempts to reach Docker.
pub(crate) fn docker_pause(failures: u32) -> i64 {
    backoff(DOCKER_PAUSE_MS, DOCKER_PAUSE_MAX_MS, failures)
}

fn backoff(first_ms: i64, max_ms: i64, failures: u32) -> i64 {
    first_ms.saturating_mul(1 << failures.min(16)).min(max_ms)
}

/// What the container needs next.
pub(crate) fn next(container: &ContainerRecord, work: &Work, around: &Surroundings) -> Next {
    if container.known == Status::Stopped {
        return Next::Wait(None);
    }
    let stopping = around.stopping || work.failing.is_some();
    // Nothing that Docker may still do about an image matters to a task that stops.
    let abandoned = matches!(work.in_flight, None | Some(Step::InspectImage | Step::ResolveDigest | Step::PullImage));
    if stopping && !container.start_intended && abandoned && !work.inspect_wanted {
        return Next::End { reason: work.failing.clone(), exit_code: None };
    }
    if work.in_flight.is_some() || work.unverified {
        return Next::Wait(None);
    }
    if let Some(at) = work.retry_at.filter(|at| *at > around.now) {
        return Next::Wait(Some(at));
    }
    if work.inspect_wanted {
        return Next::Do(Step::Inspect);
    }
    if stopping {
        return if around.dependents_down { Next::Do(Step::Stop) } else { Next::Wait(None) };
    }
    if container.restarts.next.is_some() {
        return if around.held_before_start { Next::Wait(None) } else { Next::Do(Step::Start) };
    }
    let upfront = around.pull_dependents_upfront && container.known == Status::None;
    match (&around.readiness, container.known) {
        (_, Status::Running | Status::Stopped) => Next::Wait(None),
        (Readiness::Never(reason), _) => {
            // The dependent of a failed condition ends as if it had been told to.
            Next::End { reason: Some(reason.clone()), exit_code: Some(143) }
        }
        // What an image is depends on no container.
        (_, Status::None) if !around.held_before_pull && to_resolve(container, work, around) => {
            Next::Do(Step::ResolveDigest)
        }
        (Readiness::Waiting(until), _) if !upfront => Next::Wait(*until),
        (_, Status::None) if around.held_before_pull => Next::Wait(None),
        (_, Status::None) => image_step(work, around),
        (_, Status::Pulled | Status::Created) if around.held_before_create && container.docker_id.is_none() => {
            Next::Wait(None)
        }
        (_, Status::Pulled) => Next::Do(Step::Create),
        (_, Status::Created) if container.docker_id.is_none() => Next::Do(Step::Create),
        (_, Status::Created) if around.held_before_start => Next::Wait(None),
        (_, Status::Created) => Next::Do(Step::Start),
    }
}

/// Whether its registry is to be asked what its image's name stands for: before the first pull.
fn to_resolve(container: &ContainerRecord, work: &Work, around: &Surroundings) -> bool {
    use ImagePullBehavior::{Always, Default};
    let resolved = around.pinned || work.digest_tried || container.image_digest.is_some();
    let to_be_pulled = match work.image {
        Image::Untried => matches!(around.pull_behavior, Default | Always),
        Image::Absent => true,
        Image::PullFailed(_) => false,
    };
    to_be_pulled && !resolved
}

fn image_step(work: &Work, around: &Surroundings) -> Next {
    use ImagePullBehavior::{Always, Default, Once, PreferCached};
    match (&work.image, around.pull_behavior) {
        (Image::Untried, PreferCached | Once) => Next::Do(Step::InspectImage),
        (Image::PullFailed(_), Default | PreferCached) => Next::Do(Step::InspectImage),
        (Image::Untried | Image::Absent, _) | (Image::PullFailed(_), Always | Once) => Next::Do(Step::PullImage),
    }
}

impl Work {
    /// Nothing but to ask Docker about it.
    pub(crate) fn to_inspect() -> Self {
        Self { inspect_wanted: true, ..Self::default() }
    }

    fn pause(&mut self, now: Timestamp) {
        self.retry_at = Some(now.plus_millis(docker_pause(self.failures)));
        self.failures = self.failures.saturating_add(1);
    }

    fn went_well(&mut self) {
        self.failures = 0;
        self.retry_at = None;
    }

    fn pull_again_or_fail(&mut self, now: Timestamp, config: &EngineConfig, error: PullError) {
        let limit_ms = config.image_pull_timeout_ms;
        let out_of_time = self.pull_began.is_some_and(|began| now.since(began) >= limit_ms);
        let reason = match error {
            PullError::Registry(_) if self.pulls < PULL_TRIES && !out_of_time => {
                self.image = Image::Absent;
                let pause = backoff(PULL_PAUSE_MS, PULL_PAUSE_MAX_MS, self.pulls.saturating_sub(1));
                self.retry_at = Some(now.plus_millis(pause));
                return;
            }
            PullError::Docker(_) => {
                self.image = Image::Untried;
                return self.pause(now);
            }
            PullError::Refused(message) | PullError::Registry(message) => {
                format!("CannotPullContainerError: {message}")
            }
            PullError::TooLong => timed_out("pulled", limit_ms),
        };
        self.failing = Some(reason);
        // Who insists on a pull wants no task without it, not even one that could do without this container.
        self.fails_task = matches!(config.image_pull_behavior, ImagePullBehavior::Always | ImagePullBehavior::Once);
    }
}

/// The image was looked for on this host.
pub(crate) fn image_inspected(
    container: &mut ContainerRecord,
    work: &mut Work,
    now: Timestamp,
    config: &EngineConfig,
    result: Result<Option<ImageInfo>, DockerError>,
) {
    let to_be_pulled = |image: &ImageInfo| config.image_pull_behavior == ImagePullBehavior::Once && !image.pulled;
    match (result, std::mem::take(&mut work.image)) {
        (Ok(Some(image)), Image::Untried) if to_be_pulled(&image) => work.image = Image::Absent,
        (Ok(Some(image)), _) => {
            work.went_well();
            container.image_digest = image.digest;
            container.known = container.known.max(Status::Pulled);
        }
        (Err(DockerError::Unreached(_) | DockerError::Unavailable(_) | DockerError::Timeout), before) => {
            work.image = before;
            work.pause(now);
        }
        // Whatever else Docker says, it has no such image; a pull will give the better reason.
        (Ok(None) | Err(_), Image::PullFailed(error)) => work.pull_again_or_fail(now, config, error),
        (Ok(None) | Err(_), _) => work.image = Image::Absent,
    }
}

/// The registry said what the image's name stands for, or not: then the pull will tell, and why it cannot be had.
pub(crate) fn digest_resolved(
    container: &mut ContainerRecord,
    work: &mut Work,
    now: Timestamp,
    result: Result<String, DockerError>,
) {
    match result {
        Ok(digest) => {
            work.went_well();
            container.image_digest = Some(digest);
        }
        Err(DockerError::Unreached(_) | DockerError::Unavailable(_)) => work.pause(now),
        Err(_) => work.digest_tried = true,
    }
}

/// The image was pulled, or not.
pub(crate) fn image_pulled(
    container: &mut ContainerRecord,
    work: &mut Work,
    now: Timestamp,
    config: &EngineConfig,
    result: Result<ImageInfo, PullError>,
) {
    let cache_will_do =
        matches!(config.image_pull_behavior, ImagePullBehavior::Default | ImagePullBehavior::PreferCached);
    work.pulls = work.pulls.saturating_add(1);
    match result {
        Ok(image) => {
            work.went_well();
            container.image_digest = container.image_digest.take().or(image.digest);
            container.image_pulled = true;
            container.known = container.known.max(Status::Pulled);
        }
        // Whether the image is here is found out before anything is tried again: what is here runs at once.
        Err(error @ (PullError::Refused(_) | PullError::Registry(_) | PullError::TooLong)) if cache_will_do => {
            work.image = Image::PullFailed(error);
        }
        Err(error) => work.pull_again_or_fail(now, config, error),
    }
}

/// The Docker container was created, or not.
pub(crate) fn created(
    container: &mut ContainerRecord,
    work: &mut Work,
    now: Timestamp,
    timeout_ms: i64,
    result: Result<String, DockerError>,
) {
    match result {
        Ok(id) => {
            work.went_well();
            container.docker_id = Some(id);
            container.known = container.known.max(Status::Created);
        }
        Err(DockerError::NameInUse(_)) => work.inspect_wanted = true,
        Err(DockerError::Unreached(_) | DockerError::Unavailable(_)) => work.pause(now),
        Err(DockerError::Timeout) => work.failing = Some(timed_out("created", timeout_ms)),
        Err(DockerError::NotFound(why) | DockerError::Failed(why)) => {
            work.failing = Some(format!("CannotCreateContainerError: {why}"));
        }
    }
}

/// The Docker container was started, or not.
pub(crate) fn started(
    container: &mut ContainerRecord,
    work: &mut Work,
    now: Timestamp,
    timeout_ms: i64,
    result: Result<(), DockerError>,
) {
    match result {
        Ok(()) => {
            work.went_well();
            runs(container, now);
            work.inspect_wanted |= container.bindings.is_none();
        }
        Err(why @ (DockerError::Unreached(_) | DockerError::Unavailable(_))) => {
            work.pause(now);
            work.inspect_wanted = true;
            work.start_unsure |= matches!(why, DockerError::Unavailable(_));
        }
        Err(DockerError::Timeout) => work.failing = Some(timed_out("started", timeout_ms)),
        Err(DockerError::NotFound(why) | DockerError::NameInUse(why) | DockerError::Failed(why)) => {
            work.failing = Some(format!("CannotStartContainerError: {why}"));
            // Docker refused; it is asked all the same, because a running container must never count as stopped.
            work.inspect_wanted = true;
        }
    }
}

/// Docker stopped the container, or not. Either way Docker is asked what came of it, unless it had ended before: then its
/// removal will tell.
pub(crate) fn stopped(container: &ContainerRecord, work: &mut Work, now: Timestamp, result: Result<(), DockerError>) {
    if container.known == Status::Stopped {
        work.stop_first = false;
        return;
    }
    work.inspect_wanted = true;
    work.stop_sent = true;
    match result {
        Ok(()) | Err(DockerError::NotFound(_)) => work.went_well(),
        Err(_) => work.pause(now),
    }
}

/// The container was removed, or not; answers with what is to be told about that. Docker removes nothing that runs, and
/// somebody may have started it by hand: it is stopped before the next attempt. That does no harm to one that does not run.
pub(crate) fn removed(
    container: &mut ContainerRecord,
    work: &mut Work,
    now: Timestamp,
    result: Result<(), DockerError>,
) -> Option<String> {
    let why = match result {
        Ok(()) | Err(DockerError::NotFound(_)) => {
            work.went_well();
            container.removed = true;
            return None;
        }
        Err(why) => why,
    };
    work.retry_at = Some(now.plus_millis(backoff(REMOVE_PAUSE_MS, REMOVE_PAUSE_MAX_MS, work.failures)));
    work.failures = work.failures.saturating_add(1);
    work.stop_first = !matches!(why, DockerError::Unreached(_) | DockerError::Unavailable(_));
    (work.failures == 1).then(|| format!("it cannot be removed yet, this is tried again: {why}"))
}

/// Docker's answer about the container; answers with what is to be told about it. `policy` is in force when it has ended by itself.
pub(crate) fn inspected(
    container: &mut ContainerRecord,
    work: &mut Work,
    now: Timestamp,
    stopping: bool,
    policy: Option<&acs::RestartPolicy>,
    result: Result<Inspection, DockerError>,
) -> Option<String> {
    let inspection = match result {
        Ok(inspection) => inspection,
        Err(DockerError::NotFound(_)) => {
            vanished(container, work, now);
            return None;
        }
        Err(_) => {
            work.inspect_wanted = true;
            work.pause(now);
            return None;
        }
    };
    if std::mem::take(&mut work.stop_sent) && inspection.state == RunState::Running {
        // Still running although Docker was told to stop it: the next order comes after a pause.
        work.pause(now);
    } else {
        work.went_well();
    }
    container.docker_id = Some(inspection.docker_id);
    if let Some(health) = inspection.health {
        health_is(container, now, health);
    }
    match inspection.state {
        RunState::Created if container.known == Status::Running => {
            // Another container took the name: ours is gone.
            vanished(container, work, now);
        }
        RunState::Created => {
            container.known = container.known.max(Status::Created);
            if stopping || work.failing.is_some() {
                end(container, work, now, None, None);
            } else if std::mem::take(&mut work.start_unsure) && !same(&container.start_asked_of, &inspection.docker) {
                work.failing = Some(START_UNSURE.to_owned());
            }
        }
        RunState::Running => {
            runs(container, now);
            work.died_with = None;
            container.bindings.get_or_insert(inspection.bindings);
        }
        RunState::Exited { exit_code, oom_killed, finished_at, error, started } => {
            container.start_intended = true;
            container.started |= started;
            if started && container.bindings.is_none() && !inspection.bindings.is_empty() {
                container.bindings = Some(inspection.bindings);
            }
            let ended = Ended { exit_code, started_at: inspection.started_at, finished_at };
            let policy = policy.filter(|_| work.failing.is_none());
            let unsure = std::mem::take(&mut work.start_unsure);
            match restart::after_end(container, policy, now, ended, unsure, &inspection.docker) {
                Verdict::Restart { decided } => {
                    return decided
                        .then(|| format!("exited with code {exit_code} and is restarted, as its policy says"));
                }
                Verdict::Unsure => work.failing = Some(START_UNSURE.to_owned()),
                Verdict::End => {}
            }
            let reason = if oom_killed {
                Some("OutOfMemoryError: Container killed due to memory usage".to_owned())
            } else {
                let name = if started { "DockerStateError" } else { "CannotStartContainerError" };
                error.filter(|why| !why.is_empty()).map(|why| format!("{name}: {why}"))
            };
            let exit_code = container.started.then_some(exit_code);
            end(container, work, finished_at.unwrap_or(now), reason, exit_code);
        }
    }
    None
}

/// The clock jumped: pauses last as long as they were meant to.
pub(crate) fn clock_set(container: &mut ContainerRecord, work: &mut Work, by_ms: i64) {
    let times = [&mut work.retry_at, &mut work.pull_began, &mut container.started_at, &mut container.restarts.last_at];
    for time in times.into_iter().flatten() {
        *time = time.plus_millis(by_ms);
    }
}

/// Whether both are certainly the same Docker.
pub(crate) fn same(asked: &Option<DockerLife>, answers: &Option<DockerLife>) -> bool {
    asked.is_some() && asked == answers
}

/// Docker says that it runs.
fn runs(container: &mut ContainerRecord, now: Timestamp) {
    container.start_intended = true;
    container.started = true;
    container.started_at.get_or_insert(now);
    restart::happened(container, now);
    container.known = container.known.max(Status::Running);
}

/// Docker knows no such container.
fn vanished(container: &mut ContainerRecord, work: &mut Work, now: Timestamp) {
    work.went_well();
    container.docker_id = None;
    if container.start_intended {
        let exit_code = work.died_with;
        let reason = "ContainerVanishedError: No container matching saved ID found".to_owned();
        end(container, work, now, Some(reason), exit_code);
    }
}

/// The container's health is this now.
pub(crate) fn health_is(container: &mut ContainerRecord, now: Timestamp, health: Health) {
    if container.health.as_ref().map(|have| have.status) != Some(health.status) {
        container.health_since = Some(now);
    }
    container.health = Some(health);
}

/// The container has ended, `reason` being what went wrong last.
pub(crate) fn end(
    container: &mut ContainerRecord,
    work: &mut Work,
    at: Timestamp,
    reason: Option<String>,
    exit_code: Option<i32>,
) {
    container.known = Status::Stopped;
    container.finished_at = Some(at);
    container.exit_code = exit_code;
    container.bindings.get_or_insert_default();
    container.restarts.next = None;
    // What went wrong first explains the rest.
    container.reason = container.reason.take().or_else(|| work.failing.take()).or(reason);
    *work = Work::default();
}

fn timed_out(state: &str, timeout_ms: i64) -> String {
    format!("DockerTimeoutError: Could not transition to {state}; timed out after waiting {}", go_duration(timeout_ms))
}

/// A duration in the words operators know from ECS: `4m0s`.
fn go_duration(ms: i64) -> String {
    let seconds = ms / 1000;
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match (hours, minutes) {
        (0, 0) => format!("{seconds}s"),
        (0, _) => format!("{minutes}m{seconds}s"),
        _ => format!("{hours}h{minutes}m{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_in_ecs() {
        for (ms, text) in [(240_000, "4m0s"), (45_000, "45s"), (3_661_000, "1h1m1s"), (0, "0s")] {
            assert_eq!(go_duration(ms), text);
        }
    }

    #[test]
    fn pauses_grow_to_their_limit() {
        assert_eq!(backoff(DOCKER_PAUSE_MS, DOCKER_PAUSE_MAX_MS, 0), 2_000);
        assert_eq!(backoff(DOCKER_PAUSE_MS, DOCKER_PAUSE_MAX_MS, 3), 16_000);
        assert_eq!(backoff(DOCKER_PAUSE_MS, DOCKER_PAUSE_MAX_MS, u32::MAX), 200_000);
    }
}
