//! Shapes for tests: what a model says of them that does not matter here is left out.

use longshore_api::shape::{Kind, Limits, Member, Shape};

pub(super) const fn shape(kind: Kind) -> Shape {
    Shape { name: "S", kind, limits: Limits::NONE, sensitive: false }
}

pub(super) const fn member(name: &'static str, shape: &'static Shape) -> Member {
    Member { name, location_name: None, shape, required: false, limits: Limits::NONE }
}
