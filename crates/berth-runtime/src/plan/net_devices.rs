//! Which network devices a container gets, checked: config-linux.md, "Network Devices".

use berth_sys::namespace::Kind;
use oci_spec::runtime::Linux;

use crate::error::RuntimeError;
use crate::limits;
use crate::net_devices::NetDevice;

/// The devices, sorted by their names on the host.
pub(super) fn plan(
    linux: &Linux,
    has: &dyn Fn(Kind) -> bool,
) -> Result<Vec<NetDevice>, RuntimeError> {
    let invalid = |reason: String| RuntimeError::invalid("linux.netDevices", reason);
    let mut devices: Vec<NetDevice> = linux
        .net_devices()
        .iter()
        .flatten()
        .map(|(host_name, device)| NetDevice {
            host_name: host_name.clone(),
            name: device
                .name()
                .clone()
                .filter(|name| !name.is_empty())
                .unwrap_or_else(|| host_name.clone()),
        })
        .collect();
    devices.sort_by(|one, other| one.host_name.cmp(&other.host_name));
    if devices.is_empty() {
        return Ok(devices);
    }
    if !has(Kind::Network) {
        return Err(invalid(
            "needs a network namespace of the container's own".to_owned(),
        ));
    }
    if devices.len() > limits::NET_DEVICES {
        return Err(invalid(format!(
            "names {} devices, of which {} are allowed",
            devices.len(),
            limits::NET_DEVICES
        )));
    }
    for device in &devices {
        let stem = device.name.strip_suffix("%d").unwrap_or(&device.name);
        for name in [device.host_name.as_str(), stem] {
            if !is_name(name) {
                return Err(invalid(format!("{name:?} cannot be a device's name")));
            }
        }
        if device.name.len() > limits::NET_DEVICE_NAME {
            return Err(invalid(format!("{} is too long", device.name)));
        }
    }
    Ok(devices)
}

/// As the kernel sees it, without its templates.
fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= limits::NET_DEVICE_NAME
        && name != "."
        && name != ".."
        && !name
            .chars()
            .any(|letter| matches!(letter, '/' | ':' | '%' | '\0') || letter.is_whitespace())
}
