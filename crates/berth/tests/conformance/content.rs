//! The content of images and containers: saved, loaded, committed, exported, imported, compared.

use std::fs;

use berth_testkit::archive::{Image, Layer, digest, gzip};
use berth_testkit::registry::Registry;
use berth_testkit::scratch::Scratch;
use berth_testkit::{Command, needs};

use crate::subject::Subject;

/// Lines of a text, sorted.
fn sorted(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

pub(crate) fn images_are_saved_and_loaded(on: &Subject) {
    let other = Image::new(
        "registry.example:5000/team/other:2",
        &["true"],
        vec![
            Layer::new()
                .directory("data/", 0o750)
                .file("data/file", 0o604, "content\n")
                .hard_link("data/again", "data/file")
                .symlink("data/link", "file")
                .finish(),
            Layer::new().file("data/.wh.again", 0o600, "").finish(),
        ],
    );
    on.daemon.load(&other);
    on.cli("tag busybox busybox:further").ok();
    let directory = on.daemon.scratch().path().join("saved");
    fs::create_dir(&directory).expect("a directory");
    let file = directory.join("images.tar");
    let path = file.display();
    // A repository without a tag is all of its tags; contents that both have are written once.
    on.cli(&format!("save -o {path} busybox {}", other.name))
        .ok();
    let again = directory.join("again.tar");
    on.cli(&format!(
        "save -o {} busybox {}",
        again.display(),
        other.name
    ))
    .ok();
    if !on.is_reference() {
        assert!(
            fs::read(&file).expect("an archive") == fs::read(&again).expect("an archive"),
            "the same images give the same bytes"
        );
    }
    let names = |filter: &str| {
        sorted(
            &on.cli(&format!(
                "images --no-trunc --format '{{{{.Repository}}}}:{{{{.Tag}}}} {{{{.ID}}}}' {filter}"
            ))
            .ok()
            .stdout,
        )
    };
    let before = names("");
    on.cli(&format!(
        "rmi busybox:latest busybox:further {}",
        other.name
    ))
    .ok();
    on.cli(&format!("load -q -i {path}"))
        .ok()
        .prints("Loaded image: busybox:latest")
        .prints("Loaded image: busybox:further")
        .prints(&format!("Loaded image: {}", other.name));
    assert_eq!(names(""), before);
    on.run("--rm busybox true").ok();
    // By id: without a name. Through standard input.
    let id = other.id();
    let bytes = on.command(&format!("save {id}")).run().ok().stdout_bytes;
    on.cli(&format!("rmi {}", other.name)).ok();
    on.command("load")
        .stdin(bytes)
        .run()
        .ok()
        .prints(&format!("Loaded image ID: {id}"));

    // What cannot be.
    on.cli("save no-such-image").exits(1).says("no such image");
    on.cli(&format!(
        "save -o {} busybox",
        directory.join("none/x").display()
    ))
    .exits(1)
    .says("failed to save image: invalid output path")
    .says("no such file or directory");
    on.cli("save -o /dev/null busybox")
        .exits(1)
        .says("cannot write to a character device file");
    let left = fs::read_dir(&directory).expect("a directory").count();
    assert_eq!(left, 2, "nothing half written stays");
}

pub(crate) fn containers_become_images(on: &Subject) {
    on.run(
        "--name made -e GIVEN=1 -l own=yes busybox sh -c \
         'mkdir -p /srv/deep; echo kept > /srv/deep/file; ln /srv/deep/file /srv/again; \
          chown 7:8 /srv/again; chmod 4750 /srv/again; rm /etc/group; ln -s deep /srv/link'",
    )
    .ok();
    let changes = on.cli("diff made").ok().stdout;
    assert_eq!(
        sorted(&changes),
        [
            "A /srv",
            "A /srv/again",
            "A /srv/deep",
            "A /srv/deep/file",
            "A /srv/link",
            "C /etc",
            "D /etc/group",
        ]
    );
    let id = on
        .cli(
            "commit -a 'Some One <one@example.org>' -m 'a remark' \
             -c 'ENV ADDED=\"two words\" PATH=$PATH:/srv' -c 'WORKDIR /srv' -c 'LABEL more=1' \
             -c 'EXPOSE 80/tcp' -c 'VOLUME /data' -c 'USER 7' -c 'ENTRYPOINT [\"sh\", \"-c\"]' \
             -c 'CMD [\"cat file\"]' -c 'ONBUILD RUN true' \
             -c 'HEALTHCHECK --interval=7s CMD true' made made:1",
        )
        .ok()
        .text()
        .to_owned();
    assert!(id.starts_with("sha256:"), "{id}");
    let shown = |format: &str| {
        on.cli(&format!("image inspect -f '{format}' made:1"))
            .ok()
            .text()
            .to_owned()
    };
    assert_eq!(shown("{{.Id}}"), id);
    assert_eq!(
        shown("{{.Author}} {{.Comment}}"),
        "Some One <one@example.org> a remark"
    );
    assert_eq!(shown("{{len .RootFS.Layers}}"), "2");
    assert_eq!(shown("{{.Config.User}} {{.Config.WorkingDir}}"), "7 /srv");
    assert_eq!(
        shown("{{json .Config.Entrypoint}} {{json .Config.Cmd}}"),
        r#"["sh","-c"] ["cat file"]"#
    );
    assert_eq!(
        shown("{{json .Config.OnBuild}} {{json .Config.Healthcheck.Interval}}"),
        r#"["RUN true"] 7000000000"#
    );
    assert_eq!(
        shown("{{.Config.Labels.own}}{{.Config.Labels.more}}"),
        "yes1"
    );
    assert_eq!(
        shown("{{json .Config.ExposedPorts}} {{json .Config.Volumes}}"),
        r#"{"80/tcp":{}} {"/data":{}}"#
    );
    let env = shown("{{json .Config.Env}}");
    for variable in ["\"GIVEN=1\"", "\"ADDED=two words\"", ":/bin:/srv\""] {
        assert!(env.contains(variable), "{variable} in {env}");
    }
    on.cli("history --format '{{.Comment}}' made:1")
        .ok()
        .prints("a remark");

    on.run(
        "--rm --entrypoint sh -u 0 made:1 -c \
            'cat deep/file; stat -c %a:%u:%g:%h again; readlink link; ls /etc/group'",
    )
    .says("/etc/group")
    .prints("kept\n4750:7:8:2\ndeep\n");
    // A container that changed nothing adds no layer.
    on.cli("create --network none --name still busybox true")
        .ok();
    on.cli("commit still still:1").ok();
    assert_eq!(
        on.cli("image inspect -f '{{len .RootFS.Layers}}' still:1")
            .ok()
            .text(),
        "1"
    );
    // Of a running one, which runs on; and without a name.
    on.sleeper("going", "");
    let unnamed = on.cli("commit going").ok().text().to_owned();
    on.daemon.wait_for("going", "running");
    on.cli(&format!("image inspect {unnamed}")).ok();
    on.cli("commit -c 'RUN true' going")
        .exits(1)
        .says("run is not a valid change command");
    on.cli("commit nobody").exits(1).says("no such container");
}

pub(crate) fn file_systems_are_exported_and_imported(on: &Subject) {
    on.run("--name source busybox sh -c 'echo changed > /etc/motd; mkdir /empty; chmod 1777 /empty; chown 5:6 /etc/motd'")
        .ok();
    let directory = on.daemon.scratch().path().join("exported");
    fs::create_dir(&directory).expect("a directory");
    let file = directory.join("root.tar");
    on.cli(&format!("export -o {} source", file.display())).ok();
    let through_a_pipe = on.cli("export source").ok().stdout_bytes;
    assert!(through_a_pipe.len() > 1_000_000);
    on.cli(&format!(
        "import -m 'from a file' -c 'CMD [\"sh\"]' -c 'ENV FROM=import' {} root:1",
        file.display()
    ))
    .ok()
    .prints("sha256:");
    on.command("import - root:2")
        .stdin(through_a_pipe)
        .run()
        .ok();
    on.run("--rm root:1 sh -c 'cat /etc/motd; stat -c %a:%u:%g /empty /etc/motd; echo $FROM'")
        .ok()
        .prints("changed\n1777:0:0\n644:5:6\nimport\n");
    on.cli("history --format '{{.Comment}}' root:1")
        .ok()
        .prints("from a file");
    on.cli("image inspect -f '{{.Os}} {{len .RootFS.Layers}} {{.Parent}}' root:2")
        .ok()
        .prints("linux 1");
    // Of a running container as well.
    on.sleeper("going", "");
    assert!(on.cli("export going").ok().stdout_bytes.len() > 1_000_000);
    on.cli("export nobody").exits(1).says("no such container");
    on.command("import - damaged:1")
        .stdin(vec![7; 2048])
        .run()
        .exits(1);
    on.cli("import /no/such/file x:1")
        .exits(1)
        .says("no such file");
}

pub(crate) fn archives_come_from_addresses(on: &Subject) {
    let storage = Scratch::new();
    let registry = Registry::empty(storage.path());
    let root = Layer::new().file("hello", 0o644, "hello\n").finish();
    let packed = gzip(&root).expect("compressed");
    for bytes in [&root, &packed] {
        registry.push_blob("some/root", bytes).expect("pushed");
    }
    // Any server gives out archives; this one has them by digest.
    let path = |bytes: &[u8]| {
        let digest = digest(bytes);
        format!("{}/v2/some/root/blobs/{digest}", registry.host())
    };
    on.cli(&format!(
        "import -m fetched -c 'CMD [\"/hello\"]' http://{} root:1",
        path(&packed)
    ))
    .ok()
    .prints(&format!("Downloading from http://{}", path(&packed)))
    .prints("sha256:");
    on.cli("history --format '{{.Comment}}' root:1")
        .ok()
        .prints("fetched");
    on.cli("image inspect -f '{{.Config.Cmd}}' root:1")
        .ok()
        .prints("[/hello]");
    // Without a scheme it is HTTP.
    let target = format!("/images/create?fromSrc={}&repo=root&tag=2", path(&root));
    on.daemon.api("POST", &target, None).expect(200);
    let layers = |name: &str| {
        let line = format!("image inspect -f '{{{{.RootFS.Layers}}}}' {name}");
        on.cli(&line).ok().text().to_owned()
    };
    assert_eq!(layers("root:1"), layers("root:2"));
    assert_eq!(layers("root:1"), format!("[{}]", digest(&root)));
    on.cli(&format!("import http://{}/none root:3", registry.host()))
        .exits(1)
        .says("404");
}

pub(crate) fn archives_come_in_every_compression(on: &Subject) {
    let root = Layer::new().file("hello", 0o644, "hello\n").finish();
    let layers = |name: &str| {
        let line = format!("image inspect -f '{{{{.RootFS.Layers}}}}' {name}");
        on.cli(&line).ok().text().to_owned()
    };
    let expected = format!("[{}]", digest(&root));
    let saved = on.cli("save busybox").ok().stdout_bytes;
    for (name, package) in [("gzip", "gzip"), ("bzip2", "bzip2"), ("xz", "xz-utils")] {
        let compressed = |bytes: &[u8]| {
            Command::new(needs::program(name, package))
                .arg("-c")
                .stdin(bytes)
                .run()
                .ok()
                .stdout_bytes
        };
        on.command(&format!("import - root:{name}"))
            .stdin(compressed(&root))
            .run()
            .ok();
        assert_eq!(layers(&format!("root:{name}")), expected, "{name}");
        on.command("load -q")
            .stdin(compressed(&saved))
            .run()
            .ok()
            .prints("Loaded image");
    }
}
