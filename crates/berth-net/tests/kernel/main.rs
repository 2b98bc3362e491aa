//! What the crate makes of a real kernel, each test alone in fresh network namespaces.

#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod dns;
mod firewall;
mod link;
mod namespace;
mod parent;
mod sandbox;
