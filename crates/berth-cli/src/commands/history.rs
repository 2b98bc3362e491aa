//! `history`: how an image was made.

use berth_types::size;
use berth_types::timestamp::Timestamp;

use super::{Arity, Spec};
use crate::failure::Failure;
use crate::flags::{Flag, Operands, Parsed};
use crate::options::platform;
use crate::output::list::{Columns, Format, Row};
use crate::output::text;
use crate::session::{self, Session};

pub(crate) const SPEC: Spec = Spec {
    group: "image",
    names: &["history"],
    top: &["history"],
    usage: "[OPTIONS] IMAGE",
    about: "Show the steps an image was made in",
    flags: || {
        vec![
            Flag::text(
                "format",
                "Format lines with 'table', 'table TEMPLATE', 'json' or a Go template",
            ),
            Flag::switch("human", "Show sizes and dates for people")
                .short('H')
                .on(),
            Flag::switch("no-trunc", "Do not shorten anything"),
            Flag::text("platform", "Show the history of this platform"),
            Flag::switch("quiet", "Show ids only").short('q'),
        ]
    },
    operands: Operands::Mixed,
    arity: Arity::Exactly(1),
    run,
};

const COLUMNS: Columns = Columns {
    headers: &[
        ("ID", "IMAGE"),
        ("CreatedSince", "CREATED"),
        ("CreatedAt", "CREATED AT"),
        ("CreatedBy", "CREATED BY"),
        ("Size", "SIZE"),
        ("Comment", "COMMENT"),
    ],
    type_name: "*image.historyContext",
    labels: false,
};

/// Dates before this are not told as ages: 2000-01-01.
const EPOCH: i64 = 946_684_800;

fn run(session: &Session, parsed: &Parsed) -> Result<(), Failure> {
    let platform = platform::one(parsed).map_err(|reason| format!("invalid platform: {reason}"))?;
    let (human, whole) = (parsed.switch("human"), parsed.switch("no-trunc"));
    let table = match human {
        true => "{{.ID}}\t{{.CreatedSince}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}",
        false => "{{.ID}}\t{{.CreatedAt}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}",
    };
    let wanted = match parsed.text("format") {
        "" if parsed.switch("quiet") => "{{.ID}}",
        "" => "table",
        given => given,
    };
    let format = Format::parse(wanted, table, None)?;
    session.block_on(async {
        let client = session.client()?;
        let steps = client
            .image_history(&parsed.operands[0], platform.as_ref())
            .await
            .map_err(|error| session.failure(error))?;
        let rows = steps
            .iter()
            .map(|step| {
                let created_at = Timestamp::from_unix_seconds(step.created).to_string();
                let created_since = match step.created {
                    _ if !human => created_at.clone(),
                    created if created <= EPOCH => "N/A".to_owned(),
                    created => text::ago(Timestamp::from_unix_seconds(created)),
                };
                let created_by = step.created_by.replace('\t', " ");
                Row::new()
                    .with(
                        "ID",
                        if whole {
                            &step.id
                        } else {
                            text::short_id(&step.id)
                        },
                    )
                    .with("CreatedSince", created_since)
                    .with("CreatedAt", created_at)
                    .with(
                        "CreatedBy",
                        if whole {
                            created_by
                        } else {
                            text::ellipsis(&created_by, 45)
                        },
                    )
                    .with(
                        "Size",
                        match human {
                            true => size::format_decimal_short(
                                u64::try_from(step.size).unwrap_or_default(),
                            ),
                            false => step.size.to_string(),
                        },
                    )
                    .with("Comment", &step.comment)
            })
            .collect();
        session::print(&format.render(&COLUMNS, rows)?)
    })
}
