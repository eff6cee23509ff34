//! What happened, in words: a hash of everything, and the last lines for whoever has to find out why.

use std::collections::VecDeque;
use std::fmt;

use longshore_api::Timestamp;

/// Lines that a failure shows.
const TAIL: usize = 50;

/// The record of a run.
#[derive(Debug)]
pub(crate) struct Trace {
    began: Timestamp,
    hash: u64,
    tail: VecDeque<String>,
    /// Print each line as it comes.
    loud: bool,
}

impl Trace {
    pub(crate) fn new(began: Timestamp, loud: bool) -> Self {
        // FNV-1a's offset basis.
        Self { began, hash: 0xcbf2_9ce4_8422_2325, tail: VecDeque::with_capacity(TAIL), loud }
    }

    pub(crate) fn line(&mut self, now: Timestamp, what: fmt::Arguments<'_>) {
        let mut line = if self.tail.len() == TAIL { self.tail.pop_front().unwrap_or_default() } else { String::new() };
        line.clear();
        // Writing to a string cannot fail.
        let _ = fmt::write(&mut line, format_args!("{:>8} {what}", now.since(self.began)));
        for byte in line.bytes() {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        if self.loud {
            println!("{line}");
        }
        self.tail.push_back(line);
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    pub(crate) fn tail(&self) -> Vec<String> {
        self.tail.iter().cloned().collect()
    }
}

/// A panic in the code under test takes the world down; its last lines must not go with it.
impl Drop for Trace {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.tail.iter().for_each(|line| eprintln!("{line}"));
        }
    }
}
