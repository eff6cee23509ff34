//! What tasks need beside containers, and share among them: volumes, a cgroup, namespaces.

use longshore_agent_protocol::acs;
use serde_json::{Value, json};

use super::world::*;
use crate::engine::container_config::{container_spec, docker_name, volume_name};
use crate::engine::internal::NAMESPACES;
use crate::engine::resource::{Prepared, cgroup, plan};
use crate::engine::*;

fn volume(name: &str, change: impl FnOnce(&mut acs::Volume)) -> acs::Volume {
    let mut volume = acs::Volume { name: name.to_owned(), ..acs::Volume::default() };
    change(&mut volume);
    volume
}

fn of_host(name: &str, path: Option<&str>) -> acs::Volume {
    volume(name, |v| {
        v.volume_type = Some("host".to_owned());
        v.host = Some(acs::HostVolume { source_path: path.map(str::to_owned) });
    })
}

fn of_docker(name: &str, docker: acs::DockerVolume) -> acs::Volume {
    volume(name, |v| {
        v.volume_type = Some("docker".to_owned());
        v.docker_volume_configuration = Some(docker);
    })
}

fn of_efs(name: &str, efs: acs::EfsVolume) -> acs::Volume {
    volume(name, |v| {
        v.volume_type = Some("efs".to_owned());
        v.efs_volume_configuration = Some(efs);
    })
}

fn shared(autoprovision: bool) -> acs::DockerVolume {
    acs::DockerVolume {
        scope: Some("shared".to_owned()),
        autoprovision: Some(autoprovision),
        ..acs::DockerVolume::default()
    }
}

fn mount(volume: &str, path: &str, read_only: Option<bool>) -> acs::MountPoint {
    acs::MountPoint { source_volume: volume.to_owned(), container_path: path.to_owned(), read_only }
}

/// A task whose first container mounts every volume.
fn mounting(volumes: Vec<acs::Volume>) -> acs::Task {
    let mut task = task("arn:t/1", vec![container("main"), side_car("other")]);
    task.containers[0].mount_points =
        volumes.iter().map(|volume| mount(&volume.name, &format!("/{}", volume.name), None)).collect();
    task.volumes = volumes;
    task
}

/// The only resource that a task needs.
fn only_spec(task: &acs::Task) -> ResourceSpec {
    let [resource] = <[_; 1]>::try_from(plan(&config(), task).unwrap()).unwrap();
    resource.spec
}

fn binds(task: &acs::Task, container: usize) -> Value {
    let spec = container_spec(&config(), task, &task.containers[container], &Prepared::default()).unwrap();
    spec.body["HostConfig"]["Binds"].clone()
}

#[test]
fn paths_of_the_host_need_nothing_made() {
    let mut task = mounting(vec![of_host("conf", Some("/etc/app"))]);
    task.containers[1].mount_points.push(mount("conf", "/conf", Some(true)));
    assert_eq!(plan(&config(), &task).unwrap().len(), 0);
    assert_eq!(binds(&task, 0), json!(["/etc/app:/conf"]));
    assert_eq!(binds(&task, 1), json!(["/etc/app:/conf:ro"]));
    task.containers[0].mount_points.clear();
    assert_eq!(binds(&task, 0), Value::Null);
}

#[test]
fn a_place_of_dockers_choosing_is_a_volume_of_the_task() {
    // An absent type, an absent path and an empty one are all the same to it.
    for volume in [of_host("scratch", None), of_host("scratch", Some("")), volume("scratch", |_| {})] {
        let task = mounting(vec![volume]);
        let name = volume_name(&task, "scratch");
        assert!(name.starts_with("ecs-fam-1-scratch-"), "{name}");
        assert_ne!(name, docker_name(&task, "scratch"), "a container of that name has another");
        assert_eq!(binds(&task, 0), json!([format!("{name}:/scratch")]));
        let ResourceSpec::Volume(spec) = only_spec(&task) else { panic!("no volume") };
        assert_eq!((spec.name, spec.driver.as_str(), spec.scope), (name, "local", VolumeScope::Task));
        assert_eq!(spec.labels["com.amazonaws.ecs.task-arn"], "arn:t/1");
    }
}

#[test]
fn volumes_of_docker_belong_to_the_task_or_to_everybody() {
    let own = acs::DockerVolume {
        driver: Some("sshfs".to_owned()),
        driver_opts: [("sshcmd".to_owned(), "me@nas:/x".to_owned())].into(),
        labels: [("team".to_owned(), "a".to_owned())].into(),
        ..acs::DockerVolume::default()
    };
    let ResourceSpec::Volume(spec) = only_spec(&mounting(vec![of_docker("data", own)])) else { panic!("no volume") };
    assert_eq!((spec.driver.as_str(), spec.scope), ("sshfs", VolumeScope::Task));
    assert_eq!((spec.options["sshcmd"].as_str(), spec.labels["team"].as_str()), ("me@nas:/x", "a"));

    for autoprovision in [true, false] {
        let task = mounting(vec![of_docker("data", shared(autoprovision))]);
        let ResourceSpec::Volume(spec) = only_spec(&task) else { panic!("no volume") };
        assert_eq!((spec.name.as_str(), spec.driver.as_str()), ("data", "local"));
        assert_eq!(spec.scope, VolumeScope::Shared { autoprovision, exact: false });
        assert!(spec.labels.is_empty(), "it is not the task's");
        assert_eq!(binds(&task, 0), json!(["data:/data"]));
    }
}

#[test]
fn a_network_file_system_is_mounted_as_plain_nfs() {
    let efs = acs::EfsVolume { file_system_id: "fs-1".to_owned(), ..acs::EfsVolume::default() };
    let rooted = acs::EfsVolume { root_directory: Some("/export".to_owned()), ..efs.clone() };
    let mut config = config();
    let options = |config: &EngineConfig, efs: &acs::EfsVolume| {
        let resources = plan(config, &mounting(vec![of_efs("data", efs.clone())])).unwrap();
        let ResourceSpec::Volume(spec) = &resources[0].spec else { panic!("no volume") };
        assert_eq!((spec.driver.as_str(), spec.scope), ("local", VolumeScope::Task));
        json!(spec.options)
    };
    let recommended = "nfsvers=4.1,rsize=1048576,wsize=1048576,hard,timeo=600,retrans=2,noresvport";
    assert_eq!(
        options(&config, &efs),
        json!({"type": "nfs", "device": ":/", "o": format!("addr=fs-1.efs.eu-west-1.amazonaws.com,{recommended}")})
    );
    config.volumes.region = "cn-north-1".to_owned();
    assert_eq!(
        options(&config, &rooted),
        json!({"type": "nfs", "device": ":/export", "o": format!("addr=fs-1.efs.cn-north-1.amazonaws.com.cn,{recommended}")})
    );
    config.volumes.efs_hosts.insert("fs-1".to_owned(), "nas.internal".to_owned());
    assert_eq!(
        options(&config, &rooted),
        json!({"type": "nfs", "device": ":/export", "o": format!("addr=nas.internal,{recommended}")})
    );
}

#[test]
fn volumes_that_cannot_be_had_are_refused_with_the_reason() {
    let efs = |change: fn(&mut acs::EfsVolume)| {
        let mut efs = acs::EfsVolume { file_system_id: "fs-1".to_owned(), ..acs::EfsVolume::default() };
        change(&mut efs);
        of_efs("v", efs)
    };
    let authorized = |change: fn(&mut acs::EfsAuthorization)| {
        let mut authorization = acs::EfsAuthorization::default();
        change(&mut authorization);
        let mut volume = efs(|_| {});
        if let Some(efs) = &mut volume.efs_volume_configuration {
            efs.authorization_config = Some(authorization);
        }
        volume
    };
    let enabled = || Some("ENABLED".to_owned());
    for (volumes, expected) in [
        (vec![volume("v", |v| v.volume_type = Some("ebs".to_owned()))], "volume v: the type ebs is not supported"),
        (vec![volume("v", |v| v.volume_type = Some("docker".to_owned()))], "dockerVolumeConfiguration is missing"),
        (vec![volume("v", |v| v.volume_type = Some("efs".to_owned()))], "efsVolumeConfiguration is missing"),
        (vec![volume("v", |_| {}), volume("v", |_| {})], "\"v\" is empty or not unique"),
        (
            vec![of_docker("v", acs::DockerVolume { scope: Some("task".to_owned()), ..shared(true) })],
            "volume v: autoprovision is for volumes of scope shared",
        ),
        (vec![of_docker("v", acs::DockerVolume { scope: Some("all".to_owned()), ..shared(true) })], "scope \"all\""),
        (
            vec![efs(|e| e.transit_encryption = Some("ENABLED".to_owned()))],
            "volume v: transitEncryption needs Amazon's",
        ),
        (vec![authorized(|a| a.access_point_id = Some("fsap-1".to_owned()))], "authorizationConfig.accessPointId"),
        (
            vec![{
                let mut volume = authorized(|_| {});
                if let Some(efs) = &mut volume.efs_volume_configuration
                    && let Some(authorization) = &mut efs.authorization_config
                {
                    authorization.iam = enabled();
                }
                volume
            }],
            "authorizationConfig.iam",
        ),
        (vec![efs(|e| e.file_system_id = "fs-1,sec=none".to_owned())], "cannot be one"),
    ] {
        let mut world = new_world();
        world.payload(vec![mounting(volumes)]);
        world.settle();
        let reason = &world.control_plane["arn:t/1"].reason;
        assert!(reason.contains(expected), "{reason} should name {expected}");
        assert!(world.docker.containers.is_empty());
    }
}

#[test]
fn a_volume_is_made_before_the_container_and_removed_after_it() {
    let mut world = new_world();
    world.payload(vec![{
        let mut task = mounting(vec![of_host("scratch", None)]);
        task.containers.truncate(1);
        task
    }]);
    world.expect(&[
        "save",
        "make Volume(\"scratch\")",
        "look for img",
        "ack m1",
        "create main",
        "save",
        "start main",
        "submit RUNNING main=RUNNING",
    ]);
    world.exit("arn:t/1", "main", 0);
    world.settle();
    world.trace.clear();
    world.pass(3_600_000);
    world.expect(&["remove main", "unmake Volume(\"scratch\")"]);
    assert!(world.engine.task("arn:t/1").unwrap().cleaned);
}

#[test]
fn a_volume_that_is_not_there_fails_the_task_before_anything_runs() {
    let mut world = new_world();
    let why = "CannotCreateVolumeError: volume data does not exist".to_owned();
    world.makes.push_back(Err(ResourceError::Refused(why.clone())));
    world.payload(vec![mounting(vec![of_docker("data", shared(false))])]);
    world.settle();
    assert_eq!(
        (world.control_plane["arn:t/1"].status.as_str(), &world.control_plane["arn:t/1"].reason),
        ("STOPPED", &why)
    );
    assert!(world.docker.containers.is_empty());
}

#[test]
fn a_payload_cannot_lead_a_container_past_what_was_made_for_its_task() {
    let mut world = new_world();
    let mut task = bounded(None, Some(64));
    (task.pid_mode, task.ipc_mode) = (Some("host".to_owned()), Some("none".to_owned()));
    task.volumes = vec![of_host("conf", Some("/etc/app"))];
    task.containers.truncate(1);
    task.containers[0].mount_points = vec![mount("conf", "/conf", Some(true))];
    let theirs = json!({"cgroupparent": "/", "Binds": ["/:/host"], "PidMode": "", "ipcMode": "host"});
    task.containers[0].docker_config =
        Some(acs::DockerConfig { host_config: Some(theirs.to_string()), ..acs::DockerConfig::default() });
    world.payload(vec![task]);
    world.settle();
    let created = world.docker.containers.values().next().unwrap();
    let host_config = created.spec.body["HostConfig"].as_object().unwrap();
    let of = |name: &str| {
        let mut alike = host_config.iter().filter(|(have, _)| have.eq_ignore_ascii_case(name));
        let (found, None) = (alike.next().unwrap(), alike.next()) else { panic!("{name} is there twice") };
        found.1.clone()
    };
    assert_eq!(
        ["CgroupParent", "Binds", "PidMode", "IpcMode"].map(of),
        [json!("/ecs/0a1b"), json!(["/etc/app:/conf:ro"]), json!("host"), json!("none")]
    );
}

fn bounded(vcpus: Option<f64>, memory: Option<i64>) -> acs::Task {
    let mut task = task("arn:aws:ecs:r:1:task/c/0a1b", vec![container("main"), side_car("other")]);
    task.containers[0].cpu = 512;
    task.containers[0].memory = 32;
    (task.cpu, task.memory) = (vcpus, memory);
    task
}

#[test]
fn a_tasks_limits_are_those_of_its_cgroup() {
    let limits = |task: &acs::Task| match only_spec(task) {
        ResourceSpec::Cgroup(spec) => spec,
        other => panic!("{other:?} is no cgroup"),
    };
    let both = limits(&bounded(Some(0.25), Some(64)));
    assert_eq!(both.task_id, "0a1b");
    assert_eq!((both.cpu_us_per_second, both.memory_bytes, both.pids), (Some(250_000), Some(64 << 20), None));
    assert_eq!(both.cpu_shares, 514, "those of its containers together");
    assert_eq!(limits(&bounded(None, Some(64))).cpu_us_per_second, None);
    assert_eq!(limits(&bounded(Some(2.0), None)).memory_bytes, None);
    assert!(plan(&config(), &bounded(None, None)).unwrap().is_empty());

    let mut config = config();
    config.limits.pids = Some(100);
    let planned = plan(&config, &bounded(None, None)).unwrap();
    let ResourceSpec::Cgroup(spec) = &planned[0].spec else { panic!("no cgroup") };
    assert_eq!((spec.pids, spec.cpu_us_per_second, spec.memory_bytes), (Some(100), None, None));
}

#[test]
fn all_containers_are_put_in_the_cgroup_of_their_task() {
    let mut world = new_world();
    world.makes.push_back(Ok(Made { facts: cgroup::facts("/ecs/0a1b".to_owned()), ..Made::default() }));
    world.payload(vec![bounded(Some(0.25), Some(64))]);
    world.settle();
    assert_eq!(world.docker.containers.len(), 2);
    for container in world.docker.containers.values() {
        assert_eq!(container.spec.body["HostConfig"]["CgroupParent"], "/ecs/0a1b");
        assert_eq!(container.spec.body["HostConfig"].get("NanoCpus"), None);
    }
    // What Docker calls it is remembered: the second half of the task may be another agent's.
    let record = world.engine.task("arn:aws:ecs:r:1:task/c/0a1b").unwrap();
    assert_eq!(TaskRecord::from_json(&record.to_json()).unwrap().resources, record.resources);
}

#[test]
fn limits_that_cannot_be_set_are_refused() {
    let refusal = |config: EngineConfig, task: acs::Task| {
        let mut world = World::new(config);
        let arn = task.arn.clone();
        world.payload(vec![task]);
        world.settle();
        assert!(world.docker.containers.is_empty());
        world.control_plane[&arn].reason.clone()
    };
    let mut larger = bounded(None, Some(64));
    larger.containers[0].memory = 65;
    let reason = refusal(config(), larger);
    assert!(reason.contains("container main may use 65 MiB, more than the 64 MiB of its task"), "{reason}");
    let without = EngineConfig { limits: TaskLimits::default(), ..config() };
    for (task, what) in [(bounded(Some(1.0), None), "cpu"), (bounded(None, Some(64)), "memory")] {
        let reason = refusal(without.clone(), task);
        assert!(reason.contains(&format!("a {what} limit of the whole task is not supported")), "{reason}");
    }
}

/// A task with all kinds of what a configuration has a say in: it is planned by the first, and has to end under the second.
fn configured() -> (EngineConfig, acs::Task, EngineConfig) {
    let mut first = config();
    first.limits.pids = Some(64);
    let efs = acs::EfsVolume { file_system_id: "fs-1".to_owned(), ..acs::EfsVolume::default() };
    let mut task = mounting(vec![of_host("scratch", None), of_efs("data", efs)]);
    task.containers[0] = after(task.containers[0].clone(), "other", "COMPLETE");
    let mut second = config();
    second.limits = TaskLimits::default();
    second.volumes.region = "us-east-1".to_owned();
    second.volumes.efs_hosts.insert("fs-1".to_owned(), "nas,soft".to_owned());
    (first, task, second)
}

#[test]
fn what_was_made_is_used_and_removed_whatever_the_configuration_says_by_then() {
    let (first, task, second) = configured();
    let mut world = World::new(first);
    world.payload(vec![task]);
    world.settle();
    assert_eq!((world.host.made, world.docker.containers.len()), (3, 1));
    world.config = second;
    world.crash(true);
    world.exit("arn:t/1", "other", 0);
    world.settle();
    let created: Vec<_> = world.docker.containers.values().filter(|c| c.key.name == "main").collect();
    assert_eq!(created[0].spec.body["HostConfig"]["CgroupParent"], "/ecs/1");
    assert_eq!(created[0].state, RunState::Running);
    world.exit("arn:t/1", "main", 0);
    world.settle();
    world.pass(4_000_000);
    assert!(world.engine.task("arn:t/1").unwrap().cleaned);
    assert_eq!(world.host.left(), [] as [&String; 0]);
    assert_eq!(world.host.removed, 3);
}

/// A cgroup does not outlive the kernel that keeps it, and Docker would make another without limits: the model objects to that.
#[test]
fn a_machine_that_starts_anew_bounds_again_what_it_starts_again() {
    let arn = "arn:aws:ecs:r:1:task/c/0a1b";
    let remade_before = |world: &World, start: &str| {
        let position = |line: &str| world.trace.iter().position(|known| known == line).expect(line);
        assert!(position("make Cgroup") < position(start), "{:?}", world.trace);
    };

    let mut world = new_world();
    world.docker.restart_period_ms = Some(60_000);
    let mut task = bounded(None, Some(64));
    task.containers[0] = restarted(task.containers[0].clone());
    world.payload(vec![task]);
    world.pass(120_000);
    world.trace.clear();
    world.reboot();
    world.settle();
    remade_before(&world, "start main");
    assert_eq!(world.docker.running(), 1);
    world.trace.clear();
    world.pass(120_000);
    world.exit(arn, "main", 0);
    world.settle();
    world.expect(&["inspect main", "save", "start main"]);

    for before_start in [false, true] {
        let mut world = new_world();
        let mut task = bounded(None, Some(64));
        task.containers[0] = after(task.containers[0].clone(), "other", "COMPLETE");
        world.payload(vec![task]);
        if before_start {
            while !world.trace.iter().any(|line| line == "create other") {
                match world.todo.pop_front() {
                    Some(action) => world.perform(action),
                    None => {
                        let news = world.news.pop_front().expect("it goes on");
                        world.feed(news);
                    }
                }
            }
        } else {
            world.settle();
        }
        world.trace.clear();
        world.reboot();
        world.settle();
        remade_before(&world, if before_start { "start other" } else { "create main" });
    }
}

fn sharing(pid_mode: Option<&str>, ipc_mode: Option<&str>) -> acs::Task {
    let mut task = task("t", vec![container("main"), side_car("other")]);
    (task.pid_mode, task.ipc_mode) = (pid_mode.map(str::to_owned), ipc_mode.map(str::to_owned));
    task
}

/// What was asked of Docker for each container, by name.
fn namespaces(world: &World) -> Vec<(String, Value, Value)> {
    let of = |container: &ModelContainer| {
        let host = &container.spec.body["HostConfig"];
        (container.key.name.clone(), host["PidMode"].clone(), host["IpcMode"].clone())
    };
    let mut all: Vec<_> = world.docker.containers.values().map(of).collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}

#[test]
fn namespaces_of_the_host_need_no_container_to_hold_them() {
    let mut world = new_world();
    world.payload(vec![sharing(Some("host"), Some("none"))]);
    world.settle();
    let expected = |name: &str| (name.to_owned(), json!("host"), json!("none"));
    assert_eq!(namespaces(&world), [expected("main"), expected("other")]);
}

#[test]
fn namespaces_of_a_task_are_held_by_a_container_that_nobody_is_told_of() {
    for (pid_mode, ipc_mode) in [(Some("task"), None), (None, Some("task")), (Some("task"), Some("task"))] {
        let mut world = new_world();
        let task = sharing(pid_mode, ipc_mode);
        let holder = json!(format!("container:{}", docker_name(&task, NAMESPACES)));
        world.payload(vec![task]);
        world.settle();
        let shared = |mode: Option<&str>| if mode.is_some() { holder.clone() } else { Value::Null };
        let ipc = if ipc_mode.is_some() { "shareable" } else { "private" };
        assert_eq!(
            namespaces(&world),
            [
                ("main".to_owned(), shared(pid_mode), shared(ipc_mode)),
                ("other".to_owned(), shared(pid_mode), shared(ipc_mode)),
                (NAMESPACES.to_owned(), Value::Null, json!(ipc)),
            ]
        );
        let first_start = world.trace.iter().position(|line| line.starts_with("start")).unwrap();
        assert_eq!(world.trace[first_start], format!("start {NAMESPACES}"));
        assert!(world.trace.contains(&"submit RUNNING main=RUNNING other=RUNNING".to_owned()), "{:?}", world.trace);

        world.trace.clear();
        world.payload(vec![stop("t")]);
        world.settle();
        let stops: Vec<&String> = world.trace.iter().filter(|line| line.starts_with("stop ")).collect();
        assert_eq!(stops.len(), 3);
        assert!(stops[2].starts_with(&format!("stop {NAMESPACES}")), "{stops:?}");
        assert_eq!(world.control_plane["t"].status, "STOPPED");
        assert!(world.trace.iter().all(|line| !line.starts_with("submit") || !line.contains("internal")));
        world.pass(4_000_000);
        world.settle();
        assert!(world.docker.containers.is_empty());
    }
}

#[test]
fn a_task_that_loses_its_namespaces_stops_and_says_why() {
    let mut world = new_world();
    world.payload(vec![sharing(Some("task"), None)]);
    world.settle();
    world.exit("t", NAMESPACES, 137);
    world.settle();
    assert_eq!(world.control_plane["t"].status, "STOPPED");
    assert_eq!(world.control_plane["t"].reason, "the container that holds the namespaces of the task has ended");

    let mut world = new_world();
    world.docker.local_images.remove(crate::pause::image());
    world.payload(vec![sharing(Some("task"), None)]);
    world.settle();
    world.pass(60_000);
    world.settle();
    assert_eq!(world.control_plane["t"].status, "STOPPED");
    assert!(
        world.control_plane["t"].reason.starts_with("CannotPullContainerError"),
        "{}",
        world.control_plane["t"].reason
    );
}
