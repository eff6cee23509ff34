#!/usr/bin/env python3
"""A first-fit scheduler: keeps COUNT copies of a task definition going, each on the first instance with room for it."""

import argparse
import http.client
import time
from urllib import parse, request

import boto3
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest

NAME = "first-fit"  # `startedBy` of everything that this scheduler starts
ask = argparse.ArgumentParser(description=__doc__)
ask.add_argument("--cluster", default="default")
ask.add_argument("--count", type=int, default=1)
ask.add_argument("definition")
args = ask.parse_args()
session, ecs = boto3.Session(), boto3.client("ecs")


def changes():
    """Yields when the stream begins, and whenever it tells something. Who is cut off goes on where he was."""
    cursor = "latest"
    while True:
        query = parse.urlencode({"cluster": args.cluster, "after": cursor})
        url = f"{ecs.meta.endpoint_url.rstrip('/')}/events?{query}"
        SigV4Auth(session.get_credentials(), "ecs", ecs.meta.region_name).add_auth(signed := AWSRequest("GET", url))
        try:
            with request.urlopen(request.Request(url, None, signed.headers), timeout=60) as stream:
                for line in stream:
                    kind, _, value = line.decode().strip().partition(": ")
                    cursor = value if kind == "id" else cursor
                    if kind in ("retry", "data"):
                        yield value
        except (OSError, http.client.HTTPException) as error:
            refused = 400 <= getattr(error, "code", 0) < 500
            cursor = "latest" if refused else cursor  # everything is looked at anew as soon as the stream begins
            print("the stream broke, opening it again:", error, flush=True)
        time.sleep(1)


def place(wanted, cpu, memory):
    """Goes through the instances in the order of their registration, and starts on each as many as fit."""
    for page in ecs.get_paginator("list_container_instances").paginate(cluster=args.cluster, status="ACTIVE"):
        arns = page["containerInstanceArns"]
        found = ecs.describe_container_instances(cluster=args.cluster, containerInstances=arns) if arns else {}
        for one in found.get("containerInstances", []):
            left = {resource["name"]: resource["integerValue"] for resource in one["remainingResources"]}
            where = {"cluster": args.cluster, "containerInstances": [one["containerInstanceArn"]], "startedBy": NAME}
            for _ in range(min(wanted, left["CPU"] // max(cpu, 1), left["MEMORY"] // max(memory, 1))):
                wanted -= len(ecs.start_task(taskDefinition=args.definition, **where)["tasks"])


parts = ecs.describe_task_definition(taskDefinition=args.definition)["taskDefinition"]["containerDefinitions"]
size = [sum(part.get(name, 0) for part in parts) for name in ("cpu", "memory")]
for _ in changes():
    running = ecs.get_paginator("list_tasks").paginate(cluster=args.cluster, startedBy=NAME, desiredStatus="RUNNING")
    if (missing := args.count - sum(len(page["taskArns"]) for page in running)) > 0:
        place(missing, *size)
