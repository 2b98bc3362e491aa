//! `create`, and what `run` shares with it: the request, the missing image, the id file.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::PathBuf;

use berth_api::{Client, ClientError, ContainerCreateBody, ContainerCreateResponse, Host};
use berth_types::platform::Platform;
use berth_types::reference::Reference;

use super::container_request::{self, Surroundings};
use super::{Arity, Spec, container_flags, pull};
use crate::failure::Failure;
use crate::flags::{Operands, Parsed};
use crate::options::environment::reason;
use crate::session::{self, Session};
use crate::terminal;

pub(crate) const SPEC: Spec = Spec {
    group: "container",
    names: &["create"],
    top: &["create"],
    usage: "[OPTIONS] IMAGE [COMMAND] [ARG...]",
    about: "Make a new container without starting it",
    flags: container_flags::shared,
    operands: Operands::EndFlags,
    arity: Arity::AtLeast(1),
    run,
};

fn run(session: &Session, parsed: &Parsed) -> Result<(), Failure> {
    let body = request(session, parsed, "create")?;
    session.block_on(async {
        let client = session.client()?;
        let created = create(session, &client, parsed, &body)
            .await
            .map_err(|error| error.into_failure(session))?;
        session::print(&format!("{}\n", created.id))
    })
}

/// Flags that only have a meaning for engines on Windows, which this client does not talk to.
const WINDOWS_ONLY: &[&str] = &["cpu-count", "cpu-percent", "io-maxbandwidth", "io-maxiops"];

/// The request that the flags ask for. Mistakes end with status 125, like those in the flags.
pub(crate) fn request(
    session: &Session,
    parsed: &Parsed,
    command: &str,
) -> Result<ContainerCreateBody, Failure> {
    let pull = parsed.text("pull");
    if !matches!(pull, "always" | "missing" | "never") {
        let reason = format!(
            "invalid pull option: '{pull}': must be one of \"always\", \"missing\" or \"never\""
        );
        return Err(refused(session, command, &reason));
    }
    let foreign: Vec<String> = WINDOWS_ONLY
        .iter()
        .filter(|flag| parsed.given(flag))
        .map(|flag| {
            format!("\"--{flag}\" is only supported on a Docker daemon running on windows, but the Docker daemon is running on linux")
        })
        .collect();
    if !foreign.is_empty() {
        return Err(Failure::new(foreign.join("\n")));
    }
    let directory = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/"));
    let config = session.config()?;
    let proxies = if config.proxies.is_empty() {
        None
    } else {
        let (host, _) = session.host()?;
        config
            .proxies
            .get(&host.to_string())
            .or_else(|| config.proxies.get("default"))
    };
    let socket = if parsed.switch("use-api-socket") {
        api_socket(session)?
    } else {
        String::new()
    };
    let surroundings = Surroundings {
        socket: &socket,
        look_up: &|name| std::env::var(name).ok(),
        directory: &directory,
        caller: caller(|name| std::env::var(name).ok()),
        proxies: proxies
            .map(|proxies| proxies.variables())
            .unwrap_or_default(),
    };
    let mut body = container_request::build(parsed, &surroundings)
        .map_err(|reason| refused(session, command, &reason))?;
    if let Some(host_config) = &mut body.host_config {
        let (height, width) = terminal::output_size();
        host_config.console_size = [height, width];
    }
    Ok(body)
}

/// Who calls: with sudo, whoever called that.
fn caller(look_up: impl Fn(&str) -> Option<String>) -> String {
    let own = (rustix::process::getuid(), rustix::process::getgid());
    let by_sudo = || {
        let id = |name: &str| look_up(name)?.parse::<u32>().ok();
        Some((id("SUDO_UID")?, id("SUDO_GID")?))
    };
    let (uid, gid) = match by_sudo() {
        Some(caller) if own.0.is_root() => caller,
        _ => (own.0.as_raw(), own.1.as_raw()),
    };
    format!("{uid}:{gid}")
}

/// Path of the engine's socket, for `--use-api-socket`.
fn api_socket(session: &Session) -> Result<String, Failure> {
    match session.host()?.0 {
        Host::Unix(path) => Ok(path.display().to_string()),
        host => Err(Failure::new(format!(
            "flag --use-api-socket needs an engine with a unix socket, and {host} is none"
        ))),
    }
}

/// An error with a pointer to the help text, status 125.
pub(crate) fn refused(session: &Session, command: &str, reason: &str) -> Failure {
    Failure::refused(with_pointer(session, command, reason))
}

/// `docker: REASON` and where help is.
pub(crate) fn with_pointer(session: &Session, command: &str, reason: &str) -> String {
    let name = session.program.name();
    format!("{name}: {reason}\n\nRun '{name} {command} --help' for more information")
}

/// Why there is no container.
pub(crate) enum CreateError {
    /// The engine said no.
    Engine(ClientError),
    /// Something on this side.
    Own(Failure),
}

impl From<Failure> for CreateError {
    fn from(failure: Failure) -> Self {
        Self::Own(failure)
    }
}

impl CreateError {
    /// The failure with the status of an ordinary command.
    pub(crate) fn into_failure(self, session: &Session) -> Failure {
        match self {
            Self::Engine(error) => session.failure(error),
            Self::Own(failure) => failure,
        }
    }
}

/// Creates the container; a missing image is pulled first.
pub(crate) async fn create(
    session: &Session,
    client: &Client,
    parsed: &Parsed,
    body: &ContainerCreateBody,
) -> Result<ContainerCreateResponse, CreateError> {
    let mut id_file = IdFile::prepare(parsed.text("cidfile"))?;
    let platform = platform(parsed)?;
    let image = body.config.image.as_str();
    let reference = Reference::parse(image);
    // Sixty-four hexadecimal digits are an id, which cannot be pulled.
    let is_id = image.len() == 64 && image.bytes().all(|byte| byte.is_ascii_hexdigit());
    if let Err(error) = &reference
        && !is_id
    {
        return Err(Failure::new(error.to_string()).into());
    }
    let quiet = parsed.switch("quiet");
    let fetch = || {
        let how = pull::How {
            platform: &platform,
            all_platforms: false,
            quiet,
            output: pull::Output::Stderr,
        };
        pull::pull(session, client, image, how)
    };
    if parsed.text("pull") == "always" {
        fetch().await?;
    }
    let name = parsed.text("name");
    let created = match client.container_create(name, &platform, body).await {
        Err(error) if error.is_not_found() && parsed.text("pull") == "missing" && !is_id => {
            if let (Ok(reference), false) = (&reference, quiet) {
                let full = reference.clone().with_default_tag();
                session.warn(&format!(
                    "Unable to find image '{}' locally",
                    full.familiar()
                ));
            }
            fetch().await?;
            client.container_create(name, &platform, body).await
        }
        other => other,
    };
    let created = created.map_err(CreateError::Engine)?;
    for warning in &created.warnings {
        session.warning(warning);
    }
    id_file.write(&created.id)?;
    Ok(created)
}

/// The platform asked for, by flag or environment.
fn platform(parsed: &Parsed) -> Result<String, Failure> {
    let platform = match parsed.text("platform") {
        "" => std::env::var("DOCKER_DEFAULT_PLATFORM").unwrap_or_default(),
        given => given.to_owned(),
    };
    if !platform.is_empty() {
        Platform::parse(&platform)
            .map_err(|error| Failure::new(format!("error parsing specified platform: {error}")))?;
    }
    Ok(platform)
}

/// `--cidfile`: made before the container, so that a file in use stops everything, and taken away
/// again when there is no container to write down.
struct IdFile {
    path: String,
    file: Option<File>,
}

impl IdFile {
    fn prepare(path: &str) -> Result<Self, Failure> {
        if path.is_empty() {
            return Ok(Self {
                path: String::new(),
                file: None,
            });
        }
        let opened = OpenOptions::new().write(true).create_new(true).open(path);
        let file = opened.map_err(|error| {
            if error.kind() == std::io::ErrorKind::AlreadyExists {
                Failure::new(format!(
                    "container ID file found, make sure the other container isn't running or delete {path}"
                ))
            } else {
                Failure::new(format!("failed to create the container ID file: open {path}: {}", reason(&error)))
            }
        })?;
        Ok(Self {
            path: path.to_owned(),
            file: Some(file),
        })
    }

    fn write(&mut self, id: &str) -> Result<(), Failure> {
        let Some(file) = &mut self.file else {
            return Ok(());
        };
        file.write_all(id.as_bytes()).map_err(|error| {
            Failure::new(format!(
                "failed to write the container ID ({id}) to file: write {}: {}",
                self.path,
                reason(&error)
            ))
        })?;
        self.file = None;
        Ok(())
    }
}

impl Drop for IdFile {
    fn drop(&mut self) {
        if self.file.is_some() {
            // Nothing was written, so nobody misses it.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}
