//! `volume ls`: the list of volumes.

use berth_api::Volume;
use berth_types::size;

use super::{Arity, Spec};
use crate::failure::Failure;
use crate::flags::{Flag, Operands, Parsed};
use crate::options::filter;
use crate::output::list::{Columns, Format, Row};
use crate::output::text;
use crate::session::{self, Session};

pub(crate) const SPEC: Spec = Spec {
    group: "volume",
    names: &["ls", "list"],
    top: &[],
    usage: "[OPTIONS]",
    about: "List volumes",
    flags: || {
        vec![
            filter::flag("Show only what matches (\"dangling=true\")").short('f'),
            Flag::text(
                "format",
                "Format lines with 'table', 'table TEMPLATE', 'json', 'raw' or a Go template",
            ),
            Flag::switch("quiet", "Show names only").short('q'),
        ]
    },
    operands: Operands::Mixed,
    arity: Arity::None,
    run,
};

const COLUMNS: Columns = Columns {
    headers: &[
        ("Name", "VOLUME NAME"),
        ("Driver", "DRIVER"),
        ("Scope", "SCOPE"),
        ("Mountpoint", "MOUNTPOINT"),
        ("Labels", "LABELS"),
        ("Links", "LINKS"),
        ("Size", "SIZE"),
        ("Group", "GROUP"),
        ("Status", "STATUS"),
        ("Availability", "AVAILABILITY"),
    ],
    type_name: "*formatter.volumeContext",
    labels: true,
};
const TABLE: &str = "{{.Driver}}\t{{.Name}}";
const RAW: &str = "name: {{.Name}}\ndriver: {{.Driver}}\n";

fn run(session: &Session, parsed: &Parsed) -> Result<(), Failure> {
    let quiet = parsed.switch("quiet");
    let configured = &session.config()?.volumes_format;
    let wanted = match parsed.text("format") {
        "" if quiet => "{{.Name}}",
        "" if !configured.is_empty() => configured,
        "" => "table",
        "table" if quiet => "{{.Name}}",
        "raw" if quiet => "name: {{.Name}}",
        given => given,
    };
    let format = Format::parse(wanted, TABLE, Some(RAW))?;
    let filters = filter::all(&parsed.list("filter"));
    session.block_on(async {
        let client = session.client()?;
        let mut answer = client
            .volume_list(&filters)
            .await
            .map_err(|error| session.failure(error))?;
        for warning in answer.warnings.iter().flatten() {
            session.warning(warning);
        }
        let order = |left: &Volume, right: &Volume| text::natural_order(&left.name, &right.name);
        answer.volumes.sort_by(order);
        session::print(&format.render(&COLUMNS, answer.volumes.iter().map(row).collect())?)
    })
}

fn row(volume: &Volume) -> Row {
    let given = volume.labels.clone().unwrap_or_default();
    let mut labels: Vec<String> = given
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    labels.sort();
    let usage = volume.usage_data.as_ref();
    let unknown = || "N/A".to_owned();
    Row::new()
        .with("Name", &volume.name)
        .with("Driver", &volume.driver)
        .with("Scope", &volume.scope)
        .with("Mountpoint", &volume.mountpoint)
        .with("Labels", labels.join(","))
        .with(
            "Links",
            usage.map_or_else(unknown, |u| u.ref_count.to_string()),
        )
        .with(
            "Size",
            usage
                .and_then(|u| u64::try_from(u.size).ok())
                .map_or_else(unknown, size::format_decimal),
        )
        // Only volumes of a cluster have these.
        .with("Group", unknown())
        .with("Status", unknown())
        .with("Availability", unknown())
        .with_labels(given)
}
