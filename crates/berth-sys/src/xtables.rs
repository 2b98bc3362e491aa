//! Tables of rules as `iptables-legacy` has them (x_tables): read and replaced as a whole, in the calling thread's network
//! namespace.
//!
//! Owns the calls and the lock that the programs of iptables take. What the entries mean is the caller's to know.

use std::fs::File;
use std::io::Error as IoError;
use std::mem::size_of;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, socket_with};

use crate::error::{Attempt, Error, Result};

/// The lock that serializes those who change tables (iptables(8), `-w`).
const LOCK: &str = "/run/xtables.lock";
/// How long it is waited for, and how often it is looked at meanwhile.
const PATIENCE: (Duration, Duration) = (Duration::from_secs(2), Duration::from_millis(2));
/// Largest table that is read, in bytes: some 200,000 rules.
const LARGEST: usize = 32 << 20;

/// `IPT_SO_GET_INFO`, `IPT_SO_GET_ENTRIES`; `IPT_SO_SET_REPLACE`, `IPT_SO_SET_ADD_COUNTERS`; the same for IPv6
/// (linux/netfilter_ipv4/ip_tables.h).
const GET_INFO: i32 = 64;
const GET_ENTRIES: i32 = 65;
const REPLACE: i32 = 64;
const ADD_COUNTERS: i32 = 65;

/// Bytes of a table's name.
const NAME: usize = 32;
/// Where the entries begin in `struct ipt_get_entries`, and in `struct ipt_replace`.
const ENTRIES_READ: usize = 40;
const ENTRIES_WRITTEN: usize = 96;

/// Packets and bytes that an entry has seen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Counter {
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
}

/// A table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Hooks it has chains for, a bit for each.
    pub hooks: u32,
    /// Where the chain of each hook begins, in bytes of `entries`.
    pub begins: [u32; 5],
    /// Where its policy is.
    pub policies: [u32; 5],
    /// How many entries there are.
    pub count: u32,
    /// The entries.
    pub entries: Vec<u8>,
}

/// The right to change tables: the programs of iptables wait as long as it lives.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Takes it.
    pub fn take() -> Result<Self> {
        let attempt = || format!("lock {LOCK}");
        let flags = OFlags::RDONLY | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let file = rustix::fs::open(Path::new(LOCK), flags, Mode::from_raw_mode(0o600))
            .attempt(attempt)?;
        let end = Instant::now() + PATIENCE.0;
        loop {
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Self { _file: file.into() }),
                Err(rustix::io::Errno::WOULDBLOCK) if Instant::now() < end => {
                    std::thread::sleep(PATIENCE.1);
                }
                Err(cause) => return Err(Error::new(attempt(), cause)),
            }
        }
    }
}

/// Reads the table `name`. Asking makes the kernel create it: ask only for one that is there.
pub fn read(ipv4: bool, name: &str) -> Result<Table> {
    let attempt = || format!("read the table {name} of {}", program(ipv4));
    let socket = open(ipv4).attempt(attempt)?;
    let mut info = [0_u8; NAME + 52];
    put_name(&mut info, name);
    get(&socket, ipv4, GET_INFO, &mut info).attempt(attempt)?;
    let number = |at: usize| word(&info, NAME + 4 * at);
    let size = number(12) as usize;
    if size > LARGEST {
        return Err(Error::invalid(attempt(), format!("it has {size} bytes")));
    }
    let mut buffer = vec![0_u8; ENTRIES_READ + size];
    put_name(&mut buffer, name);
    buffer[NAME..NAME + 4].copy_from_slice(&number(12).to_ne_bytes());
    get(&socket, ipv4, GET_ENTRIES, &mut buffer).attempt(attempt)?;
    Ok(Table {
        hooks: number(0),
        begins: std::array::from_fn(|hook| number(1 + hook)),
        policies: std::array::from_fn(|hook| number(6 + hook)),
        count: number(11),
        entries: buffer.split_off(ENTRIES_READ),
    })
}

/// Puts `new` in the place of `old`, which has to be there still, as far as the number of its entries tells. `source` says
/// for each new entry which of the old ones it was, so that it goes on counting.
pub fn replace(
    ipv4: bool,
    name: &str,
    old: &Table,
    new: &Table,
    source: &[Option<usize>],
    _lock: &Lock,
) -> Result<()> {
    let attempt = || format!("change the table {name} of {}", program(ipv4));
    let socket = open(ipv4).attempt(attempt)?;
    let mut counted = vec![Counter::default(); old.count as usize];
    let mut request = vec![0_u8; ENTRIES_WRITTEN];
    put_name(&mut request, name);
    let size = u32::try_from(new.entries.len())
        .map_err(|_| Error::invalid(attempt(), "it becomes too large"))?;
    let numbers = [new.hooks, new.count, size]
        .into_iter()
        .chain(new.begins)
        .chain(new.policies)
        .chain([old.count]);
    for (at, number) in numbers.enumerate() {
        request[NAME + 4 * at..][..4].copy_from_slice(&number.to_ne_bytes());
    }
    let pointer = counted.as_mut_ptr() as usize;
    request[ENTRIES_WRITTEN - size_of::<usize>()..].copy_from_slice(&pointer.to_ne_bytes());
    request.extend(&new.entries);
    // SAFETY: the pointer in the request leads to `counted`, which holds as many counters as the request says, and the
    // kernel refuses a request whose number is not that of the entries it has.
    unsafe { put(&socket, ipv4, REPLACE, &request) }.attempt(attempt)?;
    let mut counters = vec![0_u8; ENTRIES_READ];
    put_name(&mut counters, name);
    counters[NAME..NAME + 4].copy_from_slice(&new.count.to_ne_bytes());
    for from in source {
        let counter = from
            .and_then(|at| counted.get(at).copied())
            .unwrap_or_default();
        counters.extend(counter.packets.to_ne_bytes());
        counters.extend(counter.bytes.to_ne_bytes());
    }
    // SAFETY: there is no pointer in this request.
    unsafe { put(&socket, ipv4, ADD_COUNTERS, &counters) }.attempt(attempt)
}

/// The program whose tables these are.
#[must_use]
pub fn program(ipv4: bool) -> &'static str {
    if ipv4 {
        "iptables-legacy"
    } else {
        "ip6tables-legacy"
    }
}

fn open(ipv4: bool) -> rustix::io::Result<OwnedFd> {
    let family = if ipv4 {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    socket_with(
        family,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        Some(ipproto::RAW),
    )
}

fn level(ipv4: bool) -> i32 {
    if ipv4 {
        libc::IPPROTO_IP
    } else {
        libc::IPPROTO_IPV6
    }
}

fn put_name(buffer: &mut [u8], name: &str) {
    for (to, from) in buffer.iter_mut().zip(name.bytes().take(NAME - 1)) {
        *to = from;
    }
}

fn word(bytes: &[u8], at: usize) -> u32 {
    bytes
        .get(at..at + 4)
        .and_then(|four| four.try_into().ok())
        .map_or(0, u32::from_ne_bytes)
}

fn get(socket: &OwnedFd, ipv4: bool, option: i32, buffer: &mut [u8]) -> std::io::Result<()> {
    let mut length = buffer.len() as libc::socklen_t;
    // SAFETY: the buffer is valid for reads and writes of the length given.
    let answer = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            level(ipv4),
            option,
            buffer.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if answer != 0 {
        return Err(IoError::last_os_error());
    }
    Ok(())
}

/// # Safety
///
/// Pointers in the request must be valid for what the option does with them.
unsafe fn put(socket: &OwnedFd, ipv4: bool, option: i32, buffer: &[u8]) -> std::io::Result<()> {
    // SAFETY: the buffer is valid for reads of the length given; for what is in it the caller answers.
    let answer = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level(ipv4),
            option,
            buffer.as_ptr().cast(),
            buffer.len() as libc::socklen_t,
        )
    };
    if answer != 0 {
        return Err(IoError::last_os_error());
    }
    Ok(())
}
