//! Effects in the agent protocol's words. What is sent is derived from the snapshot at the moment of sending, so
//! that nothing has to be kept for it.

use longshore_agent_protocol::acs;
use longshore_api::Timestamp;

use crate::cell::{Delivery, Effect};
use crate::ids::{InstanceKey, TaskKey};
use crate::payload::{self, TaskFacts};
use crate::read::ReadModel;
use crate::task::status::DesiredStatus;
use crate::task_definition;

impl ReadModel {
    /// Puts an effect into the agent protocol's words; `None` when what it is about is gone, and for notes.
    pub fn render(&self, effect: &Effect, now: Timestamp) -> Option<Delivery> {
        let (instance, session, message) = match effect {
            Effect::Start { instance, session, sequence, task } => {
                let order = self.start_order(*task)?;
                (*instance, *session, self.payload(*instance, *sequence, now, order)?)
            }
            Effect::Stop { instance, session, sequence, task } => {
                let order = payload::stop(&self.arn_of(*task)?);
                (*instance, *session, self.payload(*instance, *sequence, now, order)?)
            }
            Effect::Network { instance, session, sequence, news } => {
                let message = self.network_message(*instance, number(*sequence), message_id(*sequence), news)?;
                (*instance, *session, message)
            }
            Effect::Manifest { instance, session, sequence, tasks } => {
                (*instance, *session, self.manifest(*instance, *sequence, now, tasks)?)
            }
            Effect::ConfirmStops { instance, session, message_id, tasks } => {
                (*instance, *session, self.stop_confirmation(*instance, message_id, now, tasks)?)
            }
            &Effect::Close { instance, session, reason } => {
                return Some(Delivery::Close { instance, session, reason });
            }
            // Not for agents.
            Effect::AskScheduler { .. } | Effect::Note(_) => return None,
        };
        Some(Delivery::Send { instance, session, message: Box::new(message) })
    }

    /// One task per message: a task that an agent cannot read spoils the acknowledgement of all (AGENT-PROTOCOL §2.6).
    fn payload(
        &self,
        instance: InstanceKey,
        sequence: u64,
        now: Timestamp,
        order: acs::Task,
    ) -> Option<acs::ServerMessage> {
        let cluster = self.cluster_names.get(&instance.cluster)?;
        Some(acs::ServerMessage::Payload(acs::PayloadMessage {
            message_id: message_id(sequence),
            cluster_arn: self.config.cluster_arn(cluster),
            container_instance_arn: self.config.instance_arn(cluster, instance.id),
            generated_at: now.as_millis(),
            seq_num: number(sequence),
            tasks: vec![order],
            ..acs::PayloadMessage::default()
        }))
    }

    fn manifest(
        &self,
        instance: InstanceKey,
        sequence: u64,
        now: Timestamp,
        tasks: &[(TaskKey, DesiredStatus)],
    ) -> Option<acs::ServerMessage> {
        let cluster = self.cluster_names.get(&instance.cluster)?;
        let cluster_arn = self.config.cluster_arn(cluster);
        let listed = tasks.iter().map(|(task, desired)| acs::TaskIdentifier {
            task_arn: self.config.task_arn(cluster, task.id),
            task_cluster_arn: cluster_arn.clone(),
            desired_status: match desired {
                DesiredStatus::Running => acs::DesiredStatus::Running,
                DesiredStatus::Stopped => acs::DesiredStatus::Stopped,
            },
        });
        Some(acs::ServerMessage::TaskManifest(acs::TaskManifestMessage {
            message_id: message_id(sequence),
            tasks: listed.collect(),
            container_instance_arn: self.config.instance_arn(cluster, instance.id),
            generated_at: now.as_millis(),
            timeline: number(sequence),
            cluster_arn,
        }))
    }

    fn stop_confirmation(
        &self,
        instance: InstanceKey,
        message_id: &str,
        now: Timestamp,
        tasks: &[String],
    ) -> Option<acs::ServerMessage> {
        let cluster_arn = self.config.cluster_arn(self.cluster_names.get(&instance.cluster)?);
        let stop_tasks = tasks.iter().map(|arn| acs::TaskIdentifier {
            task_arn: arn.clone(),
            task_cluster_arn: cluster_arn.clone(),
            desired_status: acs::DesiredStatus::Stopped,
        });
        Some(acs::ServerMessage::TaskStopVerificationAck(acs::TaskStopVerificationAck {
            message_id: message_id.to_owned(),
            generated_at: now.as_millis(),
            stop_tasks: stop_tasks.collect(),
        }))
    }

    /// The order to run a task; to stop it, if that is what is wanted by now.
    fn start_order(&self, key: TaskKey) -> Option<acs::Task> {
        let task = self.tasks.get(&key)?;
        let task_arn = self.arn_of(key)?;
        if task.desired == DesiredStatus::Stopped {
            return Some(payload::stop(&task_arn));
        }
        let cluster = self.cluster_names.get(&key.cluster)?;
        let known = self.definitions.get(&task.definition)?;
        // The overrides were accepted with the task, against this same immutable document.
        let effective =
            task_definition::merge(&known.record.document, &known.resolved, task.overrides.as_deref()).ok()?;
        let container_arns: Vec<String> =
            (0..effective.containers.len()).map(|index| self.config.container_arn(cluster, key.id, index)).collect();
        let instance = task.home().and_then(|home| self.instances.get(&home)).map(AsRef::as_ref);
        let network = task.network.as_deref();
        let interface = network.map(|network| payload::interface(&self.config, instance, task, network));
        let order = payload::start(&TaskFacts {
            task_arn: &task_arn,
            cluster_arn: &self.config.cluster_arn(cluster),
            definition: &known.record.document,
            effective: &effective,
            container_arns: &container_arns,
            gpus: &task.gpus,
            group: Some(&task.group),
            launch_type: task.launch_type,
            log_driver_mode: self.default_log_driver_mode(),
            interface: interface.as_ref(),
        });
        // Which role it is; its credentials are made at the edge, and known to nobody here.
        let role = self
            .execution_role(task)
            .map(|role| acs::IamRoleCredentials { role_arn: role.to_owned(), ..Default::default() });
        Some(acs::Task { execution_role_credentials: role, ..order })
    }

    fn arn_of(&self, key: TaskKey) -> Option<String> {
        Some(self.config.task_arn(self.cluster_names.get(&key.cluster)?, key.id))
    }
}

/// Message ids are made of the commit number: unique, and nothing to remember.
fn message_id(sequence: u64) -> String {
    format!("longshore-{sequence}")
}

/// Commit numbers as the protocol's integers; they grow by some per command and never come near the end.
fn number(sequence: u64) -> i64 {
    i64::try_from(sequence).unwrap_or(i64::MAX)
}
