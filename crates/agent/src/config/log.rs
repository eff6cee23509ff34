//! Where the agent logs to, and how much: settings only. Whoever starts the process sets up the writers.

use std::path::PathBuf;

use super::ConfigError;
use super::source::Source;

/// Settings of the agent's own log.
#[derive(Clone, Debug, PartialEq)]
pub struct LogConfig {
    /// `ECS_LOGFILE`; without one there is no log file.
    pub file: Option<PathBuf>,
    /// `ECS_LOGLEVEL`: what goes to standard error. `None`: nobody said.
    pub level: Option<LogLevel>,
    /// `ECS_LOGLEVEL_ON_INSTANCE`: what goes to the file. `None`: as `level`.
    pub level_on_instance: Option<LogLevel>,
    /// `ECS_LOG_ROLLOVER_TYPE`: when a new file is begun.
    pub rollover: LogRollover,
    /// `ECS_LOG_OUTPUT_FORMAT`
    pub format: LogFormat,
    /// `ECS_LOG_MAX_FILE_SIZE_MB`: at which a file is full, if [`LogRollover::Size`].
    pub max_file_size_mb: f64,
    /// `ECS_LOG_MAX_ROLL_COUNT`: old files that are kept.
    pub max_roll_count: u32,
}

/// How much is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    /// Nothing.
    Off,
    /// What went wrong; also the official agent's `crit`.
    Error,
    /// And what may go wrong.
    Warn,
    /// And what happens.
    Info,
    /// And why.
    Debug,
}

impl LogLevel {
    /// As logging filters spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
        }
    }
}

/// When a new log file is begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogRollover {
    /// When it is full.
    Size,
    /// Each hour.
    Hourly,
    /// Never.
    None,
}

/// How a line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// `level=info msg="…"`
    Logfmt,
    /// One JSON object per line.
    Json,
}

impl LogConfig {
    pub(super) fn read(source: &mut Source) -> Result<Self, ConfigError> {
        Ok(Self {
            file: source.text("ECS_LOGFILE").map(PathBuf::from),
            level: source.parsed("ECS_LOGLEVEL", None, level)?,
            level_on_instance: source.parsed("ECS_LOGLEVEL_ON_INSTANCE", None, level)?,
            rollover: source.parsed("ECS_LOG_ROLLOVER_TYPE", LogRollover::Size, |text| match text {
                "size" => Ok(LogRollover::Size),
                "hourly" => Ok(LogRollover::Hourly),
                "none" => Ok(LogRollover::None),
                _ => Err("size, hourly or none".into()),
            })?,
            format: source.parsed("ECS_LOG_OUTPUT_FORMAT", LogFormat::Logfmt, |text| match text {
                "logfmt" => Ok(LogFormat::Logfmt),
                "json" => Ok(LogFormat::Json),
                _ => Err("logfmt or json".into()),
            })?,
            max_file_size_mb: source.parsed("ECS_LOG_MAX_FILE_SIZE_MB", 5.0, |text| match text.parse::<f64>() {
                Ok(mb) if (0.01..=100_000.0).contains(&mb) => Ok(mb),
                _ => Err("a number of megabytes from 0.01 to 100000".into()),
            })?,
            max_roll_count: source.integer("ECS_LOG_MAX_ROLL_COUNT", 24, 0, 10_000)? as u32,
        })
    }
}

fn level(text: &str) -> Result<Option<LogLevel>, String> {
    match text.to_ascii_lowercase().as_str() {
        "none" | "off" => Ok(Some(LogLevel::Off)),
        "crit" | "error" => Ok(Some(LogLevel::Error)),
        "warn" => Ok(Some(LogLevel::Warn)),
        "info" => Ok(Some(LogLevel::Info)),
        "debug" => Ok(Some(LogLevel::Debug)),
        _ => Err("crit, error, warn, info, debug or none".into()),
    }
}
