//! `bench`: Berth beside Docker and Podman in one run, as ratios of medians.
//!
//! All engines have directories of their own, the same image, and take turns round by round, so
//! that a noisy machine is noisy for all of them. A turn begins when the machine is quiet: what an engine
//! still does after it has answered is not put on the next one's bill. What each keeps in `/run` is on a tmpfs.

mod engines;
mod memory;
mod quiet;
mod table;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use berth_testkit::{images, needs, scratch};

use crate::cargo::{cargo, output_directory};
use crate::deps;
use engines::{Bundle, Contender};
use table::{Row, Unit};

/// Rounds of everything that takes milliseconds.
const ROUNDS: usize = 15;

/// Rounds of the start of many.
const ROUNDS_OF_MANY: usize = 3;

/// Containers started at once.
const AT_ONCE: usize = 50;

/// A tmpfs on every machine. State that is gone after a reboot anyway is on one in practice (`/run`), and on
/// this machine `/run` may be something else.
const VOLATILE: &str = "/dev/shm";

/// Page that keeps the result.
const PAGE: &str = "docs/performance.md";

/// Measures and prints; `--write` puts the table into the page as well.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let mut rounds = ROUNDS;
    let mut write = false;
    let mut only: Option<&str> = None;
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        match (argument.as_str(), rest.as_slice().first()) {
            ("--write", _) => write = true,
            ("--rounds", Some(count)) => {
                rounds = count.parse().context("--rounds")?;
                rest.next();
            }
            ("--only", Some(names)) => {
                only = Some(names);
                rest.next();
            }
            _ => bail!("bench takes --write, --rounds N and --only berth,docker,podman"),
        }
    }
    if rounds == 0 {
        bail!("no rounds, no medians");
    }
    if !needs::is_root() {
        bail!("bench needs root: it starts engines");
    }
    scratch::keep_run_in(Path::new(VOLATILE));
    deps::for_bench()?;
    let binary = output_directory("release")?.join("berth");
    let wanted = |name: &str| only.is_none_or(|names| names.split(',').any(|one| one == name));
    let mut contenders = Vec::new();
    if wanted("berth") {
        cargo(["build", "--quiet", "--release", "--package", "berth"])?;
        contenders.push(Contender::berth(&binary)?);
    }
    if wanted("docker") {
        contenders.push(Contender::docker()?);
    }
    if wanted("podman") {
        contenders.push(Contender::podman()?);
    }
    let names: Vec<String> = contenders.iter().map(|one| one.title.clone()).collect();
    let mut rows = measure(&contenders, rounds)?;
    rows.extend(memory::rows(&contenders)?);
    rows.push(sizes(&contenders, &binary));
    drop(contenders);

    let mut text = table::render(&names, &rows);
    text.push('\n');
    text.push_str(&table::render_runtimes(&runtimes(
        wanted("berth").then_some(&binary),
        rounds,
    )?));
    text.push_str(&format!(
        "\n{} rounds, medians, on {}.\n",
        rounds,
        table::machine()
    ));
    println!("{text}");
    if write {
        replace_in_page(&text)?;
    }
    Ok(())
}

fn measure(contenders: &[Contender], rounds: usize) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (title, network) in [
        ("`run --rm --network none busybox true`", "none"),
        ("`run --rm --network host busybox true`", "host"),
    ] {
        let line = format!("--rm --network {network} busybox true");
        rows.push(turns(title, contenders, rounds, |one| {
            one.timed_run(&line)
        })?);
    }
    for one in contenders {
        one.quietly_run("-d --name box --network none busybox sleep 100000")?;
    }
    rows.push(turns("`exec box true`", contenders, rounds, |one| {
        one.timed("exec box true")
    })?);
    for one in contenders {
        one.quietly_remove("box")?;
    }
    rows.push(turns(
        "create, then `start`, `stop -t 0`, `rm`",
        contenders,
        rounds,
        |one| {
            one.quietly_create("--name life --network none busybox sleep 100000")?;
            Ok(one.timed("start life")? + one.timed("stop -t 0 life")? + one.timed("rm life")?)
        },
    )?);
    let title = format!("{AT_ONCE} × `run --rm --network none busybox true` at once");
    rows.push(turns(&title, contenders, ROUNDS_OF_MANY, |one| {
        one.timed_many("--rm --network none busybox true", AT_ONCE)
    })?);
    Ok(rows)
}

/// One row: each contender in turn, round by round, after one round that does not count.
fn turns(
    title: &str,
    contenders: &[Contender],
    rounds: usize,
    work: impl Fn(&Contender) -> Result<Duration>,
) -> Result<Row> {
    eprintln!("measuring {title}");
    let mut times: Vec<Vec<Duration>> = vec![Vec::new(); contenders.len()];
    for round in 0..=rounds {
        for (one, times) in contenders.iter().zip(&mut times) {
            quiet::wait();
            let time = work(one).with_context(|| format!("{}: {title}", one.title))?;
            if round > 0 {
                times.push(time);
            }
        }
    }
    let values = times.iter_mut().map(|times| Some(median(times))).collect();
    Ok(Row {
        title: title.to_owned(),
        unit: Unit::Milliseconds,
        values,
    })
}

fn median(times: &mut [Duration]) -> f64 {
    times.sort_unstable();
    let middle = times.len() / 2;
    let value = if times.len() % 2 == 1 {
        times[middle].as_secs_f64()
    } else {
        (times[middle - 1] + times[middle]).as_secs_f64() / 2.0
    };
    value * 1000.0
}

fn sizes(contenders: &[Contender], binary: &Path) -> Row {
    let of = |paths: &[PathBuf]| -> f64 {
        let bytes: u64 = paths
            .iter()
            .filter_map(|path| fs::metadata(path).ok())
            .map(|m| m.len())
            .sum();
        bytes as f64 / f64::from(1 << 20)
    };
    let values = contenders
        .iter()
        .map(|one| {
            let mut paths: Vec<PathBuf> = one
                .programs
                .iter()
                .filter_map(|name| needs::find(name))
                .collect();
            if one.is_berth() {
                paths.push(binary.to_owned());
            }
            Some(of(&paths))
        })
        .collect();
    Row {
        title: "programs on disk".into(),
        unit: Unit::Mebibytes,
        values,
    }
}

/// The OCI runtimes alone: `run` of the same bundle.
fn runtimes(binary: Option<&PathBuf>, rounds: usize) -> Result<Vec<(String, f64)>> {
    let bundle = Bundle::new()?;
    let mut contenders: Vec<(String, Vec<String>)> = Vec::new();
    if let Some(path) = binary {
        let words = vec![path.display().to_string(), "runtime".into()];
        contenders.push(("berth runtime".into(), words));
    }
    for name in ["crun", "runc"] {
        if let Some(path) = needs::find(name) {
            contenders.push((name.to_owned(), vec![path.display().to_string()]));
        }
    }
    // crun refuses hybrid control groups; what cannot run here is told and left out.
    contenders.retain(|(name, words)| match bundle.run(words) {
        Ok(()) => true,
        Err(error) => {
            eprintln!("{name} is left out: {error:#}");
            false
        }
    });
    let mut times: Vec<Vec<Duration>> = vec![Vec::new(); contenders.len()];
    for round in 0..=rounds {
        for ((name, words), times) in contenders.iter().zip(&mut times) {
            let start = Instant::now();
            bundle.run(words).with_context(|| format!("{name} run"))?;
            if round > 0 {
                times.push(start.elapsed());
            }
        }
    }
    Ok(contenders
        .into_iter()
        .zip(&mut times)
        .map(|((name, _), times)| (name, median(times)))
        .collect())
}

fn replace_in_page(text: &str) -> Result<()> {
    let path = images::workspace().join(PAGE);
    let page = fs::read_to_string(&path).with_context(|| format!("read {PAGE}"))?;
    let (begin, end) = ("<!-- bench: begin -->\n", "<!-- bench: end -->");
    let (Some(first), Some(last)) = (page.find(begin), page.find(end)) else {
        bail!("{PAGE} has no place for the table (between {begin:?} and {end:?})");
    };
    let page = format!("{}{begin}{text}{}", &page[..first], &page[last..]);
    fs::write(&path, page).with_context(|| format!("write {PAGE}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_of_odd_and_even_counts() {
        let of = |values: &[u64]| {
            median(
                &mut values
                    .iter()
                    .map(|ms| Duration::from_millis(*ms))
                    .collect::<Vec<_>>(),
            )
        };
        assert!((of(&[9, 1, 5]) - 5.0).abs() < 1e-9);
        assert!((of(&[4, 1, 2, 9]) - 3.0).abs() < 1e-9);
    }
}
