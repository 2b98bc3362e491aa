//! The grammars of option values: pure functions from text to the wire type, with docker's words for
//! what is wrong.

pub(crate) mod csv;
pub(crate) mod device;
pub(crate) mod environment;
pub(crate) mod filter;
pub(crate) mod gpus;
pub(crate) mod mount;
pub(crate) mod name_resolution;
pub(crate) mod network;
pub(crate) mod platform;
pub(crate) mod port;
pub(crate) mod restart;
pub(crate) mod scalar;
pub(crate) mod security;
pub(crate) mod subnet;
pub(crate) mod ulimit;
pub(crate) mod volume;
