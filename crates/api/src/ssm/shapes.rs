//! The requests as shapes. Members that are not obeyed are known here too, so that they are refused by name.

use crate::shape::{Kind, Limits, Member, Pattern, Shape};

const NAME: Limits = Limits { min: Some(1), max: Some(2_048) };

static STRING: Shape = Shape::new("String", Kind::String(Pattern::Any));
static BOOLEAN: Shape = Shape::new("Boolean", Kind::Boolean);
static PARAMETER_NAME: Shape = Shape::new("PSParameterName", Kind::String(Pattern::Any)).within(NAME);
static PARAMETER_VALUE: Shape = Shape::new("PSParameterValue", Kind::String(Pattern::Any)).sensitive();
static PARAMETER_TYPE: Shape = Shape::new("ParameterType", Kind::Enum(&["String", "StringList", "SecureString"]));
static PARAMETER_TIER: Shape =
    Shape::new("ParameterTier", Kind::Enum(&["Standard", "Advanced", "Intelligent-Tiering"]));
static PARAMETER_NAMES: Shape =
    Shape::new("ParameterNameList", Kind::List { item: &PARAMETER_NAME, item_name: None, flattened: false })
        .within(Limits { min: Some(1), max: Some(10) });
static TAG: Shape = Shape::new(
    "Tag",
    Kind::Structure {
        members: &[
            Member::required("Key", &TAG_TEXT).within(Limits { min: Some(1), max: Some(128) }),
            Member::required("Value", &TAG_TEXT).within(Limits { min: Some(0), max: Some(256) }),
        ],
        union: false,
    },
);
static TAG_TEXT: Shape = Shape::new("TagText", Kind::String(Pattern::Tag));
static TAGS: Shape = Shape::new("TagList", Kind::List { item: &TAG, item_name: None, flattened: false })
    .within(Limits { min: None, max: Some(50) });

pub(super) static GET_PARAMETERS: Shape = Shape::new(
    "GetParametersRequest",
    Kind::Structure {
        members: &[Member::required("Names", &PARAMETER_NAMES), Member::optional("WithDecryption", &BOOLEAN)],
        union: false,
    },
);

pub(super) static PUT_PARAMETER: Shape = Shape::new(
    "PutParameterRequest",
    Kind::Structure {
        members: &[
            Member::optional("AllowedPattern", &STRING).within(Limits { min: Some(0), max: Some(1_024) }),
            Member::optional("DataType", &STRING).within(Limits { min: Some(0), max: Some(128) }),
            Member::optional("Description", &STRING).within(Limits { min: Some(0), max: Some(1_024) }),
            Member::optional("KeyId", &STRING).within(Limits { min: Some(1), max: Some(256) }),
            Member::required("Name", &PARAMETER_NAME),
            Member::optional("Overwrite", &BOOLEAN),
            Member::optional("Policies", &STRING).within(Limits { min: Some(1), max: Some(4_096) }),
            Member::optional("Tags", &TAGS),
            Member::optional("Tier", &PARAMETER_TIER),
            Member::optional("Type", &PARAMETER_TYPE),
            Member::required("Value", &PARAMETER_VALUE),
        ],
        union: false,
    },
);

pub(super) static DELETE_PARAMETER: Shape = Shape::new(
    "DeleteParameterRequest",
    Kind::Structure { members: &[Member::required("Name", &PARAMETER_NAME)], union: false },
);
