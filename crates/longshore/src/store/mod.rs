//! `longshore store`: a data directory's durable state, looked at, copied and brought back without a server.

mod check;
mod dump;
mod examination;
mod refusal;
mod transfer;

use std::path::PathBuf;

use longshore_server::STORE_DIR;
use longshore_store::StoreError;

use crate::cli::{DataDirArgs, StoreCommand};
use crate::data_dir::DataDir;
use crate::error::CliError;

pub(crate) use refusal::Refusal;

/// Runs the command.
pub(crate) fn store(command: StoreCommand) -> Result<(), CliError> {
    match command {
        StoreCommand::Check(args) => check::check(&args),
        StoreCommand::Backup(args) => transfer::back_up(&args),
        StoreCommand::Restore(args) => transfer::bring_back(&args),
        StoreCommand::Dump(args) => dump::dump(&args),
    }
}

/// The data directory and the store in it, which need not be there.
fn store_of(args: &DataDirArgs) -> Result<(DataDir, PathBuf), CliError> {
    let data_dir = DataDir::new(&args.data_dir)?;
    let store = data_dir.path().join(STORE_DIR);
    Ok((data_dir, store))
}

impl From<StoreError> for CliError {
    fn from(error: StoreError) -> Self {
        Self::Store(Box::new(error))
    }
}
