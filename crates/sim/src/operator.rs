//! The operator: makes join tokens, drains instances, gives them back, revokes machines, overrules the mass-loss brake, and
//! sets up anew what was given back.

use longshore_api::ecs::{Operation, Response};
use longshore_api::{admin, error};
use longshore_core::identity;
use longshore_core::instance::InstanceStatus;
use serde_json::json;

use crate::catalog;
use crate::docker::LONGEST_CALL_MS;
use crate::event::{Answer, Ask, Event, Told};
use crate::network::{Caller, LATE_MS, PATIENCE_MS};
use crate::oracle::{Step, id_of};
use crate::server::owner;
use crate::world::World;

/// Between attempts at what must be done.
const AGAIN_MS: i64 = 1_500;
/// What an earlier agent asked Docker for is over after this long.
const DOCKER_IS_DONE_MS: i64 = 10_000 + 2 * LONGEST_CALL_MS;

/// What the operator asked for.
#[derive(Clone, Debug)]
pub(crate) enum Errand {
    /// A join token for a cluster.
    Token(&'static str),
    Drain {
        cluster: &'static str,
        arn: String,
        sent_at: longshore_api::Timestamp,
    },
    Activate,
    /// To give an instance back; whether without asking what runs there.
    GiveBack {
        cluster: &'static str,
        arn: String,
        force: bool,
        insist: bool,
    },
    /// To give up what is missing in a cluster.
    Release {
        cluster: &'static str,
        insist: bool,
    },
    /// To take its key from a machine.
    Revoke {
        host: usize,
        access_key_id: String,
    },
}

impl World {
    /// The operator has time to look after the cluster.
    pub(crate) fn operator_wakes(&mut self) {
        let pause = self.weather.operator_pause_ms;
        if self.calm || pause == 0 {
            return;
        }
        let pause = self.operator.between(1, 2 * pause);
        self.after(pause, Event::OperatorWakes);
        let index = self.operator.below(self.agents.len());
        let agent = &self.agents[index];
        let (cluster, host) = (agent.cluster, agent.host);
        let Some(arn) = agent.disk.instance_arn.clone() else { return };
        let status = self.oracle.vigil.status(id_of(&arn));
        match self.operator.below(10) {
            0..4 if status == Some(InstanceStatus::Draining) => self.activate(cluster, arn),
            0..4 => self.run_errand(Errand::Drain { cluster, arn, sent_at: self.now }),
            4 => self.activate(cluster, arn),
            5 => self.run_errand(Errand::GiveBack { cluster, arn, force: false, insist: false }),
            6 | 7 => self.run_errand(Errand::GiveBack { cluster, arn, force: true, insist: false }),
            8 => self.run_errand(Errand::Release { cluster, insist: false }),
            _ => {
                if let Some(access_key_id) = self.hosts[host].identity.clone() {
                    self.run_errand(Errand::Revoke { host, access_key_id });
                }
            }
        }
    }

    fn activate(&mut self, cluster: &'static str, arn: String) {
        self.oracle.activates(&arn, self.now.plus_millis(LATE_MS + 2 * PATIENCE_MS));
        let document = json!({"cluster": cluster, "containerInstances": [arn], "status": "ACTIVE"});
        let request = catalog::request(Operation::UpdateContainerInstancesState, &document);
        if let Some(request) = request {
            self.call(owner(), Ask::Ecs(request), Caller::Operator(Errand::Activate));
        }
    }

    pub(crate) fn run_errand(&mut self, errand: Errand) {
        let ecs = |operation, document| catalog::request(operation, &document).map(Ask::Ecs);
        let ask = match &errand {
            Errand::Token(cluster) => {
                // It outlives whatever the server's clock does.
                let (uses, expires_in_seconds) = (Some(10_000), Some(30 * 86_400));
                let cluster = Some((*cluster).to_owned());
                let request = admin::CreateJoinTokenRequest { cluster, uses, expires_in_seconds };
                Some(Ask::Admin(admin::Request::CreateJoinToken(request)))
            }
            Errand::Drain { cluster, arn, .. } => ecs(
                Operation::UpdateContainerInstancesState,
                json!({"cluster": cluster, "containerInstances": [arn], "status": "DRAINING"}),
            ),
            Errand::Activate => None,
            Errand::GiveBack { cluster, arn, force, .. } => ecs(
                Operation::DeregisterContainerInstance,
                json!({"cluster": cluster, "containerInstance": arn, "force": force}),
            ),
            Errand::Release { cluster, .. } => {
                let request = admin::ReleaseMassLossBrakeRequest { cluster: (*cluster).to_owned() };
                Some(Ask::Admin(admin::Request::ReleaseMassLossBrake(request)))
            }
            Errand::Revoke { access_key_id, .. } => {
                let (access_key_id, container_instance) = (Some(access_key_id.clone()), None);
                let request = admin::RevokeInstanceIdentityRequest { access_key_id, container_instance };
                Some(Ask::Admin(admin::Request::RevokeInstanceIdentity(request)))
            }
        };
        self.trace(format_args!("operator: {errand:?}"));
        if let Some(ask) = ask {
            self.call(owner(), ask, Caller::Operator(errand));
        }
    }

    /// The answer to an errand, or none.
    pub(crate) fn operator_hears(&mut self, errand: Errand, answer: Option<Answer>) -> Step {
        let unsure = match &answer {
            None => true,
            Some(Err(refused)) => refused.code == error::SERVICE_UNAVAILABLE,
            Some(Ok(_)) => false,
        };
        match (errand, answer) {
            (Errand::Token(cluster), Some(Ok(Told::Admin(identity::Answer::TokenCreated(token))))) => {
                self.join_tokens.insert(cluster, token.token_id);
            }
            (Errand::Drain { cluster, arn, sent_at }, Some(Ok(Told::Ecs(response)))) => {
                if let Response::UpdateContainerInstancesState(response) = response
                    && response.failures.is_none_or(|failures| failures.is_empty())
                {
                    self.oracle.drains(&arn, cluster, sent_at);
                }
            }
            (Errand::GiveBack { arn, force: false, .. }, Some(Ok(_))) => self.oracle.given_back(&arn)?,
            (Errand::Revoke { host, access_key_id }, Some(Ok(_))) => {
                self.key_is_dead(&access_key_id)?;
                self.machine_revoked(host, &access_key_id);
            }
            (errand @ (Errand::Token(_) | Errand::Revoke { .. }), _) => self.errand_again(errand),
            (errand @ (Errand::GiveBack { insist: true, .. } | Errand::Release { insist: true, .. }), _) if unsure => {
                self.errand_again(errand);
            }
            _ => {}
        }
        Ok(())
    }

    fn errand_again(&mut self, errand: Errand) {
        self.after(AGAIN_MS, Event::Errand(Box::new(errand)));
    }

    /// The machine's key is dead: it is set up from nothing.
    fn machine_revoked(&mut self, host: usize, access_key_id: &str) {
        if self.hosts[host].identity.as_deref() != Some(access_key_id) {
            return;
        }
        self.hosts[host].identity = None;
        self.hosts[host].joins += 1;
        for index in 0..self.agents.len() {
            if self.agents[index].host == host {
                self.reinstall_later(index);
            }
        }
    }

    pub(crate) fn reinstall_later(&mut self, index: usize) {
        if !std::mem::replace(&mut self.agents[index].to_be_reinstalled, true) {
            let pause = self.operator.between(1_000, 20_000);
            self.after(pause, Event::Reinstall(index));
        }
    }

    /// An instance is set up from nothing: its agent, its data and its containers go, and it registers as another.
    pub(crate) fn reinstall(&mut self, index: usize) {
        let host = self.agents[index].host;
        if self.hosts[host].gone {
            return;
        }
        if self.agents[index].process.take().is_some() {
            for id in self.conns_of(index) {
                self.break_conn(id, 1_000);
            }
            // Docker may still be at what the agent asked for.
            return self.after(DOCKER_IS_DONE_MS, Event::Reinstall(index));
        }
        self.trace(format_args!("agent {index}: is set up from nothing"));
        let agent = &mut self.agents[index];
        agent.births += 1;
        agent.to_be_reinstalled = false;
        let disk = std::mem::take(&mut agent.disk);
        if let Some(arn) = disk.instance_arn {
            let cluster = agent.cluster;
            for key in self.hosts[host].wipe(&arn) {
                self.oracle.excuse(&key.task_arn);
            }
            // Its key may have no more instances than it has: the old one makes room for the new one.
            match self.hosts[host].identity.is_some() {
                true => self.run_errand(Errand::GiveBack { cluster, arn, force: true, insist: true }),
                false => self.abandoned.push((cluster, arn)),
            }
        }
        self.after(100, Event::AgentStart(index));
    }

    /// Machines that are gone and instances that were set up anew: the operator says that they are gone, each in one of two ways.
    pub(crate) fn operator_tidies_up(&mut self) {
        for agent in 0..self.agents.len() {
            let Some(arn) = self.agents[agent].disk.instance_arn.clone() else { continue };
            if self.hosts[self.agents[agent].host].gone {
                self.abandoned.push((self.agents[agent].cluster, arn));
            }
        }
        let never = self.weather.loss.lost_after_ms.is_none();
        for (cluster, arn) in std::mem::take(&mut self.abandoned) {
            match never || self.operator.per_mille(500) {
                true => self.run_errand(Errand::GiveBack { cluster, arn, force: true, insist: true }),
                false => self.run_errand(Errand::Release { cluster, insist: true }),
            }
        }
    }
}
