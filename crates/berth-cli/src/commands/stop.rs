//! `stop`.

use berth_api::StopOptions;

use super::{Arity, Spec, many};
use crate::failure::Failure;
use crate::flags::{Flag, Operands, Parsed};
use crate::options::scalar;
use crate::session::Session;

pub(crate) const SPEC: Spec = Spec {
    group: "container",
    names: &["stop"],
    top: &["stop"],
    usage: "[OPTIONS] CONTAINER [CONTAINER...]",
    about: "Ask containers to end, and kill them when they do not",
    flags,
    operands: Operands::Mixed,
    arity: Arity::AtLeast(1),
    run,
};

/// Flags of `stop` and `restart`.
pub(crate) fn flags() -> Vec<Flag> {
    vec![
        Flag::text("signal", "Signal that asks").short('s'),
        Flag::one(
            "time",
            "int",
            scalar::check_int,
            "Seconds to wait before killing",
        )
        .spelling_of("timeout")
        .deprecated("use --timeout instead"),
        Flag::one(
            "timeout",
            "int",
            scalar::check_int,
            "Seconds to wait before killing",
        )
        .short('t'),
    ]
}

/// What `stop` and `restart` send.
pub(crate) fn options(parsed: &Parsed) -> Result<StopOptions, Failure> {
    let timeout = if parsed.given("timeout") {
        Some(scalar::int64(parsed.text("timeout"))?)
    } else {
        None
    };
    Ok(StopOptions {
        signal: parsed.text("signal").to_owned(),
        timeout,
    })
}

fn run(session: &Session, parsed: &Parsed) -> Result<(), Failure> {
    let options = options(parsed)?;
    let options = &options;
    session.block_on(async {
        let client = session.client()?;
        let client = &client;
        many::each(&parsed.operands, |name| async move {
            let done = client.container_stop(name, options).await;
            done.map(|_| Some(name.to_owned()))
                .map_err(|error| session.failure(error))
        })
        .await
    })
}
