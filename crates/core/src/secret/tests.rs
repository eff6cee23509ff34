//! What becomes of parameters and secrets, and who may read them. Values are "encrypted" by writing them backwards.

use longshore_api::ecs::Operation;
use longshore_api::ssm::{GetParametersRequest, ParameterTier, ParameterType};
use longshore_api::{ApiError, secrets_manager, ssm};
use serde_json::{Value, json};

use super::*;
use crate::cell::{Command, Delivery, Effect, Reply};
use crate::entity::{Definition, Entity, Identity, JoinKey};
use crate::fixture::{Lab, definition, principal};
use crate::limits;
use crate::principal::{Role, TaskRole};

const ROLE: &str = "arn:aws:iam::000000000000:role/fetch";

fn sealed(clear: &str) -> Sealed {
    let text: String = clear.chars().rev().collect();
    Sealed { key: "key-1".into(), text: text.into(), mark: format!("mark of {clear}").into() }
}

fn parameter(name: &str, clear: &str) -> PutParameter {
    PutParameter {
        name: name.to_owned(),
        value: sealed(clear),
        bytes: clear.len(),
        parameter_type: Some(ParameterType::SecureString),
        tier: None,
        overwrite: false,
        description: None,
        tags: Vec::new(),
    }
}

fn version(token: char, clear: &str) -> NewVersion {
    NewVersion { id: token.to_string().repeat(32), value: Some(sealed(clear)), binary: false }
}

fn names(names: &[&str]) -> Request {
    let names = names.iter().map(|name| (*name).to_owned()).collect();
    Request::GetParameters(GetParametersRequest { names, with_decryption: None })
}

fn value_of(id: &str, stage: Option<&str>) -> Request {
    Request::GetSecretValue(secrets_manager::GetSecretValueRequest {
        secret_id: id.to_owned(),
        version_id: None,
        version_stage: stage.map(str::to_owned),
    })
}

impl Lab {
    fn secrets_as(&mut self, principal: &Principal, request: Request) -> Result<Answer, ApiError> {
        match self.apply(Command::Secrets { principal: principal.clone(), request }).reply {
            Reply::Secrets(answer) => answer,
            other => panic!("{other:?} is no answer to a request about secrets"),
        }
    }

    fn secrets(&mut self, request: Request) -> Result<Answer, ApiError> {
        self.secrets_as(&principal(0), request)
    }

    fn code(&mut self, request: Request) -> &'static str {
        self.secrets(request).expect_err("refused").code.name
    }

    fn create(&mut self, name: &str, clear: &str) -> String {
        let request =
            CreateSecret { name: name.to_owned(), version: version('a', clear), description: None, tags: Vec::new() };
        match self.secrets(Request::CreateSecret(request)) {
            Ok(Answer::SecretsManager(secrets_manager::Response::CreateSecret(created))) => created.arn,
            other => panic!("{other:?}"),
        }
    }

    fn put(&mut self, id: &str, new: NewVersion, stages: &[&str]) -> Result<Vec<String>, ApiError> {
        let stages = stages.iter().map(|stage| (*stage).to_owned()).collect();
        let sealed_for = self.cell.snapshot().secret_name(id).unwrap_or_else(|| id.into());
        let request = PutSecretValue { secret_id: id.to_owned(), sealed_for, version: new, stages };
        match self.secrets(Request::PutSecretValue(request))? {
            Answer::SecretsManager(secrets_manager::Response::PutSecretValue(put)) => Ok(put.version_stages),
            other => panic!("{other:?}"),
        }
    }

    /// The clear value and its labels.
    fn read(&mut self, id: &str, stage: Option<&str>) -> Result<(String, Vec<String>), ApiError> {
        match self.secrets(value_of(id, stage))? {
            Answer::SecretValue(response, version) => {
                Ok((version.value.text.chars().rev().collect(), response.version_stages.unwrap_or_default()))
            }
            other => panic!("{other:?}"),
        }
    }

    /// Each parameter's name, version and clear value; and what there is not.
    fn found(&mut self, request: Request) -> (Vec<(String, i64, String)>, Vec<String>) {
        match self.secrets(request) {
            Ok(Answer::Parameters(found, invalid)) => {
                let clear = |sealed: Sealed| sealed.text.chars().rev().collect();
                let each = |(found, sealed): (ssm::Parameter, Sealed)| {
                    (found.name, found.version.unwrap_or_default(), clear(sealed))
                };
                (found.into_iter().map(each).collect(), invalid)
            }
            other => panic!("{other:?}"),
        }
    }

    /// A running task whose definition has a role and refers to these; its ARN.
    fn task_with(&mut self, secrets: &[&str], option: &str, login: &str) -> String {
        self.instance(1, 1_000, 1_000);
        self.ok(0, Operation::RegisterTaskDefinition, &definition("web", 10, 10, &[]));
        // Placed before it refers to anything: what that needs of an instance does not matter here.
        let task = self.run("web");
        let secrets: Vec<Value> = secrets.iter().map(|from| json!({"name": "N", "valueFrom": from})).collect();
        let known = self.cell.entities().find_map(|entity| match entity {
            Entity::Definition(definition) => Some(definition),
            _ => None,
        });
        let known = known.expect("it was registered");
        let mut document = serde_json::to_value(&*known.document).expect("JSON");
        document["executionRoleArn"] = ROLE.into();
        let container = &mut document["containerDefinitions"][0];
        container["secrets"] = secrets.into();
        container["logConfiguration"] =
            json!({"logDriver": "splunk", "secretOptions": [{"name": "token", "valueFrom": option}]});
        container["repositoryCredentials"] = json!({"credentialsParameter": login});
        let document = Arc::new(serde_json::from_value(document).expect("a definition"));
        self.cell.load(Entity::Definition(Arc::new(Definition { document, ..Definition::clone(&known) })));
        task
    }
}

fn of_task(task_arn: &str, role_arn: &str) -> Principal {
    let held = TaskRole { task_arn: task_arn.into(), role_arn: role_arn.into() };
    Principal::of_task_execution("LSTR", "000000000000", held)
}

#[test]
fn a_parameter_has_versions_and_is_found_by_name_version_and_arn() {
    let mut lab = Lab::new();
    lab.secrets(Request::PutParameter(parameter("/app/db", "one"))).expect("made");
    assert_eq!(lab.code(Request::PutParameter(parameter("/app/db", "two"))), "ParameterAlreadyExists");
    let next = PutParameter { overwrite: true, parameter_type: None, ..parameter("/app/db", "two") };
    match lab.secrets(Request::PutParameter(next)) {
        Ok(Answer::Ssm(ssm::Response::PutParameter(put))) => {
            assert_eq!((put.version, put.tier), (2, ParameterTier::Standard));
        }
        other => panic!("{other:?}"),
    }
    let arn = "arn:aws:ssm:us-east-1:000000000000:parameter/app/db";
    for (given, expected) in [("/app/db", (2, "two")), ("/app/db:1", (1, "one")), (arn, (2, "two"))] {
        let (found, invalid) = lab.found(names(&[given, "absent"]));
        assert_eq!(found, [("/app/db".to_owned(), expected.0, expected.1.to_owned())], "{given}");
        assert_eq!(invalid, ["absent"]);
    }
    assert_eq!(lab.found(names(&["/app/db:3", "app/db"])).0, []);
    let gone = || Request::DeleteParameter(ssm::DeleteParameterRequest { name: "/app/db".to_owned() });
    lab.secrets(gone()).expect("removed");
    assert_eq!(lab.code(gone()), "ParameterNotFound");
}

#[test]
fn only_the_last_versions_of_a_parameter_are_kept() {
    let mut lab = Lab::new();
    for number in 0..=limits::PARAMETER_VERSIONS {
        let put = PutParameter { overwrite: true, ..parameter("p", &number.to_string()) };
        lab.secrets(Request::PutParameter(put)).expect("put");
    }
    let (found, invalid) = lab.found(names(&["p:1", "p:2", "p"]));
    assert_eq!((found.len(), invalid.as_slice()), (2, &["p:1".to_owned()][..]));
}

#[test]
fn parameters_that_break_a_rule_are_refused() {
    let mut lab = Lab::new();
    let path = "/a".repeat(16);
    for (name, code) in [
        ("a b", "ValidationException"),
        ("/ssm/x", "ValidationException"),
        ("a/b", "ValidationException"),
        ("/a//b", "ValidationException"),
        ("/", "ValidationException"),
        ("/aws/x", "AccessDeniedException"),
        (&path, "HierarchyLevelLimitExceededException"),
    ] {
        assert_eq!(lab.code(Request::PutParameter(parameter(name, "x"))), code, "{name}");
    }
    let before = "arn:aws:ssm:us-east-1:000000000000:parameter/".len();
    for (length, fits) in [(limits::PARAMETER_ARN - before, true), (limits::PARAMETER_ARN - before + 1, false)] {
        let put = lab.secrets(Request::PutParameter(parameter(&"n".repeat(length), "x")));
        assert_eq!(put.map_err(|error| error.code.name).err(), (!fits).then_some("ValidationException"), "{length}");
    }
    let untyped = PutParameter { parameter_type: None, ..parameter("p", "x") };
    assert_eq!(lab.code(Request::PutParameter(untyped)), "ValidationException");
    let large =
        |tier, bytes| Request::PutParameter(PutParameter { tier, bytes, overwrite: true, ..parameter("p", "x") });
    assert_eq!(lab.code(large(None, 4_097)), "ValidationException");
    assert_eq!(lab.code(large(Some(ParameterTier::Advanced), 8_193)), "ValidationException");
    lab.secrets(large(Some(ParameterTier::IntelligentTiering), 4_097)).expect("it becomes Advanced");
    lab.secrets(large(None, 8_192)).expect("it stays Advanced");
    assert_eq!(lab.code(large(Some(ParameterTier::Standard), 1)), "ValidationException");
    let other = PutParameter { overwrite: true, parameter_type: Some(ParameterType::String), ..parameter("p", "x") };
    assert_eq!(lab.code(Request::PutParameter(other)), "HierarchyTypeMismatchException");
}

#[test]
fn labels_move_from_version_to_version() {
    let mut lab = Lab::new();
    let arn = lab.create("db", "one");
    assert!(arn.starts_with("arn:aws:secretsmanager:us-east-1:000000000000:secret:db-"), "{arn}");
    let partial = arn.rsplit_once('-').expect("a suffix").0.to_owned();
    for id in ["db", &arn, &partial] {
        assert_eq!(lab.read(id, None).expect(id), ("one".to_owned(), vec!["AWSCURRENT".to_owned()]));
    }
    assert_eq!(lab.put("db", version('b', "two"), &[]).expect("put"), ["AWSCURRENT"]);
    assert_eq!(lab.read("db", None).expect("current").0, "two");
    assert_eq!(lab.read("db", Some("AWSPREVIOUS")).expect("previous").0, "one");
    lab.put("db", version('c', "three"), &["AWSPENDING"]).expect("put");
    assert_eq!(lab.read("db", None).expect("current").0, "two");
    lab.put("db", version('d', "four"), &["AWSCURRENT", "AWSPENDING"]).expect("put");
    assert_eq!(lab.read("db", Some("AWSPREVIOUS")).expect("previous").0, "two");
    assert_eq!(lab.read("db", Some("AWSPENDING")).expect("pending").0, "four");
    assert_eq!(lab.read("db", Some("AWSNONE")).expect_err("none").code.name, "ResourceNotFoundException");
    for token in 'e'..='q' {
        lab.put("db", version(token, "more"), &[]).expect("those without a label make room");
    }
}

#[test]
fn a_value_that_was_encrypted_for_another_secret_is_refused() {
    let mut lab = Lab::new();
    lab.create("db", "one");
    let put = PutSecretValue {
        secret_id: "db".to_owned(),
        sealed_for: "api".into(),
        version: version('b', "two"),
        stages: Vec::new(),
    };
    assert_eq!(lab.code(Request::PutSecretValue(put)), "ResourceNotFoundException");
    assert_eq!(lab.read("db", None).expect("current").0, "one");
}

#[test]
fn all_values_together_have_a_limit() {
    let mut lab = Lab::new();
    let half = "x".repeat(limits::SEALED_BYTES / 2);
    lab.create("large", &half);
    lab.secrets(Request::PutParameter(parameter("small", "y"))).expect("there is room");
    assert_eq!(lab.put("large", version('b', &half), &[]).expect_err("full").code.name, "LimitExceededException");
    let more = PutParameter { overwrite: true, bytes: 1, ..parameter("small", &half) };
    assert_eq!(lab.code(Request::PutParameter(more)), "ParameterLimitExceeded");
    let other =
        CreateSecret { name: "other".to_owned(), version: version('a', &half), description: None, tags: vec![] };
    assert_eq!(lab.code(Request::CreateSecret(other)), "LimitExceededException");
}

#[test]
fn a_token_makes_one_version() {
    let mut lab = Lab::new();
    let arn = lab.create("db", "one");
    assert_eq!(lab.create("db", "one"), arn, "the same request");
    let other = CreateSecret { name: "db".to_owned(), version: version('a', "x"), description: None, tags: vec![] };
    assert_eq!(lab.code(Request::CreateSecret(other)), "ResourceExistsException");
    let before = lab.cell.sequence();
    assert_eq!(lab.put("db", version('a', "one"), &[]).expect("the same version"), ["AWSCURRENT"]);
    assert_eq!(lab.cell.sequence(), before, "nothing was changed");
    let changed = lab.put("db", version('a', "two"), &[]).expect_err("another value");
    assert_eq!(changed.code.name, "ResourceExistsException");
}

#[test]
fn a_deleted_secret_holds_its_name_until_its_window_is_over() {
    let mut lab = Lab::new();
    let arn = lab.create("db", "one");
    let delete = |force: Option<bool>, days: Option<i64>| {
        Request::DeleteSecret(secrets_manager::DeleteSecretRequest {
            secret_id: "db".to_owned(),
            force_delete_without_recovery: force,
            recovery_window_in_days: days,
        })
    };
    assert_eq!(lab.code(delete(Some(true), Some(7))), "InvalidParameterException");
    assert_eq!(lab.code(delete(None, Some(6))), "InvalidParameterException");
    lab.secrets(delete(None, Some(7))).expect("deleted");
    assert_eq!(lab.read("db", None).expect_err("deleted").code.name, "InvalidRequestException");
    let anew = CreateSecret { name: "db".to_owned(), version: version('b', "x"), description: None, tags: vec![] };
    assert_eq!(lab.code(Request::CreateSecret(anew.clone())), "InvalidRequestException");
    lab.pass(7 * 24 * 3_600_000 + 1);
    assert_eq!(lab.read("db", None).expect_err("gone").code.name, "ResourceNotFoundException");
    lab.secrets(Request::CreateSecret(anew)).expect("the name is free");
    assert_eq!(lab.read(&arn, None).expect_err("another secret").code.name, "ResourceNotFoundException");
    lab.secrets(delete(Some(true), None)).expect("gone at once");
    lab.secrets(delete(Some(true), None)).expect("what is gone is gone");
    assert_eq!(lab.code(delete(None, None)), "ResourceNotFoundException");
}

#[test]
fn a_tasks_role_reads_what_its_definition_refers_to_and_nothing_else() {
    let mut lab = Lab::new();
    for name in ["/app/db", "other", "token"] {
        lab.secrets(Request::PutParameter(parameter(name, name))).expect("made");
    }
    let (secret, login, foreign) = (lab.create("api", "k"), lab.create("login", "l"), lab.create("foreign", "f"));
    // What has the name of something that is referred to in the other service is something else.
    lab.create("token", "t");
    lab.secrets(Request::PutParameter(parameter("login", "l"))).expect("made");
    let absent = "arn:aws:secretsmanager:us-east-1:000000000000:secret:absent-AbCdEf";
    let task = lab.task_with(&["/app/db", &format!("{secret}:key::"), absent], "token", "login");
    let role = of_task(&task, ROLE);
    let read = |lab: &mut Lab, request| lab.secrets_as(&role, request).map(drop).map_err(|error| error.code.name);
    let denied = Err("AccessDeniedException");
    let arn = "arn:aws:ssm:us-east-1:000000000000:parameter/app/db";
    assert_eq!(read(&mut lab, names(&["/app/db", "token", arn, "/app/db:1"])), Ok(()));
    assert_eq!(read(&mut lab, names(&["/app/db", "other"])), denied);
    for id in ["api", &secret, "login", &login] {
        assert_eq!(read(&mut lab, value_of(id, None)), Ok(()), "{id}");
    }
    assert_eq!(read(&mut lab, value_of("token", None)), denied);
    assert_eq!(read(&mut lab, names(&["login"])), denied);
    assert_eq!(read(&mut lab, value_of("foreign", None)), denied);
    assert_eq!(read(&mut lab, value_of(&foreign, None)), denied);
    assert_eq!(read(&mut lab, value_of(absent, None)), Err("ResourceNotFoundException"));
    assert_eq!(read(&mut lab, Request::PutParameter(parameter("/app/db", "mine"))), denied);
    let mut other = |principal: Principal| {
        lab.secrets_as(&principal, names(&["/app/db"])).map(drop).map_err(|error| error.code.name)
    };
    assert_eq!(other(of_task(&task, "arn:aws:iam::000000000000:role/other")), denied);
    assert_eq!(other(of_task(&task.replace("default/", "default/f"), ROLE)), denied);
    assert_eq!(other(Principal::new(Role::Instance, "LSIN", "000000000000")), denied);
    lab.report(1, &task, "STOPPED");
    assert_eq!(read(&mut lab, names(&["/app/db"])), denied);
}

#[test]
fn a_role_reads_nothing_once_the_key_of_its_tasks_machine_is_revoked() {
    let mut lab = Lab::new();
    lab.secrets(Request::PutParameter(parameter("p", "x"))).expect("made");
    let task = lab.task_with(&["p"], "p", "p");
    let role = of_task(&task, ROLE);
    let machine = |revoked_at| Identity {
        access_key_id: principal(1).access_key_id,
        cluster: "default".into(),
        join: JoinKey { token: "LSTK".into(), client_token: "once".into() },
        instances: 1,
        created_at: crate::fixture::START,
        revoked_at,
    };
    for (revoked_at, expected) in [(None, Ok(())), (Some(lab.now), Err("AccessDeniedException"))] {
        lab.cell.load(Entity::Identity(Arc::new(machine(revoked_at))));
        assert_eq!(lab.secrets_as(&role, names(&["p"])).map(drop).map_err(|error| error.code.name), expected);
    }
}

#[test]
fn an_order_names_the_role_and_the_instance_holds_it_until_the_task_is_over() {
    let mut lab = Lab::new();
    let task = lab.task_with(&["p"], "p", "p");
    let effects: Vec<Effect> = {
        let arn = lab.cell.snapshot().instances().next().map(|instance| instance.key.id).expect("an instance");
        let arn = lab.cell.config().instance_arn("default", arn);
        let opened = lab.opened(1, &arn);
        lab.apply(opened).effects
    };
    let view = lab.cell.snapshot();
    let orders = effects.iter().filter_map(|effect| match view.render(effect, lab.now) {
        Some(Delivery::Send { message, .. }) => Some(message),
        _ => None,
    });
    let roles: Vec<_> = orders
        .filter_map(|message| match *message {
            longshore_agent_protocol::acs::ServerMessage::Payload(payload) => payload.tasks.into_iter().next(),
            _ => None,
        })
        .filter_map(|task| task.execution_role_credentials)
        .collect();
    assert_eq!(roles.len(), 1);
    assert_eq!((roles[0].role_arn.as_str(), roles[0].access_key_id.as_str()), (ROLE, ""));
    let instance = view.tasks().next().expect("a task").home().expect("it was placed");
    let holders = view.role_holders(instance, &|_| true);
    assert_eq!(holders.len(), 1);
    assert_eq!((holders[0].task_arn.as_str(), holders[0].role_arn.as_str()), (task.as_str(), ROLE));
    lab.report(1, &task, "STOPPED");
    assert_eq!(lab.cell.snapshot().role_holders(instance, &|_| true), []);
}

#[test]
fn what_is_stored_is_read_back() {
    let mut lab = Lab::new();
    lab.create("db", "one");
    lab.put("db", version('b', "two"), &[]).expect("put");
    lab.secrets(Request::PutParameter(parameter("/a", "x"))).expect("made");
    assert_eq!(lab.cell.snapshot().sealed_under().as_deref(), Some("key-1"));
    for entity in lab.cell.entities() {
        let stored = entity.encode().expect("JSON");
        assert_eq!(Entity::decode(&entity.key().encode(), &stored).expect("reads"), entity);
        assert!(!String::from_utf8_lossy(&stored).contains("\"two\""));
    }
}
