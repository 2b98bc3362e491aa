//! The init of a container asked for with `--init`: PID 1 that starts the program, passes signals on to it,
//! reaps whatever is orphaned to it, and ends as the program ends.
//!
//! The executable appears in the container as `/sbin/docker-init`. It keeps no file open but its standard
//! streams and a signal descriptor, starts no thread, and reads nothing of the container but the program.
//!
//! ```text
//!  docker-init [-v]... [--] PROGRAM [ARGUMENT]...
//! ```

use std::ffi::{CString, OsString};
use std::io::Write as _;
use std::os::unix::ffi::OsStringExt as _;
use std::process::ExitCode;

use berth_sys::process::{self, CloneRequest, ExitStatus, ReapTarget};
use berth_sys::{signal, terminal};
use rustix::event::{PollFd, PollFlags, poll};

/// Exit code when the program exists and cannot be executed.
const NOT_EXECUTABLE: u8 = 126;
/// Exit code when there is no such program.
const NOT_FOUND: u8 = 127;
/// Exit code when the init itself cannot work.
const FAILED: u8 = 1;

/// Searched when `PATH` is not set, as execvp(3) does.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Signals that say something about this process's own doing and are of no use to the program.
const OWN_SIGNALS: [i32; 3] = [17, 21, 22]; // CHLD, TTIN, TTOU

/// Runs the init; `arguments` are those after the name of the executable.
pub fn main(arguments: Vec<OsString>) -> ExitCode {
    let program: Vec<CString> = match program_of(arguments) {
        Ok(program) => program,
        Err(text) => return fail(&text),
    };
    match supervise(&program) {
        Ok(status) => ExitCode::from(u8::try_from(status.code() & 0xff).unwrap_or(FAILED)),
        Err(error) => fail(&error_text(&error)),
    }
}

fn fail(text: &str) -> ExitCode {
    // Nobody is left to be told when standard error is closed.
    let _ = writeln!(std::io::stderr(), "docker-init: {text}");
    ExitCode::from(FAILED)
}

fn error_text(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}

/// The program and its arguments: what follows `--`, or the first word that is not a flag.
fn program_of(arguments: Vec<OsString>) -> Result<Vec<CString>, String> {
    let mut rest = arguments.into_iter().peekable();
    while let Some(word) = rest.peek() {
        match word.to_str() {
            Some("--") => {
                rest.next();
                break;
            }
            // Verbosity and reaping flags of other inits: this one always reaps, and never chats.
            Some("-v" | "-vv" | "-vvv" | "-s" | "-g" | "-w") => {
                rest.next();
            }
            Some(flag) if flag.starts_with('-') => return Err(format!("unknown flag: {flag}")),
            _ => break,
        }
    }
    let program = rest
        .map(|word| CString::new(word.into_vec()))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| "an argument holds a zero byte".to_owned())?;
    if program.is_empty() {
        return Err("no program was given".to_owned());
    }
    Ok(program)
}

/// Starts the program and lives until it ends.
fn supervise(program: &[CString]) -> Result<ExitStatus, berth_sys::Error> {
    // Blocked before the program exists, so that no signal for it is lost.
    signal::block_all()?;
    let signals = signal::signal_fd_all()?;
    if rustix::process::getpid().as_raw_pid() != 1 {
        // With the host's or another container's PID namespace orphans would go elsewhere.
        process::set_child_subreaper(true)?;
    }
    let child = process::clone_process(&CloneRequest::default(), || become_program(program))?;
    loop {
        while let Some(number) = signal::read_descriptor(&signals)? {
            if !OWN_SIGNALS.contains(&number) {
                // The program may have ended in between; reaping below notices.
                let _ = process::send_signal(&child.pidfd, number);
            }
        }
        let mut end = None;
        while let Some(reaped) = reap_one()? {
            if reaped.pid == child.pid {
                end = Some(reaped.status);
            }
        }
        if let Some(status) = end {
            return Ok(status);
        }
        let mut watched = [PollFd::new(&signals, PollFlags::IN)];
        // EINTR cannot happen while everything is blocked, and would only mean one more look.
        let _ = poll(&mut watched, None);
    }
}

fn reap_one() -> Result<Option<process::Reaped>, berth_sys::Error> {
    match process::reap(ReapTarget::Any, true) {
        Err(error) if error.errno() == Some(rustix::io::Errno::CHILD) => Ok(None),
        other => other,
    }
}

/// In the child: its own process group in the terminal's foreground, default signals, then the program.
fn become_program(program: &[CString]) -> i32 {
    let group = rustix::process::getpid();
    if rustix::process::setpgid(None, None).is_ok() {
        let input = std::io::stdin();
        if terminal::is_terminal(&input) {
            // Without a controlling terminal there is no foreground to take.
            let _ = terminal::set_foreground(&input, group.as_raw_pid());
        }
    }
    if let Err(error) = signal::reset() {
        fail(&error_text(&error));
        return i32::from(FAILED);
    }
    let environment: Vec<CString> = std::env::vars_os()
        .filter_map(|(mut name, value)| {
            name.push("=");
            name.push(value);
            CString::new(name.into_vec()).ok()
        })
        .collect();
    let mut denied = None;
    for path in candidates(&program[0]) {
        let error = process::execute(&path, program, &environment);
        match error.errno() {
            Some(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => {}
            _ => denied = denied.or(Some(error)),
        }
    }
    let name = program[0].to_string_lossy();
    if let Some(error) = denied {
        fail(&format!("exec {name} failed: {}", error_text(&error)));
        i32::from(NOT_EXECUTABLE)
    } else {
        fail(&format!("exec {name} failed: No such file or directory"));
        i32::from(NOT_FOUND)
    }
}

/// Where a program of that name may be: itself when it has a slash, else in each directory of `PATH`.
fn candidates(name: &CString) -> Vec<CString> {
    if name.as_bytes().contains(&b'/') {
        return vec![name.clone()];
    }
    let path = std::env::var_os("PATH").unwrap_or_else(|| DEFAULT_PATH.into());
    std::env::split_paths(&path)
        .filter_map(|directory| {
            let mut bytes = directory.into_os_string().into_vec();
            if bytes.is_empty() {
                bytes.push(b'.');
            }
            bytes.push(b'/');
            bytes.extend_from_slice(name.as_bytes());
            CString::new(bytes).ok()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<OsString> {
        text.split_whitespace().map(OsString::from).collect()
    }

    #[test]
    fn the_program_is_what_follows_the_flags() {
        let program = |text: &str| {
            program_of(words(text)).map(|words| {
                words
                    .iter()
                    .map(|word| word.to_string_lossy().into_owned())
                    .collect::<Vec<_>>()
                    .join(" ")
            })
        };
        assert_eq!(program("-- sh -c true"), Ok("sh -c true".into()));
        assert_eq!(program("-s -vv sleep -- 1"), Ok("sleep -- 1".into()));
        assert_eq!(program("-- -odd"), Ok("-odd".into()));
        assert!(program("").is_err());
        assert!(program("--").is_err());
        assert!(program("--help x").is_err());
    }
}
