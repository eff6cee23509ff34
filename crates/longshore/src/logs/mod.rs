//! `longshore logs`: what a task's containers printed, through the agent that has them.
//!
//! Each container is a lane of its own, which asks page by page. The lanes are merged by the times of their entries: as long
//! as a lane is still catching up, nothing later than its next entry is shown; whoever has caught up holds up nobody.

mod lane;
mod print;

use std::io;
use std::time::Duration;

use futures_util::future::select_all;
use longshore_api::ecs::types::Task;
use tokio::sync::mpsc;

use crate::cli::{Format, LogsArgs};
use crate::error::CliError;
use crate::output;
use crate::reach::Reach;
use crate::shutdown;
use crate::task::{Found, find};
use lane::{Lane, News};
use print::{Line, Printer, Style};

/// Longer than an agent waits for a line and the server for its answer.
const CALL_TAKES_AT_MOST: Duration = Duration::from_secs(35);

/// Runs the command. Ctrl-C ends it, and is no failure.
pub(crate) async fn logs(args: LogsArgs, program: &str) -> Result<(), CliError> {
    let reach = Reach::new(&args.reach, program);
    tokio::select! {
        () = shutdown::requested() => Ok(()),
        shown = show(args, reach) => shown,
    }
}

async fn show(args: LogsArgs, reach: Reach) -> Result<(), CliError> {
    let client = reach.connect_within(CALL_TAKES_AT_MOST)?.client;
    let found = find(&client, &args.which).await?;
    let task = client.describe_task(&found.cluster, &found.arn).await?;
    let task = task.ok_or_else(|| CliError::NoTask { given: found.arn.clone() })?;
    let containers = containers(&task, args.container.as_deref())?;
    let style = match args.output.output {
        Format::Json => Style::Json,
        Format::Table => Style::Text { timestamps: args.timestamps },
    };
    let mut printer = Printer::new(io::stdout(), io::stderr(), style, &containers);
    let since = args.since.map(|ago| {
        let ago_ms = i64::try_from(ago.as_millis()).unwrap_or(i64::MAX);
        longshore_client::now().plus_millis(-ago_ms)
    });
    let lanes = containers.into_iter().map(|container| {
        let Found { cluster, arn } = found.clone();
        let request = longshore_api::admin::GetTaskLogsRequest {
            cluster: Some(cluster),
            container: Some(container),
            since,
            tail: args.tail,
            task: arn,
            ..Default::default()
        };
        Lane::new(reach.clone(), client.clone(), request, args.follow).start()
    });
    match merge(lanes.map(Strand::new).collect(), &mut printer).await {
        Ok(failure) => failure.map_or(Ok(()), Err),
        Err(error) => output::written(Err(error)),
    }
}

/// The containers to show: the one that is named, or all.
fn containers(task: &Task, named: Option<&str>) -> Result<Vec<String>, CliError> {
    let all: Vec<String> = task.containers.iter().flatten().filter_map(|container| container.name.clone()).collect();
    match named {
        None => Ok(all),
        Some(name) if all.iter().any(|container| container == name) => Ok(vec![name.to_owned()]),
        Some(name) => Err(CliError::NoContainer { name: name.to_owned(), containers: all.join(", ") }),
    }
}

/// A lane as the merge sees it.
struct Strand {
    news: mpsc::Receiver<News>,
    /// Not shown yet, the next one last.
    waiting: Vec<Line>,
    caught_up: bool,
    ended: bool,
}

impl Strand {
    fn new(news: mpsc::Receiver<News>) -> Self {
        Self { news, waiting: Vec::new(), caught_up: false, ended: false }
    }

    /// What it shows next might come before what others show.
    fn holds_up(&self) -> bool {
        self.waiting.is_empty() && !self.caught_up && !self.ended
    }
}

/// Shows everything in order, until all lanes have ended; answers the last failure of one, and has told the others. One
/// container whose output cannot be had is no reason not to show that of the others.
async fn merge<O: io::Write, E: io::Write>(
    mut strands: Vec<Strand>,
    printer: &mut Printer<O, E>,
) -> io::Result<Option<CliError>> {
    let mut failure: Option<CliError> = None;
    loop {
        while !strands.iter().any(Strand::holds_up)
            && let Some((index, _)) = earliest(&strands)
            && let Some(line) = strands[index].waiting.pop()
        {
            printer.line(index, &line)?;
        }
        // Only those that have nothing waiting are listened to, so that each reads one page ahead at most.
        let open: Vec<usize> = (0..strands.len()).filter(|&index| strands[index].waiting.is_empty()).collect();
        let open: Vec<usize> = open.into_iter().filter(|&index| !strands[index].ended).collect();
        if open.is_empty() {
            printer.flush()?;
            return Ok(failure);
        }
        printer.flush()?;
        let (index, news) = next(&mut strands, &open).await;
        match news {
            Some(News::Page { lines, caught_up }) => {
                strands[index].waiting = lines.into_iter().rev().collect();
                strands[index].caught_up |= caught_up;
            }
            Some(News::Failed(error)) => {
                if let Some(earlier) = failure.replace(error) {
                    output::complain(&earlier.with_causes());
                }
            }
            None => strands[index].ended = true,
        }
    }
}

/// The strand whose next line is the earliest.
fn earliest(strands: &[Strand]) -> Option<(usize, &str)> {
    let heads = strands.iter().enumerate().filter_map(|(index, strand)| Some((index, strand.waiting.last()?)));
    heads.map(|(index, line)| (index, line.time.as_str())).min_by_key(|(index, time)| (*time, *index))
}

/// What comes next from one of these strands.
async fn next(strands: &mut [Strand], open: &[usize]) -> (usize, Option<News>) {
    let listened = strands.iter_mut().enumerate().filter(|(index, _)| open.contains(index));
    let waits = listened.map(|(index, strand)| Box::pin(async move { (index, strand.news.recv().await) }));
    select_all(waits).await.0
}

#[cfg(test)]
mod tests;
