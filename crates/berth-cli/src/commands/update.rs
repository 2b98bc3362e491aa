//! `update`: other limits for containers that exist.

use berth_api::ContainerUpdateBody;

use super::{Arity, Spec, container_flags, container_request};
use crate::failure::Failure;
use crate::flags::{Flag, Operands, Parsed};
use crate::options::{restart, scalar};
use crate::session::{self, Session};

pub(crate) const SPEC: Spec = Spec {
    group: "container",
    names: &["update"],
    top: &["update"],
    usage: "[OPTIONS] CONTAINER [CONTAINER...]",
    about: "Change the limits of containers",
    flags,
    operands: Operands::Mixed,
    arity: Arity::AtLeast(1),
    run,
};

fn flags() -> Vec<Flag> {
    let mut flags = container_flags::limits();
    flags.push(Flag::text(
        "restart",
        "When to restart the container after it ended",
    ));
    flags
}

fn run(session: &Session, parsed: &Parsed) -> Result<(), Failure> {
    if !flags().iter().any(|flag| parsed.given(flag.long)) {
        return Err(Failure::new(
            "you must provide one or more flags when using this command",
        ));
    }
    let mut resources = container_request::limits(parsed);
    resources.pids_limit = scalar::int64(parsed.text("pids-limit"))
        .ok()
        .filter(|limit| *limit != 0);
    let body = ContainerUpdateBody {
        resources,
        restart_policy: restart::parse(parsed.text("restart"))?,
    };
    session.block_on(async {
        let client = session.client()?;
        let (mut warnings, mut failures) = (Vec::new(), Vec::new());
        for name in &parsed.operands {
            match client.container_update(name, &body).await {
                Ok(answer) => {
                    session::print(&format!("{name}\n"))?;
                    warnings.extend(answer.warnings.unwrap_or_default());
                }
                Err(error) => failures.push(session.explain(&error)),
            }
        }
        if !warnings.is_empty() {
            session::print(&format!("{}\n", warnings.join("\n")))?;
        }
        if failures.is_empty() {
            Ok(())
        } else {
            Err(Failure::new(failures.join("\n")))
        }
    })
}
