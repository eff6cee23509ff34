//! `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY`, as Go and curl mean them.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use http::Uri;
use http::header::HeaderValue;
use hyper_util::client::proxy::matcher::Matcher;
use thiserror::Error;

/// Which servers are reached through which proxy; by default none is.
#[derive(Clone, Default)]
pub struct Proxies {
    matcher: Option<Arc<Matcher>>,
}

/// Why a proxy cannot be used.
#[derive(Debug, Error)]
#[error("an http:// URL of a proxy, such as http://proxy:3128")]
pub struct ProxyError;

/// A proxy, and how to log in to it.
pub(crate) struct Through {
    pub(crate) proxy: Uri,
    pub(crate) auth: Option<HeaderValue>,
}

impl Proxies {
    /// Proxies for `http` and `https` URLs, and a comma-separated list of hosts, domains and networks to reach without.
    ///
    /// # Errors
    /// When a proxy is not an `http://` URL. TLS to the proxy itself, and SOCKS, are not spoken.
    pub fn new(http: Option<&str>, https: Option<&str>, no: &str) -> Result<Self, ProxyError> {
        let http = http.map(checked).transpose()?;
        let https = https.map(checked).transpose()?;
        if http.is_none() && https.is_none() {
            return Ok(Self::default());
        }
        let matcher = Matcher::builder().http(http.unwrap_or_default()).https(https.unwrap_or_default()).no(no).build();
        Ok(Self { matcher: Some(Arc::new(matcher)) })
    }

    /// The proxy on the way to `uri`. This machine itself is never behind one.
    pub(crate) fn on_the_way_to(&self, uri: &Uri) -> Option<Through> {
        let matcher = self.matcher.as_ref()?;
        if uri.host().is_none_or(is_this_machine) {
            return None;
        }
        let intercept = matcher.intercept(uri)?;
        Some(Through { proxy: intercept.uri().clone(), auth: intercept.basic_auth().cloned() })
    }
}

impl fmt::Debug for Proxies {
    /// Without the passwords that proxy URLs may hold.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Proxies").field(&self.matcher).finish()
    }
}

/// A host without a scheme is taken as http, as everywhere.
fn checked(proxy: &str) -> Result<String, ProxyError> {
    let url = if proxy.contains("://") { proxy.to_owned() } else { format!("http://{proxy}") };
    let uri: Uri = url.parse().map_err(|_| ProxyError)?;
    let usable = uri.scheme_str() == Some("http") && uri.host().is_some_and(|host| !host.is_empty());
    usable.then_some(url).ok_or(ProxyError)
}

fn is_this_machine(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn way(proxies: &Proxies, url: &str) -> Option<String> {
        proxies.on_the_way_to(&url.parse().unwrap()).map(|through| through.proxy.authority().unwrap().to_string())
    }

    #[test]
    fn each_scheme_has_its_proxy_and_exceptions_have_none() {
        let no = "10.0.0.0/8, .internal ,169.254.169.254";
        let proxies = Proxies::new(Some("plain:3128"), Some("http://user:hush@secure:3128"), no).unwrap();
        for (url, expected) in [
            ("http://server:8470/", Some("plain:3128")),
            ("https://server:8470/", Some("secure:3128")),
            ("https://10.1.2.3/", None),
            ("https://a.internal/", None),
            ("http://localhost:1/", None),
            ("http://127.0.0.1:1/", None),
            ("https://[::1]:1/", None),
        ] {
            assert_eq!(way(&proxies, url).as_deref(), expected, "{url}");
        }
        let auth = proxies.on_the_way_to(&"https://x/".parse().unwrap()).unwrap().auth.unwrap();
        assert!(auth.to_str().unwrap().starts_with("Basic "));
        assert!(!format!("{proxies:?}").contains("hush"));
        assert_eq!(way(&Proxies::default(), "http://server/"), None);
    }

    #[test]
    fn other_kinds_of_proxies_are_refused() {
        for proxy in ["https://proxy", "socks5://proxy:1080", "http://", "http:// x"] {
            assert!(Proxies::new(Some(proxy), None, "").is_err(), "{proxy}");
        }
    }
}
