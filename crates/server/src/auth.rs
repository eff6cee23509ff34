//! Who is calling: from a signature to a [`Principal`]. The only place where one is made.

use std::fmt;

use longshore_core::{Principal, Role};
use longshore_wire::sigv4::{Claim, Request, Secret, SignatureError, Verifier};

use crate::access_key::AccessKeys;
use crate::clock;

/// Verifies signatures of requests, websocket handshakes and telemetry frames.
pub struct Authenticator {
    verifier: Verifier,
    account_id: String,
    keys: Box<dyn AccessKeys>,
}

/// A request whose head claims to be signed by a key that is known. Its body is still to be seen.
#[derive(Debug)]
pub(crate) struct Claimed {
    claim: Claim,
    secret: Secret,
    principal: Principal,
}

impl Authenticator {
    /// Accepts what these keys sign for ECS in this region.
    pub fn new(region: &str, account_id: &str, keys: impl AccessKeys) -> Self {
        Self { verifier: Verifier::new(region, "ecs"), account_id: account_id.to_owned(), keys: Box::new(keys) }
    }

    /// Whose request this is.
    pub(crate) fn principal(&self, request: &Request<'_>) -> Result<Principal, SignatureError> {
        self.claim(request)?.prove(request)
    }

    /// What the head of a request says, checked as far as that goes: who signs nothing, for elsewhere, long ago or with a key
    /// that is not ours is not listened to any longer.
    pub(crate) fn claim(&self, request: &Request<'_>) -> Result<Claimed, SignatureError> {
        let claim = self.verifier.claim(request, clock::now())?;
        // No key of ours was issued together with a session token, and AWS too refuses one that comes with such a key.
        let known = claim.session_token().is_none().then(|| self.keys.find(claim.access_key_id())).flatten();
        let (secret, role) = known.ok_or(SignatureError::UnknownKey)?;
        let principal = Principal::new(role, claim.access_key_id(), &self.account_id);
        Ok(Claimed { claim, secret, principal })
    }

    /// The secret of a key that is being issued.
    pub(crate) fn issue(&self, role: Role, access_key_id: &str) -> Secret {
        self.keys.issue(role, access_key_id)
    }
}

impl Claimed {
    /// Whose request this is, now that all of it is there.
    pub(crate) fn prove(self, request: &Request<'_>) -> Result<Principal, SignatureError> {
        self.claim.prove(request, &self.secret)?;
        Ok(self.principal)
    }
}

impl fmt::Debug for Authenticator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authenticator").field("verifier", &self.verifier).finish_non_exhaustive()
    }
}
