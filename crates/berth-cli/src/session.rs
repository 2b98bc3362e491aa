//! One run of the program: who it was called as, which engine it talks to, and how errors of that
//! engine are told.

use std::cell::OnceCell;
use std::io::Write;
use std::path::{Path, PathBuf};

use berth_api::{ApiVersion, AuthConfig, Client, ClientError, Host};

use crate::autostart;
use crate::config::ConfigFile;
use crate::detach_keys;
use crate::failure::Failure;
use crate::flags::Parsed;
use crate::program::Program;

/// Where an engine listens that was started without options.
pub(crate) const DEFAULT_SOCKET: &str = "/run/berth/berth.sock";

/// Options before the command.
#[derive(Debug, Clone, Default)]
pub(crate) struct GlobalOptions {
    /// `--config`
    pub(crate) config: String,
    /// `--host`
    pub(crate) host: Option<String>,
    /// `--context`
    pub(crate) context: String,
    /// `--debug`: tell the HTTP status of refusals too.
    pub(crate) debug: bool,
    /// `--log-level error` or `fatal`: no warnings.
    pub(crate) errors_only: bool,
    /// `--tls`, `--tlsverify` or one of the certificates was given.
    pub(crate) tls: bool,
}

/// One run of the program.
pub(crate) struct Session {
    /// Who it was called as.
    pub(crate) program: Program,
    /// Options before the command.
    pub(crate) options: GlobalOptions,
    config: OnceCell<ConfigFile>,
    runtime: OnceCell<tokio::runtime::Runtime>,
}

impl Session {
    /// A run with these options.
    pub(crate) fn new(program: Program, options: GlobalOptions) -> Self {
        Self {
            program,
            options,
            config: OnceCell::new(),
            runtime: OnceCell::new(),
        }
    }

    /// The user's configuration.
    pub(crate) fn config(&self) -> Result<&ConfigFile, Failure> {
        if let Some(config) = self.config.get() {
            return Ok(config);
        }
        let loaded = ConfigFile::load(&self.config_directory())?;
        Ok(self.config.get_or_init(|| loaded))
    }

    /// Where the user's configuration is.
    pub(crate) fn config_directory(&self) -> PathBuf {
        ConfigFile::directory(&self.options.config)
    }

    /// Credentials for a registry. That a helper cannot be asked is no reason to fail: the registry decides.
    pub(crate) fn credentials(&self, registry: &str) -> Result<Option<AuthConfig>, Failure> {
        match self.config()?.credentials(registry) {
            Ok(found) => Ok(found),
            Err(failure) => {
                self.warning(&format!(
                    "{}; going on without credentials",
                    failure.message
                ));
                Ok(None)
            }
        }
    }

    /// Runs a request to its end on this thread.
    pub(crate) fn block_on<T>(
        &self,
        future: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let runtime = match self.runtime.get() {
            Some(runtime) => runtime,
            None => {
                let built = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .map_err(|error| Failure::new(format!("prepare input and output: {error}")))?;
                self.runtime.get_or_init(|| built)
            }
        };
        runtime.block_on(future)
    }

    /// Ends the run without waiting for reads of standard input that will never end.
    pub(crate) fn close(mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }

    /// The engine's address, and whether it is the default one.
    pub(crate) fn host(&self) -> Result<(Host, bool), Failure> {
        let resolved = resolve_host(
            &self.options,
            &|name| std::env::var(name).ok().filter(|value| !value.is_empty()),
            || Ok(self.config()?.current_context.clone()),
        )?;
        match resolved {
            Some(host) => Ok((host, false)),
            None => Ok((Host::Unix(PathBuf::from(DEFAULT_SOCKET)), true)),
        }
    }

    /// A client of the engine. An engine at the default address that does not run is started.
    pub(crate) fn client(&self) -> Result<Client, Failure> {
        let (host, default) = self.host()?;
        if self.options.tls && matches!(host, Host::Tcp { .. }) {
            return Err(Failure::new(format!(
                "connect to {host}: TLS is not available in this version; use a unix socket or a plain tcp address"
            )));
        }
        let socket = if default && std::env::var_os("BERTH_NO_AUTOSTART").is_none() {
            autostart::ensure_listening(Path::new(DEFAULT_SOCKET))?
        } else {
            None
        };
        let headers = self.config()?.http_headers.iter();
        let mut client = Client::new(host)
            .with_headers(headers.map(|(name, value)| (name.as_str(), value.as_str())))
            .map_err(|error| self.failure(error))?;
        if let Some(socket) = socket {
            client = client.with_socket(socket);
        }
        match std::env::var("DOCKER_API_VERSION") {
            Ok(version) if !version.is_empty() => {
                let version: ApiVersion = version
                    .trim_start_matches('v')
                    .parse()
                    .map_err(|error| Failure::new(format!("DOCKER_API_VERSION: {error}")))?;
                Ok(client.with_version(version))
            }
            _ => Ok(client),
        }
    }

    /// The keys that detach, by flag or configuration: as written, and as bytes.
    pub(crate) fn detach_keys(&self, parsed: &Parsed) -> Result<(String, Vec<u8>), Failure> {
        let keys = match parsed.text("detach-keys") {
            "" => self.config()?.detach_keys.clone(),
            keys => keys.to_owned(),
        };
        let bytes = detach_keys::parse(&keys)?;
        Ok((keys, bytes))
    }

    /// Tells an error of the engine in the words users know.
    pub(crate) fn explain(&self, error: &ClientError) -> String {
        match (error.status(), self.options.debug) {
            (Some(status), true) => {
                format!("{} (HTTP status {status})", explain(self.program, error))
            }
            _ => explain(self.program, error),
        }
    }

    /// The failure with status 1 for an error of the engine.
    pub(crate) fn failure(&self, error: ClientError) -> Failure {
        Failure::new(self.explain(&error))
    }

    /// The same for one that a registry may have caused: with what to do when it wants to know who asks.
    pub(crate) fn failure_at(&self, registry: &str, error: ClientError) -> Failure {
        self.failure(error).with_login_hint(self.program, registry)
    }

    /// Prints a warning to standard error, unless only errors are wanted.
    pub(crate) fn warning(&self, text: &str) {
        if !self.options.errors_only {
            self.warn(&format!("WARNING: {text}"));
        }
    }

    /// Prints something worth knowing to standard error, unless only errors are wanted.
    pub(crate) fn note(&self, text: &str) {
        if !self.options.errors_only {
            self.warn(&format!("Note: {text}"));
        }
    }

    /// Prints a line to standard error.
    pub(crate) fn warn(&self, line: &str) {
        // There is nowhere else to tell that standard error is closed.
        let _ = writeln!(std::io::stderr(), "{line}");
    }
}

/// Prints to standard output.
///
/// # Errors
/// A silent failure with the status of a program killed by SIGPIPE when nobody reads any more.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(output_failure)
}

/// The failure for an output that cannot be written.
pub(crate) fn output_failure(error: std::io::Error) -> Failure {
    /// 128 + SIGPIPE.
    const NOBODY_READS: u8 = 141;
    if error.kind() == std::io::ErrorKind::BrokenPipe {
        Failure::status(NOBODY_READS)
    } else {
        Failure::new(format!("write to standard output: {error}"))
    }
}

/// An error of the engine in the words users know.
pub(crate) fn explain(program: Program, error: &ClientError) -> String {
    let (product, name) = (program.product(), program.name());
    match error {
        ClientError::Api { message, .. } => {
            let mut text = format!("Error response from daemon: {message}");
            if message
                .to_ascii_lowercase()
                .contains("no space left on device")
            {
                text.push_str(&format!(
                    "\nTry '{name} system df' to see what takes the space, or '{name} system prune' to free some."
                ));
            }
            text
        }
        ClientError::SocketMissing { host, .. } | ClientError::Refused { host, .. } => {
            format!(
                "Cannot connect to the {product} daemon at {host}. Is the {name} daemon running?"
            )
        }
        ClientError::PermissionDenied { host, .. } => format!(
            "permission denied while trying to connect to the {product} daemon socket at {host}: run the command as root or as a member of the socket's group"
        ),
        other => {
            let mut text = format!("error during connect: {other}");
            let mut cause = std::error::Error::source(other);
            while let Some(inner) = cause {
                text.push_str(&format!(": {inner}"));
                cause = inner.source();
            }
            text
        }
    }
}

/// The address that was asked for; `None` is the default. The flag comes first, then the
/// environment, then the context, of which only `default` exists.
fn resolve_host(
    options: &GlobalOptions,
    environment: &dyn Fn(&str) -> Option<String>,
    current_context: impl FnOnce() -> Result<String, Failure>,
) -> Result<Option<Host>, Failure> {
    if options.host.is_some() && !options.context.is_empty() {
        return Err(Failure::new(
            "Failed to initialize: conflicting options: cannot specify both --host and --context",
        ));
    }
    let given = match &options.host {
        Some(host) => Some(host.clone()),
        None if !options.context.is_empty() => None,
        None => environment("BERTH_HOST").or_else(|| environment("DOCKER_HOST")),
    };
    if let Some(text) = given {
        let host = text.parse().map_err(|error| {
            Failure::new(format!(
                "Failed to initialize: unable to resolve docker endpoint: {error}"
            ))
        })?;
        return Ok(Some(host));
    }
    let context = if options.context.is_empty() {
        match environment("DOCKER_CONTEXT") {
            Some(context) => context,
            None => current_context()?,
        }
    } else {
        options.context.clone()
    };
    if context.is_empty() || context == "default" {
        return Ok(None);
    }
    Err(Failure::new(format!(
        "Failed to initialize: unable to resolve docker endpoint: context \"{context}\": context not found: only the context \"default\" exists; name the engine with --host instead"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(
        flag: Option<&str>,
        context: &str,
        variables: &[(&str, &str)],
    ) -> Result<String, String> {
        let options = GlobalOptions {
            host: flag.map(str::to_owned),
            context: context.to_owned(),
            ..GlobalOptions::default()
        };
        let look_up = |name: &str| {
            variables
                .iter()
                .find(|(found, _)| *found == name)
                .map(|(_, value)| (*value).to_owned())
        };
        resolve_host(&options, &look_up, || Ok(String::new()))
            .map(|host| host.map_or("default".to_owned(), |host| host.to_string()))
            .map_err(|failure| failure.message)
    }

    #[test]
    fn the_flag_comes_before_the_environment() {
        let variables = [("BERTH_HOST", "unix:///b"), ("DOCKER_HOST", "unix:///d")];
        assert_eq!(
            resolve(Some("unix:///f"), "", &variables).as_deref(),
            Ok("unix:///f")
        );
        assert_eq!(resolve(None, "", &variables).as_deref(), Ok("unix:///b"));
        assert_eq!(
            resolve(None, "", &variables[1..]).as_deref(),
            Ok("unix:///d")
        );
        assert_eq!(resolve(None, "", &[]).as_deref(), Ok("default"));
        assert_eq!(
            resolve(None, "default", &variables).as_deref(),
            Ok("default")
        );
    }

    #[test]
    fn unknown_contexts_and_schemes_are_refused() {
        assert!(
            resolve(None, "foo", &[])
                .expect_err("no such context")
                .contains("context \"foo\"")
        );
        assert!(resolve(None, "", &[("DOCKER_CONTEXT", "foo")]).is_err());
        assert!(resolve(Some("foo://x"), "", &[]).is_err());
        assert!(resolve(Some("unix:///f"), "default", &[]).is_err());
    }
}
