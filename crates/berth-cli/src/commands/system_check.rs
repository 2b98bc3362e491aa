//! `system check`: whether everything that is stored is there and is what it should be.

use std::collections::BTreeSet;

use berth_api::{AuthConfigs, CheckFinding, CheckOptions, CheckReport, Client, ImageListOptions};
use berth_types::{reference::Reference, size};

use super::{Arity, Spec};
use crate::failure::Failure;
use crate::flags::{Flag, Operands, Parsed};
use crate::output::list::{Columns, Format, Row};
use crate::output::progress;
use crate::session::{self, Session};

pub(crate) const SPEC: Spec = Spec {
    group: "system",
    names: &["check"],
    top: &[],
    usage: "[OPTIONS]",
    about: "Check everything that is stored, and repair it",
    flags: || {
        vec![
            Flag::switch("deep", "Also compare each unpacked layer with its archive"),
            Flag::text(
                "format",
                "Format the problems with 'table', 'table TEMPLATE' or a Go template, or all with 'json'",
            ),
            Flag::switch("quiet", "Show no progress").short('q'),
            Flag::switch(
                "remove",
                "With --repair: remove images that cannot be repaired",
            ),
            Flag::switch(
                "repair",
                "Fetch damaged or missing content again, and unpack damaged layers again",
            ),
        ]
    },
    operands: Operands::Mixed,
    arity: Arity::None,
    run,
};

const COLUMNS: Columns = Columns {
    headers: &[
        ("Kind", "KIND"),
        ("Object", "OBJECT"),
        ("Problem", "PROBLEM"),
        ("Images", "IMAGES"),
        ("Outcome", "OUTCOME"),
        ("Detail", "DETAIL"),
    ],
    type_name: "*formatter.checkContext",
    labels: false,
};
const TABLE: &str = "{{.Kind}}\t{{.Object}}\t{{.Problem}}\t{{.Images}}\t{{.Outcome}}";

fn run(session: &Session, parsed: &Parsed) -> Result<(), Failure> {
    let (repair, remove) = (parsed.switch("repair"), parsed.switch("remove"));
    if remove && !repair {
        return Err(Failure::new(
            "--remove goes with --repair: what can be repaired is not removed",
        ));
    }
    let wanted = parsed.text("format");
    let format = match wanted {
        "" | "json" => None,
        given => Some(Format::parse(given, TABLE, None)?),
    };
    session.block_on(async {
        let client = session.client()?;
        let auths = if repair {
            credentials(session, &client).await?
        } else {
            AuthConfigs::default()
        };
        let options = CheckOptions {
            deep: parsed.switch("deep"),
            repair,
            remove,
            auths,
        };
        let mut stream = client
            .system_check(&options)
            .await
            .map_err(|error| session.failure(error))?;
        let to = if parsed.switch("quiet") {
            progress::To::Nowhere
        } else {
            progress::To::Stderr
        };
        let last = progress::show_result(session, &mut stream, to).await?;
        let report = last.ok_or_else(|| {
            Failure::new("the check ended without a report; look at the daemon's log")
        })?;
        let shown = match (&format, wanted) {
            (Some(format), _) => {
                let report = read(&report)?;
                format.render(&COLUMNS, report.findings.iter().map(row).collect())?
            }
            (None, "json") => format!("{report}\n"),
            (None, _) => text(&read(&report)?, repair),
        };
        session::print(&shown)?;
        if read(&report)?.sound {
            return Ok(());
        }
        Err(Failure::status(1))
    })
}

fn read(report: &serde_json::Value) -> Result<CheckReport, Failure> {
    serde_json::from_value(report.clone())
        .map_err(|error| Failure::new(format!("read the report of the check: {error}")))
}

/// Credentials of every registry that an image here came from.
async fn credentials(session: &Session, client: &Client) -> Result<AuthConfigs, Failure> {
    let images = client
        .image_list(&ImageListOptions {
            all: true,
            ..ImageListOptions::default()
        })
        .await
        .map_err(|error| session.failure(error))?;
    let registries: BTreeSet<String> = images
        .iter()
        .flat_map(|image| image.repo_digests.iter().chain(&image.repo_tags))
        .filter_map(|name| Some(Reference::parse(name).ok()?.registry().to_owned()))
        .collect();
    let mut auths = AuthConfigs::default();
    for registry in registries {
        if let Some(auth) = session.config()?.credentials(&registry)? {
            auths.0.insert(registry, auth);
        }
    }
    Ok(auths)
}

fn row(finding: &CheckFinding) -> Row {
    Row::new()
        .with("Kind", finding.kind.as_str())
        .with("Object", finding.object.as_str())
        .with("Problem", finding.problem.as_str())
        .with("Images", finding.images.join(","))
        .with("Outcome", finding.outcome.as_str())
        .with("Detail", finding.detail.as_str())
}

fn counted(number: u64, one: &str, many: &str) -> String {
    match number {
        1 => format!("1 {one}"),
        number => format!("{number} {many}"),
    }
}

fn text(report: &CheckReport, repair: bool) -> String {
    let mut lines = Vec::new();
    for finding in &report.findings {
        let needed = match finding.images.as_slice() {
            [] => String::new(),
            images if finding.kind == "image" || finding.kind == "name" => {
                format!(" ({})", images.join(", "))
            }
            images => format!(" (needed by {})", images.join(", ")),
        };
        lines.push(format!(
            "{} {}: {}{needed}",
            finding.kind, finding.object, finding.problem
        ));
        match (finding.outcome.as_str(), finding.detail.as_str()) {
            ("found", _) => {}
            (outcome, "") => lines.push(format!("  {outcome}")),
            (outcome, detail) => lines.push(format!("  {outcome}: {detail}")),
        }
    }
    let mut looked = vec![
        counted(report.images, "image", "images"),
        counted(report.names, "name", "names"),
        format!(
            "{} ({} compared with their archives)",
            counted(report.layers, "layer", "layers"),
            report.layers_compared
        ),
        format!(
            "{} ({})",
            counted(report.contents, "piece of content", "pieces of content"),
            size::format_decimal(report.content_bytes)
        ),
        counted(report.containers, "container", "containers"),
    ];
    if report.volumes > 0 {
        looked.push(counted(report.volumes, "volume", "volumes"));
    }
    lines.push(format!("Checked {}.", looked.join(", ")));
    let left = report
        .findings
        .iter()
        .filter(|finding| !matches!(finding.outcome.as_str(), "repaired" | "removed"))
        .count() as u64;
    let found = report.findings.len() as u64;
    lines.push(match (found, left) {
        (0, _) => "Nothing is wrong.".to_owned(),
        (_, 0) => format!(
            "{} found, none left.",
            counted(found, "problem", "problems")
        ),
        (_, left) if repair => format!(
            "{} found, {left} left.",
            counted(found, "problem", "problems")
        ),
        _ => format!(
            "{} found.\nTry 'berth system check --repair'.",
            counted(found, "problem", "problems")
        ),
    });
    lines.push(String::new());
    lines.join("\n")
}
