//! /etc/hosts of a container.
//!
//! Owns the content and its lines. Pure but for [`change`]. At a start the file is made anew; while a container runs, only
//! the lines of addresses that come and go are touched, so that what a user wrote into it stays.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::Path;

use berth_sys::{Error, Result};

/// Largest file that is changed, in bytes: a container may have made its own as long as it liked.
const LARGEST: u64 = 4 << 20;

/// One line: an address and what it is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The address.
    pub address: IpAddr,
    /// The names, separated by spaces.
    pub names: String,
}

impl Line {
    /// A line for `address`.
    #[must_use]
    pub fn new(address: IpAddr, names: impl Into<String>) -> Self {
        Self {
            address,
            names: names.into(),
        }
    }
}

/// The lines of a container's own addresses: its host name, with the domain and alone.
#[must_use]
pub fn own(addresses: &[IpAddr], hostname: &str, domainname: &str) -> Vec<Line> {
    let mut names = hostname.to_owned();
    if !domainname.is_empty() {
        names = format!("{names}.{domainname}");
    }
    if let Some((first, _)) = names.clone().split_once('.') {
        names = format!("{names} {first}");
    }
    addresses
        .iter()
        .map(|address| Line::new(*address, names.clone()))
        .collect()
}

/// The lines of `--add-host`: `name:address` or `name=address`, the address perhaps in brackets, or `host-gateway`, which
/// stands for `gateways`.
///
/// # Errors
/// When an address cannot be understood, or there is no gateway.
pub fn extra(entries: &[String], gateways: &[IpAddr]) -> Result<Vec<Line>> {
    let mut lines = Vec::new();
    for entry in entries {
        let attempt = || format!("add host {entry:?}");
        let (name, address) = entry
            .split_once('=')
            .or_else(|| entry.split_once(':'))
            .ok_or_else(|| Error::invalid(attempt(), "it is not name:address"))?;
        if address == "host-gateway" {
            if gateways.is_empty() {
                return Err(Error::invalid(
                    attempt(),
                    "unable to derive the IP value for host-gateway",
                ));
            }
            lines.extend(gateways.iter().map(|gateway| Line::new(*gateway, name)));
            continue;
        }
        let address = address
            .trim_start_matches('[')
            .trim_end_matches(']')
            .parse()
            .map_err(|_| Error::invalid(attempt(), format!("invalid IP address: {address}")))?;
        lines.push(Line::new(address, name));
    }
    Ok(lines)
}

/// The whole file: loopback lines, then `lines` in their order. Without `ipv6` no IPv6 line is in it.
#[must_use]
pub fn content(lines: &[Line], ipv6: bool) -> String {
    let mut text = String::from("127.0.0.1\tlocalhost\n");
    if ipv6 {
        text.push_str(
            "::1\tlocalhost ip6-localhost ip6-loopback\n\
             fe00::\tip6-localnet\n\
             ff00::\tip6-mcastprefix\n\
             ff02::1\tip6-allnodes\n\
             ff02::2\tip6-allrouters\n",
        );
    }
    append(&mut text, lines, ipv6);
    text
}

/// The file of a container that shares the host's network: the host's own, unless lines are added. Then it is made like any
/// other, so that a name in the host's file can be given another address. Docker's rule.
#[must_use]
pub fn with_host_network(host: &str, extra: &[Line]) -> String {
    if extra.is_empty() {
        host.to_owned()
    } else {
        content(extra, true)
    }
}

fn append(text: &mut String, lines: &[Line], ipv6: bool) {
    for line in lines {
        if ipv6 || line.address.is_ipv4() {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{}\t{}", line.address, line.names);
        }
    }
}

/// `text` without the lines `gone` (only as we wrote them) and with the lines `new` at its end.
#[must_use]
pub fn changed(text: &str, gone: &[Line], new: &[Line]) -> String {
    let mut result = String::with_capacity(text.len());
    for line in text.lines() {
        let is_gone = gone.iter().any(|gone| {
            line.split_once('\t').is_some_and(|(address, names)| {
                names == gone.names && address.trim().parse() == Ok(gone.address)
            })
        });
        if !is_gone {
            result.push_str(line);
            result.push('\n');
        }
    }
    append(&mut result, new, true);
    result
}

/// `text` with the lines of exactly these names at other addresses.
#[must_use]
pub fn moved(text: &str, names: &str, addresses: &[IpAddr]) -> String {
    let mut result = String::with_capacity(text.len());
    for line in text.lines() {
        let is_old = line.split_once('\t').is_some_and(|(address, told)| {
            told == names && address.trim().parse::<IpAddr>().is_ok()
        });
        if !is_old {
            result.push_str(line);
            result.push('\n');
        }
    }
    let lines: Vec<Line> = addresses
        .iter()
        .map(|address| Line::new(*address, names))
        .collect();
    append(&mut result, &lines, true);
    result
}

/// Changes the lines of a running container's file, in place, because the container has it mounted.
///
/// # Errors
/// When it cannot be read or written.
pub fn change(path: &Path, gone: &[Line], new: &[Line]) -> Result<()> {
    rewrite(path, |text| changed(text, gone, new))
}

/// Brings the lines of these names to the addresses, in place as [`change`] does.
///
/// # Errors
/// As [`change`].
pub fn follow(path: &Path, names: &str, addresses: &[IpAddr]) -> Result<()> {
    rewrite(path, |text| moved(text, names, addresses))
}

fn rewrite(path: &Path, edit: impl FnOnce(&str) -> String) -> Result<()> {
    let before = berth_sys::fs::read_bounded(path, LARGEST)?;
    let after = edit(&String::from_utf8_lossy(&before));
    if after.as_bytes() == before {
        return Ok(());
    }
    berth_sys::fs::write(path, after.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_as_docker_writes_them() {
        let v4: IpAddr = "10.0.0.2".parse().unwrap();
        let v6: IpAddr = "fd00::2".parse().unwrap();
        let mut lines = extra(
            &[
                "a:1.2.3.4".into(),
                "b=[::2]".into(),
                "g:host-gateway".into(),
            ],
            &["10.0.0.1".parse().unwrap()],
        )
        .unwrap();
        lines.extend(own(&[v4, v6], "box.lan", "example"));
        let text = content(&lines, true);
        assert!(text.starts_with("127.0.0.1\tlocalhost\n::1\t"));
        assert!(text.ends_with(
            "1.2.3.4\ta\n::2\tb\n10.0.0.1\tg\n10.0.0.2\tbox.lan.example box\nfd00::2\tbox.lan.example box\n"
        ));
        assert_eq!(
            content(&own(&[v4, v6], "box", ""), false),
            "127.0.0.1\tlocalhost\n10.0.0.2\tbox\n"
        );
        for wrong in ["x", "x:y", "g:host-gateway"] {
            assert!(extra(&[wrong.to_owned()], &[]).is_err());
        }
        assert_eq!(with_host_network("mine", &[]), "mine");
        // Lines of other names, and comments, stay.
        let before = "1.2.3.4\ta b\n# x\ta b\n1.2.3.4\ta\n";
        assert_eq!(
            moved(before, "a b", &[v4]),
            "# x\ta b\n1.2.3.4\ta\n10.0.0.2\ta b\n"
        );
    }

    #[test]
    fn only_lines_that_are_ours_go() {
        let line = |text: &str, names: &str| Line::new(text.parse().unwrap(), names);
        let text = "127.0.0.1\tlocalhost\n# note\n10.0.0.2\tbox\n10.0.0.2\tbox mine\n10.0.0.3 box";
        assert_eq!(
            changed(text, &[line("10.0.0.2", "box")], &[line("10.1.0.2", "box")]),
            "127.0.0.1\tlocalhost\n# note\n10.0.0.2\tbox mine\n10.0.0.3 box\n10.1.0.2\tbox\n"
        );
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("hosts");
        berth_sys::fs::write(&path, text.as_bytes()).unwrap();
        change(&path, &[line("10.0.0.2", "box")], &[]).unwrap();
        assert!(
            !String::from_utf8(berth_sys::fs::read(&path).unwrap())
                .unwrap()
                .contains("\tbox\n")
        );
    }
}
