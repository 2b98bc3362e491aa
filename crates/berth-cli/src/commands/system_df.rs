//! `system df`: what is on the disk.

use berth_api::DiskUsage;
use berth_types::size;

use super::{Arity, Spec, images, ps};
use crate::failure::Failure;
use crate::flags::{Flag, Operands, Parsed};
use crate::output::list::{Columns, Format, Row};
use crate::output::text;
use crate::session::{self, Session};

pub(crate) const SPEC: Spec = Spec {
    group: "system",
    names: &["df"],
    top: &[],
    usage: "[OPTIONS]",
    about: "Show how much of the disk is used",
    flags: || {
        vec![
            Flag::text(
                "format",
                "Format lines with 'table', 'table TEMPLATE', 'json' or a Go template",
            ),
            Flag::switch("verbose", "Show each image and container").short('v'),
        ]
    },
    operands: Operands::Mixed,
    arity: Arity::None,
    run,
};

const COLUMNS: Columns = Columns {
    headers: &[
        ("Type", "TYPE"),
        ("TotalCount", "TOTAL"),
        ("Active", "ACTIVE"),
        ("Size", "SIZE"),
        ("Reclaimable", "RECLAIMABLE"),
    ],
    type_name: "*formatter.diskUsageImagesContext",
    labels: false,
};
const TABLE: &str = "{{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}";

fn run(session: &Session, parsed: &Parsed) -> Result<(), Failure> {
    let verbose = parsed.switch("verbose");
    let wanted = match parsed.text("format") {
        "" => "table",
        given => given,
    };
    if verbose && wanted != "table" {
        return Err(Failure::new(
            "the verbose form of system df has one format only; leave --format out",
        ));
    }
    let format = Format::parse(wanted, TABLE, None)?;
    session.block_on(async {
        let client = session.client()?;
        let usage = client
            .disk_usage(&[])
            .await
            .map_err(|error| session.failure(error))?;
        let shown = if verbose {
            details(&usage)?
        } else {
            format.render(&COLUMNS, summary(&usage))?
        };
        session::print(&shown)
    })
}

fn shown(bytes: i64) -> String {
    size::format_decimal(u64::try_from(bytes).unwrap_or_default())
}

fn share(part: i64, whole: i64) -> String {
    match whole {
        0 => shown(part),
        whole => format!("{} ({}%)", shown(part), part.saturating_mul(100) / whole),
    }
}

fn line(kind: &str, total: usize, active: usize, size: i64, reclaimable: i64) -> Row {
    Row::new()
        .with("Type", kind)
        .with("TotalCount", total.to_string())
        .with("Active", active.to_string())
        .with("Size", shown(size))
        .with("Reclaimable", share(reclaimable, size))
}

fn summary(usage: &DiskUsage) -> Vec<Row> {
    let images = usage.images.as_deref().unwrap_or_default();
    let containers = usage.containers.as_deref().unwrap_or_default();
    let used: i64 = images
        .iter()
        .filter(|image| image.containers > 0 && image.size >= 0 && image.shared_size >= 0)
        .map(|image| image.size - image.shared_size)
        .sum();
    let running = |state: &str| matches!(state, "running" | "paused" | "restarting");
    let container_size: i64 = containers.iter().map(|container| container.size_rw).sum();
    let container_idle: i64 = containers
        .iter()
        .filter(|container| !running(&container.state))
        .map(|container| container.size_rw)
        .sum();
    let json_size = |list: &Option<Vec<serde_json::Value>>, path: &[&str]| -> (usize, i64) {
        let list = list.as_deref().unwrap_or_default();
        let sizes = list.iter().map(|item| {
            path.iter()
                .fold(item, |value, name| &value[*name])
                .as_i64()
                .unwrap_or_default()
                .max(0)
        });
        (list.len(), sizes.sum())
    };
    let (volumes, volume_size) = json_size(&usage.volumes, &["UsageData", "Size"]);
    let in_use = usage
        .volumes
        .iter()
        .flatten()
        .filter(|volume| volume["UsageData"]["RefCount"].as_i64().unwrap_or_default() > 0);
    let volume_used: i64 = in_use
        .clone()
        .map(|volume| {
            volume["UsageData"]["Size"]
                .as_i64()
                .unwrap_or_default()
                .max(0)
        })
        .sum();
    let (records, cache_size) = json_size(&usage.build_cache, &["Size"]);
    let cache_active = usage
        .build_cache
        .iter()
        .flatten()
        .filter(|record| record["InUse"].as_bool().unwrap_or_default());
    let cache_used: i64 = cache_active
        .clone()
        .map(|record| record["Size"].as_i64().unwrap_or_default())
        .sum();
    let active_images = images.iter().filter(|image| image.containers > 0).count();
    let mut lines = vec![
        line(
            "Images",
            images.len(),
            active_images,
            usage.layers_size,
            (usage.layers_size - used).max(0),
        ),
        line(
            "Containers",
            containers.len(),
            containers
                .iter()
                .filter(|container| running(&container.state))
                .count(),
            container_size,
            container_idle,
        ),
        line(
            "Local Volumes",
            volumes,
            in_use.count(),
            volume_size,
            volume_size - volume_used,
        ),
        line(
            "Build Cache",
            records,
            cache_active.count(),
            cache_size,
            cache_size - cache_used,
        ),
    ];
    // What is no kind of object: with it, the sizes add up to what is on the disk.
    if let Some(root) = &usage.berth {
        let engine = line("Engine", 0, 0, root.engine, 0);
        lines.push(engine.with("TotalCount", "-").with("Active", "-"));
    }
    lines
}

const IMAGE_COLUMNS: Columns = Columns {
    headers: &[
        ("Repository", "REPOSITORY"),
        ("Tag", "TAG"),
        ("ID", "IMAGE ID"),
        ("CreatedSince", "CREATED"),
        ("Size", "SIZE"),
        ("SharedSize", "SHARED SIZE"),
        ("UniqueSize", "UNIQUE SIZE"),
        ("Containers", "CONTAINERS"),
    ],
    type_name: "*formatter.diskUsageImagesContext",
    labels: false,
};
const IMAGE_TABLE: &str = "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}\t{{.SharedSize}}\t{{.UniqueSize}}\t{{.Containers}}";
const CONTAINER_TABLE: &str = "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.LocalVolumes}}\t{{.Size}}\t{{.RunningFor}}\t{{.Status}}\t{{.Names}}";

fn details(usage: &DiskUsage) -> Result<String, Failure> {
    let images = usage
        .images
        .iter()
        .flatten()
        .map(|image| images::first_row(image, false))
        .collect();
    let containers = usage
        .containers
        .iter()
        .flatten()
        .map(|container| ps::row(container, false))
        .collect();
    let mut volumes = "VOLUME NAME\tLINKS\tSIZE\n".to_owned();
    for volume in usage.volumes.iter().flatten() {
        volumes.push_str(&format!(
            "{}\t{}\t{}\n",
            volume["Name"].as_str().unwrap_or_default(),
            volume["UsageData"]["RefCount"],
            shown(volume["UsageData"]["Size"].as_i64().unwrap_or_default()),
        ));
    }
    let cached: i64 = usage
        .build_cache
        .iter()
        .flatten()
        .filter_map(|record| record["Size"].as_i64())
        .sum();
    let root = usage.berth.as_ref().map_or_else(String::new, |root| {
        format!(
            "\nEngine usage: {}\n\nAll of {}: {}\n",
            shown(root.engine),
            root.root,
            shown(root.total)
        )
    });
    Ok(format!(
        "Images space usage:\n\n{}\nContainers space usage:\n\n{}\nLocal Volumes space usage:\n\n{}\nBuild cache usage: {}\n{root}",
        Format::parse("table", IMAGE_TABLE, None)?.render(&IMAGE_COLUMNS, images)?,
        Format::parse("table", CONTAINER_TABLE, None)?.render(&ps::COLUMNS, containers)?,
        text::align(&volumes),
        shown(cached),
    ))
}
