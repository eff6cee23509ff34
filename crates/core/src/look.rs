//! What people look at first: DescribeServer, and FindTasks by the first characters of an id.

use longshore_api::{ApiError, admin};

use crate::entity::Cluster;
use crate::ids::{TaskId, TaskKey};
use crate::limits;
use crate::read::ReadModel;

/// DescribeServer. Every crate of a release has its version.
pub(crate) fn describe_server(view: &ReadModel) -> admin::DescribeServerResponse {
    let config = &view.config;
    admin::DescribeServerResponse {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        region: config.scope.region.clone(),
        account_id: config.scope.account.clone(),
        availability_zone: config.zone.to_string(),
        // A snapshot does not know; who commits what it shows does.
        read_only: false,
        braked_clusters: view
            .braked
            .iter()
            .filter_map(|id| view.cluster_names.get(id))
            .map(ToString::to_string)
            .collect(),
    }
}

/// FindTasks: ids are numbers in order, so those that begin alike lie next to each other.
pub(crate) fn find_tasks(
    view: &ReadModel,
    request: &admin::FindTasksRequest,
) -> Result<admin::FindTasksResponse, ApiError> {
    let (from, to) = range(&request.id_prefix).ok_or_else(|| {
        ApiError::invalid_parameter("A task id has up to 32 characters, each one of 0-9 and a-f: see `longshore ps`.")
    })?;
    let clusters: Vec<&Cluster> = match request.cluster.as_deref() {
        Some(given) => vec![view.cluster(Some(given))?.as_ref()],
        None => view.clusters.values().map(AsRef::as_ref).collect(),
    };
    let mut task_arns: Vec<String> = clusters
        .into_iter()
        .flat_map(|cluster| {
            let key = |id| TaskKey { cluster: cluster.id, id };
            let found = view.tasks.range(key(from)..=key(to));
            found.map(|(key, _)| view.config.task_arn(&cluster.name, key.id))
        })
        .take(limits::FOUND_TASKS + 1)
        .collect();
    let more = task_arns.len() > limits::FOUND_TASKS;
    task_arns.truncate(limits::FOUND_TASKS);
    Ok(admin::FindTasksResponse { task_arns, more })
}

/// The first and the last id that begin so.
fn range(prefix: &str) -> Option<(TaskId, TaskId)> {
    Some((format!("{prefix:0<32}").parse().ok()?, format!("{prefix:f<32}").parse().ok()?))
}

#[cfg(test)]
mod tests {
    use longshore_api::ecs::Operation;
    use serde_json::json;

    use super::*;
    use crate::fixture::{Lab, definition};

    fn find(lab: &mut Lab, prefix: &str, cluster: Option<&str>) -> Result<admin::FindTasksResponse, ApiError> {
        let request = admin::FindTasksRequest { id_prefix: prefix.to_owned(), cluster: cluster.map(str::to_owned) };
        find_tasks(&lab.cell.snapshot(), &request)
    }

    #[test]
    fn tasks_are_found_by_the_beginning_of_their_ids() {
        let mut lab = Lab::new();
        lab.instance(1, 4096, 4096);
        lab.ok(0, Operation::RegisterTaskDefinition, &definition("web", 1, 6, &[]));
        let arns = [lab.run("web"), lab.run("web")];
        let id = |arn: &str| arn.rsplit('/').next().expect("an id").to_owned();
        for arn in &arns {
            for prefix in [id(arn), id(arn)[..20].to_owned()] {
                let found = find(&mut lab, &prefix, None).expect("an answer");
                assert_eq!((found.task_arns, found.more), (vec![arn.clone()], false), "{prefix}");
            }
        }
        // All ids of these years begin so.
        assert_eq!(find(&mut lab, "01", Some("default")).expect("an answer").task_arns, arns);
        assert_eq!(find(&mut lab, "ff", None).expect("an answer").task_arns, Vec::<String>::new());
    }

    #[test]
    fn what_is_no_beginning_of_an_id_is_refused_and_many_are_cut() {
        let mut lab = Lab::new();
        for bad in ["", "x", "01A2", "é", &"0".repeat(33)] {
            let refused = range(bad).is_none() || bad.is_empty();
            assert!(refused, "{bad}");
        }
        assert_eq!(find(&mut lab, "xyz", None).expect_err("refused").code.name, "InvalidParameterException");
        assert_eq!(find(&mut lab, "0", Some("nope")).expect_err("refused").code.name, "ClusterNotFoundException");
        lab.instance(1, 4096, 4096);
        lab.ok(0, Operation::RegisterTaskDefinition, &definition("web", 1, 6, &[]));
        for _ in 0..3 {
            lab.ok(0, Operation::RunTask, &json!({"taskDefinition": "web", "count": 10}));
        }
        let found = find(&mut lab, "01", None).expect("an answer");
        assert_eq!((found.task_arns.len(), found.more), (limits::FOUND_TASKS, true));
    }

    #[test]
    fn the_server_says_what_it_is() {
        let mut lab = Lab::new();
        let server = describe_server(&lab.cell.snapshot());
        assert_eq!((server.region.as_str(), server.account_id.as_str()), ("us-east-1", "000000000000"));
        assert_eq!(server.braked_clusters, Vec::<String>::new());
        assert!(server.version.starts_with(|c: char| c.is_ascii_digit()), "{}", server.version);
    }
}
