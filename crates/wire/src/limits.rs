//! Every bound of this crate, and where it comes from.

use std::time::Duration;

/// How far a request's clock may be from ours, either way: what AWS allows.
pub const MAX_CLOCK_SKEW: Duration = Duration::from_secs(5 * 60);

/// The longest life of a presigned request: seven days, as AWS has it (the signing key itself lives no longer).
pub const MAX_PRESIGNED_LIFE: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// The longest `nextToken` that is looked at. Ours hold one cursor (an ARN at most, written in hexadecimal); longer ones are
/// not ours and need not be hashed to know it.
pub const MAX_PAGE_TOKEN_BYTES: usize = 8 * 1024;

/// How deep a JSON document may nest. ECS's deepest request has nine levels; the parser recurses once per level, so the
/// bound is what keeps a hostile body from exhausting the stack. It is the parser's own built-in bound.
pub const MAX_JSON_DEPTH: usize = 128;

/// Parameters of one form. The largest that AWS's query services take name some hundreds of things with a handful of members
/// each.
pub const MAX_FORM_PARAMETERS: usize = 4096;

/// How many parts the name of a form's parameter may have: as deep as any shape may be, and a list takes two.
pub const MAX_FORM_DEPTH: usize = 32;
