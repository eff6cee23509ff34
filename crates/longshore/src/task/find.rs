//! Which task is meant: by ARN, by id, or by the beginning of an id.

use longshore_api::admin::FindTasksRequest;
use longshore_api::arn::{Arn, Resource};
use longshore_api::ecs::types::Task;

use crate::cli::WhichTask;
use crate::client::EcsClient;
use crate::error::CliError;
use crate::ps;

/// A task, and the cluster it is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) cluster: String,
    pub(crate) arn: String,
}

/// The one task that is meant.
pub(crate) async fn find(client: &EcsClient, which: &WhichTask) -> Result<Found, CliError> {
    let given = which.task.trim();
    if given.starts_with("arn:") {
        return by_arn(given, which.cluster.as_deref()).ok_or_else(|| CliError::NoTask { given: given.to_owned() });
    }
    let request = FindTasksRequest { cluster: which.cluster.clone(), id_prefix: given.to_ascii_lowercase() };
    let answer = client.find_tasks(&request).await?;
    match answer.task_arns.as_slice() {
        [] => Err(CliError::NoTask { given: given.to_owned() }),
        [arn] => by_arn(arn, None).ok_or_else(|| CliError::NoTask { given: given.to_owned() }),
        several => {
            let table = ps::table(&candidates(client, several).await?, longshore_client::now());
            let cut = if answer.more { ", of which some are" } else { "" };
            Err(CliError::AmbiguousTask { given: given.to_owned(), cut, table: table.trim_end().to_owned() })
        }
    }
}

/// The tasks of several ARNs, cluster by cluster.
async fn candidates(client: &EcsClient, arns: &[String]) -> Result<Vec<Task>, CliError> {
    let mut found: Vec<Found> = arns.iter().filter_map(|arn| by_arn(arn, None)).collect();
    found.sort_by(|one, other| one.cluster.cmp(&other.cluster));
    let mut tasks = Vec::new();
    for of_one in found.chunk_by(|one, other| one.cluster == other.cluster) {
        let arns: Vec<String> = of_one.iter().map(|found| found.arn.clone()).collect();
        tasks.extend(client.describe_tasks(&of_one[0].cluster, &arns).await?);
    }
    Ok(tasks)
}

/// A task's ARN says its cluster, unless it is of the old, short kind.
fn by_arn(arn: &str, cluster: Option<&str>) -> Option<Found> {
    let Ok(Arn { resource: Resource::Task { cluster: of_arn, .. }, .. }) = arn.parse() else { return None };
    let cluster = of_arn.or_else(|| cluster.map(str::to_owned)).unwrap_or_else(|| "default".to_owned());
    Some(Found { cluster, arn: arn.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_arn_says_its_cluster() {
        let id = "0".repeat(32);
        let cluster = |arn: &str, given| by_arn(arn, given).map(|found| found.cluster);
        let long = format!("arn:aws:ecs:us-east-1:000000000000:task/prod/{id}");
        assert_eq!(cluster(&long, Some("other")).as_deref(), Some("prod"));
        let short = format!("arn:aws:ecs:us-east-1:000000000000:task/{id}");
        assert_eq!(cluster(&short, Some("prod")).as_deref(), Some("prod"));
        assert_eq!(cluster(&short, None).as_deref(), Some("default"));
        assert_eq!(cluster("arn:aws:ecs:us-east-1:000000000000:cluster/prod", None), None);
    }
}
