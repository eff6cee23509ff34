//! The files of a data directory that processes talk to each other by, and where each is.
//!
//! Every file has one writer: `server.json` and `root-access-key` are the server's, `up.json` is the supervisor's.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::CliError;
use crate::process::ProcessId;
use crate::settings::Settings;

/// The folder under which everything of one `longshore up` lives. Always absolute: processes with other working
/// directories are given it, and are recognised by it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DataDir(PathBuf);

/// `server.json`: where the server listens. There while it does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ServerFacts {
    /// The URL by which this machine reaches it.
    pub(crate) endpoint: String,
    pub(crate) pid: i32,
    pub(crate) region: String,
    pub(crate) account_id: String,
    /// The address it listens on, which may be all of them.
    pub(crate) listen: Option<SocketAddr>,
    /// The certificate that it was given.
    pub(crate) cert_file: Option<PathBuf>,
    /// The certificate of its own authority.
    pub(crate) ca_file: Option<PathBuf>,
    /// That one, and those this machine trusts anyway.
    pub(crate) ca_bundle: Option<PathBuf>,
    pub(crate) ca_fingerprint: Option<String>,
}

impl ServerFacts {
    /// Where it listens; an earlier release named the endpoint alone.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        self.listen.or_else(|| self.endpoint.split("://").nth(1)?.parse().ok())
    }

    /// The certificates that this machine's own commands and agent know the server by; none over plain HTTP.
    pub(crate) fn certificates(&self) -> Result<Option<String>, CliError> {
        let file = self.ca_file.as_ref().or(self.cert_file.as_ref());
        file.map(|path| fs::read_to_string(path).map_err(CliError::file("read", path))).transpose()
    }
}

/// `root-access-key`, as the server made it.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AccessKey {
    pub(crate) access_key_id: String,
    pub(crate) secret_access_key: String,
}

/// `up.json`: what the supervisor started, so that whoever comes later can find it, or stop it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct UpRecord {
    /// Marks the container instances of this data directory among those of other machines.
    pub(crate) id: String,
    #[serde(flatten)]
    pub(crate) settings: Settings,
    pub(crate) supervisor: Option<ProcessId>,
    pub(crate) server: Option<ProcessId>,
    pub(crate) agent: Option<ProcessId>,
    /// ARNs of this directory's instances, once all of them are connected; from then on, kept.
    pub(crate) instance_arns: Vec<String>,
    /// ARNs of instances that earlier starts had and the last one had not; their tasks may still run.
    #[serde(default)]
    pub(crate) left_behind: Vec<String>,
    /// Whether all of them have been connected since this supervisor started.
    pub(crate) ready: bool,
    /// How often server or agent have ended since this supervisor started.
    #[serde(default)]
    pub(crate) ends: u32,
    /// The agent ended and said that starting it again cannot help.
    #[serde(default)]
    pub(crate) agent_gave_up: bool,
}

impl UpRecord {
    /// These are the instances now. Those of before are not forgotten: their containers may still run.
    pub(crate) fn now_has(&mut self, arns: Vec<String>) {
        let before = std::mem::replace(&mut self.instance_arns, arns);
        self.left_behind.extend(before);
        self.left_behind.retain(|arn| !self.instance_arns.contains(arn));
        self.left_behind.sort_unstable();
        self.left_behind.dedup();
    }
}

/// Held by the supervisor for as long as it lives, so that a directory never has two. The kernel lets go of it
/// whichever way the process ends.
#[derive(Debug)]
pub(crate) struct UpLock(#[expect(dead_code, reason = "the open file is the lock")] File);

impl DataDir {
    pub(crate) fn new(path: &Path) -> Result<Self, CliError> {
        std::path::absolute(path).map(Self).map_err(CliError::file("find the absolute path of", path))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// As a person in the current directory would write it.
    pub(crate) fn shown(&self) -> String {
        let current = std::env::current_dir().ok();
        let relative = current.and_then(|current| self.0.strip_prefix(current).ok());
        relative.filter(|path| !path.as_os_str().is_empty()).unwrap_or(&self.0).display().to_string()
    }

    pub(crate) fn create(&self) -> Result<(), CliError> {
        for path in [self.0.clone(), self.0.join("log"), self.agent()] {
            // Keys lie in it: nobody else's business.
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&path)
                .map_err(CliError::file("create the directory", &path))?;
        }
        Ok(())
    }

    pub(crate) fn agent(&self) -> PathBuf {
        self.0.join("agent")
    }

    pub(crate) fn agent_config(&self) -> PathBuf {
        self.0.join("ecs.config")
    }

    pub(crate) fn log(&self, name: &str) -> PathBuf {
        self.0.join("log").join(format!("{name}.log"))
    }

    fn up_json(&self) -> PathBuf {
        self.0.join("up.json")
    }

    /// What the server says of itself, if it listens.
    pub(crate) fn server(&self) -> Result<Option<ServerFacts>, CliError> {
        read_json(&self.0.join("server.json"))
    }

    pub(crate) fn root_access_key(&self) -> Result<Option<AccessKey>, CliError> {
        read_json(&self.0.join("root-access-key"))
    }

    pub(crate) fn record(&self) -> Result<Option<UpRecord>, CliError> {
        read_json(&self.up_json())
    }

    pub(crate) fn write_record(&self, record: &UpRecord) -> Result<(), CliError> {
        write_json(&self.up_json(), record)
    }

    /// Takes the supervisor's lock; `None` if a supervisor holds it.
    pub(crate) fn lock(&self) -> Result<Option<UpLock>, CliError> {
        let path = self.0.join("up.lock");
        let file = File::create(&path).map_err(CliError::file("create", &path))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(UpLock(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(source)) => Err(CliError::File { doing: "lock", path, source }),
        }
    }

    /// Opens a process's log, for what the process says outside of logging.
    pub(crate) fn open_log(&self, name: &str) -> Result<File, CliError> {
        let path = self.log(name);
        File::options().create(true).append(true).open(&path).map_err(CliError::file("open", &path))
    }

    /// The end of a log, for an error message; empty if it cannot be read.
    pub(crate) fn log_tail(&self, name: &str, lines: usize) -> String {
        let text = fs::read(self.log(name)).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let all: Vec<&str> = text.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }
}

/// A file's JSON; `None` if there is no such file.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, CliError> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(CliError::file("read", path)(error)),
    };
    serde_json::from_slice(&bytes).map(Some).map_err(|source| CliError::Damaged { path: path.to_owned(), source })
}

/// Writes a file's JSON, for programs and for people who look.
pub(crate) fn write_json(path: &Path, value: &impl Serialize) -> Result<(), CliError> {
    let mut json =
        serde_json::to_vec_pretty(value).map_err(|source| CliError::Damaged { path: path.to_owned(), source })?;
    json.push(b'\n');
    replace(path, &json).map_err(CliError::file("write", path))
}

/// Readers see the old content or the new one, never a part. They are the owner alone: task definitions hold the variables of
/// their containers, and the directory may be open to others.
pub(crate) fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    // Of one that was left behind, the mode is whatever it was.
    file.set_permissions(fs::Permissions::from_mode(0o600))?;
    file.write_all(content)?;
    fs::rename(&new, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data_dir() -> (tempfile::TempDir, DataDir) {
        let folder = tempfile::tempdir().unwrap();
        let data_dir = DataDir::new(&folder.path().join("data")).unwrap();
        data_dir.create().unwrap();
        (folder, data_dir)
    }

    #[test]
    fn a_record_comes_back_as_it_was_written() {
        let (_folder, data_dir) = data_dir();
        assert_eq!(data_dir.record().unwrap(), None);
        let record = UpRecord {
            id: "0123".into(),
            settings: Settings { listen: ([127, 0, 0, 1], 1).into(), instances: 2, ..Settings::default() },
            supervisor: ProcessId::of(std::process::id() as i32),
            instance_arns: vec!["arn:aws:ecs:us-east-1:0:container-instance/default/1".into()],
            ready: true,
            ..UpRecord::default()
        };
        data_dir.write_record(&record).unwrap();
        assert_eq!(data_dir.record().unwrap(), Some(record));
    }

    #[test]
    fn instances_that_are_no_longer_started_are_remembered() {
        let mut record = UpRecord::default();
        let mut check = |now: &[&str], left_behind: &[&str]| {
            record.now_has(now.iter().map(|arn| (*arn).to_owned()).collect());
            assert_eq!(record.instance_arns, now);
            assert_eq!(record.left_behind, left_behind);
        };
        check(&["a", "b", "c"], &[]);
        check(&["a"], &["b", "c"]);
        check(&["a"], &["b", "c"]);
        check(&["a", "c"], &["b"]);
    }

    #[test]
    fn the_lock_is_held_once_and_comes_free_with_its_holder() {
        let (_folder, data_dir) = data_dir();
        let held = data_dir.lock().unwrap();
        assert!(held.is_some());
        assert!(data_dir.lock().unwrap().is_none());
        drop(held);
        assert!(data_dir.lock().unwrap().is_some());
    }

    #[test]
    fn what_is_written_is_for_the_owner_alone() {
        let (_folder, data_dir) = data_dir();
        let left_behind = data_dir.path().join("up.new");
        fs::write(&left_behind, "").unwrap();
        fs::set_permissions(&left_behind, fs::Permissions::from_mode(0o644)).unwrap();
        data_dir.write_record(&UpRecord::default()).unwrap();
        let mode = fs::metadata(data_dir.up_json()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_damaged_file_is_named() {
        let (_folder, data_dir) = data_dir();
        fs::write(data_dir.path().join("server.json"), "{").unwrap();
        let message = data_dir.server().unwrap_err().to_string();
        assert!(message.contains("server.json") && message.contains("remove"), "{message}");
    }

    #[test]
    fn a_log_is_added_to() {
        let (_folder, data_dir) = data_dir();
        for line in ["one", "two", "three"] {
            writeln!(data_dir.open_log("server").unwrap(), "{line}").unwrap();
        }
        assert_eq!(data_dir.log_tail("server", 2), "two\nthree");
        assert_eq!(data_dir.log_tail("nobody", 5), "");
    }
}
