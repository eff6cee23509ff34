//! DiscoverPollEndpoint: where an agent opens its websockets. The one operation that is about the listener and not about
//! state, so the edge answers it: with the address by which the agent reached us, since agents keep the answer for 12 hours
//! and follow no redirect.

use std::net::SocketAddr;

use http::header::HOST;
use http::request::Parts;
use http::uri::Authority;
use longshore_api::ecs::types::DiscoverPollEndpointResponse;

/// The answer to a request that came to a listener at `local`, by TLS or not. Agents make `wss://` of `https://`.
pub(super) fn answer(head: &Parts, local: SocketAddr, tls: bool) -> DiscoverPollEndpointResponse {
    let called = called(head, local, tls);
    DiscoverPollEndpointResponse {
        endpoint: Some(format!("{called}/acs/")),
        telemetry_endpoint: Some(format!("{called}/tcs/")),
        ..Default::default()
    }
}

/// The URL by which the caller knows this server.
pub(super) fn called(head: &Parts, local: SocketAddr, tls: bool) -> String {
    let scheme = if tls { "https" } else { "http" };
    let host = called_host(head).unwrap_or_else(|| local.to_string());
    format!("{scheme}://{host}")
}

/// The host by which we were called: signed, so it is what the agent meant and no intermediary's word; still it is put into
/// a URL only if it is a plain authority.
fn called_host(head: &Parts) -> Option<String> {
    let host = match head.headers.get(HOST) {
        Some(host) => host.to_str().ok()?,
        None => head.uri.authority()?.as_str(),
    };
    let authority: Authority = host.parse().ok()?;
    let plain = !authority.host().is_empty() && !authority.as_str().contains('@');
    plain.then(|| authority.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(host: Option<&str>, uri: &str) -> String {
        let mut request = http::Request::builder().uri(uri);
        if let Some(host) = host {
            request = request.header(HOST, host);
        }
        let (head, ()) = request.body(()).unwrap().into_parts();
        let local = SocketAddr::from(([127, 0, 0, 1], 8080));
        let plain = answer(&head, local, false).endpoint.unwrap();
        let tls = answer(&head, local, true).endpoint.unwrap();
        assert_eq!(tls.strip_prefix("https"), plain.strip_prefix("http"));
        plain
    }

    #[test]
    fn the_endpoint_is_where_the_agent_called() {
        assert_eq!(endpoint(Some("ecs.example:9000"), "/"), "http://ecs.example:9000/acs/");
        assert_eq!(endpoint(Some("[::1]:9000"), "/"), "http://[::1]:9000/acs/");
        assert_eq!(endpoint(None, "http://h2.example:9000/"), "http://h2.example:9000/acs/");
    }

    #[test]
    fn what_is_no_host_is_not_repeated() {
        for bad in ["user@evil", "a/b", "", "a b"] {
            assert_eq!(endpoint(Some(bad), "/"), "http://127.0.0.1:8080/acs/", "{bad}");
        }
        assert_eq!(endpoint(None, "/"), "http://127.0.0.1:8080/acs/");
    }
}
