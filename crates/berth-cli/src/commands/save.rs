//! `save`: images as an archive.

use super::{Arity, Spec};
use crate::failure::Failure;
use crate::flags::{Flag, Operands, Parsed};
use crate::options::platform;
use crate::output::archive;
use crate::session::Session;

pub(crate) const SPEC: Spec = Spec {
    group: "image",
    names: &["save"],
    top: &["save"],
    usage: "[OPTIONS] IMAGE [IMAGE...]",
    about: "Save images to an archive on standard output or in a file",
    flags: || {
        vec![
            Flag::text("output", "Write to this file instead of standard output").short('o'),
            Flag::list("platform", "Save only these platforms"),
        ]
    },
    operands: Operands::Mixed,
    arity: Arity::AtLeast(1),
    run,
};

fn run(session: &Session, parsed: &Parsed) -> Result<(), Failure> {
    let platforms =
        platform::all(parsed).map_err(|reason| format!("invalid platform: {reason}"))?;
    let output = parsed.text("output");
    archive::check(output, "save image")?;
    session.block_on(async {
        let client = session.client()?;
        let mut stream = client
            .image_save(&parsed.operands, &platforms)
            .await
            .map_err(|error| session.failure(error))?;
        archive::write(session, &mut stream, output).await
    })
}
