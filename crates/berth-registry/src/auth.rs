//! Who asks: names and passwords, by a file of bcrypt hashes (`htpasswd -B`).
//!
//! Owns: the verified logins it remembers (as a keyed hash, never a password), which end when the file changes.
//! Invariants: as much work for a name that is not there as for one that is; never more verifications at once than
//! the limit, whatever is asked.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use berth_sys::fs;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use sha2::{Digest as _, Sha256};
use tokio::sync::Semaphore;

use crate::error::{RegistryError, Result};
use crate::limits;
use crate::refusal::{Code, Refusal};
use crate::uploads::random;
use crate::watched::Watched;

/// Users and hashes of one state of the file, with the logins verified against them.
#[derive(Debug)]
struct Users {
    hashes: HashMap<String, String>,
    /// Verified against when there is no such user.
    decoy: String,
    verified: Mutex<HashMap<String, [u8; 32]>>,
}

/// The check of names and passwords.
#[derive(Debug)]
pub(crate) struct Auth {
    users: Watched<Users>,
    key: [u8; 32],
    turns: Semaphore,
}

impl Auth {
    pub(crate) fn new(file: &Path) -> Result<Self> {
        let path = file.to_owned();
        Ok(Self {
            users: Watched::new(vec![path.clone()], move || read(&path))?,
            key: random()?,
            turns: Semaphore::new(limits::VERIFICATIONS_AT_ONCE),
        })
    }

    /// The name of who asks.
    pub(crate) async fn user(&self, headers: &HeaderMap) -> std::result::Result<String, Refusal> {
        let refused = |message: &str| {
            Refusal::new(Code::Unauthorized, message).header(
                "www-authenticate",
                "Basic realm=\"Berth registry\", charset=\"UTF-8\"",
            )
        };
        let Some(given) = headers.get(AUTHORIZATION) else {
            return Err(refused("authentication required"));
        };
        let (name, password) = given
            .to_str()
            .ok()
            .and_then(credentials)
            .ok_or_else(|| refused("authentication by name and password is required"))?;
        let users = self.users.get();
        let mark = self.mark(&name, &password);
        let known = {
            let verified = users
                .verified
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            verified.get(&name) == Some(&mark)
        };
        if known {
            return Ok(name);
        }
        // Never closed.
        let Ok(_turn) = self.turns.acquire().await else {
            return Err(refused("authentication required"));
        };
        let checked = Arc::clone(&users);
        let asked = name.clone();
        let good = tokio::task::spawn_blocking(move || checked.verify(&asked, &password))
            .await
            .unwrap_or(false);
        if !good {
            return Err(refused("no such name and password"));
        }
        let mut verified = users
            .verified
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if verified.len() >= limits::LOGINS_MAX {
            verified.clear();
        }
        verified.insert(name.clone(), mark);
        Ok(name)
    }

    /// What stands for a name and a password in memory.
    fn mark(&self, name: &str, password: &str) -> [u8; 32] {
        let mut hasher = Sha256::new();
        hasher.update(self.key);
        hasher.update((name.len() as u64).to_le_bytes());
        hasher.update(name);
        hasher.update(password);
        hasher.finalize().into()
    }
}

impl Users {
    fn verify(&self, name: &str, password: &str) -> bool {
        let known = self.hashes.get(name);
        let hash = known.unwrap_or(&self.decoy);
        // bcrypt takes no zero bytes and ignores what follows 72 bytes, as htpasswd does.
        let good = !password.contains('\0') && bcrypt::verify(password, hash).unwrap_or(false);
        good && known.is_some()
    }
}

fn credentials(header: &str) -> Option<(String, String)> {
    if header.len() > 2 * limits::CREDENTIAL_BYTES_MAX {
        return None;
    }
    let (scheme, encoded) = header.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let bytes = base64::engine::general_purpose::STANDARD
        .decode(encoded.trim())
        .ok()?;
    let text = String::from_utf8(bytes).ok()?;
    let (name, password) = text.split_once(':')?;
    (!name.is_empty()).then(|| (name.to_owned(), password.to_owned()))
}

fn read(path: &Path) -> Result<Users> {
    let bytes = fs::read_bounded(path, limits::AUTH_FILE_BYTES_MAX)?;
    let text = String::from_utf8_lossy(&bytes);
    let hashes = parse(&text).map_err(|reason| {
        RegistryError::setting(format!("file of users {}", path.display()), reason)
    })?;
    let cost = hashes
        .values()
        .filter_map(|hash| cost(hash))
        .max()
        .unwrap_or(10);
    let secret: [u8; 16] = random()?;
    let decoy =
        bcrypt::hash(secret, cost).map_err(|error| RegistryError::setting("bcrypt", error))?;
    Ok(Users {
        hashes,
        decoy,
        verified: Mutex::default(),
    })
}

/// Reads `name:hash` lines; comments and empty lines are passed over.
fn parse(text: &str) -> std::result::Result<HashMap<String, String>, String> {
    let mut users = HashMap::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let number = number + 1;
        let (name, hash) = line
            .split_once(':')
            .filter(|(name, _)| !name.is_empty())
            .ok_or_else(|| format!("line {number} is not name:hash"))?;
        match cost(hash) {
            None => {
                return Err(format!(
                    "line {number} has no bcrypt hash: make one by 'htpasswd -nB {name}'"
                ));
            }
            Some(cost) if cost > limits::BCRYPT_COST_MAX => {
                return Err(format!(
                    "line {number} has cost {cost}; {} is the most",
                    limits::BCRYPT_COST_MAX
                ));
            }
            Some(_) => {}
        }
        users.insert(name.to_owned(), hash.to_owned());
    }
    Ok(users)
}

/// The cost of a bcrypt hash, when it is one: `$2y$10$` and 53 characters.
fn cost(hash: &str) -> Option<u32> {
    let rest = ["$2a$", "$2b$", "$2y$"]
        .iter()
        .find_map(|prefix| hash.strip_prefix(prefix))?;
    let (cost, rest) = rest.split_once('$')?;
    let digits = |b: u8| b.is_ascii_alphanumeric() || b == b'.' || b == b'/';
    (cost.len() == 2 && rest.len() == 53 && rest.bytes().all(digits))
        .then(|| cost.parse().ok())
        .flatten()
        .filter(|cost| *cost >= 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(text: &str) -> HeaderMap {
        let encoded = base64::engine::general_purpose::STANDARD.encode(text);
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, format!("Basic {encoded}").parse().unwrap());
        headers
    }

    #[tokio::test]
    async fn passwords_are_verified_and_the_file_is_followed() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("users");
        let line =
            |name: &str, password: &str| format!("{name}:{}\n", bcrypt::hash(password, 4).unwrap());
        fs::write(
            &file,
            format!("# users\n\n{}", line("me", "secret")).as_bytes(),
        )
        .unwrap();
        let auth = Auth::new(&file).unwrap();
        assert_eq!(auth.user(&header("me:secret")).await.unwrap(), "me");
        assert_eq!(auth.user(&header("me:secret")).await.unwrap(), "me");
        for bad in [
            "me:Secret",
            "me:",
            "you:secret",
            ":secret",
            "me",
            "me:secret\0",
        ] {
            let refusal = auth.user(&header(bad)).await.unwrap_err();
            assert_eq!(refusal.status, 401, "{bad:?}");
        }
        assert!(auth.user(&HeaderMap::new()).await.is_err());

        fs::write(&file, line("you", "other and longer").as_bytes()).unwrap();
        assert!(auth.user(&header("me:secret")).await.is_err());
        assert_eq!(
            auth.user(&header("you:other and longer")).await.unwrap(),
            "you"
        );
        // A damaged file locks nobody out, and lets nobody in.
        fs::write(&file, b"you:plain").unwrap();
        assert_eq!(
            auth.user(&header("you:other and longer")).await.unwrap(),
            "you"
        );
        assert!(auth.user(&header("you:plain")).await.is_err());
    }

    #[test]
    fn other_hashes_are_refused_with_the_remedy() {
        assert!(
            parse("a:$apr1$abc$def")
                .unwrap_err()
                .contains("htpasswd -nB a")
        );
        assert!(parse("nothing").unwrap_err().contains("line 1"));
        let dear = format!("a:$2y$31${}", "a".repeat(53));
        assert!(parse(&dear).unwrap_err().contains("cost 31"));
    }
}
