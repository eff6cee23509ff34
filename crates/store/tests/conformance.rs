//! Every engine against the one suite.

use longshore_store::conformance::{self, Open};
use longshore_store::embedded::Options;
use longshore_store::{EmbeddedStore, MemoryDisk, MemoryStore};

#[test]
fn memory() {
    conformance::run(&mut || -> Open {
        let disk = MemoryDisk::new();
        Box::new(move || Box::new(MemoryStore::open(disk.clone())))
    });
}

#[test]
fn embedded() {
    conformance::run(&mut || -> Open {
        let dir = tempfile::tempdir().unwrap();
        Box::new(move || Box::new(EmbeddedStore::open(dir.path()).unwrap()))
    });
}

/// With segments so small that almost every batch fills one: the same promises while everything is folded and merged
/// all the time.
#[test]
fn embedded_while_compacting() {
    conformance::run(&mut || -> Open {
        let dir = tempfile::tempdir().unwrap();
        Box::new(move || {
            let options = Options { segment_bytes: 512 };
            Box::new(EmbeddedStore::open_with(dir.path(), options).unwrap())
        })
    });
}
