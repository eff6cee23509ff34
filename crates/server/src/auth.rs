//! Who is calling: from a signature to a [`Principal`]. The only place where one is made.

use std::fmt;
use std::sync::Arc;

use longshore_core::Principal;
use longshore_wire::sigv4::{Request, SecretKeys, SignatureError, Verifier};

use crate::clock;

/// Verifies signatures of requests, websocket handshakes and telemetry frames.
pub struct Authenticator {
    verifier: Verifier,
    keys: Box<dyn SecretKeys + Send + Sync>,
    root_arn: Arc<str>,
}

impl Authenticator {
    /// Accepts what these keys sign for ECS in this region. Every key stands for the account's root: there are no others yet.
    pub fn new(region: &str, account_id: &str, keys: impl SecretKeys + Send + Sync + 'static) -> Self {
        Self {
            verifier: Verifier::new(region, "ecs"),
            keys: Box::new(keys),
            root_arn: format!("arn:aws:iam::{account_id}:root").into(),
        }
    }

    /// Whose request this is.
    pub(crate) fn principal(&self, request: &Request<'_>) -> Result<Principal, SignatureError> {
        let verified = self.verifier.verify(request, self.keys.as_ref(), clock::now())?;
        Ok(Principal { access_key_id: verified.access_key_id.into(), arn: Arc::clone(&self.root_arn) })
    }
}

impl fmt::Debug for Authenticator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authenticator").field("verifier", &self.verifier).finish_non_exhaustive()
    }
}
