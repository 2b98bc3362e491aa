//! A plain HTTP/1.1 client for one request per connection, so that tests see the bytes on the wire
//! (and can send what no well-behaved client would).

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};

/// Time a server may stay silent.
const SILENCE: Duration = Duration::from_secs(60);

/// An answer with its whole body.
#[derive(Debug, Clone)]
pub struct Response {
    /// Status code.
    pub status: u16,
    /// Header lines, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body, transfer coding removed.
    pub body: Vec<u8>,
}

impl Response {
    /// The first value of a header, by its lower-case name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, value)| value.as_str())
    }

    /// The body as JSON; panics with the body when it is none.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        match serde_json::from_slice(&self.body) {
            Ok(value) => value,
            Err(error) => panic!("{error} in {}: {:?}", self.status, self.text()),
        }
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Panics unless the status is `status`.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert!(
            self.status == status,
            "expected {status}, got {}: {}",
            self.status,
            self.text()
        );
        self
    }
}

/// A connection over which a request can be sent.
pub trait Connection: Read + Write {}
impl Connection for UnixStream {}
impl Connection for TcpStream {}

/// Connects to a unix socket.
pub fn unix(path: &Path) -> Result<UnixStream> {
    let stream =
        UnixStream::connect(path).with_context(|| format!("connect to {}", path.display()))?;
    stream
        .set_read_timeout(Some(crate::wait::scaled(SILENCE)))
        .context("set a time limit")?;
    Ok(stream)
}

/// Connects to a TCP port of this machine.
pub fn loopback(port: u16) -> Result<TcpStream> {
    let stream = TcpStream::connect(("127.0.0.1", port))
        .with_context(|| format!("connect to port {port}"))?;
    stream
        .set_read_timeout(Some(crate::wait::scaled(SILENCE)))
        .context("set a time limit")?;
    Ok(stream)
}

/// Sends one request with a body of known length and reads the whole answer.
pub fn request(
    connection: impl Connection,
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Result<Response> {
    let mut reader = BufReader::new(connection);
    send(
        reader.get_mut(),
        method,
        target,
        "Connection: close\r\n",
        headers,
        body,
    )?;
    let (status, headers) = read_head(&mut reader)?;
    let body = read_body(&mut reader, status, &headers, method)
        .with_context(|| format!("read the answer to {method} {target}"))?;
    Ok(Response {
        status,
        headers,
        body,
    })
}

/// Sends one request that asks for the raw stream; gives the head and the stream after it.
pub fn upgrade<C: Connection>(
    connection: C,
    target: &str,
    body: &[u8],
) -> Result<(Response, BufReader<C>)> {
    let mut reader = BufReader::new(connection);
    let upgrade = "Connection: Upgrade\r\nUpgrade: tcp\r\n";
    let json = [("Content-Type", "application/json")];
    send(reader.get_mut(), "POST", target, upgrade, &json, body)?;
    let (status, headers) = read_head(&mut reader)?;
    let body = if status >= 400 {
        read_body(&mut reader, status, &headers, "POST")?
    } else {
        Vec::new()
    };
    Ok((
        Response {
            status,
            headers,
            body,
        },
        reader,
    ))
}

fn send(
    connection: &mut impl Write,
    method: &str,
    target: &str,
    kind: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Result<()> {
    let mut head = format!(
        "{method} {target} HTTP/1.1\r\nHost: localhost\r\n{kind}Content-Length: {}\r\n",
        body.len()
    );
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    connection
        .write_all(head.as_bytes())
        .and_then(|()| connection.write_all(body))
        .with_context(|| format!("send {method} {target}"))
}

fn read_head(reader: &mut impl BufRead) -> Result<(u16, Vec<(String, String)>)> {
    let first = read_line(reader)?;
    let status = first
        .split(' ')
        .nth(1)
        .and_then(|code| code.parse().ok())
        .ok_or_else(|| anyhow!("not an HTTP status line: {first:?}"))?;
    let mut headers = Vec::new();
    loop {
        let line = read_line(reader)?;
        if line.is_empty() {
            return Ok((status, headers));
        }
        let (name, value) = line
            .split_once(':')
            .ok_or_else(|| anyhow!("not a header line: {line:?}"))?;
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
}

fn read_body(
    reader: &mut impl BufRead,
    status: u16,
    headers: &[(String, String)],
    method: &str,
) -> Result<Vec<u8>> {
    let mut body = Vec::new();
    if method == "HEAD" || status == 204 || status == 304 || status < 200 {
        return Ok(body);
    }
    let value = |name: &str| {
        headers
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, v)| v.as_str())
    };
    if value("transfer-encoding").is_some_and(|coding| coding.contains("chunked")) {
        loop {
            let line = read_line(reader)?;
            let size = usize::from_str_radix(line.split(';').next().unwrap_or_default().trim(), 16)
                .with_context(|| format!("chunk size {line:?}"))?;
            if size == 0 {
                read_line(reader)?;
                return Ok(body);
            }
            let start = body.len();
            body.resize(start + size, 0);
            reader
                .read_exact(&mut body[start..])
                .context("read a chunk")?;
            read_line(reader)?;
        }
    }
    match value("content-length") {
        Some(length) => {
            body.resize(length.parse().context("content-length")?, 0);
            reader.read_exact(&mut body).context("read the body")?;
        }
        None => {
            reader.read_to_end(&mut body).context("read to the end")?;
        }
    }
    Ok(body)
}

fn read_line(reader: &mut impl BufRead) -> Result<String> {
    let mut line = String::new();
    if reader.read_line(&mut line).context("read a line")? == 0 {
        bail!("the connection ended within the head");
    }
    Ok(line.trim_end().to_owned())
}
