//! Making, joining, freezing, killing and removing.

use super::*;

#[test]
fn a_process_that_joins_by_itself_is_in_every_hierarchy() {
    let own = Own::whole();
    let inside = Inside::run(&own, "cat /proc/self/cgroup");
    let text = inside.output();
    let expected: PathBuf = own
        .parent
        .unified
        .as_ref()
        .or(own.parent.v1.first().map(|(_, path)| path))
        .unwrap()
        .clone();
    let name = expected.file_name().unwrap().to_str().unwrap();
    let placed = text
        .lines()
        .filter(|line| line.ends_with(&format!("/{name}/inner")))
        .count();
    let location = own.group.location();
    assert_eq!(
        placed,
        location.v1.len() + usize::from(location.unified.is_some()),
        "{text}"
    );
}

#[test]
fn a_process_can_be_added_from_outside_and_listed() {
    let own = Own::whole();
    let mut sleeper = Command::new("sleep").arg("100").spawn().unwrap();
    let pid = i32::try_from(sleeper.id()).unwrap();
    own.group.add_process(pid).unwrap();
    assert_eq!(own.group.processes().unwrap(), [pid]);
    own.group.kill_all().unwrap();
    sleeper.wait().unwrap();
    let gone = own.group.add_process(pid).unwrap_err();
    assert_eq!(gone.raw_os_error(), Some(libc::ESRCH));
}

#[test]
fn creation_is_idempotent_and_so_is_removal() {
    let own = Own::whole();
    let again = Cgroup::create(own.group.location()).unwrap();
    assert_eq!(again.location(), own.group.location());
    Cgroup::remove(own.group.location()).unwrap();
    Cgroup::remove(own.group.location()).unwrap();
    let error = Cgroup::open(own.group.location()).unwrap_err();
    assert_eq!(error.kind(), berth_types::ErrorKind::NotFound);
    assert!(own.group.processes().unwrap().is_empty());
    assert_eq!(own.group.oom_count().unwrap(), 0);
    own.group.stats().unwrap();
}

#[test]
fn removal_takes_groups_beneath_and_waits_for_killed_processes() {
    let own = Own::whole();
    let location = own.group.location().clone();
    for path in location
        .unified
        .iter()
        .chain(location.v1.iter().map(|(_, path)| path))
    {
        std::fs::create_dir_all(path.join("deeper/still")).unwrap();
    }
    let children: Vec<Inside> = (0..5)
        .map(|_| Inside::run(&own, "sleep 100 & sleep 100"))
        .collect();
    until("all processes are there", || {
        own.group.processes().unwrap().len() >= 15
    });
    own.group.kill_all().unwrap();
    Cgroup::remove(&location).unwrap();
    assert!(Cgroup::open(&location).is_err());
    drop(children);
}

#[test]
fn a_failed_creation_leaves_nothing() {
    let own = Own::whole();
    let mut location = own.group.location().clone();
    let deeper = |path: &PathBuf| path.join("one/two");
    for (_, path) in &mut location.v1 {
        *path = deeper(path);
    }
    location.unified = Some(PathBuf::from("/proc/self/no-such-place/x"));
    assert!(Cgroup::create(&location).is_err());
    for (_, path) in &location.v1 {
        assert!(!path.parent().unwrap().exists(), "{}", path.display());
    }
}

fn freezing_stops_and_thawing_goes_on(own: &Own) {
    let mut inside = Inside::run(own, "echo up; read x; echo more; sleep 100");
    assert_eq!(inside.line(), "up");
    assert!(!own.group.is_frozen().unwrap());
    own.group.freeze().unwrap();
    own.group.freeze().unwrap();
    assert!(own.group.is_frozen().unwrap());
    {
        use std::io::Write;
        inside.0.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    }
    let stdout = inside.0.stdout.as_ref().unwrap();
    let mut polled = [rustix::event::PollFd::new(
        stdout,
        rustix::event::PollFlags::IN,
    )];
    let short = rustix::event::Timespec {
        tv_sec: 0,
        tv_nsec: 30_000_000,
    };
    assert_eq!(
        rustix::event::poll(&mut polled, Some(&short)).unwrap(),
        0,
        "a frozen process goes on"
    );
    own.group.thaw().unwrap();
    assert_eq!(inside.line(), "more");
    assert!(!own.group.is_frozen().unwrap());
    own.group.freeze().unwrap();
    own.group.kill_all().unwrap();
    inside.0.wait().unwrap();
}

#[test]
fn freezing_works_on_version_1() {
    if let Some(own) = Own::v1_only() {
        freezing_stops_and_thawing_goes_on(&own);
    }
}

#[test]
fn freezing_works_on_version_2_and_hybrid() {
    if let Some(own) = Own::unified_only() {
        freezing_stops_and_thawing_goes_on(&own);
    }
    freezing_stops_and_thawing_goes_on(&Own::whole());
}

fn nothing_survives_a_kill(own: &Own) {
    // A family that forks as fast as it can; signalling one by one would miss some.
    let pids_limit = Some(200);
    let _ = own
        .group
        .apply(&Resources {
            pids_limit,
            ..Resources::default()
        })
        .unwrap();
    let mut inside = Inside::run(
        own,
        "f() { while :; do /bin/true & wait $!; done; }; f & f & f & f & f & echo up; wait",
    );
    assert_eq!(inside.line(), "up");
    own.group.kill_all().unwrap();
    inside.0.wait().unwrap();
    until("the group is empty", || {
        own.group.processes().unwrap().is_empty()
    });
}

#[test]
fn nothing_survives_a_kill_on_any_version() {
    for own in [Own::v1_only(), Own::unified_only(), Some(Own::whole())]
        .into_iter()
        .flatten()
    {
        nothing_survives_a_kill(&own);
    }
}

#[test]
fn a_signal_reaches_every_process() {
    let own = Own::whole();
    let mut inside = Inside::run(
        &own,
        "trap 'echo got' USR1; (trap 'echo got' USR1; echo up; while :; do sleep 0.01; done) & \
        while :; do sleep 0.01; done",
    );
    assert_eq!(inside.line(), "up");
    // The short-lived sleeps of the group end by the signal; that is why the shells go on in a loop.
    own.group.signal_all(libc::SIGUSR1).unwrap();
    let mut got = 0;
    while got < 2 {
        if inside.line() == "got" {
            got += 1;
        }
    }
    own.group.kill_all().unwrap();
}

#[test]
fn clone_into_a_version_2_group_works_with_the_directory() {
    let Some(own) = Own::unified_only() else {
        return;
    };
    let mut arguments: libc::clone_args = {
        // SAFETY: all zeroes is a valid value of this structure of plain numbers.
        unsafe { std::mem::zeroed() }
    };
    arguments.flags = u64::try_from(libc::CLONE_PIDFD).unwrap() | 0x2_0000_0000; // CLONE_INTO_CGROUP
    let mut handle: libc::c_int = -1;
    arguments.pidfd = std::ptr::from_mut(&mut handle) as u64;
    arguments.exit_signal = u64::try_from(libc::SIGCHLD).unwrap();
    arguments.cgroup = u64::try_from(own.group.directory_fd().unwrap().as_raw_fd()).unwrap();
    // SAFETY: as fork(2); the child only calls pause(2) until it is killed.
    let pid = unsafe {
        libc::syscall(
            libc::SYS_clone3,
            std::ptr::from_mut(&mut arguments),
            std::mem::size_of::<libc::clone_args>(),
        )
    };
    assert!(pid >= 0, "{}", std::io::Error::last_os_error());
    if pid == 0 {
        loop {
            // SAFETY: takes no arguments.
            unsafe { libc::pause() };
        }
    }
    // SAFETY: the kernel has just stored this descriptor.
    let _handle = unsafe { std::os::fd::OwnedFd::from_raw_fd(handle) };
    let pid = i32::try_from(pid).unwrap();
    assert_eq!(own.group.processes().unwrap(), [pid]);
    own.group.kill_all().unwrap();
    // SAFETY: the status may be left out.
    assert_eq!(unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) }, pid);
}

#[test]
fn processes_outside_the_version_2_group_are_frozen_in_a_hybrid_layout() {
    let own = Own::whole();
    if own.group.v1("freezer").is_none() || own.group.unified.is_none() {
        return;
    }
    let mut sleeper = Command::new("sleep").arg("100").spawn().unwrap();
    for group in &own.group.v1 {
        group
            .directory
            .write("cgroup.procs", &sleeper.id().to_string())
            .unwrap();
    }
    own.group.freeze().unwrap();
    assert_eq!(own.v1_file("freezer", "freezer.state"), "FROZEN");
    assert!(own.group.is_frozen().unwrap());
    own.group.kill_all().unwrap();
    sleeper.wait().unwrap();
}
