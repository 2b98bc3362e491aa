//! `volume export` and `volume import`: Berth's own.

use berth_api::VolumeImportOptions;
use tokio::io::AsyncRead;

use super::volume_copy::live;
use super::{Arity, Spec};
use crate::failure::Failure;
use crate::flags::{Flag, Operands, Parsed};
use crate::options::environment::{self, reason};
use crate::output::archive;
use crate::session::{self, Session};

pub(crate) const EXPORT: Spec = Spec {
    group: "volume",
    names: &["export"],
    top: &[],
    usage: "[OPTIONS] VOLUME",
    about: "Write the content of a volume as a tar archive",
    flags: || {
        vec![
            live(),
            Flag::text("output", "Write to this file instead of standard output").short('o'),
        ]
    },
    operands: Operands::Mixed,
    arity: Arity::Exactly(1),
    run: export,
};

pub(crate) const IMPORT: Spec = Spec {
    names: &["import"],
    usage: "[OPTIONS] NEW_VOLUME FILE|-",
    about: "Make a volume of a tar archive, which may be compressed",
    flags: || {
        vec![Flag::many(
            "label",
            "list",
            environment::check_label,
            "Set a label",
        )]
    },
    arity: Arity::Exactly(2),
    run: import,
    ..EXPORT
};

fn export(session: &Session, parsed: &Parsed) -> Result<(), Failure> {
    let output = parsed.text("output");
    archive::check(output, "export volume")?;
    session.block_on(async {
        let client = session.client()?;
        let mut stream = client
            .volume_export(&parsed.operands[0], parsed.switch("live"))
            .await
            .map_err(|error| session.failure(error))?;
        archive::write(session, &mut stream, output).await
    })
}

fn import(session: &Session, parsed: &Parsed) -> Result<(), Failure> {
    let options = VolumeImportOptions {
        name: parsed.operands[0].clone(),
        labels: environment::to_map(&parsed.list("label")),
    };
    session.block_on(async {
        let archive: Box<dyn AsyncRead + Send + Unpin> = match parsed.operands[1].as_str() {
            "-" => {
                let input = rustix::io::dup(std::io::stdin())
                    .map_err(|error| Failure::new(format!("read standard input: {error}")))?;
                Box::new(tokio::fs::File::from_std(std::fs::File::from(input)))
            }
            path => {
                let opened = tokio::fs::File::open(path).await;
                let failed = |error| Failure::new(format!("open {path}: {}", reason(&error)));
                Box::new(opened.map_err(failed)?)
            }
        };
        let client = session.client()?;
        let volume = client
            .volume_import(archive, &options)
            .await
            .map_err(|error| session.failure(error))?;
        session::print(&format!("{}\n", volume.name))
    })
}
