//! What links on the host can fail by.

use berth_types::ErrorKind;

use super::{LinkName, LinkNameError, SettingError};
use crate::netlink;

/// Result of everything done to links of the host.
pub type Result<T> = std::result::Result<T, Error>;

/// Something about the host's links that did not come about.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel refused.
    #[error(transparent)]
    Netlink(#[from] netlink::Error),
    /// A file of the kernel's settings could not be read or written.
    #[error(transparent)]
    System(#[from] berth_sys::Error),
    /// A text that cannot be an interface's name.
    #[error(transparent)]
    Name(#[from] LinkNameError),
    /// A setting that an endpoint cannot have.
    #[error(transparent)]
    Setting(#[from] SettingError),
    /// The parent interface of a macvlan or ipvlan network is not there.
    #[error("the parent interface {0} was not found on this host")]
    ParentMissing(LinkName),
    /// The parent is not there and its name does not say of which VLAN on which interface it shall be made.
    #[error(
        "the parent interface {0} was not found on this host, and it is not named like eth0.10, by which a VLAN \
         (1 to 4094) would be made"
    )]
    ParentName(LinkName),
    /// A VLAN cannot be up on an interface that is down (`vlan_dev_open`).
    #[error(
        "the VLAN {vlan} cannot be used while {below} is down: set it up first (ip link set {below} up)"
    )]
    ParentDown {
        /// The VLAN that was to be made.
        vlan: LinkName,
        /// The interface it lies on.
        below: LinkName,
    },
    /// The loopback interface cannot be a parent.
    #[error("the loopback interface cannot be the parent of a network")]
    ParentLoopback,
    /// There is an interface of that name, but it is something else.
    #[error("interface {name} exists and is not a {wanted}")]
    WrongKind {
        /// The interface.
        name: LinkName,
        /// What it should be.
        wanted: &'static str,
    },
    /// The bridge of a network is gone.
    #[error("the bridge {0} does not exist")]
    BridgeMissing(LinkName),
    /// The kernel gives a bridge no more ports (`BR_MAX_PORTS`, 1024 with one of its own).
    #[error(
        "the bridge {0} has as many ports as a bridge can have (1,023): remove a container from its network, or connect \
         this one to another network"
    )]
    BridgeFull(LinkName),
}

impl Error {
    /// What the caller can do about it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Netlink(error) => error.kind(),
            Self::System(error) => error.kind(),
            Self::Name(_) | Self::Setting(_) | Self::ParentName(_) | Self::ParentLoopback => {
                ErrorKind::InvalidArgument
            }
            Self::ParentMissing(_) | Self::BridgeMissing(_) => ErrorKind::NotFound,
            Self::WrongKind { .. } | Self::ParentDown { .. } => ErrorKind::Conflict,
            Self::BridgeFull(_) => ErrorKind::ResourceExhausted,
        }
    }
}
