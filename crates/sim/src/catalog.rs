//! The task definitions that clients run, and what their containers do.

use longshore_api::ecs::{Operation, Request};
use serde_json::{Value, json};

use crate::random::Random;

/// What a container does, told by the name of its image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Behaviour {
    /// It runs until it is stopped.
    Forever,
    /// It ends by itself, well or badly.
    Ends,
    /// It does its work and ends with 0.
    Job,
    /// It ends by itself, well or badly, and is restarted if it ran long enough: see [`RESTARTS`].
    Restarts,
    /// It is killed for its use of memory.
    OutOfMemory,
    /// It becomes healthy after a while.
    Healthy,
    SlowPull,
    FlakyPull,
    NoSuchImage,
    NoCreate,
    NoStart,
}

impl Behaviour {
    pub(crate) fn of(image: &str) -> Self {
        match image {
            "sim/ends" => Self::Ends,
            "sim/job" => Self::Job,
            "sim/restarts" => Self::Restarts,
            "sim/oom" => Self::OutOfMemory,
            "sim/healthy" => Self::Healthy,
            "sim/slow-pull" => Self::SlowPull,
            "sim/flaky-pull" => Self::FlakyPull,
            "sim/missing" => Self::NoSuchImage,
            "sim/no-create" => Self::NoCreate,
            "sim/no-start" => Self::NoStart,
            _ => Self::Forever,
        }
    }

    pub(crate) fn checks_health(self) -> bool {
        self == Self::Healthy
    }

    /// Its restart policy, if its task definitions give it one.
    pub(crate) fn restart_policy(self) -> Option<RestartPolicy> {
        (self == Self::Restarts).then_some(RESTARTS)
    }

    /// How it ends by itself when it was started so often: exit code, whether memory was the reason, and after how long.
    pub(crate) fn end(self, random: &mut Random, starts: u32) -> Option<(i32, bool, i64)> {
        match self {
            Self::Ends => Some((random.between(0, 3) as i32, false, random.between(1, 60_000))),
            Self::Job => Some((0, false, random.between(1, 5_000))),
            Self::Restarts => {
                let (code, lasts) = (random.between(0, 3) as i32, random.between(40_000, 100_000));
                Some((if starts < MOST_STARTS { code } else { RESTARTS.ignored }, false, lasts))
            }
            Self::OutOfMemory => Some((137, true, random.between(100, 20_000))),
            Self::Forever
            | Self::Healthy
            | Self::SlowPull
            | Self::FlakyPull
            | Self::NoSuchImage
            | Self::NoCreate
            | Self::NoStart => None,
        }
    }
}

/// A restart policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RestartPolicy {
    /// So long it must have run.
    pub(crate) period_ms: i64,
    /// The exit code after which it is not restarted.
    pub(crate) ignored: i32,
}

/// The policy of all containers that have one; ECS allows no shorter period.
const RESTARTS: RestartPolicy = RestartPolicy { period_ms: 60_000, ignored: 3 };

/// Then it ends in a way that is not followed by another one: everything must have come to rest some time after the storm.
const MOST_STARTS: u32 = 5;

/// The clusters in which instances are. Most are in the first.
pub(crate) const CLUSTERS: [&str; 2] = ["default", "other"];

/// The families, in the order in which they are registered.
pub(crate) const FAMILIES: [&str; 10] =
    ["web", "fixed", "batch", "trio", "pipeline", "checked", "greedy", "broken", "slow", "restarted"];

/// Those that need nothing of an instance but CPU and memory.
pub(crate) const PLAIN: [&str; 4] = ["web", "batch", "greedy", "slow"];

/// The request that registers a family.
pub(crate) fn register(family: &str) -> Option<Request> {
    let container = |name: &str, image: &str, cpu: i64, memory: i64| json!({"name": name, "image": image, "cpu": cpu, "memory": memory});
    let with = |mut container: Value, member: &str, value: Value| {
        container[member] = value;
        container
    };
    let containers = match family {
        "web" => vec![with(container("web", "sim/forever", 100, 64), "portMappings", json!([{"containerPort": 80}]))],
        "fixed" => {
            let ports = json!([{"containerPort": 80, "hostPort": 8080}, {"containerPort": 53, "hostPort": 5353, "protocol": "udp"}]);
            vec![with(container("fixed", "sim/forever", 50, 32), "portMappings", ports)]
        }
        "batch" => vec![container("job", "sim/ends", 200, 100)],
        "trio" => {
            let log = with(container("log", "sim/ends", 10, 16), "essential", json!(false));
            let proxy = with(
                container("proxy", "sim/forever", 10, 16),
                "dependsOn",
                json!([{"containerName": "app", "condition": "START"}]),
            );
            vec![container("app", "sim/forever", 64, 64), log, proxy]
        }
        "pipeline" => {
            let first = with(container("first", "sim/job", 10, 16), "essential", json!(false));
            let second = with(
                container("second", "sim/ends", 10, 16),
                "dependsOn",
                json!([{"containerName": "first", "condition": "SUCCESS"}]),
            );
            vec![first, second]
        }
        "checked" => {
            let check = json!({"command": ["CMD", "true"]});
            let base = with(container("base", "sim/healthy", 10, 16), "healthCheck", check);
            let top = with(
                container("top", "sim/forever", 10, 16),
                "dependsOn",
                json!([{"containerName": "base", "condition": "HEALTHY"}]),
            );
            vec![base, top]
        }
        "greedy" => vec![container("greedy", "sim/oom", 900, 700)],
        "restarted" => {
            let policy = json!({
                "enabled": true,
                "ignoredExitCodes": [RESTARTS.ignored],
                "restartAttemptPeriod": RESTARTS.period_ms / 1_000,
            });
            vec![with(container("restarted", "sim/restarts", 10, 16), "restartPolicy", policy)]
        }
        "broken" => vec![container("broken", "sim/no-start", 10, 16)],
        _ => vec![container("slow", "sim/slow-pull", 10, 16)],
    };
    request(Operation::RegisterTaskDefinition, &json!({"family": family, "containerDefinitions": containers}))
}

/// The request that registers another revision of a family, with an image of the misbehaving kind.
pub(crate) fn misbehaving(family: &str, image: &str) -> Option<Request> {
    let container = json!({"name": family, "image": image, "cpu": 10, "memory": 16});
    request(Operation::RegisterTaskDefinition, &json!({"family": family, "containerDefinitions": [container]}))
}

/// By what a task is to be placed, now and then.
pub(crate) fn placement(random: &mut Random) -> Vec<(&'static str, Value)> {
    let strategies = [
        json!([{"type": "spread", "field": "instanceId"}]),
        json!([{"type": "binpack", "field": "memory"}]),
        json!([{"type": "spread", "field": "attribute:longshore.host-id"}, {"type": "binpack", "field": "cpu"}]),
    ];
    let constraints = [
        json!([{"type": "distinctInstance"}]),
        json!([{"type": "memberOf", "expression": "runningTasksCount < 4"}]),
        json!([{"type": "memberOf", "expression": "not(task:group == family:greedy)"}]),
    ];
    let mut members = Vec::new();
    if random.per_mille(400) {
        members.extend(random.pick(&strategies).map(|strategy| ("placementStrategy", strategy.clone())));
    }
    if random.per_mille(200) {
        members.extend(random.pick(&constraints).map(|constraint| ("placementConstraints", constraint.clone())));
    }
    members
}

/// The tags by which a task waits for an instance, or ends when it ran too long, now and then. Who waits for long sets no time
/// to run: one after the other they would end and begin while everything is to settle.
pub(crate) fn patience(random: &mut Random) -> Option<Value> {
    let tag = |key: &str, value: &str| json!([{"key": format!("longshore:{key}"), "value": value}]);
    match random.below(100) {
        0..20 => Some(tag("max-wait", "1d")),
        20..40 => random.pick(&["1s", "20s", "1m"]).map(|wait| tag("max-wait", wait)),
        40..50 => random.pick(&["1s", "30s"]).map(|run| tag("max-run", run)),
        _ => None,
    }
}

/// A request as the edge makes it of JSON.
pub(crate) fn request(operation: Operation, document: &Value) -> Option<Request> {
    Request::decode(operation, document).ok()
}
