//! Request ids: what `x-amzn-RequestId` carries, and what ties an answer to its log line.

use std::fmt;

use aws_lc_rs::rand::{self, SecureRandom as _};

/// A random (version 4) UUID naming one request.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct RequestId([u8; 16]);

impl RequestId {
    /// A fresh id. Should the system's randomness fail the id is all zeros but for its version: a request must not be lost
    /// because it cannot be named uniquely.
    pub fn random() -> Self {
        let mut bytes = [0; 16];
        if rand::SystemRandom::new().fill(&mut bytes).is_err() {
            bytes = [0; 16];
        }
        bytes[6] = (bytes[6] & 0x0f) | 0x40;
        bytes[8] = (bytes[8] & 0x3f) | 0x80;
        Self(bytes)
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, byte) in self.0.iter().enumerate() {
            if matches!(index, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_a_version_4_uuid_and_differs_from_the_next() {
        let (one, two) = (RequestId::random().to_string(), RequestId::random().to_string());
        assert_ne!(one, two);
        assert_eq!(one.len(), 36);
        assert_eq!(one.as_bytes()[14], b'4');
        assert!(matches!(one.as_bytes()[19], b'8' | b'9' | b'a' | b'b'));
    }
}
