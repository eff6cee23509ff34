//! What goes wrong at each step of a task's life: the agent is killed, Docker fails or falls silent, an order makes no sense.
//! Whatever it is, the model of Docker objects when a container runs twice or is removed while it runs.

use super::world::*;
use crate::engine::internal::NAMESPACES;
use crate::engine::resource::network::PAUSE;
use crate::engine::*;
use longshore_agent_protocol::acs;

/// Tasks whose lives differ, and how their containers end by themselves, in order.
type Story = (acs::Task, &'static [(&'static str, i32)]);

fn stories() -> Vec<Story> {
    let mut data = side_car("data");
    data.stop_timeout = Some(5);
    let mut reader = container("main");
    reader.volumes_from.push(acs::VolumeFrom { source_container: "data".to_owned(), read_only: Some(true) });
    let stories: [(_, &'static [_]); 8] = [
        (vec![container("main")], &[("main", 3)]),
        (vec![with_port(container("main"), 80, 8080)], &[("main", 0)]),
        (vec![container("main"), side_car("log")], &[("log", 1), ("main", 0)]),
        (vec![after(container("main"), "init", "SUCCESS"), side_car("init")], &[("init", 0), ("main", 7)]),
        (vec![after(container("main"), "init", "SUCCESS"), side_car("init")], &[("init", 2)]),
        (vec![reader, data], &[("main", 0)]),
        (vec![with_secret(container("main"))], &[("main", 0)]),
        // The secret is fetched long before the container that gets it is created.
        (vec![after(with_secret(container("main")), "init", "SUCCESS"), side_car("init")], &[("init", 0), ("main", 7)]),
    ];
    let stories = stories.into_iter().map(|(containers, exits)| (task("t", containers), exits));
    stories.chain(stories_with_resources()).collect()
}

/// Tasks that need more than containers: something of each kind, and then all of it.
fn stories_with_resources() -> Vec<Story> {
    let two = || task("t", vec![after(container("main"), "init", "COMPLETE"), side_car("init")]);
    let mut all = two();
    let changes: [fn(&mut acs::Task); 5] =
        [with_volumes, with_limits, with_namespaces, with_network, with_environment_files];
    let mut stories = Vec::new();
    for change in changes {
        let mut one = two();
        change(&mut one);
        change(&mut all);
        stories.push((one, &[("init", 0), ("main", 0)] as &[_]));
    }
    stories.push((all.clone(), &[("init", 1), ("main", 0)]));
    stories.push((all.clone(), &[("init", 0), (NAMESPACES, 137)]));
    stories.push((all, &[("init", 0), (PAUSE, 137)]));
    stories
}

fn with_volumes(task: &mut acs::Task) {
    let docker = |scope: &str| acs::DockerVolume { scope: Some(scope.to_owned()), ..acs::DockerVolume::default() };
    let volume = |name: &str, docker| acs::Volume {
        name: name.to_owned(),
        docker_volume_configuration: docker,
        ..acs::Volume::default()
    };
    let shared = acs::DockerVolume { autoprovision: Some(true), ..docker("shared") };
    task.volumes = vec![volume("scratch", None), volume("own", Some(docker("task"))), volume("all", Some(shared))];
    for container in &mut task.containers {
        container.mount_points = ["scratch", "all"]
            .map(|name| acs::MountPoint {
                source_volume: name.to_owned(),
                container_path: format!("/{name}"),
                read_only: None,
            })
            .to_vec();
    }
    task.containers[0].mount_points[1].source_volume = "own".to_owned();
}

fn with_limits(task: &mut acs::Task) {
    (task.cpu, task.memory) = (Some(0.5), Some(128));
}

fn with_namespaces(task: &mut acs::Task) {
    (task.pid_mode, task.ipc_mode) = (Some("task".to_owned()), Some("task".to_owned()));
}

fn with_network(task: &mut acs::Task) {
    task.network_mode = Some("awsvpc".to_owned());
    task.elastic_network_interfaces = vec![acs::ElasticNetworkInterface {
        mac_address: Some("0a:58:0a:d4:03:46".to_owned()),
        ipv4_addresses: vec![acs::Ipv4Address { primary: true, private_address: "10.212.3.70".to_owned() }],
        subnet_gateway_ipv4_address: Some("10.212.0.1/16".to_owned()),
        ..acs::ElasticNetworkInterface::default()
    }];
}

fn with_environment_files(task: &mut acs::Task) {
    let value = "arn:aws:s3:::conf/a.env".to_owned();
    task.containers[0].environment_files = vec![acs::EnvironmentFile { value, file_type: "s3".to_owned() }];
}

/// Nothing of the task is left, and of what everybody shares nothing was removed.
#[track_caller]
fn check_nothing_left(world: &World, story: &Story, case: &str) {
    assert!(world.docker.containers.is_empty(), "{case}: a container is left");
    assert_eq!(world.host.left(), [] as [&String; 0], "{case}");
    assert_eq!(world.host.made, world.host.removed, "{case}");
    assert!(story.0.volumes.is_empty() || !world.host.shared.is_empty(), "{case}: what is shared stays");
}

/// The control plane orders the task, and sends the credentials of its role.
fn order(world: &mut World, task: &acs::Task) {
    world.payload(vec![task.clone()]);
    world.send_credentials("t");
}

/// Something happens to a story after so many steps. A step is one action performed, or one result or event heard.
struct Fault<'a> {
    after: usize,
    happens: &'a dyn Fn(&mut World),
}

/// Plays a story from its payload to the removal of its containers; answers with how many steps that took.
fn play((task, exits): &Story, world: &mut World, fault: Option<&Fault<'_>>) -> usize {
    order(world, task);
    let mut exits = exits.iter();
    let mut steps = 0;
    for _ in 0..5_000 {
        if let Some(action) = world.todo.pop_front() {
            world.perform(action);
        } else if let Some(news) = world.news.pop_front() {
            world.feed(news);
        } else if let Some(at) = world.engine.next_deadline().filter(|at| at.since(world.now) < 20_000) {
            world.now = world.now.max(at);
            world.feed(Input::Tick);
            continue;
        } else if let Some((name, code)) = exits.next() {
            world.exit("t", name, *code);
            continue;
        } else if let Some(at) = world.engine.next_deadline() {
            world.now = world.now.max(at);
            world.feed(Input::Tick);
            continue;
        } else {
            return steps;
        }
        steps += 1;
        if let Some(fault) = fault.filter(|fault| fault.after == steps) {
            (fault.happens)(world);
            // The control plane says again what was not acknowledged, and the agent knows it or not.
            order(world, task);
        }
    }
    panic!("the story has no end");
}

#[test]
fn an_agent_that_is_killed_at_any_step_changes_nothing_in_the_end() {
    for story in &stories() {
        let mut undisturbed = new_world();
        let steps = play(story, &mut undisturbed, None);
        let expected = &undisturbed.control_plane["t"];
        assert_eq!(expected.status, "STOPPED");
        check_nothing_left(&undisturbed, story, "undisturbed");
        let needs_more = story.0.memory.is_some() || !story.0.volumes.is_empty() || story.0.network_mode.is_some();
        assert_eq!(undisturbed.host.made > 0, needs_more);
        for after in 1..=steps {
            for lose_unsynced in [false, true] {
                let mut world = new_world();
                play(story, &mut world, Some(&Fault { after, happens: &|world| world.crash(lose_unsynced) }));
                assert_eq!(&world.control_plane["t"], expected, "killed after step {after}, {lose_unsynced}");
                check_nothing_left(&world, story, &format!("killed after step {after}, {lose_unsynced}"));
            }
        }
    }
}

/// The next agent is told other things than the one that was killed. It may refuse what it does not know yet; what the other one
/// made it uses and removes.
#[test]
fn an_agent_that_is_killed_at_any_step_and_configured_anew_leaves_nothing() {
    let mut bounding = config();
    bounding.limits.pids = Some(64);
    let mut moved = config();
    moved.limits = TaskLimits::default();
    moved.volumes.match_shared = true;
    for (first, second) in [(&bounding, &moved), (&moved, &bounding), (&bounding, &config())] {
        for story in &stories() {
            let steps = play(story, &mut World::new(first.clone()), None);
            for after in 1..=steps {
                let mut world = World::new(first.clone());
                let happens = |world: &mut World| {
                    world.config = second.clone();
                    world.crash(true);
                };
                play(story, &mut world, Some(&Fault { after, happens: &happens }));
                assert_eq!(world.control_plane["t"].status, "STOPPED", "killed after step {after}");
                assert!(world.docker.containers.is_empty(), "killed after step {after}");
                assert_eq!(world.host.left(), [] as [&String; 0], "killed after step {after}");
            }
        }
    }
}

/// The machine is restarted at one step: what the agent starts after it has all that it needs, which the kernel has forgotten.
#[test]
fn a_machine_that_restarts_at_any_step_leaves_nothing() {
    for story in &stories() {
        let steps = play(story, &mut new_world(), None);
        for after in 1..=steps {
            let mut world = new_world();
            play(story, &mut world, Some(&Fault { after, happens: &World::reboot }));
            world.payload(vec![stop("t")]);
            world.pass(8_000_000);
            assert_eq!(world.control_plane["t"].status, "STOPPED", "after step {after}");
            check_nothing_left(&world, story, &format!("after step {after}"));
        }
    }
}

/// The agent is killed at one step, and Docker a little later: what ran has ended, and what was never heard of never runs again.
#[test]
fn agent_and_docker_killed_at_any_step_run_nothing_twice() {
    for story in &stories() {
        let steps = play(story, &mut new_world(), None);
        for after in 1..=steps {
            for in_start in [false, true] {
                let mut world = new_world();
                let happens = |world: &mut World| {
                    world.docker.killed_in_start = in_start;
                    let at = world.now;
                    let keys: Vec<_> =
                        world.docker.containers.values().map(|container| container.key.clone()).collect();
                    for key in &keys {
                        world.docker.exit(key, 137, false, at);
                    }
                    world.crash(true);
                };
                play(story, &mut world, Some(&Fault { after, happens: &happens }));
                world.docker.killed_in_start = false;
                world.payload(vec![stop("t")]);
                world.pass(8_000_000);
                assert_eq!(world.control_plane["t"].status, "STOPPED", "after step {after}");
                check_nothing_left(&world, story, &format!("after step {after}"));
            }
        }
    }
}

const CALLS: [&str; 6] = ["image", "create", "start", "stop", "inspect", "remove"];

/// What Docker may answer to a call. That there is no such container it says of none that there is.
fn errors(call: &str) -> Vec<DockerError> {
    let mut errors = vec![
        DockerError::Unreached("connection refused".to_owned()),
        DockerError::Unavailable("connection closed".to_owned()),
        DockerError::Timeout,
        DockerError::Failed("no space left on device".to_owned()),
    ];
    if matches!(call, "image" | "create") {
        errors.push(DockerError::NotFound("No such image".to_owned()));
    }
    errors
}

/// Docker fails in the first calls of a kind, having done it or not. The task runs or says why not, and ends when it is told to.
#[test]
fn an_error_of_dockers_at_any_step_ends_well() {
    for story in &stories() {
        for call in CALLS {
            for error in errors(call) {
                for (done, times) in [(false, 1), (true, 1), (false, 3)] {
                    let mut world = new_world();
                    let answers = if done { &mut world.docker.lost_answers } else { &mut world.docker.errors };
                    for container in &story.0.containers {
                        let key = format!("{call} {}", container.name);
                        answers.entry(key).or_default().extend(vec![error.clone(); times]);
                    }
                    order(&mut world, &story.0);
                    world.pass(60_000);
                    let case = format!("{call} {error:?}, done: {done}, {times} times");
                    let reached = world.control_plane.get("t").cloned().unwrap_or_default();
                    if reached.status == "STOPPED" {
                        let told = reached.containers.values().any(|(_, _, reason)| reason.is_some());
                        assert!(told && world.docker.running() == 0, "{case}: {reached:?}");
                    }
                    world.payload(vec![stop("t")]);
                    world.pass(3_000_000);
                    assert_eq!(world.control_plane["t"].status, "STOPPED", "{case}");
                    assert_eq!(world.docker.running(), 0, "{case}");
                    world.pass(8_000_000);
                    check_nothing_left(&world, story, &case);
                }
            }
        }
    }
}

/// Docker hangs: every call runs into its time limit, whether it is done or not. No task counts as stopped while its container
/// may run, and all goes on when Docker does.
#[test]
fn a_docker_that_hangs_is_waited_for() {
    for done in [false, true] {
        let mut world = running(vec![container("main")]);
        let hang = |world: &mut World| {
            let calls = if done { &mut world.docker.lost_answers } else { &mut world.docker.errors };
            for call in CALLS {
                calls.entry(format!("{call} main")).or_default().extend(vec![DockerError::Timeout; 6]);
            }
        };
        hang(&mut world);
        world.payload(vec![stop("t"), task("u", vec![container("main")])]);
        world.settle();
        let stopped = world.control_plane["t"].status == "STOPPED";
        assert!(!stopped || world.docker.running() == 0, "it runs on, and counts as stopped");
        world.pass(3_000_000);
        assert_eq!(world.control_plane["t"].status, "STOPPED");
        let other = &world.control_plane["u"];
        let running = usize::from(other.status == "RUNNING");
        assert_eq!(world.docker.running(), running, "{other:?}");
        assert!(other.status == "RUNNING" || other.containers["main"].2.is_some(), "{other:?}");
    }
}

#[test]
fn an_order_that_makes_no_sense_spoils_no_other() {
    let mut world = new_world();
    let with = |arn: &str, change: &dyn Fn(&mut acs::Task)| {
        let mut task = task(arn, vec![container("main")]);
        change(&mut task);
        task
    };
    world.payload(vec![
        with("twins", &|task| task.containers.push(container("main"))),
        with("empty", &|task| task.containers.clear()),
        with("unread", &|task| {
            task.containers.clear();
            task.unreadable = Some("containers: cpu: invalid type".to_owned());
        }),
        with("", &|_| {}),
        stop(""),
        with("circle", &|task| task.containers[0] = after(container("main"), "main", "START")),
        with("wild", &|task| {
            task.containers[0].docker_config =
                Some(acs::DockerConfig { host_config: Some("{".to_owned()), ..acs::DockerConfig::default() });
        }),
        with("good", &|_| {}),
    ]);
    world.settle();
    assert!(world.trace.contains(&"ack m1".to_owned()));
    assert_eq!(world.control_plane["good"].status, "RUNNING");
    for (arn, why) in [
        ("twins", "container name \"main\" is empty or not unique"),
        ("empty", "containers is empty"),
        ("unread", "UnrecogniedTaskError: Error loading task - containers: cpu: invalid type"),
        ("circle", "in a circle"),
        ("wild", "dockerConfig.hostConfig is not JSON"),
    ] {
        let view = &world.control_plane[arn];
        assert!(view.status == "STOPPED" && view.reason.contains(why), "{arn}: {view:?}");
    }
    assert_eq!(world.control_plane.len(), 6);
}

#[test]
fn two_hundred_tasks_at_once_and_an_agent_killed_among_them() {
    for crash_after in [0, 1, 137, 400, 900, 1_500] {
        let mut world = new_world();
        let arns: Vec<String> = (0..200).map(|number| format!("t{number}")).collect();
        let order = |world: &mut World| {
            arns.chunks(10).for_each(|some| {
                world.payload(some.iter().map(|arn| task(arn, vec![container("main")])).collect());
            });
        };
        order(&mut world);
        for _ in 0..crash_after {
            if let Some(action) = world.todo.pop_front() {
                world.perform(action);
            } else if let Some(news) = world.news.pop_front() {
                world.feed(news);
            }
        }
        world.crash(true);
        order(&mut world);
        world.settle();
        assert_eq!((world.docker.running(), world.docker.containers.len()), (200, 200), "{crash_after}");
        assert!(arns.iter().all(|arn| world.control_plane[arn].status == "RUNNING"), "{crash_after}");
        world.payload(arns.iter().map(|arn| stop(arn)).collect());
        world.settle();
        assert_eq!(world.docker.running(), 0, "{crash_after}");
        assert!(arns.iter().all(|arn| world.control_plane[arn].status == "STOPPED"), "{crash_after}");
    }
}
