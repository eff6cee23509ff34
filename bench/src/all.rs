//! Everything, as the document that `make bench` keeps.

use std::process::{Command, ExitStatus};

use clap::Args;

use crate::facts;

/// There is nothing to choose.
#[derive(Args)]
pub(crate) struct Options {}

/// The sections: title, subcommand, and what a reader has to know.
const SECTIONS: [(&str, &str, &str); 9] = [
    (
        "Core and store",
        "cell",
        "The orchestrator without sockets, in a process of its own: tasks placed, durable and answered, their payloads made. Then it goes on until it is killed, and what it answered for is counted again. Packed tasks come from 128 definitions in turn, each with a host port of its own, so that CPU, memory and ports decide.",
    ),
    (
        "Placement",
        "placement",
        "The scheduler in the core, on one thread: the whole of RunTask from typed request to answer, with the records, counters and indexes that it makes, and the publication of a snapshot as often as a busy server makes one; no store, no sockets. Instances of five sizes in three zones and eight racks. Fragmented: full but for the place of a large task here and there. Full: every decision is a refusal, with the reasons of up to a hundred instances.",
    ),
    (
        "Server",
        "server",
        "The release binary, its data on the disk named above. RunTask goes over one kept HTTP/1.1 connection, signed, to one agent that acknowledges orders and runs nothing; it is interleaved with its floor, a durable write of 1 KiB on the same disk.",
    ),
    (
        "The API through the wire",
        "api",
        "The release binary under clients of this process, which shares the machine's processors with it. They keep their connections, sign beforehand and look at no answer, so that the server is what is measured. Its CPU is the kernel's count for its threads. The parts are the same code on the same bytes in this process: SigV4 with the hash of the body; the body to a typed request; the cell's work with its new snapshot, or the read model's answer; the answer to its bytes. At a pace, a request's time counts from when it was due, whether it could be sent then or not.",
    ),
    ("Agent", "agent", "The release binary on the real Engine, connected to a server."),
    (
        "RunTask to RUNNING",
        "overhead",
        "What a client waits for, beside the Engine's own create and start of a container with the same configuration; pairs are interleaved, the image is there already.",
    ),
    (
        "Tasks through the wire",
        "tasks",
        "The release binary; clients in one process, a thousand agents in another, which acknowledge every order and report its task as RUNNING at once, each on two connections of its own. All three share the machine's processors.",
    ),
    (
        "A thousand agents",
        "fleet",
        "The agent's own code, four times in one process with 250 container instances each, over real sockets (two websockets per instance) to the release server. The server is killed with SIGKILL and started again at once; the storm is over when all instances are connected.",
    ),
    (
        "Silent loss",
        "loss",
        "Two agents; the one that runs the task is stopped with SIGSTOP, so that its sockets stay open and nobody is told. A client that watches the task runs a replacement as soon as the task is STOPPED.",
    ),
];

/// Each section runs in a process of its own: none inherits the memory or the threads of another.
pub(crate) fn run(_options: &Options) {
    println!("# Benchmarks\n");
    println!(
        "Written by `make bench`. Medians stand with their 95 % confidence interval. Machines are shared and noisy: compare a figure with its floor or peer, which was measured in the same run, before comparing it with another run.\n"
    );
    println!("{}", facts::machine());
    for (title, subcommand, about) in SECTIONS {
        println!("\n## {title}\n\n{about} Load before: {}.\n", facts::load());
        eprintln!("measuring: {subcommand}");
        let ended = section(subcommand);
        assert!(ended.success(), "the benchmark {subcommand} failed ({ended}); see above");
    }
}

fn section(subcommand: &str) -> ExitStatus {
    let own = std::env::current_exe().expect("this program has a path");
    Command::new(own).arg(subcommand).status().expect("this program starts")
}
