//! `wait`: until containers have ended; prints their exit codes.

use berth_api::WaitCondition;

use super::{Arity, Spec};
use crate::failure::Failure;
use crate::flags::{Operands, Parsed};
use crate::session::{self, Session};

pub(crate) const SPEC: Spec = Spec {
    group: "container",
    names: &["wait"],
    top: &["wait"],
    usage: "CONTAINER [CONTAINER...]",
    about: "Wait until containers have ended and print their exit codes",
    flags: Vec::new,
    operands: Operands::Mixed,
    arity: Arity::AtLeast(1),
    run,
};

fn run(session: &Session, parsed: &Parsed) -> Result<(), Failure> {
    session.block_on(async {
        let client = session.client()?;
        let mut failures = Vec::new();
        for name in &parsed.operands {
            let exit = async {
                client
                    .container_wait(name, WaitCondition::NotRunning)
                    .await?
                    .exit()
                    .await
            };
            match exit.await {
                Ok(exit) => match exit.error.filter(|error| !error.message.is_empty()) {
                    Some(error) => failures.push(error.message),
                    None => session::print(&format!("{}\n", exit.status_code))?,
                },
                Err(error) => failures.push(session.explain(&error)),
            }
        }
        if failures.is_empty() {
            Ok(())
        } else {
            Err(Failure::new(failures.join("\n")))
        }
    })
}
