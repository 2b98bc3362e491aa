//! The monitor process: parent of one container, for as long as that lives.
//!
//! Owns the container's stdio, its log writer, its exit record, and the children. Does not own any decision (restart, removal,
//! health), nor records: those are the daemon's, which may come and go.
//!
//! Invariants:
//! - one thread, ever, so that the runtime's code after `clone` is ordinary Rust;
//! - nothing here waits for a daemon, a client or the disk without a bound;
//! - the exit record is in place before anybody is told of the exit;
//! - after the lock on `monitor.json` is gone, the container's directory is not touched any more.

mod backend;
mod client;
mod ending;
mod link;
mod monitor;
mod network;
mod poll;
mod program;
mod requests;
mod salvage;
mod session;
mod setup;

use std::ffi::OsString;
use std::process::ExitCode;

pub use salvage::salvage;

/// The role `berth monitor`. `arguments` are those after the word `monitor`: `--dir DIR`, or `--compress`
/// for the child that compresses a rotated log.
///
/// Standard input is the connection of the daemon that launches it, and tells it which container to make; `DIR`, the
/// directory of all containers' run-time directories, is for those who look at lists of processes. There is nobody to
/// tell errors to but that daemon and the exit record.
#[must_use]
pub fn main(arguments: &[OsString]) -> ExitCode {
    let mut words = arguments.iter();
    match (words.next(), words.next(), words.next()) {
        (Some(word), None, None) if word == "--compress" => {
            return match crate::log::compress_standard_input() {
                Ok(()) => ExitCode::SUCCESS,
                Err(_) => ExitCode::FAILURE,
            };
        }
        (Some(word), Some(_), None) if word == "--dir" => {}
        _ => return ExitCode::from(2),
    }
    match setup::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
