//! The API through the wire: how much it carries, what a call costs the server and where that goes, and how long
//! DescribeTasks takes at a steady pace.

mod inside;
mod load;
mod report;
mod responder;
mod wire;
mod world;

use std::collections::BTreeMap;
use std::time::Duration;

use clap::Args;
use serde_json::Value;

use self::inside::{Inside, Parts};
use self::load::Load;
use self::responder::Responder;
pub(crate) use self::responder::{Options as ResponderOptions, run as respond};
use self::wire::{Connection, Signed};
use crate::client::Access;
use crate::fake_agent::FakeAgent;
use crate::process::CpuMeter;
use crate::spawn::{Server, scratch};

/// How much to ask.
#[derive(Args)]
pub(crate) struct Options {
    /// Connections that ask again as soon as they are answered.
    #[arg(long, default_value_t = 8)]
    connections: usize,
    /// Seconds of each load.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Tasks in the cell for the second half of the paced calls.
    #[arg(long, default_value_t = 100_000)]
    tasks: usize,
    /// Paced DescribeTasks calls per second.
    #[arg(long, default_value_t = 2_000)]
    rate: u32,
    /// Connections of the paced calls: enough that a late answer delays no other request.
    #[arg(long, default_value_t = 64)]
    paced_connections: usize,
}

/// Tasks that one DescribeTasks names: as many as it may.
const DESCRIBED: usize = 100;
/// Calls of each kind whose parts are measured in this process.
const INSIDE: usize = 4_000;

/// What is asked.
struct Ask {
    operation: &'static str,
    body: Value,
}

/// One kind of call, through the wire.
struct Subject {
    name: &'static str,
    asked_bytes: usize,
    answered_bytes: usize,
    load: Load,
    /// µs per call, by the names of the server's threads.
    cpu_us: BTreeMap<String, f64>,
    /// The same bytes, taken and given by a server made of hyper alone.
    floor: Measured,
    parts: Parts,
}

/// A load, and what it cost the server.
struct Measured {
    load: Load,
    /// µs per call.
    cpu_us: f64,
}

pub(crate) fn run(options: &Options) {
    let dir = scratch();
    let server = Server::start(dir.path());
    let access = &server.access;
    let bench = Bench { options, access, pid: server.process.pid() };
    let mut connection = Connection::open(&access.authority);
    let mut outside = |operation: &str, request: &Value| connection.call(access, operation, request);
    world::prepare(&mut outside);
    let _agent = FakeAgent::start(access);
    let few = world::run(&mut outside, DESCRIBED);
    world::report_running(&mut outside, &few);
    let mut inside = Inside::new(access);
    let few_inside = inside.populate(DESCRIBED);

    let describe = |arns: &[String]| Ask { operation: "DescribeTasks", body: world::describe(arns) };
    let mut subject = |name, ask: &Ask, ask_inside: &Ask| bench.subject(name, ask, &mut inside, ask_inside);
    let one = subject("DescribeTasks of 1", &describe(&few[..1]), &describe(&few_inside[..1]));
    let hundred = subject("DescribeTasks of 100", &describe(&few), &describe(&few_inside));
    // While these are all the tasks there are.
    let floor = bench.paced_floor(&describe(&few), hundred.answered_bytes);
    let with_few = bench.paced(&[describe(&few)]);
    let ask = Ask { operation: "RunTask", body: world::run_task() };
    let run_task = subject("RunTask", &ask, &ask);
    let ask = Ask { operation: "RegisterTaskDefinition", body: world::definition() };
    let register = subject("RegisterTaskDefinition", &ask, &ask);
    let placed = few.len() + run_task.load.calls;
    report::subjects(&[one, hundred, run_task, register], options.connections);

    // Spread over all there are, so that they are found in many places.
    let spread = DESCRIBED * options.paced_connections;
    let more = world::run(&mut outside, options.tasks.saturating_sub(placed).max(spread));
    let spread: Vec<String> = more.iter().step_by(more.len() / spread).take(spread).cloned().collect();
    world::report_running(&mut outside, &spread);
    let each: Vec<Ask> = spread.chunks_exact(DESCRIBED).map(describe).collect();
    let with_many = bench.paced(&each);
    println!();
    report::paced(options, DESCRIBED, &floor, &[(few.len(), with_few), (placed + more.len(), with_many)]);
}

/// A server under load.
struct Bench<'a> {
    options: &'a Options,
    access: &'a Access,
    pid: u32,
}

impl Bench<'_> {
    /// A call through the wire as often as it goes, its floor, and its parts in this process.
    fn subject(&self, name: &'static str, ask: &Ask, inside: &mut Inside, ask_inside: &Ask) -> Subject {
        let signed = self.sign(ask);
        let (asked_bytes, answered_bytes) =
            (signed.body.len(), Connection::open(&self.access.authority).exchange(&signed.bytes).len());
        let meter = CpuMeter::start(self.pid);
        let load = self.sustained(&self.access.authority, &signed);
        let mut cpu_us = meter.used_us_by_thread();
        cpu_us.values_mut().for_each(|us| *us /= load.calls as f64);
        let floor = self.floor(&signed, answered_bytes);
        let (parts, inside_bytes) = inside.measure(&self.sign(ask_inside), INSIDE);
        // Numbers grow by a digit here and there; anything more would be another answer.
        assert!(
            inside_bytes.abs_diff(answered_bytes) * 50 <= answered_bytes,
            "{inside_bytes} and {answered_bytes} bytes"
        );
        Subject { name, asked_bytes, answered_bytes, load, cpu_us, floor, parts }
    }

    fn floor(&self, signed: &Signed, answered_bytes: usize) -> Measured {
        let responder = Responder::start(answered_bytes);
        let meter = CpuMeter::start(responder.pid());
        let load = self.sustained(&responder.authority, signed);
        let cpu_us = meter.used_us() / load.calls as f64;
        Measured { load, cpu_us }
    }

    fn sustained(&self, authority: &str, signed: &Signed) -> Load {
        load::sustained(authority, &signed.bytes, self.options.connections, self.lasts())
    }

    /// Calls at the pace asked for, each connection beginning with another of them; with the server's CPU per call.
    fn paced(&self, asks: &[Ask]) -> Measured {
        let signed: Vec<Signed> = asks.iter().map(|ask| self.sign(ask)).collect();
        self.paced_at(self.pid, &self.access.authority, &signed)
    }

    fn paced_floor(&self, ask: &Ask, answered_bytes: usize) -> Measured {
        let responder = Responder::start(answered_bytes);
        self.paced_at(responder.pid(), &responder.authority, &[self.sign(ask)])
    }

    fn paced_at(&self, pid: u32, authority: &str, signed: &[Signed]) -> Measured {
        let Options { paced_connections, rate, .. } = *self.options;
        let requests: Vec<&[u8]> = signed.iter().map(|signed| &*signed.bytes).collect();
        let meter = CpuMeter::start(pid);
        let load = load::paced(authority, &requests, paced_connections, rate, self.lasts());
        let cpu_us = meter.used_us() / load.calls as f64;
        Measured { load, cpu_us }
    }

    fn sign(&self, ask: &Ask) -> Signed {
        Signed::new(self.access, ask.operation, &ask.body)
    }

    fn lasts(&self) -> Duration {
        Duration::from_secs(self.options.seconds)
    }
}
