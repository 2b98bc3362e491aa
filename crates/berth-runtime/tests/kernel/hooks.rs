//! Hooks at every stage: when, where, with which state; and what a failure does.

use std::fs;

use berth_runtime::Status;
use serde_json::{Value, json};

use crate::fixture::{Bundle, lines, wait_for};

crate::tests![
    every_stage_runs_in_order_where_it_belongs,
    a_failing_hook_undoes_the_creation,
    a_failing_start_container_hook_stops_the_start,
    a_failing_poststart_hook_stops_the_container,
    failing_poststop_hooks_are_told,
    start_container_hooks_get_the_environment_of_the_process,
    hooks_need_not_read_the_state,
    start_container_hooks_can_do_no_more_than_the_program,
];

const STAGES: [&str; 6] = [
    "prestart",
    "createRuntime",
    "createContainer",
    "startContainer",
    "poststart",
    "poststop",
];

fn every_stage_runs_in_order_where_it_belongs() {
    let mut bundle = Bundle::new("sleep 600");
    let log = bundle.path().join("log");
    let mut hooks = json!({});
    for stage in STAGES {
        // In the container the same path lies in its root.
        let target = if stage == "startContainer" {
            "/log".to_owned()
        } else {
            log.to_string_lossy().into_owned()
        };
        let shell = if stage == "startContainer" {
            "/bin/sh"
        } else {
            "/bin/bash"
        };
        let script = format!(
            "read state; echo \"{stage} $(readlink /proc/self/ns/mnt) $state\" >> {target}"
        );
        hooks[stage] =
            json!([{"path": shell, "args": ["sh", "-c", script], "env": ["PATH=/bin:/usr/bin"]}]);
    }
    bundle.spec["hooks"] = hooks;
    bundle.spec["annotations"] = json!({"key": "value"});
    let mut container = bundle
        .create()
        .unwrap_or_else(|error| panic!("{}", error.chain()));
    let pid = container.pid();
    let own = fs::read_link("/proc/self/ns/mnt")
        .unwrap()
        .to_string_lossy()
        .into_owned();
    let inside = fs::read_link(format!("/proc/{pid}/ns/mnt"))
        .unwrap()
        .to_string_lossy()
        .into_owned();
    let names = |text: &str| -> Vec<String> {
        lines(text)
            .iter()
            .map(|line| line.split(' ').next().unwrap().to_owned())
            .collect()
    };
    assert_eq!(
        names(&fs::read_to_string(&log).unwrap()),
        ["prestart", "createRuntime", "createContainer"]
    );
    container.start().unwrap();
    assert_eq!(
        names(&fs::read_to_string(bundle.root().join("log")).unwrap()),
        ["startContainer"]
    );
    container.delete(true).unwrap();
    wait_for(pid);
    let outer = fs::read_to_string(&log).unwrap();
    let all = format!(
        "{outer}{}",
        fs::read_to_string(bundle.root().join("log")).unwrap()
    );
    assert_eq!(names(&all).len(), 6);
    for line in lines(&all) {
        let mut fields = line.splitn(3, ' ');
        let stage = fields.next().unwrap();
        let namespace = fields.next().unwrap();
        let state: Value = serde_json::from_str(fields.next().unwrap()).unwrap();
        let in_container = matches!(stage, "createContainer" | "startContainer");
        assert_eq!(
            namespace,
            if in_container { &inside } else { &own },
            "{stage}"
        );
        let status = match stage {
            "startContainer" => "created",
            "poststart" => "running",
            "poststop" => "stopped",
            _ => "creating",
        };
        assert_eq!(state["status"], status, "{stage}");
        assert_eq!(state["id"], bundle.id.as_str());
        assert_eq!(state["annotations"]["key"], "value");
        // runtime.md, "State": as whoever runs the hook sees it.
        if in_container {
            assert_eq!(state["pid"], 1, "{stage}");
        } else if stage != "poststop" {
            assert_eq!(state["pid"], pid, "{stage}");
        }
    }
}

fn a_failing_hook_undoes_the_creation() {
    for stage in ["prestart", "createRuntime", "createContainer"] {
        let mut bundle = Bundle::new("true");
        bundle.spec["hooks"] = json!({
            stage: [{"path": "/bin/sh", "args": ["sh", "-c", "echo no >&2; exit 9"]}],
            "poststop": [{"path": "/usr/bin/touch", "args": ["touch", "stopped"]}],
        });
        let error = bundle.create().unwrap_err().chain();
        assert_eq!(
            error,
            format!("run {stage} hook /bin/sh: exit status 9, stderr: no")
        );
        assert!(!bundle.state_root().join(&bundle.id).exists());
        assert!(bundle.path().join("stopped").exists());
    }
}

fn a_failing_poststart_hook_stops_the_container() {
    let mut bundle = Bundle::new("sleep 600");
    bundle.spec["hooks"] = json!({"poststart": [{"path": "/bin/false"}]});
    let mut container = bundle.create().unwrap();
    let error = container.start().unwrap_err().chain();
    assert_eq!(error, "run poststart hook /bin/false: exit status 1");
    assert_eq!(container.status(), Status::Stopped);
    wait_for(container.pid());
    container.delete(false).unwrap();
}

fn failing_poststop_hooks_are_told() {
    let mut bundle = Bundle::new("true");
    bundle.spec["hooks"] = json!({"poststop": [
        {"path": "/bin/false"},
        {"path": "/usr/bin/touch", "args": ["touch", "stopped"]},
    ]});
    let mut container = bundle.create().unwrap();
    container.start().unwrap();
    wait_for(container.pid());
    let told = container.delete(false).unwrap();
    assert_eq!(told, ["run poststop hook /bin/false: exit status 1"]);
    assert!(bundle.path().join("stopped").exists());
    assert!(!bundle.state_root().join(&bundle.id).exists());
}

fn a_failing_start_container_hook_stops_the_start() {
    let mut bundle = Bundle::new("echo started");
    bundle.spec["hooks"] = json!({"startContainer": [{"path": "/bin/false"}]});
    let mut container = bundle.create().unwrap();
    let error = container.start().unwrap_err().chain();
    assert_eq!(error, "run startContainer hook /bin/false: exit status 1");
    wait_for(container.pid());
    container.delete(false).unwrap();
    assert_eq!(
        fs::read_to_string(bundle.path().join("stdout")).unwrap(),
        ""
    );
}

fn start_container_hooks_get_the_environment_of_the_process() {
    let mut bundle = Bundle::new("cat /tmp/seen");
    bundle.spec["process"]["env"] = json!(["PATH=/bin", "A=b"]);
    let hook = |script: &str| json!({"path": "/bin/sh", "args": ["sh", "-c", script]});
    let mut own = hook("echo $A$C >> /tmp/seen");
    own["env"] = json!(["C=d"]);
    bundle.spec["hooks"] = json!({"startContainer": [hook("echo $A$C >> /tmp/seen"), own]});
    assert_eq!(bundle.stdout(), "b\nd");
}

/// The first process has every signal at its default before the program: a write to nobody would end it.
fn hooks_need_not_read_the_state() {
    let mut bundle = Bundle::new("echo ran");
    bundle.spec["annotations"] = json!({"long": "x".repeat(100_000)});
    let hook = json!([{"path": "/bin/true"}]);
    bundle.spec["hooks"] = STAGES
        .iter()
        .map(|stage| ((*stage).to_owned(), hook.clone()))
        .collect();
    assert_eq!(bundle.stdout(), "ran");
}

/// They are programs of the image. Had they the runtime's rights, an image could take the host.
fn start_container_hooks_can_do_no_more_than_the_program() {
    let look = "grep -E '^(Uid|Gid|Groups|Cap...|NoNewPrivs|Seccomp):' /proc/self/status";
    let hook = format!("{look} > /tmp/hook; mkdir /tmp/x 2>> /tmp/hook");
    let program = format!("{look} > /tmp/program; mkdir /tmp/x 2>> /tmp/program; cat /tmp/program");
    for (no_new_privileges, user) in [(false, 0), (true, 0), (false, 1000), (true, 1000)] {
        let mut bundle = Bundle::new(&program);
        bundle.spec["process"]["noNewPrivileges"] = json!(no_new_privileges);
        bundle.spec["process"]["user"] = json!({"uid": user, "gid": 5, "additionalGids": [6]});
        bundle.spec["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 42}],
        });
        bundle.spec["hooks"] = json!({"startContainer": [
            {"path": "/bin/sh", "args": ["sh", "-c", format!("{hook}; exit 0")]}
        ]});
        fs::set_permissions(
            bundle.root().join("tmp"),
            <fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o777),
        )
        .unwrap();
        let program = bundle.stdout();
        let hook = fs::read_to_string(bundle.root().join("tmp/hook")).unwrap();
        assert!(program.contains("Seccomp:\t2"), "{program}");
        assert!(program.contains("No message of desired type"), "{program}");
        assert_eq!(hook.trim_end(), program);
    }
}
