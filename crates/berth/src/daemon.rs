//! The role `berth daemon`: settings, sockets, the engine and its server, from start to end.
//!
//! Owns the process: its runtime, its signals, its pid file and how errors are told. What containers
//! do is the engine's; what requests mean is the server's.

mod file;
mod idle;
mod limits;
mod listen;
mod networks;
pub(crate) mod notify;
mod options;
mod pid_file;
pub(crate) mod report;
mod settings;

use anyhow::{Context, Result};
use berth_engine::Engine;
use berth_server::Listener;
use settings::Settings;
use std::ffi::OsString;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::process::ExitCode;
use std::sync::Arc;
use tokio::signal::unix::{SignalKind, signal};

/// Runs the daemon until it is told to end; `words` are those after `daemon`.
pub(crate) fn main(words: &[OsString]) -> ExitCode {
    let words: Vec<String> = words
        .iter()
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    let options = match options::parse(&words) {
        Ok(options::Parsed::Run(options)) => options,
        Ok(options::Parsed::Help) => return say(&options::help()),
        Ok(options::Parsed::Version) => {
            return say(concat!("Berth version ", env!("CARGO_PKG_VERSION"), "\n"));
        }
        Err(error) => {
            complain(&format!("{error}\nSee 'berth daemon --help'."));
            return ExitCode::from(125);
        }
    };
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("failed to start daemon: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn say(text: &str) -> ExitCode {
    // Nobody is left to be told when standard output is closed.
    let _ = io::stdout().write_all(text.as_bytes());
    ExitCode::SUCCESS
}

fn complain(text: &str) {
    // Nobody is left to be told when standard error is closed.
    let _ = writeln!(io::stderr(), "berth daemon: {text}");
}

fn run(options: &options::Options) -> Result<()> {
    // Started by a client: out of its session, and no descriptor of its goes to containers.
    berth_sys::process::close_on_exec_from(3)?;
    let ready = match options.ready_fd {
        Some(number) => {
            // Leading a session already is as good.
            let _ = rustix::process::setsid();
            Some(berth_sys::process::duplicate_inherited(number)?)
        }
        None => None,
    };
    let settings = settings::resolve(options, |name| std::env::var(name).ok())?;
    report::start(settings.log_level);
    if !rustix::process::geteuid().is_root() {
        anyhow::bail!("the daemon needs to run as root");
    }
    berth_sys::memory::tune_small();
    let _pid_file = settings
        .pid_file
        .as_deref()
        .map(pid_file::PidFile::create)
        .transpose()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(limits::WORKERS)
        .max_blocking_threads(limits::BLOCKING_THREADS)
        .thread_keep_alive(limits::BLOCKING_THREAD_IDLE)
        .thread_stack_size(limits::STACK)
        .thread_name("berth")
        .on_thread_start(idle::thread_starts)
        .on_thread_stop(idle::thread_stops)
        .enable_all()
        .build()
        .context("start the runtime")?;
    let served = runtime.block_on(serve(settings, ready));
    // A blocking call that hangs must not keep the daemon from ending.
    runtime.shutdown_timeout(limits::SHUTDOWN);
    served
}

async fn serve(settings: Settings, ready: Option<OwnedFd>) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listen for SIGINT")?;
    let mut hang_up = signal(SignalKind::hangup()).context("listen for SIGHUP")?;
    for host in &settings.hosts {
        listen::check(host).await?;
    }
    let config = Arc::new(settings.config);
    let engine = Arc::new(Engine::open(Arc::clone(&config)).await.map_err(|error| {
        let text = error.full_text();
        anyhow::Error::msg(text)
    })?);
    let mut sockets = Vec::new();
    let mut listeners: Vec<Listener> = Vec::new();
    for host in &settings.hosts {
        let (listener, socket) = listen::bind(host).await?;
        listeners.push(listener);
        sockets.extend(socket);
        tracing::info!("API listen on {host}");
    }
    if let Some(ready) = ready {
        // The client that started us may be gone already.
        let _ = rustix::io::write(&ready, b"1");
    }
    notify::ready("Containers are taken over; the API answers.");
    let ended = async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => break "SIGTERM",
                _ = interrupt.recv() => break "SIGINT",
                _ = hang_up.recv() => tracing::info!("SIGHUP: settings are read at the start only"),
            }
        }
    };
    let shutdown = async {
        let signal = ended.await;
        tracing::info!("{signal}: ending; containers run on");
        notify::stopping("Ending; containers run on.");
    };
    berth_server::serve(Arc::clone(&engine), listeners, shutdown).await;
    engine.close().await;
    drop(sockets);
    Ok(())
}
