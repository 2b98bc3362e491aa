//! `network ls`: the list of networks.

use berth_api::NetworkInspect;

use super::{Arity, Spec};
use crate::failure::Failure;
use crate::flags::{Flag, Operands, Parsed};
use crate::options::filter;
use crate::output::list::{Columns, Format, Row};
use crate::output::text;
use crate::session::{self, Session};

pub(crate) const SPEC: Spec = Spec {
    group: "network",
    names: &["ls", "list"],
    top: &[],
    usage: "[OPTIONS]",
    about: "List networks",
    flags: || {
        vec![
            filter::flag("Show only what matches (\"driver=bridge\")").short('f'),
            Flag::text(
                "format",
                "Format lines with 'table', 'table TEMPLATE', 'json', 'raw' or a Go template",
            ),
            Flag::switch("no-trunc", "Do not shorten anything"),
            Flag::switch("quiet", "Show ids only").short('q'),
        ]
    },
    operands: Operands::Mixed,
    arity: Arity::None,
    run,
};

const COLUMNS: Columns = Columns {
    headers: &[
        ("ID", "NETWORK ID"),
        ("Name", "NAME"),
        ("Driver", "DRIVER"),
        ("Scope", "SCOPE"),
        ("IPv4", "IPV4"),
        ("IPv6", "IPV6"),
        ("Internal", "INTERNAL"),
        ("Labels", "LABELS"),
        ("CreatedAt", "CREATED AT"),
    ],
    type_name: "*network.networkContext",
    labels: true,
};
const TABLE: &str = "{{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.Scope}}";
const RAW: &str = "network_id: {{.ID}}\nname: {{.Name}}\ndriver: {{.Driver}}\nscope: {{.Scope}}\n";

fn run(session: &Session, parsed: &Parsed) -> Result<(), Failure> {
    let quiet = parsed.switch("quiet");
    let configured = &session.config()?.networks_format;
    let wanted = match parsed.text("format") {
        "" if quiet => "{{.ID}}",
        "" if !configured.is_empty() => configured,
        "" => "table",
        "table" if quiet => "{{.ID}}",
        "raw" if quiet => "network_id: {{.ID}}",
        given => given,
    };
    let format = Format::parse(wanted, TABLE, Some(RAW))?;
    let filters = filter::all(&parsed.list("filter"));
    session.block_on(async {
        let client = session.client()?;
        let mut networks = client
            .network_list(&filters)
            .await
            .map_err(|error| session.failure(error))?;
        networks.sort_by(|left, right| text::natural_order(&left.name, &right.name));
        let whole = parsed.switch("no-trunc");
        let rows = networks.iter().map(|network| row(network, whole)).collect();
        session::print(&format.render(&COLUMNS, rows)?)
    })
}

fn row(network: &NetworkInspect, whole: bool) -> Row {
    let id = if whole {
        &network.id
    } else {
        text::short_id(&network.id)
    };
    let mut labels: Vec<String> = network
        .labels
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    labels.sort();
    Row::new()
        .with("ID", id)
        .with("Name", &network.name)
        .with("Driver", &network.driver)
        .with("Scope", &network.scope)
        .with("IPv4", network.enable_ipv4.to_string())
        .with("IPv6", network.enable_ipv6.to_string())
        .with("Internal", network.internal.to_string())
        .with("Labels", labels.join(","))
        .with("CreatedAt", text::utc_time(&network.created))
        .with_labels(network.labels.clone())
}
