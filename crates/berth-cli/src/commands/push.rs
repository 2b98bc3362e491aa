//! `push`: an image to its registry.

use berth_api::{PushOptions, PushedInstead};
use berth_types::reference::Reference;

use super::{Arity, Spec};
use crate::failure::Failure;
use crate::flags::{Flag, Operands, Parsed};
use crate::options::platform;
use crate::output::progress;
use crate::session::{self, Session};

pub(crate) const SPEC: Spec = Spec {
    group: "image",
    names: &["push"],
    top: &["push"],
    usage: "[OPTIONS] NAME[:TAG]",
    about: "Send an image to its registry",
    flags: || {
        vec![
            Flag::switch("all-tags", "Send every tag of the repository").short('a'),
            Flag::switch("disable-content-trust", "Skip image signing")
                .on()
                .deprecated("images are not signed here"),
            Flag::text(
                "platform",
                "Send only the image for this platform, if there are several",
            ),
            Flag::switch("quiet", "Show only the name at the end").short('q'),
        ]
    },
    operands: Operands::Mixed,
    arity: Arity::Exactly(1),
    run,
};

const ONE_PLATFORM: &str =
    "Using --platform pushes only the specified platform manifest of a multi-platform image index.
Other components, like attestations, will not be included.
To push the complete multi-platform image, remove the --platform flag.";

fn run(session: &Session, parsed: &Parsed) -> Result<(), Failure> {
    let platform = platform::one(parsed).map_err(|reason| format!("invalid platform: {reason}"))?;
    let (all, quiet) = (parsed.switch("all-tags"), parsed.switch("quiet"));
    let reference =
        Reference::parse(&parsed.operands[0]).map_err(|error| Failure::new(error.to_string()))?;
    if platform.is_some() {
        session.note(ONE_PLATFORM);
    }
    let named = reference.tag().is_some() || reference.digest().is_some();
    if all && named {
        return Err(Failure::new("tag can't be used with --all-tags/-a"));
    }
    if reference.digest().is_some() {
        return Err(Failure::new("cannot push a digest reference"));
    }
    let reference = match all {
        true => reference,
        false => reference.with_default_tag(),
    };
    if !all && !named && !quiet {
        session::print("Using default tag: latest\n")?;
    }
    let options = PushOptions {
        image: reference.familiar_name(),
        tag: reference.tag().unwrap_or_default().to_owned(),
        platform,
        auth: session.credentials(reference.registry())?,
    };
    session.block_on(async {
        let client = session.client()?;
        let mut stream = client
            .image_push(&options)
            .await
            .map_err(|error| session.failure(error))?;
        let to = match quiet {
            true => progress::To::Nowhere,
            false => progress::To::Stdout,
        };
        let mut notes = Vec::new();
        let shown = progress::show_with(session, &mut stream, to, |aux| {
            notes.extend(serde_json::from_value(aux).ok().and_then(note));
        })
        .await;
        for note in notes {
            session.note(&note);
        }
        shown.map_err(|failure| failure.with_login_hint(session.program, reference.registry()))?;
        match quiet {
            true => session::print(&format!("{reference}\n")),
            false => Ok(()),
        }
    })
}

/// What people have to know about a push that left something out.
fn note(told: PushedInstead) -> Option<String> {
    let (index, manifest) = (told.original_index?, told.selected_manifest?);
    told.manifest_pushed_instead_of_index.then(|| {
        format!(
            "Not all multiplatform-content is present and only the available single-platform image was pushed\n{} -> {}",
            index.digest, manifest.digest
        )
    })
}
