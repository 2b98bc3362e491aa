//! The client alone, as a program: what this crate's tests start. Users have the `berth` executable.

use std::process::ExitCode;

fn main() -> ExitCode {
    berth_cli::main(std::env::args_os().collect())
}
