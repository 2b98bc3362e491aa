//! `port`: where a container's ports are published.

use berth_api::PortBinding;

use super::{Arity, Spec};
use crate::failure::Failure;
use crate::flags::{Operands, Parsed};
use crate::output::text;
use crate::session::{self, Session};

pub(crate) const SPEC: Spec = Spec {
    group: "container",
    names: &["port"],
    top: &["port"],
    usage: "CONTAINER [PRIVATE_PORT[/PROTO]]",
    about: "Show where a container's ports are published",
    flags: Vec::new,
    operands: Operands::Mixed,
    arity: Arity::Between(1, 2),
    run,
};

/// `0.0.0.0:8080` or `[::]:8080`.
pub(crate) fn address(ip: &str, port: &str) -> String {
    if ip.contains(':') {
        format!("[{ip}]:{port}")
    } else {
        format!("{ip}:{port}")
    }
}

fn run(session: &Session, parsed: &Parsed) -> Result<(), Failure> {
    let name = &parsed.operands[0];
    session.block_on(async {
        let client = session.client()?;
        let found = client
            .container_inspect(name, false)
            .await
            .map_err(|error| session.failure(error))?;
        let ports = found.network_settings.ports.unwrap_or_default();
        let show = |binding: &PortBinding| address(&binding.host_ip, &binding.host_port);
        let mut lines = Vec::new();
        if let Some(wanted) = parsed.operands.get(1) {
            let (port, protocol) = wanted.split_once('/').unwrap_or((wanted, "tcp"));
            if port.parse::<u16>().is_err() {
                return Err(Failure::new(format!(
                    "Error: invalid port ({port}): invalid syntax"
                )));
            }
            let key = format!("{port}/{protocol}");
            match ports
                .get(&key)
                .and_then(Option::as_ref)
                .filter(|bindings| !bindings.is_empty())
            {
                Some(bindings) => lines.extend(bindings.iter().map(show)),
                None => {
                    return Err(Failure::new(format!(
                        "Error: No public port '{key}' published for {name}"
                    )));
                }
            }
        } else {
            for (port, bindings) in &ports {
                lines.extend(
                    bindings
                        .iter()
                        .flatten()
                        .map(|binding| format!("{port} -> {}", show(binding))),
                );
            }
        }
        lines.sort_by(|left, right| text::natural_order(left, right));
        lines
            .iter()
            .try_for_each(|line| session::print(&format!("{line}\n")))
    })
}
