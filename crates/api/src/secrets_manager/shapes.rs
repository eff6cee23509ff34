//! The requests as shapes. Members that are not obeyed are known here too, so that they are refused by name. The bounds of
//! values are those of the model; in bytes they are checked where the value is encrypted.

use crate::shape::{Kind, Limits, Member, Pattern, Shape};

const VALUE: Limits = Limits { min: Some(1), max: Some(65_536) };
/// The same in base64.
const BLOB: Limits = Limits { min: Some(1), max: Some(87_384) };

static STRING: Shape = Shape::new("String", Kind::String(Pattern::Any));
static BOOLEAN: Shape = Shape::new("BooleanType", Kind::Boolean);
static LONG: Shape = Shape::new("RecoveryWindowInDaysType", Kind::Long);
static REPLICA: Shape = Shape::new("ReplicaRegionType", Kind::Document);
static REPLICAS: Shape =
    Shape::new("AddReplicaRegionListType", Kind::List { item: &REPLICA, item_name: None, flattened: false });
static SECRET_ID: Shape =
    Shape::new("SecretIdType", Kind::String(Pattern::Any)).within(Limits { min: Some(1), max: Some(2_048) });
static VERSION_ID: Shape =
    Shape::new("SecretVersionIdType", Kind::String(Pattern::Any)).within(Limits { min: Some(32), max: Some(64) });
static STAGE: Shape =
    Shape::new("SecretVersionStageType", Kind::String(Pattern::Any)).within(Limits { min: Some(1), max: Some(256) });
static STAGES: Shape =
    Shape::new("SecretVersionStagesType", Kind::List { item: &STAGE, item_name: None, flattened: false })
        .within(Limits { min: Some(1), max: Some(20) });
static SECRET_STRING: Shape = Shape::new("SecretStringType", Kind::String(Pattern::Any)).within(VALUE).sensitive();
static SECRET_BINARY: Shape = Shape::new("SecretBinaryType", Kind::String(Pattern::Any)).within(BLOB).sensitive();
static TAG: Shape = Shape::new(
    "Tag",
    Kind::Structure {
        members: &[
            Member::optional("Key", &STRING).within(Limits { min: Some(1), max: Some(128) }),
            Member::optional("Value", &STRING).within(Limits { min: Some(0), max: Some(256) }),
        ],
        union: false,
    },
);
static TAGS: Shape = Shape::new("TagListType", Kind::List { item: &TAG, item_name: None, flattened: false })
    .within(Limits { min: None, max: Some(50) });

const fn request(name: &'static str, members: &'static [Member]) -> Shape {
    Shape::new(name, Kind::Structure { members, union: false })
}

pub(super) static GET_SECRET_VALUE: Shape = request(
    "GetSecretValueRequest",
    &[
        Member::required("SecretId", &SECRET_ID),
        Member::optional("VersionId", &VERSION_ID),
        Member::optional("VersionStage", &STAGE),
    ],
);

pub(super) static CREATE_SECRET: Shape = request(
    "CreateSecretRequest",
    &[
        Member::optional("AddReplicaRegions", &REPLICAS),
        Member::optional("ClientRequestToken", &VERSION_ID),
        Member::optional("CrossAccountPrimaryARN", &STRING),
        Member::optional("Description", &STRING).within(Limits { min: None, max: Some(2_048) }),
        Member::optional("ForceOverwriteReplicaSecret", &BOOLEAN),
        Member::optional("KmsKeyId", &STRING).within(Limits { min: Some(0), max: Some(2_048) }),
        Member::required("Name", &STRING).within(Limits { min: Some(1), max: Some(512) }),
        Member::optional("SecretBinary", &SECRET_BINARY),
        Member::optional("SecretString", &SECRET_STRING),
        Member::optional("Tags", &TAGS),
        Member::optional("Type", &STRING).within(Limits { min: Some(0), max: Some(256) }),
    ],
);

pub(super) static PUT_SECRET_VALUE: Shape = request(
    "PutSecretValueRequest",
    &[
        Member::optional("ClientRequestToken", &VERSION_ID),
        Member::optional("RotationToken", &STRING).within(Limits { min: Some(36), max: Some(256) }),
        Member::optional("SecretBinary", &SECRET_BINARY),
        Member::required("SecretId", &SECRET_ID),
        Member::optional("SecretString", &SECRET_STRING),
        Member::optional("VersionStages", &STAGES),
    ],
);

pub(super) static DELETE_SECRET: Shape = request(
    "DeleteSecretRequest",
    &[
        Member::optional("ForceDeleteWithoutRecovery", &BOOLEAN),
        Member::optional("RecoveryWindowInDays", &LONG),
        Member::required("SecretId", &SECRET_ID),
    ],
);
