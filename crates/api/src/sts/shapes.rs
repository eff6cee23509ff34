//! Requests and answers as shapes: what the query protocol is read and written by.

use crate::shape::{Kind, Member, Pattern, Shape};

static STRING: Shape = Shape::new("String", Kind::String(Pattern::Any));

pub(super) static GET_CALLER_IDENTITY_REQUEST: Shape =
    Shape::new("GetCallerIdentityRequest", Kind::Structure { members: &[], union: false });

pub(super) static GET_CALLER_IDENTITY_RESPONSE: Shape = Shape::new(
    "GetCallerIdentityResponse",
    Kind::Structure {
        members: &[
            Member::optional("Account", &STRING),
            Member::optional("Arn", &STRING),
            Member::optional("UserId", &STRING),
        ],
        union: false,
    },
);
