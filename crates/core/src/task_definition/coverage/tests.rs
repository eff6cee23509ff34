//! What the table calls refused is refused, in the words it says; and it says so of whatever is refused.

use std::collections::BTreeMap;

use longshore_api::ecs::types::TaskOverride;
use serde_json::{Value, json};

use super::{MemberSupport, TABLE};
use crate::task_definition::tests::{definition, registered, try_register};
use crate::task_definition::{merge, resolve};

/// A refused member, or a value of one, with the text that the table has for it.
fn refusals() -> BTreeMap<(&'static str, &'static str, &'static str), &'static str> {
    let mut refusals = BTreeMap::new();
    for shape in TABLE {
        for member in shape.members {
            if let MemberSupport::Refused(error) = member.support {
                refusals.insert((shape.shape, member.name, ""), error);
            }
            for value in member.refused_values {
                refusals.insert((shape.shape, member.name, value.what), value.error);
            }
        }
    }
    refusals
}

/// A request that has the refused member or value and nothing else that is unusual.
fn examples() -> Vec<((&'static str, &'static str, &'static str), Value)> {
    let task = |member: Value| definition(member, json!({}));
    let container = |member: Value| definition(json!({}), member);
    let gpu = |requirement: Value| container(json!({"resourceRequirements": [requirement]}));
    let volume = |member: &str, value: Value| task(json!({"volumes": [{"name": "v", member: value}]}));
    let mut routed = container(json!({"firelensConfiguration": {"type": "fluentbit"}}));
    routed["containerDefinitions"][0]["logConfiguration"] = json!({"logDriver": "awsfirelens"});
    let mut sent = task(json!({}));
    sent["containerDefinitions"] = json!([
        {"name": "app", "image": "busybox", "memory": 64, "logConfiguration": {"logDriver": "awsfirelens"}},
        {"name": "router", "image": "busybox", "memory": 64, "firelensConfiguration": {"type": "fluentbit"}},
    ]);
    let mut proxied = task(json!({"networkMode": "awsvpc", "proxyConfiguration": {"containerName": "app"}}));
    proxied["proxyConfiguration"]["properties"] = json!([
        {"name": "IgnoredUID", "value": "1"}, {"name": "AppPorts", "value": "80"},
        {"name": "ProxyIngressPort", "value": "1"}, {"name": "ProxyEgressPort", "value": "2"},
    ]);
    vec![
        (
            ("TaskDefinition", "enableFaultInjection", "true, without `networkMode` host"),
            task(json!({"enableFaultInjection": true})),
        ),
        (("TaskDefinition", "ephemeralStorage", ""), task(json!({"ephemeralStorage": {"sizeInGiB": 21}}))),
        (
            ("TaskDefinition", "inferenceAccelerators", ""),
            task(json!({"inferenceAccelerators": [{"deviceName": "a", "deviceType": "b"}]})),
        ),
        (("TaskDefinition", "proxyConfiguration", ""), proxied),
        (
            ("TaskDefinition", "requiresCompatibilities", "`MANAGED_INSTANCES`"),
            task(json!({"requiresCompatibilities": ["MANAGED_INSTANCES"]})),
        ),
        (("TaskDefinition", "taskRoleArn", ""), task(json!({"taskRoleArn": "r"}))),
        (
            ("TaskDefinition", "trustedExecutionConfiguration", ""),
            task(json!({"trustedExecutionConfiguration": {"isolationMode": "SHARED"}})),
        ),
        (
            ("ContainerDefinition", "credentialSpecs", ""),
            container(json!({"credentialSpecs": ["credentialspec:arn:aws:s3:::b/x"]})),
        ),
        (
            ("ContainerDefinition", "dockerSecurityOptions", "`credentialspec:…`"),
            container(json!({"dockerSecurityOptions": ["credentialspec:file://x"]})),
        ),
        (("ContainerDefinition", "firelensConfiguration", ""), routed),
        (("LogConfiguration", "logDriver", "`awsfirelens`"), sent),
        (
            ("ResourceRequirement", "sharingStrategy", ""),
            gpu(json!({"type": "GPU", "sharingStrategy": {"nvidiaMps": {"memory": 1024}}})),
        ),
        (("ResourceRequirement", "type", "`NeuronDevice`"), gpu(json!({"type": "NeuronDevice", "value": "ALL"}))),
        (
            ("ResourceRequirement", "type", "`InferenceAccelerator`"),
            gpu(json!({"type": "InferenceAccelerator", "value": "a"})),
        ),
        (
            ("RuntimePlatform", "operatingSystemFamily", "any other"),
            task(json!({"runtimePlatform": {"operatingSystemFamily": "WINDOWS_SERVER_2022_CORE"}})),
        ),
        (("Volume", "configuredAtLaunch", ""), volume("configuredAtLaunch", json!(true))),
        (
            ("Volume", "fsxWindowsFileServerVolumeConfiguration", ""),
            volume(
                "fsxWindowsFileServerVolumeConfiguration",
                json!({"fileSystemId": "fs-1", "rootDirectory": "d", "authorizationConfig": {"credentialsParameter": "p", "domain": "d"}}),
            ),
        ),
        (
            ("Volume", "s3filesVolumeConfiguration", ""),
            volume("s3filesVolumeConfiguration", json!({"fileSystemArn": "arn:aws:s3files:::fs"})),
        ),
        (("TaskOverride", "ephemeralStorage", ""), json!({"ephemeralStorage": {"sizeInGiB": 21}})),
        (("TaskOverride", "inferenceAcceleratorOverrides", ""), json!({"inferenceAcceleratorOverrides": [{}]})),
        (("TaskOverride", "taskRoleArn", ""), json!({"taskRoleArn": "r"})),
        (
            ("ContainerOverride", "resourceRequirements", "what the definition is refused for"),
            json!({"containerOverrides": [{"name": "app", "resourceRequirements": [{"type": "NeuronDevice", "value": "ALL"}]}]}),
        ),
    ]
}

/// Whether `message` has the pieces of `pattern` between its `…`, one after the other from its beginning to its end.
fn says(message: &str, pattern: &str) -> bool {
    let mut pieces = pattern.split('…');
    let Some(mut rest) = pieces.next().and_then(|first| message.strip_prefix(first)) else { return false };
    for piece in pieces {
        match rest.find(piece) {
            Some(at) => rest = &rest[at + piece.len()..],
            None => return false,
        }
    }
    rest.is_empty() || pattern.ends_with('…')
}

#[test]
fn what_is_called_refused_is_refused_in_these_words() {
    let mut refusals = refusals();
    for (place, request) in examples() {
        let expected = refusals.remove(&place).unwrap_or_else(|| panic!("the table does not refuse {place:?}"));
        let error = match request.get("family") {
            Some(_) => try_register(&request).map(|_| ()),
            None => {
                let document = registered(&definition(json!({}), json!({})));
                let overrides: TaskOverride = serde_json::from_value(request).expect("overrides");
                merge(&document, &resolve(&document), Some(&overrides)).map(|_| ())
            }
        };
        let message = error.expect_err(place.1).message;
        assert!(says(&message, expected), "{place:?}: {message:?} is not {expected:?}");
    }
    assert!(refusals.is_empty(), "no example of {:?}", refusals.keys());
}

#[test]
fn a_part_names_a_member_that_is_refused() {
    let is_refused = |name: &str| {
        TABLE
            .iter()
            .flat_map(|shape| shape.members)
            .any(|member| member.name == name && matches!(member.support, MemberSupport::Refused(_)))
    };
    for member in TABLE.iter().flat_map(|shape| shape.members) {
        if let MemberSupport::PartOf(whole) = member.support {
            assert!(is_refused(whole), "{} is a part of {whole}", member.name);
        }
    }
}

#[test]
fn notes_are_sentences() {
    for member in TABLE.iter().flat_map(|shape| shape.members) {
        let note = member.note;
        assert!(note.is_empty() || note.ends_with('.') && !note.contains(['|', '\n']), "{}: {note:?}", member.name);
    }
}

#[test]
fn patterns_are_read_from_end_to_end() {
    assert!(says("Invalid 'x' setting.", "Invalid '…' setting."));
    assert!(says("Invalid 'x' setting.", "Invalid…"));
    for pattern in ["invalid…", "Invalid '…' setting", "…nothing.", "Invalid"] {
        assert!(!says("Invalid 'x' setting.", pattern), "{pattern}");
    }
}
