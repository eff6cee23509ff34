//! `longshore network`: the networks of awsvpc tasks.

use longshore_api::admin::DescribeNetworkResponse;

use crate::cli::{Format, ListNetworksArgs, NetworkCommand};
use crate::error::CliError;
use crate::output::{self, print_json};
use crate::reach::Reach;
use crate::table::Table;

/// Runs the command.
pub(crate) async fn network(command: NetworkCommand, program: &str) -> Result<(), CliError> {
    match command {
        NetworkCommand::List(args) => list(&args, program).await,
    }
}

async fn list(args: &ListNetworksArgs, program: &str) -> Result<(), CliError> {
    let answer = Reach::new(&args.reach, program).connect()?.client.describe_network().await?;
    match args.output.output {
        Format::Json => print_json(&answer),
        Format::Table => output::print(&text(&answer)),
    }
}

fn text(answer: &DescribeNetworkResponse) -> String {
    let origin = |adopted: bool| if adopted { "adopted" } else { "configured" }.to_owned();
    let mut subnets = Table::new(["SUBNET", "RANGE", "ZONE", "ORIGIN", "TASKS", "ADDRESSES ON HOSTS"]);
    for subnet in &answer.subnets {
        subnets.row([
            subnet.subnet_id.clone(),
            subnet.range.clone(),
            subnet.availability_zone.clone().unwrap_or_default(),
            origin(subnet.adopted),
            subnet.tasks.to_string(),
            subnet.addresses.to_string(),
        ]);
    }
    let mut groups = Table::new(["SECURITY GROUP", "ORIGIN", "TASKS", "ALLOWS"]);
    for group in &answer.security_groups {
        let allows = group.rules.join(", ");
        groups.row([group.group_id.clone(), origin(group.adopted), group.tasks.to_string(), allows]);
    }
    let mut text = format!("{}\n{}", subnets.text(), groups.text());
    if !answer.hosts.is_empty() {
        let mut hosts = Table::new(["HOST", "ADDRESS", "TASKS", "BLOCKS"]);
        for host in &answer.hosts {
            let address = host.host_address.clone().unwrap_or_default();
            hosts.row([host.host_id.clone(), address, host.tasks.to_string(), host.blocks.join(", ")]);
        }
        text.push('\n');
        text.push_str(&hosts.text());
    }
    if answer.more_hosts {
        text.push_str("There are more hosts than are listed.\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use longshore_api::admin::{NetworkHost, NetworkSecurityGroup, NetworkSubnet};

    use super::*;

    #[test]
    fn each_thing_has_a_line() {
        let subnet = NetworkSubnet {
            subnet_id: "subnet-a".to_owned(),
            range: "10.1.0.0/16".to_owned(),
            adopted: true,
            addresses: 64,
            tasks: 2,
            ..NetworkSubnet::default()
        };
        let group = NetworkSecurityGroup {
            group_id: "sg-a".to_owned(),
            rules: vec!["in tcp 80 0.0.0.0/0".to_owned(), "out all 0.0.0.0/0".to_owned()],
            tasks: 2,
            ..NetworkSecurityGroup::default()
        };
        let host = NetworkHost {
            host_id: "h1".to_owned(),
            blocks: vec!["10.1.0.0/26".to_owned()],
            tasks: 2,
            ..NetworkHost::default()
        };
        let answer = DescribeNetworkResponse {
            subnets: vec![subnet],
            security_groups: vec![group],
            hosts: vec![host],
            ..DescribeNetworkResponse::default()
        };
        let text = text(&answer);
        let words: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(words[1], ["subnet-a", "10.1.0.0/16", "-", "adopted", "2", "64"]);
        assert!(text.contains("sg-a") && text.contains("in tcp 80 0.0.0.0/0, out all 0.0.0.0/0"), "{text}");
        assert_eq!(words.last().expect("lines"), &["h1", "-", "2", "10.1.0.0/26"]);
    }
}
