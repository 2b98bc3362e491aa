//! `update` and `events`.

use std::io::Read;
use std::path::Path;
use std::time::Duration;

use berth_sys::cgroup::{BlockIoEntry, Stats};
use berth_sys::process;
use oci_spec::runtime::LinuxResources;
use serde_json::{Value, json};

use super::flags::{Flag, Parsed, switch, value};
use super::{Call, Failure, print};
use crate::error::RuntimeError;
use crate::limits::CONFIGURATION_BYTES;
use crate::state::load_json;

pub(super) const UPDATE_FLAGS: &[Flag] = &[
    value(
        &["resources", "r"],
        "file with the limits as JSON, - for standard input",
    ),
    value(&["blkio-weight"], "weight of block I/O, 10 to 1000"),
    value(&["cpu-period"], "period in microseconds"),
    value(&["cpu-quota"], "time per period in microseconds"),
    value(&["cpu-burst"], "time that may be saved up in microseconds"),
    value(&["cpu-share"], "weight of CPU time"),
    value(
        &["cpu-rt-period"],
        "period of real-time tasks in microseconds",
    ),
    value(
        &["cpu-rt-runtime"],
        "time per period of real-time tasks in microseconds",
    ),
    value(&["cpuset-cpus"], "CPUs"),
    value(&["cpuset-mems"], "memory nodes"),
    value(&["memory"], "bytes of memory"),
    value(&["cpu-idle"], "1: run only when nothing else does"),
    value(
        &["memory-reservation"],
        "bytes of memory that are kept when memory is short",
    ),
    value(&["memory-swap"], "bytes of memory and swap together"),
    value(&["pids-limit"], "number of tasks"),
    value(
        &["kernel-memory"],
        "bytes of kernel memory; without effect since Linux 5.16",
    ),
    value(
        &["kernel-memory-tcp"],
        "bytes of kernel memory for TCP; version 1 only",
    ),
    value(
        &["l3-cache-schema"],
        "part of the L3 cache, of a container with a class of resctrl",
    ),
    value(
        &["mem-bw-schema"],
        "memory bandwidth, of a container with a class of resctrl",
    ),
];

pub(super) const EVENTS_FLAGS: &[Flag] = &[
    switch(&["stats"], "statistics once"),
    value(&["interval"], "time between statistics, by default 5s"),
];

pub(super) fn update(call: &Call<'_>) -> Result<u8, Failure> {
    let container = call.container()?;
    let resources = match call.flags.get("resources") {
        Some("-") => {
            let mut text = String::new();
            std::io::stdin()
                .take(CONFIGURATION_BYTES)
                .read_to_string(&mut text)
                .map_err(|cause| Failure::Usage(format!("read standard input: {cause}")))?;
            serde_json::from_str(&text).map_err(|source| RuntimeError::Parse {
                path: "standard input".into(),
                source,
            })?
        }
        Some(path) => load_json(Path::new(path))?
            .ok_or_else(|| Failure::Usage(format!("open {path}: no such file or directory")))?,
        None => from_flags(&call.flags)?,
    };
    let schemata: Vec<String> = ["l3-cache-schema", "mem-bw-schema"]
        .iter()
        .filter_map(|flag| call.flags.get(flag).map(str::to_owned))
        .collect();
    if !schemata.is_empty() {
        container.update_schemata(&schemata)?;
    }
    call.note(&container.update(&resources)?);
    Ok(0)
}

fn from_flags(flags: &Parsed) -> Result<LinuxResources, Failure> {
    let mut document = json!({});
    let mut set = |section: &str, key: &str, value: Value| {
        document[section][key] = value;
    };
    for (flag, section, key) in [
        ("cpu-period", "cpu", "period"),
        ("cpu-quota", "cpu", "quota"),
        ("cpu-burst", "cpu", "burst"),
        ("cpu-share", "cpu", "shares"),
        ("cpu-rt-period", "cpu", "realtimePeriod"),
        ("cpu-rt-runtime", "cpu", "realtimeRuntime"),
        ("cpu-idle", "cpu", "idle"),
        ("blkio-weight", "blockIO", "weight"),
        ("pids-limit", "pids", "limit"),
    ] {
        if let Some(number) = flags.number::<i64>(flag)? {
            set(section, key, number.into());
        }
    }
    for (flag, key) in [("cpuset-cpus", "cpus"), ("cpuset-mems", "mems")] {
        if let Some(text) = flags.get(flag) {
            set("cpu", key, text.into());
        }
    }
    for (flag, key) in [
        ("memory", "limit"),
        ("memory-reservation", "reservation"),
        ("memory-swap", "swap"),
        ("kernel-memory", "kernel"),
        ("kernel-memory-tcp", "kernelTCP"),
    ] {
        if let Some(text) = flags.get(flag) {
            set("memory", key, bytes(flag, text)?.into());
        }
    }
    serde_json::from_value(document).map_err(|source| {
        Failure::Runtime(RuntimeError::Parse {
            path: "the flags".into(),
            source,
        })
    })
}

/// A number of bytes, with a unit as docker knows them.
fn bytes(flag: &str, text: &str) -> Result<i64, Failure> {
    if text == "-1" {
        return Ok(-1);
    }
    let split = text
        .find(|letter: char| !letter.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let factor: i64 = match unit.to_ascii_lowercase().trim_end_matches('b') {
        "" => 1,
        "k" => 1 << 10,
        "m" => 1 << 20,
        "g" => 1 << 30,
        "t" => 1 << 40,
        _ => return Err(Failure::Usage(format!("invalid value {text:?} for {flag}"))),
    };
    number
        .parse::<i64>()
        .ok()
        .and_then(|number| number.checked_mul(factor))
        .ok_or_else(|| Failure::Usage(format!("invalid value {text:?} for {flag}")))
}

pub(super) fn events(call: &Call<'_>) -> Result<u8, Failure> {
    let interval = interval(call.flags.get("interval").unwrap_or("5s"))?;
    let container = call.container()?;
    let stopped = || {
        Failure::Runtime(RuntimeError::NotRunning {
            id: container.id().to_owned(),
        })
    };
    let cgroup = container.cgroup().ok_or_else(stopped)?;
    let show = || -> Result<(), Failure> {
        let stats = cgroup.stats().map_err(RuntimeError::from)?;
        let event = json!({"type": "stats", "id": container.id(), "data": describe(&stats)});
        print(&format!("{event}\n"));
        Ok(())
    };
    let pidfd = container.pidfd().ok_or_else(stopped)?;
    if call.flags.has("stats") {
        show()?;
        return Ok(0);
    }
    let mut kills = cgroup.oom_count().map_err(RuntimeError::from)?;
    loop {
        show()?;
        let ended = process::wait_for_end(pidfd, interval)?;
        let now = cgroup.oom_count().unwrap_or(kills);
        for _ in kills..now {
            print(&format!(
                "{}\n",
                json!({"type": "oom", "id": container.id()})
            ));
        }
        kills = now;
        if ended {
            return Ok(0);
        }
    }
}

fn interval(text: &str) -> Result<Duration, Failure> {
    berth_types::duration::parse(text)
        .ok()
        .filter(|duration| !duration.is_zero())
        .ok_or_else(|| Failure::Usage(format!("duration interval must be greater than 0: {text}")))
}

/// The form of runc's events.
fn describe(stats: &Stats) -> Value {
    let memory = stats.memory.clone().unwrap_or_default();
    let pids = stats.pids.clone().unwrap_or_default();
    let unlimited = |limit: Option<u64>| limit.unwrap_or(u64::MAX);
    let entries = |list: &[BlockIoEntry]| -> Vec<Value> {
        list.iter()
            .map(|entry| {
                json!({"major": entry.major, "minor": entry.minor, "op": entry.operation,
                       "value": entry.value})
            })
            .collect()
    };
    let huge: serde_json::Map<String, Value> = stats
        .huge_pages
        .iter()
        .map(|(size, usage)| {
            (
                size.clone(),
                json!({"usage": usage.usage, "max": usage.max_usage, "failcnt": usage.failures}),
            )
        })
        .collect();
    json!({
        "cpu": {
            "usage": {"total": stats.cpu.total, "percpu": stats.cpu.per_cpu,
                      "kernel": stats.cpu.kernel, "user": stats.cpu.user},
            "throttling": {"periods": stats.cpu.periods,
                           "throttledPeriods": stats.cpu.throttled_periods,
                           "throttledTime": stats.cpu.throttled_time},
        },
        "memory": {
            "cache": memory.details.get("cache").or(memory.details.get("file")),
            "usage": {"limit": unlimited(memory.limit), "usage": memory.usage,
                      "max": memory.max_usage, "failcnt": memory.failures},
            "swap": {"limit": unlimited(memory.swap_limit), "usage": memory.swap_usage,
                     "failcnt": 0},
            "raw": memory.details,
        },
        "pids": {"current": pids.current, "limit": pids.limit},
        "blkio": {
            "ioServiceBytesRecursive": entries(&stats.block_io.service_bytes),
            "ioServicedRecursive": entries(&stats.block_io.serviced),
        },
        "hugetlb": huge,
    })
}
