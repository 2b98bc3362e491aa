//! Network namespaces that play hosts, with links between them.

use std::fs::File;
use std::net::UdpSocket;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::{Command, Output, needs};

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A network namespace with a name of its own and loopback up; removed when dropped.
#[derive(Debug)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// A new one.
    #[track_caller]
    pub fn new() -> Self {
        needs::root();
        needs::program("ip", "iproute2");
        let name = format!(
            "berth-test-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        Command::new("ip").args(["netns", "add", &name]).run().ok();
        let namespace = Self { name };
        namespace.run("ip link set lo up").ok();
        namespace
    }

    /// Its name, as `ip netns` knows it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its file.
    pub fn path(&self) -> PathBuf {
        PathBuf::from("/run/netns").join(&self.name)
    }

    /// A command inside, with words split as a shell does.
    pub fn command(&self, line: &str) -> Command {
        Command::new("nsenter")
            .args([format!("--net={}", self.path().display())])
            .args(crate::words::words(line))
    }

    /// Runs a command inside.
    #[track_caller]
    pub fn run(&self, line: &str) -> Output {
        self.command(line).run()
    }

    /// Runs a shell's line inside.
    #[track_caller]
    pub fn shell(&self, line: &str) -> Output {
        Command::new("nsenter")
            .args([
                format!("--net={}", self.path().display()),
                "sh".to_owned(),
                "-c".to_owned(),
                line.to_owned(),
            ])
            .run()
    }

    /// Joins two by a link: `here` and `there` are addresses with a length, on interfaces of this name.
    #[track_caller]
    pub fn link(&self, other: &Self, interface: &str, here: &[&str], there: &[&str]) {
        self.run(&format!(
            "ip link add {interface} type veth peer name {interface} netns {}",
            other.name
        ))
        .ok();
        for (namespace, addresses) in [(self, here), (other, there)] {
            for address in addresses {
                namespace
                    .run(&format!("ip address add {address} dev {interface} nodad"))
                    .ok();
            }
            namespace.run(&format!("ip link set {interface} up")).ok();
        }
    }

    /// Names of all links inside.
    #[track_caller]
    pub fn links(&self) -> Vec<String> {
        let output = self.run("ip -o link").ok().text().to_owned();
        output
            .lines()
            .filter_map(|line| line.split(": ").nth(1))
            .map(|name| name.split('@').next().unwrap_or(name).to_owned())
            .collect()
    }
}

impl Default for Namespace {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        drop(
            Command::new("ip")
                .args(["netns", "delete", &self.name])
                .run(),
        );
    }
}

/// A server inside a namespace that sends every datagram back; ends when dropped.
#[derive(Debug)]
pub struct Echo {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Echo {
    /// Serves a port on all addresses of the namespace with this file.
    #[track_caller]
    pub fn new(namespace: &Path, port: u16) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let (file, until) = (
            File::open(namespace).expect("the namespace is there"),
            Arc::clone(&over),
        );
        let (ready, bound) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            // A thread of its own, which ends in the namespace it entered.
            move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
                .expect("root enters namespaces");
            let socket = UdpSocket::bind(("::", port)).expect("the port is free");
            let pause = Some(Duration::from_millis(50));
            socket
                .set_read_timeout(pause)
                .expect("the pause is not zero");
            let _ = ready.send(());
            let mut buffer = [0; 2048];
            while !until.load(Ordering::Relaxed) {
                if let Ok((length, client)) = socket.recv_from(&mut buffer) {
                    let _ = socket.send_to(&buffer[..length], client);
                }
            }
        });
        bound.recv().expect("the server has begun");
        Self {
            over,
            thread: Some(thread),
        }
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}
