//! Running cargo and other programs with their output passed through.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};
use berth_testkit::images;

/// Runs cargo in the workspace and fails when it fails.
pub(crate) fn cargo<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Result<()> {
    visibly(command().args(arguments))
}

/// Cargo in the workspace, with the environment that it has when a person calls it.
///
/// The cargo that runs us has put facts of our own package there; build scripts that watch these variables (ring's
/// does) would run again, and all that depends on them be built again, each time the two kinds of call take turns.
pub(crate) fn command() -> Command {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(program);
    command.current_dir(images::workspace());
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&name);
        }
    }
    command
}

/// A command as one would type it.
pub(crate) fn line_of(command: &Command) -> String {
    let words: Vec<String> = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    words.join(" ")
}

/// Shows the command, runs it and fails when it fails.
pub(crate) fn visibly(command: &mut Command) -> Result<()> {
    let line = line_of(command);
    eprintln!("+ {line}");
    let status = command
        .status()
        .with_context(|| format!("start `{line}`"))?;
    if !status.success() {
        bail!("`{line}` failed ({status})");
    }
    Ok(())
}

/// Where cargo puts what it builds for this machine, for the given profile directory.
pub(crate) fn output_directory(profile: &str) -> Result<PathBuf> {
    // xtask itself was built into .../<target>/debug by the same configuration.
    let own = std::env::current_exe().context("path of xtask")?;
    let directory = own
        .parent()
        .and_then(|debug| debug.parent())
        .context("directory of xtask")?;
    Ok(directory.join(profile))
}
