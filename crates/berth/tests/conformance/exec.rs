//! Commands beside the first process.

use crate::subject::Subject;

pub(crate) fn exec_runs_beside_the_first_process(on: &Subject) {
    on.sleeper("box", "-e INHERITED=yes -w /tmp --hostname box");
    on.cli("exec box sh -c 'exit 9'").exits(9);
    let seen = on
        .cli("exec box sh -c 'echo $INHERITED; pwd; hostname; cat /proc/1/cmdline'")
        .ok();
    assert_eq!(
        seen.stdout.replace('\0', " ").trim(),
        "yes\n/tmp\nbox\nsleep 1000"
    );
    on.cli("exec -e ADDED=1 -w /etc -u www-data box sh -c 'echo $ADDED $(pwd) $(id -un) $(id -G)'")
        .ok()
        .prints("1 /etc www-data 33 29 44");
    on.cli("exec -u 12:34 box sh -c 'echo $(id -u):$(id -g)'")
        .ok()
        .prints("12:34");
    // Standard input up to its end, and both outputs apart.
    let both = on
        .command("exec -i box sh -c 'cat; echo to-stderr >&2'")
        .stdin("from\nclient\n")
        .run()
        .ok();
    assert_eq!(both.stdout, "from\nclient\n");
    assert_eq!(both.stderr, "to-stderr\n");
    // Without -i there is nothing to read.
    assert_eq!(
        on.command("exec box cat").stdin("lost").run().ok().stdout,
        ""
    );
    // Detached: it runs on without a client.
    on.cli("exec -d box sh -c 'echo done > /tmp/mark'").ok();
    berth_testkit::wait::until("the detached command ran", || {
        on.cli("exec box cat /tmp/mark").text() == "done"
    });
    // Much output, to the last byte.
    let much = on.cli("exec box sh -c 'seq 1 20000'").ok();
    assert_eq!(much.stdout.lines().count(), 20_000);
    assert!(much.stdout.ends_with("\n20000\n"));
}

pub(crate) fn exec_failures_have_codes(on: &Subject) {
    on.sleeper("box", "");
    // Docker gave 126 for a missing command before release 25 and gives 127 since.
    let missing = on.cli("exec box no-such-command");
    assert!(matches!(missing.code(), 126 | 127), "{missing}");
    if !on.is_reference() {
        missing.exits(127);
    }
    on.cli("exec box /etc/passwd").exits(126);
    on.cli("exec -u nobody-knows box true").exits(126);
    on.cli("exec no-such-container true")
        .exits(1)
        .says("no such container");
    on.cli("stop -t 0 box").ok();
    on.cli("exec box true").exits(1).says("is not running");
    on.cli("start box").ok();
    on.cli("pause box").ok();
    on.cli("exec box true").exits(1).says("paused");
    on.cli("unpause box").ok();
    on.cli("exec box true").ok();
}
