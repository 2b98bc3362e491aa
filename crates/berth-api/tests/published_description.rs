//! The wire types beside the published description of the Engine API.
//!
//! For each type: every property of the description is known to it, takes a value of the described type
//! and refuses one of another. Properties that are newer than the API versions spoken here, that only another
//! operating system fills, or that tell of what Berth does not have (clusters, multi-platform stores) are
//! listed by name; a listed name that is known after all fails as well.

use berth_api as api;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;

/// Property to its type: `boolean`, `integer`, `number`, `string`, `array`, `object` or `ref`.
type Properties = BTreeMap<String, String>;

fn indentation(line: &str) -> usize {
    line.len() - line.trim_start().len()
}

/// The lines of a definition, without those of its neighbours.
fn definition<'a>(description: &'a str, name: &str) -> Vec<&'a str> {
    let lines: Vec<&str> = description
        .lines()
        .filter(|line| !line.trim_start().starts_with('#') && !line.trim().is_empty())
        .collect();
    let definitions = lines
        .iter()
        .position(|line| *line == "definitions:")
        .expect("the description has definitions");
    let head = format!("  {name}:");
    let start = lines[definitions..].iter().position(|line| *line == head);
    let start = definitions + start.unwrap_or_else(|| panic!("the description has no {name}")) + 1;
    lines[start..]
        .iter()
        .take_while(|line| indentation(line) > 2)
        .copied()
        .collect()
}

/// The properties of a definition, with those of what it is composed of.
fn properties(description: &str, name: &str) -> Properties {
    let lines = definition(description, name);
    let composed = lines.contains(&"    allOf:");
    let mut found = Properties::new();
    for (index, line) in lines.iter().enumerate() {
        let (depth, text) = (indentation(line), line.trim());
        // Composed of other definitions: `- $ref: "#/definitions/X"` right beneath allOf.
        if depth == 6
            && let Some(other) = text.strip_prefix("- $ref: \"#/definitions/")
        {
            found.extend(properties(description, other.trim_end_matches('"')));
        }
        if text != "properties:" || !(depth == 4 || composed && depth == 8) {
            continue;
        }
        let inner: Vec<&str> = lines[index + 1..]
            .iter()
            .take_while(|line| indentation(line) > depth)
            .copied()
            .collect();
        for (index, line) in inner.iter().enumerate() {
            if indentation(line) != depth + 2 || !line.ends_with(':') {
                continue;
            }
            let property = line.trim().trim_end_matches(':').trim_matches('"');
            let kind = inner[index + 1..]
                .iter()
                .take_while(|line| indentation(line) > depth + 2)
                .filter(|line| indentation(line) == depth + 4)
                .find_map(|line| {
                    let text = line.trim();
                    if text.starts_with("$ref:") || text.starts_with("allOf:") {
                        return Some("ref".to_owned());
                    }
                    let kind = text.strip_prefix("type:")?;
                    Some(kind.trim().trim_matches('"').to_owned())
                });
            found.insert(
                property.to_owned(),
                kind.unwrap_or_else(|| "ref".to_owned()),
            );
        }
    }
    assert!(!found.is_empty(), "no properties of {name} were read");
    found
}

fn sample(kind: &str) -> &'static str {
    match kind {
        "boolean" => "true",
        "integer" | "number" => "1",
        "string" => "\"text\"",
        _ => "{}",
    }
}

/// What went wrong with each property of one type.
fn compare<T: DeserializeOwned>(description: &str, name: &str, missing: &[&str]) -> Vec<String> {
    let mut wrong = Vec::new();
    for (property, kind) in properties(description, name) {
        let read = |value: &str| serde_json::from_str::<T>(&format!("{{{property:?}:{value}}}"));
        let other_kind = if matches!(kind.as_str(), "boolean") {
            "1"
        } else {
            "false"
        };
        let is_known =
            read(other_kind).is_err() || read("{\"x\":[[false]]}").is_err() && kind != "object";
        if missing.contains(&property.as_str()) {
            if is_known {
                wrong.push(format!(
                    "{name}.{property} is listed as missing, and is not"
                ));
            }
            continue;
        }
        if !is_known {
            wrong.push(format!("{name}.{property} ({kind}) is not known"));
        }
        let taken = match kind.as_str() {
            // What stands behind a reference can be anything.
            "ref" => ["{}", "[]", "\"\""].iter().any(|value| read(value).is_ok()),
            // Two numbers are a terminal's size, the one array of fixed length.
            "array" => ["[]", "[1,1]"].iter().any(|value| read(value).is_ok()),
            kind => read(sample(kind)).is_ok(),
        };
        if !taken {
            wrong.push(format!(
                "{name}.{property} does not take a value of type {kind}"
            ));
        }
        if read("null").is_err() {
            wrong.push(format!("{name}.{property} does not take null"));
        }
    }
    wrong
}

#[test]
fn every_published_property_is_known_with_its_type() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../docs/reference/engine-api.yaml"
    );
    let description = std::fs::read_to_string(path).unwrap();
    let mut wrong = Vec::new();
    macro_rules! check {
        ($($name:literal $type:ty, missing [$($missing:literal),*];)*) => {
            $( wrong.extend(compare::<$type>(&description, $name, &[$($missing),*])); )*
        };
    }
    check! {
        "PortSummary" api::PortSummary, missing [];
        "MountPoint" api::MountPoint, missing [];
        "DeviceMapping" api::DeviceMapping, missing [];
        "DeviceRequest" api::DeviceRequest, missing [];
        "ThrottleDevice" api::ThrottleDevice, missing [];
        "Mount" api::Mount, missing [];
        "RestartPolicy" api::RestartPolicy, missing [];
        "Resources" api::Resources, missing ["Init"];
        "HealthConfig" api::HealthConfig, missing [];
        "Health" api::Health, missing [];
        "HealthcheckResult" api::HealthcheckResult, missing [];
        "HostConfig" api::HostConfig, missing [];
        "ContainerConfig" api::ContainerConfig, missing [];
        "ImageConfig" api::ImageConfig, missing [];
        "NetworkingConfig" api::NetworkingConfig, missing [];
        "NetworkSettings" api::NetworkSettings, missing [];
        "PortBinding" api::PortBinding, missing [];
        "DriverData" api::DriverData, missing [];
        "ImageInspect" api::ImageInspect, missing ["Identity"];
        "ImageSummary" api::ImageSummary, missing [];
        "ImageHistoryResponseItem" api::ImageHistoryItem, missing [];
        "ImageDeleteResponseItem" api::ImageDeleteResponseItem, missing [];
        "AuthConfig" api::AuthConfig, missing [];
        "AuthResponse" api::AuthResponse, missing [];
        "DistributionInspect" api::DistributionInspect, missing [];
        "Network" api::NetworkInspect, missing ["Peers"];
        "Volume" api::Volume, missing ["ClusterVolume"];
        "VolumeCreateRequest" api::VolumeCreateRequest, missing [];
        "VolumeListResponse" api::VolumeListResponse, missing [];
        "NetworkInspect" api::NetworkInspect, missing ["Peers", "Services", "Status"];
        "IPAM" api::Ipam, missing [];
        "IPAMConfig" api::IpamConfig, missing [];
        "EndpointSettings" api::EndpointSettings, missing [];
        "EndpointIPAMConfig" api::EndpointIpamConfig, missing [];
        "EndpointResource" api::EndpointResource, missing [];
        "ErrorResponse" api::ErrorResponse, missing [];
        "IDResponse" api::IdResponse, missing [];
        "ProcessConfig" api::ExecProcessConfig, missing [];
        "ContainerState" api::ContainerState, missing [];
        "ContainerInspectResponse" api::ContainerInspect, missing ["Storage"];
        "ContainerSummary" api::ContainerSummary, missing ["Health"];
        "ContainerCreateResponse" api::ContainerCreateResponse, missing [];
        "ContainerUpdateResponse" api::ContainerUpdateResponse, missing [];
        "ContainerWaitResponse" api::ContainerWaitResponse, missing [];
        "ContainerWaitExitError" api::ContainerWaitExitError, missing [];
        "ContainerTopResponse" api::ContainerTopResponse, missing [];
        "ContainerStatsResponse" api::ContainerStats, missing ["os_type"];
        "ContainerBlkioStats" api::BlkioStats, missing [];
        "ContainerBlkioStatEntry" api::BlkioStatEntry, missing [];
        "ContainerCPUStats" api::CpuStats, missing [];
        "ContainerCPUUsage" api::CpuUsage, missing [];
        "ContainerPidsStats" api::PidsStats, missing [];
        "ContainerThrottlingData" api::ThrottlingData, missing [];
        "ContainerMemoryStats" api::MemoryStats, missing ["commitbytes", "commitpeakbytes", "privateworkingset"];
        "ContainerNetworkStats" api::NetworkStats, missing [];
        "ContainerStorageStats" api::StorageStats, missing [];
        "SystemVersion" api::SystemVersion, missing [];
        "SystemInfo" api::SystemInfo, missing ["Containerd", "DefaultAddressPools", "DiscoveredDevices", "FirewallBackend", "NRI"];
        "PluginsInfo" api::PluginsInfo, missing [];
        "RegistryServiceConfig" api::RegistryServiceConfig, missing [];
        "IndexInfo" api::IndexInfo, missing [];
        "Runtime" api::RuntimeWithStatus, missing [];
        "Commit" api::Commit, missing [];
        "SwarmInfo" api::SwarmInfo, missing ["Cluster", "Managers", "Nodes"];
        "EventActor" api::EventActor, missing [];
        "EventMessage" api::EventMessage, missing [];
        "OCIDescriptor" api::OciDescriptor, missing [];
        "OCIPlatform" api::OciPlatform, missing [];
        "ErrorDetail" api::ErrorDetail, missing [];
        "ProgressDetail" api::ProgressDetail, missing [];
        "CreateImageInfo" api::JsonMessage, missing [];
    }
    assert!(
        wrong.is_empty(),
        "{} deviations:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}
