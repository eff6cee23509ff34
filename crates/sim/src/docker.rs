//! A machine and its Docker Engine, as far as agents see it. It survives its agents.
//!
//! What a container does is written in the name of its image, see [`crate::catalog`].

use std::collections::{BTreeMap, BTreeSet};

use longshore_agent::engine::{
    Action, ContainerKey, ContainerSpec, DockerError, DockerLife, FoundContainer, Health, HealthStatus, ImageInfo,
    Input, Inspection, Made, PortBinding, Protocol, PullError, RunState,
};
use longshore_api::Timestamp;
use serde_json::Value;

use crate::brain::Kind;
use crate::catalog::Behaviour;
use crate::clock::Clock;
use crate::event::{Event, Life};
use crate::network::Link;
use crate::oracle::{Step, Violation, broken};
use crate::plan::Sabotage;
use crate::random::Random;
use crate::world::World;

/// The longest that Docker takes for anything but a pull. Agents come back later than this after a crash, so that
/// nothing of an earlier agent is under way when the next one looks.
pub(crate) const LONGEST_CALL_MS: i64 = 1_500;

#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) name: String,
    /// Whether Docker answers.
    pub(crate) up: bool,
    /// How often Docker was started anew.
    lives: u32,
    /// The machine is gone for good.
    pub(crate) gone: bool,
    pub(crate) clock: Clock,
    /// When its clock was set last.
    pub(crate) clock_set_at: Option<Timestamp>,
    pub(crate) link: Link,
    pub(crate) link_whole_at: Timestamp,
    /// The access key that it got by joining.
    pub(crate) identity: Option<String>,
    /// How often it was made to join anew.
    pub(crate) joins: u32,
    random: Random,
    images: BTreeSet<String>,
    /// By name.
    pub(crate) containers: BTreeMap<String, Container>,
    next_id: u64,
}

#[derive(Debug)]
pub(crate) struct Container {
    pub(crate) id: String,
    pub(crate) key: ContainerKey,
    pub(crate) instance_arn: String,
    behaviour: Behaviour,
    wanted_ports: Vec<(Option<u16>, u16, Protocol)>,
    ports: Vec<PortBinding>,
    pub(crate) state: State,
    pub(crate) starts: u32,
    started_at: Option<Timestamp>,
    /// What it was before it was last started.
    before: Option<(State, Option<Timestamp>)>,
    healthy: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Created,
    Running,
    Exited { code: i32, out_of_memory: bool, at: Timestamp, error: Option<String> },
}

impl Host {
    pub(crate) fn new(name: String, random: Random) -> Self {
        Self {
            name,
            up: true,
            lives: 0,
            gone: false,
            clock: Clock::default(),
            clock_set_at: None,
            link: Link::Whole,
            link_whole_at: Timestamp::from_millis(0),
            identity: None,
            joins: 0,
            random,
            images: BTreeSet::new(),
            containers: BTreeMap::new(),
            next_id: 0,
        }
    }

    fn find(&mut self, target: &str) -> Option<&mut Container> {
        self.containers.values_mut().find(|container| container.id == target)
    }

    fn by_target(&mut self, target: &str) -> Result<&mut Container, DockerError> {
        match self.containers.contains_key(target) {
            true => self.containers.get_mut(target),
            false => self.find(target),
        }
        .ok_or_else(|| DockerError::NotFound(format!("No such container: {target}")))
    }

    /// Which Docker it is now.
    pub(crate) fn docker(&self) -> Option<DockerLife> {
        Some(DockerLife(self.lives.to_string()))
    }

    /// What an instance finds of its own.
    pub(crate) fn list(&self, instance_arn: &str) -> Vec<FoundContainer> {
        let theirs = self.containers.values().filter(|container| container.instance_arn == instance_arn);
        theirs
            .map(|container| FoundContainer {
                container: container.key.clone(),
                docker_id: container.id.clone(),
                running: container.state == State::Running,
            })
            .collect()
    }

    /// Ports bound now, and by whom.
    fn bound(&self) -> BTreeMap<(Protocol, u16), ContainerKey> {
        let running = self.containers.values().filter(|container| container.state == State::Running);
        let ports = running.flat_map(|container| container.ports.iter().map(|port| (container.key.clone(), port)));
        ports.map(|(key, port)| ((port.protocol, port.host_port), key)).collect()
    }

    /// Somebody removes every container of an instance by force.
    pub(crate) fn wipe(&mut self, instance_arn: &str) -> Vec<ContainerKey> {
        let theirs = self.containers.extract_if(.., |_, container| container.instance_arn == instance_arn);
        theirs.map(|(_, container)| container.key).collect()
    }

    /// Power fails: every process ends.
    pub(crate) fn power_fails(&mut self, now: Timestamp) -> Vec<ContainerKey> {
        let at = self.clock.read(now);
        let mut ended = Vec::new();
        for container in self.containers.values_mut().filter(|container| container.state == State::Running) {
            container.state = State::Exited { code: 137, out_of_memory: false, at, error: None };
            ended.push(container.key.clone());
        }
        ended
    }
}

impl Container {
    /// What Docker says of it. An agent that does not look takes what once ran for running.
    fn inspection(&self, unverified: bool, docker: Option<DockerLife>) -> Inspection {
        Inspection {
            docker_id: self.id.clone(),
            state: match &self.state {
                State::Created => RunState::Created,
                State::Running => RunState::Running,
                State::Exited { .. } if unverified && self.starts > 0 => RunState::Running,
                State::Exited { code, out_of_memory, at, error } => RunState::Exited {
                    exit_code: *code,
                    oom_killed: *out_of_memory,
                    finished_at: Some(*at),
                    error: error.clone(),
                    started: self.starts > 0,
                },
            },
            docker,
            started_at: self.started_at,
            bindings: if self.state == State::Running { self.ports.clone() } else { Vec::new() },
            health: self.behaviour.checks_health().then_some(Health {
                status: if self.healthy { HealthStatus::Healthy } else { HealthStatus::Unknown },
                output: None,
            }),
        }
    }
}

/// The ports that a container asks for: host port if fixed, container port, protocol.
fn wanted_ports(body: &Value) -> Vec<(Option<u16>, u16, Protocol)> {
    let bindings = body["HostConfig"]["PortBindings"].as_object();
    let mut wanted = Vec::new();
    for (name, hosts) in bindings.into_iter().flatten() {
        let (port, protocol) = name.split_once('/').unwrap_or((name, "tcp"));
        let protocol = if protocol == "udp" { Protocol::Udp } else { Protocol::Tcp };
        for host in hosts.as_array().into_iter().flatten() {
            let fixed = host["HostPort"].as_str().and_then(|text| text.parse().ok());
            wanted.push((fixed, port.parse().unwrap_or_default(), protocol));
        }
    }
    wanted
}

fn label(body: &Value, name: &str) -> String {
    body["Labels"][name].as_str().unwrap_or_default().to_owned()
}

impl World {
    /// How long Docker takes for an action.
    pub(crate) fn docker_takes(&mut self, host: usize, action: &Action) -> i64 {
        let random = &mut self.hosts[host].random;
        match action {
            Action::PullImage { image, .. } if Behaviour::of(image) == Behaviour::SlowPull => {
                random.between(5_000, 40_000)
            }
            Action::PullImage { .. } => random.between(20, 3_000),
            Action::Stop { grace_s, .. } if random.per_mille(200) => grace_s * 1_000,
            _ if random.per_mille(100) => random.between(1, LONGEST_CALL_MS),
            _ => random.between(1, 60),
        }
    }

    /// Docker carries an action out; the answer goes to the agent that asked, if it still lives.
    pub(crate) fn docker_does(&mut self, agent: usize, life: Life, action: Action) -> Step {
        let host = self.agents[agent].host;
        let errors = self.weather.docker_errors;
        let up = self.hosts[host].up;
        let fails = self.hosts[host].random.per_mille(errors);
        // What Docker was doing when it went away, or took too long over, it may or may not have done.
        let done_anyway = self.hosts[host].random.per_mille(500);
        let broke_off = self.hosts[host].random.per_mille(500);
        let trouble = match (up, fails, broke_off) {
            (true, false, _) => None,
            (false, _, _) => Some(DockerError::Unreached("connection refused".to_owned())),
            (true, true, true) => Some(DockerError::Unavailable("connection closed".to_owned())),
            (true, true, false) => Some(DockerError::Timeout),
        };
        let arn = container_of(&action).map(|key| key.task_arn.clone()).unwrap_or_default();
        let input = match trouble {
            None => self.docker_answers(agent, action)?,
            Some(error) => {
                // A failed start or stop is a reason for a task to end.
                self.oracle.excuse(&arn);
                let input = action.failed(error);
                if up && done_anyway && !matches!(action, Action::PullImage { .. }) {
                    self.docker_answers(agent, action.clone())?;
                    if broke_off && let Action::Start { docker_id, .. } = action {
                        self.docker_killed_in_start(agent, &docker_id);
                    }
                }
                input
            }
        };
        let back = self.hosts[host].random.between(0, 20);
        self.after(back, Event::AgentInput(agent, life, Box::new(input)));
        Ok(())
    }

    fn docker_answers(&mut self, agent: usize, action: Action) -> Result<Input, Violation> {
        let host = self.agents[agent].host;
        Ok(match action {
            Action::InspectImage { container, image } => {
                let found = self.hosts[host].images.contains(&image);
                Input::ImageInspected { container, result: Ok(found.then(|| info(&image))) }
            }
            Action::ResolveDigest { container, image, .. } => {
                let result = match Behaviour::of(&image) {
                    Behaviour::NoSuchImage => Err(DockerError::NotFound(format!("{image} is in no registry"))),
                    _ => Ok(digest(&image)),
                };
                Input::DigestResolved { container, result }
            }
            Action::PullImage { container, image, .. } => {
                let result = self.pull(host, &container, &image);
                Input::ImagePulled { container, result }
            }
            Action::Create { container, spec, .. } => {
                let result = self.create(agent, &container, &spec)?;
                Input::Created { container, result }
            }
            Action::Start { container, docker_id, .. } => {
                let result = self.start(agent, &container, &docker_id)?;
                Input::Started { container, result }
            }
            Action::Stop { container, target, .. } => {
                let result = self.stop(host, &container, &target)?;
                Input::Stopped { container, result }
            }
            Action::Inspect { container, target } => {
                let unverified = self.plan.sabotage == Some(Sabotage::AdoptUnverified);
                let docker = self.hosts[host].docker();
                let result = self.hosts[host].by_target(&target).map(|found| found.inspection(unverified, docker));
                Input::Inspected { container, result }
            }
            Action::Remove { container, target } => {
                let result = self.remove(host, &target);
                Input::Removed { container, result }
            }
            Action::FindContainers { task_arn } => {
                let arn = self.agents[agent].disk.instance_arn.as_deref().unwrap_or_default();
                let mut found = self.hosts[host].list(arn);
                found.retain(|found| found.container.task_arn == task_arn);
                Input::ContainersFound { task_arn, result: Ok(found) }
            }
            Action::MakeResource { task_arn, key, .. } => {
                Input::ResourceMade { task_arn, key, result: Ok(Made::default()) }
            }
            Action::RemoveResource { task_arn, key, .. } => Input::ResourceRemoved { task_arn, key, result: Ok(()) },
            other => return Err(Violation::new(0, format!("{other:?} is nothing for Docker"))),
        })
    }

    fn pull(&mut self, host: usize, container: &ContainerKey, image: &str) -> Result<ImageInfo, PullError> {
        let host = &mut self.hosts[host];
        match Behaviour::of(image) {
            Behaviour::NoSuchImage => {
                self.oracle.excuse(&container.task_arn);
                Err(PullError::Refused(format!("pull access denied for {image}")))
            }
            Behaviour::FlakyPull if host.random.per_mille(500) => {
                self.oracle.excuse(&container.task_arn);
                Err(PullError::Registry("i/o timeout".to_owned()))
            }
            _ => {
                host.images.insert(image.to_owned());
                Ok(info(image))
            }
        }
    }

    fn create(
        &mut self,
        agent: usize,
        key: &ContainerKey,
        spec: &ContainerSpec,
    ) -> Result<Result<String, DockerError>, Violation> {
        let agent = &self.agents[agent];
        // The official agent does not say in a label whose a container is.
        let instance_arn = match agent.kind {
            Kind::Ours => label(&spec.body, "longshore.container-instance-arn"),
            Kind::Official => agent.disk.instance_arn.clone().unwrap_or_default(),
        };
        let known = &mut self.hosts[agent.host];
        if known.containers.contains_key(&spec.name) {
            return Ok(Err(DockerError::NameInUse(format!("The container name \"/{}\" is already in use", spec.name))));
        }
        let image = spec.body["Image"].as_str().unwrap_or_default();
        let behaviour = Behaviour::of(image);
        if behaviour == Behaviour::NoCreate {
            self.oracle.excuse(&key.task_arn);
            return Ok(Err(DockerError::Failed("invalid mount config".to_owned())));
        }
        known.next_id += 1;
        let id = format!("{}-{:04}", known.name, known.next_id);
        let container = Container {
            id: id.clone(),
            key: ContainerKey {
                task_arn: label(&spec.body, "com.amazonaws.ecs.task-arn"),
                name: label(&spec.body, "com.amazonaws.ecs.container-name"),
            },
            instance_arn,
            behaviour,
            wanted_ports: wanted_ports(&spec.body),
            ports: Vec::new(),
            state: State::Created,
            starts: 0,
            started_at: None,
            before: None,
            healthy: false,
        };
        if container.key != *key {
            return broken(2, format!("the labels of {} say {:?}, it is for {key:?}", spec.name, container.key));
        }
        self.oracle.created(key, &container.instance_arn)?;
        known.containers.insert(spec.name.clone(), container);
        Ok(Ok(id))
    }

    fn start(&mut self, agent: usize, key: &ContainerKey, target: &str) -> Result<Result<(), DockerError>, Violation> {
        let index = self.agents[agent].host;
        let at = self.hosts[index].clock.read(self.now);
        let host = &mut self.hosts[index];
        let bound = host.bound();
        let container = match host.by_target(target) {
            Ok(container) => container,
            Err(missing) => return Ok(Err(missing)),
        };
        if container.state == State::Running {
            return Ok(Ok(()));
        }
        if container.behaviour == Behaviour::NoStart {
            let error = "exec: \"nothing\": executable file not found".to_owned();
            let (at, out_of_memory) = (at, false);
            container.state = State::Exited { code: 127, out_of_memory, at, error: Some(error.clone()) };
            self.oracle.excuse(&key.task_arn);
            return Ok(Err(DockerError::Failed(error)));
        }
        let mut dynamic = 32_768;
        let mut ports = Vec::new();
        for (fixed, container_port, protocol) in container.wanted_ports.clone() {
            let host_port = match fixed {
                Some(port) if bound.contains_key(&(protocol, port)) => {
                    let holder = &bound[&(protocol, port)];
                    // Whoever deregisters a machine without its agent says that nothing runs there any more.
                    if !self.oracle.is_given_back(holder) {
                        return broken(3, format!("host port {port} is {holder:?}'s when {key:?} wants it"));
                    }
                    self.oracle.excuse(&key.task_arn);
                    return Ok(Err(DockerError::Failed(format!(
                        "Bind for 0.0.0.0:{port} failed: port is already allocated"
                    ))));
                }
                Some(port) => port,
                None => {
                    while bound.contains_key(&(protocol, dynamic)) {
                        dynamic += 1;
                    }
                    dynamic += 1;
                    dynamic - 1
                }
            };
            ports.push(PortBinding { host_ip: "0.0.0.0".to_owned(), host_port, container_port, protocol });
        }
        container.ports = ports;
        container.before = Some((std::mem::replace(&mut container.state, State::Running), container.started_at));
        container.starts += 1;
        container.started_at = Some(at);
        let (id, behaviour, starts) = (container.id.clone(), container.behaviour, container.starts);
        let clock_set_at = self.hosts[index].clock_set_at;
        let instance_arn = self.agents[agent].disk.instance_arn.clone().unwrap_or_default();
        self.oracle.started(key, &instance_arn, behaviour.restart_policy(), clock_set_at, self.now)?;
        self.live(index, id, behaviour, starts);
        Ok(Ok(()))
    }

    /// Plans what a process will do that was started, not for the first time perhaps.
    fn live(&mut self, host: usize, id: String, behaviour: Behaviour, starts: u32) {
        let random = &mut self.hosts[host].random;
        if behaviour.checks_health() {
            let healthy_in = random.between(500, 8_000);
            self.after(healthy_in, Event::ContainerHealthy { host, id: id.clone() });
        }
        let random = &mut self.hosts[host].random;
        if let Some((exit_code, out_of_memory, lasts)) = behaviour.end(random, starts) {
            self.after(lasts, Event::ContainerEnds { host, id, exit_code, out_of_memory });
        }
    }

    fn stop(&mut self, host: usize, key: &ContainerKey, target: &str) -> Result<Result<(), DockerError>, Violation> {
        let now = self.hosts[host].clock.read(self.now);
        let container = match self.hosts[host].by_target(target) {
            Ok(container) => container,
            Err(missing) => return Ok(Err(missing)),
        };
        if container.state == State::Running {
            container.state = State::Exited { code: 143, out_of_memory: false, at: now, error: None };
            self.oracle.stopped_by_agent(key, now)?;
            self.oracle.stopped(key, self.now);
            self.died(host, key.clone(), 143);
        }
        Ok(Ok(()))
    }

    fn remove(&mut self, host: usize, target: &str) -> Result<(), DockerError> {
        let host = &mut self.hosts[host];
        let found = host.by_target(target)?;
        let (id, running) = (found.id.clone(), found.state == State::Running);
        if running {
            return Err(DockerError::Failed(format!("You cannot remove a running container {id}. Stop it first")));
        }
        host.containers.retain(|_, container| container.id != id);
        Ok(())
    }

    /// Docker's event stream says that a container died; an agent that listens hears it.
    fn died(&mut self, host: usize, container: ContainerKey, exit_code: i32) {
        self.news(host, Input::Died { container, exit_code });
    }

    fn news(&mut self, host: usize, input: Input) {
        if !self.hosts[host].up {
            return;
        }
        let (Input::Died { container, .. } | Input::HealthChanged { container, .. }) = &input else { return };
        let owner = self.hosts[host].containers.values().find(|known| known.key == *container);
        let owner = owner.map(|container| container.instance_arn.clone());
        let listening = self.agents.iter().enumerate().find(|(_, agent)| agent.disk.instance_arn == owner);
        if let Some((index, life)) = listening.and_then(|(index, agent)| Some((index, agent.brain_life()?))) {
            let delay = self.hosts[host].random.between(0, 300);
            self.after(delay, Event::AgentInput(index, life, Box::new(input)));
        }
    }

    pub(crate) fn container_ends(&mut self, host: usize, id: &str, exit_code: i32, out_of_memory: bool) {
        let now = self.hosts[host].clock.read(self.now);
        let Some(container) = self.hosts[host].find(id).filter(|container| container.state == State::Running) else {
            return;
        };
        container.state = State::Exited { code: exit_code, out_of_memory, at: now, error: None };
        let key = container.key.clone();
        self.trace(format_args!("container {id} ends with {exit_code}"));
        self.oracle.excuse(&key.task_arn);
        self.oracle.ended(&key, exit_code, self.now);
        self.died(host, key, exit_code);
    }

    /// Somebody removes a container by force.
    pub(crate) fn container_removed(&mut self, host: usize) {
        let known = &mut self.hosts[host];
        let names: Vec<String> = known.containers.keys().cloned().collect();
        let Some(name) = known.random.pick(&names) else { return };
        let Some(container) = known.containers.get(name) else { return };
        let (key, ran) = (container.key.clone(), container.state == State::Running);
        self.trace(format_args!("container {name} is removed by a stranger"));
        self.oracle.excuse(&key.task_arn);
        if ran {
            self.died(host, key, 137);
        }
        self.hosts[host].containers.remove(name);
    }

    pub(crate) fn container_healthy(&mut self, host: usize, id: &str) {
        let Some(container) = self.hosts[host].find(id).filter(|container| container.state == State::Running) else {
            return;
        };
        container.healthy = true;
        let key = container.key.clone();
        let health = Health { status: HealthStatus::Healthy, output: None };
        self.news(host, Input::HealthChanged { container: key, health });
    }

    /// Docker restarts; containers run on.
    pub(crate) fn docker_restarts(&mut self, host: usize) {
        if std::mem::take(&mut self.hosts[host].up) {
            let down_ms = self.hosts[host].random.between(500, 20_000);
            self.trace(format_args!("Docker of host {host} is gone for {down_ms} ms"));
            self.after(down_ms, Event::DockerUp(host));
        }
    }

    /// Docker was killed before it noted that it had started a container: the process is gone with it, and the next Docker
    /// says that it never was. Sometimes the agent dies, too. The official agent starts such a container again.
    fn docker_killed_in_start(&mut self, agent: usize, id: &str) {
        let host = self.agents[agent].host;
        if self.agents[agent].kind == Kind::Official || !self.hosts[host].random.per_mille(500) {
            return;
        }
        let Some(started) = self.hosts[host].find(id).filter(|container| container.state == State::Running) else {
            return;
        };
        (started.state, started.started_at) = started.before.take().unwrap_or((State::Created, None));
        let key = started.key.clone();
        self.oracle.over(&key);
        self.trace(format_args!("Docker of host {host} is killed while it starts {id}"));
        self.docker_restarts(host);
        if self.hosts[host].random.per_mille(500) {
            self.agent_crashes(agent, false);
        }
    }

    pub(crate) fn docker_up(&mut self, host: usize) {
        if std::mem::replace(&mut self.hosts[host].up, true) {
            return;
        }
        self.hosts[host].lives += 1;
        self.trace(format_args!("Docker of host {host} is back"));
        for agent in 0..self.agents.len() {
            if self.agents[agent].host == host
                && let Some(life) = self.agents[agent].brain_life()
            {
                self.after(50, Event::AgentLooksAtDocker(agent, life));
            }
        }
    }
}

fn info(image: &str) -> ImageInfo {
    ImageInfo { digest: Some(digest(image)), pulled: true }
}

fn digest(image: &str) -> String {
    format!("sha256:{:0>64}", image.len())
}

fn container_of(action: &Action) -> Option<&ContainerKey> {
    match action {
        Action::InspectImage { container, .. }
        | Action::ResolveDigest { container, .. }
        | Action::PullImage { container, .. }
        | Action::Create { container, .. }
        | Action::Start { container, .. }
        | Action::Stop { container, .. }
        | Action::Inspect { container, .. }
        | Action::Remove { container, .. } => Some(container),
        Action::MakeResource { .. }
        | Action::RemoveResource { .. }
        | Action::FindContainers { .. }
        | Action::Save { .. }
        | Action::Forget { .. }
        | Action::SaveTimeline(_)
        | Action::Reply(_)
        | Action::Submit { .. }
        | Action::Log { .. } => None,
    }
}
