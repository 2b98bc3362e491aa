//! Daemons and containers are kept apart.

use std::path::Path;
use std::{fs, thread};

use berth_testkit::{Daemon, Engine, Settings, process, wait};

#[test]
fn daemons_side_by_side_do_not_touch_each_other() {
    let first = Daemon::start();
    let second = Daemon::start();
    for daemon in [&first, &second] {
        daemon
            .berth("run -d --network none --name same busybox sleep 1000")
            .ok();
    }
    let kept = second.container_pid("same");
    first.remove_all();
    assert!(first.containers().is_empty());
    assert_eq!(second.container_pid("same"), kept);
    assert!(process::is_alive(kept));
    first.assert_clean();
    second.berth("exec same true").ok();
    second.assert_clean();
}

#[test]
fn two_daemons_cannot_share_a_data_root() {
    let daemon = Daemon::start();
    let root = daemon.scratch().path();
    let other = berth_testkit::Command::new(berth_testkit::daemon::executable().expect("berth"))
        .args(["daemon", "--data-root"])
        .arg(daemon.data_root())
        .arg("--exec-root")
        .arg(root.join("other"))
        .arg("-H")
        .arg(format!("unix://{}", root.join("other.sock").display()))
        .run();
    assert_ne!(other.code(), 0, "{other}");
    assert!(
        other
            .stderr
            .contains(&daemon.data_root().display().to_string()),
        "{other}"
    );
    daemon.berth("run --rm --network none busybox true").ok();
}

/// Whether another process than this one has a file open.
fn is_open_elsewhere(path: &Path) -> bool {
    let own = std::process::id().to_string();
    let processes = fs::read_dir("/proc").expect("processes");
    processes
        .flatten()
        .filter(|process| process.file_name().to_str() != Some(&own))
        .filter_map(|process| fs::read_dir(process.path().join("fd")).ok())
        .flat_map(|files| files.flatten())
        .any(|file| fs::read_link(file.path()).is_ok_and(|target| target == path))
}

#[test]
fn the_lock_of_a_killed_daemon_is_waited_for() {
    let mut daemon = Daemon::start();
    daemon.kill();
    // As a program has it that was about to be executed when its daemon was killed.
    let path = daemon.data_root().join("lock");
    let lock = fs::File::open(&path).expect("the lock");
    lock.try_lock().expect("nobody has it");
    thread::scope(|scope| {
        let next = scope.spawn(|| daemon.launch());
        wait::until("the next daemon looks at the lock", || {
            next.is_finished() || is_open_elsewhere(&path)
        });
        assert!(!next.is_finished(), "it started beside the other");
        drop(lock);
    });
    daemon.berth("run --rm --network none busybox true").ok();
    daemon.assert_clean();
}

#[test]
fn long_paths_of_the_exec_root_work() {
    let settings = Settings {
        long_exec_root: true,
        ..Settings::default()
    };
    let daemon = Daemon::with(Engine::Berth, settings);
    daemon.berth("run --rm --network none busybox true").ok();
    daemon
        .berth("run -d --network none --name box busybox sleep 1000")
        .ok();
    daemon.berth("exec box true").ok();
    daemon.assert_clean();
}

#[test]
fn no_mount_of_a_container_is_the_hosts() {
    let daemon = Daemon::start();
    daemon
        .berth("run -d --network none --name box busybox sleep 1000")
        .ok();
    assert_eq!(daemon.scope().mounts(), Vec::<String>::new());
}

#[test]
fn nothing_of_the_engine_reaches_a_container() {
    let daemon = Daemon::start();
    daemon
        .berth("run -d --network none --name box busybox sleep 1000")
        .ok();
    let pid = daemon.container_pid("box");
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd"))
        .expect("its descriptors")
        .count();
    assert_eq!(descriptors, 3, "only 0, 1 and 2");
    // Nor to a command run beside it.
    let seen = daemon.berth("exec box ls /proc/self/fd").ok();
    let numbers: Vec<&str> = seen.stdout.split_whitespace().collect();
    assert_eq!(
        numbers,
        ["0", "1", "2", "3"],
        "3 is the listing of ls itself"
    );
    let environment = daemon.berth("exec box env").ok();
    for name in ["BERTH", "CARGO", "DOCKER"] {
        assert!(!environment.stdout.contains(name), "{environment}");
    }
    // No abstract socket that a container in the host's network could open.
    let sockets = fs::read_to_string("/proc/net/unix").expect("sockets");
    assert!(
        !sockets.contains("@berth") && !sockets.contains("@/tmp/bt"),
        "{sockets}"
    );
    // The program that made the container cannot be written to from inside: while an exec is under
    // way its process shows the sealed view only.
    let script = "for p in /proc/[0-9]*; do for i in 1 2; do \
                  ( : > $p/exe ) 2>/dev/null && readlink $p/exe; done; done; true";
    let before = fs::read(berth_testkit::daemon::executable().expect("berth"))
        .expect("bytes")
        .len();
    let overwrite = daemon.berth(&format!("exec box sh -c '{script}'")).ok();
    assert!(!overwrite.stdout.contains("berth"), "{overwrite}");
    let after = fs::read(berth_testkit::daemon::executable().expect("berth"))
        .expect("bytes")
        .len();
    assert_eq!(before, after);
}
