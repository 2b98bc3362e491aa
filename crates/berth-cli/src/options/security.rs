//! `--security-opt`: what the engine gets, with seccomp profiles read from the client's files.

use std::fs::File;
use std::io::Read;

use super::environment::reason;
use crate::limits::MAX_FILE;
use crate::quote::go_quote;

/// Security options ready for the request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct SecurityOptions {
    /// What the engine gets.
    pub(crate) options: Vec<String>,
    /// `systempaths=unconfined`: no path is masked or read-only.
    pub(crate) unmask_system_paths: bool,
}

/// Reads all `--security-opt`.
pub(crate) fn all(texts: &[String]) -> Result<SecurityOptions, String> {
    let mut found = SecurityOptions::default();
    for text in texts {
        let split = match text.split_once('=') {
            None if text != "no-new-privileges" => text.split_once(':'),
            split => split,
        };
        let (name, value) = split.unwrap_or((text, ""));
        if value.is_empty() && name != "no-new-privileges" {
            return Err(format!("invalid --security-opt: {}", go_quote(text)));
        }
        if text == "systempaths=unconfined" {
            found.unmask_system_paths = true;
        } else if name == "seccomp" && !matches!(value, "builtin" | "unconfined") {
            found.options.push(format!("seccomp={}", profile(value)?));
        } else {
            found.options.push(text.clone());
        }
    }
    Ok(found)
}

/// The profile in a file, as JSON on one line.
fn profile(path: &str) -> Result<String, String> {
    let mut content = Vec::new();
    let opened = File::open(path)
        .map_err(|error| format!("open {path}: {}", reason(&error)))
        .and_then(|file| {
            file.take(MAX_FILE)
                .read_to_end(&mut content)
                .map_err(|error| format!("read {path}: {}", reason(&error)))
        });
    opened.map_err(|error| format!("opening seccomp profile ({path}) failed: {error}"))?;
    let value: serde_json::Value = serde_json::from_slice(&content)
        .map_err(|error| format!("compacting json for seccomp profile ({path}) failed: {error}"))?;
    Ok(value.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("profile.json");
        std::fs::write(&path, "{\n \"defaultAction\": \"SCMP_ACT_ALLOW\" }").expect("writes");
        let texts = [
            "no-new-privileges".to_owned(),
            "label:disable".to_owned(),
            "seccomp=unconfined".to_owned(),
            "systempaths=unconfined".to_owned(),
            format!("seccomp={}", path.display()),
        ];
        let found = all(&texts).expect("reads");
        assert!(found.unmask_system_paths);
        assert_eq!(
            found.options,
            [
                "no-new-privileges",
                "label:disable",
                "seccomp=unconfined",
                "seccomp={\"defaultAction\":\"SCMP_ACT_ALLOW\"}",
            ]
        );
        assert_eq!(
            all(&["foo".to_owned()]).expect_err("no value"),
            "invalid --security-opt: \"foo\""
        );
        assert_eq!(
            all(&["seccomp=/nofile".to_owned()]).expect_err("no file"),
            "opening seccomp profile (/nofile) failed: open /nofile: no such file or directory"
        );
    }
}
