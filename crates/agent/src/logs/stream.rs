//! Docker's stream of a container's output, taken apart into entries.
//!
//! With two streams, each entry comes in a frame of its own: which stream, how long, then its time, a space and its bytes.
//! With a terminal there are no frames: times and bytes follow each other, and a line break ends an entry; a line of more
//! than 16 KiB comes in parts of exactly so much, each with a time. Nothing is assumed about the bytes.

use bytes::{Buf, BytesMut};

use super::position::Time;

/// The header of a frame: stream, three zeros, length.
const HEADER_BYTES: usize = 8;
/// Docker cuts lines at 16 KiB; what is far longer is no entry. One of these fits an answer, in base64.
const ENTRY_BYTES_AT_MOST: usize = 1 << 19;
/// Where Docker cuts a line.
const PART_BYTES: usize = 16 << 10;
/// No time is written longer, with its space.
const TIME_BYTES_AT_MOST: usize = 40;

/// What was printed at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) time: Time,
    pub(super) stderr: bool,
    pub(super) data: Vec<u8>,
}

/// Takes a stream apart. Bytes come as they come; what is not complete yet waits.
#[derive(Debug)]
pub(super) struct Parser {
    tty: bool,
    buffer: BytesMut,
    /// For an entry whose time cannot be read.
    last: Time,
}

impl Parser {
    pub(super) fn new(tty: bool) -> Self {
        Self { tty, buffer: BytesMut::new(), last: Time::default() }
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next entry that is complete.
    ///
    /// # Errors
    /// When the Engine says that it failed, or what it sends is no such stream.
    pub(super) fn next(&mut self) -> Result<Option<Entry>, String> {
        if self.tty { Ok(self.line()) } else { self.frame() }
    }

    /// What is left when the stream has ended: the last line of a terminal may have no line break.
    pub(super) fn rest(&mut self) -> Option<Entry> {
        let rest = self.buffer.split();
        (self.tty && !rest.is_empty()).then(|| self.entry(&rest, false))
    }

    fn frame(&mut self) -> Result<Option<Entry>, String> {
        let Some((header, _)) = self.buffer.split_first_chunk::<HEADER_BYTES>() else { return Ok(None) };
        let [stream, _, _, _, length @ ..] = *header;
        let length = u32::from_be_bytes(length) as usize;
        if stream > 3 || length > ENTRY_BYTES_AT_MOST {
            return Err(format!("a frame of {length} bytes for stream {stream}"));
        }
        if self.buffer.len() < HEADER_BYTES + length {
            return Ok(None);
        }
        self.buffer.advance(HEADER_BYTES);
        let payload = self.buffer.split_to(length);
        match stream {
            3 => Err(String::from_utf8_lossy(&payload).trim().to_owned()),
            stream => Ok(Some(self.entry(&payload, stream == 2))),
        }
    }

    fn line(&mut self) -> Option<Entry> {
        let begin = time_length(&self.buffer).unwrap_or(0);
        let newline = self.buffer.iter().position(|byte| *byte == b'\n').map(|at| at + 1);
        let end = match newline {
            Some(end) if end <= begin + PART_BYTES => end,
            // What is that long may be several parts: where the next one begins, its time tells.
            _ => {
                let reach = newline.unwrap_or(self.buffer.len());
                let next = (begin + PART_BYTES..reach).find(|&at| begins_with_time(&self.buffer[at..reach]));
                next.or(newline).or((reach > ENTRY_BYTES_AT_MOST).then_some(reach))?
            }
        };
        let line = self.buffer.split_to(end);
        Some(self.entry(&line, false))
    }

    fn entry(&mut self, payload: &[u8], stderr: bool) -> Entry {
        let (time, data) = match time_length(payload) {
            Some(length) => payload.split_at(length),
            None => (&[][..], payload),
        };
        let time = std::str::from_utf8(time).ok().and_then(|time| Time::from_rfc3339(time.trim_end()));
        self.last = time.unwrap_or(self.last);
        Entry { time: self.last, stderr, data: data.to_vec() }
    }
}

/// Whether a time of now stands here; asked at very many places, of which nearly all are none.
fn begins_with_time(bytes: &[u8]) -> bool {
    bytes.get(4) == Some(&b'-') && bytes.get(10) == Some(&b'T') && time_length(bytes).is_some()
}

/// How many bytes the time at the beginning takes, with the space behind it.
fn time_length(bytes: &[u8]) -> Option<usize> {
    let head = &bytes[..bytes.len().min(TIME_BYTES_AT_MOST)];
    let space = head.iter().position(|byte| *byte == b' ')?;
    let text = std::str::from_utf8(&head[..space]).ok()?;
    Time::from_rfc3339(text).map(|_| space + 1)
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(in crate::logs) fn time(second: i64) -> Time {
        Time { seconds: second, nanoseconds: 5 }
    }

    /// An entry as Docker puts it into a frame.
    pub(in crate::logs) fn frame(second: i64, stderr: bool, data: &[u8]) -> Vec<u8> {
        let mut payload = format!("{} ", time(second)).into_bytes();
        payload.extend_from_slice(data);
        let mut frame = vec![if stderr { 2 } else { 1 }, 0, 0, 0];
        frame.extend_from_slice(&u32::try_from(payload.len()).unwrap().to_be_bytes());
        frame.extend(payload);
        frame
    }

    fn entry(second: i64, stderr: bool, data: &[u8]) -> Entry {
        Entry { time: time(second), stderr, data: data.to_vec() }
    }

    /// All entries of a stream that comes in pieces of this size.
    fn parse(tty: bool, bytes: &[u8], piece: usize) -> Vec<Entry> {
        let mut parser = Parser::new(tty);
        let mut entries = Vec::new();
        for piece in bytes.chunks(piece) {
            parser.push(piece);
            while let Some(entry) = parser.next().unwrap() {
                entries.push(entry);
            }
        }
        entries.extend(parser.rest());
        entries
    }

    #[test]
    fn frames_keep_streams_and_bytes_apart() {
        let all = [
            entry(1, false, b"out\n"),
            entry(2, true, "größer\n".as_bytes()),
            entry(3, false, b"\x00\xff\n"),
            entry(4, false, b"no line break"),
            entry(5, true, b""),
        ];
        let bytes: Vec<u8> = all.iter().flat_map(|one| frame(one.time.seconds, one.stderr, &one.data)).collect();
        for piece in [1, 3, 64, 4096] {
            assert_eq!(parse(false, &bytes, piece), all, "{piece}");
        }
    }

    #[test]
    fn a_terminal_has_lines_and_long_ones_come_in_parts() {
        // A character that was cut is written as another one, which is longer.
        let long = [&vec![b'x'; PART_BYTES - 1][..], "\u{fffd}".as_bytes()].concat();
        let all =
            [entry(1, false, b"one\r\n"), entry(2, false, &long), entry(3, false, b"end\n"), entry(4, false, b"$ ")];
        let mut bytes = Vec::new();
        for one in &all {
            bytes.extend(format!("{} ", one.time).into_bytes());
            bytes.extend(&one.data);
        }
        for piece in [1, 7, 4096, 1 << 20] {
            assert_eq!(parse(true, &bytes, piece), all, "{piece}");
        }
    }

    #[test]
    fn what_the_engine_complains_of_is_an_error() {
        let mut complaint = vec![3, 0, 0, 0, 0, 0, 0, 3];
        complaint.extend(b"bad");
        let mut parser = Parser::new(false);
        parser.push(&complaint);
        assert_eq!(parser.next(), Err("bad".to_owned()));
        let mut parser = Parser::new(false);
        parser.push(&[1, 0, 0, 0, 255, 255, 255, 255]);
        assert!(parser.next().is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_panic_and_the_buffer_is_bounded(bytes in prop::collection::vec(any::<u8>(), 0..300), tty: bool) {
            let mut parser = Parser::new(tty);
            parser.push(&bytes);
            for _ in 0..bytes.len() {
                if !matches!(parser.next(), Ok(Some(_))) {
                    break;
                }
            }
            let _ = parser.rest();
        }
    }
}
