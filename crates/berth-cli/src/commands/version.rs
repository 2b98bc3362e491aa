//! `version`: of the client and of the engine.

use berth_api::ApiVersion;
use serde_json::{Value, json};

use super::{Arity, Spec};
use crate::failure::Failure;
use crate::flags::{Flag, Operands, Parsed};
use crate::output::object::ObjectFormat;
use crate::output::text;
use crate::session::{self, Session};

pub(crate) const SPEC: Spec = Spec {
    group: "",
    names: &["version"],
    top: &[],
    usage: "[OPTIONS]",
    about: "Show the versions of the client and the engine",
    flags: || vec![Flag::text("format", "Format with 'json' or a Go template").short('f')],
    operands: Operands::Mixed,
    arity: Arity::None,
    run,
};

/// Names templates know beside those of the JSON.
const ALIASES: &[(&str, &str)] = &[("ApiVersion", "APIVersion")];

fn run(session: &Session, parsed: &Parsed) -> Result<(), Failure> {
    let template = match parsed.text("format") {
        "" | "json" => None,
        source => Some(ObjectFormat::parse(source)?),
    };
    session.block_on(async {
        let (server, spoken, failure) = match session.client() {
            Ok(client) => match client.version().await {
                Ok(version) => (
                    serde_json::to_value(version).ok(),
                    client.api_version(),
                    None,
                ),
                Err(error) => (None, ApiVersion::MAX, Some(session.failure(error))),
            },
            Err(failure) => (None, ApiVersion::MAX, Some(failure)),
        };
        let client = json!({
            "Version": env!("CARGO_PKG_VERSION"),
            "ApiVersion": spoken.to_string(),
            "DefaultAPIVersion": ApiVersion::MAX.to_string(),
            "Os": std::env::consts::OS,
            "Arch": architecture(),
            "Context": "default",
        });
        let shown = match (&template, parsed.text("format")) {
            (Some(template), _) => {
                let mut all = json!({"Client": client, "Server": server.unwrap_or_default()});
                for side in ["Client", "Server"] {
                    add_aliases(&mut all[side]);
                }
                format!("{}\n", template.show(&all)?)
            }
            (None, "json") => format!(
                "{}\n",
                json!({"Client": client, "Server": server.unwrap_or_default()})
            ),
            (None, _) => table(session, &client, server.as_ref()),
        };
        session::print(&shown)?;
        failure.map_or(Ok(()), Err)
    })
}

fn add_aliases(object: &mut Value) {
    if let Value::Object(fields) = object {
        for (json, go) in ALIASES {
            if let Some(value) = fields.get(*json).cloned() {
                fields.insert((*go).to_owned(), value);
            }
        }
    }
}

/// The name Go has for this processor.
pub(crate) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn table(session: &Session, client: &Value, server: Option<&Value>) -> String {
    let word = |value: &Value| {
        value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned)
    };
    let mut shown = text::align_to(
        &format!(
            "Client: {}\n Version:\t{}\n API version:\t{}\n OS/Arch:\t{}/{}\n Context:\t{}\n",
            session.program.product(),
            word(&client["Version"]),
            word(&client["ApiVersion"]),
            word(&client["Os"]),
            word(&client["Arch"]),
            word(&client["Context"]),
        ),
        20,
    );
    let Some(server) = server else { return shown };
    let mut lines = format!("\nServer: {}\n", word(&server["Platform"]["Name"]));
    for component in server["Components"].as_array().into_iter().flatten() {
        lines.push_str(&format!(
            " {}:\n  Version:\t{}\n",
            word(&component["Name"]),
            word(&component["Version"])
        ));
        let Some(details) = component["Details"].as_object() else {
            continue;
        };
        if component["Name"] == "Engine" {
            let detail = |name: &str| details.get(name).map(word).unwrap_or_default();
            lines.push_str(&format!(
                "  API version:\t{} (minimum version {})\n",
                detail("ApiVersion"),
                detail("MinAPIVersion")
            ));
            for (title, name) in [
                ("Git commit", "GitCommit"),
                ("Built", "BuildTime"),
                ("Kernel", "KernelVersion"),
                ("Experimental", "Experimental"),
            ] {
                if !detail(name).is_empty() {
                    lines.push_str(&format!("  {title}:\t{}\n", detail(name)));
                }
            }
            lines.push_str(&format!(
                "  OS/Arch:\t{}/{}\n",
                detail("Os"),
                detail("Arch")
            ));
        } else {
            for (name, value) in details {
                lines.push_str(&format!("  {name}:\t{}\n", word(value)));
            }
        }
    }
    if server["Components"].as_array().is_none_or(Vec::is_empty) {
        lines.push_str(&format!(
            " Version:\t{}\n API version:\t{}\n OS/Arch:\t{}/{}\n",
            word(&server["Version"]),
            word(&server["ApiVersion"]),
            word(&server["Os"]),
            word(&server["Arch"]),
        ));
    }
    shown.push_str(&text::align_to(&lines, 20));
    shown
}
