//! From the exec of the monitor to its event loop.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use berth_sys::{process, signal};
use berth_types::Timestamp;
use oci_spec::runtime::{LinuxNamespaceType, Spec};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;

use super::backend::{self, Backend};
use super::link::{Link, Received};
use super::monitor::Monitor;
use super::network::Network;
use super::poll::{Poll, Slab, Token};
use super::session::{self, OurEnds, Owner, Session};
use crate::error::MonitorError;
use crate::launch::{CONFIG_FILE, LaunchRequest, SOCKET_FILE};
use crate::limits;
use crate::log::{Compression, LogWriter};
use crate::protocol::{FromDaemon, FromMonitor, Streams, frame};
use crate::record::ExitRecord;

/// Connections that wait to be accepted.
const LISTEN_BACKLOG: i32 = 16;

/// Lives a monitor's life, which begins when it is told of its container.
pub(super) fn run() -> Result<(), MonitorError> {
    let mut link = Link::new(detach()?);
    let Some(order) = await_order(&mut link)? else {
        return Ok(());
    };
    let _ = rustix::thread::set_name(c"berth-monitor");
    let Order {
        directory,
        lock,
        clients,
    } = order;
    let request = match LaunchRequest::load(&directory) {
        Ok(request) => request,
        Err(error) => return fail(&directory, &mut link, &error),
    };
    match prepare(&directory, request, lock, &link) {
        Ok(mut monitor) => {
            let lived = monitor.adopt(link, clients).and_then(|()| monitor.run());
            if let Err(error) = &lived {
                monitor.abandon(error);
            }
            lived
        }
        Err(error) => fail(&directory, &mut link, &error),
    }
}

/// What the daemon wants.
struct Order {
    directory: PathBuf,
    lock: OwnedFd,
    clients: Vec<(Streams, OwnedFd)>,
}

/// Waits for the order, which may come long after: a daemon keeps a monitor ready. `None` when it went away without one.
fn await_order(link: &mut Link) -> Result<Option<Order>, MonitorError> {
    let mut rested = false;
    loop {
        while let Some(Received { body, descriptors }) = link.receive() {
            let mut descriptors = descriptors.into_iter();
            match (frame::decode::<FromDaemon>(&body)?, descriptors.next()) {
                (FromDaemon::Launch { directory, attach }, Some(lock)) => {
                    return Ok(Some(Order {
                        directory,
                        lock,
                        clients: attach.into_iter().zip(descriptors).collect(),
                    }));
                }
                (FromDaemon::Hello { .. }, _) => {}
                _ => {
                    return Err(MonitorError::Protocol(
                        "a monitor without a container was asked for something else".into(),
                    ));
                }
            }
        }
        if link.is_dead() {
            return Ok(None);
        }
        let mut list = [PollFd::new(link.socket(), PollFlags::IN)];
        // Nothing for a moment: this one is kept ready, and shall cost little.
        let moment = Timespec::try_from(limits::SPARE_RESTS).ok();
        let limit = if rested { None } else { moment };
        match rustix::event::poll(&mut list, limit.as_ref()) {
            Ok(0) => {
                rested = true;
                berth_sys::memory::release_program();
                berth_sys::memory::trim();
            }
            Ok(_) | Err(Errno::INTR) => link.ready(true, false, false),
            Err(error) => {
                return Err(berth_sys::Error::new("wait for the daemon's order", error).into());
            }
        }
    }
}

/// Makes this process nobody's: own session, no signal but SIGKILL and those of a defect, standard descriptors on
/// `/dev/null`, orphans of the container become our children.
fn detach() -> Result<OwnedFd, MonitorError> {
    // Ended children are told by their signal, which the daemon may have been started without.
    signal::forget_inherited()?;
    signal::block_all()?;
    // Fails for the leader of a process group, which then already is what we want from the daemon's signals.
    let _ = rustix::process::setsid();
    process::set_child_subreaper(true)?;
    berth_sys::memory::tune_small();
    let _ = rustix::thread::set_name(c"berth-spare");
    let _ = rustix::process::chdir("/");
    let link = process::duplicate_inherited(0)?;
    let mut options = std::fs::OpenOptions::new();
    let null = berth_sys::fs::open(Path::new("/dev/null"), options.read(true).write(true))?;
    for number in 0..=2 {
        process::place_descriptor(null.as_fd(), number)?;
    }
    Ok(link)
}

/// Nothing was made: leaves the record and tells the daemon.
fn fail(directory: &Path, link: &mut Link, error: &MonitorError) -> Result<(), MonitorError> {
    let failure = error.to_failure();
    let record = ExitRecord {
        version: ExitRecord::VERSION,
        exit_code: failure.exit_code(),
        signal: None,
        oom_killed: false,
        pid: 0,
        started_at: None,
        finished_at: now(),
        error: Some(failure.clone()),
        execs: std::collections::BTreeMap::new(),
    };
    let written = record.write(directory);
    link.send(&FromMonitor::LaunchFailed(failure));
    written
}

pub(super) fn now() -> Timestamp {
    Timestamp::from(std::time::SystemTime::now())
}

/// Makes the container and everything that serves it.
fn prepare(
    directory: &Path,
    request: LaunchRequest,
    lock: OwnedFd,
    link: &Link,
) -> Result<Monitor, MonitorError> {
    let mut spec = load_spec(directory)?;
    let log = LogWriter::open(&request.log, Compression::Child)?;
    let poll = Poll::new()?;
    let given = request.mounted.then(|| receive_root(link)).transpose()?;
    let network = match &request.network {
        Some(launch) => Network::receive(link.socket(), launch, &poll)?,
        None => Network::default(),
    };
    network.enter_into(&mut spec, &request)?;
    let children = signal::signal_fd(&[child_signal()?])?;
    poll.add_level(&children, Token::Children)?;
    let listener = berth_sys::socket::listen(&directory.join(SOCKET_FILE), LISTEN_BACKLOG)?;
    poll.add_level(&listener, Token::Listener)?;

    let own_processes = has_own_pid_namespace(&spec);
    let (ends, ours) = if request.terminal {
        (None, OurEnds::default())
    } else {
        let (ends, ours) = session::make_pipes(request.open_stdin, true)?;
        (Some(ends), ours)
    };
    let root = match (given, &request.overlay) {
        (Some(root), _) => Some(root),
        (None, Some(overlay)) => Some(overlay.mount_detached()?),
        (None, None) => None,
    };
    let made = backend::create(&request, spec, root, ends)?;
    let mut sessions = Slab::new();
    let mut container = Session::new(
        Owner::Container,
        made.pid,
        made.pidfd,
        request.stdin_once && !request.terminal,
    );
    if let (Some(console), Some(size)) = (&made.console, request.console_size) {
        // A size is a wish; a program can run without.
        let size = berth_sys::terminal::WindowSize {
            rows: size.rows,
            columns: size.columns,
        };
        let _ = berth_sys::terminal::set_window_size(console, size);
    }
    let mut backend = made.backend;
    if let Err(error) = container.watch(&poll, sessions.next_key(), ours, made.console) {
        backend.delete();
        return Err(error);
    }
    let init = sessions.insert(container);
    let oom = watch_memory(&backend, &poll);
    Ok(Monitor::new(super::monitor::Parts {
        directory: directory.to_owned(),
        id: request.id,
        start: request.start,
        open_stdin: request.open_stdin,
        own_processes,
        lock,
        poll,
        children,
        listener,
        backend,
        sessions,
        init,
        log,
        oom,
        notes: made.notes,
        pid: made.pid,
        network,
    }))
}

/// The root file system that the daemon sends right after its order.
fn receive_root(link: &Link) -> Result<OwnedFd, MonitorError> {
    let message = berth_sys::socket::receive(link.socket(), 1, 1)?;
    message.descriptors.into_iter().next().ok_or_else(|| {
        MonitorError::Protocol("the root file system did not come with the launch".to_owned())
    })
}

fn load_spec(directory: &Path) -> Result<Spec, MonitorError> {
    let path = directory.join(CONFIG_FILE);
    let content = berth_sys::fs::read_bounded(&path, limits::MAX_DOCUMENT)?;
    serde_json::from_slice(&content).map_err(|source| MonitorError::Document {
        path: path.display().to_string(),
        source,
    })
}

/// Whether all processes of the container die with its first one.
fn has_own_pid_namespace(spec: &Spec) -> bool {
    let namespaces = spec
        .linux()
        .as_ref()
        .and_then(|linux| linux.namespaces().as_ref());
    namespaces.is_some_and(|list| {
        list.iter().any(|namespace| {
            namespace.typ() == LinuxNamespaceType::Pid && namespace.path().is_none()
        })
    })
}

/// A machine without a memory controller has no such events; a container runs without them as well.
fn watch_memory(backend: &Backend, poll: &Poll) -> Option<berth_sys::cgroup::OomEvents> {
    let events = backend.cgroup()?.oom_events().ok()??;
    poll.add_level(events.fd(), Token::OutOfMemory).ok()?;
    Some(events)
}

fn child_signal() -> Result<berth_types::Signal, MonitorError> {
    berth_types::Signal::parse("SIGCHLD").map_err(|error| MonitorError::State(error.to_string()))
}
