//! What Longshore does of each operation of ECS: the source of `docs/api-coverage.md`, and proved by a test below.

use longshore_api::ecs::Operation;

/// How much of an operation works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Support {
    /// All of it, as ECS documents.
    Full,
    /// It works, but for what is said here, a sentence each.
    Partial(&'static [&'static str]),
    /// Not yet: it answers `UnsupportedFeatureException` once its request has the right shape.
    Later {
        /// The part of Longshore that it will come with.
        with: Part,
    },
}

/// A part of Longshore that is not built yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Services, their deployments and revisions, task sets, task protection.
    Services,
    /// A task on every instance, before all others.
    Daemons,
    /// Commands in running containers.
    Commands,
    /// Gateways and the services behind them.
    Gateways,
}

impl Part {
    /// Its name in documents.
    pub fn name(self) -> &'static str {
        match self {
            Self::Services => "services",
            Self::Daemons => "daemons",
            Self::Commands => "commands in containers",
            Self::Gateways => "gateways",
        }
    }
}

/// How much of `operation` works.
pub const fn support(operation: Operation) -> Support {
    use Operation as O;
    const SERVICES: Support = Support::Later { with: Part::Services };
    const DAEMONS: Support = Support::Later { with: Part::Daemons };
    const COMMANDS: Support = Support::Later { with: Part::Commands };
    const GATEWAYS: Support = Support::Later { with: Part::Gateways };
    match operation {
        O::CreateCluster => Support::Partial(CREATE_CLUSTER),
        O::UpdateCluster => Support::Partial(UPDATE_CLUSTER),
        O::UpdateClusterSettings => Support::Partial(&[INSIGHTS]),
        O::PutClusterCapacityProviders | O::DeleteCluster | O::DescribeClusters | O::ListClusters => Support::Full,

        O::RegisterTaskDefinition => Support::Partial(TASK_DEFINITION),
        O::DeleteTaskDefinitions
        | O::DeregisterTaskDefinition
        | O::DescribeTaskDefinition
        | O::ListTaskDefinitionFamilies
        | O::ListTaskDefinitions => Support::Full,

        O::RegisterContainerInstance => {
            Support::Partial(&["Devices other than GPUs in `platformDevices` are refused."])
        }
        O::DeregisterContainerInstance => Support::Partial(&[FORCE]),
        O::ListContainerInstances => Support::Partial(&[PATTERNS]),
        O::DescribeContainerInstances
        | O::UpdateContainerInstancesState
        | O::DiscoverPollEndpoint
        | O::SubmitTaskStateChange
        | O::SubmitContainerStateChange => Support::Full,
        O::UpdateContainerAgent => Support::Partial(&[UPDATE_AGENT]),
        O::SubmitAttachmentStateChanges => {
            Support::Partial(&["Tasks have no attachments yet: every one that is named is not found."])
        }

        O::RunTask => Support::Partial(RUN_TASK),
        O::StartTask => Support::Partial(START_TASK),
        O::StopTask | O::DescribeTasks => Support::Full,
        O::ListTasks => Support::Partial(&[
            "There are no services and daemons yet: `serviceName` answers `ServiceNotFoundException`, `daemonName` finds none.",
        ]),

        O::PutAttributes | O::DeleteAttributes | O::ListAttributes => Support::Full,
        O::TagResource | O::UntagResource | O::ListTagsForResource => Support::Partial(&[TAGGED]),
        O::PutAccountSetting | O::PutAccountSettingDefault => Support::Partial(&[SETTINGS]),
        O::DeleteAccountSetting | O::ListAccountSettings => Support::Full,

        O::CreateCapacityProvider => Support::Partial(&[LAUNCHERS, MANAGED_INSTANCES]),
        O::UpdateCapacityProvider => Support::Partial(&[MANAGED_INSTANCES]),
        O::DeleteCapacityProvider => {
            Support::Partial(&["It is done when it is answered: no provider is ever DELETE_IN_PROGRESS."])
        }
        O::DescribeCapacityProviders => {
            Support::Partial(&["`updateStatusReason` also says what a provider's launcher failed at last."])
        }

        O::ContinueServiceDeployment
        | O::CreateService
        | O::CreateTaskSet
        | O::DeleteService
        | O::DeleteTaskSet
        | O::DescribeServiceDeployments
        | O::DescribeServiceRevisions
        | O::DescribeServices
        | O::DescribeTaskSets
        | O::GetTaskProtection
        | O::ListServiceDeployments
        | O::ListServices
        | O::ListServicesByNamespace
        | O::StopServiceDeployment
        | O::UpdateService
        | O::UpdateServicePrimaryTaskSet
        | O::UpdateTaskProtection
        | O::UpdateTaskSet => SERVICES,

        O::CreateDaemon
        | O::DeleteDaemon
        | O::DeleteDaemonTaskDefinition
        | O::DescribeDaemon
        | O::DescribeDaemonDeployments
        | O::DescribeDaemonRevisions
        | O::DescribeDaemonTaskDefinition
        | O::ListDaemonDeployments
        | O::ListDaemonTaskDefinitions
        | O::ListDaemons
        | O::RegisterDaemonTaskDefinition
        | O::UpdateDaemon => DAEMONS,

        O::ExecuteCommand => COMMANDS,

        O::AssociateGatewayWithCluster
        | O::CreateExpressGatewayService
        | O::CreateGateway
        | O::DeleteExpressGatewayService
        | O::DeleteGateway
        | O::DescribeExpressGatewayService
        | O::DescribeGateway
        | O::DescribeGatewayResources
        | O::DescribeGatewayRoute
        | O::DisassociateGatewayFromCluster
        | O::ListGatewayClusterAssociations
        | O::ListGatewayRoutes
        | O::ListGateways
        | O::UpdateExpressGatewayService
        | O::UpdateGateway => GATEWAYS,
    }
}

// Deviations that several operations share, or that are many. Names of members stand in backticks.

const NAMESPACES: &str = "`serviceConnectDefaults` is refused: there are no namespaces.";
const INSIGHTS: &str = "`containerInsights` is kept and described; there are no metrics yet that it would change.";
const LAUNCHERS: &str = "`autoScalingGroupArn` names a launcher of the server, by an ARN that ends in its name or by the name: \
    [capacity.md](capacity.md).";
const MANAGED_INSTANCES: &str = "`managedInstancesProvider` is refused, and `cluster`, which goes with it.";
const COMMAND_SESSIONS: &str =
    "`configuration` is kept and described; it has an effect once there are command sessions and managed storage.";

const UPDATE_CLUSTER: &[&str] = &[NAMESPACES, INSIGHTS, COMMAND_SESSIONS];
const CREATE_CLUSTER: &[&str] = &[NAMESPACES, INSIGHTS, COMMAND_SESSIONS];

const TASK_DEFINITION: &[&str] = &[
    "Some members are refused by name: [task-definition-coverage.md](task-definition-coverage.md) has each, with the \
     message.",
];

const RUN_TASK: &[&str] = &[
    "Refused by name: `enableExecuteCommand`, `referenceId`, `volumeConfigurations`, `launchType` \
     MANAGED_INSTANCES.",
    "`launchType` FARGATE, and the capacity providers FARGATE and FARGATE_SPOT: the task follows Fargate's rules, and runs on an instance of the cluster that has room; no public \
     addresses are assigned.",
    "With the tag `longshore:max-wait`, of the call or of its cluster, what fits nowhere waits in PROVISIONING instead of failing \
     (docs/queues.md); in a cluster with a scheduler of its own everything waits for that (docs/schedulers.md).",
    PLACEMENT_PATTERNS,
    OVERRIDES,
];
const START_TASK: &[&str] =
    &["Refused by name: `enableExecuteCommand`, `referenceId`, `volumeConfigurations`.", OVERRIDES];
const OVERRIDES: &str = "Refused by name in `overrides`: `taskRoleArn`, `ephemeralStorage`, `inferenceAcceleratorOverrides`, \
    and for containers `resourceRequirements` other than whole GPUs.";

const PATTERNS: &str = "Patterns of `filter` that need backtracking (look-around, back-references) are refused: every pattern \
    is tried in linear time.";
const PLACEMENT_PATTERNS: &str = "Patterns in `placementConstraints` that need backtracking are refused.";
const UPDATE_AGENT: &str = "The server hands out no agents: the answer is `NoUpdateAvailableException`, and says what to do \
    instead.";
const FORCE: &str = "With `force` the tasks are stopped, where ECS leaves them running for ever: no machine ends with its \
    instance here.";
const TAGGED: &str = "What does not exist yet (services, daemons and the like) has no tags.";
const SETTINGS: &str = "Values that ask for what is not there (`awsvpcTrunking`, `fargateFIPSMode` and `fargateEventWindows` \
    enabled, another `fargateTaskRetirementWaitPeriod` than 7) are refused by name. What is set for a user or role is kept and \
    has no effect: only the root user calls yet.";

#[cfg(test)]
mod tests {
    use longshore_api::ecs::error::UNSUPPORTED_FEATURE_EXCEPTION;
    use longshore_api::shape::{Kind, Limits, Shape};
    use serde_json::{Map, Value, json};

    use super::*;
    use crate::fixture::Lab;

    /// The least that a shape demands.
    fn least(shape: &Shape, limits: Limits) -> Value {
        let count = limits.min.or(shape.limits.min).unwrap_or(0).max(0);
        let times = usize::try_from(count).expect("bounds are small");
        match &shape.kind {
            Kind::Structure { members, union } => {
                let needed =
                    members.iter().enumerate().filter(|(index, member)| member.required || *union && *index == 0);
                let members = needed.map(|(_, member)| (member.name.to_owned(), least(member.shape, member.limits)));
                Value::Object(members.collect::<Map<_, _>>())
            }
            Kind::List { item, .. } => (0..times).map(|_| least(item, Limits::NONE)).collect(),
            Kind::Map { .. } => json!({}),
            Kind::String(_) => json!("x".repeat(times.max(1))),
            Kind::Enum(values) => json!(values[0]),
            Kind::Integer | Kind::Long | Kind::Double => json!(count),
            Kind::Boolean => json!(false),
            Kind::Timestamp => json!(0),
            Kind::Document => json!({}),
        }
    }

    #[test]
    fn what_is_said_to_work_works_and_nothing_else_does() {
        for operation in Operation::ALL {
            // Answered by the server's edge: only it knows its own address.
            if operation == Operation::DiscoverPollEndpoint {
                continue;
            }
            let request = least(operation.facts().input, Limits::NONE);
            let answer = Lab::new().call(0, operation, &request);
            let refusal = answer.err().filter(|error| error.code == UNSUPPORTED_FEATURE_EXCEPTION);
            match support(operation) {
                Support::Later { .. } => {
                    let message = refusal.map(|error| error.message);
                    assert!(
                        message.as_ref().is_some_and(|text| text.contains(operation.name())),
                        "{operation}: {message:?}"
                    );
                }
                Support::Full | Support::Partial(_) => assert_eq!(refusal, None, "{operation}"),
            }
        }
    }

    #[test]
    fn deviations_are_sentences() {
        for operation in Operation::ALL {
            if let Support::Partial(deviations) = support(operation) {
                assert!(!deviations.is_empty(), "{operation}: Partial, but nothing deviates");
                for text in deviations {
                    assert!(text.ends_with('.') && !text.contains(['|', '\n']), "{operation}: {text:?}");
                }
            }
        }
    }
}
