//! `kill`: a signal for running containers.

use super::{Arity, Spec, many};
use crate::failure::Failure;
use crate::flags::{Flag, Operands, Parsed};
use crate::session::Session;

pub(crate) const SPEC: Spec = Spec {
    group: "container",
    names: &["kill"],
    top: &["kill"],
    usage: "[OPTIONS] CONTAINER [CONTAINER...]",
    about: "Send a signal to running containers, SIGKILL unless told otherwise",
    flags: || vec![Flag::text("signal", "Signal to send").short('s')],
    operands: Operands::Mixed,
    arity: Arity::AtLeast(1),
    run,
};

fn run(session: &Session, parsed: &Parsed) -> Result<(), Failure> {
    session.block_on(async {
        let client = session.client()?;
        let client = &client;
        many::each(&parsed.operands, |name| async move {
            client
                .container_kill(name, parsed.text("signal"))
                .await
                .map(|()| Some(name.to_owned()))
                .map_err(|error| session.failure(error))
        })
        .await
    })
}
