//! The task of a payload: everything an agent needs to know to run it.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::object::{Member, Secret, object};

/// What the control plane wants of a task.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum DesiredStatus {
    /// Not said, or in a word that is not known here.
    #[default]
    None,
    /// The task is to run.
    Running,
    /// The task is to stop.
    Stopped,
}

impl DesiredStatus {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "NONE",
            Self::Running => "RUNNING",
            Self::Stopped => "STOPPED",
        }
    }
}

impl Member for DesiredStatus {
    fn is_absent(&self) -> bool {
        *self == Self::None
    }
}

impl Serialize for DesiredStatus {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for DesiredStatus {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(match String::deserialize(deserializer)?.as_str() {
            "RUNNING" => Self::Running,
            "STOPPED" => Self::Stopped,
            _ => Self::None,
        })
    }
}

object! {
    /// A task. A stop order needs no more than `arn` and `desired_status`.
    pub struct Task {
        /// The task's ARN.
        arn: String = "arn",
        /// What is wanted of it.
        desired_status: DesiredStatus = "desiredStatus",
        /// Its cluster's ARN, echoed in stop verifications.
        task_cluster_arn: Option<String> = "taskClusterArn",
        /// Family of the task definition.
        family: Option<String> = "family",
        /// Revision of the task definition.
        version: Option<String> = "version",
        /// The containers.
        containers: Vec<Container> = "containers",
        /// Volumes that containers mount.
        volumes: Vec<Volume> = "volumes",
        /// CPU limit of the whole task, in vCPUs.
        cpu: Option<f64> = "cpu",
        /// Memory limit of the whole task, in MiB.
        memory: Option<i64> = "memory",
        /// `bridge` (also when absent), `host`, `none` or `awsvpc`.
        network_mode: Option<String> = "networkMode",
        /// Network interfaces of an awsvpc task.
        elastic_network_interfaces: Vec<ElasticNetworkInterface> = "elasticNetworkInterfaces",
        /// `host` or `task`.
        pid_mode: Option<String> = "pidMode",
        /// `host`, `task` or `none`.
        ipc_mode: Option<String> = "ipcMode",
        /// Proxy of the task.
        proxy_configuration: Option<ProxyConfiguration> = "proxyConfiguration",
        /// Credentials of the task's role.
        role_credentials: Option<IamRoleCredentials> = "roleCredentials",
        /// Credentials of the role with which the agent prepares the task.
        execution_role_credentials: Option<IamRoleCredentials> = "executionRoleCredentials",
        /// Devices assigned to containers.
        associations: Vec<Association> = "associations",
        /// Volumes and meshes attached to the task.
        attachments: Vec<Attachment> = "attachments",
        /// `EC2`, `EXTERNAL` or `FARGATE`.
        launch_type: Option<String> = "launchType",
        /// The service that the task belongs to.
        service_name: Option<String> = "serviceName",
        /// The task's group.
        group: Option<String> = "group",
        /// Whether the task may ask for faults to be injected.
        enable_fault_injection: Option<bool> = "enableFaultInjection",
        /// JSON text of the task-level overrides; informative.
        overrides: Option<String> = "overrides",
        /// Why an agent cannot read the task, of which only what names it is known then. Never sent.
        unreadable: Option<String> = "longshoreUnreadable",
    }

    /// A container of a task.
    pub struct Container {
        /// The container's name in its task.
        name: String = "name",
        /// The image, as the task definition spells it.
        image: String = "image",
        /// The container's ARN.
        container_arn: Option<String> = "containerArn",
        /// Whether the task ends with this container. Always sent: absent means false.
        essential: bool = "essential",
        /// Command; absent keeps the image's.
        command: Option<Vec<String>> = "command",
        /// Entry point; absent keeps the image's, an empty list removes it.
        entry_point: Option<Vec<String>> = "entryPoint",
        /// Environment variables.
        environment: BTreeMap<String, String> = "environment",
        /// Files of environment variables.
        environment_files: Vec<EnvironmentFile> = "environmentFiles",
        /// JSON text; only its `command` has an effect.
        overrides: Option<String> = "overrides",
        /// CPU shares.
        cpu: i64 = "cpu",
        /// Hard memory limit in MiB; 0 is none.
        memory: i64 = "memory",
        /// `name` or `name:alias` of containers to link to.
        links: Vec<String> = "links",
        /// Published ports.
        port_mappings: Vec<PortMapping> = "portMappings",
        /// Volumes to mount.
        mount_points: Vec<MountPoint> = "mountPoints",
        /// Containers whose volumes to mount.
        volumes_from: Vec<VolumeFrom> = "volumesFrom",
        /// Containers to wait for.
        depends_on: Vec<ContainerDependency> = "dependsOn",
        /// Seconds in which the container must reach what others wait for.
        start_timeout: Option<i64> = "startTimeout",
        /// Seconds between the stop signal and the kill.
        stop_timeout: Option<i64> = "stopTimeout",
        /// Restarting in place.
        restart_policy: Option<RestartPolicy> = "restartPolicy",
        /// `docker` when the container's configuration has a health check.
        health_check_type: Option<String> = "healthCheckType",
        /// Everything else, in Docker's own vocabulary.
        docker_config: Option<DockerConfig> = "dockerConfig",
        /// `ExecutionRole` lets the log driver use the execution role.
        logs_auth_strategy: Option<String> = "logsAuthStrategy",
        /// How to authenticate to the image's registry.
        registry_authentication: Option<RegistryAuthentication> = "registryAuthentication",
        /// Secrets to fetch.
        secrets: Vec<SecretReference> = "secrets",
        /// Makes the container the task's log router.
        firelens_configuration: Option<FirelensConfiguration> = "firelensConfiguration",
        /// Agents to run inside the container.
        managed_agents: Vec<ManagedAgent> = "managedAgents",
        /// Credential specifications.
        credential_specs: Vec<String> = "credentialSpecs",
    }

    /// Container settings in Docker's vocabulary, decoded over what the other members amount to.
    pub struct DockerConfig {
        /// Version of the Docker API that the settings need.
        version: Option<String> = "version",
        /// JSON text of a container configuration.
        config: Option<String> = "config",
        /// JSON text of a host configuration.
        host_config: Option<String> = "hostConfig",
    }

    /// A published port, or a range of them.
    pub struct PortMapping {
        /// Port inside the container.
        container_port: Option<i64> = "containerPort",
        /// Port of the host; 0 or absent means any free one.
        host_port: Option<i64> = "hostPort",
        /// `tcp` (also when absent) or `udp`.
        protocol: Option<String> = "protocol",
        /// `first-last`, instead of one container port.
        container_port_range: Option<String> = "containerPortRange",
    }

    /// A volume mounted in a container.
    pub struct MountPoint {
        /// Name of the task's volume.
        source_volume: String = "sourceVolume",
        /// Where it is mounted.
        container_path: String = "containerPath",
        /// Whether the container may not write to it.
        read_only: Option<bool> = "readOnly",
    }

    /// All volumes of another container.
    pub struct VolumeFrom {
        /// The other container.
        source_container: String = "sourceContainer",
        /// Whether the container may not write to them.
        read_only: Option<bool> = "readOnly",
    }

    /// A condition on another container.
    pub struct ContainerDependency {
        /// The other container.
        container_name: String = "containerName",
        /// `START`, `COMPLETE`, `SUCCESS` or `HEALTHY`.
        condition: String = "condition",
    }

    /// Restarting in place.
    pub struct RestartPolicy {
        /// Whether the policy is in force.
        enabled: bool = "enabled",
        /// Exit codes after which the container stays down.
        ignored_exit_codes: Vec<i64> = "ignoredExitCodes",
        /// Seconds a container must have run to be restarted.
        restart_attempt_period: Option<i64> = "restartAttemptPeriod",
    }

    /// A file of environment variables.
    pub struct EnvironmentFile {
        /// `s3`.
        file_type: String = "type",
        /// The object's ARN.
        value: String = "value",
    }

    /// How to authenticate to a registry.
    pub struct RegistryAuthentication {
        /// `ecr` or `asm`.
        authentication_type: String = "type",
        /// For `ecr`.
        ecr_auth_data: Option<EcrAuthData> = "ecrAuthData",
        /// For `asm`.
        asm_auth_data: Option<AsmAuthData> = "asmAuthData",
    }

    /// Registry credentials from the registry's own service.
    pub struct EcrAuthData {
        /// Region of the registry.
        region: Option<String> = "region",
        /// Account of the registry.
        registry_id: Option<String> = "registryId",
        /// Another endpoint of the service.
        endpoint_override: Option<String> = "endpointOverride",
        /// Whether the execution role is used.
        use_execution_role: Option<bool> = "useExecutionRole",
    }

    /// Registry credentials kept as a secret.
    pub struct AsmAuthData {
        /// ARN of the secret.
        credentials_parameter: Option<String> = "credentialsParameter",
        /// Its region.
        region: Option<String> = "region",
    }

    /// A secret that the agent fetches.
    pub struct SecretReference {
        /// Name of the variable or option.
        name: String = "name",
        /// Where the secret is.
        value_from: String = "valueFrom",
        /// Its region.
        region: Option<String> = "region",
        /// `ssm` or `asm`.
        provider: Option<String> = "provider",
        /// `ENVIRONMENT_VARIABLE`, `MOUNT_POINT` or `BOOTSTRAP`.
        secret_type: Option<String> = "type",
        /// `CONTAINER` or `LOG_DRIVER`.
        target: Option<String> = "target",
        /// Path of a mounted secret.
        container_path: Option<String> = "containerPath",
    }

    /// The log router of a task.
    pub struct FirelensConfiguration {
        /// `fluentd` or `fluentbit`.
        firelens_type: String = "type",
        /// Options of the router.
        options: BTreeMap<String, String> = "options",
    }

    /// An agent that runs inside a container.
    pub struct ManagedAgent {
        /// Its name, such as `ExecuteCommandAgent`.
        name: String = "name",
        /// Its settings.
        properties: BTreeMap<String, String> = "properties",
    }

    /// A volume of a task.
    pub struct Volume {
        /// The name that mount points use.
        name: String = "name",
        /// `host`, `docker`, `efs`, `ebs`, …
        volume_type: Option<String> = "type",
        /// For `host`; the empty object is a volume of Docker's choosing.
        host: Option<HostVolume> = "host",
        /// For `docker`.
        docker_volume_configuration: Option<DockerVolume> = "dockerVolumeConfiguration",
        /// For `efs`.
        efs_volume_configuration: Option<EfsVolume> = "efsVolumeConfiguration",
    }

    /// A path of the host.
    pub struct HostVolume {
        /// The path; absent leaves the place to Docker.
        source_path: Option<String> = "sourcePath",
    }

    /// A volume of Docker.
    pub struct DockerVolume {
        /// `task` or `shared`.
        scope: Option<String> = "scope",
        /// Whether a shared volume is made when it does not exist.
        autoprovision: Option<bool> = "autoprovision",
        /// Volume driver.
        driver: Option<String> = "driver",
        /// Its options.
        driver_opts: BTreeMap<String, String> = "driverOpts",
        /// Labels of the volume.
        labels: BTreeMap<String, String> = "labels",
    }

    /// A network file system.
    pub struct EfsVolume {
        /// The file system.
        file_system_id: String = "fileSystemId",
        /// Directory that is mounted as the root.
        root_directory: Option<String> = "rootDirectory",
        /// `ENABLED` or `DISABLED`.
        transit_encryption: Option<String> = "transitEncryption",
        /// Port of the encrypted transport.
        transit_encryption_port: Option<i64> = "transitEncryptionPort",
        /// Access point and role.
        authorization_config: Option<EfsAuthorization> = "authorizationConfig",
    }

    /// Who mounts a network file system.
    pub struct EfsAuthorization {
        /// Access point.
        access_point_id: Option<String> = "accessPointId",
        /// `ENABLED` or `DISABLED`.
        iam: Option<String> = "iam",
    }

    /// Proxy of an awsvpc task.
    pub struct ProxyConfiguration {
        /// `APPMESH`.
        proxy_type: String = "type",
        /// The container that is the proxy.
        container_name: String = "containerName",
        /// Its settings.
        properties: BTreeMap<String, String> = "properties",
    }

    /// Credentials of a role. `credentials_id` stays the same across rotations of a task: containers keep its URL.
    pub struct IamRoleCredentials {
        /// Names the credentials in URLs, so it must not be guessable.
        credentials_id: Secret = "credentialsId",
        /// The role.
        role_arn: String = "roleArn",
        /// Access key.
        access_key_id: String = "accessKeyId",
        /// Secret key.
        secret_access_key: Secret = "secretAccessKey",
        /// Session token.
        session_token: Secret = "sessionToken",
        /// RFC 3339, UTC.
        expiration: String = "expiration",
        /// Scope of the credentials.
        credential_scope: Option<String> = "credentialScope",
    }

    /// A device assigned to containers.
    pub struct Association {
        /// The containers.
        containers: Vec<String> = "containers",
        /// The device.
        name: String = "name",
        /// `gpu` or `elastic-inference`.
        association_type: String = "type",
        /// What containers are told about it.
        content: Option<AssociationContent> = "content",
    }

    /// What containers are told about a device.
    pub struct AssociationContent {
        /// `identity` or `base64`.
        encoding: String = "encoding",
        /// The content.
        value: String = "value" always,
    }

    /// Something attached to a task.
    pub struct Attachment {
        /// Its ARN.
        attachment_arn: Option<String> = "attachmentArn",
        /// `serviceconnectdetail`, `amazonebs` or `s3files`.
        attachment_type: Option<String> = "attachmentType",
        /// Its properties.
        attachment_properties: Vec<AttachmentProperty> = "attachmentProperties",
    }

    /// A property of an attachment.
    pub struct AttachmentProperty {
        /// Name.
        name: String = "name",
        /// Value.
        value: String = "value",
    }

    /// A network interface of an awsvpc task.
    pub struct ElasticNetworkInterface {
        /// The attachment's ARN.
        attachment_arn: Option<String> = "attachmentArn",
        /// Id of the interface.
        ec2_id: Option<String> = "ec2Id",
        /// Hardware address.
        mac_address: Option<String> = "macAddress",
        /// Position among the task's interfaces.
        index: Option<i64> = "index",
        /// Name of the interface.
        name: Option<String> = "name",
        /// Name of its address.
        private_dns_name: Option<String> = "privateDnsName",
        /// Search domains.
        domain_name: Vec<String> = "domainName",
        /// Name servers.
        domain_name_servers: Vec<String> = "domainNameServers",
        /// IPv4 addresses.
        ipv4_addresses: Vec<Ipv4Address> = "ipv4Addresses",
        /// IPv6 addresses.
        ipv6_addresses: Vec<Ipv6Address> = "ipv6Addresses",
        /// Gateway with prefix length, `10.0.0.1/24`.
        subnet_gateway_ipv4_address: Option<String> = "subnetGatewayIpv4Address",
        /// Gateway with prefix length.
        subnet_gateway_ipv6_address: Option<String> = "subnetGatewayIpv6Address",
        /// `default` or `vlan`.
        interface_association_protocol: Option<String> = "interfaceAssociationProtocol",
        /// Ids of the security groups that let traffic in and out. Longshore's own: sent to its own agents only, after a
        /// [`NetworkMessage`](crate::acs::NetworkMessage) that says what each of them allows.
        security_groups: Vec<String> = "longshoreSecurityGroups",
    }

    /// An IPv4 address of an interface.
    pub struct Ipv4Address {
        /// Whether it is the interface's first.
        primary: bool = "primary",
        /// The address.
        private_address: String = "privateAddress",
    }

    /// An IPv6 address of an interface.
    pub struct Ipv6Address {
        /// Whether it is the interface's first.
        primary: bool = "primary",
        /// The address.
        address: String = "address",
    }
}
