// What programs in JavaScript do with ECS: `node client.mjs SCENE ARGUMENT…` plays a scene and tells what it saw as
// JSON. Endpoints, region and keys come from the environment alone, as `longshore env` leaves it.

import {
  ClusterNotFoundException,
  CreateClusterCommand,
  DescribeTasksCommand,
  DescribeTaskDefinitionCommand,
  ECSClient,
  ECSServiceException,
  InvalidParameterException,
  ListTasksCommand,
  RegisterTaskDefinitionCommand,
  RunTaskCommand,
  StopTaskCommand,
  paginateListTaskDefinitions,
  waitUntilTasksRunning,
  waitUntilTasksStopped,
} from "@aws-sdk/client-ecs";
import { GetCallerIdentityCommand, STSClient } from "@aws-sdk/client-sts";

const ecs = new ECSClient({});
const PACE = { client: ecs, minDelay: 1, maxDelay: 2, maxWaitTime: 60 };

const scenes = { cluster, life, waiter, pages, errors, identity };

/** Creates a cluster. */
async function cluster(clusterName) {
  const answer = await ecs.send(new CreateClusterCommand({ clusterName }));
  return { arn: answer.cluster.clusterArn, requestId: answer.$metadata.requestId };
}

/** A task from its definition to its end, with the SDK's own waiters. */
async function life(cluster, family, image) {
  const container = { name: "main", image, cpu: 10, memory: 16, command: ["trap", "7"], essential: true };
  const registered = await ecs.send(
    new RegisterTaskDefinitionCommand({ family, containerDefinitions: [container] }),
  );
  const { revision, registeredAt } = registered.taskDefinition;

  const run = await ecs.send(new RunTaskCommand({ cluster, taskDefinition: family, startedBy: "javascript" }));
  const tasks = run.tasks.map((task) => task.taskArn);
  const running = await waitUntilTasksRunning(PACE, { cluster, tasks });
  const listed = await ecs.send(new ListTasksCommand({ cluster, startedBy: "javascript" }));

  await ecs.send(new StopTaskCommand({ cluster, task: tasks[0], reason: "seen enough" }));
  const stopped = await waitUntilTasksStopped(PACE, { cluster, tasks });
  const described = await ecs.send(new DescribeTasksCommand({ cluster, tasks }));
  const task = described.tasks[0];
  return {
    revision,
    registeredAtIsDate: registeredAt instanceof Date,
    failures: run.failures,
    running: running.state,
    listed: listed.taskArns,
    stopped: stopped.state,
    task,
    tookMs: task.stoppedAt - task.startedAt,
  };
}

/** What the waiter for RUNNING says of a task that will never be. */
async function waiter(cluster, task) {
  const failed = await waitUntilTasksRunning(PACE, { cluster, tasks: [task] }).catch((error) => error);
  return { name: failed.name, message: failed.message };
}

/** Every page of the definitions of a family, newest first. */
async function pages(familyPrefix, pageSize) {
  const pages = [];
  const config = { client: ecs, pageSize: Number(pageSize) };
  for await (const page of paginateListTaskDefinitions(config, { familyPrefix, sort: "DESC" })) {
    pages.push(page.taskDefinitionArns);
  }
  return pages;
}

/** Errors are instances of the SDK's classes. */
async function errors() {
  const caught = async (command) => ecs.send(command).then(() => undefined, (error) => error);
  const unknownCluster = await caught(new ListTasksCommand({ cluster: "nowhere" }));
  const noTasks = await caught(new DescribeTasksCommand({ tasks: [] }));
  const unknownDefinition = await caught(new DescribeTaskDefinitionCommand({ taskDefinition: "nothing" }));
  return {
    typed: [
      unknownCluster instanceof ClusterNotFoundException,
      noTasks instanceof InvalidParameterException,
      unknownDefinition instanceof ECSServiceException,
    ],
    names: [unknownCluster.name, noTasks.name, unknownDefinition.name],
    message: unknownCluster.message,
    fault: unknownCluster.$fault,
    status: unknownCluster.$metadata.httpStatusCode,
    requestId: unknownCluster.$metadata.requestId,
    retried: unknownCluster.$metadata.attempts - 1,
  };
}

/** Who we are: the first call of many tools, in AWS's other protocol. */
async function identity() {
  const { Account, Arn, UserId } = await new STSClient({}).send(new GetCallerIdentityCommand({}));
  return { Account, Arn, UserId };
}

const [scene, ...rest] = process.argv.slice(2);
if (!Object.hasOwn(scenes, scene)) {
  throw new Error(`play one of ${Object.keys(scenes).join(", ")}: node client.mjs SCENE ARGUMENT…`);
}
console.log(JSON.stringify(await scenes[scene](...rest)));
