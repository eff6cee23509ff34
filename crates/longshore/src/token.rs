//! `longshore token`: lets machines in.

use std::net::{IpAddr, SocketAddr};

use longshore_api::Timestamp;
use longshore_api::admin::{CreateJoinTokenRequest, CreateJoinTokenResponse, JoinToken};

use crate::cli::{CreateTokenArgs, Format, ListTokensArgs, RevokeTokenArgs, TokenCommand, duration_text};
use crate::client::EcsClient;
use crate::data_dir::{DataDir, ServerFacts};
use crate::environment::quoted;
use crate::error::CliError;
use crate::output::{self, Output, print_json, time_text};
use crate::table::Table;

/// Runs the command.
pub(crate) async fn token(command: TokenCommand, program: &str) -> Result<(), CliError> {
    match command {
        TokenCommand::Create(args) => create(args, program).await,
        TokenCommand::List(args) => list(args, program).await,
        TokenCommand::Revoke(args) => revoke(args, program).await,
    }
}

async fn create(args: CreateTokenArgs, program: &str) -> Result<(), CliError> {
    let data_dir = DataDir::new(&args.data_dir.data_dir)?;
    let (client, facts) = EcsClient::running(&data_dir, program)?;
    let request = CreateJoinTokenRequest {
        cluster: Some(args.cluster.clone()),
        uses: i32::try_from(args.uses).ok(),
        expires_in_seconds: i32::try_from(args.expires.as_secs()).ok(),
    };
    let answer = client.create_join_token(&request).await?;
    if args.output.output == Format::Json {
        return print_json(&answer);
    }
    let invitation = Invitation::new(&facts, args.server, &answer);
    output::print(&invitation.text(&args.cluster, &duration_text(args.expires)))
}

async fn list(args: ListTokensArgs, program: &str) -> Result<(), CliError> {
    let data_dir = DataDir::new(&args.data_dir.data_dir)?;
    let tokens = EcsClient::running(&data_dir, program)?.0.join_tokens().await?;
    match args.output.output {
        Format::Json => print_json(&serde_json::json!({ "joinTokens": tokens })),
        Format::Table => output::print(&table(&tokens, longshore_client::now())),
    }
}

async fn revoke(args: RevokeTokenArgs, program: &str) -> Result<(), CliError> {
    let data_dir = DataDir::new(&args.data_dir.data_dir)?;
    let (client, _) = EcsClient::running(&data_dir, program)?;
    // Whoever has the whole token at hand may give it: what stands before the dot is its id.
    let id = args.id.split_once('.').map_or(args.id.as_str(), |(id, _)| id);
    let token = client.revoke_join_token(id).await?;
    Output::new().tick(format_args!("token {} is revoked; machines that joined with it stay", token.token_id));
    Ok(())
}

fn table(tokens: &[JoinToken], now: Timestamp) -> String {
    let mut table = Table::new(["TOKEN ID", "CLUSTER", "USES LEFT", "EXPIRES", "STATUS"]);
    for token in tokens {
        table.row([
            token.token_id.clone(),
            token.cluster.clone(),
            format!("{} of {}", token.uses_left, token.uses),
            time_text(token.expires_at),
            status(token, now).to_owned(),
        ]);
    }
    table.text()
}

fn status(token: &JoinToken, now: Timestamp) -> &'static str {
    if token.revoked {
        "revoked"
    } else if token.expires_at <= now {
        "expired"
    } else if token.uses_left == 0 {
        "used up"
    } else {
        "usable"
    }
}

/// What a person needs to join a machine.
struct Invitation<'a> {
    token: &'a str,
    uses: i32,
    expires_at: Timestamp,
    fingerprint: Option<&'a str>,
    /// The URL in the command, and others that may do as well.
    server: String,
    others: Vec<String>,
    /// The server listens on this machine alone.
    closed: bool,
}

impl<'a> Invitation<'a> {
    fn new(facts: &'a ServerFacts, server: Option<String>, answer: &'a CreateJoinTokenResponse) -> Self {
        let mut urls = match &server {
            Some(server) => vec![server.clone()],
            None => urls(facts, &addresses()),
        };
        let first = if urls.is_empty() { facts.endpoint.clone() } else { urls.remove(0) };
        Self {
            token: &answer.token,
            uses: answer.join_token.uses,
            expires_at: answer.join_token.expires_at,
            fingerprint: facts.ca_fingerprint.as_deref(),
            closed: server.is_none() && facts.address().is_some_and(|address| address.ip().is_loopback()),
            server: first,
            others: urls,
        }
    }

    fn text(&self, cluster: &str, expires: &str) -> String {
        let mut text = String::new();
        let mut line = |line: String| {
            text.push_str(&line);
            text.push('\n');
        };
        let mut command = format!("  longshore agent join --server {} --token {}", quoted(&self.server), self.token);
        if let Some(fingerprint) = self.fingerprint {
            command.push_str(&format!(" \\\n    --ca-fingerprint {fingerprint}"));
        } else if self.server.starts_with("http://") && !self.closed {
            command.push_str(" --insecure");
        }
        line(format!("On {}, with Docker, as root:", machines(self.uses)));
        line(command);
        line(String::new());
        line(format!(
            "It joins cluster {cluster}. The token is good for {} join(s), until {} ({expires} from now).",
            self.uses,
            time_text(self.expires_at)
        ));
        if !self.others.is_empty() {
            line(format!("Other addresses of this server: {}", self.others.join(", ")));
        }
        if self.closed {
            line(format!(
                "Other machines cannot reach this server: it listens on {} alone. Start it with --listen ADDRESS:PORT,",
                self.server
            ));
            line("an address of this machine in their network, and --tls.".to_owned());
        }
        text
    }
}

fn machines(uses: i32) -> String {
    if uses == 1 { "another machine".to_owned() } else { format!("each of up to {uses} machines") }
}

/// The addresses of this machine; none if the system does not tell, and then somebody has to.
fn addresses() -> Vec<IpAddr> {
    if_addrs::get_if_addrs().unwrap_or_default().iter().map(if_addrs::Interface::ip).collect()
}

/// URLs by which other machines may reach the server: where it listens, or each address of this machine if that is all
/// of them.
fn urls(facts: &ServerFacts, interfaces: &[IpAddr]) -> Vec<String> {
    let Some(address) = facts.address().filter(|address| address.ip().is_unspecified()) else {
        return vec![facts.endpoint.clone()];
    };
    let scheme = facts.endpoint.split("://").next().unwrap_or("http");
    let same_family = |ip: &&IpAddr| address.is_ipv6() || ip.is_ipv4();
    // An IPv6 address of one link alone means nothing without the name of an interface, which differs from machine to machine.
    let beyond_the_link = |ip: &&IpAddr| !matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
    let reachable = interfaces.iter().filter(|ip| !ip.is_loopback()).filter(same_family).filter(beyond_the_link);
    reachable.map(|ip| format!("{scheme}://{}", SocketAddr::new(*ip, address.port()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(endpoint: &str, listen: &str, fingerprint: Option<&str>) -> ServerFacts {
        ServerFacts {
            endpoint: endpoint.into(),
            listen: Some(listen.parse().unwrap()),
            ca_fingerprint: fingerprint.map(str::to_owned),
            ..ServerFacts::default()
        }
    }

    fn token(uses_left: i32, revoked: bool) -> JoinToken {
        JoinToken {
            token_id: "LSTKA".into(),
            cluster: "default".into(),
            uses: 2,
            uses_left,
            created_at: Timestamp::from_millis(0),
            expires_at: Timestamp::from_millis(3_600_000),
            revoked,
        }
    }

    fn text(facts: &ServerFacts, server: Option<&str>) -> String {
        let answer = CreateJoinTokenResponse { join_token: token(2, false), token: "LSTKA.secret".to_owned().into() };
        Invitation::new(facts, server.map(str::to_owned), &answer).text("default", "1h")
    }

    #[test]
    fn the_command_names_server_token_and_fingerprint() {
        let text = text(&facts("https://10.0.0.5:8470", "10.0.0.5:8470", Some("sha256:ab")), None);
        assert!(
            text.contains(
                "longshore agent join --server https://10.0.0.5:8470 --token LSTKA.secret \\\n    --ca-fingerprint sha256:ab\n"
            ),
            "{text}"
        );
        assert!(
            text.contains("up to 2 machines")
                && text.contains("2 join(s)")
                && text.contains("1970-01-01 01:00:00 UTC (1h from now)"),
            "{text}"
        );
        assert!(!text.contains("cannot reach"), "{text}");
    }

    #[test]
    fn a_server_that_nobody_else_reaches_says_so() {
        let closed = text(&facts("http://127.0.0.1:8470", "127.0.0.1:8470", None), None);
        assert!(closed.contains("cannot reach") && closed.contains("--tls"), "{closed}");
        let told = text(&facts("http://127.0.0.1:8470", "127.0.0.1:8470", None), Some("https://front:443"));
        assert!(!told.contains("cannot reach") && told.contains("--server https://front:443 "), "{told}");
        let plain = text(&facts("http://10.0.0.5:8470", "10.0.0.5:8470", None), None);
        assert!(plain.contains("--token LSTKA.secret --insecure\n"), "{plain}");
    }

    #[test]
    fn every_address_is_named_by_those_of_the_machine() {
        let facts = facts("https://127.0.0.1:8470", "0.0.0.0:8470", None);
        let addresses = ["127.0.0.1", "10.0.0.5", "fd00::1", "10.1.0.5"].map(|text| text.parse().unwrap());
        assert_eq!(urls(&facts, &addresses), ["https://10.0.0.5:8470", "https://10.1.0.5:8470"]);
        let facts = self::facts("https://127.0.0.1:8470", "[::]:8470", None);
        let addresses = ["::1", "fe80::1", "fd00::1"].map(|text| text.parse().unwrap());
        assert_eq!(urls(&facts, &addresses), ["https://[fd00::1]:8470"]);
    }

    #[test]
    fn a_token_is_usable_or_says_why_not() {
        let now = Timestamp::from_millis(1000);
        assert_eq!(status(&token(1, false), now), "usable");
        assert_eq!(status(&token(0, false), now), "used up");
        assert_eq!(status(&token(1, true), now), "revoked");
        assert_eq!(status(&token(1, false), Timestamp::from_millis(3_600_000)), "expired");
        let table = table(&[token(1, false)], now);
        assert!(table.contains("LSTKA") && table.contains("1 of 2") && table.contains("usable"), "{table}");
    }
}
