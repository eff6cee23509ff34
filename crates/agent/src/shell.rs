//! The loop around an instance's engine: feeds it what happens, performs what it asks for.
//!
//! One task runs the loop; it never waits for Docker or the control plane. Each action that takes time runs beside it and
//! comes back as an input, so a slow pull holds up nothing but its own container.
//!
//! # What is durable before what
//!
//! A kill at any instant must neither lose a task whose order was acknowledged nor run a container twice. So these wait
//! until every earlier `Save { durable: true }` is on disk:
//! - replies to the control plane: what is acknowledged is known after a restart, what is not is sent again;
//! - creating, starting, stopping and removing containers: a container of ours always has a record, and a container is gone
//!   only when the record says why;
//! - submitting state changes: what the control plane believes is what a restarted agent knows.
//!
//! Looking at images and containers, and pulling, do not wait: they change nothing that anybody relies on, and the disk
//! works meanwhile. Other saves (a container was created, started …) wait for nobody: names are deterministic and labels
//! tell whose a container is, so a restarted engine finds in Docker what its record lacks.

mod clock;
mod convert;
pub(crate) mod images;
pub(crate) mod network;
pub(crate) mod ports;
pub(crate) mod registry;
pub(crate) mod resource;
mod submit;
pub(crate) mod watcher;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use longshore_agent_protocol::acs::{AgentMessage, ServerMessage};
use longshore_api::Timestamp;
use longshore_client::{Client, now};
use tokio::sync::{Notify, Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::sleep;
use tracing::{error, info, warn};

use crate::cgroup::CgroupKeeper;
use crate::config::RegistryLogin;
use crate::disk::DiskGuard;
use crate::engine::docker::{Docker, DockerError, LABEL_INSTANCE, LABEL_TASK, Phase, PullLimits};
use crate::engine::{
    self, Action, ContainerSpec, DockerLife, Engine, ImageInfo, Input, Inspection, LogLevel, PullError, Status,
    TaskRecord,
};
use crate::roles::{ExecutionRoles, Handed};
use crate::session::acs;
use crate::state::{Change, State, Ticket};
use clock::Clock;
use images::{Images, Question};
use network::TaskNetwork;
use ports::HostPorts;
use registry::{ServerRegistry, SourceError};
use resource::env_file::ObjectStore;
use resource::secret::SecretStores;
use submit::submit;

/// State changes under way at once, for the whole process.
pub(crate) const CONCURRENT_SUBMITS: usize = 10;
/// The loop looks at the clock at least this often: a wall clock that was set must not leave a deadline hanging.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);

/// What all instances of the process share.
pub(crate) struct Shared<D> {
    pub(crate) docker: D,
    pub(crate) state: State,
    pub(crate) api: Client,
    pub(crate) submits: Semaphore,
    pub(crate) images: Images,
    /// Where images come from that were pushed to the server; nothing where the Engine cannot be led there.
    pub(crate) registry: Option<ServerRegistry>,
    pub(crate) host_ports: Arc<HostPorts>,
    pub(crate) pull_limits: PullLimits,
    /// The credentials with which tasks are prepared.
    pub(crate) roles: Arc<ExecutionRoles>,
    /// Where secrets are to be had.
    pub(crate) secrets: SecretStores,
    /// Where environment files are.
    pub(crate) objects: ObjectStore,
    pub(crate) disk: DiskGuard,
    /// What tasks are bounded with.
    pub(crate) cgroups: CgroupKeeper,
    /// How often the watcher looks at all containers although nothing was heard.
    pub(crate) look_every: Duration,
    /// This host's part of the network of awsvpc tasks.
    pub(crate) network: TaskNetwork,
    /// Rung when a call found Docker gone, so that the watcher looks again and says when it is back.
    pub(crate) docker_lost: Notify,
}

/// One container instance: its engine and what connects it to the world.
pub(crate) struct Instance<D> {
    pub(crate) shared: Arc<Shared<D>>,
    pub(crate) index: u32,
    pub(crate) arn: String,
    pub(crate) engine: Engine,
    /// Which images its tasks need, somebody wants to know.
    pub(crate) questions: mpsc::Receiver<Question>,
    pub(crate) session_events: mpsc::Receiver<acs::Event>,
    pub(crate) current_session: Arc<acs::CurrentSession>,
    /// Results of actions and news from Docker.
    pub(crate) inputs: (mpsc::UnboundedSender<Input>, mpsc::UnboundedReceiver<Input>),
    /// How many tasks are not stopped, for telemetry.
    pub(crate) live_tasks: watch::Sender<usize>,
}

/// The parts of a running loop that actions touch.
struct Performer<D> {
    shared: Arc<Shared<D>>,
    index: u32,
    /// The instance's own.
    arn: Arc<str>,
    results: mpsc::UnboundedSender<Input>,
    /// The current session, if there is one.
    session: Option<mpsc::Sender<AgentMessage>>,
    /// The last save that others wait for.
    barrier: Ticket,
    /// Actions under way; dropped with the loop.
    under_way: JoinSet<()>,
}

impl<D: Docker> Instance<D> {
    /// Runs until dropped, or until the ACS session's task is gone.
    pub(crate) async fn run(mut self) {
        let mut performer = Performer {
            shared: self.shared.clone(),
            index: self.index,
            arn: self.arn.as_str().into(),
            results: self.inputs.0.clone(),
            session: None,
            barrier: Ticket::default(),
            under_way: JoinSet::new(),
        };
        let mut clock = Clock::new();
        loop {
            let pause = pause_until(self.engine.next_deadline());
            let News { input, credentials } = tokio::select! {
                Some(input) = self.inputs.1.recv() => input.into(),
                event = self.session_events.recv() => match event {
                    None => return,
                    Some(event) => self.order(event, &mut performer),
                },
                Some(_ended) = performer.under_way.join_next() => continue,
                Some(question) = self.questions.recv() => {
                    // Whoever asked may have gone.
                    let _ = question.send(self.engine.images_in_use());
                    continue;
                }
                () = sleep(pause) => Input::Tick.into(),
            };
            let (now, jump) = clock.read();
            if let Some(by_ms) = jump {
                warn!(by_ms, "the machine's clock jumped; pauses last as long as they were meant to");
            }
            let mut actions = Vec::new();
            for input in jump.map(|by_ms| Input::ClockSet { by_ms }).into_iter().chain(input) {
                actions.extend(self.engine.handle(now, input));
            }
            // Whose task it is says the engine, and what follows from the order needs them already.
            for handed in credentials {
                let task_arn = handed.task_arn.clone();
                if self.take_credentials(handed, &mut performer) {
                    actions.extend(self.engine.handle(now, Input::PrerequisiteCame { task_arn: Some(task_arn) }));
                }
            }
            actions.into_iter().for_each(|action| performer.perform(action));
            let live = self.engine.tasks().filter(|task| is_live(task)).count();
            self.live_tasks.send_if_modified(|known| std::mem::replace(known, live) != live);
        }
    }

    /// What a session event means.
    fn order(&self, event: acs::Event, performer: &mut Performer<D>) -> News {
        match event {
            acs::Event::Opened { outgoing } => {
                performer.session = Some(outgoing);
                News::default()
            }
            acs::Event::Closed | acs::Event::Deregistered => {
                performer.session = None;
                News::default()
            }
            // It waited in our queue while its session ended: nobody stands behind it any more.
            acs::Event::Message { session, .. } if !self.current_session.is(session) => News::default(),
            acs::Event::Message { message, .. } => match *message {
                ServerMessage::Payload(mut payload) => {
                    let credentials = Handed::with(&mut payload);
                    News { input: Some(Input::Payload(payload)), credentials }
                }
                ServerMessage::IamRoleCredentials(message) => {
                    self.current_session.was_heard();
                    News { input: None, credentials: Handed::anew(message).into_iter().collect() }
                }
                ServerMessage::TaskManifest(manifest) => {
                    self.current_session.was_heard();
                    Input::Manifest(manifest).into()
                }
                ServerMessage::TaskStopVerificationAck(ack) => Input::StopVerificationAck(ack).into(),
                ServerMessage::Network(network) => {
                    self.shared.network.told(&network);
                    Input::PrerequisiteCame { task_arn: None }.into()
                }
                // Requests for logs do not come this way.
                other => {
                    warn!(message = other.type_name(), "this agent does not act on such messages");
                    News::default()
                }
            },
        }
    }

    /// Takes the credentials of a task of this instance that is not over, and acknowledges them; says whether it did.
    fn take_credentials(&self, handed: Handed, performer: &mut Performer<D>) -> bool {
        let ours = self.engine.task(&handed.task_arn).is_some_and(is_live);
        let Some(acknowledgement) = ours.then(|| self.shared.roles.take(handed)).flatten() else { return false };
        performer.reply(acknowledgement);
        true
    }
}

/// What the loop hears of.
#[derive(Default)]
struct News {
    /// For the engine.
    input: Option<Input>,
    /// Not for the engine: it keeps no secrets.
    credentials: Vec<Handed>,
}

impl From<Input> for News {
    fn from(input: Input) -> Self {
        Self { input: Some(input), credentials: Vec::new() }
    }
}

fn is_live(task: &TaskRecord) -> bool {
    task.known < Status::Stopped
}

fn pause_until(deadline: Option<Timestamp>) -> Duration {
    let Some(deadline) = deadline else {
        return LONGEST_SLEEP;
    };
    let millis = u64::try_from(deadline.since(now())).unwrap_or(0);
    Duration::from_millis(millis).min(LONGEST_SLEEP)
}

impl<D: Docker> Performer<D> {
    fn perform(&mut self, action: Action) {
        match action {
            Action::Save { record, durable } => self.save(&record, durable),
            Action::Forget { task_arn } => {
                self.write(Change::DropTask { identity: self.index, arn: task_arn });
            }
            Action::SaveTimeline(timeline) => {
                self.barrier = self.write(Change::Timeline { identity: self.index, timeline });
            }
            Action::Log { level, task_arn, message } => match level {
                LogLevel::Info => info!(task = task_arn, "{message}"),
                LogLevel::Warn => warn!(task = task_arn, "{message}"),
            },
            Action::Reply(message) => self.reply(message),
            Action::Submit { ref task_arn, ref change } => {
                let (shared, task_arn, change) = (self.shared.clone(), task_arn.clone(), change.clone());
                let otherwise = action.failed(panicked());
                self.begin(true, otherwise, async move { submit(&shared, task_arn, &change).await });
            }
            other => self.begin_docker(other),
        }
    }

    fn write(&self, change: Change) -> Ticket {
        self.shared.state.write(vec![change])
    }

    fn save(&mut self, record: &TaskRecord, durable: bool) {
        if !is_live(record) {
            self.shared.roles.forget(record.arn());
        }
        let ticket = self.write(Change::PutTask {
            identity: self.index,
            arn: record.arn().to_owned(),
            record: record.to_json(),
        });
        if durable {
            self.barrier = ticket;
        }
    }

    fn reply(&mut self, message: AgentMessage) {
        // An answer belongs to the session whose message it answers; without one the control plane asks again.
        let Some(session) = self.session.clone() else {
            return;
        };
        let (state, barrier) = (self.shared.state.clone(), self.barrier);
        self.under_way.spawn(async move {
            state.durable(barrier).await;
            let _ = session.send(message).await;
        });
    }

    /// Runs `work` beside the loop, if asked for after the saves before it; its result becomes an input. Should it panic, so
    /// does `otherwise`: the engine asks for nothing more of a container whose step has no end.
    fn begin(&mut self, after_saves: bool, otherwise: Input, work: impl Future<Output = Input> + Send + 'static) {
        let (state, barrier) = (self.shared.state.clone(), self.barrier);
        let results = self.results.clone();
        self.under_way.spawn(async move {
            if after_saves {
                state.durable(barrier).await;
            }
            // What it shares with others is behind locks that outlive a panic.
            let result = AssertUnwindSafe(work).catch_unwind().await;
            let input = result.unwrap_or_else(|_| {
                error!(?otherwise, "an action of the agent panicked");
                otherwise
            });
            // The receiver lives as long as this task's set.
            let _ = results.send(input);
        });
    }

    fn begin_docker(&mut self, action: Action) {
        let only_looks = matches!(
            action,
            Action::InspectImage { .. }
                | Action::ResolveDigest { .. }
                | Action::PullImage { .. }
                | Action::Inspect { .. }
                | Action::FindContainers { .. }
        );
        let (shared, arn) = (self.shared.clone(), self.arn.clone());
        let otherwise = action.failed(panicked());
        self.begin(!only_looks, otherwise, async move { docker_action(&shared, &arn, action).await });
    }
}

/// What becomes of an action that panics: nobody knows whether it was done.
fn panicked() -> engine::DockerError {
    engine::DockerError::Unavailable("the agent failed while it waited for the answer".to_owned())
}

/// Performs an action that goes to Docker; the others were taken care of.
async fn docker_action<D: Docker>(shared: &Shared<D>, instance_arn: &str, action: Action) -> Input {
    let docker = &shared.docker;
    let millis = |millis: i64| Duration::from_millis(u64::try_from(millis).unwrap_or(0));
    match action {
        Action::InspectImage { container, image } => {
            let known_as = known_as(shared, &image).await;
            let result = noticing(shared, shared.images.find(docker, &known_as, &image).await);
            Input::ImageInspected { container, result: convert::image_inspected(result) }
        }
        Action::ResolveDigest { container, image, login, timeout_ms } => {
            let result = resolve(shared, &image, login.as_deref(), millis(timeout_ms)).await;
            Input::DigestResolved { container, result }
        }
        Action::PullImage { container, image, digest, login } => {
            let result = pull(shared, &image, digest.as_deref(), login.as_deref()).await;
            Input::ImagePulled { container, result }
        }
        Action::Create { container, spec, timeout_ms } => {
            let mut spec = match with_ports(shared, spec).await {
                Ok(spec) => spec,
                Err(why) => return Input::Created { container, result: Err(engine::DockerError::Failed(why)) },
            };
            if let Some(image) = spec.body["Image"].as_str() {
                spec.body["Image"] = known_as(shared, image).await.into();
            }
            let result = docker.create(&spec.name, &spec.body, millis(timeout_ms)).await;
            Input::Created { container, result: noticing(shared, result).map_err(convert::create_error) }
        }
        Action::Start { container, docker_id, timeout_ms } => {
            let result = docker.start(&docker_id, millis(timeout_ms)).await;
            Input::Started { container, result: noticing(shared, result).map_err(convert::error) }
        }
        Action::Stop { container, target, grace_s } => {
            let grace = Duration::from_secs(u64::try_from(grace_s).unwrap_or(0));
            let result = docker.stop(&target, grace).await;
            Input::Stopped { container, result: noticing(shared, result).map_err(convert::error) }
        }
        Action::Inspect { container, target } => {
            let result = inspect(docker, &target).await;
            Input::Inspected { container, result: noticing(shared, result).map_err(convert::error) }
        }
        Action::Remove { container, target } => {
            let result = docker.remove(&target).await;
            Input::Removed { container, result: noticing(shared, result).map_err(convert::error) }
        }
        Action::MakeResource { task_arn, key, spec } => {
            let result = resource::make(shared, &task_arn, *spec).await;
            Input::ResourceMade { task_arn, key, result }
        }
        Action::RemoveResource { task_arn, key, spec } => {
            let result = resource::remove(shared, &task_arn, *spec).await;
            Input::ResourceRemoved { task_arn, key, result }
        }
        Action::FindContainers { task_arn } => {
            // Only our own: the same task may be another instance's business on this Engine.
            let labels = [format!("{LABEL_INSTANCE}={instance_arn}"), format!("{LABEL_TASK}={task_arn}")];
            let result = docker.list(&[&labels[0], &labels[1]]).await;
            let found =
                |listed: Vec<_>| listed.into_iter().filter_map(watcher::found).map(|(_, found)| found).collect();
            Input::ContainersFound { task_arn, result: noticing(shared, result).map(found).map_err(convert::error) }
        }
        Action::Save { .. }
        | Action::Forget { .. }
        | Action::SaveTimeline(_)
        | Action::Reply(_)
        | Action::Submit { .. }
        | Action::Log { .. } => Input::Tick,
    }
}

/// Pulls an image from where it is.
/// What the image's name stands for: in the server's registry, or else in its own.
async fn resolve<D: Docker>(
    shared: &Shared<D>,
    image: &str,
    login: Option<&RegistryLogin>,
    limit: Duration,
) -> Result<String, engine::DockerError> {
    let source = match &shared.registry {
        Some(registry) => registry.source_in_time(image, limit).await.map_err(|error| match error {
            SourceError::Away(why) => engine::DockerError::Unavailable(why),
            SourceError::Missing(why) => engine::DockerError::NotFound(why),
        })?,
        None => None,
    };
    match source {
        Some(source) => Ok(source.digest().to_owned()),
        None => noticing(shared, shared.docker.digest(image, login, limit).await).map_err(convert::error),
    }
}

async fn pull<D: Docker>(
    shared: &Shared<D>,
    image: &str,
    digest: Option<&str>,
    login: Option<&RegistryLogin>,
) -> Result<ImageInfo, PullError> {
    let (docker, limits) = (&shared.docker, shared.pull_limits);
    let source = match &shared.registry {
        Some(registry) => registry.source_in_time(image, limits.total).await.map_err(SourceError::into_pull_error)?,
        None => None,
    };
    let pull = async {
        match &source {
            Some(source) => shared.images.pull_from(docker, &source.at(digest), image, limits).await,
            None => shared.images.pull(docker, image, digest, login, limits).await,
        }
    };
    match shared.disk.guarding(pull).await {
        Ok(result) => noticing(shared, result).map_err(convert::pull_error),
        // Clean-up makes room, perhaps before the last attempt.
        Err(pressure) => Err(PullError::Registry(pressure.to_string())),
    }
}

/// What the Engine knows an image by. It is the name that the task definition has, but for images of the server's registry
/// that are named by their digest.
async fn known_as<D: Docker>(shared: &Shared<D>, image: &str) -> String {
    let alias = shared.registry.as_ref().and_then(|registry| registry.alias(image));
    if let Some(alias) = alias
        && matches!(shared.docker.inspect_image(image).await, Err(DockerError::NotFound(_)))
        && shared.docker.inspect_image(&alias).await.is_ok()
    {
        return alias;
    }
    image.to_owned()
}

/// The container to create, with the ports that were to be found.
async fn with_ports<D>(shared: &Shared<D>, mut spec: Box<ContainerSpec>) -> Result<Box<ContainerSpec>, String> {
    if spec.ports_to_find.is_empty() {
        return Ok(spec);
    }
    let ports = shared.host_ports.clone();
    let search = tokio::task::spawn_blocking(move || ports.find(&mut spec).map(|()| spec));
    search.await.unwrap_or_else(|panic| Err(panic.to_string()))
}

/// What Docker says of a container. Who says that it does not run is asked after it was said: a daemon that came between the
/// two is then another one than was asked to start it.
async fn inspect<D: Docker>(docker: &D, target: &str) -> Result<Inspection, DockerError> {
    let found = docker.inspect(target).await?;
    let life = match found.phase {
        Phase::Created | Phase::Exited { .. } => docker.life().await?.map(DockerLife),
        Phase::Running => None,
    };
    Ok(convert::inspection(found, life))
}

/// Tells the watcher when a call found Docker gone: the engine waits for it to come back.
fn noticing<D, T>(shared: &Shared<D>, result: Result<T, DockerError>) -> Result<T, DockerError> {
    if result.as_ref().is_err_and(DockerError::is_transient) {
        shared.docker_lost.notify_one();
    }
    result
}

#[cfg(test)]
pub(crate) mod tests;
