//! The netlink connections everything else speaks by.
