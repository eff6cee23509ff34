//! kill -9 at random instants: every acknowledged commit is there afterwards, and always a prefix of whole groups.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so")]

use std::env;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use longshore_store::conformance::{self, Entities, delete, put};
use longshore_store::embedded::Options;
use longshore_store::{Batch, CommitNumber, EmbeddedStore, Group, Store, Write};

const DIR: &str = "LONGSHORE_STORE_CRASH_DIR";
const ROUNDS: u64 = 24;
/// Small, so that kills hit folding, merging and the change of segments as well.
const OPTIONS: Options = Options { segment_bytes: 24 << 10 };

/// What group `number` writes, always: several keys at once, so that half a group shows.
fn writes(number: u64) -> Vec<Write> {
    let value = number.to_string().repeat(1 + (number % 90) as usize);
    let mut writes = vec![put("counter", number.to_string()), put(format!("a-{}", number % 61), &value)];
    if number.is_multiple_of(5) {
        writes.push(delete(format!("a-{}", number / 5 % 61)));
    }
    writes.push(put(format!("z-{}", number % 7), value));
    writes
}

/// The entities after group `number`.
fn replay(number: u64) -> Entities {
    let mut entities = Entities::new();
    for write in (1..=number).flat_map(writes) {
        match write {
            Write::Put { key, value } => drop(entities.insert(key, value)),
            Write::Delete { key } => drop(entities.remove(&key)),
        }
    }
    entities
}

/// The victim: commits until killed. Each acknowledged number goes to a file, whose content outlives the process.
#[test]
fn victim() {
    let Some(dir) = env::var_os(DIR) else { return };
    let dir = Path::new(&dir);
    let mut acknowledged = fs::File::create(dir.join("acknowledged")).unwrap();
    let mut store = EmbeddedStore::open_with(dir.join("store"), OPTIONS).unwrap();
    let term = store.lead().unwrap();
    let mut number = store.load(&mut |_, _| ()).unwrap().0;
    loop {
        let mut batch = Batch::default();
        for _ in 0..1 + number % 17 {
            number += 1;
            batch.groups.push(Group { number: CommitNumber(number), writes: writes(number) });
        }
        store.commit(term, &batch).unwrap();
        acknowledged.write_all(&number.to_le_bytes()).unwrap();
    }
}

fn spawn(dir: &Path) -> Child {
    Command::new(env::current_exe().unwrap())
        .args(["victim", "--exact", "--nocapture"])
        .env(DIR, dir)
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

fn last_acknowledged(dir: &Path) -> u64 {
    let bytes = fs::read(dir.join("acknowledged")).unwrap_or_default();
    bytes.as_chunks().0.last().map_or(0, |number| u64::from_le_bytes(*number))
}

#[test]
fn nothing_acknowledged_is_lost_to_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let mut random = 11_u64;
    let mut before = 0;
    for round in 0..ROUNDS {
        fs::remove_file(dir.path().join("acknowledged")).ok();
        let mut child = spawn(dir.path());
        let deadline = Instant::now() + Duration::from_secs(20);
        // Some kills come at once, in mid-recovery; the others after a first commit and a random moment more.
        while round % 4 != 0 && last_acknowledged(dir.path()) == 0 && Instant::now() < deadline {
            sleep(Duration::from_millis(1));
        }
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        sleep(Duration::from_micros((random >> 33) % 60_000));
        child.kill().unwrap();
        child.wait().unwrap();

        let acknowledged = last_acknowledged(dir.path()).max(before);
        let mut store = EmbeddedStore::open_with(dir.path().join("store"), OPTIONS).unwrap();
        let unled = conformance::load(&mut store).unwrap();
        store.lead().unwrap();
        let (number, entities) = conformance::load(&mut store).unwrap();
        assert_eq!(unled.0, number, "leading changes nothing that is durable");
        assert!(number.0 >= acknowledged, "round {round}: {acknowledged} was acknowledged, but only {number} is there");
        assert_eq!(entities, replay(number.0), "round {round}: exactly the groups up to {number}");
        assert_eq!(unled.1, entities);
        before = number.0;
    }
    assert!(before > ROUNDS, "the victims got to commit");
}
