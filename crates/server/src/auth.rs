//! Who is calling: from a signature to a [`Principal`]. The only place where one is made.

use std::fmt;
use std::sync::Arc;

use longshore_api::{ecr, ecs, secrets_manager, ssm, sts};
use longshore_core::{Principal, Role};
use longshore_wire::sigv4::{Claim, Request, Secret, SignatureError, Verifier};

use crate::access_key::AccessKeys;
use crate::clock;
use crate::task_roles::TaskRoles;

/// Verifies signatures of requests, websocket handshakes and telemetry frames.
pub struct Authenticator {
    ecs: Verifier,
    sts: Verifier,
    ecr: Verifier,
    region: String,
    ssm: Verifier,
    secrets_manager: Verifier,
    account_id: String,
    keys: Box<dyn AccessKeys>,
    /// Who is behind a session token; nothing where none is issued.
    task_roles: Option<Arc<TaskRoles>>,
}

/// The service that a request must be signed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signing {
    /// ECS, and whatever else agents and our own commands ask.
    Ecs,
    /// The Security Token Service, in our region or at its global endpoint.
    Sts,
    /// The registry's tokens.
    Ecr,
    /// The Parameter Store.
    Ssm,
    /// Secrets Manager.
    SecretsManager,
}

/// A request whose head claims to be signed by a key that is known. Its body is still to be seen.
#[derive(Debug)]
pub(crate) struct Claimed {
    claim: Claim,
    secret: Secret,
    principal: Principal,
}

impl Authenticator {
    /// Accepts what these keys sign in this region.
    pub fn new(region: &str, account_id: &str, keys: impl AccessKeys) -> Self {
        Self {
            ecs: Verifier::new(region, ecs::SIGNING_NAME),
            sts: Verifier::new(region, sts::SIGNING_NAME).or_global(),
            ecr: Verifier::new(region, ecr::SIGNING_NAME),
            region: region.to_owned(),
            ssm: Verifier::new(region, ssm::SIGNING_NAME),
            secrets_manager: Verifier::new(region, secrets_manager::SIGNING_NAME),
            account_id: account_id.to_owned(),
            keys: Box::new(keys),
            task_roles: None,
        }
    }

    /// The same, and it accepts the credentials that tasks are given.
    #[must_use]
    pub(crate) fn with_task_roles(self, task_roles: Arc<TaskRoles>) -> Self {
        Self { task_roles: Some(task_roles), ..self }
    }

    /// The account that all keys belong to.
    pub(crate) fn account_id(&self) -> &str {
        &self.account_id
    }

    /// The region that all requests are signed for.
    pub(crate) fn region(&self) -> &str {
        &self.region
    }

    /// Who holds an access key, as long as it is good for something. Whoever asks has made sure that it is the holder.
    pub(crate) fn holder(&self, access_key_id: &str) -> Option<Principal> {
        let (_, role) = self.keys.find(access_key_id)?;
        Some(Principal::new(role, access_key_id, &self.account_id))
    }

    /// Whose handshake or frame this is; agents sign them for ECS.
    pub(crate) fn principal(&self, request: &Request<'_>) -> Result<Principal, SignatureError> {
        self.claim(Signing::Ecs, request)?.prove(request)
    }

    /// What the head of a request says, checked as far as that goes: who signs nothing, for elsewhere, long ago or with a key
    /// that is not ours is not listened to any longer.
    pub(crate) fn claim(&self, signing: Signing, request: &Request<'_>) -> Result<Claimed, SignatureError> {
        let verifier = match signing {
            Signing::Ecs => &self.ecs,
            Signing::Sts => &self.sts,
            Signing::Ecr => &self.ecr,
            Signing::Ssm => &self.ssm,
            Signing::SecretsManager => &self.secrets_manager,
        };
        let now = clock::now();
        let claim = verifier.claim(request, now)?;
        let access_key_id = claim.access_key_id();
        let (secret, principal) = match claim.session_token() {
            // Other keys were issued without one, and AWS too refuses one that comes with such a key.
            Some(token) => {
                let task_roles = self.task_roles.as_ref().ok_or(SignatureError::UnknownKey)?;
                let (secret, held) = task_roles.holder(token, access_key_id, now)?;
                (secret, Principal::of_task_execution(access_key_id, &self.account_id, held))
            }
            None => {
                let (secret, role) = self.keys.find(access_key_id).ok_or(SignatureError::UnknownKey)?;
                (secret, Principal::new(role, access_key_id, &self.account_id))
            }
        };
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
        f.debug_struct("Authenticator").field("ecs", &self.ecs).field("sts", &self.sts).finish_non_exhaustive()
    }
}
