//! Anything in any order, and crashes at every boundary.

use proptest::prelude::*;

use super::world::{World, after, config, container, key, side_car, stop, task, with_port};
use crate::engine::*;
use longshore_agent_protocol::acs;

/// Tasks of every shape.
fn shapes() -> Vec<Vec<acs::Container>> {
    vec![
        vec![container("main")],
        vec![with_port(container("main"), 80, 0)],
        vec![container("main"), side_car("log")],
        vec![after(container("main"), "init", "SUCCESS"), side_car("init")],
        vec![after(container("b"), "a", "START"), container("a"), after(side_car("c"), "b", "COMPLETE")],
    ]
}

/// Ends every story: faults stop, everything is ordered to stop, and must have gone in the end.
fn wind_up(world: &mut World, tasks: usize) {
    world.docker.reachable = true;
    world.docker.killed_in_start = false;
    world.docker.errors.clear();
    world.docker.lost_answers.clear();
    world.submit_outcomes.clear();
    let ready = world.docker.ready();
    world.feed(ready);
    world.payload((0..tasks).map(|number| stop(&format!("t{number}"))).collect());
    world.pass(3_000_000);
    assert_eq!(world.docker.running(), 0, "a container runs on");
    for number in 0..tasks {
        let arn = format!("t{number}");
        assert_eq!(world.control_plane[&arn].status, "STOPPED", "{arn}");
    }
    world.pass(8_000_000);
    assert!(world.docker.containers.is_empty(), "a container was not removed");
    assert!(world.engine.tasks().all(|task| task.cleaned));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_statuses_go_forward_and_all_ends_well(choices in prop::collection::vec((0u8..24, any::<u16>()), 1..160)) {
        let mut world = World::new(config());
        let shapes = shapes();
        let mut tasks = 0;
        for (choice, number) in choices {
            let pick = usize::from(number);
            let some_task = format!("t{}", pick % tasks.max(1));
            let some_name = ["main", "log", "init", "a", "b", "c"][pick % 6];
            match choice {
                0 | 1 if tasks < 4 => {
                    world.payload(vec![task(&format!("t{tasks}"), shapes[pick % shapes.len()].clone())]);
                    tasks += 1;
                }
                2 if tasks > 0 => world.payload(vec![task(&some_task, shapes[pick % shapes.len()].clone()), stop("t0")]),
                3 if tasks > 0 && pick.is_multiple_of(3) => world.payload(vec![stop(&format!("t{}", pick % tasks))]),
                4 => world.exit(&some_task, some_name, i32::from(number % 3)),
                5 => {
                    let at = world.now;
                    world.docker.exit(&key(&some_task, some_name), 9, true, at);
                }
                6 => {
                    let call = ["create", "start", "stop", "inspect", "remove", "image"][pick % 6];
                    let error = match pick % 4 {
                        0 => DockerError::Unavailable("gone".to_owned()),
                        1 => DockerError::Timeout,
                        2 => DockerError::Failed("no".to_owned()),
                        _ => DockerError::Unavailable("gone again".to_owned()),
                    };
                    let docker = &mut world.docker;
                    let calls = if number % 5 < 3 { &mut docker.errors } else { &mut docker.lost_answers };
                    calls.entry(format!("{call} {some_name}")).or_default().push_back(error);
                }
                7 => world.submit_outcomes.push_back(SubmitOutcome::Failed("network".to_owned())),
                8 => {
                    world.docker.reachable = pick.is_multiple_of(2);
                    if world.docker.reachable {
                        let ready = world.docker.ready();
                        world.feed(ready);
                    }
                }
                9 => world.crash(pick.is_multiple_of(2)),
                10 => {
                    world.now = world.now.plus_millis(i64::from(number));
                    world.feed(Input::Tick);
                }
                11 => world.manifest(i64::from(number), &["t0", "t1"]),
                12 if !world.news.is_empty() => {
                    // An event twice.
                    let news = world.news[pick % world.news.len()].clone();
                    if matches!(news, Input::Died { .. }) {
                        world.feed(news);
                    }
                }
                13 => world.settle(),
                19 => world.docker.killed_in_start = true,
                18 => {
                    let by_ms = (i64::from(number) - 32_768) * 1_000;
                    world.now = world.now.plus_millis(by_ms);
                    world.feed(Input::ClockSet { by_ms });
                }
                14..=17 if !world.news.is_empty() => {
                    let news = world.news.remove(pick % world.news.len()).expect("in range");
                    world.feed(news);
                }
                _ => {
                    if let Some(action) = world.todo.pop_front() {
                        world.perform(action);
                    }
                }
            }
        }
        wind_up(&mut world, tasks.max(1));
    }
}

/// The story of a task, step by step; after `crash_after` performed actions the agent dies once.
fn story(containers: &[acs::Container], exits: &[(&str, i32)], crash_after: Option<(usize, bool)>) -> (World, usize) {
    let mut world = World::new(config());
    world.payload(vec![task("t0", containers.to_vec())]);
    let mut performed = 0;
    let mut exits = exits.iter().peekable();
    for _ in 0..2_000 {
        if let Some(action) = world.todo.pop_front() {
            world.perform(action);
            performed += 1;
            if let Some((_, lose)) = crash_after.filter(|(at, _)| *at == performed) {
                world.crash(lose);
                // The control plane sends again what was not acknowledged, and the agent knows it or not.
                world.payload(vec![task("t0", containers.to_vec())]);
            }
        } else if let Some(news) = world.news.pop_front() {
            world.feed(news);
        } else if let Some((name, code)) = exits.peek() {
            let at = world.now;
            if world.docker.exit(&key("t0", name), *code, false, at) {
                world.news.push_back(Input::Died { container: key("t0", name), exit_code: *code });
            }
            exits.next();
        } else if let Some(at) = world.engine.next_deadline() {
            if world.control_plane.get("t0").is_some_and(|view| view.status == "STOPPED") {
                break;
            }
            world.now = world.now.max(at);
            world.feed(Input::Tick);
        } else {
            break;
        }
    }
    (world, performed)
}

#[test]
fn a_crash_at_any_boundary_changes_nothing_in_the_end() {
    type Story = (Vec<acs::Container>, &'static [(&'static str, i32)]);
    let stories: [Story; 5] = [
        (vec![container("main")], &[("main", 3)]),
        (vec![with_port(container("main"), 80, 0)], &[("main", 0)]),
        (vec![container("main"), side_car("log")], &[("log", 1), ("main", 0)]),
        (vec![after(container("main"), "init", "SUCCESS"), side_car("init")], &[("init", 0), ("main", 7)]),
        (vec![after(container("main"), "init", "SUCCESS"), side_car("init")], &[("init", 2)]),
    ];
    for (containers, exits) in &stories {
        let (undisturbed, actions) = story(containers, exits, None);
        let expected = &undisturbed.control_plane["t0"];
        assert_eq!(expected.status, "STOPPED");
        for crash_at in 1..=actions {
            for lose_unsynced in [false, true] {
                let (world, _) = story(containers, exits, Some((crash_at, lose_unsynced)));
                assert_eq!(&world.control_plane["t0"], expected, "crash after action {crash_at}, {lose_unsynced}");
            }
        }
    }
}
