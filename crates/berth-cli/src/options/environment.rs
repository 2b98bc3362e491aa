//! `-e`, `--env-file`, `-l` and `--label-file`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;

use crate::limits::MAX_FILE;

/// Looks a variable of the client's own environment up.
pub(crate) type LookUp<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Whether the text is `NAME=value` or `NAME`.
pub(crate) fn check_variable(text: &str) -> Result<(), String> {
    match text.split('=').next() {
        Some("") | None => Err(format!("invalid environment variable: {text}")),
        _ => Ok(()),
    }
}

/// `NAME=value` as it is; `NAME` with the client's own value, or alone when it has none.
pub(crate) fn variable(text: &str, look_up: LookUp<'_>) -> String {
    if text.contains('=') {
        return text.to_owned();
    }
    match look_up(text) {
        Some(value) => format!("{text}={value}"),
        None => text.to_owned(),
    }
}

/// Whether the text is a label.
pub(crate) fn check_label(text: &str) -> Result<(), String> {
    let name = text
        .split('=')
        .next()
        .unwrap_or_default()
        .trim_start_matches([' ', '\t']);
    if name.is_empty() {
        return Err(format!("invalid label '{text}': empty name"));
    }
    if name.contains([' ', '\t']) {
        return Err(format!("label '{name}' contains whitespaces"));
    }
    Ok(())
}

/// Lines of `NAME=value` from a file. A name alone takes the client's own value if `look_up` is
/// given and it has one, and is left out otherwise.
pub(crate) fn read_file(path: &str, look_up: Option<LookUp<'_>>) -> Result<Vec<String>, String> {
    let mut content = Vec::new();
    let file = File::open(path).map_err(|error| format!("open {path}: {}", reason(&error)))?;
    file.take(MAX_FILE)
        .read_to_end(&mut content)
        .map_err(|error| format!("read {path}: {}", reason(&error)))?;
    lines(&content, look_up).map_err(|reason| format!("invalid env file ({path}): {reason}"))
}

/// An error of the operating system in its own words, as docker's messages show it.
pub(crate) fn reason(error: &std::io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut letters = text.chars();
    match letters.next() {
        Some(first) => first.to_lowercase().chain(letters).collect(),
        None => String::new(),
    }
}

fn lines(content: &[u8], look_up: Option<LookUp<'_>>) -> Result<Vec<String>, String> {
    let mut found = Vec::new();
    for (number, line) in content.split(|byte| *byte == b'\n').enumerate() {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let line = std::str::from_utf8(line)
            .map_err(|_| format!("invalid utf8 bytes at line {}: {line:?}", number + 1))?;
        let line = if number == 0 {
            line.trim_start_matches('\u{feff}')
        } else {
            line
        };
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, has_value) = match line.split_once('=') {
            Some((name, _)) => (name, true),
            None => (line, false),
        };
        if name.is_empty() {
            return Err(format!("no variable name on line '{line}'"));
        }
        if name.contains([' ', '\t']) {
            return Err(format!("variable '{name}' contains whitespaces"));
        }
        if has_value {
            found.push(line.to_owned());
        } else if let Some(value) = look_up.and_then(|look_up| look_up(name)) {
            found.push(format!("{name}={value}"));
        }
    }
    Ok(found)
}

/// `name=value` texts as a map; the last value of a name counts.
pub(crate) fn to_map<'a>(texts: impl IntoIterator<Item = &'a String>) -> BTreeMap<String, String> {
    texts
        .into_iter()
        .map(|text| text.split_once('=').unwrap_or((text, "")))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn home(name: &str) -> Option<String> {
        (name == "HOME").then(|| "/root".to_owned())
    }

    #[test]
    fn variables_take_the_client_s_value_when_they_have_none() {
        assert_eq!(variable("A=1=2", &home), "A=1=2");
        assert_eq!(variable("A=", &home), "A=");
        assert_eq!(variable("HOME", &home), "HOME=/root");
        assert_eq!(variable("NOPE", &home), "NOPE");
        assert_eq!(
            check_variable("=x").expect_err("no name"),
            "invalid environment variable: =x"
        );
    }

    #[test]
    fn files_hold_one_pair_per_line() {
        let content = "\u{feff}# note\n\nA=1\n  B=x y #z\r\nHOME\nNOPE\nC=\n";
        assert_eq!(
            lines(content.as_bytes(), Some(&home)).expect("reads"),
            ["A=1", "B=x y #z", "HOME=/root", "C="]
        );
        assert_eq!(
            lines(b"=x", None).expect_err("no name"),
            "no variable name on line '=x'"
        );
        assert_eq!(
            lines(b"a b=x", None).expect_err("space"),
            "variable 'a b' contains whitespaces"
        );
        assert!(lines(b"\xff=x", None).is_err());
        assert_eq!(
            read_file("/nofile", None).expect_err("no file"),
            "open /nofile: no such file or directory"
        );
    }

    #[test]
    fn labels_need_a_name() {
        assert_eq!(check_label("a.b=c d"), Ok(()));
        assert_eq!(
            check_label("=").expect_err("empty"),
            "invalid label '=': empty name"
        );
        assert_eq!(
            check_label("a b=c").expect_err("space"),
            "label 'a b' contains whitespaces"
        );
    }
}
