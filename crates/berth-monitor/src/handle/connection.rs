//! One connection to a monitor: a task that reads, a task that writes, and the requests in between.

use std::collections::HashMap;
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
use tokio::io::{AsyncReadExt, Interest};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot, watch};

use super::{Directory, gone};
use crate::error::{Failure, MonitorError};
use crate::limits;
use crate::protocol::{
    FromDaemon, FromMonitor, MonitorEvent, Reply, Request, Status, VERSION, frame,
};

type Waiting = oneshot::Sender<Result<Reply, Failure>>;

#[derive(Debug)]
pub(super) struct Connection {
    directory: Directory,
    status: Status,
    outgoing: mpsc::Sender<Outgoing>,
    pending: Arc<Mutex<Pending>>,
    events: Mutex<Option<mpsc::Receiver<MonitorEvent>>>,
    gone: watch::Receiver<bool>,
}

#[derive(Debug, Default)]
struct Pending {
    next: u64,
    /// `None` once the connection is closed.
    waiting: Option<HashMap<u64, Waiting>>,
}

#[derive(Debug)]
struct Outgoing {
    frame: Vec<u8>,
    descriptors: Vec<OwnedFd>,
}

/// What the monitor said first.
pub(super) enum Opening {
    /// The container is there.
    Ready(Connection),
    /// It could not be launched.
    Failed(Failure),
    /// The monitor closed the connection before it said anything.
    Closed,
}

impl Connection {
    /// Speaks to the monitor behind `stream` and waits for its first message.
    pub(super) async fn open(
        stream: UnixStream,
        directory: Directory,
    ) -> Result<Opening, MonitorError> {
        let (mut reader, writer) = stream.into_split();
        let mut buffer = Vec::new();
        let hello = frame::encode(&FromDaemon::Hello { version: VERSION }, 0)?;
        // The monitor of a container that ends at once may have closed the connection already; what it said is still there.
        let _ = send(&writer, &hello, &[]).await;
        let status = loop {
            match read_message(&mut reader, &mut buffer).await? {
                None => return Ok(Opening::Closed),
                Some(FromMonitor::LaunchFailed(failure)) => return Ok(Opening::Failed(failure)),
                Some(FromMonitor::Hello { status, .. }) => break *status,
                Some(_) => {}
            }
        };
        let (outgoing, outgoing_receiver) = mpsc::channel(limits::MAX_PENDING_REQUESTS);
        let (event_sender, events) = mpsc::channel(limits::MAX_PENDING_EVENTS);
        let (gone_sender, gone) = watch::channel(false);
        let pending = Arc::new(Mutex::new(Pending {
            next: 1,
            waiting: Some(HashMap::new()),
        }));
        let writing = tokio::spawn(write_all(writer, outgoing_receiver));
        let for_reader = Arc::clone(&pending);
        tokio::spawn(async move {
            // Ends with the monitor, with a message it does not understand, or when nobody takes events any more.
            let _ = read_all(reader, buffer, &for_reader, event_sender).await;
            lock(&for_reader).waiting = None;
            writing.abort();
            let _ = gone_sender.send(true);
        });
        Ok(Opening::Ready(Self {
            directory,
            status,
            outgoing,
            pending,
            events: Mutex::new(Some(events)),
            gone,
        }))
    }

    pub(super) async fn ask(
        &self,
        request: Request,
        descriptors: Vec<OwnedFd>,
    ) -> Result<Reply, MonitorError> {
        let name = request.name();
        let (answer, waiting) = oneshot::channel();
        let number = {
            let mut pending = lock(&self.pending);
            let number = pending.next;
            pending.next += 1;
            match &mut pending.waiting {
                Some(list) => list.insert(number, answer),
                None => return Err(gone(&self.directory)),
            };
            number
        };
        // Forgets the request when the caller loses interest.
        let _forget = Forget {
            pending: &self.pending,
            number,
        };
        let frame = frame::encode(&FromDaemon::Request { number, request }, descriptors.len())?;
        if self
            .outgoing
            .send(Outgoing { frame, descriptors })
            .await
            .is_err()
        {
            return Err(gone(&self.directory));
        }
        match tokio::time::timeout(limits::ANSWER_WAIT, waiting).await {
            Ok(Ok(Ok(reply))) => Ok(reply),
            Ok(Ok(Err(failure))) => Err(MonitorError::Refused(failure)),
            Ok(Err(_)) => Err(gone(&self.directory)),
            Err(_) => Err(MonitorError::Silent {
                directory: self.directory.display().to_string(),
                request: name,
                seconds: limits::ANSWER_WAIT.as_secs(),
            }),
        }
    }

    pub(super) fn events(&self) -> Option<mpsc::Receiver<MonitorEvent>> {
        self.events
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }

    pub(super) fn first_status(&self) -> &Status {
        &self.status
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    pub(super) fn is_gone(&self) -> bool {
        *self.gone.borrow()
    }

    pub(super) async fn gone(&self) {
        // The sender's end without a word is the same message.
        let _ = self.gone.clone().wait_for(|gone| *gone).await;
    }
}

struct Forget<'a> {
    pending: &'a Mutex<Pending>,
    number: u64,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        if let Some(waiting) = &mut lock(self.pending).waiting {
            waiting.remove(&self.number);
        }
    }
}

fn lock(pending: &Mutex<Pending>) -> std::sync::MutexGuard<'_, Pending> {
    pending.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn read_message(
    reader: &mut OwnedReadHalf,
    buffer: &mut Vec<u8>,
) -> Result<Option<FromMonitor>, MonitorError> {
    loop {
        while let Some((body, _)) = frame::take(buffer)? {
            match frame::decode::<FromMonitor>(&body) {
                Ok(message) => return Ok(Some(message)),
                // Something of a later version: an event we do not know is no reason to give up.
                Err(error) if !is_event(&body) => return Err(error),
                Err(_) => {}
            }
        }
        match reader.read_buf(buffer).await {
            Ok(0) | Err(_) => return Ok(None),
            Ok(_) => {}
        }
    }
}

fn is_event(body: &[u8]) -> bool {
    #[derive(serde::Deserialize)]
    struct Event {
        #[serde(rename = "event")]
        _event: serde::de::IgnoredAny,
    }
    serde_json::from_slice::<Event>(body).is_ok()
}

async fn read_all(
    mut reader: OwnedReadHalf,
    mut buffer: Vec<u8>,
    pending: &Mutex<Pending>,
    events: mpsc::Sender<MonitorEvent>,
) -> Result<(), MonitorError> {
    while let Some(message) = read_message(&mut reader, &mut buffer).await? {
        match message {
            FromMonitor::Answer { number, result } => {
                let waiting = lock(pending)
                    .waiting
                    .as_mut()
                    .and_then(|list| list.remove(&number));
                if let Some(waiting) = waiting {
                    // Whoever asked may have gone meanwhile.
                    let _ = waiting.send(result);
                }
            }
            FromMonitor::Event(event) => match events.try_send(event) {
                // Nobody listens to events: requests still work.
                Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => {}
                Err(mpsc::error::TrySendError::Full(_)) => {
                    return Err(MonitorError::Protocol("events are not taken".into()));
                }
            },
            FromMonitor::Hello { .. } | FromMonitor::LaunchFailed(_) => {}
        }
    }
    Ok(())
}

async fn write_all(writer: OwnedWriteHalf, mut outgoing: mpsc::Receiver<Outgoing>) {
    while let Some(Outgoing { frame, descriptors }) = outgoing.recv().await {
        if send(&writer, &frame, &descriptors).await.is_err() {
            return;
        }
    }
}

/// Sends a frame; its descriptors travel with the first byte.
async fn send(
    writer: &OwnedWriteHalf,
    frame: &[u8],
    descriptors: &[OwnedFd],
) -> std::io::Result<()> {
    let stream: &UnixStream = writer.as_ref();
    let mut sent = 0;
    while sent < frame.len() {
        stream.writable().await?;
        let result = stream.try_io(Interest::WRITABLE, || {
            let mut space = [MaybeUninit::uninit();
                rustix::cmsg_space!(ScmRights(limits::MAX_FRAME_DESCRIPTORS))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            let borrowed: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
            if sent == 0 && !borrowed.is_empty() {
                control.push(SendAncillaryMessage::ScmRights(&borrowed));
            }
            let parts = [IoSlice::new(&frame[sent..])];
            let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
            Ok(rustix::net::sendmsg(stream, &parts, &mut control, flags)?)
        });
        match result {
            Ok(count) => sent += count,
            Err(error)
                if matches!(
                    error.kind(),
                    std::io::ErrorKind::WouldBlock | std::io::ErrorKind::Interrupted
                ) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
