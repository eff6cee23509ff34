"""Account settings: defaults, who has which, what can be changed, and what comes of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from conftest import Stage
from support import docker
from support.ecs import Tasks, container, refused
from support.processes import Agent, AwsCli, Server

DEFAULTS = {
    "awsvpcTrunking": "disabled",
    "containerInsights": "disabled",
    "containerInstanceLongArnFormat": "enabled",
    "defaultLogDriverMode": "non-blocking",
    "fargateEventWindows": "disabled",
    "fargateFIPSMode": "disabled",
    "fargateTaskRetirementWaitPeriod": "7",
    "guardDutyActivate": "off",
    "serviceLongArnFormat": "enabled",
    "tagResourceAuthorization": "on",
    "taskLongArnFormat": "enabled",
}


@pytest.fixture(autouse=True)
def as_it_was(ecs: Any) -> Iterator[None]:
    """The server of the file is shared: what a test sets does not stay."""
    yield
    for setting in all_settings(ecs):
        ecs.delete_account_setting(name=setting["name"])


def all_settings(ecs: Any, **arguments: Any) -> list[dict[str, str]]:
    """ListAccountSettings, all pages."""
    pages = ecs.get_paginator("list_account_settings").paginate(**arguments)
    return [setting for page in pages for setting in page["settings"]]


def values(ecs: Any, **arguments: Any) -> dict[str, str]:
    """The settings listed, by name."""
    return {setting["name"]: setting["value"] for setting in all_settings(ecs, **arguments)}


def root(server: Server) -> str:
    """The ARN of the root user."""
    return f"arn:aws:iam::{server.account}:root"


def user(server: Server) -> str:
    """The ARN of some user."""
    return f"arn:aws:iam::{server.account}:user/deployer"


def test_the_defaults_are_those_of_ecs(ecs: Any, server: Server) -> None:
    settings = all_settings(ecs, effectiveSettings=True)
    assert {setting["name"]: setting["value"] for setting in settings} == DEFAULTS
    assert {setting["principalArn"] for setting in settings} == {root(server)}
    managed = {setting["name"] for setting in settings if setting["type"] == "aws_managed"}
    assert managed == {"guardDutyActivate"}
    assert all_settings(ecs) == [], "nothing is set"


def test_a_listing_has_pages_and_filters(ecs: Any) -> None:
    first = ecs.list_account_settings(effectiveSettings=True, maxResults=10)
    assert len(first["settings"]) == 10
    rest = ecs.list_account_settings(effectiveSettings=True, nextToken=first["nextToken"])
    assert [setting["name"] for setting in rest["settings"]] == ["taskLongArnFormat"]
    assert "nextToken" not in rest
    invalid = "InvalidParameterException"
    refused(ecs.list_account_settings, invalid, nextToken=first["nextToken"])
    refused(ecs.list_account_settings, invalid, maxResults=11)
    refused(ecs.list_account_settings, invalid, value="enabled")
    refused(ecs.list_account_settings, invalid, name="dualStackIPv6")
    found = all_settings(ecs, effectiveSettings=True, name="containerInsights", value="disabled")
    assert len(found) == 1
    assert not all_settings(
        ecs, effectiveSettings=True, name="containerInsights", value="enabled"
    )


def test_the_root_user_sets_the_default_and_others_may_differ(ecs: Any, server: Server) -> None:
    name = "containerInsights"
    answer = ecs.put_account_setting_default(name=name, value="enabled")["setting"]
    expected = {"name": name, "value": "enabled", "principalArn": root(server), "type": "user"}
    assert answer == expected
    assert all_settings(ecs) == [expected], "the root user's setting is the default"
    own = ecs.put_account_setting(name=name, value="enhanced", principalArn=user(server))
    assert own["setting"] == {**expected, "value": "enhanced", "principalArn": user(server)}
    effective = values(ecs, principalArn=user(server), effectiveSettings=True)
    assert effective == {**DEFAULTS, name: "enhanced"}
    answer = ecs.delete_account_setting(name=name, principalArn=user(server))["setting"]
    assert answer["value"] == "enabled", "the default holds again"
    assert all_settings(ecs, principalArn=user(server)) == []
    refused(
        ecs.put_account_setting,
        "InvalidParameterException",
        name=name,
        value="enabled",
        principalArn="arn:aws:iam::000000000000:root",
    )


@pytest.mark.parametrize(
    ("name", "value", "code", "words"),
    [
        (
            "taskLongArnFormat",
            "disabled",
            "InvalidParameterException",
            "You can no longer disable Long Arn settings",
        ),
        ("containerInsights", "ENABLED", "InvalidParameterException", "Invalid setting 'value'"),
        ("guardDutyActivate", "on", "InvalidParameterException", "read-only"),
        ("tagResourceAuthorization", "off", "InvalidParameterException", "no longer disable"),
        ("fargateFIPSMode", "enabled", "UnsupportedFeatureException", "fargateFIPSMode"),
        ("awsvpcTrunking", "enabled", "UnsupportedFeatureException", "awsvpcTrunking"),
        ("dualStackIPv6", "enabled", "InvalidParameterException", "defaultLogDriverMode"),
    ],
)
def test_what_cannot_be_set_says_why(
    ecs: Any, name: str, value: str, code: str, words: str
) -> None:
    for call in (ecs.put_account_setting, ecs.put_account_setting_default):
        assert words in refused(call, code, name=name, value=value)
    assert values(ecs, effectiveSettings=True) == DEFAULTS


def test_settings_survive_the_server_and_hold_for_new_clusters(stage: Stage) -> None:
    server = stage.server()
    server.client().put_account_setting(name="containerInsights", value="enhanced")
    server.kill()
    server.start()
    ecs = server.client()
    assert values(ecs) == {"containerInsights": "enhanced"}

    def insights(name: str, **arguments: Any) -> str:
        made = ecs.create_cluster(clusterName=name, **arguments)["cluster"]
        return made["settings"][0]["value"]

    assert insights("new") == "enhanced"
    disabled = [{"name": "containerInsights", "value": "disabled"}]
    assert insights("own", settings=disabled) == "disabled", "the caller wins"
    assert insights("default") == "disabled", "what was there stays as it was"


def test_the_default_mode_of_log_drivers_reaches_docker(
    ecs: Any, agent: Agent, tasks: Tasks
) -> None:
    def options(**given: str) -> dict[str, str]:
        logging = {"logDriver": "json-file", "options": given}
        arn = tasks.start(container("main", "sleep", logConfiguration=logging))
        return docker.of_task(arn)["main"]["HostConfig"]["LogConfig"]["Config"]

    assert options() == {"mode": "non-blocking", "max-buffer-size": "10m"}
    assert options(mode="blocking") == {"mode": "blocking"}, "the definition wins"
    ecs.put_account_setting_default(name="defaultLogDriverMode", value="blocking")
    assert options() == {"mode": "blocking"}
    own = {"mode": "non-blocking", "max-buffer-size": "2m"}
    assert options(**own) == own


def test_the_command_line_sees_the_same(aws: AwsCli) -> None:
    put = ("put-account-setting", "--name", "containerInsights", "--value", "enabled")
    assert aws(*put)["setting"]["value"] == "enabled"
    listed = aws("list-account-settings", "--effective-settings")["settings"]
    assert {setting["name"]: setting["value"] for setting in listed} == {
        **DEFAULTS,
        "containerInsights": "enabled",
    }, "all pages"
    assert len(aws("list-account-settings")["settings"]) == 1
    aws("delete-account-setting", "--name", "containerInsights")
    assert aws("list-account-settings")["settings"] == []
