//! The content of an archive given to `load`: read once, in whatever order it comes.
//!
//! Owns: taking the outer archive apart. Files go straight into the content store under their digest, the few
//! documents that say what the files are stay in memory. Nothing is ever written under a name that the
//! archive chose. Does not own: what the documents mean ([`crate::load`]).

use std::collections::HashMap;
use std::io::{BufReader, Read, Write};

use berth_types::Digest;

use crate::archive::{ArchiveReader, Kind, printable};
use crate::error::{Attempt, ImageError, Result};
use crate::layers::tree::components;
use crate::limits;
use crate::store::{Holds, Inner};
use crate::stream;

/// A file of the archive, by digest in the content store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) digest: Digest,
    pub(crate) size: u64,
}

#[derive(Debug, Clone)]
enum Item {
    Stored(Stored),
    /// Another path of the archive; old archives link equal layers to each other.
    Link(Vec<u8>),
}

/// What an archive holds.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    files: HashMap<Vec<u8>, Item>,
    documents: HashMap<Vec<u8>, Vec<u8>>,
}

const DOCUMENTS: [&[u8]; 3] = [b"manifest.json", b"index.json", b"oci-layout"];

fn join(parts: &[&[u8]]) -> Vec<u8> {
    parts.join(&b'/')
}

impl Contents {
    /// Reads a whole archive, compressed or not; `holds` keeps what it brings.
    pub(crate) fn read(store: &Inner, source: impl Read + Send, holds: &mut Holds) -> Result<Self> {
        const OBJECT: &str = "the image archive";
        let source = stream::decompressed(source, OBJECT, limits::ARCHIVE_BYTES_MAX)?;
        let buffered = BufReader::with_capacity(limits::PIPE_CHUNK_BYTES, source);
        let mut archive = ArchiveReader::new(buffered, OBJECT, limits::ARCHIVE_ENTRIES_MAX);
        let mut contents = Self::default();
        let mut empty = true;
        while let Some(entry) = archive.next_entry()? {
            empty = false;
            let parts = components(&entry.path)?;
            if parts.is_empty() {
                continue;
            }
            let path = join(&parts);
            match entry.kind {
                Kind::Regular if entry.sparse.is_some() => {
                    return Err(ImageError::archive(
                        OBJECT,
                        format!("{} is a sparse file", entry.name()),
                    ));
                }
                Kind::Regular if DOCUMENTS.contains(&path.as_slice()) => {
                    let what = entry.name();
                    let bytes = archive.read_data(limits::ARCHIVE_JSON_BYTES_MAX, &what)?;
                    contents.documents.insert(path, bytes);
                }
                Kind::Regular => {
                    let stored = store_file(store, &mut archive, &path, holds)?;
                    contents.files.insert(path, Item::Stored(stored));
                }
                Kind::Symlink => {
                    let parent = join(&parts[..parts.len() - 1]);
                    let target = [parent.as_slice(), b"/", &entry.link].concat();
                    let target = if entry.link.starts_with(b"/") {
                        &entry.link
                    } else {
                        &target
                    };
                    let target = join(&components(target)?);
                    contents.files.insert(path, Item::Link(target));
                }
                Kind::HardLink => {
                    let target = join(&components(&entry.link)?);
                    contents.files.insert(path, Item::Link(target));
                }
                // Directories carry nothing; anything else has no business here and is not made.
                _ => {}
            }
        }
        if empty {
            return Err(ImageError::archive(OBJECT, "it is empty"));
        }
        // The rest is read so that whoever sends it is not cut off.
        std::io::copy(&mut archive.into_source(), &mut std::io::sink())
            .map_err(|error| crate::error::unwrap_carried(|| format!("read {OBJECT}"), error))?;
        Ok(contents)
    }

    /// One of the documents at the top of the archive.
    pub(crate) fn document(&self, name: &str) -> Option<&[u8]> {
        self.documents.get(name.as_bytes()).map(Vec::as_slice)
    }

    /// Puts other bytes in the place of such a document.
    pub(crate) fn replace_document(&mut self, name: &str, bytes: Vec<u8>) {
        self.documents.insert(name.as_bytes().to_vec(), bytes);
    }

    /// Adds content as if the archive had brought it; `holds` keeps it.
    pub(crate) fn add(&mut self, store: &Inner, bytes: &[u8], holds: &mut Holds) -> Result<()> {
        const OBJECT: &str = "an index for the image archive";
        let mut writer = store.blobs.writer(OBJECT)?;
        writer
            .write_all(bytes)
            .attempt(|| format!("store {OBJECT}"))?;
        let size = writer.size();
        let digest = writer.commit_held(None, |digest| holds.blob(store, *digest))?;
        let path = format!("blobs/sha256/{}", digest.hex()).into_bytes();
        self.files
            .insert(path, Item::Stored(Stored { digest, size }));
        Ok(())
    }

    /// A file by the path that a document gives.
    pub(crate) fn file(&self, path: &str) -> Result<Stored> {
        let mut path = join(&components(path.as_bytes())?);
        for _ in 0..limits::SYMLINKS_MAX {
            match self.files.get(&path) {
                Some(Item::Stored(stored)) => return Ok(*stored),
                Some(Item::Link(target)) => path.clone_from(target),
                None => {
                    return Err(ImageError::archive(
                        "the image archive",
                        format!("it does not contain {}", printable(&path)),
                    ));
                }
            }
        }
        Err(ImageError::archive(
            "the image archive",
            format!("too many links at {}", printable(&path)),
        ))
    }

    /// A file of an OCI layout, by digest.
    pub(crate) fn blob(&self, digest: &Digest) -> Result<Stored> {
        self.file(&format!("blobs/sha256/{}", digest.hex()))
    }
}

fn store_file<R: std::io::BufRead>(
    store: &Inner,
    archive: &mut ArchiveReader<R>,
    path: &[u8],
    holds: &mut Holds,
) -> Result<Stored> {
    let object = format!("{} of the image archive", printable(path));
    // A name that is a digest is a promise.
    let promised = path
        .strip_prefix(b"blobs/sha256/")
        .and_then(|hex| std::str::from_utf8(hex).ok())
        .and_then(Digest::from_hex);
    if let Some(digest) = promised {
        holds.blob(store, digest);
    }
    let mut writer = store.blobs.writer(object.as_str())?;
    loop {
        let piece = archive.data()?;
        if piece.is_empty() {
            break;
        }
        let length = piece.len();
        writer
            .write_all(piece)
            .attempt(|| format!("store {object}"))?;
        archive.consume(length);
    }
    let size = writer.size();
    // Held from before it has its name, so that no removal in between can take it.
    let digest = writer.commit_held(promised.as_ref(), |digest| holds.blob(store, *digest))?;
    Ok(Stored { digest, size })
}
