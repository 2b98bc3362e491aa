//! One line of comma-separated fields with quotes (RFC 4180), as `--mount`, `--network` and `--gpus`
//! are written.

use crate::flags::Flag;

/// A flag that may be given several times, with several values each time.
pub(crate) fn flag(name: &'static str, about: &'static str) -> Flag {
    Flag::many(name, "strings", check, about)
}

/// The fields of a line.
///
/// # Errors
/// The sentence on a misplaced quotation mark.
pub(crate) fn fields(line: &str) -> Result<Vec<String>, String> {
    let line = line.lines().next().unwrap_or_default();
    if line.is_empty() {
        return Err("EOF".to_owned());
    }
    let mut fields = Vec::new();
    let mut characters = line.char_indices().peekable();
    loop {
        let mut field = String::new();
        if characters
            .peek()
            .is_some_and(|(_, character)| *character == '"')
        {
            characters.next();
            loop {
                match characters.next() {
                    Some((_, '"')) => match characters.peek() {
                        Some((_, '"')) => {
                            characters.next();
                            field.push('"');
                        }
                        Some((_, ',')) | None => break,
                        Some((at, _)) => {
                            return Err(misplaced(*at, "extraneous or missing \" in quoted-field"));
                        }
                    },
                    Some((_, character)) => field.push(character),
                    None => {
                        return Err(misplaced(
                            line.len(),
                            "extraneous or missing \" in quoted-field",
                        ));
                    }
                }
            }
        } else {
            while let Some((at, character)) = characters.next_if(|(_, character)| *character != ',')
            {
                if character == '"' {
                    return Err(misplaced(at, "bare \" in non-quoted-field"));
                }
                field.push(character);
            }
        }
        fields.push(field);
        if characters.next().is_none() {
            return Ok(fields);
        }
    }
}

/// The values of a flag that takes several at once; an empty text holds none.
///
/// # Errors
/// The same.
pub(crate) fn values(text: &str) -> Result<Vec<String>, String> {
    if text.is_empty() {
        Ok(Vec::new())
    } else {
        fields(text)
    }
}

/// All values of such a flag that was given as often as wanted.
///
/// # Errors
/// The same.
pub(crate) fn all(texts: &[String]) -> Result<Vec<String>, String> {
    let mut found = Vec::new();
    for text in texts {
        found.extend(values(text)?);
    }
    Ok(found)
}

/// Whether the text is a list of values.
pub(crate) fn check(text: &str) -> Result<(), String> {
    values(text).map(|_| ())
}

fn misplaced(at: usize, reason: &str) -> String {
    format!("parse error on line 1, column {}: {reason}", at + 1)
}

#[cfg(test)]
mod tests {
    use super::fields;

    #[test]
    fn quotes_keep_commas() {
        for (line, wanted) in [
            ("a,b=c", vec!["a", "b=c"]),
            ("a,", vec!["a", ""]),
            ("\"a,b\",c", vec!["a,b", "c"]),
            ("\"a\"\"b\"", vec!["a\"b"]),
        ] {
            assert_eq!(
                fields(line).as_deref(),
                Ok(wanted
                    .iter()
                    .map(ToString::to_string)
                    .collect::<Vec<_>>()
                    .as_slice()),
                "{line}"
            );
        }
        assert_eq!(fields("").expect_err("empty"), "EOF");
        assert_eq!(
            fields("\"").expect_err("open quote"),
            "parse error on line 1, column 2: extraneous or missing \" in quoted-field"
        );
        assert!(fields("a\"b").is_err());
        assert!(fields("\"a\"b").is_err());
    }
}
