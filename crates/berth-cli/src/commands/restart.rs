//! `restart`.

use super::{Spec, many, stop};
use crate::failure::Failure;
use crate::flags::Parsed;
use crate::session::Session;

pub(crate) const SPEC: Spec = Spec {
    names: &["restart"],
    top: &["restart"],
    about: "Stop containers and start them again",
    run,
    ..stop::SPEC
};

fn run(session: &Session, parsed: &Parsed) -> Result<(), Failure> {
    let options = stop::options(parsed)?;
    let options = &options;
    session.block_on(async {
        let client = session.client()?;
        let client = &client;
        many::each(&parsed.operands, |name| async move {
            let done = client.container_restart(name, options).await;
            done.map(|()| Some(name.to_owned()))
                .map_err(|error| session.failure(error))
        })
        .await
    })
}
