//! A scheduler that packs by measured, not by reserved use.
//!
//! It keeps COUNT copies of a task definition going. Each goes to the fullest container instance that has room for it, where "full"
//! is what the instance's containers use now, as their Docker Engine measures it, and "room" is what another copy is
//! expected to use: as much as the largest one that runs, or what the command line says as long as none does. The server checks
//! each placement against what is reserved; so let definitions reserve little (`memoryReservation`), and this program decide.

mod cluster;
mod docker;
mod pack;

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use longshore_client::Events;
use tokio::time::{MissedTickBehavior, interval, sleep};

use cluster::{Cluster, Failure};
use docker::Engine;
use pack::Host;

/// Keeps copies of a task definition going, on as few container instances as their measured use of memory allows
#[derive(Debug, Parser)]
struct Args {
    /// FAMILY, FAMILY:REVISION or an ARN
    task_definition: String,
    #[arg(long, default_value = "default")]
    cluster: String,
    /// How many copies
    #[arg(long, default_value_t = 1)]
    count: usize,
    /// MiB that a copy is expected to use until one was measured
    #[arg(long, value_name = "MIB")]
    expected: u64,
    /// How much of an instance's registered memory may be in use
    #[arg(long, value_name = "PERCENT", default_value_t = 90, value_parser = clap::value_parser!(u64).range(1..=100))]
    fill: u64,
    /// The socket of a Docker Engine that runs instances of the cluster; may be repeated
    #[arg(long = "engine", value_name = "SOCKET", default_value = "/var/run/docker.sock")]
    engines: Vec<PathBuf>,
    /// Seconds after which a copy has grown to what it uses: until then it counts as what is expected
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    warm_up: u64,
    /// Seconds between measurements while nothing happens
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..))]
    interval: u64,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let args = Args::parse();
    let cluster = Cluster::of_environment(&args.cluster)?;
    let engines: Vec<Engine> = args.engines.iter().map(|socket| Engine::at(socket)).collect();
    let mut measure = interval(Duration::from_secs(args.interval));
    measure.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut cursor = "latest".to_owned();
    loop {
        let mut stream = match cluster.events(&cursor).await {
            Ok(stream) => stream,
            Err(error) => {
                eprintln!("cannot read events: {error}");
                // What was missed is looked at with everything else.
                cursor = "latest".to_owned();
                sleep(Duration::from_secs(1)).await;
                continue;
            }
        };
        loop {
            if let Err(error) = round(&args, &cluster, &engines).await {
                eprintln!("looking again: {error}");
            }
            let goes_on = tokio::select! {
                goes_on = news(&mut stream, &mut cursor) => goes_on,
                _ = measure.tick() => true,
            };
            if !goes_on {
                break;
            }
        }
    }
}

/// Waits for an event; answers whether the stream goes on.
async fn news(stream: &mut Events, cursor: &mut String) -> bool {
    loop {
        match stream.next().await {
            Ok(Some(block)) => {
                if let Some(id) = block.id {
                    *cursor = id;
                }
                if block.data.is_some() {
                    return true;
                }
            }
            Ok(None) | Err(_) => return false,
        }
    }
}

/// Looks at everything, and starts what lacks.
async fn round(args: &Args, cluster: &Cluster, engines: &[Engine]) -> Result<(), Failure> {
    let own = cluster.own_tasks().await?;
    if own.len() >= args.count {
        return Ok(());
    }
    let mut measured = Vec::new();
    for engine in engines {
        measured.extend(engine.containers().await?);
    }
    let instances = cluster.instances().await?;
    let mut hosts: Vec<Host> = instances
        .into_iter()
        .map(|(arn, memory)| {
            let used = measured.iter().filter(|one| one.instance == arn).map(|one| one.bytes).sum::<u64>() >> 20;
            Host { arn, used, most: memory * args.fill / 100 }
        })
        .collect();
    let each = pack::expected(args.expected, args.warm_up, &own, &measured);
    // What was started a moment ago uses little yet, and will use more.
    for (task, instance) in &own {
        if let Some(host) = hosts.iter_mut().find(|host| host.arn == *instance) {
            host.used += pack::still_to_come(task, each, args.warm_up, &measured);
        }
    }
    for _ in own.len()..args.count {
        let Some(host) = pack::fullest_with_room(&mut hosts, each) else { return Ok(()) };
        match cluster.start(&args.task_definition, &host.arn).await? {
            Ok(task) => {
                println!("{task} on {}: {} of {} MiB in use, {each} expected", host.arn, host.used, host.most);
                host.used += each;
            }
            Err(reason) => {
                println!("{} does not take it: {reason}", host.arn);
                // In this round it has no room.
                host.used = host.most;
            }
        }
    }
    Ok(())
}
