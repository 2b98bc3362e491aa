//! A container's network namespace, and how one is made.

use std::fs::{File, OpenOptions};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::{Condvar, Mutex, PoisonError};

use berth_sys::namespace;
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVeth, LinkAttribute, LinkInfo, LinkMessage,
};

use super::Result;
use crate::limits;
use crate::link::{Host, setting};
use crate::netlink::{self, Batch, Namespace, Route, message};

/// What the inside end of a prepared pair is called.
pub(super) const PREPARED_NAME: &str = "eth0";
/// The number of the loopback interface, the first of every namespace.
const LOOPBACK: u32 = 1;

/// A network namespace of a container, with the conversation inside it.
///
/// As long as no process is in it, dropping this lets the kernel take it away with all that is in it.
#[derive(Debug)]
pub struct Sandbox {
    pub(super) namespace: Namespace,
    pub(super) route: Route,
    pub(super) pair: Option<Pair>,
}

/// A veth pair whose one end is inside already, both up, waiting to become an endpoint.
#[derive(Debug)]
pub(super) struct Pair {
    /// The number of the host's end, on the host.
    pub(super) host: u32,
    /// The number of the inside end, inside; it is called [`PREPARED_NAME`].
    pub(super) inside: u32,
    pub(super) mtu: u32,
    /// The inside end's `disable_ipv6`, which says 1; absent in a kernel without IPv6.
    pub(super) ipv6_switch: Option<File>,
}

/// Bounds how many namespaces are made at once, by whomever.
struct Gate {
    busy: Mutex<usize>,
    freed: Condvar,
}

static GATE: Gate = Gate {
    busy: Mutex::new(0),
    freed: Condvar::new(),
};

impl Gate {
    fn pass<T>(&self, work: impl FnOnce() -> T) -> T {
        let busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        let mut busy = self
            .freed
            .wait_while(busy, |busy| *busy >= limits::NAMESPACES_AT_ONCE)
            .unwrap_or_else(PoisonError::into_inner);
        *busy += 1;
        drop(busy);
        struct Leave<'a>(&'a Gate);
        impl Drop for Leave<'_> {
            fn drop(&mut self) {
                *self.0.busy.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
                self.0.freed.notify_one();
            }
        }
        let _leave = Leave(self);
        work()
    }
}

impl Sandbox {
    /// A new namespace with loopback up and nothing else.
    pub fn new() -> Result<Self> {
        in_new_namespace(|namespace, route| {
            Ok(Self {
                namespace,
                route,
                pair: None,
            })
        })
    }

    /// A new namespace with loopback up, and a veth pair from `host` into it that carries packets of `mtu` bytes.
    pub fn with_pair(host: &Host, mtu: u32) -> Result<Self> {
        in_new_namespace(|namespace, mut route| {
            let pair = Pair::make(host, &namespace, &mut route, mtu)?;
            Ok(Self {
                namespace,
                route,
                pair: Some(pair),
            })
        })
    }

    /// The namespace of a container that runs (`/proc/PID/ns/net`), for joining it to a network or leaving one.
    pub fn open(namespace: OwnedFd) -> Result<Self> {
        let namespace = Namespace::from_descriptor(namespace)?;
        let route = Route::open_in(&namespace)?;
        Ok(Self {
            namespace,
            route,
            pair: None,
        })
    }

    /// The namespace.
    #[must_use]
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// The namespace alone, for whoever keeps it while the container runs.
    ///
    /// A prepared pair that no endpoint took stays inside until the namespace goes: call
    /// [`Sandbox::release_pair`] before.
    #[must_use]
    pub fn into_namespace(self) -> OwnedFd {
        self.namespace.into_descriptor()
    }

    /// Whether a prepared pair waits for an endpoint on a bridge.
    #[must_use]
    pub fn has_pair(&self) -> bool {
        self.pair.is_some()
    }

    /// Removes the prepared pair when no endpoint took it.
    pub fn release_pair(&mut self) -> Result<()> {
        if let Some(pair) = self.pair.take() {
            let mut batch = Batch::new();
            let link = message::link(pair.inside, Vec::new());
            batch.remove_link("remove an unused veth pair", link);
            self.route.execute(batch)?;
        }
        Ok(())
    }

    /// The links inside, loopback among them.
    pub fn links(&mut self) -> Result<Vec<netlink::Link>> {
        Ok(self.route.links()?)
    }
}

impl AsFd for Sandbox {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.namespace.as_fd()
    }
}

/// Runs `finish` in a thread inside a new namespace that has loopback up and what Docker sets in private ones.
fn in_new_namespace<T: Send>(
    finish: impl FnOnce(Namespace, Route) -> Result<T> + Send,
) -> Result<T> {
    let work = || {
        namespace::unshare(namespace::Kind::Network.flag())?;
        let namespace = Namespace::current()?;
        // Any program may listen on low ports and send echo requests: nobody outside is affected by either.
        // Written without a look: finding one of these files takes longer the more namespaces there are.
        setting::set("ipv4/ip_unprivileged_port_start", "0")?;
        // Group ids end at 2^31-1 for this file; refused where the namespace's owner does not have them all.
        let _ = setting::set("ipv4/ping_group_range", "0 2147483647");
        let mut route = Route::open()?;
        let mut batch = Batch::new();
        let mut loopback = message::link(LOOPBACK, Vec::new());
        message::set_up(&mut loopback, true);
        batch.change_link("set up the loopback interface", loopback);
        route.execute(batch)?;
        finish(namespace, route)
    };
    let inside = GATE.pass(|| {
        std::thread::scope(|scope| {
            std::thread::Builder::new()
                .name("new namespace".to_owned())
                .spawn_scoped(scope, work)
                .map(std::thread::ScopedJoinHandle::join)
        })
    });
    match inside.map_err(|cause| netlink::Error::io("start a thread for a namespace", cause))? {
        Ok(made) => made,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// The message that makes a veth pair with `peer` inside `namespace`; `attributes` are of the host's end.
pub(super) fn veth(
    mut attributes: Vec<LinkAttribute>,
    namespace: &Namespace,
    peer: Vec<LinkAttribute>,
) -> LinkMessage {
    use std::os::fd::AsRawFd;
    let mut inside = message::link(0, peer);
    inside
        .attributes
        .push(LinkAttribute::NetNsFd(namespace.as_fd().as_raw_fd()));
    attributes.push(LinkAttribute::LinkInfo(vec![
        LinkInfo::Kind(InfoKind::Veth),
        LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(inside))),
    ]));
    message::link(0, attributes)
}

/// Switches IPv6 off on a host's end that is still down: a port of a bridge needs none, and each one that speaks it
/// has routes of its own, which the kernel walks through whenever a further interface comes up.
pub(super) fn without_ipv6(host: &Host, name: &str) -> Result<()> {
    host.inside(|| setting::ensure(&format!("ipv6/conf/{name}/disable_ipv6"), "1"))??;
    Ok(())
}

impl Pair {
    /// Makes a pair from `host` into `namespace`, in which the calling thread is.
    fn make(host: &Host, namespace: &Namespace, route: &mut Route, mtu: u32) -> Result<Self> {
        // It lives under this name until an endpoint takes it, and goes with the namespace.
        let name = format!("vethp{}", random_digits()?);
        let host_end = {
            let mut on_host = host.route();
            let mut batch = Batch::new();
            batch.create_link(
                format!("create veth pair {name}"),
                veth(
                    vec![LinkAttribute::IfName(name.clone()), LinkAttribute::Mtu(mtu)],
                    namespace,
                    vec![
                        LinkAttribute::IfName(PREPARED_NAME.to_owned()),
                        LinkAttribute::Mtu(mtu),
                    ],
                ),
            );
            on_host.execute(batch)?;
            on_host.link(&name)?
        };
        without_ipv6(host, &name)?;
        let mut batch = Batch::new();
        let mut up = message::link(host_end.index, Vec::new());
        message::set_up(&mut up, true);
        batch.change_link(format!("set up {name}"), up);
        host.route().execute(batch)?;
        let inside = match host_end.parent {
            Some(index) if index != 0 => index,
            _ => route.link(PREPARED_NAME)?.index,
        };
        setting::ensure(&no_detection(PREPARED_NAME), "0")?;
        let switch = setting::path(&format!("ipv6/conf/{PREPARED_NAME}/disable_ipv6"));
        let ipv6_switch = match berth_sys::fs::open(&switch, OpenOptions::new().write(true)) {
            Ok(file) => {
                flip(&file, b"1")?;
                Some(file)
            }
            Err(error) if error.is_not_found() => None,
            Err(error) => return Err(error.into()),
        };
        let mut batch = Batch::new();
        let mut up = message::link(inside, Vec::new());
        message::set_up(&mut up, true);
        batch.change_link(format!("set up {PREPARED_NAME}"), up);
        route.execute(batch)?;
        Ok(Self {
            host: host_end.index,
            inside,
            mtu,
            ipv6_switch,
        })
    }

    /// Lets the inside end speak IPv6.
    pub(super) fn enable_ipv6(&self) -> Result<()> {
        match &self.ipv6_switch {
            Some(file) => flip(file, b"0"),
            None => Ok(()),
        }
    }
}

/// The setting that lets an interface use its own link-local address without asking first whether somebody has it:
/// on a bridge of ours nobody can, and until the answer nobody could be reached.
pub(super) fn no_detection(interface: &str) -> String {
    format!("ipv6/conf/{interface}/accept_dad")
}

/// Writes a switch from its start, as the kernel requires of every write.
fn flip(switch: &File, value: &[u8]) -> Result<()> {
    switch
        .write_all_at(value, 0)
        .map_err(|cause| netlink::Error::io("switch IPv6 of an interface", cause).into())
}

/// Ten hexadecimal digits.
fn random_digits() -> Result<String> {
    let mut bytes = [0_u8; 5];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
        .map_err(|cause| netlink::Error::io("get random bytes", cause))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
