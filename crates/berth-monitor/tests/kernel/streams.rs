//! Attaching: several at once, slow ones, input and its end, terminals.

use std::time::Duration;

use berth_monitor::{ConsoleSize, Streams};
use berth_types::Signal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::stage::{ALL, OUTPUT, Stage, read_all, read_until, split, until};

crate::tests!("streams": several_are_attached, one_stream_only, input_ends, input_stays_open, input_of_nobody,
    much_output, a_slow_reader, a_reader_that_left, after_the_end, a_terminal, background_children);

async fn several_are_attached() {
    let stage = Stage::shell("echo out; echo err >&2");
    let handle = stage.launch().await;
    let mut streams = Vec::new();
    for _ in 0..5 {
        streams.push(handle.attach(OUTPUT).await.unwrap());
    }
    handle.start().await.unwrap();
    for stream in &mut streams {
        assert_eq!(
            split(&read_all(stream).await),
            ("out\n".to_owned(), "err\n".to_owned())
        );
    }
    stage.over(&handle).await;
}

async fn one_stream_only() {
    let stage = Stage::shell("echo out; echo err >&2");
    let handle = stage.launch().await;
    let mut stream = handle
        .attach(Streams {
            stderr: true,
            ..Streams::default()
        })
        .await
        .unwrap();
    handle.start().await.unwrap();
    assert_eq!(
        split(&read_all(&mut stream).await),
        (String::new(), "err\n".to_owned())
    );
    stage.over(&handle).await;
}

async fn input_ends() {
    let stage = Stage::shell("cat; echo end").with(|request| {
        request.open_stdin = true;
        request.stdin_once = true;
    });
    let handle = stage.launch().await;
    let mut stream = handle.attach(ALL).await.unwrap();
    handle.start().await.unwrap();
    // More than every buffer on the way holds.
    let text = "0123456789abcde\n".repeat(100_000);
    let (mut reader, mut writer) = stream.split();
    let send = async {
        writer.write_all(text.as_bytes()).await.unwrap();
        writer.shutdown().await.unwrap();
    };
    let mut bytes = Vec::new();
    let (_, result) = tokio::join!(send, reader.read_to_end(&mut bytes));
    result.unwrap();
    let (stdout, _) = split(&bytes);
    assert!(
        stdout == format!("{text}end\n"),
        "{} bytes came back",
        stdout.len()
    );
    assert_eq!(stage.over(&handle).await.exit_code, 0);
}

async fn input_stays_open() {
    let stage = Stage::shell("cat").with(|request| request.open_stdin = true);
    let handle = stage.launch().await;
    handle.start().await.unwrap();
    for round in 0..3 {
        let mut stream = handle.attach(ALL).await.unwrap();
        stream
            .write_all(format!("round {round}\n").as_bytes())
            .await
            .unwrap();
        read_until(&mut stream, &format!("round {round}")).await;
        stream.shutdown().await.unwrap();
        // Detached, as Docker does.
        read_all(&mut stream).await;
    }
    handle.kill(Signal::KILL).await.unwrap();
    stage.over(&handle).await;
    assert_eq!(stage.log().0, "round 0\nround 1\nround 2\n");
}

async fn input_of_nobody() {
    let stage = Stage::shell("cat; echo end");
    let handle = stage.launch().await;
    let mut stream = handle.attach(ALL).await.unwrap();
    // The end of an input that the container does not have means nothing.
    stream.shutdown().await.unwrap();
    handle.start().await.unwrap();
    assert_eq!(split(&read_all(&mut stream).await).0, "end\n");
    stage.over(&handle).await;
}

async fn much_output() {
    let stage = Stage::shell("seq 1 300000; seq 1 1000 >&2");
    let handle = stage.launch().await;
    let mut stream = handle.attach(OUTPUT).await.unwrap();
    handle.start().await.unwrap();
    let (stdout, stderr) = split(&read_all(&mut stream).await);
    let expected: String = (1..=300_000).map(|number| format!("{number}\n")).collect();
    assert!(
        stdout == expected,
        "{} bytes of {}",
        stdout.len(),
        expected.len()
    );
    assert_eq!(stderr.lines().count(), 1000);
    stage.over(&handle).await;
}

async fn a_slow_reader() {
    let stage = Stage::shell("yes 0123456789abcde | head -n 400000; echo done > /tmp/done").with(
        |request| {
            request.log.driver = berth_monitor::log::LogDriver::None;
        },
    );
    let handle = stage.launch().await;
    let mut stream = handle.attach(OUTPUT).await.unwrap();
    handle.start().await.unwrap();
    // It waits for us: with a megabyte queued it cannot get far.
    tokio::time::timeout(Duration::from_millis(300), handle.gone())
        .await
        .unwrap_err();
    assert!(!stage.path().join("upper/tmp/done").exists());
    // Everything else is served meanwhile.
    handle.status().await.unwrap();
    let bytes = read_all(&mut stream).await;
    assert_eq!(split(&bytes).0.len(), 400_000 * 16);
    stage.over(&handle).await;
}

async fn a_reader_that_left() {
    let stage = Stage::shell("yes 0123456789abcde | head -n 400000; exit 6");
    let handle = stage.launch().await;
    let stream = handle.attach(OUTPUT).await.unwrap();
    handle.start().await.unwrap();
    drop(stream);
    assert_eq!(stage.over(&handle).await.exit_code, 6);
}

async fn after_the_end() {
    let stage = Stage::shell("yes 0123456789abcde | head -n 20000");
    let handle = stage.launch().await;
    let mut stream = handle.attach(OUTPUT).await.unwrap();
    handle.start().await.unwrap();
    // The record is there although we have not read a byte, and the bytes are there although the record is.
    stage.over(&handle).await;
    assert_eq!(split(&read_all(&mut stream).await).0.len(), 20_000 * 16);
}

async fn a_terminal() {
    let stage = Stage::shell("tty; stty size; read x; stty size; echo got $x")
        .terminal()
        .with(|request| {
            request.open_stdin = true;
            request.console_size = Some(ConsoleSize {
                rows: 31,
                columns: 77,
            });
        });
    let handle = stage.launch().await;
    let mut stream = handle.attach(ALL).await.unwrap();
    handle.start().await.unwrap();
    let text = read_until(&mut stream, "31 77\r\n").await;
    assert!(text.contains("/dev/"), "{text:?}");
    handle
        .resize(
            None,
            ConsoleSize {
                rows: 20,
                columns: 100,
            },
        )
        .await
        .unwrap();
    stream.write_all(b"input\n").await.unwrap();
    let rest = String::from_utf8(read_all(&mut stream).await).unwrap();
    assert!(
        rest.contains("20 100\r\n") && rest.ends_with("got input\r\n"),
        "{rest:?}"
    );
    assert_eq!(stage.over(&handle).await.exit_code, 0);
    assert!(stage.log().0.ends_with("got input\r\n"));
}

async fn background_children() {
    // They hold the pipes, but die with the namespace.
    let stage = Stage::shell("sleep 1000 & sleep 1000 & echo here");
    let handle = stage.launch().await;
    handle.start().await.unwrap();
    let record = stage.over(&handle).await;
    assert_eq!(record.exit_code, 0);
    assert_eq!(stage.log().0, "here\n");
    until("control groups are gone", || stage.groups().is_empty()).await;
}
