//! What can be read of a payload that as a whole cannot be.
//!
//! One task of a payload may be of a form that nobody foresaw. The others are none the worse for it, and the one that cannot be
//! read is a task that cannot be run, which its control plane wants to hear.

use super::{DesiredStatus, PayloadMessage, Task};
use crate::envelope::{self, RawMessage};
use crate::object::object;

object! {
    /// A payload whose tasks were not looked into yet.
    struct Sealed {
        message_id: String = "messageId",
        cluster_arn: String = "clusterArn",
        container_instance_arn: String = "containerInstanceArn",
        generated_at: i64 = "generatedAt",
        seq_num: i64 = "seqNum",
        timeline: Option<i64> = "timeline",
        tasks: Vec<RawMessage> = "tasks",
    }

    /// What names a task, and what is wanted of it.
    struct Named {
        arn: String = "arn",
        desired_status: DesiredStatus = "desiredStatus",
        task_cluster_arn: Option<String> = "taskClusterArn",
    }
}

impl PayloadMessage {
    /// The payload in a frame that [`super::ServerMessage::decode`] cannot read because of some of its tasks: those have nothing
    /// but their names and [`Task::unreadable`]. `None` if the frame is no payload, or cannot be read for another reason.
    pub fn salvage(text: &str) -> Option<Self> {
        let (message_type, message) = envelope::open(text).ok()?;
        if message_type != "PayloadMessage" {
            return None;
        }
        let sealed: Sealed = serde_json::from_str(&message).ok()?;
        Some(Self {
            message_id: sealed.message_id,
            cluster_arn: sealed.cluster_arn,
            container_instance_arn: sealed.container_instance_arn,
            generated_at: sealed.generated_at,
            seq_num: sealed.seq_num,
            timeline: sealed.timeline,
            tasks: sealed.tasks.iter().map(|task| read(task.0.get())).collect(),
        })
    }
}

fn read(text: &str) -> Task {
    serde_json::from_str(text).unwrap_or_else(|why: serde_json::Error| {
        let named: Named = serde_json::from_str(text).unwrap_or_default();
        Task {
            arn: named.arn,
            desired_status: named.desired_status,
            task_cluster_arn: named.task_cluster_arn,
            unreadable: Some(why.to_string()),
            ..Task::default()
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::acs::ServerMessage;

    #[test]
    fn a_task_that_cannot_be_read_spoils_no_other() {
        let text = r#"{"type":"PayloadMessage","message":{"messageId":"m","clusterArn":"c","containerInstanceArn":"i","seqNum":3,
            "tasks":[{"arn":"good","desiredStatus":"RUNNING","containers":[{"name":"main","image":"x"}]},
                     {"ARN":"bad","desiredStatus":"RUNNING","containers":[{"name":"main","cpu":"many"}]},
                     {"arn":"halt","desiredStatus":"STOPPED","containers":7},
                     {"arn":["nameless"]}, 5]}}"#;
        assert!(ServerMessage::decode(text).is_err());
        let payload = PayloadMessage::salvage(text).unwrap();
        assert_eq!((payload.message_id.as_str(), payload.seq_num), ("m", 3));
        let told: Vec<_> = payload
            .tasks
            .iter()
            .map(|task| (task.arn.as_str(), task.desired_status, task.containers.len(), task.unreadable.is_some()))
            .collect();
        assert_eq!(
            told,
            [
                ("good", DesiredStatus::Running, 1, false),
                ("bad", DesiredStatus::Running, 0, true),
                ("halt", DesiredStatus::Stopped, 0, true),
                ("", DesiredStatus::None, 0, true),
                ("", DesiredStatus::None, 0, true),
            ]
        );
        let why = payload.tasks[1].unreadable.as_deref().unwrap_or_default();
        assert!(why.starts_with("containers: cpu: invalid type: string \"many\""), "{why}");
    }

    #[test]
    fn what_is_no_payload_is_not_salvaged() {
        for text in [
            "",
            "{}",
            r#"{"type":"HeartbeatMessage","message":{"healthy":"x"}}"#,
            r#"{"type":"PayloadMessage","message":{"messageId":3,"tasks":[]}}"#,
            r#"{"type":"PayloadMessage","message":{"tasks":3}}"#,
        ] {
            assert_eq!(PayloadMessage::salvage(text), None, "{text}");
        }
    }
}
