//! Faults: what was acknowledged stays true whatever dies, and nothing is left behind.

mod kill_daemon;
mod load;
mod store;
mod volumes;
