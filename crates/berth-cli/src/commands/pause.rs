//! `pause` and `unpause`.

use super::{Arity, Spec, many};
use crate::failure::Failure;
use crate::flags::{Operands, Parsed};
use crate::session::Session;

pub(crate) const PAUSE: Spec = Spec {
    group: "container",
    names: &["pause"],
    top: &["pause"],
    usage: "CONTAINER [CONTAINER...]",
    about: "Freeze every process of containers",
    flags: Vec::new,
    operands: Operands::Mixed,
    arity: Arity::AtLeast(1),
    run: pause,
};

pub(crate) const UNPAUSE: Spec = Spec {
    names: &["unpause"],
    top: &["unpause"],
    about: "Let frozen containers go on",
    run: unpause,
    ..PAUSE
};

fn pause(session: &Session, parsed: &Parsed) -> Result<(), Failure> {
    session.block_on(async {
        let client = session.client()?;
        let client = &client;
        many::each(&parsed.operands, |name| async move {
            let done = client.container_pause(name).await;
            done.map(|()| Some(name.to_owned()))
                .map_err(|error| session.failure(error))
        })
        .await
    })
}

fn unpause(session: &Session, parsed: &Parsed) -> Result<(), Failure> {
    session.block_on(async {
        let client = session.client()?;
        let client = &client;
        many::each(&parsed.operands, |name| async move {
            let done = client.container_unpause(name).await;
            done.map(|()| Some(name.to_owned()))
                .map_err(|error| session.failure(error))
        })
        .await
    })
}
