//! What survives the agent: one small file, written by one thread.
//!
//! Kept are the cluster, the host's id, the termination notice that was obeyed, each identity's container instance ARN and
//! manifest timeline, a record per task and one per image that tasks used. Records are bytes here; the engine knows what is in
//! them.
//!
//! Every write gets a [`Ticket`]; whoever must not act before a write is durable awaits the ticket. The thread takes
//! all writes that wait and makes them durable with one sync, so a burst of tasks costs a handful of syncs. A write
//! that fails (disk full) is tried again until it works: the agent lives on, and what waits for a ticket (acks to the
//! control plane, creating containers) waits with it.

use std::collections::BTreeMap;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use longshore_client::chain;
use redb::backends::{FileBackend, InMemoryBackend};
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use thiserror::Error;
use tokio::sync::watch;
use tracing::{error, info};

const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
const TASKS: TableDefinition<'_, (u32, &str), &[u8]> = TableDefinition::new("tasks");
/// The format is the same with and without it: an agent that does not know it leaves it alone.
const IMAGES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("images");

const FORMAT: &[u8] = b"1";
/// A task's record is about a kilobyte and is read only at start: the cache only has to hold the pages of one batch.
/// redb's own default is a gigabyte.
const CACHE_BYTES: usize = 256 * 1024;
/// Between attempts to write to a disk that refuses.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// Why the state file cannot be used.
#[derive(Debug, Error)]
pub enum StateError {
    /// The directory cannot be made.
    #[error("cannot create the data directory {path} (ECS_DATADIR)", path = path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Another agent has the file open.
    #[error(
        "the state file {path} is in use: another agent runs with this data directory. Stop it, or give this one its own ECS_DATADIR",
        path = path.display()
    )]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// The file cannot be opened or read.
    #[error("cannot use the state file {path}", path = path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What the storage engine said.
        source: Box<redb::Error>,
    },
    /// A newer agent wrote the file.
    #[error("the state file {path} has format {found}, this agent knows format 1: start the agent that wrote it", path = path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What it says.
        found: String,
    },
}

/// One change to what is kept.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    Cluster(String),
    HostId(String),
    Notice(Option<String>),
    ClientToken { identity: u32, token: String },
    InstanceArn { identity: u32, arn: String },
    Timeline { identity: u32, timeline: i64 },
    PutImage { id: String, record: Vec<u8> },
    DropImage { id: String },
    PutTask { identity: u32, arn: String, record: Vec<u8> },
    DropTask { identity: u32, arn: String },
}

/// What an earlier process left.
#[derive(Debug, Default)]
pub(crate) struct Loaded {
    pub(crate) cluster: Option<String>,
    pub(crate) host_id: Option<String>,
    /// Which termination notice was obeyed, and is not known to be gone.
    pub(crate) notice: Option<String>,
    /// By image id.
    pub(crate) images: BTreeMap<String, Vec<u8>>,
    pub(crate) identities: BTreeMap<u32, Identity>,
}

/// What is kept of one container instance.
#[derive(Debug, Default)]
pub(crate) struct Identity {
    pub(crate) instance_arn: Option<String>,
    /// With which it was to be registered for the first time.
    pub(crate) client_token: Option<String>,
    pub(crate) timeline: i64,
    /// By ARN.
    pub(crate) tasks: BTreeMap<String, Vec<u8>>,
}

/// The place of a write in the order of writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Ticket(u64);

/// The handle; clones write to the same file.
#[derive(Clone)]
pub(crate) struct State {
    queue: mpsc::Sender<Job>,
    issued: Arc<std::sync::Mutex<u64>>,
    durable: watch::Receiver<Ticket>,
}

enum Job {
    Write(Ticket, Vec<Change>),
    Close,
}

/// The writing thread; [`Writer::close`] waits until everything is durable.
pub(crate) struct Writer {
    queue: mpsc::Sender<Job>,
    /// Set before the last job: a write that is tried again and again then gives up.
    closing: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl State {
    /// Opens the file in `dir`, or keeps everything in memory without one.
    pub(crate) fn open(dir: Option<&Path>) -> Result<(Self, Writer, Loaded), StateError> {
        let file = File::new(dir)?;
        let database = file.open()?;
        let loaded = file.load(&database)?;
        let (queue, jobs) = mpsc::channel();
        let (progress, durable) = watch::channel(Ticket::default());
        let closing = file.closing.clone();
        let thread = std::thread::Builder::new()
            .name("state".into())
            .spawn(move || write_until_closed(&file, database, &jobs, &progress))
            .map_err(|source| StateError::Directory { path: dir.unwrap_or(Path::new("")).to_owned(), source })?;
        let state = Self { queue: queue.clone(), issued: Arc::default(), durable };
        Ok((state, Writer { queue, closing, thread }, loaded))
    }

    /// Queues changes; they become durable together, after everything queued before.
    pub(crate) fn write(&self, changes: Vec<Change>) -> Ticket {
        // The lock makes the order of tickets that of the queue.
        let mut issued = self.issued.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        *issued += 1;
        let ticket = Ticket(*issued);
        // The thread outlives every handle but the ones used after `close`, when nothing is promised any more.
        let _ = self.queue.send(Job::Write(ticket, changes));
        ticket
    }

    /// Waits until what `ticket` stands for is durable.
    pub(crate) async fn durable(&self, ticket: Ticket) {
        let mut durable = self.durable.clone();
        if durable.wait_for(|done| *done >= ticket).await.is_err() {
            // The writer is gone: the process is leaving. Whoever waits here must not act any more.
            std::future::pending::<()>().await;
        }
    }

    /// Waits until the writer is gone, which it never is while the process means to live.
    pub(crate) async fn writer_gone(self) {
        let mut durable = self.durable;
        while durable.changed().await.is_ok() {}
    }
}

impl Writer {
    /// Writes what is queued and ends the thread.
    pub(crate) fn close(self) {
        self.closing.store(true, Ordering::Release);
        let _ = self.queue.send(Job::Close);
        if self.thread.join().is_err() {
            error!("the state writer panicked; the last changes may not be saved");
        }
    }
}

fn write_until_closed(file: &File, database: Database, jobs: &mpsc::Receiver<Job>, progress: &watch::Sender<Ticket>) {
    let mut database = Some(database);
    while let Ok(first) = jobs.recv() {
        let mut batch = Vec::new();
        let mut last = None;
        let mut closed = false;
        for job in std::iter::once(first).chain(jobs.try_iter()) {
            match job {
                Job::Write(ticket, changes) => {
                    batch.extend(changes);
                    last = Some(ticket);
                }
                Job::Close => closed = true,
            }
        }
        if let Some(ticket) = last {
            if !file.commit_stubbornly(&mut database, &batch) {
                return;
            }
            progress.send_replace(ticket);
        }
        if closed {
            return;
        }
    }
}

/// Where the state lives.
struct File {
    /// `None`: in memory, nothing survives.
    path: Option<PathBuf>,
    closing: Arc<AtomicBool>,
}

impl File {
    fn new(dir: Option<&Path>) -> Result<Self, StateError> {
        let Some(dir) = dir else {
            return Ok(Self { path: None, closing: Arc::default() });
        };
        std::fs::create_dir_all(dir).map_err(|source| StateError::Directory { path: dir.to_owned(), source })?;
        Ok(Self { path: Some(dir.join("agent.redb")), closing: Arc::default() })
    }

    fn open(&self) -> Result<Database, StateError> {
        let mut builder = Database::builder();
        builder.set_cache_size(CACHE_BYTES);
        let opened = match &self.path {
            Some(path) => private_file(path)
                .map_err(|error| self.unusable(redb::Error::Io(error)))
                .map(|file| FileBackend::new(file).and_then(|backend| builder.create_with_backend(backend)))?,
            None => builder.create_with_backend(InMemoryBackend::new()),
        };
        opened.map_err(|error| match error {
            redb::DatabaseError::DatabaseAlreadyOpen => StateError::InUse { path: self.shown_path() },
            other => self.unusable(other),
        })
    }

    fn shown_path(&self) -> PathBuf {
        self.path.clone().unwrap_or_else(|| "(memory)".into())
    }

    fn unusable(&self, source: impl Into<redb::Error>) -> StateError {
        StateError::Unusable { path: self.shown_path(), source: Box::new(source.into()) }
    }

    fn load(&self, database: &Database) -> Result<Loaded, StateError> {
        let loaded = read_all(database).map_err(|error| self.unusable(error))?;
        match loaded {
            Ok(loaded) => Ok(loaded),
            Err(found) => Err(StateError::Format { path: self.shown_path(), found }),
        }
    }

    /// Commits, however often it takes. A failed storage engine is opened anew. Once the writer is to close, one more
    /// attempt is all: a full disk must not keep the process from leaving. Says whether the batch is durable.
    fn commit_stubbornly(&self, database: &mut Option<Database>, batch: &[Change]) -> bool {
        let mut failed = false;
        loop {
            let last_attempt = self.closing.load(Ordering::Acquire);
            let attempt = match database.as_ref() {
                Some(database) => commit(database, batch).map_err(|error| self.unusable(error)),
                None => self
                    .open()
                    .and_then(|opened| commit(database.insert(opened), batch).map_err(|error| self.unusable(error))),
            };
            match attempt {
                Ok(()) => {
                    if failed {
                        info!("state is being saved again");
                    }
                    return true;
                }
                Err(error) => {
                    if !failed {
                        let error = chain(&error);
                        error!(error, "state cannot be saved; trying again every second, new work waits");
                    }
                    failed = true;
                    if self.path.is_some() {
                        *database = None;
                    }
                    if last_attempt {
                        return false;
                    }
                    std::thread::sleep(RETRY_PAUSE);
                }
            }
        }
    }
}

/// Records hold the environment of containers, where people put passwords.
fn private_file(path: &Path) -> std::io::Result<std::fs::File> {
    std::fs::File::options().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

fn commit(database: &Database, batch: &[Change]) -> Result<(), redb::Error> {
    // Without quick repair: a commit is one sync instead of two (0.15 ms instead of 0.3 ms measured), and a file that kill -9
    // left is walked through when it is opened, 4 ms for a thousand tasks and 26 ms for ten thousand.
    let transaction = database.begin_write()?;
    {
        let mut meta = transaction.open_table(META)?;
        let mut tasks = transaction.open_table(TASKS)?;
        let mut images = transaction.open_table(IMAGES)?;
        meta.insert("format", FORMAT)?;
        for change in batch {
            match change {
                Change::Cluster(cluster) => {
                    meta.insert("cluster", cluster.as_bytes())?;
                }
                Change::HostId(id) => {
                    meta.insert("host-id", id.as_bytes())?;
                }
                Change::Notice(Some(identity)) => {
                    meta.insert("notice", identity.as_bytes())?;
                }
                Change::Notice(None) => {
                    meta.remove("notice")?;
                }
                Change::ClientToken { identity, token } => {
                    meta.insert(&*format!("client-token/{identity}"), token.as_bytes())?;
                }
                Change::InstanceArn { identity, arn } => {
                    meta.insert(&*format!("instance-arn/{identity}"), arn.as_bytes())?;
                }
                Change::Timeline { identity, timeline } => {
                    let text = timeline.to_string();
                    meta.insert(&*format!("timeline/{identity}"), text.as_bytes())?;
                }
                Change::PutImage { id, record } => {
                    images.insert(id.as_str(), record.as_slice())?;
                }
                Change::DropImage { id } => {
                    images.remove(id.as_str())?;
                }
                Change::PutTask { identity, arn, record } => {
                    tasks.insert((*identity, arn.as_str()), record.as_slice())?;
                }
                Change::DropTask { identity, arn } => {
                    tasks.remove((*identity, arn.as_str()))?;
                }
            }
        }
    }
    transaction.commit()?;
    Ok(())
}

/// Everything in the file, or the format it claims if that is not ours.
fn read_all(database: &Database) -> Result<Result<Loaded, String>, redb::Error> {
    let mut loaded = Loaded::default();
    let transaction = database.begin_read()?;
    let meta = match transaction.open_table(META) {
        Ok(meta) => meta,
        Err(redb::TableError::TableDoesNotExist(_)) => return Ok(Ok(loaded)),
        Err(error) => return Err(error.into()),
    };
    for entry in meta.iter()? {
        let (key, value) = entry?;
        let text = String::from_utf8_lossy(value.value()).into_owned();
        let key = key.value();
        match key.split_once('/') {
            None if key == "format" && value.value() != FORMAT => return Ok(Err(text)),
            None if key == "cluster" => loaded.cluster = Some(text),
            None if key == "host-id" => loaded.host_id = Some(text),
            None if key == "notice" => loaded.notice = Some(text),
            Some(("instance-arn", index)) => {
                if let Ok(index) = index.parse() {
                    identity(&mut loaded, index).instance_arn = Some(text);
                }
            }
            Some(("client-token", index)) => {
                if let Ok(index) = index.parse() {
                    identity(&mut loaded, index).client_token = Some(text);
                }
            }
            Some(("timeline", index)) => {
                if let (Ok(index), Ok(timeline)) = (index.parse(), text.parse()) {
                    identity(&mut loaded, index).timeline = timeline;
                }
            }
            _ => {}
        }
    }
    for entry in transaction.open_table(TASKS)?.iter()? {
        let (key, value) = entry?;
        let (index, arn) = key.value();
        let record = value.value().to_vec();
        identity(&mut loaded, index).tasks.insert(arn.to_owned(), record);
    }
    match transaction.open_table(IMAGES) {
        Ok(images) => {
            for entry in images.iter()? {
                let (id, record) = entry?;
                loaded.images.insert(id.value().to_owned(), record.value().to_vec());
            }
        }
        Err(redb::TableError::TableDoesNotExist(_)) => {}
        Err(error) => return Err(error.into()),
    }
    Ok(Ok(loaded))
}

fn identity(loaded: &mut Loaded, index: u32) -> &mut Identity {
    loaded.identities.entry(index).or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(arn: &str, record: &str) -> Change {
        Change::PutTask { identity: 1, arn: arn.into(), record: record.into() }
    }

    #[tokio::test]
    async fn what_was_durable_is_found_again() {
        let dir = tempfile::tempdir().unwrap();
        let (state, writer, loaded) = State::open(Some(dir.path())).unwrap();
        assert!(loaded.cluster.is_none() && loaded.identities.is_empty());
        state.write(vec![Change::Cluster("c".into()), Change::HostId("h".into())]);
        state.write(vec![put("a", "one"), put("b", "two")]);
        let ticket = state.write(vec![
            put("a", "three"),
            Change::DropTask { identity: 1, arn: "b".into() },
            Change::ClientToken { identity: 1, token: "t".into() },
            Change::InstanceArn { identity: 1, arn: "arn:i".into() },
            Change::Timeline { identity: 1, timeline: 42 },
        ]);
        state.durable(ticket).await;
        writer.close();

        let (_state, _writer, loaded) = State::open(Some(dir.path())).unwrap();
        assert_eq!(loaded.cluster.as_deref(), Some("c"));
        assert_eq!(loaded.host_id.as_deref(), Some("h"));
        let identity = &loaded.identities[&1];
        assert_eq!(identity.instance_arn.as_deref(), Some("arn:i"));
        assert_eq!(identity.client_token.as_deref(), Some("t"));
        assert_eq!(identity.timeline, 42);
        assert_eq!(identity.tasks, BTreeMap::from([("a".to_owned(), b"three".to_vec())]));
    }

    #[tokio::test]
    async fn a_copy_of_the_file_taken_after_the_ticket_holds_the_write() {
        // The file as it is on disk at that instant is what kill -9 would leave.
        let dir = tempfile::tempdir().unwrap();
        let (state, _writer, _) = State::open(Some(dir.path())).unwrap();
        let ticket = state.write(vec![put("a", "one")]);
        state.durable(ticket).await;
        let copy = tempfile::tempdir().unwrap();
        std::fs::copy(dir.path().join("agent.redb"), copy.path().join("agent.redb")).unwrap();
        let (_, _, loaded) = State::open(Some(copy.path())).unwrap();
        assert_eq!(loaded.identities[&1].tasks["a"], b"one");
    }

    #[test]
    fn the_file_is_nobody_elses_to_read() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let _open = State::open(Some(dir.path())).unwrap();
        let mode = std::fs::metadata(dir.path().join("agent.redb")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_disk_that_refuses_does_not_keep_the_process_from_leaving() {
        let dir = tempfile::tempdir().unwrap();
        let file = File::new(Some(&dir.path().join("gone"))).unwrap();
        std::fs::remove_dir(dir.path().join("gone")).unwrap();
        let closing = file.closing.clone();
        let writing = std::thread::spawn(move || file.commit_stubbornly(&mut None, &[]));
        closing.store(true, Ordering::Release);
        assert!(!writing.join().unwrap());
    }

    #[tokio::test]
    async fn it_is_noticed_when_the_writer_is_gone() {
        let (state, writer, _) = State::open(None).unwrap();
        let gone = state.clone().writer_gone();
        writer.close();
        tokio::time::timeout(Duration::from_secs(20), gone).await.unwrap();
    }

    #[test]
    fn two_agents_do_not_share_a_directory() {
        let dir = tempfile::tempdir().unwrap();
        let _first = State::open(Some(dir.path())).unwrap();
        let error = State::open(Some(dir.path())).map(|_| ()).unwrap_err();
        assert!(matches!(error, StateError::InUse { .. }), "{error}");
    }

    #[test]
    fn a_file_of_a_newer_agent_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let database = Database::create(dir.path().join("agent.redb")).unwrap();
        let transaction = database.begin_write().unwrap();
        transaction.open_table(META).unwrap().insert("format", b"2".as_slice()).unwrap();
        transaction.commit().unwrap();
        drop(database);
        let error = State::open(Some(dir.path())).map(|_| ()).unwrap_err();
        assert!(error.to_string().contains("format 2"), "{error}");
    }

    /// An upgrade in place: the file of a release, left by kill -9 with a task running and one ended.
    #[tokio::test]
    async fn the_file_of_an_earlier_release_is_read_and_written() {
        use crate::engine::{Desired, Status, TaskRecord};
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/agent-0.1.0.redb");
        let dir = tempfile::tempdir().unwrap();
        std::fs::copy(file, dir.path().join("agent.redb")).unwrap();
        let (state, writer, loaded) = State::open(Some(dir.path())).unwrap();
        assert_eq!((loaded.cluster.as_deref(), loaded.host_id.as_deref()), (Some("default"), Some("fixture-host")));
        assert!(loaded.images.is_empty());
        let saved = &loaded.identities[&0];
        assert!(saved.instance_arn.as_ref().unwrap().contains(":container-instance/default/"));
        let records: Vec<TaskRecord> =
            saved.tasks.values().map(|bytes| TaskRecord::from_json(bytes).unwrap()).collect();
        let by_family =
            |family: &str| records.iter().find(|record| record.definition.family.as_deref() == Some(family)).unwrap();
        let running = by_family("upgrade");
        assert_eq!(
            (running.desired, running.known, running.reported),
            (Desired::Running, Status::Running, Status::Running)
        );
        let main = &running.containers[0];
        assert_eq!((main.name.as_str(), main.docker_id.as_ref().map(String::len)), ("main", Some(64)));
        assert_eq!(main.bindings.as_ref().unwrap()[0].container_port, 80);
        let ended = by_family("ended");
        assert_eq!((ended.known, ended.containers[0].exit_code), (Status::Stopped, Some(3)));

        let rewritten = records.iter().map(|record| Change::PutTask {
            identity: 0,
            arn: record.arn().to_owned(),
            record: record.to_json(),
        });
        let image = Change::PutImage { id: "sha256:1".into(), record: b"one".to_vec() };
        let ticket = state.write(rewritten.chain([image]).collect());
        state.durable(ticket).await;
        writer.close();
        let (_, _, again) = State::open(Some(dir.path())).unwrap();
        let read = again.identities[&0].tasks.values().map(|bytes| TaskRecord::from_json(bytes).unwrap());
        assert_eq!(read.collect::<Vec<_>>(), records);
        assert_eq!(again.images["sha256:1"], b"one");
    }

    #[tokio::test]
    async fn without_a_directory_nothing_is_kept() {
        let (state, writer, _) = State::open(None).unwrap();
        let ticket = state.write(vec![put("a", "one")]);
        state.durable(ticket).await;
        writer.close();
        let (_, _, loaded) = State::open(None).unwrap();
        assert!(loaded.identities.is_empty());
    }
}
