//! `rmi`: images away.

use berth_api::ImageRemoveOptions;

use super::{Arity, Spec};
use crate::failure::Failure;
use crate::flags::{Flag, Operands, Parsed};
use crate::options::platform;
use crate::session::{self, Session};

pub(crate) const SPEC: Spec = Spec {
    group: "image",
    names: &["rm", "remove"],
    top: &["rmi"],
    usage: "[OPTIONS] IMAGE [IMAGE...]",
    about: "Remove images",
    flags: || {
        vec![
            Flag::switch(
                "force",
                "Remove it even if it has further names or stopped containers use it",
            )
            .short('f'),
            Flag::switch("no-prune", "Keep its untagged parents"),
            Flag::list("platform", "Remove only these platforms of it"),
        ]
    },
    operands: Operands::Mixed,
    arity: Arity::AtLeast(1),
    run,
};

fn run(session: &Session, parsed: &Parsed) -> Result<(), Failure> {
    let platforms =
        platform::all(parsed).map_err(|reason| format!("invalid platform: {reason}"))?;
    let options = ImageRemoveOptions {
        force: parsed.switch("force"),
        no_prune: parsed.switch("no-prune"),
        platforms,
    };
    session.block_on(async {
        let client = session.client()?;
        let (mut failures, mut fatal) = (Vec::new(), false);
        for name in &parsed.operands {
            match client.image_remove(name, &options).await {
                Ok(items) => {
                    let lines: String = items
                        .iter()
                        .map(|item| match item.deleted.as_str() {
                            "" => format!("Untagged: {}\n", item.untagged),
                            deleted => format!("Deleted: {deleted}\n"),
                        })
                        .collect();
                    session::print(&lines)?;
                }
                Err(error) => {
                    fatal |= !error.is_not_found();
                    failures.push(session.explain(&error));
                }
            }
        }
        match failures.is_empty() {
            true => Ok(()),
            // What is gone already is told, but is no failure for those who insist.
            false if options.force && !fatal => {
                session.warn(&failures.join("\n"));
                Ok(())
            }
            false => Err(Failure::new(failures.join("\n"))),
        }
    })
}
