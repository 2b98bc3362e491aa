//! A registry of the executable under test (`berth registry serve`), on a port of its own.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal};

use crate::executable::executable;
use crate::{http, process, wait};

/// Time it gets to end after SIGTERM.
const GRACE: Duration = Duration::from_secs(20);

/// A running registry; ends when dropped. Its root stays.
#[derive(Debug)]
pub struct Served {
    root: PathBuf,
    arguments: Vec<String>,
    port: u16,
    child: Option<Child>,
}

impl Served {
    /// A registry with everything it keeps in `root`.
    #[track_caller]
    pub fn start(root: &Path, arguments: &[&str]) -> Self {
        let mut served = Self {
            root: root.to_owned(),
            arguments: arguments.iter().map(|word| (*word).to_owned()).collect(),
            port: 0,
            child: None,
        };
        served.launch();
        served
    }

    /// Starts it again, on the port it had.
    #[track_caller]
    pub fn launch(&mut self) {
        if let Err(error) = self.try_launch() {
            panic!("{error:#}\n{}", self.log());
        }
    }

    fn try_launch(&mut self) -> Result<()> {
        let file = File::options()
            .create(true)
            .append(true)
            .open(self.log_path())
            .context("make the registry's log")?;
        let before = self.log().len();
        let mut child = std::process::Command::new(executable()?)
            .args(["registry", "serve", "--addr"])
            .arg(format!("127.0.0.1:{}", self.port))
            .arg("--root")
            .arg(&self.root)
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(file)
            .spawn()
            .context("start the registry")?;
        let port = wait::within(wait::PATIENCE, || {
            if !matches!(child.try_wait(), Ok(None)) {
                return Some(None);
            }
            let log = self.log();
            let (_, rest) = log.get(before..)?.split_once("127.0.0.1:")?;
            let (port, _) = rest.split_once('\n')?;
            Some(port.trim().parse().ok())
        });
        self.child = Some(child);
        match port.flatten() {
            Some(port) => {
                self.port = port;
                Ok(())
            }
            None => bail!("the registry does not come up"),
        }
    }

    fn log_path(&self) -> PathBuf {
        self.root.with_extension("log")
    }

    /// What it wrote to its standard error so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// Everything it keeps.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `127.0.0.1:port`, as in a reference.
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Process id of the server; panics when it is not running.
    #[track_caller]
    pub fn pid(&self) -> i32 {
        match &self.child {
            Some(child) => Pid::from_child(child).as_raw_nonzero().get(),
            None => panic!("the registry is not running"),
        }
    }

    /// Sends one request.
    #[track_caller]
    pub fn send(
        &self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> http::Response {
        let sent = http::loopback(self.port)
            .and_then(|stream| http::request(stream, method, target, headers, body));
        match sent {
            Ok(response) => response,
            Err(error) => panic!("{method} {target}: {error:#}\n{}", self.log()),
        }
    }

    /// Kills it without a chance to put anything in order.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            drop(child.kill());
            drop(child.wait());
        }
    }

    /// Asks it to end; panics unless it does so with exit code 0.
    #[track_caller]
    pub fn terminate(&mut self) {
        let pid = self.pid();
        assert!(
            process::end(pid, Signal::TERM, GRACE),
            "the registry does not end: {}",
            self.log()
        );
        if let Some(mut child) = self.child.take() {
            let status = child.wait();
            assert!(
                status.as_ref().is_ok_and(std::process::ExitStatus::success),
                "the registry ended with {status:?}: {}",
                self.log()
            );
        }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.kill();
    }
}
