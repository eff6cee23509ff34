//! Which server a command looks at.

use std::path::PathBuf;

use clap::Args;

/// By its data directory, on its own machine; by its URL, from anywhere.
#[derive(Clone, Debug, Args)]
pub(crate) struct ReachArgs {
    /// Data directory of the server, on its machine [env: LONGSHORE_DATA_DIR] [default: what AWS_ENDPOINT_URL_ECS says, else
    /// /var/lib/longshore]
    #[arg(long, value_name = "DIR", conflicts_with = "endpoint")]
    pub(crate) data_dir: Option<PathBuf>,
    /// URL of the server, called with AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION and AWS_CA_BUNDLE
    /// [env: LONGSHORE_ENDPOINT]
    #[arg(long, value_name = "URL")]
    pub(crate) endpoint: Option<String>,
}
