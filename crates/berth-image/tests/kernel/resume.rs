//! Downloads that end early go on where they ended, and those that are slow get help.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use berth_image::{Progress, ProgressSink, RegistrySettings, Settings, digest_of};

use crate::pull::{noise, pull, refused, request};
use crate::registry::{Answer, Asked, Fake};
use crate::support::{Home, Layer, Made, Tar, chain};

const MIB: usize = 1 << 20;

/// One layer of about this size, which no compression makes smaller.
fn image(length: usize) -> Made {
    let mut tar = Tar::default();
    tar.dir("d/", 0o755);
    tar.file("d/first", &noise(length / 2, 1));
    tar.file("d/second", &noise(length / 2, 2));
    Made::new(&[Layer::plain(tar.end())])
}

fn is_layer(image: &Made, asked: &Asked) -> bool {
    asked
        .path
        .ends_with(&digest_of(&image.layers[0].bytes).to_string())
}

fn impatient() -> Home {
    Home::with(Settings {
        registries: RegistrySettings {
            download_attempts: 1,
            stall_timeout: Duration::from_millis(300),
            ..RegistrySettings::default()
        },
        ..Settings::default()
    })
}

fn partials(home: &Home) -> usize {
    std::fs::read_dir(home.directory.path().join("blobs/partial"))
        .unwrap()
        .count()
}

/// Bytes of the layer that were asked for, by the first byte of each request.
fn asked_from(registry: &Fake, image: &Made) -> Vec<u64> {
    let log = registry.log.lock().unwrap();
    log.iter()
        .filter(|asked| is_layer(image, asked))
        .map(|asked| {
            asked.headers.get("range").map_or(0, |range| {
                let range = range.strip_prefix("bytes=").unwrap();
                range.split('-').next().unwrap().parse().unwrap()
            })
        })
        .collect()
}

#[test]
fn an_interrupted_pull_goes_on_where_it_ended() {
    let image = image(6 * MIB);
    let whole = image.layers[0].bytes.len();
    let cut = Arc::new(Mutex::new(Some(4 * MIB + 1000)));
    let limit = cut.clone();
    let wanted = image.clone();
    let registry = Fake::image(&image, move |asked, mut answer| {
        if is_layer(&wanted, asked) {
            answer.cut = *limit.lock().unwrap();
        }
        answer
    });
    let name = format!("{}/a/b:1", registry.address);
    let home = impatient();
    let error = pull(&home, request(&name)).unwrap_err();
    assert!(
        chain(&error).contains("download layer"),
        "{}",
        chain(&error)
    );
    assert_eq!(partials(&home), 2, "the bytes and their marks");
    // By another process, too.
    let home = home.reopen();
    *cut.lock().unwrap() = None;
    let (pulled, seen) = pull(&home, request(&name))
        .map_err(|error| panic!("{}", chain(&error)))
        .unwrap();
    let from = asked_from(&registry, &image);
    assert_eq!(from.len(), 2);
    assert!(
        (3 * MIB as u64..=4 * MIB as u64 + 1000).contains(&from[1]),
        "{from:?} of {whole}"
    );
    let first = seen.iter().find_map(|progress| match progress {
        Progress::Downloading { current, .. } => Some(*current),
        _ => None,
    });
    assert!(first.unwrap() >= from[1], "progress goes on as well");
    assert_eq!(partials(&home), 0);
    let tree = home.tree(&pulled.id);
    assert!(tree["/d/second"].contains(&digest_of(&noise(3 * MIB, 2)).short()));
}

#[test]
fn what_was_kept_is_not_believed() {
    let image = image(4 * MIB);
    let broken = Arc::new(AtomicUsize::new(0));
    let (wanted, state) = (image.clone(), broken.clone());
    // First it breaks after wrong bytes, then all is right.
    let registry = Fake::image(&image, move |asked, mut answer| {
        if is_layer(&wanted, asked) && state.fetch_add(1, Ordering::SeqCst) == 0 {
            answer.body[5000] ^= 1;
            answer.cut = Some(3 * MIB);
        }
        answer
    });
    let name = format!("{}/a/b:1", registry.address);
    let home = impatient();
    pull(&home, request(&name)).unwrap_err();
    assert_eq!(partials(&home), 2);
    let (pulled, _) = pull(&home, request(&name))
        .map_err(|error| panic!("{}", chain(&error)))
        .unwrap();
    assert_eq!(pulled.id, image.id());
    let from = asked_from(&registry, &image);
    assert!(from.len() == 3 && from[1] > 0 && from[2] == 0, "{from:?}");
    assert_eq!(partials(&home), 0);
}

#[test]
fn a_connection_that_says_nothing_is_taken_up_again() {
    let image = image(2 * MIB);
    let wanted = image.clone();
    let registry = Fake::image(&image, move |asked, mut answer| {
        if is_layer(&wanted, asked) && asked.earlier == 0 {
            answer.stall = Some(MIB);
        }
        answer
    });
    let home = Home::with(Settings {
        registries: RegistrySettings {
            stall_timeout: Duration::from_millis(300),
            ..RegistrySettings::default()
        },
        ..Settings::default()
    });
    let (pulled, seen) = pull(&home, request(&format!("{}/a/b:1", registry.address)))
        .map_err(|error| panic!("{}", chain(&error)))
        .unwrap();
    assert_eq!(pulled.id, image.id());
    assert!(
        seen.iter()
            .any(|progress| matches!(progress, Progress::Retrying { .. }))
    );
    assert_eq!(asked_from(&registry, &image), [0, MIB as u64]);
    // One that always stops is given up.
    let wanted = image.clone();
    let registry = Fake::image(&image, move |asked, mut answer| {
        if is_layer(&wanted, asked) {
            answer.stall = Some(0);
        }
        answer
    });
    let error = refused(&impatient(), &format!("{}/a/b:1", registry.address));
    assert!(chain(&error).contains("no data for"), "{}", chain(&error));
}

#[test]
fn who_gives_next_to_nothing_is_given_up() {
    let image = image(2 * MIB);
    let impatient = |stall: u64, attempts| {
        Home::with(Settings {
            registries: RegistrySettings {
                download_attempts: attempts,
                stall_timeout: Duration::from_millis(stall),
                ..RegistrySettings::default()
            },
            ..Settings::default()
        })
    };
    // Never silent for long, and never done.
    let wanted = image.clone();
    let registry = Fake::image(&image, move |asked, mut answer| {
        answer.rate = is_layer(&wanted, asked).then_some(20 << 10);
        answer.piece = 64;
        answer
    });
    let error = refused(&impatient(200, 1), &format!("{}/a/b:1", registry.address));
    assert!(chain(&error).contains("no more than"), "{}", chain(&error));
    // As slow, and honest: its pieces are large enough.
    let wanted = image.clone();
    let registry = Fake::image(&image, move |asked, mut answer| {
        answer.rate = is_layer(&wanted, asked).then_some(2 * MIB);
        answer
    });
    pull(
        &impatient(200, 1),
        request(&format!("{}/a/b:1", registry.address)),
    )
    .map_err(|error| panic!("{}", chain(&error)))
    .unwrap();
    // A byte for each request: what came does not count as progress for ever.
    let wanted = image.clone();
    let registry = Fake::image(&image, move |asked, mut answer| {
        if is_layer(&wanted, asked) {
            answer.cut = Some(1);
        }
        answer
    });
    let error = refused(&impatient(3000, 3), &format!("{}/a/b:1", registry.address));
    assert!(
        chain(&error).contains("download layer"),
        "{}",
        chain(&error)
    );
    assert_eq!(asked_from(&registry, &image).len(), 3);
}

/// A registry that gives every connection the same small share, so that more of them bring more.
fn slow(image: &Made, change: impl Fn(&Asked, Answer) -> Answer + Send + Sync + 'static) -> Fake {
    let wanted = image.clone();
    Fake::image(image, move |asked, mut answer| {
        if is_layer(&wanted, asked) {
            answer = answer.header("Accept-Ranges", "bytes");
            answer.rate = Some(12 * MIB);
        }
        change(asked, answer)
    })
}

#[test]
fn a_slow_network_is_asked_over_several_connections() {
    let image = image(44 * MIB);
    let registry = slow(&image, |_, answer| answer);
    let home = Home::new();
    let (pulled, _) = pull(&home, request(&format!("{}/a/b:1", registry.address)))
        .map_err(|error| panic!("{}", chain(&error)))
        .unwrap();
    assert_eq!(pulled.id, image.id());
    let from = asked_from(&registry, &image);
    assert!(from.len() > 2, "{from:?}");
    assert_eq!(partials(&home), 0);
    // Nothing is asked for twice, and all but the last request name both of their ends.
    let log = registry.log.lock().unwrap();
    let mut ranges: Vec<(u64, Option<u64>)> = log
        .iter()
        .filter(|asked| is_layer(&image, asked))
        .filter_map(|asked| {
            let (first, last) = asked
                .headers
                .get("range")?
                .strip_prefix("bytes=")?
                .split_once('-')?;
            Some((first.parse().unwrap(), last.parse().ok()))
        })
        .collect();
    ranges.sort_unstable();
    for pair in ranges.windows(2) {
        assert_eq!(pair[0].1, Some(pair[1].0 - 1), "{ranges:?}");
    }
}

#[test]
fn further_connections_are_as_little_believed() {
    type Change = Box<dyn Fn(&Asked, Answer) -> Answer + Send + Sync>;
    let image = image(44 * MIB);
    let content = image.layers[0].bytes.clone();
    let cases: Vec<(&str, Change)> = vec![
        // Another range, with and without saying so; more than was asked for; the whole.
        (
            "another range",
            Box::new(|asked, mut answer| {
                if asked.headers.contains_key("range") {
                    for (name, value) in &mut answer.headers {
                        if name == "Content-Range" {
                            *value = value.replacen("bytes ", "bytes 1", 1);
                        }
                    }
                }
                answer
            }),
        ),
        (
            "does not match its digest",
            Box::new(|asked, mut answer| {
                if asked.headers.contains_key("range") {
                    answer.body.reverse();
                }
                answer
            }),
        ),
        (
            "wrong size",
            Box::new(|asked, mut answer| {
                if asked.headers.contains_key("range") {
                    answer.body.extend([0; 10]);
                }
                answer
            }),
        ),
        (
            "",
            Box::new(move |asked, answer| {
                if asked.headers.contains_key("range") {
                    return Answer::ok(&content);
                }
                answer
            }),
        ),
    ];
    for (expected, change) in cases {
        let registry = slow(&image, change);
        let home = Home::new();
        let name = format!("{}/a/b:1", registry.address);
        if expected.is_empty() {
            let (pulled, _) = pull(&home, request(&name))
                .map_err(|error| panic!("{}", chain(&error)))
                .unwrap();
            assert_eq!(pulled.id, image.id());
        } else {
            let error = refused(&home, &name);
            assert!(
                chain(&error).contains(expected),
                "{expected}: {}",
                chain(&error)
            );
        }
    }
}

#[test]
fn a_pull_that_nobody_waits_for_leaves_what_came() {
    let image = image(6 * MIB);
    let wanted = image.clone();
    let registry = Fake::image(&image, move |asked, mut answer| {
        answer.rate = is_layer(&wanted, asked).then_some(12 * MIB);
        answer
    });
    let name = format!("{}/a/b:1", registry.address);
    let home = Home::new();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let sender = Mutex::new(Some(sender));
        let sink: ProgressSink = Arc::new(move |progress| {
            if matches!(progress, Progress::Downloading { current, .. } if current > 3 * MIB as u64)
                && let Some(sender) = sender.lock().unwrap().take()
            {
                let _ = sender.send(());
            }
        });
        tokio::select! {
            outcome = home.store.pull(request(&name), sink) => panic!("it ended by itself: {outcome:?}"),
            _ = receiver => {}
        }
    });
    // The next one waits for its turn, and finds what the first one left.
    let (pulled, _) = pull(&home, request(&name))
        .map_err(|error| panic!("{}", chain(&error)))
        .unwrap();
    assert_eq!(pulled.id, image.id());
    let from = asked_from(&registry, &image);
    assert!(from.len() == 2 && from[1] >= 2 * MIB as u64, "{from:?}");
}
