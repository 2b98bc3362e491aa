//! `volume create`.

use berth_api::VolumeCreateRequest;

use super::{Arity, Spec};
use crate::failure::Failure;
use crate::flags::{Flag, Operands, Parsed};
use crate::options::environment;
use crate::session::{self, Session};

pub(crate) const SPEC: Spec = Spec {
    group: "volume",
    names: &["create"],
    top: &[],
    usage: "[OPTIONS] [VOLUME]",
    about: "Make a volume",
    flags: || {
        vec![
            Flag::text("driver", "Driver of the volume")
                .short('d')
                .or("local"),
            Flag::many("label", "list", environment::check_label, "Set a label"),
            Flag::map("opt", "Set an option of the driver").short('o'),
        ]
    },
    operands: Operands::Mixed,
    arity: Arity::AtMost(1),
    run,
};

fn run(session: &Session, parsed: &Parsed) -> Result<(), Failure> {
    let map = |flag: &str| environment::to_map(&parsed.list(flag));
    let request = VolumeCreateRequest {
        name: parsed.operands.first().cloned().unwrap_or_default(),
        driver: parsed.text("driver").to_owned(),
        driver_opts: Some(map("opt")),
        labels: Some(map("label")),
        ..VolumeCreateRequest::default()
    };
    session.block_on(async {
        let client = session.client()?;
        let volume = client
            .volume_create(&request)
            .await
            .map_err(|error| session.failure(error))?;
        session::print(&format!("{}\n", volume.name))
    })
}
