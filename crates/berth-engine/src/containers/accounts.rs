//! Users and groups by name, as the image's /etc/passwd and /etc/group say: passwd(5), group(5).
//!
//! Pure: the content of both files comes in as bytes. They are the image's and hostile: lines that make no
//! sense are skipped.

use std::str::FromStr;

/// Who a process runs as.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Account {
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// All groups, the primary one first, none twice.
    pub groups: Vec<u32>,
    /// Home directory; `/` where none is known.
    pub home: String,
}

/// Why there is no such account.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AccountError {
    /// No user of that name, and it is not a number.
    #[error("unable to find user {0}: no matching entries in passwd file")]
    User(String),
    /// No group of that name, and it is not a number.
    #[error("unable to find group {0}: no matching entries in group file")]
    Group(String),
    /// A number outside of what the kernel takes.
    #[error("uids and gids must be in range 0-2147483647")]
    Range,
}

struct User<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

struct Group<'a> {
    name: &'a str,
    gid: u32,
    members: &'a str,
}

/// The two files of an image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AccountFiles {
    /// Content of /etc/passwd; empty when there is none.
    pub passwd: Vec<u8>,
    /// Content of /etc/group; empty when there is none.
    pub group: Vec<u8>,
}

fn lines(content: &[u8]) -> impl Iterator<Item = &str> {
    content
        .split(|b| *b == b'\n')
        .filter_map(|line| std::str::from_utf8(line).ok())
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
}

impl AccountFiles {
    fn users(&self) -> impl Iterator<Item = User<'_>> {
        lines(&self.passwd).filter_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next()?;
            let uid = u32::from_str(fields.nth(1)?).ok()?;
            let gid = u32::from_str(fields.next()?).ok()?;
            let home = fields.nth(1).unwrap_or_default();
            Some(User {
                name,
                uid,
                gid,
                home,
            })
        })
    }

    fn groups(&self) -> impl Iterator<Item = Group<'_>> {
        lines(&self.group).filter_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next()?;
            let gid = u32::from_str(fields.nth(1)?).ok()?;
            Some(Group {
                name,
                gid,
                members: fields.next().unwrap_or_default(),
            })
        })
    }

    /// The account that `user` (`name`, `uid`, each with `:group` or `:gid`) means, with further groups.
    ///
    /// # Errors
    /// When a name is not in the files, or a number is out of range.
    pub fn resolve(&self, user: &str, further: &[String]) -> Result<Account, AccountError> {
        let (user_text, group_text) = match user.split_once(':') {
            Some((user, group)) => (user, group),
            None => (user, ""),
        };
        let number = number(user_text)?;
        let wanted = if user_text.is_empty() {
            Some(0)
        } else {
            number
        };
        let found = self
            .users()
            .find(|u| (!user_text.is_empty() && u.name == user_text) || wanted == Some(u.uid));
        let mut account = Account {
            home: "/".to_owned(),
            ..Account::default()
        };
        let mut name = None;
        match (&found, wanted) {
            (Some(user), _) => {
                account.uid = user.uid;
                account.gid = user.gid;
                name = Some(user.name);
                if !user.home.is_empty() {
                    user.home.clone_into(&mut account.home);
                }
            }
            (None, Some(uid)) => account.uid = uid,
            (None, None) => return Err(AccountError::User(cut(user_text))),
        }
        let mut supplementary = Vec::new();
        if group_text.is_empty() {
            if let Some(name) = name {
                supplementary.extend(
                    self.groups()
                        .filter(|g| g.members.split(',').any(|m| m == name))
                        .map(|g| g.gid),
                );
            }
        } else {
            account.gid = self.group(group_text)?;
        }
        for group in further {
            supplementary.push(self.group(group)?);
        }
        account.groups.push(account.gid);
        for gid in supplementary {
            if !account.groups.contains(&gid) {
                account.groups.push(gid);
            }
        }
        Ok(account)
    }

    fn group(&self, text: &str) -> Result<u32, AccountError> {
        let number = number(text)?;
        self.groups()
            .find(|g| g.name == text || number == Some(g.gid))
            .map(|g| g.gid)
            .or(number)
            .ok_or_else(|| AccountError::Group(cut(text)))
    }
}

/// The number a text is, if it is one.
fn number(text: &str) -> Result<Option<u32>, AccountError> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Ok(None);
    }
    text.parse::<u32>()
        .ok()
        .filter(|n| i32::try_from(*n).is_ok())
        .map(Some)
        .ok_or(AccountError::Range)
}

fn cut(text: &str) -> String {
    text.chars().take(128).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files() -> AccountFiles {
        AccountFiles {
            passwd: b"root:x:0:0:root:/root:/bin/sh\n\nbroken\nweb:x:33:34:web:/srv:/bin/sh\n"
                .to_vec(),
            group: b"root:x:0:root\nwheel:x:10:root,web\nweb:x:34:\naudio:x:29:web\n".to_vec(),
        }
    }

    fn resolve(user: &str, further: &[&str]) -> Result<Account, AccountError> {
        let further: Vec<String> = further.iter().map(|g| (*g).to_owned()).collect();
        files().resolve(user, &further)
    }

    #[test]
    fn users_are_found_by_name_and_number() {
        let root = resolve("", &[]).expect("root");
        assert_eq!(
            (root.uid, root.gid, root.groups, root.home.as_str()),
            (0, 0, vec![0, 10], "/root")
        );
        for text in ["web", "33"] {
            let web = resolve(text, &["audio", "999"]).expect("web");
            assert_eq!((web.uid, web.gid), (33, 34));
            assert_eq!(web.groups, [34, 10, 29, 999]);
        }
        let stranger = resolve("1000:wheel", &[]).expect("a number is enough");
        assert_eq!((stranger.uid, stranger.gid), (1000, 10));
        assert_eq!(stranger.home, "/");
        assert_eq!(resolve("1000:5", &[]).map(|a| a.gid), Ok(5));
    }

    #[test]
    fn what_is_not_there_is_named() {
        assert_eq!(
            resolve("nobody", &[]),
            Err(AccountError::User("nobody".into()))
        );
        assert_eq!(resolve("web:x", &[]), Err(AccountError::Group("x".into())));
        assert_eq!(resolve("", &["y"]), Err(AccountError::Group("y".into())));
        assert_eq!(resolve("4294967295", &[]), Err(AccountError::Range));
    }
}
