//! A cell to try things on: requests as JSON, agents by number.

use longshore_api::ecs::{Operation, Request, Response};
use longshore_api::{ApiError, Timestamp};
use serde_json::{Value, json};

use crate::cell::{AgentInfo, Cell, Command, Effect, Outcome, Reply};
use crate::config::{CellConfig, Retention};
use crate::entropy::Entropy;
use crate::ids::{InstanceKey, SessionId};
use crate::principal::{Principal, Role};
use crate::task::status::DesiredStatus;

/// When tests begin.
pub(crate) const START: Timestamp = Timestamp::from_millis(1_700_000_000_000);

/// A cell with a clock and chance of its own.
pub(crate) struct Lab {
    pub(crate) cell: Cell,
    pub(crate) now: Timestamp,
    entropy: Entropy,
    sessions: u64,
}

pub(crate) fn config() -> CellConfig {
    let retention = Retention { at_least_ms: 60_000, at_most_ms: 600_000, count: 3 };
    CellConfig { retention, ..CellConfig::new("us-east-1", "000000000000") }
}

/// The key of an agent; number 0 is the user's.
pub(crate) fn principal(key: u32) -> Principal {
    Principal::new(Role::Owner, &format!("AKIA{key}"), "000000000000")
}

/// A request as the edge makes it.
pub(crate) fn request(operation: Operation, document: &Value) -> Request {
    Request::decode(operation, document).unwrap_or_else(|violation| panic!("{document}: {violation:?}"))
}

pub(crate) fn api(key: u32, operation: Operation, document: &Value) -> Command {
    Command::Api { principal: principal(key), request: request(operation, document) }
}

/// What an agent offers when it registers.
pub(crate) fn offer(host: &str, cpu: i64, memory: i64) -> Value {
    json!({
        "attributes": [{"name": "longshore.host-id", "value": host}],
        "totalResources": [
            {"name": "CPU", "type": "INTEGER", "integerValue": cpu},
            {"name": "MEMORY", "type": "INTEGER", "integerValue": memory},
            {"name": "PORTS", "type": "STRINGSET", "stringSetValue": ["22"]},
        ],
    })
}

/// A definition of one container.
pub(crate) fn definition(family: &str, cpu: i64, memory: i64, host_ports: &[u16]) -> Value {
    let mappings: Vec<Value> = host_ports.iter().map(|port| json!({"containerPort": port, "hostPort": port})).collect();
    json!({
        "family": family,
        "containerDefinitions": [{"name": "main", "image": "i", "cpu": cpu, "memory": memory, "portMappings": mappings}],
    })
}

impl Lab {
    /// A cell with a default cluster.
    pub(crate) fn new() -> Self {
        Self::with(config())
    }

    /// The same, configured otherwise.
    pub(crate) fn with(config: CellConfig) -> Self {
        let mut lab = Self { cell: Cell::new(config), now: START, entropy: Entropy::from_seed([9; 32]), sessions: 0 };
        lab.ok(0, Operation::CreateCluster, &json!({}));
        lab
    }

    pub(crate) fn chance(&mut self) -> Entropy {
        self.entropy.fork()
    }

    /// Applies a command, a millisecond later than the last one; whatever comes of it, the state holds together.
    pub(crate) fn apply(&mut self, command: Command) -> Outcome {
        self.now = self.now.plus_millis(1);
        let before = self.cell.sequence();
        let entropy = self.chance();
        let outcome = self.cell.apply(self.now, entropy, command);
        if let Some(group) = &outcome.group {
            assert!(group.number > before, "the number {} was used before", group.number);
        }
        self.cell.check().unwrap_or_else(|violation| panic!("{violation}"));
        outcome
    }

    pub(crate) fn call(&mut self, key: u32, operation: Operation, document: &Value) -> Result<Response, ApiError> {
        match self.apply(api(key, operation, document)).reply {
            Reply::Api(answer) => answer,
            other => panic!("{other:?} is no answer to a request"),
        }
    }

    /// The answer as JSON.
    pub(crate) fn ok(&mut self, key: u32, operation: Operation, document: &Value) -> Value {
        let answer = self.call(key, operation, document).unwrap_or_else(|error| panic!("{document}: {error:?}"));
        serde_json::from_slice(&answer.to_json()).expect("answers are JSON")
    }

    /// The code and message of the refusal.
    pub(crate) fn refused(&mut self, key: u32, operation: Operation, document: &Value) -> (String, String) {
        let before = self.cell.sequence();
        match self.call(key, operation, document) {
            Ok(answer) => panic!("{document} was answered {answer:?}"),
            Err(error) => {
                assert_eq!(self.cell.sequence(), before, "a refusal moved the commit number");
                (error.code.name.to_owned(), error.message)
            }
        }
    }

    /// Registers an instance with the key of its number; answers its ARN.
    pub(crate) fn register(&mut self, key: u32, offer: &Value) -> String {
        let answer = self.ok(key, Operation::RegisterContainerInstance, offer);
        answer["containerInstance"]["containerInstanceArn"].as_str().expect("an ARN").to_owned()
    }

    pub(crate) fn opened(&mut self, key: u32, instance_arn: &str) -> Command {
        self.sessions += 1;
        Command::SessionOpened {
            instance_arn: instance_arn.to_owned(),
            session: SessionId(self.sessions),
            principal: principal(key),
            agent: AgentInfo { agent_version: "1.0.0".to_owned(), ..AgentInfo::default() },
        }
    }

    /// Opens a session; answers where and which.
    pub(crate) fn connect(&mut self, key: u32, instance_arn: &str) -> (InstanceKey, SessionId) {
        let command = self.opened(key, instance_arn);
        match self.apply(command).reply {
            Reply::Session(Ok(instance)) => (instance, SessionId(self.sessions)),
            other => panic!("the session was refused: {other:?}"),
        }
    }

    /// Ends a session; its agent was heard of until now.
    pub(crate) fn disconnect(&mut self, instance: InstanceKey, session: SessionId) -> Outcome {
        let heard_at = self.now;
        self.apply(Command::SessionClosed { instance, session, heard_at })
    }

    /// Lets time pass, with a tick whenever one is due; answers what was done meanwhile.
    pub(crate) fn pass(&mut self, ms: i64) -> Vec<Effect> {
        let end = self.now.plus_millis(ms);
        let mut effects = Vec::new();
        let mut ticks = 0;
        while let Some(due) = self.cell.next_deadline().filter(|due| *due < end) {
            // `apply` adds the millisecond.
            self.now = self.now.max(due.plus_millis(-1));
            effects.extend(self.apply(Command::Tick).effects);
            ticks += 1;
            assert!(ticks < 10_000, "a tick is due at {due} again and again");
        }
        self.now = self.now.max(end);
        effects
    }

    /// A connected instance on a host of its own.
    pub(crate) fn instance(&mut self, key: u32, cpu: i64, memory: i64) -> String {
        let arn = self.register(key, &offer(&format!("host-{key}"), cpu, memory));
        self.connect(key, &arn);
        arn
    }

    /// Runs one copy; answers its ARN.
    pub(crate) fn run(&mut self, family: &str) -> String {
        let answer = self.ok(0, Operation::RunTask, &json!({"taskDefinition": family}));
        answer["tasks"][0]["taskArn"].as_str().unwrap_or_else(|| panic!("not placed: {answer}")).to_owned()
    }

    pub(crate) fn report(&mut self, key: u32, task: &str, status: &str) -> Value {
        self.ok(key, Operation::SubmitTaskStateChange, &json!({"cluster": "default", "task": task, "status": status}))
    }

    /// The task as DescribeTasks shows it.
    pub(crate) fn describe(&mut self, task: &str) -> Value {
        let answer = self.ok(0, Operation::DescribeTasks, &json!({"tasks": [task]}));
        answer["tasks"][0].clone()
    }

    /// How many tasks are wanted and not stopped.
    pub(crate) fn wanted(&mut self) -> usize {
        self.cell.snapshot().tasks().filter(|task| task.desired == DesiredStatus::Running).count()
    }
}
