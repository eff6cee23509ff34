//! One pass over several sorted sources: for each key the newest entry, in key order.

use super::log::{Entry, Sorted};
use super::run::Reader;
use crate::StoreError;

/// Something that yields entries in key order.
#[derive(Debug)]
pub(super) enum Source<'a> {
    /// A file.
    Run(Reader),
    /// A log segment in memory, and how far it was read.
    Segment(Sorted<'a>, usize),
}

impl Source<'_> {
    fn peek(&self) -> Option<Entry<'_>> {
        match self {
            Self::Run(reader) => reader.peek(),
            Self::Segment(sorted, at) => sorted.entries.get(*at).copied(),
        }
    }

    fn advance(&mut self) -> Result<(), StoreError> {
        match self {
            Self::Run(reader) => reader.advance(),
            Self::Segment(_, at) => {
                *at += 1;
                Ok(())
            }
        }
    }
}

/// Merges `sources`, given oldest first, and hands each surviving entry to `each`; deletions among them too.
///
/// There are few sources (their sizes are geometric), so the smallest key is found by looking at all of them.
pub(super) fn merge<E: From<StoreError>>(
    mut sources: Vec<Source<'_>>,
    each: &mut dyn FnMut(Entry<'_>) -> Result<(), E>,
) -> Result<(), E> {
    sources.reverse();
    let mut key = Vec::new();
    loop {
        // The first of equal minimums is the newest, because the newest source now stands first.
        let Some(entry) = sources.iter().filter_map(Source::peek).min_by_key(|entry| entry.0) else {
            return Ok(());
        };
        key.clear();
        key.extend_from_slice(entry.0);
        each(entry)?;
        for source in &mut sources {
            if source.peek().is_some_and(|entry| entry.0 == key) {
                source.advance()?;
            }
        }
    }
}
