#!/usr/bin/env python3
"""A first-fit scheduler: keeps COUNT copies of a task definition going, each on the first instance with room for it."""

import argparse
import time
import urllib.error
import urllib.parse
import urllib.request

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
        query = urllib.parse.urlencode({"cluster": args.cluster, "after": cursor})
        url = f"{ecs.meta.endpoint_url.rstrip('/')}/events?{query}"
        SigV4Auth(session.get_credentials(), "ecs", ecs.meta.region_name).add_auth(signed := AWSRequest("GET", url))
        try:
            with urllib.request.urlopen(urllib.request.Request(url, None, signed.headers), timeout=60) as stream:
                for line in stream:
                    kind, _, value = line.decode().strip().partition(": ")
                    cursor = value if kind == "id" else cursor
                    if kind in ("retry", "data"):
                        yield value
        except OSError as error:
            forgotten = isinstance(error, urllib.error.HTTPError) and error.code == 410
            cursor = "latest" if forgotten else cursor  # everything is looked at anew as soon as the stream begins
            print("the stream broke, opening it again:", error, flush=True)
        time.sleep(1)


def place(wanted, cpu, memory):
    """Goes through the instances in the order of their registration, and starts on each as many as fit."""
    arns = ecs.list_container_instances(cluster=args.cluster, status="ACTIVE")["containerInstanceArns"]
    found = ecs.describe_container_instances(cluster=args.cluster, containerInstances=arns) if arns else {}
    for one in found.get("containerInstances", []):
        left = {resource["name"]: resource["integerValue"] for resource in one["remainingResources"]}
        for _ in range(min(wanted, left["CPU"] // max(cpu, 1), left["MEMORY"] // max(memory, 1))):
            where = {"cluster": args.cluster, "containerInstances": [one["containerInstanceArn"]], "startedBy": NAME}
            wanted -= len(ecs.start_task(taskDefinition=args.definition, **where)["tasks"])


parts = ecs.describe_task_definition(taskDefinition=args.definition)["taskDefinition"]["containerDefinitions"]
size = [sum(part.get(name, 0) for part in parts) for name in ("cpu", "memory")]
for _ in changes():
    running = ecs.list_tasks(cluster=args.cluster, startedBy=NAME, desiredStatus="RUNNING")["taskArns"]
    if len(running) < args.count:
        place(args.count - len(running), *size)
