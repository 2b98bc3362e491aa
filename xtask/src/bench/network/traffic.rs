//! Throughput by iperf3, latency and rate of requests by wrk, over every way to a container.
//!
//! Servers and the client inside come from one image, and the programs outside from the same packages.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use berth_testkit::network::HOST;
use berth_testkit::{images, wait};
use serde_json::Value;

use super::super::engines::Contender;
use super::super::table::{Unit, number};
use super::super::{median_of, quiet};

/// Seconds of each measurement: many short ones in turn tell more than few long ones, since what else the machine does
/// meets one of them and not the median.
const SECONDS: usize = 1;

/// More rounds than this take many minutes, and tell no more.
const ROUNDS: usize = 15;

/// Longest time of one program: it measures for [`SECONDS`].
const DEADLINE: Duration = Duration::from_secs(30);

/// Connections of wrk when the rate is measured.
const CONNECTIONS: usize = 32;

/// A server whose answer costs next to nothing, so that the way there is what is measured.
const SERVER: &str = "sh -c \"echo 'worker_processes 1; events { worker_connections 1024; } \
    http { access_log off; keepalive_requests 100000000; server { listen 80; \
    location / { return 200 hello; } } }' > /tmp/conf && exec nginx -c /tmp/conf -g 'daemon off;'\"";

/// Where the client is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum From {
    Container,
    Host,
    Outside,
}

/// A way to the servers; without an address it is the container's own.
type Way = (&'static str, From, Option<&'static str>);

const WAYS: [Way; 4] = [
    ("container → container", From::Container, None),
    ("host → 127.0.0.1, published", From::Host, Some("127.0.0.1")),
    ("host → its own address, published", From::Host, Some(HOST)),
    ("outside → published", From::Outside, Some(HOST)),
];

/// What is measured on each way, and whether more is better.
const MEASURES: [(&str, Unit, bool); 4] = [
    ("throughput", Unit::Gigabits, true),
    ("request, median", Unit::Microseconds, false),
    ("request, 99th percentile", Unit::Microseconds, false),
    ("requests, 32 connections", Unit::Requests, true),
];

/// A table with a row for each way and measure.
pub(super) fn measure(contenders: &[Contender], rounds: usize) -> Result<String> {
    let rounds = rounds.min(ROUNDS);
    for one in contenders {
        start_servers(one).with_context(|| one.title.clone())?;
    }
    // By way, measure and contender.
    let mut values = vec![vec![vec![Vec::new(); contenders.len()]; MEASURES.len()]; WAYS.len()];
    for round in 0..rounds {
        for (way, values) in WAYS.iter().zip(&mut values) {
            eprintln!("measuring {}, round {}", way.0, round + 1);
            for kind in [Tool::Throughput, Tool::Latency, Tool::Rate] {
                // Who begins changes from round to round.
                for turn in 0..contenders.len() {
                    let at = (turn + round) % contenders.len();
                    quiet::wait();
                    let found = once(&contenders[at], *way, kind)
                        .with_context(|| format!("{}: {}", contenders[at].title, way.0))?;
                    for (measure, value) in found {
                        values[measure][at].push(value);
                    }
                }
            }
        }
    }
    Ok(render(contenders, &mut values) + &format!("\n{rounds} rounds of {SECONDS} s each.\n"))
}

fn render(contenders: &[Contender], values: &mut [Vec<Vec<Vec<f64>>>]) -> String {
    let mut text = String::from("| way | measure |");
    for (at, one) in contenders.iter().enumerate() {
        text.push_str(&format!(" {} |", one.title));
        if at > 0 {
            text.push_str(" better by |");
        }
    }
    text.push_str("\n| --- | --- |");
    text.push_str(&" ---: |".repeat((contenders.len() * 2).saturating_sub(1)));
    text.push('\n');
    for ((way, _, _), values) in WAYS.iter().zip(values) {
        for ((measure, unit, more_is_better), values) in MEASURES.iter().zip(values) {
            text.push_str(&format!("| {way} | {measure} |"));
            let medians: Vec<f64> = values.iter_mut().map(|list| median_of(list)).collect();
            for (at, value) in medians.iter().enumerate() {
                text.push_str(&format!(" {} |", number(*value, *unit)));
                if at > 0 {
                    let ratio = if *more_is_better {
                        medians[0] / value
                    } else {
                        value / medians[0]
                    };
                    text.push_str(&format!(" {ratio:.2}× |"));
                }
            }
            text.push('\n');
        }
    }
    text
}

fn start_servers(one: &Contender) -> Result<()> {
    let archive = images::archive_file(&images::traffic()?)?;
    one.quietly(&format!("load -q -i {}", archive.display()))?;
    one.quietly_run("-d --name client traffic sleep 100000")?;
    one.quietly_run("-d --name iperf -p 5201:5201 traffic iperf3 -s")?;
    one.quietly_run(&format!("-d --name web -p 8080:80 traffic {SERVER}"))?;
    let way = ("", From::Host, Some(HOST));
    let mut last = None;
    let up = wait::within(Duration::from_secs(20), || {
        let short = [
            program(one, way, "iperf", 5201, |address| {
                format!("iperf3 -c {address} -n 1K")
            }),
            program(one, way, "web", 8080, |address| {
                format!("wrk -t1 -c1 -d1s http://{address}/")
            }),
        ];
        last = short.into_iter().find_map(Result::err);
        last.is_none().then_some(())
    });
    match (up, last) {
        (None, Some(error)) => Err(error.context("the servers do not answer")),
        (None, None) => bail!("the servers do not answer"),
        (Some(()), _) => Ok(()),
    }
}

#[derive(Debug, Clone, Copy)]
enum Tool {
    Throughput,
    Latency,
    Rate,
}

/// One measurement: indices of [`MEASURES`] with their values.
fn once(one: &Contender, way: Way, tool: Tool) -> Result<Vec<(usize, f64)>> {
    match tool {
        Tool::Throughput => {
            let text = program(one, way, "iperf", 5201, |address| {
                format!("iperf3 -J -t {SECONDS} -c {address}")
            })?;
            Ok(vec![(0, gigabits(&text)?)])
        }
        Tool::Latency => {
            let text = program(one, way, "web", 8080, |address| {
                format!("wrk -t1 -c1 -d{SECONDS}s --latency http://{address}/")
            })?;
            without_errors(&text)?;
            let find = |percent: &str| {
                percentile(&text, percent).with_context(|| format!("no {percent} in {text}"))
            };
            Ok(vec![(1, find("50%")?), (2, find("99%")?)])
        }
        Tool::Rate => {
            let text = program(one, way, "web", 8080, |address| {
                format!("wrk -t1 -c{CONNECTIONS} -d{SECONDS}s http://{address}/")
            })?;
            without_errors(&text)?;
            let rate = rate(&text).with_context(|| format!("no rate in {text}"))?;
            Ok(vec![(3, rate)])
        }
    }
}

/// Runs a program at one end of the way. `port` is the published one; iperf3 takes its port as an option of its own,
/// and here always the one it has by itself.
fn program(
    one: &Contender,
    (_, from, address): Way,
    server: &str,
    port: u16,
    line: impl Fn(&str) -> String,
) -> Result<String> {
    let daemon = one.daemon()?;
    let line = match address {
        None => {
            let found = daemon.inspect(server)["NetworkSettings"]["IPAddress"].clone();
            let address = found.as_str().context("no address")?;
            let port = if server == "web" { ":80" } else { "" };
            line(&format!("{address}{port}"))
        }
        Some(address) if server == "web" => line(&format!("{address}:{port}")),
        Some(address) => line(address),
    };
    let network = daemon.network();
    let (name, words) = line.split_once(' ').context("no arguments")?;
    let command = match from {
        From::Container => return one.printed(&format!("exec client {line}")),
        From::Host => network.on_host(name),
        From::Outside => network.on_outside(name),
    };
    let words = words.split(' ');
    Ok(command.args(words).deadline(DEADLINE).checked()?.stdout)
}

/// What the receiver got, from iperf3's report.
fn gigabits(text: &str) -> Result<f64> {
    let report: Value = serde_json::from_str(text).context("read iperf3's report")?;
    report["end"]["sum_received"]["bits_per_second"]
        .as_f64()
        .map(|bits| bits / 1e9)
        .with_context(|| format!("iperf3: {}", report["error"]))
}

fn without_errors(text: &str) -> Result<()> {
    if text.contains("Socket errors") || text.contains("Non-2xx") {
        bail!("requests failed: {text}");
    }
    Ok(())
}

/// A percentile of wrk's report in microseconds.
fn percentile(text: &str, percent: &str) -> Option<f64> {
    let line = text
        .lines()
        .find_map(|line| line.trim().strip_prefix(percent))?
        .trim();
    let (number, factor) = if let Some(number) = line.strip_suffix("us") {
        (number, 1.0)
    } else if let Some(number) = line.strip_suffix("ms") {
        (number, 1e3)
    } else {
        (line.strip_suffix('s')?, 1e6)
    };
    Some(number.parse::<f64>().ok()? * factor)
}

/// Requests per second of wrk's report.
fn rate(text: &str) -> Option<f64> {
    text.lines()
        .find_map(|line| line.trim().strip_prefix("Requests/sec:"))?
        .trim()
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_are_read() {
        let text = "  Latency Distribution\n     50%   31.00us\n     75%   32.00us\n     99%    1.20ms\n\
                    Requests/sec:  45678.90\nTransfer/sec:      1.23MB\n";
        assert_eq!(percentile(text, "50%"), Some(31.0));
        assert_eq!(percentile(text, "99%"), Some(1200.0));
        assert_eq!(percentile("  99%  2.00s", "99%"), Some(2e6));
        assert_eq!(rate(text), Some(45678.9));
        let report = r#"{"end":{"sum_received":{"bits_per_second":2.5e9}}}"#;
        assert!((gigabits(report).unwrap() - 2.5).abs() < 1e-9);
        assert!(gigabits(r#"{"error":"refused"}"#).is_err());
    }
}
