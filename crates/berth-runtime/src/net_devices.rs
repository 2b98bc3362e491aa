//! Network devices of the host that a container gets (config-linux.md, "Network Devices").
//!
//! Owns the move of named devices from the creator's network namespace into the container's: with a new name if asked
//! for, with their permanent global addresses, and up. Nothing is taken back when a container ends: what then becomes of
//! them is the kernel's affair (network_namespaces(7)), as the specification demands.
//!
//! The messages are those of rtnetlink(7), of which few are needed.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use berth_sys::Error;
use berth_sys::namespace::{self, Kind};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

use crate::error::RuntimeError;
use crate::limits;

/// A device to move.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetDevice {
    /// Its name where the runtime is.
    pub host_name: String,
    /// Its name in the container; `%d` at the end stands for the first number that is free there.
    pub name: String,
}

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const RTM_NEWADDR: u16 = 20;
const RTM_GETADDR: u16 = 22;
const REQUEST: u16 = 0x1;
const ACKNOWLEDGE: u16 = 0x4;
const DUMP: u16 = 0x300;
const CREATE_EXCLUSIVELY: u16 = 0x600;
const IFLA_IFNAME: u16 = 3;
const IFLA_NET_NS_FD: u16 = 28;
const IFF_UP: u32 = 1;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_BROADCAST: u16 = 4;
const IFA_FLAGS: u16 = 8;
const IFA_RT_PRIORITY: u16 = 9;
const IFA_F_PERMANENT: u32 = 0x80;
const RT_SCOPE_UNIVERSE: u8 = 0;

/// Bytes of nlmsghdr, of ifinfomsg and of ifaddrmsg.
const HEADER: usize = 16;
const LINK: usize = 16;
const ADDRESS: usize = 8;

/// A permanent global address: its ifaddrmsg and the attributes that are kept.
type Address = ([u8; ADDRESS], Vec<(u16, Vec<u8>)>);

/// Moves the devices into the network namespace behind `target`; what was moved before a failure is moved back.
pub(crate) fn move_all(devices: &[NetDevice], target: &OwnedFd) -> Result<(), RuntimeError> {
    if devices.is_empty() {
        return Ok(());
    }
    let own = namespace::open(Path::new("/proc/self/ns/net"))?;
    let here = Side::new(own)?;
    // A socket keeps the namespace it was made in.
    namespace::enter(target, Kind::Network)?;
    let there = namespace::open(Path::new("/proc/self/ns/net"))
        .map_err(RuntimeError::from)
        .and_then(Side::new);
    namespace::enter(&here.namespace, Kind::Network)?;
    let there = there?;
    let mut moved: Vec<(u32, &NetDevice)> = Vec::new();
    for device in devices {
        match move_one(&here, &there, device) {
            Ok(index) => moved.push((index, device)),
            Err(error) => {
                for (index, device) in moved.into_iter().rev() {
                    // The first failure is what is told.
                    let _ = take_back(&here, &there, index, device);
                }
                return Err(error.into());
            }
        }
    }
    Ok(())
}

fn move_one(here: &Side, there: &Side, device: &NetDevice) -> Result<u32, Error> {
    let index = here.find(&device.host_name)?.ok_or_else(|| {
        Error::new(
            format!("find the network device {}", device.host_name),
            Errno::NODEV,
        )
    })?;
    let template = device.name.ends_with("%d");
    if !template && there.find(&device.name)?.is_some() {
        return Err(Error::new(
            format!("give the container a network device {}", device.name),
            Errno::EXIST,
        ));
    }
    let addresses = here.addresses(index)?;
    // A name that nobody there has: with a template the kernel would not tell which one it chose.
    let passing = if template {
        format!("mv{}-{index}", std::process::id())
    } else {
        device.name.clone()
    };
    here.hand_over(index, &passing, there)?;
    let index = there.find(&passing)?.ok_or_else(|| {
        Error::new(
            format!("find the moved network device {}", device.host_name),
            Errno::NODEV,
        )
    })?;
    let settled = (|| {
        if template {
            there.rename(index, &device.name)?;
        }
        there.restore(index, &addresses)
    })();
    if let Err(error) = settled {
        let _ = take_back(here, there, index, device);
        return Err(error);
    }
    Ok(index)
}

/// Undoes a move, as far as possible.
fn take_back(here: &Side, there: &Side, index: u32, device: &NetDevice) -> Result<(), Error> {
    let addresses = there.addresses(index)?;
    there.hand_over(index, &device.host_name, here)?;
    match here.find(&device.host_name)? {
        Some(index) => here.restore(index, &addresses),
        None => Ok(()),
    }
}

/// A network namespace and a connection to the kernel's routing in it.
struct Side {
    namespace: OwnedFd,
    socket: OwnedFd,
}

impl Side {
    /// Connects in the namespace this process is in, which is the one behind `namespace`.
    fn new(namespace: OwnedFd) -> Result<Self, RuntimeError> {
        let socket = rustix::net::socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            // NETLINK_ROUTE is 0, the default protocol.
            None,
        )
        .map_err(|errno| Error::new("connect to the kernel's routing", errno))?;
        Ok(Self { namespace, socket })
    }

    /// The number of a device, if there is one of this name.
    fn find(&self, name: &str) -> Result<Option<u32>, Error> {
        let mut message = Message::link(RTM_GETLINK, 0, 0);
        message.attribute(IFLA_IFNAME, &with_zero(name));
        let attempt = || format!("look for the network device {name}");
        match self.ask(message, attempt) {
            Ok(answers) => Ok(answers
                .iter()
                .find(|(kind, _)| *kind == RTM_NEWLINK)
                .and_then(|(_, body)| number(body, 4))),
            Err(error) if error.errno() == Some(Errno::NODEV) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The permanent global addresses of a device.
    fn addresses(&self, index: u32) -> Result<Vec<Address>, Error> {
        let message = Message::new(RTM_GETADDR, DUMP, &[0; ADDRESS]);
        let answers = self.ask(message, || "list addresses".to_owned())?;
        let mut found = Vec::new();
        for (kind, body) in answers {
            let Some(head) = body
                .get(..ADDRESS)
                .and_then(|head| <[u8; ADDRESS]>::try_from(head).ok())
            else {
                continue;
            };
            if kind != RTM_NEWADDR
                || number(&body, 4) != Some(index)
                || head[3] != RT_SCOPE_UNIVERSE
            {
                continue;
            }
            let mut attributes = attributes(&body[ADDRESS..]);
            let flags = attributes
                .iter()
                .find(|(kind, _)| *kind == IFA_FLAGS)
                .and_then(|(_, value)| number(value, 0))
                .unwrap_or_else(|| u32::from(head[2]));
            if flags & IFA_F_PERMANENT == 0 {
                continue;
            }
            attributes.retain(|(kind, _)| {
                [
                    IFA_ADDRESS,
                    IFA_LOCAL,
                    IFA_BROADCAST,
                    IFA_FLAGS,
                    IFA_RT_PRIORITY,
                ]
                .contains(kind)
            });
            found.push((head, attributes));
        }
        Ok(found)
    }

    /// Moves a device to the other side, where it has this name.
    fn hand_over(&self, index: u32, name: &str, other: &Self) -> Result<(), Error> {
        let mut message = Message::link(RTM_NEWLINK, index, 0);
        let namespace = u32::try_from(other.namespace.as_fd().as_raw_fd()).unwrap_or(u32::MAX);
        message.attribute(IFLA_NET_NS_FD, &namespace.to_ne_bytes());
        message.attribute(IFLA_IFNAME, &with_zero(name));
        self.ask(message, || {
            format!("move network device number {index} and call it {name}")
        })
        .map(drop)
    }

    fn rename(&self, index: u32, name: &str) -> Result<(), Error> {
        let mut message = Message::link(RTM_NEWLINK, index, 0);
        message.attribute(IFLA_IFNAME, &with_zero(name));
        self.ask(message, || format!("name a network device {name}"))
            .map(drop)
    }

    /// Gives a device, which has lost them by its move, its addresses, and sets it up.
    fn restore(&self, index: u32, addresses: &[Address]) -> Result<(), Error> {
        for (head, attributes) in addresses {
            let mut head = *head;
            head[4..].copy_from_slice(&index.to_ne_bytes());
            let mut message = Message::new(RTM_NEWADDR, CREATE_EXCLUSIVELY, &head);
            for (kind, value) in attributes {
                message.attribute(*kind, value);
            }
            self.ask(message, || {
                format!("give network device number {index} its address")
            })?;
        }
        let message = Message::link(RTM_NEWLINK, index, IFF_UP);
        self.ask(message, || format!("set network device number {index} up"))
            .map(drop)
    }

    /// Sends a request and takes what answers it: the messages before its end, types with bodies.
    fn ask(
        &self,
        message: Message,
        attempt: impl Fn() -> String,
    ) -> Result<Vec<(u16, Vec<u8>)>, Error> {
        let failed = |errno: Errno| Error::new(attempt(), errno);
        rustix::net::send(&self.socket, &message.finish(), SendFlags::empty()).map_err(failed)?;
        let mut answers = Vec::new();
        let mut buffer = vec![0_u8; limits::NETLINK_BYTES];
        for _ in 0..limits::NETLINK_MESSAGES {
            let (length, _) = rustix::io::retry_on_intr(|| {
                rustix::net::recv(&self.socket, &mut buffer[..], RecvFlags::empty())
            })
            .map_err(failed)?;
            let mut rest = &buffer[..length];
            while let (Some(size), Some(kind)) = (number(rest, 0), number(rest, 4)) {
                let size = size as usize;
                // The type is the first half of the word that holds type and flags.
                let kind = u16::from_ne_bytes([kind.to_ne_bytes()[0], kind.to_ne_bytes()[1]]);
                let Some(body) = rest.get(HEADER..size) else {
                    break;
                };
                match kind {
                    NLMSG_DONE => return Ok(answers),
                    NLMSG_ERROR => {
                        let code = number(body, 0).map_or(0, |code| code as i32);
                        return if code == 0 {
                            Ok(answers)
                        } else {
                            Err(failed(Errno::from_raw_os_error(-code)))
                        };
                    }
                    kind => answers.push((kind, body.to_vec())),
                }
                rest = rest.get(aligned(size)..).unwrap_or_default();
            }
        }
        Err(Error::other(attempt(), "the kernel says too much"))
    }
}

/// A request that is being written.
struct Message(Vec<u8>);

impl Message {
    fn new(kind: u16, flags: u16, body: &[u8]) -> Self {
        // A list ends by itself; everything else with an acknowledgement.
        let end = if flags == DUMP { 0 } else { ACKNOWLEDGE };
        let mut bytes = vec![0; 4];
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(&(REQUEST | end | flags).to_ne_bytes());
        bytes.extend_from_slice(&[0; 8]);
        bytes.extend_from_slice(body);
        Self(bytes)
    }

    /// About the device with this number; a flag is set, none is cleared.
    fn link(kind: u16, index: u32, flag: u32) -> Self {
        let mut body = [0; LINK];
        body[4..8].copy_from_slice(&index.to_ne_bytes());
        body[8..12].copy_from_slice(&flag.to_ne_bytes());
        body[12..16].copy_from_slice(&flag.to_ne_bytes());
        Self::new(kind, 0, &body)
    }

    fn attribute(&mut self, kind: u16, value: &[u8]) {
        let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
        self.0.extend_from_slice(&length.to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(value);
        self.0.resize(aligned(self.0.len()), 0);
    }

    fn finish(mut self) -> Vec<u8> {
        let length = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
        self.0[..4].copy_from_slice(&length.to_ne_bytes());
        self.0
    }
}

/// The attributes of a message, types with values.
fn attributes(mut rest: &[u8]) -> Vec<(u16, Vec<u8>)> {
    let mut found = Vec::new();
    while let [a, b, c, d, ..] = *rest {
        let size = usize::from(u16::from_ne_bytes([a, b]));
        let Some(value) = rest.get(4..size) else {
            break;
        };
        found.push((u16::from_ne_bytes([c, d]), value.to_vec()));
        rest = rest.get(aligned(size)..).unwrap_or_default();
    }
    found
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    let four = bytes.get(at..at + 4)?;
    Some(u32::from_ne_bytes(four.try_into().ok()?))
}

fn aligned(length: usize) -> usize {
    length.next_multiple_of(4)
}

fn with_zero(name: &str) -> Vec<u8> {
    let mut bytes = name.as_bytes().to_vec();
    bytes.push(0);
    bytes
}
