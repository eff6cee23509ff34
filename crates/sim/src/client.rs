//! Clients of the API: each asks for one thing after the other, and again when no answer comes.

use std::collections::{BTreeMap, BTreeSet};

use longshore_api::ecs::{Operation, Request, Response, error, types};
use longshore_api::{ApiError, error as common};
use longshore_core::task::status::DesiredStatus;
use serde_json::{Value, json};

use crate::catalog::{self, CLUSTERS, FAMILIES};
use crate::event::{Ask, Event};
use crate::network::Caller;
use crate::oracle::{Step, broken, ensure, id_of};
use crate::random::Random;
use crate::server::owner;
use crate::world::World;

/// Attempts before a client loses interest.
const TRIES: u32 = 5;

/// Why an instance takes no task.
const REASONS: [&str; 7] = [
    "AGENT",
    "ATTRIBUTE",
    "RESOURCE:CPU",
    "RESOURCE:MEMORY",
    "RESOURCE:PORTS",
    "MemberOf placement constraint unsatisfied.",
    "DistinctInstance placement constraint unsatisfied.",
];

/// Why an instance that was named takes none, besides: others are not asked at all.
const OF_ONE: [&str; 2] = ["INACTIVE", "MISSING"];

/// What clients know, taken together.
#[derive(Debug)]
pub(crate) struct Clients {
    random: Random,
    each: Vec<Option<Pending>>,
    next: u64,
    /// Families that were registered.
    families: Vec<&'static str>,
    /// Tasks that were acknowledged.
    pub(crate) tasks: Vec<String>,
    /// Requests with a token that were answered: the request's document, and the tasks of the answer.
    answered: BTreeMap<String, (Value, Vec<String>)>,
    /// The furthest status that anybody has seen, of each task.
    seen: BTreeMap<String, String>,
    /// Answers of any kind.
    pub(crate) answers: u64,
}

/// A request that waits for its answer.
#[derive(Debug)]
struct Pending {
    number: u64,
    request: Request,
    tries: u32,
    purpose: Purpose,
}

#[derive(Debug)]
enum Purpose {
    Setup(usize),
    Run {
        count: usize,
        token: Option<(String, Value)>,
    },
    Start {
        count: usize,
    },
    /// The token was used with another request: this one must be refused.
    Conflict,
    /// The tasks, and the last status that was seen of each.
    Describe(Vec<(String, Option<String>)>),
    List {
        cluster: &'static str,
        must: BTreeSet<String>,
        listed: Vec<String>,
        size: i64,
    },
    Other,
}

impl Clients {
    pub(crate) fn new(random: Random, count: usize) -> Self {
        Self {
            random,
            each: (0..count).map(|_| None).collect(),
            next: 0,
            families: Vec::new(),
            tasks: Vec::new(),
            answered: BTreeMap::new(),
            seen: BTreeMap::new(),
            answers: 0,
        }
    }

    /// Whether somebody still waits.
    pub(crate) fn idle(&self) -> bool {
        self.each.iter().all(Option::is_none)
    }
}

impl World {
    /// A client has time to ask for something.
    pub(crate) fn client_wakes(&mut self, client: usize) {
        if self.calm {
            return;
        }
        if self.clients.each[client].is_none() {
            let first = client == 0 && self.clients.answers == 0;
            let (request, purpose) = if first { (self.setup(0), Purpose::Setup(0)) } else { self.idea() };
            if let Some(request) = request {
                self.ask(client, request, purpose);
            }
        }
        let pause = self.weather.client_pause_ms;
        let pause = self.clients.random.between(1, 2 * pause);
        self.after(pause, Event::ClientWakes(client));
    }

    fn ask(&mut self, client: usize, request: Request, purpose: Purpose) {
        self.clients.next += 1;
        let number = self.clients.next;
        self.trace(format_args!("client {client}: {}", request.operation().name()));
        let again = request.clone();
        self.clients.each[client] = Some(Pending { number, request: again, tries: 1, purpose });
        self.call(owner(), Ask::Ecs(request), Caller::Client { client, request: number });
    }

    fn setup(&mut self, step: usize) -> Option<Request> {
        match step.checked_sub(CLUSTERS.len()) {
            None => catalog::request(Operation::CreateCluster, &json!({"clusterName": CLUSTERS[step]})),
            Some(family) => catalog::register(FAMILIES.get(family)?),
        }
    }

    /// The cluster of some instance.
    fn some_cluster(&mut self) -> &'static str {
        let homes = &self.weather.homes;
        self.clients.random.pick(homes).map_or(CLUSTERS[0], |home| home.2)
    }

    /// What a client could want now.
    fn idea(&mut self) -> (Option<Request>, Purpose) {
        let draw = self.clients.random.below(100);
        match draw {
            0..34 => self.run_idea(),
            34..40 => self.start_idea(),
            40..58 => (self.stop_idea(), Purpose::Other),
            58..68 => self.describe_idea(),
            68..76 => self.list_idea(),
            76..82 => self.replay_idea(),
            _ => (self.other_idea(draw), Purpose::Other),
        }
    }

    fn run_idea(&mut self) -> (Option<Request>, Purpose) {
        let cluster = self.some_cluster();
        let random = &mut self.clients.random;
        let Some(family) = random.pick(&self.clients.families).copied() else { return (None, Purpose::Other) };
        let count = if random.per_mille(700) { random.between(1, 2) } else { random.between(3, 10) };
        self.clients.next += 1;
        let mark = format!("run-{}", self.clients.next);
        let mut document = json!({"cluster": cluster, "taskDefinition": family, "count": count, "startedBy": mark});
        for (member, value) in catalog::placement(random) {
            document[member] = value;
        }
        if let Some(tags) = catalog::patience(random) {
            document["tags"] = tags;
        }
        let token = random.per_mille(600).then(|| format!("token-{}", self.clients.next));
        if let Some(token) = &token {
            document["clientToken"] = json!(token);
        }
        let count = usize::try_from(count).unwrap_or(1);
        self.oracle.will_run(&mark, count);
        let token = token.map(|token| (token, document.clone()));
        (catalog::request(Operation::RunTask, &document), Purpose::Run { count, token })
    }

    /// Tasks on instances that the client picks itself: those of one cluster, or one that has never been.
    fn start_idea(&mut self) -> (Option<Request>, Purpose) {
        let cluster = self.some_cluster();
        let here = self.agents.iter().filter(|agent| agent.cluster == cluster);
        let known: Vec<String> = here.filter_map(|agent| agent.disk.instance_arn.clone()).collect();
        let random = &mut self.clients.random;
        let Some(family) = random.pick(&self.clients.families).copied() else { return (None, Purpose::Other) };
        let picked = (0..random.between(1, 3)).filter_map(|_| random.pick(&known).cloned());
        let mut instances: Vec<String> = picked.collect();
        if instances.is_empty() || random.per_mille(100) {
            instances.push("0".repeat(32));
        }
        self.clients.next += 1;
        let mark = format!("start-{}", self.clients.next);
        let count = instances.len();
        self.oracle.will_run(&mark, count);
        let document = json!({
            "cluster": cluster, "taskDefinition": family, "containerInstances": instances, "startedBy": mark,
        });
        (catalog::request(Operation::StartTask, &document), Purpose::Start { count })
    }

    fn stop_idea(&mut self) -> Option<Request> {
        let random = &mut self.clients.random;
        let arn = random.pick(&self.clients.tasks)?;
        catalog::request(Operation::StopTask, &json!({"cluster": cluster_of(arn), "task": arn, "reason": "enough"}))
    }

    fn describe_idea(&mut self) -> (Option<Request>, Purpose) {
        let clients = &mut self.clients;
        let picked: BTreeSet<&String> = (0..5).filter_map(|_| clients.random.pick(&clients.tasks)).collect();
        let cluster = picked.first().map_or(CLUSTERS[0], |arn| cluster_of(arn)).to_owned();
        let here = picked.into_iter().filter(|arn| cluster_of(arn) == cluster);
        // What was seen of a task before it is asked about: the answer may not be older.
        let wanted: Vec<(String, Option<String>)> =
            here.map(|arn| (arn.clone(), clients.seen.get(arn).cloned())).collect();
        let arns: Vec<&String> = wanted.iter().map(|(arn, _)| arn).collect();
        let request = catalog::request(Operation::DescribeTasks, &json!({"cluster": cluster, "tasks": arns}));
        (request, Purpose::Describe(wanted))
    }

    fn list_idea(&mut self) -> (Option<Request>, Purpose) {
        let cluster = self.some_cluster();
        let size = self.clients.random.between(1, 12);
        let arns = self.clients.tasks.iter().filter(|arn| cluster_of(arn) == cluster).map(|arn| id_of(arn).to_owned());
        let wanted = |id: &String| self.oracle.tasks.get(id).is_some_and(|t| t.desired == DesiredStatus::Running);
        let must = arns.filter(wanted).collect();
        let request = catalog::request(Operation::ListTasks, &json!({"cluster": cluster, "maxResults": size}));
        (request, Purpose::List { cluster, must, listed: Vec::new(), size })
    }

    /// A request that was answered, once more; or another one with its token.
    fn replay_idea(&mut self) -> (Option<Request>, Purpose) {
        let clients = &mut self.clients;
        let tokens: Vec<&String> = clients.answered.keys().collect();
        let Some(token) = clients.random.pick(&tokens).map(|token| (*token).clone()) else {
            return (None, Purpose::Other);
        };
        let Some((document, _)) = clients.answered.get(&token) else { return (None, Purpose::Other) };
        let mut document = document.clone();
        if clients.random.per_mille(300) {
            document["group"] = json!("another");
            return (catalog::request(Operation::RunTask, &document), Purpose::Conflict);
        }
        let count = document["count"].as_u64().and_then(|count| usize::try_from(count).ok()).unwrap_or(1);
        let token = Some((token, document.clone()));
        (catalog::request(Operation::RunTask, &document), Purpose::Run { count, token })
    }

    fn other_idea(&mut self, draw: usize) -> Option<Request> {
        let lived_in = self.default_is_lived_in();
        let random = &mut self.clients.random;
        let spare = json!({"clusterName": format!("spare-{}", random.below(3))});
        match draw {
            82 | 83 => catalog::request(Operation::CreateCluster, &spare),
            84 | 85 => catalog::request(Operation::DeleteCluster, &json!({"cluster": spare["clusterName"]})),
            // Refused, once an instance lives in it; before that it would leave the agents without a home.
            86 if lived_in => catalog::request(Operation::DeleteCluster, &json!({"cluster": CLUSTERS[0]})),
            86..90 => {
                let images = ["sim/missing", "sim/flaky-pull", "sim/no-create", "sim/no-start", "sim/ends"];
                catalog::misbehaving("broken", random.pick(&images)?)
            }
            90 => {
                // Revisions are known by their numbers: the first ones are there, and then are not.
                let revision = format!("broken:{}", random.between(1, 3));
                match random.per_mille(500) {
                    true => catalog::request(Operation::DeregisterTaskDefinition, &json!({"taskDefinition": revision})),
                    false => {
                        catalog::request(Operation::DeleteTaskDefinitions, &json!({"taskDefinitions": [revision]}))
                    }
                }
            }
            91..94 => catalog::request(Operation::ListContainerInstances, &json!({})),
            94..96 => {
                catalog::request(Operation::DescribeClusters, &json!({"clusters": CLUSTERS, "include": ["STATISTICS"]}))
            }
            96 | 97 => catalog::request(Operation::ListTaskDefinitions, &json!({"maxResults": 2})),
            _ => {
                // A cluster without instances takes no tasks.
                let document = json!({"taskDefinition": "web", "cluster": spare["clusterName"]});
                catalog::request(Operation::RunTask, &document)
            }
        }
    }

    /// Whether deleting the default cluster is refused: an instance is there that nobody can give back meanwhile.
    fn default_is_lived_in(&self) -> bool {
        let here = self.agents.iter().filter(|agent| agent.cluster == CLUSTERS[0]);
        self.weather.operator_pause_ms == 0 && here.into_iter().any(|agent| agent.disk.instance_arn.is_some())
    }

    /// An answer, or none.
    pub(crate) fn client_hears(
        &mut self,
        client: usize,
        number: u64,
        answer: Option<Result<Response, ApiError>>,
    ) -> Step {
        let Some(pending) = self.clients.each[client].take_if(|pending| pending.number == number) else {
            return Ok(());
        };
        self.clients.answers += 1;
        match answer {
            None => self.ask_again(client, pending),
            Some(Err(refused)) if refused.code == common::SERVICE_UNAVAILABLE => self.ask_again(client, pending),
            Some(Ok(response)) => return self.answered(client, pending, response),
            Some(Err(refused)) => return self.refused(client, pending, &refused),
        }
        Ok(())
    }

    fn ask_again(&mut self, client: usize, pending: Pending) {
        // Without a token, one cannot know whether tasks were started.
        let once = matches!(pending.purpose, Purpose::Run { token: None, .. } | Purpose::Start { .. });
        let setup = matches!(pending.purpose, Purpose::Setup(_));
        if once || (pending.tries >= TRIES && !setup) {
            return;
        }
        self.clients.next += 1;
        let number = self.clients.next;
        let request = pending.request.clone();
        self.clients.each[client] = Some(Pending { number, tries: pending.tries + 1, ..pending });
        self.call(owner(), Ask::Ecs(request), Caller::Client { client, request: number });
    }

    fn refused(&mut self, client: usize, pending: Pending, refused: &ApiError) -> Step {
        let code = refused.code.name;
        let expected = match &pending.purpose {
            Purpose::Setup(_) => false,
            Purpose::Conflict => refused.code == error::CONFLICT_EXCEPTION,
            Purpose::Run { token, .. } => {
                let before = token.as_ref().is_some_and(|(token, _)| self.clients.answered.contains_key(token));
                let none =
                    refused.code == error::INVALID_PARAMETER_EXCEPTION || refused.code == error::CLIENT_EXCEPTION;
                !before && none
            }
            // Of the definition alone: what is wrong with an instance is a failure.
            Purpose::Start { .. } => refused.code == error::CLIENT_EXCEPTION,
            Purpose::Describe(_) => false,
            Purpose::List { .. } => refused.code == error::CLUSTER_NOT_FOUND_EXCEPTION,
            Purpose::Other => refused.code.status < 500,
        };
        // Before it is made, there is no default cluster.
        let early = refused.code == error::CLUSTER_NOT_FOUND_EXCEPTION && self.clients.families.is_empty();
        match expected || early {
            true => Ok(()),
            false => broken(0, format!("client {client} got {code} ({}) for {:?}", refused.message, pending.purpose)),
        }
    }

    fn answered(&mut self, client: usize, pending: Pending, response: Response) -> Step {
        match (pending.purpose, response) {
            (Purpose::Setup(step), _) => {
                let family = step.checked_sub(CLUSTERS.len());
                self.clients.families.extend(family.and_then(|family| FAMILIES.get(family)));
                if let Some(request) = self.setup(step + 1) {
                    self.ask(client, request, Purpose::Setup(step + 1));
                }
                Ok(())
            }
            (Purpose::Run { count, token }, Response::RunTask(response)) => self.ran(count, token, *response),
            (Purpose::Start { count }, Response::StartTask(response)) => self.started(count, *response),
            (Purpose::Conflict, response) => broken(11, format!("a token took another request: {response:?}")),
            (Purpose::Describe(wanted), Response::DescribeTasks(response)) => self.described(&wanted, &response),
            (Purpose::List { cluster, must, listed, size }, Response::ListTasks(response)) => {
                self.listed(client, (cluster, size), must, listed, *response)
            }
            (Purpose::Other, _) => Ok(()),
            (purpose, response) => broken(0, format!("{purpose:?} was answered with {response:?}")),
        }
    }

    /// Each instance that was named has a task, or says why not.
    fn started(&mut self, count: usize, response: types::StartTaskResponse) -> Step {
        let tasks = response.tasks.unwrap_or_default();
        let arns: Vec<String> = tasks.into_iter().filter_map(|task| task.task_arn).collect();
        for arn in &arns {
            self.oracle.acknowledged(arn)?;
        }
        let failures = response.failures.unwrap_or_default();
        let known = |failure: &types::Failure| {
            failure.reason.as_deref().is_some_and(|reason| REASONS.contains(&reason) || OF_ONE.contains(&reason))
        };
        ensure(failures.iter().all(known), 0, || format!("a failure has an unknown reason: {failures:?}"))?;
        ensure(arns.len() + failures.len() == count, 0, || {
            format!("of {count} instances {} have a task, failures {failures:?}", arns.len())
        })?;
        self.clients.tasks.extend(arns);
        Ok(())
    }

    fn ran(&mut self, count: usize, token: Option<(String, Value)>, response: types::RunTaskResponse) -> Step {
        let arns: Vec<String> =
            response.tasks.unwrap_or_default().into_iter().filter_map(|task| task.task_arn).collect();
        let failures = response.failures.unwrap_or_default();
        for arn in &arns {
            self.oracle.acknowledged(arn)?;
        }
        // A repeated token names what retention has forgotten, and nothing that should still be there.
        let gone: Vec<&str> = failures
            .iter()
            .filter(|failure| token.is_some() && failure.reason.as_deref() == Some("MISSING"))
            .filter_map(|failure| failure.arn.as_deref())
            .collect();
        let known = |failure: &types::Failure| {
            failure.reason.as_deref().is_some_and(|reason| REASONS.contains(&reason))
                || failure.arn.as_deref().is_some_and(|arn| gone.contains(&arn))
        };
        if !failures.iter().all(known) {
            return broken(0, format!("a failure has an unknown reason: {failures:?}"));
        }
        let earlier = token.as_ref().and_then(|(token, _)| self.clients.answered.get(token));
        match earlier {
            None if arns.len() > count || (arns.len() < count && failures.is_empty()) => {
                broken(0, format!("{count} tasks were asked for, {} came, failures {failures:?}", arns.len()))
            }
            None => {
                self.clients.tasks.extend(arns.iter().cloned());
                if let Some((token, document)) = token {
                    self.clients.answered.insert(token, (document, arns));
                }
                Ok(())
            }
            Some((_, first)) => {
                let left: Vec<&String> = first.iter().filter(|arn| !self.oracle.is_gone(arn)).collect();
                let same = arns.iter().all(|arn| first.contains(arn))
                    && left.iter().all(|arn| arns.contains(arn))
                    && gone.iter().all(|arn| first.iter().any(|made| made == arn) && self.oracle.is_gone(arn));
                match same {
                    true => Ok(()),
                    false => broken(11, format!("the same token gave {first:?} and then {arns:?}")),
                }
            }
        }
    }

    /// Tasks are as they were seen before, or further.
    fn described(&mut self, wanted: &[(String, Option<String>)], response: &types::DescribeTasksResponse) -> Step {
        const ORDER: [&str; 4] = ["PROVISIONING", "PENDING", "RUNNING", "STOPPED"];
        let rank = |status: Option<&String>| ORDER.iter().position(|known| Some(*known) == status.map(String::as_str));
        let tasks = response.tasks.as_deref().unwrap_or_default();
        for (arn, seen) in wanted {
            let found = tasks.iter().find(|task| task.task_arn.as_ref() == Some(arn));
            let Some(task) = found else {
                ensure(self.oracle.is_gone(arn), 4, || format!("task {arn} is not described"))?;
                continue;
            };
            let status = task.last_status.as_ref();
            ensure(status.is_none_or(|s| s != "STOPPED") || task.stopped_reason.is_some(), 4, || {
                format!("task {arn} is STOPPED without a reason")
            })?;
            ensure(rank(status) >= rank(seen.as_ref()), 5, || format!("task {arn} is {status:?}, it was {seen:?}"))?;
            if let Some(status) = status.filter(|_| rank(status) > rank(self.clients.seen.get(arn))) {
                self.clients.seen.insert(arn.clone(), status.clone());
            }
        }
        Ok(())
    }

    /// A page of a listing; after the last one, whatever was there all the time was listed exactly once.
    fn listed(
        &mut self,
        client: usize,
        (cluster, size): (&'static str, i64),
        must: BTreeSet<String>,
        mut listed: Vec<String>,
        response: types::ListTasksResponse,
    ) -> Step {
        listed.extend(response.task_arns.unwrap_or_default().iter().map(|arn| id_of(arn).to_owned()));
        if let Some(token) = response.next_token {
            let document = json!({"cluster": cluster, "maxResults": size, "nextToken": token});
            if let Some(request) = catalog::request(Operation::ListTasks, &document) {
                self.ask(client, request, Purpose::List { cluster, must, listed, size });
            }
            return Ok(());
        }
        let once: BTreeSet<&String> = listed.iter().collect();
        if once.len() != listed.len() {
            return broken(0, format!("a listing repeats itself: {listed:?}"));
        }
        let runs = |id: &&String| self.oracle.tasks.get(*id).is_some_and(|task| task.desired == DesiredStatus::Running);
        match must.iter().filter(runs).find(|id| !once.contains(*id)) {
            None => Ok(()),
            Some(missed) => broken(0, format!("task {missed} runs all the time and is not listed: {listed:?}")),
        }
    }
}

/// The name of a task's cluster.
fn cluster_of(arn: &str) -> &str {
    arn.split('/').nth(1).unwrap_or_default()
}
