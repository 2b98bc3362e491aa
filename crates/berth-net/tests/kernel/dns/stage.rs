//! A host and a container, and the resolver between them.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::mpsc::{SyncSender, TryRecvError, sync_channel};
use std::thread::JoinHandle;

use berth_net::dns::names::NetworkNames;
use berth_net::dns::{DnsSettings, DnsSockets, Responder};
use berth_sys::namespace;
use rustix::event::{PollFd, PollFlags, Timespec};

use crate::namespace::Namespace;

pub(super) struct Stage {
    pub(super) host: Namespace,
    pub(super) container: Namespace,
    directory: tempfile::TempDir,
    networks: Vec<PathBuf>,
}

impl Stage {
    pub(super) fn new(networks: &[NetworkNames]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let paths = (0..networks.len())
            .map(|index| directory.path().join(format!("names{index}")))
            .collect();
        let stage = Self {
            host: Namespace::new(),
            container: Namespace::new(),
            directory,
            networks: paths,
        };
        for (index, names) in networks.iter().enumerate() {
            stage.write(index, names);
        }
        stage
    }

    pub(super) fn write(&self, index: usize, names: &NetworkNames) {
        names.write(&self.networks[index]).unwrap();
    }

    fn host_file(&self) -> PathBuf {
        self.directory.path().join("resolv.conf")
    }

    pub(super) fn host_servers(&self, servers: &[IpAddr]) {
        let text: String = servers
            .iter()
            .map(|server| format!("nameserver {server}\n"))
            .collect();
        let durability = berth_sys::fs::Durability::Unsynced;
        berth_sys::fs::replace(&self.host_file(), text.as_bytes(), 0o644, durability).unwrap();
    }

    pub(super) fn settings(&self) -> DnsSettings {
        let mut settings = DnsSettings::new("me");
        settings.networks.clone_from(&self.networks);
        settings.external = true;
        settings.host_file = self.host_file();
        settings
    }

    /// Runs a resolver in a thread in the host's namespace, as a monitor would.
    pub(super) fn serve(&self, settings: DnsSettings) -> Resolver {
        let sockets = DnsSockets::prepare_in(&self.container).unwrap();
        let mut responder = Responder::new(settings, sockets, &self.container).unwrap();
        let (sender, changes) = sync_channel::<DnsSettings>(1);
        let host = std::os::fd::AsFd::as_fd(&self.host)
            .try_clone_to_owned()
            .unwrap();
        let thread = std::thread::spawn(move || {
            namespace::enter(&host, namespace::Kind::Network).unwrap();
            loop {
                match changes.try_recv() {
                    Ok(settings) => responder.set(settings),
                    Err(TryRecvError::Empty) => {}
                    Err(TryRecvError::Disconnected) => return,
                }
                let descriptor = responder.descriptor();
                let mut polled = [PollFd::new(&descriptor, PollFlags::IN)];
                let wait = Timespec {
                    tv_sec: 0,
                    tv_nsec: 5_000_000,
                };
                rustix::event::poll(&mut polled, Some(&wait)).unwrap();
                responder.turn();
                responder.shrink();
            }
        });
        Resolver {
            changes: Some(sender),
            thread: Some(thread),
        }
    }

    pub(super) fn dig(&self, question: &str) -> String {
        let line = format!("dig @127.0.0.11 {question}");
        let output = self.container.try_command(&line);
        String::from_utf8(output.stdout).unwrap()
    }

    /// Asks the C library, which sees a resolv.conf of the container's.
    pub(super) fn getent(&self, name: &str) -> String {
        let file = self.directory.path().join("container.conf");
        std::fs::write(&file, "nameserver 127.0.0.11\noptions ndots:0\n").unwrap();
        let script = self.directory.path().join("getent.sh");
        let text = format!(
            "mount --bind {} /etc/resolv.conf && exec getent ahosts \"$1\"\n",
            file.display()
        );
        std::fs::write(&script, text).unwrap();
        self.container
            .command(&format!("unshare -m sh {} {name}", script.display()))
    }
}

pub(super) struct Resolver {
    changes: Option<SyncSender<DnsSettings>>,
    thread: Option<JoinHandle<()>>,
}

impl Resolver {
    /// Gives it other settings; they hold from the next question on.
    pub(super) fn set(&self, settings: DnsSettings) {
        let sender = self.changes.as_ref().unwrap();
        sender.send(settings.clone()).unwrap();
        // There is room for one: when a second is taken in, the first has been followed.
        sender.send(settings.clone()).unwrap();
        sender.send(settings).unwrap();
    }
}

impl Drop for Resolver {
    fn drop(&mut self) {
        drop(self.changes.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
            && !std::thread::panicking()
        {
            panic!("the resolver's thread has panicked");
        }
    }
}
