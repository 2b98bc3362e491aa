//! What records need: how many of them name each piece of content, each layer and each image.
//!
//! Owns: the answer to "may this go?", as far as records give it; leases give the rest, and are asked by
//! [`crate::blobs`] and [`crate::layers`] at the moment of a removal. Opening the store, sweeping and
//! collecting all ask here. A new kind of record that keeps content is one more arm of [`Root`].
//!
//! Counted while records change, so that nobody reads them all to remove one image. Invariant: never less than
//! what is on disk; after a failed transaction it may be more until the store is opened again.

use std::collections::{BTreeMap, HashMap};

use berth_types::{Digest, Reference};

use crate::documents::chain_ids;
use crate::layers::LayerRecord;
use crate::records::{ImageRecord, ReferenceRecord};

/// A record that keeps content or layers.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Root<'a> {
    /// Its manifest and configuration, and the layers of its file system.
    Image(&'a ImageRecord),
    /// What the name stands for, and what is kept with it: other platforms of an index.
    Reference(&'a Reference, &'a ReferenceRecord),
    /// The archive it was unpacked from.
    Layer(&'a LayerRecord),
}

impl Root<'_> {
    fn blobs(&self) -> Vec<Digest> {
        match self {
            Self::Image(image) => vec![image.manifest.digest, image.config.digest],
            Self::Reference(_, reference) => {
                let mut blobs = vec![reference.target.digest];
                blobs.extend(&reference.keeps);
                blobs
            }
            Self::Layer(layer) => layer.blob.into_iter().collect(),
        }
    }

    fn chains(&self) -> Vec<Digest> {
        match self {
            Self::Image(image) => chain_ids(&image.diff_ids),
            Self::Reference(..) | Self::Layer(_) => Vec::new(),
        }
    }

    /// The image that this one was built upon, and keeps from being removed.
    fn parent(&self) -> Option<Digest> {
        match self {
            Self::Image(image) if !image.retired => image.parent,
            _ => None,
        }
    }

    fn name(&self) -> Option<(Digest, Reference)> {
        match self {
            Self::Reference(name, record) => Some((record.image, (*name).clone())),
            _ => None,
        }
    }
}

/// The counts. What nothing needs has no entry.
#[derive(Debug, Default)]
pub(crate) struct Marks {
    blobs: HashMap<Digest, u32>,
    chains: HashMap<Digest, u32>,
    /// Images built upon an image.
    children: HashMap<Digest, u32>,
    /// Names of an image in canonical order. While one is written again it counts twice.
    names: HashMap<Digest, BTreeMap<String, (Reference, u32)>>,
}

impl Marks {
    pub(crate) fn needs_blob(&self, digest: &Digest) -> bool {
        self.blobs.contains_key(digest)
    }

    pub(crate) fn needs_chain(&self, chain: &Digest) -> bool {
        self.chains.contains_key(chain)
    }

    pub(crate) fn has_children(&self, image: &Digest) -> bool {
        self.children.contains_key(image)
    }

    pub(crate) fn names(&self, image: &Digest) -> Vec<Reference> {
        self.names.get(image).map_or_else(Vec::new, |names| {
            names.values().map(|(name, _)| name.clone()).collect()
        })
    }

    pub(crate) fn add(&mut self, root: Root<'_>) {
        if let Some(parent) = root.parent() {
            *self.children.entry(parent).or_default() += 1;
        }
        if let Some((image, name)) = root.name() {
            let names = self.names.entry(image).or_default();
            names.entry(name.to_string()).or_insert((name, 0)).1 += 1;
        }
        for blob in root.blobs() {
            *self.blobs.entry(blob).or_default() += 1;
        }
        for chain in root.chains() {
            *self.chains.entry(chain).or_default() += 1;
        }
    }

    fn take(&mut self, needs: &Needs) {
        for blob in &needs.blobs {
            lower(&mut self.blobs, blob);
        }
        for chain in &needs.chains {
            lower(&mut self.chains, chain);
        }
        for parent in &needs.parents {
            lower(&mut self.children, parent);
        }
        for (image, name) in &needs.names {
            let Some(names) = self.names.get_mut(image) else {
                continue;
            };
            if let Some((_, count)) = names.get_mut(name) {
                *count -= 1;
                if *count == 0 {
                    names.remove(name);
                }
            }
            if names.is_empty() {
                self.names.remove(image);
            }
        }
    }
}

fn lower(counts: &mut HashMap<Digest, u32>, digest: &Digest) {
    if let Some(count) = counts.get_mut(digest) {
        *count -= 1;
        if *count == 0 {
            counts.remove(digest);
        }
    }
}

#[derive(Debug, Default)]
struct Needs {
    blobs: Vec<Digest>,
    chains: Vec<Digest>,
    parents: Vec<Digest>,
    names: Vec<(Digest, String)>,
}

impl Needs {
    fn extend(&mut self, root: Root<'_>) {
        self.blobs.extend(root.blobs());
        self.chains.extend(root.chains());
        self.parents.extend(root.parent());
        self.names
            .extend(root.name().map(|(image, name)| (image, name.to_string())));
    }
}

/// What one transaction changes about the marks. What it adds counts at once, what it takes away counts once it
/// is on disk: whatever happens in between, nothing that a record may need is taken for unneeded.
pub(crate) struct Pending<'a> {
    marks: &'a mut Marks,
    gone: Needs,
}

impl<'a> Pending<'a> {
    pub(crate) fn new(marks: &'a mut Marks) -> Self {
        Self {
            marks,
            gone: Needs::default(),
        }
    }

    pub(crate) fn add(&mut self, root: Root<'_>) {
        self.marks.add(root);
    }

    pub(crate) fn remove(&mut self, root: Root<'_>) {
        self.gone.extend(root);
    }

    /// Layers that no image needs after this transaction, of those that it took from one.
    pub(crate) fn unneeded_chains(&self) -> Vec<Digest> {
        let mut taken: HashMap<Digest, u32> = HashMap::new();
        for chain in &self.gone.chains {
            *taken.entry(*chain).or_default() += 1;
        }
        taken
            .into_iter()
            .filter(|(chain, count)| {
                self.marks
                    .chains
                    .get(chain)
                    .is_none_or(|have| have <= count)
            })
            .map(|(chain, _)| chain)
            .collect()
    }

    /// The transaction is on disk.
    pub(crate) fn settle(self) {
        self.marks.take(&self.gone);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::documents::Descriptor;

    fn digest(number: u8) -> Digest {
        crate::stream::digest_of(&[number])
    }

    fn reference(target: u8, keeps: &[u8]) -> ReferenceRecord {
        ReferenceRecord::new(
            Descriptor::of("", &[target]),
            digest(0),
            keeps.iter().map(|number| digest(*number)).collect(),
        )
    }

    fn image(manifest: u8, config: u8, layers: &[u8]) -> ImageRecord {
        ImageRecord {
            schema: ImageRecord::SCHEMA,
            manifest: Descriptor::of("", &[manifest]),
            config: Descriptor::of("", &[config]),
            diff_ids: layers.iter().map(|number| digest(*number)).collect(),
            size: 0,
            created: None,
            platform: berth_types::Platform::host(),
            labels: indexmap::IndexMap::new(),
            parent: None,
            stored: std::time::SystemTime::now().into(),
            last_tagged: None,
            sources: Vec::new(),
            last_used: None,
            retired: false,
        }
    }

    #[test]
    fn content_is_needed_until_the_last_record_that_names_it_is_gone() {
        let mut marks = Marks::default();
        let (one, other) = (image(1, 2, &[10, 11]), image(3, 4, &[10]));
        let (name, index) = (reference(1, &[]), reference(5, &[1, 6]));
        let own = Reference::parse("docker.io/a/b:1").unwrap();
        let other_own = Reference::parse("docker.io/a/c:1").unwrap();
        for root in [Root::Image(&one), Root::Image(&other)] {
            marks.add(root);
        }
        for root in [
            Root::Reference(&own, &name),
            Root::Reference(&other_own, &index),
        ] {
            marks.add(root);
        }
        let chain = chain_ids(&one.diff_ids);
        let mut pending = Pending::new(&mut marks);
        pending.remove(Root::Image(&one));
        pending.remove(Root::Reference(&own, &name));
        assert_eq!(pending.unneeded_chains(), [chain[1]]);
        pending.settle();
        assert!(marks.needs_blob(&digest(1)), "an index keeps its platforms");
        assert!(marks.needs_blob(&digest(6)));
        assert_eq!(marks.names(&digest(0)), std::slice::from_ref(&other_own));
        assert!(!marks.needs_blob(&digest(2)));
        assert!(marks.needs_chain(&chain[0]) && !marks.needs_chain(&chain[1]));
        let mut pending = Pending::new(&mut marks);
        pending.remove(Root::Reference(&other_own, &index));
        pending.remove(Root::Image(&other));
        pending.settle();
        assert!(marks.blobs.is_empty() && marks.chains.is_empty() && marks.names.is_empty());
    }

    #[test]
    fn what_a_failed_transaction_would_have_taken_stays_needed() {
        let mut marks = Marks::default();
        let one = image(1, 2, &[10]);
        marks.add(Root::Image(&one));
        let mut pending = Pending::new(&mut marks);
        pending.remove(Root::Image(&one));
        drop(pending);
        assert!(marks.needs_blob(&digest(1)) && marks.needs_chain(&digest(10)));
    }

    #[test]
    fn writing_a_record_again_changes_nothing() {
        let mut marks = Marks::default();
        let one = image(1, 2, &[10]);
        marks.add(Root::Image(&one));
        let mut pending = Pending::new(&mut marks);
        pending.add(Root::Image(&one));
        pending.remove(Root::Image(&one));
        assert!(pending.unneeded_chains().is_empty());
        pending.settle();
        assert!(marks.needs_chain(&digest(10)));
        let (own, name) = (
            Reference::parse("docker.io/a/b:1").unwrap(),
            reference(1, &[]),
        );
        marks.add(Root::Reference(&own, &name));
        let mut pending = Pending::new(&mut marks);
        pending.add(Root::Reference(&own, &name));
        pending.remove(Root::Reference(&own, &name));
        pending.settle();
        assert_eq!(marks.names(&digest(0)), [own]);
    }
}
