//! The most memory that a daemon takes during a pull, by the size of the layer.

use std::fs;

use anyhow::{Context, Result};
use berth_testkit::bulk::Bulk;
use berth_testkit::registry::Registry;

use super::super::table::{Row, Unit};
use super::super::{Options, table};
use super::disk::Disk;
use super::transfers::{engines, pull_line, start};

pub(super) fn measure(options: &Options, registry: &Registry, _: usize) -> Result<String> {
    let mut titles = Vec::new();
    let mut rows: Vec<Row> = [
        (
            Bulk::Small,
            "daemon, most during a pull of one layer of 23 MB (RSS)",
        ),
        (
            Bulk::Large,
            "daemon, most during a pull of one layer of 590 MB (RSS)",
        ),
        (Bulk::Many, "daemon, most during a pull of 40 layers (RSS)"),
    ]
    .map(|(_, title)| Row {
        title: title.to_owned(),
        unit: Unit::Mebibytes,
        values: Vec::new(),
    })
    .into();
    for name in engines(options)
        .into_iter()
        .filter(|name| *name != "podman")
    {
        for (row, bulk) in rows.iter_mut().zip([Bulk::Small, Bulk::Large, Bulk::Many]) {
            let _disk = Disk::new()?;
            let one = start(name, options)?;
            if row.values.is_empty() || titles.last() != Some(&one.title) {
                titles.push(one.title.clone());
                titles.dedup();
            }
            let pid = one.daemon_pid().context("a daemon")?;
            let image = format!("{}/{}", registry.host(), bulk.name()?);
            one.quietly(&pull_line(name, &image))?;
            row.values.push(Some(peak(pid)?));
        }
    }
    Ok(table::render(&titles, &rows))
}

/// The most that a process ever had in memory, in MiB (proc(5), VmHWM).
fn peak(pid: i32) -> Result<f64> {
    let text =
        fs::read_to_string(format!("/proc/{pid}/status")).context("read a process's status")?;
    let kibibytes = text
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .and_then(|rest| rest.split_whitespace().next()?.parse::<f64>().ok())
        .context("no VmHWM in a process's status")?;
    Ok(kibibytes / 1024.0)
}
