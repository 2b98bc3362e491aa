//! Logs of real containers: rotation with compression, following, both drivers.

use std::collections::BTreeMap;

use berth_monitor::log::{LogReader, LogSettings, ReadRequest};
use berth_types::Signal;
use tokio::sync::watch;

use crate::stage::{Stage, until};

crate::tests!("logs": rotated_and_compressed, followed, followed_while_nothing_comes, of_no_driver, full_disk);

fn with_log(stage: Stage, driver: &str, options: &[(&str, &str)]) -> Stage {
    let options: BTreeMap<_, _> = options
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect();
    let path = stage.path().join("data/log");
    stage.with(|request| {
        request.log = LogSettings::resolve(driver, &options, path, BTreeMap::new()).unwrap()
    })
}

async fn rotated_and_compressed() {
    for driver in ["json-file", "local"] {
        let options = [
            ("max-size", "200k"),
            ("max-file", "50"),
            ("compress", "true"),
        ];
        let stage = with_log(Stage::shell("seq 1 50000; read x"), driver, &options)
            .with(|request| request.open_stdin = true);
        let handle = stage.launch().await;
        handle.start().await.unwrap();
        let names = || -> Vec<String> {
            let list = std::fs::read_dir(stage.path().join("data")).unwrap();
            list.flatten()
                .map(|entry| entry.file_name().into_string().unwrap())
                .collect()
        };
        until("files are compressed", || {
            names().iter().filter(|name| name.ends_with(".gz")).count() > 2
        })
        .await;
        let expected: String = (1..=50_000).map(|number| format!("{number}\n")).collect();
        until("the log is complete", || stage.log().0 == expected).await;
        handle.kill(Signal::KILL).await.unwrap();
        stage.over(&handle).await;
        assert!(
            stage.log().0 == expected,
            "{driver}: the log is not complete"
        );
        assert!(
            !names().contains(&"log.compressing".to_owned()),
            "{driver}: {:?}",
            names()
        );
    }
}

async fn followed() {
    for driver in ["json-file", "local"] {
        let options = [("max-size", "50k"), ("max-file", "100")];
        let stage = with_log(Stage::shell("seq 1 20000"), driver, &options);
        let handle = stage.launch().await;
        let (ended, receiver) = watch::channel(false);
        let reader = LogReader::open(&stage.request.log, ReadRequest::default()).unwrap();
        let mut stream = reader.into_stream(true, receiver);
        let follow = tokio::spawn(async move {
            let mut text = String::new();
            while let Some(batch) = stream.next().await.unwrap() {
                for entry in batch {
                    text.push_str(std::str::from_utf8(&entry.bytes).unwrap());
                }
            }
            text
        });
        handle.start().await.unwrap();
        stage.over(&handle).await;
        ended.send(true).unwrap();
        let expected: String = (1..=20_000).map(|number| format!("{number}\n")).collect();
        assert!(
            follow.await.unwrap() == expected,
            "{driver}: not all was seen"
        );
    }
}

async fn followed_while_nothing_comes() {
    let stage =
        Stage::shell("echo one; read x; echo two").with(|request| request.open_stdin = true);
    let handle = stage.launch().await;
    handle.start().await.unwrap();
    let (ended, receiver) = watch::channel(false);
    let request = ReadRequest {
        tail: Some(10),
        ..ReadRequest::default()
    };
    let mut stream = LogReader::open(&stage.request.log, request)
        .unwrap()
        .into_stream(true, receiver);
    assert_eq!(stream.next().await.unwrap().unwrap()[0].bytes, b"one\n");
    let mut client = handle.attach(crate::stage::ALL).await.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut client, b"\n")
        .await
        .unwrap();
    assert_eq!(stream.next().await.unwrap().unwrap()[0].bytes, b"two\n");
    stage.over(&handle).await;
    ended.send(true).unwrap();
    assert!(stream.next().await.unwrap().is_none());
}

async fn of_no_driver() {
    let stage = with_log(Stage::shell("echo gone"), "none", &[]);
    stage.run().await;
    assert!(LogReader::open(&stage.request.log, ReadRequest::default()).is_err());
    assert_eq!(
        std::fs::read_dir(stage.path().join("data"))
            .unwrap()
            .count(),
        0
    );
}

async fn full_disk() {
    // A file system with room for the log's first lines only.
    let stage =
        Stage::shell("seq 1 20000; read x; echo after").with(|request| request.open_stdin = true);
    let data = stage.path().join("data");
    rustix::mount::mount(
        "tmpfs",
        &data,
        "tmpfs",
        rustix::mount::MountFlags::empty(),
        Some(c"size=64k"),
    )
    .unwrap();
    let unmount = Unmount(data.clone());
    let handle = stage.launch().await;
    let mut client = handle.attach(crate::stage::ALL).await.unwrap();
    handle.start().await.unwrap();
    crate::stage::read_until(&mut client, "20000\n").await;
    let ballast = data.join("log");
    until("the disk is full", || {
        std::fs::metadata(&ballast).unwrap().len() > 50_000
    })
    .await;
    // The container goes on; room appears when the file system grows.
    rustix::mount::mount_remount(&data, rustix::mount::MountFlags::empty(), c"size=10m").unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut client, b"\n")
        .await
        .unwrap();
    stage.over(&handle).await;
    let (stdout, stderr) = stage.log();
    assert!(stdout.starts_with("1\n2\n3\n") && stdout.ends_with("after\n"));
    assert!(
        stderr.contains("log entries are missing here: No space left"),
        "{stderr:?}"
    );
    let lines = stdout.lines().count() - 1;
    let missing: usize = stderr.split(' ').nth(1).unwrap().parse().unwrap();
    assert_eq!(lines + missing, 20_000);
    let _ = handle.kill(Signal::KILL).await;
    drop(unmount);
}

struct Unmount(std::path::PathBuf);

impl Drop for Unmount {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(&self.0, rustix::mount::UnmountFlags::DETACH);
    }
}
