//! Following descriptors: everything that a manifest or index leads to.
//!
//! Documents are read for what they lead to alone, so that those of artifacts and attestations are followed as well.
//! Owns: the bounds of such a walk. Does not own: where documents are; callers say that.

use std::collections::HashSet;

use berth_types::Digest;
use serde::Deserialize;

use crate::documents::{Descriptor, parse_json};
use crate::error::{ImageError, Result};
use crate::limits;

/// What any manifest or index leads to.
#[derive(Default, Deserialize)]
pub(crate) struct Leads {
    #[serde(default)]
    pub(crate) config: Option<Descriptor>,
    #[serde(default)]
    pub(crate) layers: Vec<Descriptor>,
    #[serde(default)]
    pub(crate) blobs: Vec<Descriptor>,
    #[serde(default)]
    pub(crate) manifests: Vec<Descriptor>,
}

/// Everything behind a descriptor that is at hand.
#[derive(Debug, Default)]
pub(crate) struct Reach {
    /// Manifests and indexes with their bytes, each before those it leads to.
    pub(crate) documents: Vec<(Descriptor, Vec<u8>)>,
    /// What the documents lead to beside documents, each once.
    pub(crate) contents: Vec<Descriptor>,
    /// Nothing is lacking, apart from layers that only their publisher gives out.
    pub(crate) whole: bool,
}

impl Reach {
    /// Whether a manifest or index is among the documents.
    pub(crate) fn leads_to(&self, digest: &Digest) -> bool {
        self.documents
            .iter()
            .any(|(document, _)| document.digest == *digest)
    }

    /// Digests of all of it.
    pub(crate) fn digests(&self) -> impl Iterator<Item = Digest> {
        let documents = self.documents.iter().map(|(document, _)| document.digest);
        documents.chain(self.contents.iter().map(|content| content.digest))
    }
}

/// Follows `target`. `read` gives the bytes of a document, and `has` tells whether other content is there; both are
/// asked with its descriptor, and refuse what is not of the size it states.
///
/// # Errors
/// When a document is damaged or the walk goes beyond a limit, and what `read` and `has` fail with.
pub(crate) fn follow(
    target: &Descriptor,
    read: impl Fn(&Descriptor) -> Result<Option<Vec<u8>>>,
    has: impl Fn(&Descriptor) -> Result<bool>,
) -> Result<Reach> {
    let mut reach = Reach {
        whole: true,
        ..Reach::default()
    };
    let mut known: HashSet<Digest> = HashSet::new();
    let mut bytes_read = 0;
    let mut pending = vec![(target.clone(), 0)];
    while let Some((entry, depth)) = pending.pop() {
        if !known.insert(entry.digest) {
            continue;
        }
        let object = format!("manifest {}", entry.digest.short());
        if depth > limits::INDEX_DEPTH_MAX || reach.documents.len() >= limits::INDEX_ENTRIES_MAX {
            return Err(ImageError::Limit {
                object,
                limit: limits::INDEX_ENTRIES_MAX as u64,
                unit: "manifests of one name",
            });
        }
        let Some(bytes) = read(&entry)? else {
            reach.whole = false;
            continue;
        };
        bytes_read += bytes.len() as u64;
        if bytes_read > limits::DOCUMENTS_BYTES_MAX {
            return Err(ImageError::Limit {
                object: format!("what manifest {} leads to", target.digest.short()),
                limit: limits::DOCUMENTS_BYTES_MAX,
                unit: "bytes of manifests",
            });
        }
        let leads: Leads = parse_json(&bytes, &object)?;
        reach.documents.push((entry, bytes));
        let children = leads.manifests.into_iter().rev();
        pending.extend(children.map(|child| (child, depth + 1)));
        let contents = leads.config.into_iter().chain(leads.layers);
        for content in contents.chain(leads.blobs) {
            if !known.insert(content.digest) {
                continue;
            }
            if has(&content)? {
                reach.contents.push(content);
            } else {
                reach.whole &= content.is_foreign();
            }
        }
    }
    Ok(reach)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::documents::media;

    /// Documents by digest, and the descriptor of the last one.
    fn documents(texts: &[String]) -> (HashMap<Digest, Vec<u8>>, Descriptor) {
        let found = texts
            .iter()
            .map(|text| {
                (
                    crate::stream::digest_of(text.as_bytes()),
                    text.clone().into(),
                )
            })
            .collect();
        let last = texts.last().map_or("", String::as_str);
        (found, Descriptor::of(media::OCI_INDEX, last.as_bytes()))
    }

    fn entry(text: &str) -> String {
        serde_json::to_string(&Descriptor::of("", text.as_bytes())).unwrap()
    }

    #[test]
    fn each_content_is_found_once_and_what_lacks_is_told() {
        let manifest = format!(
            r#"{{"config":{},"layers":[{},{}]}}"#,
            entry("config"),
            entry("layer"),
            entry("layer")
        );
        let index = format!(
            r#"{{"manifests":[{},{}]}}"#,
            entry(&manifest),
            entry(&manifest)
        );
        let (found, target) = documents(&[manifest.clone(), index]);
        let read = |entry: &Descriptor| Ok(found.get(&entry.digest).cloned());
        let reach = follow(&target, read, |_| Ok(true)).unwrap();
        assert!(reach.whole);
        assert_eq!((reach.documents.len(), reach.contents.len()), (2, 2));
        assert!(reach.leads_to(&crate::stream::digest_of(manifest.as_bytes())));
        assert_eq!(reach.digests().count(), 4);
        let reach = follow(&target, read, |_| Ok(false)).unwrap();
        assert!(!reach.whole && reach.contents.is_empty());
        assert!(!follow(&target, |_| Ok(None), |_| Ok(true)).unwrap().whole);
    }

    #[test]
    fn documents_are_bounded_together() {
        let texts: Vec<String> = (0..20)
            .map(|number| format!("{{\"layers\":[],\"n\":{number}}}{}", " ".repeat(4_000_000)))
            .collect();
        let entries: Vec<String> = texts.iter().map(|text| entry(text)).collect();
        let index = format!(r#"{{"manifests":[{}]}}"#, entries.join(","));
        let (found, target) = documents(&[&texts[..], &[index]].concat());
        let read = |entry: &Descriptor| Ok(found.get(&entry.digest).cloned());
        let outcome = follow(&target, read, |_| Ok(true));
        assert!(matches!(outcome, Err(ImageError::Limit { .. })));
    }

    #[test]
    fn indexes_are_followed_to_a_depth() {
        let mut texts = vec![r#"{"layers":[]}"#.to_owned()];
        for _ in 0..=limits::INDEX_DEPTH_MAX {
            let text = format!(r#"{{"manifests":[{}]}}"#, entry(texts.last().unwrap()));
            texts.push(text);
        }
        let (found, target) = documents(&texts);
        let read = |entry: &Descriptor| Ok(found.get(&entry.digest).cloned());
        assert!(matches!(
            follow(&target, read, |_| Ok(true)),
            Err(ImageError::Limit { .. })
        ));
    }
}
