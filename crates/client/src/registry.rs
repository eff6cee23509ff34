//! The server's registry of images, as its users see it: a token to log in with, and what there is.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, HOST, HeaderMap, HeaderValue, LAST_MODIFIED, LINK, PROXY_AUTHORIZATION};
use http::response::Parts;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use longshore_api::Timestamp;
use longshore_api::ecr::{self, GetAuthorizationTokenRequest, GetAuthorizationTokenResponse};
use longshore_wire::sigv4::Secret;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use crate::call::{CallError, Client, reason};

/// Manifests have at most four mebibytes, and pages of lists less.
const MAX_BODY_BYTES: usize = 8 << 20;
/// Pages of one list: a thousand names each.
const MAX_PAGES: usize = 1_000;
/// The kinds of manifests there are.
const MANIFESTS: &str = "application/vnd.docker.distribution.manifest.v2+json, \
                         application/vnd.docker.distribution.manifest.list.v2+json, \
                         application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json";

/// User and password for a registry, good for a while.
#[derive(Clone, Debug)]
pub struct RegistryToken {
    /// Who.
    pub username: String,
    /// The token.
    pub password: Secret,
    /// From then on it opens nothing.
    pub expires_at: Timestamp,
}

impl RegistryToken {
    /// Reads what `GetAuthorizationToken` answers: user and password in one.
    pub fn of(answer: &GetAuthorizationTokenResponse) -> Option<Self> {
        let data = answer.authorization_data.first()?;
        let both = String::from_utf8(STANDARD.decode(data.authorization_token.as_str()).ok()?).ok()?;
        let (username, password) = both.split_once(':')?;
        Some(Self { username: username.to_owned(), password: Secret::new(password), expires_at: data.expires_at })
    }

    fn header(&self) -> Option<HeaderValue> {
        let both = STANDARD.encode(format!("{}:{}", self.username, self.password.reveal()));
        let mut value = HeaderValue::try_from(format!("Basic {both}")).ok()?;
        value.set_sensitive(true);
        Some(value)
    }
}

/// An image that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteImage {
    /// `sha256:…` of its manifest.
    pub digest: String,
    /// What its parts amount to, compressed, where the manifest is of one image.
    pub bytes: Option<u64>,
    /// When it came, as the server writes it.
    pub modified: Option<String>,
}

/// Why the registry did not do what it was asked for.
#[derive(Debug, Clone)]
pub enum RegistryError {
    /// There is no such thing.
    Unknown,
    /// It answered with an error.
    Refused {
        /// HTTP status.
        status: u16,
        /// Its words.
        message: String,
    },
    /// There was no answer, or none of a registry.
    Call(CallError),
}

impl std::error::Error for RegistryError {}

impl fmt::Display for RegistryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => f.write_str("there is no such image in the registry"),
            Self::Refused { status, message } => write!(f, "the registry refused it ({status}): {message}"),
            Self::Call(error) => error.fmt(f),
        }
    }
}

impl From<CallError> for RegistryError {
    fn from(error: CallError) -> Self {
        Self::Call(error)
    }
}

#[derive(Deserialize)]
struct Errors {
    errors: Vec<Error>,
}

#[derive(Deserialize)]
struct Error {
    message: String,
}

#[derive(Deserialize)]
struct Catalog {
    repositories: Vec<String>,
}

#[derive(Deserialize)]
struct Tags {
    tags: Vec<String>,
}

#[derive(Deserialize)]
struct Manifest {
    config: Option<Part>,
    #[serde(default)]
    layers: Vec<Part>,
}

#[derive(Deserialize)]
struct Part {
    #[serde(default)]
    size: u64,
}

impl Client {
    /// A token for the registries of these accounts; for the server's own where none is given.
    ///
    /// # Errors
    /// As for any call.
    pub async fn registry_token(&self, registry_ids: Option<Vec<String>>) -> Result<RegistryToken, CallError> {
        let body = GetAuthorizationTokenRequest { registry_ids }.to_json();
        let answer = self.call(ecr::Operation::GetAuthorizationToken, body).await?;
        let unreadable = |cause: String| CallError::Answer { operation: "GetAuthorizationToken", cause };
        let answer =
            GetAuthorizationTokenResponse::from_json(&answer).map_err(|error| unreadable(error.to_string()))?;
        RegistryToken::of(&answer).ok_or_else(|| unreadable("there is no token in it".to_owned()))
    }

    /// The image of a name in the registry: a tag or a digest.
    ///
    /// # Errors
    /// [`RegistryError::Unknown`] if there is none.
    pub async fn image(
        &self,
        token: &RegistryToken,
        repository: &str,
        reference: &str,
    ) -> Result<RemoteImage, RegistryError> {
        let path = format!("/v2/{repository}/manifests/{reference}");
        let (head, body) = self.ask(token, Method::GET, &path).await?;
        let text = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let digest = text("docker-content-digest").ok_or_else(|| no_registry("it names no digest"))?;
        let manifest: Manifest = read(&body)?;
        let bytes =
            manifest.config.map(|config| config.size + manifest.layers.iter().map(|part| part.size).sum::<u64>());
        Ok(RemoteImage { digest, bytes, modified: text(LAST_MODIFIED.as_str()) })
    }

    /// Removes a tag, or by its digest an image with all its tags.
    ///
    /// # Errors
    /// [`RegistryError::Unknown`] if there is none.
    pub async fn remove_image(
        &self,
        token: &RegistryToken,
        repository: &str,
        reference: &str,
    ) -> Result<(), RegistryError> {
        let path = format!("/v2/{repository}/manifests/{reference}");
        self.ask(token, Method::DELETE, &path).await.map(drop)
    }

    /// The names of all repositories.
    ///
    /// # Errors
    /// When the registry does not answer with them.
    pub async fn repositories(&self, token: &RegistryToken) -> Result<Vec<String>, RegistryError> {
        self.list(token, "/v2/_catalog".to_owned(), |page: Catalog| page.repositories).await
    }

    /// The tags of a repository.
    ///
    /// # Errors
    /// [`RegistryError::Unknown`] if there is no such repository.
    pub async fn tags(&self, token: &RegistryToken, repository: &str) -> Result<Vec<String>, RegistryError> {
        self.list(token, format!("/v2/{repository}/tags/list"), |page: Tags| page.tags).await
    }

    async fn list<T: DeserializeOwned>(
        &self,
        token: &RegistryToken,
        path: String,
        names: impl Fn(T) -> Vec<String>,
    ) -> Result<Vec<String>, RegistryError> {
        let (mut all, mut next) = (Vec::new(), Some(path));
        for _ in 0..MAX_PAGES {
            let Some(path) = next else { break };
            let (head, body) = self.ask(token, Method::GET, &path).await?;
            all.extend(names(read(&body)?));
            next = next_page(&head.headers);
        }
        Ok(all)
    }

    /// One request to the registry.
    async fn ask(&self, token: &RegistryToken, method: Method, path: &str) -> Result<(Parts, Bytes), RegistryError> {
        let transport =
            |cause: String| CallError::Transport { operation: "the registry", endpoint: self.origin().url(), cause };
        let uri = format!("{}{path}", self.origin().url());
        let mut request = Request::new(Full::new(Bytes::new()));
        *request.method_mut() = method;
        *request.uri_mut() = uri.parse().map_err(|error: http::uri::InvalidUri| transport(error.to_string()))?;
        let host = HeaderValue::try_from(self.origin().authority()).map_err(|error| transport(error.to_string()))?;
        let headers = request.headers_mut();
        headers.insert(HOST, host);
        headers.insert(ACCEPT, HeaderValue::from_static(MANIFESTS));
        headers.extend(token.header().map(|login| (AUTHORIZATION, login)));
        headers.extend(self.transport().forward_auth(self.origin()).map(|auth| (PROXY_AUTHORIZATION, auth)));
        let exchange = async {
            let response = self.http().request(request).await.map_err(|error| transport(reason(&error)))?;
            let (head, body) = response.into_parts();
            let body = Limited::new(body, MAX_BODY_BYTES).collect().await;
            Ok::<_, CallError>((head, body.map_err(|error| transport(error.to_string()))?.to_bytes()))
        };
        let answered = timeout(self.call_limit(), exchange).await;
        let (head, body) = answered.unwrap_or_else(|_| Err(transport("not in time".to_owned())))?;
        if !head.headers.contains_key("docker-distribution-api-version") {
            return Err(no_registry("it is not the answer of a registry"));
        }
        match head.status {
            status if status.is_success() => Ok((head, body)),
            StatusCode::NOT_FOUND => Err(RegistryError::Unknown),
            status => {
                let errors = serde_json::from_slice::<Errors>(&body).map(|body| body.errors).unwrap_or_default();
                let message = errors.into_iter().next().map(|error| error.message).unwrap_or_default();
                Err(RegistryError::Refused { status: status.as_u16(), message })
            }
        }
    }
}

fn no_registry(cause: &str) -> RegistryError {
    RegistryError::Call(CallError::Answer { operation: "the registry", cause: cause.to_owned() })
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, RegistryError> {
    serde_json::from_slice(body).map_err(|error| no_registry(&error.to_string()))
}

/// The path in `Link: </v2/…>; rel="next"`.
fn next_page(headers: &HeaderMap) -> Option<String> {
    let link = headers.get(LINK)?.to_str().ok()?;
    let (path, relation) = link.strip_prefix('<')?.split_once('>')?;
    (relation.contains("rel=\"next\"") && path.starts_with("/v2/")).then(|| path.to_owned())
}

#[cfg(test)]
mod tests {
    use longshore_api::Sensitive;
    use longshore_api::ecr::AuthorizationData;

    use super::*;

    fn answer(text: &str) -> GetAuthorizationTokenResponse {
        let data = AuthorizationData {
            authorization_token: Sensitive::new(STANDARD.encode(text)),
            expires_at: Timestamp::from_millis(7),
            proxy_endpoint: "https://h".into(),
        };
        GetAuthorizationTokenResponse { authorization_data: vec![data] }
    }

    #[test]
    fn a_token_is_user_and_password_in_one() {
        let token = RegistryToken::of(&answer("AWS:hush:hush")).unwrap();
        assert_eq!((token.username.as_str(), token.password.reveal()), ("AWS", "hush:hush"));
        assert!(!format!("{token:?}").contains("hush"));
        assert!(RegistryToken::of(&answer("no colon")).is_none());
    }

    #[test]
    fn the_next_page_is_where_the_link_says_and_nowhere_else() {
        let next = |link: &str| next_page(&HeaderMap::from_iter([(LINK, HeaderValue::try_from(link).unwrap())]));
        assert_eq!(next("</v2/_catalog?n=1&last=a>; rel=\"next\"").as_deref(), Some("/v2/_catalog?n=1&last=a"));
        for other in ["<http://elsewhere/v2/>; rel=\"next\"", "</v2/_catalog>; rel=\"prev\"", "nonsense"] {
            assert_eq!(next(other), None, "{other}");
        }
    }
}
