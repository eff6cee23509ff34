//! `longshore server`: the control plane as this process.

use std::sync::Arc;

use longshore_core::network::NetworkConfig;
use longshore_server::{Server, ServerConfig, TlsConfig};

use crate::cli::{LostAfter, NetworkArgs, OrDefault, ServerArgs, TlsArgs};
use crate::data_dir::DataDir;
use crate::error::CliError;
use crate::shutdown;

/// Serves until SIGINT or SIGTERM, or until it cannot; then finishes what is under way.
pub(crate) async fn server(args: ServerArgs) -> Result<(), CliError> {
    let server = Server::start(server_config(args)?).await.map_err(|error| CliError::Server(Box::new(error)))?;
    let asked = tokio::select! {
        () = shutdown::requested() => true,
        () = server.failed() => false,
    };
    server.shutdown().await;
    if asked { Ok(()) } else { Err(CliError::ServerFailed) }
}

fn server_config(args: ServerArgs) -> Result<ServerConfig, CliError> {
    let data_dir = DataDir::new(&args.data_dir.data_dir)?;
    let mut config = ServerConfig::new(data_dir.path());
    config.secrets_key = args.secrets_key;
    config.listen = args.listen;
    config.zone = args.zone.unwrap_or_else(|| format!("{}a", args.region));
    config.region = args.region;
    config.account_id = args.account_id;
    config.insecure = args.insecure.insecure.unwrap_or(false);
    config.tls = tls(args.tls);
    if let Some(OrDefault(Some(after))) = args.loss.instance_lost_after {
        config.loss = config.loss.lost_after(match after {
            LostAfter::After(duration) => Some(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)),
            LostAfter::Never => None,
        });
    }
    if let Some(OrDefault(Some(percent))) = args.loss.mass_loss_brake {
        config.loss.brake_percent = u32::from(percent);
    }
    config.network = network(args.network);
    config.launchers = args.scaling.launchers.into_iter().map(|launcher| launcher.0).collect();
    config.scale_in_after = args.scaling.scale_in_after;
    Ok(config)
}

fn network(args: NetworkArgs) -> NetworkConfig {
    let mut config = args.task_network.map(NetworkConfig::within).unwrap_or_default();
    if let Some(subnets) = args.subnets {
        config.subnets = subnets.into_iter().map(Arc::new).collect();
    }
    config.groups = args.security_groups.unwrap_or_default().into_iter().map(Arc::new).collect();
    config.dns = args.task_dns.unwrap_or_default();
    config.adopt = args.adopt_networks.unwrap_or(false);
    config
}

fn tls(args: TlsArgs) -> Option<TlsConfig> {
    match (args.tls_cert, args.tls_key) {
        (Some(cert), Some(key)) => Some(TlsConfig::Given { cert, key }),
        _ if args.tls == Some(false) || (args.tls.is_none() && args.tls_names.is_none()) => None,
        _ => Some(TlsConfig::Own { names: args.tls_names.unwrap_or_default() }),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    fn config(line: &str) -> ServerConfig {
        let words = ["longshore", "server", "--data-dir", "/d"].into_iter().chain(line.split_whitespace());
        match Cli::try_parse_from(words).unwrap().command {
            Command::Server(args) => server_config(args).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn tls_is_off_unless_asked_for() {
        for line in ["", "--tls=false", "--tls=false --tls-name a"] {
            assert_eq!(config(line).tls, None, "{line}");
        }
        assert_eq!(config("--tls").tls, Some(TlsConfig::Own { names: vec![] }));
        assert_eq!(config("--tls-name a,b").tls, Some(TlsConfig::Own { names: vec!["a".into(), "b".into()] }));
        let given = TlsConfig::Given { cert: "/c".into(), key: "/k".into() };
        assert_eq!(config("--tls-cert /c --tls-key /k").tls, Some(given));
    }

    #[test]
    fn a_lost_after_that_is_given_holds_for_all_agents() {
        let default = config("").loss;
        assert!(default.lost_after_ms.is_some() && default.lost_after_ms < default.official_lost_after_ms);
        let loss = config("--instance-lost-after 90s --mass-loss-brake 50").loss;
        assert_eq!((loss.lost_after_ms, loss.official_lost_after_ms), (Some(90_000), Some(90_000)));
        assert_eq!(loss.brake_percent, 50);
        let never = config("--instance-lost-after never").loss;
        assert_eq!((never.lost_after_ms, never.official_lost_after_ms), (None, None));
    }
}
