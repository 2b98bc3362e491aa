//! A container's life from launch to exit record.

use std::path::Path;

use berth_monitor::{MonitorError, MonitorEvent, RunState, StartFailure, read_exit_record};
use berth_types::Signal;
use serde_json::json;

use crate::stage::{Stage, event, until};

crate::tests!("run": exit_codes, output_is_logged, started_at_once, a_missing_program, not_a_program,
    a_bad_bundle, killed_before_start, pause_and_resume, memory_runs_out, signals_are_told, limits_are_changed,
    nothing_is_left, many_at_once);

async fn exit_codes() {
    for code in [0, 7, 255] {
        let stage = Stage::shell(&format!("exit {code}"));
        let record = stage.run().await;
        assert_eq!((record.exit_code, record.signal), (code, None));
        assert!(record.started_at.unwrap() <= record.finished_at);
        assert!(record.error.is_none() && !record.oom_killed);
    }
    for signal in [Signal::KILL, Signal::TERM] {
        let stage = Stage::command(&["sleep", "1000"]);
        // The first process of a PID namespace only dies of signals from outside that it cannot ignore.
        let stage = stage.configure(|config| {
            let list = config["linux"]["namespaces"].as_array_mut().unwrap();
            list.retain(|namespace| namespace["type"] != "pid");
        });
        let handle = stage.launch().await;
        handle.start().await.unwrap();
        handle.kill(signal).await.unwrap();
        let record = stage.over(&handle).await;
        assert_eq!(
            (record.exit_code, record.signal),
            (128 + signal.number(), Some(signal.number()))
        );
    }
}

async fn output_is_logged() {
    let stage = Stage::shell("echo out; echo err >&2; printf unfinished");
    let record = stage.run().await;
    assert_eq!(record.exit_code, 0);
    assert_eq!(
        stage.log(),
        ("out\nunfinished".to_owned(), "err\n".to_owned())
    );
    let text = std::fs::read_to_string(&stage.request.log.path).unwrap();
    assert!(
        text.starts_with("{\"log\":\"out\\n\",\"stream\":\"stdout\",\"time\":\"20"),
        "{text}"
    );
}

async fn started_at_once() {
    let stage = Stage::shell("echo hello").with(|request| request.start = true);
    let (handle, created) = stage.try_launch().await.unwrap();
    assert!(created.started && created.pid > 1);
    assert_eq!(stage.over(&handle).await.exit_code, 0);
    assert_eq!(stage.log().0, "hello\n");
}

async fn fails(arguments: &[&str], failure: StartFailure) {
    for at_once in [false, true] {
        let stage = Stage::command(arguments).with(|request| request.start = at_once);
        let error = match stage.try_launch().await {
            Err(error) => error,
            Ok((handle, _)) => {
                let error = handle.start().await.unwrap_err();
                // In place before the answer.
                assert!(read_exit_record(stage.bundle()).unwrap().is_some());
                handle.gone().await;
                error
            }
        };
        assert_eq!(error.start_failure(), Some(failure), "{error:?}");
        let record = read_exit_record(stage.bundle()).unwrap().unwrap();
        assert_eq!(record.exit_code, failure.exit_code());
        assert_eq!(record.error.unwrap().start_failure, Some(failure));
        assert!(record.started_at.is_none());
        until("control groups are gone", || stage.groups().is_empty()).await;
    }
}

async fn a_missing_program() {
    fails(&["no-such-program"], StartFailure::NotFound).await;
}

async fn not_a_program() {
    fails(&["/etc/notes"], StartFailure::NotExecutable).await;
}

async fn a_bad_bundle() {
    let stage = Stage::shell("true");
    let broken = stage.configure(|config| {
        config["mounts"].as_array_mut().unwrap().push(json!({
            "destination": "/x", "type": "bind", "source": "/no/such/source", "options": ["rbind"],
        }));
    });
    let error = broken.try_launch().await.unwrap_err();
    assert!(error.to_string().contains("/no/such/source"), "{error}");
    assert!(matches!(error, MonitorError::Refused(_)));
    let record = read_exit_record(broken.bundle()).unwrap().unwrap();
    assert_eq!(record.exit_code, 128);
    until("control groups are gone", || broken.groups().is_empty()).await;
}

async fn killed_before_start() {
    let stage = Stage::shell("true");
    let handle = stage.launch().await;
    assert_eq!(handle.status().await.unwrap().state, RunState::Created);
    handle.kill(Signal::KILL).await.unwrap();
    let record = stage.over(&handle).await;
    assert_eq!(record.exit_code, 137);
    assert!(record.started_at.is_none());
    assert!(matches!(
        handle.start().await,
        Err(MonitorError::Gone { .. })
    ));
}

async fn pause_and_resume() {
    let stage = Stage::shell("sleep 1000");
    let handle = stage.launch().await;
    handle.start().await.unwrap();
    handle.pause().await.unwrap();
    assert_eq!(handle.status().await.unwrap().state, RunState::Paused);
    assert!(handle.pause().await.is_err());
    handle.resume().await.unwrap();
    assert_eq!(handle.status().await.unwrap().state, RunState::Running);
    assert!(
        handle
            .processes()
            .await
            .unwrap()
            .contains(&handle.first_status().pid)
    );
    handle.kill(Signal::KILL).await.unwrap();
    stage.over(&handle).await;
}

async fn memory_runs_out() {
    let stage = Stage::shell("dd if=/dev/zero of=/dev/null bs=200M count=1; exit 3").configure(|config| {
        config["linux"]["resources"]["memory"] = json!({"limit": 33_554_432, "swap": 33_554_432});
        config["linux"]["devices"] = json!([
            {"path": "/dev/zero", "type": "c", "major": 1, "minor": 5, "fileMode": 438, "uid": 0, "gid": 0},
            {"path": "/dev/null", "type": "c", "major": 1, "minor": 3, "fileMode": 438, "uid": 0, "gid": 0},
        ]);
    });
    let handle = stage.launch().await;
    let mut events = handle.events().unwrap();
    handle.start().await.unwrap();
    event(&mut events, |event| {
        matches!(event, MonitorEvent::Oom { .. }).then_some(())
    })
    .await;
    let told = event(&mut events, |event| match event {
        MonitorEvent::Exited(record) => Some((**record).clone()),
        _ => None,
    })
    .await;
    let record = stage.over(&handle).await;
    assert_eq!(told, record);
    assert!(record.oom_killed);
}

async fn signals_are_told() {
    let stage = Stage::shell("trap 'exit 5' TERM; echo ready; while :; do sleep 0.01; done");
    let handle = stage.launch().await;
    let mut stream = handle.attach(crate::stage::OUTPUT).await.unwrap();
    handle.start().await.unwrap();
    crate::stage::read_until(&mut stream, "ready").await;
    handle.kill(Signal::TERM).await.unwrap();
    assert_eq!(stage.over(&handle).await.exit_code, 5);
}

async fn limits_are_changed() {
    let stage = Stage::shell("sleep 1000");
    let handle = stage.launch().await;
    handle.start().await.unwrap();
    let resources = serde_json::from_value(json!({"pids": {"limit": 77}})).unwrap();
    handle.update(resources).await.unwrap();
    let limits: Vec<_> = stage
        .groups()
        .iter()
        .filter_map(|group| std::fs::read_to_string(group.join("pids.max")).ok())
        .collect();
    assert_eq!(limits, ["77\n"]);
    handle.kill(Signal::KILL).await.unwrap();
    stage.over(&handle).await;
}

/// Numbers of children of ours, of descriptors of ours, and of mounts beneath `path` that the host sees.
fn census(path: &Path) -> (usize, usize, usize) {
    let threads = std::fs::read_dir("/proc/self/task").unwrap().flatten();
    let children = threads
        .filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok())
        .map(|children| children.split_whitespace().count())
        .sum();
    let descriptors = std::fs::read_dir("/proc/self/fd").unwrap().count();
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let ours = mounts
        .lines()
        .filter(|line| line.contains(path.to_str().unwrap()))
        .count();
    (children, descriptors, ours)
}

async fn nothing_is_left() {
    let stage = Stage::shell("exit 4");
    stage.run().await;
    until("no children", || census(stage.path()).0 == 0).await;
    let before = census(stage.path());
    for _ in 0..200 {
        assert_eq!(stage.run().await.exit_code, 4);
    }
    // Fewer is possible: a task of the first run may not have ended when we counted.
    until("there is no more than before", || {
        let now = census(stage.path());
        now.0 <= before.0 && now.1 <= before.1 && now.2 <= before.2
    })
    .await;
    assert_eq!(before.2, 0);
    assert!(stage.groups().is_empty());
    let names = |path: &Path| -> Vec<_> {
        std::fs::read_dir(path)
            .unwrap()
            .flatten()
            .map(|entry| entry.file_name())
            .collect()
    };
    assert_eq!(
        names(stage.bundle()).len(),
        3,
        "{:?}",
        names(stage.bundle())
    );
    assert!(names(&stage.path().join("state")).is_empty());
}

async fn many_at_once() {
    let stages: Vec<_> = (0..40)
        .map(|_| Stage::shell("exit 6").with(|request| request.start = true))
        .collect();
    let runs = stages.into_iter().map(|stage| {
        tokio::spawn(async move {
            // It may be over, and the connection closed, before we have said a word.
            let (handle, created) = stage.try_launch().await.unwrap();
            assert!(created.started);
            assert_eq!(stage.over(&handle).await.exit_code, 6);
            until("control groups are gone", || stage.groups().is_empty()).await;
        })
    });
    for run in runs.collect::<Vec<_>>() {
        run.await.unwrap();
    }
}
