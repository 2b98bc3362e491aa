//! The epoll set of a monitor, edge-triggered.
//!
//! Every descriptor is registered once, for everything. An event sets "readable" or "writable" on its owner, a call that
//! would block clears it; so waiting for a slow reader needs no call at all, and a closed pipe nobody reads from yet
//! cannot keep the loop spinning.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::epoll;

use crate::error::MonitorError;
use crate::log::StreamKind;

/// Events taken from the kernel at once.
const BATCH: usize = 32;

/// Whose descriptor an event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Token {
    /// The listening socket.
    Listener,
    /// The descriptor that tells of ended children.
    Children,
    /// The control group's out-of-memory events.
    OutOfMemory,
    /// The container's resolver.
    Names,
    /// Published ports that the kernel does not translate.
    Ports,
    /// A daemon's connection.
    Link(Key),
    /// An attached client.
    Client(Key),
    /// Where a session's output comes from (and, with a terminal, where its input goes).
    Output(Key, StreamKind),
    /// Where a session's input goes.
    Input(Key),
    /// A session's process: readable when it has ended.
    Process(Key),
}

/// A place in a [`Slab`]: never valid again once its entry is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Key {
    index: u32,
    generation: u32,
}

const GENERATIONS: u32 = (1 << 24) - 1;

impl Token {
    fn pack(self) -> u64 {
        let (kind, key) = match self {
            Self::Listener => (0, None),
            Self::Children => (1, None),
            Self::OutOfMemory => (2, None),
            Self::Link(key) => (3, Some(key)),
            Self::Client(key) => (4, Some(key)),
            Self::Output(key, StreamKind::Stdout) => (5, Some(key)),
            Self::Output(key, StreamKind::Stderr) => (6, Some(key)),
            Self::Input(key) => (7, Some(key)),
            Self::Process(key) => (8, Some(key)),
            Self::Names => (9, None),
            Self::Ports => (10, None),
        };
        let (index, generation) = key.map_or((0, 0), |key| (key.index, key.generation));
        kind << 56 | u64::from(generation) << 32 | u64::from(index)
    }

    fn unpack(value: u64) -> Option<Self> {
        let key = Key {
            index: u32::try_from(value & u64::from(u32::MAX)).ok()?,
            generation: u32::try_from(value >> 32).ok()? & GENERATIONS,
        };
        Some(match value >> 56 {
            0 => Self::Listener,
            1 => Self::Children,
            2 => Self::OutOfMemory,
            3 => Self::Link(key),
            4 => Self::Client(key),
            5 => Self::Output(key, StreamKind::Stdout),
            6 => Self::Output(key, StreamKind::Stderr),
            7 => Self::Input(key),
            8 => Self::Process(key),
            9 => Self::Names,
            10 => Self::Ports,
            _ => return None,
        })
    }
}

/// What happened to a descriptor.
#[derive(Debug, Clone, Copy)]
pub(super) struct Readiness {
    pub(super) token: Token,
    /// There is something to read, or the end.
    pub(super) readable: bool,
    /// There is room to write, or nobody to write to.
    pub(super) writable: bool,
    /// The other side is closed, at least for writing: no further event will tell of the end.
    pub(super) ending: bool,
    /// The other side is closed entirely.
    pub(super) hung_up: bool,
}

/// The set.
pub(super) struct Poll {
    epoll: OwnedFd,
}

impl Poll {
    pub(super) fn new() -> Result<Self, MonitorError> {
        epoll::create(epoll::CreateFlags::CLOEXEC)
            .map(|epoll| Self { epoll })
            .map_err(|error| berth_sys::Error::new("make an epoll set", error).into())
    }

    /// Registers a descriptor; closing it undoes that.
    pub(super) fn add(&self, descriptor: impl AsFd, token: Token) -> Result<(), MonitorError> {
        let flags = epoll::EventFlags::IN
            | epoll::EventFlags::OUT
            | epoll::EventFlags::RDHUP
            | epoll::EventFlags::ET;
        self.register(descriptor, token, flags)
    }

    /// Registers a descriptor that is only read, and reported as long as there is something to read.
    pub(super) fn add_level(
        &self,
        descriptor: impl AsFd,
        token: Token,
    ) -> Result<(), MonitorError> {
        self.register(descriptor, token, epoll::EventFlags::IN)
    }

    fn register(
        &self,
        descriptor: impl AsFd,
        token: Token,
        flags: epoll::EventFlags,
    ) -> Result<(), MonitorError> {
        epoll::add(
            &self.epoll,
            descriptor,
            epoll::EventData::new_u64(token.pack()),
            flags,
        )
        .map_err(|error| berth_sys::Error::new(format!("watch {token:?}"), error).into())
    }

    /// Waits at most `timeout` (for ever when `None`) and hands every event to `take`.
    pub(super) fn wait(
        &self,
        timeout: Option<Duration>,
        events: &mut Vec<Readiness>,
    ) -> Result<(), MonitorError> {
        let mut raw = [MaybeUninit::<epoll::Event>::uninit(); BATCH];
        let timeout = timeout.map(|duration| rustix::event::Timespec {
            tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: duration.subsec_nanos().into(),
        });
        let filled = match epoll::wait(&self.epoll, &mut raw, timeout.as_ref()) {
            Ok((filled, _)) => filled,
            Err(rustix::io::Errno::INTR) => return Ok(()),
            Err(error) => return Err(berth_sys::Error::new("wait for events", error).into()),
        };
        for event in filled.iter() {
            let flags = event.flags;
            let Some(token) = Token::unpack(event.data.u64()) else {
                continue;
            };
            let failed = flags.intersects(epoll::EventFlags::ERR | epoll::EventFlags::HUP);
            let ending = failed || flags.contains(epoll::EventFlags::RDHUP);
            events.push(Readiness {
                token,
                readable: ending || flags.contains(epoll::EventFlags::IN),
                writable: failed || flags.contains(epoll::EventFlags::OUT),
                ending,
                hung_up: flags.contains(epoll::EventFlags::HUP),
            });
        }
        Ok(())
    }
}

/// A list whose places keep their [`Key`] until they are removed.
pub(super) struct Slab<T> {
    entries: Vec<(u32, Option<T>)>,
}

impl<T> Slab<T> {
    pub(super) fn new() -> Self {
        Self {
            entries: Vec::new(),
        }
    }

    /// The key that the next [`Slab::insert`] uses.
    pub(super) fn next_key(&self) -> Key {
        let index = self
            .entries
            .iter()
            .position(|(_, entry)| entry.is_none())
            .unwrap_or(self.entries.len());
        let generation = self
            .entries
            .get(index)
            .map_or(0, |(generation, _)| *generation);
        Key {
            index: u32::try_from(index).unwrap_or(u32::MAX),
            generation,
        }
    }

    pub(super) fn insert(&mut self, entry: T) -> Key {
        let key = self.next_key();
        match self.entries.get_mut(key.index as usize) {
            Some(place) => place.1 = Some(entry),
            None => self.entries.push((0, Some(entry))),
        }
        key
    }

    pub(super) fn get(&self, key: Key) -> Option<&T> {
        match self.entries.get(key.index as usize) {
            Some((generation, entry)) if *generation == key.generation => entry.as_ref(),
            _ => None,
        }
    }

    pub(super) fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        match self.entries.get_mut(key.index as usize) {
            Some((generation, entry)) if *generation == key.generation => entry.as_mut(),
            _ => None,
        }
    }

    pub(super) fn remove(&mut self, key: Key) -> Option<T> {
        match self.entries.get_mut(key.index as usize) {
            Some((generation, entry)) if *generation == key.generation && entry.is_some() => {
                *generation = (*generation + 1) & GENERATIONS;
                entry.take()
            }
            _ => None,
        }
    }

    pub(super) fn keys(&self) -> Vec<Key> {
        self.iter().map(|(key, _)| key).collect()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Key, &T)> {
        self.entries
            .iter()
            .enumerate()
            .filter_map(|(index, (generation, entry))| {
                let key = Key {
                    index: u32::try_from(index).unwrap_or(u32::MAX),
                    generation: *generation,
                };
                entry.as_ref().map(|entry| (key, entry))
            })
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (Key, &mut T)> {
        self.entries
            .iter_mut()
            .enumerate()
            .filter_map(|(index, (generation, entry))| {
                let key = Key {
                    index: u32::try_from(index).unwrap_or(u32::MAX),
                    generation: *generation,
                };
                entry.as_mut().map(|entry| (key, entry))
            })
    }

    pub(super) fn len(&self) -> usize {
        self.entries
            .iter()
            .filter(|(_, entry)| entry.is_some())
            .count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_removed_key_never_fits_again() {
        let mut slab = Slab::new();
        let first = slab.insert("a");
        assert_eq!(slab.remove(first), Some("a"));
        let second = slab.insert("b");
        assert_eq!(slab.get_mut(first), None);
        assert_eq!(slab.get_mut(second), Some(&mut "b"));
        for token in [
            Token::Listener,
            Token::Client(second),
            Token::Output(second, StreamKind::Stderr),
        ] {
            assert_eq!(Token::unpack(token.pack()), Some(token));
        }
    }
}
