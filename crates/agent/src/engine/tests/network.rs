//! Tasks with a network of their own, which a container of the agent's holds.

use longshore_agent_protocol::acs;
use serde_json::{Value, json};

use super::world::*;
use crate::engine::container_config::docker_name;
use crate::engine::resource::network::PAUSE;
use crate::engine::*;

fn awsvpc() -> acs::Task {
    let mut task = task("t", vec![container("main"), side_car("other")]);
    task.network_mode = Some("awsvpc".to_owned());
    task.elastic_network_interfaces = serde_json::from_value(json!([{
        "macAddress": "0a:58:0a:d4:03:46", "privateDnsName": "ip-10-212-3-70.ec2.internal",
        "ipv4Addresses": [{ "primary": true, "privateAddress": "10.212.3.70" }],
        "subnetGatewayIpv4Address": "10.212.0.1/16", "longshoreSecurityGroups": ["sg-1"],
    }]))
    .unwrap();
    task
}

fn position(world: &World, what: &str) -> usize {
    let found = world.trace.iter().position(|line| line.starts_with(what));
    found.unwrap_or_else(|| panic!("no {what} in {:#?}", world.trace))
}

#[test]
fn the_network_is_there_before_the_containers_and_goes_when_they_have_ended() {
    let mut world = new_world();
    let task = awsvpc();
    let holder = json!(format!("container:{}", docker_name(&task, PAUSE)));
    world.payload(vec![task]);
    world.settle();
    let network = position(&world, "make Network");
    assert!(position(&world, &format!("start {PAUSE}")) < network);
    for own in ["main", "other"] {
        assert!(network < position(&world, &format!("create {own}")));
    }
    for container in world.docker.containers.values() {
        let expected = if container.key.name == PAUSE { json!("none") } else { holder.clone() };
        let mode: &Value = &container.spec.body["HostConfig"]["NetworkMode"];
        assert_eq!(*mode, expected, "{}", container.key.name);
    }
    assert!(world.trace.contains(&"submit RUNNING main=RUNNING other=RUNNING".to_owned()), "{:?}", world.trace);

    world.trace.clear();
    world.payload(vec![stop("t")]);
    world.settle();
    // Its containers are kept for a while, for people who look at them; its address is not.
    position(&world, "unmake Network");
    assert_eq!(world.control_plane["t"].status, "STOPPED");
    assert_eq!(world.docker.containers.len(), 3);
}

/// Only the agent's own container ever ran.
#[test]
fn a_task_without_a_network_never_runs_and_says_why() {
    let mut world = new_world();
    world.makes.push_back(Err(ResourceError::Refused("no way".to_owned())));
    world.payload(vec![awsvpc()]);
    world.settle();
    assert!(!world.trace.iter().any(|line| line.starts_with("submit RUNNING")), "{:#?}", world.trace);
    let view = &world.control_plane["t"];
    assert_eq!(view.status, "STOPPED");
    assert!(view.reason.starts_with("ResourceInitializationError: no way"), "{}", view.reason);
    assert_eq!(world.docker.running(), 0);
}

#[test]
fn a_task_that_loses_its_network_stops_and_says_why() {
    let mut world = new_world();
    world.payload(vec![awsvpc()]);
    world.settle();
    world.trace.clear();
    world.exit("t", PAUSE, 137);
    world.settle();
    assert_eq!(world.control_plane["t"].status, "STOPPED");
    assert_eq!(world.control_plane["t"].reason, "the container that holds the namespaces of the task has ended");
    position(&world, "unmake Network");
}
