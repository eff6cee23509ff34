//! Who may do what, and for how long.

use longshore_api::admin::{self, Operation as Admin};
use longshore_api::ecs::{self, Operation, Request};
use longshore_api::{ApiError, Timestamp};
use serde_json::{Value, json};

use super::Answer;
use crate::cell::{CloseReason, Command, Effect, Reply};
use crate::fixture::{Lab, definition, offer};
use crate::ids::SessionId;
use crate::instance::SessionRefusal;
use crate::limits;
use crate::principal::{Principal, Role};

const ACCOUNT: &str = "000000000000";

fn owner() -> Principal {
    crate::fixture::principal(0)
}

fn machine(access_key_id: &str) -> Principal {
    Principal::new(Role::Instance, access_key_id, ACCOUNT)
}

fn holder(token: &str) -> Principal {
    Principal::new(Role::JoinToken, token, ACCOUNT)
}

impl Lab {
    fn administer(&mut self, principal: &Principal, operation: Admin, document: &Value) -> Result<Answer, ApiError> {
        let request = admin::Request::decode(operation, document).unwrap_or_else(|error| panic!("{document}: {error}"));
        match self.apply(Command::Admin { principal: principal.clone(), request }).reply {
            Reply::Admin(answer) => answer,
            other => panic!("{other:?} is no answer to a request of the administration"),
        }
    }

    /// The answer's JSON; for those that get a secret at the edge, what is known of it here.
    fn admin(&mut self, operation: Admin, document: &Value) -> Value {
        match self.administer(&owner(), operation, document).unwrap_or_else(|error| panic!("{document}: {error:?}")) {
            Answer::TokenCreated(token) => serde_json::to_value(token).expect("JSON"),
            Answer::Complete(response) => serde_json::from_slice(&response.to_json()).expect("JSON"),
            joined @ Answer::Joined { .. } => panic!("the owner was answered {joined:?}"),
        }
    }

    /// A page of the listing as clients get it: from the snapshot.
    fn identities(&mut self, document: &Value) -> Value {
        let request = admin::Request::decode(Admin::ListInstanceIdentities, document).expect("a request");
        let (owner, view) = (owner(), self.cell.snapshot());
        let authorised = view.authorise_admin(&owner, &request).expect("the owner may");
        let answer = view.answer_admin(authorised).expect("it only reads").expect("a page");
        serde_json::from_slice(&answer.to_json()).expect("JSON")
    }

    fn denied(&mut self, principal: &Principal, operation: Admin, document: &Value) -> (String, String) {
        let before = self.cell.sequence();
        let error = self.administer(principal, operation, document).expect_err("denied");
        assert_eq!(self.cell.sequence(), before, "a refusal moved the commit number");
        (error.code.name.to_owned(), error.message)
    }

    fn token(&mut self, document: &Value) -> String {
        self.admin(Admin::CreateJoinToken, document)["tokenId"].as_str().expect("an id").to_owned()
    }

    fn join(&mut self, token: &str, client_token: &str) -> Result<String, ApiError> {
        self.join_as(token, &json!({"clientToken": client_token}))
    }

    fn join_as(&mut self, token: &str, document: &Value) -> Result<String, ApiError> {
        match self.administer(&holder(token), Admin::JoinContainerInstance, document)? {
            Answer::Joined { access_key_id, scope, .. } => {
                assert_eq!((&*scope.region, &*scope.account), ("us-east-1", ACCOUNT));
                Ok(access_key_id.to_string())
            }
            other => panic!("{other:?} is no answer to a join"),
        }
    }

    /// A machine that joined the default cluster with a token of its own.
    fn machine(&mut self, instances: i32) -> Principal {
        let token = self.token(&json!({}));
        let key = self.join_as(&token, &json!({"clientToken": "once", "instances": instances})).expect("joined");
        machine(&key)
    }

    fn ask(&mut self, principal: &Principal, operation: Operation, document: &Value) -> Result<Value, ApiError> {
        let request = crate::fixture::request(operation, document);
        match self.apply(Command::Api { principal: principal.clone(), request }).reply {
            Reply::Api(answer) => answer.map(|answer| serde_json::from_slice(&answer.to_json()).expect("JSON")),
            other => panic!("{other:?} is no answer to a request"),
        }
    }

    fn register_as(&mut self, principal: &Principal, host: &str) -> Result<String, ApiError> {
        let answer = self.ask(principal, Operation::RegisterContainerInstance, &offer(host, 1_000, 1_000))?;
        Ok(answer["containerInstance"]["containerInstanceArn"].as_str().expect("an ARN").to_owned())
    }

    fn open_as(&mut self, principal: &Principal, instance_arn: &str) -> Result<SessionId, SessionRefusal> {
        let Command::SessionOpened { instance_arn, session, agent, .. } = self.opened(0, instance_arn) else {
            panic!("another command")
        };
        let principal = principal.clone();
        match self.apply(Command::SessionOpened { instance_arn, session, principal, agent }).reply {
            Reply::Session(answer) => answer.map(|_| session),
            other => panic!("{other:?} is no answer to a session"),
        }
    }
}

fn code(error: ApiError) -> String {
    error.code.name.to_owned()
}

#[test]
fn a_token_lets_in_as_many_machines_as_it_says_and_then_nobody() {
    let mut lab = Lab::new();
    let token = lab.token(&json!({"uses": 2}));
    assert!(token.starts_with("LSTK") && token.len() == 20, "{token}");
    let one = lab.join(&token, "one").expect("joined");
    let two = lab.join(&token, "two").expect("joined");
    assert!(one.starts_with("LSIN") && one.len() == 20, "{one}");
    assert_ne!(one, two);
    let error = lab.join(&token, "three").expect_err("used up");
    assert!(error.message.contains("as often as it may be") && error.message.contains("token create"), "{error}");
    assert_eq!(code(error), "AccessDeniedException");
    // What was joined with it is answered again, and costs nothing.
    assert_eq!(lab.join(&token, "one").as_deref(), Ok(&*one));
    let listed = lab.admin(Admin::ListJoinTokens, &json!({}));
    assert_eq!(listed["joinTokens"][0]["usesLeft"], 0);
}

#[test]
fn the_same_join_asked_again_writes_nothing_and_is_not_another_one() {
    let mut lab = Lab::new();
    let token = lab.token(&json!({"uses": 5}));
    let first = lab.join(&token, "mine").expect("joined");
    let sequence = lab.cell.sequence();
    assert_eq!(lab.join(&token, "mine").as_deref(), Ok(&*first));
    assert_eq!(lab.cell.sequence(), sequence);
    let other = lab.join_as(&token, &json!({"clientToken": "mine", "instances": 2})).expect_err("another join");
    assert_eq!(code(other), "ConflictException");
    // The same words with another token are another join.
    let second = lab.token(&json!({}));
    assert_ne!(lab.join(&second, "mine").expect("joined"), first);
}

#[test]
fn a_token_that_expired_or_was_revoked_lets_nobody_in_and_is_forgotten_after_a_day() {
    let mut lab = Lab::new();
    let short = lab.token(&json!({"expiresInSeconds": 60}));
    let revoked = lab.token(&json!({}));
    lab.join(&short, "mine").expect("joined");
    let answer = lab.admin(Admin::RevokeJoinToken, &json!({"tokenId": revoked}));
    assert_eq!(answer["joinToken"]["revoked"], true);
    let again = lab.cell.sequence();
    lab.admin(Admin::RevokeJoinToken, &json!({"tokenId": revoked}));
    assert_eq!(lab.cell.sequence(), again, "revoking again writes nothing");
    lab.now = lab.now.plus_millis(60_000);
    for (token, why, client_token) in
        [(&short, "has expired", "other"), (&short, "has expired", "mine"), (&revoked, "was revoked", "x")]
    {
        let error = lab.join(token, client_token).expect_err(why);
        assert!(error.message.contains(why), "{error}");
        assert_eq!(code(error), "AccessDeniedException");
    }
    lab.now = lab.now.plus_millis(limits::ENDED_IDENTITY_SHOWN_MS - 1_000);
    lab.apply(Command::Tick);
    assert_eq!(lab.cell.snapshot().role_of(&short), Some(Role::JoinToken), "it is shown for a day");
    lab.now = lab.now.plus_millis(2_000);
    let due = lab.cell.next_deadline().expect("something is due");
    assert!(due <= lab.now);
    lab.apply(Command::Tick);
    assert_eq!(lab.admin(Admin::ListJoinTokens, &json!({}))["joinTokens"], json!([]));
    assert_eq!(code(lab.join(&short, "other").expect_err("unknown")), "UnrecognizedClientException");
    let (unknown, message) = lab.denied(&owner(), Admin::RevokeJoinToken, &json!({"tokenId": short}));
    assert_eq!(unknown, "ResourceNotFoundException");
    assert!(message.contains(&short), "{message}");
}

#[test]
fn a_token_leads_to_a_cluster_that_is_there_and_makes_the_default_one() {
    let mut lab = Lab::new();
    lab.ok(0, Operation::DeleteCluster, &json!({"cluster": "default"}));
    let (unknown, _) = lab.denied(&owner(), Admin::CreateJoinToken, &json!({"cluster": "prod"}));
    assert_eq!(unknown, "ClusterNotFoundException");
    lab.token(&json!({}));
    lab.ok(0, Operation::CreateCluster, &json!({"clusterName": "prod"}));
    let arn = "arn:aws:ecs:us-east-1:000000000000:cluster/prod";
    let token = lab.admin(Admin::CreateJoinToken, &json!({"cluster": arn}));
    assert_eq!(token["cluster"], "prod");
    lab.ok(0, Operation::DeleteCluster, &json!({"cluster": "prod"}));
    let gone = lab.join(token["tokenId"].as_str().expect("an id"), "x").expect_err("no cluster");
    assert_eq!(code(gone), "ClusterNotFoundException");
}

#[test]
fn a_key_registers_as_many_instances_as_it_may_and_in_its_own_cluster_only() {
    let mut lab = Lab::new();
    let key = lab.machine(2);
    let first = lab.register_as(&key, "host").expect("registered");
    let second = lab.register_as(&key, "host").expect("registered");
    let full = lab.register_as(&key, "host").expect_err("a third one");
    assert!(full.message.contains(&first) && full.message.contains("deregister"), "{full}");
    assert_eq!(code(full), "AccessDeniedException");
    // One that is there already registers again as often as it likes.
    let mut again = offer("host", 2_000, 1_000);
    again["containerInstanceArn"] = first.clone().into();
    lab.ask(&key, Operation::RegisterContainerInstance, &again).expect("updated");
    // The one to give back is one that nobody is connected for, if there is such a one.
    lab.open_as(&key, &first).expect("a session");
    let full = lab.register_as(&key, "host").expect_err("a third one");
    assert!(full.message.contains(&second), "{full}");
    // One that was given back makes room.
    let back = json!({"containerInstance": first, "force": true});
    lab.ok(0, Operation::DeregisterContainerInstance, &back);
    lab.register_as(&key, "host").expect("room again");

    lab.ok(0, Operation::CreateCluster, &json!({"clusterName": "prod"}));
    let mut elsewhere = offer("host", 1_000, 1_000);
    elsewhere["cluster"] = "prod".into();
    let foreign = lab.ask(&key, Operation::RegisterContainerInstance, &elsewhere).expect_err("another cluster");
    assert!(
        foreign.message.contains("is not authorized to perform: ecs:RegisterContainerInstance on resource: arn:aws:ecs:us-east-1:000000000000:cluster/prod"),
        "{foreign}"
    );
}

#[test]
fn a_key_reaches_its_own_instances_and_no_others() {
    let mut lab = Lab::new();
    let (mine, theirs) = (lab.machine(1), lab.machine(1));
    let own = lab.register_as(&mine, "one").expect("registered");
    let other = lab.register_as(&theirs, "two").expect("registered");
    let unknown = other.replace(&other[other.len() - 4..], "0000");
    for named in [&other, &unknown] {
        for (operation, document) in [
            (Operation::DescribeContainerInstances, json!({"containerInstances": [own, named]})),
            (Operation::UpdateContainerInstancesState, json!({"containerInstances": [named], "status": "DRAINING"})),
            (Operation::DiscoverPollEndpoint, json!({"containerInstance": named})),
        ] {
            let request = crate::fixture::request(operation, &document);
            let error = lab.cell.snapshot().authorise(&mine, &request).expect_err("another machine's");
            assert_eq!(error.code.name, "AccessDeniedException");
            assert!(error.message.ends_with("for its own container instances"), "{error}");
            assert!(error.message.contains(&format!("on resource: {named}")), "{error}");
        }
    }
    let described = lab.ask(&mine, Operation::DescribeContainerInstances, &json!({"containerInstances": [own]}));
    assert_eq!(described.expect("its own")["containerInstances"][0]["containerInstanceArn"], own.as_str());
    assert!(lab.open_as(&mine, &own).is_ok());
    assert_eq!(lab.open_as(&mine, &other), Err(SessionRefusal::AccessDenied));
}

/// What an agent calls. Every other operation, whatever ECS has or will have, is not for its key.
const OF_AGENTS: [Operation; 8] = [
    Operation::RegisterContainerInstance,
    Operation::DiscoverPollEndpoint,
    Operation::SubmitTaskStateChange,
    Operation::SubmitContainerStateChange,
    Operation::SubmitAttachmentStateChanges,
    Operation::UpdateContainerInstancesState,
    Operation::DescribeContainerInstances,
    Operation::ListTagsForResource,
];

#[test]
fn every_other_operation_is_denied_to_a_machine_and_every_one_to_a_token() {
    let mut lab = Lab::new();
    let token = lab.token(&json!({}));
    let machine = machine(&lab.join(&token, "x").expect("joined"));
    let own = lab.register_as(&machine, "host").expect("registered");
    let view = lab.cell.snapshot();
    for operation in ecs::Operation::ALL {
        let request = any(operation, &own);
        let name = operation.name();
        assert!(view.authorise(&owner(), &request).is_ok(), "{name}");
        for (principal, allowed) in [(&machine, OF_AGENTS.contains(&operation)), (&holder(&token), false)] {
            match view.authorise(principal, &request) {
                Ok(_) => assert!(allowed, "{name} is open to {}", principal.arn),
                Err(error) => {
                    assert!(!allowed, "{name} is denied to {}: {error}", principal.arn);
                    assert_eq!(error.code.name, "AccessDeniedException", "{name}");
                    let says = format!("User: {} is not authorized to perform: ecs:{name} on", principal.arn);
                    assert!(error.message.starts_with(&says), "{error}");
                }
            }
        }
    }
    for operation in Admin::ALL {
        let request = any_admin(*operation);
        let joins = *operation == Admin::JoinContainerInstance;
        let gives_logs = *operation == Admin::SubmitTaskLogs;
        for (principal, allowed) in [(&owner(), !joins), (&holder(&token), joins), (&machine, gives_logs)] {
            let decided = view.authorise_admin(principal, &request).map(|_| ()).map_err(code);
            let expected = if allowed { Ok(()) } else { Err("AccessDeniedException".to_owned()) };
            assert_eq!(decided, expected, "{operation:?} for {}", principal.arn);
        }
    }
}

/// A request of the operation with the least that its shape requires; where an agent names an instance, with its own.
fn any(operation: Operation, own: &str) -> Request {
    use longshore_api::shape::{Kind, Limits, Shape};
    fn least(shape: &Shape, limits: Limits) -> Value {
        let min = limits.min.or(shape.limits.min);
        match &shape.kind {
            Kind::Structure { members, union } => {
                let wanted = members.iter().enumerate().filter(|(at, member)| member.required || *union && *at == 0);
                wanted.map(|(_, member)| (member.name.to_owned(), least(member.shape, member.limits))).collect()
            }
            Kind::List { item, .. } => match min {
                Some(1..) => json!([least(item, Limits::NONE)]),
                _ => json!([]),
            },
            Kind::Map { .. } => json!({}),
            Kind::Enum(values) => json!(values[0]),
            Kind::String(_) => json!("x".repeat(min.unwrap_or(1).max(1) as usize)),
            Kind::Integer | Kind::Long | Kind::Double | Kind::Timestamp => json!(min.unwrap_or(1)),
            Kind::Boolean => json!(true),
            Kind::Document => json!({}),
        }
    }
    let mut document = least(operation.facts().input, Limits::NONE);
    if OF_AGENTS.contains(&operation) && document.get("containerInstances").is_some() {
        document["containerInstances"] = json!([own]);
    }
    if operation == Operation::ListTagsForResource {
        document["resourceArn"] = json!(own);
    }
    crate::fixture::request(operation, &document)
}

fn any_admin(operation: Admin) -> admin::Request {
    let document = match operation {
        Admin::RevokeJoinToken => json!({"tokenId": "x"}),
        Admin::JoinContainerInstance => json!({"clientToken": "x"}),
        Admin::RevokeInstanceIdentity => json!({"accessKeyId": "x"}),
        Admin::ReleaseMassLossBrake => json!({"cluster": "default"}),
        Admin::FindTasks => json!({"idPrefix": "0"}),
        Admin::ExplainPlacement => json!({"taskDefinition": "x"}),
        Admin::GetTaskLogs => json!({"task": "x"}),
        Admin::SubmitTaskLogs => json!({"requestId": "x", "entries": [], "end": true}),
        Admin::CreateJoinToken
        | Admin::ListJoinTokens
        | Admin::ListInstanceIdentities
        | Admin::DescribeServer
        | Admin::DescribeNetwork
        | Admin::UnsetClusterScheduler
        | Admin::DescribeClusterScheduler => json!({}),
        Admin::SetClusterScheduler => json!({"url": "http://127.0.0.1:1"}),
    };
    admin::Request::decode(operation, &document).expect("a request")
}

#[test]
fn a_revoked_key_is_dead_at_once_and_its_sessions_are_closed() {
    let mut lab = Lab::new();
    let key = lab.machine(2);
    let arns = [lab.register_as(&key, "host").expect("one"), lab.register_as(&key, "host").expect("two")];
    let sessions: Vec<SessionId> = arns.iter().map(|arn| lab.open_as(&key, arn).expect("opened")).collect();
    let request = admin::Request::from(admin::RevokeInstanceIdentityRequest {
        access_key_id: None,
        container_instance: Some(arns[1].clone()),
    });
    let outcome = lab.apply(Command::Admin { principal: owner(), request });
    let closed: Vec<SessionId> = outcome
        .effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Close { session, reason: CloseReason::Revoked, .. } => Some(*session),
            _ => None,
        })
        .collect();
    assert_eq!(closed, sessions);
    let view = lab.cell.snapshot();
    assert_eq!(view.role_of(&key.access_key_id), None);
    assert_eq!(view.admit(&key, &arns[0]).map(|_| ()), Err(SessionRefusal::AccessDenied));
    assert_eq!(lab.open_as(&key, &arns[0]), Err(SessionRefusal::AccessDenied));
    // A request that was verified before and comes to the cell after.
    assert_eq!(code(lab.register_as(&key, "host").expect_err("dead")), "UnrecognizedClientException");
    let listed = lab.identities(&json!({}));
    let rows = listed["instanceIdentities"].as_array().expect("rows");
    assert!(rows.iter().all(|row| row["identity"]["revokedAt"].is_number()), "{listed}");
    assert!(rows.iter().all(|row| row["containerInstance"]["agentConnected"] == false), "{listed}");
}

#[test]
fn a_revoked_identity_is_forgotten_a_day_later_once_none_of_its_instances_is_left() {
    let mut lab = Lab::new();
    let (idle, busy) = (lab.machine(1), lab.machine(1));
    let arn = lab.register_as(&busy, "host").expect("registered");
    for key in [&idle, &busy] {
        let answer = lab.admin(Admin::RevokeInstanceIdentity, &json!({"accessKeyId": &*key.access_key_id}));
        assert_eq!(answer["identity"]["accessKeyId"], &*key.access_key_id);
    }
    let known = |lab: &mut Lab| -> Vec<String> {
        lab.now = lab.cell.next_deadline().map_or(lab.now, |due| due.max(lab.now));
        lab.apply(Command::Tick);
        lab.cell.snapshot().identities.keys().map(ToString::to_string).collect()
    };
    lab.now = lab.now.plus_millis(limits::ENDED_IDENTITY_SHOWN_MS);
    while known(&mut lab).len() > 1 {}
    assert_eq!(known(&mut lab), [&*busy.access_key_id], "its instance is still listed");
    lab.ok(0, Operation::DeregisterContainerInstance, &json!({"containerInstance": arn, "force": true}));
    for _ in 0..100 {
        if known(&mut lab).is_empty() {
            return;
        }
    }
    panic!("the identity is kept for ever");
}

#[test]
fn a_host_belongs_to_the_key_that_came_first_while_it_is_there() {
    let mut lab = Lab::new();
    let (first, second) = (lab.machine(2), lab.machine(2));
    let arn = lab.register_as(&first, "host").expect("registered");
    lab.register_as(&first, "host").expect("several instances of one agent");
    let other = lab.register_as(&second, "other").expect("a host of its own");
    let error = lab.register_as(&second, "host").expect_err("another's");
    assert!(error.message.contains(&arn) && error.message.contains("LONGSHORE_HOST_ID"), "{error}");
    assert_eq!(code(error), "AccessDeniedException");
    let mut moved = offer("host", 1_000, 1_000);
    moved["containerInstanceArn"] = other.as_str().into();
    let moves = lab.ask(&second, Operation::RegisterContainerInstance, &moved).expect_err("another's");
    assert_eq!(code(moves), "AccessDeniedException");
    lab.ask(&owner(), Operation::RegisterContainerInstance, &offer("host", 1, 1)).expect("the owner may");
    // Who comes back is no stranger, whatever happened to the host meanwhile.
    let mut back = offer("host", 2_000, 1_000);
    back["containerInstanceArn"] = arn.as_str().into();
    lab.ask(&first, Operation::RegisterContainerInstance, &back).expect("the same instance");
    lab.admin(Admin::RevokeInstanceIdentity, &json!({"accessKeyId": &*first.access_key_id}));
    lab.register_as(&second, "host").expect("a revoked key has no host");
}

#[test]
fn what_cannot_be_revoked_says_why() {
    let mut lab = Lab::new();
    let arn = lab.instance(1, 1_000, 1_000);
    let cases = [
        (json!({"accessKeyId": "LSINUNKNOWN"}), "ResourceNotFoundException", "LSINUNKNOWN"),
        (json!({"containerInstance": arn.replace("default", "other")}), "ResourceNotFoundException", "other"),
        (json!({"containerInstance": "nonsense"}), "ResourceNotFoundException", "nonsense"),
        (json!({"containerInstance": arn}), "InvalidParameterException", "AKIA1"),
    ];
    for (document, expected, part) in cases {
        let (code, message) = lab.denied(&owner(), Admin::RevokeInstanceIdentity, &document);
        assert_eq!(code, expected, "{document}");
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn the_listing_has_every_instance_and_every_machine_without_one_page_by_page() {
    let mut lab = Lab::new();
    lab.ok(0, Operation::CreateCluster, &json!({"clusterName": "prod"}));
    let root = lab.instance(1, 1_000, 1_000);
    let joined = lab.machine(3);
    let first = lab.register_as(&joined, "machine-a").expect("registered");
    let second = lab.register_as(&joined, "machine-a").expect("registered");
    let idle = lab.machine(1);
    let token = lab.token(&json!({"cluster": "prod"}));
    let elsewhere = lab.join(&token, "x").expect("joined");

    let mut rows = Vec::new();
    let mut request = json!({"maxResults": 2});
    loop {
        let page = lab.identities(&request);
        let listed = page["instanceIdentities"].as_array().expect("rows");
        assert!(listed.len() <= 2);
        rows.extend(listed.iter().cloned());
        match page["nextToken"].as_str() {
            Some(token) => request["nextToken"] = token.into(),
            None => break,
        }
    }
    let instances: Vec<_> = rows.iter().map(|row| row["containerInstance"]["containerInstanceArn"].as_str()).collect();
    assert_eq!(instances, [Some(&*root), Some(&*first), Some(&*second), None, None]);
    assert_eq!(rows[0]["accessKeyId"], "AKIA1");
    assert_eq!(rows[0].get("identity"), None, "the owner's key is no identity");
    assert_eq!(rows[0]["containerInstance"]["agentConnected"], true);
    assert_eq!(rows[1]["identity"]["instances"], 3);
    assert_eq!(rows[1]["containerInstance"]["host"], "machine-a");
    let mut idle_keys = [idle.access_key_id.to_string(), elsewhere.clone()];
    idle_keys.sort();
    assert_eq!([&rows[3]["accessKeyId"], &rows[4]["accessKeyId"]], [&*idle_keys[0], &*idle_keys[1]]);

    let of_prod = lab.identities(&json!({"cluster": "prod"}));
    assert_eq!(of_prod["instanceIdentities"].as_array().map(Vec::len), Some(1));
    assert_eq!(of_prod["instanceIdentities"][0]["accessKeyId"], elsewhere.as_str());
    for bad in ["x", "i1", "ix/0", "i1/zz"] {
        let (code, _) = lab.denied(&owner(), Admin::ListInstanceIdentities, &json!({"nextToken": bad}));
        assert_eq!(code, "InvalidParameterException", "{bad}");
    }
}

#[test]
fn tokens_and_identities_are_the_same_after_a_reload() {
    let mut lab = Lab::new();
    let token = lab.token(&json!({"uses": 2}));
    let key = machine(&lab.join(&token, "mine").expect("joined"));
    let arn = lab.register_as(&key, "host").expect("registered");
    let entities: Vec<_> = lab.cell.entities().collect();
    let mut reloaded = crate::cell::Cell::new(crate::fixture::config());
    for entity in &entities {
        let (key, value) = (entity.key().encode(), entity.encode().expect("JSON"));
        reloaded.load(crate::entity::Entity::decode(&key, &value).expect("readable"));
    }
    reloaded.loaded(lab.cell.sequence());
    lab.cell = reloaded;
    assert!(lab.cell.entities().eq(entities));
    assert_eq!(lab.join(&token, "mine").as_deref(), Ok(&*key.access_key_id), "the same join");
    assert!(lab.open_as(&key, &arn).is_ok());
    assert!(lab.register_as(&key, "host").is_err(), "it has its one instance");
}

#[test]
fn a_tasks_report_comes_from_its_own_machine_only() {
    let mut lab = Lab::new();
    let (mine, theirs) = (lab.machine(1), lab.machine(1));
    let arn = lab.register_as(&mine, "one").expect("registered");
    lab.open_as(&mine, &arn).expect("opened");
    lab.ok(0, Operation::RegisterTaskDefinition, &definition("web", 10, 10, &[]));
    let task = lab.run("web");
    let report = |cluster: &str| json!({"cluster": cluster, "task": task, "status": "RUNNING"});
    let denied = lab.ask(&theirs, Operation::SubmitTaskStateChange, &report("default")).expect_err("not its task");
    assert_eq!(code(denied), "AccessDeniedException");
    let elsewhere = lab.ask(&mine, Operation::SubmitTaskStateChange, &report("prod")).expect_err("not its cluster");
    assert_eq!(code(elsewhere), "AccessDeniedException");
    lab.ask(&mine, Operation::SubmitTaskStateChange, &report("default")).expect("its own");
    assert_eq!(lab.describe(&task)["lastStatus"], "RUNNING");
}

#[test]
fn a_key_sees_the_tags_of_its_own_instances_and_their_tasks_only() {
    let mut lab = Lab::new();
    let (mine, theirs) = (lab.machine(1), lab.machine(1));
    let arn = lab.register_as(&mine, "one").expect("registered");
    lab.open_as(&mine, &arn).expect("opened");
    lab.ok(0, Operation::RegisterTaskDefinition, &definition("web", 10, 10, &[]));
    let task = lab.run("web");
    let cluster = lab.cell.config().cluster_arn("default");
    let unknown = task.replace(&task[task.len() - 4..], "0000");
    for named in [&arn, &task] {
        let request = json!({"resourceArn": named});
        assert_eq!(lab.ask(&mine, Operation::ListTagsForResource, &request).expect("its own")["tags"], json!([]));
        let denied = lab.ask(&theirs, Operation::ListTagsForResource, &request).expect_err("not its own");
        assert_eq!(code(denied), "AccessDeniedException");
    }
    for foreign in [&cluster, &unknown, &"web".to_owned()] {
        let request = json!({"resourceArn": foreign});
        let denied = lab.ask(&mine, Operation::ListTagsForResource, &request).expect_err("nobody's");
        assert_eq!(code(denied), "AccessDeniedException");
    }
}

#[test]
fn a_token_ends_when_it_expires_or_was_revoked_whichever_is_first() {
    let token = |revoked_at: Option<i64>| crate::entity::JoinToken {
        id: "LSTK".into(),
        cluster: "default".into(),
        uses: 1,
        used: 0,
        created_at: Timestamp::from_millis(0),
        expires_at: Timestamp::from_millis(100),
        revoked_at: revoked_at.map(Timestamp::from_millis),
    };
    assert_eq!(token(None).ends_at().as_millis(), 100);
    assert_eq!(token(Some(50)).ends_at().as_millis(), 50);
    assert_eq!(token(Some(150)).ends_at().as_millis(), 100);
}
