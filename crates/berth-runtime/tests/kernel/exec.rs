//! Processes in a running container.

use std::fs;
use std::path::Path;

use berth_runtime::{ExecRequest, RuntimeError, StartFailure, StdioRequest, exec};
use berth_testkit::needs;
use serde_json::json;

use crate::fixture::{Bundle, lines, wait_for};

crate::tests![
    an_exec_is_in_every_namespace_and_group,
    an_exec_follows_the_first_process_into_its_group,
    its_code_and_user_are_as_asked,
    failures_are_told_apart,
    nothing_to_exec_in_a_stopped_container,
    an_exec_in_a_user_namespace,
    an_exec_with_a_terminal,
    capabilities_are_those_of_the_process,
    only_three_descriptors_are_inherited,
    the_executing_process_cannot_be_traced,
];

fn running(bundle: &Bundle) -> berth_runtime::Container {
    let mut container = bundle
        .create()
        .unwrap_or_else(|error| panic!("{}", error.chain()));
    container
        .start()
        .unwrap_or_else(|error| panic!("{}", error.chain()));
    container
}

fn end(container: berth_runtime::Container) {
    let pid = container.pid();
    container.delete(true).unwrap();
    wait_for(pid);
}

fn an_exec_is_in_every_namespace_and_group() {
    let bundle = Bundle::new("sleep 600");
    let container = running(&bundle);
    let script = "for n in cgroup ipc mnt net pid uts user; do readlink /proc/1/ns/$n; readlink /proc/self/ns/$n; done; cat /proc/self/cgroup; cat /proc/1/cgroup; hostname";
    let output = bundle.exec(bundle.shell(script)).unwrap();
    assert_eq!(output.code, 0, "{output:?}");
    let all = lines(&output.stdout);
    for pair in all[..14].chunks(2) {
        assert_eq!(pair[0], pair[1]);
    }
    let groups = &all[14..all.len() - 1];
    assert_eq!(groups[..groups.len() / 2], groups[groups.len() / 2..]);
    assert_eq!(all[all.len() - 1], "box");
    end(container);
}

/// A service manager in a container moves itself into a group beneath, and the container's own then takes no process
/// (cgroup-v2.rst, "No Internal Process Constraint").
fn an_exec_follows_the_first_process_into_its_group() {
    let mounted = Path::new("/sys/fs/cgroup");
    if !needs::feature("cgroup2", mounted.join("cgroup.controllers").exists()) {
        return;
    }
    let bundle = Bundle::new("exec sleep 600");
    let container = running(&bundle);
    let own = fs::read_to_string(format!("/proc/{}/cgroup", container.pid())).unwrap();
    let own = mounted.join(own.trim().strip_prefix("0::/").unwrap());
    let inner = own.join("inner");
    fs::create_dir(&inner).unwrap();
    for process in fs::read_to_string(own.join("cgroup.procs"))
        .unwrap()
        .lines()
    {
        fs::write(inner.join("cgroup.procs"), process).unwrap();
    }
    let controllers = fs::read_to_string(own.join("cgroup.controllers")).unwrap();
    assert!(controllers.contains("pids"), "{controllers}");
    fs::write(own.join("cgroup.subtree_control"), "+pids").unwrap();

    let output = bundle
        .exec(bundle.shell("cat /proc/1/cgroup /proc/self/cgroup"))
        .unwrap_or_else(|error| panic!("{}", error.chain()));
    let groups = lines(&output.stdout);
    assert_eq!(groups.len(), 2, "{output:?}");
    assert_eq!(groups[0], groups[1]);
    assert!(groups[0].ends_with("/inner"), "{output:?}");
    end(container);
    assert!(!own.exists(), "{} stays", own.display());
}

fn its_code_and_user_are_as_asked() {
    let bundle = Bundle::new("sleep 600");
    let container = running(&bundle);
    let mut process = bundle.shell("id -u; id -g; id -G; pwd; echo $HOME $A; umask; exit 42");
    process["user"] = json!({"uid": 1000, "gid": 1001, "additionalGids": [7, 8], "umask": 0o77});
    process["cwd"] = json!("/tmp");
    process["env"] = json!(["PATH=/bin", "A=b"]);
    let output = bundle.exec(process).unwrap();
    assert_eq!(output.code, 42, "{output:?}");
    assert_eq!(
        lines(&output.stdout),
        ["1000", "1001", "1001 7 8", "/tmp", "/home/user b", "0077"]
    );
    end(container);
}

fn failures_are_told_apart() {
    let bundle = Bundle::new("sleep 600");
    let container = running(&bundle);
    for (args, failure) in [
        (json!(["nope"]), StartFailure::NotFound),
        (json!(["/nope"]), StartFailure::NotFound),
        (json!(["/etc/passwd"]), StartFailure::NotExecutable),
        (json!(["/tmp"]), StartFailure::NotExecutable),
    ] {
        let mut process = bundle.shell("");
        process["args"] = args;
        let error = bundle.exec(process).unwrap_err();
        assert_eq!(error.start_failure(), Some(failure), "{}", error.chain());
    }
    // No failed attempt leaves a process.
    assert_eq!(container.processes().unwrap().len(), 1);
    end(container);
}

fn nothing_to_exec_in_a_stopped_container() {
    let bundle = Bundle::new("true");
    let mut container = bundle.create().unwrap();
    container.start().unwrap();
    wait_for(container.pid());
    assert!(matches!(
        bundle.exec(bundle.shell("true")),
        Err(RuntimeError::NotRunning { .. })
    ));
    container.delete(false).unwrap();
    assert!(matches!(
        bundle.exec(bundle.shell("true")),
        Err(RuntimeError::NotExist { .. })
    ));
}

fn an_exec_in_a_user_namespace() {
    let mut bundle = Bundle::new("sleep 600");
    bundle.user_namespace();
    let container = running(&bundle);
    let output = bundle
        .exec(bundle.shell("id -u; cat /proc/self/uid_map; touch /tmp/made; stat -c %u /tmp/made"))
        .unwrap();
    let all = lines(&output.stdout);
    assert_eq!(all[0], "0", "{output:?}");
    assert_eq!(
        all[1].split_whitespace().collect::<Vec<_>>(),
        ["0", "100000", "65536"]
    );
    assert_eq!(all[2], "0");
    end(container);
}

fn an_exec_with_a_terminal() {
    let bundle = Bundle::new("sleep 600");
    let container = running(&bundle);
    let mut process = bundle.shell("tty; stty size; echo done");
    process["terminal"] = json!(true);
    process["consoleSize"] = json!({"height": 30, "width": 100});
    let running = exec(ExecRequest {
        state_root: bundle.state_root(),
        id: bundle.id.clone(),
        process: serde_json::from_value(process).unwrap(),
        stdio: StdioRequest::Terminal,
        preserve_descriptors: 0,
        ignore_paused: false,
        groups: None,
    })
    .unwrap_or_else(|error| panic!("{}", error.chain()));
    let text = read_terminal(running.console.unwrap());
    assert_eq!(lines(&text), ["/dev/pts/0", "30 100", "done"]);
    wait_for(running.pid);
    end(container);
}

/// All that is written to a terminal until its last user has gone.
pub(crate) fn read_terminal(master: std::os::fd::OwnedFd) -> String {
    let mut text = Vec::new();
    let mut buffer = [0; 4096];
    // The end of a terminal is EIO.
    while let Ok(length) = rustix::io::read(&master, &mut buffer[..]) {
        text.extend_from_slice(&buffer[..length]);
    }
    String::from_utf8_lossy(&text).replace("\r\n", "\n")
}

fn capabilities_are_those_of_the_process() {
    let bundle = Bundle::new("sleep 600");
    let container = running(&bundle);
    let mut process = bundle.shell("grep ^Cap /proc/self/status");
    process["capabilities"] = json!({"bounding": ["CAP_KILL"], "permitted": ["CAP_KILL"],
        "effective": ["CAP_KILL"], "inheritable": ["CAP_KILL"], "ambient": ["CAP_KILL"]});
    process["user"] = json!({"uid": 1000, "gid": 1000});
    let output = bundle.exec(process).unwrap();
    for line in lines(&output.stdout) {
        assert!(line.ends_with("0000000000000020"), "{}", output.stdout);
    }
    end(container);
}

fn only_three_descriptors_are_inherited() {
    let bundle = Bundle::new("sleep 600");
    let container = running(&bundle);
    // A descriptor without close-on-exec in the caller must not get in.
    let leak = std::fs::File::open("/").unwrap();
    rustix::io::fcntl_setfd(&leak, rustix::io::FdFlags::empty()).unwrap();
    let output = bundle.exec(bundle.shell("echo /proc/self/fd/*")).unwrap();
    assert_eq!(
        output.stdout.trim(),
        "/proc/self/fd/0 /proc/self/fd/1 /proc/self/fd/2 /proc/self/fd/3"
    );
    end(container);
}

/// CVE-2016-9962: root of the container tries to look into every process that appears, while it has not executed.
fn the_executing_process_cannot_be_traced() {
    let script = "while :; do for p in /proc/[0-9]*; do case $(readlink $p/exe) in *kernel*|*memfd*) echo seen $p >> /tmp/seen;; esac; done; done";
    let bundle = Bundle::new(script);
    let container = running(&bundle);
    for _ in 0..50 {
        let output = bundle.exec(bundle.shell("true")).unwrap();
        assert_eq!(output.code, 0);
    }
    assert!(!bundle.root().join("tmp/seen").exists());
    end(container);
}
