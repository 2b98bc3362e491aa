//! The image that is built into Berth, so that a bare machine has something real to run.
//!
//! Owns: a small program (`program/main.rs`), compiled for the same target by the build script, and the OCI
//! image layout around it. Does not own how it is loaded; it goes the way of every other image.

/// An OCI image layout as a tar archive: one image, named [`NAME`].
pub const LAYOUT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/layout.tar"));

/// The image's canonical name.
pub const NAME: &str = "docker.io/berth/hello:latest";

/// The image's id: the digest of its configuration.
pub const IMAGE_ID: &str = env!("BERTH_HELLO_IMAGE_ID");
