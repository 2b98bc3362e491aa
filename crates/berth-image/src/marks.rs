//! What records need: how many of them name each piece of content and each layer.
//!
//! Owns: the answer to "may this go?", as far as records give it; leases give the rest, and are asked by
//! [`crate::blobs`] and [`crate::layers`] at the moment of a removal. Opening the store, sweeping and
//! collecting all ask here. A new kind of record that keeps content is one more arm of [`Root`].
//!
//! Counted while records change, so that nobody reads them all to remove one image. Invariant: never less than
//! what is on disk; after a failed transaction it may be more until the store is opened again.

use std::collections::HashMap;

use berth_types::Digest;

use crate::documents::chain_ids;
use crate::layers::LayerRecord;
use crate::records::{ImageRecord, ReferenceRecord};

/// A record that keeps content or layers.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Root<'a> {
    /// Its manifest and configuration, and the layers of its file system.
    Image(&'a ImageRecord),
    /// What the name stands for, and what is kept with it: other platforms of an index.
    Reference(&'a ReferenceRecord),
    /// The archive it was unpacked from.
    Layer(&'a LayerRecord),
}

impl Root<'_> {
    fn blobs(&self) -> Vec<Digest> {
        match self {
            Self::Image(image) => vec![image.manifest.digest, image.config.digest],
            Self::Reference(reference) => {
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
            Self::Reference(_) | Self::Layer(_) => Vec::new(),
        }
    }
}

/// The counts. What nothing needs has no entry.
#[derive(Debug, Default)]
pub(crate) struct Marks {
    blobs: HashMap<Digest, u32>,
    chains: HashMap<Digest, u32>,
}

impl Marks {
    pub(crate) fn needs_blob(&self, digest: &Digest) -> bool {
        self.blobs.contains_key(digest)
    }

    pub(crate) fn needs_chain(&self, chain: &Digest) -> bool {
        self.chains.contains_key(chain)
    }

    pub(crate) fn add(&mut self, root: Root<'_>) {
        for blob in root.blobs() {
            *self.blobs.entry(blob).or_default() += 1;
        }
        for chain in root.chains() {
            *self.chains.entry(chain).or_default() += 1;
        }
    }

    /// Takes a record away; tells the content and the layers that nothing needs any more.
    fn take(&mut self, needs: &Needs) {
        for blob in &needs.blobs {
            lower(&mut self.blobs, blob);
        }
        for chain in &needs.chains {
            lower(&mut self.chains, chain);
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
}

impl Needs {
    fn extend(&mut self, root: Root<'_>) {
        self.blobs.extend(root.blobs());
        self.chains.extend(root.chains());
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
        }
    }

    #[test]
    fn content_is_needed_until_the_last_record_that_names_it_is_gone() {
        let mut marks = Marks::default();
        let (one, other) = (image(1, 2, &[10, 11]), image(3, 4, &[10]));
        let (name, index) = (reference(1, &[]), reference(5, &[1, 6]));
        for root in [Root::Image(&one), Root::Image(&other)] {
            marks.add(root);
        }
        for root in [Root::Reference(&name), Root::Reference(&index)] {
            marks.add(root);
        }
        let chain = chain_ids(&one.diff_ids);
        let mut pending = Pending::new(&mut marks);
        pending.remove(Root::Image(&one));
        pending.remove(Root::Reference(&name));
        assert_eq!(pending.unneeded_chains(), [chain[1]]);
        pending.settle();
        assert!(marks.needs_blob(&digest(1)), "an index keeps its platforms");
        assert!(marks.needs_blob(&digest(6)));
        assert!(!marks.needs_blob(&digest(2)));
        assert!(marks.needs_chain(&chain[0]) && !marks.needs_chain(&chain[1]));
        let mut pending = Pending::new(&mut marks);
        pending.remove(Root::Reference(&index));
        pending.remove(Root::Image(&other));
        pending.settle();
        assert!(marks.blobs.is_empty() && marks.chains.is_empty());
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
    }
}
