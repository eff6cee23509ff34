//! The way to the server that a command looks at: by the data directory on the server's own machine, or by URL and the access
//! key of the environment from anywhere.

use std::path::{Path, PathBuf};
use std::time::Duration;

use longshore_client::{ClientConfig, Trust, TrustSources};
use longshore_wire::sigv4::{Credentials, Secret};

use crate::cli::{DEFAULT_DATA_DIR, ReachArgs};
use crate::client::EcsClient;
use crate::data_dir::DataDir;
use crate::error::CliError;

/// Signed for when the environment names no region; it is the server's default, too.
const DEFAULT_REGION: &str = "us-east-1";

/// Where the server is, as far as the command line and the environment say. Asked anew after a failure, it finds a server that
/// was started again elsewhere.
#[derive(Clone, Debug)]
pub(crate) struct Reach {
    at: At,
    program: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum At {
    DataDir(PathBuf),
    Endpoint(String),
}

/// A client, and where it calls.
pub(crate) struct Reached {
    pub(crate) client: EcsClient,
    pub(crate) endpoint: String,
}

impl Reach {
    pub(crate) fn new(args: &ReachArgs, program: &str) -> Self {
        Self { at: At::of(args, |name| std::env::var(name).ok()), program: program.to_owned() }
    }

    /// A client for calls that take no longer than usual.
    pub(crate) fn connect(&self) -> Result<Reached, CliError> {
        self.connect_within(crate::client::CALL_TAKES_AT_MOST)
    }

    /// A client for calls that may take this long.
    pub(crate) fn connect_within(&self, call_limit: Duration) -> Result<Reached, CliError> {
        match &self.at {
            At::DataDir(path) => {
                let data_dir = DataDir::new(path)?;
                let (config, facts) = EcsClient::config_of(&data_dir)?.ok_or_else(|| CliError::NotRunning {
                    program: self.program.clone(),
                    data_dir: data_dir.path().to_owned(),
                })?;
                let client = EcsClient::with(ClientConfig { call_limit, ..config })?;
                Ok(Reached { client, endpoint: facts.endpoint })
            }
            At::Endpoint(endpoint) => {
                let config =
                    ClientConfig { call_limit, ..from_environment(endpoint, |name| std::env::var(name).ok())? };
                Ok(Reached { client: EcsClient::with(config)?, endpoint: endpoint.clone() })
            }
        }
    }

    /// The log of the server, if it runs here.
    pub(crate) fn server_log(&self) -> Option<PathBuf> {
        match &self.at {
            At::DataDir(path) => DataDir::new(path).ok().map(|data_dir| data_dir.log("server")),
            At::Endpoint(_) => None,
        }
    }
}

impl At {
    /// What was typed comes first, then what was exported for Longshore, then what a shell was pointed at by `longshore env`,
    /// then what is merely usual.
    fn of(args: &ReachArgs, get: impl Fn(&str) -> Option<String>) -> Self {
        let get = |name: &str| get(name).filter(|value| !value.is_empty());
        let typed = match (&args.endpoint, &args.data_dir) {
            (Some(endpoint), _) => Some(Self::Endpoint(endpoint.clone())),
            (None, data_dir) => data_dir.clone().map(Self::DataDir),
        };
        typed
            .or_else(|| get("LONGSHORE_ENDPOINT").map(Self::Endpoint))
            .or_else(|| get("LONGSHORE_DATA_DIR").map(|path| Self::DataDir(path.into())))
            .or_else(|| get("AWS_ENDPOINT_URL_ECS").map(Self::Endpoint))
            .unwrap_or_else(|| Self::DataDir(Path::new(DEFAULT_DATA_DIR).to_owned()))
    }
}

/// The key, region and trust that AWS's own tools take from the environment.
fn from_environment(endpoint: &str, get: impl Fn(&str) -> Option<String>) -> Result<ClientConfig, CliError> {
    let get = |name: &str| get(name).filter(|value| !value.is_empty());
    let (Some(access_key_id), Some(secret)) = (get("AWS_ACCESS_KEY_ID"), get("AWS_SECRET_ACCESS_KEY")) else {
        return Err(CliError::NoKey { endpoint: endpoint.to_owned() });
    };
    let credentials = Credentials { access_key_id, secret: Secret::new(secret), session_token: None };
    let region = get("AWS_REGION").or_else(|| get("AWS_DEFAULT_REGION")).unwrap_or_else(|| DEFAULT_REGION.to_owned());
    let trust =
        Trust::new(TrustSources { cert_file: get("AWS_CA_BUNDLE").map(PathBuf::from), ..TrustSources::default() });
    Ok(ClientConfig { trust, ..ClientConfig::new(endpoint, region, credentials) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(data_dir: Option<&str>, endpoint: Option<&str>) -> ReachArgs {
        ReachArgs { data_dir: data_dir.map(PathBuf::from), endpoint: endpoint.map(str::to_owned) }
    }

    #[test]
    fn what_is_typed_comes_before_what_is_exported_and_that_before_what_is_usual() {
        let exported = |names: &'static [&str]| {
            move |name: &str| names.contains(&name).then(|| format!("http://{}:1", name.to_lowercase()))
        };
        let all = &["LONGSHORE_ENDPOINT", "LONGSHORE_DATA_DIR", "AWS_ENDPOINT_URL_ECS"];
        let endpoint = |url: &str| At::Endpoint(url.to_owned());
        assert_eq!(At::of(&args(None, Some("http://h:1")), exported(all)), endpoint("http://h:1"));
        assert_eq!(At::of(&args(Some("d"), None), exported(all)), At::DataDir("d".into()));
        assert_eq!(At::of(&args(None, None), exported(all)), endpoint("http://longshore_endpoint:1"));
        assert_eq!(At::of(&args(None, None), exported(&all[1..])), At::DataDir("http://longshore_data_dir:1".into()));
        assert_eq!(At::of(&args(None, None), exported(&all[2..])), endpoint("http://aws_endpoint_url_ecs:1"));
        assert_eq!(At::of(&args(None, None), |_| Some(String::new())), At::DataDir(DEFAULT_DATA_DIR.into()));
    }

    #[test]
    fn a_url_alone_is_not_enough() {
        let error = from_environment("http://h:1", |_| None).unwrap_err().to_string();
        assert!(error.contains("AWS_ACCESS_KEY_ID") && error.contains("http://h:1"), "{error}");
        let config =
            from_environment("http://h:1", |name| (name != "AWS_REGION").then(|| format!("<{name}>"))).unwrap();
        assert_eq!((config.base_url.as_str(), config.region.as_str()), ("http://h:1", "<AWS_DEFAULT_REGION>"));
    }
}
