use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Who makes a request: the access key that signed it, and the ARN that stands for its owner.
///
/// Made by the edge after the signature was verified; nothing else may make one in production.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Principal {
    /// The access key id of the verified signature.
    pub access_key_id: Arc<str>,
    /// The ARN shown as `registeredBy`, for example `arn:aws:iam::000000000000:root`.
    pub arn: Arc<str>,
}
