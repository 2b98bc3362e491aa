//! `rm`.

use berth_api::ContainerRemoveOptions;

use super::{Arity, Spec, many};
use crate::failure::Failure;
use crate::flags::{Flag, Operands, Parsed};
use crate::session::Session;

pub(crate) const SPEC: Spec = Spec {
    group: "container",
    names: &["rm", "remove"],
    top: &["rm"],
    usage: "[OPTIONS] CONTAINER [CONTAINER...]",
    about: "Remove containers",
    flags: || {
        vec![
            Flag::switch("force", "Kill a running container first").short('f'),
            Flag::switch("link", "Remove the link and keep the container").short('l'),
            Flag::switch("volumes", "Remove its anonymous volumes too").short('v'),
        ]
    },
    operands: Operands::Mixed,
    arity: Arity::AtLeast(1),
    run,
};

fn run(session: &Session, parsed: &Parsed) -> Result<(), Failure> {
    let options = ContainerRemoveOptions {
        volumes: parsed.switch("volumes"),
        force: parsed.switch("force"),
        link: parsed.switch("link"),
    };
    let options = &options;
    session.block_on(async {
        let client = session.client()?;
        let client = &client;
        many::each(&parsed.operands, |name| async move {
            let plain = name.trim_matches('/');
            if plain.is_empty() {
                return Err(Failure::new("container name cannot be empty"));
            }
            match client.container_remove(plain, options).await {
                Ok(()) => Ok(Some(name.to_owned())),
                Err(error) if options.force && error.is_not_found() => {
                    // What is gone already is as removed as was asked; the user still learns why.
                    session.warn(&session.explain(&error));
                    Ok(None)
                }
                Err(error) => Err(session.failure(error)),
            }
        })
        .await
    })
}
