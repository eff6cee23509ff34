//! Container instances: registration, sessions, DescribeContainerInstances and ListContainerInstances.

pub(crate) mod describe;
pub(crate) mod register;
pub(crate) mod session;

pub use session::SessionRefusal;
