//! `longshore token`: how machines are let in.

use std::time::Duration;

use clap::{Args, Subcommand};

use super::value::duration;
use super::{DataDirArgs, OutputArgs};

#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Make a token, and print the command that joins a machine with it
    ///
    /// A token can do nothing but join: whoever holds it before it is used up, expired or revoked can add a machine to
    /// its cluster, and receives the access key of that machine alone.
    Create(CreateTokenArgs),
    /// List the tokens there are, with what is left of each; their secrets are not kept
    List(ListTokensArgs),
    /// Make a token useless; machines that joined with it stay
    Revoke(RevokeTokenArgs),
}

#[derive(Debug, Args)]
pub(crate) struct CreateTokenArgs {
    #[command(flatten)]
    pub(crate) data_dir: DataDirArgs,
    /// Cluster that machines join with it
    #[arg(long, value_name = "NAME", default_value = "default")]
    pub(crate) cluster: String,
    /// How many machines may join with it
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) uses: u32,
    /// How long it can be used: from 60s to 30d
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = duration)]
    pub(crate) expires: Duration,
    /// URL by which the other machines reach this server, for the printed command [default: from where it listens]
    #[arg(long, value_name = "URL")]
    pub(crate) server: Option<String>,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ListTokensArgs {
    #[command(flatten)]
    pub(crate) data_dir: DataDirArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

#[derive(Debug, Args)]
pub(crate) struct RevokeTokenArgs {
    #[command(flatten)]
    pub(crate) data_dir: DataDirArgs,
    /// The token's id: LSTK…, what stands before the dot
    #[arg(value_name = "TOKEN_ID")]
    pub(crate) id: String,
}
