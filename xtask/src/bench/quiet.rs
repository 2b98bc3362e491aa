//! Waiting until the machine is quiet.

use std::fs;
use std::time::{Duration, Instant};

/// How long one look at the processors takes.
const LOOK: Duration = Duration::from_millis(40);

/// Looks in a row that must find the machine quiet.
const LOOKS: usize = 2;

/// Share of the time that processors must be idle.
const IDLE: f64 = 0.9;

/// A machine that never gets quiet is measured as it is.
const PATIENCE: Duration = Duration::from_secs(5);

/// Comes back when the processors have been idle for a moment.
pub(super) fn wait() {
    let start = Instant::now();
    let mut quiet = 0;
    while quiet < LOOKS && start.elapsed() < PATIENCE {
        let before = ticks();
        std::thread::sleep(LOOK);
        quiet = match (before, ticks()) {
            (Some(before), Some(after)) if is_quiet(before, after) => quiet + 1,
            (Some(_), Some(_)) => 0,
            _ => return,
        };
    }
}

fn is_quiet(before: (u64, u64), after: (u64, u64)) -> bool {
    let idle = after.0.saturating_sub(before.0) as f64;
    let all = after.1.saturating_sub(before.1) as f64;
    all > 0.0 && idle / all >= IDLE
}

/// Idle and all ticks of all processors since boot (proc(5), /proc/stat).
fn ticks() -> Option<(u64, u64)> {
    parse(&fs::read_to_string("/proc/stat").ok()?)
}

fn parse(text: &str) -> Option<(u64, u64)> {
    let line = text.lines().find(|line| line.starts_with("cpu "))?;
    let fields: Vec<u64> = line
        .split_whitespace()
        .skip(1)
        .map_while(|field| field.parse().ok())
        .collect();
    // user, nice, system, idle, iowait, irq, softirq, steal; guest time is part of user.
    let idle = fields.get(3)? + fields.get(4)?;
    Some((idle, fields.iter().take(8).sum()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_and_all_ticks_are_read() {
        let text = "cpu  10 1 5 80 4 0 0 0 3 0\ncpu0 1 1 1 1\n";
        assert_eq!(parse(text), Some((84, 100)));
        assert!(is_quiet((84, 100), (102, 120)));
        assert!(!is_quiet((84, 100), (90, 120)));
        assert!(!is_quiet((84, 100), (84, 100)));
    }
}
