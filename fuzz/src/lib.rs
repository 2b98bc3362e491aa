//! One function for each parser of bytes from outside. A function fails by panicking: when the parser does, or when
//! what it gives is not what it promises.
//!
//! The targets in `fuzz_targets` and the test that replays `corpus` call these same functions.

use std::cell::RefCell;
use std::sync::Arc;

use berth_api::{AuthConfig, AuthConfigs, Filters, framing};
use berth_image::documents::Document;
use berth_image::{ImageStore, Settings, fuzzing};
use berth_types::{Digest, Platform, Reference, Timestamp, duration, size};

/// Most bytes of one unpacked input: more shows nothing new.
const UNPACKED: u64 = 16 << 20;

/// What a target does with an input.
pub type Target = fn(&[u8]);

/// Every target by its name, which is that of its directory in the corpus.
pub const TARGETS: [(&str, Target); 13] = [
    ("reference", reference),
    ("words", words),
    ("manifest", manifest),
    ("archive", archive),
    ("layer", layer),
    ("load", load),
    ("stream", stream),
    ("challenge", challenge),
    ("answer", answer),
    ("frames", frames),
    ("header", header),
    ("dns", dns),
    ("packages", packages),
];

fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

/// Image references and digests: what is written again is read as the same.
pub fn reference(bytes: &[u8]) {
    let Some(text) = text(bytes) else { return };
    if let Ok(reference) = Reference::parse(text) {
        let again = Reference::parse(&reference.to_string());
        assert_eq!(again.as_ref().ok(), Some(&reference), "{text:?}");
        let familiar = Reference::parse(&reference.familiar());
        assert_eq!(familiar.ok(), Some(reference), "{text:?}");
    }
    if let Ok(digest) = Digest::parse(text) {
        assert_eq!(Digest::parse(&digest.to_string()), Ok(digest));
        assert_eq!(Digest::from_hex(&digest.hex()), Some(digest));
    }
}

/// Platforms, moments, durations and sizes.
pub fn words(bytes: &[u8]) {
    let Some(text) = text(bytes) else { return };
    if let Ok(platform) = Platform::parse(text) {
        assert_eq!(
            Platform::parse(&platform.to_string()).ok(),
            Some(platform),
            "{text:?}"
        );
    }
    if let Ok(moment) = Timestamp::parse(text) {
        assert_eq!(
            Timestamp::parse(&moment.to_string()).ok(),
            Some(moment),
            "{text:?}"
        );
    }
    let _ = Timestamp::parse_relative(text, Timestamp::from_unix_seconds(1_700_000_000));
    if let Ok(length) = duration::parse(text) {
        assert_eq!(
            duration::parse(&duration::format(length)).ok(),
            Some(length),
            "{text:?}"
        );
    }
    let _ = duration::parse_nanoseconds(text);
    let _ = size::parse_binary(text);
}

/// Manifests and indexes; the first byte chooses what they were announced as.
pub fn manifest(bytes: &[u8]) {
    use berth_image::documents::media;
    let Some((kind, bytes)) = bytes.split_first() else {
        return;
    };
    let said = match kind % 5 {
        0 => None,
        1 => Some(media::OCI_INDEX),
        2 => Some(media::OCI_MANIFEST),
        3 => Some(media::DOCKER_INDEX),
        _ => Some(media::DOCKER_MANIFEST),
    };
    fuzzing::configuration(bytes);
    match Document::parse(bytes, said, "the document") {
        Ok(Document::Index(index)) => {
            let found = index.candidates(&Platform::host());
            assert!(found.len() <= index.manifests.len());
        }
        Ok(Document::Manifest(manifest)) => {
            let digests: Vec<Digest> = manifest.layers.iter().map(|layer| layer.digest).collect();
            assert_eq!(
                berth_image::documents::chain_ids(&digests).len(),
                digests.len()
            );
        }
        Err(error) => drop(error.to_string()),
    }
}

/// Headers, extensions and data of an archive.
pub fn archive(bytes: &[u8]) {
    fuzzing::archive(bytes, UNPACKED);
}

/// A whole layer, unpacked into a directory of its own, with nothing written outside.
pub fn layer(bytes: &[u8]) {
    thread_local! {
        static HOME: tempfile::TempDir = tempfile::tempdir().expect("a directory");
    }
    HOME.with(|home| fuzzing::unpack(bytes, home.path()));
}

/// An archive given to `load`, by the whole way.
pub fn load(bytes: &[u8]) {
    thread_local! {
        static STORE: RefCell<Option<(ImageStore, tempfile::TempDir)>> = const { RefCell::new(None) };
    }
    STORE.with_borrow_mut(|slot| {
        let (store, _) = slot.get_or_insert_with(|| {
            let home = tempfile::tempdir().expect("a directory");
            let database = redb::Database::create(home.path().join("state.db")).expect("records");
            let store = ImageStore::open(home.path(), Arc::new(database), Settings::default())
                .expect("a store");
            (store, home)
        });
        let loaded = store.load(bytes, &[], &berth_image::progress::silent());
        for image in loaded.into_iter().flatten() {
            store
                .document(&image.id)
                .expect("the configuration of what was loaded");
            let force = berth_image::RemoveRequest {
                force: true,
                no_prune: false,
            };
            // Named twice in the archive, it is gone by now.
            let _ = store.remove(&image.id.to_string(), force, &[]);
        }
        store.wait_for_trash();
        assert!(
            store.blobs().list().expect("a list").is_empty(),
            "content stays"
        );
    });
}

/// Compressed streams of every kind.
pub fn stream(bytes: &[u8]) {
    fuzzing::decompress(bytes, UNPACKED);
}

/// Headers and lists of a registry's answers.
pub fn answer(bytes: &[u8]) {
    if let Some(text) = text(bytes) {
        fuzzing::answer(text);
    }
}

/// What registries say: challenges, tokens, ranges.
pub fn challenge(bytes: &[u8]) {
    fuzzing::token(bytes);
    if let Some(text) = text(bytes) {
        fuzzing::challenge(text);
    }
}

/// Frames of attached streams, in pieces of the length that the first byte says.
pub fn frames(bytes: &[u8]) {
    let Some((piece, bytes)) = bytes.split_first() else {
        return;
    };
    let mut decoder = framing::Decoder::new();
    let mut given = 0;
    for piece in bytes.chunks(usize::from(*piece).max(1)) {
        decoder.push(piece);
        loop {
            match decoder.next() {
                Ok(Some((_, payload))) => given += payload.len(),
                Ok(None) => break,
                Err(_) => return,
            }
        }
    }
    assert!(given <= bytes.len());
    let _ = decoder.finish();
}

/// Headers and parameters of the API: credentials and filters.
pub fn header(bytes: &[u8]) {
    let Some(text) = text(bytes) else { return };
    if let Ok(auth) = AuthConfig::from_header(text) {
        assert_eq!(AuthConfig::from_header(&auth.to_header()).ok(), Some(auth));
    }
    if let Ok(auths) = AuthConfigs::from_header(text) {
        assert_eq!(
            AuthConfigs::from_header(&auths.to_header()).ok(),
            Some(auths)
        );
    }
    let _ = Filters::from_json(text);
}

/// A query of a container and an answer of a server to it.
pub fn dns(bytes: &[u8]) {
    berth_net::fuzzing::packets(bytes);
}

/// Databases of packages in an image.
pub fn packages(bytes: &[u8]) {
    fuzzing::packages(bytes);
}
