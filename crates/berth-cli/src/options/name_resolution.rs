//! `--add-host`, `--dns`, `--dns-search`, `--link`, `--sysctl` and `--attach`: values that are
//! checked and then travel nearly as they are.

use std::net::IpAddr;

use crate::quote::go_quote;

/// The address that stands for the host's own.
const HOST_GATEWAY: &str = "host-gateway";

/// `host:address` from `host:address` or `host=address`, brackets around the address removed.
pub(crate) fn extra_host(text: &str) -> Result<String, String> {
    let bad = || format!("bad format for add-host: {}", go_quote(text));
    let (host, address) = text
        .split_once('=')
        .or_else(|| text.split_once(':'))
        .ok_or_else(bad)?;
    if host.is_empty() || address.is_empty() {
        return Err(bad());
    }
    let inner = address
        .strip_prefix('[')
        .and_then(|address| address.strip_suffix(']'))
        .unwrap_or(address);
    if inner != HOST_GATEWAY && inner.trim().parse::<IpAddr>().is_err() {
        return Err(format!(
            "invalid IP address in add-host: {}",
            go_quote(inner)
        ));
    }
    Ok(format!("{host}:{inner}"))
}

/// Whether the text is a host and its address.
pub(crate) fn check_extra_host(text: &str) -> Result<(), String> {
    extra_host(text).map(|_| ())
}

/// An address in its usual form.
pub(crate) fn address(text: &str) -> Result<String, String> {
    text.trim()
        .parse::<IpAddr>()
        .map(|address| match address {
            IpAddr::V6(six) => six.to_ipv4_mapped().map_or(address, IpAddr::V4).to_string(),
            IpAddr::V4(_) => address.to_string(),
        })
        .map_err(|_| format!("IP address is not correctly formatted: {text}"))
}

/// Whether the text is an address.
pub(crate) fn check_address(text: &str) -> Result<(), String> {
    address(text).map(|_| ())
}

/// Whether the text is a domain or a single dot.
pub(crate) fn check_domain(text: &str) -> Result<(), String> {
    let trimmed = text.trim_matches(' ');
    if trimmed == "." {
        return Ok(());
    }
    let name = trimmed.strip_suffix('.').unwrap_or(trimmed);
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if name.len() < 255
        && name.bytes().any(|byte| byte.is_ascii_alphabetic())
        && name.split('.').all(label)
    {
        Ok(())
    } else {
        Err(format!("{trimmed} is not a valid domain"))
    }
}

/// Whether the text is `container[:alias]`.
pub(crate) fn check_link(text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Err("empty string specified for links".to_owned());
    }
    if text.split(':').count() > 2 {
        return Err(format!("bad format for links: {text}"));
    }
    Ok(())
}

/// Whether the text sets a kernel parameter that has a namespace of its own.
pub(crate) fn check_sysctl(text: &str) -> Result<(), String> {
    const NAMES: &[&str] = &[
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
        "kernel.sem",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
        "kernel.shm_rmid_forced",
    ];
    let allowed = text.split_once('=').is_some_and(|(name, _)| {
        NAMES.contains(&name) || name.starts_with("net.") || name.starts_with("fs.mqueue.")
    });
    if allowed {
        Ok(())
    } else {
        Err(format!("sysctl '{text}' is not allowed"))
    }
}

/// Whether the text names a standard stream.
pub(crate) fn check_stream(text: &str) -> Result<(), String> {
    match text.to_ascii_lowercase().as_str() {
        "stdin" | "stdout" | "stderr" => Ok(()),
        _ => Err("valid streams are STDIN, STDOUT and STDERR".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_read() {
        for (text, wanted) in [
            ("a:1.2.3.4", Ok("a:1.2.3.4")),
            ("a=1.2.3.4", Ok("a:1.2.3.4")),
            ("a:[::1]", Ok("a:::1")),
            ("a:::1", Ok("a:::1")),
            ("a:host-gateway", Ok("a:host-gateway")),
            ("foo", Err("bad format for add-host: \"foo\"")),
            ("foo:bar", Err("invalid IP address in add-host: \"bar\"")),
            (":1.2.3.4", Err("bad format for add-host: \":1.2.3.4\"")),
        ] {
            assert_eq!(
                extra_host(text),
                wanted.map(str::to_owned).map_err(str::to_owned),
                "{text}"
            );
        }
    }

    #[test]
    fn other_values_are_checked() {
        for good in ["a.b", ".", "example.com.", "a_b"] {
            assert_eq!(check_domain(good), Ok(()), "{good}");
        }
        assert_eq!(
            check_domain("").expect_err("empty"),
            " is not a valid domain"
        );
        assert!(check_domain("-a").is_err() && check_domain("1.2").is_err());
        assert_eq!(
            check_link("a:b:c").expect_err("parts"),
            "bad format for links: a:b:c"
        );
        assert_eq!(check_sysctl("net.core.somaxconn=1"), Ok(()));
        assert_eq!(
            check_sysctl("x").expect_err("name"),
            "sysctl 'x' is not allowed"
        );
        assert_eq!(check_stream("STDIN"), Ok(()));
        assert_eq!(address("::ffff:1.2.3.4").as_deref(), Ok("1.2.3.4"));
        assert_eq!(
            check_address("x").expect_err("address"),
            "IP address is not correctly formatted: x"
        );
    }
}
