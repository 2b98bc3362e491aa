//! Pulling from a real registry, and from one that misbehaves.

use std::sync::{Arc, Mutex};

use berth_image::documents::media;
use berth_image::{ImageError, Progress, ProgressSink, PullRequest, Pulled, Result, digest_of};
use berth_types::{ErrorKind, Reference};

use crate::registry::{Answer, Distribution, Fake};
use crate::support::{Home, Layer, Made, Tar, chain};

/// Bytes that do not compress.
pub(crate) fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

pub(crate) fn image() -> Made {
    let layers: Vec<Layer> = (0..5)
        .map(|number: u8| {
            let mut tar = Tar::default();
            tar.dir("d/", 0o755);
            tar.file(&format!("d/f{number}"), &noise(300_000, number.into()));
            match number % 3 {
                0 => Layer::gzip(tar.end()),
                1 => Layer::zstd(tar.end()),
                _ => Layer::plain(tar.end()),
            }
        })
        .collect();
    Made::new(&layers)
}

pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
}

pub(crate) fn request(name: &str) -> PullRequest {
    PullRequest {
        reference: Reference::parse(name).unwrap(),
        platform: None,
        credentials: None,
        all_platforms: false,
    }
}

pub(crate) fn pull(home: &Home, request: PullRequest) -> Result<(Pulled, Vec<Progress>)> {
    let seen: Arc<Mutex<Vec<Progress>>> = Arc::default();
    let sink: ProgressSink = {
        let seen = seen.clone();
        Arc::new(move |progress| seen.lock().unwrap().push(progress))
    };
    let pulled = runtime().block_on(home.store.pull(request, sink))?;
    let seen = seen.lock().unwrap().clone();
    Ok((pulled, seen))
}

pub(crate) fn refused(home: &Home, name: &str) -> ImageError {
    let error = pull(home, request(name)).expect_err("it was taken");
    assert_eq!(home.leftovers(), Vec::<String>::new(), "{}", chain(&error));
    error
}

#[test]
fn what_is_left_to_unpack_is_told_after_all_has_come() {
    let registry = Distribution::start();
    // Little to fetch, much to write: the network is done long before the disk.
    let content = b"berth ".repeat(4 << 20);
    let mut tar = Tar::default();
    for number in 0..10 {
        tar.file(&format!("f{number}"), &content);
    }
    let image = Made::new(&[Layer::gzip(tar.end())]);
    registry.push(&image, "team/slow:1", "oci", "gzip");
    let name = format!("{}/team/slow:1", registry.address);
    let (_, seen) = pull(&Home::new(), request(&name))
        .map_err(|error| panic!("{}", chain(&error)))
        .unwrap();
    let complete = seen
        .iter()
        .position(|progress| matches!(progress, Progress::DownloadComplete { .. }));
    let (before, after) = seen.split_at(complete.expect("it came"));
    let unpacked = |told: &[Progress]| -> Vec<(u64, u64)> {
        told.iter()
            .filter_map(|progress| match progress {
                Progress::Extracting { current, total, .. } => Some((*current, *total)),
                _ => None,
            })
            .collect()
    };
    assert_eq!(unpacked(before), []);
    let steps = unpacked(after);
    assert!(steps.is_sorted(), "{steps:?}");
    assert!(steps[0].0 < steps[0].1, "{steps:?}");
    assert!(
        steps
            .last()
            .is_some_and(|(current, total)| current == total),
        "{steps:?}"
    );
}

#[test]
fn images_come_from_a_real_registry_in_every_format() {
    let registry = Distribution::start();
    // Docker's own format has no zstd.
    let without_zstd = Made::new(
        &(0..5)
            .map(|number| {
                let mut tar = Tar::default();
                tar.file(&format!("d/f{number}"), &noise(300_000, number));
                Layer::gzip(tar.end())
            })
            .collect::<Vec<_>>(),
    );
    for (image, format, compression) in [
        (image(), "oci", "gzip"),
        (image(), "oci", "zstd"),
        (without_zstd, "v2s2", "gzip"),
    ] {
        let name = format!("team/app:{format}-{compression}");
        registry.push(&image, &name, format, compression);
        let name = format!("{}/{name}", registry.address);
        let home = Home::new();
        let (pulled, seen) = pull(&home, request(&name))
            .map_err(|error| panic!("{}", chain(&error)))
            .unwrap();
        assert!(pulled.newer);
        assert_eq!(pulled.name.to_string(), name);
        let tree = home.tree(&pulled.id);
        for number in 0..5 {
            let content = digest_of(&noise(300_000, number)).short();
            assert!(tree[&format!("/d/f{number}")].contains(&content));
        }
        let complete = seen
            .iter()
            .filter(|progress| matches!(progress, Progress::PullComplete { .. }))
            .count();
        assert_eq!(complete, 5, "{seen:?}");
        assert!(matches!(&seen[0], Progress::Pulling { tag, .. } if name.ends_with(tag)));
        let view = home.store.inspect(&name).unwrap();
        let by_digest = format!("{}/team/app@{}", registry.address, pulled.digest);
        assert_eq!(view.repo_digests, std::slice::from_ref(&by_digest));
        assert_eq!(view.repo_tags, std::slice::from_ref(&name));
        // Again: nothing is fetched; by digest: the same image.
        let (again, seen) = pull(&home, request(&name)).unwrap();
        assert!(!again.newer);
        assert!(
            seen.iter()
                .all(|progress| !matches!(progress, Progress::Downloading { .. }))
        );
        assert!(seen.contains(&Progress::Status(format!(
            "Status: Image is up to date for {name}"
        ))));
        assert_eq!(pull(&home, request(&by_digest)).unwrap().0.id, pulled.id);
        let home = home.reopen();
        assert_eq!(home.tree(&pulled.id), tree);
        let error = pull(
            &home,
            request(&format!("{}/team/app:nope", registry.address)),
        )
        .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(
            error
                .to_string()
                .contains("app:nope not found: manifest unknown"),
            "{error}"
        );
    }
}

#[test]
fn many_pulls_fetch_each_layer_once() {
    let image = image();
    let registry = Fake::image(&image, |_, answer| answer);
    let home = Home::new();
    let names: Vec<String> = (0..6)
        .map(|number| format!("{}/a/b{number}:1", registry.address))
        .collect();
    runtime().block_on(async {
        let pulls = names.iter().map(|name| {
            home.store
                .pull(request(name), berth_image::progress::silent())
        });
        for outcome in futures_util::future::join_all(pulls).await {
            outcome
                .map_err(|error| panic!("{}", chain(&error)))
                .unwrap();
        }
    });
    for layer in &image.layers {
        let digest = digest_of(&layer.bytes).to_string();
        assert_eq!(registry.count(&digest), 1);
    }
    assert_eq!(home.store.names(&image.id()).unwrap().len(), 12);
}

#[test]
fn broken_connections_are_taken_up_again() {
    let image = image();
    let (ranges, none, lying) = (
        // Each answer breaks after a while.
        Fake::image(&image, |asked, mut answer| {
            if asked.path.contains("/blobs/") && answer.body.len() > 100_000 {
                answer.cut = Some(90_000);
            }
            answer
        }),
        // The first breaks; the next ignores the range.
        {
            let whole = image.clone();
            Fake::image(&image, move |asked, mut answer| {
                if asked.path.contains("/blobs/") && answer.body.len() > 100_000 {
                    if asked.earlier == 0 {
                        answer.cut = Some(90_000);
                    } else {
                        let digest = asked.path.rsplit('/').next().unwrap();
                        return Answer::ok(&whole.blobs[&digest.parse().unwrap()]);
                    }
                }
                answer
            })
        },
        // The first breaks; the next says another range than was asked for.
        Fake::image(&image, |asked, mut answer| {
            if asked.path.contains("/blobs/") && asked.earlier == 0 && answer.body.len() > 100_000 {
                answer.cut = Some(90_000);
            }
            for (name, value) in &mut answer.headers {
                if name == "Content-Range" {
                    *value = "bytes 95000-99999/100000".into();
                }
            }
            answer
        }),
    );
    for registry in [&ranges, &none] {
        let home = Home::new();
        let (pulled, seen) = pull(&home, request(&format!("{}/a/b:1", registry.address)))
            .map_err(|error| panic!("{}", chain(&error)))
            .unwrap();
        assert_eq!(pulled.id, image.id());
        assert!(
            seen.iter()
                .any(|progress| matches!(progress, Progress::Retrying { .. }))
        );
    }
    let resumed = ranges.log.lock().unwrap();
    assert!(resumed.iter().any(|asked| {
        asked
            .headers
            .get("range")
            .is_some_and(|range| range == "bytes=90000-")
    }));
    drop(resumed);
    let error = refused(&Home::new(), &format!("{}/a/b:1", lying.address));
    assert!(error.to_string().contains("another range"), "{error}");
}

#[test]
fn registries_that_lie_are_refused() {
    let image = image();
    let layer = digest_of(&image.layers[2].bytes).to_string();
    let home = Home::new();
    type Change = Box<dyn Fn(&crate::registry::Asked, Answer) -> Answer + Send + Sync>;
    let wanted = layer.clone();
    let cases: Vec<(&str, Change)> = vec![
        ("does not match its digest", {
            let wanted = wanted.clone();
            Box::new(move |asked, mut answer| {
                if asked.path.ends_with(&wanted) {
                    answer.body[1000] ^= 1;
                }
                answer
            })
        }),
        ("wrong size", {
            let wanted = wanted.clone();
            Box::new(move |asked, mut answer| {
                if asked.path.ends_with(&wanted) {
                    answer.body.extend([0; 100]);
                }
                answer
            })
        }),
        (
            "more than 8 redirects",
            Box::new(|asked, answer| {
                if asked.path.contains("/blobs/") {
                    return Answer::status(302).header("Location", &asked.path);
                }
                answer
            }),
        ),
        (
            "exceeds the limit",
            Box::new(|asked, mut answer| {
                if asked.path.contains("/manifests/") {
                    answer.body = vec![b' '; (5 << 20) + 1];
                }
                answer
            }),
        ),
        (
            "schema 1",
            Box::new(|asked, answer| {
                if asked.path.contains("/manifests/") {
                    return Answer::ok(br#"{"schemaVersion":1,"name":"a/b","fsLayers":[]}"#)
                        .header("Content-Type", media::DOCKER_SCHEMA1_SIGNED);
                }
                answer
            }),
        ),
        (
            "parse manifest",
            Box::new(|asked, answer| {
                if asked.path.contains("/manifests/") {
                    return Answer::ok(b"<html>").header("Content-Type", "text/html");
                }
                answer
            }),
        ),
        (
            "does not match its digest",
            Box::new(|asked, answer| {
                if asked.path.contains("/manifests/") {
                    return answer
                        .header("Docker-Content-Digest", &digest_of(b"other").to_string());
                }
                answer
            }),
        ),
        (
            "status 418",
            Box::new(|asked, answer| {
                if asked.path.contains("/blobs/") {
                    return Answer::status(418);
                }
                answer
            }),
        ),
    ];
    for (expected, change) in cases {
        let registry = Fake::image(&image, change);
        let error = refused(&home, &format!("{}/a/b:1", registry.address));
        assert!(
            chain(&error).contains(expected),
            "expected {expected:?}: {}",
            chain(&error)
        );
    }
}

#[test]
fn passing_failures_are_tried_again() {
    let image = image();
    let registry = Fake::image(&image, |asked, answer| match asked.earlier {
        0 => Answer::status(503).header("Retry-After", "0"),
        1 => Answer::status(429).header("Retry-After", "0"),
        _ => answer,
    });
    let home = Home::new();
    pull(&home, request(&format!("{}/a/b:1", registry.address)))
        .map_err(|error| panic!("{}", chain(&error)))
        .unwrap();
    let down = refused(&Home::new(), "127.0.0.1:1/a/b:1");
    assert_eq!(down.kind(), ErrorKind::Unavailable);
}

#[test]
fn a_pull_that_nobody_waits_for_ends_and_leaves_nothing() {
    let image = image();
    let registry = Fake::image(&image, |asked, mut answer| {
        answer.slow = asked.path.contains("/blobs/");
        answer
    });
    let home = Home::new();
    let name = format!("{}/a/b:1", registry.address);
    runtime().block_on(async {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let sender = Mutex::new(Some(sender));
        let sink: ProgressSink = Arc::new(move |progress| {
            if matches!(progress, Progress::Downloading { .. })
                && let Some(sender) = sender.lock().unwrap().take()
            {
                let _ = sender.send(());
            }
        });
        tokio::select! {
            outcome = home.store.pull(request(&name), sink) => panic!("it ended by itself: {outcome:?}"),
            _ = receiver => {}
        }
        // The worker notices at its next piece; the store is clean when it has.
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while !home.leftovers().is_empty() {
            assert!(std::time::Instant::now() < deadline, "{:?}", home.leftovers());
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    });
}
