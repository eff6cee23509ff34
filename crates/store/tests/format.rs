//! Stores that earlier releases left, as this one reads them: byte for byte.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so")]

use std::fs;
use std::path::{Path, PathBuf};

use longshore_store::conformance::{self, batch, group, put};
use longshore_store::restore::NUMBERS_SKIPPED;
use longshore_store::{CommitNumber, EmbeddedStore, Store, backup, check, restore};

/// The stores of format 1, and the last number of each.
const FORMAT_1: [(&str, u64); 2] = [("server", 32), ("compacted", 186)];

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/format-1").join(name)
}

/// Fixtures are only ever read: a store that is led is a copy.
fn copy(name: &str, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(fixture(name)).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
    }
}

fn line(key: &[u8], value: &[u8]) -> String {
    format!("{}\t{}\n", key.escape_ascii(), value.escape_ascii())
}

fn lines(store: &mut EmbeddedStore) -> (CommitNumber, String) {
    let (number, entities) = conformance::load(store).unwrap();
    (number, entities.iter().map(|(key, value)| line(key, value)).collect())
}

#[test]
fn stores_of_format_1_load_byte_for_byte_and_are_written_on() {
    let expected = fs::read_to_string(fixture("records.txt")).unwrap();
    for (name, last) in FORMAT_1 {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("store");
        copy(name, &dir);
        let mut store = EmbeddedStore::open(&dir).unwrap();
        let term = store.lead().unwrap();
        assert!(term.0 > 1, "{name}: terms go on as well");
        assert!(lines(&mut store) == (CommitNumber(last), expected.clone()), "{name}: every record, byte for byte");
        store.commit(term, &batch([group(last + 1, [put("zz", "new")])])).unwrap();
        drop(store);
        let mut store = EmbeddedStore::open(&dir).unwrap();
        store.lead().unwrap();
        let expected = expected.clone() + &line(b"zz", b"new");
        assert!(lines(&mut store) == (CommitNumber(last + 1), expected), "{name}: and one more");
    }
}

#[test]
fn stores_of_format_1_are_checked_backed_up_and_restored() {
    let expected = fs::read_to_string(fixture("records.txt")).unwrap();
    for (name, last) in FORMAT_1 {
        let mut seen = String::new();
        let report = check::check(&fixture(name), &mut |key, value| seen.push_str(&line(key, value))).unwrap();
        assert_eq!((report.format, report.number.0, report.damage.len()), (Some(1), last, 0), "{name}");
        assert_eq!((report.torn, report.leftovers.len(), report.in_use), (None, 0, None), "{name}");
        assert!(seen == expected, "{name}");

        let folder = tempfile::tempdir().unwrap();
        let (file, dir) = (folder.path().join("backup"), folder.path().join("store"));
        backup::create(&fixture(name), &file, Vec::new(), false).unwrap();
        restore::stage(&file, &dir, false, CommitNumber(0)).unwrap().put_in_place(&folder.path().join("old")).unwrap();
        let mut store = EmbeddedStore::open(&dir).unwrap();
        store.lead().unwrap();
        assert!(lines(&mut store) == (CommitNumber(last + NUMBERS_SKIPPED), expected.clone()), "{name}");
    }
}
