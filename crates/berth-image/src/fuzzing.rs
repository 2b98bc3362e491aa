//! Ways in for fuzzing: parsers that are no part of the interface, given bytes.
//!
//! Compiled only with the feature `fuzzing`, for the crate `berth-fuzz`.

use std::io::{BufReader, Read};
use std::path::Path;

use crate::archive::{ArchiveReader, Kind};
use crate::layers::unpack;
use crate::{limits, stream};

/// Entries that one input may have; more shows nothing new.
const ENTRIES: u64 = 10_000;

/// Reads an archive with all data, up to `bytes_max` of it.
pub fn archive(bytes: &[u8], bytes_max: u64) {
    let mut archive = ArchiveReader::new(BufReader::new(bytes), "an archive", ENTRIES);
    let mut read = 0;
    while let Ok(Some(entry)) = archive.next_entry() {
        assert!(entry.path.len() <= limits::PATH_BYTES_MAX);
        let _ = crate::layers::tree::components(&entry.path);
        if entry.kind != Kind::Regular {
            continue;
        }
        while let Ok(data) = archive.data() {
            if data.is_empty() {
                break;
            }
            let length = data.len();
            read += length as u64;
            archive.consume(length);
            if read > bytes_max {
                return;
            }
        }
    }
}

/// Unpacks a layer into a new directory beneath `home`, which is removed again, and looks that nothing else came
/// into being there.
///
/// # Panics
/// When something was written beside the directory.
pub fn unpack(bytes: &[u8], home: &Path) {
    let root = home.join("root");
    let created = berth_sys::fs::create_dir(&root, 0o755);
    assert!(created.is_ok(), "the directory of the last input stays");
    if let Ok(directory) = berth_sys::fs::open_directory(&root) {
        let mut archive = ArchiveReader::new(BufReader::new(bytes), "a layer", ENTRIES);
        let _ = unpack::unpack(&mut archive, directory, "a layer");
    }
    let beside = berth_sys::fs::list(home).unwrap_or_default();
    assert_eq!(beside, ["root"], "something was written outside");
    if let Ok(base) = berth_sys::fs::open_directory(home) {
        let _ = crate::layers::tree::remove_recursively(&base, b"root");
    }
}

/// Decompresses a stream, up to `bytes_max` bytes.
pub fn decompress(bytes: &[u8], bytes_max: u64) {
    if let Ok(mut source) = stream::decompressed(bytes, "a stream", bytes_max) {
        let mut piece = vec![0; limits::PIPE_CHUNK_BYTES];
        while source.read(&mut piece).is_ok_and(|count| count > 0) {}
    }
}

/// Reads an image's configuration.
pub fn configuration(bytes: &[u8]) {
    let document = crate::documents::parse_json::<berth_types::ImageDocument>(bytes, "a document");
    if let Ok(document) = document {
        let layers = document.rootfs.diff_ids.len();
        let _ = crate::documents::check_document(&document, layers, "a document");
    }
}

/// Reads the header in which a registry asks for credentials.
pub fn challenge(text: &str) {
    crate::registry::fuzz_challenge(text);
}

/// Reads headers and lists of a registry's answers.
///
/// # Panics
/// When a redirect or the next page of a list would lead where it must not.
pub fn answer(text: &str) {
    crate::registry::fuzz_answer(text);
    crate::search::fuzz_page(text);
}

/// Reads the answer of a token server.
pub fn token(bytes: &[u8]) {
    crate::registry::fuzz_token(bytes);
}
