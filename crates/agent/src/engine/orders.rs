//! Orders of the control plane: payloads, manifests, and the verification of stops.

use longshore_agent_protocol::acs;

use super::action::{Action, LogLevel};
use super::container::Status;
use super::record::Desired;
use super::task::Task;
use super::{Engine, Turn, awslogs};

/// What must be remembered of orders.
#[derive(Clone, Debug, Default)]
pub(crate) struct Orders {
    /// The highest timeline or sequence number seen; older manifests know less than the agent does.
    newest: i64,
    /// The latest manifest, until its stop candidates are verified.
    manifest: Option<String>,
}

impl Orders {
    /// A timeline or sequence number was seen.
    pub(crate) fn saw(&mut self, number: i64) {
        self.newest = self.newest.max(number);
    }
}

impl Engine {
    pub(super) fn payload(&mut self, turn: &mut Turn, message: acs::PayloadMessage) {
        let acs::PayloadMessage { message_id, cluster_arn, container_instance_arn, seq_num, tasks, .. } = message;
        if !self.is_for_us(turn, "payload", &message_id, &cluster_arn, &container_instance_arn) {
            return;
        }
        self.orders.saw(seq_num);
        // Stops first: they free what the others may need.
        let (stops, starts): (Vec<_>, Vec<_>) =
            tasks.into_iter().partition(|task| task.desired_status == acs::DesiredStatus::Stopped);
        for task in stops {
            self.stop_order(turn, task, seq_num);
        }
        for task in starts {
            self.start_order(turn, task, seq_num);
        }
        turn.reply_ack(cluster_arn, container_instance_arn, message_id);
    }

    fn stop_order(&mut self, turn: &mut Turn, definition: acs::Task, seq_num: i64) {
        if definition.arn.is_empty() {
            return turn.log(LogLevel::Warn, "", "a stop order names no task".to_owned());
        }
        let arn = definition.arn.clone();
        match self.tasks.get_mut(&arn) {
            Some(task) => {
                task.stop();
                task.repeat_stopped();
            }
            None => {
                let task = Task::unknown(&self.config, &definition, seq_num, turn.now);
                self.tasks.insert(arn.clone(), task);
            }
        }
        self.advance(turn, arn);
    }

    fn start_order(&mut self, turn: &mut Turn, definition: acs::Task, seq_num: i64) {
        if definition.arn.is_empty() {
            return turn.log(LogLevel::Warn, "", "a start order names no task".to_owned());
        }
        let arn = definition.arn.clone();
        match self.tasks.get_mut(&arn) {
            // A task runs once. Whoever orders it again after its end has missed the report.
            Some(task) => task.repeat_stopped(),
            None => {
                if let Some(notice) = awslogs::notice(self.config.awslogs_as, &definition) {
                    turn.log(LogLevel::Info, &arn, notice);
                }
                let task = Task::new(&self.config, definition, seq_num, turn.now);
                self.tasks.insert(arn.clone(), task);
            }
        }
        self.advance(turn, arn);
    }

    pub(super) fn manifest(&mut self, turn: &mut Turn, message: acs::TaskManifestMessage) {
        let acs::TaskManifestMessage { message_id, cluster_arn, container_instance_arn, timeline, tasks, .. } = message;
        if !self.is_for_us(turn, "manifest", &message_id, &cluster_arn, &container_instance_arn) {
            return;
        }
        if timeline <= self.orders.newest {
            let message = format!("ignored a manifest of timeline {timeline}, {} was seen before", self.orders.newest);
            return turn.log(LogLevel::Info, "", message);
        }
        self.orders.saw(timeline);
        self.orders.manifest = Some(message_id.clone());
        turn.actions.push(Action::SaveTimeline(timeline));
        let wanted: std::collections::BTreeSet<&str> = tasks
            .iter()
            .filter(|task| task.desired_status != acs::DesiredStatus::Stopped)
            .map(|task| task.task_arn.as_str())
            .collect();
        let unwanted = self.tasks.values().map(|task| &task.record).filter(|record| {
            record.known < Status::Stopped && record.desired == Desired::Running && !wanted.contains(record.arn())
        });
        let stop_candidates: Vec<acs::TaskIdentifier> = unwanted
            .map(|record| acs::TaskIdentifier {
                task_arn: record.arn().to_owned(),
                task_cluster_arn: record.definition.task_cluster_arn.clone().unwrap_or_else(|| cluster_arn.clone()),
                desired_status: acs::DesiredStatus::Stopped,
            })
            .collect();
        turn.reply_ack(cluster_arn, container_instance_arn, message_id.clone());
        if !stop_candidates.is_empty() {
            let verification = acs::TaskStopVerificationMessage { message_id, stop_candidates };
            turn.actions.push(Action::Reply(acs::AgentMessage::TaskStopVerification(verification)));
        }
    }

    pub(super) fn stop_verified(&mut self, turn: &mut Turn, message: acs::TaskStopVerificationAck) {
        if message.message_id.is_empty() || self.orders.manifest.as_ref() != Some(&message.message_id) {
            let message = format!("ignored the stop verification of {:?}, not the latest manifest", message.message_id);
            return turn.log(LogLevel::Info, "", message);
        }
        self.orders.manifest = None;
        for task in message.stop_tasks {
            if let Some(known) = self.tasks.get_mut(&task.task_arn) {
                known.stop();
                self.advance(turn, task.task_arn);
            }
        }
    }

    /// Whether a message is complete and meant for this instance; one that is not is dropped without an acknowledgement.
    fn is_for_us(&self, turn: &mut Turn, kind: &str, message_id: &str, cluster: &str, instance: &str) -> bool {
        let ours = instance == self.config.container_instance_arn;
        if message_id.is_empty() || cluster.is_empty() || !ours {
            let message = format!(
                "dropped a {kind}: messageId {message_id:?}, clusterArn {cluster:?}, containerInstanceArn {instance:?} \
                 must be there and name this instance"
            );
            turn.log(LogLevel::Warn, "", message);
            return false;
        }
        true
    }
}

impl Turn {
    fn reply_ack(&mut self, cluster: String, container_instance: String, message_id: String) {
        let ack = acs::AckRequest { cluster, container_instance, message_id };
        self.actions.push(Action::Reply(acs::AgentMessage::Ack(ack)));
    }
}
