//! A tunnel through an HTTP proxy: `CONNECT` (RFC 9110 section 9.3.6).

use http::HeaderValue;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::proxy::Refusal;

/// Longest head of an answer.
const HEAD_BYTES_MAX: usize = 16 << 10;
/// Letters shown of the words that a proxy gives for its refusal.
const WORDS_MAX: usize = 80;

/// Host and port as `CONNECT` and people write them.
pub(super) fn target(host: &str, port: u16) -> String {
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

/// Asks the proxy at the other end to connect us with `target`. What follows on the link is between us and the target.
pub(super) async fn open<L: AsyncRead + AsyncWrite + Unpin>(
    link: &mut L,
    target: &str,
    credentials: Option<&HeaderValue>,
) -> Result<(), Refusal> {
    let mut request = format!(
        "CONNECT {target} HTTP/1.1\r\nHost: {target}\r\nUser-Agent: {}\r\n",
        super::USER_AGENT
    )
    .into_bytes();
    if let Some(credentials) = credentials {
        request.extend_from_slice(b"Proxy-Authorization: ");
        request.extend_from_slice(credentials.as_bytes());
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"\r\n");
    link.write_all(&request).await?;
    link.flush().await?;
    let mut head = Vec::new();
    let mut piece = [0; 1024];
    loop {
        let count = link.read(&mut piece).await?;
        if count == 0 {
            return Err(Refusal::HungUp);
        }
        head.extend_from_slice(&piece[..count]);
        if !b"HTTP/1.".starts_with(&head[..head.len().min(7)]) {
            return Err(Refusal::Protocol("HTTP"));
        }
        if let Some(end) = head.windows(4).position(|four| four == b"\r\n\r\n") {
            let (status, answer) = status(&head).ok_or(Refusal::Protocol("HTTP"))?;
            return match status {
                // In TLS it is our turn to speak: what is there already is not the target's.
                200..=299 if head.len() > end + 4 => Err(Refusal::Protocol("HTTP")),
                200..=299 => Ok(()),
                // Some say 401, which no target can have said.
                401 | 407 if credentials.is_some() => Err(Refusal::Unknown),
                407 => Err(Refusal::Nobody),
                _ => Err(Refusal::Target {
                    target: target.to_owned(),
                    answer,
                    passing: matches!(status, 408 | 425 | 429 | 500 | 502..=504),
                }),
            };
        }
        if head.len() > HEAD_BYTES_MAX {
            return Err(Refusal::Protocol("HTTP"));
        }
    }
}

/// The status of an answer, and the line's own words without control characters.
fn status(head: &[u8]) -> Option<(u16, String)> {
    let line = head.split(|byte| *byte == b'\r').next()?;
    let line = String::from_utf8_lossy(line).into_owned();
    let (_, words) = line.split_once(' ')?;
    let code = words.get(..3)?.parse().ok()?;
    let shown = words
        .chars()
        .filter(|letter| !letter.is_control())
        .take(WORDS_MAX)
        .collect::<String>();
    Some((code, shown.trim_end().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::chain;

    /// What becomes of a proxy's answer, which comes in two pieces and then ends.
    fn told(answer: &str, credentials: Option<&HeaderValue>) -> (Result<(), Refusal>, String) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        runtime.block_on(async {
            let (mut ours, mut theirs) = tokio::io::duplex(64 << 10);
            let proxy = async {
                let mut asked = vec![0; 4096];
                let count = theirs.read(&mut asked).await.unwrap();
                asked.truncate(count);
                let (first, second) = answer.split_at(answer.len() / 2);
                for piece in [first, second] {
                    // Whoever asked may have heard enough.
                    let _ = theirs.write_all(piece.as_bytes()).await;
                    tokio::task::yield_now().await;
                }
                drop(theirs);
                String::from_utf8(asked).unwrap()
            };
            tokio::join!(open(&mut ours, "r.lan:443", credentials), proxy)
        })
    }

    #[test]
    fn a_tunnel_is_open_after_a_success_alone() {
        let secret = HeaderValue::from_static("Basic bWU6c2VjcmV0");
        let (opened, asked) = told(
            "HTTP/1.1 200 Connection established\r\nA: b\r\n\r\n",
            Some(&secret),
        );
        opened.unwrap();
        assert!(
            asked.starts_with("CONNECT r.lan:443 HTTP/1.1\r\nHost: r.lan:443\r\n"),
            "{asked}"
        );
        assert!(
            asked.ends_with("Proxy-Authorization: Basic bWU6c2VjcmV0\r\n\r\n"),
            "{asked}"
        );
        for (answer, words, is_final) in [
            ("", "it hung up without an answer", false),
            ("HTTP/1.1 200 O", "it hung up without an answer", false),
            (
                "SSH-2.0-OpenSSH_9.2\r\n",
                "its answer is none of HTTP",
                true,
            ),
            (
                "HTTP/1.1 2x0 OK\r\n\r\n",
                "its answer is none of HTTP",
                true,
            ),
            (
                "HTTP/1.1 200 OK\r\n\r\nmore",
                "its answer is none of HTTP",
                true,
            ),
            (
                "HTTP/1.0 407 Proxy\r\n\r\n",
                "it asks for a user and a password",
                true,
            ),
            (
                "HTTP/1.1 403 Filtered\u{1b}[2J\r\n\r\n<html>",
                "it does not lead to r.lan:443: 403 Filtered[2J",
                true,
            ),
            (
                "HTTP/1.1 502 No\r\n\r\n",
                "it does not lead to r.lan:443: 502 No",
                false,
            ),
        ] {
            let refusal = told(answer, None).0.unwrap_err();
            assert_eq!(
                (chain(&refusal).as_str(), refusal.is_final()),
                (words, is_final)
            );
        }
        let endless = format!("HTTP/1.1 200 OK\r\nA: {}", "b".repeat(HEAD_BYTES_MAX));
        assert!(matches!(told(&endless, None).0, Err(Refusal::Protocol(_))));
        assert!(matches!(
            told("HTTP/1.1 407 No\r\n\r\n", Some(&secret)).0,
            Err(Refusal::Unknown)
        ));
        assert_eq!(target("2001:db8::1", 443), "[2001:db8::1]:443");
    }
}
