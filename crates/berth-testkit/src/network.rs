//! A host's network of its own for a daemon: a network namespace with a way to a second one, from where the
//! ports it publishes are reached as from another machine. The machine's own network stays untouched.

use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::Result;

use crate::Command;

/// Address of the daemon's host towards the outside.
pub const HOST: &str = "192.0.2.1";
/// Address of the machine outside.
pub const OUTSIDE: &str = "192.0.2.2";

/// The first letters of the namespaces' names; the process that made them follows.
const PREFIX: &str = "bt";

/// Two network namespaces, one the host of a daemon and one outside, with a link between them.
#[derive(Debug)]
pub struct Network {
    name: String,
}

impl Network {
    /// Makes both.
    ///
    /// # Errors
    /// When `ip` cannot make them.
    pub fn new() -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}{}x{number}", std::process::id());
        let network = Self { name };
        let (host, outside) = (network.host(), network.outside());
        let lines = [
            format!("netns add {host}"),
            format!("netns add {outside}"),
            format!("-n {host} link set lo up"),
            format!("-n {outside} link set lo up"),
            format!("-n {host} link add out0 type veth peer name in0 netns {outside}"),
            format!("-n {host} address add {HOST}/24 dev out0"),
            format!("-n {outside} address add {OUTSIDE}/24 dev in0"),
            format!("-n {host} link set out0 up"),
            format!("-n {outside} link set in0 up"),
            format!("-n {host} route add default via {OUTSIDE}"),
        ];
        for line in lines {
            Command::new("ip").args(line.split(' ')).checked()?;
        }
        // As a host that nobody has told to forward; a namespace begins as the machine is.
        let off = "net.ipv4.ip_forward=0";
        network.on_host("sysctl").args(["-qw", off]).checked()?;
        Ok(network)
    }

    /// Name of the namespace of the daemon's host, as `ip netns` knows it.
    pub fn host(&self) -> String {
        format!("{}h", self.name)
    }

    /// Name of the namespace outside.
    pub fn outside(&self) -> String {
        format!("{}o", self.name)
    }

    /// A command on the daemon's host.
    pub fn on_host(&self, program: &str) -> Command {
        enter(&self.host(), program)
    }

    /// A command outside.
    pub fn on_outside(&self, program: &str) -> Command {
        enter(&self.outside(), program)
    }
}

/// Removes the namespaces that test processes no longer alive have left.
pub fn sweep() {
    for entry in std::fs::read_dir("/run/netns")
        .into_iter()
        .flatten()
        .flatten()
    {
        let name = entry.file_name().to_string_lossy().into_owned();
        let owner = name
            .strip_prefix(PREFIX)
            .and_then(|text| text.split_once('x'))
            .and_then(|(pid, _)| pid.parse::<i32>().ok());
        if owner.is_some_and(|pid| !crate::process::is_alive(pid)) {
            delete(&name);
        }
    }
}

fn delete(name: &str) {
    // One that was never made need not be removed.
    drop(Command::new("ip").args(["netns", "delete", name]).try_run());
}

fn enter(namespace: &str, program: &str) -> Command {
    Command::new("nsenter").args([&format!("--net=/run/netns/{namespace}"), program])
}

impl Drop for Network {
    fn drop(&mut self) {
        for name in [self.host(), self.outside()] {
            delete(&name);
        }
    }
}
