//! Why a request's signature is refused, in AWS's words where AWS has words.

use longshore_api::ApiError;
use longshore_api::error::{
    EXPIRED_TOKEN_EXCEPTION, INCOMPLETE_SIGNATURE_EXCEPTION, INVALID_SIGNATURE_EXCEPTION,
    MISSING_AUTHENTICATION_TOKEN_EXCEPTION, UNRECOGNIZED_CLIENT_EXCEPTION,
};
use thiserror::Error;

/// Why a request was not accepted as signed by one of our keys. The texts go to the caller: none holds what the caller sent
/// as `Authorization`, nor what we computed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SignatureError {
    /// Neither an `Authorization` header nor a presigned query.
    #[error("Missing Authentication Token")]
    Missing,
    /// The authentication is there, but a part is missing or malformed.
    #[error("{0}")]
    Incomplete(String),
    /// The access key is not one of ours (or does not go with the session token).
    #[error("The security token included in the request is invalid.")]
    UnknownKey,
    /// The session token is one of ours, and has run out.
    #[error("The security token included in the request is expired")]
    ExpiredToken,
    /// The credential's region, service or terminator is wrong.
    #[error("Credential should be scoped {0}")]
    Scope(String),
    /// The credential's day is not that of the request.
    #[error(
        "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: '{scope}' != '{signed}', \
         from '{date}'."
    )]
    ScopeDate {
        /// The credential's day.
        scope: String,
        /// The request's day.
        signed: String,
        /// The request's date.
        date: String,
    },
    /// The request is older than the allowed skew.
    #[error("Signature expired: {signed} is now earlier than {oldest} ({now} - {allowed})")]
    Expired {
        /// When the request says it was signed.
        signed: String,
        /// The oldest time that would have been accepted.
        oldest: String,
        /// Our clock.
        now: String,
        /// How much older or newer a request may be.
        allowed: String,
    },
    /// The request comes from the future.
    #[error("Signature not yet current: {signed} is still later than {newest} ({now} + {allowed})")]
    NotYetCurrent {
        /// When the request says it was signed.
        signed: String,
        /// The newest time that would have been accepted.
        newest: String,
        /// Our clock.
        now: String,
        /// How much older or newer a request may be.
        allowed: String,
    },
    /// A header that must be covered by the signature is not.
    #[error("'{name}' must be a 'SignedHeader' in the AWS Authorization.")]
    HeaderMustBeSigned {
        /// The header.
        name: &'static str,
    },
    /// `SignedHeaders` names a header that the request does not have.
    #[error("The request lacks the header '{name}', which SignedHeaders names.")]
    SignedHeaderMissing {
        /// The header.
        name: String,
    },
    /// `X-Amz-Content-Sha256` is not the hash of the body that arrived.
    #[error("The value of X-Amz-Content-Sha256 is not the SHA-256 of the request's body.")]
    BodyHash,
    /// Everything is well formed, and the signature is another one than ours.
    #[error(
        "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key \
         and signing method. Consult the service documentation for details."
    )]
    Mismatch,
}

impl From<SignatureError> for ApiError {
    fn from(error: SignatureError) -> Self {
        let code = match error {
            SignatureError::Missing => MISSING_AUTHENTICATION_TOKEN_EXCEPTION,
            SignatureError::Incomplete(_) => INCOMPLETE_SIGNATURE_EXCEPTION,
            SignatureError::UnknownKey => UNRECOGNIZED_CLIENT_EXCEPTION,
            SignatureError::ExpiredToken => EXPIRED_TOKEN_EXCEPTION,
            SignatureError::Scope(_)
            | SignatureError::ScopeDate { .. }
            | SignatureError::Expired { .. }
            | SignatureError::NotYetCurrent { .. }
            | SignatureError::HeaderMustBeSigned { .. }
            | SignatureError::SignedHeaderMissing { .. }
            | SignatureError::BodyHash
            | SignatureError::Mismatch => INVALID_SIGNATURE_EXCEPTION,
        };
        ApiError::new(code, error.to_string())
    }
}
