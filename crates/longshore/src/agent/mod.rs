//! `longshore agent`: runs it in this process or behind it, joins, drains.

mod background;
mod settings;

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use longshore_agent::{DrainRequest, Exit, JoinRequest};
use tokio_util::sync::CancellationToken;

use crate::cli::{AgentArgs, AgentCommand, DrainArgs, JoinArgs, RunArgs, Token};
use crate::environment::quoted;
use crate::error::CliError;
use crate::output::Output;
use crate::{logging, shutdown};
use settings::{environment, variables};

/// A token has sixty or so; whatever else a file holds is none.
const LONGEST_TOKEN_BYTES: u64 = 4096;

/// Runs the command.
pub(crate) async fn agent(args: AgentArgs, program: &str) -> Result<(), CliError> {
    match args.command {
        None if args.run.detach => background::start(&args.run, program).await,
        None => run(&args.run).await,
        Some(AgentCommand::Join(args)) => join(*args, program).await,
        Some(AgentCommand::Drain(args)) => drain(args).await,
    }
}

/// Drives containers until SIGINT or SIGTERM; they run on.
async fn run(args: &RunArgs) -> Result<(), CliError> {
    if args.background {
        // Fails only for the leader of a process group, which is what a person who types this by hand is.
        let _ = rustix::process::setsid();
    }
    let config = settings::load(args).await?;
    logging::start_agent(&config.log)?;
    let stop = CancellationToken::new();
    let stop_on_signal = stop.clone();
    tokio::spawn(async move {
        shutdown::requested().await;
        stop_on_signal.cancel();
    });
    let Exit::Clean = longshore_agent::run(config, stop).await.map_err(|error| CliError::Agent(Box::new(error)))?;
    Ok(())
}

async fn join(args: JoinArgs, program: &str) -> Result<(), CliError> {
    let token = token(args.token, args.token_file.as_deref())?;
    let fingerprint = args.ca_fingerprint.map(|text| text.parse()).transpose();
    let request = JoinRequest {
        server: args.server,
        token,
        ca_fingerprint: fingerprint.map_err(CliError::Fingerprint)?,
        ca_file: args.ca_file,
        insecure: args.insecure,
        settings: variables(&args.run.host).into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
    };
    let mut output = Output::new();
    let files = settings::files(&args.run, &environment()).await?;
    let joined = longshore_agent::join(request, files, environment()).await;
    let joined = joined.map_err(|error| CliError::Join(Box::new(error)))?;
    if joined.already {
        output.note(format_args!(
            "this machine has joined cluster {} of {} already; the token was not used",
            joined.cluster, joined.server
        ));
    } else {
        output.tick(format_args!(
            "this machine has joined cluster {} of {} as {}",
            joined.cluster, joined.server, joined.access_key_id
        ));
    }
    if args.run.detach {
        background::start(&args.run, program).await
    } else {
        output.note(format_args!("the agent runs until Ctrl-C; {} agent starts it again", quoted(program)));
        run(&args.run).await
    }
}

/// The token as it was typed, or what the file holds. Unlike an argument, neither file nor environment is in process lists.
fn token(typed: Option<Token>, file: Option<&Path>) -> Result<String, CliError> {
    let Some(path) = file else {
        return Ok(typed.map(|Token(text)| text).unwrap_or_default());
    };
    let mut text = String::new();
    let read = match path.to_str() {
        Some("-") => io::stdin().take(LONGEST_TOKEN_BYTES).read_to_string(&mut text),
        _ => File::open(path).and_then(|file| file.take(LONGEST_TOKEN_BYTES).read_to_string(&mut text)),
    };
    read.map_err(CliError::file("read the token in", path))?;
    Ok(text)
}

async fn drain(args: DrainArgs) -> Result<(), CliError> {
    let config = settings::load(&RunArgs { config: args.config, ..RunArgs::default() }).await?;
    let request = DrainRequest {
        undo: args.undo,
        wait: args.wait.map(|limit| limit.unwrap_or(std::time::Duration::MAX)).unwrap_or_default(),
    };
    let mut output = Output::new();
    let waiting = Output::new();
    let progress = |tasks_left: u64| waiting.note(format_args!("{tasks_left} task(s) left"));
    let drained = longshore_agent::drain(&config, request, progress).await;
    let drained = drained.map_err(|error| CliError::Drain(Box::new(error)))?;
    let status = if args.undo { "take new tasks again" } else { "take no new tasks" };
    for arn in &drained.instances {
        output.tick(format_args!("{arn} is to {status}"));
    }
    if !args.undo {
        output.note(format_args!("{} task(s) left; --undo takes it back", drained.tasks_left));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_what_was_typed_or_what_the_file_holds() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        std::fs::write(&path, "LSTKA.secret\n").unwrap();
        assert_eq!(token(None, Some(&path)).unwrap().trim(), "LSTKA.secret");
        assert_eq!(token(Some(Token("LSTKB.secret".into())), None).unwrap(), "LSTKB.secret");
        let missing = token(None, Some(&folder.path().join("none"))).unwrap_err().to_string();
        assert!(missing.contains("none"), "{missing}");
    }
}
