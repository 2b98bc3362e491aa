//! `top`: the processes of a container.

use super::{Arity, Spec};
use crate::failure::Failure;
use crate::flags::{Operands, Parsed};
use crate::output::text;
use crate::session::{self, Session};

pub(crate) const SPEC: Spec = Spec {
    group: "container",
    names: &["top"],
    top: &["top"],
    usage: "CONTAINER [ps OPTIONS]",
    about: "Show the processes of a container",
    flags: Vec::new,
    operands: Operands::EndFlags,
    arity: Arity::AtLeast(1),
    run,
};

fn run(session: &Session, parsed: &Parsed) -> Result<(), Failure> {
    let (name, arguments) = parsed
        .operands
        .split_first()
        .ok_or_else(|| Failure::new("top needs a container"))?;
    session.block_on(async {
        let client = session.client()?;
        let listed = client
            .container_top(name, &arguments.join(" "))
            .await
            .map_err(|error| session.failure(error))?;
        let lines = std::iter::once(&listed.titles).chain(&listed.processes);
        let table: String = lines.map(|line| format!("{}\n", line.join("\t"))).collect();
        session::print(&text::align_to(&table, 20))
    })
}
