//! Telemetry frames from agents: an HTTP-style header block, an empty line, then the JSON envelope.
//!
//! The block carries a signature over the JSON, which whoever receives the frame may verify. Frames from the control plane are bare
//! JSON; a bare frame from an agent is taken as one without headers.

use crate::DecodeError;

/// A telemetry frame.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frame {
    /// Header names and values, in order.
    pub headers: Vec<(String, String)>,
    /// The JSON envelope.
    pub body: String,
}

impl Frame {
    /// The text of the websocket frame. Line breaks in a header would end it early, so they become spaces.
    pub fn encode(&self) -> String {
        let clean = |text: &str| text.replace(['\r', '\n'], " ");
        let mut text = String::with_capacity(self.body.len() + 512);
        for (name, value) in &self.headers {
            text.push_str(&format!("{}: {}\r\n", clean(name), clean(value)));
        }
        text.push_str("\r\n");
        text.push_str(&self.body);
        text
    }

    /// Splits a frame at its first empty line.
    pub fn decode(text: &str) -> Result<Self, DecodeError> {
        if text.starts_with('{') {
            return Ok(Self { headers: Vec::new(), body: text.to_owned() });
        }
        let (block, body) = match text.strip_prefix("\r\n") {
            Some(body) => ("", body),
            None => text.split_once("\r\n\r\n").ok_or(DecodeError::Unterminated)?,
        };
        let lines = block.split("\r\n").filter(|_| !block.is_empty());
        let headers = lines.enumerate().map(|(index, line)| match line.split_once(':') {
            Some((name, value)) if !name.trim().is_empty() => Ok((name.trim().to_owned(), value.trim().to_owned())),
            _ => Err(DecodeError::Header { line: index + 1 }),
        });
        Ok(Self { headers: headers.collect::<Result<_, _>>()?, body: body.to_owned() })
    }

    /// The first header of that name, without regard to case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(have, _)| have.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}
