//! Running cargo and other programs with their output passed through.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};
use berth_testkit::images;

/// Runs cargo in the workspace and fails when it fails.
pub(crate) fn cargo<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Result<()> {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(program);
    command.args(arguments).current_dir(images::workspace());
    visibly(&mut command)
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
