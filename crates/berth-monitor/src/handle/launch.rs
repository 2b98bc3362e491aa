//! Finding a monitor, or making one.
//!
//! A monitor is born with its end of the first connection, and is told there which container to make; with that comes
//! its `monitor.json`, locked. The lock lives as long as the monitor, so whoever finds the file
//! unlocked knows for sure that no monitor is there, be it starting, serving or ending.

use std::fs::{File, OpenOptions};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::fs::FlockOperation;
use tokio::net::UnixStream;

use super::connection::{Connection, Opening};
use super::{Created, MonitorHandle};
use crate::error::MonitorError;
use crate::launch::{LAUNCH_FILE, LaunchRequest, SOCKET_FILE};
use crate::limits;
use crate::network::{LaunchDescriptors, NetworkLaunch};
use crate::protocol::{FromDaemon, RunState, Streams, frame};
use crate::record::EXIT_FILE;

/// Between two looks at a monitor that lives but does not listen.
const RETRY: Duration = Duration::from_millis(2);

/// Monitors that are executed already and wait to be told of a container, so that a launch does not wait for the start of
/// a program. Cheap to clone.
///
/// One that is not needed ends with the connection to its daemon. It holds nothing of any container.
#[derive(Debug, Clone)]
pub struct Spares {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    executable: PathBuf,
    root: PathBuf,
    ready: Mutex<Vec<StdUnixStream>>,
    refilling: AtomicBool,
}

impl Spares {
    /// None yet. `executable` is run as `berth monitor --dir <root>` and should be a sealed view of this program
    /// ([`berth_sys::executable::SealedExecutable::path`]); `root` is the directory of the bundles, shown in lists of
    /// processes.
    #[must_use]
    pub fn new(executable: PathBuf, root: PathBuf) -> Self {
        Self {
            inner: Arc::new(Inner {
                executable,
                root,
                ready: Mutex::new(Vec::new()),
                refilling: AtomicBool::new(false),
            }),
        }
    }

    fn ready(&self) -> std::sync::MutexGuard<'_, Vec<StdUnixStream>> {
        self.inner
            .ready
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes new ones in place of those that were taken, a moment later, so as not to be in the way of what was just launched.
    pub fn refill(&self) {
        if self.inner.refilling.swap(true, Ordering::AcqRel) {
            return;
        }
        let spares = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(limits::SPARE_DELAY).await;
            // Before the count: a launch that takes one from here on asks again.
            spares.inner.refilling.store(false, Ordering::Release);
            while spares.ready().len() < limits::SPARES {
                // Without spares a launch makes its own, and tells what is wrong.
                let Ok(fresh) = execute(&spares.inner.executable, &spares.inner.root) else {
                    return;
                };
                spares.ready().push(fresh);
            }
        });
    }

    /// As [`launch_with`], by a monitor that waits, where there is one. `attach` are connected before the program runs: their
    /// streams, and the monitor's ends of the sockets.
    ///
    /// # Errors
    /// As [`launch_with`].
    pub async fn launch(
        &self,
        request: &LaunchRequest,
        descriptors: LaunchDescriptors,
        attach: Vec<(Streams, OwnedFd)>,
    ) -> Result<(MonitorHandle, Created), MonitorError> {
        let waiting = self.ready().pop();
        let made = || execute(&self.inner.executable, &self.inner.root);
        launch_by(waiting, made, request, descriptors, attach).await
    }
}

/// Starts a monitor, which creates the container; with `request.start` also its program. `executable` is run as
/// `berth monitor --dir <directory>`. `config.json` must be in the bundle already.
///
/// # Errors
/// [`MonitorError::Refused`] when the container could not be created or started; the exit record then says the same and
/// nothing is left of it.
pub async fn launch(
    executable: &Path,
    request: &LaunchRequest,
) -> Result<(MonitorHandle, Created), MonitorError> {
    launch_with(executable, request, LaunchDescriptors::default()).await
}

/// As [`launch`], with the descriptors that [`LaunchRequest::network`] and [`LaunchRequest::mounted`] announce.
///
/// # Errors
/// As [`launch`]; and when the descriptors are not those.
pub async fn launch_with(
    executable: &Path,
    request: &LaunchRequest,
    descriptors: LaunchDescriptors,
) -> Result<(MonitorHandle, Created), MonitorError> {
    let made = || execute(executable, &request.bundle);
    launch_by(None, made, request, descriptors, Vec::new()).await
}

/// Who can be attached by a launch.
pub const ATTACHED_AT_LAUNCH: usize = limits::MAX_FRAME_DESCRIPTORS - 1;

/// Launches by the monitor that is `waiting`, if it lives, else by one that is `made`.
async fn launch_by(
    waiting: Option<StdUnixStream>,
    made: impl FnOnce() -> Result<StdUnixStream, MonitorError>,
    request: &LaunchRequest,
    given: LaunchDescriptors,
    attach: Vec<(Streams, OwnedFd)>,
) -> Result<(MonitorHandle, Created), MonitorError> {
    let directory = request.bundle.as_path();
    let lock = prepare(directory, request)?;
    let (streams, sockets): (Vec<Streams>, Vec<OwnedFd>) = attach.into_iter().unzip();
    let order = frame::encode(
        &FromDaemon::Launch {
            directory: directory.to_owned(),
            attach: streams,
        },
        1 + sockets.len(),
    )?;
    let descriptors: Vec<BorrowedFd<'_>> = std::iter::once(lock.as_fd())
        .chain(sockets.iter().map(AsFd::as_fd))
        .collect();
    let told = |stream: StdUnixStream| {
        berth_sys::socket::send(&stream, &order, &descriptors).map(|()| stream)
    };
    // One that has died meanwhile does not take the order.
    let stream = match waiting.map(told) {
        Some(Ok(stream)) => stream,
        _ => told(made()?)?,
    };
    send_descriptors(&stream, request, given)?;
    drop(descriptors);
    // With them go our copies, so that the monitor's end is seen.
    drop((lock, sockets));
    stream.set_nonblocking(true).map_err(super::socket_error)?;
    let stream = UnixStream::from_std(stream).map_err(super::socket_error)?;
    let opening = Connection::open(stream, directory.to_owned());
    match tokio::time::timeout(limits::ANSWER_WAIT, opening).await {
        Ok(Ok(Opening::Ready(connection))) => {
            let handle = MonitorHandle {
                connection: connection.into(),
            };
            let status = handle.first_status();
            let created = Created {
                pid: status.pid,
                notes: status.notes.clone(),
                started: status.state != RunState::Created,
            };
            Ok((handle, created))
        }
        Ok(Ok(Opening::Failed(failure))) => Err(MonitorError::Refused(failure)),
        Ok(Ok(Opening::Closed)) => Err(super::gone(directory)),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(MonitorError::Silent {
            directory: directory.display().to_string(),
            request: "launch",
            seconds: limits::ANSWER_WAIT.as_secs(),
        }),
    }
}

/// Sends the root file system and the descriptors of the network after the order, each group with one byte. The monitor
/// knows their number from its request.
fn send_descriptors(
    socket: &StdUnixStream,
    request: &LaunchRequest,
    descriptors: LaunchDescriptors,
) -> Result<(), MonitorError> {
    if request.mounted != descriptors.root.is_some() {
        return Err(MonitorError::Protocol(
            "the root file system was given to a launch that does not expect it, or the reverse"
                .to_owned(),
        ));
    }
    if let Some(root) = &descriptors.root {
        berth_sys::socket::send(socket, &[0], &[root.as_fd()])?;
    }
    let list = descriptors.list();
    let needed = request
        .network
        .as_ref()
        .map_or(0, NetworkLaunch::descriptors);
    if list.len() != needed {
        return Err(MonitorError::Protocol(format!(
            "{} descriptors were given for a launch that needs {needed}",
            list.len()
        )));
    }
    for group in list.chunks(berth_sys::socket::DESCRIPTOR_LIMIT) {
        berth_sys::socket::send(socket, &[0], group)?;
    }
    Ok(())
}

/// Executes a monitor, which waits for its order on the other end.
fn execute(executable: &Path, root: &Path) -> Result<StdUnixStream, MonitorError> {
    let (ours, theirs) = StdUnixStream::pair().map_err(super::socket_error)?;
    let mut command = tokio::process::Command::new(executable);
    command
        .arg0("berth")
        .arg("monitor")
        .arg("--dir")
        .arg(root)
        .env_clear()
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(false);
    // An outside runtime looks for its helpers, and finds its user's directories, by these.
    for name in ["PATH", "HOME", "TMPDIR", "XDG_RUNTIME_DIR"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    let mut child = command.spawn().map_err(|error| {
        berth_sys::Error::new(format!("execute a monitor for {}", root.display()), error)
    })?;
    // Reaped as soon as it ends; when this daemon goes first, it is somebody else's child.
    tokio::spawn(async move { child.wait().await });
    Ok(ours)
}

/// Clears what an earlier run left and writes the request; the file is returned locked.
fn prepare(directory: &Path, request: &LaunchRequest) -> Result<File, MonitorError> {
    let path = directory.join(LAUNCH_FILE);
    if is_locked(directory) {
        return Err(MonitorError::State(format!(
            "the monitor of the last run of {} has not ended yet",
            request.id
        )));
    }
    berth_sys::fs::remove_file(&directory.join(EXIT_FILE))?;
    berth_sys::fs::remove_file(&directory.join(SOCKET_FILE))?;
    // Made anew under its final name and locked before it has content: nobody else launches in this directory.
    berth_sys::fs::remove_file(&path)?;
    let content = serde_json::to_vec(request).map_err(|source| MonitorError::Document {
        path: path.display().to_string(),
        source,
    })?;
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(true);
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = berth_sys::fs::open(&path, &options)?;
    rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)
        .map_err(|error| berth_sys::Error::new(format!("lock {}", path.display()), error))?;
    std::io::Write::write_all(&mut file, &content)
        .map_err(|error| berth_sys::Error::new(format!("write {}", path.display()), error))?;
    Ok(file)
}

/// Whether a monitor lives in this directory.
pub(crate) fn is_locked(directory: &Path) -> bool {
    let Ok(file) = berth_sys::fs::open(&directory.join(LAUNCH_FILE), OpenOptions::new().read(true))
    else {
        return false;
    };
    rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared).is_err()
}

/// Connects to the monitor of a container that an earlier daemon launched. `None` when there is no monitor (any more).
///
/// # Errors
/// When there is one that does not speak to us.
pub async fn connect(directory: &Path) -> Result<Option<MonitorHandle>, MonitorError> {
    let attempt = async {
        loop {
            // Without blocking: a listening unix socket takes or refuses at once.
            if let Ok(stream) = berth_sys::socket::connect(&directory.join(SOCKET_FILE)) {
                let stream = StdUnixStream::from(stream);
                stream.set_nonblocking(true).map_err(super::socket_error)?;
                let stream = UnixStream::from_std(stream).map_err(super::socket_error)?;
                match Connection::open(stream, directory.to_owned()).await? {
                    Opening::Ready(connection) => {
                        return Ok(Some(MonitorHandle {
                            connection: connection.into(),
                        }));
                    }
                    Opening::Failed(_) | Opening::Closed => {}
                }
            }
            if !is_locked(directory) {
                return Ok(None);
            }
            tokio::time::sleep(RETRY).await;
        }
    };
    tokio::time::timeout(limits::CONNECT_WAIT, attempt)
        .await
        .unwrap_or_else(|_| {
            Err(MonitorError::Silent {
                directory: directory.display().to_string(),
                request: "connect",
                seconds: limits::CONNECT_WAIT.as_secs(),
            })
        })
}
