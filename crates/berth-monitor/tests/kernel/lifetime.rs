//! A monitor without its daemon.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};

use berth_monitor::{LaunchRequest, MonitorEvent, RunState, connect, read_exit_record, salvage};
use berth_types::Signal;
use rustix::process::{Pid, kill_process, kill_process_group};
use tokio::io::AsyncWriteExt;

use crate::stage::{ALL, Stage, event, read_all, split, until};

crate::tests!("lifetime": outlives_its_daemon, start_by_the_next_daemon, kill_by_the_next_daemon, ends_with_nobody_there,
    connects_again_and_again, a_monitor_that_was_killed, a_launch_that_was_cut_off, signals_do_not_end_it, a_daemon_that_ignores_ended_children, no_monitor);

/// `kernel daemon REQUEST [start]`: launches, says `ready` in a file, and waits to be killed.
pub(crate) fn daemon(arguments: &[OsString]) -> ExitCode {
    let file = PathBuf::from(&arguments[0]);
    let request: LaunchRequest = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    let start = arguments.len() > 1;
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let (handle, _) = berth_monitor::launch(Path::new("/proc/self/exe"), &request)
            .await
            .unwrap();
        if start {
            handle.start().await.unwrap();
        }
        std::fs::write(file.with_extension("ready"), "").unwrap();
        std::future::pending::<()>().await;
    });
    ExitCode::SUCCESS
}

/// Launches by a daemon of its own process group, and kills that whole group at once.
async fn abandoned(stage: &Stage, start: bool) {
    stage.write_config();
    let file = stage.path().join("request.json");
    std::fs::write(&file, serde_json::to_vec(&stage.request).unwrap()).unwrap();
    let mut command = Command::new("/proc/self/exe");
    command
        .arg("daemon")
        .arg(&file)
        .process_group(0)
        .stdin(Stdio::null());
    if start {
        command.arg("start");
    }
    let mut child: Child = command.spawn().unwrap();
    let ready = file.with_extension("ready");
    until("the daemon is ready", || ready.exists()).await;
    kill_process_group(Pid::from_child(&child), rustix::process::Signal::KILL).unwrap();
    child.wait().unwrap();
}

async fn outlives_its_daemon() {
    let stage = Stage::shell("i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); done; read x; echo got $x; exit 8")
        .with(|request| request.open_stdin = true);
    abandoned(&stage, true).await;
    let handle = connect(stage.bundle())
        .await
        .unwrap()
        .expect("the monitor is gone");
    assert_eq!(handle.first_status().state, RunState::Running);
    let mut stream = handle.attach(ALL).await.unwrap();
    stream.write_all(b"word\n").await.unwrap();
    // The loop may still be running while we attach.
    let bytes = read_all(&mut stream).await;
    assert!(split(&bytes).0.ends_with("got word\n"));
    assert_eq!(stage.over(&handle).await.exit_code, 8);
    let expected: String = (0..3000).map(|number| format!("line {number}\n")).collect();
    assert!(
        stage.log().0 == format!("{expected}got word\n"),
        "the log is not complete"
    );
}

async fn start_by_the_next_daemon() {
    let stage = Stage::shell("exit 3");
    abandoned(&stage, false).await;
    let handle = connect(stage.bundle()).await.unwrap().unwrap();
    assert_eq!(handle.first_status().state, RunState::Created);
    handle.start().await.unwrap();
    assert_eq!(stage.over(&handle).await.exit_code, 3);
}

async fn kill_by_the_next_daemon() {
    let stage = Stage::shell("exit 3");
    abandoned(&stage, false).await;
    let handle = connect(stage.bundle()).await.unwrap().unwrap();
    handle.kill(Signal::KILL).await.unwrap();
    assert_eq!(stage.over(&handle).await.exit_code, 137);
}

async fn ends_with_nobody_there() {
    let stage = Stage::shell("echo last words; sleep 0.1; exit 11");
    abandoned(&stage, true).await;
    until("there is an exit record", || {
        read_exit_record(stage.bundle()).unwrap().is_some()
    })
    .await;
    let record = read_exit_record(stage.bundle()).unwrap().unwrap();
    assert_eq!(record.exit_code, 11);
    assert!(connect(stage.bundle()).await.unwrap().is_none());
    assert_eq!(stage.log().0, "last words\n");
    assert!(stage.groups().is_empty());
    assert_eq!(salvage(stage.bundle()).unwrap(), Some(record));
}

async fn connects_again_and_again() {
    let stage = Stage::shell("sleep 1000");
    let first = stage.launch().await;
    first.start().await.unwrap();
    let mut handles = Vec::new();
    for _ in 0..5 {
        handles.push(connect(stage.bundle()).await.unwrap().unwrap());
    }
    drop(first);
    let mut events = handles[0].events().unwrap();
    handles[4].kill(Signal::KILL).await.unwrap();
    let code = event(&mut events, |event| match event {
        MonitorEvent::Exited(record) => Some(record.exit_code),
        _ => None,
    })
    .await;
    assert_eq!(code, 137);
    for handle in &handles {
        stage.over(handle).await;
    }
}

async fn a_monitor_that_was_killed() {
    let stage = Stage::shell("sleep 1000");
    let handle = stage.launch().await;
    handle.start().await.unwrap();
    let status = handle.status().await.unwrap();
    assert!(
        salvage(stage.bundle()).is_err(),
        "salvaged although it lives"
    );
    kill_process(
        Pid::from_raw(status.monitor_pid).unwrap(),
        rustix::process::Signal::KILL,
    )
    .unwrap();
    handle.gone().await;
    assert!(handle.status().await.is_err());
    assert!(connect(stage.bundle()).await.unwrap().is_none());
    let bundle = stage.bundle().to_owned();
    let record = tokio::task::spawn_blocking(move || salvage(&bundle))
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    assert_eq!(record.exit_code, 137);
    assert!(record.error.unwrap().message.contains("monitor was killed"));
    until("control groups are gone", || stage.groups().is_empty()).await;
    // And the directory can be used again.
    let again = stage.launch().await;
    again.kill(Signal::KILL).await.unwrap();
    stage.over(&again).await;
}

async fn a_launch_that_was_cut_off() {
    let stage = Stage::command(&["sh", "-c", "exit 4"]);
    for written in ["", "{\"id\":\"x"] {
        let path = stage.bundle().join(berth_monitor::LAUNCH_FILE);
        std::fs::write(&path, written).unwrap();
        assert!(connect(stage.bundle()).await.unwrap().is_none());
        assert_eq!(salvage(stage.bundle()).unwrap(), None, "{written:?}");
    }
    // And the directory can be used.
    let handle = stage.launch().await;
    handle.start().await.unwrap();
    stage.over(&handle).await;
    let record = read_exit_record(stage.bundle()).unwrap().unwrap();
    assert_eq!(record.exit_code, 4);
}

async fn signals_do_not_end_it() {
    let stage = Stage::command(&["sleep", "1000"]);
    let handle = stage.launch().await;
    handle.start().await.unwrap();
    let status = handle.status().await.unwrap();
    let monitor = Pid::from_raw(status.monitor_pid).unwrap();
    for signal in [1, 2, 3, 10, 12, 13, 14, 15, 17, 20, 21, 22] {
        let signal = rustix::process::Signal::from_named_raw(signal).unwrap();
        kill_process(monitor, signal).unwrap();
    }
    assert_eq!(handle.status().await.unwrap().state, RunState::Running);
    // The container starts with a clean slate: it can be ended by what the monitor ignores.
    let masks = std::fs::read_to_string(format!("/proc/{}/status", status.pid)).unwrap();
    for field in ["SigBlk:", "SigIgn:"] {
        let line = masks.lines().find(|line| line.starts_with(field)).unwrap();
        let mask = u64::from_str_radix(line.rsplit('\t').next().unwrap(), 16).unwrap();
        // Two signals are the C library's own: posix_spawn(3) leaves them ignored.
        assert_eq!(mask & !0x1_8000_0000, 0, "{line}");
    }
    handle.kill(Signal::KILL).await.unwrap();
    stage.over(&handle).await;
}

/// An ignored SIGCHLD is inherited, and with it the kernel tells nobody of ended children.
async fn a_daemon_that_ignores_ended_children() {
    berth_sys::signal::ignore(Signal::parse("CHLD").unwrap()).unwrap();
    let stage = Stage::shell("exit 5");
    assert_eq!(stage.run().await.exit_code, 5);
}

async fn no_monitor() {
    let stage = Stage::shell("true");
    assert!(connect(stage.bundle()).await.unwrap().is_none());
    assert!(
        connect(Path::new("/no/such/directory"))
            .await
            .unwrap()
            .is_none()
    );
    assert!(read_exit_record(stage.bundle()).unwrap().is_none());
}
