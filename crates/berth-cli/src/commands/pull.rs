//! `pull`: an image from its registry.

use berth_api::{Client, PullOptions};
use berth_types::reference::Reference;

use super::{Arity, Spec};
use crate::failure::Failure;
use crate::flags::{Flag, Operands, Parsed};
use crate::output::progress;
use crate::session::{self, Session};

pub(crate) const SPEC: Spec = Spec {
    group: "image",
    names: &["pull"],
    top: &["pull"],
    usage: "[OPTIONS] NAME[:TAG|@DIGEST]",
    about: "Fetch an image from its registry",
    flags: || {
        vec![
            Flag::switch(
                "all-platforms",
                "Keep the image for all other platforms, too",
            ),
            Flag::switch("all-tags", "Fetch every tag of the repository").short('a'),
            Flag::switch("disable-content-trust", "Skip image verification")
                .on()
                .deprecated("image signatures are not checked here"),
            Flag::text("platform", "Platform of the image, if it has several"),
            Flag::switch("quiet", "Show only the name at the end").short('q'),
        ]
    },
    operands: Operands::Mixed,
    arity: Arity::Exactly(1),
    run,
};

/// Where progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Output {
    /// `pull` itself.
    Stdout,
    /// `run` and `create`, whose standard output belongs to the container.
    Stderr,
}

/// What is wanted beside the name.
#[derive(Debug, Clone, Copy)]
pub(crate) struct How<'a> {
    /// Platform; empty for the engine's own.
    pub(crate) platform: &'a str,
    /// Keep the others as well.
    pub(crate) all_platforms: bool,
    /// Show nothing on the way.
    pub(crate) quiet: bool,
    pub(crate) output: Output,
}

/// Fetches an image and shows the progress.
pub(crate) async fn pull(
    session: &Session,
    client: &Client,
    image: &str,
    how: How<'_>,
) -> Result<(), Failure> {
    let reference = Reference::parse(image)
        .map_err(|error| Failure::new(error.to_string()))?
        .with_default_tag();
    let tag = match (reference.digest(), reference.tag()) {
        (Some(digest), _) => digest.to_string(),
        (None, tag) => tag.unwrap_or_default().to_owned(),
    };
    fetch(session, client, &reference, &tag, how).await
}

async fn fetch(
    session: &Session,
    client: &Client,
    reference: &Reference,
    tag: &str,
    how: How<'_>,
) -> Result<(), Failure> {
    let options = PullOptions {
        image: reference.familiar_name(),
        tag: tag.to_owned(),
        platform: how.platform.to_owned(),
        all_platforms: how.all_platforms,
        auth: session.credentials(reference.registry())?,
    };
    let mut stream = client
        .image_pull(&options)
        .await
        .map_err(|error| session.failure(error))?;
    let to = match (how.quiet, how.output) {
        (true, _) => progress::To::Nowhere,
        (false, Output::Stdout) => progress::To::Stdout,
        (false, Output::Stderr) => progress::To::Stderr,
    };
    progress::show(session, &mut stream, to)
        .await
        .map_err(|failure| failure.with_login_hint(session.program, reference.registry()))
}

fn run(session: &Session, parsed: &Parsed) -> Result<(), Failure> {
    let reference =
        Reference::parse(&parsed.operands[0]).map_err(|error| Failure::new(error.to_string()))?;
    let named = reference.tag().is_some() || reference.digest().is_some();
    let all = parsed.switch("all-tags");
    let quiet = parsed.switch("quiet");
    if all && named {
        return Err(Failure::new("tag can't be used with --all-tags/-a"));
    }
    if !all && !named && !quiet {
        session::print("Using default tag: latest\n")?;
    }
    let platform = match parsed.text("platform") {
        "" => std::env::var("DOCKER_DEFAULT_PLATFORM").unwrap_or_default(),
        given => given.to_owned(),
    };
    let how = How {
        platform: &platform,
        all_platforms: parsed.switch("all-platforms"),
        quiet,
        output: Output::Stdout,
    };
    session.block_on(async {
        let client = session.client()?;
        if all {
            fetch(session, &client, &reference, "", how).await?;
            return session::print(&format!("{}\n", reference.name()));
        }
        pull(session, &client, &parsed.operands[0], how).await?;
        session::print(&format!("{}\n", reference.clone().with_default_tag()))
    })
}
