//! Very many small files in one layer: nothing differs, and the time per file stays that of the kernel's own work.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use berth_image::digest_of;
use berth_types::Digest;
use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest as _, Sha256};

use crate::assemble::saved;
use crate::interop::{Tools, assert_same, below, run};
use crate::support::{Head, Home, Layer, Made, Tar, tree};

const FILES: u64 = 200_000;
const PER_DIRECTORY: u64 = 250;
const MODES: [u32; 5] = [0o644, 0o600, 0o755, 0o4711, 0o400];

struct File {
    path: String,
    head: Head,
    content: Vec<u8>,
}

fn files() -> impl Iterator<Item = File> {
    (0..FILES).map(|number| {
        let directory = number / PER_DIRECTORY;
        let length = usize::try_from(number % 101).unwrap();
        let text = format!("{number} ").repeat(1 + length / 2);
        File {
            // Neighbours in the archive are not neighbours in the tree.
            path: format!("{}/{}/file{number}", directory % 40, directory),
            head: Head {
                mode: MODES[usize::try_from(number).unwrap() % MODES.len()],
                uid: number % 1000,
                gid: number % 77,
                mtime: 1_500_000_000 + number,
                ..Head::default()
            },
            content: text.as_bytes()[..length].to_vec(),
        }
    })
}

/// The layer, and how its files look when it is unpacked right.
fn layer() -> (Layer, BTreeMap<String, String>) {
    let mut tar = Tar::default();
    // Packed as it is made: plain it is two hundred megabytes.
    let mut hasher = Sha256::new();
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    let mut pack = |bytes: Vec<u8>| {
        hasher.update(&bytes);
        packed.write_all(&bytes).unwrap();
    };
    let mut expected = BTreeMap::new();
    let directory = |path: String| {
        let text = "mode=40755 owner=0:0 time=1600000000.000000000".to_owned();
        (format!("/{path}"), text)
    };
    for outer in 0..40 {
        tar.dir(&format!("{outer}/"), 0o755);
        expected.extend([directory(outer.to_string())]);
    }
    for inner in 0..FILES / PER_DIRECTORY {
        let path = format!("{}/{inner}", inner % 40);
        tar.dir(&format!("{path}/"), 0o755);
        expected.extend([directory(path)]);
    }
    for File {
        path,
        head,
        content,
    } in files()
    {
        tar.raw(path.as_bytes(), &head, &content);
        let text = format!(
            "mode=10{:04o} owner={}:{} time={}.000000000 size={} content={}",
            head.mode,
            head.uid,
            head.gid,
            head.mtime,
            content.len(),
            digest_of(&content).short()
        );
        expected.insert(format!("/{path}"), text);
        pack(tar.unfinished());
    }
    pack(tar.end());
    let layer = Layer {
        bytes: packed.finish().unwrap(),
        diff_id: Digest::from_bytes(hasher.finalize().into()),
    };
    (layer, expected)
}

#[test]
fn two_hundred_thousand_files_go_in_and_out() {
    let (layer, expected) = layer();
    let made = Made::new(&[layer]);
    let archive = made.layout("docker.io/test/many:1");
    let home = Home::new();
    let begun = std::time::Instant::now();
    home.load(&archive).unwrap();
    println!("loaded in {:.1} s", begun.elapsed().as_secs_f64());
    assert_same(&below(home.tree(&made.id())), &expected);

    let tools = Tools::new();
    let file = tools.path("many.tar");
    let begun = std::time::Instant::now();
    std::fs::write(&file, saved(&home, &["test/many:1"])).unwrap();
    println!("saved in {:.1} s", begun.elapsed().as_secs_f64());
    drop(home);
    let layout = tools.path("layout");
    run(&format!(
        "skopeo copy --insecure-policy oci-archive:{file}:1 oci:{layout}:1"
    ));
    let root = tools.path("root");
    run(&format!("umoci raw unpack --image {layout}:1 {root}"));
    assert_same(&below(tree(Path::new(&root))), &expected);
}
