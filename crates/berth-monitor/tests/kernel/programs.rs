//! Containers made by other OCI runtimes.

use berth_monitor::{ConsoleSize, ExecRequest, MonitorEvent, RuntimeChoice, StartFailure};
use berth_testkit::needs;
use berth_types::Signal;
use serde_json::json;
use tokio::io::AsyncWriteExt;

use crate::stage::{ALL, OUTPUT, Stage, event, read_all, read_until, split, until};

crate::tests!("programs": runc, crun);

async fn runc() {
    works("runc").await;
}

async fn crun() {
    works("crun").await;
}

async fn works(name: &str) {
    let path = needs::program(name, name);
    let by = |stage: Stage| {
        stage.with(|request| {
            request.runtime = RuntimeChoice::Program {
                path: path.clone(),
                args: Vec::new(),
            }
        })
    };
    let stage = by(Stage::shell("echo out; echo err >&2; exit 5"));
    let handle = match stage.try_launch().await {
        Ok((handle, _)) => handle,
        Err(error) if error.to_string().contains("hybrid mode not supported") => {
            // An old crun: it says so itself, and takes version 2 alone.
            needs::feature("cgroup2", false);
            return;
        }
        Err(error) => panic!("{error}"),
    };
    handle.start().await.unwrap();
    assert_eq!(stage.over(&handle).await.exit_code, 5);
    assert_eq!(stage.log(), ("out\n".to_owned(), "err\n".to_owned()));
    until("control groups are gone", || stage.groups().is_empty()).await;

    let stage = by(Stage::command(&["no-such-program"]));
    let error = match stage.try_launch().await {
        Err(error) => error,
        Ok((handle, _)) => handle.start().await.unwrap_err(),
    };
    assert_eq!(
        error.start_failure(),
        Some(StartFailure::NotFound),
        "{error}"
    );

    let stage = by(Stage::shell("stty size; read x; echo got $x").terminal()).with(|request| {
        request.open_stdin = true;
        request.console_size = Some(ConsoleSize {
            rows: 12,
            columns: 34,
        });
    });
    let handle = stage.launch().await;
    let mut stream = handle.attach(ALL).await.unwrap();
    handle.start().await.unwrap();
    read_until(&mut stream, "12 34").await;
    stream.write_all(b"it\n").await.unwrap();
    assert!(
        String::from_utf8(read_all(&mut stream).await)
            .unwrap()
            .ends_with("got it\r\n")
    );
    stage.over(&handle).await;

    let stage = by(Stage::shell("sleep 1000"));
    let handle = stage.launch().await;
    let mut events = handle.events().unwrap();
    handle.start().await.unwrap();
    let process = json!({"user": {"uid": 0, "gid": 0}, "args": ["sh", "-c", "cat; exit 4"], "env": ["PATH=/bin"], "cwd": "/"});
    let exec = ExecRequest {
        id: "e".into(),
        process: serde_json::from_value(process).unwrap(),
        streams: ALL,
    };
    let mut stream = handle.exec(exec).await.unwrap().stream.unwrap();
    stream.write_all(b"through\n").await.unwrap();
    stream.shutdown().await.unwrap();
    assert_eq!(split(&read_all(&mut stream).await).0, "through\n");
    let code = event(&mut events, |event| match event {
        MonitorEvent::ExecExited { exit_code, .. } => Some(*exit_code),
        _ => None,
    })
    .await;
    assert_eq!(code, 4);
    handle.pause().await.unwrap();
    handle.resume().await.unwrap();
    handle.kill(Signal::KILL).await.unwrap();
    assert_eq!(stage.over(&handle).await.exit_code, 137);
    let _ = OUTPUT;
}
