//! Where secrets are to be had: from the control plane, unless other endpoints are named.

use longshore_client::{Client, ClientConfig, ClientError, Trust, TrustSources};

use super::credentials::Credentials;
use super::source::Source;
use super::{AgentConfig, ConfigError, server};
use crate::shell::resource::secret::{SecretStore, SecretStores};

/// The endpoints of the services that have secrets. Those that are none are the control plane's own.
#[derive(Clone, Debug)]
pub struct SecretEndpoints {
    /// Of SSM: `AWS_ENDPOINT_URL_SSM`.
    pub ssm: Option<String>,
    /// Of Secrets Manager: `AWS_ENDPOINT_URL_SECRETS_MANAGER`.
    pub secrets_manager: Option<String>,
    /// With which they are called, if there are any: the tasks' roles mean nothing there, nor does the key that this machine
    /// was given when it joined.
    credentials: Option<Credentials>,
    /// What they are verified with.
    trust: Trust,
}

impl SecretEndpoints {
    /// Reads them. One that names the control plane says nothing new.
    pub(super) fn read(source: &mut Source, backend_host: &str) -> Result<Self, ConfigError> {
        let foreign = |url: Option<String>| url.filter(|url| url != backend_host);
        let ssm = foreign(server::url(source, "AWS_ENDPOINT_URL_SSM")?);
        let secrets_manager = foreign(server::url(source, "AWS_ENDPOINT_URL_SECRETS_MANAGER")?);
        let credentials = match (&ssm, &secrets_manager) {
            (None, None) => None,
            _ => Some(Credentials::read(source, None)?),
        };
        let sources: TrustSources = server::trust_sources(source);
        Ok(Self { ssm, secrets_manager, credentials, trust: Trust::new(sources) })
    }
}

impl AgentConfig {
    /// The stores of secrets; `server` calls the control plane.
    pub(crate) fn secret_stores(&self, server: &Client) -> Result<SecretStores, ClientError> {
        let endpoints = &self.secrets;
        let store = |url: &Option<String>| -> Result<SecretStore, ClientError> {
            match (url, &endpoints.credentials) {
                (Some(url), Some(credentials)) => {
                    let own = credentials.for_signing();
                    let mut config = ClientConfig::new(&**url, &*self.region, own.clone());
                    config.trust = endpoints.trust.clone();
                    config.proxies = self.proxies.clone();
                    config.user_agent = super::USER_AGENT;
                    Ok(SecretStore::Foreign(Client::new(config)?, own))
                }
                _ => Ok(SecretStore::Server(server.clone())),
            }
        };
        Ok(SecretStores {
            ssm: store(&endpoints.ssm)?,
            secrets_manager: store(&endpoints.secrets_manager)?,
            region: self.region.clone(),
        })
    }
}
