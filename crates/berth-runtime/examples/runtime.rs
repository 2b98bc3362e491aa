//! The runtime's command line alone: for conformance suites and measurements without the rest of Berth.

fn main() -> std::process::ExitCode {
    berth_runtime::main(std::env::args_os().skip(1).collect())
}
