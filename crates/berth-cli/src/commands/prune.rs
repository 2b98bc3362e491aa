//! `container prune`, `image prune`, `network prune`, `volume prune` and `system prune`: away with what is not used.

use std::io::BufRead;

use berth_api::{Client, Filters};
use berth_types::size;

use super::{Arity, Spec};
use crate::failure::Failure;
use crate::flags::{Flag, Operands, Parsed};
use crate::options::filter;
use crate::session::{self, Session};

pub(crate) const CONTAINER: Spec = Spec {
    group: "container",
    names: &["prune"],
    top: &[],
    usage: "[OPTIONS]",
    about: "Remove all stopped containers",
    flags: || vec![by_time(), force()],
    operands: Operands::Mixed,
    arity: Arity::None,
    run: |session, parsed| prune(session, parsed, Kind::Container),
};

pub(crate) const IMAGE: Spec = Spec {
    group: "image",
    about: "Remove unused images",
    flags: || {
        vec![
            Flag::switch("all", "Remove those with a name too").short('a'),
            by_time(),
            force(),
        ]
    },
    run: |session, parsed| prune(session, parsed, Kind::Image),
    ..CONTAINER
};

pub(crate) const NETWORK: Spec = Spec {
    group: "network",
    about: "Remove all networks that no container uses",
    run: |session, parsed| prune(session, parsed, Kind::Network),
    ..CONTAINER
};

pub(crate) const VOLUME: Spec = Spec {
    group: "volume",
    about: "Remove volumes that no container uses",
    flags: || {
        vec![
            Flag::switch("all", "Remove those with a name too").short('a'),
            filter::flag("Remove only what matches (\"label=<label>\")"),
            force(),
        ]
    },
    run: |session, parsed| prune(session, parsed, Kind::Volume),
    ..CONTAINER
};

pub(crate) const SYSTEM: Spec = Spec {
    group: "system",
    about: "Remove everything that is not used",
    flags: || {
        vec![
            Flag::switch("all", "Remove unused images with a name too").short('a'),
            filter::flag("Remove only what matches (\"label=<key>=<value>\")"),
            force(),
            Flag::switch("volumes", "Remove anonymous volumes too"),
        ]
    },
    run: system,
    ..CONTAINER
};

const fn by_time() -> Flag {
    filter::flag("Remove only what matches (\"until=<timestamp>\")")
}

const fn force() -> Flag {
    Flag::switch("force", "Do not ask").short('f')
}

/// What can be unused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Container,
    Network,
    Volume,
    Image,
}

impl Kind {
    /// What goes, in the words of the question.
    fn words(self, all: bool) -> &'static str {
        match (self, all) {
            (Kind::Container, _) => "all stopped containers",
            (Kind::Network, _) => "all networks not used by at least one container",
            (Kind::Volume, _) => "all anonymous volumes not used by at least one container",
            (Kind::Image, false) => "all dangling images",
            (Kind::Image, true) => "all images without at least one container associated to them",
        }
    }
}

/// What went: the text about it, and the bytes it occupied.
struct Gone {
    text: String,
    reclaimed: u64,
}

/// Asks a question; only a yes is one.
fn confirm(warning: &str) -> Result<bool, Failure> {
    session::print(&format!(
        "{warning}\nAre you sure you want to continue? [y/N] "
    ))?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    Ok(answer.trim().eq_ignore_ascii_case("y"))
}

/// Filters of the command line and those of the configuration file (`pruneFilters`), of which the
/// command line's come first.
fn filters(session: &Session, parsed: &Parsed) -> Result<Filters, Failure> {
    let mut filters = filter::all(&parsed.list("filter"));
    for text in &session.config()?.prune_filters {
        let Some((name, value)) = text.split_once('=').filter(|(_, value)| !value.is_empty())
        else {
            continue;
        };
        let opposite = match name {
            "label" => "label!",
            "label!" => "label",
            other => {
                filters.add(other, value);
                continue;
            }
        };
        if !filters.values(opposite).iter().any(|other| other == value) {
            filters.add(name, value);
        }
    }
    Ok(filters)
}

fn prune(session: &Session, parsed: &Parsed, kind: Kind) -> Result<(), Failure> {
    let all = matches!(kind, Kind::Image | Kind::Volume) && parsed.switch("all");
    let filters = filters(session, parsed)?;
    let what = match kind {
        Kind::Volume if all => "all local volumes not used by at least one container",
        Kind::Volume => "anonymous local volumes not used by at least one container",
        // Docker's words for networks alone differ from those it has for them among others.
        Kind::Network => "all custom networks not used by at least one container",
        kind => kind.words(all),
    };
    let question = format!("WARNING! This will remove {what}.");
    if !parsed.switch("force") && !confirm(&question)? {
        return Ok(());
    }
    session.block_on(async {
        let client = session.client()?;
        let gone = carry_out(session, &client, kind, all, &filters).await?;
        let mut text = gone.text;
        if !text.is_empty() {
            text.push('\n');
        }
        if kind != Kind::Network {
            text.push_str(&total(gone.reclaimed));
        }
        session::print(&text)
    })
}

fn total(reclaimed: u64) -> String {
    format!(
        "Total reclaimed space: {}\n",
        size::format_decimal(reclaimed)
    )
}

async fn carry_out(
    session: &Session,
    client: &Client,
    kind: Kind,
    all: bool,
    filters: &Filters,
) -> Result<Gone, Failure> {
    let failed = |error| session.failure(error);
    let (title, lines, reclaimed) = match kind {
        Kind::Container => {
            let report = client.container_prune(filters).await.map_err(failed)?;
            let ids = report.containers_deleted.unwrap_or_default();
            ("Containers", ids, report.space_reclaimed)
        }
        Kind::Network => {
            let report = client.network_prune(filters).await.map_err(failed)?;
            ("Networks", report.networks_deleted.unwrap_or_default(), 0)
        }
        Kind::Volume => {
            let mut filters = filters.clone();
            if all {
                filters.add("all", "true");
            }
            let report = client.volume_prune(&filters).await.map_err(failed)?;
            let names = report.volumes_deleted.unwrap_or_default();
            ("Volumes", names, report.space_reclaimed)
        }
        Kind::Image => {
            let mut filters = filters.clone();
            filters.add("dangling", if all { "false" } else { "true" });
            let report = client.image_prune(&filters).await.map_err(failed)?;
            let items = report.images_deleted.unwrap_or_default();
            let lines = items.iter().map(|item| match item.untagged.as_str() {
                "" => format!("deleted: {}", item.deleted),
                untagged => format!("untagged: {untagged}"),
            });
            ("Images", lines.collect(), report.space_reclaimed)
        }
    };
    let text = match lines.as_slice() {
        [] => String::new(),
        lines => format!("Deleted {title}:\n{}\n", lines.join("\n")),
    };
    Ok(Gone { text, reclaimed })
}

fn system(session: &Session, parsed: &Parsed) -> Result<(), Failure> {
    let all = parsed.switch("all");
    let filters = filters(session, parsed)?;
    let mut kinds = vec![Kind::Container, Kind::Network];
    if parsed.switch("volumes") {
        if !filters.values("until").is_empty() {
            return Err(Failure::new(
                "ERROR: The \"until\" filter is not supported with \"--volumes\"",
            ));
        }
        kinds.push(Kind::Volume);
    }
    kinds.push(Kind::Image);
    if !parsed.switch("force") {
        let mut question = "WARNING! This will remove:\n".to_owned();
        for kind in &kinds {
            question.push_str(&format!("  - {}\n", kind.words(all)));
        }
        let mut shown: Vec<String> = ["label", "label!", "until"]
            .iter()
            .flat_map(|name| {
                let values = filters.values(name).iter();
                values.map(move |value| format!("  - {name}={value}\n"))
            })
            .collect();
        if !shown.is_empty() {
            shown.sort();
            question.push_str(&format!(
                "\n  Items to be pruned will be filtered with:\n{}",
                shown.concat()
            ));
        }
        if !confirm(&question)? {
            return Ok(());
        }
    }
    session.block_on(async {
        let client = session.client()?;
        let mut reclaimed = 0;
        for kind in kinds {
            // Images without a name and with one; of volumes those that nobody named.
            let all = all && kind != Kind::Volume;
            let gone = carry_out(session, &client, kind, all, &filters).await?;
            reclaimed += gone.reclaimed;
            if !gone.text.is_empty() {
                session::print(&format!("{}\n", gone.text))?;
            }
        }
        session::print(&total(reclaimed))
    })
}
