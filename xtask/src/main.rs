//! Chores of the repository: the service models, the code generated from them, the house rules.
//!
//! `xtask reduce PATH` · `xtask codegen` · `xtask coverage` · `xtask tidy`. Begin reading at `run`; the generator is
//! in `codegen`, the rules in `tidy`.

mod codegen;
mod coverage;
mod model;
mod reduce;
mod tidy;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Why a chore could not be done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("{0}")]
    Usage(String),
    #[error("cannot read {0}")]
    Read(PathBuf, #[source] std::io::Error),
    #[error("cannot write {0}")]
    Write(PathBuf, #[source] std::io::Error),
    #[error("{0} is not the JSON it should be")]
    Json(PathBuf, #[source] serde_json::Error),
    #[error("model: {0}")]
    Model(String),
    #[error("cannot run {0}: {1}")]
    Run(&'static str, String),
    #[error("{0}")]
    Untidy(String),
}

const USAGE: &str = "usage: cargo run -p xtask -- COMMAND
  reduce PATH   reduce a botocore service-2.json[.gz] to models/<service>.json
  codegen       write crates/api/src/<service>/generated from models/
  coverage      write docs/*-coverage.md from what the core says of operations and task definitions
  tidy          check the rules of the house";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(report) => {
            println!("{report}");
            ExitCode::SUCCESS
        }
        Err(failure) => {
            let mut cause: Option<&dyn std::error::Error> = Some(&failure);
            while let Some(error) = cause {
                eprintln!("{error}");
                cause = error.source();
            }
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> Result<String, Failure> {
    let root = root();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["reduce", path] => {
            let dropped = reduce::run(&root, Path::new(path))?;
            if dropped.is_empty() {
                return Ok("reduced; run codegen next".to_owned());
            }
            let dropped: Vec<String> = dropped.into_iter().collect();
            Ok(format!("reduced; unknown keys were dropped, look whether they are facts: {}", dropped.join(", ")))
        }
        ["codegen"] => codegen::write(&root),
        ["coverage"] => coverage::write(&root),
        ["tidy"] => tidy::run(&root),
        _ => Err(Failure::Usage(USAGE.to_owned())),
    }
}

/// The repository: the folder above this crate.
fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}
