//! The stdio of one process of ours: the container's first one, or an exec session.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use rustix::io::Errno;
use rustix::pipe::PipeFlags;

use super::poll::{Key, Poll, Token};
use crate::error::MonitorError;
use crate::launch::ConsoleSize;
use crate::log::StreamKind;
use crate::record::ExecRecord;

/// Whose stdio it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Owner {
    /// The container's first process.
    Container,
    /// An exec session with this identifier.
    Exec(String),
}

/// What the process gets.
pub(super) struct ProcessEnds {
    pub(super) stdin: OwnedFd,
    pub(super) stdout: OwnedFd,
    pub(super) stderr: OwnedFd,
}

/// Our ends of a process's stdio, before it is known that the process could be made.
#[derive(Default)]
pub(super) struct OurEnds {
    stdin: Option<OwnedFd>,
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
}

/// Makes pipes. Without `stdin` the process reads from `/dev/null`; without `output` it writes there.
pub(super) fn make_pipes(
    stdin: bool,
    output: bool,
) -> Result<(ProcessEnds, OurEnds), MonitorError> {
    let (stdin, our_stdin) = if stdin {
        let (read, write) = pipe()?;
        (read, Some(write))
    } else {
        (null()?, None)
    };
    if !output {
        let ends = ProcessEnds {
            stdin,
            stdout: null()?,
            stderr: null()?,
        };
        return Ok((
            ends,
            OurEnds {
                stdin: our_stdin,
                ..OurEnds::default()
            },
        ));
    }
    let (our_stdout, stdout) = pipe()?;
    let (our_stderr, stderr) = pipe()?;
    let ours = OurEnds {
        stdin: our_stdin,
        stdout: Some(our_stdout),
        stderr: Some(our_stderr),
    };
    for end in [&ours.stdin, &ours.stdout, &ours.stderr]
        .into_iter()
        .flatten()
    {
        set_nonblocking(end)?;
    }
    Ok((
        ProcessEnds {
            stdin,
            stdout,
            stderr,
        },
        ours,
    ))
}

fn pipe() -> Result<(OwnedFd, OwnedFd), MonitorError> {
    rustix::pipe::pipe_with(PipeFlags::CLOEXEC)
        .map_err(|error| berth_sys::Error::new("make a pipe", error).into())
}

fn null() -> Result<OwnedFd, MonitorError> {
    let mut options = std::fs::OpenOptions::new();
    Ok(berth_sys::fs::open("/dev/null".as_ref(), options.read(true).write(true))?.into())
}

fn set_nonblocking(descriptor: impl AsFd) -> Result<(), MonitorError> {
    rustix::io::ioctl_fionbio(descriptor, true)
        .map_err(|error| berth_sys::Error::new("make a descriptor non-blocking", error).into())
}

pub(super) struct Session {
    pub(super) owner: Owner,
    pub(super) pid: i32,
    /// Its handle, which can never mean another process.
    pub(super) pidfd: OwnedFd,
    terminal: bool,
    /// Terminal: the other end of it, for input and output. Otherwise the pipes.
    outputs: [Option<Output>; 2],
    input: Option<OwnedFd>,
    input_writable: bool,
    /// Input that the process has not taken yet.
    waiting: Vec<u8>,
    taken: usize,
    /// Close the input once everything is taken.
    closing_input: bool,
    /// The end of a client's input is the end of ours.
    pub(super) close_with_client: bool,
    /// How it ended.
    pub(super) ended: Option<ExecRecord>,
    /// Until when output is awaited after that.
    pub(super) drain_until: Option<Instant>,
}

struct Output {
    descriptor: OwnedFd,
    readable: bool,
    /// The last writer is gone; no further event comes.
    ending: bool,
}

/// What reading output gave.
pub(super) enum Read {
    /// This many bytes.
    Bytes(usize),
    /// Nothing now.
    Nothing,
    /// The stream has ended just now.
    End,
}

impl Session {
    pub(super) fn new(owner: Owner, pid: i32, pidfd: OwnedFd, close_with_client: bool) -> Self {
        Self {
            owner,
            pid,
            pidfd,
            terminal: false,
            outputs: [None, None],
            input: None,
            input_writable: true,
            waiting: Vec::new(),
            taken: 0,
            closing_input: false,
            close_with_client,
            ended: None,
            drain_until: None,
        }
    }

    /// Takes our ends and watches them.
    pub(super) fn watch(
        &mut self,
        poll: &Poll,
        key: Key,
        pipes: OurEnds,
        console: Option<OwnedFd>,
    ) -> Result<(), MonitorError> {
        poll.add(&self.pidfd, Token::Process(key))?;
        self.terminal = console.is_some();
        let streams = [
            (StreamKind::Stdout, console.or(pipes.stdout)),
            (StreamKind::Stderr, pipes.stderr),
        ];
        for (stream, descriptor) in streams {
            let Some(descriptor) = descriptor else {
                continue;
            };
            if self.terminal {
                set_nonblocking(&descriptor)?;
            }
            poll.add(&descriptor, Token::Output(key, stream))?;
            self.outputs[stream.index()] = Some(Output {
                descriptor,
                readable: true,
                ending: false,
            });
        }
        if let Some(input) = pipes.stdin {
            poll.add(&input, Token::Input(key))?;
            self.input = Some(input);
        }
        Ok(())
    }

    pub(super) fn has_terminal(&self) -> bool {
        self.terminal
    }

    pub(super) fn output_ready(
        &mut self,
        stream: StreamKind,
        readable: bool,
        writable: bool,
        ending: bool,
    ) {
        if let Some(output) = &mut self.outputs[stream.index()] {
            output.readable |= readable;
            output.ending |= ending;
        }
        if self.terminal {
            self.input_writable |= writable;
        }
    }

    pub(super) fn input_ready(&mut self, writable: bool) {
        self.input_writable |= writable;
    }

    /// Whether there may be output to read.
    pub(super) fn has_output(&self, stream: StreamKind) -> bool {
        self.outputs[stream.index()]
            .as_ref()
            .is_some_and(|output| output.readable)
    }

    /// Whether any output may still come.
    pub(super) fn is_open(&self) -> bool {
        self.outputs.iter().any(Option::is_some)
    }

    /// Reads output.
    pub(super) fn read(&mut self, stream: StreamKind, buffer: &mut [u8]) -> Read {
        let terminal = self.terminal;
        let over = self.ended.is_some();
        let place = &mut self.outputs[stream.index()];
        let Some(output) = place else {
            return Read::Nothing;
        };
        match rustix::io::read(&output.descriptor, &mut *buffer) {
            Ok(0) => {
                *place = None;
                Read::End
            }
            Ok(count) => {
                // A pipe gives all it has, so a short read has emptied it; a terminal gives a piece at a time.
                output.readable = terminal || output.ending || count == buffer.len();
                Read::Bytes(count)
            }
            Err(Errno::INTR) => Read::Nothing,
            Err(Errno::AGAIN) => {
                output.readable = false;
                Read::Nothing
            }
            // Nobody has the terminal open. Somebody may open it again as long as the process lives.
            Err(Errno::IO) if terminal && !over => {
                output.readable = false;
                Read::Nothing
            }
            Err(_) => {
                *place = None;
                Read::End
            }
        }
    }

    /// Stops listening for output; true when there was something to stop.
    pub(super) fn close_output(&mut self, stream: StreamKind) -> bool {
        self.outputs[stream.index()].take().is_some()
    }

    /// Looks at everything again: after the process has ended, the end of a terminal is told by reading only.
    pub(super) fn wake_outputs(&mut self) {
        for output in self.outputs.iter_mut().flatten() {
            output.readable = true;
        }
    }

    /// Whether input can be taken from clients now.
    pub(super) fn wants_input(&self) -> bool {
        self.accepts_input() && self.waiting.len() == self.taken
    }

    /// Whether there is an input that has not ended.
    pub(super) fn accepts_input(&self) -> bool {
        let open = if self.terminal {
            self.outputs[0].is_some()
        } else {
            self.input.is_some()
        };
        open && !self.closing_input && self.ended.is_none()
    }

    /// Takes input for the process.
    pub(super) fn give(&mut self, data: &[u8]) {
        self.waiting.extend_from_slice(data);
        self.write_input();
    }

    /// Writes waiting input, as far as the process takes it. True when something moved.
    pub(super) fn write_input(&mut self) -> bool {
        let mut moved = false;
        while self.input_writable && self.taken < self.waiting.len() {
            let target: BorrowedFd<'_> = match (&self.outputs[0], &self.input, self.terminal) {
                (Some(console), _, true) => console.descriptor.as_fd(),
                (_, Some(input), false) => input.as_fd(),
                _ => {
                    self.taken = self.waiting.len();
                    break;
                }
            };
            match rustix::io::write(target, &self.waiting[self.taken..]) {
                Ok(count) => {
                    self.taken += count;
                    moved = true;
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => self.input_writable = false,
                Err(_) => {
                    // Nobody reads it: what is left is for nobody.
                    self.taken = self.waiting.len();
                    if !self.terminal {
                        self.input = None;
                    }
                }
            }
        }
        if self.taken == self.waiting.len() {
            self.waiting = Vec::new();
            self.taken = 0;
            if self.closing_input {
                self.input = None;
            }
        }
        moved
    }

    /// Whether waiting input could move now.
    pub(super) fn can_write_input(&self) -> bool {
        self.input_writable && self.taken < self.waiting.len()
    }

    /// Ends the input once what waits is taken.
    pub(super) fn end_input(&mut self) {
        self.closing_input = true;
        self.write_input();
    }

    /// Sets the size of the terminal.
    pub(super) fn resize(&self, size: ConsoleSize) -> Result<(), MonitorError> {
        match (&self.outputs[0], self.terminal) {
            (Some(console), true) => {
                let size = berth_sys::terminal::WindowSize {
                    rows: size.rows,
                    columns: size.columns,
                };
                Ok(berth_sys::terminal::set_window_size(
                    &console.descriptor,
                    size,
                )?)
            }
            _ => Err(MonitorError::State(
                "there is no terminal to resize".to_owned(),
            )),
        }
    }
}
