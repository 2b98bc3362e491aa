//! `update`: other limits for containers that exist.

use berth_api::ContainerUpdateBody;

use super::{Arity, Spec, container_request};
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
    vec![
        Flag::one(
            "blkio-weight",
            "uint16",
            scalar::check_uint16,
            "Share of block I/O, 10 to 1000, or 0 for the default",
        ),
        Flag::one(
            "cpu-period",
            "int64",
            scalar::check_int,
            "Period of the processor quota in microseconds",
        ),
        Flag::one(
            "cpu-quota",
            "int64",
            scalar::check_int,
            "Processor time per period in microseconds",
        ),
        Flag::one(
            "cpu-rt-period",
            "int64",
            scalar::check_int,
            "Period of the real-time quota in microseconds",
        ),
        Flag::one(
            "cpu-rt-runtime",
            "int64",
            scalar::check_int,
            "Real-time processor time per period in microseconds",
        ),
        Flag::one(
            "cpu-shares",
            "int64",
            scalar::check_int,
            "Share of processor time",
        )
        .short('c'),
        Flag::one(
            "cpus",
            "decimal",
            scalar::check_nano_cpus,
            "Number of processors",
        ),
        Flag::text("cpuset-cpus", "Processors to run on (0-3, 0,1)"),
        Flag::text("cpuset-mems", "Memory nodes to use (0-3, 0,1)"),
        Flag::one(
            "kernel-memory",
            "bytes",
            scalar::check_bytes,
            "Kernel memory limit",
        )
        .deprecated("and no longer supported by the kernel"),
        Flag::one("memory", "bytes", scalar::check_bytes, "Memory limit").short('m'),
        Flag::one(
            "memory-reservation",
            "bytes",
            scalar::check_bytes,
            "Memory to keep when the host runs short",
        ),
        Flag::one(
            "memory-swap",
            "bytes",
            scalar::check_bytes_or_unlimited,
            "Limit of memory and swap together; -1 for unlimited swap",
        ),
        Flag::one(
            "pids-limit",
            "int64",
            scalar::check_int,
            "Most processes and threads; -1 for unlimited",
        ),
        Flag::text("restart", "When to restart the container after it ended"),
    ]
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
