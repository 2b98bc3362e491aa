//! Settings of the kernel (`sysctl`): an endpoint's own, and those we need.
//!
//! Files beneath `/proc/sys/net` are those of the namespace of the thread that opens them, and a descriptor stays
//! with it. So whoever writes here runs inside.

use std::path::PathBuf;

use berth_sys::fs;

use crate::limits;

/// A setting of one interface, as `com.docker.network.endpoint.sysctls` gives it: `net.ipv4.conf.IFNAME.forwarding=1`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointSetting {
    /// The directories beneath `/proc/sys/net` before the interface: `ipv4`, `conf`.
    family: String,
    table: String,
    /// The name behind the interface: `forwarding`.
    name: String,
    value: String,
}

/// A text that is no setting of an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "invalid endpoint sysctl {text:?}: it must have the form net.X.Y.IFNAME.Z=VALUE, with IFNAME for the interface"
)]
pub struct SettingError {
    /// What was given, cut to a line.
    pub text: String,
}

impl EndpointSetting {
    /// Reads settings separated by commas; empty text is none.
    ///
    /// # Errors
    /// When one has another form, or there are too many.
    pub fn parse_list(text: &str) -> Result<Vec<Self>, SettingError> {
        if text.is_empty() {
            return Ok(Vec::new());
        }
        let settings: Vec<Self> = text
            .split(',')
            .take(limits::ENDPOINT_SETTINGS + 1)
            .map(|setting| Self::parse(setting.trim()))
            .collect::<Result<_, _>>()?;
        if settings.len() > limits::ENDPOINT_SETTINGS {
            return Err(invalid(text));
        }
        Ok(settings)
    }

    fn parse(text: &str) -> Result<Self, SettingError> {
        let (key, value) = text.split_once('=').ok_or_else(|| invalid(text))?;
        let words: Vec<&str> = key.split('.').collect();
        let word = |word: &str| {
            !word.is_empty()
                && word.len() <= limits::SETTING_LENGTH
                && word
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
        };
        match words[..] {
            // The stock client sends it in small letters.
            ["net", family, table, interface, name]
                if interface.eq_ignore_ascii_case("IFNAME")
                    && word(family)
                    && word(table)
                    && word(name)
                    && value.len() <= limits::SETTING_LENGTH =>
            {
                Ok(Self {
                    family: family.to_owned(),
                    table: table.to_owned(),
                    name: name.to_owned(),
                    value: value.to_owned(),
                })
            }
            _ => Err(invalid(text)),
        }
    }

    /// Whether this switches IPv6 off on the interface.
    #[must_use]
    pub fn disables_ipv6(&self) -> bool {
        self.family == "ipv6"
            && self.table == "conf"
            && self.name == "disable_ipv6"
            && self.value.trim() != "0"
    }

    /// Writes it for `interface` of the namespace of the calling thread.
    pub(crate) fn apply(&self, interface: &str) -> berth_sys::Result<()> {
        let Self {
            family,
            table,
            name,
            value,
        } = self;
        set(&format!("{family}/{table}/{interface}/{name}"), value)
    }
}

fn invalid(text: &str) -> SettingError {
    SettingError {
        text: text.chars().take(128).collect(),
    }
}

/// The file of a setting beneath `/proc/sys/net`.
pub(crate) fn path(name: &str) -> PathBuf {
    PathBuf::from(format!("/proc/sys/net/{name}"))
}

/// Writes a setting of the calling thread's namespace.
pub(crate) fn set(name: &str, value: &str) -> berth_sys::Result<()> {
    fs::write_existing(&path(name), value.as_bytes())
}

/// Writes a setting unless it says so already; true when it was changed. One that is not there is not changed.
///
/// Whether it is there is a matter of the kernel's configuration: without IPv6 nothing beneath `ipv6` is.
pub(crate) fn ensure(name: &str, value: &str) -> berth_sys::Result<bool> {
    match fs::read_to_string(&path(name)) {
        Ok(present) if present.trim() == value => Ok(false),
        Ok(_) => set(name, value).map(|()| true),
        Err(error) if error.is_not_found() => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_of_one_interface_are_read() {
        let settings = EndpointSetting::parse_list(
            "net.ipv4.conf.IFNAME.log_martians=1, net.ipv6.conf.IFNAME.disable_ipv6=1",
        )
        .unwrap();
        assert_eq!(settings.len(), 2);
        assert!(!settings[0].disables_ipv6());
        assert!(settings[1].disables_ipv6());
        assert!(EndpointSetting::parse_list("").unwrap().is_empty());
    }

    #[test]
    fn settings_elsewhere_are_refused() {
        for bad in [
            "net.ipv4.ip_forward=1",
            "net.ipv4.conf.eth0.forwarding=1",
            "net.ipv4.conf.IFNAME.forwarding",
            "kernel.x.y.IFNAME.z=1",
            "net.ipv4.conf.IFNAME.../x=1",
            "net...IFNAME.z=1",
            "net.ipv4.conf.IFNAME.a/b=1",
        ] {
            assert!(EndpointSetting::parse_list(bad).is_err(), "{bad}");
        }
        assert!(EndpointSetting::parse_list(&"net.ipv4.conf.IFNAME.tag=1,".repeat(100)).is_err());
    }
}
