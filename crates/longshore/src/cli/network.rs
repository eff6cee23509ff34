//! The networks of awsvpc tasks: how a server is told of them, and `longshore network`.

use std::net::Ipv4Addr;

use clap::{Args, Subcommand};
use longshore_core::network::{Ipv4Range, SecurityGroup, Subnet};

use super::{OutputArgs, ReachArgs, switch};

/// The subnets and security groups of awsvpc tasks.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct NetworkArgs {
    /// Addresses of awsvpc tasks for which no subnet is configured: choose a range that nothing else here uses
    ///
    /// Its first quarter is the subnet subnet-00000000, unless --subnet is given; subnets that are adopted are cut from the rest.
    /// [default: 10.212.0.0/14]
    #[arg(long, value_name = "RANGE", env = "LONGSHORE_TASK_NETWORK")]
    pub(crate) task_network: Option<Ipv4Range>,
    /// A subnet of awsvpc tasks, for the instances of a zone if one is named; repeatable
    #[arg(long = "subnet", value_name = "subnet-ID=RANGE[@ZONE]", env = "LONGSHORE_SUBNETS", value_delimiter = ',')]
    pub(crate) subnets: Option<Vec<Subnet>>,
    /// A security group and what it allows; repeatable (in the environment behind semicolons)
    ///
    /// A rule is `in|out all|icmp|tcp|udp [PORT[-PORT]] RANGE|sg-ID`. What no rule allows is dropped; without a rule for `out` tasks may
    /// connect to everywhere. Tasks that name no group have sg-00000000, which allows everything unless it is configured.
    #[arg(
        long = "security-group",
        value_name = "sg-ID=RULE,…",
        env = "LONGSHORE_SECURITY_GROUPS",
        value_delimiter = ';'
    )]
    pub(crate) security_groups: Option<Vec<SecurityGroup>>,
    /// A name server of awsvpc tasks; repeatable [default: those of their host]
    #[arg(long = "task-dns", value_name = "ADDRESS", env = "LONGSHORE_TASK_DNS", value_delimiter = ',')]
    pub(crate) task_dns: Option<Vec<Ipv4Addr>>,
    /// Make unknown subnets and security groups true when they are first named, as `longshore up` does
    ///
    /// A subnet is then a part of --task-network, a group allows everything. `longshore network list` shows them.
    #[arg(long, env = "LONGSHORE_ADOPT_NETWORKS", value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", value_parser = switch, hide_possible_values = true)]
    pub(crate) adopt_networks: Option<bool>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum NetworkCommand {
    /// List subnets, security groups, and the hosts with their addresses
    ///
    /// With --output json one object, as the server's operation DescribeNetwork answers: `ranges`, `adopts`, `subnets`,
    /// `securityGroups`, `hosts`.
    List(ListNetworksArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ListNetworksArgs {
    #[command(flatten)]
    pub(crate) reach: ReachArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}
