//! `tag`: another name for an image.

use berth_types::reference::Reference;

use super::{Arity, Spec};
use crate::failure::Failure;
use crate::flags::{Operands, Parsed};
use crate::session::Session;

pub(crate) const SPEC: Spec = Spec {
    group: "image",
    names: &["tag"],
    top: &["tag"],
    usage: "SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]",
    about: "Give an image a further name",
    flags: Vec::new,
    operands: Operands::Mixed,
    arity: Arity::Exactly(2),
    run,
};

fn run(session: &Session, parsed: &Parsed) -> Result<(), Failure> {
    let target = &parsed.operands[1];
    let reference = Reference::parse(target).map_err(|error| {
        Failure::new(format!(
            "Error parsing reference: \"{target}\" is not a valid repository/tag: {error}"
        ))
    })?;
    if reference.digest().is_some() {
        return Err(Failure::new(
            "refusing to create a tag with a digest reference",
        ));
    }
    let reference = reference.with_default_tag();
    session.block_on(async {
        let client = session.client()?;
        client
            .image_tag(
                &parsed.operands[0],
                &reference.familiar_name(),
                reference.tag().unwrap_or("latest"),
            )
            .await
            .map_err(|error| session.failure(error))
    })
}
