//! A token server as registries name them in their challenges (distribution's token specification): it knows one
//! user, gives anonymous callers what is public, and signs what it gives with a key of its own.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};
use std::{process, thread};

use anyhow::{Context, Result, bail};
use serde_json::json;

use crate::needs;
use crate::registry::{PASSWORD, USER};

/// Name of the registry in tokens.
const SERVICE: &str = "test registry";
/// Name of the server in tokens.
const ISSUER: &str = "test tokens";
/// Stands for user and password once somebody logged in.
pub const REFRESH_TOKEN: &str = "a-refresh-token";

/// A running token server; ends when dropped.
#[derive(Debug)]
pub struct TokenServer {
    port: u16,
    directory: PathBuf,
    log: Arc<Mutex<Vec<Asked>>>,
    ended: Arc<AtomicBool>,
}

/// One request for a token.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Asked {
    /// The scopes asked for.
    pub scopes: Vec<String>,
    /// Who asked; empty for nobody in particular.
    pub user: String,
    /// Whether a refresh token proved it.
    pub by_refresh_token: bool,
    /// Whether a refresh token was asked for.
    pub offline: bool,
}

impl TokenServer {
    /// Starts with a new key in `directory`.
    #[track_caller]
    pub fn start(directory: &Path) -> Self {
        needs::program("openssl", "openssl");
        match Self::try_start(directory) {
            Ok(server) => server,
            Err(error) => panic!("{error:#}"),
        }
    }

    fn try_start(directory: &Path) -> Result<Self> {
        fs::create_dir_all(directory).with_context(|| format!("create {}", directory.display()))?;
        let made = process::Command::new("openssl")
            .current_dir(directory)
            .args([
                "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
            ])
            .args([
                "-subj",
                "/CN=tokens",
                "-keyout",
                "key.pem",
                "-out",
                "cert.pem",
            ])
            .output()
            .context("run openssl")?;
        if !made.status.success() {
            bail!(
                "openssl makes no key: {}",
                String::from_utf8_lossy(&made.stderr)
            );
        }
        let listener = TcpListener::bind(("127.0.0.1", 0)).context("listen on a free port")?;
        let server = Self {
            port: listener.local_addr().context("ask for the port")?.port(),
            directory: directory.to_owned(),
            log: Arc::default(),
            ended: Arc::default(),
        };
        let (log, ended) = (Arc::clone(&server.log), Arc::clone(&server.ended));
        let keys = directory.to_owned();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if ended.load(Ordering::Relaxed) {
                    return;
                }
                // A client that goes away in between is no matter of the server's.
                drop(answer(&client, &keys, &log));
            }
        });
        Ok(server)
    }

    /// What a registry's configuration says to believe these tokens.
    pub(crate) fn configuration(&self) -> String {
        format!(
            "auth: {{token: {{realm: \"http://127.0.0.1:{}/token\", service: \"{SERVICE}\", issuer: \"{ISSUER}\", rootcertbundle: {}}}}}\n",
            self.port,
            self.directory.join("cert.pem").display()
        )
    }

    /// Every request so far.
    pub fn log(&self) -> Vec<Asked> {
        self.log
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl Drop for TokenServer {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        // Wakes the thread that waits for connections.
        drop(TcpStream::connect(("127.0.0.1", self.port)));
    }
}

fn answer(client: &TcpStream, keys: &Path, log: &Mutex<Vec<Asked>>) -> Result<()> {
    let mut reader = BufReader::new(client);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let target = line.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut headers = HashMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        match line.trim_end().split_once(": ") {
            Some((name, value)) => headers.insert(name.to_ascii_lowercase(), value.to_owned()),
            None => break,
        };
    }
    let length: u64 = headers
        .get("content-length")
        .and_then(|text| text.parse().ok())
        .unwrap_or(0);
    let mut body = String::new();
    (&mut reader).take(length).read_to_string(&mut body)?;
    let query = target.split_once('?').map_or("", |(_, query)| query);
    let parameters: Vec<(String, String)> = query
        .split('&')
        .chain(body.split('&'))
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (name.to_owned(), decode(value)))
        .collect();
    let values = |wanted: &str| -> Vec<String> {
        parameters
            .iter()
            .filter(|(name, _)| name == wanted)
            .flat_map(|(_, value)| value.split(' '))
            .filter(|value| !value.is_empty())
            .map(str::to_owned)
            .collect()
    };
    let refresh = values("refresh_token");
    let credentials = headers
        .get("authorization")
        .and_then(|value| value.strip_prefix("Basic "));
    let known = base64(format!("{USER}:{PASSWORD}").as_bytes());
    let asked = Asked {
        scopes: values("scope"),
        user: if credentials.is_some() || !refresh.is_empty() {
            USER.to_owned()
        } else {
            String::new()
        },
        by_refresh_token: !refresh.is_empty(),
        offline: values("offline_token") == ["true"],
    };
    let refused = credentials.is_some_and(|given| given != known)
        || refresh.iter().any(|given| given != REFRESH_TOKEN);
    log.lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(asked.clone());
    let (status, text) = if refused {
        let words = json!({"errors": [{"code": "UNAUTHORIZED", "message": "incorrect username or password"}]});
        (401, words)
    } else {
        let token = token(keys, &asked)?;
        let mut words = json!({"token": token, "access_token": token, "expires_in": 300});
        if asked.offline && !asked.user.is_empty() {
            words["refresh_token"] = json!(REFRESH_TOKEN);
        }
        (200, words)
    };
    let text = text.to_string();
    let mut client = client;
    write!(
        client,
        "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{text}",
        text.len()
    )?;
    Ok(())
}

/// A signed token (RFC 7519, RS256). Nobody in particular may pull from `public/`, and nothing else.
fn token(keys: &Path, asked: &Asked) -> Result<String> {
    let access: Vec<serde_json::Value> = asked
        .scopes
        .iter()
        .filter_map(|scope| {
            let (kind, rest) = scope.split_once(':')?;
            let (name, actions) = rest.rsplit_once(':')?;
            let actions: Vec<&str> = actions
                .split(',')
                .filter(|action| {
                    !asked.user.is_empty() || (name.starts_with("public/") && *action == "pull")
                })
                .collect();
            Some(json!({"type": kind, "name": name, "actions": actions}))
        })
        .collect();
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let certificate = fs::read_to_string(keys.join("cert.pem")).context("read the certificate")?;
    let certificate: String = certificate
        .lines()
        .filter(|line| !line.starts_with("-----"))
        .collect();
    let head = json!({"typ": "JWT", "alg": "RS256", "x5c": [certificate]});
    let claims = json!({
        "iss": ISSUER, "sub": asked.user, "aud": SERVICE, "exp": now + 300, "nbf": now - 10,
        "iat": now - 10, "jti": format!("{now}"), "access": access,
    });
    let signed = format!(
        "{}.{}",
        url(&base64(head.to_string().as_bytes())),
        url(&base64(claims.to_string().as_bytes()))
    );
    let mut signer = process::Command::new("openssl")
        .args(["dgst", "-sha256", "-sign"])
        .arg(keys.join("key.pem"))
        .stdin(process::Stdio::piped())
        .stdout(process::Stdio::piped())
        .spawn()
        .context("run openssl")?;
    if let Some(mut input) = signer.stdin.take() {
        input.write_all(signed.as_bytes()).context("sign a token")?;
    }
    let signature = signer.wait_with_output().context("sign a token")?.stdout;
    Ok(format!("{signed}.{}", url(&base64(&signature))))
}

fn decode(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'%' => {
                let digits = [rest.next().unwrap_or(b'0'), rest.next().unwrap_or(b'0')];
                let text = String::from_utf8_lossy(&digits).into_owned();
                bytes.push(u8::from_str_radix(&text, 16).unwrap_or(b'?'));
            }
            b'+' => bytes.push(b' '),
            other => bytes.push(other),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Base64 (RFC 4648 section 4).
pub fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let number = chunk
            .iter()
            .chain([0, 0].iter())
            .take(3)
            .fold(0_u32, |number, byte| number << 8 | u32::from(*byte));
        for place in 0..4 {
            if place <= chunk.len() {
                let digit = (number >> (18 - 6 * place)) & 63;
                text.push(char::from(ALPHABET[digit as usize]));
            } else {
                text.push('=');
            }
        }
    }
    text
}

fn url(base64: &str) -> String {
    base64
        .trim_end_matches('=')
        .replace('+', "-")
        .replace('/', "_")
}
