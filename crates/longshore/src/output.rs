//! What people see: steps with a tick and a time, notes, errors. Colour for a terminal only.

use std::borrow::Cow;
use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use longshore_api::Timestamp;

use crate::cli::duration_text;
use crate::error::CliError;

/// Writes to standard output, and remembers when the current step began.
#[derive(Debug)]
pub(crate) struct Output {
    colour: bool,
    began: Instant,
}

impl Output {
    pub(crate) fn new() -> Self {
        Self { colour: wants_colour(io::stdout().is_terminal()), began: Instant::now() }
    }

    /// Marks the beginning of a step.
    pub(crate) fn begin(&mut self) {
        self.began = Instant::now();
    }

    /// A step is done; says so with its time, and the next one begins.
    pub(crate) fn tick(&mut self, text: impl Display) {
        let took = format!("({})", seconds(self.began.elapsed()));
        self.line(format_args!("{} {text} {}", self.green("✔"), self.dim(&took)));
        self.begin();
    }

    /// Something worth knowing that is not a step.
    pub(crate) fn note(&self, text: impl Display) {
        self.line(format_args!("{} {text}", self.dim("·")));
    }

    pub(crate) fn blank(&self) {
        self.line("");
    }

    /// A line as it is. A reader that has gone (`longshore up | head`) is no reason to stop what is under way.
    pub(crate) fn line(&self, text: impl Display) {
        let _ = writeln!(io::stdout(), "{text}");
    }

    pub(crate) fn green(&self, text: &str) -> String {
        self.painted("32", text)
    }

    pub(crate) fn red(&self, text: &str) -> String {
        self.painted("31", text)
    }

    pub(crate) fn dim(&self, text: &str) -> String {
        self.painted("2", text)
    }

    fn painted(&self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// The error that ends a command, on standard error.
pub(crate) fn complain(error: &str) {
    let colour = wants_colour(io::stderr().is_terminal());
    let cross = if colour { "\x1b[31m✘\x1b[0m" } else { "✘" };
    let lines: Vec<_> = error.lines().map(harmless).collect();
    let _ = writeln!(io::stderr(), "{cross} {}", lines.join("\n"));
}

/// Text of others (reasons, names, versions: machines and registries choose them) as it may go to a terminal: characters that
/// would move its cursor, colour it or begin a line of their own are shown as they are written in Rust.
pub(crate) fn harmless(text: &str) -> Cow<'_, str> {
    match text.contains(char::is_control) {
        false => Cow::Borrowed(text),
        true => {
            let escaped = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
            Cow::Owned(text.chars().map(escaped).collect())
        }
    }
}

/// A note beside what a command prints, on standard error.
pub(crate) fn remark(text: &str) {
    let _ = writeln!(io::stderr(), "· {}", harmless(text));
}

pub(crate) fn wants_colour(terminal: bool) -> bool {
    terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// What a command was asked for, on standard output.
///
/// # Errors
/// Of [`written`].
pub(crate) fn print(text: &str) -> Result<(), CliError> {
    let mut out = io::stdout();
    written(out.write_all(text.as_bytes()).and_then(|()| out.flush()))
}

/// The same for programs.
///
/// # Errors
/// Of [`written`].
pub(crate) fn print_json(value: &impl serde::Serialize) -> Result<(), CliError> {
    // Answers of the API have string keys and finite numbers: nothing in them is not JSON.
    print(&format!("{}\n", serde_json::to_string_pretty(value).unwrap_or_default()))
}

/// What it means for a command how its writing to standard output ended: a reader that has gone (`longshore ps | head`) needs
/// no more of it.
///
/// # Errors
/// When what was asked for got lost: the disk is full, say.
pub(crate) fn written(result: io::Result<()>) -> Result<(), CliError> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result.map_err(CliError::file("write to", Path::new("standard output"))),
    }
}

/// A point in time, in UTC, to the second.
pub(crate) fn time_text(time: Timestamp) -> String {
    let time = jiff::Timestamp::from_millisecond(time.as_millis()).unwrap_or_default();
    time.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

/// How long ago something was.
pub(crate) fn ago_text(then: Timestamp, now: Timestamp) -> String {
    let seconds = u64::try_from(now.since(then) / 1000).unwrap_or(0);
    format!("{} ago", duration_text(Duration::from_secs(seconds)))
}

/// A duration as people read it: three decimals while it is short, one when it is not.
pub(crate) fn seconds(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    if seconds < 1.0 { format!("{seconds:.3} s") } else { format!("{seconds:.1} s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_times_keep_their_milliseconds() {
        assert_eq!(seconds(Duration::from_millis(12)), "0.012 s");
        assert_eq!(seconds(Duration::from_millis(61_250)), "61.2 s");
    }

    #[test]
    fn what_others_wrote_moves_no_cursor_and_begins_no_line() {
        assert_eq!(harmless("exit 1: größer"), "exit 1: größer");
        assert_eq!(harmless("a\x1b[2Jb\nc\u{9b}d"), "a\\u{1b}[2Jb\\nc\\u{9b}d");
    }

    #[test]
    fn a_reader_that_has_gone_is_no_failure_and_a_full_disk_is_one() {
        assert!(written(Ok(())).is_ok());
        assert!(written(Err(io::ErrorKind::BrokenPipe.into())).is_ok());
        let error = written(Err(io::ErrorKind::StorageFull.into())).unwrap_err().with_causes();
        assert!(error.starts_with("cannot write to standard output: "), "{error}");
    }

    #[test]
    fn colour_is_for_terminals() {
        assert!(!wants_colour(false));
        let plain = Output { colour: false, began: Instant::now() };
        assert_eq!(plain.green("✔"), "✔");
        let painted = Output { colour: true, began: Instant::now() };
        assert_eq!(painted.green("✔"), "\x1b[32m✔\x1b[0m");
    }
}
