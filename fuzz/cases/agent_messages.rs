//! Messages of the agent protocol, both directions of both websockets: no frame makes a decoder panic, and what is understood is
//! written so that it is understood again.
//!
//! Input: a frame.

use longshore_agent_protocol::frame::Frame;
use longshore_agent_protocol::{acs, tcs};

macro_rules! round_trip {
    ($message:ty, $text:expr) => {
        if let Ok(Some(message)) = <$message>::decode($text) {
            let again = <$message>::decode(&message.encode()).expect("what was written is read");
            // Not that it is equal: the last digit of a large number with a fraction may change.
            assert_eq!(again.map(|again| again.type_name()), Some(message.type_name()));
        }
    };
}

pub(crate) fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    round_trip!(acs::ServerMessage, text);
    round_trip!(acs::AgentMessage, text);
    round_trip!(tcs::ServerMessage, text);
    round_trip!(tcs::AgentMessage, text);
    if let Ok(frame) = Frame::decode(text) {
        let _ = (frame.header("Authorization"), frame.header(""));
        round_trip!(tcs::AgentMessage, &frame.body);
    }
}
