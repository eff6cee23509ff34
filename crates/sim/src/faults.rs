//! What goes wrong, and how it gets well again.

use crate::agent::Offer;
use crate::event::Event;
use crate::network::Link;
use crate::server::CommitFault;
use crate::weather::Fault;
use crate::world::World;

/// Once the storm is over, the operator waits so long for what may come back by itself.
const TIDIES_UP_AFTER_MS: i64 = 300_000;

impl World {
    /// Something goes wrong, and the next thing will soon.
    pub(crate) fn fault(&mut self) {
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
        self.goes_wrong(fault, agent);
    }

    fn goes_wrong(&mut self, fault: Fault, agent: usize) {
        let host = self.agents[agent].host;
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
            Fault::DiskSlow => {
                let slow_ms = self.chaos.between(1_000, 20_000);
                self.server.slow_until = Some(self.now.plus_millis(slow_ms));
            }
            Fault::AgentCrash => self.agent_crashes(agent, false),
            Fault::AgentDiskStuck => {
                let stuck_ms = self.chaos.between(500, 20_000);
                self.agents[agent].disk.stuck_until = Some(self.now.plus_millis(stuck_ms));
            }
            Fault::AgentResized => {
                let offers = [(512, 2_048), (1_024, 1_024), (2_048, 512), (300, 300)];
                if let Some(&(cpu, memory_mib)) = self.chaos.pick(&offers) {
                    self.agents[agent].offer = Offer { cpu, memory_mib };
                    self.agent_crashes(agent, false);
                }
            }
            Fault::ConnectionReset => self.some_conn_fails(false),
            Fault::SilentDeath => self.some_conn_fails(true),
            Fault::SecondSession => self.second_session(agent),
            Fault::Partition => self.partition(host),
            Fault::MassLoss => {
                for host in 0..self.hosts.len() {
                    if self.chaos.per_mille(750) {
                        self.partition(host);
                    }
                }
            }
            Fault::DockerRestart => self.docker_restarts(host),
            Fault::ContainerRemoved => self.container_removed(host),
            Fault::HostReboot => self.power_fails(host),
            Fault::MachineDies => self.machine_dies(host),
            Fault::ServerClockJumps => {
                let by_ms = self.clock_jump();
                self.server.clock.jump(by_ms);
            }
            Fault::HostClockJumps => {
                let by_ms = self.clock_jump();
                self.hosts[host].clock.jump(by_ms);
                self.hosts[host].clock_set_at = Some(self.now);
                self.clock_was_set(host, by_ms);
            }
        }
    }

    /// Less than a second is drift, which nobody notices.
    fn clock_jump(&mut self) -> i64 {
        let most_ms = [2_000, 90_000, 3_600_000, 7_200_000][self.chaos.below(4)];
        let by_ms = self.chaos.between(1_000, most_ms);
        if self.chaos.per_mille(500) { by_ms } else { -by_ms }
    }

    fn partition(&mut self, host: usize) {
        let longest = self.weather.partition_ms;
        let lasts_ms = self.chaos.between(1_000, longest);
        if let Some(&link) = self.chaos.pick(&[Link::Cut, Link::Mute, Link::Deaf]) {
            self.link_fails(host, link, lasts_ms);
        }
    }

    /// Power fails at a machine: its agents and containers end, and nobody is told.
    fn power_fails(&mut self, host: usize) {
        for agent in 0..self.agents.len() {
            if self.agents[agent].host == host {
                self.agent_crashes(agent, true);
            }
        }
        for key in self.hosts[host].power_fails(self.now) {
            self.oracle.excuse(&key.task_arn);
            self.oracle.ended(&key, 137, self.now);
        }
    }

    /// A machine is gone for good: one of several, and the others go on.
    fn machine_dies(&mut self, host: usize) {
        let left = self.hosts.iter().filter(|host| !host.gone).count();
        if left > 2 && !self.hosts[host].gone && left + 1 > self.hosts.len() {
            self.power_fails(host);
            self.hosts[host].gone = true;
        }
    }

    pub(crate) fn storm_ends(&mut self) {
        self.calm = true;
        self.trace(format_args!("the storm is over"));
        self.weather.clear();
        self.server.next_fault = None;
        self.server.slow_until = self.server.slow_until.map(|until| until.min(self.now));
        self.server.disk.set_full(false);
        for host in 0..self.hosts.len() {
            self.hosts[host].link_whole_at = self.now;
            self.link_heals(host);
        }
        // Whoever came back with less than its tasks need is given enough.
        for agent in 0..self.agents.len() {
            let enough = Offer { cpu: 2_048, memory_mib: 2_048 };
            if self.agents[agent].offer != Offer::default() {
                self.agents[agent].offer = enough;
                self.agent_crashes(agent, false);
            }
        }
        self.after(TIDIES_UP_AFTER_MS, Event::OperatorTidiesUp);
    }
}
