//! Sessions at a terminal.

use berth_testkit::process::{self, Signal};
use berth_testkit::terminal::Terminal;

use crate::subject::Subject;

pub(crate) fn shell_with_job_control(on: &Subject) {
    let mut shell = Terminal::start(on.command("run --network none -it --rm --name sh busybox sh"));
    shell.expect("/ #");
    shell.send("echo $((40+2)) $TERM; tty\n");
    shell.expect("42 xterm");
    shell.expect("/dev/pts/");
    // ctrl-z stops the job in front, fg brings it back, ctrl-c ends it; the shell lives on.
    shell.send("sleep 1000\n");
    on.daemon.wait_for("sh", "running");
    berth_testkit::wait::until("the job runs", || {
        on.cli("exec sh ps").stdout.contains("sleep 1000")
    });
    shell.send("\x1a");
    shell.expect("Stopped");
    shell.expect("/ #");
    let state = |letter: &str| {
        let list = on.cli("exec sh ps -o stat,args").ok().stdout;
        list.lines()
            .any(|line| line.starts_with(letter) && line.ends_with("sleep 1000"))
    };
    assert!(state("T"));
    shell.send("fg\n");
    shell.expect("sleep 1000");
    berth_testkit::wait::until("the job goes on", || state("S"));
    shell.send("\x03");
    shell.expect("/ #");
    shell.send("echo $?; exit 5\n");
    shell.expect("130");
    shell.exits(5);
    on.daemon.wait_for("sh", "");
    // exec has a terminal of its own.
    on.sleeper("box", "");
    let mut shell = Terminal::start(on.command("exec -it box sh"));
    shell.expect("/ #");
    shell.send("tty && exit 7\n");
    shell.expect("/dev/pts/");
    shell.exits(7);
    // A terminal was asked for and there is none.
    on.run("--rm -it busybox true").exits(1).says("not a t");
}

pub(crate) fn resize_reaches_the_process(on: &Subject) {
    let mut shell = Terminal::start(on.command("run --network none -it --rm busybox sh"));
    shell.expect("/ #");
    // The client tells the size when the container runs already.
    berth_testkit::wait::until("the first size", || {
        shell.send("stty size\n");
        shell.screen().contains("24 80")
    });
    resize_until_seen(&mut shell);
    shell.send("exit\n");
    shell.exits(0);
}

/// Changes the window until the shell sees it: a client that has just begun may not listen yet.
pub(crate) fn resize_until_seen(shell: &mut Terminal) {
    let mut rows = 40;
    berth_testkit::wait::until("the new size", || {
        rows = 81 - rows;
        shell.resize(rows, 132);
        shell.send("stty size\n");
        shell.screen().contains("40 132") || shell.screen().contains("41 132")
    });
}

pub(crate) fn detach_and_attach_again(on: &Subject) {
    let mut shell = Terminal::start(on.command("run --network none -it --name box busybox sh"));
    shell.expect("/ #");
    shell.send("variable=kept\n");
    shell.expect("/ #");
    shell.send("\x10\x11");
    shell.exits(0);
    assert_eq!(on.daemon.status("box"), "running");
    let mut shell = Terminal::start(on.command("attach --detach-keys ctrl-a,d box"));
    shell.send("echo still $variable\n");
    shell.expect("still kept");
    shell.send("\x01d");
    // Unlike run, attach counts the end of its session as an error.
    shell.expect("read escape sequence");
    shell.exits(1);
    let mut shell = Terminal::start(on.command("attach box"));
    shell.send("exit 4\n");
    shell.exits(4);
}

pub(crate) fn signals_are_passed_on(on: &Subject) {
    let script = "trap \"echo got; exit 9\" TERM; echo ready; while :; do sleep 0.05; done";
    let mut client = Terminal::start(on.command(&format!(
        "run --network none --rm --name sig busybox sh -c '{script}'"
    )));
    client.expect("ready");
    process::send(client.pid(), Signal::TERM);
    client.expect("got");
    client.exits(9);
    // ctrl-c at a client without a terminal of its own for the container.
    let script = "trap \"exit 11\" INT; echo ready; while :; do sleep 0.05; done";
    let mut client =
        Terminal::start(on.command(&format!("run --network none --rm busybox sh -c '{script}'")));
    client.expect("ready");
    client.send("\x03");
    client.exits(11);
}
