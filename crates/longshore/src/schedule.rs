//! `longshore schedule`: makes schedules, shows what came of them.

use std::fmt::Write as _;
use std::path::Path;

use longshore_api::Timestamp;
use longshore_api::admin::{
    CreateScheduleRequest, InvocationOutcome, OverlapPolicy, RetryOn, Schedule, ScheduleInvocation, ScheduleState,
};
use longshore_api::ecs::types::{LaunchType, RunTaskRequest, Tag};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::cli::{
    CreateScheduleArgs, Format, ListSchedulesArgs, OneScheduleArgs, Overlap, Pair, RetryAfter, ScheduleCommand,
    duration_text,
};
use crate::client::EcsClient;
use crate::error::CliError;
use crate::output::{self, Output, harmless, print_json, time_text};
use crate::reach::Reach;
use crate::table::Table;
use crate::task::last_part;

/// Runs the command.
pub(crate) async fn schedule(command: ScheduleCommand, program: &str) -> Result<(), CliError> {
    match command {
        ScheduleCommand::Create(args) => create(*args, program).await,
        ScheduleCommand::List(args) => list(args, program).await,
        ScheduleCommand::Show(args) => show(args, program).await,
        ScheduleCommand::Run(args) => run(args, program).await,
        ScheduleCommand::Pause(args) => {
            let schedule = reach(&args, program)?.pause_schedule(&args.name).await?;
            changed(&args, &schedule, "is paused")
        }
        ScheduleCommand::Resume(args) => {
            let schedule = reach(&args, program)?.resume_schedule(&args.name).await?;
            let due = schedule
                .next_due
                .map_or_else(|| "is never due again".to_owned(), |due| format!("is due {}", time_text(due)));
            changed(&args, &schedule, &due)
        }
        ScheduleCommand::Delete(args) => {
            let schedule = reach(&args, program)?.delete_schedule(&args.name).await?;
            changed(&args, &schedule, "is deleted; its tasks go on")
        }
    }
}

fn reach(args: &OneScheduleArgs, program: &str) -> Result<EcsClient, CliError> {
    Ok(Reach::new(&args.reach, program).connect()?.client)
}

fn changed(args: &OneScheduleArgs, schedule: &Schedule, what: &str) -> Result<(), CliError> {
    match args.output.output {
        Format::Json => print_json(&json!({ "schedule": schedule })),
        Format::Table => {
            Output::new().tick(format_args!("schedule {} {what}", schedule.name));
            Ok(())
        }
    }
}

async fn create(args: CreateScheduleArgs, program: &str) -> Result<(), CliError> {
    let request = request(&args)?;
    let client = Reach::new(&args.reach, program).connect()?.client;
    let schedule = client.create_schedule(&request).await?;
    match args.output.output {
        Format::Json => print_json(&json!({ "schedule": schedule })),
        Format::Table => {
            let due = schedule.next_due.map(time_text).unwrap_or_default();
            Output::new().tick(format_args!("schedule {} runs {} from {due}", schedule.name, schedule.task_definition));
            Ok(())
        }
    }
}

async fn list(args: ListSchedulesArgs, program: &str) -> Result<(), CliError> {
    let schedules = Reach::new(&args.reach, program).connect()?.client.schedules().await?;
    match args.output.output {
        Format::Json => print_json(&json!({ "schedules": schedules })),
        Format::Table => output::print(&table(&schedules)),
    }
}

async fn show(args: OneScheduleArgs, program: &str) -> Result<(), CliError> {
    let schedule = reach(&args, program)?.describe_schedule(&args.name).await?;
    match args.output.output {
        Format::Json => print_json(&json!({ "schedule": schedule })),
        Format::Table => output::print(&text(&schedule)),
    }
}

async fn run(args: OneScheduleArgs, program: &str) -> Result<(), CliError> {
    let invocation = reach(&args, program)?.run_schedule(&args.name).await?;
    match args.output.output {
        Format::Json => print_json(&json!({ "invocation": invocation })),
        Format::Table => {
            let history = history(std::slice::from_ref(&invocation));
            output::print(&history)
        }
    }
}

fn request(args: &CreateScheduleArgs) -> Result<CreateScheduleRequest, CliError> {
    let cron = args.cron.as_ref().map(|fields| format!("cron({fields})"));
    let rate = args.rate.as_ref().map(|rate| format!("rate({rate})"));
    let at = args.at.as_ref().map(|time| format!("at({time})"));
    let tag = |Pair { key, value }: &Pair| Tag { key: Some(key.clone()), value: Some(value.clone()) };
    let target = RunTaskRequest {
        cluster: Some(args.cluster.clone()),
        count: Some(args.count),
        group: args.group.clone(),
        launch_type: args.launch_type.as_deref().map(launch_type).transpose()?,
        network_configuration: args.network.as_deref().map(|path| file("networkConfiguration", path)).transpose()?,
        overrides: args.overrides.as_deref().map(|path| file("overrides", path)).transpose()?,
        tags: (!args.tags.is_empty()).then(|| args.tags.iter().map(tag).collect()),
        task_definition: args.task_definition.clone(),
        ..RunTaskRequest::default()
    };
    Ok(CreateScheduleRequest {
        end_date: args.end.as_deref().map(|time| instant("--end", time, &args.timezone)).transpose()?,
        name: args.name.clone(),
        overlap_policy: Some(match args.overlap {
            Overlap::Allow => OverlapPolicy::Allow,
            Overlap::Skip => OverlapPolicy::Skip,
            Overlap::Replace => OverlapPolicy::Replace,
        }),
        retry_attempts: args.retries,
        retry_on: Some(match args.retry_on {
            RetryAfter::Placement => RetryOn::Placement,
            RetryAfter::Exit => RetryOn::Exit,
        }),
        retry_window_seconds: args.retry_window.map(|window| i32::try_from(window.as_secs()).unwrap_or(i32::MAX)),
        schedule_expression: cron.or(rate).or(at).unwrap_or_default(),
        schedule_expression_timezone: Some(args.timezone.clone()),
        start_date: args.start.as_deref().map(|time| instant("--start", time, &args.timezone)).transpose()?,
        target: Box::new(target),
    })
}

fn launch_type(text: &str) -> Result<LaunchType, CliError> {
    let refused =
        || CliError::Argument { flag: "--launch-type", given: text.to_owned(), example: "EC2, FARGATE or EXTERNAL" };
    serde_json::from_value(json!(text)).map_err(|_| refused())
}

/// A member of RunTask as it stands in a file. What the model does not know there is refused: it would be ignored.
fn file<T: DeserializeOwned + Serialize>(member: &'static str, path: &Path) -> Result<T, CliError> {
    let json = std::fs::read(path).map_err(CliError::file("read", path))?;
    let unreadable = |source| CliError::Member { member, path: path.to_owned(), source };
    let value: Value = serde_json::from_slice(&json).map_err(unreadable)?;
    let typed = T::deserialize(&value).map_err(unreadable)?;
    match serde_json::to_value(&typed).map_err(unreadable)? == value {
        true => Ok(typed),
        false => Err(CliError::UnknownMember { member, path: path.to_owned() }),
    }
}

/// A local time in a time zone.
fn instant(flag: &'static str, text: &str, zone: &str) -> Result<Timestamp, CliError> {
    let time: Option<jiff::civil::DateTime> = text.parse().ok();
    let zone = jiff::tz::TimeZoneDatabase::bundled().get(zone).ok();
    let instant = time.zip(zone).and_then(|(time, zone)| zone.to_timestamp(time).ok());
    let found = instant.map(|instant| Timestamp::from_millis(instant.as_millisecond()));
    found.ok_or_else(|| CliError::Argument {
        flag,
        given: format!("{text} in the time zone"),
        example: "2027-01-31T08:00:00, and --timezone like Europe/Berlin",
    })
}

fn table(schedules: &[Schedule]) -> String {
    let mut table =
        Table::new(["NAME", "EXPRESSION", "TIME ZONE", "TASK DEFINITION", "CLUSTER", "STATE", "NEXT DUE", "LAST"]);
    for schedule in schedules {
        table.row([
            schedule.name.clone(),
            schedule.schedule_expression.clone(),
            schedule.schedule_expression_timezone.clone(),
            last_part(Some(&schedule.task_definition)).to_owned(),
            schedule.cluster.clone(),
            state(schedule.state).to_owned(),
            schedule.next_due.map(time_text).unwrap_or_default(),
            schedule.history.first().map(|last| outcome(last.outcome).to_owned()).unwrap_or_default(),
        ]);
    }
    table.text()
}

fn text(schedule: &Schedule) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(text, "{name:<16}{}", harmless(value));
    };
    let target = schedule.target.as_ref();
    let retry = std::time::Duration::from_secs(u64::try_from(schedule.retry_window_seconds).unwrap_or_default());
    let on = if schedule.retry_on == RetryOn::Exit { "failed tasks too" } else { "placement" };
    line("schedule", &schedule.name);
    line("expression", &format!("{} ({})", schedule.schedule_expression, schedule.schedule_expression_timezone));
    line(
        "runs",
        &format!(
            "{} × {} in cluster {}",
            target.and_then(|target| target.count).unwrap_or(1),
            schedule.task_definition,
            schedule.cluster
        ),
    );
    line("state", state(schedule.state));
    line("next due", &schedule.next_due.map_or_else(|| "-".to_owned(), time_text));
    for (name, bound) in [("not before", schedule.start_date), ("not after", schedule.end_date)] {
        if let Some(bound) = bound {
            line(name, &time_text(bound));
        }
    }
    line("overlap", overlap(schedule.overlap_policy));
    line("retries", &format!("{} within {}, after {on}", schedule.retry_attempts, duration_text(retry)));
    line("made", &time_text(schedule.created_at));
    if !schedule.history.is_empty() {
        text.push('\n');
        text.push_str(&history(&schedule.history));
    }
    text
}

/// A row for each task; one for an invocation without any.
fn history(history: &[ScheduleInvocation]) -> String {
    let mut table = Table::new(["DUE", "FIRED", "OUTCOME", "ATTEMPTS", "TASK", "EXIT CODES", "WHY"]);
    for invocation in history {
        let missed = invocation.missed.map(|times| format!("{times} due times, noticed too late"));
        let again = invocation.next_attempt_at.map(|at| format!("again at {}", time_text(at)));
        let why: Vec<String> = invocation.reason.clone().or(missed).into_iter().chain(again).collect();
        let why = why.join("; ");
        let due = if invocation.by_hand { "by hand".to_owned() } else { time_text(invocation.due_at) };
        let head = [
            due,
            time_text(invocation.fired_at),
            outcome(invocation.outcome).to_owned(),
            invocation.attempts.to_string(),
        ];
        let mut tasks = invocation.tasks.iter();
        let first = tasks.next();
        let codes = |codes: &[Option<i32>]| {
            let codes = codes.iter().map(|code| code.map_or_else(|| "-".to_owned(), |code| code.to_string()));
            codes.collect::<Vec<_>>().join(" ")
        };
        let [due, fired, outcome, attempts] = head;
        let task = first.map(|task| last_part(Some(&task.task_arn)).to_owned()).unwrap_or_default();
        let exits = first.map(|task| codes(&task.exit_codes)).unwrap_or_default();
        table.row([due, fired, outcome, attempts, task, exits, why]);
        for task in tasks {
            let blank = || " ".to_owned();
            let id = last_part(Some(&task.task_arn)).to_owned();
            table.row([blank(), blank(), blank(), blank(), id, codes(&task.exit_codes), blank()]);
        }
    }
    table.text()
}

fn state(state: ScheduleState) -> &'static str {
    match state {
        ScheduleState::Enabled => "enabled",
        ScheduleState::Paused => "paused",
        ScheduleState::Ended => "ended",
    }
}

fn overlap(policy: OverlapPolicy) -> &'static str {
    match policy {
        OverlapPolicy::Allow => "allow",
        OverlapPolicy::Skip => "skip",
        OverlapPolicy::Replace => "replace",
    }
}

fn outcome(outcome: InvocationOutcome) -> &'static str {
    match outcome {
        InvocationOutcome::Waiting => "waiting",
        InvocationOutcome::Running => "running",
        InvocationOutcome::Succeeded => "succeeded",
        InvocationOutcome::Failed => "failed",
        InvocationOutcome::Skipped => "skipped",
        InvocationOutcome::Missed => "missed",
        InvocationOutcome::Replaced => "replaced",
        InvocationOutcome::Superseded => "superseded",
    }
}

#[cfg(test)]
mod tests {
    use longshore_api::admin::InvocationTask;

    use super::*;

    #[test]
    fn a_history_has_a_row_for_each_task_and_says_why() {
        let task = |id: &str, codes: Vec<Option<i32>>| InvocationTask {
            task_arn: format!("arn:aws:ecs:r:1:task/default/{id}"),
            exit_codes: codes,
            ..InvocationTask::default()
        };
        let ran = ScheduleInvocation {
            attempts: 2,
            outcome: InvocationOutcome::Failed,
            reason: Some("task a failed".into()),
            tasks: vec![task("a", vec![Some(1), None]), task("b", Vec::new())],
            ..ScheduleInvocation::default()
        };
        let missed =
            ScheduleInvocation { missed: Some(3), outcome: InvocationOutcome::Missed, ..ScheduleInvocation::default() };
        assert_eq!(
            history(&[ran, missed]),
            "DUE                      FIRED                    OUTCOME  ATTEMPTS  TASK  EXIT CODES  WHY\n\
             1970-01-01 00:00:00 UTC  1970-01-01 00:00:00 UTC  failed   2         a     1 -         task a failed\n\
             \x20                                                                    b     -\n\
             1970-01-01 00:00:00 UTC  1970-01-01 00:00:00 UTC  missed   0         -     -           3 due times, noticed too late\n"
        );
    }

    #[test]
    fn times_are_meant_in_the_zone_of_the_schedule() {
        assert_eq!(instant("--end", "2026-07-01T02:00:00", "Europe/Berlin").unwrap().as_millis(), 1_782_864_000_000);
        assert!(
            instant("--end", "2026-07-01", "Mars/Olympus").is_err() && instant("--end", "tomorrow", "UTC").is_err()
        );
    }
}
