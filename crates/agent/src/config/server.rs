//! Which server, and how to reach and believe it.

use std::path::PathBuf;

use longshore_client::{Origin, Proxies, TrustSources};

use super::ConfigError;
use super::source::Source;
use crate::identity::MachineIdentity;

/// Where the official agent's SDK never goes through a proxy.
const NEVER_PROXIED: &str = "169.254.169.254,169.254.170.2";

/// The server's URL without a trailing slash. A machine that has joined takes no other.
pub(super) fn backend_host(source: &mut Source, identity: Option<&MachineIdentity>) -> Result<String, ConfigError> {
    const NAME: &str = "ECS_BACKEND_HOST";
    let named = url(source, NAME)?;
    // Those are for all of this machine's AWS clients, and may well name what is ours no more.
    let by_the_way = [url(source, "AWS_ENDPOINT_URL_ECS"), url(source, "AWS_ENDPOINT_URL")];
    match (named, identity) {
        (Some(url), Some(identity)) if !identity.is_bound_to(&url) => Err(bound(source, NAME, &identity.server)),
        (Some(url), _) => Ok(url),
        (None, Some(identity)) => Ok(identity.server.clone()),
        (None, None) => {
            for url in by_the_way {
                if let Some(url) = url? {
                    return Ok(url);
                }
            }
            Err(ConfigError::Missing {
                name: NAME,
                expected: "the control plane's URL, for example https://10.0.0.5:8470, or join this machine with `longshore agent join`",
            })
        }
    }
}

/// The cluster as it is to travel, and whether somebody named it.
pub(super) fn cluster(source: &mut Source, identity: Option<&MachineIdentity>) -> Result<(String, bool), ConfigError> {
    const NAME: &str = "ECS_CLUSTER";
    match (source.text(NAME), identity) {
        (Some(cluster), Some(identity)) if !identity.is_in(&cluster) => Err(bound(source, NAME, &identity.cluster)),
        (Some(cluster), _) => Ok((cluster, true)),
        (None, Some(identity)) => Ok((identity.cluster.clone(), true)),
        (None, None) => Ok(("default".into(), false)),
    }
}

pub(crate) fn region(source: &mut Source, identity: Option<&MachineIdentity>) -> String {
    let (default, other) = (source.text("AWS_DEFAULT_REGION"), source.text("AWS_REGION"));
    match identity {
        // It was told by the server itself.
        Some(identity) => identity.region.clone(),
        None => default.or(other).unwrap_or_else(|| "us-east-1".into()),
    }
}

pub(crate) fn trust_sources(source: &mut Source) -> TrustSources {
    TrustSources {
        pinned_pem: None,
        ca_file: source.text("LONGSHORE_CA_FILE").map(PathBuf::from),
        cert_file: source.text("SSL_CERT_FILE").map(PathBuf::from),
        cert_dir: source.text("SSL_CERT_DIR"),
    }
}

pub(crate) fn proxies(source: &mut Source) -> Result<Proxies, ConfigError> {
    let (http_name, http) = either(source, "HTTP_PROXY", "http_proxy");
    let (https_name, https) = either(source, "HTTPS_PROXY", "https_proxy");
    let (_, no) = either(source, "NO_PROXY", "no_proxy");
    let no = no.unwrap_or_else(|| match source.text("DOCKER_HOST") {
        Some(docker) => format!("{NEVER_PROXIED},{}", host_of(&docker)),
        None => NEVER_PROXIED.to_owned(),
    });
    // One at a time, so that the error names the variable. A proxy's URL may hold a password.
    for (name, value) in [(http_name, &http), (https_name, &https)] {
        Proxies::new(value.as_deref(), None, "").map_err(|expected| source.bad_secret(name, expected.to_string()))?;
    }
    Proxies::new(http.as_deref(), https.as_deref(), &no)
        .map_err(|expected| source.bad_secret(http_name, expected.to_string()))
}

/// The variable in capitals wins.
fn either(source: &mut Source, upper: &'static str, lower: &'static str) -> (&'static str, Option<String>) {
    match (source.text(upper), source.text(lower)) {
        (None, Some(value)) => (lower, Some(value)),
        (value, _) => (upper, value),
    }
}

fn host_of(docker_host: &str) -> &str {
    let address = docker_host.split_once("://").map_or(docker_host, |(_, address)| address);
    address.rsplit_once(':').map_or(address, |(host, _)| host)
}

/// As the official agent does, a value without a scheme is taken as https.
pub(super) fn url(source: &mut Source, name: &'static str) -> Result<Option<String>, ConfigError> {
    source.parsed(name, None, |text| {
        let url = if text.contains("://") { text.to_owned() } else { format!("https://{text}") };
        match Origin::of(&url) {
            Ok((origin, path)) if matches!(path.as_str(), "" | "/") && url.starts_with("http") => {
                Ok(Some(origin.url()))
            }
            _ => Err("a URL of the form http://host:port or https://host:port".into()),
        }
    })
}

fn bound(source: &Source, name: &'static str, to: &str) -> ConfigError {
    let (value, origin) = source.value_and_origin(name);
    let data_dir = source.data_dir();
    ConfigError::Bound { name, value, origin, to: to.to_owned(), data_dir }
}
