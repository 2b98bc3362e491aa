//! The sockets clients connect to.
//!
//! A unix socket is bound under a name of its own, gets its permissions, and is then renamed into place:
//! nobody ever finds it open to more than it should be, and a stale one is replaced in one step.

use super::limits::{ANSWER_WAIT, BACKLOG, GROUP_FILE};
use anyhow::{Context, Result, bail};
use berth_api::Host;
use berth_server::Listener;
use berth_sys::fs;
use std::io;
use std::path::{Path, PathBuf};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, UnixListener, UnixStream};

/// Members of this group may use the engine; it is Docker's, so that one membership serves both.
const GROUP: &str = "docker";

/// The path of a socket of ours; removed when dropped.
#[derive(Debug)]
pub(super) struct SocketPath {
    path: PathBuf,
    inode: u64,
}

impl Drop for SocketPath {
    fn drop(&mut self) {
        use std::os::unix::fs::MetadataExt;
        // Only ours: another daemon may have put its own there meanwhile.
        if fs::symlink_metadata(&self.path).is_ok_and(|found| found.ino() == self.inode) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Makes sure that nobody listens at this address yet.
///
/// # Errors
/// When somebody does, or the path is taken by something that is not a socket.
pub(super) async fn check(host: &Host) -> Result<()> {
    use std::os::unix::fs::FileTypeExt;
    let Host::Unix(path) = host else {
        return Ok(());
    };
    let Ok(found) = fs::symlink_metadata(path) else {
        return Ok(());
    };
    if !found.file_type().is_socket() {
        bail!("{} exists and is not a socket", path.display());
    }
    match answers(path).await {
        Ok(true) => bail!("another daemon listens at {}", path.display()),
        Ok(false) => Ok(()),
        Err(error) => Err(error)
            .with_context(|| format!("find out whether a daemon listens at {}", path.display())),
    }
}

/// Whether somebody lives behind the socket.
///
/// A connection alone says little: a daemon that is being killed, or a child it was just starting, keeps the
/// socket open for a moment and takes the connection along when it ends.
async fn answers(path: &Path) -> io::Result<bool> {
    let gone = |error: &io::Error| {
        matches!(
            error.kind(),
            io::ErrorKind::ConnectionRefused
                | io::ErrorKind::ConnectionReset
                | io::ErrorKind::BrokenPipe
                | io::ErrorKind::NotFound
        )
    };
    let asked = async {
        let mut stream = UnixStream::connect(path).await?;
        stream
            .write_all(b"GET /_ping HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            .await?;
        stream.read(&mut [0_u8; 1]).await
    };
    match tokio::time::timeout(ANSWER_WAIT, asked).await {
        Ok(Ok(length)) => Ok(length > 0),
        Ok(Err(error)) if gone(&error) => Ok(false),
        Ok(Err(error)) => Err(error),
        // Somebody holds it who is too busy to answer.
        Err(_) => Ok(true),
    }
}

/// Listens.
///
/// # Errors
/// When the address cannot be used.
pub(super) async fn bind(host: &Host) -> Result<(Listener, Option<SocketPath>)> {
    match host {
        Host::Unix(path) => {
            let (listener, socket) =
                bind_unix(path).with_context(|| format!("listen at {host}"))?;
            Ok((Listener::Unix(listener), Some(socket)))
        }
        Host::Tcp { name, port } => {
            tracing::warn!(
                "the API at {host} has no protection: whoever can reach it is root on this machine"
            );
            let listener = TcpListener::bind((name.as_str(), *port))
                .await
                .with_context(|| format!("listen at {host}"))?;
            Ok((Listener::Tcp(listener), None))
        }
    }
}

fn bind_unix(path: &Path) -> Result<(UnixListener, SocketPath)> {
    use std::os::unix::fs::MetadataExt;
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
        bail!("{} is not the path of a file", path.display());
    };
    fs::create_dir_all(directory)?;
    // Short, as the path of a socket may have 107 bytes only.
    let temporary = directory.join(format!(".{}", std::process::id()));
    if fs::exists(&temporary) {
        fs::remove_file(&temporary)?;
    }
    let descriptor = berth_sys::socket::listen(&temporary, BACKLOG)?;
    let prepared = (|| {
        fs::chown(&temporary, 0, group(GROUP).unwrap_or(0))?;
        fs::set_mode(&temporary, 0o660)?;
        let inode = fs::symlink_metadata(&temporary)?.ino();
        fs::rename(&temporary, path)?;
        Ok(inode)
    })();
    let inode = match prepared {
        Ok(inode) => inode,
        Err(error) => {
            let _ = fs::remove_file(&temporary);
            return Err(error);
        }
    };
    let listener = std::os::unix::net::UnixListener::from(descriptor);
    listener
        .set_nonblocking(true)
        .with_context(|| format!("prepare {}", Path::new(name).display()))?;
    let socket = SocketPath {
        path: path.to_owned(),
        inode,
    };
    Ok((UnixListener::from_std(listener)?, socket))
}

/// The number of a group of `/etc/group`.
fn group(name: &str) -> Option<u32> {
    let text = fs::read_bounded(Path::new("/etc/group"), GROUP_FILE).ok()?;
    find_group(&String::from_utf8_lossy(&text), name)
}

fn find_group(text: &str, wanted: &str) -> Option<u32> {
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let number = fields.nth(1)?;
        (name == wanted).then(|| number.parse().ok()).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_found_by_their_whole_name() {
        let text = "root:x:0:\ndockers:x:7:me\ndocker:x:998:me,you\nbad\n";
        assert_eq!(find_group(text, "docker"), Some(998));
        assert_eq!(find_group(text, "dock"), None);
    }

    #[tokio::test]
    async fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        let host = Host::Unix(path.clone());
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        check(&host).await.unwrap();
        let (listener, socket) = bind(&host).await.unwrap();
        assert!(check(&host).await.is_err());
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o660
        );
        drop(listener);
        drop(socket);
        assert!(!fs::exists(&path));
        fs::write(&path, b"not a socket").unwrap();
        assert!(check(&host).await.is_err());
    }
}
