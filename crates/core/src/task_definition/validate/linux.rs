//! Rules for what reaches down to the kernel: capabilities, devices, tmpfs, swap, ulimits, sysctls, security options.

use std::collections::BTreeSet;

use longshore_api::ApiError;
use longshore_api::ecs::types::{
    ContainerDefinition, IpcMode, LinuxParameters, NetworkMode, RegisterTaskDefinitionRequest,
};

use super::{Task, invalid};
use crate::resources::MemoryMib;

/// Kernel capabilities that ECS knows.
const CAPABILITIES: &[&str] = &[
    "ALL",
    "AUDIT_CONTROL",
    "AUDIT_WRITE",
    "BLOCK_SUSPEND",
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "IPC_LOCK",
    "IPC_OWNER",
    "KILL",
    "LEASE",
    "LINUX_IMMUTABLE",
    "MAC_ADMIN",
    "MAC_OVERRIDE",
    "MKNOD",
    "NET_ADMIN",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_RAW",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_CHROOT",
    "SYS_MODULE",
    "SYS_NICE",
    "SYS_PACCT",
    "SYS_PTRACE",
    "SYS_RAWIO",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "SYSLOG",
    "WAKE_ALARM",
];

/// Mount options of a tmpfs that ECS knows; the last six take a value.
const TMPFS_OPTIONS: &[&str] = &[
    "defaults",
    "ro",
    "rw",
    "suid",
    "nosuid",
    "dev",
    "nodev",
    "exec",
    "noexec",
    "sync",
    "async",
    "dirsync",
    "remount",
    "mand",
    "nomand",
    "atime",
    "noatime",
    "diratime",
    "nodiratime",
    "bind",
    "rbind",
    "unbindable",
    "runbindable",
    "private",
    "rprivate",
    "shared",
    "rshared",
    "slave",
    "rslave",
    "relatime",
    "norelatime",
    "strictatime",
    "nostrictatime",
    "mode",
    "uid",
    "gid",
    "nr_inodes",
    "nr_blocks",
    "mpol",
];

/// Sysctls of the IPC namespace; those of `fs.mqueue.` belong to it too.
const IPC_SYSCTLS: &[&str] = &[
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "kernel.shm_rmid_forced",
];

pub(super) fn check(
    container: &ContainerDefinition,
    request: &RegisterTaskDefinitionRequest,
    task: &Task,
) -> Result<(), ApiError> {
    if let Some(linux) = &container.linux_parameters {
        check_capabilities(container, linux)?;
        check_devices(container, linux)?;
        check_memory(container, linux)?;
        check_tmpfs(container, linux)?;
    }
    check_ulimits(container)?;
    check_sysctls(container, request, task)?;
    match container.docker_security_options.iter().flatten().find(|option| !is_security_option(option)) {
        Some(option) => {
            let why =
                format!("'{option}' must be no-new-privileges, apparmor:PROFILE, label:VALUE or credentialspec:FILE.");
            Err(invalid(container, "dockerSecurityOptions", why))
        }
        None => Ok(()),
    }
}

/// One of the security systems that ECS knows, with a value. Docker takes `=` for the colon too.
fn is_security_option(option: &str) -> bool {
    let (system, value) = option.split_once([':', '=']).unwrap_or((option, ""));
    match system {
        "no-new-privileges" => matches!(value, "" | "true" | "false"),
        "apparmor" | "label" | "credentialspec" => !value.is_empty(),
        _ => false,
    }
}

fn check_capabilities(container: &ContainerDefinition, linux: &LinuxParameters) -> Result<(), ApiError> {
    let Some(capabilities) = &linux.capabilities else {
        return Ok(());
    };
    let add = capabilities.add.as_deref().unwrap_or_default();
    let drop = capabilities.drop.as_deref().unwrap_or_default();
    match add.iter().chain(drop).find(|capability| !CAPABILITIES.contains(&capability.as_str())) {
        Some(unknown) => {
            let why = format!("'{unknown}' is not a kernel capability; names are written without CAP_.");
            Err(invalid(container, "linuxParameters.capabilities", why))
        }
        None => Ok(()),
    }
}

fn check_devices(container: &ContainerDefinition, linux: &LinuxParameters) -> Result<(), ApiError> {
    for device in linux.devices.as_deref().unwrap_or_default() {
        let inside = device.container_path.as_deref().unwrap_or(&device.host_path);
        if !device.host_path.starts_with('/') || !inside.starts_with('/') {
            let why = format!("'{}' and '{inside}' must be absolute paths.", device.host_path);
            return Err(invalid(container, "linuxParameters.devices", why));
        }
    }
    Ok(())
}

fn check_memory(container: &ContainerDefinition, linux: &LinuxParameters) -> Result<(), ApiError> {
    if linux.shared_memory_size.is_some_and(|mib| mib < 1) {
        return Err(invalid(container, "linuxParameters.sharedMemorySize", "It must be at least 1 MiB."));
    }
    if linux.max_swap.is_some_and(|mib| mib < 0) {
        return Err(invalid(container, "linuxParameters.maxSwap", "It must be 0 or greater."));
    }
    if linux.max_swap.is_some() && MemoryMib::from_document(container.memory).is_none() {
        let why = "It is added to 'memory' of the container, which must be specified with it.";
        return Err(invalid(container, "linuxParameters.maxSwap", why));
    }
    if linux.swappiness.is_some_and(|value| !(0..=100).contains(&value)) {
        return Err(invalid(container, "linuxParameters.swappiness", "It must be between 0 and 100."));
    }
    Ok(())
}

fn check_tmpfs(container: &ContainerDefinition, linux: &LinuxParameters) -> Result<(), ApiError> {
    let refuse = |why: String| Err(invalid(container, "linuxParameters.tmpfs", why));
    let mut paths = BTreeSet::new();
    for tmpfs in linux.tmpfs.as_deref().unwrap_or_default() {
        if !tmpfs.container_path.starts_with('/') || !paths.insert(tmpfs.container_path.as_str()) {
            return refuse(format!("'{}' must be an absolute path that is there once.", tmpfs.container_path));
        }
        if tmpfs.size < 1 {
            return refuse(format!("'size' of '{}' must be at least 1 MiB.", tmpfs.container_path));
        }
        for option in tmpfs.mount_options.as_deref().unwrap_or_default() {
            let (key, value) = option.split_once('=').unwrap_or((option, ""));
            if !TMPFS_OPTIONS.contains(&key) || value.contains(',') {
                return refuse(format!("'{option}' is not a mount option of a tmpfs."));
            }
        }
    }
    Ok(())
}

fn check_ulimits(container: &ContainerDefinition) -> Result<(), ApiError> {
    let mut seen = BTreeSet::new();
    for ulimit in container.ulimits.as_deref().unwrap_or_default() {
        let (soft, hard) = (ulimit.soft_limit, ulimit.hard_limit);
        // -1 is no limit at all.
        if soft < -1 || hard < -1 || (hard != -1 && (soft == -1 || soft > hard)) {
            let why = format!("'softLimit' {soft} of '{}' cannot be greater than 'hardLimit' {hard}.", ulimit.name);
            return Err(invalid(container, "ulimits", why));
        }
        if !seen.insert(ulimit.name.as_str()) {
            return Err(invalid(container, "ulimits", format!("'{}' is there twice.", ulimit.name)));
        }
    }
    Ok(())
}

fn check_sysctls(
    container: &ContainerDefinition,
    request: &RegisterTaskDefinitionRequest,
    task: &Task,
) -> Result<(), ApiError> {
    let refuse = |why: String| Err(invalid(container, "systemControls", why));
    let mut seen = BTreeSet::new();
    for control in container.system_controls.as_deref().unwrap_or_default() {
        let sysctl = control.namespace.as_deref().unwrap_or_default();
        let of_network = sysctl.starts_with("net.");
        let of_ipc = IPC_SYSCTLS.contains(&sysctl) || sysctl.starts_with("fs.mqueue.");
        if !of_network && !of_ipc {
            return refuse(format!("'{sysctl}' is not a sysctl that has a namespace of its own."));
        }
        if control.value.as_deref().unwrap_or_default().is_empty() {
            return refuse(format!("'{sysctl}' has no value."));
        }
        if of_network && task.mode == NetworkMode::Host {
            return refuse(format!("'{sysctl}' is not supported when networkMode=host."));
        }
        if of_ipc && request.ipc_mode == Some(IpcMode::Host) {
            return refuse(format!("'{sysctl}' is not supported when ipcMode=host."));
        }
        if !seen.insert(sysctl) {
            return refuse(format!("'{sysctl}' is there twice."));
        }
    }
    Ok(())
}
