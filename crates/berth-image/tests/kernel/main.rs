//! Tests on the real kernel and against real registries: they need root, overlayfs and the packages
//! docker-registry, umoci, skopeo, podman, buildah, xz-utils, bzip2, rpm, sqlite3, db-util and pacman-package-manager.

// A test states its expectations by unwrapping, and tells what a skip or a count means by printing.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)]

mod access;
mod address;
mod assemble;
mod bombs;
mod check;
mod compressions;
mod crash;
mod formats;
mod hostile;
mod interop;
mod load;
mod many;
mod packages;
mod pull;
mod registry;
mod remove;
mod remove_platforms;
mod resume;
mod rootfs;
mod settle;
mod support;
mod unpack;
mod why;
