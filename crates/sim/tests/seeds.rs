//! The simulator's runs: many seeds in CI, one seed on demand, old seeds for good, and the proof that mistakes are noticed.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use longshore_sim::{Failure, Plan, Sabotage, Summary, simulate};

/// How many seeds one `cargo test` runs.
const SEEDS: u64 = 1_000;

/// A number from the environment.
fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{variable}={text} is no number")))
}

/// Runs all seeds below `count` on all processors; answers the sum of their figures, or the failure of the lowest seed.
fn run_all(count: u64, plan: impl Fn(u64) -> Plan + Sync) -> Result<Summary, Box<Failure>> {
    let next = AtomicU64::new(0);
    let threads = thread::available_parallelism().map_or(2, usize::from);
    let results: Vec<_> = thread::scope(|scope| {
        let work = || -> Result<Summary, Box<Failure>> {
            let mut sum = Summary::default();
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= count {
                    return Ok(sum);
                }
                sum += simulate(plan(seed))?;
            }
        };
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers.into_iter().map(|worker| worker.join().expect("a worker panicked")).collect()
    });
    let mut sum = Summary::default();
    let mut failures = Vec::new();
    for result in results {
        match result {
            Ok(one) => sum += one,
            Err(failure) => failures.push(failure),
        }
    }
    match failures.into_iter().min_by_key(|failure| failure.seed) {
        Some(failure) => Err(failure),
        None => Ok(sum),
    }
}

/// `SIM_SEEDS=n` runs more or fewer, `SIM_STORM_MS=n` makes each storm longer.
#[test]
fn a_thousand_seeds() {
    let count = number("SIM_SEEDS").unwrap_or(SEEDS);
    let storm_ms = number("SIM_STORM_MS").and_then(|ms| i64::try_from(ms).ok());
    let plan = |seed| Plan { storm_ms: storm_ms.unwrap_or(Plan::of(seed).storm_ms), ..Plan::of(seed) };
    let began = Instant::now();
    let sum = run_all(count, plan).unwrap_or_else(|failure| panic!("{failure}"));
    let seconds = began.elapsed().as_secs_f64();
    let (events, faults) = (sum.events as f64 / seconds, sum.faults as f64 / seconds);
    println!("{count} seeds in {seconds:.1} s: {sum:?}, {events:.0} events/s, {faults:.0} faults/s");
    let strong = sum.tasks > 10 * count && sum.faults > count && sum.loads > count && sum.losses > count / 4;
    assert!(strong && sum.returns > count / 8, "the storm is weak: {sum:?}");
}

/// One seed, with its whole trace: `SIM_SEED=7 cargo test -p longshore-sim one_seed -- --nocapture`.
#[test]
fn one_seed() {
    let given = number("SIM_SEED");
    let plan = Plan { loud: given.is_some(), ..Plan::of(given.unwrap_or(0)) };
    match simulate(plan) {
        Ok(summary) => println!("{summary:?}"),
        Err(failure) => panic!("{failure}"),
    }
}

/// Seeds that once failed.
#[test]
fn old_seeds() {
    // 6, 33: the server's clock was set forward, and instances were given up that had been away for a moment.
    const OLD: [u64; 2] = [6, 33];
    for seed in OLD {
        simulate(Plan::of(seed)).unwrap_or_else(|failure| panic!("{failure}"));
    }
}

/// Invariant 17: the same inputs give the same trace.
#[test]
fn the_same_seed_is_the_same_run() {
    for seed in [1, 42, 4_242] {
        let once = simulate(Plan::of(seed)).unwrap_or_else(|failure| panic!("{failure}"));
        let twice = simulate(Plan::of(seed)).unwrap_or_else(|failure| panic!("{failure}"));
        assert_eq!(once, twice);
        let other = simulate(Plan::of(seed + 1)).unwrap_or_else(|failure| panic!("{failure}"));
        assert_ne!(once.trace_hash, other.trace_hash);
    }
}

/// Every deliberate mistake is noticed within a few seeds, and by an invariant that is there for it.
#[test]
fn mistakes_are_noticed() {
    const WITHIN: u64 = 100;
    for sabotage in Sabotage::ALL {
        let expected = sabotage.breaks();
        let run = |seed| simulate(Plan { sabotage: Some(sabotage), ..Plan::of(seed) }).err();
        let noticed = (0..WITHIN).filter_map(run).find(|failure| expected.contains(&failure.violation.invariant));
        let failure = noticed.unwrap_or_else(|| panic!("{sabotage:?} broke none of {expected:?} in {WITHIN} seeds"));
        println!("{sabotage:?}: seed {}, invariant {}", failure.seed, failure.violation.invariant);
        // The same mistake, the same failure: what is printed is enough to see it again.
        assert_eq!(run(failure.seed), Some(failure));
    }
}
