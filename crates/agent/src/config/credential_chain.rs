//! The AWS credentials of this machine itself, for what it fetches from an object store: found where AWS's own tools look.
//!
//! In order: variables, the shared files, the container's credentials endpoint, the instance's metadata service. The first
//! that has keys wins; one that cannot be asked is told of if none has.

use std::path::{Path, PathBuf};
use std::time::Duration;

use http::header::{AUTHORIZATION, HeaderName};
use http::{Method, StatusCode};
use longshore_client::{Origin, Proxies, Transport, Trust, fetch};
use serde::Deserialize;

use super::ConfigError;
use super::credentials::{self, Credentials};
use super::source::Source;

/// Where a container's credentials are, by the name that ECS gives them.
const CONTAINER_HOST: &str = "http://169.254.170.2";
/// Hosts that a container's credentials may come from in clear; others must speak TLS.
const CONTAINER_HOSTS_IN_CLEAR: [&str; 3] = ["169.254.170.2", "169.254.170.23", "fd00:ec2::23"];
const METADATA_HOST: &str = "http://169.254.169.254";
/// Both services are on this machine or its host; on any other machine nobody answers, and nobody should wait for that.
const METADATA_LIMIT: Duration = Duration::from_secs(2);
const METADATA_TOKEN_TTL: HeaderName = HeaderName::from_static("x-aws-ec2-metadata-token-ttl-seconds");
const METADATA_TOKEN: HeaderName = HeaderName::from_static("x-aws-ec2-metadata-token");
const METADATA_ROLES: &str = "/latest/meta-data/iam/security-credentials/";

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// The first keys there are.
    Keys(Credentials),
    /// Nobody has any; where they were looked for, and with what result.
    Nothing(String),
}

/// Where keys are looked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct CredentialChain {
    variables: Option<Credentials>,
    profile: String,
    /// Of these, the first with keys for the profile.
    files: Vec<PathBuf>,
    container: Option<Container>,
    /// Base URL of the instance's metadata service, unless that is switched off.
    metadata: Option<String>,
}

#[derive(Clone, Debug)]
struct Container {
    url: String,
    /// What it wants to see as `Authorization`, or the file with it.
    token: Option<String>,
    token_file: Option<PathBuf>,
}

/// Keys as the container's endpoint and the metadata service spell them.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Document {
    access_key_id: String,
    secret_access_key: String,
    #[serde(default)]
    token: Option<String>,
}

impl CredentialChain {
    /// Where this machine's variables and files say.
    pub(crate) fn read(s: &mut Source) -> Result<Self, ConfigError> {
        let home = s.text("HOME").map(PathBuf::from);
        let file = |named: Option<String>, name: &str| {
            named.map(PathBuf::from).or_else(|| home.as_ref().map(|home| home.join(".aws").join(name)))
        };
        let (keys, config) = (s.text("AWS_SHARED_CREDENTIALS_FILE"), s.text("AWS_CONFIG_FILE"));
        let relative = s.text("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI").map(|path| format!("{CONTAINER_HOST}{path}"));
        let full = s.parsed("AWS_CONTAINER_CREDENTIALS_FULL_URI", None, container_url)?;
        let token = s.text("AWS_CONTAINER_AUTHORIZATION_TOKEN");
        let token_file = s.text("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE").map(PathBuf::from);
        let disabled = s.boolean("AWS_EC2_METADATA_DISABLED", false)?;
        let metadata = s.text("AWS_EC2_METADATA_SERVICE_ENDPOINT").unwrap_or_else(|| METADATA_HOST.to_owned());
        Ok(Self {
            variables: credentials::of_variables(s)?,
            profile: s.text("AWS_PROFILE").unwrap_or_else(|| "default".into()),
            files: [file(keys, "credentials"), file(config, "config")].into_iter().flatten().collect(),
            container: relative.or(full).map(|url| Container { url, token, token_file }),
            metadata: (!disabled).then(|| metadata.trim_end_matches('/').to_owned()),
        })
    }

    /// Passes over these keys, if they are in variables: they are for the control plane, and mean nothing to anybody else.
    pub(crate) fn but_for(mut self, keys: &Credentials) -> Self {
        self.variables.take_if(|variables| variables == keys);
        self
    }

    /// Looks everywhere until keys are found.
    pub(crate) async fn find(&self) -> Found {
        if let Some(keys) = &self.variables {
            return Found::Keys(keys.clone());
        }
        let mut tried = vec!["AWS_ACCESS_KEY_ID is not set".to_owned()];
        for path in &self.files {
            match self.in_file(path) {
                Ok(keys) => return Found::Keys(keys),
                Err(why) => tried.push(why),
            }
        }
        // Not through a proxy: these are as near as can be.
        let transport = Transport::new(Trust::default(), Proxies::default());
        if let Some(container) = &self.container {
            match container.keys(&transport).await {
                Ok(keys) => return Found::Keys(keys),
                Err(why) => tried.push(why),
            }
        }
        if let Some(base) = &self.metadata {
            match of_instance(&transport, base).await {
                Ok(keys) => return Found::Keys(keys),
                Err(why) => tried.push(why),
            }
        }
        Found::Nothing(tried.join("; "))
    }

    fn in_file(&self, path: &Path) -> Result<Credentials, String> {
        let (profile, path_text) = (&self.profile, path.display());
        let text = std::fs::read_to_string(path).map_err(|error| format!("{path_text}: {error}"))?;
        // The file of settings has its own way to name a profile.
        let by_name = credentials::from_file(&text, profile);
        let keys = by_name.or_else(|| credentials::from_file(&text, &format!("profile {profile}")));
        keys.ok_or_else(|| format!("{path_text} has no keys for the profile {profile:?}"))
    }
}

impl Container {
    async fn keys(&self, transport: &Transport) -> Result<Credentials, String> {
        let failed = |why: String| format!("the container's credentials at {}: {why}", self.url);
        // The file wins: it is rewritten as tokens end.
        let token = match &self.token_file {
            Some(path) => Some(std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))?),
            None => self.token.clone(),
        };
        let headers: Vec<_> = token.map(|token| (AUTHORIZATION, token.trim().to_owned())).into_iter().collect();
        let text = get(transport, &self.url, &headers).await.map_err(failed)?;
        keys(&text).map_err(failed)
    }
}

/// The keys of the instance's role: a token first, then the role's name, then its keys.
async fn of_instance(transport: &Transport, base: &str) -> Result<Credentials, String> {
    let failed = |why: String| format!("the instance's metadata at {base}: {why}");
    let ttl = [(METADATA_TOKEN_TTL, "60".to_owned())];
    let asked = fetch(transport, Method::PUT, &format!("{base}/latest/api/token"), &ttl, METADATA_LIMIT).await;
    let token = successful(asked).map_err(failed)?;
    let headers = [(METADATA_TOKEN, token)];
    let roles = get(transport, &format!("{base}{METADATA_ROLES}"), &headers).await.map_err(failed)?;
    let role = roles.lines().next().unwrap_or_default().trim();
    if role.is_empty() {
        return Err(failed("it has no role".into()));
    }
    let text = get(transport, &format!("{base}{METADATA_ROLES}{role}"), &headers).await.map_err(failed)?;
    keys(&text).map_err(failed)
}

async fn get(transport: &Transport, url: &str, headers: &[(HeaderName, String)]) -> Result<String, String> {
    successful(fetch(transport, Method::GET, url, headers, METADATA_LIMIT).await)
}

fn successful(answer: Result<(StatusCode, String), String>) -> Result<String, String> {
    match answer? {
        (StatusCode::OK, text) => Ok(text),
        (status, _) => Err(status.to_string()),
    }
}

/// The parser's own words could repeat a key.
fn keys(text: &str) -> Result<Credentials, String> {
    let document: Document = serde_json::from_str(text).map_err(|_| "the answer holds no keys".to_owned())?;
    Ok(Credentials {
        access_key_id: document.access_key_id,
        secret_access_key: document.secret_access_key,
        session_token: document.token.filter(|token| !token.is_empty()),
    })
}

/// Whoever could answer in another machine's name must not learn the token, nor choose our keys.
fn container_url(text: &str) -> Result<Option<String>, String> {
    let expected = || "an https:// URL, or an http:// URL of this machine or of the container's host".to_owned();
    let (origin, _) = Origin::of(text.split('?').next().unwrap_or(text)).map_err(|_| expected())?;
    let near = origin.is_loopback() || CONTAINER_HOSTS_IN_CLEAR.contains(&origin.host());
    if origin.is_tls() || near { Ok(Some(text.to_owned())) } else { Err(expected()) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use axum::Router;
    use axum::http::HeaderMap;
    use axum::routing::{get, put};

    use super::*;
    use crate::config::ConfigFiles;

    fn chain(env: &[(&str, &str)]) -> Result<CredentialChain, ConfigError> {
        let none = [("AWS_EC2_METADATA_DISABLED", "true")];
        let env: BTreeMap<&str, &str> = none.into_iter().chain(env.iter().copied()).collect();
        let env = env.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
        CredentialChain::read(&mut Source::load(&ConfigFiles::from(Some(Path::new("/dev/null"))), env).unwrap())
    }

    async fn key(env: &[(&str, &str)]) -> String {
        match chain(env).unwrap().find().await {
            Found::Keys(keys) => format!("{} {:?}", keys.access_key_id, keys.session_token),
            Found::Nothing(why) => why,
        }
    }

    async fn serve(router: Router) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        base
    }

    const DOCUMENT: &str =
        r#"{"Code":"Success","AccessKeyId":"ASIA","SecretAccessKey":"hush","Token":"t","Expiration":"x"}"#;

    /// A metadata service that wants its token, and a container's endpoint that wants its own.
    async fn services() -> String {
        let with = |name: &'static str, value: &'static str, text: &'static str| {
            get(move |headers: HeaderMap| async move {
                let good = headers.get(name).is_some_and(|have| have == value);
                if good { (StatusCode::OK, text) } else { (StatusCode::UNAUTHORIZED, "") }
            })
        };
        serve(
            Router::new()
                .route("/latest/api/token", put(|| async { "tok" }))
                .route("/latest/meta-data/iam/security-credentials/", with("x-aws-ec2-metadata-token", "tok", "web"))
                .route(
                    "/latest/meta-data/iam/security-credentials/web",
                    with("x-aws-ec2-metadata-token", "tok", DOCUMENT),
                )
                .route("/container", with("authorization", "secret", DOCUMENT)),
        )
        .await
    }

    #[tokio::test]
    async fn the_first_place_with_keys_wins() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().to_str().unwrap();
        std::fs::create_dir(dir.path().join(".aws")).unwrap();
        let profile = "[profile dev]\naws_access_key_id=DEV\naws_secret_access_key=s\n";
        std::fs::write(dir.path().join(".aws/config"), profile).unwrap();
        let shared = "[default]\naws_access_key_id=FILE\naws_secret_access_key=s\n";
        std::fs::write(dir.path().join(".aws/credentials"), shared).unwrap();
        std::fs::write(dir.path().join("token"), "secret\n").unwrap();
        let base = services().await;
        let (url, token) = (format!("{base}/container"), format!("{home}/token"));
        let variables = [("AWS_ACCESS_KEY_ID", "VAR"), ("AWS_SECRET_ACCESS_KEY", "s")];
        let container =
            [("AWS_CONTAINER_CREDENTIALS_FULL_URI", url.as_str()), ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", &token)];
        let instance = [("AWS_EC2_METADATA_DISABLED", "false"), ("AWS_EC2_METADATA_SERVICE_ENDPOINT", base.as_str())];
        let all = [&variables[..], &[("HOME", home)], &container, &instance].concat();
        assert_eq!(key(&all).await, "VAR None");
        assert_eq!(key(&all[2..]).await, "FILE None");
        assert_eq!(key(&[("HOME", home), ("AWS_PROFILE", "dev")]).await, "DEV None");
        assert_eq!(key(&all[3..]).await, "ASIA Some(\"t\")");
        assert_eq!(key(&instance).await, "ASIA Some(\"t\")");
    }

    #[tokio::test]
    async fn without_keys_it_is_told_where_they_were_looked_for() {
        let base = services().await;
        let url = format!("{base}/container");
        let env = [
            ("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent"),
            ("AWS_CONTAINER_CREDENTIALS_FULL_URI", &url),
            ("AWS_CONTAINER_AUTHORIZATION_TOKEN", "wrong"),
            ("AWS_EC2_METADATA_DISABLED", "false"),
            ("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://127.0.0.1:1"),
        ];
        let nothing = key(&env).await;
        for part in ["AWS_ACCESS_KEY_ID", "/nonexistent: ", "/container: 401", "metadata at http://127.0.0.1:1: "] {
            assert!(nothing.contains(part), "{part:?} is not in {nothing}");
        }
    }

    #[test]
    fn keys_are_not_taken_from_just_anybody() {
        for (url, fine) in [
            ("http://127.0.0.1:1/x?a=b", true),
            ("http://169.254.170.23/v1", true),
            ("https://keys.example/x", true),
            ("http://keys.example/x", false),
            ("keys", false),
        ] {
            assert_eq!(container_url(url).is_ok(), fine, "{url}");
        }
        assert!(chain(&[("AWS_ACCESS_KEY_ID", "half")]).is_err());
    }
}
