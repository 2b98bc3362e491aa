//! `network rm`: networks away.

use super::{Arity, Spec};
use crate::failure::Failure;
use crate::flags::{Flag, Operands, Parsed};
use crate::session::{self, Session};

pub(crate) const SPEC: Spec = Spec {
    group: "network",
    names: &["rm", "remove"],
    top: &[],
    usage: "NETWORK [NETWORK...]",
    about: "Remove networks",
    flags: || vec![Flag::switch("force", "A network that is not there is no error").short('f')],
    operands: Operands::Mixed,
    arity: Arity::AtLeast(1),
    run,
};

fn run(session: &Session, parsed: &Parsed) -> Result<(), Failure> {
    session.block_on(async {
        let client = session.client()?;
        let mut failed = false;
        for name in &parsed.operands {
            match client.network_remove(name).await {
                Ok(()) => session::print(&format!("{name}\n"))?,
                Err(error) if parsed.switch("force") && error.is_not_found() => {}
                Err(error) => {
                    session.warn(&session.explain(&error));
                    failed = true;
                }
            }
        }
        // What failed is told already; Docker ends with this line.
        match failed {
            true => Err(Failure::new("exit status 1")),
            false => Ok(()),
        }
    })
}
