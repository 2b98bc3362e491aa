//! `volume update`: changes volumes of a cluster, and says that there are none elsewhere.

use super::{Arity, Spec};
use crate::failure::Failure;
use crate::flags::{Flag, Operands, Parsed};
use crate::session::Session;

pub(crate) const SPEC: Spec = Spec {
    group: "volume",
    names: &["update"],
    top: &[],
    usage: "[OPTIONS] VOLUME",
    about: "Change a volume (volumes of a cluster only)",
    flags: || {
        vec![Flag::text(
            "availability",
            "Availability of the volume: active, pause or drain",
        )]
    },
    operands: Operands::Mixed,
    arity: Arity::Exactly(1),
    run,
};

fn run(session: &Session, parsed: &Parsed) -> Result<(), Failure> {
    session.block_on(async {
        let client = session.client()?;
        client
            .volume_inspect(&parsed.operands[0])
            .await
            .map_err(|error| session.failure(error))?;
        // This engine is in no cluster, so none of its volumes is a cluster's.
        Err(Failure::new("Can only update cluster volumes"))
    })
}
