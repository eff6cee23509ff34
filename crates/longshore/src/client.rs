//! The binary's own client, for the commands that look at a running server: typed calls, signed with the data
//! directory's root access key. How a call travels is `longshore_client`'s.

use std::time::Duration;

use longshore_agent::AgentConfig;
use longshore_api::admin::{
    self, CreateJoinTokenRequest, CreateJoinTokenResponse, DescribeClusterSchedulerRequest,
    DescribeClusterSchedulerResponse, DescribeNetworkRequest, DescribeNetworkResponse, DescribeServerRequest,
    DescribeServerResponse, ExplainPlacementRequest, ExplainPlacementResponse, FindTasksRequest, FindTasksResponse,
    GetTaskLogsRequest, GetTaskLogsResponse, Identity, InstanceIdentity, JoinToken, ListInstanceIdentitiesRequest,
    ListInstanceIdentitiesResponse, ListJoinTokensRequest, ListJoinTokensResponse, ReleaseMassLossBrakeRequest,
    ReleaseMassLossBrakeResponse, RevokeInstanceIdentityRequest, RevokeInstanceIdentityResponse,
    RevokeJoinTokenRequest, RevokeJoinTokenResponse, SetClusterSchedulerRequest, SetClusterSchedulerResponse,
    UnsetClusterSchedulerRequest, UnsetClusterSchedulerResponse,
};
use longshore_api::ecs::types::{
    Cluster, ContainerInstance, ContainerInstanceField, CreateClusterRequest, DescribeClustersRequest,
    DescribeClustersResponse, DescribeContainerInstancesRequest, DescribeContainerInstancesResponse,
    DescribeTaskDefinitionRequest, DescribeTaskDefinitionResponse, DescribeTasksRequest, DescribeTasksResponse,
    ListClustersRequest, ListClustersResponse, ListContainerInstancesRequest, ListContainerInstancesResponse,
    ListTasksRequest, ListTasksResponse, RegisterTaskDefinitionResponse, RunTaskRequest, RunTaskResponse,
    StopTaskRequest, Task, TaskDefinition, TaskField,
};
use longshore_api::{JsonError, ecs};
use longshore_client::{CallError, Client, ClientConfig, Operation, Trust, TrustSources};
use longshore_wire::sigv4::{Credentials, Secret};

use crate::data_dir::{DataDir, ServerFacts};
use crate::error::CliError;

/// A local server answers in milliseconds; one that takes so long is stuck, and saying so is better than waiting on.
pub(crate) const CALL_TAKES_AT_MOST: Duration = Duration::from_secs(15);
/// The most ARNs that the Describe operations take at once.
const DESCRIBE_AT_ONCE: usize = 100;

/// The API of the server that a data directory names.
#[derive(Clone)]
pub(crate) struct EcsClient {
    client: Client,
}

impl EcsClient {
    /// For the server that runs in `data_dir`; `None` if none says that it does.
    pub(crate) fn for_data_dir(data_dir: &DataDir) -> Result<Option<Self>, CliError> {
        Ok(Self::and_facts(data_dir)?.map(|(client, _)| client))
    }

    /// For the server that this machine's agent is configured for, with the agent's key.
    pub(crate) fn of_agent(config: &AgentConfig) -> Result<Self, CliError> {
        Self::with(config.client())
    }

    /// The same, and what the server says of itself, for a command that cannot do without.
    pub(crate) fn running(data_dir: &DataDir, program: &str) -> Result<(Self, ServerFacts), CliError> {
        Self::and_facts(data_dir)?
            .ok_or_else(|| CliError::NotRunning { program: program.to_owned(), data_dir: data_dir.path().to_owned() })
    }

    fn and_facts(data_dir: &DataDir) -> Result<Option<(Self, ServerFacts)>, CliError> {
        let known = Self::config_of(data_dir)?;
        known.map(|(config, server)| Ok((Self::with(config)?, server))).transpose()
    }

    /// The client itself, for what is no call of the API.
    pub(crate) fn raw(&self) -> &Client {
        &self.client
    }

    /// With this configuration.
    pub(crate) fn with(config: ClientConfig) -> Result<Self, CliError> {
        let client = Client::new(config).map_err(|error| CliError::Client(Box::new(error)))?;
        Ok(Self { client })
    }

    /// How to call the server that runs in `data_dir`, and what it says of itself; `None` if none says that it runs.
    pub(crate) fn config_of(data_dir: &DataDir) -> Result<Option<(ClientConfig, ServerFacts)>, CliError> {
        let (Some(server), Some(key)) = (data_dir.server()?, data_dir.root_access_key()?) else {
            return Ok(None);
        };
        let credentials = Credentials {
            access_key_id: key.access_key_id,
            secret: Secret::new(key.secret_access_key),
            session_token: None,
        };
        let trust = Trust::new(TrustSources { pinned_pem: server.certificates()?, ..TrustSources::default() });
        let config = ClientConfig {
            trust,
            call_limit: CALL_TAKES_AT_MOST,
            ..ClientConfig::new(&server.endpoint, &server.region, credentials)
        };
        Ok(Some((config, server)))
    }

    pub(crate) async fn create_cluster(&self, name: &str) -> Result<(), CliError> {
        let request = CreateClusterRequest { cluster_name: Some(name.to_owned()), ..CreateClusterRequest::default() };
        self.call(ecs::Operation::CreateCluster, request.to_json(), |_| Ok(())).await
    }

    /// Registers a definition exactly as it stands in its file, and returns its ARN.
    pub(crate) async fn register_task_definition(&self, definition: Vec<u8>) -> Result<String, CliError> {
        let operation = ecs::Operation::RegisterTaskDefinition;
        let answer = self.call(operation, definition, RegisterTaskDefinitionResponse::from_json).await?;
        answer
            .task_definition
            .and_then(|definition| definition.task_definition_arn)
            .ok_or_else(|| self.failed(operation.into(), "the answer names no task definition"))
    }

    /// The ARN of a family's newest active revision, if it has one.
    pub(crate) async fn newest_revision(&self, family: &str) -> Result<Option<String>, CliError> {
        let request = DescribeTaskDefinitionRequest {
            task_definition: family.to_owned(),
            ..DescribeTaskDefinitionRequest::default()
        };
        let operation = ecs::Operation::DescribeTaskDefinition;
        match self.client.call(operation, request.to_json()).await {
            Ok(answer) => {
                let answer = DescribeTaskDefinitionResponse::from_json(&answer);
                let answer = answer.map_err(|error| self.failed(operation.into(), &error.to_string()))?;
                Ok(answer.task_definition.and_then(|definition| definition.task_definition_arn))
            }
            // That is how ECS says that there is none.
            Err(error) if error.code() == "ClientException" => Ok(None),
            Err(error) => Err(CliError::Call(error)),
        }
    }

    pub(crate) async fn run_task(&self, cluster: &str, definition: &str) -> Result<RunTaskResponse, CliError> {
        let request = RunTaskRequest {
            cluster: Some(cluster.to_owned()),
            task_definition: definition.to_owned(),
            ..RunTaskRequest::default()
        };
        self.call(ecs::Operation::RunTask, request.to_json(), RunTaskResponse::from_json).await
    }

    pub(crate) async fn stop_task(&self, cluster: &str, task: &str, reason: &str) -> Result<(), CliError> {
        let request = StopTaskRequest {
            cluster: Some(cluster.to_owned()),
            task: task.to_owned(),
            reason: Some(reason.to_owned()),
        };
        self.call(ecs::Operation::StopTask, request.to_json(), |_| Ok(())).await
    }

    /// ARNs of all tasks that are to run and match `filter`, through all pages.
    pub(crate) async fn list_tasks(&self, mut filter: ListTasksRequest) -> Result<Vec<String>, CliError> {
        let mut arns = Vec::new();
        loop {
            let page = self.call(ecs::Operation::ListTasks, filter.to_json(), ListTasksResponse::from_json).await?;
            arns.extend(page.task_arns.unwrap_or_default());
            filter.next_token = page.next_token;
            if filter.next_token.is_none() {
                return Ok(arns);
            }
        }
    }

    pub(crate) async fn describe_tasks(&self, cluster: &str, arns: &[String]) -> Result<Vec<Task>, CliError> {
        let mut tasks = Vec::new();
        for some in arns.chunks(DESCRIBE_AT_ONCE) {
            let request = DescribeTasksRequest {
                cluster: Some(cluster.to_owned()),
                tasks: some.to_vec(),
                ..DescribeTasksRequest::default()
            };
            let operation = ecs::Operation::DescribeTasks;
            let answer = self.call(operation, request.to_json(), DescribeTasksResponse::from_json).await?;
            tasks.extend(answer.tasks.unwrap_or_default());
        }
        Ok(tasks)
    }

    /// All container instances of a cluster.
    pub(crate) async fn container_instances(&self, cluster: &str) -> Result<Vec<ContainerInstance>, CliError> {
        let mut request = ListContainerInstancesRequest {
            cluster: Some(cluster.to_owned()),
            ..ListContainerInstancesRequest::default()
        };
        let mut instances = Vec::new();
        loop {
            let operation = ecs::Operation::ListContainerInstances;
            let page = self.call(operation, request.to_json(), ListContainerInstancesResponse::from_json).await?;
            let arns = page.container_instance_arns.unwrap_or_default();
            instances.extend(self.describe_container_instances(cluster, &arns).await?);
            request.next_token = page.next_token;
            if request.next_token.is_none() {
                return Ok(instances);
            }
        }
    }

    pub(crate) async fn describe_container_instances(
        &self,
        cluster: &str,
        arns: &[String],
    ) -> Result<Vec<ContainerInstance>, CliError> {
        let mut instances = Vec::new();
        for some in arns.chunks(DESCRIBE_AT_ONCE) {
            let request = DescribeContainerInstancesRequest {
                cluster: Some(cluster.to_owned()),
                container_instances: some.to_vec(),
                include: Some(vec![ContainerInstanceField::ContainerInstanceHealth]),
            };
            let operation = ecs::Operation::DescribeContainerInstances;
            let answer = self.call(operation, request.to_json(), DescribeContainerInstancesResponse::from_json);
            instances.extend(answer.await?.container_instances.unwrap_or_default());
        }
        Ok(instances)
    }

    pub(crate) async fn create_join_token(
        &self,
        request: &CreateJoinTokenRequest,
    ) -> Result<CreateJoinTokenResponse, CliError> {
        self.call(admin::Operation::CreateJoinToken, request.to_json(), CreateJoinTokenResponse::from_json).await
    }

    /// All join tokens, through all pages.
    pub(crate) async fn join_tokens(&self) -> Result<Vec<JoinToken>, CliError> {
        let mut request = ListJoinTokensRequest::default();
        let mut tokens = Vec::new();
        loop {
            let operation = admin::Operation::ListJoinTokens;
            let page = self.call(operation, request.to_json(), ListJoinTokensResponse::from_json).await?;
            tokens.extend(page.join_tokens);
            request.next_token = page.next_token;
            if request.next_token.is_none() {
                return Ok(tokens);
            }
        }
    }

    pub(crate) async fn revoke_join_token(&self, token_id: &str) -> Result<JoinToken, CliError> {
        let request = RevokeJoinTokenRequest { token_id: token_id.to_owned() };
        let operation = admin::Operation::RevokeJoinToken;
        let answer = self.call(operation, request.to_json(), RevokeJoinTokenResponse::from_json).await?;
        Ok(answer.join_token)
    }

    /// Who may act for which container instance, of one cluster or of all, through all pages.
    pub(crate) async fn instance_identities(&self, cluster: Option<String>) -> Result<Vec<InstanceIdentity>, CliError> {
        let mut request = ListInstanceIdentitiesRequest { cluster, ..ListInstanceIdentitiesRequest::default() };
        let mut identities = Vec::new();
        loop {
            let operation = admin::Operation::ListInstanceIdentities;
            let page = self.call(operation, request.to_json(), ListInstanceIdentitiesResponse::from_json).await?;
            identities.extend(page.instance_identities);
            request.next_token = page.next_token;
            if request.next_token.is_none() {
                return Ok(identities);
            }
        }
    }

    pub(crate) async fn revoke_instance_identity(
        &self,
        request: &RevokeInstanceIdentityRequest,
    ) -> Result<Identity, CliError> {
        let operation = admin::Operation::RevokeInstanceIdentity;
        let answer = self.call(operation, request.to_json(), RevokeInstanceIdentityResponse::from_json).await?;
        Ok(answer.identity)
    }

    /// How many instances were given up.
    pub(crate) async fn release_mass_loss_brake(&self, cluster: &str) -> Result<i32, CliError> {
        let request = ReleaseMassLossBrakeRequest { cluster: cluster.to_owned() };
        let operation = admin::Operation::ReleaseMassLossBrake;
        Ok(self.call(operation, request.to_json(), ReleaseMassLossBrakeResponse::from_json).await?.evicted)
    }

    /// All clusters with their counters, or the one that is named.
    pub(crate) async fn clusters(&self, named: Option<&str>) -> Result<Vec<Cluster>, CliError> {
        let arns = match named {
            Some(name) => vec![name.to_owned()],
            None => self.list_clusters().await?,
        };
        let mut clusters = Vec::new();
        for some in arns.chunks(DESCRIBE_AT_ONCE) {
            let request =
                DescribeClustersRequest { clusters: Some(some.to_vec()), ..DescribeClustersRequest::default() };
            let operation = ecs::Operation::DescribeClusters;
            let answer = self.call(operation, request.to_json(), DescribeClustersResponse::from_json).await?;
            clusters.extend(answer.clusters.unwrap_or_default());
        }
        match named {
            Some(name) if clusters.iter().all(|cluster| cluster.status.as_deref() != Some("ACTIVE")) => {
                Err(CliError::NoCluster { name: name.to_owned() })
            }
            _ => Ok(clusters),
        }
    }

    async fn list_clusters(&self) -> Result<Vec<String>, CliError> {
        let mut request = ListClustersRequest::default();
        let mut arns = Vec::new();
        loop {
            let operation = ecs::Operation::ListClusters;
            let page = self.call(operation, request.to_json(), ListClustersResponse::from_json).await?;
            arns.extend(page.cluster_arns.unwrap_or_default());
            request.next_token = page.next_token;
            if request.next_token.is_none() {
                return Ok(arns);
            }
        }
    }

    /// One task with its tags, if it is remembered.
    pub(crate) async fn describe_task(&self, cluster: &str, arn: &str) -> Result<Option<Task>, CliError> {
        let request = DescribeTasksRequest {
            cluster: Some(cluster.to_owned()),
            tasks: vec![arn.to_owned()],
            include: Some(vec![TaskField::Tags]),
        };
        let operation = ecs::Operation::DescribeTasks;
        let answer = self.call(operation, request.to_json(), DescribeTasksResponse::from_json).await?;
        Ok(answer.tasks.unwrap_or_default().into_iter().next())
    }

    /// A task definition, by ARN.
    pub(crate) async fn describe_task_definition(&self, arn: &str) -> Result<Option<TaskDefinition>, CliError> {
        let request = DescribeTaskDefinitionRequest { task_definition: arn.to_owned(), include: None };
        let operation = ecs::Operation::DescribeTaskDefinition;
        let answer = self.call(operation, request.to_json(), DescribeTaskDefinitionResponse::from_json).await?;
        Ok(answer.task_definition)
    }

    pub(crate) async fn describe_server(&self) -> Result<DescribeServerResponse, CliError> {
        let request = DescribeServerRequest {};
        self.call(admin::Operation::DescribeServer, request.to_json(), DescribeServerResponse::from_json).await
    }

    pub(crate) async fn describe_network(&self) -> Result<DescribeNetworkResponse, CliError> {
        let request = DescribeNetworkRequest {};
        self.call(admin::Operation::DescribeNetwork, request.to_json(), DescribeNetworkResponse::from_json).await
    }

    pub(crate) async fn set_cluster_scheduler(
        &self,
        request: &SetClusterSchedulerRequest,
    ) -> Result<SetClusterSchedulerResponse, CliError> {
        let operation = admin::Operation::SetClusterScheduler;
        self.call(operation, request.to_json(), SetClusterSchedulerResponse::from_json).await
    }

    pub(crate) async fn unset_cluster_scheduler(
        &self,
        request: &UnsetClusterSchedulerRequest,
    ) -> Result<UnsetClusterSchedulerResponse, CliError> {
        let operation = admin::Operation::UnsetClusterScheduler;
        self.call(operation, request.to_json(), UnsetClusterSchedulerResponse::from_json).await
    }

    pub(crate) async fn describe_cluster_scheduler(
        &self,
        request: &DescribeClusterSchedulerRequest,
    ) -> Result<DescribeClusterSchedulerResponse, CliError> {
        let operation = admin::Operation::DescribeClusterScheduler;
        self.call(operation, request.to_json(), DescribeClusterSchedulerResponse::from_json).await
    }

    pub(crate) async fn find_tasks(&self, request: &FindTasksRequest) -> Result<FindTasksResponse, CliError> {
        self.call(admin::Operation::FindTasks, request.to_json(), FindTasksResponse::from_json).await
    }

    pub(crate) async fn explain_placement(
        &self,
        request: &ExplainPlacementRequest,
    ) -> Result<ExplainPlacementResponse, CliError> {
        let operation = admin::Operation::ExplainPlacement;
        self.call(operation, request.to_json(), ExplainPlacementResponse::from_json).await
    }

    pub(crate) async fn get_task_logs(&self, request: &GetTaskLogsRequest) -> Result<GetTaskLogsResponse, CliError> {
        self.call(admin::Operation::GetTaskLogs, request.to_json(), GetTaskLogsResponse::from_json).await
    }

    async fn call<A>(
        &self,
        operation: impl Into<Operation>,
        body: Vec<u8>,
        read: fn(&[u8]) -> Result<A, JsonError>,
    ) -> Result<A, CliError> {
        let operation = operation.into();
        let answer = self.client.call(operation, body).await.map_err(CliError::Call)?;
        read(&answer).map_err(|error| self.failed(operation, &error.to_string()))
    }

    fn failed(&self, operation: Operation, cause: &str) -> CliError {
        CliError::Call(CallError::Answer { operation: operation.name(), cause: cause.to_owned() })
    }
}
