//! TCS: telemetry from agents, and the control plane's acknowledgements.
//!
//! Agents wrap their messages in a [`crate::frame::Frame`]; the control plane's are bare. Acknowledgements carry no id: they only keep the line alive.

use longshore_api::Timestamp;

use crate::envelope::messages;
use crate::object::object;

messages! {
    /// What an agent publishes.
    pub enum AgentMessage {
        /// Resource use of tasks.
        Metrics(PublishMetricsRequest) = "PublishMetricsRequest",
        /// Health of containers.
        Health(PublishHealthRequest) = "PublishHealthRequest",
        /// State of the instance itself.
        InstanceStatus(PublishInstanceStatusRequest) = "PublishInstanceStatusRequest",
    }
}

messages! {
    /// What the control plane answers.
    pub enum ServerMessage {
        /// Metrics were received.
        AckMetric(AckPublishMetric) = "AckPublishMetric",
        /// Health was received.
        AckHealth(AckPublishHealth) = "AckPublishHealth",
        /// Instance status was received.
        AckInstanceStatus(AckPublishInstanceStatus) = "AckPublishInstanceStatus",
        /// Keeps the session alive.
        Heartbeat(HeartbeatMessage) = "HeartbeatMessage",
    }
}

object! {
    /// Resource use of up to ten tasks; the parts of one cycle share a message id.
    pub struct PublishMetricsRequest {
        /// Who publishes.
        metadata: Option<MetricsMetadata> = "metadata",
        /// The tasks; none when the instance is idle.
        task_metrics: Vec<TaskMetric> = "taskMetrics",
        /// When it was published.
        timestamp: Option<Timestamp> = "timestamp",
    }

    /// Who publishes metrics.
    pub struct MetricsMetadata {
        /// The cluster as configured.
        cluster: String = "cluster",
        /// The instance's ARN.
        container_instance: String = "containerInstance",
        /// Shared by the parts of a cycle.
        message_id: String = "messageId",
        /// Whether this is the last part.
        fin: bool = "fin",
        /// Whether no task runs.
        idle: bool = "idle",
    }

    /// Resource use of a task.
    pub struct TaskMetric {
        /// The task.
        task_arn: String = "taskArn",
        /// Family of its definition.
        task_definition_family: String = "taskDefinitionFamily",
        /// Revision of its definition.
        task_definition_version: String = "taskDefinitionVersion",
        /// Its cluster.
        cluster_arn: Option<String> = "clusterArn",
        /// Its containers.
        container_metrics: Vec<ContainerMetric> = "containerMetrics",
    }

    /// Resource use of a container.
    pub struct ContainerMetric {
        /// The container.
        container_name: String = "containerName",
        /// Its ARN.
        container_arn: Option<String> = "containerArn",
        /// Percent of the whole instance: 100 is every core busy.
        cpu_stats_set: Option<StatsSet> = "cpuStatsSet",
        /// Whole MiB, without page cache.
        memory_stats_set: Option<StatsSet> = "memoryStatsSet",
        /// Absent in host and none network modes.
        network_stats_set: Option<NetworkStatsSet> = "networkStatsSet",
        /// Block devices.
        storage_stats_set: Option<StorageStatsSet> = "storageStatsSet",
        /// With a restart policy only.
        restart_stats_set: Option<RestartStatsSet> = "restartStatsSet",
    }

    /// Samples of a cycle, summed up.
    pub struct StatsSet {
        /// Smallest sample.
        min: f64 = "min",
        /// Greatest sample.
        max: f64 = "max",
        /// Number of samples.
        sample_count: i64 = "sampleCount",
        /// Their sum.
        sum: f64 = "sum",
    }

    /// Samples of a cumulative counter; the overflow members carry what exceeds 63 bits.
    pub struct CounterStatsSet {
        /// Smallest sample.
        min: i64 = "min",
        /// Greatest sample.
        max: i64 = "max",
        /// Number of samples.
        sample_count: i64 = "sampleCount",
        /// Their sum.
        sum: i64 = "sum",
        /// Overflow of the smallest sample.
        overflow_min: Option<i64> = "overflowMin",
        /// Overflow of the greatest sample.
        overflow_max: Option<i64> = "overflowMax",
        /// Overflow of the sum.
        overflow_sum: Option<i64> = "overflowSum",
    }

    /// Network use of a container.
    pub struct NetworkStatsSet {
        /// Bytes received.
        rx_bytes: Option<CounterStatsSet> = "rxBytes",
        /// Incoming packets dropped.
        rx_dropped: Option<CounterStatsSet> = "rxDropped",
        /// Errors at receiving.
        rx_errors: Option<CounterStatsSet> = "rxErrors",
        /// Packets received.
        rx_packets: Option<CounterStatsSet> = "rxPackets",
        /// Bytes sent.
        tx_bytes: Option<CounterStatsSet> = "txBytes",
        /// Outgoing packets dropped.
        tx_dropped: Option<CounterStatsSet> = "txDropped",
        /// Errors at sending.
        tx_errors: Option<CounterStatsSet> = "txErrors",
        /// Packets sent.
        tx_packets: Option<CounterStatsSet> = "txPackets",
        /// Rate of receiving.
        rx_bytes_per_second: Option<StatsSet> = "rxBytesPerSecond",
        /// Rate of sending.
        tx_bytes_per_second: Option<StatsSet> = "txBytesPerSecond",
    }

    /// Block device use of a container.
    pub struct StorageStatsSet {
        /// Bytes read.
        read_size_bytes: Option<CounterStatsSet> = "readSizeBytes",
        /// Bytes written.
        write_size_bytes: Option<CounterStatsSet> = "writeSizeBytes",
    }

    /// Restarts in place.
    pub struct RestartStatsSet {
        /// How many.
        restart_count: i64 = "restartCount",
    }

    /// Health of the containers that have a health check.
    pub struct PublishHealthRequest {
        /// Who publishes.
        metadata: Option<HealthMetadata> = "metadata",
        /// The tasks.
        tasks: Vec<TaskHealth> = "tasks",
        /// When it was published.
        timestamp: Option<Timestamp> = "timestamp",
    }

    /// Who publishes health.
    pub struct HealthMetadata {
        /// The cluster as configured.
        cluster: String = "cluster",
        /// The instance's ARN.
        container_instance: String = "containerInstance",
        /// Shared by the parts of a cycle.
        message_id: String = "messageId",
        /// Whether this is the last part.
        fin: bool = "fin",
    }

    /// Health of a task's containers.
    pub struct TaskHealth {
        /// The task.
        task_arn: String = "taskArn",
        /// Family of its definition.
        task_definition_family: String = "taskDefinitionFamily",
        /// Revision of its definition.
        task_definition_version: String = "taskDefinitionVersion",
        /// Its cluster.
        cluster_arn: Option<String> = "clusterArn",
        /// Its containers.
        containers: Vec<ContainerHealth> = "containers",
    }

    /// Health of a container.
    pub struct ContainerHealth {
        /// The container.
        container_name: String = "containerName",
        /// `HEALTHY`, `UNHEALTHY` or `UNKNOWN`.
        health_status: String = "healthStatus",
        /// Since when.
        status_since: Option<Timestamp> = "statusSince",
        /// Output of the check.
        status_message: Option<String> = "statusMessage",
    }

    /// State of the instance itself.
    pub struct PublishInstanceStatusRequest {
        /// Who publishes.
        metadata: Option<InstanceStatusMetadata> = "metadata",
        /// What was checked.
        statuses: Vec<InstanceStatus> = "statuses",
        /// When it was published.
        timestamp: Option<Timestamp> = "timestamp",
    }

    /// Who publishes instance status.
    pub struct InstanceStatusMetadata {
        /// The cluster as configured.
        cluster: String = "cluster",
        /// The instance's ARN.
        container_instance: String = "containerInstance",
        /// Names the request.
        request_id: String = "requestId",
    }

    /// Outcome of a check of the instance.
    pub struct InstanceStatus {
        /// `ContainerRuntime`, `Agent`, …
        check_type: String = "type",
        /// `INITIALIZING`, `OK`, `IMPAIRED` or `INSUFFICIENT_DATA`.
        status: String = "status",
        /// When it changed.
        last_status_change: Option<Timestamp> = "lastStatusChange",
        /// When it was checked.
        last_updated: Option<Timestamp> = "lastUpdated",
        /// Why.
        status_reason: Option<String> = "statusReason",
    }

    /// Metrics were received.
    pub struct AckPublishMetric {
        /// Any text.
        message: Option<String> = "message",
    }

    /// Health was received.
    pub struct AckPublishHealth {
        /// Any text.
        message: Option<String> = "message",
    }

    /// Instance status was received.
    pub struct AckPublishInstanceStatus {
        /// Any text.
        message: Option<String> = "message",
    }

    /// Keeps the session alive.
    pub struct HeartbeatMessage {
        /// Always true.
        healthy: bool = "healthy",
    }
}
