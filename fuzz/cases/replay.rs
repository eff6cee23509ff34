//! Runs a case over everything that fuzzing has found worth keeping.

use std::fs;
use std::path::Path;

/// Runs `case` over the corpus of `target`.
pub(crate) fn corpus(target: &str, case: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
    let mut seen = 0;
    for entry in fs::read_dir(&folder).expect("every target has a corpus") {
        let path = entry.expect("its entries can be read").path();
        case(&fs::read(&path).expect("they are files"));
        seen += 1;
    }
    assert!(seen > 0, "{} is empty", folder.display());
}
