//! Test support: private daemons, local registry, waiting for conditions.
