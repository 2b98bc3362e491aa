//! User and group ids of this process.
//!
//! The calls act on the calling thread, which in our roles is the only one.

use rustix::process::{Gid, Uid};

use crate::error::{Attempt, Result};

/// Sets real, effective and saved group id.
pub fn set_group(gid: u32) -> Result<()> {
    let gid = Gid::from_raw(gid);
    rustix::thread::set_thread_res_gid(gid, gid, gid)
        .attempt(|| format!("become group {}", gid.as_raw()))
}

/// Sets real, effective and saved user id.
pub fn set_user(uid: u32) -> Result<()> {
    let uid = Uid::from_raw(uid);
    rustix::thread::set_thread_res_uid(uid, uid, uid)
        .attempt(|| format!("become user {}", uid.as_raw()))
}

/// Replaces the supplementary groups.
pub fn set_supplementary_groups(groups: &[u32]) -> Result<()> {
    let groups: Vec<Gid> = groups.iter().map(|gid| Gid::from_raw(*gid)).collect();
    rustix::thread::set_thread_groups(&groups).attempt(|| "set the supplementary groups")
}

/// The supplementary groups of this process.
pub fn supplementary_groups() -> Result<Vec<u32>> {
    let groups = rustix::process::getgroups().attempt(|| "read the supplementary groups")?;
    Ok(groups.into_iter().map(|gid| gid.as_raw()).collect())
}
