//! Volumes that a server keeps (NFS, SMB): what mount(8) and its helpers work out before the kernel is asked.
//!
//! Owns: names of servers, which the kernel does not look up, and what of the options nobody but the server may know.
//! Everything is as Docker's local driver has it; beyond that the server of an NFS volume need not be told twice.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};

use crate::error::EngineError;

/// What the kernel is given: the device and the options.
pub(super) type Resolved = (String, String);

/// Puts addresses in the place of names.
///
/// # Errors
/// When a server is not found.
pub(super) fn resolve(kind: &str, device: &str, options: &str) -> Result<Resolved, EngineError> {
    resolve_by(kind, device, options, address_of)
}

fn resolve_by(
    kind: &str,
    device: &str,
    options: &str,
    find: impl Fn(&str) -> Result<IpAddr, EngineError>,
) -> Result<Resolved, EngineError> {
    if !matches!(kind, "nfs" | "nfs4" | "cifs" | "smb3") {
        return Ok((device.to_owned(), options.to_owned()));
    }
    let is_smb = matches!(kind, "cifs" | "smb3");
    let mut is_told = false;
    let words: Result<Vec<String>, EngineError> = options
        .split(',')
        .map(|word| {
            // "ip=" is how the kernel calls it for SMB, "addr=" how mount(8) does.
            let name = word
                .strip_prefix("addr=")
                .or_else(|| word.strip_prefix("ip=").filter(|_| is_smb));
            let Some(name) = name else {
                return Ok(word.to_owned());
            };
            is_told = true;
            if name.parse::<IpAddr>().is_ok() {
                return Ok(word.to_owned());
            }
            Ok(word.replacen(name, &find(name)?.to_string(), 1))
        })
        .collect();
    let options = words?.join(",");
    if is_told {
        return Ok((device.to_owned(), options));
    }
    if is_smb {
        let Some((server, share)) = device.strip_prefix("//").and_then(|d| d.split_once('/'))
        else {
            return Ok((device.to_owned(), options));
        };
        if server.parse::<IpAddr>().is_ok() {
            return Ok((device.to_owned(), options));
        }
        return Ok((format!("//{}/{share}", find(server)?), options));
    }
    // ":/export" says of no server; the kernel refuses that.
    let server = device.split_once(":/").map_or("", |(server, _)| server);
    if server.is_empty() {
        return Ok((device.to_owned(), options));
    }
    let bare = server.trim_start_matches('[').trim_end_matches(']');
    let address = match bare.parse() {
        Ok(address) => address,
        Err(_) => find(bare)?,
    };
    let separator = if options.is_empty() { "" } else { "," };
    Ok((
        device.to_owned(),
        format!("addr={address}{separator}{options}"),
    ))
}

/// The address of a server: of the older kind where it has both, as Docker chooses.
fn address_of(name: &str) -> Result<IpAddr, EngineError> {
    let attempt = || format!("find the address of {name}, the server of a volume");
    let found: Vec<SocketAddr> = (name, 0)
        .to_socket_addrs()
        .map_err(|error| EngineError::io(attempt(), error))?
        .collect();
    found
        .iter()
        .find(|address| address.is_ipv4())
        .or_else(|| found.first())
        .map(SocketAddr::ip)
        .ok_or_else(|| EngineError::NotFound(attempt()))
}

/// Options for an error: without passwords.
pub(super) fn shown(options: &str) -> String {
    options
        .split(',')
        .map(|word| match word.split_once('=') {
            Some((key @ ("password" | "pass" | "password2"), _)) => format!("{key}=********"),
            _ => word.to_owned(),
        })
        .collect::<Vec<_>>()
        .join(",")
}

/// Refuses what the kernel would not understand of a device.
///
/// # Errors
/// `Invalid` with Docker's words.
pub(super) fn check(kind: &str, device: &str) -> Result<(), EngineError> {
    let server = device.strip_prefix("//").map(|rest| rest.split('/').next());
    let has_port = server.flatten().is_some_and(|server| {
        server
            .rsplit_once(':')
            .is_some_and(|(_, port)| !port.is_empty())
    });
    if kind == "cifs" && has_port {
        return Err(EngineError::Invalid(
            "port not allowed in CIFS device URL, include 'port' in 'o='".to_owned(),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(kind: &str, device: &str, options: &str) -> Resolved {
        resolve_by(kind, device, options, |name| {
            assert_eq!(name, "server.lan");
            Ok("192.0.2.7".parse().expect("an address"))
        })
        .expect("resolved")
    }

    #[test]
    fn names_of_servers_become_addresses() {
        for (kind, device, options, to_device, to_options) in [
            (
                "nfs",
                ":/export",
                "addr=192.0.2.1,rw",
                ":/export",
                "addr=192.0.2.1,rw",
            ),
            (
                "nfs",
                ":/export",
                "addr=server.lan,rw",
                ":/export",
                "addr=192.0.2.7,rw",
            ),
            (
                "nfs4",
                ":/export",
                "rw,addr=server.lan",
                ":/export",
                "rw,addr=192.0.2.7",
            ),
            (
                "nfs",
                "server.lan:/export",
                "rw",
                "server.lan:/export",
                "addr=192.0.2.7,rw",
            ),
            ("nfs", "192.0.2.9:/e", "", "192.0.2.9:/e", "addr=192.0.2.9"),
            (
                "nfs",
                "[2001:db8::1]:/e",
                "",
                "[2001:db8::1]:/e",
                "addr=2001:db8::1",
            ),
            ("nfs", ":/export", "rw", ":/export", "rw"),
            (
                "nfs",
                "x:/e",
                "clientaddr=server,addr=::1",
                "x:/e",
                "clientaddr=server,addr=::1",
            ),
            (
                "cifs",
                "//server.lan/s/t",
                "user=a",
                "//192.0.2.7/s/t",
                "user=a",
            ),
            ("cifs", "//192.0.2.1/s", "user=a", "//192.0.2.1/s", "user=a"),
            (
                "cifs",
                "//x/s",
                "addr=server.lan",
                "//x/s",
                "addr=192.0.2.7",
            ),
            ("cifs", "//x/s", "ip=server.lan", "//x/s", "ip=192.0.2.7"),
            (
                "tmpfs",
                "server.lan:/x",
                "addr=server.lan",
                "server.lan:/x",
                "addr=server.lan",
            ),
        ] {
            assert_eq!(
                resolved(kind, device, options),
                (to_device.to_owned(), to_options.to_owned()),
                "{kind} {device} {options}"
            );
        }
        let local = resolve("nfs", ":/e", "addr=localhost").expect("found");
        assert_eq!(local.1, "addr=127.0.0.1");
        let error = resolve("nfs", ":/e", "addr=no-such.invalid").unwrap_err();
        assert!(error.to_string().contains("no-such.invalid"), "{error}");
    }

    #[test]
    fn passwords_are_not_shown() {
        assert_eq!(
            shown("user=me,password=secret,pass=x,vers=3.0"),
            "user=me,password=********,pass=********,vers=3.0"
        );
    }

    #[test]
    fn a_port_is_no_part_of_a_share() {
        assert!(check("cifs", "//server:445/share").is_err());
        for (kind, device) in [
            ("cifs", "//server/share"),
            ("nfs", "server:/x"),
            ("cifs", ""),
        ] {
            assert!(check(kind, device).is_ok(), "{device}");
        }
    }
}
