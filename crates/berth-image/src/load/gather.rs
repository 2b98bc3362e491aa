//! Entries of `index.json` that have the same name and are for several platforms: one image, whose index the layout
//! leaves out. It is made here, so that the name stands for all of them.

use berth_types::Reference;
use serde_json::json;

use super::layout::name_of;
use super::{NAME_ANNOTATION, REF_ANNOTATION, is_index};
use crate::contents::Contents;
use crate::documents::{Descriptor, Document, media};
use crate::error::Result;
use crate::store::{Holds, Inner};

const INDEX: &str = "index.json";

/// Puts an index in place of such entries; the same archive always gives the same one. What it lists besides
/// are the attestations about its images.
pub(super) fn gather(store: &Inner, contents: &mut Contents, holds: &mut Holds) -> Result<()> {
    let Some(bytes) = contents.document(INDEX) else {
        return Ok(());
    };
    let object = "index.json of the image archive";
    let Document::Index(top) = Document::parse(bytes, None, object)? else {
        return Ok(());
    };
    let mut groups: Vec<(Reference, Vec<Descriptor>)> = Vec::new();
    let mut others: Vec<Descriptor> = Vec::new();
    for entry in top.manifests {
        let is_platform = entry.platform.is_some()
            && !is_index(&entry)
            && entry.annotation("vnd.docker.reference.type").is_none()
            && contents.blob(&entry.digest).is_ok();
        match name_of(&entry).filter(|_| is_platform) {
            Some(name) => match groups.iter_mut().find(|(other, _)| *other == name) {
                Some((_, entries)) => entries.push(entry),
                None => groups.push((name, vec![entry])),
            },
            None => others.push(entry),
        }
    }
    if groups.iter().all(|(_, entries)| entries.len() < 2) {
        return Ok(());
    }
    let mut gathered: Vec<Descriptor> = Vec::new();
    for (name, mut entries) in groups {
        if entries.len() < 2 {
            gathered.extend(entries);
            continue;
        }
        let images: Vec<String> = entries
            .iter()
            .map(|entry| entry.digest.to_string())
            .collect();
        let about = |entry: &&Descriptor| {
            let of = entry.annotation("vnd.docker.reference.digest");
            of.is_some_and(|of| images.iter().any(|image| image == of))
        };
        entries.extend(others.iter().filter(about).cloned());
        for entry in &mut entries {
            // They name the whole.
            if let Some(annotations) = &mut entry.annotations {
                annotations.shift_remove(NAME_ANNOTATION);
                annotations.shift_remove(REF_ANNOTATION);
            }
            if entry
                .annotations
                .as_ref()
                .is_some_and(|left| left.is_empty())
            {
                entry.annotations = None;
            }
        }
        let index = json!({
            "schemaVersion": 2,
            "mediaType": media::OCI_INDEX,
            "manifests": entries,
        });
        let bytes = index.to_string().into_bytes();
        contents.add(store, &bytes, holds)?;
        let mut entry = Descriptor::of(media::OCI_INDEX, &bytes);
        let name = (NAME_ANNOTATION.to_owned(), name.to_string());
        entry.annotations = Some([name].into_iter().collect());
        gathered.push(entry);
    }
    gathered.extend(others);
    let top = json!({"schemaVersion": 2, "manifests": gathered});
    contents.replace_document(INDEX, top.to_string().into_bytes());
    Ok(())
}
