//! The kernel's switches for forwarding, of the calling thread's network namespace.
//!
//! Owns three files of `/proc/sys/net` (Documentation/networking/ip-sysctl.rst). Turns forwarding on and never off:
//! others may have come to need it.

use std::io;
use std::path::{Path, PathBuf};

use berth_sys::fs;

use super::error::{Error, Result};

/// Whether packets of a family are forwarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Forwarding {
    /// They are.
    On,
    /// They are not.
    Off,
    /// The kernel does not know the family.
    Unknown,
}

fn switch(ipv4: bool) -> &'static Path {
    Path::new(if ipv4 {
        "/proc/sys/net/ipv4/ip_forward"
    } else {
        "/proc/sys/net/ipv6/conf/all/forwarding"
    })
}

/// How it stands.
pub(crate) fn state(ipv4: bool) -> Result<Forwarding> {
    let path = switch(ipv4);
    if !fs::exists(path) {
        return Ok(Forwarding::Unknown);
    }
    Ok(if read(path)?.trim() == "0" {
        Forwarding::Off
    } else {
        Forwarding::On
    })
}

/// Turns it on.
///
/// A host that forwards IPv6 takes no router advertisements any more, unless `accept_ra` is 2; interfaces that did take
/// them are set so first, or the host would lose its own default route.
pub(crate) fn enable(ipv4: bool) -> Result<()> {
    if !ipv4 {
        let interfaces = Path::new("/proc/sys/net/ipv6/conf");
        let names = fs::list(interfaces).map_err(|cause| {
            Error::new("list the interfaces with IPv6", io::Error::other(cause))
        })?;
        for name in names {
            let path: PathBuf = interfaces.join(name).join("accept_ra");
            if read(&path).is_ok_and(|value| value.trim() == "1") {
                write(&path, "2")?;
            }
        }
    }
    write(switch(ipv4), "1")
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path)
        .map_err(|cause| Error::new(format!("read {}", path.display()), io::Error::other(cause)))
}

fn write(path: &Path, value: &str) -> Result<()> {
    fs::write_existing(path, value.as_bytes())
        .map_err(|cause| Error::new(format!("write {}", path.display()), io::Error::other(cause)))
}
