//! The server's registry of images, as this machine uses it: whether an image is there, and how its Engine gets it.
//!
//! An image that was pushed to the server (`longshore image push web:1`) is known to task definitions by the name it was pushed
//! by; so every name without a registry of its own is looked for there first, and only what is not there is Docker Hub's. By
//! the name that ECR would give it, `ACCOUNT.dkr.ecr.REGION.amazonaws.com/web:1`, it is looked for there and nowhere else.
//!
//! The Engine fetches it through the agent's own connection ([`Loopback`]), by its digest, and then it gets its name.

use std::sync::Arc;
use std::time::Duration;

use longshore_client::{CallError, Client, Loopback, RegistryError, RegistryToken, now};
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};
use tracing::info;

use crate::backoff::Backoff;
use crate::config::RegistryLogin;
use crate::engine::PullError;

/// A token is replaced when less than this is left of its twelve hours: no pull takes longer.
const TOKEN_LEFT_MS: i64 = 6 * 60 * 60 * 1000;

/// How long the server may be away before a pull fails for it: an upgrade or a restore takes less.
const PATIENCE: Duration = Duration::from_secs(10 * 60);

/// The server's registry.
pub(crate) struct ServerRegistry {
    client: Client,
    region: String,
    /// Where the Engine finds it: `127.0.0.1:51680`.
    authority: String,
    token: Mutex<Option<(Option<String>, Arc<RegistryToken>)>>,
}

/// Where the Engine gets an image from.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    /// What the Engine is to ask for.
    pub(crate) reference: String,
    /// And as whom.
    pub(crate) login: RegistryLogin,
}

impl Source {
    /// What the image's name stands for in the registry.
    pub(crate) fn digest(&self) -> &str {
        self.reference.rsplit_once('@').map_or("", |(_, digest)| digest)
    }

    /// The same image as it was when its name stood for that.
    pub(crate) fn at(&self, digest: Option<&str>) -> Self {
        let repository = self.reference.rsplit_once('@').map_or(self.reference.as_str(), |(repository, _)| repository);
        let digest = digest.unwrap_or_else(|| self.digest());
        Self { reference: format!("{repository}@{digest}"), login: self.login.clone() }
    }
}

/// Why it is not known where an image is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SourceError {
    /// The registry did not answer, or not as a registry: it may later.
    Away(String),
    /// The image can only be in the server's registry, and is not.
    Missing(String),
}

impl ServerRegistry {
    /// The registry of the client's server, which the Engine reaches through that door.
    pub(crate) fn new(client: Client, region: &str, door: &Loopback) -> Self {
        Self { client, region: region.to_owned(), authority: door.authority(), token: Mutex::default() }
    }

    /// Where to get this image; nothing if not from here. While the server is away it is asked again: that it was started anew
    /// in this moment is no reason for a task to fail.
    pub(crate) async fn source_in_time(&self, image: &str, limit: Duration) -> Result<Option<Source>, SourceError> {
        let (given_up_at, mut backoff) = (Instant::now() + limit.min(PATIENCE), Backoff::while_away());
        loop {
            match self.source(image).await {
                Err(SourceError::Away(why)) if Instant::now() < given_up_at => {
                    info!(image, why, "the server cannot be asked for the image now; trying again");
                    sleep(backoff.next()).await;
                }
                settled => return settled,
            }
        }
    }

    /// Where to get this image; nothing if not from here.
    async fn source(&self, image: &str) -> Result<Option<Source>, SourceError> {
        let Some(name) = Name::of(image) else { return Ok(None) };
        if let Some(region) = name.region
            && region != self.region
        {
            let message = format!("{image} is in region {region}, and this server's registry in {}", self.region);
            return Err(SourceError::Missing(message));
        }
        let token = match self.token(name.account).await {
            Ok(token) => token,
            // Another control plane, which keeps no images.
            Err(error) if name.account.is_none() && is_final(&error) => return Ok(None),
            Err(CallError::Api { message, .. }) if name.account.is_some() => return Err(SourceError::Missing(message)),
            Err(error) => return Err(SourceError::Away(error.to_string())),
        };
        match self.client.image(&token, name.repository, name.reference).await {
            Ok(found) => Ok(Some(Source {
                reference: format!("{}/{}@{}", self.authority, name.repository, found.digest),
                login: RegistryLogin {
                    server: self.authority.clone(),
                    username: token.username.clone(),
                    password: token.password.clone(),
                    email: String::new(),
                },
            })),
            Err(RegistryError::Unknown) if name.account.is_some() => {
                let message =
                    format!("{image} is not in the server's registry: `longshore image push` brings it there");
                Err(SourceError::Missing(message))
            }
            // What no registry can hold is refused there; Docker Hub says what it thinks of it.
            Err(RegistryError::Unknown | RegistryError::Refused { status: 400, .. }) => Ok(None),
            Err(error) => {
                // Another one may be taken.
                self.token.lock().await.take();
                Err(SourceError::Away(error.to_string()))
            }
        }
    }

    /// What the Engine knows an image by that is named by its digest alone: such a name cannot be given to it.
    pub(crate) fn alias(&self, image: &str) -> Option<String> {
        let name = Name::of(image).filter(|_| image.contains('@'))?;
        Some(format!("{}/{}@{}", self.authority, name.repository, name.reference))
    }

    /// A token that is good for long enough: for the registry of that account, or the server's own.
    async fn token(&self, account: Option<&str>) -> Result<Arc<RegistryToken>, CallError> {
        let mut known = self.token.lock().await;
        if let Some((of, token)) = &*known
            && of.as_deref() == account
            && token.expires_at.since(now()) > TOKEN_LEFT_MS
        {
            return Ok(Arc::clone(token));
        }
        let token = Arc::new(self.client.registry_token(account.map(|account| vec![account.to_owned()])).await?);
        *known = Some((account.map(str::to_owned), Arc::clone(&token)));
        Ok(token)
    }
}

impl SourceError {
    /// In the engine's words.
    pub(crate) fn into_pull_error(self) -> PullError {
        match self {
            Self::Away(message) => PullError::Registry(message),
            Self::Missing(message) => PullError::Refused(message),
        }
    }
}

/// Whether asking again would change nothing: the server knows no such call.
fn is_final(error: &CallError) -> bool {
    !error.is_passing()
}

/// An image's name, if it may be in the server's registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Name<'a> {
    /// Of ECR's form of a name: then it is nowhere else.
    account: Option<&'a str>,
    region: Option<&'a str>,
    repository: &'a str,
    /// Tag or digest.
    reference: &'a str,
}

impl<'a> Name<'a> {
    fn of(image: &'a str) -> Option<Self> {
        let (account, region, path) = match image.split_once('/') {
            Some((host, path)) if host.contains(['.', ':']) || host == "localhost" => {
                let (account, region) = ecr(host)?;
                (Some(account), Some(region), path)
            }
            _ => (None, None, image),
        };
        let (repository, reference) = match path.split_once('@') {
            Some((name, digest)) => (name.split(':').next().unwrap_or(name), digest),
            None => path.split_once(':').unwrap_or((path, "latest")),
        };
        Some(Self { account, region, repository, reference })
    }
}

/// `000000000000.dkr.ecr.us-east-1.amazonaws.com`
fn ecr(host: &str) -> Option<(&str, &str)> {
    let (account, rest) = host.split_once(".dkr.ecr.")?;
    let region = rest.strip_suffix(".amazonaws.com")?;
    let digits = account.len() == 12 && account.bytes().all(|byte| byte.is_ascii_digit());
    (digits && !region.contains('.')).then_some((account, region))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_without_a_registry_may_be_the_servers() {
        let name = |image| Name::of(image).map(|name| (name.account, name.repository, name.reference));
        assert_eq!(name("web"), Some((None, "web", "latest")));
        assert_eq!(name("team/web:1"), Some((None, "team/web", "1")));
        assert_eq!(name("web:1@sha256:ab"), Some((None, "web", "sha256:ab")));
        assert_eq!(name("web@sha256:ab"), Some((None, "web", "sha256:ab")));
        for elsewhere in ["127.0.0.1:5000/web:1", "registry.example/web", "localhost/web", "public.ecr.aws/x/web:1"] {
            assert_eq!(name(elsewhere), None, "{elsewhere}");
        }
    }

    #[test]
    fn a_name_of_ecr_says_whose_and_where() {
        let name = Name::of("000000000001.dkr.ecr.eu-west-1.amazonaws.com/team/web:1").unwrap();
        assert_eq!((name.account, name.region), (Some("000000000001"), Some("eu-west-1")));
        assert_eq!((name.repository, name.reference), ("team/web", "1"));
        assert_eq!(Name::of("1.dkr.ecr.eu-west-1.amazonaws.com/web"), None);
    }
}
