//! `ps`: the list of containers.

use std::collections::BTreeMap;

use berth_api::{ContainerListOptions, ContainerSummary, PortSummary};
use berth_types::reference::Reference;
use berth_types::size;
use berth_types::timestamp::Timestamp;

use super::{Arity, Spec, port};
use crate::failure::Failure;
use crate::flags::{Flag, Operands, Parsed};
use crate::options::{filter, scalar};
use crate::output::list::{Columns, Format, Row};
use crate::output::{template, text};
use crate::quote::go_quote;
use crate::session::{self, Session};
use gotmpl::Value;

pub(crate) const SPEC: Spec = Spec {
    group: "container",
    names: &["ls", "list", "ps"],
    top: &["ps"],
    usage: "[OPTIONS]",
    about: "List containers",
    flags: || {
        vec![
            Flag::switch("all", "Show those that do not run too").short('a'),
            filter::flag("Show only what matches (\"name=value\")").short('f'),
            Flag::text(
                "format",
                "Format lines with 'table', 'table TEMPLATE', 'json', 'raw' or a Go template",
            ),
            Flag::one(
                "last",
                "int",
                scalar::check_int,
                "Show so many of the newest, running or not",
            )
            .short('n')
            .or("-1"),
            Flag::switch("latest", "Show the newest, running or not").short('l'),
            Flag::switch("no-trunc", "Do not shorten anything"),
            Flag::switch("quiet", "Show ids only").short('q'),
            Flag::switch("size", "Show sizes on disk").short('s'),
        ]
    },
    operands: Operands::Mixed,
    arity: Arity::None,
    run,
};

/// What a line of the list can show.
pub(crate) const COLUMNS: Columns = Columns {
    headers: &[
        ("ID", "CONTAINER ID"),
        ("Names", "NAMES"),
        ("Image", "IMAGE"),
        ("Command", "COMMAND"),
        ("CreatedAt", "CREATED AT"),
        ("RunningFor", "CREATED"),
        ("Ports", "PORTS"),
        ("State", "STATE"),
        ("Status", "STATUS"),
        ("Size", "SIZE"),
        ("Labels", "LABELS"),
        ("Mounts", "MOUNTS"),
        ("LocalVolumes", "LOCAL VOLUMES"),
        ("Networks", "NETWORKS"),
        ("Platform", "PLATFORM"),
        ("HealthStatus", "HEALTH STATUS"),
    ],
    type_name: "*formatter.ContainerContext",
    labels: true,
};

const TABLE: &str =
    "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}";
const RAW: &str = "container_id: {{.ID}}\nimage: {{.Image}}\ncommand: {{.Command}}\ncreated_at: {{.CreatedAt}}\nstate: {{- pad .State 1 0}}\nstatus: {{- pad .Status 1 0}}\nnames: {{.Names}}\nlabels: {{- pad .Labels 1 0}}\nports: {{- pad .Ports 1 0}}\n";
const RAW_SIZE: &str = "size: {{.Size}}\n";

/// The format asked for: by flag, by configuration, or the table.
pub(crate) fn format(parsed: &Parsed, configured: &str) -> Result<Format, Failure> {
    let (quiet, with_size) = (parsed.switch("quiet"), parsed.switch("size"));
    let wanted = match parsed.text("format") {
        "" if quiet => "{{.ID}}",
        "" if !configured.is_empty() => configured,
        "" => "table",
        "table" if quiet => "{{.ID}}",
        "raw" if quiet => "container_id: {{.ID}}",
        given => given,
    };
    let table = if with_size {
        format!("{TABLE}\t{{{{.Size}}}}")
    } else {
        TABLE.to_owned()
    };
    let raw = if with_size {
        format!("{RAW}{RAW_SIZE}")
    } else {
        RAW.to_owned()
    };
    Format::parse(wanted, &table, Some(&raw))
}

fn run(session: &Session, parsed: &Parsed) -> Result<(), Failure> {
    let format = format(parsed, &session.config()?.ps_format)?;
    let last = scalar::int64(parsed.text("last"))?;
    let limit = match parsed.switch("latest") && last == -1 {
        true => Some(1),
        false => u64::try_from(last).ok().filter(|limit| *limit > 0),
    };
    let options = ContainerListOptions {
        all: parsed.switch("all") || limit.is_some(),
        limit,
        // The whole line as JSON holds the size too.
        size: parsed.switch("size")
            || format.mentions("Size")
            || parsed.text("format").contains("json .}}"),
        filters: filter::all(&parsed.list("filter")),
    };
    session.block_on(async {
        let client = session.client()?;
        let found = client
            .container_list(&options)
            .await
            .map_err(|error| session.failure(error))?;
        let whole = parsed.switch("no-trunc");
        let rows = found
            .iter()
            .map(|container| row(container, whole))
            .collect();
        session::print(&format.render(&COLUMNS, rows)?)
    })
}

/// One container's line.
pub(crate) fn row(container: &ContainerSummary, whole: bool) -> Row {
    let cut = |id: &str| {
        if whole {
            id.to_owned()
        } else {
            text::short_id(id).to_owned()
        }
    };
    let labels: Vec<String> = container
        .labels
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    let mounts: Vec<String> = container
        .mounts
        .iter()
        .map(|mount| {
            if mount.name.is_empty() {
                &mount.source
            } else {
                &mount.name
            }
        })
        .map(|name| {
            if whole {
                name.clone()
            } else {
                text::ellipsis(name, 15)
            }
        })
        .collect();
    let local = container
        .mounts
        .iter()
        .filter(|mount| mount.driver == "local")
        .count();
    let networks: Vec<&str> = container
        .network_settings
        .networks
        .keys()
        .map(String::as_str)
        .collect();
    let command = if whole {
        container.command.clone()
    } else {
        text::ellipsis(&container.command, 20)
    };
    let created = Timestamp::from_unix_seconds(container.created);
    let platform = container
        .image_manifest_descriptor
        .as_ref()
        .and_then(|descriptor| descriptor.platform.as_ref())
        .map(|platform| format!("{}/{}", platform.os, platform.architecture));
    Row::new()
        .with("ID", cut(&container.id))
        .with("Names", names(&container.names, whole))
        .with("Image", image(container, whole))
        .with("Command", go_quote(&command))
        .with("CreatedAt", text::local_time(container.created))
        .with("RunningFor", text::ago(created))
        .with("Ports", ports(&container.ports))
        .with("State", &container.state)
        .with("Status", &container.status)
        .with("Size", sizes(container))
        .with("Labels", labels.join(","))
        .with("Mounts", mounts.join(","))
        .with("LocalVolumes", local.to_string())
        .with("Networks", networks.join(","))
        .with_value(
            "Platform",
            platform.map_or(Value::Nil, |platform| template::text(&platform)),
        )
        .with("HealthStatus", health(&container.status))
        .with_labels(container.labels.clone())
}

/// Names without their slash. The name a link gave has a slash inside and is left out of short lists.
fn names(names: &[String], whole: bool) -> String {
    let mut plain = names
        .iter()
        .map(|name| name.strip_prefix('/').unwrap_or(name));
    if whole {
        return plain.collect::<Vec<_>>().join(",");
    }
    plain
        .find(|name| !name.contains('/'))
        .unwrap_or_default()
        .to_owned()
}

fn image(container: &ContainerSummary, whole: bool) -> String {
    let image = container.image.as_str();
    if image.is_empty() {
        return "<no image>".to_owned();
    }
    if whole {
        return image.to_owned();
    }
    let short = text::short_id(&container.image_id);
    if text::short_id(image) == short && !short.is_empty() {
        return short.to_owned();
    }
    // A digest beside the name is of no use in a table.
    match (image.split_once('@'), Reference::parse(image)) {
        (Some((name, _)), Ok(_)) => name.to_owned(),
        _ => image.to_owned(),
    }
}

fn sizes(container: &ContainerSummary) -> String {
    let shown = |bytes: i64| size::format_decimal_short(u64::try_from(bytes).unwrap_or_default());
    match container.size_root_fs {
        0 => shown(container.size_rw),
        whole => format!("{} (virtual {})", shown(container.size_rw), shown(whole)),
    }
}

/// The health an engine puts at the end of the status.
fn health(status: &str) -> &str {
    let inner = status
        .split_once('(')
        .and_then(|(_, rest)| rest.strip_suffix(')'))
        .unwrap_or_default();
    let inner = inner.strip_prefix("health: ").unwrap_or(inner);
    if matches!(inner, "healthy" | "unhealthy" | "starting") {
        inner
    } else {
        ""
    }
}

/// `0.0.0.0:80-81->80-81/tcp, 9/udp`: neighbours share a range.
pub(crate) fn ports(ports: &[PortSummary]) -> String {
    let mut sorted: Vec<&PortSummary> = ports.iter().collect();
    sorted.sort_by(|left, right| {
        (left.private_port, &left.ip, left.public_port, &left.kind).cmp(&(
            right.private_port,
            &right.ip,
            right.public_port,
            &right.kind,
        ))
    });
    let (mut ranges, mut mapped) = (Vec::new(), Vec::new());
    let mut open: BTreeMap<(String, String), (u16, u16)> = BTreeMap::new();
    let mut order: Vec<(String, String)> = Vec::new();
    let shown = |(ip, kind): &(String, String), (first, last): (u16, u16)| {
        let range = if first == last {
            first.to_string()
        } else {
            format!("{first}-{last}")
        };
        match ip.as_str() {
            "" => format!("{range}/{kind}"),
            ip => format!("{}->{range}/{kind}", port::address(ip, &range)),
        }
    };
    for found in sorted {
        if !found.ip.is_empty() && found.public_port != found.private_port {
            let host = port::address(&found.ip, &found.public_port.to_string());
            mapped.push(format!("{host}->{}/{}", found.private_port, found.kind));
            continue;
        }
        let key = (found.ip.clone(), found.kind.clone());
        match open.get_mut(&key) {
            Some((_, last)) if found.private_port == *last + 1 => *last = found.private_port,
            Some((_, last)) if found.private_port == *last => {}
            Some(range) => {
                ranges.push(shown(&key, *range));
                *range = (found.private_port, found.private_port);
            }
            None => {
                open.insert(key.clone(), (found.private_port, found.private_port));
                order.push(key);
            }
        }
    }
    ranges.extend(order.iter().map(|key| shown(key, open[key])));
    ranges.extend(mapped);
    ranges.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(ip: &str, private: u16, public: u16, kind: &str) -> PortSummary {
        PortSummary {
            ip: ip.into(),
            private_port: private,
            public_port: public,
            kind: kind.into(),
        }
    }

    #[test]
    fn neighbouring_ports_share_a_range() {
        for (list, wanted) in [
            (vec![], ""),
            (vec![entry("", 9988, 0, "tcp")], "9988/tcp"),
            (
                vec![entry("0.0.0.0", 80, 8080, "tcp")],
                "0.0.0.0:8080->80/tcp",
            ),
            (
                vec![
                    entry("0.0.0.0", 81, 81, "tcp"),
                    entry("0.0.0.0", 80, 80, "tcp"),
                    entry("", 9, 0, "udp"),
                ],
                "9/udp, 0.0.0.0:80-81->80-81/tcp",
            ),
            (vec![entry("::", 80, 8080, "tcp")], "[::]:8080->80/tcp"),
            (
                vec![entry("", 80, 0, "tcp"), entry("", 82, 0, "tcp")],
                "80/tcp, 82/tcp",
            ),
        ] {
            assert_eq!(ports(&list), wanted);
        }
    }

    #[test]
    fn lines_are_shortened_unless_asked() {
        let container = ContainerSummary {
            id: "0123456789abcdef0123456789abcdef".into(),
            names: vec!["/other/link".into(), "/web".into()],
            image:
                "busybox:1@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
                    .into(),
            image_id: "sha256:ffff".into(),
            command: "sh -c 'echo \"hello world\"'".into(),
            status: "Up 3 minutes (healthy)".into(),
            state: "running".into(),
            size_rw: 2,
            size_root_fs: 21_500_000,
            labels: BTreeMap::from([("a".into(), "1".into()), ("b".into(), "2".into())]),
            ..ContainerSummary::default()
        };
        let show = |template: &str, whole| {
            Format::parse(template, TABLE, None)
                .and_then(|format| format.render(&COLUMNS, vec![row(&container, whole)]))
                .map(|line| line.trim_end().to_owned())
                .expect(template)
        };
        assert_eq!(
            show("{{.ID}} {{.Names}} {{.Image}}", false),
            "0123456789ab web busybox:1"
        );
        assert_eq!(show("{{.Command}}", false), "\"sh -c 'echo \\\"hello …\"");
        assert_eq!(show("{{.Names}}", true), "other/link,web");
        assert_eq!(
            show("{{.Size}} {{.HealthStatus}}", false),
            "2B (virtual 21.5MB) healthy"
        );
        assert_eq!(show("{{.Labels}} {{.Label \"b\"}}", false), "a=1,b=2 2");
    }
}
