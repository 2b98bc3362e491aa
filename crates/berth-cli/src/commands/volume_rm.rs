//! `volume rm`: volumes away.

use super::{Arity, Spec, many};
use crate::failure::Failure;
use crate::flags::{Flag, Operands, Parsed};
use crate::session::Session;

pub(crate) const SPEC: Spec = Spec {
    group: "volume",
    names: &["rm", "remove"],
    top: &[],
    usage: "[OPTIONS] VOLUME [VOLUME...]",
    about: "Remove volumes with what is in them",
    flags: || vec![Flag::switch("force", "A volume that is not there is no error").short('f')],
    operands: Operands::Mixed,
    arity: Arity::AtLeast(1),
    run,
};

fn run(session: &Session, parsed: &Parsed) -> Result<(), Failure> {
    let force = parsed.switch("force");
    session.block_on(async {
        let client = session.client()?;
        let client = &client;
        many::each(&parsed.operands, |name| async move {
            let done = client.volume_remove(name, force).await;
            done.map(|()| Some(name.to_owned()))
                .map_err(|error| session.failure(error))
        })
        .await
    })
}
