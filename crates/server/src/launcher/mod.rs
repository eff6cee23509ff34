//! Launchers: what adds machines to a capacity provider, and removes them.
//!
//! The cell decides, and writes what it decided into its state as orders. Here the orders of the committed state are
//! read, carried out one after the other for each launcher, and answered with a command. So nothing has to be
//! remembered: after a crash the orders that were not answered are read again, and carried out again under the same
//! numbers, by which a launcher knows what it has done.
//!
//! While the store cannot be written nothing is answered, and what was done stays an order ([`attempts`]).
//!
//! What is to be done is the core's ([`longshore_core::capacity`]); how it is said is the business of [`executable`].

mod attempts;
mod executable;

use std::path::PathBuf;
use std::sync::Arc;

use longshore_core::capacity::{LauncherAnswer, LauncherOrder};
use longshore_core::cell::Command;
use longshore_core::config::FleetSize;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::attempts::{Attempts, Next};
use crate::clock;
use crate::limits::LAUNCHER_LOOK_EVERY;
use crate::orchestrator::Orchestrator;
use crate::runner::Runner;

/// A launcher as an operator configures it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LauncherConfig {
    /// Its name, which capacity providers give as `autoScalingGroupArn`.
    pub name: Arc<str>,
    /// Between how many machines it may have.
    pub size: FleetSize,
    /// The program.
    pub program: PathBuf,
}

/// Carries out the orders of one launcher until the server stops.
pub(crate) async fn serve(config: LauncherConfig, runner: Runner, stop: CancellationToken) {
    let mut look = tokio::time::interval(LAUNCHER_LOOK_EVERY);
    let mut attempts = Attempts::default();
    loop {
        tokio::select! {
            _ = look.tick() => {}
            () = stop.cancelled() => return,
        }
        let orders = runner.snapshot().launcher_orders(clock::cell().now);
        let own: Vec<LauncherOrder> = orders.into_iter().filter(|order| order.launcher == config.name).collect();
        attempts.keep(|number| own.iter().any(|order| order.order == number));
        let (now, mut own) = (Instant::now(), own.into_iter());
        let Some((next, order)) = own.find_map(|order| Some((attempts.next(order.order, now)?, order))) else {
            continue;
        };
        let outcome = match next {
            Next::Tell => Ok(()),
            Next::Do => tokio::select! {
                outcome = carry_out(&config, &order) => outcome,
                () = stop.cancelled() => return,
            },
        };
        attempts.note(order.order, outcome.is_ok(), Instant::now());
        let answer = LauncherAnswer { fleet: order.fleet, order: order.order, outcome };
        runner.command(Command::LauncherAnswered(answer)).await;
    }
}

async fn carry_out(config: &LauncherConfig, order: &LauncherOrder) -> Result<(), Arc<str>> {
    let (launcher, number, action) = (&*config.name, order.order, order.request.action);
    tracing::info!(launcher, order = number, action, "asking the launcher");
    let outcome = executable::run(config, &order.request).await;
    match &outcome {
        Ok(()) => tracing::info!(launcher, order = number, "the launcher has done it"),
        Err(reason) => tracing::warn!(launcher, order = number, "the launcher failed: {reason}"),
    }
    outcome.map_err(Arc::from)
}
