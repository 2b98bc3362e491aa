//! `ports`: who can reach which published port. Berth's own command.

use berth_api::PortExposure;

use super::{Arity, Spec, port};
use crate::failure::Failure;
use crate::flags::{Flag, Operands, Parsed};
use crate::output::list::{Columns, Format, Row};
use crate::output::text;
use crate::session::{self, Session};

pub(crate) const SPEC: Spec = Spec {
    group: "",
    names: &["ports"],
    top: &[],
    usage: "[OPTIONS] [CONTAINER...]",
    about: "Show who can reach the published ports of containers",
    flags: || {
        vec![
            Flag::text(
                "format",
                "Format lines with 'table', 'table TEMPLATE', 'json' or a Go template",
            ),
            Flag::switch("no-trunc", "Do not shorten anything"),
        ]
    },
    operands: Operands::Mixed,
    arity: Arity::AtLeast(0),
    run,
};

const COLUMNS: Columns = Columns {
    headers: &[
        ("ID", "CONTAINER ID"),
        ("Name", "NAME"),
        ("Network", "NETWORK"),
        ("Port", "PORT"),
        ("Published", "PUBLISHED"),
        ("Policy", "POLICY"),
        ("Reach", "REACHED FROM"),
        ("Reason", "BECAUSE"),
    ],
    type_name: "*formatter.PortContext",
    labels: false,
};
const TABLE: &str = "{{.Name}}\t{{.Port}}\t{{.Published}}\t{{.Reach}}\t{{.Policy}}\t{{.Reason}}";

fn run(session: &Session, parsed: &Parsed) -> Result<(), Failure> {
    let wanted = match parsed.text("format") {
        "" => "table",
        given => given,
    };
    let format = Format::parse(wanted, TABLE, None)?;
    session.block_on(async {
        let client = session.client()?;
        let mut ids = Vec::new();
        for name in &parsed.operands {
            let found = client.container_inspect(name, false).await;
            ids.push(found.map_err(|error| session.failure(error))?.id);
        }
        let exposures = client
            .port_exposures()
            .await
            .map_err(|error| session.failure(error))?;
        let whole = parsed.switch("no-trunc");
        let rows = exposures
            .iter()
            .filter(|exposure| ids.is_empty() || ids.contains(&exposure.container))
            .map(|exposure| row(exposure, whole))
            .collect();
        session::print(&format.render(&COLUMNS, rows)?)
    })
}

fn row(exposure: &PortExposure, whole: bool) -> Row {
    let id = if whole {
        &exposure.container
    } else {
        text::short_id(&exposure.container)
    };
    Row::new()
        .with("ID", id)
        .with("Name", &exposure.name)
        .with("Network", &exposure.network)
        .with(
            "Port",
            format!("{}/{}", exposure.container_port, exposure.protocol),
        )
        .with(
            "Published",
            port::address(&exposure.host_ip, &exposure.host_port.to_string()),
        )
        .with("Policy", &exposure.policy)
        .with("Reach", &exposure.reach)
        .with("Reason", &exposure.reason)
}
