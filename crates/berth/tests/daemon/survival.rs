//! The daemon dies, or is stopped, and comes back; containers do not notice.

use std::io::{Read, Write};
use std::process::Stdio;

use berth_testkit::process::{self, Signal};
use berth_testkit::{Client, Daemon, wait};

#[test]
fn containers_outlive_a_killed_daemon() {
    let mut daemon = Daemon::start();
    let script =
        "i=0; while [ ! -e /stop ]; do i=$((i+1)); echo line $i; usleep 5000; done; exit 6";
    daemon
        .berth(&format!(
            "run -d --network none --name box busybox sh -c '{script}'"
        ))
        .ok();
    daemon
        .berth("run -d --network none -i --name cat busybox cat")
        .ok();
    let pid = daemon.container_pid("box");
    wait::until("some output", || {
        daemon.berth("logs box").stdout.lines().count() > 3
    });

    daemon.kill();
    assert!(process::is_alive(pid));
    daemon.launch();

    assert_eq!(daemon.container_pid("box"), pid);
    assert_eq!(daemon.status("box"), "running");
    let before = daemon.berth("logs box").ok().stdout.lines().count();
    wait::until("more output", || {
        daemon.berth("logs box").stdout.lines().count() > before
    });
    daemon.berth("exec box sh -c 'exit 7'").exits(7);
    let mut cat = daemon
        .command(Client::Berth, "attach cat")
        .into_inner()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("attach starts");
    let mut typed = cat.stdin.take().expect("a pipe");
    typed.write_all(b"hello\n").expect("standard input");
    let mut heard = [0; 6];
    let mut answer = cat.stdout.take().expect("a pipe");
    answer.read_exact(&mut heard).expect("an answer");
    assert_eq!(&heard, b"hello\n");
    drop((cat.kill(), cat.wait()));
    // What makes the container end may be ended with it.
    let stop = daemon.berth("exec box touch /stop");
    assert!([0, 137].contains(&stop.code()), "{stop}");
    assert_eq!(daemon.berth("wait box").ok().text(), "6");
    let log = daemon.berth("logs box").ok().stdout;
    for (at, line) in log.lines().enumerate() {
        assert_eq!(
            line,
            format!("line {}", at + 1),
            "nothing lost, nothing twice"
        );
    }
    daemon.assert_clean();
}

#[test]
fn exit_codes_of_the_gap_are_known() {
    let mut daemon = Daemon::start();
    for (name, code) in [("five", 5), ("zero", 0)] {
        let script = format!("while [ ! -e /go ]; do usleep 5000; done; echo bye; exit {code}");
        daemon
            .berth(&format!(
                "run -d --network none --name {name} busybox sh -c '{script}'"
            ))
            .ok();
    }
    daemon
        .berth("run -d --network none --name shot busybox sleep 1000")
        .ok();
    daemon.berth("run -d --rm --network none --name brief busybox sh -c 'while [ ! -e /go ]; do usleep 5000; done'").ok();
    let pids: Vec<i32> = ["five", "zero", "shot", "brief"]
        .map(|n| daemon.container_pid(n))
        .to_vec();
    daemon.kill();
    for pid in &pids {
        // Through the process's own root: there is no daemon to ask.
        std::fs::write(format!("/proc/{pid}/root/go"), "").expect("a file in the container");
    }
    process::send(pids[2], Signal::KILL);
    wait::until("all have ended", || {
        pids.iter().all(|pid| !process::is_alive(*pid))
    });
    daemon.launch();
    for (name, code) in [("five", 5), ("zero", 0), ("shot", 137)] {
        daemon.wait_for(name, "exited");
        assert_eq!(daemon.inspect(name)["State"]["ExitCode"], code, "{name}");
        assert_eq!(
            daemon.berth(&format!("wait {name}")).ok().text(),
            code.to_string()
        );
    }
    assert_eq!(daemon.berth("logs five").ok().stdout, "bye\n");
    daemon.wait_for("brief", "");
    daemon.assert_clean();
}

#[test]
fn a_stopped_daemon_leaves_containers_running() {
    let mut daemon = Daemon::start();
    daemon
        .berth("run -d --network none --name box busybox sleep 1000")
        .ok();
    daemon
        .berth("run -d --network none --name frozen busybox sleep 1000")
        .ok();
    daemon.berth("pause frozen").ok();
    daemon
        .berth("create --network none --name fresh busybox true")
        .ok();
    let pid = daemon.container_pid("box");
    daemon.terminate();
    assert!(process::is_alive(pid));
    daemon.launch();
    assert_eq!(daemon.container_pid("box"), pid);
    assert_eq!(daemon.status("frozen"), "paused");
    assert_eq!(daemon.status("fresh"), "created");
    daemon.berth("unpause frozen").ok();
    daemon.berth("start -a fresh").ok();
    daemon.berth("stop -t 0 box").ok();
    assert_eq!(daemon.inspect("box")["State"]["ExitCode"], 137);
    daemon.assert_clean();
}

#[test]
fn policies_go_on_after_a_crash() {
    let mut daemon = Daemon::start();
    daemon
        .berth("run -d --network none --name always --restart always busybox sleep 1000")
        .ok();
    daemon
        .berth("run -d --network none --name sick --health-interval 100ms --health-cmd 'test -e /ok' busybox sleep 1000")
        .ok();
    daemon
        .berth("run -d --network none --name stopped --restart unless-stopped busybox sleep 1000")
        .ok();
    daemon.berth("stop -t 0 stopped").ok();
    let first = daemon.container_pid("always");
    daemon.kill();
    process::end(first, Signal::KILL, std::time::Duration::from_secs(10));
    daemon.launch();
    wait::until("restarted after the gap", || {
        let pid = daemon.container_pid("always");
        pid > 0 && pid != first
    });
    assert_eq!(daemon.status("stopped"), "exited");
    daemon.berth("exec sick touch /ok").ok();
    wait::until("the checks go on", || {
        daemon.inspect("sick")["State"]["Health"]["Status"] == "healthy"
    });
    daemon.assert_clean();
}

#[test]
fn attach_ends_with_its_daemon_and_works_again() {
    let mut daemon = Daemon::start();
    daemon
        .berth("run -d --network none -i --name cat busybox cat")
        .ok();
    let mut client = daemon
        .command(Client::Berth, "attach cat")
        .into_inner()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("attach starts");
    daemon.crash_and_restart();
    // The client of a dead daemon ends; it does not hang.
    wait::until("the old client ends", || {
        !matches!(client.try_wait(), Ok(None))
    });
    daemon.assert_clean();
}
