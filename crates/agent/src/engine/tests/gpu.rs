//! GPUs: each container sees its own, in either way.

use longshore_agent_protocol::acs;
use serde_json::{Value, json};

use super::world::*;
use crate::engine::container_config::container_spec;
use crate::engine::resource::Prepared;
use crate::engine::*;

fn gpu(id: &str, containers: &[&str]) -> acs::Association {
    acs::Association {
        containers: containers.iter().map(|name| (*name).to_owned()).collect(),
        name: id.to_owned(),
        association_type: "gpu".to_owned(),
        content: Some(acs::AssociationContent { encoding: "identity".to_owned(), value: String::new() }),
    }
}

fn with_gpus(arn: &str, containers: Vec<acs::Container>, gpus: Vec<acs::Association>) -> acs::Task {
    acs::Task { associations: gpus, ..task(arn, containers) }
}

fn body(config: &EngineConfig, task: &acs::Task, container: usize) -> Value {
    container_spec(config, task, &task.containers[container], &Prepared::default()).unwrap().body
}

#[test]
fn a_container_sees_its_own_and_no_other() {
    let mut main = container("main");
    // Neither what the definition says of itself nor Docker's own words give it another's.
    main.environment.insert("NVIDIA_VISIBLE_DEVICES".to_owned(), "all".to_owned());
    main.docker_config = Some(acs::DockerConfig {
        host_config: Some(r#"{"runtime":"runc"}"#.to_owned()),
        ..acs::DockerConfig::default()
    });
    let gpus = vec![gpu("GPU-2", &["main"]), gpu("GPU-1", &["main"])];
    let task = with_gpus("t", vec![main, container("aside")], gpus);
    let by_runtime = body(&config(), &task, 0);
    assert_eq!(by_runtime["Env"], json!(["NVIDIA_VISIBLE_DEVICES=GPU-2,GPU-1"]));
    assert_eq!(by_runtime["HostConfig"]["Runtime"], "nvidia");
    let aside = body(&config(), &task, 1);
    assert_eq!((&aside["Env"], &aside["HostConfig"]["Runtime"]), (&json!([]), &Value::Null));

    let by_request = body(&EngineConfig { gpu_access: GpuAccess::Requests, ..config() }, &task, 0);
    let devices = json!([{"DeviceIDs": ["GPU-2", "GPU-1"], "Capabilities": [["gpu"]]}]);
    assert_eq!(by_request["HostConfig"]["DeviceRequests"], devices);
    assert_eq!(by_request["HostConfig"]["runtime"], "runc");
}

#[test]
fn what_no_container_can_have_is_refused() {
    let foreign = acs::Association { association_type: "elastic-inference".to_owned(), ..gpu("e", &["main"]) };
    for (association, expected) in [
        (foreign, "associations of type \"elastic-inference\" are not supported"),
        (gpu("GPU-1", &["main", "aside"]), "GPU GPU-1 is for 2 containers"),
        (gpu("GPU-1", &["nobody"]), "GPU GPU-1 is for container nobody, which the task does not have"),
        (gpu("GPU-9", &["main"]), "GPU GPU-9 is none of this instance's"),
    ] {
        let mut world = World::new(config());
        world.payload(vec![with_gpus("t", vec![container("main")], vec![association])]);
        world.settle();
        let reason = &world.control_plane["t"].reason;
        assert!(reason.starts_with("UnrecogniedTaskError: Error loading task - "), "{reason}");
        assert!(reason.contains(expected), "{reason} should say {expected}");
    }
}

#[test]
fn a_gpu_that_another_task_still_has_is_waited_for() {
    let mut world = World::new(config());
    let task = |arn: &str, id: &str| with_gpus(arn, vec![container("main")], vec![gpu(id, &["main"])]);
    world.payload(vec![task("first", "GPU-1"), task("second", "GPU-1"), task("third", "GPU-2")]);
    world.settle();
    assert_eq!(world.control_plane["first"].status, "RUNNING");
    assert_eq!(world.control_plane["third"].status, "RUNNING");
    assert_eq!(world.control_plane.get("second"), None);
    world.exit("first", "main", 0);
    world.settle();
    assert_eq!(world.control_plane["first"].status, "STOPPED");
    assert_eq!(world.control_plane["second"].status, "RUNNING");
}
