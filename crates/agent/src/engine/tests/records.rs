//! What agents have saved must be readable for ever: an agent is upgraded while its tasks run.
//!
//! When the format changes, add a file of the new one and keep the old ones.

use serde_json::Value;

use crate::engine::*;

const RELEASE_0_1_0: &str = include_str!("../../../tests/fixtures/task-record-0.1.0.json");
const PRESENT: &str = include_str!("../../../tests/fixtures/task-record.json");

#[test]
fn a_record_of_release_0_1_0_is_read() {
    let record = TaskRecord::from_json(RELEASE_0_1_0.as_bytes()).unwrap();
    assert_eq!((record.desired, record.known, record.reported), (Desired::Stopped, Status::Stopped, Status::Stopped));
    assert_eq!(record.definition.family.as_deref(), Some("ended"));
    assert!(record.admitted && record.reached_running && !record.cleaned && !record.to_find);
    let [main] = record.containers.as_slice() else { panic!("{record:?}") };
    assert_eq!((main.name.as_str(), main.exit_code, main.essential), ("main", Some(3), true));
    assert!(main.start_intended && main.started && main.finished_at.is_some() && main.docker_id.is_some());
}

#[test]
fn a_record_of_the_present_format_is_read_and_written_as_it_is() {
    let record = TaskRecord::from_json(PRESENT.as_bytes()).unwrap();
    let main = &record.containers[0];
    assert_eq!((record.known, record.seq_num, main.exit_code), (Status::Running, 17, Some(137)));
    assert_eq!(main.health.as_ref().map(|health| health.status), Some(HealthStatus::Unhealthy));
    assert_eq!(main.bindings.as_ref().unwrap()[0].protocol, Protocol::Tcp);
    let written: Value = serde_json::from_slice(&record.to_json()).unwrap();
    let read: Value = serde_json::from_str(PRESENT).unwrap();
    assert_eq!(written, read, "the format has changed: add a file for the new one, and keep this one readable");
}

#[test]
fn a_record_without_what_later_releases_add_is_read() {
    let mut document: Value = serde_json::from_str(PRESENT).unwrap();
    document.as_object_mut().unwrap().remove("to_find");
    document["containers"][0].as_object_mut().unwrap().retain(|field, _| field == "name");
    document["containers"][0]["added_later"] = Value::Bool(true);
    let record = TaskRecord::from_json(document.to_string().as_bytes()).unwrap();
    assert_eq!(record.containers[0].name, "main");
}
