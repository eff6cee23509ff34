//! Calling a Longshore server: signed awsJson over HTTP or TLS, for agents and for the command line.
//!
//! It must not know what an operation does, nor read configuration or the environment: its users hand it URLs, keys and
//! trust. It knows no websockets either, but gives those who do their connection ([`Transport`]) and signature ([`Signer`]).
//!
//! It knows the server's registry of images ([`Client::image`]), and lends Docker Engines its way there ([`Loopback`]).
//! Beside that it reads objects of S3-compatible stores ([`S3`]), where configuration is kept, and asks the small services
//! that tell a machine who it is ([`fetch`]).
//!
//! Begin reading at [`Client::call`]; [`Transport`] is how to get to a server (TLS, proxies), [`Trust`] which one to believe.

mod call;
mod fetch;
mod loopback;
mod proxy;
mod registry;
mod s3;
mod signer;
#[cfg(test)]
mod testing;
mod transport;
mod trust;

pub use call::{CallError, Client, ClientConfig, ClientError, Operation, is_denial};
pub use fetch::{fetch, post_json};
pub use loopback::Loopback;
pub use proxy::{Proxies, ProxyError};
pub use registry::{RegistryError, RegistryToken, RemoteImage};
pub use s3::{ObjectName, ObjectNameError, S3, S3Config, S3Error};
pub use signer::{Signer, now};
pub use transport::{ConnectError, Origin, OriginError, Stream, Transport};
pub use trust::{Fingerprint, FingerprintError, PresentedCertificate, Trust, TrustError, TrustSources};

/// An error with its causes in one line: the outermost of HTTP's and TLS's say only that something failed.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        // Some errors repeat their cause.
        if !text.ends_with(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}
