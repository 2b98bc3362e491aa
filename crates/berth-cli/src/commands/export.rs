//! `export`: a container's file system as an archive.

use super::{Arity, Spec};
use crate::failure::Failure;
use crate::flags::{Flag, Operands, Parsed};
use crate::output::archive;
use crate::session::Session;

pub(crate) const SPEC: Spec = Spec {
    group: "container",
    names: &["export"],
    top: &["export"],
    usage: "[OPTIONS] CONTAINER",
    about: "Export the file system of a container as an archive",
    flags: || {
        vec![Flag::text("output", "Write to this file instead of standard output").short('o')]
    },
    operands: Operands::Mixed,
    arity: Arity::Exactly(1),
    run,
};

fn run(session: &Session, parsed: &Parsed) -> Result<(), Failure> {
    let output = parsed.text("output");
    archive::check(output, "export container")?;
    session.block_on(async {
        let client = session.client()?;
        let mut stream = client
            .container_export(&parsed.operands[0])
            .await
            .map_err(|error| session.failure(error))?;
        archive::write(session, &mut stream, output).await
    })
}
