//! `search`: repositories of a registry.

use berth_api::SearchResult;
use berth_types::reference::Reference;

use super::{Arity, Spec};
use crate::failure::Failure;
use crate::flags::{Flag, Operands, Parsed};
use crate::options::{filter, scalar};
use crate::output::list::{Columns, Format, Row};
use crate::output::text;
use crate::session::{self, Session};

pub(crate) const SPEC: Spec = Spec {
    group: "",
    names: &["search"],
    top: &[],
    usage: "[OPTIONS] TERM",
    about: "Search a registry for images",
    flags: || {
        vec![
            filter::flag("Show only what matches (\"is-official=true\", \"stars=3\")").short('f'),
            Flag::text(
                "format",
                "Format lines with 'table', 'table TEMPLATE', 'json' or a Go template",
            ),
            Flag::one(
                "limit",
                "int",
                |text| scalar::int64(text).map(drop),
                "Show at most so many results",
            ),
            Flag::switch("no-trunc", "Do not shorten anything"),
        ]
    },
    operands: Operands::Mixed,
    arity: Arity::Exactly(1),
    run,
};

const COLUMNS: Columns = Columns {
    headers: &[
        ("Name", "NAME"),
        ("Description", "DESCRIPTION"),
        ("StarCount", "STARS"),
        ("IsOfficial", "OFFICIAL"),
        ("IsAutomated", "AUTOMATED"),
    ],
    type_name: "*registry.searchContext",
    labels: false,
};
const TABLE: &str = "{{.Name}}\t{{.Description}}\t{{.StarCount}}\t{{.IsOfficial}}";
/// Characters of a description that are shown.
const DESCRIPTION: usize = 45;

fn run(session: &Session, parsed: &Parsed) -> Result<(), Failure> {
    let wanted = match parsed.text("format") {
        "" => "table",
        given => given,
    };
    let format = Format::parse(wanted, TABLE, None)?;
    let filters = filter::all(&parsed.list("filter"));
    let limit = match parsed.text("limit") {
        "" => 0,
        text => scalar::int64(text)?,
    };
    let limit = i32::try_from(limit)
        .map_err(|_| Failure::new(format!("limit {limit} is outside the range of [1, 100]")))?;
    let term = &parsed.operands[0];
    // A term that is no reference is looked for on Docker Hub, too.
    let registry = Reference::parse(term).map_or_else(
        |_| "docker.io".to_owned(),
        |name| name.registry().to_owned(),
    );
    let whole = parsed.switch("no-trunc");
    session.block_on(async {
        let client = session.client()?;
        let auth = session.credentials(&registry)?;
        let found = client
            .image_search(term, limit, &filters, auth.as_ref())
            .await
            .map_err(|error| session.failure(error))?;
        let rows = found.iter().map(|one| row(one, whole)).collect();
        session::print(&format.render(&COLUMNS, rows)?)
    })
}

fn row(found: &SearchResult, whole: bool) -> Row {
    let description = found.description.replace(['\n', '\r'], " ");
    let description = match whole {
        true => description,
        false => text::ellipsis(&description, DESCRIPTION),
    };
    let mark = |set: bool| if set { "[OK]" } else { "" };
    Row::new()
        .with("Name", &found.name)
        .with("Description", description)
        .with("StarCount", found.star_count.to_string())
        .with("IsOfficial", mark(found.is_official))
        .with("IsAutomated", mark(found.is_automated))
}
