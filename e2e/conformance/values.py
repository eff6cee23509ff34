"""Requests that mean something: the least that an operation takes, and values for its members.

Everything here is what ECS documents, never what Longshore happens to answer: a value that ECS
takes and Longshore refuses belongs here all the same.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

from conformance.world import CHANGED, CONTAINER, FAMILY, PROVIDER, REGISTRATIONS, World

Value = Any
Maker = Callable[[World], Value]

ROLE = "arn:aws:iam::111122223333:role/conformance"
SECRET = "arn:aws:secretsmanager:us-east-1:111122223333:secret:conformance-AbCdEf"
BUCKET_FILE = "arn:aws:s3:::conformance/settings.env"

# The least valid request of an operation; `{}` and what the shapes demand, if it is not here.
REQUESTS: dict[str, Maker] = {
    "CreateCluster": lambda world: {"clusterName": world.name()},
    "CreateCapacityProvider": lambda world: {
        "name": world.name(),
        "autoScalingGroupProvider": {"autoScalingGroupArn": world.name()},
    },
    "DeleteAccountSetting": lambda world: {"name": "containerInsights"},
    "DeleteAttributes": lambda world: {
        "attributes": [{"name": "stack", "targetId": world.instance.arn}]
    },
    "DeleteCapacityProvider": lambda world: {"capacityProvider": world.new_provider()},
    "DeleteCluster": lambda world: {"cluster": world.new_cluster()},
    "DeleteTaskDefinitions": lambda world: {"taskDefinitions": [world.new_inactive_definition()]},
    "DeregisterContainerInstance": lambda world: {
        "cluster": REGISTRATIONS,
        "containerInstance": world.new_instance(),
    },
    "DeregisterTaskDefinition": lambda world: {"taskDefinition": world.new_definition()},
    "DescribeContainerInstances": lambda world: {"containerInstances": [world.instance.arn]},
    "DescribeTaskDefinition": lambda world: {"taskDefinition": FAMILY},
    "DescribeTasks": lambda world: {"tasks": [world.task]},
    "ListAttributes": lambda world: {"targetType": "container-instance"},
    "ListTagsForResource": lambda world: {"resourceArn": world.cluster_arn},
    "PutAccountSetting": lambda world: {"name": "containerInsights", "value": "disabled"},
    "PutAccountSettingDefault": lambda world: {"name": "containerInsights", "value": "disabled"},
    "PutAttributes": lambda world: {"attributes": [attribute(world)]},
    "PutClusterCapacityProviders": lambda world: {
        "cluster": CHANGED,
        "capacityProviders": [],
        "defaultCapacityProviderStrategy": [],
    },
    "RegisterContainerInstance": lambda world: world.instance_registration(),
    "RegisterTaskDefinition": lambda world: world.registration(),
    "RunTask": lambda world: {"taskDefinition": FAMILY},
    "StartTask": lambda world: {
        "taskDefinition": FAMILY,
        "containerInstances": [world.instance.arn],
    },
    "StopTask": lambda world: {"task": world.new_task()},
    "SubmitAttachmentStateChanges": lambda world: {
        "attachments": [
            {"attachmentArn": world.arn(f"attachment/{uuid.uuid4()}"), "status": "ATTACHED"}
        ]
    },
    "SubmitContainerStateChange": lambda world: {
        "task": world.task,
        "containerName": CONTAINER,
        "status": "RUNNING",
    },
    "SubmitTaskStateChange": lambda world: {"task": world.task, "status": "RUNNING"},
    "TagResource": lambda world: {
        "resourceArn": world.arn(f"cluster/{world.new_cluster()}"),
        "tags": [{"key": "team", "value": "a"}],
    },
    "UntagResource": lambda world: {"resourceArn": world.cluster_arn, "tagKeys": ["team"]},
    "UpdateCapacityProvider": lambda world: {
        "name": world.new_provider(),
        "autoScalingGroupProvider": {"managedDraining": "ENABLED"},
    },
    "UpdateCluster": lambda world: {"cluster": CHANGED},
    "UpdateClusterSettings": lambda world: {
        "cluster": CHANGED,
        "settings": [{"name": "containerInsights", "value": "disabled"}],
    },
    "UpdateContainerAgent": lambda world: {"containerInstance": world.instance.arn},
    "UpdateContainerInstancesState": lambda world: {
        "cluster": REGISTRATIONS,
        "containerInstances": [world.idle_instance],
        "status": "ACTIVE",
    },
}

# What has to stand in a request besides, so that a place in it means something: members for the
# request, by the beginning of the place. The longest beginning counts.
MAIN = {"name": CONTAINER, "image": "busybox", "memory": 64}
OTHER = {"name": "other", "image": "busybox", "memory": 64}
IN_CONTAINER = "containerDefinitions[]."
LOGGED = {
    "configuration": {
        "executeCommandConfiguration": {
            "logging": "OVERRIDE",
            "logConfiguration": {"cloudWatchLogGroupName": "commands", "s3BucketName": "commands"},
        }
    }
}
LOG_CONFIGURATION = "configuration.executeCommandConfiguration.logConfiguration"
# The first of them is the one that can be left out.
PROXY = {
    "containerName": CONTAINER,
    "properties": [
        {"name": "EgressIgnoredIPs", "value": "169.254.170.2"},
        {"name": "IgnoredUID", "value": "1337"},
        {"name": "AppPorts", "value": "80"},
        {"name": "ProxyIngressPort", "value": "15000"},
        {"name": "ProxyEgressPort", "value": "15001"},
    ],
}
RESERVED = {"containerOverrides": [{"name": CONTAINER, "memory": 64}]}
ON_FARGATE = {
    "networkMode": "awsvpc",
    "cpu": "256",
    "memory": "512",
    "requiresCompatibilities": ["FARGATE"],
}
SURROUNDINGS: dict[str, dict[str, dict[str, Value]]] = {
    "CreateCluster": {
        "defaultCapacityProviderStrategy": {"capacityProviders": [PROVIDER]},
        LOG_CONFIGURATION: LOGGED,
    },
    "ListAccountSettings": {"value": {"name": "containerInsights"}},
    "ListAttributes": {"attributeValue": {"attributeName": "stack"}},
    "PutClusterCapacityProviders": {
        "defaultCapacityProviderStrategy": {"capacityProviders": [PROVIDER]},
    },
    "RegisterTaskDefinition": {
        IN_CONTAINER + "dependsOn": {"containerDefinitions": [MAIN, OTHER]},
        IN_CONTAINER + "environmentFiles": {"executionRoleArn": ROLE},
        IN_CONTAINER + "firelensConfiguration": {
            "containerDefinitions": [
                MAIN | {"firelensConfiguration": {"type": "fluentbit"}},
                OTHER | {"logConfiguration": {"logDriver": "awsfirelens"}},
            ]
        },
        IN_CONTAINER + "linuxParameters.swappiness": {
            "containerDefinitions": [MAIN | {"linuxParameters": {"maxSwap": 100}}]
        },
        IN_CONTAINER + "links": {"containerDefinitions": [MAIN, OTHER]},
        IN_CONTAINER + "logConfiguration.secretOptions": {"executionRoleArn": ROLE},
        IN_CONTAINER + "memoryReservation": {"containerDefinitions": [MAIN]},
        IN_CONTAINER + "mountPoints": {"volumes": [{"name": "data", "host": {}}]},
        IN_CONTAINER + "portMappings[].containerPortRange": {
            "containerDefinitions": [MAIN | {"portMappings": [{"containerPortRange": "100-110"}]}]
        },
        IN_CONTAINER + "repositoryCredentials": {"executionRoleArn": ROLE},
        IN_CONTAINER + "secrets": {"executionRoleArn": ROLE},
        IN_CONTAINER + "volumesFrom": {"containerDefinitions": [MAIN, OTHER]},
        "enableFaultInjection": {"networkMode": "host"},
        "ephemeralStorage": ON_FARGATE,
        "proxyConfiguration": {"networkMode": "awsvpc", "proxyConfiguration": PROXY},
        "volumes[].dockerVolumeConfiguration": {
            "volumes": [{"name": "data", "dockerVolumeConfiguration": {"scope": "shared"}}]
        },
        "volumes[].efsVolumeConfiguration": {
            "volumes": [
                {
                    "name": "data",
                    "efsVolumeConfiguration": {
                        "fileSystemId": "fs-12345678",
                        "transitEncryption": "ENABLED",
                    },
                }
            ]
        },
    },
    "RunTask": {
        "overrides.containerOverrides[].memoryReservation": {"overrides": RESERVED},
        # With random a field is not used, and need not be there.
        "placementStrategy[].field": {"placementStrategy": [{"type": "random"}]},
    },
    "StartTask": {"overrides.containerOverrides[].memoryReservation": {"overrides": RESERVED}},
    "UpdateCluster": {LOG_CONFIGURATION: LOGGED},
}

IDENTITY_DOCUMENT = '{"instanceId": "i-0123456789abcdef0", "region": "us-east-1"}'

# A value for a member, by the structure that has it and its name; made where it names a thing.
MEMBERS: dict[str, Value | Maker] = {
    "ContainerDefinition.command": ["true"],
    "ContainerDefinition.credentialSpecs": ["credentialspec:arn:aws:s3:::conformance/spec"],
    "ContainerDefinition.dnsServers": ["10.0.0.2"],
    "ContainerDefinition.dnsSearchDomains": ["example.com"],
    "ContainerDefinition.dockerSecurityOptions": ["no-new-privileges"],
    "ContainerDefinition.entryPoint": ["sh"],
    "ContainerDefinition.hostname": "host",
    "ContainerDefinition.image": "busybox",
    "ContainerDefinition.links": ["other"],
    "ContainerDefinition.memory": 64,
    "ContainerDefinition.memoryReservation": 32,
    "ContainerDefinition.name": CONTAINER,
    "ContainerDefinition.startTimeout": 120,
    "ContainerDefinition.stopTimeout": 30,
    "ContainerDefinition.user": "1000",
    "ContainerDefinition.workingDirectory": "/tmp",
    "ContainerDependency.containerName": "other",
    "ContainerOverride.command": ["true"],
    "ContainerOverride.cpu": 10,
    "ContainerOverride.memory": 64,
    "ContainerOverride.memoryReservation": 32,
    "ContainerOverride.name": CONTAINER,
    "ContainerStateChange.containerName": CONTAINER,
    "ContainerStateChange.imageDigest": "sha256:" + "0" * 64,
    "ContainerStateChange.runtimeId": "ab" * 32,
    "ContainerStateChange.status": "RUNNING",
    "Device.containerPath": "/dev/none",
    "Device.hostPath": "/dev/null",
    "DockerVolumeConfiguration.driver": "local",
    "DockerVolumeConfiguration.scope": "shared",
    "EFSAuthorizationConfig.accessPointId": "fsap-1234567890abcdef0",
    "EFSVolumeConfiguration.fileSystemId": "fs-12345678",
    "EFSVolumeConfiguration.rootDirectory": "/data",
    "EFSVolumeConfiguration.transitEncryptionPort": 20049,
    "EnvironmentFile.value": BUCKET_FILE,
    "EphemeralStorage.sizeInGiB": 30,
    "ExecuteCommandConfiguration.logging": "DEFAULT",
    "FirelensConfiguration.options": {"enable-ecs-log-metadata": "true"},
    "HealthCheck.command": ["CMD", "true"],
    "HealthCheck.interval": 30,
    "HealthCheck.retries": 3,
    "HealthCheck.startPeriod": 10,
    "HealthCheck.timeout": 5,
    "HostEntry.hostname": "other",
    "HostEntry.ipAddress": "10.0.0.3",
    "HostVolumeProperties.sourcePath": "/tmp",
    "KernelCapabilities.add": ["NET_ADMIN"],
    "KernelCapabilities.drop": ["MKNOD"],
    "LinuxParameters.maxSwap": 100,
    "LinuxParameters.sharedMemorySize": 64,
    "LinuxParameters.swappiness": 60,
    "LogConfiguration.options": {"max-size": "1m"},
    "MountPoint.containerPath": "/data",
    "MountPoint.sourceVolume": "data",
    "NetworkBinding.bindIP": "0.0.0.0",
    "NetworkBinding.containerPortRange": "100-110",
    "NetworkBinding.hostPortRange": "32768-32778",
    "PortMapping.containerPort": 80,
    "PortMapping.containerPortRange": "100-110",
    "PortMapping.hostPort": 8080,
    "PortMapping.name": "web",
    "ProxyConfiguration.containerName": CONTAINER,
    "ProxyConfiguration.properties": PROXY["properties"],
    "RepositoryCredentials.credentialsParameter": SECRET,
    "Resource.integerValue": 1024,
    "Resource.name": "CPU",
    "Resource.type": "INTEGER",
    "ResourceRequirement.value": "1",
    "RuntimePlatform.operatingSystemFamily": "LINUX",
    "Secret.name": "PASSWORD",
    "Secret.valueFrom": SECRET,
    "SystemControl.namespace": "net.core.somaxconn",
    "SystemControl.value": "128",
    "Tmpfs.containerPath": "/scratch",
    "Tmpfs.mountOptions": ["noexec"],
    "Tmpfs.size": 16,
    "Ulimit.hardLimit": 2048,
    "Ulimit.name": "nofile",
    "Ulimit.softLimit": 1024,
    "Volume.name": "data",
    "VolumeFrom.sourceContainer": "other",
    "ContainerRestartPolicy.ignoredExitCodes": [0],
    "ContainerRestartPolicy.restartAttemptPeriod": 60,
    "ClusterSetting.value": "disabled",
    "CreateClusterRequest.capacityProviders": ["FARGATE"],
    "DescribeCapacityProvidersRequest.capacityProviders": [PROVIDER],
    "AutoScalingGroupProvider.autoScalingGroupArn": lambda world: world.name(),
    # Managed scaling, and what needs it, would need a group that exists.
    "AutoScalingGroupProvider.managedTerminationProtection": "DISABLED",
    "AutoScalingGroupProviderUpdate.managedTerminationProtection": "DISABLED",
    "ManagedScaling.status": "DISABLED",
    "Attribute.targetId": lambda world: world.instance.arn,
    "CapacityProviderStrategyItem.capacityProvider": PROVIDER,
    "DeregisterContainerInstanceRequest.cluster": REGISTRATIONS,
    "DescribeClustersRequest.clusters": ["default"],
    "DiscoverPollEndpointRequest.containerInstance": lambda world: world.instance.arn,
    "DiscoverPollEndpointRequest.zoneId": "use1-az1",
    "ListAccountSettingsRequest.principalArn": lambda world: f"arn:aws:iam::{world.account}:root",
    "PutAccountSettingRequest.principalArn": lambda world: f"arn:aws:iam::{world.account}:root",
    "DeleteAccountSettingRequest.principalArn": lambda world: f"arn:aws:iam::{world.account}:root",
    "ListAccountSettingsRequest.name": "containerInsights",
    "ListAccountSettingsRequest.value": "disabled",
    "ListContainerInstancesRequest.filter": "attribute:ecs.os-type == linux",
    "ListTaskDefinitionsRequest.familyPrefix": FAMILY,
    "ListTaskDefinitionFamiliesRequest.familyPrefix": FAMILY,
    "ListTasksRequest.containerInstance": lambda world: world.instance.arn,
    "ListTasksRequest.family": FAMILY,
    "PutClusterCapacityProvidersRequest.capacityProviders": ["FARGATE"],
    "RegisterContainerInstanceRequest.cluster": REGISTRATIONS,
    "RegisterContainerInstanceRequest.clientToken": lambda world: str(uuid.uuid4()),
    "RegisterContainerInstanceRequest.containerInstanceArn": lambda world: world.idle_instance,
    "RegisterContainerInstanceRequest.instanceIdentityDocument": IDENTITY_DOCUMENT,
    "RegisterContainerInstanceRequest.totalResources": lambda world: world.resources(),
    "RegisterTaskDefinitionRequest.cpu": "256",
    "RegisterTaskDefinitionRequest.executionRoleArn": ROLE,
    "RegisterTaskDefinitionRequest.memory": "512",
    "RegisterTaskDefinitionRequest.taskRoleArn": ROLE,
    "RunTaskRequest.clientToken": lambda world: str(uuid.uuid4()),
    "SubmitContainerStateChangeRequest.containerName": CONTAINER,
    "SubmitContainerStateChangeRequest.runtimeId": "ab" * 32,
    "SubmitContainerStateChangeRequest.status": "RUNNING",
    "SubmitContainerStateChangeRequest.task": lambda world: world.task,
    "SubmitTaskStateChangeRequest.executionStoppedAt": 1_700_000_000.5,
    "SubmitTaskStateChangeRequest.status": "RUNNING",
    "SubmitTaskStateChangeRequest.task": lambda world: world.task,
    "TaskDefinitionPlacementConstraint.expression": "attribute:ecs.os-type == linux",
    "PlacementConstraint.expression": "attribute:ecs.os-type == linux",
    "PlacementConstraint.type": "memberOf",
    "PlacementStrategy.field": "instanceId",
    "TaskOverride.cpu": "256",
    "TaskOverride.executionRoleArn": ROLE,
    "TaskOverride.memory": "512",
    "TaskOverride.taskRoleArn": ROLE,
    "UpdateContainerInstancesStateRequest.cluster": REGISTRATIONS,
    "VersionInfo.agentVersion": "1.105.1",
    "VersionInfo.dockerVersion": "20.10.24",
}

# The least of a structure that says more than its required members.
STRUCTURES: dict[str, Value | Maker] = {
    "Attribute": lambda world: attribute(world),
    "CapacityProviderStrategyItem": {"capacityProvider": PROVIDER, "weight": 1},
    "ClusterSetting": {"name": "containerInsights", "value": "disabled"},
    "ContainerDefinition": {"name": CONTAINER, "image": "busybox", "memory": 64},
    "ContainerOverride": {"name": CONTAINER},
    "ContainerStateChange": {"containerName": CONTAINER, "status": "RUNNING"},
    "ExecuteCommandLogConfiguration": {"cloudWatchLogGroupName": "commands"},
    "KeyValuePair": {"name": "NAME", "value": "value"},
    "ManagedScaling": {"status": "DISABLED"},
    "MountPoint": {"sourceVolume": "data", "containerPath": "/data"},
    "NetworkBinding": {"containerPort": 80, "hostPort": 32768},
    "PlacementConstraint": {"type": "memberOf", "expression": "attribute:ecs.os-type == linux"},
    "PlacementStrategy": {"type": "random"},
    "PortMapping": {"containerPort": 80},
    "ProxyConfiguration": PROXY,
    "Resource": {"name": "CPU", "type": "INTEGER", "integerValue": 1024},
    "ResourceRequirement": {"type": "GPU", "value": "1"},
    "SystemControl": {"namespace": "net.core.somaxconn", "value": "128"},
    "Tag": {"key": "team", "value": "a"},
    "TaskDefinitionPlacementConstraint": {
        "type": "memberOf",
        "expression": "attribute:ecs.os-type == linux",
    },
    "Volume": {"name": "data"},
    "VolumeFrom": {"sourceContainer": "other"},
}

# By name alone, whatever the structure.
NAMES: dict[str, Value | Maker] = {
    "cluster": "default",
    "taskDefinition": FAMILY,
}


def attribute(world: World) -> dict[str, str]:
    """A custom attribute of the instance."""
    return {"name": "stack", "value": "a", "targetId": world.instance.arn}
