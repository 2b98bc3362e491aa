//! The process beside each container, its protocol, and the daemon's handle on it.
