//! The envelope `{"type": …, "message": …}` around every message, and the enums of messages that travel in it.

use serde::Serialize;
use serde_json::value::RawValue;
use thiserror::Error;

use crate::object::object;

/// Why text from the peer is not a message.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The text is not an envelope.
    #[error("not a message envelope, expected an object with \"type\" and \"message\": {0}")]
    Envelope(#[source] serde_json::Error),
    /// The envelope names no message type.
    #[error("the message envelope has no \"type\"")]
    Untyped,
    /// The envelope is fine, its message is not.
    #[error("{message_type} cannot be read: {source}")]
    Message {
        /// The type the envelope names.
        message_type: &'static str,
        /// What is wrong; the text starts with the path of the member.
        source: serde_json::Error,
    },
    /// A TCS frame's header block is broken.
    #[error("header block of a telemetry frame, line {line}: expected \"Name: value\"")]
    Header {
        /// Line number, from 1.
        line: usize,
    },
    /// A TCS frame ends before its JSON begins.
    #[error("telemetry frame has no empty line between header block and JSON")]
    Unterminated,
}

object! {
    /// The envelope as received.
    pub(crate) struct Envelope {
        /// The message's type.
        message_type: String = "type",
        /// The message, not looked into yet.
        message: Option<RawMessage> = "message",
    }
}

/// A message that was not looked into yet.
#[derive(Clone, Debug)]
pub(crate) struct RawMessage(pub(crate) Box<RawValue>);

impl PartialEq for RawMessage {
    fn eq(&self, other: &Self) -> bool {
        self.0.get() == other.0.get()
    }
}

impl Serialize for RawMessage {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> serde::Deserialize<'de> for RawMessage {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Box::<RawValue>::deserialize(deserializer).map(Self)
    }
}

/// Type and message text of an envelope; a missing message reads as the empty object.
pub(crate) fn open(text: &str) -> Result<(String, String), DecodeError> {
    let envelope: Envelope = serde_json::from_str(text).map_err(DecodeError::Envelope)?;
    if envelope.message_type.is_empty() {
        return Err(DecodeError::Untyped);
    }
    let message = envelope.message.map_or_else(|| "{}".to_owned(), |raw| raw.0.get().to_owned());
    Ok((envelope.message_type, message))
}

/// The envelope around `message`.
pub(crate) fn close(message_type: &str, message: &impl Serialize) -> String {
    #[derive(Serialize)]
    struct Outgoing<'a, M> {
        r#type: &'a str,
        message: &'a M,
    }
    // Protocol objects are maps with string keys and plain values: writing them to memory cannot fail.
    serde_json::to_string(&Outgoing { r#type: message_type, message }).unwrap_or_default()
}

/// Declares the enum of the messages that travel in one direction of one channel.
macro_rules! messages {
    ($(#[$meta:meta])* pub enum $name:ident {
        $( $(#[$variant_meta:meta])* $variant:ident($ty:ty) = $wire:literal, )*
    }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq)]
        pub enum $name { $( $(#[$variant_meta])* $variant($ty), )* }

        impl $name {
            /// The message's type as the envelope spells it.
            pub fn type_name(&self) -> &'static str {
                match self { $( Self::$variant(_) => $wire, )* }
            }

            /// The text of the websocket frame: the envelope with the message in it.
            pub fn encode(&self) -> String {
                match self { $( Self::$variant(message) => $crate::envelope::close($wire, message), )* }
            }

            /// Reads a frame. `None` is a message of a type that is not known here: to be ignored, never an error.
            pub fn decode(text: &str) -> Result<Option<Self>, $crate::DecodeError> {
                let (message_type, message) = $crate::envelope::open(text)?;
                match message_type.as_str() {
                    $( $wire => serde_json::from_str(&message)
                        .map(|message| Some(Self::$variant(message)))
                        .map_err(|source| $crate::DecodeError::Message { message_type: $wire, source }), )*
                    _ => Ok(None),
                }
            }
        }
    };
}
pub(crate) use messages;
