"""The edge: what it says to requests that no well-behaved client sends (ECS-SEMANTICS 1)."""

from __future__ import annotations

import http.client
import json
import os
import socket
import stat
import subprocess
from typing import Any

import pytest
from botocore import xform_name
from botocore.credentials import Credentials

from support.ecs import refused
from support.processes import Server
from support.wire import CONTENT_TYPE, Answer, Wire

OTHER_SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"


def check_error(answer: Answer, status: tuple[int, ...], *codes: str) -> None:
    """The shape of every error: JSON, type, message, request id."""
    assert answer.status in status, answer
    assert answer.error in codes, answer
    assert answer.headers["content-type"].startswith("application/x-amz-json-1.1"), answer
    assert answer.headers["x-amzn-requestid"], answer


@pytest.mark.parametrize(
    "body", ['{"clusterName":', "nonsense", '{"clusterName":"a"}}', '"text"', "[]", b"\xff\xfe{}"]
)
def test_bad_json_is_a_serialization_exception(wire: Wire, body: Any) -> None:
    check_error(wire.call("CreateCluster", body), (400,), "SerializationException")


@pytest.mark.parametrize(
    ("operation", "body"),
    [
        ("CreateCluster", {"clusterName": 7}),
        ("CreateCluster", {"clusterName": ["a"]}),
        ("DescribeClusters", {"clusters": "default"}),
        ("DescribeClusters", {"clusters": [1]}),
        ("RunTask", {"taskDefinition": "x", "count": "three"}),
        ("RunTask", {"taskDefinition": "x", "enableECSManagedTags": "yes"}),
        ("RegisterTaskDefinition", {"family": "x", "containerDefinitions": [{"memory": "10"}]}),
        ("RegisterTaskDefinition", {"family": "x", "containerDefinitions": {}}),
    ],
)
def test_wrong_types_are_a_serialization_exception(
    wire: Wire, operation: str, body: dict[str, Any]
) -> None:
    check_error(wire.call(operation, body), (400,), "SerializationException")


@pytest.mark.parametrize(
    ("operation", "body", "member"),
    [
        ("RunTask", {}, "taskDefinition"),
        ("DescribeTasks", {"cluster": "default"}, "tasks"),
        ("StopTask", {"cluster": "default"}, "task"),
        ("DescribeTasks", {"tasks": ["x"], "include": ["EVERYTHING"]}, "include"),
        ("ListTasks", {"desiredStatus": "DANCING"}, "desiredStatus"),
    ],
)
def test_missing_members_and_unknown_enum_values_are_named(
    wire: Wire, operation: str, body: dict[str, Any], member: str
) -> None:
    answer = wire.call(operation, body)
    check_error(answer, (400,), "InvalidParameterException", "ClientException")
    assert member in answer.message


def test_unknown_members_and_nulls_are_ignored(wire: Wire) -> None:
    body = {"clusters": None, "futureMember": {"a": [1, {"b": None}]}, "include": []}
    answer = wire.call("DescribeClusters", body)
    assert answer.status == 200, answer
    assert "null" not in answer.text


def test_an_oversize_body_is_refused_in_json(wire: Wire, server: Server) -> None:
    """Refused before it is read: the declared length is enough."""
    connection = http.client.HTTPConnection(wire.host, timeout=10)
    connection.putrequest("POST", "/")
    connection.putheader("X-Amz-Target", "AmazonEC2ContainerServiceV20141113.CreateCluster")
    connection.putheader("Content-Type", CONTENT_TYPE)
    connection.putheader("Content-Length", str(1 << 32))
    connection.endheaders()
    answer = connection.getresponse()
    assert answer.status == 413
    assert "__type" in json.loads(answer.read())
    connection.close()
    assert server.client().list_clusters()["clusterArns"], "others are served as before"


def test_an_oversize_chunked_body_is_refused(wire: Wire) -> None:
    """No length is declared, so the limit counts what arrives."""
    connection = http.client.HTTPConnection(wire.host, timeout=20)
    headers = {
        "X-Amz-Target": "AmazonEC2ContainerServiceV20141113.CreateCluster",
        "Content-Type": CONTENT_TYPE,
    }
    try:
        connection.request(
            "POST", "/", (b" " * (1 << 20) for _ in range(64)), headers, encode_chunked=True
        )
        status = connection.getresponse().status
    except (BrokenPipeError, ConnectionResetError):
        status = 413  # closed while we still sent
    assert status in (413, 400, 403), "at most refused for its missing signature"
    connection.close()


def test_an_unsigned_request_is_refused(wire: Wire) -> None:
    answer = wire.send(wire.request("ListClusters", {}))
    check_error(answer, (400, 403), "MissingAuthenticationTokenException")


def test_a_wrong_secret_is_refused(wire: Wire, server: Server) -> None:
    spoiled = Wire(server.endpoint, server.key | {"secretAccessKey": OTHER_SECRET})
    answer = spoiled.call("ListClusters", {})
    check_error(answer, (400, 403), "InvalidSignatureException")
    assert server.key["secretAccessKey"] not in answer.text


def test_an_unknown_access_key_is_refused(wire: Wire, server: Server) -> None:
    spoiled = Wire(server.endpoint, server.key)
    spoiled.credentials = Credentials("AKIAIOSFODNN7EXAMPLE", OTHER_SECRET)
    check_error(spoiled.call("ListClusters", {}), (400, 403), "UnrecognizedClientException")


def test_a_changed_body_breaks_the_signature(wire: Wire) -> None:
    request = wire.sign(wire.request("CreateCluster", {"clusterName": "mine"}))
    request.data = request.data.replace(b"mine", b"ours")
    check_error(wire.send(request), (400, 403), "InvalidSignatureException")


def test_a_changed_target_breaks_the_signature(wire: Wire) -> None:
    request = wire.sign(wire.request("ListClusters", {}))
    del request.headers["X-Amz-Target"]
    request.headers["X-Amz-Target"] = "AmazonEC2ContainerServiceV20141113.CreateCluster"
    check_error(wire.send(request), (400, 403), "InvalidSignatureException")


@pytest.mark.parametrize(
    "authorization",
    ["AWS4-HMAC-SHA256", "AWS4-HMAC-SHA256 Credential=x, SignedHeaders=host", "Bearer abc"],
)
def test_a_malformed_authorization_is_refused(wire: Wire, authorization: str) -> None:
    request = wire.sign(wire.request("ListClusters", {}))
    del request.headers["Authorization"]
    request.headers["Authorization"] = authorization
    codes = ("IncompleteSignatureException", "MissingAuthenticationTokenException")
    check_error(wire.send(request), (400, 403), *codes, "InvalidSignatureException")


@pytest.mark.parametrize(("service", "region"), [("s3", "us-east-1"), ("ecs", "eu-west-1")])
def test_a_signature_for_elsewhere_is_refused(server: Server, service: str, region: str) -> None:
    wire = Wire(server.endpoint, server.key, region)
    answer = wire.send(wire.sign(wire.request("ListClusters", {}), service=service))
    check_error(answer, (400, 403), "InvalidSignatureException")


@pytest.mark.parametrize("shift", [-3600, -400, 400, 3600])
def test_a_skewed_clock_is_named(wire: Wire, shift: int) -> None:
    answer = wire.send(wire.sign(wire.request("ListClusters", {}), shift=shift))
    check_error(answer, (400, 403), "InvalidSignatureException")
    text = answer.message.lower()
    assert any(word in text for word in ("skew", "clock", "expired", "not yet", "earlier", "later"))


@pytest.mark.parametrize("shift", [-240, 240])
def test_a_little_skew_is_accepted(wire: Wire, shift: int) -> None:
    assert wire.send(wire.sign(wire.request("ListClusters", {}), shift=shift)).status == 200


def test_the_presigned_form_is_accepted(wire: Wire) -> None:
    answer = wire.send(wire.presign(wire.request("ListClusters", {})))
    assert answer.status == 200, answer
    assert answer.body["clusterArns"]


def test_the_presigned_form_expires(wire: Wire) -> None:
    answer = wire.send(wire.presign(wire.request("ListClusters", {}), expires=60, shift=-600))
    check_error(answer, (400, 403), "InvalidSignatureException")


def test_a_changed_presigned_form_is_refused(wire: Wire) -> None:
    request = wire.presign(wire.request("ListClusters", {}))
    request.url = request.url.replace("X-Amz-Expires=60", "X-Amz-Expires=61")
    check_error(wire.send(request), (400, 403), "InvalidSignatureException")


def test_an_unknown_operation_is_named_as_such(wire: Wire) -> None:
    check_error(wire.call("LaunchRocket", {}), (400,), "UnknownOperationException")


def test_a_foreign_target_is_an_unknown_operation(wire: Wire) -> None:
    request = wire.request("ListClusters", {})
    del request.headers["X-Amz-Target"]
    request.headers["X-Amz-Target"] = "DynamoDB_20120810.ListTables"
    check_error(wire.send(wire.sign(request)), (400, 404), "UnknownOperationException")


@pytest.mark.parametrize(
    ("operation", "parameters"),
    [
        ("CreateService", {"serviceName": "web", "taskDefinition": "web", "desiredCount": 1}),
        ("DescribeServices", {"services": ["web"]}),
        ("ExecuteCommand", {"task": "x", "command": "sh", "interactive": True}),
    ],
)
def test_an_operation_without_implementation_says_so(
    ecs: Any, operation: str, parameters: dict[str, Any]
) -> None:
    """It never pretends (ECS-SEMANTICS 8)."""
    message = refused(
        getattr(ecs, xform_name(operation)), "UnsupportedFeatureException", **parameters
    )
    assert operation in message


def test_every_answer_carries_its_own_request_id(wire: Wire) -> None:
    answers = [wire.call("ListClusters", {}), wire.call("ListClusters", {}), wire.call("No", {})]
    ids = {answer.headers["x-amzn-requestid"] for answer in answers}
    assert len(ids) == 3


def test_http2_is_served_with_prior_knowledge(wire: Wire) -> None:
    request = wire.sign(wire.request("ListClusters", {}))
    headers = [part for pair in request.headers.items() for part in ("-H", ": ".join(pair))]
    options = ["--silent", "--http2-prior-knowledge", "--max-time", "10", "--noproxy", "*"]
    done = subprocess.run(
        ["curl", *options, "-w", "\n%{http_version} %{http_code}", *headers]
        + ["--data-binary", request.data.decode(), request.url],
        capture_output=True,
        text=True,
        timeout=20,
        check=True,
    )
    body, line = done.stdout.rsplit("\n", 1)
    assert line == "2 200", done.stdout
    assert json.loads(body)["clusterArns"]


def test_a_request_that_never_ends_is_cut_off(wire: Wire) -> None:
    """Half a header block holds a connection for seconds, not for ever; others are served."""
    host, port = wire.host.split(":")
    with socket.create_connection((host, int(port)), timeout=30) as slow:
        slow.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nX-Slow: ")
        assert wire.call("ListClusters", {}).status == 200
        answer = b"".join(iter(lambda: slow.recv(4096), b""))
    assert answer == b"" or answer.startswith(b"HTTP/1.1 408")


def test_many_idle_connections_keep_nobody_out(wire: Wire) -> None:
    host, port = wire.host.split(":")
    idle = [socket.create_connection((host, int(port)), timeout=10) for _ in range(500)]
    try:
        assert wire.call("ListClusters", {}).status == 200
    finally:
        for each in idle:
            each.close()


@pytest.mark.parametrize(
    "line", [b"GET / HTTP/1.1", b"PUT / HTTP/1.1", b"POST /../etc HTTP/1.1", b"\x16\x03\x01\x02"]
)
def test_what_is_not_the_api_gets_an_answer_or_the_door(wire: Wire, line: bytes) -> None:
    """Browsers, TLS clients, scanners: refused at once, and never a server error."""
    host, port = wire.host.split(":")
    with socket.create_connection((host, int(port)), timeout=20) as stranger:
        stranger.sendall(line + b"\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        answer = b"".join(iter(lambda: stranger.recv(4096), b""))
    assert not answer or b" 4" in answer.split(b"\r\n")[0], answer


def test_connections_are_kept_alive(wire: Wire) -> None:
    connection = http.client.HTTPConnection(wire.host, timeout=10)
    sockets = set()
    for _ in range(3):
        request = wire.sign(wire.request("ListClusters", {}))
        connection.request("POST", "/", request.data, dict(request.headers.items()))
        assert connection.getresponse().read()
        sockets.add(connection.sock)
    connection.close()
    assert len(sockets) == 1 and None not in sockets


def test_the_root_key_is_readable_by_its_owner_alone(server: Server) -> None:
    mode = stat.S_IMODE(os.stat(server.data / "root-access-key").st_mode)
    assert mode == 0o600, oct(mode)


def test_the_secret_never_reaches_the_log(server: Server) -> None:
    assert server.key["secretAccessKey"] not in server.log.read_text()
