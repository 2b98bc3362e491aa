//! The role `berth registry`: a registry of one's own, from start to end.
//!
//! Owns the process: its command line, its runtime, its signals. What a registry is, is `berth-registry`'s.

mod limits;
mod options;

use anyhow::{Context, Result};
use berth_registry::Server;
use options::{Collect, Command, Serve};
use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use crate::daemon::{notify, report};

/// Runs a command of the registry; `words` are those after `registry`.
pub(crate) fn main(words: &[OsString]) -> ExitCode {
    let words: Vec<String> = words
        .iter()
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    let command = match options::parse(&words) {
        Ok(command) => command,
        Err(error) => {
            complain(&format!("{error}\nSee 'berth registry --help'."));
            return ExitCode::from(125);
        }
    };
    let done = match command {
        Command::Help(text) => say(&text),
        Command::Serve(serve) => run(*serve),
        Command::Collect(collect) => collect_now(&collect),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn say(text: &str) -> Result<()> {
    // Nobody is left to be told when standard output is closed.
    let _ = io::stdout().write_all(text.as_bytes());
    Ok(())
}

fn complain(text: &str) {
    // Nobody is left to be told when standard error is closed.
    let _ = writeln!(io::stderr(), "berth registry: {text}");
}

fn collect_now(collect: &Collect) -> Result<()> {
    let collected = berth_registry::collect_now(&collect.root, &collect.grace)
        .with_context(|| format!("collect in {}", collect.root.display()))?;
    say(&format!(
        "uploads removed:   {}\nmanifests removed: {}\nblobs removed:     {}\nspace reclaimed:   {}\n",
        collected.uploads,
        collected.manifests,
        collected.files,
        berth_types::size::format_decimal(collected.bytes),
    ))
}

fn run(serve: Serve) -> Result<()> {
    // Nothing that a caller left open is ours to keep.
    berth_sys::process::close_on_exec_from(3)?;
    report::start(serve.log_level);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .max_blocking_threads(limits::BLOCKING_THREADS)
        .thread_stack_size(limits::STACK)
        .thread_name("berth-registry")
        .enable_all()
        .build()
        .context("start the runtime")?;
    let served = runtime.block_on(serve_until_told(serve));
    // A blocking call that hangs must not keep the registry from ending.
    runtime.shutdown_timeout(limits::SHUTDOWN);
    served
}

async fn serve_until_told(serve: Serve) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listen for SIGINT")?;
    let Serve {
        addresses,
        settings,
        ..
    } = serve;
    let secure = settings.tls.is_some();
    let open_to_all = settings.auth_file.is_none();
    let root = settings.root.display().to_string();
    let server = tokio::task::spawn_blocking(move || Server::open(&settings))
        .await
        .context("open the registry")?
        .with_context(|| format!("open the registry in {root}"))?;
    let mut listeners = Vec::new();
    for address in &addresses {
        let listener = TcpListener::bind(address)
            .await
            .with_context(|| format!("listen at {address}"))?;
        let bound = listener.local_addr().context("look at a socket of ours")?;
        if !bound.ip().is_loopback() {
            if open_to_all {
                tracing::warn!(
                    "whoever reaches {bound} can read and change everything here: give --auth-file"
                );
            }
            if !secure {
                tracing::warn!(
                    "what goes to and from {bound}, passwords too, can be read on the way: give --tls-cert and --tls-key"
                );
            }
        }
        let scheme = if secure { "https" } else { "http" };
        tracing::info!("registry in {root} listens on {scheme}://{bound}");
        listeners.push(listener);
    }
    notify::ready("The registry answers.");
    let shutdown = async {
        let signal = tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        };
        tracing::info!("{signal}: ending");
        notify::stopping("Ending; open requests may go on for a moment.");
    };
    server.serve(listeners, shutdown).await;
    Ok(())
}
