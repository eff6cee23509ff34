//! Credentials of tasks' roles: held while their task lives, and no longer.

use super::*;

/// An order with credentials for its task.
fn with_role(mut order: Value) -> Value {
    order["tasks"][0]["executionRoleCredentials"] = json!({
        "credentialsId": "id", "roleArn": "r", "accessKeyId": "K", "secretAccessKey": "s", "sessionToken": "t",
        "expiration": "2026-01-01T00:00:00Z",
    });
    order
}

/// Waits until everything that was sent before has been heard.
async fn heard(world: &mut World) {
    world
        .order(json!({ "messageId": "last", "clusterArn": "arn:c", "containerInstanceArn": INSTANCE, "tasks": [] }))
        .await;
    while !matches!(world.answer().await, AgentMessage::Ack(ack) if ack.message_id == "last") {}
}

#[tokio::test]
async fn they_are_held_until_the_task_ends_and_not_taken_again() {
    let mut world = World::start(FakeDocker::with_image("web"), 1).await;
    world.order(with_role(run_task("a", "web"))).await;
    world.change(&task("a"), "RUNNING").await;
    assert!(world.shared.roles.of(&task("a")).is_some());
    world.shared.docker.end_all(0);
    world.change(&task("a"), "STOPPED").await;
    assert!(world.shared.roles.of(&task("a")).is_none(), "kept after the task's end");
    world.order(with_role(run_task("a", "web"))).await;
    heard(&mut world).await;
    assert!(world.shared.roles.of(&task("a")).is_none(), "taken for a task that is over");
}

#[tokio::test]
async fn those_of_another_instances_order_are_not_taken() {
    let mut world = World::start(FakeDocker::with_image("web"), 1).await;
    let mut order = with_role(run_task("a", "web"));
    order["containerInstanceArn"] = json!(OTHER_INSTANCE);
    world.order(order).await;
    heard(&mut world).await;
    assert!(world.shared.roles.of(&task("a")).is_none());
}

/// A task whose container gets a secret, and waits for the credentials to fetch it with.
fn with_secret(id: &str) -> Value {
    let secret = json!({ "name": "PASSWORD", "valueFrom": "/app/db", "provider": "ssm" });
    order(id, "RUNNING", json!([{ "name": "main", "image": "web", "essential": true, "secrets": [secret] }]))
}

#[tokio::test]
async fn a_task_waits_for_them_and_goes_on_as_soon_as_they_come() {
    let mut world = World::start(FakeDocker::with_image("web"), 1).await;
    world.order(with_secret("a")).await;
    heard(&mut world).await;
    timeout(PATIENCE, async {
        while !world.shared.roles.are_missed() {
            sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .unwrap();
    // Long after the first tries: the next one would come in some seconds.
    sleep(Duration::from_millis(3_500)).await;
    assert!(world.shared.docker.containers().is_empty());
    let order = with_role(with_secret("a"));
    world.order(order).await;
    let next = timeout(Duration::from_secs(2), world.server.call("SubmitTaskStateChange")).await.unwrap();
    // The fake has no parameters: that it was asked for one is all there is to see.
    assert!(next["reason"].as_str().unwrap().contains("GetParameters"), "{next}");
    assert!(!world.shared.roles.are_missed());
}
