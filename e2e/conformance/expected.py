"""What ECS answers where the shapes alone do not tell."""

from __future__ import annotations

from conformance.cases import Case, Expectation

CLIENT, PARAMETER = "ClientException", "InvalidParameterException"
SERIALIZATION = "SerializationException"
UNSUPPORTED = "UnsupportedFeatureException"

# Operations that answer ClientException to a missing member or a broken bound; the others answer
# InvalidParameterException.
ANSWERING_CLIENT_EXCEPTION = {
    "DeregisterTaskDefinition",
    "DescribeTaskDefinition",
    "DiscoverPollEndpoint",
    "RegisterContainerInstance",
    "RegisterDaemonTaskDefinition",
    "RegisterTaskDefinition",
    "SubmitAttachmentStateChanges",
    "SubmitContainerStateChange",
    "SubmitTaskStateChange",
}

# Members whose good values ECS refuses in a world like ours, or on their own: they name what only
# AWS has, need a setting elsewhere, or do not go with EC2. By the beginning of the place.
MAY_BE_REFUSED: dict[str, tuple[str, ...]] = {
    # Devices have ids, and a machine has few of them.
    "RegisterContainerInstance": ("platformDevices",),
    # No service and no daemon is there.
    "ListTasks": ("serviceName", "daemonName"),
    # What is deleted is named without its value.
    "DeleteAttributes": ("attributes[]",),
    # There is no attachment and no managed agent.
    "SubmitAttachmentStateChanges": ("",),
    "SubmitTaskStateChange": ("attachments", "managedAgents"),
    # Whether an agent can be updated is its installation's business.
    "UpdateContainerAgent": ("",),
    # Files of Windows hosts, accelerators that no longer exist, enclaves.
    "RegisterTaskDefinition": (
        "containerDefinitions[].credentialSpecs",
        "containerDefinitions[].resourceRequirements[].sharingStrategy",
        "inferenceAccelerators",
        "proxyConfiguration.properties",
        "trustedExecutionConfiguration",
        "volumes[].fsxWindowsFileServerVolumeConfiguration",
    ),
    **{
        operation: (
            # The definition has bridge mode, no volume configured at launch, no Fargate size.
            "networkConfiguration",
            "overrides.ephemeralStorage",
            "overrides.inferenceAcceleratorOverrides",
            "platformVersion",
            "volumeConfigurations",
            # Needs a role of the task.
            "enableExecuteCommand",
            "overrides.containerOverrides[].environmentFiles",
            "overrides.containerOverrides[].resourceRequirements[].sharingStrategy",
            "overrides.containerOverrides[].resourceRequirements[].value",
        )
        for operation in ("RunTask", "StartTask")
    },
}


def rejection(operation: str) -> str:
    """The code for a missing member or a broken bound."""
    return CLIENT if operation in ANSWERING_CLIENT_EXCEPTION else PARAMETER


def refusals(operation: str, modelled: set[str], case: Case) -> set[str]:
    """The codes with which a case may be refused."""
    match case.expectation:
        case Expectation.UNREADABLE:
            return {SERIALIZATION}
        case Expectation.REFUSED:
            return {rejection(operation)}
        case Expectation.ANSWERED:
            return modelled
        case Expectation.ACCEPTED:
            # No page was begun.
            begin = ("nextToken", *MAY_BE_REFUSED.get(operation, ()))
            return modelled if any(case.place.startswith(one) for one in begin) else set()
