//! The messages of both directions.

use crate::acs::{DesiredStatus, IamRoleCredentials, NetworkMessage, Task};
use crate::envelope::messages;
use crate::object::object;

messages! {
    /// What the control plane sends.
    pub enum ServerMessage {
        /// Keeps the session alive.
        Heartbeat(HeartbeatMessage) = "HeartbeatMessage",
        /// Starts and stops tasks.
        Payload(PayloadMessage) = "PayloadMessage",
        /// Every task that the control plane believes to be on the instance.
        TaskManifest(TaskManifestMessage) = "TaskManifestMessage",
        /// Which of the stop candidates really are to be stopped.
        TaskStopVerificationAck(TaskStopVerificationAck) = "TaskStopVerificationAck",
        /// New role credentials for a running task.
        IamRoleCredentials(IamRoleCredentialsMessage) = "IAMRoleCredentialsMessage",
        /// Asks the agent to fetch another version of itself.
        StageUpdate(UpdateMessage) = "StageUpdateMessage",
        /// Asks the agent to become the version it fetched.
        PerformUpdate(UpdateMessage) = "PerformUpdateMessage",
        /// Asks for what a container printed. Longshore's own: sent to its own agents only.
        ReadTaskLogs(ReadTaskLogsMessage) = "LongshoreReadTaskLogsMessage",
        /// The network of awsvpc tasks as the instance's host is to have it. Longshore's own: sent to its own agents only.
        Network(NetworkMessage) = "LongshoreNetworkMessage",
    }
}

messages! {
    /// What an agent sends.
    pub enum AgentMessage {
        /// The message was accepted.
        Ack(AckRequest) = "AckRequest",
        /// The message was understood and is refused.
        Nack(NackRequest) = "NackRequest",
        /// Answers a heartbeat.
        HeartbeatAck(HeartbeatAckRequest) = "HeartbeatAckRequest",
        /// Role credentials are in use.
        IamRoleCredentialsAck(IamRoleCredentialsAckRequest) = "IAMRoleCredentialsAckRequest",
        /// Tasks that run here and are not in the manifest.
        TaskStopVerification(TaskStopVerificationMessage) = "TaskStopVerificationMessage",
    }
}

object! {
    /// Keeps the session alive; sent by the control plane at least every 60 s.
    pub struct HeartbeatMessage {
        /// Names the message in its acknowledgement.
        message_id: String = "messageId",
        /// Always true; agents do not act upon it.
        healthy: bool = "healthy",
    }

    /// Tasks to start or stop. Agents drop it without acknowledgement unless all three ids are there.
    pub struct PayloadMessage {
        /// Names the message in its acknowledgement.
        message_id: String = "messageId",
        /// The cluster's ARN, echoed by the acknowledgement.
        cluster_arn: String = "clusterArn",
        /// The instance the order is for.
        container_instance_arn: String = "containerInstanceArn",
        /// When the message was made, in milliseconds.
        generated_at: i64 = "generatedAt",
        /// Grows with every payload and manifest of an instance; manifests with a lower timeline are ignored.
        seq_num: i64 = "seqNum",
        /// Unused by agents.
        timeline: Option<i64> = "timeline",
        /// The tasks; one per message is safest, because one bad task spoils the acknowledgement of all.
        tasks: Vec<Task> = "tasks" always,
    }

    /// The complete list of the tasks that the control plane believes to be on the instance.
    pub struct TaskManifestMessage {
        /// Names the message in its acknowledgement and in the stop verification.
        message_id: String = "messageId",
        /// The cluster's ARN.
        cluster_arn: String = "clusterArn",
        /// The instance that the list is about.
        container_instance_arn: String = "containerInstanceArn",
        /// When the message was made, in milliseconds.
        generated_at: i64 = "generatedAt",
        /// Must exceed every timeline and payload sequence number seen before, else the manifest is ignored.
        timeline: i64 = "timeline",
        /// The tasks.
        tasks: Vec<TaskIdentifier> = "tasks" always,
    }

    /// A task as manifests and verifications name it.
    pub struct TaskIdentifier {
        /// The task's ARN.
        task_arn: String = "taskArn",
        /// Its cluster's ARN.
        task_cluster_arn: String = "taskClusterArn",
        /// What is wanted of it.
        desired_status: DesiredStatus = "desiredStatus",
    }

    /// Answers a stop verification: the candidates that are to be stopped.
    pub struct TaskStopVerificationAck {
        /// The id of the manifest that began the exchange.
        message_id: String = "messageId",
        /// When the message was made, in milliseconds.
        generated_at: i64 = "generatedAt",
        /// The tasks to stop.
        stop_tasks: Vec<TaskIdentifier> = "stopTasks" always,
    }

    /// New credentials of a task's role.
    pub struct IamRoleCredentialsMessage {
        /// Names the message in its acknowledgement.
        message_id: String = "messageId",
        /// The task.
        task_arn: String = "taskArn",
        /// Its cluster's ARN.
        task_cluster_arn: String = "taskClusterArn",
        /// `TaskApplication` or `TaskExecution`.
        role_type: String = "roleType",
        /// The credentials.
        role_credentials: Option<IamRoleCredentials> = "roleCredentials",
    }

    /// Asks the agent to update itself.
    pub struct UpdateMessage {
        /// Names the message in its acknowledgement.
        message_id: String = "messageId",
        /// The cluster's ARN, echoed by the acknowledgement.
        cluster_arn: String = "clusterArn",
        /// The instance whose agent is to be updated.
        container_instance_arn: String = "containerInstanceArn",
        /// What to fetch.
        update_info: Option<UpdateInfo> = "updateInfo",
    }

    /// A version of the agent.
    pub struct UpdateInfo {
        /// URL of the image archive.
        location: String = "location",
        /// SHA-256 of the archive, in hex.
        signature: String = "signature",
    }

    /// Asks for a page of what a container of the instance printed. It is answered by the signed call SubmitTaskLogs, and by
    /// nothing on this socket; an agent that cannot answer in time need not.
    pub struct ReadTaskLogsMessage {
        /// Names the request in the answer; nobody can guess it.
        message_id: String = "messageId",
        /// The instance that is asked.
        container_instance_arn: String = "containerInstanceArn",
        /// The task.
        task_arn: String = "taskArn",
        /// The container's name in the task definition.
        container_name: String = "containerName",
        /// Where the last page ended, as the agent said; then `since` and `tail` do not count.
        position: Option<String> = "position",
        /// Nothing that was printed before, in milliseconds.
        since: Option<i64> = "since",
        /// Of what is there, so many of the last lines.
        tail: Option<i64> = "tail",
        /// How long to wait for something, in milliseconds; 0 answers with what is there.
        wait: i64 = "wait",
    }

    /// The message was accepted.
    pub struct AckRequest {
        /// Echo of the message's cluster ARN.
        cluster: String = "cluster",
        /// The instance.
        container_instance: String = "containerInstance",
        /// The message.
        message_id: String = "messageId",
    }

    /// The message was understood and is refused.
    pub struct NackRequest {
        /// Echo of the message's cluster ARN.
        cluster: String = "cluster",
        /// The instance.
        container_instance: String = "containerInstance",
        /// The message.
        message_id: String = "messageId",
        /// Why.
        reason: String = "reason",
    }

    /// Answers a heartbeat.
    pub struct HeartbeatAckRequest {
        /// The heartbeat's id.
        message_id: String = "messageId",
    }

    /// Role credentials are in use.
    pub struct IamRoleCredentialsAckRequest {
        /// The message that brought them.
        message_id: String = "messageId",
        /// The credentials' id.
        credentials_id: String = "credentialsId",
        /// Their expiration, as received.
        expiration: String = "expiration",
    }

    /// Tasks that run on the instance although the manifest does not want them.
    pub struct TaskStopVerificationMessage {
        /// The manifest's id.
        message_id: String = "messageId",
        /// The tasks.
        stop_candidates: Vec<TaskIdentifier> = "stopCandidates" always,
    }
}
