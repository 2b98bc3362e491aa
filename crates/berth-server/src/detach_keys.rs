//! Detach keys: the sequence of key presses that leaves a terminal and lets its program run on.
//!
//! A partial match is held back until it is decided; what was held back is passed on when it does not match.

use crate::limits::MAX_DETACH_KEYS;

/// Text that names no keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct InvalidKeys;

/// A sequence of keys, and how much of it was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DetachKeys {
    keys: Vec<u8>,
    seen: usize,
}

impl DetachKeys {
    /// Docker's own: ctrl-p, ctrl-q.
    pub(crate) fn docker_default() -> DetachKeys {
        DetachKeys {
            keys: vec![0x10, 0x11],
            seen: 0,
        }
    }

    /// Reads `a`, `ctrl-a`, `ctrl-@`, `DEL` and so on, joined by commas. Empty text means the default.
    pub(crate) fn parse(text: &str) -> Result<DetachKeys, InvalidKeys> {
        if text.is_empty() {
            return Ok(DetachKeys::docker_default());
        }
        let keys = text.split(',').map(parse_key).collect::<Option<Vec<u8>>>();
        match keys {
            Some(keys) if keys.len() <= MAX_DETACH_KEYS => Ok(DetachKeys { keys, seen: 0 }),
            _ => Err(InvalidKeys),
        }
    }

    /// Takes input, appends what is to be passed on to `out`, and tells whether the sequence is complete.
    pub(crate) fn filter(&mut self, input: &[u8], out: &mut Vec<u8>) -> bool {
        for &byte in input {
            if byte == self.keys[self.seen] {
                self.seen += 1;
                if self.seen == self.keys.len() {
                    self.seen = 0;
                    return true;
                }
                continue;
            }
            // What matched so far plus this byte: its longest end that begins the sequence goes on matching.
            let held: Vec<u8> = self.keys[..self.seen]
                .iter()
                .copied()
                .chain([byte])
                .collect();
            let keep = (0..=self.seen)
                .rev()
                .find(|&length| held.ends_with(&self.keys[..length]))
                .unwrap_or(0);
            out.extend_from_slice(&held[..held.len() - keep]);
            self.seen = keep;
        }
        false
    }

    /// The bytes of the sequence.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.keys
    }

    /// What is held back, when no more input comes.
    pub(crate) fn held_back(&self) -> &[u8] {
        &self.keys[..self.seen]
    }
}

fn parse_key(key: &str) -> Option<u8> {
    match key.as_bytes() {
        [byte] => Some(*byte),
        b"DEL" => Some(127),
        [b'c', b't', b'r', b'l', b'-', letter] => match letter {
            b'a'..=b'z' => Some(letter - b'a' + 1),
            b'@' => Some(0),
            b'[' => Some(27),
            b'\\' => Some(28),
            b']' => Some(29),
            b'^' => Some(30),
            b'_' => Some(31),
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pass(keys: &str, parts: &[&[u8]]) -> (Vec<u8>, bool) {
        let mut keys = DetachKeys::parse(keys).unwrap();
        let mut out = Vec::new();
        for part in parts {
            if keys.filter(part, &mut out) {
                return (out, true);
            }
        }
        out.extend_from_slice(keys.held_back());
        (out, false)
    }

    #[test]
    fn keys_are_named_as_docker_names_them() {
        assert_eq!(
            DetachKeys::parse("ctrl-p,ctrl-q"),
            Ok(DetachKeys::docker_default())
        );
        assert_eq!(
            DetachKeys::parse("ctrl-@,a,DEL,ctrl-_").unwrap().keys,
            [0, b'a', 127, 31]
        );
        for bad in ["ctrl-", "ctrl-A", "ab", ",", "a,", "ü"] {
            assert_eq!(DetachKeys::parse(bad), Err(InvalidKeys), "{bad}");
        }
    }

    #[test]
    fn the_sequence_is_found_across_reads_and_never_passed_on() {
        assert_eq!(pass("", &[b"ab\x10", b"\x11cd"]), (b"ab".to_vec(), true));
        assert_eq!(
            pass("", &[b"\x10", b"x\x10", b"\x10\x11"]),
            (b"\x10x\x10".to_vec(), true)
        );
        assert_eq!(pass("a,a,b", &[b"aaab"]), (b"a".to_vec(), true));
    }

    #[test]
    fn everything_else_is_passed_on_whole() {
        assert_eq!(
            pass("", &[b"\x10", b"q", b"\x11"]),
            (b"\x10q\x11".to_vec(), false)
        );
        assert_eq!(pass("", &[b"tail\x10"]), (b"tail\x10".to_vec(), false));
        assert_eq!(pass("x", &[b"hello"]), (b"hello".to_vec(), false));
    }
}
