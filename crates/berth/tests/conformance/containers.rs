//! The life of a container as a user sees it.

use berth_testkit::wait;

use crate::subject::Subject;

pub(crate) fn exit_codes_of_run(on: &Subject) {
    on.run("--rm busybox true").ok();
    on.run("--rm busybox sh -c 'exit 3'").exits(3);
    on.run("--rm busybox no-such-command")
        .exits(127)
        .says("no-such-command");
    on.run("--rm busybox /etc/passwd")
        .exits(126)
        .says("permission denied");
    on.run("--rm busybox /etc").exits(126);
    on.run("--rm --no-such-flag busybox true")
        .exits(125)
        .says("--no-such-flag");
    on.run("--rm --memory lots busybox true")
        .exits(125)
        .says("lots");
    // What could not be started and was to be removed is gone.
    wait::until("no container is left", || on.daemon.containers().is_empty());
}

pub(crate) fn life_of_a_container(on: &Subject) {
    let id = on
        .cli("create --network none --name life busybox sleep 1000")
        .ok()
        .text()
        .to_owned();
    assert_eq!(id.len(), 64, "create prints the whole id");
    assert_eq!(on.daemon.status("life"), "created");
    assert_eq!(on.cli("start life").ok().text(), "life");
    assert_eq!(on.daemon.status("life"), "running");
    let first = on.daemon.container_pid("life");
    assert!(first > 0);
    // Starting what runs is no error.
    on.cli("start life").ok();
    assert_eq!(on.daemon.container_pid("life"), first);

    on.cli("restart -t 0 life").ok();
    assert_eq!(on.daemon.status("life"), "running");
    assert_ne!(on.daemon.container_pid("life"), first);

    on.cli("rename life second-life").ok();
    assert_eq!(on.daemon.inspect("second-life")["Id"], id.as_str());
    on.cli("inspect life").exits(1).says("no such");

    on.cli("stop -t 0 second-life").ok();
    let state = on.daemon.inspect("second-life")["State"].clone();
    assert_eq!(state["Status"], "exited");
    assert_eq!(state["ExitCode"], 137);
    assert_eq!(state["Running"], false);
    assert_eq!(state["Pid"], 0);
    // Stopping what has stopped is no error.
    on.cli("stop second-life").ok();

    on.cli("start second-life").ok();
    assert_eq!(on.daemon.status("second-life"), "running");
    on.cli("kill second-life").ok();
    on.daemon.wait_for("second-life", "exited");
    on.cli("kill second-life").exits(1).says("is not running");
    assert_eq!(on.cli("rm second-life").ok().text(), "second-life");
    on.cli("start second-life")
        .exits(1)
        .says("no such container");
}

pub(crate) fn signals_and_grace(on: &Subject) {
    // The shell answers the signal with its own code.
    let trap =
        "trap \"exit 7\" TERM; trap \"exit 8\" USR1; echo ready; while :; do sleep 0.05; done";
    for (name, command, code) in [
        ("term", "stop", 7),
        ("usr1", "kill -s USR1", 8),
        ("ten", "kill --signal 10", 8),
    ] {
        on.run(&format!("-d --name {name} busybox sh -c '{trap}'"))
            .ok();
        wait::until("the trap is set", || {
            on.cli(&format!("logs {name}")).text() == "ready"
        });
        on.cli(&format!("{command} {name}")).ok();
        on.daemon.wait_for(name, "exited");
        assert_eq!(
            on.daemon.inspect(name)["State"]["ExitCode"],
            code,
            "{command}"
        );
    }
    // A stop signal of the container's own.
    on.run(&format!(
        "-d --name own --stop-signal USR1 busybox sh -c '{trap}'"
    ))
    .ok();
    wait::until("the trap is set", || on.cli("logs own").text() == "ready");
    on.cli("stop own").ok();
    assert_eq!(on.daemon.inspect("own")["State"]["ExitCode"], 8);
    // Who does not listen is killed when the time is over.
    on.run("-d --name deaf --stop-timeout 1 busybox sleep 1000")
        .ok();
    on.daemon.wait_for("deaf", "running");
    on.cli("stop deaf").ok();
    assert_eq!(on.daemon.inspect("deaf")["State"]["ExitCode"], 137);
    on.cli("kill --signal NOSUCH deaf").exits(1).says("nosuch");
}

pub(crate) fn names_are_unique(on: &Subject) {
    on.cli("create --network none --name taken busybox true")
        .ok();
    on.cli("create --network none --name taken busybox true")
        .exits(1)
        .says("already in use");
    on.run("--rm --name taken busybox true")
        .exits(125)
        .says("already in use");
    on.cli("create --network none --name 'a b' busybox true")
        .exits(1)
        .says("invalid container name");
    on.cli("create --network none --name other busybox true")
        .ok();
    on.cli("rename other taken").exits(1).says("already in use");
    // A prefix of the id is a name as long as it is the only one.
    let id = on.cli("inspect -f '{{.Id}}' taken").ok().text().to_owned();
    assert_eq!(
        on.cli(&format!("inspect -f '{{{{.Name}}}}' {}", &id[..12]))
            .ok()
            .text(),
        "/taken"
    );
    on.cli("rm taken").ok();
    on.cli("create --network none --name taken busybox true")
        .ok();
}

pub(crate) fn removal_needs_force_while_running(on: &Subject) {
    on.sleeper("busy", "");
    on.cli("rm busy").exits(1).says("running");
    assert_eq!(on.daemon.status("busy"), "running");
    on.cli("rm -f busy").ok();
    assert_eq!(on.daemon.status("busy"), "");
    on.cli("rm no-such-container")
        .exits(1)
        .says("no such container");
    on.cli("create --network none --name left busybox true")
        .ok();
    on.cli("container prune -f").ok();
    assert!(on.daemon.containers().is_empty());
    // --rm takes the container away at its end, also without a client.
    on.run("-d --rm --name brief busybox sleep 0.2").ok();
    on.daemon.wait_for("brief", "");
}

pub(crate) fn waiting_gives_the_exit_code(on: &Subject) {
    on.run("-d --name slow busybox sh -c 'sleep 0.3; exit 5'")
        .ok();
    assert_eq!(on.cli("wait slow").ok().text(), "5");
    // Of what has ended already, the code is known.
    assert_eq!(on.cli("wait slow").ok().text(), "5");
    on.cli("wait no-such-container")
        .exits(1)
        .says("no such container");
    on.cli("start -a slow").exits(5);
}

pub(crate) fn what_the_process_sees(on: &Subject) {
    on.daemon
        .scratch()
        .write("vars", "# comment\nFROM_FILE=one two\nPLAIN\n");
    let file = on.daemon.scratch().path().join("vars");
    let line = format!(
        "--rm --hostname box --domainname example --workdir /tmp/new -e A=1 -e B= --env-file {} \
         --entrypoint /bin/sh busybox -c",
        file.display()
    );
    let script = "'hostname; pwd; env | sort'";
    let seen = on
        .command(&format!("run --network none {line} {script}"))
        .env("PLAIN", "x")
        .run()
        .ok();
    let lines: Vec<&str> = seen.stdout.lines().collect();
    assert_eq!(lines[..2], ["box", "/tmp/new"]);
    for wanted in [
        "A=1",
        "B=",
        "FROM_FILE=one two",
        "PLAIN=x",
        "HOSTNAME=box",
        "HOME=/root",
    ] {
        assert!(lines.contains(&wanted), "{wanted} in {lines:?}");
    }
    assert!(
        lines
            .iter()
            .any(|line| line.starts_with("PATH=/usr/local/sbin:")),
        "{lines:?}"
    );
    // Docker's own files are in place.
    on.run("--rm --hostname box busybox cat /etc/hostname")
        .ok()
        .prints("box");
    on.run("--rm --add-host there:10.1.2.3 busybox cat /etc/hosts")
        .ok()
        .prints("10.1.2.3\tthere");
    // The first process is number one and has no descriptors beside the three.
    let one = on
        .run("--rm busybox sh -c 'echo $$; exec ls /proc/self/fd'")
        .ok();
    let words: Vec<&str> = one.stdout.split_whitespace().collect();
    assert_eq!(
        words,
        ["1", "0", "1", "2", "3"],
        "descriptor 3 is the listing of ls itself"
    );
}
