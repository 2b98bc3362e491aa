//! SIGKILL for the daemon, a hundred times at random moments, while containers are created, started,
//! entered, stopped and removed.

use std::collections::HashSet;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use berth_testkit::random::Random;
use berth_testkit::{Daemon, process, wait};

use crate::deaths;
use crate::load::{Ledger, Worker, call};

/// How often the daemon dies; `BERTH_TEST_KILLS` asks for another number.
const KILLS: u64 = 100;

/// Containers led through their lives at the same time.
const WORKERS: usize = 4;

/// A daemon lives up to this long before it is killed.
const LIFE_MILLISECONDS: u64 = 150;

#[test]
fn nothing_is_lost_doubled_or_left() {
    let (mut random, seed) = Random::from_environment();
    let kills = deaths::count("BERTH_TEST_KILLS", KILLS);

    let mut daemon = Daemon::start();
    // Two that must not notice anything: one that only lives, one that speaks all the time.
    daemon
        .berth("run -d --network none --name still busybox sleep 100000")
        .ok();
    daemon
        .berth(
            "run -d --network none --name speaker busybox \
             sh -c 'i=0; while [ ! -e /stop ]; do i=$((i+1)); echo $i; usleep 2000; done; echo last $i'",
        )
        .ok();
    let still = daemon.container_pid("still");
    let speaker = daemon.container_pid("speaker");

    let ledger = Ledger::default();
    thread::scope(|scope| {
        for number in 0..WORKERS {
            let mut worker = Worker {
                number,
                socket: daemon.socket(),
                random: Random::new(random.next_u64()),
                ledger: &ledger,
            };
            scope.spawn(move || worker.work());
        }
        let shooting = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for round in 1..=kills {
                deaths::live_for(Duration::from_millis(random.below(LIFE_MILLISECONDS)));
                daemon.crash_and_restart();
                check_list(&daemon, &ledger, round);
                assert_eq!(daemon.container_pid("still"), still, "round {round}");
                assert_eq!(daemon.container_pid("speaker"), speaker, "round {round}");
                assert!(
                    process::is_alive(still) && process::is_alive(speaker),
                    "round {round}"
                );
            }
        }));
        ledger.over.store(true, Ordering::Relaxed);
        if let Err(panic) = shooting {
            std::panic::resume_unwind(panic);
        }
    });

    let broken = ledger.broken.lock().expect("the ledger").join("\n");
    assert!(broken.is_empty(), "seed {seed}: promises broken:\n{broken}");
    let lives = *ledger.lives.lock().expect("the ledger");
    assert!(
        lives > kills / 4,
        "too little happened to be a test: {lives} lives"
    );

    // All that was said is in the log, once, and in order.
    // What makes the container end may be ended with it.
    let stop = daemon.berth("exec speaker touch /stop");
    assert!([0, 137].contains(&stop.code()), "{stop}");
    daemon.wait_for("speaker", "exited");
    let said = daemon.berth("logs speaker").ok().stdout;
    let lines: Vec<&str> = said.lines().collect();
    let (last, counted) = lines.split_last().expect("a log");
    for (at, line) in counted.iter().enumerate() {
        assert_eq!(
            *line,
            (at + 1).to_string(),
            "seed {seed}: line {at} of the log"
        );
    }
    assert_eq!(*last, format!("last {}", counted.len()), "seed {seed}");
    daemon.assert_clean();
}

/// Nothing twice, nothing that was removed.
fn check_list(daemon: &Daemon, ledger: &Ledger, round: u64) {
    let removed: HashSet<String> = ledger
        .removed
        .lock()
        .expect("the ledger")
        .iter()
        .cloned()
        .collect();
    let (status, list) = wait::until_some("the list of containers", || {
        call(&daemon.socket(), "GET", "/containers/json?all=1", None).ok()
    });
    assert_eq!(status, 200, "round {round}: {list}");
    let mut names = HashSet::new();
    let mut ids = HashSet::new();
    for one in list.as_array().into_iter().flatten() {
        let id = one["Id"].as_str().unwrap_or_default().to_owned();
        let name = one["Names"][0].as_str().unwrap_or_default().to_owned();
        assert!(
            !removed.contains(&id),
            "round {round}: {name} is back after its removal: {one}"
        );
        assert!(
            names.insert(name.clone()),
            "round {round}: two are called {name}"
        );
        assert!(
            ids.insert(id.clone()),
            "round {round}: {id} is listed twice"
        );
    }
    for name in ["/still", "/speaker"] {
        assert!(names.contains(name), "round {round}: {name} is lost");
    }
}
