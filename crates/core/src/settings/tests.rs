//! Who has which setting, what can be set, and what comes of it.

use longshore_api::ecs::Operation::{
    DeleteAccountSetting, ListAccountSettings, PutAccountSetting, PutAccountSettingDefault,
};
use serde_json::{Value, json};

use super::*;
use crate::fixture::Lab;

const ROOT: &str = "arn:aws:iam::000000000000:root";
const USER: &str = "arn:aws:iam::000000000000:user/team/blue";
const INVALID: &str = "InvalidParameterException";

/// `name=value` of each setting listed, and whose it is if not the root user's.
fn listed(lab: &mut Lab, request: &Value) -> Vec<String> {
    let answer = lab.ok(0, ListAccountSettings, request);
    assert_eq!(answer["nextToken"], Value::Null, "one page");
    answer["settings"].as_array().expect("a list").iter().map(told).collect()
}

fn told(setting: &Value) -> String {
    let text = |member: &str| setting[member].as_str().expect("a string").to_owned();
    let owner = match text("principalArn") {
        owner if owner == ROOT => String::new(),
        owner => format!(" of {owner}"),
    };
    format!("{}={}{owner}", text("name"), text("value"))
}

fn put(lab: &mut Lab, name: &str, value: &str) -> String {
    told(&lab.ok(0, PutAccountSettingDefault, &json!({"name": name, "value": value}))["setting"])
}

fn put_for(principal: &str, name: &str, value: &str) -> Value {
    json!({"name": name, "value": value, "principalArn": principal})
}

#[test]
fn every_setting_has_the_default_of_ecs_in_the_order_of_names() {
    let mut lab = Lab::new();
    assert_eq!(listed(&mut lab, &json!({})), [""; 0], "nothing is set");
    let first = lab.ok(0, ListAccountSettings, &json!({"effectiveSettings": true}));
    assert_eq!(
        first["settings"].as_array().expect("a list").iter().map(told).collect::<Vec<_>>(),
        [
            "awsvpcTrunking=disabled",
            "containerInsights=disabled",
            "containerInstanceLongArnFormat=enabled",
            "defaultLogDriverMode=non-blocking",
            "fargateEventWindows=disabled",
            "fargateFIPSMode=disabled",
            "fargateTaskRetirementWaitPeriod=7",
            "guardDutyActivate=off",
            "serviceLongArnFormat=enabled",
            "tagResourceAuthorization=on",
        ],
        "ten a page"
    );
    let rest = json!({"effectiveSettings": true, "nextToken": first["nextToken"]});
    assert_eq!(listed(&mut lab, &rest), ["taskLongArnFormat=enabled"]);
    let types: Vec<_> = first["settings"].as_array().expect("a list").iter().map(|setting| &setting["type"]).collect();
    assert_eq!(types.iter().filter(|kind| **kind == "aws_managed").count(), 1);
    assert_eq!(first["settings"][7]["type"], "aws_managed");
    assert_eq!(lab.refused(0, ListAccountSettings, &json!({"nextToken": "nonsense"})).0, INVALID);
}

#[test]
fn pages_end_where_their_size_says() {
    let mut lab = Lab::new();
    let mut request = json!({"effectiveSettings": true, "maxResults": 4});
    let mut sizes = Vec::new();
    loop {
        let answer = lab.ok(0, ListAccountSettings, &request);
        sizes.push(answer["settings"].as_array().expect("a list").len());
        match &answer["nextToken"] {
            Value::Null => break,
            token => request["nextToken"] = token.clone(),
        }
    }
    assert_eq!(sizes, [4, 4, 3]);
}

#[test]
fn what_works_can_be_set_and_set_back() {
    let mut lab = Lab::new();
    for (name, values) in [
        ("containerInsights", &["enabled", "enhanced", "disabled"][..]),
        ("defaultLogDriverMode", &["blocking", "non-blocking"]),
        ("serviceLongArnFormat", &["enabled"]),
        ("taskLongArnFormat", &["enabled"]),
        ("containerInstanceLongArnFormat", &["enabled"]),
        ("awsvpcTrunking", &["disabled"]),
        ("fargateFIPSMode", &["disabled"]),
        ("fargateEventWindows", &["disabled"]),
        ("fargateTaskRetirementWaitPeriod", &["7"]),
        ("tagResourceAuthorization", &["on"]),
    ] {
        for value in values {
            let expected = [format!("{name}={value}")];
            assert_eq!([put(&mut lab, name, value)], expected);
            assert_eq!(listed(&mut lab, &json!({"name": name})), expected);
            assert_eq!(listed(&mut lab, &json!({"name": name, "effectiveSettings": true})), expected);
        }
    }
}

#[test]
fn what_cannot_be_is_refused_with_the_reason() {
    let mut lab = Lab::new();
    let unsupported = "UnsupportedFeatureException";
    for (name, value, code, words) in [
        ("taskLongArnFormat", "disabled", INVALID, "You can no longer disable Long Arn settings"),
        ("serviceLongArnFormat", "disabled", INVALID, "You can no longer disable Long Arn settings"),
        ("containerInstanceLongArnFormat", "disabled", INVALID, "You can no longer disable Long Arn settings"),
        ("tagResourceAuthorization", "off", INVALID, "no longer disable"),
        ("guardDutyActivate", "on", INVALID, "read-only"),
        ("guardDutyActivate", "off", INVALID, "read-only"),
        ("awsvpcTrunking", "enabled", unsupported, "awsvpcTrunking: enabled"),
        ("fargateFIPSMode", "enabled", unsupported, "fargateFIPSMode: enabled"),
        ("fargateEventWindows", "enabled", unsupported, "fargateEventWindows: enabled"),
        ("fargateTaskRetirementWaitPeriod", "0", unsupported, "fargateTaskRetirementWaitPeriod: 0"),
        ("fargateTaskRetirementWaitPeriod", "14", unsupported, "fargateTaskRetirementWaitPeriod: 14"),
        ("fargateTaskRetirementWaitPeriod", "8", INVALID, "Invalid setting 'value'"),
        ("containerInsights", "ENABLED", INVALID, "Invalid setting 'value'"),
        ("taskLongArnFormat", "", INVALID, "Invalid setting 'value'"),
        ("tagResourceAuthorization", "enabled", INVALID, "Invalid setting 'value'"),
        ("defaultLogDriverMode", "on", INVALID, "Invalid setting 'value'"),
    ] {
        let request = json!({"name": name, "value": value});
        for operation in [PutAccountSetting, PutAccountSettingDefault] {
            let (refused, message) = lab.refused(0, operation, &request);
            assert_eq!(refused, code, "{request}: {message}");
            assert!(message.contains(words), "{request}: {message}");
        }
    }
    let (code, message) = lab.refused(0, DeleteAccountSetting, &json!({"name": "guardDutyActivate"}));
    assert!(code == INVALID && message.contains("read-only"), "{code}: {message}");
}

#[test]
fn every_value_of_ecs_is_known() {
    for name in Name::ALL {
        assert!(!matches!(verdict(*name, default(*name)), Verdict::NoValue | Verdict::Unsupported), "{name}");
    }
}

#[test]
fn the_root_user_s_settings_hold_for_all_who_have_none() {
    let mut lab = Lab::new();
    let own = lab.ok(0, PutAccountSetting, &put_for(USER, "containerInsights", "enabled"));
    assert_eq!(told(&own["setting"]), format!("containerInsights=enabled of {USER}"));
    let mine =
        |effective: bool| json!({"name": "containerInsights", "principalArn": USER, "effectiveSettings": effective});
    lab.ok(0, PutAccountSetting, &json!({"name": "containerInsights", "value": "enhanced"}));
    assert_eq!(listed(&mut lab, &json!({})), ["containerInsights=enhanced"], "PutAccountSetting of the root user");
    assert_eq!(listed(&mut lab, &mine(true)), [format!("containerInsights=enabled of {USER}")], "one's own wins");

    let deleted = lab.ok(0, DeleteAccountSetting, &json!({"name": "containerInsights", "principalArn": USER}));
    assert_eq!(told(&deleted["setting"]), format!("containerInsights=enhanced of {USER}"), "what holds from now on");
    assert_eq!(listed(&mut lab, &mine(false)), [""; 0]);
    assert_eq!(listed(&mut lab, &mine(true)), ["containerInsights=enhanced"], "the root user's");

    lab.ok(0, DeleteAccountSetting, &json!({"name": "containerInsights"}));
    assert_eq!(listed(&mut lab, &mine(true)), ["containerInsights=disabled"], "ECS's own");
    lab.ok(0, DeleteAccountSetting, &json!({"name": "containerInsights"}));
}

#[test]
fn only_principals_of_the_account_have_settings() {
    let mut lab = Lab::new();
    for good in [ROOT, USER, "arn:aws:iam::000000000000:role/deployer", ""] {
        lab.ok(0, PutAccountSetting, &put_for(good, "taskLongArnFormat", "enabled"));
        lab.ok(0, ListAccountSettings, &json!({"principalArn": good}));
    }
    let long = format!("{USER}{}", "x".repeat(limits::PRINCIPAL_ARN));
    for bad in [
        "me",
        "arn:aws:iam::111111111111:root",
        "arn:aws:iam::000000000000:user/",
        "arn:aws:iam::000000000000:group/all",
        "arn:aws:sts::000000000000:assumed-role/deployer/me",
        "arn:aws:iam::000000000000:user/a b",
        &long,
    ] {
        let named = json!({"name": "taskLongArnFormat", "principalArn": bad});
        for (operation, request) in [
            (PutAccountSetting, put_for(bad, "taskLongArnFormat", "enabled")),
            (DeleteAccountSetting, named.clone()),
            (ListAccountSettings, named),
        ] {
            assert_eq!(lab.refused(0, operation, &request).0, INVALID, "{bad}");
        }
    }
    let (code, message) = lab.refused(0, PutAccountSetting, &put_for(USER, "fargateTaskRetirementWaitPeriod", "7"));
    assert!(code == INVALID && message.contains("root user alone"), "{code}: {message}");
}

#[test]
fn a_listing_is_filtered_by_name_and_value() {
    let mut lab = Lab::new();
    let effective = |more: Value| {
        let mut request = json!({"effectiveSettings": true});
        request.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        request
    };
    let by = |value: &str| effective(json!({"name": "awsvpcTrunking", "value": value}));
    assert_eq!(listed(&mut lab, &by("disabled")), ["awsvpcTrunking=disabled"]);
    assert_eq!(listed(&mut lab, &by("enabled")), [""; 0]);
    let (code, message) = lab.refused(0, ListAccountSettings, &effective(json!({"value": "enabled"})));
    assert!(code == INVALID && message.contains("name"), "{code}: {message}");
}

#[test]
fn settings_survive_the_store() {
    let mut lab = Lab::new();
    lab.ok(0, PutAccountSetting, &put_for(USER, "containerInsights", "enabled"));
    let stored: Vec<_> = lab.cell.entities().filter(|entity| matches!(entity, Entity::Setting(_))).collect();
    let [setting] = stored.as_slice() else { panic!("{stored:?}") };
    let (key, value) = (setting.key().encode(), setting.encode().expect("JSON"));
    assert_eq!(key, format!("s{USER}\0containerInsights").as_bytes());
    let expected = json!({"key": {"principal": USER, "name": "containerInsights"}, "value": "enabled"});
    assert_eq!(serde_json::from_slice::<Value>(&value).expect("JSON"), expected);
    assert_eq!(Entity::decode(&key, &value).expect("reads"), *setting);
}
