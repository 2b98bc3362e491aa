//! `image why`: what an image's bytes are, and what in it deserves a look.

use std::fmt::Write as _;

use berth_api::{ImageWhy, WhyStep};
use berth_types::size::format_decimal_short as bytes;

use super::{Arity, Spec};
use crate::failure::Failure;
use crate::flags::{Flag, Operands, Parsed};
use crate::output::text;
use crate::session::{self, Session};

pub(crate) const SPEC: Spec = Spec {
    group: "image",
    names: &["why"],
    top: &[],
    usage: "[OPTIONS] IMAGE",
    about: "Show what makes an image large: bytes by instruction, waste, packages, files with special rights",
    flags: || {
        vec![
            Flag::text("format", "Format as 'json' instead of text"),
            Flag::switch("no-trunc", "Do not shorten instructions and lists"),
        ]
    },
    operands: Operands::Mixed,
    arity: Arity::Exactly(1),
    run,
};

/// Lines of a list, unless all are wanted.
const SHOWN: usize = 8;

fn run(session: &Session, parsed: &Parsed) -> Result<(), Failure> {
    let json = match parsed.text("format") {
        "" => false,
        "json" => true,
        other => {
            return Err(Failure::new(format!(
                "invalid format \"{other}\": only json, or nothing for text"
            )));
        }
    };
    let whole = parsed.switch("no-trunc");
    session.block_on(async {
        let why = session
            .client()?
            .image_why(&parsed.operands[0])
            .await
            .map_err(|error| session.failure(error))?;
        let shown = match json {
            true => {
                let text = serde_json::to_string_pretty(&why)
                    .map_err(|error| Failure::new(format!("write JSON: {error}")))?;
                format!("{text}\n")
            }
            false => render(&why, whole),
        };
        session::print(&shown)
    })
}

/// The instruction alone, on one line.
fn instruction(step: &WhyStep, whole: bool) -> String {
    let line: Vec<&str> = step.created_by.split_whitespace().collect();
    let line = line.join(" ");
    let line = line
        .strip_prefix("/bin/sh -c #(nop) ")
        .map(str::trim_start)
        .unwrap_or(&line);
    let line = match line {
        "" => "(not told)",
        line => line,
    };
    if whole {
        line.to_owned()
    } else {
        text::ellipsis(line, 60)
    }
}

fn percent(part: u64, whole: u64) -> u64 {
    part.saturating_mul(100).checked_div(whole).unwrap_or(0)
}

fn render(why: &ImageWhy, whole: bool) -> String {
    let limit = if whole { usize::MAX } else { SHOWN };
    let mut out = String::new();
    // Writing into a string cannot fail.
    let mut line = |text: String| {
        let _ = writeln!(out, "{text}");
    };
    line(format!(
        "{} in {} step{}; {} ({}%) of it is hidden by later steps",
        bytes(why.size),
        why.steps.len(),
        if why.steps.len() == 1 { "" } else { "s" },
        bytes(why.wasted),
        percent(why.wasted, why.size)
    ));
    line(match (why.runs_as_root, why.user.as_str()) {
        (true, "") => "Runs as root: it names no user".to_owned(),
        (true, user) => format!("Runs as root: its user is {user}"),
        (false, user) => format!("Runs as {user}"),
    });
    line("\nSTEP  SIZE      FILES   HIDDEN    INSTRUCTION".to_owned());
    for (number, step) in why.steps.iter().enumerate() {
        if step.layer.is_empty() && !whole {
            continue;
        }
        line(format!(
            "{number:<5} {:<9} {:<7} {:<9} {}",
            bytes(step.size),
            step.files,
            bytes(step.hidden),
            instruction(step, whole)
        ));
    }
    let more = |shown: usize, all: usize| {
        (all > shown).then(|| format!("…         and {} more (--no-trunc)", all - shown))
    };
    line("\nLARGEST".to_owned());
    for file in why.largest.iter().take(limit) {
        line(format!(
            "{:<9} {} (step {})",
            bytes(file.size),
            file.path,
            file.step
        ));
    }
    if !why.hidden.is_empty() {
        line("\nHIDDEN".to_owned());
        for file in why.hidden.iter().take(limit) {
            let fate = if file.deleted { "deleted" } else { "replaced" };
            let copies = match file.copies {
                1 => String::new(),
                copies => format!(", {copies} copies"),
            };
            line(format!(
                "{:<9} {} ({fate}{copies})",
                bytes(file.size),
                file.path
            ));
        }
    }
    if !why.privileged.is_empty() {
        line("\nSPECIAL RIGHTS".to_owned());
        for file in why.privileged.iter().take(limit) {
            let capabilities = match file.capabilities.as_str() {
                "" => String::new(),
                capabilities => format!(" {capabilities}"),
            };
            line(format!(
                "{:<9} {} ({}:{}){capabilities}",
                file.mode, file.path, file.uid, file.gid
            ));
        }
        if let Some(text) = more(limit.min(why.privileged.len()), why.privileged.len()) {
            line(text);
        }
    }
    if !why.packages.is_empty() {
        line(format!("\nPACKAGES  {}", why.packages.len()));
        let mut largest: Vec<_> = why.packages.iter().collect();
        largest.sort_by(|a, b| b.size.cmp(&a.size).then_with(|| a.name.cmp(&b.name)));
        for package in largest.iter().take(limit) {
            line(format!(
                "{:<9} {} {} ({})",
                bytes(package.size),
                package.name,
                package.version,
                package.manager
            ));
        }
        if let Some(text) = more(limit.min(largest.len()), largest.len()) {
            line(text);
        }
    }
    if !why.unread.is_empty() {
        line("\nPACKAGE DATA NOT READ".to_owned());
        for database in &why.unread {
            line(database.clone());
        }
    }
    out
}
