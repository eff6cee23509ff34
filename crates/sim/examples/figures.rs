//! How fast the simulation is, as a Markdown table: `cargo run --release -p longshore-sim --example figures [seeds]`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use longshore_sim::{Failure, Plan, Summary, simulate};

/// Seeds that are run when nothing else is asked for: some seconds' worth.
const SEEDS: u64 = 500;

fn main() -> Result<(), String> {
    let seeds = match std::env::args().nth(1) {
        None => SEEDS,
        Some(text) => text.parse().map_err(|_| format!("{text} is no number of seeds"))?,
    };
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let next = AtomicU64::new(0);
    let run = || -> Result<Summary, Box<Failure>> {
        let mut sum = Summary::default();
        loop {
            match next.fetch_add(1, Ordering::Relaxed) {
                seed if seed < seeds => sum += simulate(Plan::of(seed))?,
                _ => return Ok(sum),
            }
        }
    };
    let began = Instant::now();
    let mut sum = Summary::default();
    thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(run)).collect();
        workers.into_iter().try_for_each(|worker| {
            let one =
                worker.join().map_err(|_| "a run panicked: `cargo test -p longshore-sim` shows where".to_owned())?;
            sum += one.map_err(|failure| failure.to_string())?;
            Ok::<(), String>(())
        })
    })?;
    let seconds = began.elapsed().as_secs_f64();
    let per_second = |count: u64| (count as f64 / seconds).round();
    println!("| | runs | events | faults | commits | took |");
    println!("|---|---|---|---|---|---|");
    println!(
        "| simulation | {seeds} runs on {threads} threads | {:.0} events/s | {:.0} faults/s | {:.0} commits/s | {seconds:.1} s |",
        per_second(sum.events),
        per_second(sum.faults),
        per_second(sum.commits),
    );
    Ok(())
}
