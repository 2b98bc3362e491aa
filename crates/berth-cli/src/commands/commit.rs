//! `commit`: an image of a container.

use berth_api::CommitOptions;

use super::{Arity, Spec};
use crate::failure::Failure;
use crate::flags::{Flag, Operands, Parsed};
use crate::session::{self, Session};

pub(crate) const SPEC: Spec = Spec {
    group: "container",
    names: &["commit"],
    top: &["commit"],
    usage: "[OPTIONS] CONTAINER [REPOSITORY[:TAG]]",
    about: "Make an image of what a container changed",
    flags: || {
        vec![
            Flag::text("author", "Who made it (\"Name <name@example.org>\")").short('a'),
            Flag::list("change", "Apply a Dockerfile instruction to the image").short('c'),
            Flag::text("message", "Remark in the history of the image").short('m'),
            Flag::switch("pause", "Freeze the container meanwhile")
                .short('p')
                .on(),
            Flag::switch("no-pause", "Let the container go on meanwhile"),
        ]
    },
    operands: Operands::Mixed,
    arity: Arity::Between(1, 2),
    run,
};

fn run(session: &Session, parsed: &Parsed) -> Result<(), Failure> {
    let (repo, tag) = super::tag::name_and_tag(parsed.operands.get(1))?;
    let options = CommitOptions {
        repo,
        tag,
        comment: parsed.text("message").to_owned(),
        author: parsed.text("author").to_owned(),
        changes: parsed.list("change"),
        no_pause: parsed.switch("no-pause") || !parsed.switch("pause"),
    };
    session.block_on(async {
        let made = session
            .client()?
            .container_commit(&parsed.operands[0], &options)
            .await
            .map_err(|error| session.failure(error))?;
        session::print(&format!("{}\n", made.id))
    })
}
