//! Cgroups as directories: the files of both versions of the kernel's interface.

use std::io;
use std::path::Path;

use super::PARENT;
use crate::engine::CgroupSpec;

/// Over which a quota of CPU time counts; the kernel's own choice.
const PERIOD_US: u64 = 100_000;
/// The controllers that bound something.
const CONTROLLERS: [&str; 3] = ["cpu", "memory", "pids"];

/// One file for each limit, in the hierarchy of its controller.
pub(super) fn make_first(root: &Path, spec: &CgroupSpec) -> io::Result<()> {
    for controller in CONTROLLERS {
        let parent = root.join(controller).join(PARENT);
        if !root.join(controller).is_dir() {
            if limits_of(controller, spec).is_empty() {
                continue;
            }
            return Err(io::Error::other(format!("this host has no cgroups for {controller}")));
        }
        make_directory(&parent)?;
        if controller == "memory" {
            // Without it a kernel before 5.11 would count the containers apart from their parent; later ones only agree.
            let _ = std::fs::write(parent.join("memory.use_hierarchy"), "1");
        }
        let cgroup = parent.join(&spec.task_id);
        make_directory(&cgroup)?;
        write_all(&cgroup, limits_of(controller, spec))?;
    }
    Ok(())
}

fn limits_of(controller: &str, spec: &CgroupSpec) -> Vec<(&'static str, String)> {
    let mut limits = Vec::new();
    match controller {
        "cpu" => {
            limits.push(("cpu.shares", spec.cpu_shares.to_string()));
            if let Some(us) = spec.cpu_us_per_second {
                limits.push(("cpu.cfs_period_us", PERIOD_US.to_string()));
                limits.push(("cpu.cfs_quota_us", quota(us).to_string()));
            }
        }
        "memory" => limits.extend(spec.memory_bytes.map(|bytes| ("memory.limit_in_bytes", bytes.to_string()))),
        "pids" => limits.extend(spec.pids.map(|pids| ("pids.max", pids.to_string()))),
        _ => {}
    }
    limits
}

/// The kernel takes no quota below a millisecond.
fn quota(us_per_second: u64) -> u64 {
    (us_per_second * PERIOD_US / 1_000_000).max(1_000)
}

/// The hierarchies beside those of [`CONTROLLERS`] have a directory too: Docker's runtime makes it for its containers.
pub(super) fn remove_first(root: &Path, task_id: &str) -> io::Result<()> {
    for hierarchy in std::fs::read_dir(root)? {
        let hierarchy = hierarchy?;
        // Links are second names of hierarchies.
        if hierarchy.file_type()?.is_dir() {
            remove_directory(&hierarchy.path().join(PARENT).join(task_id))?;
        }
    }
    Ok(())
}

/// All limits in one directory, once the controllers are handed down to it.
pub(super) fn make_second(root: &Path, spec: &CgroupSpec) -> io::Result<()> {
    let parent = root.join(PARENT);
    let cgroup = parent.join(&spec.task_id);
    make_directory(&parent)?;
    let offered = std::fs::read_to_string(root.join("cgroup.controllers"))?;
    let handed_down: Vec<String> = CONTROLLERS
        .iter()
        .filter(|controller| offered.split_whitespace().any(|name| name == **controller))
        .map(|controller| format!("+{controller}"))
        .collect();
    for directory in [root, &parent] {
        std::fs::write(directory.join("cgroup.subtree_control"), handed_down.join(" "))?;
    }
    make_directory(&cgroup)?;
    let mut limits = vec![("cpu.weight", weight(spec.cpu_shares).to_string())];
    limits.extend(spec.cpu_us_per_second.map(|us| ("cpu.max", format!("{} {PERIOD_US}", quota(us)))));
    limits.extend(spec.memory_bytes.map(|bytes| ("memory.max", bytes.to_string())));
    limits.extend(spec.pids.map(|pids| ("pids.max", pids.to_string())));
    write_all(&cgroup, limits)
}

/// The second version's weight for the first version's shares: 1 to 10,000 for 2 to 262,144, as Docker's runtime does it.
pub(super) fn weight(shares: u64) -> u64 {
    1 + shares.saturating_sub(2) * 9_999 / 262_142
}

pub(super) fn remove_second(root: &Path, task_id: &str) -> io::Result<()> {
    remove_directory(&root.join(PARENT).join(task_id))
}

fn make_directory(path: &Path) -> io::Result<()> {
    match std::fs::create_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(about(path, &error)),
        _ => Ok(()),
    }
}

fn write_all(cgroup: &Path, limits: Vec<(&str, String)>) -> io::Result<()> {
    for (file, value) in limits {
        let path = cgroup.join(file);
        std::fs::write(&path, &value).map_err(|error| about(&path, &error))?;
    }
    Ok(())
}

fn remove_directory(path: &Path) -> io::Result<()> {
    match std::fs::remove_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(about(path, &error)),
        _ => Ok(()),
    }
}

fn about(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn spec() -> CgroupSpec {
        CgroupSpec {
            task_id: "t1".into(),
            cpu_us_per_second: Some(1_500_000),
            cpu_shares: 512,
            memory_bytes: Some(64 << 20),
            pids: Some(100),
        }
    }

    /// Every file below, with what it holds.
    fn tree(root: &Path) -> Vec<String> {
        let mut found = Vec::new();
        let mut open = vec![root.to_owned()];
        while let Some(directory) = open.pop() {
            for entry in std::fs::read_dir(directory).unwrap() {
                let entry = entry.unwrap();
                let (path, kind): (PathBuf, _) = (entry.path(), entry.file_type().unwrap());
                if kind.is_dir() {
                    open.push(path);
                } else if kind.is_file() {
                    let name = path.strip_prefix(root).unwrap().display().to_string();
                    found.push(format!("{name}: {}", std::fs::read_to_string(&path).unwrap().trim()));
                }
            }
        }
        found.sort();
        found
    }

    #[test]
    fn the_first_version_has_a_directory_for_each_controller() {
        let root = tempfile::tempdir().unwrap();
        for hierarchy in ["cpu", "memory", "pids", "freezer"] {
            std::fs::create_dir(root.path().join(hierarchy)).unwrap();
        }
        std::os::unix::fs::symlink("cpu", root.path().join("cpuacct")).unwrap();
        make_first(root.path(), &spec()).unwrap();
        make_first(root.path(), &spec()).unwrap();
        assert_eq!(
            tree(root.path()),
            [
                "cpu/ecs/t1/cpu.cfs_period_us: 100000",
                "cpu/ecs/t1/cpu.cfs_quota_us: 150000",
                "cpu/ecs/t1/cpu.shares: 512",
                "memory/ecs/memory.use_hierarchy: 1",
                "memory/ecs/t1/memory.limit_in_bytes: 67108864",
                "pids/ecs/t1/pids.max: 100",
            ]
        );
    }

    #[test]
    fn a_task_is_removed_from_every_hierarchy() {
        let root = tempfile::tempdir().unwrap();
        for hierarchy in ["cpu", "memory", "freezer"] {
            std::fs::create_dir_all(root.path().join(hierarchy).join("ecs/t1")).unwrap();
            std::fs::create_dir_all(root.path().join(hierarchy).join("ecs/t2")).unwrap();
        }
        remove_first(root.path(), "t1").unwrap();
        remove_first(root.path(), "t1").unwrap();
        for hierarchy in ["cpu", "memory", "freezer"] {
            let parent = root.path().join(hierarchy).join("ecs");
            assert!(!parent.join("t1").exists() && parent.join("t2").exists());
        }
    }

    #[test]
    fn a_controller_that_is_missing_is_named_if_it_is_needed() {
        let root = tempfile::tempdir().unwrap();
        for hierarchy in ["cpu", "memory"] {
            std::fs::create_dir(root.path().join(hierarchy)).unwrap();
        }
        make_first(root.path(), &CgroupSpec { pids: None, ..spec() }).unwrap();
        let error = make_first(root.path(), &spec()).unwrap_err().to_string();
        assert!(error.contains("pids"), "{error}");
    }

    #[test]
    fn the_second_version_has_one_directory_and_hands_controllers_down() {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("cgroup.controllers"), "cpuset cpu io memory pids\n").unwrap();
        make_second(root.path(), &spec()).unwrap();
        make_second(root.path(), &spec()).unwrap();
        assert_eq!(
            tree(root.path()),
            [
                "cgroup.controllers: cpuset cpu io memory pids",
                "cgroup.subtree_control: +cpu +memory +pids",
                "ecs/cgroup.subtree_control: +cpu +memory +pids",
                "ecs/t1/cpu.max: 150000 100000",
                "ecs/t1/cpu.weight: 20",
                "ecs/t1/memory.max: 67108864",
                "ecs/t1/pids.max: 100",
            ]
        );
        assert!(remove_second(root.path(), "t1").is_err(), "a directory of a test holds files");
        remove_second(root.path(), "t2").unwrap();
    }

    #[test]
    fn weights_span_what_shares_span() {
        for (shares, expected) in [(0, 1), (2, 1), (1024, 39), (262_144, 10_000)] {
            assert_eq!(weight(shares), expected);
        }
    }
}
