//! Lines on a terminal, in a file, or as JSON.

use std::io::{self, BufWriter, IsTerminal, Write};

use longshore_api::admin::LogStream;
use serde::Serialize;

use crate::output::{harmless, wants_colour};

/// So much is gathered before it is written, unless somebody waits for it.
const BUFFER_BYTES: usize = 64 << 10;
/// Colours of containers' names, one after the other: those that can be read on black and on white.
const COLOURS: [&str; 6] = ["36", "33", "35", "32", "34", "31"];

/// What was printed at once: a line, or a part of a long one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) time: String,
    pub(super) stream: LogStream,
    pub(super) data: Vec<u8>,
}

impl Line {
    /// The line goes on in the next entry of its stream.
    fn is_partial(&self) -> bool {
        self.data.last() != Some(&b'\n')
    }
}

/// How lines are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    Text { timestamps: bool },
    Json,
}

/// Writes standard output to one, standard error to the other.
pub(super) struct Printer<O: Write, E: Write> {
    out: BufWriter<O>,
    err: BufWriter<E>,
    style: Style,
    names: Vec<String>,
    prefixes: Vec<String>,
    /// Whose line was written last and not to its end.
    open: Option<(usize, LogStream)>,
}

/// A line for programs.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a> {
    time: &'a str,
    container: &'a str,
    stream: LogStream,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message_base64: Option<String>,
    partial: bool,
}

impl<O: Write + IsTerminal, E: Write> Printer<O, E> {
    pub(super) fn new(out: O, err: E, style: Style, names: &[String]) -> Self {
        let colour = wants_colour(out.is_terminal());
        Self::painted(out, err, style, names, colour)
    }
}

impl<O: Write, E: Write> Printer<O, E> {
    fn painted(out: O, err: E, style: Style, names: &[String], colour: bool) -> Self {
        let width = names.iter().map(|name| name.chars().count()).max().unwrap_or(0);
        let prefix = |(index, name): (usize, &String)| match colour {
            true => format!("\x1b[{}m{name:width$} |\x1b[0m ", COLOURS[index % COLOURS.len()]),
            false => format!("{name:width$} | "),
        };
        Self {
            out: BufWriter::with_capacity(BUFFER_BYTES, out),
            err: BufWriter::with_capacity(BUFFER_BYTES, err),
            style,
            // A single container needs no name: its output is shown as it was printed, byte by byte.
            prefixes: if names.len() > 1 { names.iter().enumerate().map(prefix).collect() } else { Vec::new() },
            names: names.to_vec(),
            open: None,
        }
    }

    /// Writes what a container printed.
    pub(super) fn line(&mut self, container: usize, line: &Line) -> io::Result<()> {
        match self.style {
            Style::Json => self.document(container, line),
            Style::Text { timestamps } => self.text(container, line, timestamps),
        }
    }

    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.out.flush()?;
        self.err.flush()
    }

    fn text(&mut self, container: usize, line: &Line, timestamps: bool) -> io::Result<()> {
        let prefix = self.prefixes.get(container).cloned();
        let decorated = prefix.is_some() || timestamps;
        let source = (container, line.stream);
        // The other's line is broken off, so that none of the two pretends to have said it all.
        if decorated && let Some((_, stream)) = self.open.filter(|open| *open != source) {
            self.to(stream).write_all(b"\n")?;
            self.open = None;
        }
        let begins = self.open != Some(source);
        let out = self.to(line.stream);
        if decorated && begins {
            out.write_all(prefix.unwrap_or_default().as_bytes())?;
            if timestamps {
                write!(out, "{} ", harmless(&line.time))?;
            }
        }
        out.write_all(&line.data)?;
        self.open = line.is_partial().then_some(source);
        self.in_turn(line.stream)
    }

    fn document(&mut self, container: usize, line: &Line) -> io::Result<()> {
        use base64::Engine as _;
        let data = line.data.strip_suffix(b"\n").unwrap_or(&line.data);
        let message = std::str::from_utf8(data).ok();
        let document = Document {
            time: &line.time,
            container: self.names.get(container).map_or("", String::as_str),
            stream: line.stream,
            message,
            message_base64: message.is_none().then(|| base64::engine::general_purpose::STANDARD.encode(data)),
            partial: line.is_partial(),
        };
        serde_json::to_writer(&mut self.out, &document)?;
        self.out.write_all(b"\n")
    }

    fn to(&mut self, stream: LogStream) -> &mut dyn Write {
        match stream {
            LogStream::Stdout => &mut self.out,
            LogStream::Stderr => &mut self.err,
        }
    }

    /// What goes to two streams is seen in one order on a terminal.
    fn in_turn(&mut self, stream: LogStream) -> io::Result<()> {
        match stream {
            LogStream::Stderr => self.flush(),
            LogStream::Stdout => Ok(()),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// What was written to each of the two.
    pub(in crate::logs) struct Written {
        pub(in crate::logs) out: Vec<u8>,
        pub(in crate::logs) err: Vec<u8>,
    }

    pub(in crate::logs) fn printer(style: Style, names: &[&str]) -> Printer<Vec<u8>, Vec<u8>> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        Printer::painted(Vec::new(), Vec::new(), style, &names, false)
    }

    pub(in crate::logs) fn written(mut printer: Printer<Vec<u8>, Vec<u8>>) -> Written {
        printer.flush().unwrap();
        Written { out: printer.out.into_inner().unwrap(), err: printer.err.into_inner().unwrap() }
    }

    pub(in crate::logs) fn line(time: u32, stream: LogStream, data: &[u8]) -> Line {
        Line { time: format!("T{time:04}"), stream, data: data.to_vec() }
    }

    const TEXT: Style = Style::Text { timestamps: false };

    #[test]
    fn one_container_is_shown_byte_by_byte() {
        let mut printer = printer(TEXT, &["main"]);
        let bytes: [&[u8]; 4] = [b"one\n", b"\x00\xff", "ü\n".as_bytes(), b"end"];
        for data in bytes {
            printer.line(0, &line(1, LogStream::Stdout, data)).unwrap();
        }
        printer.line(0, &line(1, LogStream::Stderr, b"wrong\n")).unwrap();
        let written = written(printer);
        assert_eq!(written.out, bytes.concat());
        assert_eq!(written.err, b"wrong\n");
    }

    #[test]
    fn several_are_told_apart_and_never_share_a_line() {
        let mut printer = printer(Style::Text { timestamps: true }, &["web", "sidecar"]);
        let out = LogStream::Stdout;
        for (container, data) in [(0, "one\n"), (1, "part"), (1, " of it\n"), (0, "broken"), (1, "in\n"), (0, "off\n")]
        {
            printer.line(container, &line(7, out, data.as_bytes())).unwrap();
        }
        let text = String::from_utf8(written(printer).out).unwrap();
        assert_eq!(
            text,
            "web     | T0007 one\n\
             sidecar | T0007 part of it\n\
             web     | T0007 broken\n\
             sidecar | T0007 in\n\
             web     | T0007 off\n"
        );
    }

    #[test]
    fn names_are_coloured_on_a_terminal() {
        let names = ["a".to_owned(), "b".to_owned()];
        let mut printer = Printer::painted(Vec::new(), Vec::new(), TEXT, &names, true);
        printer.line(1, &line(1, LogStream::Stdout, b"x\n")).unwrap();
        assert_eq!(written(printer).out, b"\x1b[33mb |\x1b[0m x\n");
    }

    #[test]
    fn programs_get_an_object_a_line_and_every_byte() {
        let mut printer = printer(Style::Json, &["main"]);
        printer.line(0, &line(1, LogStream::Stderr, b"it \"is\"\n")).unwrap();
        printer.line(0, &line(2, LogStream::Stdout, b"\xff")).unwrap();
        let text = String::from_utf8(written(printer).out).unwrap();
        let expected = [
            r#"{"time":"T0001","container":"main","stream":"stderr","message":"it \"is\"","partial":false}"#,
            r#"{"time":"T0002","container":"main","stream":"stdout","messageBase64":"/w==","partial":true}"#,
        ];
        assert_eq!(text.lines().collect::<Vec<_>>(), expected);
    }
}
