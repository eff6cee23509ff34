//! What was measured, as tables.

use super::{Measured, Options, Subject};

/// What the verification of a signature may take, in µs.
const AIM_SIGNATURE_US: f64 = 15.0;
/// What a paced DescribeTasks may take, p99, in ms.
const AIM_DESCRIBE_MS: f64 = 3.0;

/// The server's threads: where a call is read and answered, and the three of the runner. The kernel cuts names at 15
/// characters.
const THREADS: [(&str, &str); 4] =
    [("edge", "tokio-rt-worker"), ("cell", "cell"), ("commit", "commit"), ("effects", "effects")];

/// One column for each kind of call.
pub(super) fn subjects(subjects: &[Subject], connections: usize) {
    let row = |what: &str, cell: &dyn Fn(&Subject) -> String| {
        let cells: Vec<String> = subjects.iter().map(cell).collect();
        println!("| {what} | {} |", cells.join(" | "));
    };
    row(&format!("{connections} connections, each asks again at once"), &|subject| subject.name.to_owned());
    println!("|---{}|", "|---".repeat(subjects.len()));
    row("bytes of body asked, answered", &|subject| format!("{}, {}", subject.asked_bytes, subject.answered_bytes));
    row("floor: requests/s of a bare hyper server with the same bytes", &|subject| {
        format!("{:.0}", subject.floor.load.per_second())
    });
    row("**requests/s**", &|subject| format!("{:.0}", subject.load.per_second()));
    row("p50, p99 ms", &|subject| {
        let took = &subject.load.took_ms;
        format!("{:.2}, {:.2}", took.median(), took.quantile(0.99))
    });
    row("floor: CPU µs per request of the bare server", &|subject| format!("{:.1}", subject.floor.cpu_us));
    row("**server CPU µs per request**", &|subject| format!("{:.1}", cpu_us(subject)));
    row("server over floor", &|subject| format!("{:.1}", cpu_us(subject) / subject.floor.cpu_us));
    let share = |us: f64, subject: &Subject| format!("{us:.1} ({:.0} %)", 100.0 * us / cpu_us(subject));
    row(&format!("of which signature, the hash of the body in it; aim ≤ {AIM_SIGNATURE_US:.0} µs"), &|subject| {
        let us = subject.parts.signature;
        format!("{}: {}", share(us, subject), verdict(us <= AIM_SIGNATURE_US))
    });
    row("of which parsing", &|subject| share(subject.parts.parsing, subject));
    row("of which cell", &|subject| share(subject.parts.cell, subject));
    row("of which serialisation", &|subject| share(subject.parts.serialisation, subject));
    row(
        "the rest: sockets, HTTP, kernel; for writes the threads' hand-over, the commit, orders to agents",
        &|subject| share(cpu_us(subject) - subject.parts.sum(), subject),
    );
    row("by thread: edge, cell, commit, effects", &|subject| {
        let used = |(_, thread): &(_, &str)| format!("{:.1}", subject.cpu_us.get(*thread).copied().unwrap_or_default());
        THREADS.iter().map(used).collect::<Vec<_>>().join(", ")
    });
}

fn cpu_us(subject: &Subject) -> f64 {
    subject.cpu_us.values().sum()
}

/// DescribeTasks at a pace, by how many tasks there are.
pub(super) fn paced(options: &Options, described: usize, floor: &Measured, by_tasks: &[(usize, Measured)]) {
    println!(
        "| {} requests/s over {} connections | p50 ms | p99 ms | CPU µs per request | aim |",
        options.rate, options.paced_connections
    );
    println!("|---|---|---|---|---|");
    row("floor: a bare hyper server with the same bytes", floor, "");
    for (tasks, measured) in by_tasks {
        let what = format!("DescribeTasks of {described}, {tasks} tasks in the cell");
        let met = verdict(measured.load.took_ms.quantile(0.99) <= AIM_DESCRIBE_MS);
        row(&what, measured, &format!("p99 ≤ {AIM_DESCRIBE_MS:.0} ms: {met}"));
    }
    let over = |of: &dyn Fn(&Measured) -> f64| {
        let ratios = by_tasks.iter().map(|(_, measured)| format!("{:.1}", of(measured) / of(floor)));
        ratios.collect::<Vec<_>>().join(", ")
    };
    println!(
        "| each over the floor | {} | {} | {} | |",
        over(&|measured| measured.load.took_ms.median()),
        over(&|measured| measured.load.took_ms.quantile(0.99)),
        over(&|measured| measured.cpu_us),
    );
}

fn row(what: &str, measured: &Measured, aim: &str) {
    let took = &measured.load.took_ms;
    println!(
        "| {what}: {:.0}/s | {:.2} | {:.2} | {:.0} | {aim} |",
        measured.load.per_second(),
        took.median(),
        took.quantile(0.99),
        measured.cpu_us
    );
}

fn verdict(met: bool) -> &'static str {
    if met { "met" } else { "missed" }
}
