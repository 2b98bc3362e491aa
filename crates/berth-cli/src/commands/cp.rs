//! `cp`: files between a container and here, by docker's rules on paths.

mod archive;
mod chunks;
mod paths;

use std::path::Path;

use berth_api::{Client, ContainerPathStat, archive::go_mode};
use berth_types::size;

use self::chunks::Progress;
use self::paths::{Argument, Ends, Target};
use super::{Arity, Spec};
use crate::failure::Failure;
use crate::flags::{Flag, Operands, Parsed};
use crate::output;
use crate::session::Session;
use crate::terminal;

pub(crate) const SPEC: Spec = Spec {
    group: "container",
    names: &["cp"],
    top: &["cp"],
    usage: "[OPTIONS] CONTAINER:SRC_PATH DEST_PATH|- | SRC_PATH|- CONTAINER:DEST_PATH",
    about: "Copy files between a container and the local file system",
    flags: || {
        vec![
            Flag::switch("archive", "Keep owners and groups").short('a'),
            Flag::switch("follow-link", "Copy what a symbolic link leads to").short('L'),
            Flag::switch("quiet", "Show no progress").short('q'),
        ]
    },
    operands: Operands::Mixed,
    arity: Arity::Exactly(2),
    run,
};

/// How a copy is made.
#[derive(Debug, Clone, Copy)]
struct Options {
    archive: bool,
    follow: bool,
    /// Progress is shown.
    shown: bool,
}

fn run(session: &Session, parsed: &Parsed) -> Result<(), Failure> {
    let [source, target] = [&parsed.operands[0], &parsed.operands[1]].map(|text| {
        if text.is_empty() {
            None
        } else {
            Some(Argument::parse(text))
        }
    });
    let source = source.ok_or_else(|| Failure::new("source can not be empty"))?;
    let target = target.ok_or_else(|| Failure::new("destination can not be empty"))?;
    let options = Options {
        archive: parsed.switch("archive"),
        follow: parsed.switch("follow-link"),
        // Unless asked, only where somebody sees it.
        shown: !parsed.switch("quiet") && (parsed.given("quiet") || terminal::output_is_terminal()),
    };
    match (source, target) {
        (Argument::Container(..), Argument::Container(..)) => {
            Err(Failure::new("copying between containers is not supported"))
        }
        (Argument::Local(_), Argument::Local(_)) => {
            Err(Failure::new("must specify at least one container source"))
        }
        (Argument::Container(container, path), Argument::Local(local)) => {
            session.block_on(from_container(session, &container, &path, &local, options))
        }
        (Argument::Local(local), Argument::Container(container, path)) => {
            session.block_on(to_container(session, &local, &container, &path, options))
        }
    }
}

/// Where a link of a container leads, from the directory it is in.
fn link_target(stat: &ContainerPathStat, path: &str) -> String {
    if stat.link_target.starts_with('/') {
        return stat.link_target.clone();
    }
    let (directory, _) = paths::split(path);
    paths::clean(&format!("{directory}/{}", stat.link_target))
}

async fn from_container(
    session: &Session,
    container: &str,
    path: &str,
    local: &str,
    options: Options,
) -> Result<(), Failure> {
    let to_output = local == "-";
    if to_output && terminal::output_is_terminal() {
        return Err(Failure::new(
            "cowardly refusing to write an archive to a terminal; redirect it",
        ));
    }
    let client = session.client()?;
    let mut path = path.to_owned();
    let mut rebase = None;
    if options.follow
        && let Ok(stat) = client.container_path_stat(container, &path).await
        && stat.is_symlink()
    {
        // What the link leads to, under the link's own name.
        let resolved = paths::with_end_of(&link_target(&stat, &path), &path);
        let (own, other) = (paths::base(&path), paths::base(&resolved));
        rebase = (own != other).then_some(own);
        path = resolved;
    }
    let (stat, mut stream) = client
        .container_archive(container, &path)
        .await
        .map_err(|error| session.failure(error))?;
    if to_output {
        return output::archive::write(session, &mut stream, "").await;
    }
    let target = Target::local(Path::new(local))?;
    let source = Ends {
        base: paths::split(&path).1,
        rebase,
        is_directory: stat.is_directory(),
    };
    let plan = paths::plan(&source, &target)
        .map_err(|reason| Failure::new(format!("{reason}: {local}")))?;
    let owners = options.archive && rustix::process::geteuid().is_root();
    let mut progress = Progress::new("Copying from container", options.shown);
    let (mut sender, reader) = chunks::incoming();
    let directory = plan.directory.clone();
    let work = tokio::task::spawn_blocking(move || {
        archive::extract(reader, Path::new(&directory), plan.rename.as_ref(), owners)
    });
    while let Some(chunk) = stream
        .next()
        .await
        .map_err(|error| session.failure(error))?
    {
        progress.add(chunk.len() as u64);
        if !sender.send(chunk).await {
            // The reader has failed, and says why.
            break;
        }
    }
    drop(sender);
    finished(work.await)?;
    progress.end(local);
    Ok(())
}

async fn to_container(
    session: &Session,
    local: &str,
    container: &str,
    path: &str,
    options: Options,
) -> Result<(), Failure> {
    let source = match local {
        "-" => None,
        local => Some(paths::source(Path::new(local), options.follow)?),
    };
    let client = session.client()?;
    let target = container_target(&client, container, path).await?;
    let copy = berth_api::CopyOptions {
        overwrite_kinds: false,
        copy_owner: options.archive,
    };
    let Some((source_path, ends)) = source else {
        if !target.is_directory {
            return Err(Failure::new(format!(
                "destination \"{container}:{path}\" must be a directory"
            )));
        }
        let input = rustix::io::dup(std::io::stdin())
            .map_err(|error| Failure::new(format!("read standard input: {error}")))?;
        let input = tokio::fs::File::from_std(std::fs::File::from(input));
        return client
            .container_put_archive(container, &target.path, input, copy)
            .await
            .map_err(|error| session.failure(error));
    };
    let plan = paths::plan(&ends, &target)
        .map_err(|reason| Failure::new(format!("{reason}: {container}:{path}")))?;
    let name = plan.name(&ends);
    let progress = Progress::new("Copying to container", options.shown);
    let (writer, body, count) = chunks::outgoing();
    let work = tokio::task::spawn_blocking(move || archive::pack(&source_path, &name, writer));
    let sending = client.container_put_archive(container, &plan.directory, body, copy);
    let sent = progress.watch(&count, sending).await;
    let packed = work.await;
    match sent {
        Ok(()) => {
            finished(packed)?;
            progress.end(&format!("{container}:{path}"));
            Ok(())
        }
        // A source that cannot be read breaks the request; then that is the reason.
        Err(error) => {
            finished(packed)?;
            Err(session.failure(error))
        }
    }
}

/// What stands at the destination in a container, a link followed.
async fn container_target(client: &Client, container: &str, path: &str) -> Result<Target, Failure> {
    let mut target = Target {
        path: path.to_owned(),
        exists: false,
        is_directory: false,
    };
    // What cannot be asked is taken for missing; the copy itself then says what is wrong.
    let Ok(mut stat) = client.container_path_stat(container, path).await else {
        return Ok(target);
    };
    if stat.is_symlink() {
        target.path = link_target(&stat, path);
        match client.container_path_stat(container, &target.path).await {
            Ok(followed) => stat = followed,
            Err(_) => return Ok(target),
        }
    }
    let irregular = go_mode::DEVICE | go_mode::SOCKET | go_mode::NAMED_PIPE;
    if stat.mode & irregular != 0 {
        return Err(Failure::new(format!(
            "destination \"{container}:{path}\" must be a directory or a regular file"
        )));
    }
    target.exists = true;
    target.is_directory = stat.is_directory();
    Ok(target)
}

fn finished(work: Result<Result<(), Failure>, tokio::task::JoinError>) -> Result<(), Failure> {
    work.map_err(|error| Failure::new(format!("a defect in the client: {error}")))?
}

/// A number of bytes for people.
fn human(bytes: u64) -> String {
    size::format_decimal(bytes)
}
