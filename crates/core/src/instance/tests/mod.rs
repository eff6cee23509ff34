//! What the cell promises about machines: loss and return, draining and deregistration.

mod loss;
mod random;
mod shown;
mod states;

use longshore_api::ecs::Operation::{DescribeContainerInstances, RegisterTaskDefinition};
use serde_json::{Value, json};

use crate::cell::{Command, Effect, Outcome};
use crate::decision::Decision;
use crate::fixture::{Lab, definition, offer};
use crate::ids::{InstanceKey, SessionId};

/// An instance with its agent's session.
#[derive(Clone, Debug)]
struct Machine {
    agent: u32,
    arn: String,
    key: InstanceKey,
    session: SessionId,
}

/// A lab with connected instances, each on a host of its own, numbered from 1; and a small definition `web`.
fn lab(machines: u32) -> (Lab, Vec<Machine>) {
    let mut lab = Lab::new();
    lab.ok(0, RegisterTaskDefinition, &definition("web", 10, 10, &[]));
    let machines = (1..=machines).map(|agent| machine(&mut lab, agent, &format!("host-{agent}"))).collect();
    (lab, machines)
}

fn machine(lab: &mut Lab, agent: u32, host: &str) -> Machine {
    let arn = lab.register(agent, &offer(host, 10_000, 10_000));
    let (key, session) = lab.connect(agent, &arn);
    Machine { agent, arn, key, session }
}

/// The agent falls silent, having been heard of until now.
fn vanish(lab: &mut Lab, machine: &Machine) -> Vec<Effect> {
    lab.disconnect(machine.key, machine.session).effects
}

/// The agent opens a session; answers all that came of it.
fn come_back(lab: &mut Lab, machine: &mut Machine) -> Outcome {
    let command = lab.opened(machine.agent, &machine.arn);
    if let Command::SessionOpened { session, .. } = &command {
        machine.session = *session;
    }
    lab.apply(command)
}

fn notes(effects: &[Effect]) -> Vec<Decision> {
    let note = |effect: &Effect| match effect {
        Effect::Note(decision) => Some(decision.clone()),
        _ => None,
    };
    effects.iter().filter_map(note).collect()
}

/// The instance as DescribeContainerInstances shows it.
fn described(lab: &mut Lab, machine: &Machine) -> Value {
    lab.cell.snapshot();
    let answer = lab.ok(0, DescribeContainerInstances, &json!({"containerInstances": [machine.arn]}));
    answer["containerInstances"][0].clone()
}

fn is_lost(lab: &mut Lab, machine: &Machine) -> bool {
    let snapshot = lab.cell.snapshot();
    snapshot.instances().any(|instance| instance.key == machine.key && instance.lost_at.is_some())
}

/// Runs `web` until each of the machines has a task; answers one for each.
fn task_on_each(lab: &mut Lab, machines: &[Machine]) -> Vec<String> {
    let mut found: Vec<Option<String>> = vec![None; machines.len()];
    while found.iter().any(Option::is_none) {
        let task = lab.run("web");
        let on = lab.describe(&task)["containerInstanceArn"].clone();
        if let Some(at) = machines.iter().position(|machine| on == machine.arn.as_str()) {
            found[at].get_or_insert(task);
        }
    }
    found.into_iter().flatten().collect()
}
