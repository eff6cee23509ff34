//! What things are called in the registry: repositories, tags, digests. Each is a name of a file, too, so nothing else gets
//! through here.

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};

use super::refusal::Refusal;

/// The longest name of a repository: one file's name, with room to spare. Docker's limit is 255 together with the host.
const MAX_REPOSITORY_CHARS: usize = 200;
const MAX_TAG_CHARS: usize = 128;

/// The name of a repository: `team/app`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Repository(String);

impl Repository {
    pub(crate) fn parse(text: &str) -> Result<Self, Refusal> {
        let fits = text.len() <= MAX_REPOSITORY_CHARS && text.split('/').all(is_component);
        match fits {
            true => Ok(Self(text.to_owned())),
            false => Err(Refusal::name_invalid(format!(
                "a repository's name has up to {MAX_REPOSITORY_CHARS} lower-case letters and digits, separated by '/', '.', \
                 '-', '_' or '__'"
            ))),
        }
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// The name of its directory. A flat one: else `a/tags` would lie within `a`.
    pub(super) fn file_name(&self) -> String {
        self.0.replace('/', "+")
    }

    pub(super) fn of_file_name(name: &str) -> Option<Self> {
        Self::parse(&name.replace('+', "/")).ok()
    }
}

/// Letters and digits, joined by one `.`, one or two `_`, or any number of `-`.
fn is_component(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let separator = |text: &str| matches!(text, "" | "." | "_" | "__") || text.bytes().all(|byte| byte == b'-');
    text.starts_with(plain) && text.ends_with(plain) && text.split(plain).all(separator)
}

/// `sha256:` and 64 hexadecimal digits: what something is called by its content.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Digest(String);

impl Digest {
    const ALGORITHM: &'static str = "sha256:";

    pub(crate) fn parse(text: &str) -> Result<Self, Refusal> {
        let hex = text.strip_prefix(Self::ALGORITHM).unwrap_or_default();
        let well_formed = hex.len() == 64 && hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        match well_formed {
            true => Ok(Self(text.to_owned())),
            false => Err(Refusal::digest_invalid("a digest is sha256: and 64 hexadecimal digits")),
        }
    }

    /// Of these bytes.
    pub(crate) fn of(bytes: &[u8]) -> Self {
        Self::of_hash(digest(&SHA256, bytes).as_ref())
    }

    pub(super) fn of_hash(hash: &[u8]) -> Self {
        Self(format!("{}{}", Self::ALGORITHM, hex::encode(hash)))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    pub(super) fn hex(&self) -> &str {
        &self.0[Self::ALGORITHM.len()..]
    }

    pub(super) fn of_hex(hex: &str) -> Option<Self> {
        Self::parse(&format!("{}{hex}", Self::ALGORITHM)).ok()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name of a version of an image.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Tag(String);

impl Tag {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let mut bytes = text.bytes();
        let fits = bytes.next().is_some_and(word) && bytes.all(|byte| word(byte) || byte == b'.' || byte == b'-');
        (fits && text.len() <= MAX_TAG_CHARS).then(|| Self(text.to_owned()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// How a manifest is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reference {
    Tag(Tag),
    Digest(Digest),
}

impl Reference {
    pub(crate) fn parse(text: &str) -> Result<Self, Refusal> {
        match Tag::parse(text) {
            Some(tag) => Ok(Self::Tag(tag)),
            None if text.contains(':') => Digest::parse(text).map(Self::Digest),
            None => Err(Refusal::manifest_invalid(
                "a tag has up to 128 letters, digits, '_', '.' and '-', and does not begin with '.' or '-'",
            )),
        }
    }
}

/// The name of an upload: made here, so it is known by its form.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct UploadId(String);

impl UploadId {
    const CHARS: usize = 32;

    pub(super) fn of_random(random: [u8; 16]) -> Self {
        Self(hex::encode(random))
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        let well_formed =
            text.len() == Self::CHARS && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        well_formed.then(|| Self(text.to_owned()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_docker_takes_are_taken_and_no_others() {
        for name in ["app", "team/app", "a.b/c_d/e__f/g---h", "0", &"a".repeat(200)] {
            let parsed = Repository::parse(name).unwrap();
            assert_eq!(Repository::of_file_name(&parsed.file_name()), Some(parsed.clone()));
            assert!(!parsed.file_name().contains('/'));
        }
        let long = "a".repeat(201);
        for name in ["", "/", "a/", "/a", "a//b", "..", "a/../b", ".a", "a.", "a..b", "a___b", "A", "a b", "a+b", &long]
        {
            assert!(Repository::parse(name).is_err(), "{name}");
        }
    }

    #[test]
    fn a_reference_is_a_tag_or_a_digest() {
        let digest = Digest::of(b"x");
        assert_eq!(Reference::parse(digest.as_str()), Ok(Reference::Digest(digest.clone())));
        assert!(matches!(Reference::parse("v1.0_a-B"), Ok(Reference::Tag(_))));
        for bad in ["", ".", "..", "-a", "a/b", "sha256:xy", "md5:00", &"t".repeat(129)] {
            assert!(Reference::parse(bad).is_err(), "{bad}");
        }
        assert_eq!(Digest::of_hex(digest.hex()), Some(digest));
    }
}
