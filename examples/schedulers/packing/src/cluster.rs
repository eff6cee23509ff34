//! The cluster through the API: the server that `eval "$(longshore env)"` points at.

use std::env::var;

use longshore_api::ecs::Operation;
use longshore_client::{Client, ClientConfig, Events, Trust, TrustSources};
use longshore_wire::query::encode;
use longshore_wire::sigv4::{Credentials, Secret};
use serde_json::{Value, json};

/// Whatever went wrong: it is told, and tried again.
pub type Failure = Box<dyn std::error::Error>;

/// `startedBy` of everything that this scheduler starts.
const NAME: &str = "packing";

/// A cluster.
pub struct Cluster {
    client: Client,
    name: String,
}

impl Cluster {
    /// The one of this name at the server that the environment names.
    pub fn of_environment(name: &str) -> Result<Self, Failure> {
        let get = |name: &str| var(name).map_err(|_| format!("set {name}: eval \"$(longshore env)\" does"));
        let credentials = Credentials {
            access_key_id: get("AWS_ACCESS_KEY_ID")?,
            secret: Secret::new(get("AWS_SECRET_ACCESS_KEY")?),
            session_token: None,
        };
        let cert_file = var("AWS_CA_BUNDLE").ok().map(Into::into);
        let region = var("AWS_REGION").or_else(|_| get("AWS_DEFAULT_REGION"))?;
        let config = ClientConfig::new(get("AWS_ENDPOINT_URL_ECS")?, region, credentials);
        let trust = Trust::new(TrustSources { cert_file, ..TrustSources::default() });
        Ok(Self { client: Client::new(ClientConfig { trust, ..config })?, name: name.to_owned() })
    }

    /// What happens in it, behind a cursor.
    pub async fn events(&self, after: &str) -> Result<Events, Failure> {
        let query = format!("after={}&cluster={}", encode(after), encode(&self.name));
        Ok(self.client.events(&query).await?)
    }

    /// The tasks of this scheduler that run or are to run, each with its instance.
    pub async fn own_tasks(&self) -> Result<Vec<(String, String)>, Failure> {
        let filter = json!({"cluster": self.name, "startedBy": NAME, "desiredStatus": "RUNNING"});
        let tasks = self.all(Operation::ListTasks, filter, "taskArns", Operation::DescribeTasks, "tasks").await?;
        let text = |task: &Value, name: &str| task[name].as_str().unwrap_or_default().to_owned();
        Ok(tasks.iter().map(|task| (text(task, "taskArn"), text(task, "containerInstanceArn"))).collect())
    }

    /// The instances that take tasks, in the order of their registration, with their registered memory in MiB.
    pub async fn instances(&self) -> Result<Vec<(String, u64)>, Failure> {
        let filter = json!({"cluster": self.name, "status": "ACTIVE"});
        let (list, describe) = (Operation::ListContainerInstances, Operation::DescribeContainerInstances);
        let all = self.all(list, filter, "containerInstanceArns", describe, "containerInstances").await?;
        let connected = all.iter().filter(|instance| instance["agentConnected"] == true);
        let memory = |instance: &Value| {
            let resources = instance["registeredResources"].as_array();
            let memory = resources.and_then(|all| all.iter().find(|one| one["name"] == "MEMORY"));
            memory.and_then(|memory| memory["integerValue"].as_u64()).unwrap_or_default()
        };
        let arn = |instance: &Value| instance["containerInstanceArn"].as_str().unwrap_or_default().to_owned();
        Ok(connected.map(|instance| (arn(instance), memory(instance))).collect())
    }

    /// StartTask: the new task's ARN, or why the instance does not take it.
    pub async fn start(&self, definition: &str, instance: &str) -> Result<Result<String, String>, Failure> {
        let request = json!({
            "cluster": self.name, "taskDefinition": definition, "containerInstances": [instance], "startedBy": NAME,
        });
        let answer = self.call(Operation::StartTask, &request).await?;
        let reason = answer["failures"][0]["reason"].as_str().unwrap_or("no reason was given");
        Ok(answer["tasks"][0]["taskArn"].as_str().map(str::to_owned).ok_or_else(|| reason.to_owned()))
    }

    /// All pages of a listing, described.
    async fn all(
        &self,
        list: Operation,
        mut filter: Value,
        arns: &str,
        describe: Operation,
        documents: &str,
    ) -> Result<Vec<Value>, Failure> {
        let mut found = Vec::new();
        loop {
            let page = self.call(list, &filter).await?;
            let listed = page[arns].as_array().cloned().unwrap_or_default();
            if !listed.is_empty() {
                // Describe takes and answers by the same name.
                let described = self.call(describe, &json!({"cluster": self.name, documents: listed})).await?;
                found.extend(described[documents].as_array().cloned().unwrap_or_default());
            }
            filter["nextToken"] = page["nextToken"].clone();
            if filter["nextToken"].is_null() {
                return Ok(found);
            }
        }
    }

    async fn call(&self, operation: Operation, request: &Value) -> Result<Value, Failure> {
        let answer = self.client.call(operation, request.to_string()).await?;
        Ok(serde_json::from_slice(&answer)?)
    }
}
