//! What a daemon costs that has nothing to do.

use std::fs;

use berth_testkit::{Daemon, wait};

/// What is promised of an idle daemon, in KiB.
const PROMISED: u64 = 20 * 1024;

#[test]
fn an_idle_daemon_gives_back_what_work_has_left() {
    let daemon = Daemon::start();
    daemon
        .berth("run -d --network none --name box busybox sleep 1000")
        .ok();
    for _ in 0..3 {
        daemon.berth("exec box true").ok();
        daemon.berth("run --rm --network none busybox true").ok();
    }
    let small = PROMISED.min(resident(&daemon) * 3 / 4);
    wait::until("the daemon is small", || resident(&daemon) <= small);
    daemon.berth("exec box true").ok();
    daemon.berth("rm -f box").ok();
    daemon.assert_clean();
}

/// All of the process that is in memory, in KiB: other daemons of this executable share its program, so that the
/// proportional size would tell how many of them there are (proc(5), smaps_rollup).
fn resident(daemon: &Daemon) -> u64 {
    let text = fs::read_to_string(format!("/proc/{}/smaps_rollup", daemon.pid()))
        .expect("read what the daemon maps");
    text.lines()
        .find_map(|line| line.strip_prefix("Rss:"))
        .and_then(|rest| rest.trim().strip_suffix(" kB")?.parse().ok())
        .unwrap_or_else(|| panic!("no Rss: in {text}"))
}
