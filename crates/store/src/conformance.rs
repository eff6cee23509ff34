//! The contract of [`Store`] as a suite that every engine runs: [`run`].
//!
//! It is part of the library so that an engine in another crate can be held to it. Every check panics with a sentence
//! that says what was promised. What needs a real disk (power cuts, damage, lack of space) is tested with the engine
//! that has one.

use std::collections::BTreeMap;

use crate::{Batch, CommitError, CommitNumber, Group, Store, StoreError, Term, Write};

/// Entities by key.
pub type Entities = BTreeMap<Vec<u8>, Vec<u8>>;

/// One disk of the engine under test. Each call opens the same one again, as a process that starts would.
pub type Open = Box<dyn FnMut() -> Box<dyn Store>>;

/// Runs every check, each on a disk of its own: `make` makes a disk and returns the function that opens it.
///
/// # Panics
/// When the engine breaks its contract.
pub fn run(make: &mut dyn FnMut() -> Open) {
    for check in [
        a_new_store_is_empty,
        what_was_committed_is_loaded_in_key_order,
        later_writes_win_and_deletes_delete,
        empty_groups_move_the_number,
        an_empty_batch_changes_nothing,
        numbers_only_grow,
        a_refused_batch_leaves_nothing_behind,
        terms_grow_and_older_ones_are_fenced,
        only_one_of_two_handles_can_write,
        large_values_and_odd_keys_survive,
        any_history_equals_a_plain_map,
    ] {
        check(&mut make());
    }
}

/// A write of `key`.
#[must_use]
pub fn put(key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Write {
    Write::Put { key: key.as_ref().to_vec(), value: value.as_ref().to_vec() }
}

/// A deletion of `key`.
#[must_use]
pub fn delete(key: impl AsRef<[u8]>) -> Write {
    Write::Delete { key: key.as_ref().to_vec() }
}

/// A group.
#[must_use]
pub fn group(number: u64, writes: impl IntoIterator<Item = Write>) -> Group {
    Group { number: CommitNumber(number), writes: writes.into_iter().collect() }
}

/// A batch.
#[must_use]
pub fn batch(groups: impl IntoIterator<Item = Group>) -> Batch {
    Batch { groups: groups.into_iter().collect() }
}

/// Loads everything, checking that keys strictly ascend.
///
/// # Errors
/// Those of [`Store::load`].
///
/// # Panics
/// When keys come out of order.
pub fn load(store: &mut dyn Store) -> Result<(CommitNumber, Entities), StoreError> {
    let mut entities = Entities::new();
    let number = store.load(&mut |key, value| {
        let ascends = entities.last_key_value().is_none_or(|(last, _)| last.as_slice() < key);
        assert!(ascends, "keys strictly ascend, but {key:?} came late");
        entities.insert(key.to_vec(), value.to_vec());
    })?;
    Ok((number, entities))
}

fn lead(store: &mut dyn Store) -> Term {
    store.lead().expect("nobody else leads")
}

fn expect(store: &mut dyn Store, number: u64, entities: &[(&str, &str)], why: &str) {
    let expected: Entities =
        entities.iter().map(|(key, value)| (key.as_bytes().to_vec(), value.as_bytes().to_vec())).collect();
    let loaded = load(store).expect("the store loads");
    assert_eq!(loaded, (CommitNumber(number), expected), "{why}");
}

fn a_new_store_is_empty(open: &mut Open) {
    expect(&mut *open(), 0, &[], "a store nobody led is empty");
    let mut store = open();
    lead(&mut *store);
    expect(&mut *store, 0, &[], "a new store is empty");
}

fn what_was_committed_is_loaded_in_key_order(open: &mut Open) {
    let mut store = open();
    let term = lead(&mut *store);
    let groups = [group(1, [put("b", "2"), put("a", "1")]), group(2, [put("ab", "3")])];
    store.commit(term, &batch(groups)).expect("committed");
    store.commit(term, &batch([group(3, [put("c", "")])])).expect("committed");
    let expected = [("a", "1"), ("ab", "3"), ("b", "2"), ("c", "")];
    expect(&mut *store, 3, &expected, "the leader loads what it committed");
    drop(store);
    expect(&mut *open(), 3, &expected, "the next process loads it, before it leads");
    let mut store = open();
    lead(&mut *store);
    expect(&mut *store, 3, &expected, "and after");
}

fn later_writes_win_and_deletes_delete(open: &mut Open) {
    let mut store = open();
    let term = lead(&mut *store);
    let writes = [put("a", "1"), put("b", "1"), delete("a"), put("c", "1"), put("c", "2")];
    store.commit(term, &batch([group(1, writes), group(2, [put("b", "2"), delete("nothing")])])).expect("committed");
    expect(&mut *store, 2, &[("b", "2"), ("c", "2")], "the last write of a key counts");
    store.commit(term, &batch([group(3, [delete("b"), put("a", "3")])])).expect("committed");
    drop(store);
    expect(&mut *open(), 3, &[("a", "3"), ("c", "2")], "across batches as well");
}

fn empty_groups_move_the_number(open: &mut Open) {
    let mut store = open();
    let term = lead(&mut *store);
    store.commit(term, &batch([group(1, [put("a", "1")]), group(7, [])])).expect("committed");
    store.commit(term, &batch([group(9, [])])).expect("committed");
    drop(store);
    expect(&mut *open(), 9, &[("a", "1")], "an empty group moves the number, durably; gaps are allowed");
}

fn an_empty_batch_changes_nothing(open: &mut Open) {
    let mut store = open();
    let term = lead(&mut *store);
    store.commit(term, &Batch::default()).expect("committed");
    expect(&mut *store, 0, &[], "an empty batch changes nothing");
    let fenced = store.commit(Term(term.0 + 1), &Batch::default());
    assert!(matches!(fenced, Err(CommitError::Fenced { .. })), "an empty batch still checks the term");
}

fn numbers_only_grow(open: &mut Open) {
    let mut store = open();
    let term = lead(&mut *store);
    store.commit(term, &batch([group(5, [put("a", "1")])])).expect("committed");
    for (numbers, refused) in [(&[5][..], 5), (&[4], 4), (&[0], 0), (&[6, 6], 6), (&[8, 7], 7), (&[9, 10, 2], 2)] {
        let groups = numbers.iter().map(|&number| group(number, [put("a", "2")]));
        match store.commit(term, &batch(groups)) {
            Err(CommitError::Failed {
                durable: CommitNumber(5),
                source: StoreError::NumberNotIncreasing { number, .. },
            }) => assert_eq!(number, CommitNumber(refused), "the number at fault is named"),
            other => panic!("numbers {numbers:?} after 5 must be refused, but: {other:?}"),
        }
    }
    expect(&mut *store, 5, &[("a", "1")], "a refused batch keeps nothing");
    drop(store);
    let mut store = open();
    let term = lead(&mut *store);
    let reused = store.commit(term, &batch([group(5, [])]));
    assert!(
        matches!(reused, Err(CommitError::Failed { .. })),
        "a number is never used again, not by the next leader either"
    );
    store.commit(term, &batch([group(6, [])])).expect("committed");
}

fn a_refused_batch_leaves_nothing_behind(open: &mut Open) {
    let mut store = open();
    let term = lead(&mut *store);
    let mixed = batch([group(1, [put("a", "1")]), group(1, [put("b", "1")])]);
    assert!(store.commit(term, &mixed).is_err());
    store.commit(term, &batch([group(1, [put("c", "1")])])).expect("the store goes on at once");
    drop(store);
    expect(&mut *open(), 1, &[("c", "1")], "nothing of a refused batch is durable");
}

fn terms_grow_and_older_ones_are_fenced(open: &mut Open) {
    let mut store = open();
    let first = lead(&mut *store);
    let second = lead(&mut *store);
    assert!(second > first, "terms grow");
    match store.commit(first, &batch([group(1, [put("a", "1")])])) {
        Err(CommitError::Fenced { held, current }) => {
            assert_eq!((held, current), (first, second), "both terms are named")
        }
        other => panic!("an older term must be fenced, but: {other:?}"),
    }
    expect(&mut *store, 0, &[], "a fenced commit writes nothing");
    store.commit(second, &batch([group(1, [put("a", "2")])])).expect("the newest term writes");
    drop(store);
    let mut store = open();
    let third = lead(&mut *store);
    assert!(third > second, "terms grow across processes");
    assert!(matches!(store.commit(second, &batch([group(2, [])])), Err(CommitError::Fenced { .. })));
}

fn only_one_of_two_handles_can_write(open: &mut Open) {
    let mut old = open();
    let old_term = lead(&mut *old);
    let mut new = open();
    match new.lead() {
        Ok(new_term) => {
            new.commit(new_term, &batch([group(1, [put("a", "new")])])).expect("the new leader writes");
            let fenced = old.commit(old_term, &batch([group(2, [put("a", "old")])]));
            assert!(matches!(fenced, Err(CommitError::Fenced { .. })), "the old leader is fenced, but: {fenced:?}");
            expect(&mut *new, 1, &[("a", "new")], "only the new leader's write is there");
        }
        Err(StoreError::Locked { .. }) => {
            old.commit(old_term, &batch([group(1, [put("a", "old")])])).expect("the only leader writes");
            let refused = new.commit(old_term, &batch([group(2, [put("a", "new")])]));
            assert!(refused.is_err(), "who does not lead cannot write, even with a term it overheard");
            drop(old);
            lead(&mut *new);
            expect(&mut *new, 1, &[("a", "old")], "the next leader follows once the first is gone");
        }
        Err(other) => {
            panic!("a second leader fences the first or is refused as locked, but: {other}")
        }
    }
}

fn large_values_and_odd_keys_survive(open: &mut Open) {
    let mut store = open();
    let term = lead(&mut *store);
    let large = vec![0xa5; 1 << 20];
    let keys: [&[u8]; 5] = [b"", &[0], &[0, 0], &[0xff; 300], "tâche".as_bytes()];
    let writes = keys.map(|key| put(key, &large));
    store.commit(term, &batch([group(1, writes)])).expect("committed");
    drop(store);
    let (_, entities) = load(&mut *open()).expect("the store loads");
    assert_eq!(entities, keys.map(|key| (key.to_vec(), large.clone())).into());
}

/// Pseudo-random histories, the same ones each time, against a map; reopened and led again now and then.
fn any_history_equals_a_plain_map(open: &mut Open) {
    let mut random = 0x5eed_u64;
    let mut next = move |below: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % below
    };
    let mut entities = Entities::new();
    let mut number = 0;
    let mut store = open();
    let mut term = lead(&mut *store);
    for _ in 0..400 {
        let mut groups = Vec::new();
        for _ in 0..next(4) {
            number += 1 + next(3);
            let mut writes = Vec::new();
            for _ in 0..next(5) {
                let key = format!("key-{}", next(60));
                if next(4) == 0 {
                    entities.remove(key.as_bytes());
                    writes.push(delete(key));
                } else {
                    let size = usize::try_from(next(900)).expect("small");
                    let value = vec![u8::try_from(next(256)).expect("a byte"); size];
                    entities.insert(key.clone().into_bytes(), value.clone());
                    writes.push(put(key, value));
                }
            }
            groups.push(group(number, writes));
        }
        store.commit(term, &batch(groups)).expect("committed");
        match next(20) {
            0 => {
                drop(store);
                store = open();
                term = lead(&mut *store);
            }
            1 => term = lead(&mut *store),
            _ => continue,
        }
        let loaded = load(&mut *store).expect("the store loads");
        assert_eq!(loaded, (CommitNumber(number), entities.clone()), "the store holds exactly what was committed");
    }
}
