//! Machines that join, and machines that must not.

use std::os::unix::fs::PermissionsExt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use longshore_client::{Proxies, Transport, Trust};
use serde_json::{Value, json};

use super::*;
use crate::AgentConfig;
use crate::session::fake_server::{Call, FakeServer, TOKEN};

struct Machine {
    dir: tempfile::TempDir,
}

impl Machine {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn env(&self, more: &[(&str, &str)]) -> Vec<(String, String)> {
        let dir = self.dir.path().display().to_string();
        let own = [("ECS_DATADIR", dir.as_str())];
        own.iter().chain(more).map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    async fn join(&self, request: JoinRequest) -> Result<Joined, JoinError> {
        join(request, Some(Path::new("/dev/null")), self.env(&[])).await
    }

    /// The error as a person sees it.
    async fn refused(&self, request: JoinRequest) -> String {
        let error = self.join(request).await.unwrap_err();
        assert!(MachineIdentity::read(self.dir.path()).unwrap().is_none(), "bound in spite of {error}");
        longshore_client::chain(&error)
    }

    fn config(&self, env: &[(&str, &str)]) -> Result<AgentConfig, ConfigError> {
        AgentConfig::load(Some(Path::new("/dev/null")), self.env(env))
    }
}

fn request(server: &str) -> JoinRequest {
    JoinRequest {
        server: server.to_owned(),
        token: TOKEN.to_owned(),
        ca_fingerprint: None,
        ca_file: None,
        insecure: false,
        settings: BTreeMap::new(),
    }
}

/// The answer to a join: one key for each client token.
fn key(call: &Call) -> (u16, Value) {
    assert_eq!(call.operation, "JoinContainerInstance");
    let answer = json!({
        "accessKeyId": format!("LSIN-{}", call.body["clientToken"].as_str().unwrap()),
        "secretAccessKey": "hush",
        "cluster": "prod",
        "region": "eu-central-1",
        "accountId": "000000000000",
    });
    (200, answer)
}

async fn fingerprint(server: &FakeServer, of: usize) -> Fingerprint {
    let (origin, _) = Origin::of(&server.base).unwrap();
    let transport = Transport::new(Trust::default(), Proxies::default());
    transport.presented(&origin).await.unwrap()[of].fingerprint
}

#[tokio::test]
async fn a_machine_joins_by_fingerprint_and_is_bound_from_then_on() {
    let mut server = FakeServer::with_tls(key).await;
    let machine = Machine::new();
    let mut request = request(&server.base);
    request.ca_fingerprint = Some(fingerprint(&server, 1).await);
    request.settings =
        BTreeMap::from([("LONGSHORE_INSTANCES".into(), "2".into()), ("LONGSHORE_CPU".into(), "512".into())]);
    let joined = machine.join(request.clone()).await.unwrap();
    assert!(!joined.already);
    assert_eq!((joined.cluster.as_str(), joined.server.as_str()), ("prod", server.base.as_str()));
    let asked = server.call("JoinContainerInstance").await;
    assert_eq!(asked["instances"], 2);
    assert_eq!(joined.access_key_id, format!("LSIN-{}", asked["clientToken"].as_str().unwrap()));
    let mode = std::fs::metadata(&joined.identity_file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(!machine.dir.path().join(STARTED_FILE).exists());

    // The agent needs nothing else, and calls the server that was recognised.
    let config = machine.config(&[]).unwrap();
    assert_eq!((config.backend_host.as_str(), config.cluster.as_str()), (server.base.as_str(), "prod"));
    assert_eq!((config.region.as_str(), config.instances), ("eu-central-1", 2));
    assert_eq!(config.sizes.cpu.get(1), Some(&512));
    assert_eq!(config.credentials.access_key_id, joined.access_key_id);
    let mut client = config.client();
    client.credentials = token(TOKEN).unwrap();
    client.region = "us-east-1".into();
    let api = Client::new(client).unwrap();
    api.call(OPERATION, asked.to_string()).await.unwrap();
    server.call("JoinContainerInstance").await;

    // Doing the same again changes nothing but settings.
    request.token = "LSTKOTHER.used-up".into();
    request.settings = BTreeMap::from([("LONGSHORE_ZONE".into(), "b".into())]);
    let again = machine.join(request.clone()).await.unwrap();
    assert_eq!(again, Joined { already: true, ..joined });
    let config = machine.config(&[]).unwrap();
    assert_eq!(config.sizes.zone.get(0).map(String::as_str), Some("b"));
    assert_eq!(config.sizes.cpu.get(0), Some(&512));
    assert!(server.calls.try_recv().is_err());

    request.settings = BTreeMap::from([("LONGSHORE_INSTANCES".into(), "3".into())]);
    let error = machine.join(request.clone()).await.unwrap_err().to_string();
    assert!(error.contains("joined for 2 instances: for 3") && error.contains("identity.json"), "{error}");
    request.server = "https://elsewhere:1".into();
    let error = machine.join(request).await.unwrap_err().to_string();
    assert!(error.contains(&server.base) && error.contains("delete"), "{error}");
}

#[tokio::test]
async fn what_contradicts_the_binding_is_refused_with_the_way_to_leave() {
    let server = FakeServer::start(key).await;
    let machine = Machine::new();
    machine.join(request(&server.base)).await.unwrap();
    for (name, value) in
        [("ECS_BACKEND_HOST", "http://other:1"), ("ECS_CLUSTER", "other"), ("LONGSHORE_INSTANCES", "2")]
    {
        let error = machine.config(&[(name, value)]).unwrap_err().to_string();
        assert!(error.contains(name) && error.contains("delete") && error.contains("identity.json"), "{error}");
    }
    // The same in other words is none; and what other AWS clients are told is not about us.
    let spelt = format!("{}/", server.base);
    let same = [
        ("ECS_BACKEND_HOST", spelt.as_str()),
        ("ECS_CLUSTER", "arn:aws:ecs:r:1:cluster/prod"),
        ("AWS_ENDPOINT_URL", "http://other:1"),
        ("AWS_DEFAULT_REGION", "us-west-2"),
    ];
    let config = machine.config(&same).unwrap();
    assert_eq!((config.backend_host.as_str(), config.region.as_str()), (server.base.as_str(), "eu-central-1"));
    assert_eq!(config.warnings, Vec::<String>::new());
    let keys = [("AWS_ACCESS_KEY_ID", "AKIA"), ("AWS_SECRET_ACCESS_KEY", "other")];
    let config = machine.config(&keys).unwrap();
    assert_eq!(config.credentials.access_key_id, "AKIA");
    assert!(config.warnings[0].contains("AWS_ACCESS_KEY_ID"), "{:?}", config.warnings);
}

#[tokio::test]
async fn only_a_server_that_is_known_is_told_anything() {
    let mut server = FakeServer::with_tls(key).await;
    let other = FakeServer::with_tls(key).await;
    let machine = Machine::new();

    let mut wrong = request(&server.base);
    wrong.ca_fingerprint = Some(fingerprint(&other, 1).await);
    let error = machine.refused(wrong).await;
    let presented = fingerprint(&server, 1).await.to_string();
    assert!(error.contains(&presented) && error.contains("another server"), "{error}");

    let ca_file = machine.dir.path().join("ca.pem");
    std::fs::write(&ca_file, &other.chain[1]).unwrap();
    let with_file = JoinRequest { ca_file: Some(ca_file.clone()), ..request(&server.base) };
    let error = machine.refused(with_file.clone()).await;
    assert!(error.contains("TLS") && error.contains("--ca-fingerprint"), "{error}");

    let mut by_address = request(&server.base.replace("localhost", "127.0.0.1"));
    by_address.ca_fingerprint = Some(fingerprint(&server, 1).await);
    let error = machine.refused(by_address).await;
    assert!(error.contains("not valid for name"), "{error}");
    assert!(server.calls.try_recv().is_err(), "the server was told something");

    std::fs::write(&ca_file, &server.chain[1]).unwrap();
    machine.join(with_file).await.unwrap();
    std::fs::remove_file(&ca_file).unwrap();
    let identity = MachineIdentity::read(machine.dir.path()).unwrap().unwrap();
    assert_eq!(identity.ca_pem.as_ref(), Some(&server.chain[1]));
}

#[tokio::test]
async fn the_servers_own_certificate_may_be_pinned() {
    let server = FakeServer::with_tls(key).await;
    let machine = Machine::new();
    let ca_fingerprint = Some(fingerprint(&server, 0).await);
    machine.join(JoinRequest { ca_fingerprint, ..request(&server.base) }).await.unwrap();
}

#[tokio::test]
async fn plain_http_is_for_this_machine_or_for_those_who_ask_for_it() {
    let machine = Machine::new();
    let error = machine.refused(request("http://server.example:8470")).await;
    assert!(error.contains("--tls") && error.contains("--insecure"), "{error}");
    let ca_fingerprint = Some("ab".repeat(32).parse().unwrap());
    let error = machine.refused(JoinRequest { ca_fingerprint, ..request("http://127.0.0.1:1") }).await;
    assert!(error.contains("https://"), "{error}");
    for server in ["server:8470", "https://h/path", ""] {
        assert!(machine.refused(request(server)).await.contains("https://host:port"), "{server}");
    }
    for token in ["", "LSTKABC", "LSTKABC.", "AKIA.x"] {
        let request = JoinRequest { token: token.into(), ..request("http://127.0.0.1:1") };
        assert!(machine.refused(request).await.contains("token create"), "{token}");
    }
}

#[tokio::test]
async fn a_join_whose_answer_was_lost_is_the_same_join_when_repeated() {
    let calls = AtomicU32::new(0);
    let mut server = FakeServer::start(move |call| match calls.fetch_add(1, Ordering::Relaxed) {
        0 => (200, json!({})),
        _ => key(call),
    })
    .await;
    let machine = Machine::new();
    machine.refused(request(&server.base)).await;
    machine.join(request(&server.base)).await.unwrap();
    let first = server.call("JoinContainerInstance").await;
    let second = server.call("JoinContainerInstance").await;
    assert_eq!(first, second);

    // Another token, or another size, is another join.
    let other = Machine::new();
    let origin = Origin::of(&server.base).unwrap().0;
    let begin = |token_text: &str, instances| {
        start(other.dir.path(), &origin, &token(token_text).unwrap(), instances).unwrap().client_token
    };
    let client_token = begin(TOKEN, 1);
    assert_eq!(begin(TOKEN, 1), client_token);
    assert_ne!(begin(TOKEN, 2), client_token);
    assert_ne!(begin("LSTKB.s", 2), begin(TOKEN, 2));
}

#[tokio::test]
async fn a_machine_that_joins_anew_gets_a_new_key_even_if_it_was_killed_when_it_had_the_first() {
    let server = FakeServer::start(key).await;
    let machine = Machine::new();
    let began = start(machine.dir.path(), &Origin::of(&server.base).unwrap().0, &token(TOKEN).unwrap(), 1).unwrap();
    let first = machine.join(request(&server.base)).await.unwrap();
    // Killed between writing the one file and removing the other, and started again.
    write_json(&machine.dir.path().join(STARTED_FILE), &began, Readers::Owner).unwrap();
    assert!(machine.join(request(&server.base)).await.unwrap().already);
    // Its key was revoked, so somebody did what the error says.
    std::fs::remove_file(&first.identity_file).unwrap();
    let second = machine.join(request(&server.base)).await.unwrap();
    assert_ne!(second.access_key_id, first.access_key_id);
}

#[tokio::test]
async fn refusals_say_what_to_do_and_servers_that_hiccup_are_asked_again() {
    let answers = Mutex::new(vec![
        (400, json!({ "__type": "AccessDeniedException", "message": "The token has no uses left." })),
        (503, json!({ "__type": "ServerException" })),
    ]);
    let server = FakeServer::start(move |call| answers.lock().unwrap().pop().unwrap_or_else(|| key(call))).await;
    let machine = Machine::new();
    let error = machine.refused(request(&server.base)).await;
    assert!(error.contains("no uses left") && error.contains("token create"), "{error}");
    machine.join(request(&server.base)).await.unwrap();
}

#[test]
fn the_servers_region_is_learnt_from_its_refusal() {
    let error = |message: &str| CallError::Api {
        operation: "JoinContainerInstance",
        status: 403,
        code: "InvalidSignatureException".into(),
        message: message.into(),
    };
    let told = "Credential should be scoped to the region 'eu-west-1', not 'us-east-1'.";
    assert_eq!(servers_region(&error(told)).as_deref(), Some("eu-west-1"));
    assert_eq!(servers_region(&error("The request signature does not match.")), None);
}

#[test]
fn settings_are_added_to_those_saved_before() {
    let dir = tempfile::tempdir().unwrap();
    let save = |settings: &[(&str, &str)]| {
        save_settings(dir.path(), &settings.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect())
    };
    save(&[("LONGSHORE_CPU", "1024"), ("ECS_INSTANCE_ATTRIBUTES", r#"{"a":"b=c"}"#)]).unwrap();
    save(&[("LONGSHORE_CPU", "2048")]).unwrap();
    let text = std::fs::read_to_string(dir.path().join(SAVED_FILE)).unwrap();
    assert_eq!(text, "ECS_INSTANCE_ATTRIBUTES={\"a\":\"b=c\"}\nLONGSHORE_CPU=2048\n");
    assert!(save(&[("LONGSHORE_ZONE", "a\nECS_CLUSTER=x")]).unwrap_err().to_string().contains("LONGSHORE_ZONE"));
}
