//! The query part of a request: `application/x-www-form-urlencoded`, as Go reads and writes it.

use crate::limits::MAX_QUERY_PARAMETERS;
use std::fmt::Write as _;

/// Parameters in the order given. A name may occur several times.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query(Vec<(String, String)>);

/// A query that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// A `%` that is not followed by two hexadecimal digits, or bytes that are not UTF-8.
    #[error("invalid URL escape in {0:?}")]
    Escape(String),
    /// A semicolon, which some readers take for a separator.
    #[error("invalid semicolon separator in query")]
    Semicolon,
    /// More parameters than the limit.
    #[error("more than {MAX_QUERY_PARAMETERS} query parameters")]
    TooMany,
}

impl Query {
    /// No parameters.
    pub fn new() -> Query {
        Query::default()
    }

    /// Adds a parameter.
    pub fn add(&mut self, name: &str, value: impl Into<String>) -> &mut Query {
        self.0.push((name.to_owned(), value.into()));
        self
    }

    /// Adds a parameter unless its value is empty.
    pub fn add_text(&mut self, name: &str, value: &str) -> &mut Query {
        if !value.is_empty() {
            self.add(name, value);
        }
        self
    }

    /// Adds `name=1` if `value` holds.
    pub fn add_flag(&mut self, name: &str, value: bool) -> &mut Query {
        if value {
            self.add(name, "1");
        }
        self
    }

    /// Reads a query (without the question mark).
    ///
    /// # Errors
    /// On bad escapes, semicolons and too many parameters.
    pub fn parse(text: &str) -> Result<Query, QueryError> {
        let mut query = Query::new();
        for part in text.split('&').filter(|part| !part.is_empty()) {
            if part.contains(';') {
                return Err(QueryError::Semicolon);
            }
            if query.0.len() == MAX_QUERY_PARAMETERS {
                return Err(QueryError::TooMany);
            }
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            query.0.push((decode(name, true)?, decode(value, true)?));
        }
        Ok(query)
    }

    /// The first value of a name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(found, _)| found == name)
            .map(|(_, value)| value.as_str())
    }

    /// Every value of a name.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0
            .iter()
            .filter(move |(found, _)| found == name)
            .map(|(_, value)| value.as_str())
    }

    /// Whether there is no parameter.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The query as text, with a leading question mark unless it is empty.
    pub fn to_suffix(&self) -> String {
        let mut text = String::new();
        for (name, value) in &self.0 {
            text.push(if text.is_empty() { '?' } else { '&' });
            encode(&mut text, name);
            text.push('=');
            encode(&mut text, value);
        }
        text
    }
}

fn encode(text: &mut String, value: &str) {
    for byte in value.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                text.push(byte as char)
            }
            b' ' => text.push('+'),
            _ => {
                let _ = write!(text, "%{byte:02X}");
            }
        }
    }
}

/// One path segment (or several: slashes stay), escaped.
pub(crate) fn encode_path(value: &str) -> String {
    let mut text = String::new();
    for byte in value.bytes() {
        match byte {
            b'A'..=b'Z'
            | b'a'..=b'z'
            | b'0'..=b'9'
            | b'-'
            | b'_'
            | b'.'
            | b'~'
            | b'/'
            | b':'
            | b'@'
            | b'+' => {
                text.push(byte as char);
            }
            _ => {
                let _ = write!(text, "%{byte:02X}");
            }
        }
    }
    text
}

/// Undoes percent escapes, and `+` for a space where the text is a form's.
///
/// # Errors
/// On a bad escape and on bytes that are not UTF-8.
pub fn decode(text: &str, form: bool) -> Result<String, QueryError> {
    let bad = || QueryError::Escape(text.chars().take(64).collect());
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' if form => b' ',
            b'%' => {
                let mut digit = || rest.next().and_then(|byte| (byte as char).to_digit(16));
                let (high, low) = (digit().ok_or_else(bad)?, digit().ok_or_else(bad)?);
                (high * 16 + low) as u8
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).map_err(|_| bad())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_round_trips() {
        let mut query = Query::new();
        query
            .add("a b", "c&d=ü/%")
            .add_flag("x", true)
            .add_flag("y", false)
            .add_text("z", "");
        let text = query.to_suffix();
        assert_eq!(text, "?a+b=c%26d%3D%C3%BC%2F%25&x=1");
        assert_eq!(Query::parse(&text[1..]).unwrap(), query);
    }

    #[test]
    fn bad_escapes_are_refused() {
        for bad in ["a=%", "a=%g0", "a=%ff", "a;b"] {
            assert!(Query::parse(bad).is_err(), "{bad}");
        }
        assert!(Query::parse(&"a&".repeat(MAX_QUERY_PARAMETERS + 1)).is_err());
    }
}
