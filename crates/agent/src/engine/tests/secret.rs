//! A container with secrets waits for them, gets them, and leaves them in no record.

use std::collections::BTreeMap;
use std::sync::Arc;

use longshore_agent_protocol::acs;
use longshore_wire::sigv4::Secret;
use serde_json::json;

use super::world::*;
use crate::config::RegistryLogin;
use crate::engine::*;

const HIDDEN: &str = "hunter2";

fn task_with_secret() -> acs::Task {
    let mut main = with_secret(container("main"));
    main.environment.insert("MODE".to_owned(), "x".to_owned());
    task("t", vec![main])
}

fn fetched() -> Result<Made, ResourceError> {
    let provided = Provided {
        environment: BTreeMap::from([("PASSWORD".to_owned(), HIDDEN.to_owned()), ("MODE".to_owned(), "y".to_owned())]),
        log_options: BTreeMap::from([("splunk-token".to_owned(), HIDDEN.to_owned())]),
        ..Provided::default()
    };
    Ok(Made { provided: BTreeMap::from([("main".to_owned(), provided)]), ..Made::default() })
}

fn record(world: &World) -> String {
    String::from_utf8(world.engine.task("t").expect("the task").to_json()).expect("text")
}

#[test]
fn secrets_reach_the_container_and_no_record() {
    let mut world = new_world();
    world.makes.push_back(fetched());
    world.payload(vec![task_with_secret()]);
    world.settle();
    assert_eq!(world.control_plane["t"].status, "RUNNING");
    let created = world.docker.containers.values().next().expect("a container");
    assert_eq!(created.spec.body["Env"], json!(["MODE=x", "PASSWORD=hunter2"]), "the definition's own word wins");
    assert_eq!(created.spec.body["HostConfig"]["LogConfig"]["Config"], json!({"splunk-token": HIDDEN}));
    assert!(record(&world).contains("/app/db") && !record(&world).contains(HIDDEN));
}

#[test]
fn what_passes_is_tried_again_and_what_does_not_stops_the_task() {
    let mut world = new_world();
    world.makes.push_back(Err(ResourceError::Again("no credentials yet".to_owned())));
    world.makes.push_back(fetched());
    world.payload(vec![task_with_secret()]);
    world.settle();
    assert!(world.docker.containers.is_empty());
    world.pass(5_000);
    world.settle();
    assert_eq!(world.control_plane["t"].status, "RUNNING");

    let mut world = new_world();
    world.makes.push_back(Err(ResourceError::Refused("invalid parameters: /app/db".to_owned())));
    world.payload(vec![task_with_secret()]);
    world.settle();
    let told = &world.control_plane["t"];
    assert_eq!(told.status, "STOPPED");
    assert_eq!(told.reason, "ResourceInitializationError: invalid parameters: /app/db");
    assert!(world.docker.containers.is_empty());
}

/// What is merely not there yet fails no task, and is not waited for a moment longer than it takes to come.
#[test]
fn what_is_not_there_yet_is_waited_for() {
    let not_yet = || Err(ResourceError::NotYet("no credentials yet".to_owned()));
    for came in [Input::PrerequisiteCame { task_arn: Some("t".to_owned()) }, Input::PrerequisiteCame { task_arn: None }]
    {
        let mut world = new_world();
        world.makes.extend(std::iter::repeat_with(not_yet).take(20));
        world.payload(vec![task_with_secret()]);
        world.pass(400_000);
        assert_eq!(world.logs.len(), 1, "{:?}", world.logs);
        assert!(world.makes.len() < 10 && world.docker.containers.is_empty());
        world.makes = [fetched()].into();
        world.feed(came);
        world.settle();
        assert_eq!(world.control_plane["t"].status, "RUNNING");
    }
    let mut world = new_world();
    world.makes.extend(std::iter::repeat_with(not_yet).take(9));
    world.payload(vec![task_with_secret()]);
    world.pass(100_000);
    world.makes = [fetched()].into();
    let ready = world.docker.ready();
    world.feed(ready);
    world.settle();
    assert_eq!(world.control_plane["t"].status, "RUNNING", "Docker's return ends the pause");
}

#[test]
fn what_fails_is_tried_for_half_a_minute_however_often_docker_returns() {
    let mut world = new_world();
    world.makes.extend(std::iter::repeat_with(|| Err(ResourceError::Again("busy".to_owned()))).take(6));
    world.payload(vec![task_with_secret()]);
    for _ in 0..10 {
        let ready = world.docker.ready();
        world.feed(ready);
        world.settle();
    }
    assert_eq!(world.makes.len(), 5);
    world.pass(35_000);
    assert_eq!(world.control_plane["t"].reason, "ResourceInitializationError: busy");
}

#[test]
fn an_agent_that_starts_anew_fetches_them_again_while_a_container_waits_for_them() {
    let mut world = new_world();
    world.docker.reachable = false;
    world.makes.push_back(fetched());
    world.payload(vec![task_with_secret()]);
    world.settle();
    world.crash(false);
    world.docker.reachable = true;
    world.makes.push_back(fetched());
    let ready = world.docker.ready();
    world.feed(ready);
    world.settle();
    let created = world.docker.containers.values().next().expect("a container");
    assert_eq!(created.spec.body["Env"], json!(["MODE=x", "PASSWORD=hunter2"]));
    // Once it runs nobody needs them.
    world.makes = [Err(ResourceError::Refused("not again".to_owned()))].into();
    world.crash(false);
    world.settle();
    assert_eq!((world.control_plane["t"].status.as_str(), world.makes.len()), ("RUNNING", 1));
}

const IMAGE: &str = "registry.example/web:1";

/// One container that brings the login for its image, and one that does not.
fn with_login() -> acs::Task {
    let data = acs::AsmAuthData { credentials_parameter: Some("arn:login".to_owned()), region: None };
    let mut main = container("main");
    main.image = IMAGE.to_owned();
    main.registry_authentication = Some(acs::RegistryAuthentication {
        authentication_type: "asm".to_owned(),
        asm_auth_data: Some(data),
        ..acs::RegistryAuthentication::default()
    });
    let mut other = container("other");
    other.image = "other.example/web:1".to_owned();
    task("t", vec![main, other])
}

fn login() -> Result<Made, ResourceError> {
    let login = RegistryLogin {
        server: "registry.example".to_owned(),
        username: "captain".to_owned(),
        password: Secret::new(HIDDEN),
        email: String::new(),
    };
    let provided = Provided { login: Some(Arc::new(login)), ..Provided::default() };
    Ok(Made { provided: BTreeMap::from([("main".to_owned(), provided)]), ..Made::default() })
}

fn with_images() -> World {
    let mut world = new_world();
    for image in [IMAGE, "other.example/web:1"] {
        world.docker.registry.insert(image.to_owned(), Ok(ImageInfo::default()));
    }
    world
}

#[test]
fn a_login_goes_with_the_pull_of_its_container_and_nowhere_else() {
    let mut world = with_images();
    world.makes.push_back(login());
    world.payload(vec![with_login()]);
    world.settle();
    assert_eq!(world.control_plane["t"].status, "RUNNING");
    let by = |image: &str| world.docker.pulls.iter().find(|(pulled, _)| pulled == image).map(|(_, login)| login);
    let captain = by(IMAGE).and_then(Option::as_ref).expect("a login");
    assert_eq!((captain.username.as_str(), captain.password.reveal()), ("captain", HIDDEN));
    assert_eq!(by("other.example/web:1"), Some(&None));
    assert!(record(&world).contains("arn:login") && !record(&world).contains(HIDDEN));
    for container in world.docker.containers.values() {
        assert!(!container.spec.body.to_string().contains(HIDDEN));
    }
    assert!(world.logs.iter().all(|line| !line.contains(HIDDEN)), "{:?}", world.logs);
}

#[test]
fn without_its_login_nothing_is_pulled_and_the_task_says_why() {
    let mut world = with_images();
    let why = "fetching secret data from AWS Secrets Manager in us-east-1: ResourceNotFoundException: no such secret";
    world.makes.push_back(Err(ResourceError::Refused(why.to_owned())));
    world.payload(vec![with_login()]);
    world.settle();
    let told = &world.control_plane["t"];
    assert_eq!(
        (told.status.as_str(), told.reason.as_str()),
        ("STOPPED", format!("ResourceInitializationError: {why}").as_str())
    );
    assert!(world.docker.pulls.iter().all(|(image, _)| image != IMAGE), "{:?}", world.docker.pulls);
    assert!(world.docker.containers.is_empty());
}
