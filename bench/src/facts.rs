//! The machine and the commit that figures are of.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::docker;

/// One Markdown list item per fact.
pub(crate) fn machine() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let engine = runtime.block_on(docker::version());
    let text = |name: &str| engine[name].as_str().unwrap_or("?").to_owned();
    [
        format!("- commit: {}", commit()),
        format!("- date: {}", jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M UTC")),
        format!(
            "- machine: {cores} cores ({}), {}",
            field(&read("/proc/cpuinfo"), "model name"),
            memory(&read("/proc/meminfo"))
        ),
        format!("- kernel: {}", read("/proc/sys/kernel/osrelease").trim()),
        format!("- Docker Engine: {}, API {}", text("Version"), text("ApiVersion")),
        format!("- disk: {}", disk(&read("/proc/self/mountinfo"))),
    ]
    .join("\n")
}

/// Load averages, to judge by how much the machine did beside the benchmarks.
pub(crate) fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().take(3).collect::<Vec<_>>().join(" ")
}

fn commit() -> String {
    let git = |arguments: &[&str]| {
        let done = Command::new("git").args(arguments).output().ok().filter(|done| done.status.success())?;
        Some(String::from_utf8_lossy(&done.stdout).trim().to_owned())
    };
    let changed = git(&["status", "--porcelain"]).is_some_and(|changes| !changes.is_empty());
    match git(&["rev-parse", "HEAD"]) {
        Some(hash) if changed => format!("{hash}, and changes since"),
        Some(hash) => hash,
        None => "none yet".to_owned(),
    }
}

fn field(text: &str, name: &str) -> String {
    let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
    line.split_once(':').map_or("unknown", |(_, value)| value.trim()).to_owned()
}

fn memory(meminfo: &str) -> String {
    let total = field(meminfo, "MemTotal");
    let kib: u64 = total.split_whitespace().next().and_then(|kib| kib.parse().ok()).unwrap_or_default();
    format!("{} MiB of memory", kib / 1024)
}

/// The mount that the working directory is on: the longest mount point that is a parent of it.
fn disk(mounts: &str) -> String {
    let here = std::env::current_dir().unwrap_or_default();
    let parsed = mounts.lines().filter_map(|line| {
        let (mount, system) = line.split_once(" - ")?;
        let (point, mut system) = (mount.split(' ').nth(4)?, system.split(' '));
        here.starts_with(Path::new(point)).then_some((point.len(), system.next()?, system.next()?))
    });
    parsed.max().map_or("unknown".to_owned(), |(_, kind, source)| format!("{kind} on {source}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_disk_is_that_of_the_deepest_mount() {
        let mounts = "1 0 8:1 / / rw - ext4 /dev/a rw\n2 1 0:9 / /nowhere rw - tmpfs none rw\n";
        assert_eq!(disk(mounts), "ext4 on /dev/a");
    }

    #[test]
    fn memory_is_read_in_mib() {
        assert_eq!(memory("MemTotal:       2048 kB\n"), "2 MiB of memory");
    }
}
