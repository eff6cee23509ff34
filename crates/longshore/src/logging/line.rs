//! One event as one line: logfmt, or a JSON object.

use std::fmt::{self, Write};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// Writes events as `level=info time=… msg="…" module=… key=value`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line {
    pub(super) json: bool,
}

impl<S, N> FormatEvent<S, N> for Line
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let level = match *event.metadata().level() {
            Level::ERROR => "error",
            Level::WARN => "warn",
            Level::INFO => "info",
            Level::DEBUG => "debug",
            Level::TRACE => "trace",
        };
        let time = jiff::Timestamp::now();
        self.write(&mut writer, level, &format!("{time:.3}"), event.metadata().target(), &fields)
    }
}

impl Line {
    fn write(&self, out: &mut dyn Write, level: &str, time: &str, module: &str, fields: &Fields) -> fmt::Result {
        let head = [("level", level), ("time", time), ("msg", &fields.message), ("module", module)];
        let head = head.into_iter().map(|(name, value)| (name, value, Kind::Text));
        let rest = fields.others.iter().map(|(name, value, kind)| (*name, value.as_str(), *kind));
        if self.json {
            out.write_char('{')?;
            for (index, (name, value, kind)) in head.chain(rest).enumerate() {
                let comma = if index == 0 { "" } else { "," };
                match kind {
                    Kind::Bare => write!(out, "{comma}\"{name}\":{value}")?,
                    Kind::Text => {
                        write!(out, "{comma}\"{name}\":")?;
                        quote(out, value)?;
                    }
                }
            }
            return out.write_str("}\n");
        }
        for (index, (name, value, _)) in head.chain(rest).enumerate() {
            let space = if index == 0 { "" } else { " " };
            write!(out, "{space}{name}=")?;
            if name == "msg" || needs_quotes(value) { quote(out, value)? } else { out.write_str(value)? }
        }
        out.write_str("\n")
    }
}

fn needs_quotes(value: &str) -> bool {
    value.is_empty() || value.chars().any(|c| c.is_whitespace() || c.is_control() || matches!(c, '"' | '=' | '\\'))
}

/// The text as a JSON string, which is how logfmt quotes, too. Nothing in it ends the line.
fn quote(out: &mut dyn Write, text: &str) -> fmt::Result {
    out.write_str(&serde_json::Value::from(text).to_string())
}

/// Whether a value stands for itself in JSON.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Bare,
    Text,
}

/// What an event carries, in its order.
#[derive(Debug, Default)]
struct Fields {
    message: String,
    others: Vec<(&'static str, String, Kind)>,
}

impl Fields {
    fn add(&mut self, field: &Field, value: String, kind: Kind) {
        if field.name() == "message" {
            self.message = value;
        } else {
            self.others.push((field.name(), value, kind));
        }
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, format!("{value:?}"), Kind::Text);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, value.to_owned(), Kind::Text);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, value.to_string(), Kind::Bare);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, value.to_string(), Kind::Bare);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, value.to_string(), Kind::Bare);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn line(json: bool, message: &str, others: &[(&'static str, &str, Kind)]) -> String {
        let others = others.iter().map(|(name, value, kind)| (*name, (*value).to_owned(), *kind)).collect();
        let mut out = String::new();
        let fields = Fields { message: message.to_owned(), others };
        Line { json }.write(&mut out, "info", "2026-11-22T11:15:01.803Z", "longshore::up", &fields).unwrap();
        out
    }

    #[test]
    fn a_line_is_logfmt_as_the_official_agent_writes_it() {
        assert_eq!(
            line(
                false,
                "it's \"here\"",
                &[("pid", "7", Kind::Bare), ("why", "a b\n=", Kind::Text), ("e", "", Kind::Text)]
            ),
            "level=info time=2026-11-22T11:15:01.803Z msg=\"it's \\\"here\\\"\" module=longshore::up pid=7 \
             why=\"a b\\n=\" e=\"\"\n"
        );
    }

    #[test]
    fn an_event_keeps_its_fields_and_their_types() {
        use tracing_subscriber::layer::SubscriberExt;
        let out = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
        let writer = out.clone();
        let layer = tracing_subscriber::fmt::layer()
            .event_format(Line { json: true })
            .with_writer(move || Shared(writer.clone()));
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            tracing::warn!(pid = 7, gone = true, why = %"so", "ended");
        });
        let line: serde_json::Value = serde_json::from_slice(&out.lock().unwrap()).unwrap();
        assert_eq!(line["level"], "warn");
        assert_eq!(line["msg"], "ended");
        assert_eq!((&line["pid"], &line["gone"], &line["why"]), (&7.into(), &true.into(), &"so".into()));
    }

    struct Shared(std::sync::Arc<std::sync::Mutex<Vec<u8>>>);

    impl std::io::Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    proptest! {
        #[test]
        fn an_event_is_one_line_whatever_it_says(message in "\\PC*|[\\n\"=\\\\ a]*", value in ".*") {
            let text = line(false, &message, &[("v", &value, Kind::Text)]);
            prop_assert_eq!(text.matches('\n').count(), 1);
            let json = line(true, &message, &[("v", &value, Kind::Text)]);
            let read: serde_json::Value = serde_json::from_str(&json).unwrap();
            prop_assert_eq!(read["msg"].as_str(), Some(message.as_str()));
            prop_assert_eq!(read["v"].as_str(), Some(value.as_str()));
        }
    }
}
