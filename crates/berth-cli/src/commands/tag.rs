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

/// Reads the name that an image is to get.
pub(super) fn new_name(text: &str) -> Result<Reference, Failure> {
    let reference = Reference::parse(text).map_err(|error| {
        Failure::new(format!(
            "Error parsing reference: \"{text}\" is not a valid repository/tag: {error}"
        ))
    })?;
    if reference.digest().is_some() {
        return Err(Failure::new(
            "refusing to create a tag with a digest reference",
        ));
    }
    Ok(reference.with_default_tag())
}

/// The name and the tag that an image is to get, both empty when none was given.
pub(super) fn name_and_tag(text: Option<&String>) -> Result<(String, String), Failure> {
    match text {
        None => Ok((String::new(), String::new())),
        Some(text) => {
            let name = new_name(text)?;
            let tag = name.tag().unwrap_or("latest").to_owned();
            Ok((name.familiar_name(), tag))
        }
    }
}

fn run(session: &Session, parsed: &Parsed) -> Result<(), Failure> {
    let reference = new_name(&parsed.operands[1])?;
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
