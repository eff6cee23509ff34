//! What is wrong, from what can be seen, each with what to do next.

use longshore_api::Timestamp;
use longshore_api::admin::DescribeServerResponse;

use super::report::{ClusterReport, InstanceReport, Problem};
use crate::output::ago_text;
use crate::task::last_part;

/// Everything that somebody should look after, most pressing first.
pub(super) fn problems(
    server: &DescribeServerResponse,
    clusters: &[ClusterReport],
    instances: &[InstanceReport],
    now: Timestamp,
) -> Vec<Problem> {
    let mut problems = Vec::new();
    problems.extend(server.read_only.then(cannot_write));
    problems.extend(clusters.iter().filter_map(|cluster| held(server, cluster)));
    problems.extend(instances.iter().filter(|instance| !instance.connected).map(|instance| gone(instance, now)));
    problems.extend(instances.iter().filter_map(impaired));
    problems.extend(clusters.iter().filter_map(without_machines));
    problems.extend(instances.iter().filter_map(out_of_service));
    problems
}

fn cannot_write() -> Problem {
    Problem {
        problem: "the server cannot write its store: it answers reads, and refuses everything that changes something"
            .to_owned(),
        next_step: "Make room on its disk; its log says what failed. It goes on by itself.".to_owned(),
    }
}

/// Many vanished at once, and nothing is replaced.
fn held(server: &DescribeServerResponse, cluster: &ClusterReport) -> Option<Problem> {
    server.braked_clusters.contains(&cluster.name).then(|| Problem {
        problem: format!(
            "many instances of cluster {} vanished at once: the mass-loss brake holds, and none of them is given up",
            cluster.name
        ),
        next_step: format!(
            "Bring them back, or, if they are gone for good: `longshore instance evict --cluster {}`.",
            cluster.name
        ),
    })
}

fn gone(instance: &InstanceReport, now: Timestamp) -> Problem {
    let id = last_part(Some(&instance.arn));
    let heard = instance.disconnected_at.map_or_else(String::new, |at| format!(", last heard {}", ago_text(at, now)));
    let given_up = if instance.lost { "; it is given up, and what ran there counts as stopped" } else { "" };
    let host = instance.host.as_ref().map_or_else(String::new, |host| format!(" on host {host}"));
    Problem {
        problem: format!("the agent of {id} in cluster {} is not connected{heard}{given_up}", instance.cluster),
        next_step: format!(
            "Look at that machine{host}: start its agent (`longshore agent`), or read its log; it is taken back as it is."
        ),
    }
}

/// An agent that is away says nothing, so what it said last counts for nothing.
fn impaired(instance: &InstanceReport) -> Option<Problem> {
    let id = last_part(Some(&instance.arn));
    let host = instance.host.as_ref().map_or_else(String::new, |host| format!(" (host {host})"));
    (instance.impaired && instance.connected).then(|| Problem {
        problem: format!("{id} in cluster {} can hardly start anything: its container runtime is IMPAIRED", instance.cluster),
        next_step: format!(
            "Look at that machine{host}: does `docker info` answer, is there room on its disk? Its agent's log says which."
        ),
    })
}

fn without_machines(cluster: &ClusterReport) -> Option<Problem> {
    (cluster.instances == 0).then(|| Problem {
        problem: format!("cluster {} has no container instances: nothing can run there", cluster.name),
        next_step: format!(
            "Add a machine: `longshore token create --cluster {}` prints what to type there.",
            cluster.name
        ),
    })
}

/// Not what anybody did wrong, but what is easily forgotten.
fn out_of_service(instance: &InstanceReport) -> Option<Problem> {
    let id = last_part(Some(&instance.arn));
    (instance.status == "DRAINING").then(|| Problem {
        problem: format!(
            "{id} in cluster {} is DRAINING: it takes nothing new, and {} task(s) are left there",
            instance.cluster,
            instance.running_tasks + instance.pending_tasks
        ),
        next_step: "`longshore agent drain --undo` there takes it back into service.".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::super::report::tests::{cluster, instance};
    use super::*;

    fn told(clusters: &[ClusterReport], instances: &[InstanceReport], now_s: i64) -> Vec<String> {
        let server = DescribeServerResponse::default();
        let problems = problems(&server, clusters, instances, Timestamp::from_millis(now_s * 1000));
        problems.into_iter().map(|one| format!("{} → {}", one.problem, one.next_step)).collect()
    }

    fn told_of(instances: &[InstanceReport]) -> usize {
        told(&[cluster("prod", instances)], instances, 90).len()
    }

    #[test]
    fn a_healthy_cluster_has_no_problems() {
        let instances = [instance("a", true)];
        assert_eq!(told(&[cluster("prod", &instances)], &instances, 1_000), Vec::<String>::new());
    }

    #[test]
    fn a_store_that_cannot_be_written_comes_first() {
        let server = DescribeServerResponse { read_only: true, ..DescribeServerResponse::default() };
        let problems = problems(&server, &[cluster("empty", &[])], &[], Timestamp::from_millis(0));
        assert!(problems.len() == 2 && problems[0].next_step.contains("Make room"), "{problems:?}");
    }

    #[test]
    fn each_problem_says_what_to_do() {
        let lost = InstanceReport { lost: true, ..instance("b", false) };
        let draining = InstanceReport { status: "DRAINING".to_owned(), ..instance("c", true) };
        let full = InstanceReport { impaired: true, ..instance("d", true) };
        let away = InstanceReport { impaired: true, ..instance("d", false) };
        assert_eq!(told_of(&[full]), 1);
        assert_eq!(told_of(&[away]), 1, "it is not connected, and that is all that is known");
        let told = told(&[cluster("prod", &[]), cluster("empty", &[])], &[lost, draining], 90);
        assert_eq!(told.len(), 4, "{told:?}");
        assert!(told[0].contains("b in cluster prod") && told[0].contains("1m30s ago; it is given up"), "{told:?}");
        assert!(told[1].contains("token create --cluster prod") && told[3].contains("--undo"), "{told:?}");
    }

    #[test]
    fn a_brake_that_holds_is_told_of_with_the_way_out() {
        let server =
            DescribeServerResponse { braked_clusters: vec!["prod".to_owned()], ..DescribeServerResponse::default() };
        let instances = [instance("a", false)];
        let clusters = [cluster("prod", &instances), cluster("other", &instances)];
        let problems = problems(&server, &clusters, &instances, Timestamp::from_millis(0));
        let held = problems.iter().filter(|one| one.next_step.contains("instance evict --cluster prod"));
        assert_eq!(held.count(), 1, "{problems:?}");
    }
}
