//! `longshore store`: a data directory's durable state.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use longshore_core::entity::Entity;

use super::{DataDirArgs, OutputArgs};

#[derive(Debug, Subcommand)]
pub(crate) enum StoreCommand {
    /// Read everything and say whether it is whole; nothing is written, and a server may run meanwhile
    ///
    /// Ends with 0 if a server can start on it, and with 1 if it is damaged: then it says in which file and where, what
    /// is lost, and what to do.
    Check(CheckArgs),
    /// Write a copy of the store, and of its region and account, to a file; a server may run meanwhile
    ///
    /// The copy holds everything that was acknowledged before it began. Keys are not in it unless --with-keys: keep
    /// root-access-key, server-key and tls/ of the data directory where secrets are kept. It does hold the environment
    /// variables of task definitions, so only its owner can read it.
    Backup(BackupArgs),
    /// Bring a backup back, into a data directory that no server uses
    ///
    /// The backup is read and checked whole before anything is touched. A store that is there stays unless --force, which
    /// moves it to store.TIME.old. Region, account and keys are put where they are missing, and never overwritten.
    ///
    /// What happened after the backup is unknown to the restored store: agents are told to stop the tasks that were
    /// started since; container instances that registered since must register again; tasks that ended since show as they
    /// were until stop-task settles them. Commit numbers go on far above all that were used, because agents ignore what
    /// is not newer than what they saw.
    Restore(RestoreArgs),
    /// Print what is stored, one JSON object a line; a server may run meanwhile
    ///
    /// Each line has a kind, a key and a value. The values of environment variables are not shown.
    Dump(DumpArgs),
}

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    #[command(flatten)]
    pub(crate) data_dir: DataDirArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

#[derive(Debug, Args)]
pub(crate) struct BackupArgs {
    #[command(flatten)]
    pub(crate) data_dir: DataDirArgs,
    /// Where the backup goes; it appears there when it is complete
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Replace a file that is there
    #[arg(long)]
    pub(crate) force: bool,
    /// Take the root access key, the server's key and its certificate authority along
    #[arg(long)]
    pub(crate) with_keys: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RestoreArgs {
    #[command(flatten)]
    pub(crate) data_dir: DataDirArgs,
    /// The backup
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Move a store that is there aside
    #[arg(long)]
    pub(crate) force: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DumpArgs {
    #[command(flatten)]
    pub(crate) data_dir: DataDirArgs,
    /// Only this kind; repeatable
    #[arg(long = "kind", value_name = "KIND")]
    pub(crate) kinds: Vec<Kind>,
    /// Show the values of environment variables too
    #[arg(long)]
    pub(crate) with_values: bool,
}

/// What is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    Clusters,
    Families,
    Definitions,
    Instances,
    Tasks,
    #[value(alias = "tokens")]
    ClientTokens,
    JoinTokens,
    Identities,
    Settings,
    Parameters,
    Secrets,
    Subnets,
    SecurityGroups,
    AddressBlocks,
    Schedules,
    EventHorizon,
    CapacityProviders,
    Fleets,
}

impl Kind {
    pub(crate) fn of(entity: &Entity) -> Self {
        match entity {
            Entity::Cluster(_) => Self::Clusters,
            Entity::Family(_) => Self::Families,
            Entity::Definition(_) => Self::Definitions,
            Entity::Instance(_) => Self::Instances,
            Entity::Task(_) => Self::Tasks,
            Entity::Token(_) => Self::ClientTokens,
            Entity::JoinToken(_) => Self::JoinTokens,
            Entity::Identity(_) => Self::Identities,
            Entity::Setting(_) => Self::Settings,
            Entity::Parameter(_) => Self::Parameters,
            Entity::Secret(_) => Self::Secrets,
            Entity::Subnet(_) => Self::Subnets,
            Entity::SecurityGroup(_) => Self::SecurityGroups,
            Entity::Block(_) => Self::AddressBlocks,
            Entity::Schedule(_) => Self::Schedules,
            Entity::Horizon(_) => Self::EventHorizon,
            Entity::CapacityProvider(_) => Self::CapacityProviders,
            Entity::Fleet(_) => Self::Fleets,
        }
    }

    /// As one types it, and as a dump says it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Clusters => "clusters",
            Self::Families => "families",
            Self::Definitions => "definitions",
            Self::Instances => "instances",
            Self::Tasks => "tasks",
            Self::ClientTokens => "client-tokens",
            Self::JoinTokens => "join-tokens",
            Self::Identities => "identities",
            Self::Settings => "settings",
            Self::Parameters => "parameters",
            Self::Secrets => "secrets",
            Self::Subnets => "subnets",
            Self::SecurityGroups => "security-groups",
            Self::AddressBlocks => "address-blocks",
            Self::Schedules => "schedules",
            Self::EventHorizon => "event-horizon",
            Self::CapacityProviders => "capacity-providers",
            Self::Fleets => "fleets",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_typed_as_they_are_told() {
        for kind in Kind::value_variants() {
            assert_eq!(Kind::from_str(kind.name(), false), Ok(*kind));
        }
        assert_eq!(Kind::from_str("tokens", false), Ok(Kind::ClientTokens));
    }
}
