//! Status, start, kill, delete, and what is left behind.

use std::fs;
use std::path::Path;

use berth_runtime::{Container, RuntimeError, StartFailure, Status};
use berth_sys::process::ExitStatus;
use serde_json::json;

use crate::fixture::{Bundle, until, wait_for};

crate::tests![
    a_container_goes_through_its_statuses,
    nothing_is_left_behind,
    an_id_can_be_used_once_at_a_time,
    a_missing_program_is_told,
    a_program_that_cannot_be_executed_is_told,
    a_killed_container_is_stopped,
    pause_and_resume,
    kill_all_reaches_every_process,
    a_running_container_is_deleted_by_force_only,
    a_failed_creation_leaves_nothing,
    limits_change_while_running,
];

fn a_container_goes_through_its_statuses() {
    let bundle = Bundle::new("echo hello; exit 7");
    let mut container = bundle.create().unwrap();
    assert_eq!(container.status(), Status::Created);
    assert_eq!(
        fs::read_to_string(bundle.path().join("stdout")).unwrap(),
        ""
    );
    let seen = Container::load(&bundle.state_root(), &bundle.id).unwrap();
    assert_eq!(seen.status(), Status::Created);
    assert_eq!(seen.pid(), container.pid());
    // runtime.md, "Delete": only what is stopped, and an attempt changes nothing.
    assert!(matches!(
        seen.delete(false),
        Err(RuntimeError::WrongStatus { .. })
    ));
    container.start().unwrap();
    assert_eq!(wait_for(container.pid()), ExitStatus::Exited(7));
    assert_eq!(container.status(), Status::Stopped);
    assert!(matches!(
        container.start(),
        Err(RuntimeError::WrongStatus {
            status: Status::Stopped,
            ..
        })
    ));
    assert_eq!(
        fs::read_to_string(bundle.path().join("stdout")).unwrap(),
        "hello\n"
    );
    container.delete(false).unwrap();
    assert!(matches!(
        Container::load(&bundle.state_root(), &bundle.id),
        Err(RuntimeError::NotExist { .. })
    ));
}

fn nothing_is_left_behind() {
    let descriptors = || fs::read_dir("/proc/self/fd").unwrap().count();
    let descriptors_before = descriptors();
    let bundle = Bundle::new("true");
    bundle.stdout();
    // Others on the machine mount as well.
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(
        !mounts.contains(&*bundle.path().to_string_lossy()),
        "{mounts}"
    );
    assert_eq!(descriptors(), descriptors_before);
    assert!(!bundle.state_root().join(&bundle.id).exists());
    for entry in fs::read_dir("/sys/fs/cgroup").unwrap().flatten() {
        let group = entry.path().join("berth-runtime-test").join(&bundle.id);
        assert!(!group.exists(), "{}", group.display());
    }
}

fn an_id_can_be_used_once_at_a_time() {
    let bundle = Bundle::new("true");
    let container = bundle.create().unwrap();
    assert!(matches!(bundle.create(), Err(RuntimeError::Exists { .. })));
    // The failed attempt has not harmed the first.
    assert_eq!(container.status(), Status::Created);
    let pid = container.pid();
    container.delete(true).unwrap();
    wait_for(pid);
}

fn a_missing_program_is_told() {
    let mut bundle = Bundle::new("");
    bundle.spec["process"]["args"] = json!(["no-such-program"]);
    let error = bundle.create().unwrap_err();
    assert_eq!(error.start_failure(), Some(StartFailure::NotFound));
    assert_eq!(
        error.chain(),
        "exec: \"no-such-program\": executable file not found in $PATH"
    );
    bundle.spec["process"]["args"] = json!(["/bin/nope"]);
    let error = bundle.create().unwrap_err();
    assert_eq!(error.start_failure(), Some(StartFailure::NotFound));
    assert_eq!(
        error.chain(),
        "exec: \"/bin/nope\": stat /bin/nope: no such file or directory"
    );
    // There, but its interpreter is not: only the start can tell.
    fs::write(bundle.root().join("bin/script"), "#!/no/interpreter\n").unwrap();
    make_executable(&bundle.root().join("bin/script"));
    bundle.spec["process"]["args"] = json!(["script"]);
    let mut container = bundle.create().unwrap();
    let error = container.start().unwrap_err();
    assert_eq!(error.start_failure(), Some(StartFailure::NotFound));
    wait_for(container.pid());
    container.delete(false).unwrap();
}

fn make_executable(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

fn a_program_that_cannot_be_executed_is_told() {
    let mut bundle = Bundle::new("");
    for (program, text) in [
        ("/etc/passwd", "exec: \"/etc/passwd\": permission denied"),
        ("/tmp", "exec: \"/tmp\": is a directory: permission denied"),
    ] {
        bundle.spec["process"]["args"] = json!([program]);
        let error = bundle.create().unwrap_err();
        assert_eq!(error.start_failure(), Some(StartFailure::NotExecutable));
        assert_eq!(error.chain(), text);
    }
    let odd = bundle.root().join("bin/odd");
    fs::write(&odd, "\0\u{1}\u{2}").unwrap();
    make_executable(&odd);
    bundle.spec["process"]["args"] = json!(["/bin/odd"]);
    let mut container = bundle.create().unwrap();
    let error = container.start().unwrap_err();
    assert_eq!(error.chain(), "exec: \"/bin/odd\": exec format error");
    assert_eq!(error.start_failure(), Some(StartFailure::NotExecutable));
    wait_for(container.pid());
    container.delete(false).unwrap();
}

fn a_killed_container_is_stopped() {
    let bundle = Bundle::new("sleep 600");
    let mut container = bundle.create().unwrap();
    container.start().unwrap();
    assert_eq!(container.status(), Status::Running);
    container.kill(9, false).unwrap();
    // Ended and not yet reaped counts as stopped.
    until("stopped", || container.status() == Status::Stopped);
    assert!(matches!(
        container.kill(15, false),
        Err(RuntimeError::NotRunning { .. })
    ));
    assert_eq!(wait_for(container.pid()), ExitStatus::Signaled(9));
    container.delete(false).unwrap();
}

fn pause_and_resume() {
    let bundle = Bundle::new("sleep 600");
    let mut container = bundle.create().unwrap();
    container.start().unwrap();
    container.pause().unwrap();
    assert_eq!(container.status(), Status::Paused);
    assert!(container.pause().is_err());
    container.resume().unwrap();
    assert_eq!(container.status(), Status::Running);
    container.pause().unwrap();
    let pid = container.pid();
    // A frozen container can be deleted by force as well.
    container.delete(true).unwrap();
    wait_for(pid);
}

fn kill_all_reaches_every_process() {
    let bundle = Bundle::new("trap '' TERM; sleep 600 & sleep 600 & wait; echo waited");
    let mut container = bundle.create().unwrap();
    container.start().unwrap();
    until("three processes", || {
        container.processes().unwrap().len() == 3
    });
    container.kill(9, true).unwrap();
    assert_eq!(wait_for(container.pid()), ExitStatus::Signaled(9));
    until("no processes", || container.processes().unwrap().is_empty());
    container.delete(false).unwrap();
}

fn a_running_container_is_deleted_by_force_only() {
    let bundle = Bundle::new("sleep 600");
    let mut container = bundle.create().unwrap();
    container.start().unwrap();
    let pid = container.pid();
    assert!(matches!(
        Container::load(&bundle.state_root(), &bundle.id)
            .unwrap()
            .delete(false),
        Err(RuntimeError::WrongStatus { .. })
    ));
    container.delete(true).unwrap();
    wait_for(pid);
}

fn a_failed_creation_leaves_nothing() {
    let mut bundle = Bundle::new("true");
    bundle.mount(json!({"destination": "/x", "type": "bind", "source": "/no/such/source"}));
    let error = bundle.create().unwrap_err();
    assert!(
        error.chain().contains("/no/such/source"),
        "{}",
        error.chain()
    );
    bundle.spec["mounts"].as_array_mut().unwrap().pop();
    bundle.mount(json!({"destination": "/x", "type": "tmpfs", "options": ["nonsense=1"]}));
    let error = bundle.create().unwrap_err();
    assert!(error.chain().contains("nonsense"), "{}", error.chain());
    assert!(!bundle.state_root().join(&bundle.id).exists());
    for entry in fs::read_dir("/sys/fs/cgroup").unwrap().flatten() {
        assert!(
            !entry
                .path()
                .join("berth-runtime-test")
                .join(&bundle.id)
                .exists()
        );
    }
    // And every process of it is gone and reaped.
    assert!(berth_sys::process::reap(berth_sys::process::ReapTarget::Any, true).is_err());
}

fn limits_change_while_running() {
    let mut bundle = Bundle::new("sleep 600");
    bundle.spec["linux"]["resources"] = json!({"pids": {"limit": 40}});
    let mut container = bundle.create().unwrap();
    container.start().unwrap();
    let stats = container.cgroup().unwrap().stats().unwrap();
    assert_eq!(stats.pids.unwrap().limit, Some(40));
    container
        .update(&serde_json::from_value(json!({"pids": {"limit": 50}})).unwrap())
        .unwrap();
    let stats = container.cgroup().unwrap().stats().unwrap();
    assert_eq!(stats.pids.unwrap().limit, Some(50));
    let pid = container.pid();
    container.delete(true).unwrap();
    wait_for(pid);
}
