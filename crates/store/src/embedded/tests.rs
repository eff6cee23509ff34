//! The engine against bad disks: torn ends, changed bytes, lost files, failing synchronisation; and what it leaves
//! behind on good ones.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use super::*;
use crate::conformance::{self, Entities, batch, delete, group, put};

thread_local! {
    /// How many of this thread's next synchronisations fail, after letting so many pass.
    static FAIL: Cell<(usize, usize)> = const { Cell::new((0, 0)) };
    /// How many synchronisations this thread asked for.
    static SYNCS: Cell<usize> = const { Cell::new(0) };
}

fn failing_sync(file: &File) -> io::Result<()> {
    SYNCS.set(SYNCS.get() + 1);
    let (pass, fail) = FAIL.get();
    if pass > 0 {
        FAIL.set((pass - 1, fail));
    } else if fail > 0 {
        FAIL.set((0, fail - 1));
        return Err(io::Error::from_raw_os_error(5));
    }
    file.sync_data()
}

fn open(dir: &Path) -> EmbeddedStore {
    let mut store = EmbeddedStore::open_with(dir, Options { segment_bytes: 4 << 10 }).unwrap();
    store.config.sync = failing_sync;
    store
}

fn one(number: u64) -> Batch {
    let value = vec![u8::try_from(number % 251).unwrap(); 300];
    batch([group(number, [put(format!("key-{number:04}"), value)])])
}

fn entities(numbers: std::ops::RangeInclusive<u64>) -> Entities {
    let writes = numbers.flat_map(|number| one(number).groups).flat_map(|group| group.writes);
    let entry = |write| match write {
        crate::Write::Put { key, value } => (key, value),
        crate::Write::Delete { .. } => unreachable!("only puts here"),
    };
    writes.map(entry).collect()
}

/// Leads and loads, as a server that starts does.
fn start(dir: &Path) -> Result<(CommitNumber, Entities), StoreError> {
    let mut store = open(dir);
    store.lead()?;
    conformance::load(&mut store)
}

fn expect(dir: &Path, last: u64, why: &str) {
    let started = start(dir).unwrap_or_else(|error| panic!("{why}: {error}"));
    assert_eq!(started, (CommitNumber(last), entities(1..=last)), "{why}");
}

/// All files and their content.
fn content(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

fn restore(dir: &Path, content: &BTreeMap<PathBuf, Vec<u8>>) {
    for path in self::content(dir).keys() {
        fs::remove_file(path).unwrap();
    }
    for (path, bytes) in content {
        fs::write(path, bytes).unwrap();
    }
}

/// A store of `last` commits in one segment, and where in it each of them ends (the first entry: where the first
/// begins).
fn small(dir: &Path, last: u64) -> (PathBuf, Vec<usize>) {
    let mut store = EmbeddedStore::open(dir).unwrap();
    let term = store.lead().unwrap();
    let mut ends = Vec::new();
    for number in 1..=last {
        ends.push(store.active.as_ref().unwrap().log.len() as usize);
        store.commit(term, &one(number)).unwrap();
    }
    ends.push(store.active.as_ref().unwrap().log.len() as usize);
    (files::log_path(dir, 1), ends)
}

/// A store with runs, a full segment or more, and a newest one; compaction is over.
fn grown(dir: &Path, last: u64) {
    let mut store = open(dir);
    let term = store.lead().unwrap();
    for number in 1..=last {
        store.commit(term, &one(number)).unwrap();
    }
    store.active.as_ref().unwrap().compactor.settle();
}

/// The refusal names the file, and leaves every byte as it was (but for the lock's own file, and
/// the unused zeros at a log's end).
fn expect_refused(dir: &Path, file: &Path, why: &str) {
    let before = content(dir);
    match start(dir) {
        Err(error @ StoreError::Damaged { .. }) => {
            let StoreError::Damaged { file: named, .. } = &error else { unreachable!() };
            assert_eq!(named, file, "{why}: {error}");
            let way_out = format!("store check --data-dir {}", dir.parent().unwrap().display());
            assert!(error.to_string().contains(&way_out), "{error}");
        }
        other => panic!("{why}: must be refused as damaged, but: {:?}", other.map(|(number, _)| number)),
    }
    let checked = content(dir);
    let report = check::check(dir, &mut |_, _| panic!("{why}: no entity of a damaged store is shown")).unwrap();
    assert_eq!(report.damage[0].file, file, "{why}: the check finds it too");
    assert!(!report.damage[0].lost.is_empty());
    assert_eq!(content(dir), checked, "{why}: checking changes nothing");
    let used = |bytes: &[u8]| bytes.iter().rposition(|&byte| byte != 0);
    for (path, bytes) in before.iter().filter(|(path, _)| !path.ends_with("leader")) {
        let now = fs::read(path).unwrap_or_default();
        let len = used(bytes).map_or(0, |last| last + 1);
        assert!(now.starts_with(&bytes[..len]), "{why}: {} was changed", path.display());
    }
}

/// The check finds damage, in this file alone.
fn expect_found(dir: &Path, file: &Path) {
    let report = check::check(dir, &mut |_, _| ()).unwrap();
    let found: Vec<_> = report.damage.iter().map(|damage| damage.file.as_path()).collect();
    assert_eq!(found, [file]);
}

/// What a power failure leaves: the mark is older than the last batch, and that batch is cut, zeroed or garbled
/// anywhere.
#[test]
fn a_torn_last_record_is_cut_off() {
    let dir = tempfile::tempdir().unwrap();
    let (log, ends) = small(dir.path(), 4);
    Mark::open(dir.path(), CommitNumber(3)).unwrap();
    let whole = content(dir.path());
    for at in (ends[3]..ends[4]).step_by(5) {
        let mut bytes = whole[&log].clone();
        match at % 3 {
            0 => bytes.truncate(at),
            1 => bytes[at..].fill(0),
            _ => bytes[at] ^= 0x40,
        }
        restore(dir.path(), &whole);
        fs::write(&log, &bytes).unwrap();
        expect(dir.path(), 3, "the torn batch is cut off");
        let mut store = open(dir.path());
        let term = store.lead().unwrap();
        store.commit(term, &one(4)).unwrap();
        drop(store);
        expect(dir.path(), 4, "and the log goes on from there");
    }
}

#[test]
fn a_cut_at_any_byte_leaves_a_prefix_or_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (log, ends) = small(dir.path(), 4);
    let whole = content(dir.path());
    for acknowledged in [0, 2, 4] {
        for at in (ends[0]..=ends[4]).step_by(13) {
            restore(dir.path(), &whole);
            Mark::open(dir.path(), CommitNumber(acknowledged)).unwrap();
            fs::write(&log, &whole[&log][..at]).unwrap();
            let there = ends[1..].iter().filter(|&&end| end <= at).count() as u64;
            if there < acknowledged {
                expect_refused(dir.path(), &log, "an acknowledged commit is missing");
            } else {
                expect(dir.path(), there, "whole batches before the cut are there");
            }
        }
    }
}

#[test]
fn a_damaged_record_that_a_valid_one_follows_is_refused_at_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let (log, ends) = small(dir.path(), 4);
    // Without the mark: the valid record alone must give it away.
    fs::remove_file(dir.path().join("mark")).unwrap();
    let whole = content(dir.path());
    for at in (0..ends[3]).step_by(11) {
        restore(dir.path(), &whole);
        let mut bytes = whole[&log].clone();
        bytes[at] ^= 0x10;
        fs::write(&log, &bytes).unwrap();
        let begins = ends.iter().rev().find(|&&end| end <= at).copied().unwrap_or(0) as u64;
        match start(dir.path()) {
            Err(StoreError::Damaged { file, offset, .. }) => {
                assert_eq!((file, offset), (log.clone(), begins))
            }
            other => panic!("byte {at}: {:?}", other.map(|(number, _)| number)),
        }
        expect_refused(dir.path(), &log, "mid-log damage");
    }
}

#[test]
fn a_damaged_last_record_that_was_acknowledged_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (log, ends) = small(dir.path(), 4);
    let mut bytes = fs::read(&log).unwrap();
    bytes[ends[3] + 20] ^= 1;
    fs::write(&log, &bytes).unwrap();
    expect_refused(dir.path(), &log, "the last record was acknowledged");
    // An unreadable mark only weakens the check: the record then counts as torn.
    fs::write(dir.path().join("mark"), b"scribble").unwrap();
    expect(dir.path(), 3, "without the mark it is a torn tail");
}

#[test]
fn damaged_missing_or_swapped_files_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    grown(dir.path(), 80);
    let whole = content(dir.path());
    let runs: Vec<_> = whole.keys().filter(|path| path.to_string_lossy().contains("run-")).collect();
    assert!(!runs.is_empty());
    expect(dir.path(), 80, "the store is sound");
    for run in &runs {
        let bytes = &whole[*run];
        for at in (0..bytes.len()).step_by(bytes.len() / 11 + 1) {
            restore(dir.path(), &whole);
            let mut bytes = bytes.clone();
            bytes[at] ^= 2;
            fs::write(run, &bytes).unwrap();
            expect_refused(dir.path(), run, "a changed byte in a run");
        }
        restore(dir.path(), &whole);
        fs::write(run, &bytes[..bytes.len() / 2]).unwrap();
        expect_refused(dir.path(), run, "half a run");
        fs::remove_file(run).unwrap();
        expect_refused(dir.path(), run, "a missing run");
    }
    restore(dir.path(), &whole);
    let log = whole.keys().find(|path| path.to_string_lossy().contains("log-")).unwrap();
    fs::remove_file(log).unwrap();
    expect_refused(dir.path(), log, "a missing log");
    restore(dir.path(), &whole);
    let manifest = dir.path().join("MANIFEST");
    fs::remove_file(&manifest).unwrap();
    expect_refused(dir.path(), &manifest, "a missing manifest");
}

#[test]
fn a_missing_or_damaged_older_segment_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    // Three segments as they are before anything is folded.
    Manifest::empty().write(dir.path()).unwrap();
    for segment in 1..=3 {
        let mut log = Log::create(dir.path(), segment, CommitNumber(segment - 1), open(dir.path()).config).unwrap();
        log.append(&one(segment)).unwrap();
    }
    let whole = content(dir.path());
    for segment in 1..=2 {
        let path = files::log_path(dir.path(), segment);
        restore(dir.path(), &whole);
        fs::remove_file(&path).unwrap();
        expect_refused(dir.path(), &path, "a missing segment");
        restore(dir.path(), &whole);
        let mut bytes = whole[&path].clone();
        bytes[60] ^= 1;
        fs::write(&path, &bytes).unwrap();
        expect_found(dir.path(), &path);
    }
    restore(dir.path(), &whole);
    expect(dir.path(), 3, "undamaged, they all count");
}

#[test]
fn an_image_of_a_record_inside_a_value_is_no_record() {
    let dir = tempfile::tempdir().unwrap();
    let (log, ends) = small(dir.path(), 2);
    let image = fs::read(&log).unwrap()[ends[0]..ends[2]].to_vec();
    let mut store = EmbeddedStore::open(dir.path()).unwrap();
    let term = store.lead().unwrap();
    store.commit(term, &batch([group(3, [put("image", image)])])).unwrap();
    drop(store);
    Mark::open(dir.path(), CommitNumber(2)).unwrap();
    let mut bytes = fs::read(&log).unwrap();
    bytes[ends[2] + 14] ^= 1;
    fs::write(&log, &bytes).unwrap();
    expect(dir.path(), 2, "a torn batch with such a value is still a torn batch");
}

#[test]
fn a_crash_between_any_two_steps_of_creation_is_survived() {
    let dir = tempfile::tempdir().unwrap();
    Manifest::empty().write(dir.path()).unwrap();
    expect(dir.path(), 0, "a manifest and no log");
    let dir = tempfile::tempdir().unwrap();
    Manifest::empty().write(dir.path()).unwrap();
    for begun in [&b""[..], &[0xf5, b'L', b'S'], &[0; 100]] {
        fs::write(files::log_path(dir.path(), 1), begun).unwrap();
        expect(dir.path(), 0, "a first segment that was not begun");
    }
    small(dir.path(), 3);
    fs::write(files::log_path(dir.path(), 2), [0xf5, 1, 2]).unwrap();
    fs::write(files::run_path(dir.path(), 1), b"half a run").unwrap();
    fs::write(dir.path().join("MANIFEST.new"), b"half a manifest").unwrap();
    expect(dir.path(), 3, "a next segment that was not begun, an unnamed run, half a manifest");
    assert!(
        !files::log_path(dir.path(), 2).exists() && !files::run_path(dir.path(), 1).exists(),
        "leftovers are removed"
    );
}

#[test]
fn a_failed_synchronisation_is_never_a_success() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    let term = store.lead().unwrap();
    store.commit(term, &one(1)).unwrap();
    // The synchronisation fails; cutting the batch off again works (1) or fails as well (2).
    for failures in [1, 2] {
        FAIL.set((0, failures));
        let term = store.term;
        let unknown = store.commit(term, &one(2));
        assert!(matches!(unknown, Err(CommitError::Unknown { source: StoreError::Io { .. } })), "{unknown:?}");
        let again = store.commit(term, &one(2));
        assert!(
            matches!(again, Err(CommitError::Unknown { source: StoreError::Unsettled })),
            "nothing is written on top of a doubt: {again:?}"
        );
        assert_eq!(conformance::load(&mut store).unwrap().0, CommitNumber(1), "only what is surely durable is shown");
        FAIL.set((0, 1));
        assert!(store.lead().is_err(), "a disk that still fails cannot be led");
        assert!(matches!(store.commit(term, &one(2)), Err(CommitError::Unknown { .. })));
        let newer = store.lead().unwrap();
        assert!(newer > term);
        assert_eq!(conformance::load(&mut store).unwrap(), (CommitNumber(1), entities(1..=1)));
    }
    let term = store.term;
    store.commit(term, &one(2)).unwrap();
    drop(store);
    expect(dir.path(), 2, "after leading again the number is free, and used once");
}

#[test]
fn a_batch_costs_one_synchronisation() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = EmbeddedStore::open(dir.path()).unwrap();
    store.config.sync = failing_sync;
    let term = store.lead().unwrap();
    for size in [1, 10, 100] {
        let before = SYNCS.get();
        let last = store.active.as_ref().unwrap().log.last().0;
        let groups = (1..=size).flat_map(|number| one(last + number).groups);
        store.commit(term, &batch(groups)).unwrap();
        assert_eq!(SYNCS.get() - before, 1, "whatever the number of groups, here {size}");
    }
}

/// A crash after a new manifest was written and before what it supersedes was removed: both are there.
#[test]
fn superseded_files_that_a_crash_left_count_for_nothing() {
    let dir = tempfile::tempdir().unwrap();
    grown(dir.path(), 30);
    let before = content(dir.path());
    let mut store = open(dir.path());
    let term = store.lead().unwrap();
    for number in 31..=80 {
        store.commit(term, &one(number)).unwrap();
    }
    store.active.as_ref().unwrap().compactor.settle();
    drop(store);
    let after = content(dir.path());
    for (path, bytes) in before.iter().filter(|(path, _)| !after.contains_key(*path)) {
        fs::write(path, bytes).unwrap();
    }
    assert!(content(dir.path()).len() > after.len());
    expect(dir.path(), 80, "the manifest says what counts");
    assert_eq!(content(dir.path()).len(), after.len(), "the rest is removed");
}

#[test]
fn a_failed_new_segment_fails_the_commit_and_is_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    let term = store.lead().unwrap();
    let mut number = 0;
    while store.active.as_ref().unwrap().log.len() < 4 << 10 {
        number += 1;
        store.commit(term, &one(number)).unwrap();
    }
    FAIL.set((0, 1));
    let failed = store.commit(term, &one(number + 1));
    assert!(
        matches!(failed, Err(CommitError::Failed { durable, .. }) if durable == CommitNumber(number)),
        "{failed:?}"
    );
    store.commit(term, &one(number + 1)).unwrap();
    drop(store);
    expect(dir.path(), number + 1, "the new segment counts");
}

#[test]
fn a_batch_too_large_is_refused_and_the_next_one_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = EmbeddedStore::open(dir.path()).unwrap();
    let term = store.lead().unwrap();
    let refused = store.commit(term, &batch([group(1, [put("a", vec![0; 65 << 20])])]));
    assert!(
        matches!(refused, Err(CommitError::Failed { source: StoreError::BatchTooLarge { .. }, .. })),
        "{refused:?}"
    );
    store.commit(term, &one(1)).unwrap();
    drop(store);
    expect(dir.path(), 1, "nothing of the large batch is there");
}

#[test]
fn overwriting_for_ever_takes_bounded_space() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = EmbeddedStore::open_with(dir.path(), Options { segment_bytes: 64 << 10 }).unwrap();
    let term = store.lead().unwrap();
    let mut number = 0;
    for _ in 0..400 {
        let groups = (0..50).map(|_| {
            number += 1;
            group(number, [put(format!("key-{}", number % 100), vec![7; 700])])
        });
        let groups: Vec<_> = groups.collect();
        store.commit(term, &batch(groups)).unwrap();
    }
    store.active.as_ref().unwrap().compactor.settle();
    let blocks: u64 = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().metadata().unwrap().blocks()).sum();
    // 100 entities of 700 bytes live: at most twice that in runs, one log segment, and small change.
    assert!(blocks * 512 < 2 * 72_000 + 2 * (64 << 10) + 65_536, "{} bytes after 20,000 overwrites", blocks * 512);
    assert_eq!(conformance::load(&mut store).unwrap().1.len(), 100);

    let deletes = (0..100).map(|key| delete(format!("key-{key}")));
    store.commit(term, &batch([group(number + 1, deletes)])).unwrap();
    drop(store);
    let mut store = EmbeddedStore::open(dir.path()).unwrap();
    store.lead().unwrap();
    assert_eq!(conformance::load(&mut store).unwrap(), (CommitNumber(number + 1), Entities::new()));
}

#[test]
fn deletions_vanish_with_what_they_hide() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    let term = store.lead().unwrap();
    for number in 1..=400 {
        let writes = [put(format!("key-{number}"), vec![1; 200]), delete(format!("key-{}", number - 1))];
        store.commit(term, &batch([group(number, writes)])).unwrap();
    }
    let compactor = &store.active.as_ref().unwrap().compactor;
    compactor.settle();
    let runs: u64 = compactor.with_manifest(|manifest| manifest.runs.iter().map(|run| run.bytes).sum());
    assert!(runs < 8 << 10, "{runs} bytes of runs for one entity");
    let expected = Entities::from([(b"key-400".to_vec(), vec![1; 200])]);
    assert_eq!(conformance::load(&mut store).unwrap(), (CommitNumber(400), expected));
}

#[test]
fn nobody_else_can_read_the_files() {
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("data").join("store");
    grown(&store, 40);
    for dir in [&store, &dir.path().join("data")] {
        assert_eq!(fs::metadata(dir).unwrap().permissions().mode() & 0o777, 0o700);
    }
    for path in content(&store).keys() {
        assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600, "{}", path.display());
    }
}

#[test]
fn checking_counts_everything_also_beside_a_server() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(check::check(dir.path(), &mut |_, _| ()), Err(StoreError::NoStore { .. })));
    assert!(matches!(check::check(&dir.path().join("nothing"), &mut |_, _| ()), Err(StoreError::NoStore { .. })));
    grown(dir.path(), 30);
    let before = content(dir.path());
    let mut seen = Entities::new();
    let report = check::check(dir.path(), &mut |key, value| {
        seen.insert(key.to_vec(), value.to_vec());
    });
    let report = report.unwrap();
    assert_eq!(content(dir.path()), before, "checking changes nothing");
    assert_eq!(seen, entities(1..=30));
    assert_eq!((report.number, report.acknowledged, report.format), (CommitNumber(30), CommitNumber(30), Some(1)));
    assert_eq!((report.entities, report.bytes), (30, 30 * 308));
    assert_eq!(report.files.iter().map(|file| file.records).sum::<u64>(), 30, "each was written once, and lies once");
    assert_eq!((report.in_use, &report.torn, report.damage.len(), report.leftovers.len()), (None, &None, 0, 0));
    let mut leading = open(dir.path());
    leading.lead().unwrap();
    let beside = check::check(dir.path(), &mut |_, _| ()).unwrap();
    assert_eq!(beside.in_use, Some(check::Holder { pid: Some(std::process::id()) }));
    assert_eq!((beside.number, beside.entities), (report.number, report.entities));
    leading.commit(leading.term, &one(31)).unwrap();
}

#[test]
fn checking_tells_a_torn_end_and_leftovers_from_damage() {
    let dir = tempfile::tempdir().unwrap();
    let (log, ends) = small(dir.path(), 4);
    Mark::open(dir.path(), CommitNumber(3)).unwrap();
    let mut bytes = fs::read(&log).unwrap();
    bytes[ends[3] + 40] ^= 1;
    fs::write(&log, &bytes).unwrap();
    let leftovers = [files::log_path(dir.path(), 2), files::run_path(dir.path(), 7), dir.path().join("MANIFEST.new")];
    for path in &leftovers {
        fs::write(path, b"half made").unwrap();
    }
    let report = check::check(dir.path(), &mut |_, _| ()).unwrap();
    // The unbegun segment is the newest, so the torn one is an older one, which was complete once.
    assert_eq!(report.damage.len(), 1, "{report:?}");
    fs::remove_file(&leftovers[0]).unwrap();
    let report = check::check(dir.path(), &mut |_, _| ()).unwrap();
    let torn = check::Torn { file: log, offset: ends[3] as u64, bytes: (ends[4] - ends[3]) as u64 };
    assert_eq!((report.torn, report.damage), (Some(torn), Vec::new()));
    assert_eq!((report.number, report.entities), (CommitNumber(3), 3));
    assert_eq!(report.leftovers, leftovers[1..]);
    expect(dir.path(), 3, "what the check announced is what the start does");
    assert_eq!(check::check(dir.path(), &mut |_, _| ()).unwrap().leftovers, [] as [PathBuf; 0]);
}

#[test]
fn checking_says_what_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let (log, ends) = small(dir.path(), 9);
    let whole = content(dir.path());
    let lost = |why: &str| {
        let report = check::check(dir.path(), &mut |_, _| ()).unwrap();
        assert_eq!(report.damage.len(), 1, "{why}: {report:?}");
        (report.damage[0].offset, report.damage[0].lost.clone())
    };
    let mut bytes = whole[&log].clone();
    bytes[ends[3] + 40] ^= 1;
    fs::write(&log, &bytes).unwrap();
    assert_eq!(lost("one record"), (ends[3] as u64, "commits after number 3, up to 4".to_owned()));
    bytes[ends[4] + 40] ^= 1;
    fs::write(&log, &bytes).unwrap();
    assert_eq!(lost("two records"), (ends[3] as u64, "commits after number 3, up to 5".to_owned()));
    fs::write(&log, &whole[&log][..ends[6]]).unwrap();
    assert_eq!(lost("a cut log"), (ends[6] as u64, "commits after number 6, up to 9".to_owned()));
    fs::remove_file(&log).unwrap();
    assert_eq!(lost("no log"), (0, "commits after number 0, up to 9".to_owned()));
    fs::write(&log, [&whole[&log][..4], &[1; 8], &whole[&log][12..]].concat()).unwrap();
    assert_eq!(lost("a damaged beginning"), (0, "no commit".to_owned()));
    restore(dir.path(), &whole);
    fs::write(dir.path().join("MANIFEST"), b"scribble").unwrap();
    assert!(lost("no list").1.contains("all of the store"));
}

#[test]
fn checking_finds_every_damaged_file_not_only_the_first() {
    let dir = tempfile::tempdir().unwrap();
    // Far apart in size, so that they stay runs of their own.
    let mut manifest = Manifest::empty();
    for (number, count) in [(1_u64, 400_u64), (2, 60), (3, 8)] {
        let mut writer = run::Writer::create(dir.path(), number).unwrap();
        for key in 0..count {
            writer.push((format!("key-{key:04}").as_bytes(), Some(&[7; 300]))).unwrap();
        }
        manifest.runs.extend(writer.finish().unwrap());
    }
    manifest.next_run = 4;
    manifest.write(dir.path()).unwrap();
    let report = check::check(dir.path(), &mut |_, _| ()).unwrap();
    assert_eq!(report.files.iter().map(|file| file.records).collect::<Vec<_>>(), [400, 60, 8]);
    assert_eq!((report.entities, report.damage.len()), (400, 0));
    for number in [1, 3] {
        let path = files::run_path(dir.path(), number);
        let mut bytes = fs::read(&path).unwrap();
        let at = bytes.len() - 40;
        bytes[at] ^= 1;
        fs::write(&path, bytes).unwrap();
    }
    fs::remove_file(files::run_path(dir.path(), 2)).unwrap();
    let report = check::check(dir.path(), &mut |_, _| panic!("damaged")).unwrap();
    let mut found: Vec<_> = report.damage.iter().map(|damage| damage.file.clone()).collect();
    found.sort();
    assert_eq!(found, [1, 2, 3].map(|number| files::run_path(dir.path(), number)));
}

#[test]
fn a_newer_format_is_refused_by_everything_and_touched_by_nothing() {
    let dir = tempfile::tempdir().unwrap();
    grown(dir.path(), 30);
    let manifest = Manifest::path(dir.path());
    let mut payload = fs::read(&manifest).unwrap().split_off(frame::HEADER_BYTES);
    payload[0] += 1;
    let newer = frame::encode(&payload, frame::FileId::new(frame::Kind::Manifest, 0), 0);
    fs::write(&manifest, newer).unwrap();
    let before = content(dir.path());
    let backup = dir.path().with_extension("backup");
    let refusals = [
        open(dir.path()).lead().err(),
        check::check(dir.path(), &mut |_, _| ()).err(),
        read(dir.path(), &mut |_, _| Ok(())).err(),
        backup::create(dir.path(), &backup, Vec::new(), false).err(),
    ];
    for refusal in refusals {
        assert!(matches!(refusal, Some(StoreError::NewerFormat { found: 2, .. })), "{refusal:?}");
    }
    assert_eq!(content(dir.path()), before);
    assert!(!backup.exists());
}
