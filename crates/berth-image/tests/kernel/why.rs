//! What an image's bytes are.

use crate::support::{Head, Home, Layer, Made, Tar};

#[test]
fn bytes_are_told_by_instruction_and_by_whether_they_are_seen() {
    let mut low = Tar::default();
    low.dir("big/", 0o755)
        .file("big/replaced", &[1; 9000])
        .file("big/deleted", &[2; 5000])
        .file("big/kept", &[3; 7000])
        .hard("big/again", "big/kept")
        .dir("tree/", 0o755)
        .file("tree/a", &[4; 1000])
        .file("tree/b", &[5; 1000])
        .dir("var/lib/dpkg/", 0o755)
        .file(
            "var/lib/dpkg/status",
            b"Package: libc6\nStatus: install ok installed\nVersion: 2.36\nInstalled-Size: 10\n",
        )
        .dir("usr/lib/python3/dist-packages/six-1.dist-info/", 0o755)
        .file(
            "usr/lib/python3/dist-packages/six-1.dist-info/METADATA",
            b"Name: six\nVersion: 1\n\nText\n",
        );
    let capability = [1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    low.pax(&[("SCHILY.xattr.security.capability", &capability)]);
    let program = |mode| Head {
        mode,
        ..Head::default()
    };
    low.raw(b"ping", &program(0o755), b"p")
        .raw(b"su", &program(0o4755), b"s");
    let mut high = Tar::default();
    high.file("big/replaced", &[6; 100])
        .file("big/.wh.deleted", b"")
        .dir("tree/", 0o755)
        .file("tree/.wh..wh..opq", b"")
        .file("tree/new", &[7; 10])
        .raw(b"su", &program(0o755), b"s");
    let made = Made::new(&[Layer::gzip(low.end()), Layer::zstd(high.end())]);
    let home = Home::new();
    home.load(&made.layout("docker.io/test/why:1")).unwrap();
    let why = home.store.why("test/why:1").unwrap();
    assert_eq!(why.wasted, 9000 + 5000 + 2000 + 1);
    assert_eq!(why.size, home.store.image_size(&made.id()).unwrap());
    assert!(why.runs_as_root);
    assert_eq!(why.steps.len(), 2);
    assert_eq!((why.steps[0].hidden, why.steps[1].hides), (16_001, 16_001));
    assert_eq!(why.steps[1].size, 111);
    assert_eq!(why.largest[0].path, b"big/again");
    assert_eq!((why.largest[0].size, why.largest[0].step), (7000, 0));
    let hidden: Vec<(&[u8], u64, bool)> = why
        .hidden
        .iter()
        .map(|hidden| (hidden.path.as_slice(), hidden.size, hidden.deleted))
        .collect();
    assert_eq!(hidden[0], (&b"big/replaced"[..], 9000, false));
    assert_eq!(hidden[1], (&b"big/deleted"[..], 5000, true));
    assert!(hidden.contains(&(b"tree/a", 1000, true)));
    let privileged: Vec<(&[u8], &str)> = why
        .privileged
        .iter()
        .map(|file| (file.path.as_slice(), file.capabilities.as_str()))
        .collect();
    assert_eq!(
        privileged,
        [(&b"ping"[..], "cap_net_raw=ep")],
        "su lost its bit in a later layer"
    );
    let packages: Vec<String> = why
        .packages
        .iter()
        .map(|package| format!("{} {} {}", package.manager, package.name, package.version))
        .collect();
    assert_eq!(packages, ["dpkg libc6 2.36", "python six 1"]);
    assert!(home.store.why("test/none:1").is_err());
}
