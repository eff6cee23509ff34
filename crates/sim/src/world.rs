//! The world: simulated time, a queue of events, and everybody in it.

use std::collections::BTreeMap;
use std::fmt;

use longshore_api::Timestamp;
use longshore_core::CellConfig;
use longshore_core::config::Retention;

use crate::agent::{Agent, CPU, MEMORY_MIB};
use crate::client::Clients;
use crate::docker::{Host, State};
use crate::event::Event;
use crate::network::Network;
use crate::oracle::{Oracle, Step, Violation, broken};
use crate::plan::{Fault, Plan, Weather};
use crate::random::Random;
use crate::server::{CommitFault, Server};
use crate::trace::Trace;

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
    chaos: Random,
    pub(crate) server: Server,
    pub(crate) network: Network,
    pub(crate) hosts: Vec<Host>,
    pub(crate) agents: Vec<Agent>,
    pub(crate) clients: Clients,
    pub(crate) oracle: Oracle,
    /// Snapshots published so far.
    pub(crate) published: u64,
    pub(crate) faults: u64,
}

impl World {
    pub(crate) fn new(plan: Plan) -> Self {
        let seed = plan.seed;
        let weather = Weather::of(seed);
        let retention =
            Retention { at_least_ms: weather.kept_ms, at_most_ms: 2 * weather.kept_ms, count: weather.kept };
        let config = CellConfig { retention, ..CellConfig::new("us-east-1", "000000000000") };
        let hosts: Vec<Host> = (0..weather.hosts)
            .map(|host| Host::new(format!("host-{host}"), Random::of(seed, &format!("docker {host}"))))
            .collect();
        // The first machine has two instances, which share its ports.
        let homes = std::iter::once(0).chain(0..weather.hosts);
        let agents = homes
            .enumerate()
            .map(|(index, host)| Agent::new(host, 100 + index as u32, Random::of(seed, &format!("agent {index}"))))
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
            server: Server::new(config, Random::of(seed, "server")),
            network: Network::new(Random::of(seed, "network")),
            hosts,
            agents,
            clients: Clients::new(Random::of(seed, "clients"), weather.clients),
            oracle: Oracle::new(retention),
            published: 0,
            faults: 0,
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
        self.after(5_000, Event::Fault);
        self.after(self.plan.storm_ms, Event::StormEnds);
        let settled = EPOCH.plus_millis(self.plan.storm_ms + SETTLES_IN_MS);
        self.run_until(settled)?;
        self.check_settled()?;
        let messages = self.network.messages;
        self.run_until(settled.plus_millis(WATCHED_MS))?;
        if self.network.messages != messages {
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
    fn recount(&self) -> Step {
        self.oracle.recount(CPU, MEMORY_MIB)?;
        for container in self.hosts.iter().flat_map(|host| host.containers.values()) {
            if container.state == State::Running {
                self.oracle.may_run(&container.key)?;
            }
        }
        let Some(process) = &self.server.process else { return Ok(()) };
        process.pipeline.cell().check().map_err(|violation| Violation::new(6, violation.to_string()))
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
            Event::Request { call, key, request } => return self.request(call, key, *request),
            Event::Response { call, answer } => return self.call_ends(call, Some(*answer)),
            Event::CallFails(call) => return self.call_ends(call, None),
            Event::Dial(conn) => self.dialled(conn),
            Event::ToAgent(conn, frame) => return self.frame_arrives(conn, frame),
            Event::ToServer(conn, message) => self.message_arrives(conn, *message),
            Event::AgentHangsUp(conn) => return self.agent_hangs_up(conn),
            Event::ServerHangsUp(conn) => self.server_hangs_up(conn),
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
            Event::PartitionEnds(agent) => self.agents[agent].cut_off = false,
            Event::DockerDoes { agent, life, action } => return self.docker_does(agent, life, *action),
            Event::ContainerEnds { host, id, exit_code, out_of_memory } => {
                self.container_ends(host, &id, exit_code, out_of_memory);
            }
            Event::ContainerHealthy { host, id } => self.container_healthy(host, &id),
            Event::DockerUp(host) => self.docker_up(host),
            Event::ClientWakes(client) => self.client_wakes(client),
            Event::Fault => self.fault(),
            Event::StormEnds => self.storm_ends(),
        }
        Ok(())
    }

    /// Something goes wrong, and the next thing will soon.
    fn fault(&mut self) {
        if self.calm {
            return;
        }
        let pause = self.weather.fault_pause_ms;
        let pause = self.chaos.between(1, 2 * pause);
        self.after(pause, Event::Fault);
        let Some(&fault) = self.chaos.pick(&self.weather.faults) else { return };
        let agent = self.chaos.below(self.agents.len());
        self.faults += 1;
        self.trace(format_args!("fault: {fault:?}"));
        match fault {
            Fault::ServerCrash => self.server_crashes(),
            Fault::CommitFails => self.server.next_fault = Some(CommitFault::Fails),
            Fault::CommitLost => self.server.next_fault = Some(CommitFault::OutcomeLost),
            Fault::Fenced => self.server.next_fault = Some(CommitFault::Fenced),
            Fault::DiskFull => {
                self.server.disk.set_full(true);
                let full_ms = self.chaos.between(100, 10_000);
                self.after(full_ms, Event::DiskHasRoom);
            }
            Fault::AgentCrash => self.agent_crashes(agent),
            Fault::ConnectionBreaks => self.break_some_conn(),
            Fault::SecondSession => self.second_session(agent),
            Fault::Partition => {
                self.cut_off(agent);
                let lasts_ms = self.chaos.between(1_000, 40_000);
                self.after(lasts_ms, Event::PartitionEnds(agent));
            }
            Fault::DockerRestart => self.docker_restarts(self.agents[agent].host),
            Fault::ContainerRemoved => self.container_removed(self.agents[agent].host),
            Fault::HostReboot => self.host_reboots(self.agents[agent].host),
        }
    }

    /// Power fails at a machine: its agents and containers end.
    fn host_reboots(&mut self, host: usize) {
        for agent in 0..self.agents.len() {
            if self.agents[agent].host == host {
                self.agent_crashes(agent);
            }
        }
        for arn in self.hosts[host].power_fails(self.now) {
            self.oracle.excuse(&arn);
        }
    }

    fn storm_ends(&mut self) {
        self.calm = true;
        self.trace(format_args!("the storm is over"));
        self.weather.clear();
        self.server.next_fault = None;
        self.server.disk.set_full(false);
        for agent in &mut self.agents {
            agent.cut_off = false;
        }
    }
}
