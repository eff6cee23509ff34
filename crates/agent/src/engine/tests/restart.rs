//! Stories of containers that are restarted in place, and of what must not restart them.

use super::world::*;
use crate::engine::*;

/// A world in which a task of one container with a restart policy runs.
fn restartable() -> World {
    let mut world = new_world();
    world.docker.restart_period_ms = Some(60_000);
    world.payload(vec![task("t", vec![restarted(container("main"))])]);
    world.settle();
    assert_eq!(world.control_plane["t"].status, "RUNNING");
    world.trace.clear();
    world
}

fn count(world: &World) -> u32 {
    world.engine.task("t").unwrap().containers[0].restarts.count
}

#[test]
fn a_container_that_ran_long_enough_is_restarted_and_nobody_is_told() {
    let mut world = restartable();
    for times in 1..4 {
        world.pass(60_000);
        world.exit("t", "main", 1);
        world.expect(&["inspect main", "save", "start main"]);
        assert_eq!((world.docker.running(), count(&world)), (1, times));
    }
    assert!(world.logs.contains(&"container main: exited with code 1 and is restarted, as its policy says".to_owned()));
    // The period counts from the last restart.
    world.pass(59_999);
    world.exit("t", "main", 1);
    world.expect(&["inspect main", "save", "submit STOPPED main=STOPPED(1)"]);
}

#[test]
fn an_exit_code_that_is_ignored_ends_the_container() {
    let mut world = restartable();
    world.pass(600_000);
    world.exit("t", "main", 7);
    world.expect(&["inspect main", "save", "submit STOPPED main=STOPPED(7)"]);
}

#[test]
fn a_container_that_is_stopped_is_not_restarted() {
    let mut world = restartable();
    world.pass(600_000);
    world.payload(vec![stop("t")]);
    world.expect(&["save", "stop main 30", "ack m2", "inspect main", "save", "submit STOPPED main=STOPPED(143)"]);
    // Not even if it ends before it hears of the stop, or its restart is meant already.
    let mut world = restartable();
    world.pass(600_000);
    world.exit("t", "main", 1);
    let died = world.news.pop_front().unwrap();
    world.feed(died);
    let inspect = world.todo.pop_front().unwrap();
    world.perform(inspect);
    let inspected = world.news.pop_front().unwrap();
    world.feed(inspected);
    assert!(world.engine.task("t").unwrap().containers[0].restarts.next.is_some());
    world.todo.clear();
    world.payload(vec![stop("t")]);
    // Its start is under way: the answer comes first.
    world.feed(Input::Started { container: key("t", "main"), result: Err(DockerError::Unreached("no".to_owned())) });
    world.pass(60_000);
    assert_eq!(world.control_plane["t"].containers["main"].1, Some(1));
    assert_eq!(world.docker.running(), 0);
}

/// The side-car's task goes on, and what depends on its end waits for its real end.
#[test]
fn a_restarted_container_has_not_ended_for_anybody() {
    let mut world = new_world();
    world.docker.restart_period_ms = Some(60_000);
    let containers = vec![container("main"), restarted(side_car("car")), after(side_car("last"), "car", "COMPLETE")];
    world.payload(vec![task("t", containers)]);
    world.settle();
    world.pass(60_000);
    world.exit("t", "car", 0);
    world.pass(20_000);
    assert!(!world.trace.contains(&"create last".to_owned()));
    world.exit("t", "car", 0);
    world.settle();
    assert!(world.trace.contains(&"create last".to_owned()), "{:?}", world.trace);
}

#[test]
fn a_restart_during_which_docker_was_killed_is_never_repeated() {
    let mut world = restartable();
    world.pass(60_000);
    world.docker.killed_in_start = true;
    world.exit("t", "main", 1);
    world.pass(60_000);
    world.expect(&[
        "inspect main",
        "save",
        "start main",
        "inspect main",
        "save",
        "submit STOPPED main=STOPPED(1)<CannotStartContainerError: Docker went away while the container was being \
         started; whether it ran is not known, so it is not started again>",
    ]);
}

/// What Docker answers to the restart, and what becomes of the container.
#[test]
fn dockers_answers_to_a_restart() {
    let lost = DockerError::Unavailable("closed".to_owned());
    let failed = DockerError::Failed("no such device".to_owned());
    for (error, done, outcome) in [
        (DockerError::Unreached("refused".to_owned()), false, None),
        (lost.clone(), false, None),
        (lost, true, None),
        (failed, false, Some("CannotStartContainerError: no such device")),
        (DockerError::Timeout, true, Some("DockerTimeoutError: ")),
        (DockerError::Timeout, false, Some("DockerTimeoutError: ")),
    ] {
        let mut world = restartable();
        world.pass(60_000);
        let calls = if done { &mut world.docker.lost_answers } else { &mut world.docker.errors };
        calls.entry("start main".to_owned()).or_default().push_back(error.clone());
        world.exit("t", "main", 1);
        world.pass(50_000);
        let view = &world.control_plane["t"];
        match outcome {
            None => {
                assert_eq!((view.status.as_str(), world.docker.running()), ("RUNNING", 1), "{error:?} {done}");
                assert_eq!(count(&world), 1, "{error:?} {done}");
            }
            Some(why) => {
                let told = view.containers["main"].2.as_deref().unwrap_or_default();
                assert!(told.starts_with(why), "{error:?} {done}: {view:?}");
                assert_eq!((view.status.as_str(), world.docker.running()), ("STOPPED", 0));
            }
        }
    }
}

/// The agent dies after every action of the story of a restart, with and without its last saves: the container runs again, once.
#[test]
fn a_crash_at_any_step_of_a_restart_neither_loses_nor_repeats_it() {
    for ends_at_once in [false, true] {
        for crash_at in 0..8 {
            for lose_unsynced in [false, true] {
                let mut world = restartable();
                world.pass(60_000);
                world.exit("t", "main", 1);
                for _ in 0..crash_at {
                    if let Some(action) = world.todo.pop_front() {
                        let starts = matches!(action, Action::Start { .. });
                        world.perform(action);
                        if starts && ends_at_once {
                            // The second run is over before anybody looks.
                            let at = world.now;
                            world.docker.exit(&key("t", "main"), 2, false, at);
                        }
                    } else if let Some(news) = world.news.pop_front() {
                        world.feed(news);
                    }
                }
                world.crash(lose_unsynced);
                world.pass(30_000);
                let ran_again =
                    world.docker.containers.values().any(|c| c.began == Some(Timestamp::from_millis(1_060_000)));
                assert!(ran_again, "{crash_at} {lose_unsynced}");
                let ended = ends_at_once && world.docker.running() == 0;
                if ended {
                    assert_eq!(world.control_plane["t"].containers["main"].1, Some(2), "{crash_at} {lose_unsynced}");
                } else {
                    assert_eq!((world.control_plane["t"].status.as_str(), count(&world)), ("RUNNING", 1));
                }
            }
        }
    }
}

#[test]
fn an_agent_that_was_away_judges_by_when_the_container_ended() {
    for (ran_ms, running) in [(59_000, 0), (61_000, 1)] {
        let mut world = restartable();
        world.pass(ran_ms);
        let at = world.now;
        world.docker.exit(&key("t", "main"), 1, false, at);
        world.now = world.now.plus_millis(3_600_000);
        world.crash(false);
        world.pass(30_000);
        assert_eq!(world.docker.running(), running, "ran for {ran_ms} ms");
    }
}

#[test]
fn a_clock_that_jumps_makes_no_run_longer_or_shorter() {
    const DAY: i64 = 86_400_000;
    for by_ms in [DAY, -DAY] {
        for (ran_ms, running) in [(59_000, 0), (61_000, 1)] {
            let mut world = restartable();
            world.docker.restart_period_ms = Some(i64::MIN);
            world.now = world.now.plus_millis(by_ms);
            world.feed(Input::ClockSet { by_ms });
            world.pass(ran_ms);
            world.exit("t", "main", 1);
            world.settle();
            assert_eq!(world.docker.running(), running, "ran for {ran_ms} ms, clock set by {by_ms}");
        }
    }
}

#[test]
fn a_daemon_that_was_started_anew_finds_the_container_ended_and_it_is_restarted() {
    let mut world = restartable();
    world.pass(60_000);
    world.docker.reachable = false;
    let at = world.now;
    world.docker.exit(&key("t", "main"), 137, false, at);
    world.docker.reachable = true;
    let ready = world.docker.ready();
    world.feed(ready);
    world.settle();
    assert_eq!((world.docker.running(), count(&world)), (1, 1));
}
