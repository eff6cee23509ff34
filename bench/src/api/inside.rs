//! What a call costs inside the server: the same code on the same bytes, in this process, without sockets and threads.

use std::time::Instant;

use longshore_api::ecs::{Operation, Request, Response};
use longshore_core::cell::{AgentInfo, Cell, Command, Reply};
use longshore_core::entropy::Entropy;
use longshore_core::ids::SessionId;
use longshore_core::read::ReadModel;
use longshore_core::{CellConfig, Principal, Role};
use longshore_wire::aws_json;
use longshore_wire::sigv4::{self, Secret, SecretKeys, Verifier};
use serde_json::Value;

use super::wire::Signed;
use super::world;
use crate::client::{Access, now};
use crate::fake_agent::registration;
use crate::stats::Samples;

/// The parts of a call: the median of each, in µs.
pub(crate) struct Parts {
    /// SigV4, with the hash of the body.
    pub(crate) signature: f64,
    /// From the body to the typed request.
    pub(crate) parsing: f64,
    /// The cell's work and the new snapshot, or the read model's answer.
    pub(crate) cell: f64,
    /// From the typed answer to its bytes.
    pub(crate) serialisation: f64,
}

impl Parts {
    pub(crate) fn sum(&self) -> f64 {
        self.signature + self.parsing + self.cell + self.serialisation
    }
}

/// A cell with one connected instance.
pub(crate) struct Inside {
    cell: Cell,
    view: ReadModel,
    entropy: Entropy,
    verifier: Verifier,
    key: Key,
}

/// The one key there is.
struct Key {
    id: String,
    secret: Secret,
}

impl SecretKeys for Key {
    fn secret(&self, access_key_id: &str, session_token: Option<&str>) -> Option<Secret> {
        (access_key_id == self.id && session_token.is_none()).then(|| self.secret.clone())
    }
}

impl Inside {
    pub(crate) fn new(access: &Access) -> Self {
        let mut cell = Cell::new(CellConfig::new(&access.region, "000000000000"));
        Self {
            view: cell.snapshot(),
            cell,
            entropy: Entropy::from_seed([7; 32]),
            verifier: Verifier::new(&access.region, "ecs"),
            key: Key { id: access.credentials.access_key_id.clone(), secret: access.credentials.secret.clone() },
        }
    }

    /// A cluster, a connected instance, and so many running tasks, whose ARNs are returned.
    pub(crate) fn populate(&mut self, tasks: usize) -> Vec<String> {
        world::prepare(&mut |operation, request| self.call(operation, request));
        let registered = self.call("RegisterContainerInstance", &registration());
        let instance_arn = registered["containerInstance"]["containerInstanceArn"].as_str().expect("an ARN").to_owned();
        let (session, principal) = (SessionId(1), self.principal());
        let command = Command::SessionOpened { instance_arn, session, principal, agent: AgentInfo::default() };
        let outcome = self.cell.apply(now(), self.entropy.fork(), command);
        assert!(matches!(outcome.reply, Reply::Session(Ok(_))), "the session opens");
        let mut call = |operation: &str, request: &Value| self.call(operation, request);
        let arns = world::run(&mut call, tasks);
        world::report_running(&mut call, &arns);
        arns
    }

    /// Calls an operation, which must succeed.
    fn call(&mut self, operation: &str, request: &Value) -> Value {
        let operation = Operation::from_name(operation).expect("an operation of ECS");
        let request = Request::decode(operation, request).expect("a good request");
        serde_json::from_slice(&self.carry_out(request).to_json()).expect("the answer is JSON")
    }

    /// Carries out a call so many times, from its bytes to the answer's: what the parts took, and the answer's length.
    pub(crate) fn measure(&mut self, request: &Signed, times: usize) -> (Parts, usize) {
        let mut laps: [Vec<f64>; 4] = Default::default();
        let mut bytes = 0;
        for _ in 0..times {
            let mut began = Instant::now();
            let mut lap = |which: usize| {
                laps[which].push(began.elapsed().as_secs_f64() * 1e6);
                began = Instant::now();
            };
            let whole = sigv4::Request::new(&request.head, &request.body);
            self.verifier.verify(&whole, &self.key, now()).expect("a good signature");
            lap(0);
            let target = aws_json::target(&request.head.headers).expect("a target");
            let operation = Operation::from_name(target.operation).expect("an operation of ECS");
            aws_json::check_content_type(&request.head.headers).expect("awsJson");
            let typed = {
                let value = aws_json::parse_body(&request.body).expect("JSON");
                Request::decode(operation, &value).expect("a good request")
            };
            lap(1);
            let answer = self.carry_out(typed);
            lap(2);
            let body = answer.to_json();
            drop(answer);
            lap(3);
            bytes = body.len();
        }
        let [signature, parsing, cell, serialisation] = laps.map(|laps| Samples::new(laps).median());
        (Parts { signature, parsing, cell, serialisation }, bytes)
    }

    /// What the runner does: a read is answered from the snapshot, anything else by the cell, which then publishes.
    fn carry_out(&mut self, request: Request) -> Response {
        let principal = self.principal();
        let read = self.view.authorise(&principal, &request).map(|authorised| self.view.answer(authorised));
        if let Some(answer) = read.expect("the owner may do everything") {
            return answer.expect("a good request");
        }
        let command = Command::Api { principal, request };
        let outcome = self.cell.apply(now(), self.entropy.fork(), command);
        self.view = self.cell.snapshot();
        let Reply::Api(answer) = outcome.reply else { panic!("another reply") };
        answer.expect("a good request")
    }

    fn principal(&self) -> Principal {
        Principal::new(Role::Owner, &self.key.id, "000000000000")
    }
}
