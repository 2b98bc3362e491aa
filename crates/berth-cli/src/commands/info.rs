//! `info`: facts about the engine and its host.

use std::fmt::Write;

use berth_api::SystemInfo;
use berth_types::size;

use super::{Arity, Spec};
use crate::failure::Failure;
use crate::flags::{Flag, Operands, Parsed};
use crate::output::object::ObjectFormat;
use crate::session::{self, Session};

pub(crate) const SPEC: Spec = Spec {
    group: "system",
    names: &["info"],
    top: &["info"],
    usage: "[OPTIONS]",
    about: "Show facts about the engine and its host",
    flags: || vec![Flag::text("format", "Format with 'json' or a Go template").short('f')],
    operands: Operands::Mixed,
    arity: Arity::None,
    run,
};

fn run(session: &Session, parsed: &Parsed) -> Result<(), Failure> {
    let template = match parsed.text("format") {
        "" | "json" => None,
        source => Some(ObjectFormat::parse(source)?),
    };
    session.block_on(async {
        let asked = match session.client() {
            Ok(client) => client.info().await.map_err(|error| session.failure(error)),
            Err(failure) => Err(failure),
        };
        let plain = template.is_none() && parsed.text("format").is_empty();
        let mut shown = String::new();
        if plain {
            let _ = write!(
                shown,
                "Client: {}\n Version:    {}\n Context:    default\n Debug Mode: {}\n\nServer:\n",
                session.program.product(),
                env!("CARGO_PKG_VERSION"),
                session.options.debug
            );
        }
        let info = match asked {
            Ok(info) => info,
            Err(failure) => {
                session::print(&shown)?;
                return Err(failure);
            }
        };
        let json = || {
            let mut json = serde_json::to_value(&info).unwrap_or_default();
            json["ClientInfo"] = serde_json::json!({
                "Debug": session.options.debug,
                "Version": env!("CARGO_PKG_VERSION"),
                "Os": std::env::consts::OS,
                "Arch": super::version::architecture(),
                "Context": "default",
                "Plugins": [],
                "Warnings": null,
            });
            json
        };
        match &template {
            Some(template) => {
                shown = format!("{}\n", template.show(&json())?);
            }
            None if plain => describe(&info, &mut shown),
            None => shown = format!("{}\n", json()),
        }
        session::print(&shown)?;
        if plain {
            info.warnings
                .iter()
                .flatten()
                .for_each(|warning| session.warn(warning));
        }
        Ok(())
    })
}

fn describe(info: &SystemInfo, text: &mut String) {
    let mut line = |indent: usize, name: &str, value: &dyn std::fmt::Display| {
        let _ = writeln!(text, "{:indent$}{name}: {value}", "");
    };
    line(1, "Containers", &info.containers);
    line(2, "Running", &info.containers_running);
    line(2, "Paused", &info.containers_paused);
    line(2, "Stopped", &info.containers_stopped);
    line(1, "Images", &info.images);
    line(1, "Server Version", &info.server_version);
    line(1, "Storage Driver", &info.driver);
    for [name, value] in &info.driver_status {
        line(2, name, value);
    }
    line(1, "Logging Driver", &info.logging_driver);
    line(1, "Cgroup Driver", &info.cgroup_driver);
    line(1, "Cgroup Version", &info.cgroup_version);
    let list = |words: &Option<Vec<String>>| words.as_deref().unwrap_or_default().join(" ");
    let _ = writeln!(text, " Plugins:");
    let mut line = |indent: usize, name: &str, value: &dyn std::fmt::Display| {
        let _ = writeln!(text, "{:indent$}{name}: {value}", "");
    };
    line(2, "Volume", &list(&info.plugins.volume));
    line(2, "Network", &list(&info.plugins.network));
    line(2, "Log", &list(&info.plugins.log));
    line(1, "Swarm", &info.swarm.local_node_state);
    let runtimes: Vec<&str> = info.runtimes.keys().map(String::as_str).collect();
    line(1, "Runtimes", &runtimes.join(" "));
    line(1, "Default Runtime", &info.default_runtime);
    line(1, "Init Binary", &info.init_binary);
    let _ = writeln!(text, " Security Options:");
    for option in &info.security_options {
        for (at, part) in option.split(',').enumerate() {
            let (name, value) = part.split_once('=').unwrap_or(("name", part));
            if at == 0 {
                let _ = writeln!(text, "  {value}");
            } else if name == "profile" {
                let _ = writeln!(text, "   Profile: {value}");
            }
        }
    }
    let mut line = |name: &str, value: &dyn std::fmt::Display| {
        let value = value.to_string();
        if !value.is_empty() {
            let _ = writeln!(text, " {name}: {value}");
        }
    };
    line("Kernel Version", &info.kernel_version);
    line("Operating System", &info.operating_system);
    line("OSType", &info.os_type);
    line("Architecture", &info.architecture);
    line("CPUs", &info.ncpu);
    line(
        "Total Memory",
        &size::format_binary(u64::try_from(info.mem_total).unwrap_or_default()),
    );
    line("Name", &info.name);
    line("ID", &info.id);
    line("Docker Root Dir", &info.docker_root_dir);
    line("Debug Mode", &info.debug);
    line("HTTP Proxy", &info.http_proxy);
    line("HTTPS Proxy", &info.https_proxy);
    line("No Proxy", &info.no_proxy);
    if !info.labels.is_empty() {
        let _ = writeln!(text, " Labels:\n  {}", info.labels.join("\n  "));
    }
    let _ = writeln!(text, " Experimental: {}", info.experimental_build);
    if let Some(registries) = &info.registry_config {
        let insecure: Vec<&str> = registries
            .index_configs
            .values()
            .filter(|index| !index.secure)
            .map(|index| index.name.as_str())
            .chain(
                registries
                    .insecure_registry_cidrs
                    .iter()
                    .map(String::as_str),
            )
            .collect();
        let mirrors = registries.mirrors.as_deref().unwrap_or_default();
        if !insecure.is_empty() {
            let _ = writeln!(text, " Insecure Registries:\n  {}", insecure.join("\n  "));
        }
        if !mirrors.is_empty() {
            let _ = writeln!(text, " Registry Mirrors:\n  {}", mirrors.join("\n  "));
        }
    }
    let _ = writeln!(
        text,
        " Live Restore Enabled: {}\n",
        info.live_restore_enabled
    );
}
