//! Why a server does not start or stopped.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use longshore_store::StoreError;
use thiserror::Error;

use crate::runner::LoadError;

/// What keeps a server from running. The message says what to do; the cause is the source.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ServerError {
    /// A setting has an impossible value.
    #[error("{setting} is '{value}': {expected}")]
    Setting {
        /// The flag.
        setting: &'static str,
        /// What it was set to.
        value: String,
        /// What it may be.
        expected: &'static str,
    },
    /// Subnets and security groups contradict each other.
    #[error("the networks of tasks cannot be as configured")]
    Network(#[source] longshore_core::network::InvalidSetting),
    /// Plain HTTP is offered to other machines.
    #[error(
        "--listen {listen} would offer plain HTTP to other machines: pass --tls, listen on a loopback address such as \
         127.0.0.1:{port}, or pass --insecure if the network is trusted"
    )]
    PlainHttpBeyondLoopback {
        /// The address asked for.
        listen: SocketAddr,
        /// Its port.
        port: u16,
    },
    /// A file of the data directory cannot be used.
    #[error("cannot {action} {}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// With which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A secret lies open.
    #[error(
        "{} may be read by others (mode {mode:04o}): run `chmod 600 {}`, and if somebody may have read it delete it, so that \
         the next start makes a new one (a new server-key ends every machine's key and every join token)",
        path.display(), path.display()
    )]
    SecretPermissions {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A file of the data directory does not hold what it should.
    #[error("{} is damaged ({problem}): restore it, or delete it so that the next start makes a new one (a new server-key ends every machine's key and every join token)", path.display())]
    DamagedFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The key of the secrets would be copied with what it opens.
    #[error("--secrets-key {} lies in the data directory, whose copies and backups must not open the secrets: name a file elsewhere", path.display())]
    SecretsKeyInside {
        /// The file.
        path: PathBuf,
    },
    /// The key of the secrets is not one.
    #[error("{} is damaged (not 64 hexadecimal digits): bring it back from its backup; without it the stored secrets are lost", path.display())]
    DamagedSecretsKey {
        /// The file.
        path: PathBuf,
    },
    /// The data directory was made for another region or account.
    #[error(
        "{} belongs to another region or account, which stand in all its ARNs: pass --region {region} --account-id \
         {account_id}, or give this server a data directory of its own",
        data_dir.display()
    )]
    OtherScope {
        /// The directory.
        data_dir: PathBuf,
        /// Its region.
        region: String,
        /// Its account.
        account_id: String,
    },
    /// A file of a given certificate cannot be used.
    #[error("{setting} {} cannot be used: {problem}", path.display())]
    TlsFile {
        /// The flag.
        setting: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The server's own authority is not whole.
    #[error(
        "{} is damaged ({problem}): restore its directory from a backup, or delete the directory so that the next start \
         makes a new authority, which every machine and client must then be told to trust",
        path.display()
    )]
    DamagedAuthority {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The server's own authority could not issue a certificate.
    #[error("cannot make a certificate in {}: {problem}", dir.display())]
    Certificate {
        /// Where it would be kept.
        dir: PathBuf,
        /// Why.
        problem: String,
    },
    /// TLS itself cannot be set up.
    #[error("cannot set up TLS")]
    Tls {
        /// What the library said.
        source: rustls::Error,
    },
    /// The system gave no randomness for a key.
    #[error("the operating system gave no random bytes to make keys from: try again")]
    Randomness,
    /// The address cannot be listened on.
    #[error("cannot listen on {listen}: is another server running there? Choose another address with --listen")]
    Listen {
        /// The address.
        listen: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The store cannot be opened; the error itself says what to do.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The store can be read, but no server can start on what is in it.
    #[error(
        "run `longshore store check --data-dir {dir}` to see what is wrong, then bring a backup back with `longshore store \
         restore FILE --data-dir {dir} --force`: the records of the store cannot be used",
        dir = data_dir.display()
    )]
    Records {
        /// The data directory.
        data_dir: PathBuf,
        /// Which record, or which contradiction.
        source: LoadError,
    },
    /// The state cannot be loaded; the error itself says what to do.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// A bug while starting.
    #[error("the server panicked while it started; the log says where")]
    StartPanicked,
}

impl ServerError {
    pub(crate) fn file(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self::File { action, path: path.to_owned(), source }
    }
}
