//! Cgroups as slices, where systemd keeps the hierarchy: it would undo what others write there, so it is asked.

use std::io;

use tokio::process::Command;

use super::files::weight;
use crate::engine::CgroupSpec;

/// Speaks to systemd; it comes with it.
const BUSCTL: &str = "busctl";
/// Of all slices of tasks. systemd reads the part before a hyphen as the parent slice.
const PREFIX: &str = "ecstasks";

/// The slice of a task. A hyphen in its id would be another level.
fn slice(task_id: &str) -> String {
    format!("{PREFIX}-{}.slice", task_id.replace('-', ""))
}

pub(super) async fn make(spec: &CgroupSpec) -> io::Result<String> {
    match call(&start(spec)).await {
        Err(error) if error.to_string().contains("already") => call(&set(spec)).await?,
        other => other?,
    }
    Ok(slice(&spec.task_id))
}

pub(super) async fn remove(task_id: &str) -> io::Result<()> {
    match call(&stop(task_id)).await {
        Err(error) if error.to_string().contains("not loaded") => Ok(()),
        other => other,
    }
}

/// Name, type and value of each limit.
fn properties(spec: &CgroupSpec) -> Vec<String> {
    let limits = [
        ("CPUWeight", Some(weight(spec.cpu_shares))),
        ("CPUQuotaPerSecUSec", spec.cpu_us_per_second),
        ("MemoryMax", spec.memory_bytes),
        ("TasksMax", spec.pids),
    ];
    let set: Vec<(&str, u64)> = limits.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
    let listed = set.iter().flat_map(|(name, value)| [(*name).to_owned(), "t".to_owned(), value.to_string()]);
    [set.len().to_string()].into_iter().chain(listed).collect()
}

fn method(name: &str, signature: &str, arguments: Vec<String>) -> Vec<String> {
    const MANAGER: [&str; 4] =
        ["call", "org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager"];
    let head = MANAGER.into_iter().chain([name, signature]).map(str::to_owned);
    head.chain(arguments).collect()
}

fn start(spec: &CgroupSpec) -> Vec<String> {
    let mut arguments = vec![slice(&spec.task_id), "fail".to_owned()];
    arguments.extend(properties(spec));
    // No units that belong to it.
    arguments.push("0".to_owned());
    method("StartTransientUnit", "ssa(sv)a(sa(sv))", arguments)
}

/// Of a slice that exists already.
fn set(spec: &CgroupSpec) -> Vec<String> {
    let mut arguments = vec![slice(&spec.task_id), "true".to_owned()];
    arguments.extend(properties(spec));
    method("SetUnitProperties", "sba(sv)", arguments)
}

fn stop(task_id: &str) -> Vec<String> {
    method("StopUnit", "ss", vec![slice(task_id), "fail".to_owned()])
}

async fn call(arguments: &[String]) -> io::Result<()> {
    let output = Command::new(BUSCTL).args(arguments).kill_on_drop(true).output().await.map_err(|error| {
        io::Error::new(error.kind(), format!("{BUSCTL}, which asks systemd, cannot be run: {error}"))
    })?;
    if output.status.success() {
        return Ok(());
    }
    Err(io::Error::other(format!("systemd: {}", String::from_utf8_lossy(&output.stderr).trim())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn systemd_is_asked_for_a_slice_with_the_limits() {
        let spec = CgroupSpec {
            task_id: "0a-1b".into(),
            cpu_us_per_second: Some(250_000),
            cpu_shares: 1024,
            memory_bytes: Some(64 << 20),
            pids: None,
        };
        let manager = "call org.freedesktop.systemd1 /org/freedesktop/systemd1 org.freedesktop.systemd1.Manager";
        let limits = "3 CPUWeight t 39 CPUQuotaPerSecUSec t 250000 MemoryMax t 67108864";
        assert_eq!(
            start(&spec).join(" "),
            format!("{manager} StartTransientUnit ssa(sv)a(sa(sv)) ecstasks-0a1b.slice fail {limits} 0")
        );
        assert_eq!(
            set(&spec).join(" "),
            format!("{manager} SetUnitProperties sba(sv) ecstasks-0a1b.slice true {limits}")
        );
        assert_eq!(stop("0a-1b").join(" "), format!("{manager} StopUnit ss ecstasks-0a1b.slice fail"));
    }
}
