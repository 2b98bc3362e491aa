//! `conformance`: stock clients and engines against Berth, and the same against the reference.

use anyhow::{Result, bail};

use crate::cargo::cargo;
use crate::deps;

/// Runs the scenarios; a word selects those whose name contains it (`docker_on_docker` is the
/// reference alone).
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    deps::run(&[])?;
    let mut words = vec!["test", "--package", "berth", "--test", "conformance", "--"];
    match arguments {
        [] => {}
        [one] => words.push(one),
        _ => bail!("conformance takes at most one word to select scenarios by"),
    }
    words.extend(["--test-threads", "6"]);
    cargo(words)
}
