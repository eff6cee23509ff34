//! Backups of stores that are in use, and what becomes of them: a prefix of the commits, whole or refused.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use longshore_store::backup::{self, Attachment, Summary};
use longshore_store::conformance::{self, Entities, batch, delete, group, put};
use longshore_store::embedded::{self, Options};
use longshore_store::restore::{self, NUMBERS_SKIPPED, Restored};
use longshore_store::{Batch, CommitNumber, EmbeddedStore, Store, StoreError, Write, check};
use proptest::prelude::*;

/// So small that files are folded and merged all the time.
const SMALL: Options = Options { segment_bytes: 2 << 10 };

fn open(dir: &Path) -> EmbeddedStore {
    EmbeddedStore::open_with(dir, SMALL).unwrap()
}

/// What group `number` writes, always.
fn writes(number: u64) -> Vec<Write> {
    let value = vec![u8::try_from(number % 251).unwrap(); 10 + (number % 190) as usize];
    let mut writes = vec![put("counter", number.to_string()), put(format!("a-{}", number % 61), value)];
    if number.is_multiple_of(5) {
        writes.push(delete(format!("a-{}", number / 5 % 61)));
    }
    writes
}

fn apply(entities: &mut Entities, number: u64) {
    for write in writes(number) {
        match write {
            Write::Put { key, value } => drop(entities.insert(key, value)),
            Write::Delete { key } => drop(entities.remove(&key)),
        }
    }
}

fn replay(number: u64) -> Entities {
    let mut entities = Entities::new();
    (1..=number).for_each(|number| apply(&mut entities, number));
    entities
}

/// A store of `last` groups, no longer in use.
fn grown(dir: &Path, last: u64) {
    let mut store = open(dir);
    let term = store.lead().unwrap();
    for number in 1..=last {
        store.commit(term, &batch([group(number, writes(number))])).unwrap();
    }
}

fn read(file: &Path) -> Result<(Summary, Entities), StoreError> {
    let mut entities = Entities::new();
    let summary = backup::read(file, &mut |key, value| {
        entities.insert(key.to_vec(), value.to_vec());
        Ok::<_, StoreError>(())
    })?;
    Ok((summary, entities))
}

fn restore(file: &Path, dir: &Path) -> Result<Restored, StoreError> {
    let aside = dir.with_extension("old");
    restore::stage(file, dir, aside.parent().is_some_and(|folder| folder.join("force").exists()), CommitNumber(0))?
        .put_in_place(&aside)
}

/// Says that the next restores into this folder may replace a store.
fn force(folder: &Path) {
    fs::write(folder.join("force"), "").unwrap();
}

fn start(dir: &Path) -> (CommitNumber, Entities) {
    let mut store = open(dir);
    store.lead().unwrap();
    conformance::load(&mut store).unwrap()
}

/// All files beneath a folder and their content.
fn content(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(content(&path)),
            false => drop(found.insert(path.clone(), fs::read(&path).unwrap())),
        }
    }
    found
}

#[test]
fn two_hundred_backups_of_a_store_at_work_are_each_a_prefix_of_what_was_committed() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("store");
    let (acknowledged, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let mut store = open(&dir);
    let term = store.lead().unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut number = 0;
            while !stop.load(Ordering::Relaxed) {
                let mut next = Batch::default();
                for _ in 0..1 + number % 7 {
                    number += 1;
                    next.groups.push(group(number, writes(number)));
                }
                store.commit(term, &next).unwrap();
                acknowledged.store(number, Ordering::SeqCst);
            }
        });
        let stopping = Stop(&stop);
        let (mut expected, mut at) = (Entities::new(), 0);
        for round in 0..200 {
            let before = acknowledged.load(Ordering::SeqCst);
            let target = folder.path().join("backup");
            let summary = backup::create(&dir, &target, Vec::new(), true).unwrap();
            assert!(summary.number.0 >= before, "round {round}: {before} was acknowledged before the backup began");
            let report = check::check(&dir, &mut |_, _| ()).unwrap();
            assert_eq!(report.damage, [], "round {round}: a store at work is not damaged");
            assert!(report.in_use.is_some() && report.leftovers.is_empty() && report.number >= summary.number);

            while at < summary.number.0 {
                at += 1;
                apply(&mut expected, at);
            }
            let (found, entities) = read(&target).unwrap();
            assert_eq!(found, summary);
            assert!(entities == expected, "round {round}: exactly the groups up to {at}");
            if round % 10 == 0 {
                let restored = folder.path().join(format!("restored-{round}/store"));
                fs::create_dir(restored.parent().unwrap()).unwrap();
                restore(&target, &restored).unwrap();
                let (number, entities) = start(&restored);
                assert_eq!(number.0, at + NUMBERS_SKIPPED);
                assert!(entities == expected, "round {round}: the restored store");
            }
        }
        drop(stopping);
    });
    assert!(acknowledged.into_inner() > 1000, "the writer got to fill segments");
}

/// Lets the writer end although an assertion failed.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_live_store_can_be_read_without_disturbing_it() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("store");
    let missing = embedded::read(&dir, &mut |_, _| Ok::<_, StoreError>(()));
    assert!(matches!(missing, Err(StoreError::NoStore { .. })));
    assert!(!dir.exists(), "and looking makes nothing");
    let mut store = open(&dir);
    let term = store.lead().unwrap();
    for number in 1..=300 {
        store.commit(term, &batch([group(number, writes(number))])).unwrap();
        if number % 50 == 0 {
            let mut entities = Entities::new();
            let read = embedded::read(&dir, &mut |key, value| {
                entities.insert(key.to_vec(), value.to_vec());
                Ok::<_, StoreError>(())
            });
            assert_eq!((read.unwrap(), entities), (CommitNumber(number), replay(number)));
        }
    }
}

#[test]
fn a_backup_is_for_its_owner_and_replaces_nothing_unasked() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("store");
    grown(&dir, 20);
    let target = folder.path().join("backup");
    let key = Attachment { name: "key".to_owned(), mode: 0o600, content: b"secret".to_vec() };
    let summary = backup::create(&dir, &target, vec![key.clone()], false).unwrap();
    assert_eq!(fs::metadata(&target).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(summary.file_bytes, fs::metadata(&target).unwrap().len());
    assert_eq!(read(&target).unwrap().0.attachments, [key]);
    assert!(!format!("{summary:?}").contains("115, 101, 99"), "secrets stay out of logs");
    let first = fs::read(&target).unwrap();
    let refused = backup::create(&dir, &target, Vec::new(), false).unwrap_err();
    assert!(refused.to_string().contains("--force"), "{refused}");
    assert_eq!(fs::read(&target).unwrap(), first);
    backup::create(&dir, &target, Vec::new(), true).unwrap();
    assert_ne!(fs::read(&target).unwrap(), first);
    let large = Attachment { name: "large".to_owned(), mode: 0o600, content: vec![0; (1 << 20) + 1] };
    let refused = backup::create(&dir, &folder.path().join("large"), vec![large], false);
    assert!(matches!(refused, Err(StoreError::AttachmentTooLarge { .. })));
    let nowhere = backup::create(&dir, &folder.path().join("no/such/folder"), Vec::new(), false);
    assert!(matches!(nowhere, Err(StoreError::Io { .. })));
    let names: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names.len(), 2, "nothing half made stays: {names:?}");
}

#[test]
fn a_backup_of_a_damaged_store_fails_and_names_the_place() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("store");
    let find_run = || content(&dir).into_keys().find(|path| path.to_string_lossy().contains("run-"));
    let (mut store, mut number) = (open(&dir), 0);
    let mut term = store.lead().unwrap();
    let run = loop {
        number += 1;
        store.commit(term, &batch([group(number, writes(number))])).unwrap();
        // Dropped, the store no longer replaces its files.
        if number % 100 == 0 {
            drop(store);
            if let Some(run) = find_run() {
                break run;
            }
            store = open(&dir);
            term = store.lead().unwrap();
        }
    };
    let mut bytes = fs::read(&run).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&run, bytes).unwrap();
    let target = folder.path().join("backup");
    match backup::create(&dir, &target, Vec::new(), false) {
        Err(StoreError::Damaged { file, .. }) => assert_eq!(file, run),
        other => panic!("{other:?}"),
    }
    assert!(!target.exists());
}

#[test]
fn a_store_is_replaced_only_when_asked_and_never_while_it_is_used() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("store");
    grown(&dir, 30);
    let target = folder.path().join("backup");
    backup::create(&dir, &target, Vec::new(), false).unwrap();
    fs::remove_dir_all(&dir).unwrap();
    grown(&dir, 50);

    let before = content(&dir);
    let refused = restore(&target, &dir).unwrap_err();
    assert!(matches!(&refused, StoreError::StoreExists { .. }) && refused.to_string().contains("--force"), "{refused}");
    assert_eq!(content(&dir), before);
    force(folder.path());
    let staged = restore::stage(&target, &dir, true, CommitNumber(0)).unwrap();
    assert!(matches!(open(&dir).lead(), Err(StoreError::Locked { .. })), "no server starts in the middle of it");
    drop(staged);
    assert!(!dir.with_extension("restoring").exists(), "a restore that is given up leaves nothing");
    assert_eq!(content(&dir), before);
    let mut leading = open(&dir);
    leading.lead().unwrap();
    assert!(matches!(restore(&target, &dir), Err(StoreError::Locked { .. })));
    drop(leading);
    assert_eq!(start(&dir), (CommitNumber(50), replay(50)));

    let restored = restore(&target, &dir).unwrap();
    let aside = dir.with_extension("old");
    let number = CommitNumber(50 + NUMBERS_SKIPPED);
    let expected =
        Restored { entities: replay(30).len() as u64, backed_up: CommitNumber(30), number, moved: Some(aside.clone()) };
    assert_eq!(restored, expected, "numbers go on above those of the store that was there, too");
    assert_eq!(start(&dir), (number, replay(30)));
    assert_eq!(start(&aside), (CommitNumber(50), replay(50)), "what was there is kept");
    let again = restore(&target, &dir).unwrap_err();
    assert!(matches!(again, StoreError::Io { .. }), "an older store is not overwritten: {again}");
    assert_eq!(start(&dir), (number, replay(30)));
}

#[test]
fn numbers_go_on_above_everything_that_was_ever_told() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("store");
    grown(&dir, 9);
    let target = folder.path().join("backup");
    backup::create(&dir, &target, Vec::new(), false).unwrap();
    for (at_least, expected) in [(0, 9 + NUMBERS_SKIPPED), (1 << 50, 1 << 50)] {
        let place = folder.path().join(format!("other-{at_least}"));
        restore::stage(&target, &place, false, CommitNumber(at_least)).unwrap().put_in_place(&place).unwrap();
        let mut store = open(&place);
        let term = store.lead().unwrap();
        assert_eq!(conformance::load(&mut store).unwrap().0, CommitNumber(expected));
        let used = store.commit(term, &batch([group(10, writes(10))]));
        assert!(used.is_err(), "a number that was used before the restore");
        store.commit(term, &batch([group(expected + 1, writes(10))])).unwrap();
        drop(store);
        assert_eq!(start(&place), (CommitNumber(expected + 1), replay(10)));
    }
    // The damaged store's own numbers count as far as they can be read.
    grown(&dir.with_extension("far"), 0);
    let far = folder.path().join("far");
    let mut store = open(&far);
    let term = store.lead().unwrap();
    store.commit(term, &batch([group(1 << 40, writes(1))])).unwrap();
    drop(store);
    let log = content(&far).into_keys().find(|path| path.to_string_lossy().contains("log-")).unwrap();
    fs::write(&log, "").unwrap();
    let restored = restore::stage(&target, &far, true, CommitNumber(0)).unwrap();
    assert_eq!(restored.put_in_place(&folder.path().join("far.old")).unwrap().number.0, (1 << 40) + NUMBERS_SKIPPED);
}

#[test]
fn an_empty_folder_and_a_leftover_of_a_killed_restore_are_no_store() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("store");
    grown(&dir, 0);
    let target = folder.path().join("backup");
    backup::create(&dir, &target, Vec::new(), false).unwrap();
    assert_eq!(read(&target).unwrap().1, Entities::new(), "an empty store has a backup too");
    let place = folder.path().join("place/store");
    fs::create_dir_all(&place).unwrap();
    fs::create_dir_all(place.with_extension("restoring").join("deep")).unwrap();
    fs::write(place.join("leader"), "").unwrap();
    let restored = restore(&target, &place).unwrap();
    assert_eq!((restored.moved, restored.entities), (None, 0));
    assert_eq!(start(&place), (CommitNumber(NUMBERS_SKIPPED), Entities::new()));
    let left: Vec<_> = fs::read_dir(place.parent().unwrap()).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(left, [place]);
}

#[test]
fn what_is_no_backup_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    for bytes in [&b""[..], b"PGDMP, or whatever else people keep", &[0; 4096]] {
        fs::write(&file, bytes).unwrap();
        let refused = read(&file).unwrap_err().to_string();
        assert!(refused.contains("does not begin as a backup does"), "{refused}");
    }
    assert!(matches!(read(&folder.path().join("missing")), Err(StoreError::Io { .. })));
}

const VICTIM: &str = "LONGSHORE_STORE_RESTORE_DIR";

/// The victim: restores one backup after the other until killed.
#[test]
fn victim() {
    let Some(folder) = std::env::var_os(VICTIM).map(PathBuf::from) else { return };
    for round in 0.. {
        let aside = folder.join(format!("aside-{round}"));
        let file = folder.join(format!("backup-{}", round % 2));
        // The one before may still be dying.
        match restore::stage(&file, &folder.join("store"), true, CommitNumber(0)) {
            Err(StoreError::Locked { .. }) => {}
            staged => drop(staged.unwrap().put_in_place(&aside).unwrap()),
        }
        fs::remove_dir_all(&aside).ok();
        fs::write(folder.join("done"), "").unwrap();
    }
}

#[test]
fn a_restore_that_is_killed_leaves_one_whole_store_or_the_other() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("store");
    for (name, last) in [("backup-0", 40), ("backup-1", 90)] {
        fs::remove_dir_all(&dir).ok();
        grown(&dir, last);
        backup::create(&dir, &folder.path().join(name), Vec::new(), false).unwrap();
    }
    let (small, large) = (replay(40), replay(90));
    let (mut smalls, mut larges, mut last) = (0, 0, CommitNumber(0));
    for round in 0..40_u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["victim", "--exact", "--nocapture"])
            .env(VICTIM, folder.path())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        // Some kills come at once; the others after a first restore and a moment more.
        let deadline = Instant::now() + Duration::from_secs(20);
        while round % 4 != 0 && !folder.path().join("done").exists() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(1));
        }
        fs::remove_file(folder.path().join("done")).ok();
        thread::sleep(Duration::from_micros(round * 7_919 % 30_000));
        child.kill().unwrap();
        child.wait().unwrap();
        let report = check::check(&dir, &mut |_, _| ()).unwrap();
        assert_eq!(report.damage, [], "round {round}");
        let (number, entities) = start(&dir);
        assert!(number >= last, "round {round}: numbers never go back");
        last = number;
        assert!(entities == small || entities == large, "round {round}: one or the other");
        *(if entities == small { &mut smalls } else { &mut larges }) += 1;
        for entry in fs::read_dir(folder.path()).unwrap() {
            let path = entry.unwrap().path();
            if path.file_name().unwrap().to_string_lossy().starts_with("aside-") {
                fs::remove_dir_all(path).unwrap();
            }
        }
    }
    assert!(smalls > 0 && larges > 0, "{smalls} and {larges}: the victims got to restore");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever happens to a backup's bytes on the way: it is refused before anything is touched.
    #[test]
    fn a_backup_that_is_not_whole_is_refused(
        cut in any::<prop::sample::Index>(), flip in 1u8.., kind in 0..4, other_at in any::<prop::sample::Index>(),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("store");
        grown(&dir, 25);
        let attachment = |text: &str| vec![Attachment { name: "a".to_owned(), mode: 0o644, content: text.into() }];
        let target = folder.path().join("backup");
        backup::create(&dir, &target, attachment("one"), false).unwrap();
        let mut bytes = fs::read(&target).unwrap();
        let at = cut.index(bytes.len());
        match kind {
            0 => bytes.truncate(at),
            1 => bytes[at] ^= flip,
            2 => bytes.extend_from_slice(&[flip]),
            // The first part of this one and the rest of another, each of them whole records of the same length.
            _ => {
                backup::create(&dir, &target, attachment("two"), true).unwrap();
                let other = fs::read(&target).unwrap();
                let frames: Vec<usize> = (1..bytes.len()).filter(|&at| bytes[at..].starts_with(b"\xf5LS\xfa")).collect();
                let at = frames[1 + other_at.index(frames.len() - 1)];
                bytes.splice(at.., other[at..].iter().copied());
            }
        }
        fs::write(&target, bytes).unwrap();
        let refused = read(&target);
        prop_assert!(matches!(refused, Err(StoreError::BadBackup { .. })), "{refused:?}");
        force(folder.path());
        let before = content(&dir);
        prop_assert!(restore(&target, &dir).is_err());
        let mut after = content(&dir);
        after.insert(dir.join("leader"), before[&dir.join("leader")].clone());
        prop_assert_eq!(before, after);
        prop_assert!(!dir.with_extension("restoring").exists());
    }
}
