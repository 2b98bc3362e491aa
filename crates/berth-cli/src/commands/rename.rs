//! `rename`.

use super::{Arity, Spec};
use crate::failure::Failure;
use crate::flags::{Operands, Parsed};
use crate::session::Session;

pub(crate) const SPEC: Spec = Spec {
    group: "container",
    names: &["rename"],
    top: &["rename"],
    usage: "CONTAINER NEW_NAME",
    about: "Give a container another name",
    flags: Vec::new,
    operands: Operands::Mixed,
    arity: Arity::Exactly(2),
    run,
};

fn run(session: &Session, parsed: &Parsed) -> Result<(), Failure> {
    let [old, new] = [0, 1].map(|at| parsed.operands[at].trim());
    if old.is_empty() || new.is_empty() {
        return Err(Failure::new(
            "Error: Neither old nor new names may be empty",
        ));
    }
    session.block_on(async {
        let client = session.client()?;
        client.container_rename(old, new).await.map_err(|error| {
            let text = session.explain(&error);
            Failure::new(format!(
                "{text}\nError: failed to rename container named {old}"
            ))
        })
    })
}
