//! The command line of `berth daemon`: words to values, nothing resolved yet.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// How an option takes its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// `--name` or `--name=false`.
    Switch,
    /// `--name value` or `--name=value`; the last one counts.
    One,
    /// As [`Kind::One`]; every one counts.
    Many,
}

/// One option, the same on the command line, in the environment and (mostly) in the settings file.
#[derive(Debug)]
pub(super) struct Flag {
    pub(super) name: &'static str,
    short: Option<char>,
    pub(super) kind: Kind,
    value: &'static str,
    help: &'static str,
}

const fn flag(name: &'static str, kind: Kind, value: &'static str, help: &'static str) -> Flag {
    Flag {
        name,
        short: None,
        kind,
        value,
        help,
    }
}

/// Every option.
pub(super) static FLAGS: &[Flag] = &[
    flag(
        "add-runtime",
        Kind::Many,
        "name=path",
        "Register a further OCI runtime",
    ),
    flag(
        "bip",
        Kind::One,
        "address/length",
        "Address of the default bridge",
    ),
    flag(
        "bip6",
        Kind::One,
        "address/length",
        "IPv6 address of the default bridge",
    ),
    Flag {
        short: Some('b'),
        ..flag(
            "bridge",
            Kind::One,
            "name",
            "Bridge of the default network; none for no default network",
        )
    },
    flag(
        "cgroup-parent",
        Kind::One,
        "path",
        "Parent control group of all containers",
    ),
    flag(
        "config-file",
        Kind::One,
        "path",
        "Settings file (default /etc/berth/daemon.json)",
    ),
    flag(
        "data-root",
        Kind::One,
        "path",
        "Root of what outlives a reboot (default /var/lib/berth)",
    ),
    Flag {
        short: Some('D'),
        ..flag("debug", Kind::Switch, "", "Tell more")
    },
    flag(
        "default-address-pool",
        Kind::Many,
        "pool",
        "Where subnets are chosen from: base=…,size=…",
    ),
    flag(
        "default-gateway",
        Kind::One,
        "address",
        "Gateway of the default network",
    ),
    flag(
        "default-gateway-v6",
        Kind::One,
        "address",
        "IPv6 gateway of the default network",
    ),
    flag(
        "default-network-opt",
        Kind::Many,
        "option",
        "Option of new networks: driver=option=value",
    ),
    flag(
        "default-runtime",
        Kind::One,
        "name",
        "Runtime of containers that do not say (default berth)",
    ),
    flag(
        "default-shm-size",
        Kind::One,
        "bytes",
        "Size of /dev/shm of containers that do not say (default 64MiB)",
    ),
    flag(
        "default-ulimit",
        Kind::Many,
        "name=soft[:hard]",
        "Resource limit of containers that do not say",
    ),
    flag(
        "dns",
        Kind::Many,
        "address",
        "Name server of containers that do not say",
    ),
    flag(
        "dns-opt",
        Kind::Many,
        "option",
        "Resolver option of containers that do not say",
    ),
    flag(
        "dns-search",
        Kind::Many,
        "domain",
        "Search domain of containers that do not say",
    ),
    flag(
        "exec-root",
        Kind::One,
        "path",
        "Root of what does not outlive a reboot (default /run/berth)",
    ),
    flag(
        "firewall-backend",
        Kind::One,
        "name",
        "What filters: nftables is the only one",
    ),
    flag(
        "fixed-cidr",
        Kind::One,
        "subnet",
        "Part of the default network addresses are given from",
    ),
    flag(
        "fixed-cidr-v6",
        Kind::One,
        "subnet",
        "IPv6 subnet of the default network",
    ),
    Flag {
        short: Some('H'),
        ..flag(
            "host",
            Kind::Many,
            "address",
            "Where to listen, unix://PATH or tcp://NAME:PORT (default unix://EXEC-ROOT/berth.sock)",
        )
    },
    flag(
        "host-gateway-ip",
        Kind::Many,
        "address",
        "What host-gateway stands for (default the default bridge)",
    ),
    flag(
        "http-proxy",
        Kind::One,
        "url",
        "Proxy to registries over http (default HTTP_PROXY)",
    ),
    flag(
        "https-proxy",
        Kind::One,
        "url",
        "Proxy to registries over https (default HTTPS_PROXY)",
    ),
    flag(
        "icc",
        Kind::Switch,
        "",
        "Let containers on the default network reach each other (default true)",
    ),
    flag(
        "init",
        Kind::Switch,
        "",
        "Run an init in containers that do not say",
    ),
    flag(
        "insecure-registry",
        Kind::Many,
        "host",
        "Registry reached without verified TLS",
    ),
    flag(
        "ip",
        Kind::One,
        "address",
        "Address ports are published on when none is asked for",
    ),
    flag(
        "ip-forward",
        Kind::Switch,
        "",
        "Switch forwarding on in the kernel (default true)",
    ),
    flag(
        "ip-masq",
        Kind::Switch,
        "",
        "Give what leaves the default network the host's address (default true)",
    ),
    flag("ip6tables", Kind::Switch, "", "As --iptables"),
    flag(
        "iptables",
        Kind::Switch,
        "",
        "Filter and translate at all; by nftables (default true)",
    ),
    flag("ipv6", Kind::Switch, "", "Give the default network IPv6"),
    flag("label", Kind::Many, "key=value", "Label of this daemon"),
    flag(
        "log-driver",
        Kind::One,
        "name",
        "Log driver of containers that do not say (default json-file)",
    ),
    Flag {
        short: Some('l'),
        ..flag(
            "log-level",
            Kind::One,
            "level",
            "debug, info, warn, error or fatal (default info)",
        )
    },
    flag(
        "log-opt",
        Kind::Many,
        "key=value",
        "Option of the default log driver",
    ),
    flag(
        "max-concurrent-downloads",
        Kind::One,
        "number",
        "Layers fetched at once per pull (default 3)",
    ),
    flag(
        "max-concurrent-uploads",
        Kind::One,
        "number",
        "Layers sent at once per push (default 5)",
    ),
    flag(
        "max-download-attempts",
        Kind::One,
        "number",
        "Attempts for each download of a pull (default 5)",
    ),
    flag(
        "mtu",
        Kind::One,
        "bytes",
        "Largest packet on the default network (default that of the route)",
    ),
    flag(
        "no-proxy",
        Kind::One,
        "hosts",
        "Hosts, domains and ranges reached without a proxy (default NO_PROXY)",
    ),
    flag(
        "no-new-privileges",
        Kind::Switch,
        "",
        "Set no-new-privileges in containers that do not say",
    ),
    Flag {
        short: Some('p'),
        ..flag(
            "pidfile",
            Kind::One,
            "path",
            "Where to write the daemon's process id",
        )
    },
    flag(
        "publish-policy",
        Kind::One,
        "policy",
        "Who decides whether published ports are reached: compat, firewall or loopback",
    ),
    flag(
        "registry-ca-cert",
        Kind::Many,
        "path",
        "Authority that registries are verified by, beside the host's; for proxies that look inside",
    ),
    flag(
        "registry-certs-dir",
        Kind::Many,
        "path",
        "Certificates of single registries (default /etc/berth/certs.d, /etc/docker/certs.d)",
    ),
    flag("registry-mirror", Kind::Many, "url", "Mirror of Docker Hub"),
    flag(
        "seccomp-profile",
        Kind::One,
        "path",
        "Seccomp profile of containers that do not say: a path, builtin or unconfined",
    ),
    flag(
        "userland-proxy",
        Kind::Switch,
        "",
        "There is none; only false can be granted",
    ),
];

/// What stands on the command line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Options {
    /// Values by option, in the order given.
    pub(super) values: BTreeMap<&'static str, Vec<String>>,
    /// Descriptor that is told when the daemon listens.
    pub(super) ready_fd: Option<i32>,
}

/// What the command line asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Parsed {
    Run(Options),
    Help,
    Version,
}

/// A command line that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum OptionError {
    #[error("unknown flag: --{0}")]
    Unknown(String),
    #[error("unknown shorthand flag: '{0}' in {1}")]
    UnknownShort(char, String),
    #[error("flag needs an argument: --{0}")]
    NoValue(&'static str),
    #[error("invalid argument \"{1}\" for \"--{0}\" flag: neither true nor false")]
    NotATruth(&'static str, String),
    #[error("invalid argument \"{0}\" for \"--ready-fd\" flag: not a descriptor")]
    ReadyFd(String),
    #[error("\"berth daemon\" accepts no arguments: {0:?}")]
    Argument(String),
}

/// Reads the words after `daemon`.
pub(super) fn parse(words: &[String]) -> Result<Parsed, OptionError> {
    let mut options = Options::default();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        if let Some(rest) = word.strip_prefix("--").filter(|rest| !rest.is_empty()) {
            let (name, value) = match rest.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (rest, None),
            };
            match name {
                "help" => return Ok(Parsed::Help),
                "version" => return Ok(Parsed::Version),
                // Between a client and the daemon that it starts; not for people.
                "ready-fd" => {
                    let text = value.or_else(|| words.next().cloned()).unwrap_or_default();
                    options.ready_fd = Some(text.parse().map_err(|_| OptionError::ReadyFd(text))?);
                    continue;
                }
                _ => {}
            }
            let flag = FLAGS.iter().find(|flag| flag.name == name);
            let flag = flag.ok_or_else(|| OptionError::Unknown(name.to_owned()))?;
            take(&mut options, flag, value, &mut words)?;
        } else if let Some(letters) = word.strip_prefix('-').filter(|letters| !letters.is_empty()) {
            let mut rest = letters.chars();
            while let Some(letter) = rest.next() {
                if letter == 'h' {
                    return Ok(Parsed::Help);
                }
                if letter == 'v' {
                    return Ok(Parsed::Version);
                }
                let flag = FLAGS.iter().find(|flag| flag.short == Some(letter));
                let flag = flag.ok_or_else(|| OptionError::UnknownShort(letter, word.clone()))?;
                if flag.kind == Kind::Switch {
                    take(&mut options, flag, None, &mut words)?;
                    continue;
                }
                let value = rest.as_str();
                let value = value.strip_prefix('=').unwrap_or(value);
                let value = (!value.is_empty()).then(|| value.to_owned());
                take(&mut options, flag, value, &mut words)?;
                break;
            }
        } else {
            return Err(OptionError::Argument(word.clone()));
        }
    }
    Ok(Parsed::Run(options))
}

fn take<'a>(
    options: &mut Options,
    flag: &'static Flag,
    value: Option<String>,
    words: &mut impl Iterator<Item = &'a String>,
) -> Result<(), OptionError> {
    let value = match (flag.kind, value) {
        (Kind::Switch, value) => {
            let value = value.unwrap_or_else(|| "true".to_owned());
            if truth(&value).is_none() {
                return Err(OptionError::NotATruth(flag.name, value));
            }
            value
        }
        (_, Some(value)) => value,
        (_, None) => words
            .next()
            .cloned()
            .ok_or(OptionError::NoValue(flag.name))?,
    };
    let values = options.values.entry(flag.name).or_default();
    if flag.kind != Kind::Many {
        values.clear();
    }
    values.push(value);
    Ok(())
}

/// Go's truth values.
pub(super) fn truth(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// The text of `--help`.
pub(super) fn help() -> String {
    let mut text = String::from(
        "Usage:  berth daemon [OPTIONS]\n\nRun the engine in the foreground\n\nOptions:\n",
    );
    for flag in FLAGS {
        let short = flag
            .short
            .map_or("    ".to_owned(), |letter| format!("-{letter}, "));
        let long = format!("--{} {}", flag.name, flag.value);
        let _ = writeln!(text, "  {short}{long:<42} {}", flag.help);
    }
    text.push_str(
        "\nEvery option can also stand in the environment (BERTH_DAEMON_DATA_ROOT and so on; several values\n\
         are separated by commas) and in the settings file, with dockerd's names. The command line wins over\n\
         the environment, the environment over the file.\n",
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn options_are_read_as_dockerd_reads_them() {
        let text = "--data-root /d --exec-root=/e -H unix:///a -Hunix:///b -D --init=false --log-opt a=b --log-opt=c=d --ready-fd 7";
        let Ok(Parsed::Run(options)) = parse(&words(text)) else {
            panic!("not read")
        };
        assert_eq!(options.values["host"], ["unix:///a", "unix:///b"]);
        assert_eq!(options.values["log-opt"], ["a=b", "c=d"]);
        assert_eq!(
            (
                options.values["init"][0].as_str(),
                options.values["debug"][0].as_str()
            ),
            ("false", "true")
        );
        assert_eq!(options.ready_fd, Some(7));
        assert_eq!(parse(&words("--help")), Ok(Parsed::Help));
        assert_eq!(parse(&words("-v")), Ok(Parsed::Version));
    }

    #[test]
    fn bad_words_are_refused() {
        for (text, message) in [
            ("--nope", "unknown flag: --nope"),
            ("-x", "unknown shorthand flag: 'x' in -x"),
            ("--data-root", "flag needs an argument: --data-root"),
            (
                "--init=perhaps",
                "invalid argument \"perhaps\" for \"--init\" flag: neither true nor false",
            ),
            ("stray", "\"berth daemon\" accepts no arguments: \"stray\""),
        ] {
            assert_eq!(parse(&words(text)).unwrap_err().to_string(), message);
        }
    }
}
