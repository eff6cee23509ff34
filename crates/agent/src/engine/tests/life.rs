//! Stories of tasks, each with the trace of what the engine did.

use longshore_agent_protocol::acs;

use super::world::*;
use crate::engine::*;

#[test]
fn one_container_from_payload_to_clean_up() {
    let mut world = new_world();
    world.payload(vec![task("t", vec![container("main")])]);
    world.expect(&[
        "save",
        "look for img",
        "ack m1",
        "create main",
        "save",
        "start main",
        "submit RUNNING main=RUNNING",
    ]);
    let change = world.last_submit.clone().unwrap();
    assert_eq!(change.cluster.as_deref(), Some("default"));
    assert_eq!(change.reason.as_deref(), Some(""));
    assert_eq!(change.pull_started_at, None, "a cached image is not pulled");
    let main = &change.containers.unwrap()[0];
    assert_eq!(main.runtime_id.as_deref(), Some("id1"));
    assert_eq!(main.image_digest.as_deref(), Some("sha256:abc"));

    world.exit("t", "main", 7);
    world.expect(&["inspect main", "save", "submit STOPPED main=STOPPED(7)"]);
    let change = world.last_submit.clone().unwrap();
    assert_eq!(change.execution_stopped_at, Some(world.now));

    world.pass(3_599_999);
    world.expect(&[]);
    world.pass(1);
    world.expect(&["remove main"]);
    assert!(world.engine.task("t").unwrap().cleaned);
    assert_eq!(world.engine.next_deadline(), None);
}

#[test]
fn a_task_runs_once_however_often_it_is_ordered() {
    let mut world = running(vec![container("main")]);
    world.payload(vec![task("t", vec![container("main")])]);
    world.expect(&["ack m2"]);
    world.exit("t", "main", 0);
    world.settle();
    world.trace.clear();
    world.payload(vec![task("t", vec![container("main")])]);
    world.expect(&["submit STOPPED main=STOPPED(0)", "ack m3"]);
    world.pass(4_000_000);
    world.trace.clear();
    world.payload(vec![task("t", vec![container("main")])]);
    world.expect(&["submit STOPPED main=STOPPED(0)", "ack m4"]);
    world.crash(false);
    world.payload(vec![task("t", vec![container("main")])]);
    world.expect(&["submit STOPPED main=STOPPED(0)", "ack m5"]);
}

#[test]
fn only_so_many_stopped_tasks_are_remembered() {
    let mut world = new_world();
    for number in 0..5 {
        world.payload(vec![stop(&format!("t{number}"))]);
        world.pass(3_600_001);
    }
    assert!(world.trace.contains(&"forget t0".to_owned()) && world.trace.contains(&"forget t1".to_owned()));
    assert_eq!(world.engine.tasks().map(TaskRecord::arn).collect::<Vec<_>>(), ["t2", "t3", "t4"]);
}

#[test]
fn a_stop_order_stops_with_the_containers_own_grace() {
    let mut slow = container("slow");
    slow.stop_timeout = Some(90);
    let mut world = running(vec![slow, side_car("log")]);
    world.payload(vec![stop("t")]);
    world.expect(&[
        "save",
        "stop slow 90",
        "stop log 30",
        "ack m2",
        "inspect slow",
        "inspect log",
        "save",
        "save",
        "submit STOPPED slow=STOPPED(143) log=STOPPED(143)",
    ]);
}

#[test]
fn a_stop_order_for_an_unknown_task_is_answered() {
    let mut world = new_world();
    world.payload(vec![stop("ghost")]);
    let reason = "submit STOPPED because TaskStateError: Agent could not progress task's state to stopped";
    world.expect(&["save", "find ghost", "ack m1", "save", reason]);
    // And it will not be run if its start order comes late.
    world.payload(vec![task("ghost", vec![container("main")])]);
    world.expect(&[reason, "ack m2"]);
}

#[test]
fn a_stop_order_does_not_wait_for_a_pull() {
    let mut world = new_world();
    let mut big = container("main");
    big.image = "big".to_owned();
    world.payload(vec![task("t", vec![big])]);
    // The pull never answers.
    while let Some(action) = world.todo.pop_front() {
        if !matches!(action, Action::InspectImage { .. } | Action::PullImage { .. }) {
            world.perform(action);
        }
    }
    world.trace.clear();
    world.payload(vec![stop("t")]);
    world.expect(&["save", "submit STOPPED main=STOPPED", "ack m2"]);
    // It does answer in the end; nobody cares.
    world.feed(Input::ImageInspected { container: key("t", "main"), result: Ok(Some(ImageInfo::default())) });
    world.expect(&[]);
}

#[test]
fn the_end_of_an_essential_container_ends_the_task_and_another_does_not() {
    let mut world = running(vec![container("main"), side_car("log")]);
    world.exit("t", "log", 1);
    world.expect(&["inspect log", "save"]);
    world.pass(9_999);
    world.expect(&[]);
    world.pass(1);
    world.expect(&["submit RUNNING log=STOPPED(1)"]);
    world.exit("t", "main", 0);
    world.expect(&["inspect main", "save", "submit STOPPED main=STOPPED(0)"]);

    let mut world = running(vec![container("main"), side_car("log")]);
    world.exit("t", "main", 2);
    world.expect(&[
        "inspect main",
        "save",
        "stop log 30",
        "inspect log",
        "save",
        "submit STOPPED main=STOPPED(2) log=STOPPED(143)",
    ]);
}

#[test]
fn a_container_killed_for_its_memory_says_so() {
    let mut world = running(vec![container("main")]);
    let at = world.now;
    world.docker.exit(&key("t", "main"), 137, true, at);
    world.feed(Input::Died { container: key("t", "main"), exit_code: 137 });
    world.expect(&[
        "inspect main",
        "save",
        "submit STOPPED main=STOPPED(137)<OutOfMemoryError: Container killed due to memory usage>",
    ]);
}

/// Pull behaviour: is the image here, what does the registry say → the steps, and the container's reason if it fails.
#[test]
fn pull_behaviors() {
    use ImagePullBehavior::{Always, Default, Once, PreferCached};
    let there = || Ok(ImageInfo { digest: Some("sha256:new".to_owned()), pulled: false });
    let denied = || Err(PullError::Refused("access denied".to_owned()));
    let down = || Err(PullError::Registry("no route to host".to_owned()));
    let failed = Some("CannotPullContainerError: access denied");
    let gave_up = Some("CannotPullContainerError: no route to host");
    type Case<'a> = (ImagePullBehavior, bool, Result<ImageInfo, PullError>, &'a [&'a str], Option<&'a str>);
    let too_long = Some("DockerTimeoutError: Could not transition to pulled; timed out after waiting 2h0m0s");
    let cases: [Case<'_>; 16] = [
        (Default, true, there(), &["pull x"], None),
        (Default, true, denied(), &["pull x", "look for x"], None),
        (Default, true, down(), &["pull x", "look for x"], None),
        (Default, false, denied(), &["pull x", "look for x"], failed),
        (Always, true, there(), &["pull x"], None),
        (Always, true, denied(), &["pull x"], failed),
        (Always, true, down(), &["pull x", "pull x", "pull x", "pull x", "pull x"], gave_up),
        (Once, true, denied(), &["look for x", "pull x"], failed),
        (Once, true, there(), &["look for x", "pull x"], None),
        (Once, false, down(), &["look for x", "pull x", "pull x", "pull x", "pull x", "pull x"], gave_up),
        (Default, true, Err(PullError::TooLong), &["pull x", "look for x"], None),
        (Default, false, Err(PullError::TooLong), &["pull x", "look for x"], too_long),
        (Always, true, Err(PullError::TooLong), &["pull x"], too_long),
        (PreferCached, true, denied(), &["look for x"], None),
        (PreferCached, false, there(), &["look for x", "pull x"], None),
        (PreferCached, false, denied(), &["look for x", "pull x", "look for x"], failed),
    ];
    for (behavior, local, registry, steps, reason) in cases {
        let mut world = World::new(EngineConfig { image_pull_behavior: behavior, ..config() });
        if local {
            world.docker.local_images.insert("x".to_owned(), ImageInfo::default());
        }
        world.docker.registry.insert("x".to_owned(), registry.clone());
        let mut main = container("main");
        main.image = "x".to_owned();
        world.payload(vec![task("t", vec![main])]);
        world.pass(30_000);
        let about_images = |line: &&String| line.starts_with("pull") || line.starts_with("look");
        let done: Vec<&String> = world.trace.iter().filter(about_images).collect();
        assert_eq!(done, steps, "{behavior:?}, image here: {local}, registry: {registry:?}");
        let view = &world.control_plane["t"];
        assert_eq!(view.containers["main"].2.as_deref(), reason, "{behavior:?}");
        assert_eq!(view.status, if reason.is_some() { "STOPPED" } else { "RUNNING" });
        let record = world.engine.task("t").unwrap();
        assert_eq!(record.containers[0].image_pulled, registry.is_ok() && steps.contains(&"pull x"), "{behavior:?}");
        assert_eq!(record.pull_started_at.is_some(), steps.contains(&"pull x"));
        assert_eq!(record.pull_stopped_at.is_some(), steps.contains(&"pull x"));
    }
}

#[test]
fn once_means_once() {
    let mut world = World::new(EngineConfig { image_pull_behavior: ImagePullBehavior::Once, ..config() });
    world.docker.registry.insert("img".to_owned(), Ok(ImageInfo::default()));
    world.payload(vec![task("a", vec![container("main")])]);
    world.settle();
    world.crash(false);
    world.settle();
    world.trace.clear();
    world.payload(vec![task("b", vec![container("main")])]);
    world.settle();
    let steps: Vec<&str> = world.trace[1..].iter().map(String::as_str).filter(|line| line.contains("img")).collect();
    assert_eq!(steps, ["look for img"]);
    // Once it was cleaned up and is here by other ways, it was not pulled.
    world.docker.local_images.insert("img".to_owned(), ImageInfo::default());
    world.trace.clear();
    world.payload(vec![task("c", vec![container("main")])]);
    world.settle();
    assert_eq!(world.trace[1..5], ["look for img", "ack m3", "digest of img", "pull img"]);
}

#[test]
fn an_image_that_is_here_runs_without_a_pause_when_its_registry_is_away() {
    let mut world = World::new(EngineConfig { image_pull_behavior: ImagePullBehavior::Default, ..config() });
    world.docker.registry.insert("img".to_owned(), Err(PullError::Registry("connection refused".to_owned())));
    world.payload(vec![task("t", vec![container("main")])]);
    // No time passes.
    world.settle();
    assert_eq!(world.control_plane["t"].status, "RUNNING");
}

#[test]
fn attempts_at_a_pull_end_with_the_time_for_all_of_them() {
    let config =
        EngineConfig { image_pull_behavior: ImagePullBehavior::Always, image_pull_timeout_ms: 2_000, ..config() };
    let mut world = World::new(config);
    world.docker.registry.insert("img".to_owned(), Err(PullError::Registry("unexpected EOF".to_owned())));
    world.payload(vec![task("t", vec![container("main")])]);
    world.pass(60_000);
    assert_eq!(world.trace.iter().filter(|line| *line == "pull img").count(), 3);
    let (status, _, reason) = &world.control_plane["t"].containers["main"];
    assert_eq!((status.as_str(), reason.as_deref()), ("STOPPED", Some("CannotPullContainerError: unexpected EOF")));
}

/// `always` and `once` want no task without the pull, `default` can do without a side-car.
#[test]
fn a_side_car_that_cannot_be_pulled() {
    for (behavior, status) in [
        (ImagePullBehavior::Default, "RUNNING"),
        (ImagePullBehavior::Always, "STOPPED"),
        (ImagePullBehavior::Once, "STOPPED"),
    ] {
        let mut world = World::new(EngineConfig { image_pull_behavior: behavior, ..config() });
        world.docker.registry.insert("img".to_owned(), Ok(ImageInfo::default()));
        let mut car = side_car("car");
        car.image = "missing".to_owned();
        world.payload(vec![task("t", vec![container("main"), car])]);
        world.settle();
        let main = world.engine.task("t").unwrap().containers[0].known;
        let expected = if status == "RUNNING" { Status::Running } else { Status::Stopped };
        assert_eq!(main, expected, "{behavior:?}");
    }
}

/// What Docker answers, and what becomes of the task.
#[test]
fn dockers_refusals() {
    let failed = |why: &str| DockerError::Failed(why.to_owned());
    for (call, error, reason) in [
        ("create main", failed("bad parameter"), "CannotCreateContainerError: bad parameter"),
        ("create main", DockerError::NotFound("No such image".to_owned()), "CannotCreateContainerError: No such image"),
        (
            "create main",
            DockerError::Timeout,
            "DockerTimeoutError: Could not transition to created; timed out after waiting 4m0s",
        ),
        ("start main", failed("exec: \"nope\" not found"), "CannotStartContainerError: exec: \"nope\" not found"),
        ("start main", failed("port is already allocated"), "CannotStartContainerError: port is already allocated"),
        (
            "start main",
            DockerError::Timeout,
            "DockerTimeoutError: Could not transition to started; timed out after waiting 3m0s",
        ),
    ] {
        let mut world = new_world();
        world.docker.errors.entry(call.to_owned()).or_default().push_back(error.clone());
        world.payload(vec![task("t", vec![container("main")])]);
        world.settle();
        let view = &world.control_plane["t"];
        let expected = ("STOPPED".to_owned(), None, Some(reason.to_owned()));
        assert_eq!((view.status.as_str(), &view.containers["main"]), ("STOPPED", &expected), "{call} {error:?}");
    }
}

#[test]
fn a_start_that_timed_out_and_happened_is_undone() {
    let mut world = new_world();
    world.docker.lost_answers.entry("start main".to_owned()).or_default().push_back(DockerError::Timeout);
    world.payload(vec![task("t", vec![container("main")])]);
    world.settle();
    assert_eq!(world.docker.running(), 0);
    let (status, exit_code, reason) = &world.control_plane["t"].containers["main"];
    assert_eq!((status.as_str(), *exit_code), ("STOPPED", Some(143)));
    assert!(reason.as_ref().unwrap().starts_with("DockerTimeoutError: "), "{reason:?}");
}

#[test]
fn a_docker_that_restarts_fails_no_task() {
    let mut world = new_world();
    world.docker.reachable = false;
    world.payload(vec![task("t", vec![container("main")])]);
    world.pass(60_000);
    assert_eq!(world.control_plane.get("t"), None);
    world.docker.reachable = true;
    let ready = world.docker.ready();
    world.feed(ready);
    world.settle();
    assert_eq!(world.control_plane["t"].status, "RUNNING");
    // The answer to a create is lost with the connection: the second attempt finds the first one's container.
    let unavailable = DockerError::Unavailable("closed".to_owned());
    world.docker.lost_answers.entry("create main".to_owned()).or_default().push_back(unavailable.clone());
    world.docker.lost_answers.entry("start main".to_owned()).or_default().push_back(unavailable);
    world.trace.clear();
    world.payload(vec![task("u", vec![container("main")])]);
    world.pass(10_000);
    world.expect(&[
        "save",
        "look for img",
        "ack m2",
        "create main",
        "create main",
        "inspect main",
        "save",
        "start main",
        "inspect main",
        "submit RUNNING main=RUNNING",
    ]);
}

#[test]
fn a_start_during_which_docker_was_killed_is_never_repeated() {
    let mut world = new_world();
    // The next Docker says that the container was never started.
    world.docker.killed_in_start = true;
    world.payload(vec![task("t", vec![container("main")])]);
    world.pass(10_000);
    world.expect(&[
        "save",
        "look for img",
        "ack m1",
        "create main",
        "save",
        "start main",
        "inspect main",
        "stop main 30",
        "inspect main",
        "save",
        "submit STOPPED main=STOPPED<CannotStartContainerError: Docker went away while the container was being \
         started; whether it ran is not known, so it is not started again>",
    ]);
}

#[test]
fn a_start_whose_connection_broke_is_repeated_when_the_same_docker_says_that_it_never_was() {
    let mut world = new_world();
    let unavailable = DockerError::Unavailable("closed".to_owned());
    world.docker.errors.entry("start main".to_owned()).or_default().push_back(unavailable);
    world.payload(vec![task("t", vec![container("main")])]);
    world.pass(10_000);
    assert_eq!(world.control_plane["t"].status, "RUNNING");
}

#[test]
fn a_start_that_never_reached_docker_is_tried_again() {
    let mut world = new_world();
    let unreached = DockerError::Unreached("connection refused".to_owned());
    world.docker.errors.entry("start main".to_owned()).or_default().push_back(unreached);
    world.payload(vec![task("t", vec![container("main")])]);
    world.pass(1_000);
    // Not even an agent that starts anew in between is in doubt: a machine that goes down ends Docker first.
    world.crash(false);
    world.pass(10_000);
    assert_eq!(world.control_plane["t"].status, "RUNNING");
}

#[test]
fn a_start_that_did_not_reach_docker_takes_no_earlier_intention_back() {
    let mut world = new_world();
    let refused = |world: &mut World, error| {
        world.docker.errors.entry("start main".to_owned()).or_default().push_back(error);
    };
    refused(&mut world, DockerError::Unreached("connection refused".to_owned()));
    world.payload(vec![task("t", vec![container("main")])]);
    world.pass(1_000);
    // An agent before this one may have started it. Should its container be gone, it must not be made again.
    world.crash(false);
    refused(&mut world, DockerError::Unreached("connection refused".to_owned()));
    world.docker.containers.clear();
    world.trace.clear();
    world.pass(20_000);
    assert!(!world.trace.contains(&"create main".to_owned()), "{:?}", world.trace);
}

#[test]
fn published_ports_are_read_back_before_running_is_reported() {
    let mut world = new_world();
    world.payload(vec![task("t", vec![with_port(container("main"), 80, 0)])]);
    world.expect(&[
        "save",
        "look for img",
        "ack m1",
        "create main",
        "save",
        "start main",
        "inspect main",
        "submit RUNNING main=RUNNING",
    ]);
    let bindings = |world: &World| {
        let change = world.last_submit.clone().unwrap().containers.unwrap().remove(0);
        let bindings = change.network_bindings.unwrap_or_default();
        bindings.iter().map(|b| (b.bind_ip.clone().unwrap(), b.container_port, b.host_port)).collect::<Vec<_>>()
    };
    let expected = [("0.0.0.0".to_owned(), Some(80), Some(32_768))];
    assert_eq!(bindings(&world), expected);
    world.exit("t", "main", 0);
    world.settle();
    assert_eq!(bindings(&world), expected, "present again in the report of the end");

    let mut world = new_world();
    let mut host = task("h", vec![with_port(container("main"), 8080, 0)]);
    host.network_mode = Some("host".to_owned());
    world.payload(vec![host]);
    world.settle();
    assert!(!world.trace.contains(&"inspect main".to_owned()));
    assert_eq!(bindings(&world), [("0.0.0.0".to_owned(), Some(8080), Some(8080))]);
}

#[test]
fn ports_that_are_found_are_nobody_elses() {
    let mut world = new_world();
    let mut range = container("main");
    range
        .port_mappings
        .push(acs::PortMapping { container_port_range: Some("7000-7002".to_owned()), ..acs::PortMapping::default() });
    world.payload(vec![task("static", vec![with_port(container("main"), 80, 8080)]), task("range", vec![range])]);
    world.settle();
    let spec = |arn: &str| {
        let created = world.docker.containers.values().find(|container| container.key.task_arn == arn);
        created.expect("a container").spec.clone()
    };
    assert_eq!(spec("static").ports_to_find, []);
    let [wanted] = spec("range").ports_to_find.try_into().expect("one range");
    assert_eq!(wanted.except, [22, 8080].into(), "reserved, and another task's");
}

#[test]
fn containers_start_in_the_order_of_their_dependencies_and_stop_in_reverse() {
    let mut world = new_world();
    let web = after(container("web"), "db", "START");
    world.payload(vec![task("t", vec![web, container("db")])]);
    world.expect(&[
        "save",
        "look for img",
        "ack m1",
        "create db",
        "save",
        "start db",
        "look for img",
        "create web",
        "save",
        "start web",
        "submit RUNNING web=RUNNING db=RUNNING",
    ]);
    world.payload(vec![stop("t")]);
    world.expect(&[
        "save",
        "stop web 30",
        "ack m2",
        "inspect web",
        "save",
        "stop db 30",
        "inspect db",
        "save",
        "submit STOPPED web=STOPPED(143) db=STOPPED(143)",
    ]);
}

#[test]
fn an_init_container_must_succeed() {
    let containers = || vec![after(container("main"), "init", "SUCCESS"), side_car("init")];
    let mut world = new_world();
    world.payload(vec![task("t", containers())]);
    world.settle();
    world.pass(10_000);
    assert_eq!(world.trace.last().unwrap(), "submit PENDING init=RUNNING");
    world.trace.clear();
    world.exit("t", "init", 0);
    world.expect(&[
        "inspect init",
        "save",
        "look for img",
        "create main",
        "save",
        "start main",
        "submit RUNNING main=RUNNING init=STOPPED(0)",
    ]);

    let mut world = new_world();
    world.payload(vec![task("t", containers())]);
    world.settle();
    world.trace.clear();
    world.exit("t", "init", 3);
    let reason = "TaskDependencyError: container init exited with code 3 instead of 0";
    world.expect(&[
        "inspect init",
        "save",
        format!("submit STOPPED main=STOPPED(143)<{reason}> init=STOPPED(3)").as_str(),
    ]);
}

#[test]
fn health_lets_dependents_go_and_a_start_timeout_fails_them() {
    let mut db = container("db");
    db.start_timeout = Some(60);
    let containers = vec![after(container("web"), "db", "HEALTHY"), db];
    let mut world = new_world();
    world.payload(vec![task("t", containers.clone())]);
    world.settle();
    let health = |status| Health { status, output: None };
    world.feed(Input::HealthChanged { container: key("t", "db"), health: health(HealthStatus::Unhealthy) });
    world.settle();
    assert!(!world.trace.contains(&"create web".to_owned()));
    world.feed(Input::HealthChanged { container: key("t", "db"), health: health(HealthStatus::Healthy) });
    world.settle();
    assert_eq!(world.control_plane["t"].status, "RUNNING");

    let mut world = new_world();
    world.payload(vec![task("t", containers)]);
    world.pass(60_000);
    let view = &world.control_plane["t"];
    assert_eq!(view.status, "STOPPED");
    assert!(view.containers["web"].2.as_ref().unwrap().contains("startTimeout of 60s"));
    assert_eq!(world.docker.running(), 0);
}

#[test]
fn a_task_that_does_not_fit_waits_alone() {
    let mut world = new_world();
    let taking = |port: i64| vec![with_port(container("main"), 80, port)];
    world.payload(vec![task("first", taking(8080))]);
    world.payload(vec![task("second", taking(8080))]);
    world.payload(vec![task("third", taking(8081))]);
    world.settle();
    assert!(world.logs.iter().any(|log| log.contains("the task waits: host port 8080/tcp is taken by task first")));
    assert_eq!(world.control_plane.get("second"), None);
    assert_eq!(world.control_plane["third"].status, "RUNNING");
    // It waits across a restart of the agent, too, without taking what the first one holds.
    world.crash(false);
    world.settle();
    assert_eq!(world.control_plane.get("second"), None);
    world.exit("first", "main", 0);
    world.settle();
    assert_eq!(world.control_plane["second"].status, "RUNNING");
    // One that waits can be stopped.
    world.payload(vec![task("fourth", taking(8080))]);
    world.payload(vec![stop("fourth")]);
    world.settle();
    assert_eq!(world.control_plane["fourth"].status, "STOPPED");
}

#[test]
fn what_is_to_be_pulled_is_resolved_first_and_told_while_it_is_pulled() {
    let config = EngineConfig { image_pull_behavior: ImagePullBehavior::Default, ..config() };
    let mut world = World::new(config.clone());
    let there = |digest: &str| Ok(ImageInfo { digest: Some(digest.to_owned()), pulled: false });
    world.docker.registry.insert("big".to_owned(), there("sha256:big"));
    world.docker.registry.insert("x@sha256:0".to_owned(), there("sha256:0"));
    let of = |name: &str, image: &str| acs::Container { image: image.to_owned(), ..container(name) };
    // The one waits for the other to run; what its image is does not.
    world.payload(vec![task("t", vec![after(of("main", "big"), "first", "START"), of("first", "big")])]);
    world.expect(&[
        "save",
        "digest of big",
        "digest of big",
        "ack m1",
        "pull big",
        "submit PENDING main=PENDING first=PENDING",
        "create first",
        "save",
        "start first",
        "pull big",
        "create main",
        "save",
        "start main",
        "submit RUNNING main=RUNNING first=RUNNING",
    ]);
    let told = world.last_submit.clone().unwrap().containers.unwrap();
    assert!(told.iter().all(|container| container.image_digest.as_deref() == Some("sha256:big")), "{told:?}");
    // An image that is named by its digest needs no question, and one that no registry has is pulled all the same: the pull says
    // why it cannot be.
    world.payload(vec![task("u", vec![of("main", "x@sha256:0")]), task("v", vec![of("main", "missing")])]);
    world.settle();
    assert!(!world.trace.contains(&"digest of x@sha256:0".to_owned()));
    let reason = world.control_plane["v"].containers["main"].2.clone().unwrap_or_default();
    assert!(reason.starts_with("CannotPullContainerError: pull access denied"), "{reason}");
}

#[test]
fn a_pull_takes_what_was_resolved_however_often_it_is_tried() {
    let mut world = World::new(EngineConfig { image_pull_behavior: ImagePullBehavior::Always, ..config() });
    world
        .docker
        .registry
        .insert("big".to_owned(), Ok(ImageInfo { digest: Some("sha256:1".to_owned()), pulled: false }));
    world.payload(vec![task("t", vec![acs::Container { image: "big".to_owned(), ..container("main") }])]);
    let mut pulls = Vec::new();
    for _ in 0..100 {
        if let Some(action) = world.todo.pop_front() {
            if let Action::PullImage { container, digest, .. } = &action {
                pulls.push(digest.clone());
                // The name stands for something else meanwhile, and the registry fails a few times.
                let result = Err(PullError::Registry("unexpected EOF".to_owned()));
                if pulls.len() < 3 {
                    world.news.push_back(Input::ImagePulled { container: container.clone(), result });
                    continue;
                }
            }
            world.perform(action);
        } else if let Some(news) = world.news.pop_front() {
            world.feed(news);
        } else if let Some(at) = world.engine.next_deadline() {
            world.now = world.now.max(at);
            world.feed(Input::Tick);
        }
    }
    assert_eq!(pulls, vec![Some("sha256:1".to_owned()); 3]);
    assert_eq!(world.control_plane["t"].status, "RUNNING");
}
