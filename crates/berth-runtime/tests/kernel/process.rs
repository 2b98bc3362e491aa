//! What the process becomes: identity, capabilities, limits, priorities, filter.

use berth_runtime::RuntimeError;
use serde_json::json;

use crate::fixture::{Bundle, lines};

crate::tests![
    identity_and_groups,
    working_directory,
    the_five_capability_sets,
    capabilities_this_host_lacks_are_told,
    no_new_privileges,
    limits_are_set_or_told,
    the_place_in_the_line_of_victims,
    scheduler_and_priorities,
    personality_is_set,
    the_filter_is_applied,
    the_filter_is_applied_to_an_exec,
    a_filter_that_kills,
    a_filter_that_notifies,
    home_comes_from_passwd,
    labels_the_host_does_not_know_are_told,
    file_mode_mask,
];

fn identity_and_groups() {
    let mut bundle =
        Bundle::new("id -u; id -g; id -G; grep -E '^(Uid|Gid):' /proc/self/status | tr '\\t' ' '");
    bundle.spec["process"]["user"] = json!({"uid": 1000, "gid": 1001, "additionalGids": [10, 20]});
    assert_eq!(
        lines(&bundle.stdout()),
        [
            "1000",
            "1001",
            "1001 10 20",
            "Uid: 1000 1000 1000 1000",
            "Gid: 1001 1001 1001 1001"
        ]
    );
}

fn working_directory() {
    let mut bundle = Bundle::new("pwd");
    bundle.spec["process"]["cwd"] = json!("/new/deep");
    assert_eq!(bundle.stdout(), "/new/deep");
    // Only the user may enter.
    let home = bundle.root().join("home");
    std::fs::create_dir(&home).unwrap();
    std::os::unix::fs::chown(&home, Some(1000), Some(1000)).unwrap();
    std::fs::set_permissions(
        &home,
        <std::fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o700),
    )
    .unwrap();
    bundle.spec["process"]["cwd"] = json!("/home");
    bundle.spec["process"]["user"] = json!({"uid": 1000, "gid": 1000});
    assert_eq!(bundle.stdout(), "/home");
    bundle.spec["process"]["cwd"] = json!("/etc/passwd");
    assert!(bundle.create().unwrap_err().chain().contains("/etc/passwd"));
}

fn caps(text: &str) -> Vec<u64> {
    lines(text)
        .iter()
        .map(|line| u64::from_str_radix(line.split_whitespace().last().unwrap(), 16).unwrap())
        .collect()
}

fn the_five_capability_sets() {
    let mut bundle = Bundle::new("grep ^Cap /proc/self/status");
    bundle.spec["process"]["capabilities"] = json!({
        "bounding": ["CAP_CHOWN", "CAP_KILL", "CAP_SETUID"],
        "permitted": ["CAP_CHOWN", "CAP_KILL"],
        "effective": ["CAP_KILL"],
        "inheritable": ["CAP_KILL"],
        "ambient": ["CAP_KILL"],
    });
    bundle.spec["process"]["user"] = json!({"uid": 1000, "gid": 1000});
    // Over execve(2) of a user: permitted and effective become the ambient set.
    assert_eq!(caps(&bundle.stdout()), [0x20, 0x20, 0x20, 0xa1, 0x20]);
    bundle.spec["process"]
        .as_object_mut()
        .unwrap()
        .remove("capabilities");
    assert_eq!(caps(&bundle.stdout()), [0, 0, 0, 0, 0]);
    bundle.spec["process"]["user"] = json!({"uid": 0, "gid": 0});
    assert_eq!(caps(&bundle.stdout()), [0, 0, 0, 0, 0]);
}

fn capabilities_this_host_lacks_are_told() {
    let ours = berth_sys::capability::current().unwrap().permitted;
    let missing: Vec<_> = berth_sys::capability::Capability::all()
        .filter(|capability| !ours.contains(*capability))
        .map(|capability| capability.name())
        .collect();
    let mut bundle = Bundle::new("grep ^CapEff /proc/self/status");
    let all: Vec<_> = berth_sys::capability::Capability::all()
        .map(|one| one.name())
        .collect();
    bundle.spec["process"]["capabilities"] =
        json!({"bounding": all, "permitted": all, "effective": all});
    let output = bundle.run().unwrap();
    assert_eq!(caps(&output.stdout), [ours.bits()]);
    for name in missing {
        assert!(
            output.notes.iter().any(|note| note.contains(&name)),
            "{:?}",
            output.notes
        );
    }
}

fn no_new_privileges() {
    let mut bundle = Bundle::new("grep NoNewPrivs /proc/self/status");
    assert!(bundle.stdout().ends_with('0'));
    bundle.spec["process"]["noNewPrivileges"] = json!(true);
    assert!(bundle.stdout().ends_with('1'));
}

fn limits_are_set_or_told() {
    let mut bundle = Bundle::new("ulimit -n; ulimit -Hn; ulimit -c");
    bundle.spec["process"]["rlimits"] = json!([
        {"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200},
        {"type": "RLIMIT_CORE", "soft": 0, "hard": 0},
    ]);
    assert_eq!(lines(&bundle.stdout()), ["100", "200", "0"]);
    let may_raise = berth_sys::capability::current()
        .unwrap()
        .effective
        .contains(berth_sys::capability::Capability::SYS_RESOURCE);
    let (_, hard) = berth_sys::process::resource_limit(7).unwrap();
    // Above this nobody may go (proc(5)).
    let highest: u64 = std::fs::read_to_string("/proc/sys/fs/nr_open")
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    let may_raise = may_raise && hard < highest;
    bundle.spec["process"]["rlimits"] =
        json!([{"type": "RLIMIT_NOFILE", "soft": 50, "hard": hard + 1}]);
    let output = bundle.run().unwrap();
    if may_raise {
        assert_eq!(lines(&output.stdout)[1], (hard + 1).to_string());
    } else {
        assert_eq!(lines(&output.stdout)[1], hard.to_string());
        assert!(
            output.notes[0].contains("RLIMIT_NOFILE"),
            "{:?}",
            output.notes
        );
    }
}

fn the_place_in_the_line_of_victims() {
    let mut bundle = Bundle::new("cat /proc/self/oom_score_adj");
    bundle.spec["process"]["oomScoreAdj"] = json!(321);
    assert_eq!(bundle.stdout(), "321");
    bundle.spec["process"]["oomScoreAdj"] = json!(-999);
    let output = bundle.run().unwrap();
    assert!(
        output.stdout.trim() == "-999" || output.notes[0].contains("oom_score_adj"),
        "{output:?}"
    );
}

fn scheduler_and_priorities() {
    let mut bundle = Bundle::new("cut -d' ' -f19,41 /proc/self/stat; ionice");
    bundle.spec["process"]["scheduler"] = json!({"policy": "SCHED_BATCH", "nice": 7});
    bundle.spec["process"]["ioPriority"] = json!({"class": "IOPRIO_CLASS_BE", "priority": 5});
    let output = bundle.stdout();
    assert_eq!(lines(&output)[0], "7 3");
    assert!(output.contains("best-effort: prio 5"), "{output}");
}

fn personality_is_set() {
    let mut bundle = Bundle::new("cat /proc/self/personality");
    bundle.spec["linux"]["personality"] = json!({"domain": "LINUX32"});
    assert_eq!(bundle.stdout(), "00000008");
}

fn filter(rule: serde_json::Value) -> serde_json::Value {
    json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_AARCH64"],
        "syscalls": [rule],
    })
}

/// Refuses with EBADFD.
fn refusing() -> serde_json::Value {
    filter(json!({"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 77}))
}

fn the_filter_is_applied() {
    for no_new_privileges in [false, true] {
        let mut bundle = Bundle::new(
            "grep ^Seccomp: /proc/self/status; mkdir /tmp/x; grep ^CapEff /proc/self/status",
        );
        bundle.spec["linux"]["seccomp"] = refusing();
        bundle.spec["process"]["noNewPrivileges"] = json!(no_new_privileges);
        let output = bundle
            .run()
            .unwrap_or_else(|error| panic!("{}", error.chain()));
        assert!(lines(&output.stdout)[0].ends_with('2'), "{output:?}");
        assert!(
            output.stderr.contains("File descriptor in bad state"),
            "{output:?}"
        );
        // The right to install it has not stayed.
        assert_eq!(caps(lines(&output.stdout)[1])[0] & (1 << 21), 0);
    }
}

fn the_filter_is_applied_to_an_exec() {
    let mut bundle = Bundle::new("sleep 600");
    bundle.spec["linux"]["seccomp"] = refusing();
    let mut container = bundle.create().unwrap();
    container.start().unwrap();
    let output = bundle.exec(bundle.shell("mkdir /tmp/x")).unwrap();
    assert_ne!(output.code, 0);
    assert!(
        output.stderr.contains("File descriptor in bad state"),
        "{output:?}"
    );
    let pid = container.pid();
    container.delete(true).unwrap();
    crate::fixture::wait_for(pid);
}

fn a_filter_that_kills() {
    let mut bundle = Bundle::new("mkdir /tmp/x & wait $!; echo $?");
    bundle.spec["linux"]["seccomp"] =
        filter(json!({"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_KILL_PROCESS"}));
    // 128 and SIGSYS.
    assert_eq!(bundle.stdout(), "159");
}

/// The receiver gets the listener and who it is for; the program waits for its answer, which never comes here.
fn a_filter_that_notifies() {
    let mut bundle = Bundle::new("mkdir /tmp/x");
    let path = bundle.path().join("notify.sock");
    let receiver = berth_sys::socket::listen(&path, 1).unwrap();
    bundle.spec["linux"]["seccomp"] =
        filter(json!({"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_NOTIFY"}));
    assert!(
        bundle
            .create()
            .unwrap_err()
            .chain()
            .contains("listenerPath")
    );
    bundle.spec["linux"]["seccomp"]["listenerPath"] = json!(path);
    bundle.spec["linux"]["seccomp"]["listenerMetadata"] = json!("opaque");
    let mut container = bundle.create().unwrap();
    // It is there when the container is created, before anybody starts it.
    let connection = rustix::net::accept(&receiver).unwrap();
    let message = berth_sys::socket::receive(&connection, 64 << 10, 1).unwrap();
    container.start().unwrap();
    let document: serde_json::Value = serde_json::from_slice(&message.bytes).unwrap();
    assert_eq!(document["pid"], container.pid());
    assert_eq!(document["state"]["id"], bundle.id.as_str());
    assert_eq!(document["state"]["pid"], container.pid());
    assert_eq!(document["state"]["status"], "creating");
    assert_eq!(document["metadata"], "opaque");
    assert_eq!(document["fds"], json!(["seccompFd"]));
    // A listener becomes readable when a call waits for its answer.
    use rustix::event::{PollFd, PollFlags, poll};
    let mut entries = [PollFd::new(&message.descriptors[0], PollFlags::IN)];
    assert_eq!(poll(&mut entries, None).unwrap(), 1);
    let pid = container.pid();
    container.delete(true).unwrap();
    crate::fixture::wait_for(pid);
}

fn home_comes_from_passwd() {
    let mut bundle = Bundle::new("echo $HOME");
    assert_eq!(bundle.stdout(), "/root");
    bundle.spec["process"]["user"] = json!({"uid": 1000, "gid": 1000});
    assert_eq!(bundle.stdout(), "/home/user");
    bundle.spec["process"]["user"] = json!({"uid": 4711, "gid": 4711});
    assert_eq!(bundle.stdout(), "/");
    bundle.spec["process"]["env"] = json!(["PATH=/bin", "HOME=/own"]);
    assert_eq!(bundle.stdout(), "/own");
}

fn labels_the_host_does_not_know_are_told() {
    let mut bundle = Bundle::new("true");
    bundle.spec["process"]["selinuxLabel"] = json!("system_u:system_r:container_t:s0");
    if std::path::Path::new("/sys/fs/selinux/enforce").exists() {
        return;
    }
    let output = bundle.run().unwrap();
    assert!(output.notes[0].contains("SELinux"), "{:?}", output.notes);
}

fn file_mode_mask() {
    let mut bundle = Bundle::new("umask; touch /tmp/x; stat -c %a /tmp/x");
    assert_eq!(lines(&bundle.stdout()), ["0022", "644"]);
    bundle.spec["process"]["user"] = json!({"uid": 0, "gid": 0, "umask": 0o177});
    std::fs::remove_file(bundle.root().join("tmp/x")).unwrap();
    assert_eq!(lines(&bundle.stdout()), ["0177", "600"]);
    bundle.spec["process"]["user"] = json!({"uid": 0, "gid": 0, "umask": 0o1000});
    assert!(matches!(bundle.create(), Err(RuntimeError::Invalid { .. })));
}
