//! Fresh network namespaces that play hosts and peers, and programs run inside them.
//!
//! A namespace is a descriptor and nothing else, so whatever happens to the test, the kernel takes it away with
//! everything in it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use berth_sys::{namespace, network};

/// One network namespace, alive as long as this value.
#[derive(Debug)]
pub(crate) struct Namespace {
    descriptor: OwnedFd,
}

impl Namespace {
    /// A new one, with loopback up.
    pub(crate) fn new() -> Self {
        let descriptor = std::thread::spawn(|| {
            namespace::unshare(namespace::Kind::Network.flag()).unwrap();
            network::bring_up_loopback().unwrap();
            namespace::open(Path::new("/proc/thread-self/ns/net")).unwrap()
        })
        .join()
        .unwrap();
        Self { descriptor }
    }

    /// Runs `work` in a thread inside; a panic there is a panic here.
    pub(crate) fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let inside = std::thread::scope(|scope| {
            scope
                .spawn(|| {
                    namespace::enter(&self.descriptor, namespace::Kind::Network).unwrap();
                    work()
                })
                .join()
        });
        match inside {
            Ok(value) => value,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }

    /// Runs a program inside and waits for its end; the line is split at spaces.
    pub(crate) fn try_command(&self, line: &str) -> Output {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        self.run(move || {
            Command::new(&words[0])
                .args(&words[1..])
                .output()
                .unwrap_or_else(|cause| panic!("{}: {cause}", words.join(" ")))
        })
    }

    /// As [`Namespace::try_command`]; anything but success is a panic. The answer is its standard output.
    pub(crate) fn command(&self, line: &str) -> String {
        let output = self.try_command(line);
        assert!(
            output.status.success(),
            "{line}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    }

    /// Whether the kernel has this kind of link; says so when it has not, since the test then shows nothing.
    pub(crate) fn offers(&self, kind: &str) -> bool {
        let below = match kind {
            "dummy" => String::new(),
            _ => {
                self.command("ip link add probe-a type veth peer name probe-b");
                "link probe-a ".to_owned()
            }
        };
        let id = if kind == "vlan" { " id 1" } else { "" };
        let made = self.try_command(&format!("ip link add {below}name probe type {kind}{id}"));
        for name in ["probe", "probe-a"] {
            self.try_command(&format!("ip link del {name}"));
        }
        berth_testkit::needs::feature(kind, made.status.success())
    }

    /// Joins this namespace and `other` by a veth pair with these addresses (`192.0.2.1/24`), both ends up.
    ///
    /// `link` is the name of the end here, `peer` of the end there.
    pub(crate) fn join(
        &self,
        link: &str,
        address: &str,
        other: &Self,
        peer: &str,
        peer_address: &str,
    ) {
        self.command(&format!("ip link add {link} type veth peer name {peer}"));
        let descriptor = std::os::fd::AsRawFd::as_raw_fd(&other.descriptor);
        let path = format!("/proc/{}/fd/{descriptor}", std::process::id());
        self.command(&format!("ip link set {peer} netns {path}"));
        for (namespace, name, address) in [(self, link, address), (other, peer, peer_address)] {
            let nodad = if address.contains(':') { " nodad" } else { "" };
            namespace.command(&format!("ip addr add {address} dev {name}{nodad}"));
            namespace.command(&format!("ip link set {name} up"));
        }
    }
}

impl AsFd for Namespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

/// Waits until `condition` holds; panics with `what` when it does not within ten seconds.
pub(crate) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
