//! The table. Names of members and values stand in backticks.

use super::MemberSupport::{BuiltNotRun, PartOf, Refused, Works};
use super::{MemberCoverage, RefusedValue, ShapeCoverage};

const NOT_YET_OF_TASK: &str = "Invalid '…' setting for task. Longshore does not support it yet.";
const NOT_YET_OF_CONTAINER: &str = "Invalid '…' setting for container '…'. Longshore does not support it yet.";
const NOT_YET_OVERRIDE: &str = "Invalid '…' setting in task overrides. Longshore does not support it yet.";

const NOT_YET_CONTAINER_OVERRIDE: &str =
    "Invalid 'resourceRequirements' setting in the override for container '…'. Longshore does not support it yet.";
const FAULTS: &str = "Invalid 'enableFaultInjection' setting for task. It needs networkMode host…";
const ACCELERATORS: &str = "Invalid 'inferenceAccelerators' setting for task. Longshore does not support it: Elastic Inference has been shut down.";
const MESH: &str =
    "Invalid 'proxyConfiguration' setting for task. Longshore does not support it: there is no App Mesh.";
const ENCLAVES: &str =
    "Invalid 'trustedExecutionConfiguration' setting for task. Longshore does not support it: there are no enclaves.";
const MANAGED_ACCOUNTS: &str =
    "Invalid '…' setting for container '…'. Longshore does not support it: there are no hosts of a Windows domain.";
const NEURON: &str = "Invalid 'resourceRequirements' setting for container '…'. Longshore does not support Neuron devices: only managed instances have them.";
const LINUX_ONLY: &str = "Invalid '…' setting for task. Longshore does not support it: it runs Linux containers only.";

const fn shape(shape: &'static str, members: &'static [MemberCoverage]) -> ShapeCoverage {
    ShapeCoverage { shape, members }
}

const fn works(name: &'static str, note: &'static str) -> MemberCoverage {
    MemberCoverage { name, support: Works, note, refused_values: &[] }
}

const fn partly(name: &'static str, note: &'static str, refused_values: &'static [RefusedValue]) -> MemberCoverage {
    MemberCoverage { name, support: Works, note, refused_values }
}

const fn not_run(name: &'static str, note: &'static str) -> MemberCoverage {
    MemberCoverage { name, support: BuiltNotRun, note, refused_values: &[] }
}

const fn refused(name: &'static str, error: &'static str, note: &'static str) -> MemberCoverage {
    MemberCoverage { name, support: Refused(error), note, refused_values: &[] }
}

const fn within(name: &'static str, whole: &'static str) -> MemberCoverage {
    MemberCoverage { name, support: PartOf(whole), note: "", refused_values: &[] }
}

const fn value(what: &'static str, error: &'static str) -> RefusedValue {
    RefusedValue { what, error }
}

/// What becomes of every member.
pub const TABLE: &[ShapeCoverage] = &[
    shape(
        "TaskDefinition",
        &[
            works("compatibilities", "Filled in."),
            works("containerDefinitions", ""),
            works("cpu", "A cgroup of the task; needs `ecs.capability.task-cpu-mem-limit`."),
            works("deleteRequestedAt", "Filled in."),
            works("deregisteredAt", "Filled in."),
            partly(
                "enableFaultInjection",
                "Needs `ecs.capability.fault-injection`, which agents other than ours have.",
                &[value("true, without `networkMode` host", FAULTS)],
            ),
            refused("ephemeralStorage", NOT_YET_OF_TASK, ""),
            works(
                "executionRoleArn",
                "Agents fetch secrets and logins with its credentials; any role is as good as another.",
            ),
            works("family", ""),
            refused("inferenceAccelerators", ACCELERATORS, ""),
            works("ipcMode", "Needs `ecs.capability.pid-ipc-namespace-sharing`."),
            works("memory", "A cgroup of the task; needs `ecs.capability.task-cpu-mem-limit`."),
            works(
                "networkMode",
                "`awsvpc` needs `ecs.capability.task-eni`; its subnets and security groups: [network.md](network.md).",
            ),
            works("pidMode", "Needs `ecs.capability.pid-ipc-namespace-sharing`."),
            works("placementConstraints", ""),
            refused("proxyConfiguration", MESH, ""),
            works("registeredAt", "Filled in."),
            works("registeredBy", "Filled in."),
            works("requiresAttributes", "Filled in; placement refuses instances that lack one."),
            partly(
                "requiresCompatibilities",
                "`FARGATE`: the rules and sizes of Fargate; the tasks run on the cluster's own instances.",
                &[value(
                    "`MANAGED_INSTANCES`",
                    "Invalid 'requiresCompatibilities' setting for task. MANAGED_INSTANCES: Longshore does not support it yet.",
                )],
            ),
            works("revision", "Filled in."),
            works("runtimePlatform", ""),
            works("status", "Filled in."),
            works("taskDefinitionArn", "Filled in."),
            refused("taskRoleArn", NOT_YET_OF_TASK, ""),
            refused("trustedExecutionConfiguration", ENCLAVES, ""),
            works("volumes", ""),
        ],
    ),
    shape(
        "ContainerDefinition",
        &[
            works("command", "An empty list keeps the image's."),
            works("cpu", "CPU shares."),
            refused("credentialSpecs", MANAGED_ACCOUNTS, ""),
            works("dependsOn", ""),
            works("disableNetworking", ""),
            works("dnsSearchDomains", ""),
            works("dnsServers", ""),
            works("dockerLabels", ""),
            partly("dockerSecurityOptions", "", &[value("`credentialspec:…`", MANAGED_ACCOUNTS)]),
            works("entryPoint", "An empty list keeps the image's."),
            works("environment", ""),
            works(
                "environmentFiles",
                "Objects of any service that speaks S3; see docs/bootstrap.md for as whom they are fetched.",
            ),
            works("essential", ""),
            works("extraHosts", ""),
            refused("firelensConfiguration", NOT_YET_OF_CONTAINER, ""),
            works("healthCheck", ""),
            works("hostname", ""),
            works("image", ""),
            works("interactive", ""),
            works("links", ""),
            works("linuxParameters", ""),
            works("logConfiguration", ""),
            works("memory", ""),
            works("memoryReservation", ""),
            works("mountPoints", ""),
            works("name", ""),
            works("portMappings", ""),
            works("privileged", ""),
            works("pseudoTerminal", ""),
            works("readonlyRootFilesystem", ""),
            works("repositoryCredentials", ""),
            not_run("resourceRequirements", ""),
            works("restartPolicy", ""),
            works("secrets", "Needs `executionRoleArn`, as in ECS."),
            works("startTimeout", ""),
            works("stopTimeout", ""),
            works("systemControls", ""),
            works("ulimits", ""),
            works("user", ""),
            works(
                "versionConsistency",
                "Kept and described. The digest of what is pulled is found out first and told (`imageDigest`); held to one are, as in ECS, the tasks of services, and there are none yet.",
            ),
            works("volumesFrom", ""),
            works("workingDirectory", ""),
        ],
    ),
    shape("ContainerDependency", &[works("condition", ""), works("containerName", "")]),
    shape("KeyValuePair", &[works("name", ""), works("value", "")]),
    shape("EnvironmentFile", &[works("type", "`s3`, the only one there is."), works("value", "")]),
    shape("HostEntry", &[works("hostname", ""), works("ipAddress", "")]),
    shape(
        "FirelensConfiguration",
        &[within("options", "firelensConfiguration"), within("type", "firelensConfiguration")],
    ),
    shape(
        "HealthCheck",
        &[
            works("command", ""),
            works("interval", ""),
            works("retries", ""),
            works("startPeriod", ""),
            works("timeout", ""),
        ],
    ),
    shape(
        "LinuxParameters",
        &[
            works("capabilities", ""),
            works("devices", ""),
            works("initProcessEnabled", ""),
            works("maxSwap", "As far as the kernel accounts for swap."),
            works("sharedMemorySize", ""),
            works("swappiness", "Without `maxSwap` it has no effect, as in ECS; cgroup v2 has no such setting."),
            works("tmpfs", ""),
        ],
    ),
    shape("KernelCapabilities", &[works("add", ""), works("drop", "")]),
    shape("Device", &[works("containerPath", ""), works("hostPath", ""), works("permissions", "")]),
    shape("Tmpfs", &[works("containerPath", ""), works("mountOptions", ""), works("size", "")]),
    shape(
        "LogConfiguration",
        &[
            partly(
                "logDriver",
                "Needs an instance that has it (`com.amazonaws.ecs.capability.logging-driver.…`); `awslogs` too, and it uses the credentials of the instance's Docker.",
                &[value("`awsfirelens`", NOT_YET_OF_CONTAINER)],
            ),
            works("options", ""),
            works("secretOptions", "Needs `executionRoleArn`, as in ECS."),
        ],
    ),
    shape("Secret", &[works("name", ""), works("valueFrom", "")]),
    shape("MountPoint", &[works("containerPath", ""), works("readOnly", ""), works("sourceVolume", "")]),
    shape(
        "PortMapping",
        &[
            works("appProtocol", "Described; as in ECS it matters to Service Connect alone."),
            works("containerPort", ""),
            works("containerPortRange", ""),
            works("hostPort", ""),
            works("name", "Described; as in ECS it matters to Service Connect alone."),
            works("protocol", ""),
        ],
    ),
    shape("RepositoryCredentials", &[works("credentialsParameter", "")]),
    shape(
        "ResourceRequirement",
        &[
            refused("sharingStrategy", NOT_YET_OF_CONTAINER, ""),
            partly(
                "type",
                "`GPU`.",
                &[
                    value("`NeuronDevice`", NEURON),
                    value(
                        "`InferenceAccelerator`",
                        "Invalid 'resourceRequirements' setting for container '…'. '…' is not the deviceName of an inference accelerator of the task.",
                    ),
                ],
            ),
            not_run(
                "value",
                "GPUs are placed by their ids, each to one container, on instances whose agent has `ECS_ENABLE_GPU_SUPPORT`. Shown with a runtime that stands in for NVIDIA's.",
            ),
        ],
    ),
    shape("SharingStrategy", &[within("nvidiaMps", "sharingStrategy")]),
    shape(
        "NvidiaMpsAllocation",
        &[within("maxComputePercent", "sharingStrategy"), within("memory", "sharingStrategy")],
    ),
    shape(
        "ContainerRestartPolicy",
        &[works("enabled", ""), works("ignoredExitCodes", ""), works("restartAttemptPeriod", "")],
    ),
    shape("SystemControl", &[works("namespace", ""), works("value", "")]),
    shape("Ulimit", &[works("hardLimit", ""), works("name", ""), works("softLimit", "")]),
    shape("VolumeFrom", &[works("readOnly", ""), works("sourceContainer", "")]),
    shape("EphemeralStorage", &[within("sizeInGiB", "ephemeralStorage")]),
    shape(
        "InferenceAccelerator",
        &[within("deviceName", "inferenceAccelerators"), within("deviceType", "inferenceAccelerators")],
    ),
    shape(
        "TaskDefinitionPlacementConstraint",
        &[works("expression", "Compiled once; patterns are tried in linear time."), works("type", "")],
    ),
    shape(
        "ProxyConfiguration",
        &[
            within("containerName", "proxyConfiguration"),
            within("properties", "proxyConfiguration"),
            within("type", "proxyConfiguration"),
        ],
    ),
    shape(
        "Attribute",
        &[
            works("name", "Filled in."),
            works("targetId", "Never there in a definition."),
            works("targetType", "Never there in a definition."),
            works("value", "Filled in."),
        ],
    ),
    shape(
        "RuntimePlatform",
        &[
            works("cpuArchitecture", "Needs an instance of it."),
            partly("operatingSystemFamily", "`LINUX`.", &[value("any other", LINUX_ONLY)]),
        ],
    ),
    shape(
        "TrustedExecutionConfiguration",
        &[
            within("attestationPolicy", "trustedExecutionConfiguration"),
            within("isolationMode", "trustedExecutionConfiguration"),
        ],
    ),
    shape(
        "Volume",
        &[
            refused("configuredAtLaunch", NOT_YET_OF_TASK, ""),
            works("dockerVolumeConfiguration", ""),
            not_run("efsVolumeConfiguration", "An NFS mount by Docker's driver `local`."),
            refused("fsxWindowsFileServerVolumeConfiguration", LINUX_ONLY, ""),
            works("host", "Nothing, or an empty object, is a volume that lives as long as the task."),
            works("name", ""),
            refused("s3filesVolumeConfiguration", NOT_YET_OF_TASK, ""),
        ],
    ),
    shape(
        "DockerVolumeConfiguration",
        &[
            works("autoprovision", ""),
            works("driver", "Needs an instance that has it (`ecs.capability.docker-plugin.…`)."),
            works("driverOpts", ""),
            works("labels", ""),
            works("scope", ""),
        ],
    ),
    shape(
        "EFSVolumeConfiguration",
        &[
            not_run("authorizationConfig", ""),
            not_run("fileSystemId", ""),
            not_run("rootDirectory", ""),
            not_run(
                "transitEncryption",
                "`ENABLED` needs `ecs.capability.efsAuth`, which agents other than ours have.",
            ),
            not_run("transitEncryptionPort", "Goes with `transitEncryption`."),
        ],
    ),
    shape(
        "EFSAuthorizationConfig",
        &[not_run("accessPointId", "Goes with `transitEncryption`."), not_run("iam", "Goes with `transitEncryption`.")],
    ),
    shape(
        "FSxWindowsFileServerVolumeConfiguration",
        &[
            within("authorizationConfig", "fsxWindowsFileServerVolumeConfiguration"),
            within("fileSystemId", "fsxWindowsFileServerVolumeConfiguration"),
            within("rootDirectory", "fsxWindowsFileServerVolumeConfiguration"),
        ],
    ),
    shape(
        "FSxWindowsFileServerAuthorizationConfig",
        &[
            within("credentialsParameter", "fsxWindowsFileServerVolumeConfiguration"),
            within("domain", "fsxWindowsFileServerVolumeConfiguration"),
        ],
    ),
    shape("HostVolumeProperties", &[works("sourcePath", "")]),
    shape(
        "S3FilesVolumeConfiguration",
        &[
            within("accessPointArn", "s3filesVolumeConfiguration"),
            within("fileSystemArn", "s3filesVolumeConfiguration"),
            within("rootDirectory", "s3filesVolumeConfiguration"),
            within("transitEncryptionPort", "s3filesVolumeConfiguration"),
        ],
    ),
    shape(
        "TaskOverride",
        &[
            works("containerOverrides", ""),
            works("cpu", ""),
            refused("ephemeralStorage", NOT_YET_OVERRIDE, ""),
            works("executionRoleArn", ""),
            refused("inferenceAcceleratorOverrides", NOT_YET_OVERRIDE, ""),
            works("memory", ""),
            refused("taskRoleArn", NOT_YET_OVERRIDE, ""),
        ],
    ),
    shape(
        "ContainerOverride",
        &[
            works("command", ""),
            works("cpu", ""),
            works("environment", ""),
            works("environmentFiles", "They take the place of those of the definition."),
            works("memory", ""),
            works("memoryReservation", ""),
            works("name", ""),
            MemberCoverage {
                support: BuiltNotRun,
                ..partly(
                    "resourceRequirements",
                    "They take the place of those of the definition.",
                    &[value("what the definition is refused for", NOT_YET_CONTAINER_OVERRIDE)],
                )
            },
        ],
    ),
    shape(
        "InferenceAcceleratorOverride",
        &[within("deviceName", "inferenceAcceleratorOverrides"), within("deviceType", "inferenceAcceleratorOverrides")],
    ),
];
