//! `manifest referrers`: what a registry keeps beside an image: signatures, lists of its parts, attestations.

use berth_api::{OciDescriptor, ReferrersOptions};
use berth_types::{Timestamp, size};

use super::{Arity, Spec};
use crate::failure::Failure;
use crate::flags::{Flag, Operands, Parsed};
use crate::options::platform;
use crate::output::list::{Columns, Format, Row};
use crate::output::text;
use crate::session::{self, Session};

pub(crate) const SPEC: Spec = Spec {
    group: "manifest",
    names: &["referrers"],
    top: &[],
    usage: "[OPTIONS] NAME[:TAG|@DIGEST]",
    about: "List what refers to an image in its registry",
    flags: || {
        vec![
            Flag::text("artifact-type", "Show only what is of this type"),
            Flag::text(
                "format",
                "Format lines with 'table', 'table TEMPLATE', 'json' or a Go template",
            ),
            Flag::switch("insecure", "Do without TLS and a certificate that verifies"),
            Flag::switch("no-trunc", "Do not shorten anything"),
            Flag::text(
                "platform",
                "Of the image for this platform, not of the index it is in",
            ),
        ]
    },
    operands: Operands::Mixed,
    arity: Arity::Exactly(1),
    run,
};

const COLUMNS: Columns = Columns {
    headers: &[
        ("Digest", "DIGEST"),
        ("Type", "TYPE"),
        ("MediaType", "MEDIA TYPE"),
        ("Size", "SIZE"),
        ("CreatedSince", "CREATED"),
        ("CreatedAt", "CREATED AT"),
        ("Annotations", "ANNOTATIONS"),
        ("Subject", "SUBJECT"),
    ],
    type_name: "*manifest.referrerContext",
    labels: false,
};
const TABLE: &str = "{{.Digest}}\t{{.Type}}\t{{.Size}}\t{{.CreatedSince}}";
/// Where whoever made it says when (OCI image specification, annotations.md).
const CREATED: &str = "org.opencontainers.image.created";
/// Digits of a digest that are shown, and what stands before them.
const DIGEST: usize = "sha256:".len() + 12;

fn run(session: &Session, parsed: &Parsed) -> Result<(), Failure> {
    let wanted = match parsed.text("format") {
        "" => "table",
        given => given,
    };
    let format = Format::parse(wanted, TABLE, None)?;
    let reference = super::manifest::parse(&parsed.operands[0])?;
    let options = ReferrersOptions {
        platform: platform::one(parsed).map_err(|reason| format!("invalid platform: {reason}"))?,
        insecure: parsed.switch("insecure"),
    };
    let kind = parsed.text("artifact-type");
    let whole = parsed.switch("no-trunc") || wanted == "json";
    session.block_on(async {
        let client = session.client()?;
        let auth = session.credentials(reference.registry())?;
        let found = client
            .manifest_referrers(&reference.to_string(), &options, auth.as_ref())
            .await
            .map_err(|error| session.failure_at(reference.registry(), error))?;
        let rows = found
            .referrers
            .iter()
            .filter(|one| kind.is_empty() || type_of(one) == kind)
            .map(|one| row(one, &found.subject, whole))
            .collect();
        session::print(&format.render(&COLUMNS, rows)?)
    })
}

/// What it is; makers that do not say leave the media type of the manifest alone.
fn type_of(one: &OciDescriptor) -> &str {
    match one.artifact_type.as_str() {
        "" => &one.media_type,
        kind => kind,
    }
}

fn row(one: &OciDescriptor, subject: &str, whole: bool) -> Row {
    let shortened = |digest: &str| match whole {
        true => digest.to_owned(),
        false => digest.chars().take(DIGEST).collect(),
    };
    let created = one
        .annotations
        .get(CREATED)
        .and_then(|moment| Timestamp::parse(moment).ok());
    let annotations: Vec<String> = one
        .annotations
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    // What a maker writes goes to a terminal.
    let clean = |text: &str| text.replace(char::is_control, " ");
    Row::new()
        .with("Digest", shortened(&one.digest))
        .with("Type", clean(type_of(one)))
        .with("MediaType", clean(&one.media_type))
        .with(
            "Size",
            size::format_decimal(u64::try_from(one.size).unwrap_or_default()),
        )
        .with(
            "CreatedSince",
            created.map_or_else(|| "N/A".to_owned(), text::ago),
        )
        .with(
            "CreatedAt",
            created.map_or_else(String::new, |moment| moment.to_string()),
        )
        .with("Annotations", clean(&annotations.join(",")))
        .with("Subject", shortened(subject))
}
