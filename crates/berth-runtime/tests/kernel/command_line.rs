//! The command line of runc: words, exit codes, the log that callers parse, and the handing over of descriptors.

use std::fs;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use crate::exec::read_terminal;
use crate::fixture::{Bundle, until};

crate::tests![
    separate_processes_share_a_container,
    errors_are_in_the_log_and_end_with_code_one,
    run_ends_as_the_program_ends,
    exec_ends_as_the_program_ends,
    callers_may_ignore_ended_children,
    a_terminal_is_handed_over,
    the_program_runs_from_a_sealed_executable,
    limits_are_updated_and_shown,
    documents_are_well_formed,
    exec_joins_groups_beneath_the_container,
    what_is_left_out_is_told,
    capabilities_of_newer_kernels_are_left_out,
];

/// Calls the runtime in a process of its own, in the bundle's directory.
fn call(bundle: &Bundle, words: &[&str]) -> Output {
    fs::write(bundle.path().join("config.json"), bundle.spec.to_string()).unwrap();
    // Files and not pipes: what a container inherits may outlive the call.
    let file = |name: &str| fs::File::create(bundle.path().join(name)).unwrap();
    let status = Command::new("/proc/self/exe")
        .args(["runtime", "--root"])
        .arg(bundle.state_root())
        .args(words)
        .current_dir(bundle.path())
        .stdin(Stdio::null())
        .stdout(file("call.out"))
        .stderr(file("call.err"))
        .status()
        .unwrap();
    Output {
        status,
        stdout: fs::read(bundle.path().join("call.out")).unwrap(),
        stderr: fs::read(bundle.path().join("call.err")).unwrap(),
    }
}

fn succeed(bundle: &Bundle, words: &[&str]) -> String {
    let output = call(bundle, words);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

fn status(bundle: &Bundle) -> Value {
    serde_json::from_str(&succeed(bundle, &["state", &bundle.id])).unwrap()
}

fn separate_processes_share_a_container() {
    let bundle = Bundle::new("sleep 600");
    succeed(&bundle, &["create", &bundle.id, "--pid-file", "pid"]);
    let state = status(&bundle);
    assert_eq!(state["status"], "created");
    let pid = fs::read_to_string(bundle.path().join("pid")).unwrap();
    assert_eq!(state["pid"].to_string(), pid);
    assert!(!call(&bundle, &["delete", &bundle.id]).status.success());
    succeed(&bundle, &["start", &bundle.id]);
    assert_eq!(status(&bundle)["status"], "running");
    assert_eq!(succeed(&bundle, &["list", "-q"]).trim(), bundle.id);
    let processes: Vec<i32> =
        serde_json::from_str(&succeed(&bundle, &["ps", "--format", "json", &bundle.id])).unwrap();
    assert_eq!(processes.len(), 1);
    succeed(&bundle, &["pause", &bundle.id]);
    assert_eq!(status(&bundle)["status"], "paused");
    succeed(&bundle, &["resume", &bundle.id]);
    succeed(&bundle, &["kill", &bundle.id, "KILL"]);
    until("stopped", || status(&bundle)["status"] == "stopped");
    assert_eq!(status(&bundle)["pid"], 0);
    succeed(&bundle, &["delete", &bundle.id]);
    assert!(!call(&bundle, &["state", &bundle.id]).status.success());
    succeed(&bundle, &["delete", "--force", &bundle.id]);
}

fn errors_are_in_the_log_and_end_with_code_one() {
    let mut bundle = Bundle::new("");
    bundle.spec["process"]["args"] = json!(["nope"]);
    let id = bundle.id.clone();
    let output = call(
        &bundle,
        &["--log", "log", "--log-format", "json", "create", &id],
    );
    assert_eq!(output.status.code(), Some(1));
    let text = "exec: \"nope\": executable file not found in $PATH";
    assert_eq!(String::from_utf8_lossy(&output.stderr).trim(), text);
    // Without a file the line of the log goes to standard error.
    let output = call(&bundle, &["create", &id]);
    let line = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(line.contains("level=error msg=\"exec: "), "{line}");
    let log = fs::read_to_string(bundle.path().join("log")).unwrap();
    let line: Value = serde_json::from_str(log.lines().last().unwrap()).unwrap();
    assert_eq!(line["level"], "error");
    assert_eq!(line["msg"], text);
    for words in [
        &["start", "absent"][..],
        &["kill", "absent"],
        &["state", "absent"],
        &["delete", "absent"],
    ] {
        let output = call(&bundle, words);
        assert_eq!(output.status.code(), Some(1));
        assert!(String::from_utf8_lossy(&output.stderr).contains("does not exist"));
    }
    for words in [
        &["state"][..],
        &["nonsense"],
        &["create", "--nonsense", "x"],
        &["state", "../x"],
    ] {
        assert_eq!(call(&bundle, words).status.code(), Some(1), "{words:?}");
    }
}

fn run_ends_as_the_program_ends() {
    let bundle = Bundle::new("echo out; echo err >&2; exit 42");
    let output = call(&bundle, &["run", &bundle.id]);
    assert_eq!(output.status.code(), Some(42));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "out\n");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "err\n");
    assert!(!bundle.state_root().join(&bundle.id).exists());
    let killed = Bundle::new("kill -9 $$; sleep 600 & kill -TERM $!; wait $!");
    assert_eq!(call(&killed, &["run", &killed.id]).status.code(), Some(143));
}

fn exec_ends_as_the_program_ends() {
    let bundle = Bundle::new("sleep 600");
    succeed(&bundle, &["run", "--detach", &bundle.id]);
    let words = [
        "exec",
        "-e",
        "A=b",
        "--cwd",
        "/tmp",
        "-u",
        "1000:1000",
        &bundle.id,
        "sh",
        "-c",
        "echo $A $(pwd) $(id -u); exit 9",
    ];
    let output = call(&bundle, &words);
    assert_eq!(output.status.code(), Some(9));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "b /tmp 1000\n");
    let process = json!({"args": ["sh", "-c", "exit 3"], "cwd": "/", "env": ["PATH=/bin"],
        "user": {"uid": 0, "gid": 0}});
    fs::write(bundle.path().join("process.json"), process.to_string()).unwrap();
    let output = call(&bundle, &["exec", "--process", "process.json", &bundle.id]);
    assert_eq!(output.status.code(), Some(3));
    succeed(
        &bundle,
        &[
            "exec",
            "-d",
            "--process",
            "process.json",
            "--pid-file",
            "exec.pid",
            &bundle.id,
        ],
    );
    assert!(bundle.path().join("exec.pid").exists());
    assert_eq!(
        call(&bundle, &["exec", &bundle.id, "nope"]).status.code(),
        Some(1)
    );
    succeed(&bundle, &["delete", "--force", &bundle.id]);
}

/// What a caller ignores, or has blocked, is inherited; with SIGCHLD ignored the kernel forgets how children ended.
fn callers_may_ignore_ended_children() {
    let mut bundle = Bundle::new("exit 6");
    bundle.spec["hooks"] = json!({"createRuntime": [{"path": "/bin/true"}]});
    fs::write(bundle.path().join("config.json"), bundle.spec.to_string()).unwrap();
    let status = Command::new("sh")
        .args(["-c", "trap '' CHLD; exec \"$@\"", "sh"])
        .args(["/proc/self/exe", "runtime", "--root"].map(|word| {
            // The shell's own executable would be meant.
            word.replace("/proc/self", &format!("/proc/{}", std::process::id()))
        }))
        .arg(bundle.state_root())
        .args(["run", &bundle.id])
        .current_dir(bundle.path())
        .stdin(Stdio::null())
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(6));
}

fn a_terminal_is_handed_over() {
    let mut bundle = Bundle::new("tty; echo done");
    bundle.spec["process"]["terminal"] = json!(true);
    // Nobody would take the master.
    assert!(!call(&bundle, &["create", &bundle.id]).status.success());
    let receiver = berth_sys::socket::listen(&bundle.path().join("console.sock"), 1).unwrap();
    succeed(
        &bundle,
        &["create", "--console-socket", "console.sock", &bundle.id],
    );
    let connection = rustix::net::accept(&receiver).unwrap();
    let message = berth_sys::socket::receive(&connection, 64, 1).unwrap();
    succeed(&bundle, &["start", &bundle.id]);
    let master = message.descriptors.into_iter().next().unwrap();
    assert_eq!(read_terminal(master), "/dev/pts/0\ndone\n");
    succeed(&bundle, &["delete", "--force", &bundle.id]);
}

/// CVE-2019-5736: the executable that a container could find through /proc cannot be written.
fn the_program_runs_from_a_sealed_executable() {
    let bundle = Bundle::new("true");
    succeed(&bundle, &["create", &bundle.id]);
    let path = format!("/proc/{}/exe", status(&bundle)["pid"]);
    let executable = fs::File::open(&path).unwrap();
    assert!(berth_sys::executable::is_sealed(&executable));
    succeed(&bundle, &["delete", "--force", &bundle.id]);
}

fn limits_are_updated_and_shown() {
    let bundle = Bundle::new("sleep 600");
    succeed(&bundle, &["run", "-d", &bundle.id]);
    succeed(
        &bundle,
        &[
            "update",
            "--pids-limit",
            "77",
            "--memory",
            "64m",
            &bundle.id,
        ],
    );
    let event: Value =
        serde_json::from_str(&succeed(&bundle, &["events", "--stats", &bundle.id])).unwrap();
    assert_eq!(event["type"], "stats");
    assert_eq!(event["data"]["pids"]["limit"], 77);
    assert_eq!(event["data"]["memory"]["usage"]["limit"], 64 << 20);
    succeed(&bundle, &["delete", "--force", &bundle.id]);
}

fn documents_are_well_formed() {
    let bundle = Bundle::new("true");
    let features: Value = serde_json::from_str(&succeed(&bundle, &["features"])).unwrap();
    assert!(
        features["mountOptions"]
            .as_array()
            .unwrap()
            .contains(&json!("rro"))
    );
    assert!(succeed(&bundle, &["--version"]).starts_with("berth-runtime version "));
    let directory = bundle.path().join("new");
    fs::create_dir(&directory).unwrap();
    succeed(&bundle, &["spec", "--bundle", "new"]);
    let spec: Value =
        serde_json::from_slice(&fs::read(directory.join("config.json")).unwrap()).unwrap();
    assert_eq!(spec["process"]["args"], json!(["sh"]));
    assert!(!call(&bundle, &["spec", "--bundle", "new"]).status.success());
    assert!(succeed(&bundle, &["--help"]).contains("features"));
}

fn exec_joins_groups_beneath_the_container() {
    let mut bundle = Bundle::new("sleep 600");
    for mount in bundle.spec["mounts"].as_array_mut().unwrap() {
        if mount["destination"] == "/sys/fs/cgroup" {
            mount["options"] = json!(["nosuid", "noexec", "nodev"]);
        }
    }
    succeed(&bundle, &["run", "-d", &bundle.id]);
    // In each hierarchy that is there; one of version 1 for CPUs takes nobody before it has some.
    let make = "for d in /sys/fs/cgroup/*/ /sys/fs/cgroup; do
                    test -w $d/cgroup.procs || continue
                    mkdir $d/inner
                    for f in cpuset.cpus cpuset.mems; do
                        test ! -e $d/inner/$f || cat $d/$f > $d/inner/$f
                    done
                done";
    succeed(&bundle, &["exec", &bundle.id, "sh", "-c", make]);
    let place = |words: &[&str]| {
        let mut all = vec!["exec"];
        all.extend_from_slice(words);
        all.extend_from_slice(&[bundle.id.as_str(), "cat", "/proc/self/cgroup"]);
        succeed(&bundle, &all)
    };
    let inner = |text: &str| {
        let lines = text.lines();
        lines.filter(|line| line.ends_with(":/inner")).count()
    };
    let hierarchies = place(&[]).lines().count();
    assert_eq!(inner(&place(&[])), 0);
    assert_eq!(inner(&place(&["--cgroup", "/"])), 0);
    assert_eq!(inner(&place(&["--cgroup", "inner"])), hierarchies);
    let version_1 = hierarchies > 1;
    if version_1 {
        assert_eq!(inner(&place(&["--cgroup=pids:inner"])), 1);
        assert_eq!(
            inner(&place(&[
                "--cgroup=pids:inner",
                "--cgroup",
                "memory:/inner"
            ])),
            2
        );
    }
    for wrong in ["..", "absent", "nonsense:/", ":/", "inner/../.."] {
        let output = call(&bundle, &["exec", "--cgroup", wrong, &bundle.id, "true"]);
        assert_eq!(output.status.code(), Some(1), "{wrong}");
    }
    succeed(&bundle, &["delete", "--force", &bundle.id]);
}

fn what_is_left_out_is_told() {
    let bundle = Bundle::new("true");
    for name in ["checkpoint", "restore"] {
        let output = call(&bundle, &[name, "--image-path", "x", &bundle.id]);
        assert_eq!(output.status.code(), Some(1));
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(words.contains("cannot save the state"), "{words}");
    }
}

fn capabilities_of_newer_kernels_are_left_out() {
    let mut bundle = Bundle::new("grep CapEff /proc/self/status");
    let names = json!(["CAP_KILL", "CAP_OF_TOMORROW"]);
    bundle.spec["process"]["capabilities"] =
        json!({"bounding": names, "effective": names, "permitted": names});
    let output = call(&bundle, &["run", &bundle.id]);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(told.matches("CAP_OF_TOMORROW").count(), 1, "{told}");
    assert!(told.contains("level=warning"), "{told}");
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "CapEff:\t0000000000000020\n"
    );
    bundle.spec["process"]["rlimits"] = json!([{"type": "RLIMIT_ODD", "soft": 1, "hard": 1}]);
    assert_eq!(call(&bundle, &["run", &bundle.id]).status.code(), Some(1));
}
