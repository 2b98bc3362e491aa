//! Names and passwords, and TLS, as clients meet them.

use std::path::Path;

use berth_testkit::archive::digest;
use berth_testkit::scratch::Scratch;
use berth_testkit::served::Served;
use berth_testkit::{Command, images, needs, wait};

use super::clients::skopeo;

/// Users `me` with the password `secret`, as htpasswd -B writes them (with little work, for a test).
pub(super) const USERS: &str =
    "# users\nme:$2b$04$vG.WPYrbttafN0atLywN7eUcq.xA0yQT4nY0w6WNx.ke/JWwGgoK.\n";
/// `me:secret`
const ME: &str = "Basic bWU6c2VjcmV0";

/// A certificate for 127.0.0.1 that signs itself, and its key.
fn certificate(directory: &Path, name: &str) -> (String, String) {
    needs::program("openssl", "openssl");
    let file = |end: &str| {
        directory
            .join(format!("{name}.{end}"))
            .display()
            .to_string()
    };
    let (certificate, key) = (file("crt"), file("key"));
    let subject = format!("/CN={name}");
    Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
        ])
        .args([
            "-days",
            "30",
            "-subj",
            &subject,
            "-addext",
            "subjectAltName=IP:127.0.0.1",
        ])
        .args(["-out", &certificate, "-keyout", &key])
        .run()
        .ok();
    (certificate, key)
}

#[test]
fn only_users_of_the_file_come_in() {
    let scratch = Scratch::new();
    let file = scratch.write("users", USERS).display().to_string();
    let registry = Served::start(&scratch.path().join("r"), &["--auth-file", &file]);
    let upload = format!("/v2/a/blobs/uploads/?digest={}", digest(b"x"));
    for (method, target) in [
        ("GET", "/v2/"),
        ("GET", "/v2/_catalog"),
        ("GET", "/v2/no/thing/manifests/1"),
        ("POST", &upload),
        ("GET", "/nothing"),
    ] {
        let refused = registry.send(method, target, &[], b"x").expect(401);
        let challenge = refused.header("www-authenticate").expect("a challenge");
        assert!(challenge.starts_with("Basic realm="), "{challenge}");
        assert_eq!(refused.json()["errors"][0]["code"], "UNAUTHORIZED");
    }
    for wrong in ["Basic bWU6d3Jvbmc=", "Basic !", "Bearer x", "Basic bWU="] {
        registry
            .send("GET", "/v2/", &[("Authorization", wrong)], b"")
            .expect(401);
    }
    let me = [("Authorization", ME)];
    registry.send("GET", "/v2/", &me, b"").expect(200);
    registry.send("POST", &upload, &me, b"x").expect(201);
    // Whoever is no longer in the file is out at once.
    scratch.write("users", "# nobody\n");
    wait::until("the file is read again", || {
        registry.send("GET", "/v2/", &me, b"").status == 401
    });
    let log = registry.log();
    assert!(log.contains("\"me\" \"GET /v2/\" 200"), "{log}");
    assert!(!log.contains("secret"), "a password is in the log");
}

#[test]
fn tls_and_passwords_with_real_clients() {
    let scratch = Scratch::new();
    let file = scratch.write("users", USERS).display().to_string();
    let (cert, key) = certificate(scratch.path(), "first");
    let renewed = certificate(scratch.path(), "second");
    let arguments = ["--auth-file", &file, "--tls-cert", &cert, "--tls-key", &key];
    let registry = Served::start(&scratch.path().join("r"), &arguments);
    let trusted = scratch.path().join("trusted");
    std::fs::create_dir(&trusted).expect("a directory");
    std::fs::copy(&cert, trusted.join("ca.crt")).expect("copied");
    let archive = images::archive_file(&images::busybox().expect("an image")).expect("an archive");
    let target = format!("docker://{}/team/busybox:1", registry.host());
    let from = format!("docker-archive:{}", archive.display());
    let trust = format!("--dest-cert-dir {}", trusted.display());
    skopeo(
        &scratch,
        &format!("copy --dest-creds me:secret {from} {target}"),
    )
    .exits(1)
    .says("certificate");
    skopeo(&scratch, &format!("copy {trust} {from} {target}"))
        .exits(1)
        .says("auth");
    skopeo(
        &scratch,
        &format!("copy {trust} --dest-creds me:wrong {from} {target}"),
    )
    .exits(1);
    skopeo(
        &scratch,
        &format!("copy {trust} --dest-creds me:secret {from} {target}"),
    )
    .ok();
    // Renewed while it runs.
    std::fs::copy(&renewed.1, &key).expect("copied");
    std::fs::copy(&renewed.0, &cert).expect("copied");
    let inspect = |trusted: &Path| {
        let line = format!(
            "inspect --cert-dir {} --creds me:secret {target}",
            trusted.display()
        );
        skopeo(&scratch, &line)
    };
    std::fs::copy(&renewed.0, trusted.join("ca.crt")).expect("copied");
    wait::until("the new certificate is shown", || {
        inspect(&trusted).code() == 0
    });
}
