//! The contract of DESIGN §3 with real threads and a store whose failures are ordered.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use longshore_api::ecs::{self, Response, types};
use longshore_core::cell::{AgentInfo, Command, Delivery, Reply};
use longshore_core::ids::SessionId;
use longshore_core::{CellConfig, Principal};
use longshore_store::{MemoryDisk, MemoryStore};
use tokio::sync::Notify;

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
    Principal { access_key_id: "AKID".into(), arn: "arn:aws:iam::000000000000:root".into() }
}

async fn create(runner: &Runner, name: &str) -> Result<Response, longshore_api::ApiError> {
    let request = types::CreateClusterRequest { cluster_name: Some(name.to_owned()), ..Default::default() };
    runner.call(principal(), request.into()).await
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
    disk.set_full(false);
    // The store is asked once a second; the first success ends the refusals.
    let recovered = async {
        while create(&runner, "after").await.is_err() {
            tokio::task::yield_now().await
        }
    };
    tokio::time::timeout(Duration::from_secs(10), recovered).await.expect("writes work again");
    assert_eq!(names(&runner).await, ["after", "before"]);
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
