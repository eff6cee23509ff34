//! The contract of DESIGN §3 with real threads and a store whose failures are ordered.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use longshore_api::admin;
use longshore_api::ecs::{self, Response, types};
use longshore_core::cell::{AgentInfo, Command, Delivery, Reply};
use longshore_core::entropy::Entropy;
use longshore_core::identity::Answer;
use longshore_core::ids::SessionId;
use longshore_core::pipeline::{Batch, Committed, Pipeline, Step};
use longshore_core::{CellConfig, Principal, Role};
use longshore_store::{CommitError, CommitNumber, MemoryDisk, MemoryStore, Store, StoreError, Term};
use tokio::sync::Notify;

use super::committer::Committer;
use super::{Perform, Runner};
use crate::orchestrator::Orchestrator;

/// Keeps what would be sent to agents.
#[derive(Default)]
struct Sent {
    deliveries: Mutex<Vec<Delivery>>,
    came: Notify,
}

impl Perform for Sent {
    fn perform(&self, delivery: Delivery) {
        self.deliveries.lock().expect("no panic").push(delivery);
        self.came.notify_one();
    }
}

impl Sent {
    async fn next(&self) -> Delivery {
        loop {
            if let Some(delivery) = self.deliveries.lock().expect("no panic").pop() {
                return delivery;
            }
            self.came.notified().await;
        }
    }
}

fn start(disk: &MemoryDisk, max_waiting: usize) -> (Runner, Arc<Sent>) {
    let sent = Arc::new(Sent::default());
    let config = CellConfig::new("us-east-1", "000000000000");
    let store = Box::new(MemoryStore::open(disk.clone()));
    (Runner::start(config, store, sent.clone(), max_waiting).expect("the runner starts"), sent)
}

fn principal() -> Principal {
    Principal::new(Role::Owner, "AKID", "000000000000")
}

async fn create(runner: &Runner, name: &str) -> Result<Response, longshore_api::ApiError> {
    let request = types::CreateClusterRequest { cluster_name: Some(name.to_owned()), ..Default::default() };
    runner.call(principal(), request.into()).await
}

/// Whether the server says of itself that it cannot write.
async fn is_read_only(runner: &Runner) -> bool {
    match runner.administer(principal(), admin::DescribeServerRequest {}.into()).await {
        Ok(Answer::Complete(admin::Response::DescribeServer(server))) => server.read_only,
        other => panic!("{other:?}"),
    }
}

async fn names(runner: &Runner) -> Vec<String> {
    let request = types::ListClustersRequest::default();
    match runner.call(principal(), request.into()).await {
        Ok(Response::ListClusters(answer)) => {
            let arns = answer.cluster_arns.unwrap_or_default();
            arns.iter().filter_map(|arn| arn.rsplit_once('/')).map(|(_, name)| name.to_owned()).collect()
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn what_was_answered_is_read_at_once_and_after_a_restart() {
    let disk = MemoryDisk::new();
    let (runner, _) = start(&disk, 10);
    create(&runner, "prod").await.expect("created");
    assert_eq!(names(&runner).await, ["prod"]);
    runner.stop();
    runner.ended().await;
    let (again, _) = start(&disk, 10);
    assert_eq!(names(&again).await, ["prod"]);
}

#[tokio::test]
async fn a_full_disk_refuses_writes_serves_reads_and_recovers() {
    let disk = MemoryDisk::new();
    let (runner, _) = start(&disk, 10);
    create(&runner, "before").await.expect("created");
    disk.set_full(true);
    for name in ["lost", "lost-too"] {
        let refused = create(&runner, name).await.expect_err("nothing can be written");
        assert_eq!(refused.code.status, 503);
        assert!(refused.message.contains("Try again") || refused.message.contains("try again"), "{}", refused.message);
    }
    assert_eq!(names(&runner).await, ["before"]);
    assert!(is_read_only(&runner).await);
    disk.set_full(false);
    // The store is asked once a second; the first success ends the refusals.
    let recovered = async {
        while create(&runner, "after").await.is_err() {
            tokio::task::yield_now().await
        }
    };
    tokio::time::timeout(Duration::from_secs(10), recovered).await.expect("writes work again");
    assert_eq!(names(&runner).await, ["after", "before"]);
    assert!(!is_read_only(&runner).await);
}

#[tokio::test]
async fn an_unknown_outcome_drops_memory_and_loads_what_is_durable() {
    for kept in [0, 1] {
        let disk = MemoryDisk::new();
        let (runner, _) = start(&disk, 10);
        create(&runner, "before").await.expect("created");
        disk.lose_next_commit(kept);
        create(&runner, "unsure").await.expect_err("nobody knows");
        let loaded = async {
            while create(&runner, "after").await.is_err() {
                tokio::task::yield_now().await
            }
        };
        tokio::time::timeout(Duration::from_secs(10), loaded).await.expect("writes work again");
        let expected: &[&str] = if kept == 0 { &["after", "before"] } else { &["after", "before", "unsure"] };
        assert_eq!(names(&runner).await, expected);
    }
}

#[tokio::test]
async fn too_many_waiting_requests_are_throttled_not_queued() {
    let (runner, _) = start(&MemoryDisk::new(), 0);
    let refused = create(&runner, "prod").await.expect_err("there is no room");
    assert_eq!(refused.code.name, "ThrottlingException");
}

#[tokio::test]
async fn a_session_gets_its_manifest_only_after_the_commit() {
    let disk = MemoryDisk::new();
    let (runner, sent) = start(&disk, 10);
    create(&runner, "default").await.expect("created");
    let number =
        |name: &str| types::Resource { name: Some(name.to_owned()), integer_value: Some(1024), ..Default::default() };
    let request = types::RegisterContainerInstanceRequest {
        total_resources: Some(vec![number("CPU"), number("MEMORY")]),
        ..Default::default()
    };
    let answer = runner.call(principal(), ecs::Request::from(request)).await.expect("registered");
    let Response::RegisterContainerInstance(answer) = answer else { panic!("{answer:?}") };
    let instance_arn = answer.container_instance.and_then(|one| one.container_instance_arn).expect("an ARN");
    let open = Command::SessionOpened {
        instance_arn,
        session: SessionId(7),
        principal: principal(),
        agent: AgentInfo::default(),
    };
    assert!(matches!(runner.command(open).await, Reply::Session(Ok(_))));
    let Delivery::Send { session, message, .. } = sent.next().await else { panic!("a manifest is sent") };
    assert_eq!(session, SessionId(7));
    let text = message.encode();
    assert!(text.contains("TaskManifestMessage"), "{text}");
    assert!(disk.number().0 >= 3, "cluster, instance and session are durable");
}

/// A store whose commit panics.
struct Broken(MemoryStore);

impl Store for Broken {
    fn lead(&mut self) -> Result<Term, StoreError> {
        self.0.lead()
    }

    fn load(&mut self, each: &mut dyn FnMut(&[u8], &[u8])) -> Result<CommitNumber, StoreError> {
        self.0.load(each)
    }

    fn commit(&mut self, _: Term, _: &longshore_store::Batch) -> Result<(), CommitError> {
        panic!("as the test wants")
    }
}

/// Waits for the end of all threads.
async fn ended(runner: &Runner) {
    tokio::time::timeout(Duration::from_secs(10), runner.ended()).await.expect("the threads end");
}

#[tokio::test]
async fn a_panic_of_one_thread_ends_all_and_nobody_waits_for_ever() {
    let (config, sent) = (CellConfig::new("us-east-1", "000000000000"), Arc::new(Sent::default()));
    let runner = Runner::start(config, Box::new(Broken(MemoryStore::new())), sent, 10).expect("the runner starts");
    let waiting = create(&runner, "prod");
    let refused =
        tokio::time::timeout(Duration::from_secs(10), waiting).await.expect("an answer").expect_err("a refusal");
    assert_eq!(refused.code.name, "ServiceUnavailableException");
    runner.stopped().cancelled().await;
    ended(&runner).await;
    create(&runner, "late").await.expect_err("nobody is there");
}

#[tokio::test]
async fn a_server_whose_state_cannot_be_loaded_again_refuses_and_stops() {
    let disk = MemoryDisk::new();
    let (runner, _) = start(&disk, 10);
    disk.lose_next_commit(0);
    disk.set_damaged(true);
    for _ in 0..3 {
        let refused = tokio::time::timeout(Duration::from_secs(10), create(&runner, "prod")).await.expect("an answer");
        assert_eq!(refused.expect_err("nothing is led").code.status, 503);
    }
    runner.stop();
    ended(&runner).await;
}

/// What the cell gives the commit thread when many large definitions come together: about 12 MiB.
fn large_batch() -> Batch {
    let mut pipeline = Pipeline::new(longshore_core::cell::Cell::new(CellConfig::new("us-east-1", "000000000000")));
    drop(pipeline.step());
    let environment = vec![types::KeyValuePair { name: Some("V".into()), value: Some("x".repeat(60_000)) }];
    let container = types::ContainerDefinition {
        name: Some("main".into()),
        image: Some("i".into()),
        memory: Some(10),
        environment: Some(environment.into()),
        ..Default::default()
    };
    let request = types::RegisterTaskDefinitionRequest {
        family: "large".into(),
        container_definitions: vec![container],
        ..Default::default()
    };
    for ticket in 0..200 {
        let command = Command::Api { principal: principal(), request: request.clone().into() };
        pipeline.submit(ticket, longshore_api::Timestamp::from_millis(1), Entropy::from_seed([1; 32]), command);
    }
    match pipeline.step() {
        Step::Commit(batch) => batch,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_large_batch_is_committed_in_parts_and_a_failure_keeps_the_parts_before() {
    let batch = large_batch();
    let last = batch.groups.last().expect("groups").number;
    let disk = MemoryDisk::new();
    let config = CellConfig::new("us-east-1", "000000000000");
    let mut committer = Committer::new(config.clone(), Box::new(MemoryStore::open(disk.clone())));
    committer.load().expect("an empty store loads");
    assert_eq!(committer.commit(&batch), Ok(Committed::Durable));
    assert_eq!((disk.commits(), disk.number().0), (2, last));

    let disk = MemoryDisk::new();
    let mut committer = Committer::new(config, Box::new(MemoryStore::open(disk.clone())));
    committer.load().expect("an empty store loads");
    disk.fail_next_commit(usize::MAX);
    let failed = committer.commit(&batch);
    let durable = disk.number().0;
    assert!(0 < durable && durable < last, "{durable} of {last}");
    assert_eq!(failed, Ok(Committed::Failed { durable }));
}

#[tokio::test]
async fn who_finds_that_another_leads_ends_and_leaves_the_lead_to_it() {
    let disk = MemoryDisk::new();
    let (first, _) = start(&disk, 10);
    create(&first, "first").await.expect("created");
    let (second, _) = start(&disk, 10);
    create(&first, "fenced").await.expect_err("another leads");
    tokio::time::timeout(Duration::from_secs(10), first.ended()).await.expect("every thread ends");
    assert!(first.stopped().is_cancelled());
    create(&second, "second").await.expect("it leads still");
    assert_eq!(names(&second).await, ["first", "second"]);
}
