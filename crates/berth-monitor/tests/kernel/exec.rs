//! More processes in a running container.

use berth_monitor::{
    ConsoleSize, ExecRequest, MonitorError, MonitorEvent, MonitorHandle, StartFailure, Streams,
};
use berth_types::Signal;
use serde_json::json;
use tokio::io::AsyncWriteExt;

use crate::stage::{ALL, OUTPUT, Stage, event, read_all, read_until, split};

crate::tests!("exec": codes_and_output, input, programs_that_cannot_run, a_terminal, killed, codes_are_kept,
    background_children, ends_with_the_container, many_at_once);

async fn running() -> (Stage, MonitorHandle) {
    let stage = Stage::shell("sleep 1000");
    let handle = stage.launch().await;
    handle.start().await.unwrap();
    (stage, handle)
}

async fn end(stage: &Stage, handle: &MonitorHandle) {
    handle.kill(Signal::KILL).await.unwrap();
    stage.over(handle).await;
}

fn request(id: &str, arguments: &[&str], streams: Streams) -> ExecRequest {
    let process = json!({
        "terminal": false, "user": {"uid": 0, "gid": 0}, "args": arguments, "env": ["PATH=/bin", "X=y"], "cwd": "/tmp",
    });
    ExecRequest {
        id: id.to_owned(),
        process: serde_json::from_value(process).unwrap(),
        streams,
    }
}

fn ended(event: &MonitorEvent) -> Option<(String, i32)> {
    match event {
        MonitorEvent::ExecExited {
            exec, exit_code, ..
        } => Some((exec.clone(), *exit_code)),
        _ => None,
    }
}

async fn codes_and_output() {
    let (stage, handle) = running().await;
    let mut events = handle.events().unwrap();
    let arguments = ["sh", "-c", "echo $X; pwd >&2; exit 9"];
    let started = handle
        .exec(request("e1", &arguments, OUTPUT))
        .await
        .unwrap();
    assert!(started.pid > 1);
    let text = split(&read_all(&mut started.stream.unwrap()).await);
    assert_eq!(text, ("y\n".to_owned(), "/tmp\n".to_owned()));
    assert_eq!(event(&mut events, ended).await, ("e1".to_owned(), 9));
    let started = handle
        .exec(request("e2", &["true"], Streams::default()))
        .await
        .unwrap();
    assert!(started.stream.is_none());
    assert_eq!(event(&mut events, ended).await, ("e2".to_owned(), 0));
    end(&stage, &handle).await;
    // Not in the container's log.
    assert_eq!(stage.log().0, "");
}

async fn input() {
    let (stage, handle) = running().await;
    let started = handle
        .exec(request("e", &["sh", "-c", "cat; echo end"], ALL))
        .await
        .unwrap();
    let mut stream = started.stream.unwrap();
    stream.write_all(b"some input\n").await.unwrap();
    stream.shutdown().await.unwrap();
    assert_eq!(split(&read_all(&mut stream).await).0, "some input\nend\n");
    end(&stage, &handle).await;
}

async fn programs_that_cannot_run() {
    let (stage, handle) = running().await;
    let error = handle
        .exec(request("e", &["no-such-program"], OUTPUT))
        .await
        .unwrap_err();
    assert_eq!(
        error.start_failure(),
        Some(StartFailure::NotFound),
        "{error:?}"
    );
    let error = handle
        .exec(request("e", &["/etc/notes"], OUTPUT))
        .await
        .unwrap_err();
    assert_eq!(
        error.start_failure(),
        Some(StartFailure::NotExecutable),
        "{error:?}"
    );
    assert!(handle.status().await.unwrap().execs.is_empty());
    end(&stage, &handle).await;
}

async fn a_terminal() {
    let (stage, handle) = running().await;
    let mut wanted = request("e", &["sh", "-c", "tty; stty size; read x; stty size"], ALL);
    wanted.process.set_terminal(Some(true));
    let size = serde_json::from_value(json!({"height": 22, "width": 66})).unwrap();
    wanted.process.set_console_size(Some(size));
    let mut stream = handle.exec(wanted).await.unwrap().stream.unwrap();
    read_until(&mut stream, "22 66\r\n").await;
    handle
        .resize(
            Some("e"),
            ConsoleSize {
                rows: 11,
                columns: 33,
            },
        )
        .await
        .unwrap();
    stream.write_all(b"x\n").await.unwrap();
    read_until(&mut stream, "11 33\r\n").await;
    end(&stage, &handle).await;
}

async fn killed() {
    let (stage, handle) = running().await;
    let mut events = handle.events().unwrap();
    handle
        .exec(request("e", &["sleep", "1000"], OUTPUT))
        .await
        .unwrap();
    assert!(
        handle.exec(request("e", &["true"], OUTPUT)).await.is_err(),
        "an id was given twice"
    );
    handle.exec_kill("e", Signal::TERM).await.unwrap();
    assert_eq!(event(&mut events, ended).await, ("e".to_owned(), 143));
    assert!(handle.exec_kill("e", Signal::TERM).await.is_err());
    end(&stage, &handle).await;
}

async fn codes_are_kept() {
    let (stage, handle) = running().await;
    for number in 0..3 {
        let arguments = ["sh", "-c", &format!("exit {number}")];
        let started = handle
            .exec(request(&format!("e{number}"), &arguments, OUTPUT))
            .await
            .unwrap();
        read_all(&mut started.stream.unwrap()).await;
    }
    // For a daemon that was away.
    let again = berth_monitor::connect(stage.bundle())
        .await
        .unwrap()
        .unwrap();
    let codes: Vec<_> = again
        .first_status()
        .execs
        .iter()
        .map(|exec| (exec.id.as_str(), exec.ended.unwrap().exit_code))
        .collect();
    assert_eq!(codes, [("e0", 0), ("e1", 1), ("e2", 2)]);
    handle.kill(Signal::KILL).await.unwrap();
    let record = stage.over(&handle).await;
    assert_eq!(record.execs["e2"].exit_code, 2);
}

async fn background_children() {
    let (stage, handle) = running().await;
    let mut events = handle.events().unwrap();
    // The child goes on with the pipes in its hands; the session ends all the same, after a while.
    let started = handle
        .exec(request(
            "e",
            &["sh", "-c", "sleep 1000 & echo here"],
            OUTPUT,
        ))
        .await
        .unwrap();
    assert_eq!(
        split(&read_all(&mut started.stream.unwrap()).await).0,
        "here\n"
    );
    assert_eq!(event(&mut events, ended).await, ("e".to_owned(), 0));
    end(&stage, &handle).await;
}

async fn ends_with_the_container() {
    let (stage, handle) = running().await;
    let mut events = handle.events().unwrap();
    let started = handle
        .exec(request("e", &["sleep", "1000"], OUTPUT))
        .await
        .unwrap();
    handle.kill(Signal::KILL).await.unwrap();
    read_all(&mut started.stream.unwrap()).await;
    assert_eq!(event(&mut events, ended).await, ("e".to_owned(), 137));
    event(&mut events, |event| {
        matches!(event, MonitorEvent::Exited(_)).then_some(())
    })
    .await;
    stage.over(&handle).await;
    let late = handle.exec(request("late", &["true"], OUTPUT)).await;
    assert!(matches!(late, Err(MonitorError::Gone { .. })));
}

/// Programs that are over before anybody looks, eight at a time: each has its output, its code, and its end told once.
async fn many_at_once() {
    const ALL: usize = 800;
    const AT_ONCE: usize = 8;
    let (stage, handle) = running().await;
    let mut events = handle.events().unwrap();
    let lanes = (0..AT_ONCE).map(|lane| {
        let handle = handle.clone();
        tokio::spawn(async move {
            for number in (lane..ALL).step_by(AT_ONCE) {
                let (id, word) = (format!("e{number}"), format!("word {number}"));
                let started = handle
                    .exec(request(&id, &["echo", &word], OUTPUT))
                    .await
                    .unwrap();
                let said = split(&read_all(&mut started.stream.unwrap()).await);
                assert_eq!(said, (format!("{word}\n"), String::new()));
            }
        })
    });
    for lane in lanes.collect::<Vec<_>>() {
        lane.await.unwrap();
    }
    let mut told = std::collections::BTreeSet::new();
    while told.len() < ALL {
        let (id, code) = event(&mut events, ended).await;
        assert_eq!(code, 0, "{id}");
        assert!(told.insert(id));
    }
    assert!(!handle.is_gone());
    end(&stage, &handle).await;
}
