//! From the `linux.resources` of the OCI specification to the limits of [`berth_sys::cgroup`].
//!
//! Owns the meaning of the specification's fields (what counts as unset, which values are refused). Does not
//! write anything; pure.

use berth_sys::cgroup::Resources;
use oci_spec::runtime::LinuxResources;

/// A field of `linux.resources` that makes no sense.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("linux.resources.{field}: {reason}")]
pub struct ResourcesError {
    /// Path of the field.
    pub field: String,
    /// What is wrong with it.
    pub reason: String,
}

/// Limits as the control groups take them. `devices` is a complete list: an absent or empty one means
/// "leave as it is" (an update does not speak of devices).
///
/// # Errors
/// For device rules without access or with numbers that do not fit, and for negative values that mean nothing.
pub fn resources(_spec: &LinuxResources) -> Result<Resources, ResourcesError> {
    todo!()
}
