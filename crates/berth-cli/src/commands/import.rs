//! `import`: an image of an archive of a root file system.

use berth_api::ImportOptions;
use tokio::io::AsyncRead;

use super::{Arity, Spec};
use crate::failure::Failure;
use crate::flags::{Flag, Operands, Parsed};
use crate::options::environment::reason;
use crate::output::progress;
use crate::session::Session;

pub(crate) const SPEC: Spec = Spec {
    group: "image",
    names: &["import"],
    top: &["import"],
    usage: "[OPTIONS] FILE|URL|- [REPOSITORY[:TAG]]",
    about: "Make an image of an archive of a root file system",
    flags: || {
        vec![
            Flag::list("change", "Apply a Dockerfile instruction to the image").short('c'),
            Flag::text("message", "Remark in the history of the image").short('m'),
            Flag::text(
                "platform",
                "What the image is for (os/architecture[/variant])",
            ),
        ]
    },
    operands: Operands::Mixed,
    arity: Arity::Between(1, 2),
    run,
};

/// Whether the engine fetches the source itself.
fn is_address(source: &str) -> bool {
    ["http://", "https://", "ftp://"]
        .iter()
        .any(|scheme| source.starts_with(scheme))
}

fn run(session: &Session, parsed: &Parsed) -> Result<(), Failure> {
    let source = parsed.operands[0].as_str();
    let (repo, tag) = super::tag::name_and_tag(parsed.operands.get(1))?;
    let options = ImportOptions {
        repo,
        tag,
        message: parsed.text("message").to_owned(),
        changes: parsed.list("change"),
        platform: parsed.text("platform").to_owned(),
    };
    session.block_on(async {
        let (source, archive): (&str, Option<Box<dyn AsyncRead + Send + Unpin>>) = match source {
            "-" => {
                let input = rustix::io::dup(std::io::stdin())
                    .map_err(|error| Failure::new(format!("read standard input: {error}")))?;
                let file = tokio::fs::File::from_std(std::fs::File::from(input));
                ("-", Some(Box::new(file)))
            }
            address if is_address(address) => (address, None),
            path => {
                let file = tokio::fs::File::open(path)
                    .await
                    .map_err(|error| Failure::new(format!("open {path}: {}", reason(&error))))?;
                ("-", Some(Box::new(file)))
            }
        };
        let client = session.client()?;
        let mut stream = client
            .image_import(source, archive, &options)
            .await
            .map_err(|error| session.failure(error))?;
        progress::show(session, &mut stream, progress::To::Stdout).await
    })
}
