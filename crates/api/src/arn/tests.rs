use proptest::prelude::*;

use super::*;

const PREFIX: &str = "arn:aws:ecs:us-east-1:000000000000:";
const ID: &str = "0123456789abcdef0123456789abcdef";

fn scope() -> Scope {
    Scope::new("us-east-1", "000000000000")
}

#[test]
fn every_form_is_read_and_written_back() {
    for resource in [
        "cluster/default",
        "container-instance/default/0123456789abcdef0123456789abcdef",
        "container-instance/6d1f3c0e-8c62-4a5b-9a3c-000000000000",
        "task/default/0123456789abcdef0123456789abcdef",
        "task/6d1f3c0e-8c62-4a5b-9a3c-000000000000",
        "task-definition/f_producer:1",
        "service/default/web",
        "service/web",
        "task-set/default/web/ecs-svc/1234567890123456789",
        "capacity-provider/FARGATE",
        "service-deployment/default/web/Abc-123_x",
        "service-revision/default/web/1234567890123456789",
        "container/default/0123456789abcdef0123456789abcdef/6d1f3c0e-8c62-4a5b-9a3c-000000000000",
        "container/6d1f3c0e-8c62-4a5b-9a3c-000000000000",
        "attachment/6d1f3c0e-8c62-4a5b-9a3c-000000000000",
    ] {
        let text = format!("{PREFIX}{resource}");
        let arn: Arn = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(arn.to_string(), text);
        assert_eq!(scope().arn(&arn.resource), text);
        assert_eq!(arn.scope, scope());
    }
}

#[test]
fn shorthands_write_what_the_parser_reads() {
    let scope = scope();
    for (text, resource) in [
        (scope.cluster("c"), Resource::Cluster { name: "c".to_owned() }),
        (scope.task("c", ID), Resource::Task { cluster: Some("c".to_owned()), id: ID.to_owned() }),
        (
            scope.container_instance("c", ID),
            Resource::ContainerInstance { cluster: Some("c".to_owned()), id: ID.to_owned() },
        ),
        (scope.task_definition("f", 7), Resource::TaskDefinition { family: "f".to_owned(), revision: 7 }),
        (
            scope.container("c", ID, "u"),
            Resource::Container {
                owner: Some(ContainerOwner { cluster: "c".to_owned(), task: ID.to_owned() }),
                id: "u".to_owned(),
            },
        ),
    ] {
        assert_eq!(text.parse::<Arn>().unwrap(), Arn { scope: scope.clone(), resource });
    }
}

#[test]
fn what_is_no_arn_of_ecs_is_refused() {
    for text in [
        "",
        "arn",
        "arn:aws:ecs:us-east-1:000000000000",
        "arn:aws:s3:::bucket",
        "arn:aws:ecs:us-east-1:12345:cluster/default",
        "arn:aws:ecs:us-east-1:00000000000x:cluster/default",
        "arn:aws:ecs::000000000000:cluster/default",
        "arn:aws:ecs:us-east-1:000000000000:cluster/",
        "arn:aws:ecs:us-east-1:000000000000:cluster/a/b",
        "arn:aws:ecs:us-east-1:000000000000:cluster/a b",
        "arn:aws:ecs:us-east-1:000000000000:task/a/b/c",
        "arn:aws:ecs:us-east-1:000000000000:task-definition/f",
        "arn:aws:ecs:us-east-1:000000000000:task-definition/f:0",
        "arn:aws:ecs:us-east-1:000000000000:task-definition/f:01",
        "arn:aws:ecs:us-east-1:000000000000:task-definition/f:+1",
        "arn:aws:ecs:us-east-1:000000000000:task-definition/f:99999999999",
        "arn:aws:ecs:us-east-1:000000000000:task-set/c/s/other/1",
        "arn:aws:ecs:us-east-1:000000000000:potato/x",
    ] {
        assert!(text.parse::<Arn>().is_err(), "{text}");
    }
}

#[test]
fn a_parameter_takes_the_short_form_and_the_arn() {
    let short = ClusterRef::parse("default").unwrap();
    assert_eq!((short.scope, short.name.as_str()), (None, "default"));
    let full = ClusterRef::parse(&scope().cluster("default")).unwrap();
    assert_eq!((full.scope, full.name.as_str()), (Some(scope()), "default"));

    let task = TaskRef::parse(&scope().task("c", ID)).unwrap();
    assert_eq!((task.cluster.as_deref(), task.id.as_str()), (Some("c"), ID));
    assert_eq!(TaskRef::parse(ID).unwrap(), TaskRef { scope: None, cluster: None, id: ID.to_owned() });
    let old = InstanceRef::parse(&format!("{PREFIX}container-instance/{ID}")).unwrap();
    assert_eq!((old.cluster, old.id.as_str()), (None, ID));
    assert_eq!(ServiceRef::parse(&format!("{PREFIX}service/c/web")).unwrap().name, "web");
}

#[test]
fn a_task_definition_is_a_family_a_revision_or_an_arn() {
    for (text, family, revision) in [
        ("f_producer", "f_producer", None),
        ("f_producer:3", "f_producer", Some(3)),
        ("arn", "arn", None),
        ("arn:7", "arn", Some(7)),
        ("arn:aws:ecs:us-east-1:000000000000:task-definition/web:12", "web", Some(12)),
    ] {
        let parsed = TaskDefinitionRef::parse(text).unwrap();
        assert_eq!((parsed.family.as_str(), parsed.revision), (family, revision), "{text}");
    }
    for text in ["", ":1", "f:", "f:x", "f:0", "f:1:2", "f g"] {
        assert!(TaskDefinitionRef::parse(text).is_err(), "{text}");
    }
}

#[test]
fn an_arn_of_another_kind_is_refused_by_name() {
    let error = ClusterRef::parse(&scope().task("c", ID)).unwrap_err();
    assert!(matches!(error, ArnError::OtherResource { wanted: "cluster", .. }), "{error}");
    let error = ClusterRef::parse("my.cluster").unwrap_err();
    assert_eq!(error.to_string(), "Cluster must match ^[a-zA-Z0-9\\-_]{1,255}$, but was 'my.cluster'");
}

#[test]
fn errors_do_not_repeat_megabytes() {
    let error = ClusterRef::parse(&"x".repeat(1_000_000)).unwrap_err();
    assert!(error.to_string().len() < 500);
    let error = TaskRef::parse(&format!("{PREFIX}{}", "x".repeat(1_000_000))).unwrap_err();
    assert!(error.to_string().len() < 500);
}

fn any_resource() -> impl Strategy<Value = Resource> {
    let name = "[a-zA-Z0-9_-]{1,255}";
    let id = "[a-z0-9-]{1,64}";
    prop_oneof![
        name.prop_map(|name| Resource::Cluster { name }),
        (proptest::option::of(name), id).prop_map(|(cluster, id)| Resource::ContainerInstance { cluster, id }),
        (proptest::option::of(name), id).prop_map(|(cluster, id)| Resource::Task { cluster, id }),
        (name, 1_u32..).prop_map(|(family, revision)| Resource::TaskDefinition { family, revision }),
        (proptest::option::of(name), name).prop_map(|(cluster, name)| Resource::Service { cluster, name }),
        (name, name, id).prop_map(|(cluster, service, id)| Resource::TaskSet { cluster, service, id }),
        (name, name, id).prop_map(|(cluster, service, id)| Resource::ServiceRevision { cluster, service, id }),
        (name, id, id)
            .prop_map(|(cluster, task, id)| Resource::Container { owner: Some(ContainerOwner { cluster, task }), id }),
    ]
}

proptest! {
    #[test]
    fn parsers_never_panic(text in "(arn:aws:ecs:us-east-1:000000000000:)?(cluster|task|task-definition|service|container)?\\PC{0,80}") {
        let _ = text.parse::<Arn>();
        let _ = ClusterRef::parse(&text);
        let _ = InstanceRef::parse(&text);
        let _ = TaskRef::parse(&text);
        let _ = ServiceRef::parse(&text);
        let _ = TaskDefinitionRef::parse(&text);
    }

    #[test]
    fn what_is_read_is_written_back_the_same(text in "arn:aws:ecs:[a-z]{1,3}:[0-9]{12}:[a-z-]{1,18}(/[a-z0-9:]{1,5}){1,5}") {
        if let Ok(arn) = text.parse::<Arn>() {
            prop_assert_eq!(arn.to_string(), text);
        }
    }

    #[test]
    fn what_is_written_is_read_back_the_same(resource in any_resource()) {
        let arn = Arn { scope: scope(), resource };
        prop_assert_eq!(arn.to_string().parse::<Arn>().unwrap(), arn);
    }
}
