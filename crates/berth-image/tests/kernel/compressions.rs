//! Archives and layers that others compressed with xz and bzip2.

use std::io::Write;
use std::process::{Command, Stdio};

use berth_image::assemble::ImportRequest;
use berth_image::progress::silent;
use berth_image::{ImageError, digest_of};
use berth_types::Reference;

use crate::assemble::saved;
use crate::support::{Home, Layer, Made, Tar, chain};

/// What a program with words split at blanks makes of bytes.
fn through(words: &str, bytes: &[u8]) -> Vec<u8> {
    let mut words = words.split_whitespace();
    let program = words.next().unwrap();
    let mut child = Command::new(program)
        .args(words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{program} is installed: {error}"));
    let mut input = child.stdin.take().unwrap();
    let bytes = bytes.to_vec();
    let writer = std::thread::spawn(move || input.write_all(&bytes));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert!(output.status.success(), "{program}: {output:?}");
    output.stdout
}

/// Every form in which the programs write, each by its name.
fn forms(bytes: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let (first, second) = bytes.split_at(bytes.len() / 3);
    let mut streams = through("xz -c", first);
    // Padding between streams, in fours.
    streams.extend([0; 8]);
    streams.extend(through("xz -c -9 --check=crc32", second));
    let mut parts = through("bzip2 -c -1", first);
    parts.extend(through("bzip2 -c", second));
    vec![
        ("xz", through("xz -c", bytes)),
        ("xz -9e", through("xz -c -9e --check=sha256", bytes)),
        ("xz blocks", through("xz -c --block-size=65536 -T2", bytes)),
        (
            "xz filters",
            through("xz -c --x86 --delta=dist=4 --lzma2=dict=1MiB", bytes),
        ),
        ("xz streams", streams),
        ("bzip2", through("bzip2 -c", bytes)),
        ("bzip2 streams", parts),
    ]
}

fn tar() -> Vec<u8> {
    let mut tar = Tar::default();
    let noise: Vec<u8> = (0..300_000_u32)
        .flat_map(|number| number.wrapping_mul(2_654_435_761).to_le_bytes())
        .collect();
    tar.dir("bin/", 0o755)
        .file("bin/sh", b"#!")
        .file("noise", &noise)
        .file("zeros", &vec![0; 2 << 20]);
    tar.end()
}

#[test]
fn what_xz_and_bzip2_wrote_is_loaded_and_imported() {
    let plain = Layer::plain(tar());
    let made = Made::new(std::slice::from_ref(&plain));
    let expected = {
        let home = Home::new();
        home.load(&made.layout("test/one:1")).unwrap();
        home.tree(&made.id())
    };
    for (form, archive) in forms(&made.legacy_save("test/one:1")) {
        let home = Home::new();
        home.load(&archive)
            .unwrap_or_else(|error| panic!("{form}: {}", chain(&error)));
        assert_eq!(home.tree(&made.id()), expected, "{form}");
    }
    for (form, bytes) in forms(&plain.bytes) {
        let layer = Layer {
            bytes,
            diff_id: plain.diff_id,
        };
        let compressed = Made::new(std::slice::from_ref(&layer));
        // In Docker's archive it leaves in a form that everybody reads; a layout keeps what its digests name.
        for (archive, name) in [
            (compressed.legacy_save("test/one:1"), "docker"),
            (compressed.layout("test/one:1"), "layout"),
        ] {
            let home = Home::new();
            home.load(&archive)
                .unwrap_or_else(|error| panic!("{form}, {name}: {}", chain(&error)));
            assert_eq!(home.tree(&made.id()), expected, "{form}, {name}");
            let again = Home::new();
            let archive = saved(&home, &["test/one:1"]);
            again.load(&archive).unwrap();
            assert_eq!(again.tree(&made.id()), expected, "{form}, {name}");
            let has = |bytes: &[u8]| {
                let path = format!("blobs/sha256/{}", digest_of(bytes).hex());
                archive
                    .windows(path.len())
                    .any(|window| window == path.as_bytes())
            };
            assert_eq!(has(&layer.bytes), name == "layout", "{form}, {name}");
            assert_eq!(has(&plain.bytes), name == "docker", "{form}, {name}");
        }
        let home = Home::new();
        let request = ImportRequest {
            name: Some(Reference::parse("test/root:1").unwrap()),
            ..ImportRequest::default()
        };
        let id = home
            .store
            .import(&layer.bytes[..], request, &silent())
            .unwrap_or_else(|error| panic!("{form}: {}", chain(&error)));
        assert_eq!(home.tree(&id), expected, "{form}");
        assert!(home.store.blobs().contains(&plain.diff_id), "{form}");
    }
}

#[test]
fn damaged_and_greedy_streams_are_refused() {
    let bytes = tar();
    let refused = |archive: &[u8]| {
        let home = Home::new();
        let error = home
            .store
            .import(archive, ImportRequest::default(), &silent())
            .unwrap_err();
        let text = chain(&error);
        assert_eq!(home.leftovers(), Vec::<String>::new(), "{text}");
        (error, text)
    };
    for (form, compressed) in forms(&bytes) {
        for length in [7, 40, compressed.len() / 2, compressed.len() - 3] {
            let (_, text) = refused(&compressed[..length]);
            assert!(
                text.contains("truncated") || text.contains("damaged"),
                "{form}, {length} bytes: {text}"
            );
        }
        let mut garbled = compressed.clone();
        let middle = garbled.len() / 2;
        garbled[middle] ^= 0xff;
        let (_, text) = refused(&garbled);
        assert!(text.contains("damaged"), "{form}: {text}");
    }
    // A dictionary of 4 GiB: byte 4 of the block's header, which has a checksum at its end.
    let mut greedy = through("xz -c", b"little");
    let size = (usize::from(greedy[12]) + 1) * 4;
    assert_eq!(greedy[14..16], [0x21, 1]);
    greedy[16] = 40;
    let mut sum = flate2::Crc::new();
    sum.update(&greedy[12..12 + size - 4]);
    greedy[12 + size - 4..12 + size].copy_from_slice(&sum.sum().to_le_bytes());
    let (error, text) = refused(&greedy);
    assert!(matches!(error, ImageError::Limit { .. }), "{text}");
    assert!(text.contains("memory"), "{text}");
}
