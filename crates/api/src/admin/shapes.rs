//! The requests as shapes, so that they are checked by the same walk as those of ECS.

use std::ops::RangeInclusive;

use crate::shape::{Kind, Limits, Member, Pattern, Shape};

/// How many machines one token may let in.
pub const USES: RangeInclusive<i32> = 1..=10_000;
/// How long a token may live: a minute to thirty days.
pub const EXPIRES_IN_SECONDS: RangeInclusive<i32> = 60..=30 * 24 * 3_600;
/// How many container instances one machine may be.
pub const INSTANCES: RangeInclusive<i32> = 1..=256;

/// As long as ECS lets a client token be; ids and names are shorter than an ARN, which has its own rules.
const CLIENT_TOKEN: Limits = Limits { min: Some(1), max: Some(64) };
pub(super) const NAME: Limits = Limits { min: Some(1), max: Some(2_048) };
const PAGE: Limits = Limits { min: Some(1), max: Some(100) };

pub(super) static STRING: Shape = Shape::new("String", Kind::String(Pattern::Any));
pub(super) static INTEGER: Shape = Shape::new("Integer", Kind::Integer);

pub(super) const fn within(range: RangeInclusive<i32>) -> Limits {
    Limits { min: Some(*range.start() as i64), max: Some(*range.end() as i64) }
}

pub(super) const fn request(name: &'static str, members: &'static [Member]) -> Shape {
    Shape::new(name, Kind::Structure { members, union: false })
}

pub(super) static CREATE_JOIN_TOKEN: Shape = request(
    "CreateJoinTokenRequest",
    &[
        Member::optional("cluster", &STRING).within(NAME),
        Member::optional("expiresInSeconds", &INTEGER).within(within(EXPIRES_IN_SECONDS)),
        Member::optional("uses", &INTEGER).within(within(USES)),
    ],
);

pub(super) static LIST_JOIN_TOKENS: Shape = request(
    "ListJoinTokensRequest",
    &[Member::optional("maxResults", &INTEGER).within(PAGE), Member::optional("nextToken", &STRING)],
);

pub(super) static REVOKE_JOIN_TOKEN: Shape =
    request("RevokeJoinTokenRequest", &[Member::required("tokenId", &STRING).within(NAME)]);

pub(super) static JOIN_CONTAINER_INSTANCE: Shape = request(
    "JoinContainerInstanceRequest",
    &[
        Member::required("clientToken", &STRING).within(CLIENT_TOKEN),
        Member::optional("instances", &INTEGER).within(within(INSTANCES)),
    ],
);

pub(super) static LIST_INSTANCE_IDENTITIES: Shape = request(
    "ListInstanceIdentitiesRequest",
    &[
        Member::optional("cluster", &STRING).within(NAME),
        Member::optional("maxResults", &INTEGER).within(PAGE),
        Member::optional("nextToken", &STRING),
    ],
);

/// Exactly one member: a union.
pub(super) static REVOKE_INSTANCE_IDENTITY: Shape = Shape::new(
    "RevokeInstanceIdentityRequest",
    Kind::Structure {
        members: &[
            Member::optional("accessKeyId", &STRING).within(NAME),
            Member::optional("containerInstance", &STRING).within(NAME),
        ],
        union: true,
    },
);

pub(super) static RELEASE_MASS_LOSS_BRAKE: Shape =
    request("ReleaseMassLossBrakeRequest", &[Member::required("cluster", &STRING).within(NAME)]);
