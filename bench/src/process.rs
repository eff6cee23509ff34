//! What a process costs, as the kernel counts it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;

use rustix::time::{ClockId, clock_gettime};

/// CPU time of this process so far, all threads together, in µs.
pub(crate) fn cpu_us() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 * 1e6 + time.tv_nsec as f64 / 1e3
}

/// What a process uses of the CPU from now on. Exact to the nanosecond, unlike `/proc/PID/stat`, whose clock ticks every
/// 10 ms.
pub(crate) struct CpuMeter {
    pid: u32,
    before: BTreeMap<OsString, Thread>,
}

/// What a thread has used so far.
struct Thread {
    name: String,
    ns: f64,
}

impl CpuMeter {
    pub(crate) fn start(pid: u32) -> Self {
        Self { pid, before: threads(pid) }
    }

    /// CPU time in µs since the start. What a thread that has ended meanwhile used is not in it: runtimes let idle helpers
    /// go.
    pub(crate) fn used_us(&self) -> f64 {
        self.used_us_by_thread().values().sum()
    }

    /// The same by the threads' names.
    pub(crate) fn used_us_by_thread(&self) -> BTreeMap<String, f64> {
        let mut used = BTreeMap::new();
        for (id, now) in threads(self.pid) {
            let before = self.before.get(&id).map_or(0.0, |thread| thread.ns);
            *used.entry(now.name).or_default() += (now.ns - before) / 1e3;
        }
        used
    }
}

fn threads(pid: u32) -> BTreeMap<OsString, Thread> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).expect("a process that runs");
    let of_thread = |thread: fs::DirEntry| {
        let text = fs::read_to_string(thread.path().join("schedstat")).ok()?;
        let ns = text.split_whitespace().next()?.parse().ok()?;
        let name = fs::read_to_string(thread.path().join("comm")).ok()?.trim_end().to_owned();
        Some((thread.file_name(), Thread { name, ns }))
    };
    threads.flatten().filter_map(of_thread).collect()
}

/// Resident memory of a process, in KiB; `None` when it is gone.
pub(crate) fn resident_kib(pid: u32) -> Option<u64> {
    status_kib(pid, "VmRSS:")
}

/// The part of the resident memory that no file stands behind, in KiB: what the process itself made.
pub(crate) fn anonymous_kib(pid: u32) -> Option<u64> {
    status_kib(pid, "RssAnon:")
}

fn status_kib(pid: u32, name: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with(name))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// Both, as a table shows them.
pub(crate) fn memory_text(pid: u32) -> String {
    let mib = |kib: Option<u64>| kib.unwrap_or_default() as f64 / 1024.0;
    format!("{:.1} MiB ({:.1} its own, the rest pages of files)", mib(resident_kib(pid)), mib(anonymous_kib(pid)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_this_process_uses_is_counted() {
        let meter = CpuMeter::start(std::process::id());
        let before = cpu_us();
        while cpu_us() - before < 5_000.0 {}
        assert!(meter.used_us() >= 4_000.0, "{}", meter.used_us());
        let by_thread = meter.used_us_by_thread();
        assert!(by_thread.len() > 1 && by_thread.values().sum::<f64>() >= 4_000.0, "{by_thread:?}");
        assert!(resident_kib(std::process::id()) >= anonymous_kib(std::process::id()));
    }
}
