//! Wire forms, Go's leniency, and the absence of panics.

use crate::frame::Frame;
use crate::{acs, tcs};
use proptest::prelude::*;

/// The frame decodes, and encoding gives `canonical`, which decodes to the same message.
#[track_caller]
fn check_server(frame: &str, canonical: &str) -> acs::ServerMessage {
    let message = acs::ServerMessage::decode(frame).unwrap().expect("a known type");
    assert_eq!(message.encode(), canonical);
    assert_eq!(acs::ServerMessage::decode(canonical).unwrap().as_ref(), Some(&message));
    message
}

#[test]
fn a_payload_reads_with_unknown_members_null_and_odd_case() {
    let message = check_server(
        r#"{"TYPE":"PayloadMessage","extra":[1],"Message":{"MessageID":"m","ClusterArn":"c","containerInstanceArn":"i",
            "generatedAt":5,"seqNum":17,"timeline":null,"shoe":{"size":41},"tasks":[{"ARN":"t","desiredStatus":"RUNNING",
            "family":null,"cpu":1,"containers":[{"name":"main","image":"x","essential":true,"entryPoint":[],"command":null,
            "environment":{"NAME":"kept","name":"too"},"portMappings":[{"containerPort":80}],"memory":50}],
            "volumes":[{"name":"v","type":"host","host":{}}]}]}}"#,
        concat!(
            r#"{"type":"PayloadMessage","message":{"messageId":"m","clusterArn":"c","containerInstanceArn":"i","#,
            r#""generatedAt":5,"seqNum":17,"tasks":[{"arn":"t","desiredStatus":"RUNNING","containers":[{"name":"main","#,
            r#""image":"x","essential":true,"entryPoint":[],"environment":{"NAME":"kept","name":"too"},"cpu":0,"memory":50,"#,
            r#""portMappings":[{"containerPort":80}]}],"volumes":[{"name":"v","type":"host","host":{}}],"cpu":1.0}]}}"#,
        ),
    );
    let acs::ServerMessage::Payload(payload) = message else { panic!("not a payload") };
    assert_eq!(payload.tasks[0].containers[0].command, None);
    assert_eq!(payload.tasks[0].containers[0].entry_point, Some(Vec::new()));
    assert_eq!(payload.tasks[0].desired_status, acs::DesiredStatus::Running);
}

#[test]
fn the_smallest_stop_order_reads() {
    check_server(
        r#"{"type":"PayloadMessage","message":{"tasks":[{"arn":"t","desiredStatus":"STOPPED"}]}}"#,
        concat!(
            r#"{"type":"PayloadMessage","message":{"messageId":"","clusterArn":"","containerInstanceArn":"","#,
            r#""generatedAt":0,"seqNum":0,"tasks":[{"arn":"t","desiredStatus":"STOPPED"}]}}"#,
        ),
    );
}

#[test]
fn an_empty_manifest_still_carries_its_list() {
    check_server(
        r#"{"type":"TaskManifestMessage","message":{"messageId":"m","timeline":9}}"#,
        concat!(
            r#"{"type":"TaskManifestMessage","message":{"messageId":"m","clusterArn":"","containerInstanceArn":"","#,
            r#""generatedAt":0,"timeline":9,"tasks":[]}}"#,
        ),
    );
}

#[test]
fn a_request_for_logs_leaves_out_what_it_does_not_say() {
    let message = check_server(
        r#"{"type":"LongshoreReadTaskLogsMessage","message":{"messageId":"m","taskArn":"t","containerName":"c","tail":0}}"#,
        concat!(
            r#"{"type":"LongshoreReadTaskLogsMessage","message":{"messageId":"m","containerInstanceArn":"","#,
            r#""taskArn":"t","containerName":"c","tail":0,"wait":0}}"#,
        ),
    );
    let acs::ServerMessage::ReadTaskLogs(message) = message else { panic!("not a request for logs") };
    assert_eq!((message.position, message.tail), (None, Some(0)));
}

#[test]
fn the_network_says_who_left_and_which_group_allows_nothing() {
    let message = check_server(
        r#"{"type":"LongshoreNetworkMessage","message":{"messageId":"m","containerInstanceArn":"i","timeline":9,
            "complete":true,"ranges":["10.212.0.0/14"],"peers":[{"hostId":"h1","hostAddress":"192.0.2.1",
            "blocks":["10.212.0.64/26"]},{"hostId":"h2","hostAddress":null}],"groups":[{"id":"sg-1","rules":[
            {"direction":"ingress","protocol":"tcp","fromPort":80,"toPort":81,"groupId":"sg-2"}]},{"id":"sg-2"}]}}"#,
        concat!(
            r#"{"type":"LongshoreNetworkMessage","message":{"messageId":"m","containerInstanceArn":"i","timeline":9,"#,
            r#""complete":true,"ranges":["10.212.0.0/14"],"peers":[{"hostId":"h1","hostAddress":"192.0.2.1","#,
            r#""blocks":["10.212.0.64/26"]},{"hostId":"h2","blocks":[]}],"groups":[{"id":"sg-1","rules":["#,
            r#"{"direction":"ingress","protocol":"tcp","fromPort":80,"toPort":81,"groupId":"sg-2"}]},"#,
            r#"{"id":"sg-2","rules":[]}]}}"#,
        ),
    );
    let acs::ServerMessage::Network(message) = message else { panic!("not a network") };
    assert!(message.peers[1].blocks.is_empty() && message.groups[1].rules.is_empty());
}

#[test]
fn an_agent_message_round_trips() {
    let sent = acs::AgentMessage::TaskStopVerification(acs::TaskStopVerificationMessage {
        message_id: "m".to_owned(),
        stop_candidates: vec![acs::TaskIdentifier {
            task_arn: "t".to_owned(),
            task_cluster_arn: "c".to_owned(),
            desired_status: acs::DesiredStatus::Stopped,
        }],
    });
    let text = sent.encode();
    assert_eq!(
        text,
        concat!(
            r#"{"type":"TaskStopVerificationMessage","message":{"messageId":"m","stopCandidates":"#,
            r#"[{"taskArn":"t","taskClusterArn":"c","desiredStatus":"STOPPED"}]}}"#
        )
    );
    assert_eq!(acs::AgentMessage::decode(&text).unwrap(), Some(sent));
}

#[test]
fn unknown_types_are_ignored_and_a_missing_message_is_empty() {
    assert_eq!(acs::ServerMessage::decode(r#"{"type":"CloseMessage","message":{"message":"bye"}}"#).unwrap(), None);
    assert_eq!(acs::ServerMessage::decode(r#"{"type":"Nonsense","message":7}"#).unwrap(), None);
    let heartbeat = acs::ServerMessage::decode(r#"{"type":"HeartbeatMessage"}"#).unwrap();
    assert_eq!(heartbeat, Some(acs::ServerMessage::Heartbeat(acs::HeartbeatMessage::default())));
}

#[test]
fn wrong_types_name_the_member() {
    for (frame, expected) in [
        (
            r#"{"type":"PayloadMessage","message":{"seqNum":"1"}}"#,
            "PayloadMessage cannot be read: seqNum: invalid type: string",
        ),
        (r#"{"type":"PayloadMessage","message":{"seqNum":1.5}}"#, "seqNum: invalid type: floating point"),
        (r#"{"type":"PayloadMessage","message":{"tasks":{}}}"#, "tasks: invalid type: map"),
        (
            r#"{"type":"PayloadMessage","message":{"tasks":[{"containers":[{"cpu":true}]}]}}"#,
            "tasks: containers: cpu: invalid type: boolean",
        ),
        (r#"{"type":"PayloadMessage","message":[]}"#, "expected an object (PayloadMessage)"),
        (r#"{"type":5}"#, "not a message envelope"),
        (r#"{"message":{}}"#, "has no \"type\""),
        ("", "not a message envelope"),
        ("[]", "not a message envelope"),
    ] {
        let error = acs::ServerMessage::decode(frame).unwrap_err().to_string();
        assert!(error.contains(expected), "{frame}: {error}");
    }
}

#[test]
fn credentials_do_not_show_in_debug_output() {
    let credentials = acs::IamRoleCredentials {
        credentials_id: "unguessable".to_owned().into(),
        secret_access_key: "hidden".to_owned().into(),
        session_token: "hidden".to_owned().into(),
        ..acs::IamRoleCredentials::default()
    };
    let shown = format!("{credentials:?}");
    assert!(!shown.contains("hidden") && !shown.contains("unguessable"), "{shown}");
}

#[test]
fn a_telemetry_frame_is_a_header_block_and_json() {
    let text = "Authorization: AWS4-HMAC-SHA256 Credential=a/ecs/aws4_request, Signature=b\r\nHost: 127.0.0.1:8080\r\n\
        X-Amz-Date: 20261122T065620Z\r\n\r\n{\"type\":\"PublishMetricsRequest\",\"message\":{\"metadata\":{\"cluster\":\"default\",\
        \"containerInstance\":\"i\",\"messageId\":\"m\",\"fin\":true,\"idle\":true},\"timestamp\":1795330648.5}}";
    let frame = Frame::decode(text).unwrap();
    assert_eq!(frame.header("host"), Some("127.0.0.1:8080"));
    assert_eq!(frame.header("x-amz-date"), Some("20261122T065620Z"));
    assert_eq!(frame.header("absent"), None);
    assert_eq!(frame.encode(), text);
    let Some(tcs::AgentMessage::Metrics(metrics)) = tcs::AgentMessage::decode(&frame.body).unwrap() else {
        panic!("not metrics")
    };
    assert_eq!(metrics.timestamp.unwrap().as_millis(), 1_795_330_648_500);
    assert!(metrics.metadata.unwrap().idle);
}

#[test]
fn broken_frames_are_refused_and_bare_ones_taken() {
    assert!(Frame::decode("Host: x").unwrap_err().to_string().contains("no empty line"));
    assert!(Frame::decode("Host: x\r\nrubbish\r\n\r\n{}").unwrap_err().to_string().contains("line 2"));
    assert_eq!(Frame::decode("{\"a\":1}\r\n\r\n").unwrap().headers, []);
    let split = Frame { headers: vec![("A".to_owned(), "b\r\n\r\n{".to_owned())], body: "{}".to_owned() };
    assert_eq!(Frame::decode(&split.encode()).unwrap().body, "{}");
}

/// JSON that resembles messages: their member names, with values of any type.
fn almost_message() -> impl Strategy<Value = String> {
    let names = vec![
        "type",
        "message",
        "tasks",
        "containers",
        "arn",
        "seqNum",
        "messageId",
        "environment",
        "dockerConfig",
        "host",
        "portMappings",
        "desiredStatus",
        "stopTasks",
        "metadata",
        "taskMetrics",
        "cpuStatsSet",
        "timestamp",
    ];
    let types = vec!["\"PayloadMessage\"", "\"TaskManifestMessage\"", "\"PublishMetricsRequest\"", "\"AckRequest\""];
    let leaf = prop_oneof![
        Just("null".to_owned()),
        any::<i64>().prop_map(|n| n.to_string()),
        any::<f64>().prop_map(|n| n.to_string()),
        prop::sample::select(types).prop_map(str::to_owned),
        Just("true".to_owned()),
    ];
    leaf.prop_recursive(5, 40, 6, move |inner| {
        prop_oneof![
            prop::collection::vec((prop::sample::select(names.clone()), inner.clone()), 0..6).prop_map(|members| {
                let members: Vec<_> = members.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
                format!("{{{}}}", members.join(","))
            }),
            prop::collection::vec(inner, 0..4).prop_map(|items| format!("[{}]", items.join(","))),
        ]
    })
}

proptest! {
    #[test]
    fn no_text_panics(text in ".*", almost in almost_message()) {
        for text in [text, almost.clone(), format!(r#"{{"type":"PayloadMessage","message":{almost}}}"#),
            format!(r#"{{"type":"PublishMetricsRequest","message":{almost}}}"#)] {
            let _ = acs::AgentMessage::decode(&text);
            let _ = tcs::AgentMessage::decode(&text);
            let _ = tcs::ServerMessage::decode(&text);
            let _ = Frame::decode(&text);
            // What can be read can be written, and is then read as the same.
            if let Ok(Some(message)) = acs::ServerMessage::decode(&text) {
                prop_assert_eq!(acs::ServerMessage::decode(&message.encode()).unwrap(), Some(message));
            }
        }
    }

    #[test]
    fn frames_round_trip(headers in prop::collection::vec(("[A-Za-z-]{1,12}", "[!-~]{0,20}"), 0..5), body in r"\{.*\}") {
        let frame = Frame { headers, body };
        prop_assert_eq!(Frame::decode(&frame.encode()).unwrap(), frame);
    }
}
