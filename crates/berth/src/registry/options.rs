//! The command line of `berth registry`: words to values.

use super::limits;
use berth_registry::{Grace, Settings, TlsFiles, Upstream};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;
use tracing::Level;

/// What the command line asks for.
#[derive(Debug)]
pub(super) enum Command {
    /// A text to be shown.
    Help(String),
    Serve(Box<Serve>),
    Collect(Collect),
}

/// A registry to be served.
#[derive(Debug)]
pub(super) struct Serve {
    /// Where to listen, `HOST:PORT`.
    pub(super) addresses: Vec<String>,
    pub(super) settings: Settings,
    pub(super) log_level: Level,
}

/// A root to be collected in.
#[derive(Debug)]
pub(super) struct Collect {
    pub(super) root: PathBuf,
    pub(super) grace: Grace,
}

/// One option.
struct Flag {
    name: &'static str,
    /// What its value is called; empty for a switch.
    value: &'static str,
    help: &'static str,
}

const fn flag(name: &'static str, value: &'static str, help: &'static str) -> Flag {
    Flag { name, value, help }
}

const ROOT: Flag = flag(
    "root",
    "path",
    "Directory of everything the registry keeps (default /var/lib/berth-registry)",
);
const KEEP_BLOBS: Flag = flag(
    "keep-blobs",
    "duration",
    "How long a blob may wait for a manifest that names it (default 24h)",
);
const KEEP_UNTAGGED: Flag = flag(
    "keep-untagged",
    "duration",
    "Remove manifests that no tag leads to after this time (default: keep them)",
);
const KEEP_UPLOADS: Flag = flag(
    "keep-uploads",
    "duration",
    "How long an upload may rest before it is given up (default 24h)",
);

static SERVE: &[Flag] = &[
    flag(
        "addr",
        "host:port",
        "Where to listen, may be given several times (default 127.0.0.1:5000)",
    ),
    flag(
        "auth-file",
        "path",
        "Users and bcrypt hashes, as 'htpasswd -B' writes them; read again when it changes",
    ),
    flag(
        "fresh",
        "duration",
        "How long a tag of the upstream is not asked for again (default 1m)",
    ),
    KEEP_BLOBS,
    KEEP_UNTAGGED,
    flag(
        "keep-unused",
        "duration",
        "How long a cached manifest stays after it was last asked for (default 168h)",
    ),
    KEEP_UPLOADS,
    flag(
        "log-level",
        "level",
        "debug, info, warn or error (default info)",
    ),
    flag("read-only", "", "Refuse every change"),
    ROOT,
    flag(
        "tls-cert",
        "path",
        "Certificate chain (PEM); read again when it changes",
    ),
    flag("tls-key", "path", "Key of the certificate (PEM)"),
    flag("upstream", "url", "Be a cache of this registry"),
    flag(
        "upstream-ca",
        "path",
        "Further certificate authorities (PEM) for the upstream, may be given several times",
    ),
    flag(
        "upstream-password-file",
        "path",
        "File with the password at the upstream",
    ),
    flag("upstream-user", "name", "Name at the upstream"),
];

static COLLECT: &[Flag] = &[KEEP_BLOBS, KEEP_UNTAGGED, KEEP_UPLOADS, ROOT];

/// A command line that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum OptionError {
    #[error("there is no command 'berth registry {0}'")]
    Command(String),
    #[error("unknown flag: --{0}")]
    Unknown(String),
    #[error("unexpected argument: {0}")]
    Operand(String),
    #[error("flag needs an argument: --{0}")]
    NoValue(String),
    #[error("invalid argument {value:?} for \"--{name}\": {reason}")]
    Value {
        name: &'static str,
        value: String,
        reason: String,
    },
    #[error("--{0} and --{1} are given together or not at all")]
    Together(&'static str, &'static str),
    #[error("--{0} is for a cache: give --{1}")]
    Needs(&'static str, &'static str),
}

const DEFAULT_ROOT: &str = "/var/lib/berth-registry";
const FRESH: Duration = Duration::from_secs(60);
const KEEP_UNUSED: Duration = Duration::from_secs(7 * 24 * 3600);
const DEFAULT_ADDRESS: &str = "127.0.0.1:5000";

type Values = BTreeMap<&'static str, Vec<String>>;

/// Reads the words after `registry`.
pub(super) fn parse(words: &[String]) -> Result<Command, OptionError> {
    let asks_help = |word: &String| word == "--help" || word == "-h";
    match words.first().map(String::as_str) {
        None | Some("--help" | "-h" | "help") => Ok(Command::Help(overview())),
        Some("serve") if words.iter().any(asks_help) => Ok(Command::Help(help(
            "serve",
            "Serve a registry until told to end",
            SERVE,
        ))),
        Some("serve") => serve(&values(SERVE, &words[1..])?),
        Some("gc") if words.iter().any(asks_help) => Ok(Command::Help(help(
            "gc",
            "Remove what nothing refers to from a registry that is not running",
            COLLECT,
        ))),
        Some("gc") => {
            let values = values(COLLECT, &words[1..])?;
            Ok(Command::Collect(Collect {
                root: root(&values),
                grace: grace(&values)?,
            }))
        }
        Some(other) => Err(OptionError::Command(other.to_owned())),
    }
}

fn overview() -> String {
    "Usage:  berth registry COMMAND\n\n\
     A registry of your own (OCI distribution specification)\n\n\
     Commands:\n  \
     gc          Remove what nothing refers to from a registry that is not running\n  \
     serve       Serve a registry until told to end\n\n\
     Run 'berth registry COMMAND --help' for more information on a command.\n"
        .to_owned()
}

fn help(command: &str, about: &str, flags: &[Flag]) -> String {
    let mut text = format!("Usage:  berth registry {command} [OPTIONS]\n\n{about}\n\nOptions:\n");
    let left = |flag: &Flag| format!("      --{} {}", flag.name, flag.value);
    let width = flags.iter().map(|flag| left(flag).len()).max().unwrap_or(0);
    for flag in flags {
        let _ = writeln!(text, "{:width$}   {}", left(flag), flag.help);
    }
    text
}

fn values(flags: &[Flag], words: &[String]) -> Result<Values, OptionError> {
    let mut values = Values::new();
    let mut rest = words.iter();
    while let Some(word) = rest.next() {
        let Some(text) = word.strip_prefix("--") else {
            return Err(OptionError::Operand(word.clone()));
        };
        let (name, given) = match text.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (text, None),
        };
        let flag = flags
            .iter()
            .find(|flag| flag.name == name)
            .ok_or_else(|| OptionError::Unknown(name.to_owned()))?;
        let value = match given {
            Some(value) => value,
            None if flag.value.is_empty() => "true".to_owned(),
            None => rest
                .next()
                .cloned()
                .ok_or_else(|| OptionError::NoValue(name.to_owned()))?,
        };
        values.entry(flag.name).or_default().push(value);
    }
    Ok(values)
}

fn last<'a>(values: &'a Values, name: &str) -> Option<&'a str> {
    values.get(name)?.last().map(String::as_str)
}

fn path(values: &Values, name: &str) -> Option<PathBuf> {
    last(values, name).map(PathBuf::from)
}

fn root(values: &Values) -> PathBuf {
    path(values, "root").unwrap_or_else(|| DEFAULT_ROOT.into())
}

fn bad(name: &'static str, value: &str, reason: impl ToString) -> OptionError {
    OptionError::Value {
        name,
        value: value.to_owned(),
        reason: reason.to_string(),
    }
}

fn duration(values: &Values, name: &'static str) -> Result<Option<Duration>, OptionError> {
    last(values, name)
        .map(|text| berth_types::duration::parse(text).map_err(|error| bad(name, text, error)))
        .transpose()
}

fn switch(values: &Values, name: &'static str) -> Result<bool, OptionError> {
    match last(values, name) {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(other) => Err(bad(name, other, "true or false")),
    }
}

fn grace(values: &Values) -> Result<Grace, OptionError> {
    let usual = Grace::default();
    Ok(Grace {
        upload: duration(values, "keep-uploads")?.unwrap_or(usual.upload),
        blob: duration(values, "keep-blobs")?.unwrap_or(usual.blob),
        untagged: duration(values, "keep-untagged")?,
        unused: None,
    })
}

fn upstream(values: &Values) -> Result<Option<Upstream>, OptionError> {
    let Some(url) = last(values, "upstream") else {
        let alone = [
            "fresh",
            "upstream-ca",
            "upstream-password-file",
            "upstream-user",
        ];
        return match alone.into_iter().find(|name| values.contains_key(name)) {
            Some(name) => Err(OptionError::Needs(name, "upstream")),
            None => Ok(None),
        };
    };
    let credentials = match (
        last(values, "upstream-user"),
        last(values, "upstream-password-file"),
    ) {
        (None, None) => None,
        (Some(user), Some(file)) => {
            let bytes = berth_sys::fs::read_bounded(file.as_ref(), limits::PASSWORD_FILE)
                .map_err(|error| bad("upstream-password-file", file, error))?;
            let password = String::from_utf8_lossy(&bytes);
            Some((
                user.to_owned(),
                password.trim_end_matches(['\r', '\n']).to_owned(),
            ))
        }
        _ => {
            return Err(OptionError::Together(
                "upstream-user",
                "upstream-password-file",
            ));
        }
    };
    let variable = |name: &str| {
        [name.to_owned(), name.to_lowercase()]
            .iter()
            .find_map(|name| std::env::var(name).ok())
            .filter(|value| !value.is_empty())
    };
    Ok(Some(Upstream {
        url: url.to_owned(),
        credentials,
        certificate_files: values
            .get("upstream-ca")
            .into_iter()
            .flatten()
            .map(PathBuf::from)
            .collect(),
        http_proxy: variable("HTTP_PROXY"),
        https_proxy: variable("HTTPS_PROXY"),
        no_proxy: variable("NO_PROXY"),
        fresh: duration(values, "fresh")?.unwrap_or(FRESH),
    }))
}

fn serve(values: &Values) -> Result<Command, OptionError> {
    let addresses = match values.get("addr") {
        Some(given) if given.len() > limits::ADDRESSES => {
            return Err(bad("addr", &given.len().to_string(), "too many addresses"));
        }
        Some(given) => given.clone(),
        None => vec![DEFAULT_ADDRESS.to_owned()],
    };
    let tls = match (path(values, "tls-cert"), path(values, "tls-key")) {
        (Some(certificate), Some(key)) => Some(TlsFiles { certificate, key }),
        (None, None) => None,
        _ => return Err(OptionError::Together("tls-cert", "tls-key")),
    };
    let upstream = upstream(values)?;
    let unused = match (&upstream, duration(values, "keep-unused")?) {
        (None, None) => None,
        (None, Some(_)) => return Err(OptionError::Needs("keep-unused", "upstream")),
        (Some(_), given) => Some(given.unwrap_or(KEEP_UNUSED)),
    };
    let level = last(values, "log-level").unwrap_or("info");
    let log_level = match level {
        "debug" => Level::DEBUG,
        "info" => Level::INFO,
        "warn" => Level::WARN,
        "error" => Level::ERROR,
        other => return Err(bad("log-level", other, "debug, info, warn or error")),
    };
    Ok(Command::Serve(Box::new(Serve {
        addresses,
        settings: Settings {
            root: root(values),
            auth_file: path(values, "auth-file"),
            tls,
            read_only: switch(values, "read-only")?,
            grace: Grace {
                unused,
                ..grace(values)?
            },
            upstream,
        },
        log_level,
    })))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Command, OptionError> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        parse(&words)
    }

    #[test]
    fn a_registry_is_described_by_words() {
        let Ok(Command::Serve(serve)) = read(
            "serve --addr 127.0.0.1:1 --addr=[::1]:2 --root /r --tls-cert c --tls-key=k --read-only --keep-untagged 2h",
        ) else {
            panic!("not a registry to serve");
        };
        assert_eq!(serve.addresses, ["127.0.0.1:1", "[::1]:2"]);
        assert_eq!(serve.settings.root, PathBuf::from("/r"));
        assert!(serve.settings.read_only);
        assert!(serve.settings.tls.is_some());
        assert_eq!(
            serve.settings.grace.untagged,
            Some(Duration::from_secs(7200))
        );
        let Ok(Command::Serve(serve)) =
            read("serve --upstream http://x --fresh 5s --keep-unused 1h")
        else {
            panic!("not a registry to serve");
        };
        let upstream = serve.settings.upstream.expect("an upstream");
        assert_eq!(upstream.fresh, Duration::from_secs(5));
        assert_eq!(serve.settings.grace.unused, Some(Duration::from_secs(3600)));
        let Ok(Command::Serve(serve)) = read("serve") else {
            panic!("not a registry to serve");
        };
        assert_eq!(serve.addresses, [DEFAULT_ADDRESS]);
        assert_eq!(serve.settings.root, PathBuf::from(DEFAULT_ROOT));
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        for (line, words) in [
            ("start", "berth registry start"),
            ("serve here", "unexpected argument: here"),
            ("serve --nosuch 1", "--nosuch"),
            ("serve --root", "flag needs an argument: --root"),
            ("serve --tls-key k", "--tls-cert and --tls-key"),
            ("serve --log-level loud", "loud"),
            ("serve --fresh 1m", "--upstream"),
            (
                "serve --upstream http://x --upstream-user me",
                "--upstream-password-file",
            ),
            ("gc --keep-blobs soon", "soon"),
            ("gc --addr 1", "--addr"),
        ] {
            let error = read(line).expect_err(line).to_string();
            assert!(error.contains(words), "{line}: {error}");
        }
        for line in ["", "--help", "serve --help", "gc -h"] {
            assert!(matches!(read(line), Ok(Command::Help(_))), "{line}");
        }
    }
}
