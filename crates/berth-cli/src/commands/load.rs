//! `load`: images from an archive.

use berth_api::LoadOptions;
use tokio::io::AsyncRead;

use super::{Arity, Spec};
use crate::failure::Failure;
use crate::flags::{Flag, Operands, Parsed};
use crate::options::environment::reason;
use crate::options::platform;
use crate::output::progress;
use crate::session::Session;
use crate::terminal;

pub(crate) const SPEC: Spec = Spec {
    group: "image",
    names: &["load"],
    top: &["load"],
    usage: "[OPTIONS]",
    about: "Load images from an archive on standard input or in a file",
    flags: || {
        vec![
            Flag::text("input", "Read from this archive instead of standard input").short('i'),
            Flag::list("platform", "Load only these platforms"),
            Flag::switch("quiet", "Show no progress").short('q'),
        ]
    },
    operands: Operands::Mixed,
    arity: Arity::None,
    run,
};

fn run(session: &Session, parsed: &Parsed) -> Result<(), Failure> {
    let options = LoadOptions {
        quiet: parsed.switch("quiet") || !terminal::output_is_terminal(),
        platforms: platform::all(parsed).map_err(|reason| format!("invalid platform: {reason}"))?,
    };
    let input = parsed.text("input");
    if input.is_empty() && terminal::input_is_terminal() {
        return Err(Failure::new(
            "requested load from stdin, but stdin is empty",
        ));
    }
    session.block_on(async {
        let archive: Box<dyn AsyncRead + Send + Unpin> = match input {
            "" => {
                let input = rustix::io::dup(std::io::stdin())
                    .map_err(|error| Failure::new(format!("read standard input: {error}")))?;
                Box::new(tokio::fs::File::from_std(std::fs::File::from(input)))
            }
            path => Box::new(
                tokio::fs::File::open(path)
                    .await
                    .map_err(|error| Failure::new(format!("open {path}: {}", reason(&error))))?,
            ),
        };
        let client = session.client()?;
        let mut stream = client
            .image_load(archive, &options)
            .await
            .map_err(|error| session.failure(error))?;
        progress::show(session, &mut stream, progress::To::Stdout).await
    })
}
