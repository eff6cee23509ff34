//! `longshore scheduler`: who decides where the tasks of a cluster go.

use longshore_api::admin::{
    DescribeClusterSchedulerRequest, DescribeClusterSchedulerResponse, SetClusterSchedulerRequest,
    UnsetClusterSchedulerRequest,
};

use crate::cli::{Format, SchedulerCommand, SetSchedulerArgs, ShowSchedulerArgs, UnsetSchedulerArgs};
use crate::error::CliError;
use crate::output::{self, Output, print_json};
use crate::reach::Reach;

/// Runs the command.
pub(crate) async fn scheduler(command: SchedulerCommand, program: &str) -> Result<(), CliError> {
    match command {
        SchedulerCommand::Set(args) => set(args, program).await,
        SchedulerCommand::Show(args) => show(args, program).await,
        SchedulerCommand::Unset(args) => unset(args, program).await,
    }
}

async fn set(args: SetSchedulerArgs, program: &str) -> Result<(), CliError> {
    let request = SetClusterSchedulerRequest {
        cluster: Some(args.cluster.clone()),
        deadline_seconds: i32::try_from(args.deadline.as_secs()).ok(),
        fallback: Some(args.fallback.into()),
        url: args.url,
    };
    let set = Reach::new(&args.reach, program).connect()?.client.set_cluster_scheduler(&request).await?.scheduler;
    let mut output = Output::new();
    output.tick(format_args!("the tasks of {} go where {} says", args.cluster, set.url));
    output.note(format_args!("after {} seconds without a decision: {}", set.deadline_seconds, set.fallback.as_str()));
    Ok(())
}

async fn show(args: ShowSchedulerArgs, program: &str) -> Result<(), CliError> {
    let request = DescribeClusterSchedulerRequest { cluster: Some(args.cluster) };
    let answer = Reach::new(&args.reach, program).connect()?.client.describe_cluster_scheduler(&request).await?;
    match args.output.output {
        Format::Json => print_json(&answer),
        Format::Table => output::print(&text(&answer)),
    }
}

async fn unset(args: UnsetSchedulerArgs, program: &str) -> Result<(), CliError> {
    let request = UnsetClusterSchedulerRequest { cluster: Some(args.cluster) };
    let unset = Reach::new(&args.reach, program).connect()?.client.unset_cluster_scheduler(&request).await?;
    Output::new().tick(format_args!("the server places the tasks of {}", unset.cluster));
    Ok(())
}

fn text(answer: &DescribeClusterSchedulerResponse) -> String {
    let DescribeClusterSchedulerResponse { cluster, scheduler, waiting_tasks } = answer;
    match scheduler {
        None => format!("{cluster}: the server places tasks itself\n"),
        Some(scheduler) => format!(
            "{cluster}: {}\ndeadline: {} seconds, then: {}\nwaiting tasks: {waiting_tasks}\n",
            scheduler.url,
            scheduler.deadline_seconds,
            scheduler.fallback.as_str()
        ),
    }
}

#[cfg(test)]
mod tests {
    use longshore_api::admin::{ClusterScheduler, SchedulerFallback};

    use super::*;

    #[test]
    fn a_scheduler_in_words() {
        let mut answer = DescribeClusterSchedulerResponse { cluster: "c".to_owned(), ..Default::default() };
        assert_eq!(text(&answer), "c: the server places tasks itself\n");
        let url = "http://h/".to_owned();
        answer.scheduler = Some(ClusterScheduler { deadline_seconds: 5, fallback: SchedulerFallback::Wait, url });
        answer.waiting_tasks = 2;
        assert_eq!(text(&answer), "c: http://h/\ndeadline: 5 seconds, then: wait\nwaiting tasks: 2\n");
    }
}
