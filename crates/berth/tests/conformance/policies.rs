//! What happens without anybody asking: restarts and health checks.

use berth_testkit::process::{self, Signal};
use berth_testkit::wait;

use crate::subject::Subject;

pub(crate) fn restart_on_failure_counts(on: &Subject) {
    on.run("-d --name fails --restart on-failure:2 busybox sh -c 'echo try; exit 4'")
        .ok();
    wait::until("two restarts and an end", || {
        let seen = on.daemon.inspect("fails");
        seen["RestartCount"] == 2 && seen["State"]["Status"] == "exited"
    });
    assert_eq!(on.daemon.inspect("fails")["State"]["ExitCode"], 4);
    assert_eq!(on.cli("logs fails").ok().stdout, "try\ntry\ntry\n");
    // Success is no reason to try again.
    on.run("-d --name works --restart on-failure busybox true")
        .ok();
    on.daemon.wait_for("works", "exited");
    assert_eq!(on.daemon.inspect("works")["RestartCount"], 0);
    on.run("-d --restart sometimes busybox true")
        .exits(125)
        .says("sometimes");
    on.run("--rm --restart always busybox true")
        .exits(125)
        .says("--restart");
}

pub(crate) fn restart_always_ends_with_stop(on: &Subject) {
    on.run("-d --name again --restart always busybox sh -c 'echo up; sleep 0.1'")
        .ok();
    wait::until("restarted twice", || {
        on.daemon.inspect("again")["RestartCount"]
            .as_u64()
            .unwrap_or(0)
            >= 2
    });
    on.cli("stop -t 0 again").ok();
    on.daemon.wait_for("again", "exited");
    let count = on.daemon.inspect("again")["RestartCount"].clone();
    // Killed from outside the engine, it comes back; killed through the engine, too, for it was
    // not stopped by a user's wish.
    on.run("-d --name sturdy --restart unless-stopped busybox sleep 1000")
        .ok();
    on.daemon.wait_for("sturdy", "running");
    let first = on.daemon.container_pid("sturdy");
    process::end(first, Signal::KILL, std::time::Duration::from_secs(10));
    wait::until("a new process", || {
        let pid = on.daemon.container_pid("sturdy");
        pid > 0 && pid != first
    });
    assert_eq!(
        on.daemon.inspect("again")["RestartCount"],
        count,
        "stopped stays stopped"
    );
    assert_eq!(on.daemon.status("again"), "exited");
}

pub(crate) fn health_follows_the_command(on: &Subject) {
    let flags = "--health-interval 200ms --health-timeout 5s --health-retries 2";
    on.run(&format!(
        "-d --name sick {flags} --health-cmd 'echo probe; test -e /tmp/well' busybox sleep 1000"
    ))
    .ok();
    let health = |field: &str| on.daemon.inspect("sick")["State"]["Health"][field].clone();
    wait::until("unhealthy", || health("Status") == "unhealthy");
    assert!(health("FailingStreak").as_u64().unwrap_or(0) >= 2);
    assert_eq!(health("Log")[0]["ExitCode"], 1);
    assert_eq!(health("Log")[0]["Output"], "probe\n");
    on.cli("exec sick touch /tmp/well").ok();
    wait::until("healthy", || health("Status") == "healthy");
    assert_eq!(health("FailingStreak"), 0);
    on.cli("ps --format '{{.Status}}' --filter health=healthy")
        .ok()
        .prints("(healthy)");
    // A probe that takes too long has failed.
    on.run(
        "-d --name slow --health-interval 100ms --health-timeout 300ms --health-retries 1 \
         --health-cmd 'sleep 60' busybox sleep 1000",
    )
    .ok();
    wait::until("timed out", || {
        on.daemon.inspect("slow")["State"]["Health"]["Status"] == "unhealthy"
    });
    on.sleeper("without", "--no-healthcheck");
    assert!(on.daemon.inspect("without")["State"]["Health"].is_null());
}
