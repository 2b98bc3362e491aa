//! What a pull of one large layer could take at best: its parts by themselves.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use berth_testkit::Command;
use berth_testkit::bulk::Bulk;
use berth_testkit::registry::Registry;

use super::super::{Options, median, quiet};
use super::disk::Disk;
use super::transfers::{pull_line, start};

/// Time of each part by itself, and what a pull reaches of it.
pub(super) fn measure(options: &Options, registry: &Registry, rounds: usize) -> Result<String> {
    let image = format!("{}/{}", registry.host(), Bulk::Large.name()?);
    let archive = largest(registry.storage())?;
    let mut times: [Vec<Duration>; 5] = Default::default();
    let mut bytes = 0;
    for _ in 0..rounds {
        let disk = Disk::new()?;
        let plain = disk.path().join("layer.tar");
        let shell = |line: String| -> Result<Duration> {
            quiet::wait();
            let start = Instant::now();
            Command::new("sh").arg("-c").arg(&line).checked()?;
            Ok(start.elapsed())
        };
        times[0].push(shell(format!(
            "gzip -dc {} > /dev/null",
            archive.display()
        ))?);
        Command::new("sh")
            .arg("-c")
            .arg(format!(
                "gzip -dc {} > {}",
                archive.display(),
                plain.display()
            ))
            .checked()?;
        bytes = fs::metadata(&plain).context("the unpacked archive")?.len();
        let zstd = disk.path().join("layer.tar.zst");
        Command::new("sh")
            .arg("-c")
            .arg(format!(
                "zstd -q -3 {} -o {}",
                plain.display(),
                zstd.display()
            ))
            .checked()?;
        times[1].push(shell(format!("zstd -dcq {} > /dev/null", zstd.display()))?);
        let tree = disk.path().join("tree");
        times[2].push(shell(format!(
            "mkdir {0} && tar -xf {1} -C {0}",
            tree.display(),
            plain.display()
        ))?);
        times[3].push(shell(format!(
            "cat {} > {}",
            plain.display(),
            disk.path().join("copy").display()
        ))?);
        drop(disk);
        let _disk = Disk::new()?;
        let one = start("berth", options)?;
        quiet::wait();
        times[4].push(one.timed(&pull_line("berth", &image))?);
    }
    let rate = |times: &[Duration]| bytes as f64 / 1e6 / (median(times) / 1000.0);
    let pull = rate(&times[4]);
    let mut text = String::from("| | unpacked bytes | a pull reaches |\n| --- | ---: | ---: |\n");
    text.push_str(&format!(
        "| `berth pull` of one layer, gzip | {pull:.0} MB/s | |\n"
    ));
    for (title, times) in [
        "`gzip -dc` of the layer to nowhere",
        "`zstd -dc` of the same, compressed by zstd, to nowhere",
        "`tar -x` of the layer, not compressed",
        "a copy of the layer, not compressed, into one file",
    ]
    .iter()
    .zip(&times)
    {
        let alone = rate(times);
        text.push_str(&format!(
            "| {title} | {alone:.0} MB/s | {:.0} % |\n",
            pull / alone * 100.0
        ));
    }
    Ok(text)
}

/// The largest file of a registry's storage: the one large layer.
fn largest(storage: &Path) -> Result<PathBuf> {
    let mut best: Option<(u64, PathBuf)> = None;
    let mut pending = vec![storage.to_owned()];
    while let Some(directory) = pending.pop() {
        let entries =
            fs::read_dir(&directory).with_context(|| format!("list {}", directory.display()))?;
        for entry in entries.flatten() {
            let metadata = entry.metadata().context("look at the registry's storage")?;
            if metadata.is_dir() {
                pending.push(entry.path());
            } else if best.as_ref().is_none_or(|(size, _)| metadata.len() > *size) {
                best = Some((metadata.len(), entry.path()));
            }
        }
    }
    best.map(|(_, path)| path)
        .context("the registry's storage is empty")
}
