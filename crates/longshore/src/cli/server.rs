//! `longshore server`, and the settings of a server that `longshore up` shares.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::Args;

use super::launcher::LauncherSpec;
use super::value::{LostAfter, OrDefault, account_id, duration};
use super::{DataDirArgs, NetworkArgs, switch};

/// Where the API listens unless told otherwise: this machine only, on a port that nothing well known uses.
pub(crate) const DEFAULT_LISTEN: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 8470));

#[derive(Debug, Args)]
pub(crate) struct ServerArgs {
    #[command(flatten)]
    pub(crate) data_dir: DataDirArgs,
    /// The key that secrets are encrypted under; made with the first secret, kept outside the data directory
    ///
    /// Whoever has a copy of the data directory has no secret without it, and without it the secrets are lost: back it up
    /// apart from the data directory. [default: DATA_DIR.secrets-key, beside the data directory]
    #[arg(long, value_name = "FILE", env = "LONGSHORE_SECRETS_KEY")]
    pub(crate) secrets_key: Option<PathBuf>,
    /// Address of the API; port 0 takes a free one, named in server.json
    #[arg(long, value_name = "ADDRESS:PORT", env = "LONGSHORE_LISTEN", default_value_t = DEFAULT_LISTEN)]
    pub(crate) listen: SocketAddr,
    #[command(flatten)]
    pub(crate) insecure: InsecureArgs,
    #[command(flatten)]
    pub(crate) tls: TlsArgs,
    /// Region that clients sign for; it is part of every ARN, so choose it before the first start
    #[arg(long, env = "LONGSHORE_REGION", default_value = "us-east-1")]
    pub(crate) region: String,
    /// Twelve digits; part of every ARN like the region
    #[arg(long, value_name = "ID", env = "LONGSHORE_ACCOUNT_ID", default_value = "000000000000", value_parser = account_id)]
    pub(crate) account_id: String,
    /// Availability zone of instances that do not name one [default: the region followed by "a"]
    #[arg(long, env = "LONGSHORE_ZONE")]
    pub(crate) zone: Option<String>,
    #[command(flatten)]
    pub(crate) loss: LossArgs,
    #[command(flatten)]
    pub(crate) network: NetworkArgs,
    #[command(flatten)]
    pub(crate) scaling: ScalingArgs,
    /// Log to this file, set aside at 16 MiB with four older ones kept [default: standard error]
    ///
    /// LONGSHORE_LOG=debug (or error, warn, info, trace) says how much is logged; requests that succeed are logged at
    /// debug. LONGSHORE_LOG_FORMAT=json makes each line a JSON object.
    #[arg(long, value_name = "FILE", env = "LONGSHORE_LOG_FILE")]
    pub(crate) log_file: Option<PathBuf>,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct InsecureArgs {
    /// Offer the API beyond this machine although it is plain HTTP: requests are signed, but can be read on the way
    #[arg(long, env = "LONGSHORE_INSECURE", value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", value_parser = switch, hide_possible_values = true)]
    pub(crate) insecure: Option<bool>,
}

/// How the server proves who it is.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct TlsArgs {
    /// Serve HTTPS with a certificate that the server makes and renews by its own authority
    ///
    /// The authority lies in DATA_DIR/tls/ca.pem. Machines that join pin it by the fingerprint that `longshore token
    /// create` prints; `longshore env` makes the AWS tools of a shell trust it.
    #[arg(long, env = "LONGSHORE_TLS", value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", value_parser = switch, hide_possible_values = true)]
    pub(crate) tls: Option<bool>,
    /// A further name or address that the own certificate is for; repeatable
    ///
    /// Without it: localhost, this machine's name and the addresses that it listens on.
    #[arg(long = "tls-name", value_name = "NAME", env = "LONGSHORE_TLS_NAMES", value_delimiter = ',')]
    pub(crate) tls_names: Option<Vec<String>>,
    /// Serve HTTPS with this certificate: PEM, the server's own first, its authorities after it
    #[arg(long, value_name = "FILE", env = "LONGSHORE_TLS_CERT", requires = "tls_key", conflicts_with_all = ["tls", "tls_names"])]
    pub(crate) tls_cert: Option<PathBuf>,
    /// The certificate's private key: PEM
    #[arg(long, value_name = "FILE", env = "LONGSHORE_TLS_KEY", requires = "tls_cert")]
    pub(crate) tls_key: Option<PathBuf>,
}

/// How capacity providers get their machines.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct ScalingArgs {
    /// A program that adds and removes machines, for capacity providers that name it as autoScalingGroupArn; repeatable
    ///
    /// It is run as PROGRAM add COUNT or PROGRAM remove INSTANCE_ARN..., with JSON on its standard input. MIN and MAX are how
    /// many machines it may have in a cluster [default: 0-100].
    #[arg(
        long = "launcher",
        value_name = "NAME[:MIN-MAX]=PROGRAM",
        env = "LONGSHORE_LAUNCHERS",
        value_delimiter = ','
    )]
    pub(crate) launchers: Vec<LauncherSpec>,
    /// How long machines have to be more than needed before half of the surplus is removed
    #[arg(long, value_name = "DURATION", env = "LONGSHORE_SCALE_IN_AFTER", value_parser = duration, default_value = "15m")]
    pub(crate) scale_in_after: Duration,
}

/// When machines that vanish are given up.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct LossArgs {
    /// How long an instance may be without its agent before its tasks count as stopped, or never
    ///
    /// Never means that no task is ever replaced while its machine may still run it. [default: 60s, and 5m for
    /// the official agent, which may need longer to come back; a value that is given holds for both]
    #[arg(long, value_name = "DURATION|never", env = "LONGSHORE_INSTANCE_LOST_AFTER", value_parser = OrDefault::<LostAfter>::from_str)]
    pub(crate) instance_lost_after: Option<OrDefault<LostAfter>>,
    /// When more than so many percent of a cluster's machines vanish within a minute, give none of them up
    ///
    /// It looks like the server's own network then. Their return releases the brake, or `longshore instance evict`.
    /// [default: 30]
    #[arg(long, value_name = "PERCENT", env = "LONGSHORE_MASS_LOSS_BRAKE", value_parser = percent)]
    pub(crate) mass_loss_brake: Option<OrDefault<u8>>,
}

fn percent(text: &str) -> Result<OrDefault<u8>, String> {
    match text.parse::<OrDefault<u8>>() {
        Ok(percent) if percent.0.is_none_or(|percent| percent <= 100) => Ok(percent),
        _ => Err("it is a whole number from 0 to 100".to_owned()),
    }
}
