//! Blobs, layers, references, registry protocol, transfer, collection.
