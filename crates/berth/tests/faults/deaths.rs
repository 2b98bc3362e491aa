//! How a daemon dies in the middle of work, and what it has to be like afterwards.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use berth_testkit::daemon::API;
use berth_testkit::random::Random;
use berth_testkit::{Daemon, disk, http, wait};

/// Time for a whole run on a machine of any speed; when it is over, the rounds that were are enough.
pub(crate) const TIME: Duration = Duration::from_secs(90);

/// Directories keep the blocks that their many names once took.
const SLACK: i64 = 64 << 10;

/// How often the daemon dies: what the variable says, or `usual`.
pub(crate) fn count(variable: &str, usual: u64) -> u64 {
    std::env::var(variable)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(usual)
}

/// The moment of death is chosen by chance, so here time is what is waited for.
pub(crate) fn live_for(time: Duration) {
    let end = Instant::now() + time;
    wait::within(time, || (Instant::now() >= end).then_some(()));
}

/// Has `work` done by a daemon that dies at a random moment within `milliseconds`, and starts it again. `work` is given
/// the socket; it sees its connections break.
pub(crate) fn during<T: Send>(
    daemon: &mut Daemon,
    random: &mut Random,
    milliseconds: u64,
    work: impl FnOnce(PathBuf) -> T + Send,
) -> T {
    let socket = daemon.socket();
    let done = thread::scope(|scope| {
        let working = scope.spawn(move || work(socket));
        live_for(Duration::from_millis(random.below(milliseconds)));
        daemon.kill();
        working.join()
    });
    daemon.launch();
    match done {
        Ok(done) => done,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// Sends a request and reads its answer to the end. `None` where none came: then nothing was promised.
pub(crate) fn answer(
    socket: &Path,
    method: &str,
    target: &str,
    kind: &str,
    body: &[u8],
) -> Option<http::Response> {
    let connection = http::unix(socket).ok()?;
    let kind = [("Content-Type", kind)];
    http::request(connection, method, &format!("{API}{target}"), &kind, body).ok()
}

/// Nothing corrupt is served: every file is what its digest says, every layer what its archive says.
#[track_caller]
pub(crate) fn check_store(daemon: &Daemon, moment: &str) {
    let checked = daemon.berth("system check --deep -q");
    assert_eq!(checked.code(), 0, "{moment}: {checked}");
}

/// Bytes on the disk in directories of the data root.
pub(crate) fn occupied(daemon: &Daemon, places: &[&str]) -> i64 {
    places
        .iter()
        .map(|place| disk::used(&daemon.data_root().join(place)))
        .sum()
}

/// Waits until no more is occupied than there was: what is removed is deleted after the answer.
#[track_caller]
pub(crate) fn space_comes_back(daemon: &Daemon, places: &[&str], before: i64, moment: &str) {
    let mut left = 0;
    let freed = wait::within(wait::PATIENCE, || {
        left = occupied(daemon, places);
        (left <= before + SLACK).then_some(())
    });
    assert!(
        freed.is_some(),
        "{moment}: {before} bytes before, {left} after"
    );
}
