"""Parameters and secrets: boto3 and the AWS CLI fill them, tasks get them, nobody else does."""

from __future__ import annotations

import base64
import json
import subprocess
import uuid
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

from conftest import Stage
from support import docker
from support.ecs import Tasks, container, refused
from support.processes import REGION, Agent, AwsCli, Server
from support.wire import Wire
from test_agent.acs import Acs, Timeline
from test_agent.instance import Instance

HIDDEN = f"hidden-{uuid.uuid4().hex}"
ROLE = "arn:aws:iam::000000000000:role/fetch"
# What such a task needs of its definition, and no more: no network.
PREPARED = {"executionRoleArn": ROLE, "networkMode": "none"}


def client(server: Server, service: str, credentials: dict[str, str] | None = None) -> Any:
    """A boto3 client of a service, as the owner or with credentials of a role."""
    key = server.key
    role = credentials or {}
    return boto3.client(
        service,
        endpoint_url=server.endpoint,
        region_name=REGION,
        aws_access_key_id=role.get("accessKeyId", key["accessKeyId"]),
        aws_secret_access_key=role.get("secretAccessKey", key["secretAccessKey"]),
        aws_session_token=role.get("sessionToken"),
        config=Config(retries={"total_max_attempts": 1}),
    )


@pytest.fixture(scope="module")
def ssm(server: Server) -> Any:
    """The Parameter Store."""
    return client(server, "ssm")


@pytest.fixture(scope="module")
def vault(server: Server) -> Any:
    """Secrets Manager."""
    return client(server, "secretsmanager")


@pytest.fixture
def name() -> str:
    """A name of its own for each test."""
    return f"n-{uuid.uuid4().hex[:10]}"


def test_a_parameter_is_kept_by_version(ssm: Any, server: Server, name: str) -> None:
    path = f"/app/{name}"
    made = ssm.put_parameter(Name=path, Value="one", Type="SecureString", Description="d")
    assert (made["Version"], made["Tier"]) == (1, "Standard")
    again = {"Name": path, "Value": "two", "Type": "SecureString"}
    refused(ssm.put_parameter, "ParameterAlreadyExists", **again)
    assert ssm.put_parameter(Name=path, Value="two", Overwrite=True)["Version"] == 2
    arn = f"arn:aws:ssm:{REGION}:{server.account}:parameter{path}"
    answer = ssm.get_parameters(Names=[path, "absent"], WithDecryption=True)
    assert answer["InvalidParameters"] == ["absent"]
    (found,) = answer["Parameters"]
    assert (found["Name"], found["Value"], found["ARN"]) == (path, "two", arn)
    assert (found["Type"], found["Version"], found["DataType"]) == ("SecureString", 2, "text")
    (old,) = ssm.get_parameters(Names=[f"{path}:1"], WithDecryption=True)["Parameters"]
    assert (old["Value"], old["Selector"]) == ("one", ":1")
    (by_arn,) = ssm.get_parameters(Names=[arn], WithDecryption=True)["Parameters"]
    assert (by_arn["Name"], by_arn["Value"]) == (path, "two")
    (closed,) = ssm.get_parameters(Names=[path])["Parameters"]
    assert closed["Value"] not in ("one", "two")
    ssm.delete_parameter(Name=path)
    refused(ssm.delete_parameter, "ParameterNotFound", Name=path)


def test_parameters_that_break_a_rule_are_refused(ssm: Any, name: str) -> None:
    for bad, code in [
        ("a b", "ValidationException"),
        ("/ssm/x", "ValidationException"),
        ("/aws/x", "AccessDeniedException"),
        ("a/b", "ValidationException"),
        ("/a" * 16, "HierarchyLevelLimitExceededException"),
    ]:
        refused(ssm.put_parameter, code, Name=bad, Value="x", Type="String")
    put = ssm.put_parameter
    refused(put, "ValidationException", Name=name, Value="x")
    refused(put, "ValidationException", Name=name, Value="x" * 4097, Type="String")
    policies = {"Name": name, "Value": "x", "Type": "String", "Policies": "[]"}
    assert "Policies" in refused(put, "ValidationException", **policies)
    large = put(Name=name, Value="x" * 4097, Type="String", Tier="Intelligent-Tiering")
    assert large["Tier"] == "Advanced"
    eleven = [f"p{n}" for n in range(11)]
    refused(ssm.get_parameters, "ValidationException", Names=eleven)
    refused(ssm.describe_parameters, "UnknownOperationException")


def test_a_secret_has_a_current_and_a_previous_version(
    vault: Any, server: Server, name: str
) -> None:
    made = vault.create_secret(Name=name, SecretString="one", Tags=[{"Key": "k", "Value": "v"}])
    arn = made["ARN"]
    assert arn.startswith(f"arn:aws:secretsmanager:{REGION}:{server.account}:secret:{name}-")
    for secret_id in (name, arn, arn.rsplit("-", 1)[0]):
        found = vault.get_secret_value(SecretId=secret_id)
        assert (found["SecretString"], found["VersionStages"]) == ("one", ["AWSCURRENT"])
        assert (found["ARN"], found["Name"], found["VersionId"]) == (arn, name, made["VersionId"])
    refused(vault.create_secret, "ResourceExistsException", Name=name, SecretString="two")
    put = vault.put_secret_value(SecretId=name, SecretBinary=b"\0\1two")
    assert put["VersionStages"] == ["AWSCURRENT"]
    assert vault.get_secret_value(SecretId=name)["SecretBinary"] == b"\0\1two"
    previous = vault.get_secret_value(SecretId=name, VersionStage="AWSPREVIOUS")
    assert (previous["SecretString"], previous["VersionId"]) == ("one", made["VersionId"])
    get = vault.get_secret_value
    refused(get, "ResourceNotFoundException", SecretId=name, VersionStage="NONE")
    refused(get, "ResourceNotFoundException", SecretId="absent-secret")
    refused(vault.put_secret_value, "InvalidRequestException", SecretId=name)
    refused(vault.create_secret, "ValidationException", Name="a b", SecretString="x")
    both = {"Name": f"{name}2", "SecretString": "x", "SecretBinary": b"x"}
    refused(vault.create_secret, "InvalidParameterException", **both)


def test_a_token_makes_one_version(vault: Any, name: str) -> None:
    token = str(uuid.uuid4())
    made = vault.create_secret(Name=name, SecretString="one", ClientRequestToken=token)
    again = vault.create_secret(Name=name, SecretString="one", ClientRequestToken=token)
    assert (made["ARN"], made["VersionId"]) == (again["ARN"], token)
    change = {"SecretId": name, "ClientRequestToken": token, "SecretString": "two"}
    refused(vault.put_secret_value, "ResourceExistsException", **change)


def test_a_deleted_secret_holds_its_name(vault: Any, name: str) -> None:
    vault.create_secret(Name=name, SecretString="one")
    short = {"SecretId": name, "RecoveryWindowInDays": 3}
    refused(vault.delete_secret, "InvalidParameterException", **short)
    deleted = vault.delete_secret(SecretId=name, RecoveryWindowInDays=7)
    assert deleted["Name"] == name and deleted["DeletionDate"]
    refused(vault.get_secret_value, "InvalidRequestException", SecretId=name)
    refused(vault.create_secret, "InvalidRequestException", Name=name, SecretString="x")
    vault.delete_secret(SecretId=name, ForceDeleteWithoutRecovery=True)
    refused(vault.get_secret_value, "ResourceNotFoundException", SecretId=name)
    vault.create_secret(Name=name, SecretString="two")


def test_the_aws_cli_is_told_where_they_are(aws: AwsCli, server: Server, name: str) -> None:
    def run(*arguments: str) -> dict[str, Any]:
        command = [str(aws.program), *arguments, "--output", "json"]
        done = subprocess.run(
            command, capture_output=True, text=True, env=aws.environment, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    run("ssm", "put-parameter", "--name", name, "--value", "v1", "--type", "SecureString")
    answer = run("ssm", "get-parameters", "--names", name, "--with-decryption")
    assert answer["Parameters"][0]["Value"] == "v1"
    run("secretsmanager", "create-secret", "--name", name, "--secret-string", '{"user":"u"}')
    answer = run("secretsmanager", "get-secret-value", "--secret-id", name)
    assert json.loads(answer["SecretString"]) == {"user": "u"}


@pytest.mark.parametrize(
    ("service", "operations"),
    [
        ("ssm", "GetParameters PutParameter DeleteParameter"),
        ("secretsmanager", "GetSecretValue CreateSecret PutSecretValue DeleteSecret"),
    ],
)
def test_every_member_of_the_models_is_known(
    server: Server, wire: Wire, service: str, operations: str
) -> None:
    """Obeyed or refused by name: one that is not known would be taken and ignored."""
    model = client(server, service).meta.service_model
    for operation in operations.split():
        for member in model.operation_model(operation).input_shape.members:
            request = wire.request("", {member: {"of": "another type"}})
            request.headers.replace_header(
                "X-Amz-Target", f"{model.metadata['targetPrefix']}.{operation}"
            )
            answer = wire.send(wire.sign(request, service=service))
            assert answer.error == "SerializationException", (operation, member, answer.text)
            assert answer.message.startswith(member), answer.text


def test_values_lie_encrypted_and_the_key_elsewhere(stage: Stage, name: str) -> None:
    server = stage.server()
    key = server.data.with_name(f"{server.data.name}.secrets-key")
    assert not key.exists()
    client(server, "ssm").put_parameter(Name=name, Value=HIDDEN, Type="String")
    client(server, "secretsmanager").create_secret(Name=name, SecretString=HIDDEN)
    assert key.stat().st_mode & 0o777 == 0o600
    assert server.end() == 0
    for file in [*server.data.rglob("*"), server.log]:
        if file.is_file():
            data = file.read_bytes()
            for form in (HIDDEN.encode(), base64.b64encode(HIDDEN.encode())):
                assert form not in data, file
    server.start()
    (found,) = client(server, "ssm").get_parameters(Names=[name])["Parameters"]
    assert found["Value"] == HIDDEN
    # Without the key nothing is read, and no other key takes its place.
    server.end()
    kept = key.read_bytes()
    key.unlink()
    server.start()
    vault, ssm = client(server, "secretsmanager"), client(server, "ssm")
    refused(vault.get_secret_value, "DecryptionFailure", SecretId=name)
    refused(ssm.put_parameter, "InvalidKeyId", Name="other", Value="x", Type="String")
    assert not key.exists() and "bring" in server.log.read_text()
    server.end()
    key.write_bytes(kept)
    key.chmod(0o600)
    server.start()
    vault = client(server, "secretsmanager")
    assert vault.get_secret_value(SecretId=name)["SecretString"] == HIDDEN


def test_the_key_is_not_kept_in_the_data_directory(tmp_path: Path) -> None:
    server = Server(tmp_path, "000000000000", "--secrets-key", str(tmp_path / "data" / "key"))
    server.launch()
    assert server.child is not None and server.child.wait(20) != 0
    assert "--secrets-key" in server.tail() and "data directory" in server.tail()


def test_a_machines_key_and_a_strangers_open_nothing(ssm: Any, server: Server, name: str) -> None:
    ssm.put_parameter(Name=name, Value="v", Type="String")
    stranger = {"accessKeyId": "AKIAIOSFODNN7EXAMPLE", "secretAccessKey": "x" * 40}
    for foreign in (stranger, stranger | {"sessionToken": "e30.e30"}):
        get = client(server, "ssm", foreign).get_parameters
        refused(get, "UnrecognizedClientException", Names=[name])


@pytest.fixture
def references(ssm: Any, vault: Any, name: str) -> dict[str, str]:
    """A parameter and a secret, by the names and ARNs that definitions refer to them with."""
    ssm.put_parameter(Name=f"/app/{name}", Value=HIDDEN, Type="SecureString")
    ssm.put_parameter(Name=f"other-{name}", Value="other", Type="String")
    secret = vault.create_secret(Name=name, SecretString=json.dumps({"user": "u", "port": 5432}))
    return {"parameter": f"/app/{name}", "secret": secret["ARN"], "other": f"other-{name}"}


def definition(references: dict[str, str], *command: str) -> dict[str, Any]:
    """A container that gets both."""
    return container(
        "main",
        *command,
        secrets=[
            {"name": "PASSWORD", "valueFrom": references["parameter"]},
            {"name": "USER_NAME", "valueFrom": f"{references['secret']}:user::"},
            {"name": "PORT", "valueFrom": f"{references['secret']}:port::"},
            {"name": "WHOLE", "valueFrom": references["secret"]},
        ],
    )


def test_an_agent_is_given_credentials_for_what_the_task_refers_to(
    ecs: Any,
    server: Server,
    cluster: str,
    family: str,
    instance: Instance,
    references: dict[str, str],
) -> None:
    """The official agent's side: executionRoleCredentials, and what they open (2.6, 2.7)."""
    tasks = Tasks(ecs, cluster, family)
    timeline = Timeline()
    with Acs(instance, timeline) as acs:
        server.wait_for_instance(cluster)
        arn = tasks.run(tasks.define(definition(references), **PREPARED))
        payload = acs.payload()
        acs.ack(payload)
        (task,) = payload["tasks"]
        role = task["executionRoleCredentials"]
        assert role["roleArn"] == ROLE and role["expiration"].endswith("Z")
        assert {"ssm", "asm"} == {secret["provider"] for secret in task["containers"][0]["secrets"]}
    ssm, vault = client(server, "ssm", role), client(server, "secretsmanager", role)
    one = [references["parameter"]]
    (found,) = ssm.get_parameters(Names=one, WithDecryption=True)["Parameters"]
    assert found["Value"] == HIDDEN
    assert vault.get_secret_value(SecretId=references["secret"])["Name"] in references["secret"]
    names = [references["parameter"], references["other"]]
    assert ROLE.split("/")[1] in refused(ssm.get_parameters, "AccessDeniedException", Names=names)
    put = {"Name": references["parameter"], "Value": "x", "Overwrite": True}
    refused(ssm.put_parameter, "AccessDeniedException", **put)
    refused(client(server, "ecs", role).list_clusters, "AccessDeniedException")
    wrong = role | {"sessionToken": role["sessionToken"][:-2] + "AA"}
    refused(client(server, "ssm", wrong).get_parameters, "UnrecognizedClientException", Names=one)
    # One that was started anew has none, and is given them at once, under the same id.
    with Acs(instance, Timeline()) as acs:
        message = acs.receive("IAMRoleCredentialsMessage")
        assert (message["taskArn"], message["roleType"]) == (arn, "TaskExecution")
        assert message["roleCredentials"]["credentialsId"] == role["credentialsId"]
    with Acs(instance, timeline) as acs:
        acs.nothing("IAMRoleCredentialsMessage", 0.5)
    described = json.dumps(ecs.describe_tasks(cluster=cluster, tasks=[arn]), default=str)
    assert HIDDEN not in described and role["secretAccessKey"] not in described
    log = server.log.read_text()
    assert role["secretAccessKey"] not in log and HIDDEN not in log
    stopped = {"cluster": cluster, "task": arn, "status": "STOPPED"}
    instance.call("SubmitTaskStateChange", stopped)
    refused(ssm.get_parameters, "AccessDeniedException", Names=one)


def environment_of(task: str) -> dict[str, str]:
    """What Docker gave the only container of a task."""
    return docker.environment(docker.of_task(task)["main"])


def test_a_container_gets_its_secrets_and_nothing_keeps_them(
    tasks: Tasks, agent: Agent, ecs: Any, references: dict[str, str]
) -> None:
    arn = tasks.run(tasks.define(definition(references, "sleep"), **PREPARED))
    tasks.wait(arn, "RUNNING")
    environment = environment_of(arn)
    assert environment["PASSWORD"] == HIDDEN
    assert (environment["USER_NAME"], environment["PORT"]) == ("u", "5432")
    assert json.loads(environment["WHOLE"]) == {"user": "u", "port": 5432}
    data = Path(agent.settings["ECS_DATADIR"])
    for file in [*data.rglob("*"), agent.log, Path(agent.settings["ECS_LOGFILE"])]:
        if file.is_file():
            assert HIDDEN.encode() not in file.read_bytes(), file
    assert HIDDEN not in json.dumps(ecs.describe_tasks(cluster="default", tasks=[arn]), default=str)


def test_a_secret_that_is_not_there_stops_the_task(
    tasks: Tasks, agent: Agent, references: dict[str, str]
) -> None:
    missing = references | {"parameter": "/not/there"}
    arn = tasks.run(tasks.define(definition(missing, "sleep"), **PREPARED))
    stopped = tasks.wait(arn, "STOPPED")
    reason = stopped["stoppedReason"]
    assert reason.startswith("ResourceInitializationError: fetching secret data from SSM Parameter")
    assert "/not/there" in reason


def test_a_log_driver_gets_its_secret_option(
    module_stage: Stage,
    ecs: Any,
    server: Server,
    images: None,
    family: str,
    name: str,
    references: dict[str, str],
) -> None:
    cluster = f"c-{name}"
    ecs.create_cluster(clusterName=cluster)
    module_stage.agent(server, cluster, ECS_AVAILABLE_LOGGING_DRIVERS='["gelf"]')
    tasks = Tasks(ecs, cluster, family)
    logging = {
        "logDriver": "gelf",
        "options": {"gelf-address": "udp://127.0.0.1:12201"},
        "secretOptions": [{"name": "tag", "valueFrom": references["parameter"]}],
    }
    arn = tasks.run(tasks.define(container("main", "sleep", logConfiguration=logging), **PREPARED))
    tasks.wait(arn, "RUNNING")
    config = docker.of_task(arn)["main"]["HostConfig"]["LogConfig"]
    assert (config["Type"], config["Config"]["tag"]) == ("gelf", HIDDEN)
    assert config["Config"]["gelf-address"] == "udp://127.0.0.1:12201"
    tasks.stop_all()


def test_a_foreign_endpoint_has_the_secrets(
    module_stage: Stage, ecs: Any, server: Server, images: None, family: str, name: str
) -> None:
    """Another service knows nothing of our roles: it is called with the machine's own AWS keys."""
    elsewhere = Server(module_stage.folder / f"elsewhere-{name}", server.account)
    elsewhere.data.mkdir(parents=True, mode=0o700)
    key = elsewhere.data / "root-access-key"
    key.write_text(json.dumps(server.key))
    key.chmod(0o600)
    module_stage.processes.append(elsewhere)
    elsewhere.start()
    client(elsewhere, "ssm").put_parameter(Name=f"/app/{name}", Value="foreign", Type="String")
    vault = client(server, "secretsmanager")
    secret = vault.create_secret(Name=name, SecretString='{"user":"own"}')
    cluster = f"c-{name}"
    ecs.create_cluster(clusterName=cluster)
    module_stage.agent(server, cluster, AWS_ENDPOINT_URL_SSM=elsewhere.endpoint)
    tasks = Tasks(ecs, cluster, family)
    both = [
        {"name": "FOREIGN", "valueFrom": f"/app/{name}"},
        {"name": "OWN", "valueFrom": f"{secret['ARN']}:user::"},
    ]
    arn = tasks.run(tasks.define(container("main", "sleep", secrets=both), **PREPARED))
    tasks.wait(arn, "RUNNING")
    environment = environment_of(arn)
    assert (environment["FOREIGN"], environment["OWN"]) == ("foreign", "own")
    tasks.stop_all()
