//! An explanation of placement in sentences: what the instances say together, and what to do about it.

use std::collections::BTreeMap;

use longshore_api::admin::{Amount, ExplainPlacementResponse, InstanceVerdict, PlacementRefusal, RefusalCount};

use super::Refusal;
use crate::network::TASK_ENI;
use crate::resources::{HostPort, Protocol};

/// What our agent and ECS call the things that an instance can do.
const CAPABILITY: &str = "com.amazonaws.ecs.capability.";

/// How many instances refuse for each reason, most first.
pub(super) fn count(instances: &[InstanceVerdict]) -> Vec<RefusalCount> {
    let mut counts: BTreeMap<&str, i64> = BTreeMap::new();
    for instance in instances {
        let mut reasons: Vec<&str> = instance.refusals.iter().map(|refusal| refusal.reason.as_str()).collect();
        reasons.dedup();
        for reason in reasons {
            *counts.entry(reason).or_insert(0) += 1;
        }
    }
    let mut counts: Vec<RefusalCount> =
        counts.into_iter().map(|(reason, instances)| RefusalCount { reason: reason.to_owned(), instances }).collect();
    counts.sort_by_key(|count| -count.instances);
    counts
}

/// The whole in one sentence.
pub(super) fn verdict(asked: &ExplainPlacementResponse, instances: &[InstanceVerdict]) -> String {
    let open = instances.iter().filter(|instance| instance.copies > 0).count();
    let all = plural(instances.len(), "container instance");
    match (asked.count, asked.placeable) {
        _ if instances.is_empty() => format!("Nothing fits: cluster {} has no container instances.", asked.cluster),
        (_, 0) => format!("Nothing fits: cluster {} has {all}, and none takes a copy.", asked.cluster),
        (1, _) => format!("It fits: {open} of {all} would take it."),
        (count, fit) if fit == count => format!("All {count} copies fit: {open} of {all} take some."),
        (count, fit) => format!("Only {fit} of {count} copies fit: {open} of {all} take some."),
    }
}

/// What to do, most useful first: what stands alone in the way of an instance comes before what is one reason of many.
pub(super) fn advice(asked: &ExplainPlacementResponse, instances: &[InstanceVerdict]) -> Vec<String> {
    if asked.placeable >= asked.count {
        return Vec::new();
    }
    if instances.is_empty() {
        return vec![format!(
            "Add a machine: `longshore token create --cluster {}` prints what to type there.",
            asked.cluster
        )];
    }
    let mut advice = missing_everywhere(instances);
    let impossible = !advice.is_empty();
    let mut reasons: Vec<(&str, i64)> = asked
        .refused
        .iter()
        .map(|count| {
            let alone =
                instances.iter().filter(|one| one.refusals.iter().all(|refusal| refusal.reason == count.reason));
            let alone = alone.filter(|one| !one.refusals.is_empty()).count() as i64;
            (count.reason.as_str(), alone)
        })
        .collect();
    // Stable: among equals the more frequent reason stays first.
    reasons.sort_by_key(|(_, alone)| -alone);
    for (reason, _) in reasons {
        advice.extend(about(reason, asked, instances, impossible));
    }
    // Copies that fill whatever there is are refused by nobody yet.
    if asked.placeable > 0 {
        advice.push(format!(
            "{} more would fit with more room: add a machine, or ask for fewer copies.",
            plural((asked.count - asked.placeable).unsigned_abs() as usize, "copy")
        ));
    }
    advice
}

/// Attributes that no instance has: without them everything else is in vain.
fn missing_everywhere(instances: &[InstanceVerdict]) -> Vec<String> {
    let Some(first) = instances.first() else { return Vec::new() };
    let lacked_by = |one: &InstanceVerdict, wanted: &PlacementRefusal| {
        one.refusals.iter().any(|refusal| refusal.attribute.is_some() && refusal.attribute == wanted.attribute)
    };
    let wanted = first.refusals.iter().filter(|refusal| refusal.attribute.is_some());
    let nowhere = wanted.filter(|wanted| instances.iter().all(|one| lacked_by(one, wanted)));
    nowhere
        .filter_map(|refusal| refusal.attribute.as_ref())
        .map(|attribute| {
            let value = attribute.value.as_ref().map_or_else(String::new, |value| format!(" = {value}"));
            format!("No instance offers attribute {}{value}: {}.", attribute.name, how_to_offer(&attribute.name))
        })
        .collect()
}

fn about(
    reason: &str,
    asked: &ExplainPlacementResponse,
    instances: &[InstanceVerdict],
    impossible: bool,
) -> Vec<String> {
    let of_reason = || instances.iter().flat_map(|one| &one.refusals).filter(|refusal| refusal.reason == reason);
    let refusing = asked.refused.iter().find(|count| count.reason == reason).map_or(0, |count| count.instances);
    let refusing = plural(usize::try_from(refusing).unwrap_or(0), "instance");
    if reason == (Refusal::Cpu { missing: 0 }).reason() {
        return vec![too_little("CPU units", asked.needs.cpu, instances, |one| one.cpu)];
    }
    if reason == (Refusal::Memory { missing: 0 }).reason() {
        return vec![too_little("MiB of memory", asked.needs.memory, instances, |one| one.memory)];
    }
    if reason == (Refusal::Port { port: HostPort { port: 0, protocol: Protocol::Tcp } }).reason() {
        let held = of_reason().find(|refusal| refusal.held_by.is_some()).or_else(|| of_reason().next());
        return held.map(port_taken).into_iter().collect();
    }
    if reason == (Refusal::Attribute { name: String::new() }).reason() {
        if impossible {
            return Vec::new();
        }
        let mut names: Vec<&str> =
            of_reason().filter_map(|refusal| refusal.attribute.as_ref()).map(|wanted| wanted.name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        let each = names.into_iter().map(|name| format!("Some lack attribute {name}: {}.", how_to_offer(name)));
        let elsewhere = of_reason().any(|refusal| refusal.attribute.is_none());
        let elsewhere =
            elsewhere.then(|| "Some are in a zone that no subnet is for: name a subnet of their zone.".to_owned());
        return each.chain(elsewhere).collect();
    }
    if reason == Refusal::Addresses.reason() {
        return vec![format!(
            "The subnets have no free address for {refusing}: name another one, configure a larger one (`longshore server \
             --subnet`), or stop tasks."
        )];
    }
    if reason == (Refusal::MemberOf { expression: "".into() }).reason() {
        let expressions = asked.needs.member_of.join(" and ");
        return vec![format!(
            "{refusing} {} not satisfy the placement constraints ({expressions}): `aws ecs list-container-instances --filter` \
             tells who satisfies an expression, and `aws ecs put-attributes` gives instances attributes.",
            if refusing.starts_with("1 ") { "does" } else { "do" }
        )];
    }
    if reason == (Refusal::DistinctInstance { group: "".into() }).reason() {
        return vec![format!(
            "distinctInstance: {refusing} {} a task of the group {} already. Add a machine, stop one, or name another group.",
            if refusing.starts_with("1 ") { "has" } else { "have" },
            asked.needs.distinct_from.as_deref().unwrap_or_default()
        )];
    }
    if reason == Refusal::Agent.reason() {
        return vec![format!(
            "The agent of {refusing} is not connected: start it there (`longshore agent`); `longshore instance list` says \
             since when it is gone."
        )];
    }
    vec![format!(
        "Nothing new is placed on {refusing} that {} not ACTIVE: `longshore agent drain --undo` there, or `aws ecs \
         update-container-instances-state --status ACTIVE`, takes a DRAINING one back.",
        if refusing.starts_with("1 ") { "is" } else { "are" }
    )]
}

fn too_little(
    what: &str,
    wanted: i64,
    instances: &[InstanceVerdict],
    amount: fn(&InstanceVerdict) -> Amount,
) -> String {
    let largest = instances.iter().map(|one| amount(one).registered).max().unwrap_or(0);
    if wanted > largest {
        return format!(
            "{wanted} {what} are wanted, and the largest instance has {largest} when it is empty: ask for less, or add a \
             larger machine."
        );
    }
    let Some(best) = instances.iter().max_by_key(|one| amount(one).free) else { return String::new() };
    format!(
        "{wanted} {what} are wanted, and at most {} are free ({}): stop tasks, add a machine, or ask for less.",
        amount(best).free,
        short(&best.container_instance_arn)
    )
}

fn port_taken(refusal: &PlacementRefusal) -> String {
    let port = refusal.port.as_deref().unwrap_or_default();
    let freely = "or leave hostPort out, and Docker chooses one that is free";
    match &refusal.held_by {
        Some(task) => {
            format!("Host port {port} is held by task {}: stop it, add a machine, {freely}.", short(task))
        }
        None => format!("Host port {port} is kept by the instances for themselves: choose another, {freely}."),
    }
}

/// Where an attribute comes from.
fn how_to_offer(name: &str) -> String {
    if let Some(capability) = name.strip_prefix(CAPABILITY) {
        if let Some(driver) = capability.strip_prefix("logging-driver.") {
            return format!(
                "add \"{driver}\" to ECS_AVAILABLE_LOGGING_DRIVERS of an agent whose Docker has that log driver, and start \
                 it again; or choose another one"
            );
        }
        if let Some(version) = capability.strip_prefix("docker-remote-api.") {
            return format!("it takes a Docker Engine with API {version} or later");
        }
        return match capability {
            "privileged-container" => {
                "privileged containers were switched off there by ECS_DISABLE_PRIVILEGED".to_owned()
            }
            "apparmor" => "set ECS_APPARMOR_CAPABLE=true where the kernel has AppArmor".to_owned(),
            "selinux" => "set ECS_SELINUX_CAPABLE=true where the kernel has SELinux".to_owned(),
            _ => unable(),
        };
    }
    match name {
        "ecs.cpu-architecture" => {
            "add a machine of that architecture, or change runtimePlatform of the task definition".to_owned()
        }
        TASK_ENI => {
            "networkMode awsvpc takes Longshore's own agent, run as root where it can make network interfaces; the official \
             agent offers them at EC2 alone"
                .to_owned()
        }
        _ if name.starts_with("ecs.capability.") => unable(),
        _ => format!(
            "`aws ecs put-attributes` gives it to an instance, and `longshore agent --attribute {name}=VALUE` to a new one"
        ),
    }
}

fn unable() -> String {
    "it takes an agent that can do this; else leave out of the task definition what needs it".to_owned()
}

/// What is last in an ARN.
pub(super) fn short(arn: &str) -> &str {
    arn.rsplit('/').next().unwrap_or(arn)
}

fn plural(count: usize, noun: &str) -> String {
    match (count, noun.strip_suffix('y')) {
        (1, _) => format!("1 {noun}"),
        (_, Some(stem)) => format!("{count} {stem}ies"),
        (_, None) => format!("{count} {noun}s"),
    }
}
