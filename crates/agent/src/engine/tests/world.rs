//! The world around an engine, in memory.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use longshore_agent_protocol::acs;
use longshore_api::Timestamp;
use longshore_api::ecs::types::SubmitTaskStateChangeRequest;

use super::host::Host;
use crate::config::RegistryLogin;
use crate::engine::*;

pub(super) const INSTANCE: &str = "arn:instance";

pub(super) fn config() -> EngineConfig {
    EngineConfig {
        cluster: "default".to_owned(),
        container_instance_arn: INSTANCE.to_owned(),
        stop_timeout_s: 30,
        create_timeout_ms: 240_000,
        start_timeout_ms: 180_000,
        task_cleanup_wait_ms: 3_600_000,
        task_cleanup_jitter_ms: 0,
        image_pull_behavior: ImagePullBehavior::PreferCached,
        manifest_pull_timeout_ms: 60_000,
        image_pull_timeout_ms: 7_200_000,
        pull_dependents_upfront: false,
        dynamic_host_port_range: None,
        exclude_ipv6_port_binding: true,
        awslogs_as: AwslogsAs::Awslogs,
        limits: TaskLimits { cgroups: true, pids: None },
        volumes: VolumeRules { region: "eu-west-1".to_owned(), ..VolumeRules::default() },
        gpu_access: GpuAccess::Runtime("nvidia".to_owned()),
        resources: HostResources {
            cpu: 2048,
            memory_mib: 4096,
            reserved_ports: vec![22],
            gpus: vec!["GPU-1".to_owned(), "GPU-2".to_owned()],
            ..HostResources::default()
        },
        remembered_tasks: 3,
    }
}

pub(super) fn container(name: &str) -> acs::Container {
    acs::Container { name: name.to_owned(), image: "img".to_owned(), essential: true, ..acs::Container::default() }
}

pub(super) fn side_car(name: &str) -> acs::Container {
    acs::Container { essential: false, ..container(name) }
}

pub(super) fn after(mut container: acs::Container, on: &str, condition: &str) -> acs::Container {
    container
        .depends_on
        .push(acs::ContainerDependency { container_name: on.to_owned(), condition: condition.to_owned() });
    container
}

/// Restarted in place after any end but one with code 7, if it ran for a minute.
pub(super) fn restarted(mut container: acs::Container) -> acs::Container {
    container.restart_policy =
        Some(acs::RestartPolicy { enabled: true, ignored_exit_codes: vec![7], restart_attempt_period: Some(60) });
    container
}

/// It gets a secret, which takes the credentials of its task's role.
pub(super) fn with_secret(mut container: acs::Container) -> acs::Container {
    container.secrets.push(acs::SecretReference {
        name: "PASSWORD".to_owned(),
        value_from: "/app/db".to_owned(),
        provider: Some("ssm".to_owned()),
        ..acs::SecretReference::default()
    });
    container
}

pub(super) fn with_port(mut container: acs::Container, container_port: i64, host_port: i64) -> acs::Container {
    container.port_mappings.push(acs::PortMapping {
        container_port: Some(container_port),
        host_port: Some(host_port),
        ..acs::PortMapping::default()
    });
    container
}

pub(super) fn task(arn: &str, containers: Vec<acs::Container>) -> acs::Task {
    acs::Task {
        arn: arn.to_owned(),
        desired_status: acs::DesiredStatus::Running,
        family: Some("fam".to_owned()),
        version: Some("1".to_owned()),
        containers,
        ..acs::Task::default()
    }
}

pub(super) fn stop(arn: &str) -> acs::Task {
    acs::Task { arn: arn.to_owned(), desired_status: acs::DesiredStatus::Stopped, ..acs::Task::default() }
}

pub(super) fn key(task_arn: &str, name: &str) -> ContainerKey {
    ContainerKey { task_arn: task_arn.to_owned(), name: name.to_owned() }
}

/// A container as the model of Docker knows it.
#[derive(Clone, Debug)]
pub(super) struct ModelContainer {
    pub(super) key: ContainerKey,
    pub(super) id: String,
    pub(super) state: RunState,
    pub(super) spec: ContainerSpec,
    /// When its last run began.
    pub(super) began: Option<Timestamp>,
    /// Whether it was stopped, or ran without anybody knowing: it must not run again.
    over: bool,
}

/// Docker, reduced to what matters; it checks what must never be asked of it.
#[derive(Debug, Default)]
pub(super) struct Docker {
    /// By name.
    pub(super) containers: BTreeMap<String, ModelContainer>,
    pub(super) local_images: BTreeMap<String, ImageInfo>,
    pub(super) registry: BTreeMap<String, Result<ImageInfo, PullError>>,
    /// Images that were pulled, and as whom if not as the machine.
    pub(super) pulls: Vec<(String, Option<Arc<RegistryLogin>>)>,
    /// Errors that the next calls of a kind ("create main") meet, instead of being done.
    pub(super) errors: BTreeMap<String, VecDeque<DockerError>>,
    /// Errors that the next calls of a kind answer although they were done.
    pub(super) lost_answers: BTreeMap<String, VecDeque<DockerError>>,
    pub(super) reachable: bool,
    /// It is killed in the middle of the next start, and the next daemon knows nothing of the process that ran.
    pub(super) killed_in_start: bool,
    /// Containers may be started again if they ran for so long.
    pub(super) restart_period_ms: Option<i64>,
    lives: u32,
    ever_started: BTreeMap<ContainerKey, String>,
    ids: u32,
}

impl Docker {
    fn refused(&mut self, call: &str, name: &str) -> Option<DockerError> {
        if !self.reachable {
            return Some(DockerError::Unreached("connection refused".to_owned()));
        }
        self.errors.get_mut(&format!("{call} {name}")).and_then(VecDeque::pop_front)
    }

    /// What the caller hears of a call that was done.
    fn answer<T>(&mut self, call: &str, name: &str, done: T) -> Result<T, DockerError> {
        let lost = self.lost_answers.get_mut(&format!("{call} {name}")).and_then(VecDeque::pop_front);
        lost.map_or(Ok(done), Err)
    }

    pub(super) fn named(&mut self, target: &str) -> Result<&mut ModelContainer, DockerError> {
        self.containers
            .values_mut()
            .find(|container| container.id == target || container.spec.name == target)
            .ok_or_else(|| DockerError::NotFound("No such container".to_owned()))
    }

    fn create(&mut self, key: &ContainerKey, spec: ContainerSpec) -> Result<String, DockerError> {
        if let Some(error) = self.refused("create", &key.name) {
            return Err(error);
        }
        if self.containers.contains_key(&spec.name) {
            return Err(DockerError::NameInUse(format!("name {} in use", spec.name)));
        }
        assert!(!self.ever_started.contains_key(key), "{key:?} was started before and is created again");
        self.ids += 1;
        let id = format!("id{}", self.ids);
        let (key, state) = (key.clone(), RunState::Created);
        let container = ModelContainer { key: key.clone(), id: id.clone(), state, spec, began: None, over: false };
        self.containers.insert(container.spec.name.clone(), container);
        self.answer("create", &key.name, id)
    }

    fn start(&mut self, key: &ContainerKey, target: &str, at: Timestamp) -> Result<(), DockerError> {
        if let Some(error) = self.refused("start", &key.name) {
            return Err(error);
        }
        let joined = joined(&self.named(target)?.spec);
        if joined.iter().any(|holder| self.named(holder).is_ok_and(|holder| holder.state != RunState::Running)) {
            return Err(DockerError::Failed("cannot join the namespace of a container that does not run".to_owned()));
        }
        let period_ms = self.restart_period_ms;
        let killed = std::mem::take(&mut self.killed_in_start);
        let container = self.named(target)?;
        match (&container.state, container.began) {
            (RunState::Running, _) => return Ok(()),
            (RunState::Created, _) => {
                let id = container.id.clone();
                let earlier = self.ever_started.insert(key.clone(), id);
                assert_eq!(earlier, None, "{key:?} was started twice");
            }
            (RunState::Exited { finished_at: Some(ended), .. }, Some(began)) => {
                let ran_ms = ended.since(began);
                let may = period_ms.is_some_and(|period_ms| !container.over && ran_ms >= period_ms);
                assert!(may, "{key:?} is started again after {ran_ms} ms: {container:?}");
            }
            (RunState::Exited { .. }, _) => panic!("{key:?} has ended and is started again"),
        }
        let container = self.named(target)?;
        if killed {
            container.over = true;
            self.lives += 1;
            return Err(DockerError::Unavailable("connection closed".to_owned()));
        }
        (container.state, container.began) = (RunState::Running, Some(at));
        self.answer("start", &key.name, ())
    }

    /// The process ends by itself. Says whether it ran.
    pub(super) fn exit(&mut self, key: &ContainerKey, code: i32, oom_killed: bool, at: Timestamp) -> bool {
        let running = |c: &&mut ModelContainer| c.key == *key && c.state == RunState::Running;
        let Some(container) = self.containers.values_mut().find(running) else {
            return false;
        };
        container.state =
            RunState::Exited { exit_code: code, oom_killed, finished_at: Some(at), error: None, started: true };
        true
    }

    fn stop(&mut self, key: &ContainerKey, target: &str, at: Timestamp) -> Result<(), DockerError> {
        if let Some(error) = self.refused("stop", &key.name) {
            return Err(error);
        }
        let container = self.named(target)?;
        container.over = true;
        let (key, name) = (container.key.clone(), container.spec.name.clone());
        let left = |other: &ModelContainer| other.state == RunState::Running && joined(&other.spec).contains(&name);
        assert!(!self.containers.values().any(left), "{key:?} is stopped before those that live in its namespaces");
        self.exit(&key, 143, false, at);
        self.answer("stop", &key.name, ())
    }

    fn inspect(&mut self, key: &ContainerKey, target: &str) -> Result<Inspection, DockerError> {
        if let Some(error) = self.refused("inspect", &key.name) {
            return Err(error);
        }
        let container = self.named(target)?;
        let published = container.spec.body["HostConfig"]["PortBindings"].as_object().cloned().unwrap_or_default();
        let bindings = published.iter().enumerate().flat_map(|(position, (port, _))| {
            ["0.0.0.0", "::"].map(|host_ip| PortBinding {
                host_ip: host_ip.to_owned(),
                host_port: 32_768 + position as u16,
                container_port: port.split('/').next().and_then(|port| port.parse().ok()).unwrap_or_default(),
                protocol: Protocol::Tcp,
            })
        });
        let bindings = if container.state == RunState::Running { bindings.collect() } else { Vec::new() };
        let (docker_id, state, started_at) = (container.id.clone(), container.state.clone(), container.began);
        Ok(Inspection { docker_id, state, docker: self.life(), started_at, bindings, health: None })
    }

    fn remove(&mut self, key: &ContainerKey, target: &str) -> Result<(), DockerError> {
        if let Some(error) = self.refused("remove", &key.name) {
            return Err(error);
        }
        let name = self.named(target)?.spec.name.clone();
        let removed = self.containers.remove(&name);
        assert!(
            removed.is_none_or(|container| container.state != RunState::Running),
            "{key:?} is removed while it runs"
        );
        Ok(())
    }

    /// It answers, and says what there is.
    pub(super) fn ready(&self) -> Input {
        Input::DockerReady { docker: self.life(), found: self.found() }
    }

    pub(super) fn life(&self) -> Option<DockerLife> {
        Some(DockerLife(self.lives.to_string()))
    }

    fn found(&self) -> Vec<FoundContainer> {
        let found = self.containers.values().map(|container| FoundContainer {
            container: container.key.clone(),
            docker_id: container.id.clone(),
            running: container.state == RunState::Running,
        });
        found.collect()
    }

    pub(super) fn running(&self) -> usize {
        self.containers.values().filter(|container| container.state == RunState::Running).count()
    }
}

/// The containers whose namespaces this one lives in, by name.
fn joined(spec: &ContainerSpec) -> Vec<String> {
    let modes = ["PidMode", "IpcMode", "NetworkMode"].map(|mode| &spec.body["HostConfig"][mode]);
    let holders = modes.into_iter().filter_map(|mode| mode.as_str()?.strip_prefix("container:"));
    holders.map(str::to_owned).collect()
}

/// What the control plane knows of a task.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct View {
    pub(super) status: String,
    pub(super) reason: String,
    /// By name: status and exit code.
    pub(super) containers: BTreeMap<String, (String, Option<i32>, Option<String>)>,
}

/// An engine and everything around it.
#[derive(Debug)]
pub(super) struct World {
    pub(super) engine: Engine,
    pub(super) now: Timestamp,
    pub(super) docker: Docker,
    pub(super) host: Host,
    /// Actions not performed yet, in order.
    pub(super) todo: VecDeque<Action>,
    /// Results and news on their way.
    pub(super) news: VecDeque<Input>,
    pub(super) control_plane: BTreeMap<String, View>,
    /// What the next submits meet.
    pub(super) submit_outcomes: VecDeque<SubmitOutcome>,
    /// Tasks whose role's credentials this agent has.
    roles: BTreeSet<String>,
    /// What the next resources to be made come to, whatever they are.
    pub(super) makes: VecDeque<Result<Made, ResourceError>>,
    /// What the next removals of resources come to.
    pub(super) removals: VecDeque<Result<(), ResourceError>>,
    pub(super) trace: Vec<String>,
    pub(super) logs: Vec<String>,
    pub(super) last_submit: Option<SubmitTaskStateChangeRequest>,
    /// What becomes of containers once they run, for tests that look at many fates: a state, or none at all.
    pub(super) after_start: Option<Option<RunState>>,
    /// That of the next agent.
    pub(super) config: EngineConfig,
    disk: BTreeMap<String, Vec<u8>>,
    cache: BTreeMap<String, Vec<u8>>,
    timeline: i64,
    messages: i64,
    /// Since the agent's last crash, statuses must not go back.
    forward_only: bool,
}

impl World {
    pub(super) fn new(config: EngineConfig) -> Self {
        let mut docker = Docker { reachable: true, ..Docker::default() };
        docker
            .local_images
            .insert("img".to_owned(), ImageInfo { digest: Some("sha256:abc".to_owned()), pulled: false });
        docker.local_images.insert(crate::pause::image().to_owned(), ImageInfo { digest: None, pulled: false });
        let mut world = Self {
            engine: Engine::new(config.clone()),
            now: Timestamp::from_millis(1_000_000),
            docker,
            host: Host::default(),
            todo: VecDeque::new(),
            news: VecDeque::new(),
            control_plane: BTreeMap::new(),
            submit_outcomes: VecDeque::new(),
            roles: BTreeSet::new(),
            makes: VecDeque::new(),
            removals: VecDeque::new(),
            trace: Vec::new(),
            logs: Vec::new(),
            last_submit: None,
            after_start: None,
            config,
            disk: BTreeMap::new(),
            cache: BTreeMap::new(),
            timeline: 0,
            messages: 0,
            forward_only: true,
        };
        world.feed(Input::DockerReady { docker: world.docker.life(), found: Vec::new() });
        world
    }

    pub(super) fn feed(&mut self, input: Input) {
        if let Input::PrerequisiteCame { task_arn: Some(arn) } = &input {
            self.roles.insert(arn.clone());
        }
        let actions = self.engine.handle(self.now, input);
        self.todo.extend(actions);
        self.check();
    }

    pub(super) fn payload(&mut self, tasks: Vec<acs::Task>) {
        self.messages += 1;
        self.feed(Input::Payload(acs::PayloadMessage {
            message_id: format!("m{}", self.messages),
            cluster_arn: "arn:cluster".to_owned(),
            container_instance_arn: INSTANCE.to_owned(),
            seq_num: self.messages,
            tasks,
            ..acs::PayloadMessage::default()
        }));
    }

    /// Credentials of the task's role are on their way.
    pub(super) fn send_credentials(&mut self, task_arn: &str) {
        self.news.push_back(Input::PrerequisiteCame { task_arn: Some(task_arn.to_owned()) });
    }

    pub(super) fn manifest(&mut self, timeline: i64, tasks: &[&str]) {
        let tasks = tasks.iter().map(|arn| acs::TaskIdentifier {
            task_arn: (*arn).to_owned(),
            task_cluster_arn: "arn:cluster".to_owned(),
            desired_status: acs::DesiredStatus::Running,
        });
        self.feed(Input::Manifest(acs::TaskManifestMessage {
            message_id: format!("manifest{timeline}"),
            cluster_arn: "arn:cluster".to_owned(),
            container_instance_arn: INSTANCE.to_owned(),
            timeline,
            tasks: tasks.collect(),
            ..acs::TaskManifestMessage::default()
        }));
    }

    /// The process of a container ends by itself, and Docker's event stream says so.
    pub(super) fn exit(&mut self, task_arn: &str, name: &str, code: i32) {
        let key = key(task_arn, name);
        if self.docker.exit(&key, code, false, self.now) {
            self.news.push_back(Input::Died { container: key, exit_code: code });
        }
    }

    /// Performs one action.
    pub(super) fn perform(&mut self, action: Action) {
        self.trace.extend(line(&action));
        match action {
            Action::Save { record, durable } => {
                self.cache.insert(record.arn().to_owned(), record.to_json());
                if durable {
                    self.disk.clone_from(&self.cache);
                }
            }
            Action::Forget { task_arn } => {
                self.cache.remove(&task_arn);
            }
            Action::SaveTimeline(timeline) => self.timeline = timeline,
            Action::Reply(_) => {}
            Action::Log { message, .. } => self.logs.push(message),
            Action::InspectImage { container, image } => {
                let result = match self.docker.refused("image", &container.name) {
                    Some(error) => Err(error),
                    None => Ok(self.docker.local_images.get(&image).cloned()),
                };
                self.news.push_back(Input::ImageInspected { container, result });
            }
            Action::ResolveDigest { container, image, .. } => {
                let absent = || DockerError::NotFound(format!("{image} is in no registry"));
                let found = self.docker.registry.get(&image).cloned().and_then(Result::ok).and_then(|info| info.digest);
                let result = match self.docker.refused("digest", &container.name) {
                    Some(error) => Err(error),
                    None => found.ok_or_else(absent),
                };
                self.news.push_back(Input::DigestResolved { container, result });
            }
            Action::PullImage { container, image, login, .. } => {
                self.docker.pulls.push((image.clone(), login));
                let unknown = Err(PullError::Refused(format!("pull access denied for {image}")));
                let result = self.docker.registry.get(&image).cloned().unwrap_or(unknown);
                let result = if self.docker.reachable { result } else { Err(PullError::Docker("down".to_owned())) };
                if let Ok(info) = &result {
                    self.docker.local_images.insert(image, ImageInfo { pulled: true, ..info.clone() });
                }
                self.news.push_back(Input::ImagePulled { container, result });
            }
            Action::Create { container, spec, .. } => {
                self.check_secrets(&container, &spec);
                self.host.check(&spec);
                let result = self.docker.create(&container, *spec);
                self.news.push_back(Input::Created { container, result });
            }
            Action::Start { container, docker_id, .. } => {
                if let Ok(known) = self.docker.named(&docker_id) {
                    self.host.check(&known.spec);
                }
                let result = self.docker.start(&container, &docker_id, self.now);
                self.news.push_back(Input::Started { container, result });
            }
            Action::Stop { container, target, .. } => {
                let result = self.docker.stop(&container, &target, self.now);
                self.news.push_back(Input::Stopped { container, result });
            }
            Action::Inspect { container, target } => {
                let result = self.docker.inspect(&container, &target);
                self.news.push_back(Input::Inspected { container, result });
            }
            Action::Remove { container, target } => {
                let result = self.docker.remove(&container, &target);
                self.news.push_back(Input::Removed { container, result });
            }
            Action::MakeResource { task_arn, key, spec } => {
                let result = match self.makes.pop_front() {
                    Some(Err(error)) => Err(error),
                    Some(Ok(made)) => {
                        self.host.make(&spec);
                        Ok(made)
                    }
                    None => self.make(&task_arn, &spec),
                };
                self.news.push_back(Input::ResourceMade { task_arn, key, result });
            }
            Action::RemoveResource { task_arn, key, spec } => {
                let result = self.removals.pop_front().unwrap_or(Ok(()));
                if result.is_ok() {
                    self.host.remove(&spec, self.docker.containers.values());
                }
                self.news.push_back(Input::ResourceRemoved { task_arn, key, result });
            }
            Action::FindContainers { task_arn } => {
                let result = match self.docker.refused("find", &task_arn) {
                    Some(error) => Err(error),
                    None => Ok(self.docker.found().into_iter().filter(|f| f.container.task_arn == task_arn).collect()),
                };
                self.news.push_back(Input::ContainersFound { task_arn, result });
            }
            Action::Submit { task_arn, change } => {
                let outcome = self.submit_outcomes.pop_front().unwrap_or(SubmitOutcome::Accepted);
                if outcome == SubmitOutcome::Accepted {
                    self.accept(&change);
                }
                self.last_submit = Some(*change);
                self.news.push_back(Input::Submitted { task_arn, outcome });
            }
        }
    }

    /// Secrets take credentials of the task's role.
    fn make(&mut self, task_arn: &str, spec: &ResourceSpec) -> Result<Made, ResourceError> {
        let ResourceSpec::Secrets(wanted) = spec else { return Ok(self.host.make(spec)) };
        if !self.roles.contains(task_arn) {
            return Err(ResourceError::NotYet("no credentials yet".to_owned()));
        }
        let mut made = Made::default();
        for secret in wanted {
            let provided = made.provided.entry(secret.container.clone()).or_default();
            provided.environment.insert(secret.name.clone(), "hidden".to_owned());
        }
        Ok(made)
    }

    /// No container is created without its secrets.
    fn check_secrets(&self, key: &ContainerKey, spec: &ContainerSpec) {
        let definition = self.engine.task(&key.task_arn).map(|task| &task.definition.containers);
        let container = definition.into_iter().flatten().find(|container| container.name == key.name);
        for secret in container.into_iter().flat_map(|container| &container.secrets) {
            let given = spec.body["Env"].as_array().into_iter().flatten().filter_map(|variable| variable.as_str());
            let mut names = given.filter_map(|variable| variable.split('=').next());
            assert!(names.any(|name| name == secret.name), "{key:?} is created without {}", secret.name);
        }
    }

    fn accept(&mut self, change: &SubmitTaskStateChangeRequest) {
        let rank = |status: &str| ["", "PENDING", "RUNNING", "STOPPED"].iter().position(|known| *known == status);
        let arn = change.task.clone().unwrap_or_default();
        let view = self.control_plane.entry(arn.clone()).or_default();
        let status = change.status.clone().unwrap_or_default();
        if self.forward_only && view.status != "STOPPED" {
            assert!(rank(&status) >= rank(&view.status), "{arn} goes from {} back to {status}", view.status);
        }
        if rank(&status) < rank(&view.status) {
            return;
        }
        view.status = status;
        view.reason = change.reason.clone().unwrap_or_default();
        for container in change.containers.iter().flatten() {
            let status = container.status.clone().unwrap_or_default();
            let seen = view.containers.entry(container.container_name.clone().unwrap_or_default()).or_default();
            if rank(&status) >= rank(&seen.0) {
                *seen = (status, container.exit_code, container.reason.clone());
            }
        }
    }

    /// Performs and delivers everything, in order, without letting time pass.
    pub(super) fn settle(&mut self) {
        for _ in 0..10_000 {
            if let Some(action) = self.todo.pop_front() {
                self.perform(action);
            } else if let Some(news) = self.news.pop_front() {
                self.feed(news);
            } else {
                return;
            }
        }
        panic!("the engine does not come to rest: {:?}", &self.trace[self.trace.len() - 20..]);
    }

    /// Lets time pass, deadline by deadline.
    pub(super) fn pass(&mut self, ms: i64) {
        let until = self.now.plus_millis(ms);
        self.settle();
        while let Some(at) = self.engine.next_deadline().filter(|at| *at <= until) {
            self.now = self.now.max(at);
            self.feed(Input::Tick);
            self.settle();
        }
        self.now = until;
    }

    /// The agent dies. What it was about to do is not done; what it did not make sure of may be lost. Another one starts.
    pub(super) fn crash(&mut self, lose_unsynced: bool) {
        if lose_unsynced {
            self.cache.clone_from(&self.disk);
        } else {
            self.disk.clone_from(&self.cache);
        }
        self.todo.clear();
        self.news.clear();
        self.roles.clear();
        self.forward_only = false;
        self.engine = Engine::new(self.config.clone());
        let records = self.disk.values().map(|bytes| TaskRecord::from_json(bytes).expect("a saved record reads"));
        self.engine.restore(records.collect(), self.timeline);
        if self.docker.reachable {
            let ready = self.docker.ready();
            self.feed(ready);
        }
    }

    /// The machine starts anew: nothing runs any more, and what the kernel kept is gone.
    pub(super) fn reboot(&mut self) {
        let keys: Vec<_> = self.docker.containers.values().map(|container| container.key.clone()).collect();
        for key in &keys {
            self.docker.exit(key, 137, false, self.now);
        }
        self.docker.lives += 1;
        self.host.reboot();
        self.crash(true);
    }

    /// The agent's records are lost.
    pub(super) fn forget_everything(&mut self) {
        self.cache.clear();
        self.disk.clear();
    }

    /// What must hold at any time.
    fn check(&self) {
        for record in self.engine.tasks() {
            let least = record.containers.iter().map(|container| container.known).min().unwrap_or(Status::Stopped);
            assert!(record.known <= least, "{} is ahead of its containers", record.arn());
            assert!(record.reported <= Status::Stopped.min(record.known.max(Status::Running)));
        }
    }

    /// The trace since the last look.
    #[track_caller]
    pub(super) fn expect(&mut self, expected: &[&str]) {
        self.settle();
        let trace = std::mem::take(&mut self.trace);
        assert_eq!(trace, expected);
    }
}

/// One line of trace per action; none for what says nothing about behaviour.
fn line(action: &Action) -> Option<String> {
    Some(match action {
        Action::Save { durable: false, .. } | Action::Log { .. } => return None,
        Action::Save { .. } => "save".to_owned(),
        Action::Forget { task_arn } => format!("forget {task_arn}"),
        Action::SaveTimeline(timeline) => format!("timeline {timeline}"),
        Action::Reply(acs::AgentMessage::Ack(ack)) => format!("ack {}", ack.message_id),
        Action::Reply(acs::AgentMessage::TaskStopVerification(verification)) => {
            let arns: Vec<_> = verification.stop_candidates.iter().map(|task| task.task_arn.as_str()).collect();
            format!("candidates {} {}", verification.message_id, arns.join(" "))
        }
        Action::Reply(other) => format!("reply {}", other.type_name()),
        Action::InspectImage { image, .. } => format!("look for {image}"),
        Action::ResolveDigest { image, .. } => format!("digest of {image}"),
        Action::PullImage { image, .. } => format!("pull {image}"),
        Action::Create { container, .. } => format!("create {}", container.name),
        Action::Start { container, .. } => format!("start {}", container.name),
        Action::Stop { container, grace_s, .. } => format!("stop {} {grace_s}", container.name),
        Action::Inspect { container, .. } => format!("inspect {}", container.name),
        Action::Remove { container, .. } => format!("remove {}", container.name),
        Action::MakeResource { key, .. } => format!("make {key:?}"),
        Action::RemoveResource { key, .. } => format!("unmake {key:?}"),
        Action::FindContainers { task_arn } => format!("find {task_arn}"),
        Action::Submit { change, .. } => {
            let mut line = format!("submit {}", change.status.clone().unwrap_or_default());
            for container in change.containers.iter().flatten() {
                let name = container.container_name.as_deref().unwrap_or_default();
                line += &format!(" {name}={}", container.status.as_deref().unwrap_or_default());
                line += &container.exit_code.map(|code| format!("({code})")).unwrap_or_default();
                line += &container.reason.as_ref().map(|why| format!("<{why}>")).unwrap_or_default();
            }
            match change.reason.as_deref() {
                None | Some("") => line,
                Some(reason) => format!("{line} because {reason}"),
            }
        }
    })
}

pub(super) fn new_world() -> World {
    World::new(config())
}

/// A world in which task `t` has been started; its beginning is not in the trace.
pub(super) fn running(containers: Vec<acs::Container>) -> World {
    let mut world = new_world();
    world.payload(vec![task("t", containers)]);
    world.settle();
    assert_eq!(world.control_plane["t"].status, "RUNNING");
    world.trace.clear();
    world
}
