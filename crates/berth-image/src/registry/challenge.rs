//! `WWW-Authenticate` challenges and token answers (RFC 9110 section 11; distribution's token specification). Pure.

use std::time::Duration;

use serde::Deserialize;

use crate::error::{ImageError, Result};
use crate::limits;

/// Credentials for a registry, as the caller got them from its user.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    /// User name.
    pub username: String,
    /// Password.
    pub password: String,
    /// A refresh token that stands for user and password.
    pub identity_token: String,
    /// A bearer token that is sent as it is.
    pub registry_token: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials")
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}

impl Credentials {
    /// Whether user name or password are there.
    pub(crate) fn has_password(&self) -> bool {
        !self.username.is_empty() || !self.password.is_empty()
    }
}

/// One way to prove who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Challenge {
    Basic,
    Bearer {
        realm: String,
        service: Option<String>,
        scope: Option<String>,
    },
}

/// Reads one header; challenges of other schemes are passed over.
pub(crate) fn parse(header: &str) -> Vec<Challenge> {
    let mut found = Vec::new();
    let mut rest = header.trim_start();
    while !rest.is_empty() && found.len() < 8 {
        let end = rest.find([' ', ',']).unwrap_or(rest.len());
        let scheme = &rest[..end];
        rest = rest[end..].trim_start_matches([' ', ',', '\t']);
        let mut parameters: Vec<(String, String)> = Vec::new();
        while let Some((name, value, after)) = parameter(rest) {
            parameters.push((name, value));
            rest = after;
        }
        let get = |wanted: &str| {
            parameters
                .iter()
                .find(|(name, _)| name == wanted)
                .map(|(_, value)| value.clone())
        };
        if scheme.eq_ignore_ascii_case("basic") {
            found.push(Challenge::Basic);
        } else if scheme.eq_ignore_ascii_case("bearer")
            && let Some(realm) = get("realm")
        {
            found.push(Challenge::Bearer {
                realm,
                service: get("service"),
                scope: get("scope"),
            });
        }
    }
    found
}

/// `name=token` or `name="text"`, with the comma after it.
fn parameter(text: &str) -> Option<(String, String, &str)> {
    let equals = text.find('=')?;
    let name = text[..equals].trim_end();
    if name.is_empty() || name.contains([' ', ',', '"']) {
        return None;
    }
    let after = text[equals + 1..].trim_start();
    let (value, rest) = if let Some(quoted) = after.strip_prefix('"') {
        let mut value = String::new();
        let mut characters = quoted.char_indices();
        let end = loop {
            match characters.next() {
                Some((_, '\\')) => value.push(characters.next()?.1),
                Some((at, '"')) => break at + 1,
                Some((_, character)) => value.push(character),
                None => return None,
            }
        };
        (value, &quoted[end..])
    } else {
        let end = after.find([',', ' ']).unwrap_or(after.len());
        (after[..end].to_owned(), &after[end..])
    };
    let rest = rest.trim_start_matches([' ', '\t']);
    let rest = rest.strip_prefix(',').unwrap_or(rest).trim_start();
    Some((name.to_ascii_lowercase(), value, rest))
}

/// What a token server gave.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Token {
    /// The bearer token.
    pub(crate) token: String,
    /// How long it may be used.
    pub(crate) lifetime: Duration,
    /// A token that stands for user and password from now on, when one was asked for.
    pub(crate) refresh: Option<String>,
}

/// Reads the answer of a token server.
pub(crate) fn parse_token(bytes: &[u8], object: &str) -> Result<Token> {
    #[derive(Deserialize)]
    struct Answer {
        #[serde(default)]
        token: Option<String>,
        #[serde(default)]
        access_token: Option<String>,
        #[serde(default)]
        expires_in: Option<u64>,
        #[serde(default)]
        refresh_token: Option<String>,
    }
    let answer: Answer = crate::documents::parse_json(bytes, object)?;
    let token = answer
        .token
        .filter(|token| !token.is_empty())
        .or(answer.access_token)
        .filter(|token| !token.is_empty())
        .ok_or_else(|| ImageError::archive(object, "it has no token"))?;
    // Some minutes at most: registries differ in what they mean by the number.
    let lifetime =
        Duration::from_secs(answer.expires_in.unwrap_or(0).min(3600)).max(limits::TOKEN_LIFETIME);
    Ok(Token {
        token,
        lifetime,
        refresh: answer.refresh_token.filter(|token| !token.is_empty()),
    })
}

/// Percent-encodes everything but unreserved characters (RFC 3986 section 2.3).
pub(crate) fn percent_encode(text: &str) -> String {
    use std::fmt::Write as _;
    text.bytes()
        .fold(String::with_capacity(text.len()), |mut out, byte| {
            if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
                out.push(char::from(byte));
            } else {
                let _ = write!(out, "%{byte:02X}");
            }
            out
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_read() {
        assert_eq!(
            parse(
                r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push""#
            ),
            [Challenge::Bearer {
                realm: "https://auth.docker.io/token".into(),
                service: Some("registry.docker.io".into()),
                scope: Some("repository:a/b:pull,push".into()),
            }]
        );
        assert_eq!(parse(r#"Basic realm="x y""#), [Challenge::Basic]);
        assert_eq!(
            parse(r#"Negotiate, Basic realm="a\"b", Bearer realm=http://t"#),
            [
                Challenge::Basic,
                Challenge::Bearer {
                    realm: "http://t".into(),
                    service: None,
                    scope: None
                }
            ]
        );
        for odd in [
            "",
            ",",
            "Bearer",
            "Bearer realm=\"",
            "=",
            "Bearer =x",
            "a b c",
        ] {
            assert!(parse(odd).is_empty(), "{odd}");
        }
    }

    #[test]
    fn tokens_have_a_lifetime() {
        let answer = parse_token(
            br#"{"access_token":"t","expires_in":5,"refresh_token":"r"}"#,
            "x",
        )
        .unwrap();
        assert_eq!(
            (answer.token.as_str(), answer.lifetime),
            ("t", limits::TOKEN_LIFETIME)
        );
        assert_eq!(answer.refresh.as_deref(), Some("r"));
        assert!(parse_token(b"{}", "x").is_err());
        assert_eq!(percent_encode("a b:/é"), "a%20b%3A%2F%C3%A9");
    }

    proptest::proptest! {
        #[test]
        fn no_header_makes_the_parser_fail(text in ".{0,200}") {
            let _ = parse(&text);
        }
    }
}
