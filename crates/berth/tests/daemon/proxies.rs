//! Registries behind a proxy: real ones, and what only calls itself one.

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use berth_testkit::archive::{Image, Layer};
use berth_testkit::authority::Authority;
use berth_testkit::cutting_proxy::CuttingProxy;
use berth_testkit::proxy::{Proxy, Rules};
use berth_testkit::scratch::Scratch;
use berth_testkit::served::Served;
use berth_testkit::{Daemon, Engine, Settings, daemon, names};

use crate::push::noise;

/// A name of this machine that nobody knows who is not told.
pub(crate) const NAME: &str = "registry.test";

/// A registry with TLS, and what a daemon needs to trust it.
pub(crate) struct Place {
    pub(crate) registry: Served,
    pub(crate) authority: Authority,
    pub(crate) scratch: Scratch,
}

impl Place {
    pub(crate) fn new() -> Self {
        let scratch = Scratch::new();
        let authority = Authority::new(scratch.path());
        let own = authority.certify("registry", &format!("DNS:{NAME}"));
        let (certificate, key) = (own.certificate.display(), own.key.display());
        let arguments = [
            "--tls-cert",
            &certificate.to_string(),
            "--tls-key",
            &key.to_string(),
        ];
        let registry = Served::start(&scratch.path().join("r"), &arguments);
        Self {
            registry,
            authority,
            scratch,
        }
    }

    /// As in a reference.
    fn host(&self) -> String {
        format!("{NAME}:{}", self.registry.port())
    }

    /// A daemon that takes the authority's certificates, with further arguments, and with the registry's name in its
    /// hosts file if `knows`.
    fn daemon(&self, knows: bool, arguments: &[&str]) -> Daemon {
        let authority = self.authority.certificate().display().to_string();
        let mut words = vec!["--registry-ca-cert", &authority];
        words.extend(arguments);
        self.bare_daemon(knows, &words)
    }

    /// The same without the authority.
    pub(crate) fn bare_daemon(&self, knows: bool, arguments: &[&str]) -> Daemon {
        let own: PathBuf = daemon::executable().expect("the executable");
        let executable = knows.then(|| names::knowing(self.scratch.path(), &own, &[NAME]));
        Daemon::with(
            Engine::Berth,
            Settings {
                arguments: arguments.iter().map(|word| (*word).to_owned()).collect(),
                executable,
                ..Settings::default()
            },
        )
    }

    /// Brings an image there and back.
    fn travel(&self, daemon: &Daemon, repository: &str) {
        let name = format!("{}/{repository}:1", self.host());
        daemon.berth(&format!("tag busybox {name}")).ok();
        daemon.berth(&format!("push -q {name}")).ok();
        daemon.berth(&format!("rmi {name}")).ok();
        daemon.berth(&format!("pull -q {name}")).ok();
        daemon.berth(&format!("image inspect {name}")).ok();
    }
}

#[test]
fn an_http_proxy_makes_a_tunnel_to_a_registry_with_tls() {
    let place = Place::new();
    let rules = Rules {
        user: Some(("me", "secret")),
        names: &[NAME],
        ..Rules::default()
    };
    let proxy = Proxy::http(place.scratch.path(), &rules);
    // On the way to it, connections break in the middle.
    const CUTS: usize = 2;
    let cutting = CuttingProxy::start(proxy.port(), 7 << 20, CUTS);
    let url = format!("http://me:secret@{}", cutting.host());
    let daemon = place.daemon(false, &["--https-proxy", &url]);
    place.travel(&daemon, "through/http");
    let layer = Layer::new().file("noise", 0o644, noise(11, 24 << 20));
    daemon.load(&Image::new("large:1", &["none"], vec![layer.finish()]));
    let large = format!("{}/large:1", place.host());
    daemon.berth(&format!("tag large:1 {large}")).ok();
    daemon.berth(&format!("push -q {large}")).ok();
    assert_eq!(cutting.cuts(), CUTS);
    daemon.berth(&format!("rmi large:1 {large}")).ok();
    daemon.berth(&format!("pull -q {large}")).ok();
    let log = proxy.log();
    assert!(log.contains(&format!("CONNECT {}", place.host())), "{log}");
    let told = daemon.berth("info").ok();
    assert!(!told.stdout.contains("secret"), "{told}");
    told.prints(&format!(
        "HTTPS Proxy: http://xxxxx:xxxxx@{}",
        cutting.host()
    ));
}

#[test]
fn a_proxy_may_be_reached_over_tls() {
    let place = Place::new();
    let rules = Rules {
        user: Some(("me", "secret")),
        names: &[NAME],
        ..Rules::default()
    };
    let shown = place.authority.certify("proxy", "IP:127.0.0.1");
    let proxy = Proxy::https(place.scratch.path(), &rules, &shown);
    let url = format!("https://me:secret@{}", proxy.host());
    let daemon = place.daemon(false, &["--https-proxy", &url, "--http-proxy", &url]);
    place.travel(&daemon, "through/https");
    // What is not encrypted itself is handed to it, and at least so far nobody sees it.
    let plain = Served::start(&place.scratch.path().join("plain"), &[]);
    let address = format!("http://{NAME}:{}/nothing", plain.port());
    daemon
        .berth(&format!("import {address}"))
        .exits(1)
        .says("404 Not Found");
    let log = proxy.log();
    assert!(log.contains(&format!("CONNECT {}", place.host())), "{log}");
    assert!(log.contains(&format!("GET {address}")), "{log}");
    // One whose certificate is from nobody we know is given no password.
    let other = Scratch::new();
    let false_one = Authority::new(other.path()).certify("proxy", "IP:127.0.0.1");
    let proxy = Proxy::https(other.path(), &rules, &false_one);
    let url = format!("https://me:secret@{}", proxy.host());
    let daemon = place.daemon(false, &["--https-proxy", &url]);
    daemon
        .berth(&format!("pull {}/through/https:1", place.host()))
        .exits(1)
        .says(&format!("proxy https://{}: ", proxy.host()))
        .says("certificate");
}

#[test]
fn names_are_resolved_by_us_or_by_a_socks_proxy() {
    let place = Place::new();
    let user = Some(("me", "s:c@e%"));
    let knowing = Rules {
        user,
        names: &[NAME],
        ..Rules::default()
    };
    let proxy = Proxy::socks(place.scratch.path(), &knowing);
    let url = format!("socks5h://me:s%3Ac%40e%25@{}", proxy.host());
    let daemon = place.daemon(false, &["--https-proxy", &url]);
    place.travel(&daemon, "through/name");
    let log = proxy.log();
    assert!(log.contains(NAME), "{log}");

    // Also where names are looked up here first.
    let either = url.replace("socks5h", "socks5");
    let daemon = place.daemon(false, &["--https-proxy", &either]);
    place.travel(&daemon, "through/either");

    // It does not know the name, and does not need to.
    let elsewhere = Scratch::new();
    let rules = Rules {
        user,
        ..Rules::default()
    };
    let proxy = Proxy::socks(elsewhere.path(), &rules);
    let url = format!("socks5://me:s%3Ac%40e%25@{}", proxy.host());
    let daemon = place.daemon(true, &["--https-proxy", &url, "--http-proxy", &url]);
    place.travel(&daemon, "through/address");
    let log = proxy.log();
    let direct = format!("127.0.0.1:{}", place.registry.port());
    assert!(log.contains(&direct) && !log.contains(NAME), "{log}");
    // Without a port, it is that of the scheme; nobody listens there.
    let told = daemon.berth(&format!("import http://{NAME}/x.tar"));
    told.exits(1).says("does not lead to 127.0.0.1:80: ");
}

#[test]
fn some_registries_are_reached_without_a_proxy() {
    let place = Place::new();
    let nobody = "http://127.0.0.1:1";
    for no_proxy in [NAME, ".test,10.0.0.0/8"] {
        let daemon = place.daemon(true, &["--https-proxy", nobody, "--no-proxy", no_proxy]);
        place.travel(&daemon, "without");
    }
    let daemon = place.daemon(true, &["--https-proxy", nobody, "--no-proxy", "other.test"]);
    daemon
        .berth(&format!("pull {}/without:1", place.host()))
        .exits(1)
        .says("proxy http://127.0.0.1:1: ");
}

/// Something on a port of loopback that says the same to everybody, and hangs up.
struct Sayer {
    port: u16,
    ended: Arc<AtomicBool>,
}

impl Sayer {
    fn start(words: &'static str) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let port = listener.local_addr().expect("its port").port();
        let ended = Arc::new(AtomicBool::new(false));
        let until = Arc::clone(&ended);
        thread::spawn(move || {
            for mut client in listener.incoming().flatten() {
                if until.load(Ordering::Relaxed) {
                    return;
                }
                // Whoever asked may have gone.
                drop(client.write_all(words.as_bytes()));
                drop(client.shutdown(std::net::Shutdown::Write));
                drop(std::io::copy(&mut client, &mut std::io::sink()));
            }
        });
        Self { port, ended }
    }
}

impl Drop for Sayer {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        // Wakes the thread that waits for connections.
        drop(TcpStream::connect(("127.0.0.1", self.port)));
    }
}

#[test]
fn a_proxy_that_does_not_help_is_named_without_its_password() {
    let scratch = Scratch::new();
    let user = Some(("me", "other"));
    let [wants, narrow, open, socks] = ["wants", "narrow", "open", "socks"].map(|name| {
        let path = scratch.path().join(name);
        std::fs::create_dir(&path).expect("a directory");
        path
    });
    let guarded = Rules {
        user,
        ..Rules::default()
    };
    let wants = Proxy::http(&wants, &guarded);
    let one_port = Rules {
        only_port: Some(1),
        ..Rules::default()
    };
    let narrow = Proxy::http(&narrow, &one_port);
    let open = Proxy::http(&open, &Rules::default());
    let socks = Proxy::socks(&socks, &guarded);
    let (silent, garbage) = (Sayer::start(""), Sayer::start("220 mail.test ESMTP\r\n"));
    let loopback = |port: u16| format!("127.0.0.1:{port}");
    // The registry is nowhere: no proxy gets that far, or finds it.
    let me = "me:secret@";
    for (scheme, user, host, words) in [
        ("http", me, loopback(1), "Connection refused"),
        ("socks5h", me, loopback(1), "Connection refused"),
        (
            "http",
            me,
            wants.host(),
            "it does not take the user and password",
        ),
        (
            "socks5h",
            me,
            socks.host(),
            "it does not take the user and password",
        ),
        (
            "http",
            me,
            narrow.host(),
            "it does not lead to registry.test:5000: 403 ",
        ),
        (
            "http",
            me,
            open.host(),
            "it does not lead to registry.test:5000: 50",
        ),
        (
            "http",
            me,
            loopback(silent.port),
            "it hung up without an answer",
        ),
        (
            "socks5h",
            me,
            loopback(silent.port),
            "it hung up without an answer",
        ),
        (
            "http",
            me,
            loopback(garbage.port),
            "its answer is none of HTTP",
        ),
        (
            "socks5h",
            me,
            loopback(garbage.port),
            "its answer is none of SOCKS 5",
        ),
        ("https", me, loopback(garbage.port), "InvalidContentType"),
        (
            "http",
            "",
            wants.host(),
            "it asks for a user and a password",
        ),
        (
            "socks5h",
            "",
            socks.host(),
            "it asks for a user and a password",
        ),
    ] {
        let url = format!("{scheme}://{user}{host}");
        let daemon = Daemon::with(
            Engine::Berth,
            Settings {
                arguments: ["--https-proxy", &url, "--http-proxy", &url]
                    .into_iter()
                    .chain(["--max-download-attempts", "1"])
                    .map(str::to_owned)
                    .collect(),
                without_images: true,
                ..Settings::default()
            },
        );
        let told = daemon
            .berth("pull registry.test:5000/a:1")
            .exits(1)
            .says("registry.test:5000")
            .says(&format!("proxy {scheme}://{host}: "))
            .says(words);
        assert!(!told.stderr.contains("secret"), "{told}");
        if user.is_empty() {
            // What is not encrypted is handed to it, or to what it connects us with.
            daemon
                .berth("import http://registry.test/x.tar")
                .exits(1)
                .says(&format!("proxy {scheme}://{host}: {words}"));
        }
        let log = daemon.log();
        assert!(!log.contains("secret"), "{log}");
    }
}
