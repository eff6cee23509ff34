//! `longshore why`: where a task definition could run, and everything that stands in its way elsewhere.

use std::fmt::Write as _;

use longshore_api::Timestamp;
use longshore_api::admin::{
    Amount, ExplainPlacementRequest, ExplainPlacementResponse, InstanceVerdict, NeededAttribute, PlacementRefusal,
    TaskNeeds,
};
use longshore_api::ecs::types::{PlacementConstraint, PlacementConstraintType};

use crate::cli::{Format, WhyArgs};
use crate::error::CliError;
use crate::output::{self, ago_text, print_json};
use crate::reach::Reach;
use crate::table::Table;
use crate::task::last_part;

/// Runs the command.
pub(crate) async fn why(args: &WhyArgs, program: &str) -> Result<(), CliError> {
    let client = Reach::new(&args.reach, program).connect()?.client;
    let request = ExplainPlacementRequest {
        cluster: Some(args.cluster.clone()),
        count: Some(args.count),
        subnets: (!args.subnets.is_empty()).then(|| args.subnets.clone()),
        group: args.group.clone(),
        placement_constraints: Some(constraints(args)),
        task_definition: args.task_definition.clone(),
    };
    let answer = client.explain_placement(&request).await?;
    match args.output.output {
        Format::Json => print_json(&answer)?,
        Format::Table => output::print(&text(&answer, longshore_client::now()))?,
    }
    match answer.placeable >= answer.count {
        true => Ok(()),
        false => Err(CliError::DoesNotFit { placeable: answer.placeable, count: answer.count }),
    }
}

/// The constraints as RunTask takes them.
fn constraints(args: &WhyArgs) -> Vec<PlacementConstraint> {
    let member_of = args.member_of.iter().map(|expression| PlacementConstraint {
        r#type: Some(PlacementConstraintType::MemberOf),
        expression: Some(expression.clone()),
    });
    let apart = PlacementConstraint { r#type: Some(PlacementConstraintType::DistinctInstance), expression: None };
    let distinct = args.distinct_instance.then_some(apart);
    member_of.chain(distinct).collect()
}

fn text(answer: &ExplainPlacementResponse, now: Timestamp) -> String {
    let definition = last_part(Some(&answer.task_definition));
    let mut text = format!("{definition} in cluster {} needs {}\n\n", answer.cluster, needs(&answer.needs));
    if !answer.instances.is_empty() {
        let mut table = Table::new(["INSTANCE", "FITS", "CPU FREE", "MEMORY FREE", "WHY NOT"]);
        for instance in &answer.instances {
            for (index, why_not) in lines(instance, now).into_iter().enumerate() {
                let first = |cell: String| if index == 0 { cell } else { " ".to_owned() };
                table.row([
                    first(last_part(Some(&instance.container_instance_arn)).to_owned()),
                    first(instance.copies.to_string()),
                    first(amount(instance.cpu)),
                    first(amount(instance.memory)),
                    why_not,
                ]);
            }
        }
        text.push_str(&table.text());
        if answer.more_instances {
            let refused: Vec<String> =
                answer.refused.iter().map(|count| format!("{} by {}", count.reason, count.instances)).collect();
            let _ = writeln!(text, "… and more; refused altogether: {}", refused.join(", "));
        }
        text.push('\n');
    }
    let _ = writeln!(text, "{}", answer.verdict);
    for advice in &answer.advice {
        let _ = writeln!(text, "  · {advice}");
    }
    text
}

/// A line for each reason; an empty one for an instance that has none.
fn lines(instance: &InstanceVerdict, now: Timestamp) -> Vec<String> {
    let line = |refusal: &PlacementRefusal| {
        let since = refusal.since.map_or_else(String::new, |since| format!(", last heard {}", ago_text(since, now)));
        format!("{}: {}{since}", refusal.reason, refusal.detail)
    };
    match instance.refusals.as_slice() {
        [] => vec![String::new()],
        refusals => refusals.iter().map(line).collect(),
    }
}

fn needs(needs: &TaskNeeds) -> String {
    let mut text = format!("{} CPU units, {} MiB", needs.cpu, needs.memory);
    if !needs.host_ports.is_empty() {
        let _ = write!(text, ", host ports {}", needs.host_ports.join(" "));
    }
    let attribute = |attribute: &NeededAttribute| {
        attribute.value.as_ref().map_or_else(|| attribute.name.clone(), |value| format!("{}={value}", attribute.name))
    };
    for needed in &needs.attributes {
        let _ = write!(text, ", {}", attribute(needed));
    }
    for expression in &needs.member_of {
        let _ = write!(text, ", where {expression}");
    }
    if let Some(group) = &needs.distinct_from {
        let _ = write!(text, ", beside no task of {group}");
    }
    text
}

fn amount(amount: Amount) -> String {
    format!("{} of {}", amount.free, amount.registered)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(reason: &str, detail: &str) -> PlacementRefusal {
        PlacementRefusal { reason: reason.into(), detail: detail.into(), ..PlacementRefusal::default() }
    }

    fn instance(id: &str, copies: i64, refusals: Vec<PlacementRefusal>) -> InstanceVerdict {
        InstanceVerdict {
            container_instance_arn: format!("arn:aws:ecs:r:1:container-instance/default/{id}"),
            cpu: Amount { free: 10, registered: 1024 },
            memory: Amount { free: 20, registered: 2048 },
            copies,
            refusals,
            ..InstanceVerdict::default()
        }
    }

    #[test]
    fn every_reason_has_a_line_of_its_own() {
        let gone = PlacementRefusal {
            since: Some(Timestamp::from_millis(0)),
            ..refusal("AGENT", "its agent is not connected")
        };
        let answer = ExplainPlacementResponse {
            cluster: "default".into(),
            task_definition: "arn:aws:ecs:r:1:task-definition/web:7".into(),
            count: 2,
            needs: TaskNeeds {
                cpu: 50,
                memory: 64,
                host_ports: vec!["80/tcp".into()],
                attributes: vec![NeededAttribute { name: "a".into(), value: Some("b".into()) }],
                member_of: vec!["attribute:rack == 1".into()],
                distinct_from: Some("family:web".into()),
            },
            placeable: 1,
            instances: vec![
                instance("one", 1, Vec::new()),
                instance("two", 0, vec![gone, refusal("RESOURCE:CPU", "40 CPU units too few")]),
            ],
            verdict: "Only 1 of 2 copies fit.".into(),
            advice: vec!["Add a machine.".into()],
            ..ExplainPlacementResponse::default()
        };
        assert_eq!(
            text(&answer, Timestamp::from_millis(90_000)),
            "web:7 in cluster default needs 50 CPU units, 64 MiB, host ports 80/tcp, a=b, where attribute:rack == 1, \
             beside no task of family:web\n\
             \n\
             INSTANCE  FITS  CPU FREE    MEMORY FREE  WHY NOT\n\
             one       1     10 of 1024  20 of 2048   -\n\
             two       0     10 of 1024  20 of 2048   AGENT: its agent is not connected, last heard 1m30s ago\n\
             \x20                                        RESOURCE:CPU: 40 CPU units too few\n\
             \n\
             Only 1 of 2 copies fit.\n\
             \x20 · Add a machine.\n"
        );
    }
}
