//! `container prune`: away with everything that does not run.

use std::io::BufRead;

use berth_types::size;

use super::{Arity, Spec};
use crate::failure::Failure;
use crate::flags::{Flag, Operands, Parsed};
use crate::options::filter;
use crate::session::{self, Session};

pub(crate) const SPEC: Spec = Spec {
    group: "container",
    names: &["prune"],
    top: &[],
    usage: "[OPTIONS]",
    about: "Remove all stopped containers",
    flags: || {
        vec![
            Flag::many(
                "filter",
                "filter",
                filter::check,
                "Remove only what matches (\"until=<timestamp>\")",
            ),
            Flag::switch("force", "Do not ask").short('f'),
        ]
    },
    operands: Operands::Mixed,
    arity: Arity::None,
    run,
};

/// Asks a question; only a yes is one.
pub(crate) fn confirm(warning: &str) -> Result<bool, Failure> {
    session::print(&format!(
        "{warning}\nAre you sure you want to continue? [y/N] "
    ))?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    Ok(answer.trim().eq_ignore_ascii_case("y"))
}

fn run(session: &Session, parsed: &Parsed) -> Result<(), Failure> {
    let filters = filter::all(&parsed.list("filter"));
    if !parsed.switch("force") && !confirm("WARNING! This will remove all stopped containers.")? {
        return Err(Failure::new("container prune has been cancelled"));
    }
    session.block_on(async {
        let client = session.client()?;
        let report = client
            .container_prune(&filters)
            .await
            .map_err(|error| session.failure(error))?;
        let deleted = report.containers_deleted.unwrap_or_default();
        let mut text = String::new();
        if !deleted.is_empty() {
            text = format!("Deleted Containers:\n{}\n\n", deleted.join("\n"));
        }
        text.push_str(&format!(
            "Total reclaimed space: {}\n",
            size::format_decimal(report.space_reclaimed)
        ));
        session::print(&text)
    })
}
