//! Questions on the terminal.
//!
//! Lines are read byte by byte, so that what stands behind them is left for whoever reads next.

use rustix::termios::{
    LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr,
};

use crate::failure::Failure;
use crate::limits::MAX_LINE;
use crate::session;

/// The byte of Ctrl-C.
const INTERRUPT: u8 = 3;
/// Exit status of a program that SIGINT ended.
const STATUS_INTERRUPTED: u8 = 130;

/// Asks a question on standard output and gives the line typed.
///
/// # Errors
/// When standard input ends before.
pub(crate) fn ask(question: &str) -> Result<String, Failure> {
    session::print(question)?;
    read_line()
}

/// The same without showing what is typed.
///
/// # Errors
/// When standard input ends before, or Ctrl-C is typed.
pub(crate) fn ask_secret(question: &str) -> Result<String, Failure> {
    let silence = Silence::begin()?;
    session::print(question)?;
    let line = read_line();
    drop(silence);
    // The line end that was typed is not shown either.
    session::print("\n")?;
    line
}

fn read_line() -> Result<String, Failure> {
    let input = std::io::stdin();
    let mut line = Vec::new();
    let mut byte = [0];
    loop {
        let count = match rustix::io::read(&input, &mut byte) {
            Err(rustix::io::Errno::INTR) => continue,
            outcome => {
                outcome.map_err(|error| Failure::new(format!("read standard input: {error}")))?
            }
        };
        match byte[0] {
            _ if count == 0 && line.is_empty() => {
                return Err(Failure::new("read standard input: it has ended"));
            }
            _ if count == 0 => break,
            b'\n' => break,
            INTERRUPT => return Err(Failure::status(STATUS_INTERRUPTED)),
            other => line.push(other),
        }
        if line.len() > MAX_LINE {
            return Err(Failure::new(format!(
                "read standard input: a line is longer than {MAX_LINE} bytes"
            )));
        }
    }
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    String::from_utf8(line).map_err(|_| Failure::new("read standard input: it is not UTF-8"))
}

/// A terminal that does not show what is typed, for as long as the value lives.
///
/// Ctrl-C is read as an end of the line and not turned into a signal, which would leave the terminal silent.
struct Silence(Termios);

impl Silence {
    fn begin() -> Result<Self, Failure> {
        let failed = |error| Failure::new(format!("hide what is typed: {error}"));
        let before = tcgetattr(std::io::stdin()).map_err(failed)?;
        let mut silent = before.clone();
        silent.local_modes -= LocalModes::ECHO | LocalModes::ISIG;
        silent.local_modes |= LocalModes::ICANON;
        silent.special_codes[SpecialCodeIndex::VEOL] = INTERRUPT;
        // What was typed ahead was shown already, and is thrown away.
        tcsetattr(std::io::stdin(), OptionalActions::Flush, &silent).map_err(failed)?;
        Ok(Self(before))
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        // When the terminal is gone there is nothing left to restore.
        let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, &self.0);
    }
}
