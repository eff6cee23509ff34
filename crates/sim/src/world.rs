//! The world: simulated time, a queue of events, and everybody in it.

use std::collections::BTreeMap;
use std::fmt;

use longshore_api::Timestamp;
use longshore_core::CellConfig;

use crate::agent::Agent;
use crate::catalog::CLUSTERS;
use crate::client::Clients;
use crate::docker::{Host, State};
use crate::event::Event;
use crate::network::Network;
use crate::operator::Errand;
use crate::oracle::{Oracle, Step, Violation, broken};
use crate::plan::Plan;
use crate::random::Random;
use crate::server::{SLOW_COMMIT_MS, Server};
use crate::trace::Trace;
use crate::weather::Weather;

/// When every run begins.
const EPOCH: Timestamp = Timestamp::from_millis(1_700_000_000_000);
/// The cell's state is recounted every so many events.
const RECOUNT_EVERY: u64 = 64;
/// No run of this size has so many events: somebody goes round in circles.
const MOST_EVENTS: u64 = 1_000_000;
/// Once nothing fails any more, everything has come to rest after this long. The longest waits are a connection's
/// silence (1 min), a pause between dials (30 s), and an engine's pause between attempts on Docker (200 s).
const SETTLES_IN_MS: i64 = 900_000;
/// How long the rest is watched.
const WATCHED_MS: i64 = 300_000;

#[derive(Debug)]
pub(crate) struct World {
    pub(crate) plan: Plan,
    pub(crate) weather: Weather,
    pub(crate) now: Timestamp,
    queue: BTreeMap<(Timestamp, u64), Event>,
    queued: u64,
    pub(crate) events: u64,
    /// The storm is over.
    pub(crate) calm: bool,
    trace: Trace,
    pub(crate) chaos: Random,
    pub(crate) operator: Random,
    /// By cluster.
    pub(crate) join_tokens: BTreeMap<&'static str, String>,
    /// Instances whose machine is another by now.
    pub(crate) abandoned: Vec<(&'static str, String)>,
    pub(crate) server: Server,
    pub(crate) network: Network,
    pub(crate) hosts: Vec<Host>,
    pub(crate) agents: Vec<Agent>,
    pub(crate) clients: Clients,
    pub(crate) oracle: Oracle,
    /// Snapshots published so far.
    pub(crate) published: u64,
    pub(crate) faults: u64,
    /// Instances that were given up, and that came back.
    pub(crate) losses: u64,
    pub(crate) returns: u64,
}

impl World {
    pub(crate) fn new(plan: Plan) -> Self {
        let seed = plan.seed;
        let weather = Weather::of(seed);
        let config = CellConfig {
            retention: weather.retention,
            loss: weather.loss,
            ..CellConfig::new("us-east-1", "000000000000")
        };
        let hosts: Vec<Host> = (0..weather.hosts)
            .map(|host| Host::new(format!("host-{host}"), Random::of(seed, &format!("docker {host}"))))
            .collect();
        let agents = weather
            .homes
            .iter()
            .enumerate()
            .map(|(index, (host, kind, cluster))| {
                Agent::new(*host, *kind, cluster, Random::of(seed, &format!("agent {index}")))
            })
            .collect();
        Self {
            plan,
            now: EPOCH,
            queue: BTreeMap::new(),
            queued: 0,
            events: 0,
            calm: false,
            trace: Trace::new(EPOCH, plan.loud),
            chaos: Random::of(seed, "chaos"),
            operator: Random::of(seed, "operator"),
            join_tokens: BTreeMap::new(),
            abandoned: Vec::new(),
            server: Server::new(config, Random::of(seed, "server")),
            network: Network::new(Random::of(seed, "network")),
            hosts,
            agents,
            clients: Clients::new(Random::of(seed, "clients"), weather.clients),
            oracle: Oracle::new(weather.retention, weather.loss, weather.commit_ms),
            published: 0,
            faults: 0,
            losses: 0,
            returns: 0,
            weather,
        }
    }

    /// Lives through the storm and what follows.
    pub(crate) fn run(&mut self) -> Step {
        self.after(0, Event::ServerStart);
        for agent in 0..self.agents.len() {
            self.after(100 * agent as i64, Event::AgentStart(agent));
        }
        for client in 0..self.weather.clients {
            self.after(500 * client as i64, Event::ClientWakes(client));
        }
        let joined = self.weather.joined;
        for cluster in CLUSTERS.into_iter().filter(|_| joined) {
            self.after(0, Event::Errand(Box::new(Errand::Token(cluster))));
        }
        self.after(5_000, Event::Fault);
        self.after(10_000, Event::OperatorWakes);
        self.after(self.plan.storm_ms, Event::StormEnds);
        let settled = EPOCH.plus_millis(self.plan.storm_ms + SETTLES_IN_MS);
        self.run_until(settled)?;
        self.check_settled()?;
        let messages = self.network.messages;
        let waits = self.oracle.tasks.values().any(|task| task.waiting.is_some());
        self.run_until(settled.plus_millis(WATCHED_MS))?;
        // What ends by itself makes room for what waits, which is then ordered.
        if self.network.messages != messages && !waits {
            let more = self.network.messages - messages;
            return broken(7, format!("everything has settled, and still {more} messages were sent"));
        }
        self.check_settled()
    }

    fn run_until(&mut self, end: Timestamp) -> Step {
        while let Some(first) = self.queue.first_entry().filter(|first| first.key().0 <= end) {
            let ((at, _), event) = first.remove_entry();
            self.now = at;
            self.events += 1;
            self.happens(event)?;
            if self.events.is_multiple_of(RECOUNT_EVERY) {
                self.recount()?;
            }
            if self.events > MOST_EVENTS {
                return broken(7, format!("{MOST_EVENTS} events and no end"));
            }
        }
        self.now = end;
        self.recount()
    }

    /// The cell's own recount, and ours.
    fn recount(&mut self) -> Step {
        self.server_keeps_up();
        self.oracle.vigil.overdue(self.oracle.tasks.values(), self.now)?;
        self.oracle.vigil.brakes_let_go(self.now)?;
        for container in self.hosts.iter().flat_map(|host| host.containers.values()) {
            if container.state == State::Running {
                self.oracle.may_run(&container.key)?;
            }
        }
        let Some(process) = &self.server.process else { return Ok(()) };
        process.pipeline.cell().check().map_err(|violation| Violation::new(6, violation.to_string()))
    }

    /// Notes when the server cannot decide in time, and need not.
    fn server_keeps_up(&mut self) {
        self.server_time();
        let slow = self.server.slow_until.is_some_and(|until| until.plus_millis(SLOW_COMMIT_MS) > self.now);
        let able = self.server.process.as_ref().is_some_and(|process| !process.pipeline.read_only());
        if slow || !able {
            self.oracle.vigil.hindered(self.now);
        }
    }

    pub(crate) fn at(&mut self, at: Timestamp, event: Event) {
        self.queued += 1;
        self.queue.insert((at.max(self.now), self.queued), event);
    }

    pub(crate) fn after(&mut self, ms: i64, event: Event) {
        self.at(self.now.plus_millis(ms), event);
    }

    pub(crate) fn trace(&mut self, what: fmt::Arguments<'_>) {
        self.trace.line(self.now, what);
    }

    pub(crate) fn hash(&self) -> u64 {
        self.trace.hash()
    }

    pub(crate) fn tail(&self) -> Vec<String> {
        self.trace.tail()
    }

    fn happens(&mut self, event: Event) -> Step {
        match event {
            Event::ServerStart => return self.server_starts(),
            Event::ServerStep(life) => return self.server_step(life),
            Event::CommitWritten(life) => return self.commit_written(life),
            Event::CommitReported(life, outcome) => return self.commit_reported(life, outcome),
            Event::ServerLoads(life) => return self.server_loads(life),
            Event::ServerProbes(life) => self.server_probes(life),
            Event::ServerTick(life, at) => self.server_tick(life, at),
            Event::DiskHasRoom => self.server.disk.set_full(false),
            Event::Request { call, principal, ask } => return self.request(call, principal, *ask),
            Event::Response { call, answer } => return self.call_ends(call, Some(*answer)),
            Event::CallFails(call) => return self.call_ends(call, None),
            Event::LinkHeals(host) => self.link_heals(host),
            Event::Dial(conn) => self.dialled(conn),
            Event::ToAgent(conn, frame) => return self.frame_arrives(conn, frame),
            Event::ToServer(conn, message) => self.message_arrives(conn, *message),
            Event::AgentHangsUp(conn) => return self.agent_hangs_up(conn),
            Event::ServerHangsUp(conn) => self.server_hangs_up(conn),
            Event::Heartbeat(conn) => self.heartbeat(conn),
            Event::AgentListens(conn) => return self.agent_listens(conn),
            Event::ServerListens(conn) => self.server_listens(conn),
            Event::AgentStart(agent) => self.agent_starts(agent),
            Event::AgentRegisters(agent, life) => self.agent_registers(agent, life),
            Event::AgentDials(agent, life) => self.agent_dials(agent, life),
            Event::AgentTick(agent, life, at) => return self.agent_tick(agent, life, at),
            Event::AgentSaved(agent, life, ticket) => return self.agent_saved(agent, life, ticket),
            Event::AgentInput(agent, life, input) => return self.agent_input(agent, life, *input),
            Event::AgentSubmits { agent, life, task_arn, request, tries } => {
                self.agent_submits(agent, life, task_arn, request, tries);
            }
            Event::AgentLooksAtDocker(agent, life) => return self.agent_looks_at_docker(agent, life),
            Event::Reinstall(agent) => self.reinstall(agent),
            Event::DockerDoes { agent, life, action } => return self.docker_does(agent, life, *action),
            Event::ContainerEnds { host, id, exit_code, out_of_memory } => {
                self.container_ends(host, &id, exit_code, out_of_memory);
            }
            Event::ContainerHealthy { host, id } => self.container_healthy(host, &id),
            Event::DockerUp(host) => self.docker_up(host),
            Event::ClientWakes(client) => self.client_wakes(client),
            Event::OperatorWakes => self.operator_wakes(),
            Event::Errand(errand) => self.run_errand(*errand),
            Event::OperatorTidiesUp => self.operator_tidies_up(),
            Event::Fault => self.fault(),
            Event::StormEnds => self.storm_ends(),
        }
        Ok(())
    }
}
