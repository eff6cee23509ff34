"""`sts get-caller-identity`, the first call of many tools; and services that are not here."""

from __future__ import annotations

import json
import subprocess
import urllib.request
import uuid
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from support.admin import Admin
from support.processes import REGION, AwsCli, Server

OTHER_KEY = {"accessKeyId": "AKIAIOSFODNN7EXAMPLE", "secretAccessKey": "wJalrXUtnFEMI/K7MDENG"}


def client(server: Server, key: dict[str, str], service: str = "sts", region: str = REGION) -> Any:
    """A boto3 client of any service, pointed at the server."""
    return boto3.client(
        service,
        endpoint_url=server.endpoint,
        region_name=region,
        aws_access_key_id=key["accessKeyId"],
        aws_secret_access_key=key["secretAccessKey"],
        config=Config(retries={"total_max_attempts": 1}),
    )


def refusal(call: Any, **parameters: Any) -> tuple[int, str, str]:
    """Status, code and message of an error answer, which must carry its request id."""
    with pytest.raises(ClientError) as caught:
        call(**parameters)
    facts = caught.value.response
    assert facts["ResponseMetadata"]["RequestId"], facts
    status = facts["ResponseMetadata"]["HTTPStatusCode"]
    return status, facts["Error"]["Code"], facts["Error"]["Message"]


def test_the_owner_is_the_account_itself(server: Server) -> None:
    answer = client(server, server.key).get_caller_identity()
    assert answer["Account"] == answer["UserId"] == server.account
    assert answer["Arn"] == f"arn:aws:iam::{server.account}:root"
    assert len(answer["ResponseMetadata"]["RequestId"]) == 36


def test_a_machine_and_a_join_token_are_themselves(server: Server, cluster: str) -> None:
    token = Admin(server)("CreateJoinToken", cluster=cluster)["token"]
    token_id, secret = token.split(".", 1)
    joiner = {"accessKeyId": token_id, "secretAccessKey": secret}
    machine = Admin(server, joiner)("JoinContainerInstance", clientToken=str(uuid.uuid4()))
    for key, kind in ((joiner, "join-token"), (machine, "instance")):
        answer = client(server, key).get_caller_identity()
        assert answer["UserId"] == key["accessKeyId"]
        assert answer["Arn"] == f"arn:aws:iam::{server.account}:{kind}/{key['accessKeyId']}"


def test_the_aws_cli_prints_it_in_every_form(server: Server, aws: AwsCli) -> None:
    """It is told where STS is by `longshore env`, like ECS."""
    assert aws.environment["AWS_ENDPOINT_URL_STS"] == server.endpoint
    arn = f"arn:aws:iam::{server.account}:root"

    def run(output: str) -> str:
        command = [str(aws.program), "sts", "get-caller-identity", "--output", output]
        done = subprocess.run(
            command, capture_output=True, text=True, env=aws.environment, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    expected = {"UserId": server.account, "Account": server.account, "Arn": arn}
    assert json.loads(run("json")) == expected
    assert run("text").split() == [server.account, arn, server.account]
    table = run("table")
    assert "GetCallerIdentity" in table and arn in table


def test_a_presigned_query_is_answered(server: Server) -> None:
    url = client(server, server.key).generate_presigned_url("get_caller_identity", HttpMethod="GET")
    with urllib.request.urlopen(url, timeout=20) as answer:
        text = answer.read().decode()
    assert f"<Arn>arn:aws:iam::{server.account}:root</Arn>" in text


def test_who_is_not_known_is_told_so_in_the_words_of_sts(server: Server) -> None:
    status, code, _ = refusal(client(server, OTHER_KEY).get_caller_identity)
    assert (status, code) == (403, "InvalidClientTokenId")
    wrong = server.key | {"secretAccessKey": "x" * 40}
    status, code, _ = refusal(client(server, wrong).get_caller_identity)
    assert (status, code) == (403, "SignatureDoesNotMatch")
    elsewhere = client(server, server.key, region="eu-west-1")
    status, code, message = refusal(elsewhere.get_caller_identity)
    assert (status, code) == (403, "SignatureDoesNotMatch") and REGION in message


def test_what_sts_does_besides_is_refused_by_name(server: Server) -> None:
    sts = client(server, server.key)
    role = "arn:aws:iam::000000000000:role/x"
    status, code, message = refusal(sts.assume_role, RoleArn=role, RoleSessionName="mine")
    assert (status, code) == (400, "InvalidAction") and "AssumeRole" in message


@pytest.mark.parametrize(
    ("service", "call"),
    [
        ("iam", "list_users"),
        ("elbv2", "describe_load_balancers"),
        ("ec2", "describe_vpcs"),
        ("s3", "list_buckets"),
        ("route53", "list_hosted_zones"),
        ("lambda", "list_functions"),
        ("logs", "describe_log_groups"),
        ("dynamodb", "list_tables"),
        ("servicediscovery", "list_namespaces"),
        ("cloudwatch", "list_metrics"),
    ],
)
def test_other_services_are_refused_so_that_their_clients_understand(
    server: Server, service: str, call: str
) -> None:
    """Query, EC2, REST in XML and JSON, awsJson, CBOR: each client reads code and message."""
    status, code, message = refusal(getattr(client(server, server.key, service), call))
    assert status == 400 and code in ("InvalidAction", "UnknownOperationException")
    assert "Longshore serves ECS, STS" in message and "AWS_ENDPOINT_URL_ECS" in message
