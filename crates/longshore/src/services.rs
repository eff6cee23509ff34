//! `longshore server` and `longshore agent`: the two halves, each as this process.

use longshore_agent::{AgentConfig, Exit};
use longshore_server::{Server, ServerConfig};
use tokio_util::sync::CancellationToken;

use crate::cli::{AgentArgs, ServerArgs};
use crate::data_dir::DataDir;
use crate::error::CliError;
use crate::{logging, shutdown};

/// Serves until SIGINT or SIGTERM, or until it cannot; then finishes what is under way.
pub(crate) async fn server(args: ServerArgs) -> Result<(), CliError> {
    let data_dir = DataDir::new(&args.data_dir.data_dir)?;
    let mut config = ServerConfig::new(data_dir.path());
    config.listen = args.listen;
    config.zone = args.zone.unwrap_or_else(|| format!("{}a", args.region));
    config.region = args.region;
    config.account_id = args.account_id;
    config.insecure = args.insecure.insecure;
    let server = Server::start(config).await.map_err(|error| CliError::Server(Box::new(error)))?;
    let asked = tokio::select! {
        () = shutdown::requested() => true,
        () = server.failed() => false,
    };
    server.shutdown().await;
    if asked { Ok(()) } else { Err(CliError::ServerFailed) }
}

/// Drives containers until SIGINT or SIGTERM; they run on.
pub(crate) async fn agent(args: AgentArgs) -> Result<(), CliError> {
    // Variables that are not UTF-8 cannot be settings.
    let environment =
        std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let config = AgentConfig::load(args.config.as_deref(), environment)
        .map_err(|error| CliError::AgentConfig(Box::new(error)))?;
    logging::start(config.log_level.unwrap_or("info"));
    let stop = CancellationToken::new();
    let stop_on_signal = stop.clone();
    tokio::spawn(async move {
        shutdown::requested().await;
        stop_on_signal.cancel();
    });
    let Exit::Clean = longshore_agent::run(config, stop).await.map_err(|error| CliError::Agent(Box::new(error)))?;
    Ok(())
}
