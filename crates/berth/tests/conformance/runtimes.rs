//! Berth's runtime in the place of runc, below Docker's daemon and below Podman.

use berth_testkit::podman::Podman;
use berth_testkit::scratch::Scratch;
use berth_testkit::{Daemon, Engine, Settings, cgroup, daemon, needs};

/// A script that is called like an OCI runtime: callers pass options before the command.
fn runtime_script(scratch: &Scratch) -> std::path::PathBuf {
    let binary = daemon::executable().expect("the executable under test");
    let path = scratch.write(
        "berth-runtime",
        format!("#!/bin/sh\nexec {} runtime \"$@\"\n", binary.display()),
    );
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("executable");
    path
}

#[test]
fn dockerd_runs_containers_through_berth() {
    let scratch = Scratch::new();
    let script = runtime_script(&scratch);
    let settings = Settings {
        arguments: vec![
            format!("--add-runtime=berth={}", script.display()),
            "--default-runtime=berth".into(),
        ],
        ..Settings::default()
    };
    let docker = Daemon::with(Engine::Docker, settings);
    docker
        .docker("info -f '{{.DefaultRuntime}}'")
        .ok()
        .prints("berth");
    let run = |line: &str| docker.docker(&format!("run --network none {line}"));
    run("--rm busybox echo through-berth")
        .ok()
        .prints("through-berth");
    run("--rm busybox sh -c 'exit 3'").exits(3);
    run("--rm busybox no-such-command").exits(127);
    run("--rm busybox /etc/passwd").exits(126);
    run("--rm -u www-data -w /tmp --read-only --tmpfs /run busybox id -u")
        .ok()
        .prints("33");
    run("--rm --privileged busybox true").ok();

    run("-d --name box --memory 64m --cpus 0.5 --pids-limit 20 busybox sleep 1000").ok();
    docker.docker("exec box sh -c 'exit 7'").exits(7);
    docker
        .docker("exec -u www-data -e A=b box sh -c 'echo $A $(id -u)'")
        .ok()
        .prints("b 33");
    docker
        .docker("stats --no-stream --format '{{.MemUsage}} {{.PIDs}}' box")
        .ok()
        .prints("/ 64MiB 1");
    docker.docker("top box").ok().prints("sleep 1000");
    docker
        .docker("update --memory 32m --memory-swap 32m box")
        .ok();
    let memory = docker.cgroup("box", "memory");
    let limit = ["memory.limit_in_bytes", "memory.max"]
        .iter()
        .find_map(|name| std::fs::read_to_string(memory.join(name)).ok())
        .expect("a memory limit");
    assert_eq!(limit.trim(), (32 << 20).to_string());
    docker.docker("pause box").ok();
    docker.docker("unpause box").ok();
    docker.docker("kill -s KILL box").ok();
    docker.wait_for("box", "exited");
    assert_eq!(docker.inspect("box")["State"]["ExitCode"], 137);

    let mut shell = berth_testkit::terminal::Terminal::start(docker.command(
        berth_testkit::Client::Docker,
        "run --network none -it --rm busybox sh",
    ));
    shell.expect("/ #");
    crate::terminals::resize_until_seen(&mut shell);
    shell.send("exit 9\n");
    shell.exits(9);
    docker.assert_clean();
}

fn podman_scenario(podman: &Podman) {
    podman
        .run("--rm busybox echo through-podman")
        .ok()
        .prints("through-podman");
    podman.run("--rm busybox sh -c 'exit 3'").exits(3);
    podman.run("--rm busybox no-such-command").exits(127);
    podman
        .run("-d --name box --memory 64m busybox sleep 1000")
        .ok();
    podman.call("exec box sh -c 'exit 7'").exits(7);
    podman
        .call("exec box cat /proc/1/cmdline")
        .ok()
        .prints("sleep");
    podman.call("pause box").ok();
    podman.call("unpause box").ok();
    podman.call("kill box").ok();
    podman.call("wait box").ok().prints("137");
    podman.call("rm box").ok();
    // Podman's conmon keeps a group of its own; those of containers have to go.
    let mut groups = cgroup::children(&podman.scope().cgroup_parent);
    groups.retain(|path| !path.ends_with("conmon"));
    assert!(groups.is_empty(), "left behind: {groups:?}");
}

#[test]
fn podman_runs_containers_through_berth() {
    let scratch = Scratch::new();
    podman_scenario(&Podman::new(&runtime_script(&scratch)));
}

#[test]
fn podman_runs_containers_through_runc() {
    podman_scenario(&Podman::new(&needs::program("runc", "runc")));
}
