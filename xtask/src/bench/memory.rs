//! Memory: the proportional set size of every process that belongs to an engine, containers' own
//! processes left out.

use anyhow::Result;
use berth_testkit::process;
use std::time::{Duration, Instant};

use super::engines::Contender;
use super::table::{Row, Unit};

/// Idle containers over which the cost of one is averaged.
const CONTAINERS: usize = 20;

/// An engine is idle when its memory has changed by less than this for [`STEADY`].
const STEADY_KIB: u64 = 64;

/// How long memory must stay as it is: engines give back what work has left some seconds after it.
const STEADY: Duration = Duration::from_secs(8);

/// Time between two looks.
const LOOK: Duration = Duration::from_millis(500);

/// Memory that never gets steady is measured as it is then.
const PATIENCE: Duration = Duration::from_secs(40);

/// A row for the daemon without containers and one for what each idle container adds.
pub(super) fn rows(contenders: &[Contender]) -> Result<Vec<Row>> {
    eprintln!("measuring memory");
    let mut idle = Vec::new();
    let mut each = Vec::new();
    for one in contenders {
        let before = steady(one);
        idle.push(one.daemon_pid().map(|_| before as f64 / 1024.0));
        for number in 0..CONTAINERS {
            one.quietly_run(&format!(
                "-d --name idle{number} --network none busybox sleep 100000"
            ))?;
        }
        let after = steady(one);
        each.push(Some(
            after.saturating_sub(before) as f64 / 1024.0 / CONTAINERS as f64,
        ));
        for number in 0..CONTAINERS {
            one.quietly_remove(&format!("idle{number}"))?;
        }
    }
    Ok(vec![
        Row {
            title: "daemon, idle (PSS)".into(),
            unit: Unit::Mebibytes,
            values: idle,
        },
        Row {
            title: format!("each of {CONTAINERS} idle containers (PSS)"),
            unit: Unit::Mebibytes,
            values: each,
        },
    ])
}

fn steady(one: &Contender) -> u64 {
    let start = Instant::now();
    let mut level = total(one);
    let mut since = start;
    while since.elapsed() < STEADY && start.elapsed() < PATIENCE {
        std::thread::sleep(LOOK);
        let now = total(one);
        if now.abs_diff(level) >= STEADY_KIB {
            level = now;
            since = Instant::now();
        }
    }
    level
}

fn total(one: &Contender) -> u64 {
    members(one).into_iter().map(process::pss_kib).sum()
}

/// The engine's processes, those in containers left out.
pub(super) fn members(one: &Contender) -> Vec<i32> {
    let scope = one.scope();
    let mut members = scope.processes();
    if let Some(daemon) = one.daemon_pid() {
        members.push(daemon);
        members.extend(process::descendants(daemon));
    }
    members.sort_unstable();
    members.dedup();
    let parent = format!("{}/", scope.cgroup_parent);
    members
        .into_iter()
        // conmon sits beside the containers of Podman, in a group of its own.
        .filter(|pid| {
            let inside = process::cgroups(*pid)
                .lines()
                .any(|line| format!("{line}/").contains(&parent) && !line.contains("conmon"));
            !inside
        })
        .collect()
}
