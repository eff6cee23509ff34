//! Stories of things that go wrong around tasks: lost state, reboots, hands on containers, clocks; and the words for it.

use super::world::*;
use crate::engine::*;

fn exited(code: i32) -> RunState {
    RunState::Exited { exit_code: code, oom_killed: false, finished_at: None, error: None, started: true }
}

/// The world loses an agent's memory of its tasks, and Docker does not.
fn amnesia(world: &mut World) {
    world.forget_everything();
    world.crash(false);
    world.settle();
    world.trace.clear();
}

#[test]
fn a_copy_that_nobody_remembers_is_stopped_before_the_task_counts_as_stopped() {
    let mut world = running(vec![container("main"), side_car("log")]);
    amnesia(&mut world);
    assert_eq!(world.docker.running(), 2, "what is unknown is left alone without an order");
    world.payload(vec![stop("t")]);
    world.expect(&[
        "save",
        "find t",
        "ack m2",
        "save",
        "inspect log",
        "inspect main",
        "stop log 30",
        "stop main 30",
        "inspect log",
        "inspect main",
        "save",
        "save",
        "submit STOPPED log=STOPPED(143) main=STOPPED(143)",
    ]);
    world.pass(4_000_000);
    assert!(world.docker.containers.is_empty());
    // Its late start order runs nothing.
    world.trace.clear();
    world.payload(vec![task("t", vec![container("main")])]);
    world.expect(&["submit STOPPED log=STOPPED(143) main=STOPPED(143)", "ack m3"]);
}

#[test]
fn a_search_for_copies_survives_a_crash_and_outlasts_dockers_absence() {
    for crash_after in 0..4 {
        let mut world = running(vec![container("main")]);
        amnesia(&mut world);
        world
            .docker
            .errors
            .entry("find t".to_owned())
            .or_default()
            .extend([DockerError::Timeout, DockerError::Timeout]);
        world.payload(vec![stop("t")]);
        for _ in 0..crash_after {
            if let Some(action) = world.todo.pop_front() {
                world.perform(action);
            }
        }
        world.crash(true);
        world.payload(vec![stop("t")]);
        world.settle();
        assert!(world.docker.running() == 1, "nothing was found yet");
        assert_eq!(world.control_plane["t"].status, "RUNNING");
        world.pass(60_000);
        assert_eq!((world.docker.running(), world.control_plane["t"].status.as_str()), (0, "STOPPED"));
    }
}

#[test]
fn a_start_order_for_a_task_whose_memory_was_lost_takes_its_container_over() {
    let mut world = running(vec![container("main")]);
    amnesia(&mut world);
    world.payload(vec![task("t", vec![container("main")])]);
    world.settle();
    assert_eq!((world.docker.containers.len(), world.docker.running()), (1, 1));
    assert_eq!(world.engine.task("t").unwrap().known, Status::Running);
    // One that has ended meanwhile is not run again.
    let mut world = running(vec![container("main")]);
    amnesia(&mut world);
    let at = world.now;
    world.docker.exit(&key("t", "main"), 6, false, at);
    world.payload(vec![task("t", vec![container("main")])]);
    world.settle();
    assert_eq!(world.control_plane["t"].containers["main"].1, Some(6));
}

/// A create whose answer no agent heard: the container is found by its label, or by its name, and there is no second one.
#[test]
fn a_container_that_was_created_unheard_is_found_again() {
    for unsynced in [false, true] {
        let mut world = new_world();
        world.payload(vec![task("t", vec![container("main")])]);
        while world.docker.containers.is_empty() {
            match world.todo.pop_front() {
                Some(action) => world.perform(action),
                None => {
                    let news = world.news.pop_front().expect("a create comes");
                    world.feed(news);
                }
            }
        }
        world.crash(unsynced);
        world.payload(vec![task("t", vec![container("main")])]);
        world.settle();
        assert_eq!((world.docker.containers.len(), world.docker.running()), (1, 1));
    }
}

/// A host that boots again: its containers have ended or are gone, and each says what is known of it.
#[test]
fn a_reboot_ends_tasks_with_what_is_known_of_them() {
    let mut world = running(vec![container("main"), side_car("log")]);
    let names: Vec<String> = world.docker.containers.keys().cloned().collect();
    for name in &names {
        let container = world.docker.containers.get_mut(name).expect("it is there");
        match container.key.name.as_str() {
            "main" => container.state = exited(255),
            _ => drop(world.docker.containers.remove(name)),
        }
    }
    world.crash(false);
    world.settle();
    let view = &world.control_plane["t"];
    assert_eq!(view.status, "STOPPED");
    assert_eq!(view.containers["main"], ("STOPPED".to_owned(), Some(255), None));
    let vanished = "ContainerVanishedError: No container matching saved ID found".to_owned();
    assert_eq!(view.containers["log"], ("STOPPED".to_owned(), None, Some(vanished)));
    assert_eq!(world.docker.running(), 0, "nothing is started again");
}

#[test]
fn a_container_started_by_hand_after_its_end_is_stopped_before_it_is_removed() {
    let mut world = running(vec![container("main")]);
    world.exit("t", "main", 0);
    world.settle();
    for container in world.docker.containers.values_mut() {
        container.state = RunState::Running;
    }
    let held = DockerError::Failed("You cannot remove a running container".to_owned());
    world.docker.errors.entry("remove main".to_owned()).or_default().extend([held.clone(), held]);
    world.trace.clear();
    world.pass(3_600_000);
    world.expect(&["remove main"]);
    assert_eq!(world.logs.iter().filter(|log| log.contains("cannot be removed yet")).count(), 1);
    world.pass(30_000);
    world.expect(&["stop main 30", "remove main"]);
    assert_eq!(world.docker.running(), 0);
    // The pauses grow, and it ends.
    world.pass(59_999);
    world.expect(&[]);
    world.pass(1);
    world.expect(&["stop main 30", "remove main"]);
    assert!(world.engine.task("t").unwrap().cleaned);
    assert_eq!(world.logs.iter().filter(|log| log.contains("cannot be removed yet")).count(), 1);
}

/// The clock jumps, and the shell says so.
fn jump(world: &mut World, by_ms: i64) {
    world.now = world.now.plus_millis(by_ms);
    world.feed(Input::ClockSet { by_ms });
    world.settle();
}

#[test]
fn a_clock_that_jumps_neither_hurries_nor_delays_anything() {
    const DAY: i64 = 86_400_000;
    for by_ms in [DAY, -DAY] {
        // The clean-up.
        let mut world = running(vec![container("main")]);
        world.exit("t", "main", 0);
        world.pass(1_000_000);
        world.trace.clear();
        jump(&mut world, by_ms);
        world.pass(2_599_999);
        world.expect(&[]);
        world.pass(1);
        world.expect(&["remove main"]);
        // A pause before the next report.
        let mut world = new_world();
        world.submit_outcomes.push_back(SubmitOutcome::Failed("no route".to_owned()));
        world.payload(vec![task("t", vec![container("main")])]);
        world.settle();
        world.trace.clear();
        jump(&mut world, by_ms);
        world.pass(4_999);
        world.expect(&[]);
        world.pass(1);
        world.expect(&["submit RUNNING main=RUNNING"]);
        // A pause of Docker's, and a dependency's time-out.
        let mut db = container("db");
        db.start_timeout = Some(60);
        let mut world = new_world();
        world.payload(vec![task("t", vec![after(container("web"), "db", "HEALTHY"), db])]);
        world.settle();
        jump(&mut world, by_ms);
        world.pass(59_999);
        assert_eq!(world.engine.task("t").unwrap().desired, Desired::Running);
        world.pass(1);
        assert_eq!(world.control_plane["t"].status, "STOPPED");
    }
}

#[test]
fn an_end_in_the_future_does_not_keep_containers_for_ever() {
    let mut world = running(vec![container("main")]);
    world.exit("t", "main", 0);
    world.settle();
    // The clock was a year ahead then, and the agent starts anew with one that is right.
    world.now = world.now.plus_millis(-31_536_000_000);
    world.crash(false);
    world.pass(3_600_000);
    assert!(world.docker.containers.is_empty());
}

#[test]
fn jitter_spreads_the_clean_up_and_is_the_same_each_time() {
    let config = EngineConfig { task_cleanup_jitter_ms: 600_000, ..config() };
    let mut world = World::new(config);
    world.payload((0..4).map(|number| task(&format!("t{number}"), vec![container("main")])).collect());
    world.settle();
    (0..4).for_each(|number| world.exit(&format!("t{number}"), "main", 0));
    world.pass(3_599_999);
    assert_eq!(world.docker.containers.len(), 4);
    world.pass(300_000);
    assert!((1..4).contains(&world.docker.containers.len()), "{}", world.docker.containers.len());
    world.pass(300_001);
    assert_eq!(world.docker.containers.len(), 0);
}

#[test]
fn a_flood_of_tasks_that_do_not_fit_is_refused_by_name() {
    let mut world = new_world();
    let big = |arn: &str| {
        let mut main = container("main");
        main.cpu = 2048;
        task(arn, vec![main])
    };
    world.payload(vec![big("first")]);
    world.settle();
    world.payload((0..10_000).map(|number| big(&format!("w{number:05}"))).collect());
    world.todo.clear();
    world.payload(vec![big("w00000"), big("late")]);
    world.settle();
    let late = &world.control_plane["late"];
    assert_eq!(late.status, "STOPPED");
    assert!(
        late.reason.contains("10000 tasks wait") && late.reason.contains("needs 2048 CPU units"),
        "{}",
        late.reason
    );
    assert_eq!(world.engine.task("w00000").unwrap().known, Status::None);
    // The place of one that was stopped is free again.
    world.payload(vec![stop("w00001")]);
    world.payload(vec![big("next")]);
    assert_eq!(world.engine.task("next").unwrap().desired, Desired::Running);
}

/// The official words for each way in which a container can fail, in the form `<ErrorName>: <detail>`.
#[test]
fn reasons() {
    let failed = |why: &str| DockerError::Failed(format!("Error response from daemon: {why}"));
    type Case<'a> = (&'a str, Box<dyn Fn(&mut World)>, &'a str);
    let refuse = |call: &'static str, error: DockerError| -> Box<dyn Fn(&mut World)> {
        Box::new(move |world| world.docker.errors.entry(call.to_owned()).or_default().push_back(error.clone()))
    };
    let registry = |error: PullError| -> Box<dyn Fn(&mut World)> {
        Box::new(move |world| drop(world.docker.registry.insert("remote".to_owned(), Err(error.clone()))))
    };
    let ends = |state: RunState| -> Box<dyn Fn(&mut World)> {
        Box::new(move |world| world.after_start = Some(Some(state.clone())))
    };
    let exit = |oom_killed: bool, error: Option<&str>, started: bool| RunState::Exited {
        exit_code: 137,
        oom_killed,
        finished_at: None,
        error: error.map(str::to_owned),
        started,
    };
    let cases: Vec<Case<'_>> = vec![
        (
            "remote",
            registry(PullError::Refused("Error response from daemon: pull access denied for remote".to_owned())),
            "CannotPullContainerError: Error response from daemon: pull access denied for remote",
        ),
        (
            "remote",
            registry(PullError::Registry("inactivity time exceeded timeout while pulling image".to_owned())),
            "CannotPullContainerError: inactivity time exceeded timeout while pulling image",
        ),
        (
            "remote",
            registry(PullError::TooLong),
            "DockerTimeoutError: Could not transition to pulled; timed out after waiting 2h0m0s",
        ),
        (
            "img",
            refuse("create main", failed("invalid mount config")),
            "CannotCreateContainerError: Error response from daemon: invalid mount config",
        ),
        (
            "img",
            refuse("create main", DockerError::Timeout),
            "DockerTimeoutError: Could not transition to created; timed out after waiting 4m0s",
        ),
        (
            "img",
            refuse("start main", failed("port is already allocated")),
            "CannotStartContainerError: Error response from daemon: port is already allocated",
        ),
        (
            "img",
            refuse("start main", DockerError::Timeout),
            "DockerTimeoutError: Could not transition to started; timed out after waiting 3m0s",
        ),
        ("img", ends(exit(true, None, true)), "OutOfMemoryError: Container killed due to memory usage"),
        // The kernel's word counts for more than Docker's.
        ("img", ends(exit(true, Some("oci error"), true)), "OutOfMemoryError: Container killed due to memory usage"),
        ("img", ends(exit(false, Some("oci error"), true)), "DockerStateError: oci error"),
        ("img", ends(exit(false, Some("exec: not found"), false)), "CannotStartContainerError: exec: not found"),
        (
            "img",
            Box::new(|world| world.after_start = Some(None)),
            "ContainerVanishedError: No container matching saved ID found",
        ),
    ];
    for (image, prepare, reason) in cases {
        let mut world = new_world();
        prepare(&mut world);
        let mut main = container("main");
        main.image = image.to_owned();
        world.payload(vec![task("t", vec![main])]);
        world.pass(60_000);
        if let Some(fate) = world.after_start.take() {
            let names: Vec<String> = world.docker.containers.keys().cloned().collect();
            for name in names {
                match &fate {
                    Some(state) => world.docker.containers.get_mut(&name).expect("listed").state = state.clone(),
                    None => drop(world.docker.containers.remove(&name)),
                }
            }
            let ready = world.docker.ready();
            world.feed(ready);
            world.settle();
        }
        let (status, _, told) = &world.control_plane["t"].containers["main"];
        assert_eq!((status.as_str(), told.as_deref()), ("STOPPED", Some(reason)));
    }
}
