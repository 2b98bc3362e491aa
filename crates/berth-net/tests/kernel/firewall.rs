//! The firewall on the real kernel: a host with bridges, containers on them, neighbours on its networks.

mod bench;
mod beside;
mod forward;
mod isolation;
mod published;
mod repair;
mod topology;
