//! Talking to a credential helper: the program `docker-credential-NAME`, one action per run, what it needs on its
//! standard input, JSON or a sentence on its standard output.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::limits::MAX_HELPER_OUTPUT;

#[derive(Deserialize)]
struct Answer {
    #[serde(rename = "Username")]
    username: String,
    #[serde(rename = "Secret")]
    secret: String,
}

#[derive(Serialize)]
struct Entry<'a> {
    #[serde(rename = "ServerURL")]
    server: &'a str,
    #[serde(rename = "Username")]
    username: &'a str,
    #[serde(rename = "Secret")]
    secret: &'a str,
}

/// The sentence with which helpers say that they have nothing.
const NOT_FOUND: &str = "credentials not found";

/// User and secret of a key; `None` when the helper has none.
pub(super) fn get(helper: &str, key: &str) -> Result<Option<(String, String)>, Failure> {
    match run(helper, "get", key.as_bytes(), key)? {
        Ok(output) => {
            let answer: Answer = serde_json::from_slice(&output)
                .map_err(|error| failed(helper, "get", key, &error.to_string()))?;
            Ok(Some((answer.username, answer.secret)))
        }
        Err(said) if said.contains(NOT_FOUND) => Ok(None),
        Err(said) => Err(failed(helper, "get", key, &said)),
    }
}

/// Gives the helper a secret to keep.
pub(super) fn store(helper: &str, key: &str, username: &str, secret: &str) -> Result<(), Failure> {
    let entry = Entry {
        server: key,
        username,
        secret,
    };
    let input = serde_json::to_vec(&entry)
        .map_err(|error| failed(helper, "store", key, &error.to_string()))?;
    run(helper, "store", &input, key)?
        .map(drop)
        .map_err(|said| failed(helper, "store", key, &said))
}

/// Has the helper forget a key, which it may not know.
pub(super) fn erase(helper: &str, key: &str) -> Result<(), Failure> {
    match run(helper, "erase", key.as_bytes(), key)? {
        Err(said) if !said.contains(NOT_FOUND) => Err(failed(helper, "erase", key, &said)),
        _ => Ok(()),
    }
}

/// The helper that is used where nothing was decided, if it is installed.
pub(super) fn usual() -> Option<&'static str> {
    let name = match is_installed("pass") {
        true => "pass",
        false => "secretservice",
    };
    is_installed(&format!("docker-credential-{name}")).then_some(name)
}

fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| {
        std::fs::metadata(directory.join(program))
            .is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
    })
}

fn failed(helper: &str, action: &str, key: &str, reason: &str) -> Failure {
    let what = match action {
        "store" => "give docker-credential-{} the credentials of",
        "erase" => "have docker-credential-{} forget the credentials of",
        _ => "ask docker-credential-{} for the credentials of",
    };
    Failure::new(format!("{} {key}: {reason}", what.replace("{}", helper)))
}

/// Runs one action: what it wrote, or what it said when it refused.
fn run(
    helper: &str,
    action: &str,
    input: &[u8],
    key: &str,
) -> Result<Result<Vec<u8>, String>, Failure> {
    let broken = |error: std::io::Error| failed(helper, action, key, &error.to_string());
    // Helpers ask for passwords of their own on the terminal, and tell their troubles there.
    let mut child = Command::new(format!("docker-credential-{helper}"))
        .arg(action)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .map_err(broken)?;
    if let Some(mut pipe) = child.stdin.take() {
        // A helper that does not read still answers, so a broken pipe tells nothing.
        let _ = pipe.write_all(input);
    }
    let mut output = Vec::new();
    if let Some(pipe) = child.stdout.take() {
        pipe.take(MAX_HELPER_OUTPUT)
            .read_to_end(&mut output)
            .map_err(broken)?;
    }
    let status = child.wait().map_err(broken)?;
    if status.success() {
        return Ok(Ok(output));
    }
    let said = String::from_utf8_lossy(&output).trim().to_owned();
    Ok(Err(match said.is_empty() {
        true => status.to_string(),
        false => said,
    }))
}
