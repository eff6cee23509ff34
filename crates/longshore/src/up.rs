//! `longshore up`: from nothing to registered container instances, in the foreground or behind it.

use std::future::Future;
use std::net::TcpListener;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::cli::UpArgs;
use crate::data_dir::{DataDir, UpLock, UpRecord};
use crate::environment::quoted;
use crate::error::CliError;
use crate::output::Output;
use crate::process::{Process, ProcessId};
use crate::run::{self, Definition};
use crate::shutdown;
use crate::supervisor::{self, Plan, own_command};

/// From the start of the supervisor to the registration of the last instance. It takes well under a second here; a
/// store with much in it, or a Docker Engine that is itself just starting, takes longer.
const READY_TAKES_AT_MOST: Duration = Duration::from_secs(60);
/// So many early ends of server and agent are no accident.
const ENDS_UNTIL_HOPELESS: u32 = 4;
/// How long a supervisor may take to end what it started: the grace of two children and some.
pub(crate) const SUPERVISOR_STOPS_WITHIN: Duration = Duration::from_secs(60);
/// How long a supervisor that is just starting or stopping may leave its record incomplete.
const RECORD_SETTLES_WITHIN: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Lines of a log that an error shows.
const TAIL_LINES: usize = 12;

/// Runs the command. Returns when everything is ready (`--detach`), or when it has been stopped.
pub(crate) async fn up(args: UpArgs, program: &str) -> Result<(), CliError> {
    let data_dir = DataDir::new(&args.data_dir.data_dir)?;
    data_dir.create()?;
    if let Some(settings) = &args.supervise {
        return supervise(settings, data_dir).await;
    }
    let definition = args.run.as_deref().map(Definition::read).transpose()?;
    let mut show = Show { data_dir: &data_dir, program, definition, output: Output::new() };
    let Some(lock) = data_dir.lock()? else {
        let supervisor = find_supervisor(&args, &show).await?;
        show.until(supervisor.id(), supervisor.ended()).await?;
        return if args.detach { Ok(()) } else { attached(&supervisor, &show).await };
    };
    let plan = plan(&args, &data_dir)?;
    if args.detach { behind(&plan, lock, show).await } else { here(plan, lock, &mut show).await }
}

/// Stays with a supervisor that somebody else started, as a command in the foreground does, without any hold on it.
async fn attached(supervisor: &Process, show: &Show<'_>) -> Result<(), CliError> {
    show.output.note("Ctrl-C leaves it running");
    tokio::select! {
        () = shutdown::requested() => {}
        () = supervisor.ended() => show.output.note("Longshore was stopped"),
    }
    Ok(())
}

/// The supervisor in a process of its own, which outlives this one.
async fn behind(plan: &Plan, lock: UpLock, mut show: Show<'_>) -> Result<(), CliError> {
    drop(lock);
    let supervisor = start_supervisor(plan)?;
    let shown = show.until(supervisor.id(), supervisor.ended()).await;
    if shown.is_err() && !show.data_dir.record()?.unwrap_or_default().ready {
        supervisor.stop(SUPERVISOR_STOPS_WITHIN).await?;
    }
    shown
}

/// The supervisor in this process, until it is told to stop.
async fn here(plan: Plan, lock: UpLock, show: &mut Show<'_>) -> Result<(), CliError> {
    let (stop, ended) = (CancellationToken::new(), CancellationToken::new());
    let supervisor = tokio::spawn({
        let (stop, ended) = (stop.clone(), ended.clone());
        async move {
            let _ended = ended.drop_guard();
            supervisor::run(plan, lock, stop).await
        }
    });
    let shown = tokio::select! {
        () = shutdown::requested() => Ok(()),
        shown = async {
            show.until(ProcessId::of_this()?, ended.cancelled()).await?;
            show.output.note("Ctrl-C stops server and agent and leaves tasks running");
            ended.cancelled().await;
            Ok(())
        } => shown,
    };
    show.output.begin();
    stop.cancel();
    let supervised = supervisor.await.unwrap_or(Ok(()));
    if supervised.is_ok() && shown.is_ok() {
        show.output.tick("agent and server stopped; tasks run on");
    }
    shown.and(supervised)
}

/// What `--detach` starts: the same supervisor, in a session of its own, with its words in a log.
async fn supervise(settings: &str, data_dir: DataDir) -> Result<(), CliError> {
    let settings = serde_json::from_str(settings).map_err(|source| CliError::Settings { source })?;
    // Fails only for the leader of a process group, which is what a person who types this by hand is.
    let _ = rustix::process::setsid();
    let lock = data_dir.lock()?.ok_or_else(|| busy(&data_dir))?;
    let stop = CancellationToken::new();
    let stop_on_signal = stop.clone();
    tokio::spawn(async move {
        shutdown::requested().await;
        stop_on_signal.cancel();
    });
    supervisor::run(Plan { data_dir, settings }, lock, stop).await
}

fn start_supervisor(plan: &Plan) -> Result<Process, CliError> {
    const NAME: &str = "up";
    let fail = |source| CliError::Start { what: NAME, source };
    let log = plan.data_dir.open_log(NAME)?;
    let settings = serde_json::to_string(&plan.settings).map_err(|source| CliError::Settings { source })?;
    let mut command = own_command(NAME);
    command
        .arg("--data-dir")
        .arg(plan.data_dir.path())
        .args(["--supervise", &settings])
        .stdout(log.try_clone().map_err(fail)?)
        .stderr(log);
    let child = command.spawn().map_err(fail)?;
    // Not waited for: it is to outlive this process, which knows of its end by the pidfd.
    Process::of_child(NAME, child.id() as i32)
}

/// The supervisor that holds the lock, if it runs what this command would start.
async fn find_supervisor(args: &UpArgs, show: &Show<'_>) -> Result<Process, CliError> {
    let deadline = Instant::now() + RECORD_SETTLES_WITHIN;
    let (record, supervisor) = loop {
        let record = show.data_dir.record()?.unwrap_or_default();
        if let Some(supervisor) = record.supervisor.and_then(|id| id.hold("up", None)) {
            break (record, supervisor);
        }
        if Instant::now() > deadline {
            return Err(busy(show.data_dir));
        }
        sleep(LOOK_EVERY).await;
    };
    let running = &record.settings;
    let mut wanted = running.clone().with(args)?;
    if wanted.listen.port() == 0 {
        // Any port will do, so the one that is had will.
        wanted.listen.set_port(running.listen.port());
    }
    if let Some((running, wanted)) = running.differences(&wanted) {
        let (program, data_dir) = (show.program.to_owned(), show.data_dir.path().to_owned());
        return Err(CliError::RunsDifferently { program, data_dir, running, wanted });
    }
    let pid = supervisor.id().pid;
    show.output.note(format_args!("Longshore runs already (process {pid}); nothing is changed"));
    if !supervisor.is_this_build() {
        show.output.note(format_args!(
            "it was started from another build: {} starts this one",
            commands(show.program, &["down --keep-tasks", "up --detach"], show.data_dir).join(" && ")
        ));
    }
    Ok(supervisor)
}

/// What the arguments ask for, completed by what was asked for before, on an address that can be had.
fn plan(args: &UpArgs, data_dir: &DataDir) -> Result<Plan, CliError> {
    let before = data_dir.record()?.unwrap_or_default();
    let mut settings = before.settings.clone().with(args)?;
    settings.check()?;
    let server = before.server.and_then(|id| id.hold("server", Some(data_dir.path())));
    // A server that outlived its supervisor holds its address rightly.
    if server.is_none() || settings.listen != before.settings.listen {
        let address = settings.listen;
        // Asked now, because the answer of a child would be in a log. A free port becomes a fixed one here, so that a
        // server that is started again is found where it was.
        settings.listen = TcpListener::bind(address).and_then(|socket| socket.local_addr()).map_err(|source| {
            match source.kind() {
                std::io::ErrorKind::AddrInUse => CliError::AddressTaken { address },
                _ => CliError::AddressUnusable { address, source },
            }
        })?;
    }
    Ok(Plan { data_dir: data_dir.clone(), settings })
}

fn busy(data_dir: &DataDir) -> CliError {
    CliError::Busy { data_dir: data_dir.path().to_owned() }
}

/// What a person sees of a start.
struct Show<'a> {
    data_dir: &'a DataDir,
    program: &'a str,
    definition: Option<Definition>,
    output: Output,
}

impl Show<'_> {
    /// Waits until everything is ready, runs what is to be run, and says how to go on. `ended` is the end of the
    /// supervisor, after which there is nothing to wait for.
    async fn until(&mut self, supervisor: ProcessId, ended: impl Future<Output = ()>) -> Result<(), CliError> {
        tokio::select! {
            () = ended => return Err(self.never_ready("up", "Longshore ended as soon as it was started")),
            ready = self.await_ready(supervisor) => ready?,
        }
        let mut family = "FAMILY".to_owned();
        let mut task = "TASK".to_owned();
        if let Some(definition) = self.definition.take() {
            self.output.blank();
            family = definition.family().to_owned();
            task = run::run(self.data_dir, definition, &mut self.output).await?;
        }
        self.next_steps(&family, &task);
        Ok(())
    }

    async fn await_ready(&mut self, supervisor: ProcessId) -> Result<(), CliError> {
        let deadline = Instant::now() + READY_TAKES_AT_MOST;
        let mut listening = false;
        loop {
            // What another supervisor left says nothing about this one.
            let record = self.data_dir.record()?;
            let record = record.filter(|record| record.supervisor == Some(supervisor)).unwrap_or_default();
            let server = self.data_dir.server()?;
            let server = server.filter(|facts| record.server.is_some_and(|id| id.pid == facts.pid));
            if let (false, Some(facts)) = (listening, &server) {
                listening = true;
                self.output.tick(format_args!(
                    "server listens on {} (region {}, account {})",
                    facts.endpoint, facts.region, facts.account_id
                ));
            }
            // The record tells of the start; an agent may have been cut off since, by the server for instance.
            if record.ready && listening && self.all_connected(&record).await {
                for arn in &record.instance_arns {
                    self.output.tick(format_args!("container instance {arn} is connected"));
                }
                return Ok(());
            }
            if record.agent_gave_up {
                return Err(self.never_ready("agent", "the agent cannot go on as things are"));
            }
            if record.ends >= ENDS_UNTIL_HOPELESS || Instant::now() > deadline {
                return Err(match (listening, record.agent) {
                    (false, _) => self.never_ready("server", "the server does not start"),
                    // Nothing has ended, so none was started: its key or its cluster could not be had.
                    (true, None) if record.ends == 0 => self.never_ready("up", "the agent cannot be started"),
                    (true, _) => self.never_ready("agent", "the agent does not register"),
                });
            }
            sleep(LOOK_EVERY).await;
        }
    }

    async fn all_connected(&self, record: &UpRecord) -> bool {
        let connected = supervisor::connected_instances(self.data_dir, &record.id).await.unwrap_or_default();
        record.instance_arns.iter().all(|arn| connected.contains(arn))
    }

    fn never_ready(&self, name: &str, what: &'static str) -> CliError {
        let tail = self.data_dir.log_tail(name, TAIL_LINES);
        CliError::NeverReady {
            what,
            log: self.data_dir.log(name),
            tail: if tail.is_empty() { "(it is empty)".to_owned() } else { tail },
        }
    }

    fn next_steps(&self, family: &str, task: &str) {
        let looks = ["env", "down", "status", "ps", "logs -f"];
        let [env, down, status, ps, logs] = commands(self.program, &looks, self.data_dir);
        // The id is enough, and short.
        let task = task.rsplit('/').next().unwrap_or(task);
        self.output.blank();
        self.output.line("Go on with the AWS CLI (pip install awscli) or any SDK:");
        self.output.line(format_args!("  eval \"$({env})\""));
        self.output.line(format_args!("  aws ecs run-task --task-definition {family}"));
        self.output.line(format_args!("  aws ecs describe-tasks --tasks {task}"));
        self.output.line(format_args!("  aws ecs stop-task --task {task}"));
        self.output.line("Look at it:");
        self.output.line(format_args!("  {status}"));
        self.output.line(format_args!("  {ps}"));
        self.output.line(format_args!("  {logs} {task}"));
        self.output.line("Stop tasks, agent and server:");
        self.output.line(format_args!("  {down}"));
    }
}

/// Command lines of this program for a data directory, to be copied into a shell.
fn commands<const N: usize>(program: &str, subcommands: &[&str; N], data_dir: &DataDir) -> [String; N] {
    let data_dir = quoted(&data_dir.shown());
    subcommands.map(|subcommand| format!("{} {subcommand} --data-dir {data_dir}", quoted(program)))
}
