//! The daemon's settings: defaults < file < environment < command line, resolved once.

use super::file::{self, Budget, File, Size};
use super::networks;
use super::options::{FLAGS, Kind, Options, truth};
use anyhow::{Context, Result, anyhow, bail};
use berth_api::Host;
use berth_engine::Config;
use berth_engine::config::Runtime;
use berth_engine::containers::spec::Ulimit;
use berth_engine::system::DiskBudget;
use berth_types::size;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tracing::Level;

const DATA_ROOT: &str = "/var/lib/berth";
const EXEC_ROOT: &str = "/run/berth";
const SETTINGS_FILE: &str = "/etc/berth/daemon.json";
/// Docker's place counts too: what is there was put there for this registry.
const REGISTRY_CERTIFICATES: [&str; 2] = ["/etc/berth/certs.d", "/etc/docker/certs.d"];

/// Everything the daemon's process needs to know.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Settings {
    pub(super) config: Config,
    pub(super) hosts: Vec<Host>,
    pub(super) log_level: Level,
    pub(super) pid_file: Option<PathBuf>,
}

/// Values by option, of one source or merged.
pub(super) type Values = BTreeMap<&'static str, Vec<String>>;

/// The name of an option in the environment.
fn variable(name: &str) -> String {
    format!(
        "BERTH_DAEMON_{}",
        name.to_ascii_uppercase().replace('-', "_")
    )
}

fn from_environment(environment: impl Fn(&str) -> Option<String>) -> Values {
    let mut values = Values::new();
    for flag in FLAGS {
        let Some(text) = environment(&variable(flag.name)).filter(|text| !text.is_empty()) else {
            continue;
        };
        let list = match flag.kind {
            Kind::Many => text.split(',').map(|part| part.trim().to_owned()).collect(),
            Kind::One | Kind::Switch => vec![text],
        };
        values.insert(flag.name, list);
    }
    values
}

/// Merges every source.
///
/// # Errors
/// When a value cannot be used, naming the option.
pub(super) fn resolve(
    options: &Options,
    environment: impl Fn(&str) -> Option<String>,
) -> Result<Settings> {
    let mut values = from_environment(&environment);
    values.extend(options.values.clone());
    let mut file = match one(&values, "config-file") {
        Some(path) => file::read(Path::new(path), true)?,
        None => file::read(Path::new(SETTINGS_FILE), false)?,
    };
    proxies_of_the_machine(&mut file, &environment);
    merge(&values, file)
}

/// Proxies that every program is told of count where nothing else was said, as for dockerd.
fn proxies_of_the_machine(file: &mut File, environment: impl Fn(&str) -> Option<String>) {
    let proxies = &mut file.proxies;
    for (name, value) in [
        ("HTTP_PROXY", &mut proxies.http_proxy),
        ("HTTPS_PROXY", &mut proxies.https_proxy),
        ("NO_PROXY", &mut proxies.no_proxy),
    ] {
        if value.is_none() {
            *value = environment(name)
                .or_else(|| environment(&name.to_ascii_lowercase()))
                .filter(|text| !text.is_empty());
        }
    }
}

/// A proxy as a URL; Go takes a bare host for one that is reached by http.
fn proxy(name: &str, text: Option<String>) -> Result<Option<String>> {
    let Some(text) = text.filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    match text.split_once("://") {
        None => Ok(Some(format!("http://{text}"))),
        Some(("http" | "https" | "socks5" | "socks5h", _)) => Ok(Some(text)),
        Some((scheme, _)) => bail!(
            "{name}: a proxy is reached by http://, https://, socks5:// or socks5h://, not by {scheme}://"
        ),
    }
}

pub(super) fn one<'a>(values: &'a Values, name: &str) -> Option<&'a str> {
    values
        .get(name)
        .and_then(|list| list.last())
        .map(String::as_str)
}

/// The values given, else those of the file.
pub(super) fn many(values: &Values, name: &str, file: Vec<String>) -> Vec<String> {
    values.get(name).cloned().unwrap_or(file)
}

fn switch(values: &Values, name: &str, file: Option<bool>) -> Result<bool> {
    match one(values, name) {
        Some(text) => {
            truth(text).ok_or_else(|| anyhow!("{name}: {text:?} is neither true nor false"))
        }
        None => Ok(file.unwrap_or(false)),
    }
}

/// A number of which there has to be at least one.
fn count(values: &Values, name: &str, file: Option<u32>) -> Result<Option<u32>> {
    let number = match one(values, name) {
        Some(text) => {
            let number = text.parse().ok();
            Some(number.with_context(|| format!("{name}: {text:?} is not a number"))?)
        }
        None => file,
    };
    if number == Some(0) {
        bail!("{name}: at least one is needed");
    }
    Ok(number)
}

fn merge(values: &Values, file: File) -> Result<Settings> {
    if file.live_restore == Some(false) {
        bail!("live-restore: containers always outlive the daemon; false cannot be granted");
    }
    let network = networks::merge(values, &file)?;
    let root = |name: &str, file: Option<String>, default: &str| -> Result<PathBuf> {
        let text = one(values, name)
            .map(str::to_owned)
            .or(file)
            .unwrap_or_else(|| default.to_owned());
        let path = PathBuf::from(text);
        if !path.is_absolute() {
            bail!("{name}: {} is not an absolute path", path.display());
        }
        Ok(path)
    };
    let data_root = root("data-root", file.data_root, DATA_ROOT)?;
    let exec_root = root("exec-root", file.exec_root, EXEC_ROOT)?;
    let mut hosts = Vec::new();
    for text in many(values, "host", file.hosts) {
        hosts.push(text.parse::<Host>()?);
    }
    if hosts.is_empty() {
        hosts.push(Host::Unix(exec_root.join("berth.sock")));
    }

    let mut config = Config::with_roots(data_root, exec_root);
    config.network = network;
    config.debug = switch(values, "debug", file.debug)?;
    config.init = switch(values, "init", file.init)?;
    config.no_new_privileges = switch(values, "no-new-privileges", file.no_new_privileges)?;
    let text = |name: &str, file: Option<String>| one(values, name).map(str::to_owned).or(file);
    config.cgroup_parent = text("cgroup-parent", file.cgroup_parent).unwrap_or_default();
    config.seccomp_profile = text("seccomp-profile", file.seccomp_profile).unwrap_or_default();
    for (name, entry) in file.runtimes {
        let runtime = Runtime::Program {
            path: PathBuf::from(entry.path),
            args: entry.runtime_args,
        };
        config.runtimes.insert(name, runtime);
    }
    for text in many(values, "add-runtime", Vec::new()) {
        let (name, path) = pair("add-runtime", &text)?;
        let runtime = Runtime::Program {
            path: PathBuf::from(path),
            args: Vec::new(),
        };
        config.runtimes.insert(name.to_owned(), runtime);
    }
    if let Some(name) = text("default-runtime", file.default_runtime) {
        if config.runtime(&name).is_none() {
            bail!(
                "default-runtime: there is no runtime {name:?}; add it with --add-runtime {name}=PATH"
            );
        }
        config.default_runtime = name;
    }
    if let Some(driver) = text("log-driver", file.log_driver) {
        config.log.driver = driver;
    }
    config.log.options = file.log_opts.into_iter().collect();
    for text in many(values, "log-opt", Vec::new()) {
        let (name, value) = pair("log-opt", &text)?;
        config.log.options.insert(name.to_owned(), value.to_owned());
    }
    config.shm_size = match (one(values, "default-shm-size"), file.default_shm_size) {
        (Some(text), _) => Some(bytes("default-shm-size", text)?),
        (None, Some(Size::Text(text))) => Some(bytes("default-shm-size", &text)?),
        (None, Some(Size::Bytes(bytes))) => Some(bytes),
        (None, None) => None,
    };
    let mut limits: BTreeMap<String, Ulimit> = BTreeMap::new();
    for (key, limit) in file.default_ulimits {
        if key != limit.name {
            bail!("default-ulimits: {key:?} names itself {:?}", limit.name);
        }
        limits.insert(
            key,
            Ulimit {
                name: limit.name,
                soft: limit.soft,
                hard: limit.hard,
            },
        );
    }
    for text in many(values, "default-ulimit", Vec::new()) {
        let limit = ulimit(&text)?;
        limits.insert(limit.name.clone(), limit);
    }
    config.ulimits = limits.into_values().collect();
    config.registry_mirrors = many(values, "registry-mirror", file.registry_mirrors);
    config.registry_mirrors_by_host = file.registry_mirrors_by_host.into_iter().collect();
    config.insecure_registries = many(values, "insecure-registry", file.insecure_registries);
    config.disk_budget = file.disk_budget.map(budget).transpose()?;
    let files = |list: Vec<String>| list.into_iter().map(PathBuf::from).collect::<Vec<_>>();
    config.registry_authorities = files(many(values, "registry-ca-cert", file.registry_ca_certs));
    config.registry_certificates =
        files(many(values, "registry-certs-dir", file.registry_certs_dirs));
    if config.registry_certificates.is_empty() {
        config.registry_certificates = REGISTRY_CERTIFICATES.map(PathBuf::from).to_vec();
    }
    config.http_proxy = proxy("http-proxy", text("http-proxy", file.proxies.http_proxy))?;
    config.https_proxy = proxy("https-proxy", text("https-proxy", file.proxies.https_proxy))?;
    config.no_proxy = text("no-proxy", file.proxies.no_proxy);
    config.dns = many(values, "dns", file.dns);
    config.dns_options = many(values, "dns-opt", file.dns_opts);
    config.dns_search = many(values, "dns-search", file.dns_search);
    config.labels = many(values, "label", file.labels);
    if let Some(bad) = config.labels.iter().find(|label| !label.contains('=')) {
        bail!("label: bad attribute format: {bad}");
    }
    let downloads = count(
        values,
        "max-concurrent-downloads",
        file.max_concurrent_downloads,
    )?;
    if let Some(number) = downloads {
        config.concurrent_downloads = number as usize;
    }
    if let Some(number) = count(
        values,
        "max-concurrent-uploads",
        file.max_concurrent_uploads,
    )? {
        config.concurrent_uploads = number as usize;
    }
    if let Some(number) = count(values, "max-download-attempts", file.max_download_attempts)? {
        config.download_attempts = number;
    }
    let level = text("log-level", file.log_level);
    Ok(Settings {
        hosts,
        log_level: log_level(level.as_deref(), config.debug)?,
        pid_file: text("pidfile", file.pidfile)
            .filter(|path| !path.is_empty())
            .map(PathBuf::from),
        config,
    })
}

fn pair<'a>(option: &str, text: &'a str) -> Result<(&'a str, &'a str)> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name, value)),
        _ => Err(anyhow!("{option}: {text:?} is not name=value")),
    }
}

fn bytes(option: &str, text: &str) -> Result<i64> {
    size::parse_binary(text).with_context(|| option.to_owned())
}

/// A day, unless it is said how long an image must not have been used.
const UNUSED_FOR: Duration = Duration::from_secs(24 * 60 * 60);

fn budget(given: Budget) -> Result<DiskBudget> {
    let limit = match given.limit {
        Size::Bytes(bytes) => u64::try_from(bytes).ok(),
        Size::Text(text) => size::parse_binary(&text)
            .ok()
            .and_then(|bytes| u64::try_from(bytes).ok()),
    };
    let limit = limit
        .filter(|limit| *limit > 0)
        .context("disk-budget: limit is no size above zero, like \"50GB\"")?;
    let unused_for = match given.unused_for {
        None => UNUSED_FOR,
        Some(text) => berth_types::duration::parse(&text)
            .with_context(|| format!("disk-budget: unused-for {text:?} is no duration"))?,
    };
    Ok(DiskBudget { limit, unused_for })
}

/// `name=soft[:hard]`; the hard limit is the soft one unless given, and -1 is none.
fn ulimit(text: &str) -> Result<Ulimit> {
    let bad = || anyhow!("default-ulimit: {text:?} is not name=soft[:hard]");
    let (name, limits) = text
        .split_once('=')
        .filter(|(name, _)| !name.is_empty())
        .ok_or_else(bad)?;
    let number = |text: &str| {
        text.parse::<i64>()
            .ok()
            .filter(|number| *number >= -1)
            .ok_or_else(bad)
    };
    let (soft, hard) = match limits.split_once(':') {
        Some((soft, hard)) => (number(soft)?, number(hard)?),
        None => (number(limits)?, number(limits)?),
    };
    if hard != -1 && (soft == -1 || soft > hard) {
        bail!("default-ulimit: the soft limit of {name} is above its hard limit");
    }
    Ok(Ulimit {
        name: name.to_owned(),
        soft,
        hard,
    })
}

fn log_level(text: Option<&str>, debug: bool) -> Result<Level> {
    match text {
        _ if debug => Ok(Level::DEBUG),
        None | Some("" | "info") => Ok(Level::INFO),
        Some("trace") => Ok(Level::TRACE),
        Some("debug") => Ok(Level::DEBUG),
        Some("warn") => Ok(Level::WARN),
        Some("error" | "fatal" | "panic") => Ok(Level::ERROR),
        Some(other) => Err(anyhow!("log-level: unable to parse logging level: {other}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(pairs: &[(&'static str, &str)]) -> Values {
        let mut values = Values::new();
        for (name, value) in pairs {
            values.entry(*name).or_default().push((*value).to_owned());
        }
        values
    }

    #[test]
    fn the_command_line_wins_over_the_environment_and_that_over_the_file() {
        let options = Options {
            values: values(&[("data-root", "/flag")]),
            ready_fd: None,
        };
        let environment = |name: &str| match name {
            "BERTH_DAEMON_DATA_ROOT" => Some("/environment".to_owned()),
            "BERTH_DAEMON_EXEC_ROOT" => Some("/e".to_owned()),
            "BERTH_DAEMON_REGISTRY_MIRROR" => Some("http://a,http://b".to_owned()),
            _ => None,
        };
        let settings = resolve(&options, environment).unwrap();
        assert_eq!(settings.config.data_root, Path::new("/flag"));
        assert_eq!(settings.config.exec_root, Path::new("/e"));
        assert_eq!(settings.config.registry_mirrors, ["http://a", "http://b"]);
        assert_eq!(settings.hosts, [Host::Unix("/e/berth.sock".into())]);
        let file = File {
            cgroup_parent: Some("/file".into()),
            hosts: vec!["tcp://:1".into()],
            ..File::default()
        };
        let settings = merge(&values(&[("cgroup-parent", "/flag")]), file).unwrap();
        assert_eq!(settings.config.cgroup_parent, "/flag");
        assert_eq!(settings.hosts[0].to_string(), "tcp://127.0.0.1:1");
    }

    #[test]
    fn proxies_come_from_the_flag_the_file_or_the_machine() {
        let environment = |name: &str| match name {
            "HTTP_PROXY" => Some("machine:3128".to_owned()),
            "https_proxy" => Some("socks5h://machine:1080".to_owned()),
            "no_proxy" => Some("a,b".to_owned()),
            _ => None,
        };
        let given = values(&[("http-proxy", "http://me:secret@flag:1")]);
        let resolved = |values: Values| {
            let options = Options {
                values,
                ready_fd: None,
            };
            resolve(&options, environment).unwrap().config
        };
        let config = resolved(Values::new());
        assert_eq!(config.http_proxy.as_deref(), Some("http://machine:3128"));
        assert_eq!(
            config.https_proxy.as_deref(),
            Some("socks5h://machine:1080")
        );
        assert_eq!(config.no_proxy.as_deref(), Some("a,b"));
        assert_eq!(
            resolved(given).http_proxy.as_deref(),
            Some("http://me:secret@flag:1")
        );
        assert_eq!(config.registry_certificates.len(), 2);
        assert!(merge(&values(&[("https-proxy", "socks4://x")]), File::default()).is_err());
    }

    #[test]
    fn every_option_reaches_the_engine() {
        let settings = merge(
            &values(&[
                ("add-runtime", "crun=/usr/bin/crun"),
                ("default-runtime", "crun"),
                ("default-shm-size", "1m"),
                ("default-ulimit", "nofile=1:2"),
                ("log-opt", "max-size=1m"),
                ("log-driver", "local"),
                ("init", "true"),
                ("debug", "true"),
                ("pidfile", "/p"),
            ]),
            File::default(),
        )
        .unwrap();
        let config = settings.config;
        assert_eq!(config.default_runtime, "crun");
        assert_eq!(config.shm_size, Some(1 << 20));
        assert_eq!(
            config.ulimits,
            [Ulimit {
                name: "nofile".into(),
                soft: 1,
                hard: 2
            }]
        );
        assert_eq!(
            (
                config.log.driver.as_str(),
                config.log.options["max-size"].as_str()
            ),
            ("local", "1m")
        );
        assert!(config.init && config.debug);
        assert_eq!(
            (settings.log_level, settings.pid_file),
            (Level::DEBUG, Some("/p".into()))
        );
    }

    #[test]
    fn bad_values_name_their_option() {
        for (name, value) in [
            ("data-root", "relative"),
            ("default-runtime", "nope"),
            ("default-shm-size", "much"),
            ("default-ulimit", "nofile=9:1"),
            ("add-runtime", "crun"),
            ("log-level", "loud"),
            ("label", "x"),
            ("max-concurrent-downloads", "0"),
            ("max-concurrent-uploads", "0"),
            ("max-download-attempts", "often"),
        ] {
            let error = merge(&values(&[(name, value)]), File::default()).unwrap_err();
            assert!(format!("{error:#}").starts_with(name), "{name}: {error:#}");
        }
        assert!(merge(&values(&[("host", "ssh://x")]), File::default()).is_err());
        let file = File {
            live_restore: Some(false),
            ..File::default()
        };
        assert!(merge(&Values::new(), file).is_err());
    }
}
