//! Why a request of the registry is not done, in the words of the distribution specification.

use std::io;

use http::StatusCode;

use super::limits::LEAST_FREE_BYTES;

/// A refusal: what is sent, and what only the log is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    /// The specification's code.
    pub(crate) code: &'static str,
    pub(crate) message: String,
    /// For the log.
    pub(crate) context: Option<String>,
}

impl Refusal {
    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), context: None }
    }

    pub(crate) fn name_invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "NAME_INVALID", message)
    }

    pub(crate) fn name_unknown() -> Self {
        Self::new(StatusCode::NOT_FOUND, "NAME_UNKNOWN", "there is no such repository")
    }

    pub(crate) fn digest_invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "DIGEST_INVALID", message)
    }

    pub(crate) fn manifest_invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "MANIFEST_INVALID", message)
    }

    pub(crate) fn manifest_unknown() -> Self {
        Self::new(StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN", "there is no such image")
    }

    pub(crate) fn manifest_blob_unknown(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "MANIFEST_BLOB_UNKNOWN", message)
    }

    pub(crate) fn blob_unknown() -> Self {
        Self::new(StatusCode::NOT_FOUND, "BLOB_UNKNOWN", "there is no such blob")
    }

    pub(crate) fn upload_unknown() -> Self {
        let message = "there is no such upload: it is finished, or nothing came for too long; begin a new one";
        Self::new(StatusCode::NOT_FOUND, "BLOB_UPLOAD_UNKNOWN", message)
    }

    /// What arrived does not go on where the upload stands.
    pub(crate) fn out_of_order(message: impl Into<String>) -> Self {
        Self::new(StatusCode::RANGE_NOT_SATISFIABLE, "BLOB_UPLOAD_INVALID", message)
    }

    pub(crate) fn too_large(message: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "SIZE_INVALID", message)
    }

    /// Not for want of rights, but a client must not try at once again, as it would for an error of the server.
    pub(crate) fn disk_full() -> Self {
        let mib = LEAST_FREE_BYTES >> 20;
        let message = format!(
            "the disk of the server's data directory is full: {mib} MiB of it are kept free for the server itself; remove \
             images (longshore image remove) or make room"
        );
        Self::denied(message)
    }

    pub(crate) fn denied(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "DENIED", message)
    }

    pub(crate) fn unauthorized() -> Self {
        let message = "log in with a token of GetAuthorizationToken (aws ecr get-login-password), user AWS";
        Self::new(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", message)
    }

    pub(crate) fn unsupported(message: impl Into<String>) -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED", message)
    }

    pub(crate) fn too_many() -> Self {
        let message = "too many images are on their way at once; try again in a moment";
        Self::new(StatusCode::TOO_MANY_REQUESTS, "TOOMANYREQUESTS", message)
    }

    pub(crate) fn nothing_here() -> Self {
        Self::new(StatusCode::NOT_FOUND, "UNSUPPORTED", "the registry has nothing under this path")
    }

    /// The body did not arrive; nobody may be left to read this.
    pub(crate) fn cut_off(context: impl Into<String>) -> Self {
        let refusal = Self::new(StatusCode::BAD_REQUEST, "BLOB_UPLOAD_INVALID", "the body did not arrive whole");
        refusal.because(context)
    }

    /// Our own failure.
    pub(crate) fn failed(context: impl Into<String>) -> Self {
        let message = "the server failed to do it; its log says why";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "UNKNOWN", message).because(context)
    }

    fn because(self, context: impl Into<String>) -> Self {
        Self { context: Some(context.into()), ..self }
    }

    /// The body, as the specification has it.
    pub(crate) fn to_json(&self) -> Vec<u8> {
        let errors = serde_json::json!({ "errors": [{ "code": self.code, "message": self.message }] });
        errors.to_string().into_bytes()
    }
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            // Of a quota nobody hears before it is exceeded.
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::disk_full().because(error.to_string()),
            _ => Self::failed(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_may_pass_by_itself_is_an_error_of_the_server() {
        let of = |kind: io::ErrorKind| {
            let refusal = Refusal::from(io::Error::from(kind));
            (refusal.status.as_u16(), refusal.code, refusal.context.is_some())
        };
        assert_eq!(of(io::ErrorKind::QuotaExceeded), (403, "DENIED", true));
        assert_eq!(of(io::ErrorKind::StorageFull), (403, "DENIED", true));
        assert_eq!(of(io::ErrorKind::PermissionDenied), (500, "UNKNOWN", true));
    }
}
