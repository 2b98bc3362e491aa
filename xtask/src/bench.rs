//! `bench`: Berth beside Docker and Podman in one run, as ratios of medians.
//!
//! All engines have directories of their own, the same image, and take turns round by round, so
//! that a noisy machine is noisy for all of them. A turn begins when the machine is quiet: what an engine
//! still does after it has answered is not put on the next one's bill. What each keeps in `/run` is on a tmpfs.

mod engines;
mod images;
mod memory;
mod network;
mod page;
mod quiet;
mod table;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use berth_testkit::{needs, scratch};

use crate::cargo::{cargo, output_directory};
use crate::deps;
use engines::{Bundle, Contender, Place};
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

/// What was asked for on the command line.
struct Options {
    rounds: usize,
    write: bool,
    /// Names of engines; none stands for all.
    only: Option<String>,
    /// The executable to measure instead of a fresh release build.
    executable: Option<PathBuf>,
    /// Measurements of one subject and the parts of them that are wanted, when these are asked for.
    subject: Option<(Subject, Vec<String>)>,
}

/// What has measurements of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Subject {
    Images,
    Network,
}

impl Options {
    fn parse(arguments: &[String]) -> Result<Self> {
        let mut options = Self {
            rounds: ROUNDS,
            write: false,
            only: None,
            executable: None,
            subject: None,
        };
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            let mut value = || rest.next().with_context(|| format!("{argument} of what?"));
            match (argument.as_str(), &mut options.subject) {
                ("--write", _) => options.write = true,
                ("--rounds", _) => options.rounds = value()?.parse().context("--rounds")?,
                ("--only", _) => options.only = Some(value()?.clone()),
                ("--executable", _) => options.executable = Some(value()?.into()),
                ("network", None) => options.subject = Some((Subject::Network, Vec::new())),
                ("images", None) => options.subject = Some((Subject::Images, Vec::new())),
                (part, Some((_, parts))) if !part.starts_with('-') => parts.push(part.to_owned()),
                _ => bail!(
                    "bench takes --write, --rounds N, --only berth,docker,podman and --executable FILE; \
                     and `network` with {} or `images` with {}, or without for all",
                    network::names().join(", "),
                    images::names().join(", ")
                ),
            }
        }
        if options.rounds == 0 {
            bail!("no rounds, no medians");
        }
        Ok(options)
    }

    fn wants(&self, engine: &str) -> bool {
        self.only
            .as_ref()
            .is_none_or(|names| names.split(',').any(|one| one == engine))
    }

    /// Berth's executable, built unless one was given.
    fn berth(&self) -> Result<PathBuf> {
        if let Some(path) = &self.executable {
            return fs::canonicalize(path).with_context(|| format!("find {}", path.display()));
        }
        cargo(["build", "--quiet", "--release", "--package", "berth"])?;
        Ok(output_directory("release")?.join("berth"))
    }
}

/// Measures and prints; `--write` puts the table into the page as well.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let options = Options::parse(arguments)?;
    if !needs::is_root() {
        bail!("bench needs root: it starts engines");
    }
    scratch::keep_run_in(Path::new(VOLATILE));
    scratch::sweep();
    berth_testkit::network::sweep();
    deps::for_bench()?;
    match &options.subject {
        Some((Subject::Network, parts)) => network::run(&options, parts),
        Some((Subject::Images, parts)) => images::run(&options, parts),
        None => run_without_network(&options),
    }
}

fn run_without_network(options: &Options) -> Result<()> {
    let rounds = options.rounds;
    let berth = options
        .wants("berth")
        .then(|| options.berth())
        .transpose()?;
    let mut contenders = Vec::new();
    if let Some(binary) = &berth {
        contenders.push(Contender::berth(binary, Place::Machine)?);
    }
    if options.wants("docker") {
        contenders.push(Contender::docker(Place::Machine)?);
    }
    if options.wants("podman") {
        contenders.push(Contender::podman()?);
    }
    let names: Vec<String> = contenders.iter().map(|one| one.title.clone()).collect();
    let mut rows = measure(&contenders, rounds)?;
    rows.extend(memory::rows(&contenders)?);
    rows.push(sizes(&contenders, berth.as_deref()));
    drop(contenders);

    let mut text = table::render(&names, &rows);
    text.push('\n');
    text.push_str(&table::render_runtimes(&runtimes(berth.as_ref(), rounds)?));
    text.push_str(&format!(
        "\n{} rounds, medians, on {}.\n",
        rounds,
        table::machine()
    ));
    println!("{text}");
    if options.write {
        page::replace("", &text)?;
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
    let values = times.iter().map(|times| Some(median(times))).collect();
    Ok(Row {
        title: title.to_owned(),
        unit: Unit::Milliseconds,
        values,
    })
}

/// The median in milliseconds.
fn median(times: &[Duration]) -> f64 {
    let mut values: Vec<f64> = times.iter().map(Duration::as_secs_f64).collect();
    median_of(&mut values) * 1000.0
}

/// The median; not a number of nothing.
fn median_of(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        odd if odd % 2 == 1 => values[middle],
        _ => (values[middle - 1] + values[middle]) / 2.0,
    }
}

fn sizes(contenders: &[Contender], berth: Option<&Path>) -> Row {
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
                paths.extend(berth.map(Path::to_owned));
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
        .zip(&times)
        .map(|((name, _), times)| (name, median(times)))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_of_odd_and_even_counts() {
        let of = |values: &[u64]| {
            median(
                &values
                    .iter()
                    .map(|ms| Duration::from_millis(*ms))
                    .collect::<Vec<_>>(),
            )
        };
        assert!((of(&[9, 1, 5]) - 5.0).abs() < 1e-9);
        assert!((of(&[4, 1, 2, 9]) - 3.0).abs() < 1e-9);
    }

    #[test]
    fn arguments_name_what_is_measured() {
        let parse = |line: &str| {
            let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
            Options::parse(&words)
        };
        let options = parse("network traffic ports --rounds 3 --write").unwrap();
        let (subject, parts) = options.subject.unwrap();
        assert_eq!((subject, parts.len()), (Subject::Network, 2));
        assert!(options.write && options.rounds == 3 && options.only.is_none());
        let options = parse("images memory").unwrap();
        assert_eq!(options.subject.unwrap().0, Subject::Images);
        let options = parse("--only berth,docker").unwrap();
        assert!(options.wants("docker") && !options.wants("podman"));
        for wrong in ["traffic", "--rounds 0", "--rounds", "network --fast"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
