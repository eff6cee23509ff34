//! Verifying, in both forms. The steps stand in [`Verifier::claim`] and [`Verifier::verify`] in the order in which they
//! refuse.

use std::time::Duration;

use http::header::{AUTHORIZATION, HeaderMap};
use longshore_api::Timestamp;

use super::{ALGORITHM, Secret, SignatureError, TERMINATOR, canonical, date, signature};
use crate::crypto::{equal_constant_time, sha256};
use crate::limits::{MAX_CLOCK_SKEW, MAX_PRESIGNED_LIFE};

/// Finds the secret of an access key.
pub trait SecretKeys {
    /// The secret of `access_key_id`, or nothing when we never issued it, revoked it, or it does not go with the session
    /// token. A key that was issued without a token must refuse one, as AWS does.
    fn secret(&self, access_key_id: &str, session_token: Option<&str>) -> Option<Secret>;
}

/// The parts of a request that a signature covers.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The method, upper case.
    pub method: &'a str,
    /// The path as it came on the wire.
    pub path: &'a str,
    /// The query as it came on the wire, without `?`; empty when there is none.
    pub query: &'a str,
    /// All headers.
    pub headers: &'a HeaderMap,
    /// What HTTP/2 sends instead of a `host` header.
    pub authority: Option<&'a str>,
    /// The whole body.
    pub body: &'a [u8],
}

impl<'a> Request<'a> {
    /// The request with this head and body.
    pub fn new(head: &'a http::request::Parts, body: &'a [u8]) -> Self {
        Self {
            method: head.method.as_str(),
            path: head.uri.path(),
            query: head.uri.query().unwrap_or_default(),
            headers: &head.headers,
            authority: head.uri.authority().map(http::uri::Authority::as_str),
            body,
        }
    }
}

/// Whose signature a request bears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// The access key that signed.
    pub access_key_id: String,
}

/// The region that services with one endpoint for the whole world are signed for, wherever the client is.
const GLOBAL_REGION: &str = "us-east-1";

/// Verifies requests signed for one service in one region.
///
/// A body is always covered: `UNSIGNED-PAYLOAD`, which AWS takes from presigned requests to S3 alone, is refused.
#[derive(Clone, Debug)]
pub struct Verifier {
    region: String,
    service: String,
    global: bool,
}

impl Verifier {
    /// A verifier for credentials scoped to this region and service (`ecs`).
    pub fn new(region: impl Into<String>, service: impl Into<String>) -> Self {
        Self { region: region.into(), service: service.into(), global: false }
    }

    /// The same for a service that has a global endpoint, too: tools that mean that one sign for its region.
    #[must_use]
    pub fn or_global(self) -> Self {
        Self { global: true, ..self }
    }

    /// Whose request this is.
    pub fn verify(
        &self,
        request: &Request<'_>,
        keys: &dyn SecretKeys,
        now: Timestamp,
    ) -> Result<Verified, SignatureError> {
        let claim = self.claim(request, now)?;
        let payload_hash = payload_hash(request, &claim)?;
        let secret = keys.secret(claim.access_key_id(), claim.session_token()).ok_or(SignatureError::UnknownKey)?;
        claim.check_signature(request, &secret, &payload_hash)?;
        Ok(Verified { access_key_id: claim.credential.access_key_id })
    }

    /// What a request says of itself, checked as far as its head allows: form, time and scope. Its body is not looked at, so
    /// that who claims nonsense need not be listened to any longer. Nothing is proved by it yet.
    pub fn claim(&self, request: &Request<'_>, now: Timestamp) -> Result<Claim, SignatureError> {
        let claim = Claim::of(request)?;
        claim.check_signed_headers(request)?;
        claim.check_time(now)?;
        claim.check_scope(self)?;
        Ok(claim)
    }
}

impl Claim {
    /// The access key that is said to have signed.
    pub fn access_key_id(&self) -> &str {
        &self.credential.access_key_id
    }

    /// The session token that is said to go with it.
    pub fn session_token(&self) -> Option<&str> {
        self.session_token.as_deref()
    }

    /// Checks that the whole request, with its body, was signed with this secret.
    pub fn prove(&self, request: &Request<'_>, secret: &Secret) -> Result<(), SignatureError> {
        self.check_signature(request, secret, &payload_hash(request, self)?)
    }

    fn check_signature(
        &self,
        request: &Request<'_>,
        secret: &Secret,
        payload_hash: &str,
    ) -> Result<(), SignatureError> {
        let names: Vec<&str> = self.signed_headers.split(';').collect();
        let canonical = canonical::request(
            request.method,
            &canonical::path(request.path),
            &self.canonical_query,
            request.headers,
            request.authority,
            &names,
            payload_hash,
        )?;
        // Region and service are those that are allowed: the scope was checked.
        let expected = signature(secret, &self.amz_date, &self.credential.region, &self.credential.service, &canonical);
        match equal_constant_time(expected.as_bytes(), self.signature.as_bytes()) {
            true => Ok(()),
            false => Err(SignatureError::Mismatch),
        }
    }
}

/// The hash the signature covers. A declared one must be that of the body that arrived.
fn payload_hash(request: &Request<'_>, claim: &Claim) -> Result<String, SignatureError> {
    let hash = hex::encode(sha256(request.body));
    let header = request.headers.get("x-amz-content-sha256").map(|value| value.as_bytes());
    let declared = header.or(claim.declared_hash.as_deref());
    match declared {
        Some(declared) if !declared.eq_ignore_ascii_case(hash.as_bytes()) => Err(SignatureError::BodyHash),
        _ => Ok(hash),
    }
}

/// What a request says about its signature, taken apart and not yet believed.
#[derive(Debug)]
pub struct Claim {
    credential: Credential,
    amz_date: String,
    signed_at: Timestamp,
    /// Of the presigned form.
    life: Option<Duration>,
    signed_headers: String,
    signature: String,
    session_token: Option<String>,
    canonical_query: String,
    /// Of the presigned form: the header's twin in the query.
    declared_hash: Option<Vec<u8>>,
}

/// `key/20150830/us-east-1/ecs/aws4_request`.
#[derive(Debug)]
struct Credential {
    access_key_id: String,
    day: String,
    region: String,
    service: String,
    terminator: String,
}

impl Credential {
    fn parse(text: &str) -> Result<Self, SignatureError> {
        let parts: Vec<&str> = text.split('/').collect();
        let [key, day, region, service, terminator] = parts[..] else {
            return Err(incomplete(
                "Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term.",
            ));
        };
        Ok(Self {
            access_key_id: key.to_owned(),
            day: day.to_owned(),
            region: region.to_owned(),
            service: service.to_owned(),
            terminator: terminator.to_owned(),
        })
    }
}

fn incomplete(message: impl Into<String>) -> SignatureError {
    SignatureError::Incomplete(message.into())
}

/// The service that a request says it is signed for. Nothing is checked by this: it tells who should answer, and that one's
/// [`Verifier`] whether the request may be believed.
pub fn scoped_service(request: &Request<'_>) -> Option<String> {
    let credential = match request.headers.get(AUTHORIZATION) {
        Some(value) => value.to_str().ok()?.split_once("Credential=")?.1.split(',').next()?.to_owned(),
        None => crate::query::parameter(request.query, "X-Amz-Credential")?,
    };
    credential.split('/').nth(3).filter(|service| !service.is_empty()).map(str::to_owned)
}

impl Claim {
    fn of(request: &Request<'_>) -> Result<Self, SignatureError> {
        let parameters = canonical::parameters(request.query);
        let mut authorizations = request.headers.get_all(AUTHORIZATION).iter();
        match (authorizations.next(), authorizations.next()) {
            (Some(value), None) => Self::of_header(request, &parameters, value.to_str().unwrap_or_default()),
            (Some(_), Some(_)) => Err(incomplete("The request must have one Authorization header.")),
            (None, _)
                if parameters.iter().any(|(name, _)| name == b"X-Amz-Signature" || name == b"X-Amz-Algorithm") =>
            {
                Self::of_query(&parameters)
            }
            (None, _) => Err(SignatureError::Missing),
        }
    }

    fn of_header(
        request: &Request<'_>,
        parameters: &[(Vec<u8>, Vec<u8>)],
        value: &str,
    ) -> Result<Self, SignatureError> {
        let fields = value
            .strip_prefix(ALGORITHM)
            .filter(|rest| rest.starts_with(' '))
            .ok_or_else(|| incomplete(format!("Authorization header must begin with '{ALGORITHM}'.")))?;
        let (mut credential, mut signed_headers, mut signature) = (None, None, None);
        for field in fields.split(',').map(str::trim).filter(|field| !field.is_empty()) {
            let (name, value) = field
                .split_once('=')
                .ok_or_else(|| incomplete("Authorization header has a part that is not a valid key=value pair."))?;
            let slot = match name {
                "Credential" => &mut credential,
                "SignedHeaders" => &mut signed_headers,
                "Signature" => &mut signature,
                _ => continue,
            };
            if slot.replace(value).is_some() {
                return Err(incomplete(format!("Authorization header has '{name}' twice.")));
            }
        }
        let header = |name: &str| request.headers.get(name).and_then(|value| value.to_str().ok());
        let date = header("x-amz-date").or_else(|| header("date"));
        let (Some(credential), Some(signed_headers), Some(signature), Some(date)) =
            (credential, signed_headers, signature, date)
        else {
            return Err(incomplete(missing_of_header(credential, signed_headers, signature, date)));
        };
        let (signed_at, amz_date) = date::read_header(date.to_owned())
            .ok_or_else(|| incomplete("Date must be in ISO-8601 'basic format', such as 20150830T123600Z."))?;
        Ok(Self {
            credential: Credential::parse(credential)?,
            amz_date,
            signed_at,
            life: None,
            signed_headers: signed_headers.to_owned(),
            signature: signature.to_owned(),
            session_token: header("x-amz-security-token").map(str::to_owned),
            canonical_query: canonical::query(parameters.iter()),
            declared_hash: None,
        })
    }

    fn of_query(parameters: &[(Vec<u8>, Vec<u8>)]) -> Result<Self, SignatureError> {
        let find = |name: &str| -> Result<Option<String>, SignatureError> {
            let mut found = parameters.iter().filter(|(key, _)| key == name.as_bytes());
            let first = found.next();
            if found.next().is_some() {
                return Err(incomplete(format!("AWS query-string parameters must include '{name}' only once.")));
            }
            Ok(first.and_then(|(_, value)| String::from_utf8(value.clone()).ok()))
        };
        let need = |name: &str| {
            find(name)?.ok_or_else(|| {
                incomplete(format!(
                    "AWS query-string parameters must include '{name}'. Re-examine the query-string parameters."
                ))
            })
        };
        if need("X-Amz-Algorithm")? != ALGORITHM {
            return Err(incomplete(format!("X-Amz-Algorithm only supports '{ALGORITHM}'.")));
        }
        let credential = Credential::parse(&need("X-Amz-Credential")?)?;
        let amz_date = need("X-Amz-Date")?;
        let signed_at = date::parse(&amz_date)
            .ok_or_else(|| incomplete("X-Amz-Date must be in ISO-8601 'basic format', such as 20150830T123600Z."))?;
        let life = need("X-Amz-Expires")?.parse().ok().map(Duration::from_secs);
        let life = life.filter(|life| !life.is_zero() && *life <= MAX_PRESIGNED_LIFE).ok_or_else(|| {
            incomplete(format!("X-Amz-Expires must be from 1 to {} seconds.", MAX_PRESIGNED_LIFE.as_secs()))
        })?;
        Ok(Self {
            credential,
            amz_date,
            signed_at,
            life: Some(life),
            signed_headers: need("X-Amz-SignedHeaders")?,
            signature: need("X-Amz-Signature")?,
            session_token: find("X-Amz-Security-Token")?,
            canonical_query: canonical::query(parameters.iter().filter(|(name, _)| name != b"X-Amz-Signature")),
            declared_hash: find("X-Amz-Content-Sha256")?.map(String::into_bytes),
        })
    }

    /// `host` binds the request to this server, the target is what the request *does*: neither may be exchanged by whoever
    /// captures a signed request. The date is part of what is signed, and the body's hash too.
    fn check_signed_headers(&self, request: &Request<'_>) -> Result<(), SignatureError> {
        let signed = |name: &str| self.signed_headers.split(';').any(|header| header == name);
        if !signed("host") {
            return Err(SignatureError::HeaderMustBeSigned { name: "Host" });
        }
        if request.headers.contains_key("x-amz-target") && !signed("x-amz-target") {
            return Err(SignatureError::HeaderMustBeSigned { name: "X-Amz-Target" });
        }
        Ok(())
    }

    fn check_time(&self, now: Timestamp) -> Result<(), SignatureError> {
        let millis = |duration: Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        let (oldest, newest) =
            (now.plus_millis(-millis(self.life.unwrap_or(MAX_CLOCK_SKEW))), now.plus_millis(millis(MAX_CLOCK_SKEW)));
        // Requests carry whole seconds: the bounds are compared in the same unit that the message shows.
        let second = |at: Timestamp| at.as_millis().div_euclid(1000);
        let text = |at: Timestamp| date::format(at).unwrap_or_default();
        let skew = || format!("{} min.", MAX_CLOCK_SKEW.as_secs() / 60);
        if second(self.signed_at) < second(oldest) {
            return Err(SignatureError::Expired {
                signed: self.amz_date.clone(),
                oldest: text(oldest),
                now: text(now),
                allowed: self.life.map_or_else(skew, |life| format!("{} sec.", life.as_secs())),
            });
        }
        if second(self.signed_at) > second(newest) {
            return Err(SignatureError::NotYetCurrent {
                signed: self.amz_date.clone(),
                newest: text(newest),
                now: text(now),
                allowed: skew(),
            });
        }
        Ok(())
    }

    fn check_scope(&self, verifier: &Verifier) -> Result<(), SignatureError> {
        let Verifier { region, service, global } = verifier;
        let given = &self.credential;
        let shown = |text: &str| text.escape_default().to_string();
        let day = self.amz_date.get(..8).unwrap_or_default();
        if given.day != day {
            return Err(SignatureError::ScopeDate {
                scope: shown(&given.day),
                signed: day.to_owned(),
                date: self.amz_date.clone(),
            });
        }
        if given.region != *region && !(*global && given.region == GLOBAL_REGION) {
            return Err(SignatureError::Scope(format!("to the region '{region}', not '{}'.", shown(&given.region))));
        }
        if given.service != *service {
            return Err(SignatureError::Scope(format!("to correct service: '{service}'.")));
        }
        if given.terminator != TERMINATOR {
            let given = shown(&given.terminator);
            return Err(SignatureError::Scope(format!("with a valid terminator: '{TERMINATOR}', not '{given}'.")));
        }
        Ok(())
    }
}

/// AWS's sentence for each part that is missing.
fn missing_of_header(
    credential: Option<&str>,
    headers: Option<&str>,
    signature: Option<&str>,
    date: Option<&str>,
) -> String {
    let mut sentences = Vec::new();
    for (part, name) in [(credential, "Credential"), (signature, "Signature"), (headers, "SignedHeaders")] {
        if part.is_none() {
            sentences.push(format!("Authorization header requires '{name}' parameter."));
        }
    }
    if date.is_none() {
        sentences
            .push("Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header.".to_owned());
    }
    sentences.join(" ")
}
