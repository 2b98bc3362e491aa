//! Ways in for fuzzing: parsers that are no part of the interface, given bytes.
//!
//! Compiled only with the feature `fuzzing`, for the crate `berth-fuzz`.

use std::fs::File;
use std::io::{BufReader, Read, Write};
use std::path::Path;

use crate::archive::{ArchiveReader, Kind};
use crate::layers::unpack;
use crate::why::packages::{self, Package};
use crate::why::rpm::{self, Form};
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

/// Reads a database of packages. The first byte chooses its form; of an SQLite database with a log, the four bytes
/// behind it say how long the database is.
///
/// # Panics
/// When a package comes out that must not be shown, or more of them than fit into the bytes.
pub fn packages(bytes: &[u8]) {
    let Some((form, bytes)) = bytes.split_first() else {
        return;
    };
    let found = match form % 8 {
        0 => text(packages::dpkg, bytes),
        1 => text(packages::apk, bytes),
        2 => text(packages::python, bytes),
        3 => text(packages::pacman, bytes),
        4 => database(Form::Ndb, bytes, None),
        5 => database(Form::Berkeley, bytes, None),
        6 => database(Form::Sqlite, bytes, None),
        _ => {
            let Some((length, bytes)) = bytes.split_first_chunk() else {
                return;
            };
            let length = (u32::from_be_bytes(*length) as usize).min(bytes.len());
            let (bytes, log) = bytes.split_at(length);
            database(Form::Sqlite, bytes, Some(log))
        }
    };
    assert!(found.len() <= bytes.len() / 2);
    for package in found {
        for word in [package.name, package.version, package.architecture] {
            assert!(word.chars().count() <= 128);
            assert!(!word.chars().any(char::is_control));
        }
    }
}

fn text(read: fn(&[u8], &mut Vec<Package>), bytes: &[u8]) -> Vec<Package> {
    let mut found = Vec::new();
    read(bytes, &mut found);
    found
}

fn database(form: Form, bytes: &[u8], log: Option<&[u8]>) -> Vec<Package> {
    let file = |bytes: &[u8]| -> std::io::Result<File> {
        let flags = rustix::fs::MemfdFlags::CLOEXEC;
        let mut file = File::from(rustix::fs::memfd_create("database", flags)?);
        file.write_all(bytes)?;
        Ok(file)
    };
    let log = log.map(file).transpose();
    let (Ok(file), Ok(log)) = (file(bytes), log) else {
        return Vec::new();
    };
    match rpm::list(form, &file, log.as_ref()) {
        Ok(listed) => listed.packages,
        Err(damage) => {
            drop(damage.to_string());
            Vec::new()
        }
    }
}
