//! The user's terminal: whether there is one, its size, and raw mode that always ends.

use std::io::IsTerminal;
use std::os::fd::AsFd;

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

use crate::failure::Failure;

/// Whether standard input is a terminal.
pub(crate) fn input_is_terminal() -> bool {
    std::io::stdin().is_terminal()
}

/// Whether standard output is a terminal.
pub(crate) fn output_is_terminal() -> bool {
    std::io::stdout().is_terminal()
}

/// Whether standard error is a terminal that may be coloured and redrawn.
pub(crate) fn error_is_terminal() -> bool {
    std::io::stderr().is_terminal()
}

/// Height and width of a terminal; zeros when it is none.
pub(crate) fn size_of(descriptor: impl AsFd) -> (u32, u32) {
    tcgetwinsize(descriptor).map_or((0, 0), |size| (size.ws_row.into(), size.ws_col.into()))
}

/// Height and width of the terminal on standard output.
pub(crate) fn output_size() -> (u32, u32) {
    size_of(std::io::stdout())
}

/// Refuses `-it` when standard input is not a terminal.
pub(crate) fn check_input(attach_stdin: bool, tty: bool) -> Result<(), Failure> {
    if attach_stdin && tty && !input_is_terminal() {
        return Err(Failure::new("the input device is not a TTY"));
    }
    Ok(())
}

/// Raw mode on standard input, for as long as the value lives.
#[derive(Debug)]
pub(crate) struct RawMode {
    before: Termios,
}

impl RawMode {
    /// Turns raw mode on; `None` when standard input is no terminal.
    pub(crate) fn enter() -> Result<Option<Self>, Failure> {
        if !input_is_terminal() {
            return Ok(None);
        }
        let failed =
            |error| Failure::new(format!("unable to set IO streams as raw terminal: {error}"));
        let before = tcgetattr(std::io::stdin()).map_err(failed)?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(std::io::stdin(), OptionalActions::Now, &raw).map_err(failed)?;
        Ok(Some(Self { before }))
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        // When the terminal is gone there is nothing left to restore.
        let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, &self.before);
    }
}
