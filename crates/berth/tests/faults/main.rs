//! Faults: what was acknowledged stays true whatever dies, and nothing is left behind.

mod deaths;
mod files;
mod kill_daemon;
mod load;
mod platforms;
mod prune;
mod push;
mod store;
mod volumes;
