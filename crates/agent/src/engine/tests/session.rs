//! Stories about the control plane and the agent's own life: manifests, reports that do not arrive, restarts.

use longshore_agent_protocol::acs;

use super::world::*;
use crate::engine::*;

#[test]
fn manifests() {
    let mut world = running(vec![container("main")]);
    world.payload(vec![task("u", vec![container("main")])]);
    world.settle();
    world.trace.clear();
    // Two payloads were seen: their sequence numbers are as new as any timeline up to 2.
    world.manifest(2, &[]);
    world.expect(&[]);
    world.manifest(3, &["t", "u", "unknown"]);
    world.expect(&["timeline 3", "ack manifest3"]);
    world.manifest(4, &["u"]);
    world.expect(&["timeline 4", "ack manifest4", "candidates manifest4 t"]);
    let verified = |id: &str, arns: &[&str]| {
        let stop_tasks = arns
            .iter()
            .map(|arn| acs::TaskIdentifier { task_arn: (*arn).to_owned(), ..acs::TaskIdentifier::default() });
        Input::StopVerificationAck(acs::TaskStopVerificationAck {
            message_id: id.to_owned(),
            stop_tasks: stop_tasks.collect(),
            ..acs::TaskStopVerificationAck::default()
        })
    };
    world.feed(verified("manifest3", &["u"]));
    world.expect(&[]);
    world.feed(verified("manifest4", &["t", "unknown"]));
    world.settle();
    assert_eq!(world.control_plane["t"].status, "STOPPED");
    assert_eq!(world.control_plane["u"].status, "RUNNING");
    world.trace.clear();
    world.feed(verified("manifest4", &["u"]));
    world.expect(&[]);
    // The timeline survives the agent.
    world.crash(false);
    world.settle();
    world.trace.clear();
    world.manifest(4, &[]);
    world.expect(&[]);
}

#[test]
fn messages_that_are_incomplete_or_for_others_are_dropped() {
    let mut world = new_world();
    let message = acs::PayloadMessage {
        message_id: "m".to_owned(),
        cluster_arn: "c".to_owned(),
        container_instance_arn: INSTANCE.to_owned(),
        tasks: vec![task("t", vec![container("main")])],
        ..acs::PayloadMessage::default()
    };
    for broken in [
        acs::PayloadMessage { message_id: String::new(), ..message.clone() },
        acs::PayloadMessage { cluster_arn: String::new(), ..message.clone() },
        acs::PayloadMessage { container_instance_arn: "another".to_owned(), ..message },
    ] {
        world.feed(Input::Payload(broken));
        world.expect(&[]);
    }
    assert_eq!(world.engine.tasks().count(), 0);
}

#[test]
fn reports_are_repeated_until_they_arrive_and_running_comes_before_stopped() {
    let mut world = new_world();
    let failed = || SubmitOutcome::Failed("no route".to_owned());
    world.submit_outcomes.extend([failed(), failed()]);
    world.payload(vec![task("t", vec![container("main")])]);
    world.settle();
    world.exit("t", "main", 5);
    world.settle();
    world.trace.clear();
    world.pass(20_000);
    world.expect(&["submit RUNNING main=RUNNING", "submit RUNNING main=RUNNING", "submit STOPPED main=STOPPED(5)"]);
    // A report that is refused for good is not repeated, and does not keep the clean-up from happening.
    let mut world = running(vec![container("main")]);
    world.submit_outcomes.push_back(SubmitOutcome::Dropped("InvalidParameterException".to_owned()));
    world.exit("t", "main", 0);
    world.pass(4_000_000);
    world.expect(&["inspect main", "save", "submit STOPPED main=STOPPED(0)", "remove main"]);
}

#[test]
fn nothing_is_removed_before_the_control_plane_knows() {
    let mut world = running(vec![container("main")]);
    world.submit_outcomes.extend((0..10_000).map(|_| SubmitOutcome::Failed("away".to_owned())));
    world.exit("t", "main", 0);
    world.pass(4_000_000);
    assert!(!world.trace.contains(&"remove main".to_owned()));
    world.submit_outcomes.clear();
    world.pass(10_000);
    assert!(world.trace.contains(&"remove main".to_owned()));
}

#[test]
fn containers_are_taken_over_after_a_restart_and_what_happened_meanwhile_is_told() {
    let mut world = running(vec![container("main")]);
    world.crash(true);
    world.expect(&["inspect main", "submit RUNNING main=RUNNING"]);
    // It ends while no agent is there.
    let at = world.now;
    world.docker.exit(&key("t", "main"), 4, false, at);
    world.crash(false);
    world.expect(&["inspect main", "save", "submit STOPPED main=STOPPED(4)"]);

    let mut world = running(vec![container("main")]);
    world.docker.containers.clear();
    world.crash(false);
    world.expect(&[
        "inspect main",
        "save",
        "submit STOPPED main=STOPPED<ContainerVanishedError: No container matching saved ID found>",
    ]);
}

#[test]
fn a_start_that_was_meant_and_never_made_is_made_once() {
    let (mut world, _) = about_to_start();
    world.crash(false);
    world.trace.clear();
    world.expect(&["inspect main", "start main", "submit RUNNING main=RUNNING"]);
    // Had the container vanished instead, nobody could say that it did not run.
    world.docker.containers.clear();
    world.crash(false);
    world.settle();
    assert!(!world.trace.contains(&"create main".to_owned()));
}

/// Everything up to the intention to start is done, the start is not.
fn about_to_start() -> (World, Action) {
    let mut world = new_world();
    world.payload(vec![task("t", vec![container("main")])]);
    loop {
        match world.todo.pop_front() {
            Some(start @ Action::Start { .. }) => return (world, start),
            Some(action) => world.perform(action),
            None => {
                let news = world.news.pop_front().unwrap();
                world.feed(news);
            }
        }
    }
}

#[test]
fn a_start_during_which_agent_and_docker_were_killed_is_not_repeated() {
    let (mut world, start) = about_to_start();
    world.docker.killed_in_start = true;
    world.perform(start);
    world.crash(true);
    world.trace.clear();
    world.settle();
    assert!(!world.trace.contains(&"start main".to_owned()), "{:?}", world.trace);
    let (status, exit_code, reason) = &world.control_plane["t"].containers["main"];
    assert_eq!((status.as_str(), *exit_code), ("STOPPED", None));
    assert!(reason.as_ref().unwrap().starts_with("CannotStartContainerError: Docker went away"), "{reason:?}");
}

#[test]
fn containers_of_unknown_tasks_are_left_alone() {
    let mut world = new_world();
    let found = FoundContainer { container: key("foreign", "main"), docker_id: "idX".to_owned(), running: true };
    world.feed(Input::DockerReady { docker: world.docker.life(), found: vec![found] });
    world.expect(&[]);
    assert_eq!(world.logs, ["running container idX of a task unknown to this agent is left alone"]);
}

#[test]
fn reasons_are_cut_to_the_apis_limits() {
    let mut world = new_world();
    let long = "é".repeat(3000);
    world.docker.errors.entry("create main".to_owned()).or_default().push_back(DockerError::Failed(long));
    world.payload(vec![task("t", vec![container("main")])]);
    world.settle();
    let reason = world.control_plane["t"].containers["main"].2.clone().unwrap();
    assert!((1022..=1024).contains(&reason.len()), "{}", reason.len());
}
