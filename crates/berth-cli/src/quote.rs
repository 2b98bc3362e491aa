//! Texts in quotation marks as Go writes them (`%q`), which docker's messages and tables show.

/// The text in double quotes with Go's escapes.
pub(crate) fn go_quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for character in text.chars() {
        match character {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\u{7}' => quoted.push_str("\\a"),
            '\u{8}' => quoted.push_str("\\b"),
            '\u{c}' => quoted.push_str("\\f"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\u{b}' => quoted.push_str("\\v"),
            control if (control as u32) < 0x20 || control == '\u{7f}' => {
                quoted.push_str(&format!("\\x{:02x}", control as u32));
            }
            hidden if hidden.is_control() || is_invisible(hidden) => {
                let code = hidden as u32;
                if code < 0x10000 {
                    quoted.push_str(&format!("\\u{code:04x}"));
                } else {
                    quoted.push_str(&format!("\\U{code:08x}"));
                }
            }
            visible => quoted.push(visible),
        }
    }
    quoted.push('"');
    quoted
}

/// Characters that would move or hide what follows: space separators other than the space itself,
/// and the format characters that reorder text.
fn is_invisible(character: char) -> bool {
    matches!(character,
        '\u{a0}' | '\u{ad}' | '\u{1680}' | '\u{2000}'..='\u{200f}' | '\u{2028}'..='\u{202f}'
        | '\u{205f}'..='\u{206f}' | '\u{3000}' | '\u{feff}' | '\u{fffd}' if character != '\u{fffd}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoting_follows_go() {
        for (text, quoted) in [
            ("sh", "\"sh\""),
            ("a\"b\\", "\"a\\\"b\\\\\""),
            ("a\nb\t\u{1b}[0m", "\"a\\nb\\t\\x1b[0m\""),
            ("sleep 1…", "\"sleep 1…\""),
            ("\u{200b}x\u{a0}", "\"\\u200bx\\u00a0\""),
        ] {
            assert_eq!(go_quote(text), quoted);
        }
    }
}
