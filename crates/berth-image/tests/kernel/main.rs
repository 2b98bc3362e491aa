//! Tests on the real kernel and against real registries: they need root, overlayfs and the packages
//! docker-registry, umoci and skopeo.

mod crash;
mod hostile;
mod load;
mod pull;
mod registry;
mod remove;
mod rootfs;
mod support;
mod unpack;
