//! The store looked after: damage is found and mended, what is measured is what `du` says, nothing that is used goes.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use berth_image::{
    CheckReport, CheckRequest, ImageUse, ListRequest, Meter, Outcome, Part, RemoveRequest,
    digest_of,
};
use berth_types::{ContainerId, Digest};

use crate::pull::{image, pull, request, runtime};
use crate::registry::Fake;
use crate::support::{Home, Layer, Made, Tar};

fn check(home: &Home, request: CheckRequest) -> CheckReport {
    let checked = home.store.check(
        request,
        berth_image::KnownCredentials::default(),
        Vec::new,
        berth_image::progress::silent(),
    );
    runtime().block_on(checked).unwrap().0
}

const DEEP: CheckRequest = CheckRequest {
    deep: true,
    repair: false,
    remove: false,
};
const REPAIR: CheckRequest = CheckRequest {
    repair: true,
    ..DEEP
};

fn problems(report: &CheckReport) -> Vec<(Part, String)> {
    report
        .findings
        .iter()
        .map(|finding| (finding.part, finding.problem.clone()))
        .collect()
}

fn blob(home: &Home, digest: &Digest) -> PathBuf {
    home.store.blobs().path(digest)
}

fn layer_directory(home: &Home, chain: &Digest) -> PathBuf {
    let record = home.store.layers().get(chain).unwrap();
    home.directory
        .path()
        .join("layers/overlay")
        .join(record.directory)
}

/// As a disk does it: no time tells of it.
fn flip_a_byte(path: &Path) {
    let changed = std::fs::metadata(path).unwrap().modified().unwrap();
    let mut bytes = std::fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(path, bytes).unwrap();
    let file = std::fs::File::options().write(true).open(path).unwrap();
    file.set_modified(changed).unwrap();
}

/// Of everything that a layer can have.
fn varied() -> Made {
    let mut base = Tar::default();
    base.dir("etc/", 0o755)
        .file("etc/passwd", b"root")
        .hard("etc/other", "etc/passwd")
        .symlink("etc/link", "passwd")
        .pax(&[("SCHILY.xattr.user.note", b"kept")])
        .file("noted", b"x")
        .file("implied/deep/file", b"y");
    let mut top = Tar::default();
    top.file("etc/.wh.other", b"")
        .dir("implied/", 0o700)
        .file("implied/.wh..wh..opq", b"")
        .file("implied/new", b"z");
    Made::new(&[Layer::gzip(base.end()), Layer::zstd(top.end())])
}

#[test]
fn a_sound_store_is_found_sound() {
    let home = Home::new();
    let varied = varied();
    home.load(&varied.layout("docker.io/test/varied:1"))
        .unwrap();
    home.load(&image().layout("docker.io/test/plain:1"))
        .unwrap();
    let report = check(&home, DEEP);
    assert_eq!(problems(&report), []);
    assert!(report.is_sound());
    assert_eq!((report.images, report.names), (2, 2));
    assert_eq!((report.layers, report.compared), (7, 7));
    assert_eq!(report.contents, 7 + 2 * 2);
    // What the check unpacked is gone.
    home.store.wait_for_trash();
    let staging = home.directory.path().join("layers/overlay/staging");
    assert_eq!(std::fs::read_dir(staging).unwrap().count(), 0);
}

#[test]
fn damage_is_found_and_mended_from_where_it_came() {
    let image = image();
    let registry = Fake::image(&image, |_, answer| answer);
    let home = Home::new();
    let name = format!("{}/a/b:1", registry.address);
    pull(&home, request(&name)).unwrap();
    let before = home.tree(&image.id());
    let diff_ids: Vec<Digest> = image.layers.iter().map(|layer| layer.diff_id).collect();
    let chain = berth_image::documents::chain_ids(&diff_ids);
    let archive = |number: usize| digest_of(&image.layers[number].bytes);

    flip_a_byte(&blob(&home, &archive(0)));
    std::fs::remove_file(blob(&home, &archive(1))).unwrap();
    std::fs::remove_file(blob(&home, &digest_of(&image.manifest))).unwrap();
    flip_a_byte(&blob(&home, &image.id()));
    std::fs::remove_dir_all(layer_directory(&home, &chain[3])).unwrap();
    flip_a_byte(&layer_directory(&home, &chain[2]).join("d/f2"));

    let report = check(&home, CheckRequest::default());
    assert!(!report.is_sound());
    let count = |part: Part| {
        problems(&report)
            .iter()
            .filter(|found| found.0 == part)
            .count()
    };
    assert_eq!(
        (count(Part::Content), count(Part::Layer)),
        (4, 1),
        "{report:?}"
    );
    assert!(
        report
            .findings
            .iter()
            .all(|found| found.images == [name.clone()] && found.outcome == Outcome::Found)
    );
    // Only a comparison with the archive sees a changed file.
    let report = check(&home, DEEP);
    assert!(
        problems(&report)
            .iter()
            .any(|(part, problem)| *part == Part::Layer
                && problem.contains("d/f2: its content differs")),
        "{report:?}"
    );
    let report = check(&home, REPAIR);
    assert!(report.is_sound(), "{report:?}");
    assert_eq!(report.findings.len(), 6, "{report:?}");
    let report = check(&home, DEEP);
    assert_eq!(problems(&report), []);
    assert_eq!(home.tree(&image.id()), before);
    // So it is after the next start.
    let home = home.reopen();
    assert_eq!(problems(&check(&home, DEEP)), []);
    assert_eq!(home.tree(&image.id()), before);
}

#[test]
fn what_cannot_be_mended_goes_only_when_that_is_asked() {
    let home = Home::new();
    let (varied, plain) = (varied(), image());
    home.load(&varied.layout("docker.io/test/varied:1"))
        .unwrap();
    home.load(&plain.layout("docker.io/test/plain:1")).unwrap();
    flip_a_byte(&blob(&home, &varied.id()));
    let report = check(&home, REPAIR);
    assert!(!report.is_sound());
    let [finding] = report.findings.as_slice() else {
        panic!("{report:?}")
    };
    assert_eq!(finding.images, ["test/varied:1"]);
    assert!(
        matches!(&finding.outcome, Outcome::Unrepaired(why) if why.contains("no registry")),
        "{finding:?}"
    );
    assert!(home.store.resolve("test/varied:1").is_ok());
    let remove = CheckRequest {
        remove: true,
        ..REPAIR
    };
    let held = ImageUse {
        container: "c".repeat(64),
        image: varied.id(),
        running: false,
    };
    let checked = home.store.check(
        remove,
        berth_image::KnownCredentials::default(),
        move || vec![held.clone()],
        berth_image::progress::silent(),
    );
    let (report, removals) = runtime().block_on(checked).unwrap();
    assert!(removals.is_empty());
    assert!(
        matches!(&report.findings[0].outcome, Outcome::Unrepaired(why) if why.contains("cccccccccccc")),
        "{report:?}"
    );
    let report = check(&home, remove);
    assert!(report.is_sound());
    assert_eq!(report.findings[0].outcome, Outcome::Removed);
    assert!(home.store.resolve("test/varied:1").is_err());
    assert!(home.store.resolve("test/plain:1").is_ok());
    assert_eq!(problems(&check(&home, DEEP)), []);
}

#[test]
fn a_registry_that_lies_mends_nothing() {
    let image = image();
    let lies = Arc::new(AtomicBool::new(false));
    let told = lies.clone();
    let registry = Fake::image(&image, move |_, mut answer| {
        if told.load(Ordering::Relaxed) {
            answer.body[100] ^= 1;
        }
        answer
    });
    let home = Home::new();
    pull(&home, request(&format!("{}/a/b:1", registry.address))).unwrap();
    let archive = digest_of(&image.layers[0].bytes);
    lies.store(true, Ordering::Relaxed);
    std::fs::remove_file(blob(&home, &archive)).unwrap();
    let report = check(&home, REPAIR);
    assert!(
        matches!(&report.findings[0].outcome, Outcome::Unrepaired(why) if why.contains("does not match its digest")),
        "{report:?}"
    );
    assert!(!home.store.blobs().contains(&archive));
}

/// Bytes of a directory, as `du` counts them.
fn du(path: &Path) -> u64 {
    let output = Command::new("du")
        .args(["-sx", "-B1"])
        .arg(path)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.split_whitespace().next().unwrap().parse().unwrap()
}

#[test]
fn what_is_measured_is_what_du_says() {
    let home = Home::new();
    let varied = varied();
    home.load(&varied.layout("docker.io/test/varied:1"))
        .unwrap();
    home.load(&image().layout("docker.io/test/plain:1"))
        .unwrap();
    let id = ContainerId::parse(&"ab".repeat(32)).unwrap();
    let overlay = home.store.prepare_rootfs(&id, &varied.id()).unwrap();
    let upper = overlay.upper.unwrap();
    // Holes, several names, depth beyond what one path can name.
    let sparse = std::fs::File::create(upper.join("sparse")).unwrap();
    sparse.set_len(1 << 30).unwrap();
    std::os::unix::fs::FileExt::write_at(&sparse, &[1; 5000], 500 << 20).unwrap();
    std::fs::write(upper.join("one"), vec![7; 100_000]).unwrap();
    std::fs::hard_link(upper.join("one"), upper.join("two")).unwrap();
    std::fs::hard_link(upper.join("one"), home.directory.path().join("three")).unwrap();
    let script =
        "for i in $(seq 600); do mkdir -p 0123456789 && cd -P 0123456789 && echo x > f; done";
    let deep = Command::new("sh")
        .args(["-c", script])
        .current_dir(&upper)
        .status()
        .unwrap();
    assert!(deep.success());
    home.store.wait_for_trash();
    rustix::fs::sync();
    let mut meter = Meter::default();
    let usage = home.store.usage(&mut meter).unwrap();
    let rest = meter.level(home.directory.path()).unwrap();
    let containers: u64 = usage.containers.values().sum();
    assert!(containers > 600 * 8192, "{containers}");
    assert_eq!(
        usage.images() + containers + rest,
        du(home.directory.path())
    );
    // Nothing of these two images is shared, and together they are what images occupy.
    let images = home.store.image_usages(&usage).unwrap();
    let own: u64 = images.values().map(|image| image.size - image.shared).sum();
    assert_eq!(own, home.store.needed_bytes(&usage).unwrap());
    assert_eq!(own + usage.other, usage.images());
}

#[test]
fn containers_keep_what_they_are_made_of() {
    let home = Home::new();
    let varied = varied();
    let id = varied.id();
    home.load(&varied.layout("docker.io/test/varied:1"))
        .unwrap();
    let tree = home.tree(&id);
    let stopped = ImageUse {
        container: "c".repeat(64),
        image: id,
        running: false,
    };
    let force = RemoveRequest {
        force: true,
        no_prune: false,
    };
    home.store
        .remove(&id.to_string(), force, std::slice::from_ref(&stopped))
        .unwrap();
    let all = ListRequest {
        all: true,
        ..ListRequest::default()
    };
    assert!(home.store.list(&all).unwrap().is_empty());
    for text in ["test/varied:1", &id.to_string(), &id.short()] {
        assert!(home.store.resolve(text).is_err(), "{text}");
    }
    // Its container can be started, also by the next engine.
    assert_eq!(home.tree(&id), tree);
    let home = home.reopen();
    assert!(home.store.has_retired());
    home.store.let_go(|image| *image == id).unwrap();
    assert_eq!(home.tree(&id), tree);
    // Loaded again it is an image like others.
    home.load(&varied.layout("docker.io/test/again:1")).unwrap();
    assert!(!home.store.has_retired());
    home.store.remove("test/again:1", force, &[]).unwrap();
    assert_eq!(home.leftovers(), Vec::<String>::new());

    home.load(&varied.layout("docker.io/test/varied:1"))
        .unwrap();
    home.store
        .remove(&id.to_string(), force, &[stopped])
        .unwrap();
    home.store.let_go(|_| false).unwrap();
    assert!(!home.store.has_retired());
    assert_eq!(home.leftovers(), Vec::<String>::new());
}

#[test]
fn an_image_that_a_container_is_being_made_from_stays() {
    let home = Home::new();
    let varied = varied();
    home.load(&varied.layout("docker.io/test/varied:1"))
        .unwrap();
    let (found, lease) = home.store.take("test/varied:1").unwrap();
    let force = RemoveRequest {
        force: true,
        no_prune: false,
    };
    let refused = home
        .store
        .remove(&found.id.to_string(), force, &[])
        .unwrap_err();
    assert!(
        refused.to_string().contains("is being made from the image"),
        "{refused}"
    );
    let used = home.store.last_used(&found.record);
    assert!(used > found.record.stored);
    home.store.save_uses().unwrap();
    drop(lease);
    let home = home.reopen();
    let record = home.store.resolve("test/varied:1").unwrap().record;
    assert_eq!(home.store.last_used(&record), used);
    home.store
        .remove(&found.id.to_string(), force, &[])
        .unwrap();
}

#[test]
fn removing_one_of_thousands_is_cheap() {
    // Images that differ in their configuration alone, so that making them costs little.
    let home = Home::new();
    let one = |number: u32| {
        Made::for_platform(
            &[],
            "amd64",
            serde_json::json!({"Env": [format!("N={number}")]}),
        )
    };
    let count = 400;
    let mut blobs = std::collections::BTreeMap::new();
    let manifests: Vec<serde_json::Value> = (0..count)
        .map(|number| {
            let made = one(number);
            let mut entry = crate::support::descriptor(
                berth_image::documents::media::OCI_MANIFEST,
                &made.manifest,
            );
            entry["annotations"] = serde_json::json!({
                "io.containerd.image.name": format!("docker.io/test/n{number}:1"),
            });
            blobs.extend(made.blobs);
            entry
        })
        .collect();
    let index = serde_json::json!({"schemaVersion": 2, "manifests": manifests});
    home.load(&crate::support::layout(&index, &blobs)).unwrap();
    let remove = |range: std::ops::Range<u32>| {
        let started = std::time::Instant::now();
        for number in range {
            let name = format!("test/n{number}:1");
            home.store
                .remove(&name, RemoveRequest::default(), &[])
                .unwrap();
        }
        started.elapsed()
    };
    // The first ones, with hundreds beside them, cost what the last ones cost.
    let (first, _, last) = (remove(0..40), remove(40..360), remove(360..400));
    assert!(
        first < last * 4 + std::time::Duration::from_millis(200),
        "{first:?} {last:?}"
    );
    assert_eq!(home.leftovers(), Vec::<String>::new());
}
