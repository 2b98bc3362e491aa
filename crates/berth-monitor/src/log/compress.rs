//! Compressing rotated files, off the event loop.
//!
//! The monitor has one thread and must not stop serving its container for the fraction of a second that a file takes, so a
//! short-lived child of the same executable does it: rotated file in, gzip out. The writer puts the result in place when the
//! child has ended well; until then, and if it fails, the plain file stays.

use std::fs::File;
use std::io::{self, Write};
use std::process::{Command, Stdio};

use flate2::write::GzEncoder;

/// How rotated files are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compression {
    /// By a child process made from this executable in its monitor role.
    Child,
    /// At once, by the caller. For tests, and when no child can be made.
    #[cfg_attr(not(test), allow(dead_code))]
    Here,
}

/// Starts compressing `source` into `target`. Returns the child's process id, or `None` when it is done already.
pub(super) fn start(how: Compression, source: File, target: File) -> io::Result<Option<u32>> {
    match how {
        Compression::Here => filter(source, target).map(|()| None),
        Compression::Child => Command::new("/proc/self/exe")
            .args(["monitor", "--compress"])
            .env_clear()
            .stdin(Stdio::from(source))
            .stdout(Stdio::from(target))
            .stderr(Stdio::null())
            .spawn()
            .map(|child| Some(child.id())),
    }
}

/// The child's work: standard input, compressed, to standard output.
pub(crate) fn compress_standard_input() -> io::Result<()> {
    // Competes with the containers it serves, so it steps back.
    let _ = rustix::process::nice(10);
    filter(io::stdin().lock(), rustix_stdout()?)
}

fn rustix_stdout() -> io::Result<File> {
    Ok(File::from(rustix::io::fcntl_dupfd_cloexec(
        rustix::stdio::stdout(),
        3,
    )?))
}

fn filter(mut source: impl io::Read, target: File) -> io::Result<()> {
    let mut encoder = GzEncoder::new(target, flate2::Compression::default());
    let mut buffer = vec![0; 64 << 10];
    loop {
        match source.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => encoder.write_all(&buffer[..count])?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    encoder.finish()?.flush()
}
