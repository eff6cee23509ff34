//! The one envelope of everything on disk: `magic, length, checksum, payload`.
//!
//! The checksum covers the file's kind and number and the frame's offset too, so a frame is valid only in the place it
//! was written for: neither a frame's image inside a value nor a file copied over another one can pass for the real
//! thing.

use std::ops::Range;

use crc32fast::Hasher;

/// Bytes before the payload.
pub(super) const HEADER_BYTES: usize = 12;
/// No frame is longer. Damage to a length then shows as such, instead of as a demand for gigabytes.
pub(super) const MAX_PAYLOAD_BYTES: usize = 64 << 20;

/// Not text in any encoding, and not zeros, which is what the unused end of a log segment holds.
const MAGIC: [u8; 4] = [0xf5, b'L', b'S', 0xfa];

static ZEROS: [u8; 4096] = [0; 4096];

/// Which file a frame belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileId {
    pub(super) kind: Kind,
    pub(super) number: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Log = 1,
    Run = 2,
    Manifest = 3,
    Leader = 4,
    Mark = 5,
    Backup = 6,
}

impl FileId {
    pub(super) const fn new(kind: Kind, number: u64) -> Self {
        Self { kind, number }
    }
}

/// What stands at an offset.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Parsed {
    /// A whole, valid frame with its payload here.
    Frame(Range<usize>),
    /// Nothing but zeros from here on, or nothing at all.
    End,
    /// Something else, and why it is no frame.
    Bad(&'static str),
}

/// Starts a frame at the end of `out`; [`finish`] completes it once its payload has been appended.
pub(super) fn begin(out: &mut Vec<u8>) -> usize {
    let start = out.len();
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&[0; 8]);
    start
}

/// Completes the frame begun at `start` of `out`, which is to be written at `offset` of `file`. Payloads are bounded by
/// the callers.
pub(super) fn finish(out: &mut [u8], start: usize, file: FileId, offset: u64) {
    let payload_at = start + HEADER_BYTES;
    let len = u32::try_from(out.len() - payload_at).unwrap_or(u32::MAX);
    let crc = checksum(file, offset, len, &out[payload_at..]);
    out[start + 4..start + 8].copy_from_slice(&len.to_le_bytes());
    out[start + 8..payload_at].copy_from_slice(&crc.to_le_bytes());
}

/// A frame of its own around `payload`.
pub(super) fn encode(payload: &[u8], file: FileId, offset: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER_BYTES + payload.len());
    begin(&mut out);
    out.extend_from_slice(payload);
    finish(&mut out, 0, file, offset);
    out
}

/// The length and checksum that a frame's first bytes announce, or why they are no frame's.
pub(super) fn parse_header(header: &[u8]) -> Result<(u32, u32), &'static str> {
    let Some((magic, rest)) = header.split_first_chunk::<4>() else {
        return Err("the file ends inside a record's header");
    };
    let (Some(len), Some(crc)) = (u32_at(rest, 0), u32_at(rest, 4)) else {
        return Err("the file ends inside a record's header");
    };
    if *magic != MAGIC {
        return Err("no record begins here");
    }
    if len as usize > MAX_PAYLOAD_BYTES {
        return Err("the record's length is impossible");
    }
    Ok((len, crc))
}

/// Checks a payload against what its header announced.
pub(super) fn verify(payload: &[u8], crc: u32, file: FileId, offset: u64) -> Result<(), &'static str> {
    let len = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    if checksum(file, offset, len, payload) == crc {
        Ok(())
    } else {
        Err("the record's checksum does not match its content")
    }
}

/// Reads the frame at `at` of `bytes`, the whole content of `file`.
pub(super) fn parse(bytes: &[u8], at: usize, file: FileId) -> Parsed {
    let rest = bytes.get(at..).unwrap_or_default();
    let (len, crc) = match parse_header(rest) {
        Ok(header) => header,
        Err(_) if all_zeros(rest) => return Parsed::End,
        Err(why) => return Parsed::Bad(why),
    };
    let payload_at = at + HEADER_BYTES;
    let Some(payload) = bytes.get(payload_at..payload_at + len as usize) else {
        return Parsed::Bad("the file ends inside the record");
    };
    match verify(payload, crc, file, at as u64) {
        Ok(()) => Parsed::Frame(payload_at..payload_at + len as usize),
        Err(why) => Parsed::Bad(why),
    }
}

/// Where the first valid frame at or after `from` begins. A torn tail has none: each batch is one frame, written only
/// after the one before it was synchronised, so a valid frame behind a bad one proves that the bad one was once good.
pub(super) fn find(bytes: &[u8], from: usize, file: FileId) -> Option<usize> {
    let tail = bytes.get(from..)?;
    let mut at = 0;
    while let Some(skip) = tail[at..].iter().position(|&byte| byte == MAGIC[0]) {
        at += skip;
        if matches!(parse(bytes, from + at, file), Parsed::Frame(_)) {
            return Some(from + at);
        }
        at += 1;
    }
    None
}

fn checksum(file: FileId, offset: u64, len: u32, payload: &[u8]) -> u32 {
    let mut place = [0; 21];
    place[0] = file.kind as u8;
    place[1..9].copy_from_slice(&file.number.to_le_bytes());
    place[9..17].copy_from_slice(&offset.to_le_bytes());
    place[17..].copy_from_slice(&len.to_le_bytes());
    let mut hasher = Hasher::new();
    hasher.update(&place);
    hasher.update(payload);
    hasher.finalize()
}

/// By comparing pages rather than bytes: a segment's unused end is looked at on every start.
fn all_zeros(bytes: &[u8]) -> bool {
    bytes.chunks(ZEROS.len()).all(|chunk| chunk == &ZEROS[..chunk.len()])
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// Takes little-endian fields off the front of a payload; `None` when it is too short.
#[derive(Debug)]
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    pub(super) fn u32(&mut self) -> Option<u32> {
        let (head, tail) = self.0.split_first_chunk()?;
        self.0 = tail;
        Some(u32::from_le_bytes(*head))
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        let (head, tail) = self.0.split_first_chunk()?;
        self.0 = tail;
        Some(u64::from_le_bytes(*head))
    }

    pub(super) fn bytes(&mut self, len: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(len)?;
        self.0 = tail;
        Some(head)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FILE: FileId = FileId::new(Kind::Log, 3);

    proptest! {
        #[test]
        fn a_frame_reads_back_only_in_its_own_place(payload: Vec<u8>, lead in 0usize..40) {
            let mut bytes = vec![0; lead];
            bytes.extend(encode(&payload, FILE, lead as u64));
            let expected = lead + HEADER_BYTES..bytes.len();
            prop_assert_eq!(parse(&bytes, lead, FILE), Parsed::Frame(expected));
            prop_assert_eq!(find(&bytes, 0, FILE), Some(lead));
            prop_assert!(matches!(parse(&bytes, lead, FileId::new(Kind::Log, 4)), Parsed::Bad(_)));
            prop_assert!(matches!(parse(&bytes, lead, FileId::new(Kind::Run, 3)), Parsed::Bad(_)));
            bytes.insert(0, 0);
            prop_assert!(matches!(parse(&bytes, lead + 1, FILE), Parsed::Bad(_)));
        }

        #[test]
        fn any_changed_byte_is_noticed(payload: Vec<u8>, at: prop::sample::Index, flip in 1u8..) {
            let mut bytes = encode(&payload, FILE, 0);
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
            prop_assert!(matches!(parse(&bytes, 0, FILE), Parsed::Bad(_)));
        }

        #[test]
        fn any_bytes_parse_without_panic(bytes: Vec<u8>, at in 0usize..64) {
            parse(&bytes, at, FILE);
            find(&bytes, at, FILE);
        }
    }

    #[test]
    fn zeros_are_an_end_and_anything_else_is_not() {
        assert_eq!(parse(&[0; 5], 0, FILE), Parsed::End);
        assert_eq!(parse(&[0; 50], 50, FILE), Parsed::End);
        assert!(matches!(parse(&[0, 0, 0, 0, 1], 0, FILE), Parsed::Bad(_)));
    }
}
