//! `volume clone`, `volume snapshot` and `volume rename`: Berth's own.

use std::collections::BTreeMap;

use berth_api::VolumeCopyRequest;

use super::{Arity, Spec};
use crate::failure::Failure;
use crate::flags::{Flag, Operands, Parsed};
use crate::options::environment;
use crate::session::{self, Session};

pub(crate) const CLONE: Spec = Spec {
    group: "volume",
    names: &["clone"],
    top: &[],
    usage: "[OPTIONS] VOLUME NEW_VOLUME",
    about: "Make a volume with the content of another",
    flags,
    operands: Operands::Mixed,
    arity: Arity::Exactly(2),
    run: |session, parsed| copy(session, parsed, false),
};

pub(crate) const SNAPSHOT: Spec = Spec {
    names: &["snapshot"],
    usage: "[OPTIONS] VOLUME [NEW_VOLUME]",
    about: "Keep the content of a volume in another that can only be read",
    arity: Arity::Between(1, 2),
    run: |session, parsed| copy(session, parsed, true),
    ..CLONE
};

pub(crate) const RENAME: Spec = Spec {
    names: &["rename"],
    usage: "VOLUME NEW_NAME",
    about: "Give a volume that no container uses another name",
    flags: Vec::new,
    run: rename,
    ..CLONE
};

fn flags() -> Vec<Flag> {
    vec![
        Flag::many(
            "label",
            "list",
            environment::check_label,
            "Set a label, instead of taking over those of the volume",
        ),
        live(),
        pause(),
    ]
}

pub(super) const fn live() -> Flag {
    Flag::switch(
        "live",
        "Copy although running containers can write to the volume",
    )
}

pub(super) const fn pause() -> Flag {
    Flag::switch(
        "pause",
        "Freeze running containers that can write to the volume meanwhile",
    )
}

fn copy(session: &Session, parsed: &Parsed, snapshot: bool) -> Result<(), Failure> {
    let labels: Option<BTreeMap<String, String>> = parsed
        .given("label")
        .then(|| environment::to_map(&parsed.list("label")));
    let request = VolumeCopyRequest {
        name: parsed.operands.get(1).cloned().unwrap_or_default(),
        labels,
        live: parsed.switch("live"),
        pause: parsed.switch("pause"),
    };
    session.block_on(async {
        let client = session.client()?;
        let volume = client
            .volume_copy(&parsed.operands[0], snapshot, &request)
            .await
            .map_err(|error| session.failure(error))?;
        session::print(&format!("{}\n", volume.name))
    })
}

fn rename(session: &Session, parsed: &Parsed) -> Result<(), Failure> {
    session.block_on(async {
        let client = session.client()?;
        client
            .volume_rename(&parsed.operands[0], &parsed.operands[1])
            .await
            .map(drop)
            .map_err(|error| session.failure(error))
    })
}
