//! Letting the host pass packets on between its interfaces.

use super::{Host, Result, setting};

/// Which families' forwarding was switched on by us; so the packet filter can drop what nobody asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Forwarding {
    /// IPv4's was off, and is on now.
    pub ipv4: bool,
    /// IPv6's was off, and is on now.
    pub ipv6: bool,
}

impl Host {
    /// Switches forwarding on for the families asked for; the answer says what was off.
    pub fn ensure_forwarding(&self, ipv4: bool, ipv6: bool) -> Result<Forwarding> {
        self.inside(|| {
            let mut changed = Forwarding::default();
            if ipv4 {
                changed.ipv4 = setting::ensure("ipv4/ip_forward", "1")?;
            }
            if ipv6 {
                // "all" sets "default" and every interface as well, but only when it changes itself.
                let later = setting::ensure("ipv6/conf/default/forwarding", "1")?;
                changed.ipv6 = setting::ensure("ipv6/conf/all/forwarding", "1")? || later;
            }
            Ok(changed)
        })?
    }

    /// Whether forwarding is on: of IPv4, of IPv6.
    pub fn forwarding(&self) -> Result<(bool, bool)> {
        let on = |name: &str| match berth_sys::fs::read_to_string(&setting::path(name)) {
            Ok(value) => Ok(value.trim() != "0"),
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) => Err(error),
        };
        self.inside(|| Ok((on("ipv4/ip_forward")?, on("ipv6/conf/all/forwarding")?)))?
    }

    /// Whether frames that cross a bridge pass the packet filter of IP (`br_netfilter`): then what a container sends to
    /// a port of its own that the host publishes is translated on the bridge, and must leave by where it came from.
    pub(crate) fn filters_frames(&self) -> Result<bool> {
        let on = |name: &str| match berth_sys::fs::read_to_string(&setting::path(name)) {
            Ok(value) => Ok(value.trim() == "1"),
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) => Err(error),
        };
        self.inside(|| {
            Ok(on("bridge/bridge-nf-call-iptables")? || on("bridge/bridge-nf-call-ip6tables")?)
        })?
    }
}
