//! Bounds of this crate, each with its reason.

use std::time::Duration;

/// Bytes of `config.json`, `process.json` and our own state files; real ones have some tens of kilobytes.
pub const CONFIGURATION_BYTES: u64 = 4 << 20;

/// Bytes of a container's /etc/passwd that are looked at when searching a home directory.
pub const PASSWD_BYTES: u64 = 1 << 20;

/// Bytes of one message between a container's first process and its creator.
pub const MESSAGE_BYTES: usize = 64 << 10;

/// Bytes of output of a hook that are kept for an error text.
pub const HOOK_OUTPUT_BYTES: usize = 4 << 10;

/// Pieces of 4 KiB that are read of a hook's output before its end is looked for again.
pub const HOOK_OUTPUT_READS: usize = 64;

/// How long a killed container may take to be gone before its removal fails.
pub const KILL_WAIT: Duration = Duration::from_secs(10);

/// Bytes of a class' schemata, and of what the kernel says of a command to resctrl.
pub const SCHEMATA_BYTES: u64 = 64 << 10;

/// Network devices of the host that one container gets.
pub const NET_DEVICES: usize = 64;

/// Bytes of a network device's name (`IFNAMSIZ` without the zero).
pub const NET_DEVICE_NAME: usize = 15;

/// Bytes of one answer of the kernel's routing; it fills at most 32 KiB at once.
pub const NETLINK_BYTES: usize = 64 << 10;

/// Answers of the kernel's routing to one request, lists of addresses among them.
pub const NETLINK_MESSAGES: usize = 1024;

/// Characters of a container id.
pub const ID_LENGTH: usize = 1024;

/// Entries that are copied from an image into a tmpfs with `tmpcopyup`.
pub const COPY_UP_ENTRIES: usize = 1 << 20;

/// Directories below each other that are copied into a tmpfs with `tmpcopyup`.
pub const COPY_UP_DEPTH: usize = 128;
