//! One container on the default bridge, from the command to its end.

use anyhow::Result;

use super::super::engines::Contender;
use super::super::{table, turns};
use super::titles;

/// A table with a row for each kind of network.
pub(super) fn measure(contenders: &[Contender], rounds: usize) -> Result<String> {
    let mut rows = Vec::new();
    for (title, line) in [
        ("`run --rm busybox true`", "--rm busybox true"),
        (
            "`run --rm -p 8080:80 busybox true`",
            "--rm -p 8080:80 busybox true",
        ),
        (
            "`run --rm --network user busybox true`",
            "--rm --network user busybox true",
        ),
        (
            "`run --rm --network none busybox true`",
            "--rm --network none busybox true",
        ),
    ] {
        if line.contains("user") {
            for one in contenders {
                one.quietly("network create user")?;
            }
        }
        rows.push(turns(title, contenders, rounds, |one| one.timed_run(line))?);
    }
    for one in contenders {
        one.quietly("network rm user")?;
    }
    Ok(table::render(&titles(contenders), &rows) + &format!("\n{rounds} rounds.\n"))
}
