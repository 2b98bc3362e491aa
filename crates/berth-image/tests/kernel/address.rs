//! Archives that are imported from an address.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use berth_image::assemble::ImportRequest;
use berth_image::{ImageId, Progress, ProgressSink, RegistrySettings, Result, Settings};
use berth_types::{ErrorKind, Reference};

use crate::pull::{noise, runtime};
use crate::registry::{Answer, Fake};
use crate::support::{Home, Tar, chain, gzip};

fn import(home: &Home, address: &str) -> (Result<ImageId>, Vec<Progress>) {
    let seen: Arc<Mutex<Vec<Progress>>> = Arc::default();
    let sink: ProgressSink = {
        let seen = seen.clone();
        Arc::new(move |progress| seen.lock().unwrap().push(progress))
    };
    let request = ImportRequest {
        name: Some(Reference::parse("docker.io/test/root:1").unwrap()),
        ..ImportRequest::default()
    };
    let outcome = runtime().block_on(home.store.import_from(address, request, sink));
    let seen = seen.lock().unwrap().clone();
    (outcome, seen)
}

fn archive() -> Vec<u8> {
    let mut tar = Tar::default();
    tar.file("file", b"content")
        .file("noise", &noise(3_000_000, 1));
    tar.end()
}

#[test]
fn an_archive_comes_from_where_it_is() {
    let bytes = archive();
    let packed = gzip(&bytes);
    let elsewhere = {
        let bytes = bytes.clone();
        Fake::start(move |asked| {
            assert!(!asked.headers.contains_key("authorization"), "{asked:?}");
            Answer::ok(&bytes)
        })
    };
    let other = elsewhere.address.clone();
    let server = Fake::start(move |asked| match asked.path.as_str() {
        "/packed.tar.gz?x=1" => Answer::ok(&packed),
        "/here" => Answer::status(302).header("Location", "packed.tar.gz?x=1"),
        "/away" => Answer::status(307).header("Location", &format!("http://{other}/root.tar")),
        "/secret" => match asked.headers.get("authorization").map(String::as_str) {
            Some("Basic bWU6cEBzcw==") => Answer::ok(&packed),
            _ => Answer::status(401),
        },
        "/secret/away" => Answer::status(302).header("Location", &format!("http://me:x@{other}/")),
        _ => Answer::status(404),
    });
    let mut trees = Vec::new();
    for address in [
        format!("http://{}/packed.tar.gz?x=1", server.address),
        format!("http://{}/here", server.address),
        format!("http://{}/away", server.address),
        format!("http://me:p%40ss@{}/secret", server.address),
        format!("http://me:p%40ss@{}/secret/away", server.address),
    ] {
        let home = Home::new();
        let (outcome, seen) = import(&home, &address);
        let id = outcome.unwrap_or_else(|error| panic!("{address}: {}", chain(&error)));
        assert_eq!(home.store.resolve("test/root:1").unwrap().id, id);
        trees.push(home.tree(&id));
        let told = seen.iter().find_map(|step| match step {
            Progress::Status(line) => Some(line.clone()),
            _ => None,
        });
        let shown = address.replace("me:p%40ss@", "");
        assert_eq!(told, Some(format!("Downloading from {shown}")));
        let last = seen.iter().rev().find_map(|step| match step {
            Progress::Importing { current, total } => Some((*current, *total)),
            _ => None,
        });
        let (current, total) = last.expect("how far it is");
        assert!(
            current == total && total > 2_000_000,
            "{current} of {total}"
        );
    }
    assert!(trees[0].contains_key("/noise"));
    trees.dedup();
    assert_eq!(trees.len(), 1);
}

#[test]
fn what_does_not_come_whole_leaves_nothing() {
    let bytes = archive();
    let server = Fake::start(move |asked| match asked.path.as_str() {
        "/cut" => Answer {
            cut: Some(1_000_000),
            ..Answer::ok(&bytes)
        },
        "/stalled" => Answer {
            stall: Some(1_000_000),
            ..Answer::ok(&bytes)
        },
        // Never silent for long, and it would take an hour.
        "/drips" => Answer {
            rate: Some(400),
            piece: 20,
            ..Answer::ok(&bytes)
        },
        "/loop" => Answer::status(302).header("Location", "/loop"),
        "/nowhere" => Answer::status(302).header("Location", "ftp://nowhere/"),
        "/page" => Answer::ok(b"<html>no archive</html>"),
        "/broken" => Answer::status(503),
        _ => Answer::status(404),
    });
    let registries = RegistrySettings {
        stall_timeout: Duration::from_millis(300),
        ..RegistrySettings::default()
    };
    let home = Home::with(Settings {
        registries,
        ..Settings::default()
    });
    let unused = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let closed = unused.local_addr().unwrap();
    drop(unused);
    let at = |path: &str| format!("http://{}{path}", server.address);
    for (address, kind, words) in [
        (at("/cut"), ErrorKind::Unavailable, "/cut: "),
        (at("/stalled"), ErrorKind::DeadlineExceeded, "/stalled"),
        (at("/drips"), ErrorKind::Unavailable, "no more than"),
        (at("/loop"), ErrorKind::DataCorrupt, "redirects"),
        (at("/nowhere"), ErrorKind::DataCorrupt, "leads nowhere"),
        (at("/page"), ErrorKind::InvalidArgument, "truncated"),
        (at("/broken"), ErrorKind::Unavailable, "answers 503"),
        (at("/none"), ErrorKind::NotFound, "answers 404 Not Found"),
        (
            format!("http://{closed}/"),
            ErrorKind::Unavailable,
            "refused",
        ),
        (
            "ftp://example.com/x".to_owned(),
            ErrorKind::InvalidArgument,
            "only http",
        ),
    ] {
        let (outcome, _) = import(&home, &address);
        let error = outcome.expect_err(&address);
        let text = chain(&error);
        assert_eq!(error.kind(), kind, "{address}: {text}");
        assert!(text.contains(words), "{address}: {text}");
        assert_eq!(home.leftovers(), Vec::<String>::new(), "{text}");
    }
}

#[test]
fn a_caller_that_goes_away_ends_the_transfer() {
    let server = Fake::start(move |_| Answer {
        stall: Some(1_000_000),
        ..Answer::ok(&archive())
    });
    let home = Home::new();
    let address = format!("http://{}/", server.address);
    let runtime = runtime();
    let came = Arc::new(tokio::sync::Notify::new());
    let sink: ProgressSink = {
        let came = came.clone();
        Arc::new(move |step| {
            if matches!(step, Progress::Importing { .. }) {
                came.notify_one();
            }
        })
    };
    runtime.block_on(async {
        let transfer = home
            .store
            .import_from(&address, ImportRequest::default(), sink);
        tokio::select! {
            outcome = transfer => panic!("{outcome:?}"),
            () = came.notified() => {}
        }
    });
    // Its worker finds out that nothing follows; only then the runtime ends.
    drop(runtime);
    assert_eq!(home.leftovers(), Vec::<String>::new());
}
