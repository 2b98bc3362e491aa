//! What other programs read of what we save and push, and we of theirs: nothing differs in names, modes, owners, times,
//! attributes and content.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use berth_image::PushRequest;
use berth_image::progress::silent;
use berth_types::Digest;

use crate::assemble::{base, changed, commit, saved};
use crate::pull::{pull, request, runtime};
use crate::registry::Distribution;
use crate::support::{Home, Layer, Made, Tar, chain, tree};

/// Runs a program with words split at blanks; its standard output.
pub(crate) fn run(words: &str) -> String {
    let mut words = words.split_whitespace();
    let program = words.next().unwrap();
    let output = Command::new(program)
        .args(words)
        .output()
        .unwrap_or_else(|error| panic!("{program} is installed: {error}"));
    assert!(output.status.success(), "{program}: {output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Tools with storage of their own that holds what they pull for as long as this lives.
pub(crate) struct Tools {
    work: tempfile::TempDir,
}

impl Tools {
    pub(crate) fn new() -> Self {
        Self {
            work: tempfile::Builder::new()
                .prefix("bt-interop-")
                .tempdir()
                .unwrap(),
        }
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.work.path().join(name).display().to_string()
    }

    /// `podman` or `buildah` with plain directories for layers.
    fn storage(&self, program: &str) -> String {
        format!(
            "{program} --root {} --runroot {} --storage-driver vfs",
            self.path("storage"),
            self.path("run")
        )
    }
}

/// Everything but the root, whose time belongs to whoever mounts it.
pub(crate) fn below(mut tree: BTreeMap<String, String>) -> BTreeMap<String, String> {
    tree.remove("/");
    tree
}

#[track_caller]
pub(crate) fn assert_same(ours: &BTreeMap<String, String>, theirs: &BTreeMap<String, String>) {
    for (path, text) in theirs {
        assert_eq!(ours.get(path), Some(text), "{path}");
    }
    for path in ours.keys() {
        assert!(theirs.contains_key(path), "{path} is missing");
    }
}

/// An image with everything in it that archives have trouble with.
fn image() -> (Home, Digest) {
    let (home, made) = (Home::new(), base());
    home.load(&made.layout("docker.io/test/base:1")).unwrap();
    let (id, _) = changed(&home, &made.id());
    let image = commit(&home, &id, &made.id(), "test/made:1");
    home.store.remove_rootfs(&id).unwrap();
    (home, image)
}

#[test]
fn other_programs_read_what_is_saved() {
    let (home, image) = image();
    let ours = below(home.tree(&image));
    let tools = Tools::new();
    let file = tools.path("made.tar");
    std::fs::write(&file, saved(&home, &["test/made:1"])).unwrap();

    // As an OCI layout: umoci unpacks it, skopeo reads it.
    let layout = tools.path("layout");
    std::fs::create_dir(&layout).unwrap();
    run(&format!("tar -C {layout} -xf {file}"));
    let bundle = tools.path("bundle");
    run(&format!("umoci unpack --image {layout}:1 {bundle}"));
    assert_same(&ours, &below(tree(&Path::new(&bundle).join("rootfs"))));
    let raw = run(&format!("skopeo inspect --raw oci-archive:{file}:1"));
    assert!(raw.contains(&image.to_string()), "{raw}");

    // As Docker's archive.
    for source in ["docker-archive", "oci-archive"] {
        let id = run(&format!(
            "{} pull -q {source}:{file}",
            tools.storage("buildah")
        ));
        assert!(id.ends_with(&image.hex()), "{source}: {id}");
    }
    let container = run(&format!(
        "{} from --pull-never {}",
        tools.storage("buildah"),
        image.hex()
    ));
    let mounted = run(&format!("{} mount {container}", tools.storage("buildah")));
    assert_same(&ours, &below(tree(Path::new(&mounted))));
    run(&format!("{} rm {container}", tools.storage("buildah")));
    let told = run(&format!("{} load -q -i {file}", tools.storage("podman")));
    assert!(told.contains("test/made:1"), "{told}");
    let mounted = run(&format!(
        "{} image mount {}",
        tools.storage("podman"),
        image.hex()
    ));
    assert_same(&ours, &below(tree(Path::new(&mounted))));
    run(&format!("{} image umount -a", tools.storage("podman")));

    // And back again, in every form in which they write it.
    for (program, words) in [
        ("podman", "save -q --format oci-archive -o"),
        ("podman", "save -q --format docker-archive -o"),
    ] {
        let back = tools.path("back.tar");
        drop(std::fs::remove_file(&back));
        run(&format!(
            "{} {words} {back} test/made:1",
            tools.storage(program)
        ));
        let other = Home::new();
        // What it calls the image is its own affair.
        let loaded = other.load(&std::fs::read(&back).unwrap()).unwrap();
        let id = loaded[0].id;
        assert_same(&ours, &below(other.tree(&id)));
    }
    run(&format!("{} rmi -a -f", tools.storage("podman")));
}

#[test]
fn what_other_programs_make_is_read() {
    let (home, image) = image();
    let ours = below(home.tree(&image));
    let tools = Tools::new();
    let file = tools.path("made.tar");
    std::fs::write(&file, saved(&home, &["test/made:1"])).unwrap();
    for (format, target) in [
        ("zstd", "oci-archive"),
        ("zstd:chunked", "oci-archive"),
        ("gzip", "oci-archive"),
    ] {
        let written = tools.path(&format!("{}.tar", format.replace(':', "-")));
        let copied = Command::new("skopeo")
            .args([
                "copy",
                "--insecure-policy",
                "--dest-compress",
                "--dest-compress-format",
                format,
            ])
            .arg(format!("oci-archive:{file}:1"))
            .arg(format!("{target}:{written}:test/made:2"))
            .output()
            .expect("skopeo is installed");
        assert!(copied.status.success(), "{format}: {copied:?}");
        let other = Home::new();
        other.load(&std::fs::read(&written).unwrap()).unwrap();
        let found = other.store.resolve("test/made:2").unwrap();
        assert_eq!(found.id, image, "{format}");
        assert_same(&ours, &below(other.tree(&image)));
        // What came compressed leaves as it is, and is still what it was.
        let again = Home::new();
        again.load(&saved(&other, &["test/made:2"])).unwrap();
        let back = again.store.resolve("test/made:2").unwrap();
        assert_eq!(back.record.manifest.digest, found.record.manifest.digest);
    }
    // umoci makes a layer of its own on top.
    let layout = tools.path("layout");
    std::fs::create_dir(&layout).unwrap();
    run(&format!("tar -C {layout} -xf {file}"));
    let bundle = tools.path("bundle");
    run(&format!("umoci unpack --image {layout}:1 {bundle}"));
    let rootfs = Path::new(&bundle).join("rootfs");
    std::fs::write(rootfs.join("added"), "by umoci").unwrap();
    std::fs::remove_file(rootfs.join("etc/passwd")).unwrap();
    run(&format!("umoci repack --image {layout}:next {bundle}"));
    let packed = tools.path("next.tar");
    run(&format!(
        "skopeo copy --insecure-policy oci:{layout}:next oci-archive:{packed}:test/next:1"
    ));
    let other = Home::new();
    other.load(&std::fs::read(&packed).unwrap()).unwrap();
    let id = other.store.resolve("test/next:1").unwrap().id;
    let seen = other.tree(&id);
    assert!(seen["/added"].contains("size=8") && !seen.contains_key("/etc/passwd"));
    assert_eq!(seen.len(), below(ours).len() + 1);
    // buildah makes one from nothing.
    let buildah = tools.storage("buildah");
    let container = run(&format!("{buildah} from scratch"));
    run(&format!("{buildah} copy -q {container} {file} /copied"));
    run(&format!("{buildah} config --cmd /copied {container}"));
    run(&format!(
        "{buildah} commit -q --rm {container} test/built:1"
    ));
    let built = tools.path("built.tar");
    run(&format!(
        "{buildah} push -q test/built:1 docker-archive:{built}:test/built:1"
    ));
    other.load(&std::fs::read(&built).unwrap()).unwrap();
    let id = other.store.resolve("test/built:1").unwrap().id;
    assert!(other.tree(&id).contains_key("/copied"));
    run(&format!("{buildah} rmi -a -f"));
}

#[test]
fn many_layers_and_empty_ones_are_saved_and_loaded() {
    let mut layers: Vec<Layer> = (0..127)
        .map(|number| {
            let mut tar = Tar::default();
            tar.file(&format!("file{number}"), number.to_string().as_bytes())
                .file("shared", number.to_string().as_bytes());
            match number % 3 {
                0 => Layer::plain(tar.end()),
                1 => Layer::gzip(tar.end()),
                _ => Layer::zstd(tar.end()),
            }
        })
        .collect();
    // Twice the same nothing: an archive without entries, and no byte at all.
    layers[5] = Layer::gzip(Tar::default().end());
    layers[6] = Layer::gzip(Tar::default().end());
    layers[7] = Layer::plain(Vec::new());
    let made = Made::new(&layers);
    let home = Home::new();
    home.load(&made.layout("docker.io/test/many:1")).unwrap();
    let ours = home.tree(&made.id());
    assert_eq!(ours.len(), 126);
    let archive = saved(&home, &["test/many:1"]);
    let other = Home::new();
    other.load(&archive).unwrap();
    assert_eq!(other.tree(&made.id()), ours);
    let tools = Tools::new();
    let file = tools.path("many.tar");
    std::fs::write(&file, &archive).unwrap();
    let raw = run(&format!(
        "skopeo inspect --config --raw docker-archive:{file}"
    ));
    assert_eq!(raw.matches("sha256:").count(), 127);
}

#[test]
fn what_is_pushed_is_the_same_for_other_programs_and_comes_back() {
    let (home, image) = image();
    let ours = below(home.tree(&image));
    let registry = Distribution::start();
    let at = |name: &str| format!("{}/{name}", registry.address);
    home.store.tag("test/made:1", &at("test/made:1")).unwrap();
    let push = PushRequest {
        reference: at("test/made:1").parse().unwrap(),
        all_tags: false,
        platform: None,
        credentials: None,
    };
    runtime().block_on(home.store.push(push, silent())).unwrap();
    let tools = Tools::new();
    let layout = tools.path("layout");
    run(&format!(
        "skopeo copy --insecure-policy --src-tls-verify=false docker://{} oci:{layout}:1",
        at("test/made:1")
    ));
    let bundle = tools.path("bundle");
    run(&format!("umoci unpack --image {layout}:1 {bundle}"));
    assert_same(&ours, &below(tree(&Path::new(&bundle).join("rootfs"))));
    let podman = tools.storage("podman");
    run(&format!(
        "{podman} pull -q --tls-verify=false {}",
        at("test/made:1")
    ));
    let mounted = run(&format!("{podman} image mount {}", image.hex()));
    assert_same(&ours, &below(tree(Path::new(&mounted))));
    run(&format!("{podman} image umount -a"));
    // What they push, in every form in which they do.
    let mut pushed = Vec::new();
    for (number, options) in [
        "--format oci",
        "--format v2s2",
        "--format oci --compression-format zstd",
    ]
    .iter()
    .enumerate()
    {
        let name = at(&format!("test/back:{number}"));
        run(&format!(
            "{podman} push -q --tls-verify=false {options} {} {name}",
            image.hex()
        ));
        pushed.push(name);
    }
    let buildah = tools.storage("buildah");
    let container = run(&format!("{buildah} from --pull-never {}", image.hex()));
    run(&format!(
        "{buildah} commit -q --rm --squash {container} test/squashed:1"
    ));
    let name = at("test/squashed:1");
    run(&format!(
        "{buildah} push -q --tls-verify=false test/squashed:1 {name}"
    ));
    pushed.push(name);
    for name in pushed {
        let other = Home::new();
        let (pulled, _) = pull(&other, request(&name))
            .unwrap_or_else(|error| panic!("{name}: {}", chain(&error)));
        assert_same(&ours, &below(other.tree(&pulled.id)));
    }
    run(&format!("{podman} rmi -a -f"));
}
