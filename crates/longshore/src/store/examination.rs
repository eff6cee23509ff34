//! What a store's records mean: decoded and loaded as a server would, and held against the rules that always hold.

use std::collections::BTreeMap;

use longshore_core::CellConfig;
use longshore_core::cell::Cell;
use longshore_core::entity::Entity;
use longshore_store::CommitNumber;

use crate::cli::Kind;
use crate::error::with_causes;

/// More problems of one sort are counted, not told.
const MAX_TOLD: usize = 20;

/// A server's state in the making.
pub(super) struct Examination {
    cell: Cell,
    kinds: BTreeMap<&'static str, u64>,
    unreadable: Vec<String>,
    unreadable_count: usize,
}

/// What came out.
#[derive(Debug, Default)]
pub(super) struct Findings {
    /// How many records there are of each kind.
    pub(super) kinds: BTreeMap<&'static str, u64>,
    /// Records that cannot be understood.
    pub(super) unreadable: Vec<String>,
    /// A rule that does not hold. Looked for only when every record was understood.
    pub(super) violations: Vec<String>,
}

impl Examination {
    pub(super) fn new() -> Self {
        // Region and account stand in ARNs alone, and records hold none of their own: the rules do not know them.
        let cell = Cell::new(CellConfig::new("us-east-1", "000000000000"));
        Self { cell, kinds: BTreeMap::new(), unreadable: Vec::new(), unreadable_count: 0 }
    }

    /// Takes a record in.
    pub(super) fn record(&mut self, key: &[u8], value: &[u8]) {
        match Entity::decode(key, value) {
            Ok(entity) => {
                *self.kinds.entry(Kind::of(&entity).name()).or_insert(0) += 1;
                self.cell.load(entity);
            }
            Err(error) => {
                self.unreadable_count += 1;
                if self.unreadable.len() < MAX_TOLD {
                    self.unreadable.push(with_causes(&error));
                }
            }
        }
    }

    /// The end of the records.
    pub(super) fn finish(mut self, number: CommitNumber) -> Findings {
        let mut violations = Vec::new();
        if self.unreadable.is_empty() {
            self.cell.loaded(number.0);
            violations.extend(self.cell.check().err().map(|violation| violation.to_string()));
        }
        let untold = self.unreadable_count - self.unreadable.len();
        if untold > 0 {
            self.unreadable.push(format!("and {untold} more such records"));
        }
        Findings { kinds: self.kinds, unreadable: self.unreadable, violations }
    }
}

impl Findings {
    /// Everything that keeps a server from starting.
    pub(super) fn problems(&self) -> impl Iterator<Item = &String> {
        self.unreadable.iter().chain(&self.violations)
    }

    /// `3 clusters, 12 tasks`.
    pub(super) fn counts(&self) -> String {
        let kinds: Vec<String> = self.kinds.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
        if kinds.is_empty() { "nothing yet".to_owned() } else { kinds.join(", ") }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use longshore_store::check;

    use super::*;

    /// The stores that the first release left: what they hold must mean something to this one.
    #[test]
    fn stores_of_the_first_release_are_understood_and_hold_every_rule() {
        for name in ["server", "compacted"] {
            let store = Path::new(env!("CARGO_MANIFEST_DIR")).join("../store/tests/fixtures/format-1").join(name);
            let mut examination = Examination::new();
            let report = check::check(&store, &mut |key, value| examination.record(key, value)).unwrap();
            assert_eq!(report.damage, [], "{name}");
            let findings = examination.finish(report.number);
            assert_eq!(findings.problems().collect::<Vec<_>>(), [""; 0], "{name}");
            assert_eq!(
                findings.counts(),
                "7 client-tokens, 3 clusters, 3 definitions, 2 families, 2 instances, 8 tasks",
                "{name}"
            );
        }
    }

    #[test]
    fn records_that_mean_nothing_are_told_and_many_of_them_counted() {
        let mut examination = Examination::new();
        for number in 0..30 {
            examination.record(format!("c{number}").as_bytes(), b"{}");
        }
        examination.record(b"?", b"{}");
        let findings = examination.finish(CommitNumber(1));
        assert_eq!(findings.unreadable.len(), MAX_TOLD + 1);
        assert_eq!(findings.unreadable[0], "the record c0 is not readable: missing field `id` at line 1 column 2");
        assert_eq!(findings.unreadable[MAX_TOLD], "and 11 more such records");
    }
}
