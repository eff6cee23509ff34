//! Logs: where they go, how much, and how a line looks.
//!
//! A person at a terminal gets lines to read; everything else gets logfmt (`level=info time=… msg="…" key=value`) or JSON,
//! as the official agent writes them. A log file is rotated by the process that writes it.

mod line;
mod rolling;

use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use longshore_agent::{LogConfig, LogFormat, LogRollover};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry};

use crate::error::CliError;
use line::Line;
use rolling::RollingFile;
pub(crate) use rolling::Rollover;

/// Where the agent logs unless told otherwise.
const AGENT_LOG: &str = "/var/log/ecs/ecs-agent.log";
/// A server's file that has grown to this is set aside.
const SERVER_FILE_LIMIT_BYTES: u64 = 16 * 1024 * 1024;
/// So many of those are kept: with the current one 80 MiB, weeks of decisions or minutes of requests at debug.
const SERVER_FILES_KEPT: usize = 4;

type BoxedLayer = Box<dyn Layer<Registry> + Send + Sync>;

/// Starts logging for a server, or for a command for people: to `file`, or else to standard error. `LONGSHORE_LOG` says
/// how much (`debug`, `longshore_server=trace,info`), `LONGSHORE_LOG_FORMAT=json` how.
pub(crate) fn start(default: &str, file: Option<&Path>) -> Result<(), CliError> {
    let json = std::env::var("LONGSHORE_LOG_FORMAT").is_ok_and(|format| format == "json");
    let rollover = Rollover::Size(SERVER_FILE_LIMIT_BYTES);
    let layer = match file {
        Some(path) => open(path, rollover, SERVER_FILES_KEPT, json)?.0,
        None => console(json),
    };
    tracing_subscriber::registry().with(layer.with_filter(filter(default))).init();
    Ok(())
}

/// Starts logging for an agent: to its file and to standard error, each at its level.
pub(crate) fn start_agent(config: &LogConfig) -> Result<(), CliError> {
    let json = config.format == LogFormat::Json;
    let level = config.level.map_or("info", |level| level.as_str());
    let file_level = config.level_on_instance.map_or(level, |level| level.as_str());
    let rollover = match config.rollover {
        LogRollover::Size => Rollover::Size((config.max_file_size_mb * 1024.0 * 1024.0) as u64),
        LogRollover::Hourly => Rollover::Hourly,
        LogRollover::None => Rollover::Never,
    };
    let mut warning = None;
    let mut layers: Vec<BoxedLayer> = Vec::new();
    let mut console_wanted = true;
    if file_level != "off" {
        let path = agent_log(config);
        match open(&path, rollover, config.max_roll_count as usize, json) {
            Ok((layer, is_stderr)) => {
                console_wanted = !is_stderr;
                layers.push(layer.with_filter(filter(file_level)).boxed());
            }
            Err(error) if config.file.is_some() => return Err(error),
            // The usual place is for root. Whoever starts an agent as somebody else reads what it says, or names a file.
            Err(error) => warning = Some(error.with_causes()),
        }
    }
    if console_wanted {
        layers.push(console(json).with_filter(filter(level)).boxed());
    }
    tracing_subscriber::registry().with(layers).init();
    if let Some(warning) = warning {
        tracing::warn!("logging to standard error alone, name a file with ECS_LOGFILE: {warning}");
    }
    Ok(())
}

/// The file that an agent of this configuration logs to.
pub(crate) fn agent_log(config: &LogConfig) -> PathBuf {
    config.file.clone().unwrap_or_else(|| AGENT_LOG.into())
}

fn filter(default: &str) -> EnvFilter {
    EnvFilter::try_from_env("LONGSHORE_LOG").unwrap_or_else(|_| EnvFilter::new(default))
}

fn console(json: bool) -> BoxedLayer {
    let layer = tracing_subscriber::fmt::layer().with_writer(io::stderr).log_internal_errors(false);
    if !json && io::stderr().is_terminal() {
        return layer.with_ansi(std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())).boxed();
    }
    layer.with_ansi(false).event_format(Line { json }).boxed()
}

/// A layer that writes to a file, and whether standard error is that same file.
fn open(path: &Path, rollover: Rollover, kept: usize, json: bool) -> Result<(BoxedLayer, bool), CliError> {
    let file = RollingFile::open(path, rollover, kept).map_err(CliError::file("open the log", path))?;
    let is_stderr = file.is_stderr();
    let layer = tracing_subscriber::fmt::layer()
        .with_writer(Mutex::new(file))
        .with_ansi(false)
        .log_internal_errors(false)
        .event_format(Line { json });
    Ok((layer.boxed(), is_stderr))
}
