//! `diff`: in what a container differs from its image.

use super::{Arity, Spec};
use crate::failure::Failure;
use crate::flags::{Operands, Parsed};
use crate::session::{self, Session};

pub(crate) const SPEC: Spec = Spec {
    group: "container",
    names: &["diff"],
    top: &["diff"],
    usage: "CONTAINER",
    about: "Show which files of a container differ from its image",
    flags: Vec::new,
    operands: Operands::Mixed,
    arity: Arity::Exactly(1),
    run,
};

fn run(session: &Session, parsed: &Parsed) -> Result<(), Failure> {
    session.block_on(async {
        let changes = session
            .client()?
            .container_changes(&parsed.operands[0])
            .await
            .map_err(|error| session.failure(error))?;
        let mut text = String::new();
        for change in changes {
            let letter = match change.kind {
                1 => 'A',
                2 => 'D',
                _ => 'C',
            };
            text.push_str(&format!("{letter} {}\n", change.path));
        }
        session::print(&text)
    })
}
