//! The shell's clocks.

use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use longshore_api::Timestamp;
use longshore_core::clock::{CellClock, Reading};

/// The cell's clock, and when it began to count. One for the process: what a session tells the cell is in the cell's time.
static CELL: LazyLock<(Instant, Mutex<CellClock>)> = LazyLock::new(|| (Instant::now(), Mutex::default()));

/// Now, by the wall clock. One before 1970 reads as 1970.
pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// Now for the cell, whatever is done to the wall clock.
pub(crate) fn cell() -> Reading {
    let (began, clock) = &*CELL;
    let mut clock = clock.lock().unwrap_or_else(PoisonError::into_inner);
    let counted_ms = i64::try_from(began.elapsed().as_millis()).unwrap_or(i64::MAX);
    clock.read(now(), counted_ms)
}
