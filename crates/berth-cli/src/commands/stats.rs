//! `stats`: what containers use, live.

use std::sync::Arc;
use std::time::Duration;

use berth_api::{
    Client, ContainerListOptions, ContainerStats, EventMessage, EventsOptions, Filters, JsonStream,
    StatsOptions,
};
use berth_types::size;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use super::{Arity, Spec};
use crate::failure::Failure;
use crate::flags::{Flag, Operands, Parsed};
use crate::output::list::{Columns, Format, Row};
use crate::output::text;
use crate::session::{self, Session};
use crate::terminal;

pub(crate) const SPEC: Spec = Spec {
    group: "container",
    names: &["stats"],
    top: &["stats"],
    usage: "[OPTIONS] [CONTAINER...]",
    about: "Show what containers use, live",
    flags: || {
        vec![
            Flag::switch("all", "Show those that do not run too").short('a'),
            Flag::text(
                "format",
                "Format lines with 'table', 'table TEMPLATE', 'json' or a Go template",
            ),
            Flag::switch("no-stream", "Show one result and stop"),
            Flag::switch("no-trunc", "Do not shorten anything"),
        ]
    },
    operands: Operands::Mixed,
    arity: Arity::AtLeast(0),
    run,
};

const COLUMNS: Columns = Columns {
    headers: &[
        ("Container", "CONTAINER"),
        ("Name", "NAME"),
        ("ID", "CONTAINER ID"),
        ("CPUPerc", "CPU %"),
        ("MemUsage", "MEM USAGE / LIMIT"),
        ("MemPerc", "MEM %"),
        ("NetIO", "NET I/O"),
        ("BlockIO", "BLOCK I/O"),
        ("PIDs", "PIDS"),
    ],
    type_name: "*container.statsContext",
    labels: false,
};
const TABLE: &str = "{{.ID}}\t{{.Name}}\t{{.CPUPerc}}\t{{.MemUsage}}\t{{.MemPerc}}\t{{.NetIO}}\t{{.BlockIO}}\t{{.PIDs}}";
/// Shown for what is not known yet.
const UNKNOWN: &str = "--";
/// How often the screen is drawn anew.
const REDRAW: Duration = Duration::from_millis(500);
/// Samples that may wait to be shown.
const WAITING_SAMPLES: usize = 64;

/// What is known of one container.
struct Entry {
    /// As asked for: a name, or the id when all are shown.
    asked: String,
    sample: Option<ContainerStats>,
    task: Option<AbortHandle>,
}

enum News {
    Sample(String, Box<ContainerStats>),
    Ended(String),
    Failed(String, String),
}

fn run(session: &Session, parsed: &Parsed) -> Result<(), Failure> {
    let configured = &session.config()?.stats_format;
    let wanted = match parsed.text("format") {
        "" if !configured.is_empty() => configured,
        "" => "table",
        given => given,
    };
    let format = Format::parse(wanted, TABLE, None)?;
    let view = View {
        format,
        whole: parsed.switch("no-trunc"),
    };
    session.block_on(async {
        let client = Arc::new(session.client()?);
        let everything = parsed.operands.is_empty();
        let names = match everything {
            false => parsed.operands.clone(),
            true => {
                let options = ContainerListOptions {
                    all: parsed.switch("all"),
                    ..ContainerListOptions::default()
                };
                let found = client
                    .container_list(&options)
                    .await
                    .map_err(|error| session.failure(error))?;
                found.into_iter().map(|container| container.id).collect()
            }
        };
        if parsed.switch("no-stream") {
            return once(session, &client, &names, &view).await;
        }
        live(
            session,
            &client,
            names,
            everything,
            parsed.switch("all"),
            &view,
        )
        .await
    })
}

struct View {
    format: Format,
    whole: bool,
}

impl View {
    fn draw<'a>(
        &self,
        entries: impl Iterator<Item = (&'a str, Option<&'a ContainerStats>)>,
    ) -> Result<String, Failure> {
        let rows = entries
            .map(|(asked, sample)| row(asked, sample, self.whole))
            .collect();
        self.format.render(&COLUMNS, rows)
    }
}

async fn once(
    session: &Session,
    client: &Client,
    names: &[String],
    view: &View,
) -> Result<(), Failure> {
    let sample = async |name: &str| -> Result<Option<ContainerStats>, Failure> {
        let options = StatsOptions {
            stream: false,
            one_shot: false,
        };
        let mut stream = client
            .container_stats(name, options)
            .await
            .map_err(|error| session.failure(error))?;
        stream.next().await.map_err(|error| session.failure(error))
    };
    let found = futures_util::future::join_all(names.iter().map(|name| sample(name))).await;
    let mut failures = Vec::new();
    let mut samples = Vec::new();
    for (name, result) in names.iter().zip(found) {
        match result {
            Ok(sample) => samples.push((name.as_str(), sample)),
            Err(failure) => failures.push(failure.message),
        }
    }
    if !failures.is_empty() {
        return Err(Failure::new(failures.join("\n")));
    }
    session::print(
        &view.draw(
            samples
                .iter()
                .map(|(name, sample)| (*name, sample.as_ref())),
        )?,
    )
}

async fn live(
    session: &Session,
    client: &Arc<Client>,
    names: Vec<String>,
    everything: bool,
    all: bool,
    view: &View,
) -> Result<(), Failure> {
    let (sender, mut news) = mpsc::channel(WAITING_SAMPLES);
    let program = session.program;
    let watch = |asked: String| -> Entry {
        let (client, sender, name) = (Arc::clone(client), sender.clone(), asked.clone());
        let task = tokio::spawn(async move {
            let options = StatsOptions {
                stream: true,
                one_shot: false,
            };
            let end = match client.container_stats(&name, options).await {
                Ok(mut stream) => loop {
                    match stream.next().await {
                        Ok(Some(sample)) => {
                            if sender
                                .send(News::Sample(name.clone(), Box::new(sample)))
                                .await
                                .is_err()
                            {
                                return;
                            }
                        }
                        Ok(None) => break News::Ended(name),
                        Err(error) => break News::Failed(name, session::explain(program, &error)),
                    }
                },
                Err(error) => News::Failed(name, session::explain(program, &error)),
            };
            // When nobody listens any more the command is over.
            let _ = sender.send(end).await;
        });
        Entry {
            asked,
            sample: None,
            task: Some(task.abort_handle()),
        }
    };
    let mut entries: Vec<Entry> = names.into_iter().map(watch).collect();
    let mut events: Option<JsonStream<EventMessage>> = match everything {
        false => None,
        true => {
            let mut filters = Filters::new();
            filters.add("type", "container");
            let options = EventsOptions {
                filters,
                ..EventsOptions::default()
            };
            Some(
                client
                    .events(&options)
                    .await
                    .map_err(|error| session.failure(error))?,
            )
        }
    };
    let mut redraw = tokio::time::interval(REDRAW);
    let clears = terminal::output_is_terminal();
    loop {
        tokio::select! {
            told = news.recv() => match told {
                Some(News::Sample(name, sample)) => {
                    if let Some(entry) = entries.iter_mut().find(|entry| entry.asked == name) {
                        entry.sample = Some(*sample);
                    }
                }
                Some(News::Ended(name)) => {
                    if let Some(entry) = entries.iter_mut().find(|entry| entry.asked == name) {
                        entry.task = None;
                    }
                }
                Some(News::Failed(name, _)) if everything => entries.retain(|entry| entry.asked != name),
                Some(News::Failed(_, reason)) => return Err(Failure::new(reason)),
                None => return Ok(()),
            },
            event = next_event(&mut events) => match event.map_err(|error| session.failure(error))? {
                None => events = None,
                Some(event) => match event.action.as_str() {
                    "start" | "create"
                        if (event.action == "start" || all)
                            && entries.iter().all(|entry| entry.asked != event.actor.id) =>
                    {
                        entries.push(watch(event.actor.id));
                    }
                    "destroy" => remove(&mut entries, &event.actor.id),
                    "die" if !all => remove(&mut entries, &event.actor.id),
                    _ => {}
                },
            },
            _ = redraw.tick() => {
                let shown = view.draw(entries.iter().map(|entry| (entry.asked.as_str(), entry.sample.as_ref())))?;
                // From the top left corner; what was on a line before and what was below is erased.
                let screen = match clears {
                    true => format!("\x1b[H{}\x1b[J", shown.replace('\n', "\x1b[K\n")),
                    false => shown,
                };
                session::print(&screen)?;
                if !everything && entries.iter().all(|entry| entry.task.is_none()) {
                    return Ok(());
                }
            }
        }
    }
}

fn remove(entries: &mut Vec<Entry>, id: &str) {
    entries.retain(|entry| {
        if entry.asked != id {
            return true;
        }
        if let Some(task) = &entry.task {
            task.abort();
        }
        false
    });
}

async fn next_event(
    events: &mut Option<JsonStream<EventMessage>>,
) -> Result<Option<EventMessage>, berth_api::ClientError> {
    match events {
        Some(events) => events.next().await,
        None => std::future::pending().await,
    }
}

/// Percentage of one processor that was used between the two halves of a sample.
fn processor_percent(sample: &ContainerStats) -> f64 {
    let (now, before) = (&sample.cpu_stats, &sample.precpu_stats);
    let used = now.cpu_usage.total_usage as f64 - before.cpu_usage.total_usage as f64;
    let system = now.system_cpu_usage as f64 - before.system_cpu_usage as f64;
    let processors = match now.online_cpus {
        0 => now.cpu_usage.percpu_usage.len() as f64,
        online => f64::from(online),
    };
    if system > 0.0 && used > 0.0 {
        used / system * processors * 100.0
    } else {
        0.0
    }
}

/// Memory in use without the part of the page cache that is easily given back.
fn memory_used(sample: &ContainerStats) -> u64 {
    let memory = &sample.memory_stats;
    let inactive = memory
        .stats
        .get("total_inactive_file")
        .or_else(|| memory.stats.get("inactive_file"))
        .copied()
        .filter(|inactive| *inactive < memory.usage)
        .unwrap_or_default();
    memory.usage - inactive
}

fn row(asked: &str, sample: Option<&ContainerStats>, whole: bool) -> Row {
    let Some(sample) = sample else {
        let id = if whole { asked } else { text::short_id(asked) };
        return Row::new()
            .with("Container", asked)
            .with("Name", UNKNOWN)
            .with("ID", id)
            .with("CPUPerc", UNKNOWN)
            .with("MemUsage", format!("{UNKNOWN} / {UNKNOWN}"))
            .with("MemPerc", UNKNOWN)
            .with("NetIO", format!("{UNKNOWN} / {UNKNOWN}"))
            .with("BlockIO", format!("{UNKNOWN} / {UNKNOWN}"))
            .with("PIDs", UNKNOWN);
    };
    let (used, limit) = (memory_used(sample), sample.memory_stats.limit);
    let share = if limit == 0 {
        0.0
    } else {
        used as f64 / limit as f64 * 100.0
    };
    let received: u64 = sample
        .networks
        .values()
        .map(|network| network.rx_bytes)
        .sum();
    let sent: u64 = sample
        .networks
        .values()
        .map(|network| network.tx_bytes)
        .sum();
    let blocks = |operation: &str| -> u64 {
        let entries = sample
            .blkio_stats
            .io_service_bytes_recursive
            .iter()
            .flatten();
        entries
            .filter(|entry| entry.op.eq_ignore_ascii_case(operation))
            .map(|entry| entry.value)
            .sum()
    };
    let pair = |left: u64, right: u64| {
        format!(
            "{} / {}",
            size::format_decimal_short(left),
            size::format_decimal_short(right)
        )
    };
    Row::new()
        .with("Container", asked)
        .with(
            "Name",
            sample.name.strip_prefix('/').unwrap_or(&sample.name),
        )
        .with(
            "ID",
            if whole {
                &sample.id
            } else {
                text::short_id(&sample.id)
            },
        )
        .with("CPUPerc", format!("{:.2}%", processor_percent(sample)))
        .with(
            "MemUsage",
            format!(
                "{} / {}",
                size::format_binary(used),
                size::format_binary(limit)
            ),
        )
        .with("MemPerc", format!("{share:.2}%"))
        .with("NetIO", pair(received, sent))
        .with("BlockIO", pair(blocks("read"), blocks("write")))
        .with("PIDs", sample.pids_stats.current.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> ContainerStats {
        serde_json::from_str(
            r#"{"name":"/web","id":"0123456789abcdef","pids_stats":{"current":3},
            "cpu_stats":{"cpu_usage":{"total_usage":2000},"system_cpu_usage":20000,"online_cpus":2},
            "precpu_stats":{"cpu_usage":{"total_usage":1000},"system_cpu_usage":10000},
            "memory_stats":{"usage":3145728,"limit":1073741824,"stats":{"inactive_file":1048576}},
            "networks":{"eth0":{"rx_bytes":1000,"tx_bytes":2000}},
            "blkio_stats":{"io_service_bytes_recursive":[{"op":"Read","value":4096},{"op":"write","value":1}]}}"#,
        )
        .expect("is a sample")
    }

    #[test]
    fn a_sample_is_one_line() {
        let view = View {
            format: Format::parse("table", TABLE, None).expect("parses"),
            whole: false,
        };
        let sample = sample();
        let shown = view
            .draw([("web", Some(&sample)), ("other", None)].into_iter())
            .expect("renders");
        assert_eq!(
            shown,
            "CONTAINER ID   NAME      CPU %     MEM USAGE / LIMIT   MEM %     NET I/O     BLOCK I/O    PIDS\n\
             0123456789ab   web       20.00%    2MiB / 1GiB         0.20%     1kB / 2kB   4.1kB / 1B   3\n\
             other          --        --        -- / --             --        -- / --     -- / --      --\n"
        );
    }
}
