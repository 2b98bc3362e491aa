//! Docker's library for Python does all operations on networks and volumes, and
//! moves the content of images and containers.

use berth_testkit::{Command, Daemon, Engine, Settings, needs};

/// What the library is asked to do; each ends with an exception where an answer is not as promised.
const SCRIPTS: [&str; 3] = [
    include_str!("networks.py"),
    include_str!("volumes.py"),
    include_str!("content.py"),
];

/// Takes the library from a virtual environment of the test's own where the host's Python lacks it.
fn python(daemon: &Daemon) -> String {
    let has_library = |python: &str| {
        let look = Command::new(python).args(["-c", "import docker"]).try_run();
        look.is_ok_and(|output| output.code() == 0)
    };
    if has_library("python3") {
        return "python3".to_owned();
    }
    let home = daemon.scratch().path().join("venv").display().to_string();
    // Debian's Python has no `venv` that could install anything.
    let virtualenv = needs::program("virtualenv", "virtualenv");
    Command::new(virtualenv).args(["--quiet", &home]).run().ok();
    let pip = format!("{home}/bin/pip");
    Command::new(pip)
        .args(["install", "--quiet", "docker==7.1.0"])
        .run()
        .ok();
    format!("{home}/bin/python3")
}

fn library_on(engine: Engine) {
    needs::root();
    let settings = Settings {
        network: true,
        ..Settings::default()
    };
    let daemon = Daemon::with(engine, settings);
    let socket = format!("unix://{}", daemon.socket().display());
    let python = python(&daemon);
    for script in SCRIPTS {
        Command::new(&python)
            .args(["-c", script])
            .env("DOCKER_HOST", &socket)
            .run()
            .ok()
            .prints("done");
    }
}

#[test]
fn python_on_docker() {
    library_on(Engine::Docker);
}

#[test]
fn python_on_berth() {
    library_on(Engine::Berth);
}
