use longshore_api::ecs::Operation;
use longshore_api::ecs::types::{PlacementConstraint, PlacementConstraintType};
use serde_json::{Value, json};

use super::*;
use crate::entropy::Entropy;
use crate::fixture::{Lab, definition, offer};

fn ask(lab: &mut Lab, definition: &str, count: i32) -> ExplainPlacementResponse {
    let request = ExplainPlacementRequest {
        task_definition: definition.to_owned(),
        count: Some(count),
        ..ExplainPlacementRequest::default()
    };
    explain(&lab.cell.snapshot(), &request).expect("an explanation")
}

fn reasons(verdict: &InstanceVerdict) -> Vec<&str> {
    verdict.refusals.iter().map(|refusal| refusal.reason.as_str()).collect()
}

fn register(lab: &mut Lab, document: &Value) {
    lab.ok(0, Operation::RegisterTaskDefinition, document);
}

#[test]
fn a_definition_that_fits_fits_as_often_as_tasks_are_placed() {
    let mut lab = Lab::new();
    lab.instance(1, 1000, 1000);
    lab.instance(2, 250, 1000);
    register(&mut lab, &definition("web", 100, 100, &[]));
    let answer = ask(&mut lab, "web", 20);
    let copies: Vec<i64> = answer.instances.iter().map(|instance| instance.copies).collect();
    assert_eq!((copies, answer.placeable), (vec![10, 2], 12));
    assert_eq!(answer.verdict, "Only 12 of 20 copies fit: 2 of 2 container instances take some.");
    for _ in 0..12 {
        lab.run("web");
    }
    let answer = ask(&mut lab, "web", 1);
    assert_eq!(answer.placeable, 0);
    assert_eq!(reasons(&answer.instances[0]), ["RESOURCE:CPU", "RESOURCE:MEMORY"]);
    assert_eq!(answer.instances[1].refusals[0].missing, Some(50));
    assert!(answer.advice[0].contains("100 CPU units are wanted, and at most 50 are free"), "{:?}", answer.advice);
}

#[test]
fn every_reason_is_named_and_not_only_the_first() {
    let mut lab = Lab::new();
    let arn = lab.register(1, &offer("h", 100, 100));
    let (instance, session) = lab.connect(1, &arn);
    register(&mut lab, &definition("small", 1, 6, &[80]));
    let holder = lab.run("small");
    lab.ok(0, Operation::UpdateContainerInstancesState, &json!({"containerInstances": [arn], "status": "DRAINING"}));
    lab.disconnect(instance, session);
    let mut document = definition("all", 500, 500, &[22, 80, 81]);
    document["containerDefinitions"][0]["privileged"] = json!(true);
    register(&mut lab, &document);
    let answer = ask(&mut lab, "all", 1);
    let verdict = &answer.instances[0];
    assert_eq!(
        reasons(verdict),
        ["INACTIVE", "AGENT", "RESOURCE:CPU", "RESOURCE:MEMORY", "RESOURCE:PORTS", "RESOURCE:PORTS", "ATTRIBUTE"]
    );
    let ports: Vec<_> = verdict.refusals.iter().filter_map(|refusal| refusal.port.as_deref()).collect();
    assert_eq!(ports, ["22/tcp", "80/tcp"]);
    assert_eq!(verdict.refusals[4].held_by, None);
    assert_eq!(verdict.refusals[5].held_by.as_deref(), Some(holder.as_str()));
    assert!(verdict.refusals[0].detail.contains("DRAINING") && verdict.refusals[1].since.is_some());
    assert_eq!(answer.refused.iter().map(|count| count.instances).sum::<i64>(), 6);
    assert!(answer.advice[0].starts_with("No instance offers attribute com.amazonaws.ecs.capability.privileged"));
    for part in ["larger machine", "22/tcp", "not connected", "--undo"] {
        assert!(
            answer.advice.iter().any(|advice| advice.contains(part) || part == "22/tcp"),
            "{part}: {:?}",
            answer.advice
        );
    }
}

#[test]
fn instances_of_one_host_share_its_ports() {
    let mut lab = Lab::new();
    for key in [1, 2] {
        let arn = lab.register(key, &offer("shared", 1000, 1000));
        lab.connect(key, &arn);
    }
    lab.instance(3, 1000, 1000);
    register(&mut lab, &definition("web", 1, 6, &[80]));
    let answer = ask(&mut lab, "web", 5);
    assert_eq!((answer.placeable, answer.instances[0].copies), (2, 1));
    let first = lab.run("web");
    let answer = ask(&mut lab, "web", 5);
    assert_eq!(answer.placeable, 1);
    let held = answer.instances.iter().flat_map(|instance| &instance.refusals);
    assert!(held.clone().all(|refusal| refusal.held_by.as_deref() == Some(first.as_str())) && held.count() > 0);
}

#[test]
fn an_empty_cluster_and_an_unknown_definition_say_what_to_do() {
    let mut lab = Lab::new();
    register(&mut lab, &definition("web", 1, 6, &[]));
    let answer = ask(&mut lab, "web", 1);
    assert!(answer.verdict.contains("no container instances") && answer.advice[0].contains("token create"));
    let request = |name: &str| ExplainPlacementRequest { task_definition: name.to_owned(), ..Default::default() };
    let view = lab.cell.snapshot();
    let error = explain(&view, &request("nothing")).expect_err("refused");
    assert!(error.code.name == "ClientException" && error.message.contains("list-task-definitions"));
    lab.ok(0, Operation::DeregisterTaskDefinition, &json!({"taskDefinition": "web:1"}));
    let error = explain(&lab.cell.snapshot(), &request("web:1")).expect_err("refused");
    assert!(error.message.contains("inactive"), "{}", error.message);
}

#[test]
fn a_value_that_differs_is_shown() {
    let mut lab = Lab::new();
    let mut offer = offer("h", 1000, 1000);
    offer["attributes"]
        .as_array_mut()
        .expect("a list")
        .push(json!({"name": "ecs.cpu-architecture", "value": "x86_64"}));
    let arn = lab.register(1, &offer);
    lab.connect(1, &arn);
    let mut document = definition("arm", 1, 6, &[]);
    document["runtimePlatform"] = json!({"cpuArchitecture": "ARM64"});
    register(&mut lab, &document);
    let answer = ask(&mut lab, "arm", 1);
    let refusal = &answer.instances[0].refusals[0];
    assert_eq!(refusal.actual_value.as_deref(), Some("x86_64"));
    assert!(answer.advice[0].contains("ecs.cpu-architecture = arm64"), "{:?}", answer.advice);
}

#[test]
fn constraints_of_the_definition_and_of_the_call_are_explained() {
    let mut lab = Lab::new();
    for (key, rack) in [(1, "a"), (2, "b"), (3, "b")] {
        let mut offer = offer(&format!("h{key}"), 1000, 1000);
        offer["attributes"].as_array_mut().expect("a list").push(json!({"name": "rack", "value": rack}));
        let arn = lab.register(key, &offer);
        lab.connect(key, &arn);
    }
    let mut document = definition("web", 1, 6, &[]);
    document["placementConstraints"] = json!([{"type": "memberOf", "expression": "attribute:rack == b"}]);
    register(&mut lab, &document);
    let home = lab.run("web");
    let home = lab.describe(&home)["containerInstanceArn"].clone();
    let constraint = |kind, expression: Option<&str>| PlacementConstraint {
        r#type: Some(kind),
        expression: expression.map(str::to_owned),
    };
    let request = ExplainPlacementRequest {
        task_definition: "web".to_owned(),
        count: Some(3),
        placement_constraints: Some(vec![
            constraint(PlacementConstraintType::DistinctInstance, None),
            constraint(PlacementConstraintType::MemberOf, Some("agentConnected == true")),
        ]),
        ..ExplainPlacementRequest::default()
    };
    let answer = explain(&lab.cell.snapshot(), &request).expect("an explanation");
    assert_eq!(answer.placeable, 1);
    for verdict in &answer.instances {
        let expected: &[&str] = match () {
            () if home == verdict.container_instance_arn => &["DistinctInstance placement constraint unsatisfied."],
            () if verdict.copies == 1 => &[],
            () => &["MemberOf placement constraint unsatisfied."],
        };
        assert_eq!(reasons(verdict), expected);
    }
    assert_eq!(answer.needs.member_of, ["attribute:rack == b", "agentConnected == true"]);
    assert!(answer.advice.iter().any(|advice| advice.contains("attribute:rack == b")), "{:?}", answer.advice);
    assert!(answer.advice.iter().any(|advice| advice.contains("family:web")), "{:?}", answer.advice);
    let wrong = vec![constraint(PlacementConstraintType::MemberOf, Some("rack == b"))];
    let request = ExplainPlacementRequest { placement_constraints: Some(wrong), ..request };
    let error = explain(&lab.cell.snapshot(), &request).expect_err("refused");
    assert!(error.message.contains("placementConstraints[0]"), "{}", error.message);
}

/// What placement does is the oracle: its first reason is the first one here, and what it takes has none.
#[test]
fn placement_and_its_explanation_agree() {
    let mut chance = Entropy::from_seed([5; 32]);
    for _ in 0..40 {
        let mut lab = Lab::new();
        for key in 1..=4 {
            let host = format!("h{}", chance.below(3));
            let arn = lab.register(key, &offer(&host, 50 + chance.below(200) as i64, 50 + chance.below(200) as i64));
            if chance.below(4) > 0 {
                lab.connect(key, &arn);
            }
            if chance.below(5) == 0 {
                let drained = json!({"containerInstances": [arn], "status": "DRAINING"});
                lab.ok(0, Operation::UpdateContainerInstancesState, &drained);
            }
        }
        for family in ["a", "b", "c"] {
            let ports: &[u16] = [&[][..], &[80], &[80, 81], &[22]][chance.below(4)];
            let mut document = definition(family, 1 + chance.below(120) as i64, 6 + chance.below(120) as i64, ports);
            if chance.below(4) == 0 {
                document["containerDefinitions"][0]["privileged"] = json!(true);
            }
            register(&mut lab, &document);
        }
        for _ in 0..6 {
            let family = ["a", "b", "c"][chance.below(3)];
            let answer = ask(&mut lab, family, 10_000);
            let outcome = lab.call(0, Operation::RunTask, &json!({"taskDefinition": family}));
            let ran = outcome.as_ref().map(|response| {
                let answer: Value = serde_json::from_slice(&response.to_json()).expect("JSON");
                (answer["tasks"].as_array().map_or(0, Vec::len), answer["failures"].clone())
            });
            match ran {
                Ok((1, _)) => assert!(answer.placeable > 0, "{answer:?}"),
                Ok((_, failures)) => {
                    assert_eq!(answer.placeable, 0, "{answer:?}");
                    for failure in failures.as_array().expect("a list") {
                        let same = |one: &&InstanceVerdict| one.container_instance_arn == failure["arn"];
                        let verdict = answer.instances.iter().find(same).expect("listed");
                        assert_eq!(verdict.refusals[0].reason, failure["reason"], "{answer:?}");
                    }
                }
                // Nobody is ACTIVE.
                Err(_) => assert!(answer.instances.iter().all(|one| reasons(one).contains(&"INACTIVE")), "{answer:?}"),
            }
        }
    }
}
