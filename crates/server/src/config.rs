//! What an operator sets.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use longshore_core::config::LossPolicy;
use longshore_core::network::NetworkConfig;

use crate::error::ServerError;
use crate::launcher::LauncherConfig;
use crate::limits::{EdgeLimits, SessionLimits};
use crate::tls;

/// A quarter of an hour, as ECS documents.
const SCALE_IN_AFTER: Duration = Duration::from_secs(900);

/// The configuration of a server. It does not change while the server runs.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// Where everything is kept: store, keys, `server.json`.
    pub data_dir: PathBuf,
    /// The file with the key that secrets are encrypted under; outside the data directory. Where none is named it is
    /// `<data directory>.secrets-key`, beside it.
    pub secrets_key: Option<PathBuf>,
    /// The address to listen on; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The region in every ARN and in every credential's scope.
    pub region: String,
    /// The twelve digits in every ARN.
    pub account_id: String,
    /// The availability zone of instances that name none.
    pub zone: String,
    /// Plain HTTP may be offered to other machines.
    pub insecure: bool,
    /// HTTPS in place of plain HTTP.
    pub tls: Option<TlsConfig>,
    /// When container instances that vanish are given up.
    pub loss: LossPolicy,
    /// The networks of awsvpc tasks.
    pub network: NetworkConfig,
    /// What adds and removes the machines of capacity providers.
    pub launchers: Vec<LauncherConfig>,
    /// How long machines have to be more than needed before some are removed.
    pub scale_in_after: Duration,
    /// Bounds of the edge.
    pub limits: EdgeLimits,
    /// Bounds of agents' sessions.
    pub session_limits: SessionLimits,
}

/// Whose certificate the server shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TlsConfig {
    /// One that it makes itself, issued by an authority of its own.
    Own {
        /// Names and addresses that it is for, besides those that the machine has.
        names: Vec<String>,
    },
    /// One that it is given.
    Given {
        /// The certificate and those of the authorities above it, as PEM.
        cert: PathBuf,
        /// Its private key, as PEM.
        key: PathBuf,
    },
}

impl ServerConfig {
    /// The defaults over a data directory: loopback, `us-east-1`, account `000000000000`.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            secrets_key: None,
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
            region: "us-east-1".to_owned(),
            account_id: "000000000000".to_owned(),
            zone: "us-east-1a".to_owned(),
            insecure: false,
            tls: None,
            loss: LossPolicy::default(),
            network: NetworkConfig::default(),
            launchers: Vec::new(),
            scale_in_after: SCALE_IN_AFTER,
            limits: EdgeLimits::default(),
            session_limits: SessionLimits::default(),
        }
    }

    /// The file with the key of the secrets.
    ///
    /// # Errors
    /// When it lies where it would be copied with what it opens.
    pub(crate) fn secrets_key(&self) -> Result<PathBuf, ServerError> {
        // What does not exist yet is inside only if its path says so.
        let absolute = |path: &Path| path.canonicalize().or_else(|_| std::path::absolute(path));
        let data_dir = absolute(&self.data_dir).unwrap_or_else(|_| self.data_dir.clone());
        let path = match &self.secrets_key {
            Some(path) => path.clone(),
            None => {
                let mut beside = data_dir.clone().into_os_string();
                beside.push(".secrets-key");
                beside.into()
            }
        };
        let holder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        match absolute(holder).is_ok_and(|holder| !holder.starts_with(&data_dir)) {
            true => Ok(path),
            false => Err(ServerError::SecretsKeyInside { path }),
        }
    }

    /// Refuses what cannot work, before anything is opened.
    pub(crate) fn check(&self) -> Result<(), ServerError> {
        let setting =
            |setting, value: &str, expected| Err(ServerError::Setting { setting, value: value.to_owned(), expected });
        let name_like = |text: &str, most: usize| {
            let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
            (1..=most).contains(&text.len()) && text.bytes().all(plain)
        };
        // Longer ones have no place in an ARN: what was named by one could not be named by it again.
        if !name_like(&self.region, 32) {
            return setting("--region", &self.region, "a region has up to 32 small letters, digits and hyphens");
        }
        if !name_like(&self.zone, 64) {
            return setting("--zone", &self.zone, "a zone has up to 64 small letters, digits and hyphens");
        }
        if self.account_id.len() != 12 || !self.account_id.bytes().all(|byte| byte.is_ascii_digit()) {
            return setting("--account-id", &self.account_id, "an account id has twelve digits");
        }
        if let Some(TlsConfig::Own { names }) = &self.tls
            && let Some(name) = names.iter().find(|name| !tls::is_name(name))
        {
            return setting("--tls-name", name, "a DNS name such as ecs.example.com, or an address");
        }
        for (at, launcher) in self.launchers.iter().enumerate() {
            if self.launchers[..at].iter().any(|earlier| earlier.name == launcher.name) {
                return setting("--launcher", &launcher.name, "each launcher has a name of its own");
            }
        }
        self.network.check().map_err(ServerError::Network)?;
        if !self.listen.ip().is_loopback() && self.tls.is_none() && !self.insecure {
            return Err(ServerError::PlainHttpBeyondLoopback { listen: self.listen, port: self.listen.port() });
        }
        self.secrets_key().map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(change: impl FnOnce(&mut ServerConfig)) -> Option<String> {
        let mut config = ServerConfig::new("/nowhere");
        change(&mut config);
        config.check().err().map(|error| error.to_string())
    }

    #[test]
    fn what_cannot_work_is_refused_by_name() {
        assert_eq!(refusal(|_| ()), None);
        for region in ["US East", "", &"r".repeat(33)] {
            assert!(refusal(|config| config.region = region.into()).unwrap().contains("--region"), "{region}");
        }
        assert!(refusal(|config| config.zone = String::new()).unwrap().contains("--zone"));
        assert!(refusal(|config| config.account_id = "1234".into()).unwrap().contains("--account-id"));
    }

    #[test]
    fn the_key_of_the_secrets_lies_outside_the_data_directory() {
        assert_eq!(ServerConfig::new("/nowhere").secrets_key().unwrap(), PathBuf::from("/nowhere.secrets-key"));
        for inside in ["/nowhere/key", "/nowhere/keys/key"] {
            let refused = refusal(|config| config.secrets_key = Some(inside.into()));
            assert!(refused.unwrap().contains("--secrets-key"), "{inside}");
        }
        assert_eq!(refusal(|config| config.secrets_key = Some("/nowhere-else/key".into())), None);
        let dir = tempfile::tempdir().unwrap();
        let (data, link) = (dir.path().join("data"), dir.path().join("link"));
        std::fs::create_dir(&data).unwrap();
        std::os::unix::fs::symlink(&data, &link).unwrap();
        let mut config = ServerConfig::new(&data);
        config.secrets_key = Some(link.join("key"));
        assert!(config.check().is_err());
    }

    #[test]
    fn plain_http_stays_on_this_machine_unless_asked() {
        let everywhere = |config: &mut ServerConfig| config.listen = SocketAddr::from(([0, 0, 0, 0], 8080));
        assert!(refusal(everywhere).unwrap().contains("--insecure"));
        assert_eq!(
            refusal(|config| {
                everywhere(config);
                config.insecure = true;
            }),
            None
        );
    }
}
