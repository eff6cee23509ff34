//! Every limit of the cell, with the quota it mirrors or the sum behind it.

/// Clusters. ECS's quota is 10,000 per region and account; INACTIVE ones make room for new ones.
pub const CLUSTERS: usize = 10_000;
/// Container instances per cluster. ECS's quota is 5,000; one cell is built for more machines than that.
pub const INSTANCES_PER_CLUSTER: usize = 100_000;
/// Tasks, running and stopped, in one cell: a million running ones and their retained predecessors; about 1 KB each.
pub const TASKS: usize = 2_000_000;
/// Task definitions in one cell, of all families and statuses: about 5 KB each with what is derived.
pub const DEFINITIONS: usize = 500_000;
/// Families of task definitions in one cell. ECS documents no quota; about 200 bytes each. A family stays when its last revision
/// is deleted, so that no revision is used twice.
pub const FAMILIES: usize = 100_000;
/// Revisions of one family. ECS's quota.
pub const REVISIONS_PER_FAMILY: i32 = 1_000_000;
/// Names or ARNs in one Describe call (DescribeTasks, DescribeClusters, DescribeContainerInstances).
pub const DESCRIBE: usize = 100;
/// Entries in one page of a listing, the default and the maximum.
pub const PAGE: usize = 100;
/// Copies that one RunTask starts.
pub const RUN_TASK_COUNT: usize = 10;
/// Instances that one StartTask names. ECS's quota.
pub const START_TASK_INSTANCES: usize = 10;
/// Task definitions that one DeleteTaskDefinitions names. ECS's quota.
pub const DELETE_DEFINITIONS: usize = 10;
/// How long a task definition that nothing uses stays DELETE_IN_PROGRESS, in milliseconds: who deleted it can still look at it.
/// ECS, which looks for users now and then, takes up to an hour.
pub const DELETION_SHOWN_MS: i64 = 10_000;
/// Failures reported by one RunTask: enough to read; a cluster of thousands would refuse thousands of times.
pub const RUN_TASK_FAILURES: usize = 100;
/// Items of one placement strategy. ECS's limit, which the shape of a request has too.
pub const PLACEMENT_STRATEGIES: usize = 5;
/// Placement constraints of one task, those of its definition included. ECS's limit.
pub const PLACEMENT_CONSTRAINTS: usize = 10;
/// Instances that are drawn and asked before a random placement reads its view: with half the instances full, one of 65,000
/// placements goes on to read it.
pub const PLACEMENT_DRAWS: usize = 16;
/// Instances that are drawn from a view before all that fit are listed. Of 256 draws none hits, once in a hundred times, if two in a hundred
/// instances fit: then that many are listed.
pub const PLACEMENT_VIEW_DRAWS: usize = 256;
/// Instances with tasks of a group that are looked at one by one; with more of them, a view of the group's own is made.
pub const PLACEMENT_NEIGHBOURS: usize = 64;
/// Views of one cluster: each is a kind of task, and placing one kind reads what the others changed.
pub const PLACEMENT_VIEWS: usize = 256;
/// Instances in all views of one cluster, about 30 bytes each.
pub const PLACEMENT_VIEW_MEMBERS: usize = 2_500_000;
/// Changes of instances that are kept for views to read, 8 bytes each; a quarter of the instances if that is more.
pub const PLACEMENT_CHANGES: usize = 4_096;
/// Attributes by which the tasks of one group are counted.
pub const SPREAD_ATTRIBUTES: usize = 16;
/// Expressions of calls that are remembered compiled, each with up to 20 patterns.
pub const REMEMBERED_EXPRESSIONS: usize = 256;
/// Tasks that wait for room in one cluster, about 1.5 KB each: a hundred batches of what people call a large one.
pub const WAITING_TASKS: usize = 100_000;
/// Kinds of tasks that wait in one cluster. An instance that changes is measured against each of them.
pub const WAITING_KINDS: usize = 1_000;
/// The longest time that a task may be told to wait or to run, in milliseconds: a year.
pub const LONGEST_PATIENCE_MS: i64 = 365 * 86_400_000;
/// Instances that changed which one tick asks on behalf of those that wait: with a thousand kinds, a few milliseconds.
pub const INSTANCES_HEARD_PER_TICK: usize = 256;
/// Changes that the placement of one waiting task makes at most: itself, the block of addresses that its host needs, and the
/// subnets and groups of its call, should they have to be adopted again.
pub const CHANGES_PER_PLACEMENT: usize = 24;
/// Tasks in one question to an external scheduler: with all their candidates about a megabyte.
pub const SCHEDULER_TASKS: usize = 25;
/// Container instances that an external scheduler is offered for one task.
pub const SCHEDULER_CANDIDATES: usize = 100;
/// Characters of a client token of RunTask.
pub const CLIENT_TOKEN: usize = 64;
/// How long a client token is remembered, in milliseconds: a day.
pub const CLIENT_TOKEN_LIFE_MS: i64 = 24 * 3_600_000;
/// Client tokens of RunTask remembered at once, about 1 KB each. SDKs send one with every request; for a further one the oldest
/// goes: at 100 requests a second after half an hour, long after anybody repeats a request.
pub const CLIENT_TOKENS: usize = 200_000;
/// Client tokens of RegisterContainerInstance remembered at once, about 500 bytes each: as many as there may be container
/// instances of a cluster. They have their own room, so that no burst of RunTask makes an agent register twice.
pub const REGISTRATION_TOKENS: usize = 100_000;
/// Failures remembered with client tokens, beyond the first of each token; about 300 bytes each. With more, the oldest tokens
/// keep the first of theirs alone: a hundred for every token would be 6 GB.
pub const CLIENT_TOKEN_FAILURES: usize = 200_000;
/// Characters of `startedBy`. ECS documents 128.
pub const STARTED_BY: usize = 128;
/// Characters of a `group`. ECS has no figure; the length of a family with its prefix.
pub const GROUP: usize = 262;
/// Characters of an id of a subnet or a security group behind its `subnet-` or `sg-`: EC2 has 17.
pub const NETWORK_ID: usize = 40;
/// Security groups that are adopted, about 200 bytes each: anybody may invent ids. Subnets end with the range they are cut from.
pub const ADOPTED_GROUPS: usize = 10_000;
/// Hosts in one answer of DescribeNetwork: more than a person reads, and no larger than other answers.
pub const DESCRIBED_HOSTS: usize = 5_000;
/// Prefixes of subnets. EC2 has /16 to /28; on one's own network a larger one is no harm.
pub const SUBNET_PREFIXES: std::ops::RangeInclusive<u8> = 8..=LONGEST_SUBNET_PREFIX;
/// The prefix of the smallest subnet. EC2's quota.
pub const LONGEST_SUBNET_PREFIX: u8 = 28;
/// The prefix of a subnet that is adopted: 4,096 addresses, 64 blocks.
pub const ADOPTED_SUBNET_PREFIX: u8 = 20;
/// The prefix of the blocks of addresses that hosts are given: 64 addresses, more than most hosts have tasks; who has more gets
/// another block. Each is a route on every other host.
pub const BLOCK_PREFIX: u8 = 26;
/// A subnet is cut into 32 blocks or more, as far as [`LONGEST_BLOCK_PREFIX`] allows: of a /24, which on AWS serves tasks on any
/// machine, four blocks of 64 would serve four machines.
pub const SUBNET_BLOCK_BITS: u8 = 5;
/// The prefix of the smallest blocks: three addresses for tasks.
pub const LONGEST_BLOCK_PREFIX: u8 = 30;
/// Tags of one resource, and the lengths of key and value.
pub const TAGS: usize = 50;
/// Characters of a tag's key.
pub const TAG_KEY: usize = 128;
/// Characters of a tag's value.
pub const TAG_VALUE: usize = 256;
/// Characters kept of a reason that a caller or an agent gives (StopTask and the agent protocol name 1,024).
pub const REASON: usize = 1_024;
/// Attributes of one instance: what agents send is about 60, plus custom ones.
pub const ATTRIBUTES: usize = 200;
/// Host ports that one instance reserves for itself. ECS's quota is 100, of tasks and agent together.
pub const RESERVED_PORTS: usize = 1_000;
/// Characters kept of each version that an agent names.
pub const VERSION: usize = 255;
/// Containers named in one SubmitTaskStateChange: ten per definition, and a batch may name each several times.
pub const REPORTED_CONTAINERS: usize = 100;
/// GPUs of one container instance: four times as many as the largest machines have.
pub const GPUS: usize = 64;
/// Network bindings of one container that are kept. The agent protocol names 100.
pub const BINDINGS: usize = 100;
/// Host ports of one task that are kept free of others, however wide the ranges are that its agent reports.
pub const PORTS_HELD: usize = 10_000;
/// Stopped tasks or tokens removed by one tick, so that a tick stays far below a commit's size.
pub const EXPIRED_PER_TICK: usize = 50;
/// Instances given up by one tick, so that their marks and the first verdicts fit one group.
pub const LOST_PER_TICK: usize = 40;
/// Tasks whose ending (a verdict, or the order to stop) is decided in one tick.
pub const ENDED_PER_TICK: usize = 50;
/// The pause between two such ticks, in milliseconds: 5,000 verdicts a second, and time for others in between. A lost
/// instance with 1,000 tasks is settled in a fifth of a second.
pub const ENDING_PAUSE_MS: i64 = 10;
/// How soon after a return it is looked whether a mass-loss brake can be released, in milliseconds.
pub const BRAKE_REVIEW_MS: i64 = 1_000;
/// How long an INACTIVE instance stays describable, in milliseconds. An hour, as ECS has it.
pub const INACTIVE_LIFE_MS: i64 = 3_600_000;
/// Join tokens known at once, those of the last day that ended among them. About 300 bytes each.
pub const JOIN_TOKENS: usize = 10_000;
/// Machines that have joined one cell: as many as there may be container instances. About 400 bytes each.
pub const IDENTITIES: usize = 100_000;
/// How long a token that ended, and a revoked identity, stay listed, in milliseconds: a day.
pub const ENDED_IDENTITY_SHOWN_MS: i64 = 24 * 3_600_000;
/// Capacity providers of one cluster, and items of one strategy. ECS's quota.
pub const CAPACITY_PROVIDERS: usize = 20;
/// Capacity providers of one account. ECS documents no figure that would bind here; about 500 bytes each.
pub const ALL_CAPACITY_PROVIDERS: usize = 1_000;
/// Characters of a capacity provider's name. ECS's limit.
pub const CAPACITY_PROVIDER_NAME: usize = 255;
/// Characters of the ARN of an Auto Scaling group: EC2's names have 255, what precedes them 120.
pub const GROUP_ARN: usize = 400;
/// Capacity providers in one page, the default and the maximum, as ECS documents.
pub const CAPACITY_PROVIDERS_PAGE: usize = 10;
/// How often the machines of a capacity provider are compared with what its tasks need, in milliseconds. ECS does it once a minute.
pub const SCALING_REVIEW_MS: i64 = 1_000;
/// How long after its registration an instance counts as untried by waiting tasks, in milliseconds: until its agent has connected and they
/// were tried on it.
pub const SETTLING_MS: i64 = 5_000;
/// How long a machine that was launched has to register, in milliseconds, where the warm-up of its provider is shorter.
pub const LAUNCH_PATIENCE_MS: i64 = 10_000;
/// The pause between two steps of scaling in, in milliseconds: the period in which ECS looks again.
pub const SCALE_IN_PAUSE_MS: i64 = 60_000;
/// Instances of one fleet that are on their way out at once.
pub const INSTANCES_LEAVING: usize = 40;
/// What the review of one fleet may change: instances that leave, others that are drained in their place, and the fleet.
pub const CHANGES_PER_REVIEW: usize = 2 * INSTANCES_LEAVING + 1;
/// Instances after which a review of fleets goes on with the next tick: some milliseconds.
pub const INSTANCES_REVIEWED_PER_TICK: usize = 10_000;
/// Orders to add machines to one fleet that are under way at once.
pub const FLEET_ORDERS: usize = 16;
/// Orders to remove machines of one fleet that are under way at once: what is drained meanwhile goes with the next. Each
/// holds up to [`INSTANCES_LEAVING`] machines with their attributes, in the record of the fleet: about 10 KB, 1.2 MB at
/// the very most.
pub const FLEET_REMOVALS: usize = 4;
/// Attributes of a machine that is to be removed: its custom ones, and those that ECS's agent has besides its capabilities.
pub const DEPARTED_ATTRIBUTES: usize = 30;
/// How long after its first failure a launcher is asked again, in milliseconds; then twice as long each time.
pub const LAUNCHER_RETRY_MS: i64 = 1_000;
/// And how long at most, in milliseconds.
pub const LAUNCHER_RETRY_MOST_MS: i64 = 300_000;
/// Characters of the id or ARN of a KMS key. KMS documents 2,048.
pub const KMS_KEY_ID: usize = 2_048;
/// Characters of the name of a CloudWatch log group, as CloudWatch Logs has it.
pub const LOG_GROUP_NAME: usize = 512;
/// Characters of the name of an S3 bucket, as S3 has it.
pub const S3_BUCKET_NAME: usize = 63;
/// Characters of a prefix of S3 keys: those of a key.
pub const S3_KEY_PREFIX: usize = 1_024;
/// Account settings of all principals: eleven each for the 5,000 users that IAM's quota allows. About 150 bytes each.
pub const ACCOUNT_SETTINGS: usize = 55_000;
/// Account settings in one page, the default and the maximum, as ECS documents.
pub const SETTINGS_PAGE: usize = 10;
/// Characters of a principal's ARN. IAM allows paths of 512 and names of 64 characters; twice that is none.
pub const PRINCIPAL_ARN: usize = 1_024;
/// Bytes of all encrypted values of parameters and secrets in one cell, as they are kept: all of them lie in memory, and are read at
/// each start. Ten thousand of the largest secrets would be 7 GB.
pub const SEALED_BYTES: usize = 256 * 1_024 * 1_024;
/// Parameters in one cell. SSM's quota for its standard tier.
pub const PARAMETERS: usize = 10_000;
/// Versions of a parameter that are kept: of the largest ones 110 KB. SSM keeps 100.
pub const PARAMETER_VERSIONS: usize = 10;
/// Characters of a parameter's ARN, and so of its name with what precedes it there. SSM's limit.
pub const PARAMETER_ARN: usize = 1_011;
/// Levels of a parameter's path. SSM's limit.
pub const PARAMETER_LEVELS: usize = 15;
/// Bytes of a parameter's value in the standard tier. SSM's limit.
pub const STANDARD_PARAMETER_BYTES: usize = 4 * 1_024;
/// Bytes of a parameter's value in the advanced tier. SSM's limit.
pub const ADVANCED_PARAMETER_BYTES: usize = 8 * 1_024;
/// Secrets in one cell. Secrets Manager's quota is 500,000; a cell holds them all in memory, up to 700 KB each and
/// [`SEALED_BYTES`] together.
pub const SECRETS: usize = 10_000;
/// Bytes of a secret's value. Secrets Manager's limit.
pub const SECRET_BYTES: usize = 64 * 1_024;
/// Versions of a secret: of the largest ones 700 KB, which with its key and the rest fit the mebibyte of a group. Secrets
/// Manager keeps about 100.
pub const SECRET_VERSIONS: usize = 8;
/// Staging labels on all versions of a secret. Secrets Manager's quota.
pub const SECRET_STAGES: usize = 20;
/// Characters behind a secret's name in its ARN, as Secrets Manager has it.
pub const SECRET_SUFFIX: usize = 6;
/// Groups in one batch: bounds the latency that the last of them sees.
pub const GROUPS_PER_BATCH: usize = 2_048;
/// Changes in one group (DESIGN §2.3: the smallest engine's transaction has 128 operations).
pub const CHANGES_PER_GROUP: usize = 100;
/// Tasks that FindTasks lists: more is no answer to a person who typed the beginning of an id.
pub const FOUND_TASKS: usize = 20;
/// Container instances that ExplainPlacement lists, about 500 bytes each; all are counted.
pub const EXPLAINED_INSTANCES: usize = 1_000;
/// Characters of an expression of the cluster query language. ECS's limit.
pub const QUERY: usize = 2_000;
/// Parentheses and negations within one another, in such an expression.
pub const QUERY_DEPTH: usize = 32;
/// Arguments of one list in such an expression.
pub const QUERY_LIST: usize = 100;
/// Patterns in one such expression.
pub const QUERY_PATTERNS: usize = 20;
/// Bytes that one compiled pattern takes, and again as many while it is tried: a thousand characters are 40,000 bytes.
pub const PATTERN_BYTES: usize = 64 * 1_024;
/// Groups and classes within one another, in one pattern.
pub const PATTERN_DEPTH: u32 = 32;
/// Custom attributes of one instance. ECS's quota.
pub const CUSTOM_ATTRIBUTES: usize = 10;
/// Changes of status that a task remembers for events: each moves one of its two statuses forward.
pub const MILESTONES_PER_TASK: usize = 8;
/// Changes that a container instance remembers for events, about 60 bytes each in its record. With each one that is dropped the horizon
/// of events moves: whoever is further behind starts over.
pub const MILESTONES_PER_INSTANCE: usize = 16;
/// How long an agent may be away before events say so, in milliseconds: agents drop their connection now and then, and take up to
/// seconds to come back.
pub const SILENCE_TOLD_AFTER_MS: i64 = 5_000;
/// Events in one reading, 3 KB each: what a reader holds of the server's memory.
pub const EVENTS_PER_READING: usize = 64;
/// Events looked at in one reading, for those that are wanted: some tens of microseconds.
pub const EVENTS_LOOKED_AT: usize = 4_096;
/// Characters of an attribute's name, and of its value.
pub const ATTRIBUTE: usize = 128;
/// Schedules in one cell. EventBridge Scheduler's quota is a million; a cell holds them in memory, each with its history.
pub const SCHEDULES: usize = 10_000;
/// Characters of a schedule's name, as EventBridge Scheduler has it.
pub const SCHEDULE_NAME: usize = 64;
/// Characters of a schedule expression, as EventBridge Scheduler has it.
pub const SCHEDULE_EXPRESSION: usize = 256;
/// Where the dates of schedules end, in milliseconds: as the years of their expressions do, with 2199.
pub const SCHEDULE_DATES_END_MS: i64 = 7_258_118_400_000;
/// Characters of a time zone's name: the longest of the database has 32.
pub const TIME_ZONE: usize = 50;
/// The value of a rate: every unit of a year of minutes is enough for anybody, and its milliseconds fit.
pub const RATE_VALUE: u32 = 525_600;
/// Bytes of what a schedule runs, as JSON: overrides alone may have 8 KiB.
pub const SCHEDULE_TARGET_BYTES: usize = 32 * 1_024;
/// Invocations that a schedule remembers: with ten tasks of ten containers each about 200 KB, usually 10.
pub const SCHEDULE_HISTORY: usize = 50;
/// Characters kept in a history of why something failed or stopped.
pub const SCHEDULE_REASON: usize = 200;
/// Due times that are counted when they were missed; more are as many.
pub const MISSED_COUNTED: u32 = 1_000;
/// Changes that one invocation makes at most: ten tasks with blocks of addresses for each, the subnets and groups that are adopted, ten
/// tasks to stop, and the schedule. It happens in a group that has so much room left.
pub const CHANGES_PER_INVOCATION: usize = 60;
/// How long after a failure it is tried again for the first time, in milliseconds; each further time after twice as long.
pub const SCHEDULE_BACKOFF_MS: i64 = 5_000;
/// The longest such time.
pub const SCHEDULE_BACKOFF_MOST_MS: i64 = 300_000;
