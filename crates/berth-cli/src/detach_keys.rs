//! The keys that leave a container running and end the connection: `ctrl-p,ctrl-q` unless changed.

use crate::limits::MAX_DETACH_KEYS;

/// What `ctrl-p,ctrl-q` sends.
const DEFAULT: &[u8] = &[16, 17];

/// Reads `ctrl-a,b`: each part is one character or `ctrl-` with a letter or one of `@[\]^_`.
pub(crate) fn parse(text: &str) -> Result<Vec<u8>, String> {
    if text.is_empty() {
        return Ok(DEFAULT.to_vec());
    }
    let failed = |reason: String| format!("invalid detach keys ({text}): {reason}");
    let mut codes = Vec::new();
    for key in text.split(',') {
        let bytes = key.as_bytes();
        let code = match bytes {
            [single] => *single,
            _ => {
                let letter = key.strip_prefix("ctrl-").map(str::as_bytes);
                match letter {
                    Some([letter @ (b'a'..=b'z' | b'A'..=b'Z')]) => {
                        letter.to_ascii_lowercase() - b'a' + 1
                    }
                    Some([b'@']) => 0,
                    Some([symbol @ b'['..=b'_']) => symbol - b'[' + 27,
                    _ => return Err(failed(format!("Unknown character: '{key}'"))),
                }
            }
        };
        codes.push(code);
    }
    if codes.len() > MAX_DETACH_KEYS {
        return Err(failed(format!("more than {MAX_DETACH_KEYS} keys")));
    }
    Ok(codes)
}

/// Watches typed bytes for the keys. Bytes that may begin the sequence are held back until it is
/// clear that they do not.
#[derive(Debug)]
pub(crate) struct Watch {
    keys: Vec<u8>,
    held: usize,
}

impl Watch {
    /// A watch for these keys.
    pub(crate) fn new(keys: Vec<u8>) -> Self {
        Self { keys, held: 0 }
    }

    /// Takes what was typed; gives what is to be sent, and whether the keys were typed.
    pub(crate) fn feed(&mut self, typed: &[u8]) -> (Vec<u8>, bool) {
        let mut send = Vec::with_capacity(typed.len());
        for byte in typed {
            if self.keys.get(self.held) == Some(byte) {
                self.held += 1;
                if self.held == self.keys.len() {
                    return (send, true);
                }
                continue;
            }
            send.extend_from_slice(&self.keys[..self.held]);
            self.held = 0;
            if self.keys.first() == Some(byte) {
                self.held = 1;
                if self.keys.len() == 1 {
                    return (send, true);
                }
            } else {
                send.push(*byte);
            }
        }
        (send, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read() {
        for (text, wanted) in [
            ("", Ok(vec![16, 17])),
            ("ctrl-a", Ok(vec![1])),
            ("a,ctrl-@,ctrl-_", Ok(vec![b'a', 0, 31])),
            ("ctrl-[,ctrl-\\", Ok(vec![27, 28])),
            (
                "shift-a",
                Err("invalid detach keys (shift-a): Unknown character: 'shift-a'".to_owned()),
            ),
            (
                "ctrl-1",
                Err("invalid detach keys (ctrl-1): Unknown character: 'ctrl-1'".to_owned()),
            ),
        ] {
            assert_eq!(parse(text), wanted);
        }
    }

    #[test]
    fn a_broken_sequence_is_sent_after_all() {
        let mut watch = Watch::new(vec![16, 17]);
        assert_eq!(watch.feed(b"ab\x10"), (b"ab".to_vec(), false));
        assert_eq!(watch.feed(b"c"), (b"\x10c".to_vec(), false));
        assert_eq!(watch.feed(b"\x10\x10"), (b"\x10".to_vec(), false));
        assert_eq!(watch.feed(b"\x11x"), (Vec::new(), true));
        assert_eq!(Watch::new(vec![1]).feed(b"a\x01b"), (b"a".to_vec(), true));
    }
}
