//! Machines that join a whole server: tokens, keys of their own, what these open, and how they end.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use futures_util::StreamExt as _;
use longshore_server::{RunningServer, Server, ServerConfig};
use serde_json::{Value, json};
use support::door::{Door, Socket, acs, credentials, key, offer, root, tcs, token};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::{Error, Message};

const SOON: Duration = Duration::from_secs(20);

async fn start(dir: &Path) -> (RunningServer, Door) {
    let mut config = ServerConfig::new(dir);
    config.listen = SocketAddr::from(([127, 0, 0, 1], 0));
    // Telemetry sessions ask at each beat whether they may stay.
    config.session_limits.heartbeat_every = Duration::from_millis(100);
    let server = timeout(SOON, Server::start(config)).await.unwrap().unwrap();
    let door = Door::plain(server.local_addr());
    (server, door)
}

/// The code with which the server closes a socket.
async fn closed(socket: &mut Socket) -> u16 {
    loop {
        match timeout(SOON, socket.next()).await.unwrap().unwrap().unwrap() {
            Message::Close(frame) => return frame.unwrap().code.into(),
            _ => continue,
        }
    }
}

fn refusal(outcome: Result<Socket, Error>) -> (u16, Value) {
    match outcome {
        Err(Error::Http(response)) => {
            let body = response.body().clone().unwrap_or_default();
            (response.status().as_u16(), serde_json::from_slice(&body).unwrap())
        }
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("the socket was opened"),
    }
}

#[tokio::test]
async fn a_machine_joins_once_and_is_given_the_same_key_over_restarts() {
    let dir = tempfile::tempdir().unwrap();
    let (server, door) = start(dir.path()).await;
    let owner = root(dir.path());
    let made = door.ask(&owner, "Longshore.CreateJoinToken", json!({"uses": 2, "expiresInSeconds": 600})).await;
    assert_eq!((made.status, &made.body["joinToken"]["usesLeft"]), (200, &json!(2)), "{}", made.body);
    let token = token(&made);
    let join = json!({"clientToken": "mine"});
    let joined = door.ask(&token, "Longshore.JoinContainerInstance", join.clone()).await;
    assert_eq!(joined.status, 200, "{}", joined.body);
    let machine = credentials(&joined.body);
    assert_eq!((machine.access_key_id.len(), machine.secret.reveal().len()), (20, 40));
    let expected = json!({
        "accessKeyId": machine.access_key_id, "secretAccessKey": machine.secret.reveal(),
        "cluster": "default", "region": "us-east-1", "accountId": "000000000000",
    });
    assert_eq!(joined.body, expected);
    let arn = door.register(&machine).await;
    timeout(SOON, server.shutdown()).await.unwrap();

    let (server, door) = start(dir.path()).await;
    let again = door.ask(&token, "Longshore.JoinContainerInstance", join).await;
    assert_eq!(again.body, expected);
    let listed = door.ask(&owner, "Longshore.ListJoinTokens", json!({})).await;
    assert_eq!(listed.body["joinTokens"][0]["usesLeft"], 1, "{}", listed.body);
    assert!(!listed.body.to_string().contains(token.secret.reveal()));
    let mut socket = door.socket(&machine, &acs(&arn)).await.unwrap();
    timeout(SOON, socket.next()).await.unwrap().unwrap().unwrap();
    let rows = door.ask(&owner, "Longshore.ListInstanceIdentities", json!({})).await;
    let row = &rows.body["instanceIdentities"][0];
    assert_eq!(row["accessKeyId"], machine.access_key_id.as_str());
    assert_eq!(row["containerInstance"]["containerInstanceArn"], arn.as_str());
    assert_eq!(row["containerInstance"]["agentConnected"], true);
    timeout(SOON, server.shutdown()).await.unwrap();
    // No secret is in the store, the root key's file apart.
    for entry in std::fs::read_dir(dir.path().join("store")).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        for secret in [token.secret.reveal(), machine.secret.reveal(), owner.secret.reveal()] {
            assert!(!bytes.windows(secret.len()).any(|window| window == secret.as_bytes()));
        }
    }
}

#[tokio::test]
async fn a_token_opens_nothing_else_and_a_machine_only_what_its_agent_needs() {
    let dir = tempfile::tempdir().unwrap();
    let (server, door) = start(dir.path()).await;
    let owner = root(dir.path());
    let made = door.ask(&owner, "Longshore.CreateJoinToken", json!({})).await;
    let token = token(&made);
    let machine = door.join(&owner, 1).await;
    let own = door.register(&machine).await;
    let others = door.register(&owner).await;

    let task = format!("arn:aws:ecs:us-east-1:000000000000:task/default/{}", "0".repeat(32));
    let allowed = [
        ("DiscoverPollEndpoint", json!({"containerInstance": own, "cluster": "default"}), 200),
        ("DescribeContainerInstances", json!({"containerInstances": [own]}), 200),
        // Let through, and refused for what it says: there is no such task.
        ("SubmitTaskStateChange", json!({"cluster": "default", "task": task, "status": "RUNNING"}), 400),
    ];
    for (operation, body, status) in allowed {
        let answer = door.ask(&machine, operation, body).await;
        assert_eq!(answer.status, status, "{operation}: {}", answer.body);
        assert_ne!(answer.body["__type"], "AccessDeniedException", "{operation}: {}", answer.body);
    }
    let denied = [
        ("RunTask", json!({"taskDefinition": "x"}), "ecs:RunTask"),
        ("ListTasks", json!({}), "ecs:ListTasks"),
        ("DescribeContainerInstances", json!({"containerInstances": [others]}), "ecs:DescribeContainerInstances"),
        ("DiscoverPollEndpoint", json!({"containerInstance": others}), "ecs:DiscoverPollEndpoint"),
        ("RegisterContainerInstance", offer(), "deregister"),
        ("Longshore.CreateJoinToken", json!({}), "longshore:CreateJoinToken"),
        ("Longshore.ListInstanceIdentities", json!({}), "longshore:ListInstanceIdentities"),
        ("Longshore.JoinContainerInstance", json!({"clientToken": "x"}), "longshore:JoinContainerInstance"),
    ];
    for (operation, body, part) in denied {
        let answer = door.ask(&machine, operation, body).await;
        assert_eq!(answer.error(), (400, "AccessDeniedException"), "{operation}: {}", answer.body);
        assert!(answer.message().contains(part), "{}", answer.message());
        assert!(answer.message().contains(&machine.access_key_id), "{}", answer.message());
    }
    for operation in ["ListClusters", "RegisterContainerInstance", "DiscoverPollEndpoint", "Longshore.ListJoinTokens"] {
        let answer = door.ask(&token, operation, json!({})).await;
        assert_eq!(answer.error(), (400, "AccessDeniedException"), "{operation}: {}", answer.body);
    }
    let (status, body) = refusal(door.socket(&machine, &acs(&others)).await);
    assert_eq!((status, body.get("AccessDeniedException").is_some()), (403, true), "{body}");
    let (status, body) = refusal(door.socket(&token, &acs(&own)).await);
    assert_eq!((status, body.get("AccessDeniedException").is_some()), (403, true), "{body}");
    timeout(SOON, server.shutdown()).await.unwrap();
}

#[tokio::test]
async fn a_revoked_key_is_refused_at_once_and_its_sockets_are_closed() {
    let dir = tempfile::tempdir().unwrap();
    let (server, door) = start(dir.path()).await;
    let owner = root(dir.path());
    let machine = door.join(&owner, 1).await;
    let arn = door.register(&machine).await;
    let mut orders = door.socket(&machine, &acs(&arn)).await.unwrap();
    let mut telemetry = door.socket(&machine, &tcs(&arn)).await.unwrap();
    let revoke = json!({"containerInstance": arn});
    let revoked = door.ask(&owner, "Longshore.RevokeInstanceIdentity", revoke).await;
    assert_eq!(revoked.body["identity"]["accessKeyId"], machine.access_key_id.as_str(), "{}", revoked.body);
    // A policy violation: agents back off after it, and do not come back at once.
    assert_eq!(closed(&mut orders).await, 1008);
    assert_eq!(closed(&mut telemetry).await, 1008);
    let refused = door.ask(&machine, "DiscoverPollEndpoint", json!({})).await;
    assert_eq!(refused.error(), (400, "UnrecognizedClientException"));
    let (status, body) = refusal(door.socket(&machine, &acs(&arn)).await);
    assert_eq!((status, body.get("AccessDeniedException").is_some()), (403, true), "{body}");
    timeout(SOON, server.shutdown()).await.unwrap();
}

#[tokio::test]
async fn two_servers_do_not_take_each_others_keys() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let ((first, first_door), (second, second_door)) = (start(one.path()).await, start(two.path()).await);
    let machine = first_door.join(&root(one.path()), 1).await;
    for stranger in [&machine, &root(one.path())] {
        let refused = second_door.ask(stranger, "DiscoverPollEndpoint", json!({})).await;
        assert_eq!(refused.error(), (400, "UnrecognizedClientException"));
    }
    // The id alone, which is no secret, opens nothing either.
    let known = second_door.join(&root(two.path()), 1).await;
    let forged = key(&known.access_key_id, machine.secret.reveal());
    let refused = second_door.ask(&forged, "DiscoverPollEndpoint", json!({})).await;
    assert_eq!(refused.error(), (400, "InvalidSignatureException"));
    timeout(SOON, first.shutdown()).await.unwrap();
    timeout(SOON, second.shutdown()).await.unwrap();
}

#[tokio::test]
async fn bad_input_is_named_and_lists_go_on_page_by_page() {
    let dir = tempfile::tempdir().unwrap();
    let (server, door) = start(dir.path()).await;
    let owner = root(dir.path());
    for (operation, body, error, part) in [
        ("CreateJoinToken", json!({"uses": 10_001}), "InvalidParameterException", "uses"),
        ("CreateJoinToken", json!({"cluster": "nowhere"}), "ClusterNotFoundException", "Cluster"),
        ("CreateJoinToken", json!({"expiresInSeconds": "1h"}), "SerializationException", "expiresInSeconds"),
        ("RevokeJoinToken", json!({"tokenId": "LSTKNONE"}), "ResourceNotFoundException", "LSTKNONE"),
        ("RevokeInstanceIdentity", json!({}), "InvalidParameterException", "exactly one"),
        ("ReleaseMassLossBrake", json!({"cluster": "nowhere"}), "ClusterNotFoundException", "Cluster"),
        ("JoinContainerInstance", json!({"clientToken": "x"}), "AccessDeniedException", "only a join token joins"),
        ("Reboot", json!({}), "UnknownOperationException", "Reboot"),
    ] {
        let answer = door.ask(&owner, &format!("Longshore.{operation}"), body).await;
        assert_eq!(answer.error(), (400, error), "{operation}: {}", answer.body);
        assert!(answer.message().contains(part), "{}", answer.message());
    }
    for _ in 0..3 {
        door.ask(&owner, "Longshore.CreateJoinToken", json!({})).await;
    }
    let first = door.ask(&owner, "Longshore.ListJoinTokens", json!({"maxResults": 2})).await;
    assert_eq!(first.body["joinTokens"].as_array().unwrap().len(), 2, "{}", first.body);
    let next = json!({"maxResults": 2, "nextToken": first.body["nextToken"]});
    let second = door.ask(&owner, "Longshore.ListJoinTokens", next.clone()).await;
    assert_eq!(second.body["joinTokens"].as_array().unwrap().len(), 1, "{}", second.body);
    let elsewhere = door.ask(&owner, "Longshore.ListInstanceIdentities", next).await;
    assert_eq!(elsewhere.error(), (400, "InvalidParameterException"));
    let released = door.ask(&owner, "Longshore.ReleaseMassLossBrake", json!({"cluster": "default"})).await;
    assert_eq!(released.body, json!({"cluster": "default", "evicted": 0}));
    timeout(SOON, server.shutdown()).await.unwrap();
}
