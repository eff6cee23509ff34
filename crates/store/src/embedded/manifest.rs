//! Which files make up the store, in one small file that is only ever replaced as a whole.

use std::path::{Path, PathBuf};

use super::files;
use super::frame::{self, Fields, FileId, Kind, Parsed};
use crate::{CommitNumber, StoreError};

const NAME: &str = "MANIFEST";
const FILE: FileId = FileId::new(Kind::Manifest, 0);
/// The format of everything in the directory. A release reads its own and all older ones, and refuses newer ones
/// untouched.
pub const FORMAT: u32 = 1;

/// One sorted run, oldest first in [`Manifest::runs`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RunInfo {
    pub(super) number: u64,
    pub(super) bytes: u64,
}

/// The state of the directory as of one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Manifest {
    /// Everything up to this number is in the runs; the log's first segment goes on from it.
    pub(super) folded: CommitNumber,
    /// The oldest log segment that is not in the runs. Segments from here on exist without a gap.
    pub(super) first_segment: u64,
    /// The number that the next run takes. Never used twice, so that a leftover file is never taken for a live one.
    pub(super) next_run: u64,
    /// Sorted runs, oldest first. For a key in several, the newest wins.
    pub(super) runs: Vec<RunInfo>,
}

impl Manifest {
    /// Of a store that holds nothing yet.
    pub(super) fn empty() -> Self {
        Self { folded: CommitNumber(0), first_segment: 1, next_run: 1, runs: Vec::new() }
    }

    /// Where it lies.
    pub(super) fn path(dir: &Path) -> PathBuf {
        dir.join(NAME)
    }

    /// Where the next one lies until it is complete.
    pub(super) fn next_path(dir: &Path) -> PathBuf {
        files::next_path(dir, NAME)
    }

    /// Whether a run counts.
    pub(super) fn has_run(&self, number: u64) -> bool {
        self.runs.iter().any(|run| run.number == number)
    }

    /// Reads it, or `None` when the directory has none.
    pub(super) fn read(dir: &Path) -> Result<Option<Self>, StoreError> {
        let path = Self::path(dir);
        let Some(bytes) = files::read(&path)? else {
            return Ok(None);
        };
        let payload = match frame::parse(&bytes, 0, FILE) {
            Parsed::Frame(range) => &bytes[range],
            Parsed::End => {
                return Err(files::damaged(&path, 0, "the list of the store's files is empty"));
            }
            Parsed::Bad(why) => return Err(files::damaged(&path, 0, why)),
        };
        let mut fields = Fields(payload);
        let found = fields.u32().unwrap_or(0);
        if found > FORMAT {
            return Err(StoreError::NewerFormat { path: dir.to_owned(), found, supported: FORMAT });
        }
        Self::decode(&mut fields)
            .map(Some)
            .ok_or_else(|| files::damaged(&path, frame::HEADER_BYTES, "the list of the store's files is cut short"))
    }

    /// Makes this the state of the directory.
    pub(super) fn write(&self, dir: &Path) -> Result<(), StoreError> {
        files::replace(dir, NAME, &frame::encode(&self.encode(FORMAT), FILE, 0))
    }

    fn decode(fields: &mut Fields<'_>) -> Option<Self> {
        let folded = CommitNumber(fields.u64()?);
        let first_segment = fields.u64()?;
        let next_run = fields.u64()?;
        let count = fields.u32()?;
        let runs =
            (0..count).map(|_| Some(RunInfo { number: fields.u64()?, bytes: fields.u64()? })).collect::<Option<_>>()?;
        Some(Self { folded, first_segment, next_run, runs })
    }

    fn encode(&self, format: u32) -> Vec<u8> {
        let mut out = format.to_le_bytes().to_vec();
        for field in [self.folded.0, self.first_segment, self.next_run] {
            out.extend_from_slice(&field.to_le_bytes());
        }
        out.extend_from_slice(&u32::try_from(self.runs.len()).unwrap_or(u32::MAX).to_le_bytes());
        for run in &self.runs {
            out.extend_from_slice(&run.number.to_le_bytes());
            out.extend_from_slice(&run.bytes.to_le_bytes());
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        Manifest {
            folded: CommitNumber(9),
            first_segment: 4,
            next_run: 7,
            runs: vec![RunInfo { number: 5, bytes: 80 }, RunInfo { number: 6, bytes: 8 }],
        }
    }

    #[test]
    fn what_was_written_is_read() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Manifest::read(dir.path()).unwrap(), None);
        manifest().write(dir.path()).unwrap();
        assert_eq!(Manifest::read(dir.path()).unwrap(), Some(manifest()));
    }

    #[test]
    fn a_newer_format_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        files::replace(dir.path(), NAME, &frame::encode(&manifest().encode(FORMAT + 1), FILE, 0)).unwrap();
        let error = Manifest::read(dir.path()).unwrap_err();
        assert!(matches!(error, StoreError::NewerFormat { found: 2, supported: 1, .. }));
        assert!(error.to_string().contains("has format 2, this release reads up to 1"), "{error}");
    }

    #[test]
    fn damage_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        manifest().write(dir.path()).unwrap();
        let path = dir.path().join(NAME);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[20] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        assert!(matches!(Manifest::read(dir.path()), Err(StoreError::Damaged { .. })));
        std::fs::write(&path, b"").unwrap();
        assert!(matches!(Manifest::read(dir.path()), Err(StoreError::Damaged { .. })));
    }
}
