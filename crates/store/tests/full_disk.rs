//! A disk without room, for real: small file systems, mounted by the test.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so")]

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use longshore_store::conformance::{self, Entities, batch, group, put};
use longshore_store::embedded::Options;
use longshore_store::{CommitError, CommitNumber, EmbeddedStore, Store};

struct Mount {
    dir: tempfile::TempDir,
    /// The file that holds the file system, unless memory does.
    _image: Option<tempfile::NamedTempFile>,
}

impl Mount {
    /// Four megabytes of memory.
    fn tmpfs() -> Option<Self> {
        Self::with(None, &["-t", "tmpfs", "-o", "size=4m", "tmpfs"])
    }

    /// Eight megabytes of what most servers have: space there is promised at a write and found at a synchronisation.
    fn ext4() -> Option<Self> {
        let image = tempfile::NamedTempFile::new().unwrap();
        image.as_file().set_len(8 << 20).unwrap();
        let made = Command::new("mkfs.ext4").args(["-q", "-m", "0"]).arg(image.path()).output();
        if !made.as_ref().is_ok_and(|output| output.status.success()) {
            eprintln!("SKIPPED: a test of a full ext4 needs mkfs.ext4: {made:?}");
            return None;
        }
        let path = image.path().to_str().unwrap().to_owned();
        Self::with(Some(image), &["-o", "loop", &path])
    }

    /// `None`, with a word on why, where the test may not mount.
    fn with(image: Option<tempfile::NamedTempFile>, args: &[&str]) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        match Command::new("mount").args(args).arg(dir.path()).output() {
            Ok(output) if output.status.success() => Some(Self { dir, _image: image }),
            refused => {
                eprintln!("SKIPPED: a test of a full disk needs the right to mount a file system: {refused:?}");
                None
            }
        }
    }

    fn store(&self) -> PathBuf {
        self.dir.path().join("store")
    }

    /// Fills the disk, then leaves `room` bytes free.
    fn fill(&self, room: u64) {
        let mut filler = fs::File::create(self.dir.path().join("filler")).unwrap();
        while filler.write_all(&[1; 4096]).is_ok() {}
        filler.sync_all().ok();
        let size = filler.metadata().unwrap().len();
        filler.set_len(size.saturating_sub(room)).unwrap();
        filler.sync_all().unwrap();
    }

    fn empty(&self) {
        fs::remove_file(self.dir.path().join("filler")).ok();
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        Command::new("umount").arg("--lazy").arg(self.dir.path()).status().ok();
    }
}

fn open(dir: &Path) -> EmbeddedStore {
    EmbeddedStore::open_with(dir, Options { segment_bytes: 48 << 10 }).unwrap()
}

/// Commits until it fails, keeping `entities` what they must be; returns the error.
fn commit_until_full(
    store: &mut EmbeddedStore,
    term: longshore_store::Term,
    number: &mut u64,
    entities: &mut Entities,
) -> CommitError {
    for _ in 0..10_000 {
        let next = *number + 1;
        let (key, value) = (format!("key-{next}"), vec![7; 900 + (next % 700) as usize]);
        match store.commit(term, &batch([group(next, [put(&key, &value)])])) {
            Ok(()) => {
                entities.insert(key.into_bytes(), value);
                *number = next;
            }
            Err(error) => return error,
        }
    }
    panic!("the disk never got full");
}

fn expect(store: &mut EmbeddedStore, number: u64, entities: &Entities) {
    let loaded = conformance::load(store).expect("a full disk does not keep anybody from loading");
    assert!(loaded == (CommitNumber(number), entities.clone()), "exactly what was committed before the disk was full");
}

/// One after the other: a process forked meanwhile (to mount the other one) would for an instant hold this one's removed
/// files open, and their space with them.
#[test]
fn a_full_disk_in_memory_and_a_full_ext4() {
    for mount in [Mount::tmpfs, Mount::ext4] {
        mount().iter().for_each(a_full_disk_fails_commits_and_nothing_else_until_there_is_room);
    }
}

fn a_full_disk_fails_commits_and_nothing_else_until_there_is_room(mount: &Mount) {
    let mut store = open(&mount.store());
    let mut term = store.lead().unwrap();
    let (mut number, mut entities) = (0, Entities::new());
    // Different room each time: the space runs out inside a record, at a new segment, or under the compaction.
    for round in 0..12 {
        mount.fill(20_000 + round * 9_973);
        let error = commit_until_full(&mut store, term, &mut number, &mut entities);
        let CommitError::Failed { durable, source } = &error else {
            panic!("a full disk is known to have kept nothing: {error}")
        };
        assert_eq!(*durable, CommitNumber(number));
        assert!(source.is_disk_full(), "{error}");
        assert!(error.to_string().contains("free space on this disk"), "{error}");
        expect(&mut store, number, &entities);
        if round % 3 == 1 {
            drop(store);
            store = open(&mount.store());
            term = store.lead().expect("a server starts on a full disk");
            expect(&mut store, number, &entities);
        }
        mount.empty();
        number += 1;
        entities.insert(b"after".to_vec(), number.to_string().into_bytes());
        store
            .commit(term, &batch([group(number, [put("after", number.to_string())])]))
            .expect("writing goes on by itself once there is room");
        expect(&mut store, number, &entities);
        let mut cleared = Vec::new();
        for key in entities.keys().filter(|key| key.starts_with(b"key-")) {
            cleared.push(conformance::delete(key));
        }
        number += 1;
        entities.retain(|key, _| !key.starts_with(b"key-"));
        store.commit(term, &batch([group(number, cleared)])).expect("committed");
    }
    drop(store);
    let report = longshore_store::check::check(&mount.store(), &mut |_, _| ()).unwrap();
    assert_eq!((report.number, report.entities, report.damage.len()), (CommitNumber(number), 1, 0));
}
