//! Real proxies on loopback: tinyproxy for HTTP, with TLS in front of it where that is wanted, and microsocks.

use std::fs::{self, File};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::authority::Certificate;
use crate::{names, needs, wait};

/// How often another port is tried when somebody took the chosen one.
const PORT_ATTEMPTS: usize = 5;

/// What a proxy knows and lets pass.
#[derive(Debug, Clone, Default)]
pub struct Rules<'a> {
    /// User and password that it wants to see.
    pub user: Option<(&'a str, &'a str)>,
    /// Names of hosts that it alone knows, all of them this machine.
    pub names: &'a [&'a str],
    /// The only port to which an HTTP proxy makes tunnels.
    pub only_port: Option<u16>,
}

/// A running proxy; ends when dropped.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    children: Vec<Child>,
    log: PathBuf,
}

impl Proxy {
    /// An HTTP proxy, with its files in `directory`.
    #[track_caller]
    pub fn http(directory: &Path, rules: &Rules<'_>) -> Self {
        let program = needs::program("tinyproxy", "tinyproxy-bin");
        let made = start(directory, "tinyproxy", &program, rules, |port| {
            let user = rules.user.map_or(String::new(), |(user, password)| {
                format!("BasicAuth {user} {password}\n")
            });
            let only = rules
                .only_port
                .map_or(String::new(), |only| format!("ConnectPort {only}\n"));
            let file = directory.join("tinyproxy.conf");
            let text = format!(
                "Port {port}\nListen 127.0.0.1\nTimeout 600\nMaxClients 100\nLogLevel Info\n{user}{only}"
            );
            fs::write(&file, text).with_context(|| format!("write {}", file.display()))?;
            Ok(vec![
                "-d".to_owned(),
                "-c".to_owned(),
                file.display().to_string(),
            ])
        });
        made.unwrap_or_else(|error| panic!("{error:#}"))
    }

    /// The same behind TLS: it is reached by `https://`.
    #[track_caller]
    pub fn https(directory: &Path, rules: &Rules<'_>, shown: &Certificate) -> Self {
        let mut inner = Self::http(directory, rules);
        let program = needs::program("socat", "socat");
        let outer = start(directory, "socat", &program, &Rules::default(), |port| {
            Ok(vec![
                format!(
                    "OPENSSL-LISTEN:{port},bind=127.0.0.1,fork,reuseaddr,verify=0,cert={},key={}",
                    shown.certificate.display(),
                    shown.key.display()
                ),
                format!("TCP:127.0.0.1:{}", inner.port),
            ])
        });
        let mut outer = outer.unwrap_or_else(|error| panic!("{error:#}"));
        inner.port = outer.port;
        inner.children.append(&mut outer.children);
        inner
    }

    /// A SOCKS proxy.
    #[track_caller]
    pub fn socks(directory: &Path, rules: &Rules<'_>) -> Self {
        let program = needs::program("microsocks", "microsocks");
        let made = start(directory, "microsocks", &program, rules, |port| {
            let mut words = vec![
                "-i".into(),
                "127.0.0.1".into(),
                "-p".into(),
                port.to_string(),
            ];
            if let Some((user, password)) = rules.user {
                words.extend(["-u", user, "-P", password].map(str::to_owned));
            }
            Ok(words)
        });
        made.unwrap_or_else(|error| panic!("{error:#}"))
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `127.0.0.1:port`.
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// What it wrote about its work.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        for child in &mut self.children {
            drop(child.kill());
            drop(child.wait());
        }
    }
}

/// Starts a program on a free port, with what it says in a file.
fn start(
    directory: &Path,
    title: &str,
    program: &Path,
    rules: &Rules<'_>,
    arguments: impl Fn(u16) -> Result<Vec<String>>,
) -> Result<Proxy> {
    let program = if rules.names.is_empty() {
        program.to_owned()
    } else {
        names::knowing(directory, program, rules.names)
    };
    let log = directory.join(format!("{title}.log"));
    for _ in 0..PORT_ATTEMPTS {
        let listener = TcpListener::bind(("127.0.0.1", 0)).context("find a free port")?;
        let port = listener.local_addr().context("find a free port")?.port();
        drop(listener);
        let file = File::create(&log).with_context(|| format!("create {}", log.display()))?;
        let child = Command::new(&program)
            .args(arguments(port)?)
            .stdin(Stdio::null())
            .stdout(file.try_clone().context("copy the log's descriptor")?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("start {title}"))?;
        let mut proxy = Proxy {
            port,
            children: vec![child],
            log: log.clone(),
        };
        let up = wait::within(wait::PATIENCE, || {
            if !matches!(proxy.children[0].try_wait(), Ok(None)) {
                return Some(false);
            }
            TcpStream::connect(("127.0.0.1", port)).ok().map(|_| true)
        });
        if up == Some(true) {
            return Ok(proxy);
        }
    }
    bail!(
        "{title} does not come up: {}",
        fs::read_to_string(&log).unwrap_or_default()
    )
}
