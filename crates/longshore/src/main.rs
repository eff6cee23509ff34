//! The `longshore` binary: the two halves of the system as commands, and the commands for people around them.
//!
//! This is the only crate that knows both the server and the agent; it runs each in a process of its own and lets them
//! meet over the network like anybody else. It knows nothing of orchestration: what it wants done it asks of the API.
//!
//! Begin with [`cli`] (what can be typed), then [`supervisor`] (what `up` is while it runs) and [`process`] (how a
//! process is found again and never mistaken).

mod agent;
mod backoff;
mod cli;
mod client;
mod data_dir;
mod down;
mod engine;
mod environment;
mod error;
mod image;
mod instance;
mod logging;
mod logs;
mod machine_key;
mod network;
mod output;
mod process;
mod ps;
mod reach;
mod registered;
mod run;
mod scheduler;
mod server;
mod settings;
mod shutdown;
mod status;
mod store;
mod supervisor;
mod table;
mod task;
mod token;
mod up;
mod why;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Cli, Command};
use crate::data_dir::DataDir;
use crate::error::CliError;

/// Answers are made on the cell's thread and freed on others, which the system's allocator is slow at.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // A process started through /proc/self/exe would show up as "exe" in process lists.
    let _ = rustix::thread::set_name(c"longshore");
    let program = std::env::args().next().unwrap_or_else(|| "longshore".to_owned());
    match run(Cli::parse().command, &program) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::complain(&error.with_causes());
            error.exit_code()
        }
    }
}

fn run(command: Command, program: &str) -> Result<(), CliError> {
    if let Command::Env(args) = command {
        return environment::print(&DataDir::new(&args.data_dir)?, program);
    }
    if let Command::Store(command) = command {
        return store::store(command);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|source| CliError::Start { what: "the async runtime", source })?;
    runtime.block_on(async {
        match command {
            Command::Up(args) => {
                // In the foreground a person reads along: there, only what is out of the ordinary.
                let log = args.supervise.is_some().then(|| DataDir::new(&args.data_dir.data_dir)).transpose()?;
                let log = log.map(|data_dir| data_dir.log("up"));
                logging::start(if log.is_some() { "info" } else { "warn" }, log.as_deref())?;
                up::up(args, program).await
            }
            Command::Down(args) => down::down(args).await,
            Command::Server(args) => {
                logging::start("info", args.log_file.as_deref())?;
                server::server(args).await
            }
            Command::Agent(args) => agent::agent(args, program).await,
            Command::Token(command) => token::token(command, program).await,
            Command::Image(command) => image::image(command, program).await,
            Command::Instance(command) => instance::instance(command, program).await,
            Command::Network(command) => network::network(command, program).await,
            Command::Scheduler(command) => scheduler::scheduler(command, program).await,
            Command::Status(args) => status::status(&args, program).await,
            Command::Ps(args) => ps::ps(&args, program).await,
            Command::Task(args) => task::task(&args, program).await,
            Command::Logs(args) => logs::logs(args, program).await,
            Command::Why(args) => why::why(&args, program).await,
            Command::Env(_) | Command::Store(_) => Ok(()),
        }
    })
}
