//! A connection through a SOCKS proxy, version 5 (RFC 1928), with user and password (RFC 1929) or without.

use std::net::SocketAddr;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::proxy::Refusal;

const VERSION: u8 = 5;
/// Version of the exchange of user and password.
const AUTHENTICATION_VERSION: u8 = 1;
const NOBODY: u8 = 0;
const BY_PASSWORD: u8 = 2;
const NO_METHOD: u8 = 0xff;
const CONNECT: u8 = 1;
const IPV4: u8 = 1;
const NAME: u8 = 3;
const IPV6: u8 = 4;

/// Where to: an address, or a name that the proxy is to resolve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    Address(SocketAddr),
    Name(String, u16),
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Name(name, port) => write!(f, "{name}:{port}"),
        }
    }
}

/// Asks the proxy at the other end to connect us with `target`. What follows on the link is between us and the target.
pub(super) async fn open<L: AsyncRead + AsyncWrite + Unpin>(
    link: &mut L,
    target: &Target,
    credentials: Option<(&str, &str)>,
) -> Result<(), Refusal> {
    let refused = |answer: &str| Refusal::Target {
        target: target.to_string(),
        answer: answer.to_owned(),
        passing: false,
    };
    let methods: &[u8] = match credentials {
        Some(_) => &[VERSION, 2, NOBODY, BY_PASSWORD],
        None => &[VERSION, 1, NOBODY],
    };
    send(link, methods).await?;
    let [VERSION, method] = receive(link).await? else {
        return Err(Refusal::Protocol("SOCKS 5"));
    };
    match (method, credentials) {
        (NOBODY, _) => {}
        (BY_PASSWORD, Some((user, password))) => {
            let mut proof = vec![AUTHENTICATION_VERSION];
            for text in [user, password] {
                // Each has one byte for its length.
                proof.push(u8::try_from(text.len()).map_err(|_| Refusal::Unknown)?);
                proof.extend_from_slice(text.as_bytes());
            }
            send(link, &proof).await?;
            let [_, 0] = receive(link).await? else {
                return Err(Refusal::Unknown);
            };
        }
        (NO_METHOD, Some(_)) => return Err(Refusal::Unknown),
        (NO_METHOD, None) => return Err(Refusal::Nobody),
        _ => return Err(Refusal::Protocol("SOCKS 5")),
    }
    let mut request = vec![VERSION, CONNECT, 0];
    let port = match target {
        Target::Address(SocketAddr::V4(address)) => {
            request.push(IPV4);
            request.extend_from_slice(&address.ip().octets());
            address.port()
        }
        Target::Address(SocketAddr::V6(address)) => {
            request.push(IPV6);
            request.extend_from_slice(&address.ip().octets());
            address.port()
        }
        Target::Name(name, port) => {
            let length = u8::try_from(name.len());
            request.extend([NAME, length.map_err(|_| refused("the name is too long"))?]);
            request.extend_from_slice(name.as_bytes());
            *port
        }
    };
    request.extend_from_slice(&port.to_be_bytes());
    send(link, &request).await?;
    let [VERSION, status, _, kind] = receive(link).await? else {
        return Err(Refusal::Protocol("SOCKS 5"));
    };
    if status != 0 {
        return Err(Refusal::Target {
            target: target.to_string(),
            answer: words(status),
            passing: matches!(status, 1 | 3 | 4 | 6),
        });
    }
    // The address that the proxy uses towards the target is nothing to us.
    let length = match kind {
        IPV4 => 4,
        IPV6 => 16,
        NAME => {
            let [length] = receive(link).await?;
            usize::from(length)
        }
        _ => return Err(Refusal::Protocol("SOCKS 5")),
    };
    let mut rest = vec![0; length + 2];
    link.read_exact(&mut rest).await.map_err(ended)?;
    Ok(())
}

async fn send<L: AsyncWrite + Unpin>(link: &mut L, bytes: &[u8]) -> Result<(), Refusal> {
    link.write_all(bytes).await?;
    Ok(link.flush().await?)
}

async fn receive<L: AsyncRead + Unpin, const N: usize>(link: &mut L) -> Result<[u8; N], Refusal> {
    let mut bytes = [0; N];
    link.read_exact(&mut bytes).await.map_err(ended)?;
    Ok(bytes)
}

fn ended(error: std::io::Error) -> Refusal {
    match error.kind() {
        std::io::ErrorKind::UnexpectedEof => Refusal::HungUp,
        _ => Refusal::Io(error),
    }
}

/// The meaning of a reply (RFC 1928 section 6).
fn words(status: u8) -> String {
    match status {
        1 => "general failure",
        2 => "not allowed by its rules",
        3 => "network unreachable",
        4 => "host unreachable",
        5 => "connection refused",
        6 => "time to live expired",
        7 => "command not supported",
        8 => "type of address not supported",
        other => return format!("reply {other}"),
    }
    .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::chain;

    /// What becomes of a proxy's answers, and what it was asked.
    fn told(
        answers: &[u8],
        target: &Target,
        credentials: Option<(&str, &str)>,
    ) -> (Result<(), Refusal>, Vec<u8>) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        runtime.block_on(async {
            let (mut ours, mut theirs) = tokio::io::duplex(64 << 10);
            theirs.write_all(answers).await.unwrap();
            theirs.shutdown().await.unwrap();
            let opened = open(&mut ours, target, credentials).await;
            drop(ours);
            let mut asked = Vec::new();
            theirs.read_to_end(&mut asked).await.unwrap();
            (opened, asked)
        })
    }

    #[test]
    fn the_exchange_is_the_one_of_the_rfc() {
        let name = Target::Name("r.lan".into(), 443);
        let (opened, asked) = told(b"\x05\x00\x05\x00\x00\x01\x7f\0\0\x01\x01\xbb", &name, None);
        opened.unwrap();
        assert_eq!(asked, b"\x05\x01\x00\x05\x01\x00\x03\x05r.lan\x01\xbb");
        let address = Target::Address("[2001:db8::1]:5000".parse().unwrap());
        let answers = b"\x05\x02\x01\x00\x05\x00\x00\x03\x02xy\x00\x00";
        let (opened, asked) = told(answers, &address, Some(("me", "secret")));
        opened.unwrap();
        assert_eq!(
            asked,
            b"\x05\x02\x00\x02\x01\x02me\x06secret\x05\x01\x00\x04\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01\x13\x88"
        );
        let me = Some(("me", "secret"));
        for (answers, credentials, words, is_final) in [
            (&b""[..], None, "it hung up without an answer", false),
            (b"HTTP/1.1 400", None, "its answer is none of SOCKS 5", true),
            (b"\x05\x02", None, "its answer is none of SOCKS 5", true),
            (b"\x05\xff", None, "it asks for a user and a password", true),
            (
                b"\x05\xff",
                me,
                "it does not take the user and password",
                true,
            ),
            (
                b"\x05\x02\x01\x01",
                me,
                "it does not take the user and password",
                true,
            ),
            (
                b"\x05\x00\x05\x02\0\x01",
                None,
                "it does not lead to r.lan:443: not allowed by its rules",
                true,
            ),
            (
                b"\x05\x00\x05\x04\0\x01",
                None,
                "it does not lead to r.lan:443: host unreachable",
                false,
            ),
            (
                b"\x05\x00\x05\x00\0\x09",
                None,
                "its answer is none of SOCKS 5",
                true,
            ),
            (
                b"\x05\x00\x05\x00\0\x01\x7f",
                None,
                "it hung up without an answer",
                false,
            ),
        ] {
            let refusal = told(answers, &name, credentials).0.unwrap_err();
            assert_eq!(
                (chain(&refusal).as_str(), refusal.is_final()),
                (words, is_final)
            );
        }
        let long = Target::Name("x".repeat(300), 1);
        assert!(told(b"\x05\x00", &long, None).0.is_err());
    }
}
