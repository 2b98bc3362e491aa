//! How registries are reached: mirrors, proxies, TLS, credentials.

use berth_image::documents::media;
use berth_image::{Credentials, PullRequest, RegistrySettings, Settings};
use berth_types::ErrorKind;

use crate::pull::{image, pull, refused, request};
use crate::registry::{Answer, Distribution, Fake};
use crate::support::{Home, chain};

#[test]
fn certificates_are_verified_unless_the_registry_is_called_insecure() {
    let (registry, keys) = Distribution::start_with_tls();
    let image = image();
    registry.push(&image, "a/b:1", "oci", "gzip");
    let name = format!("{}/a/b:1", registry.address);
    let error = refused(&Home::new(), &name);
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(chain(&error).contains("certificate"), "{}", chain(&error));
    let trusted = RegistrySettings {
        certificate_files: vec![keys.path().join("ca.pem")],
        ..RegistrySettings::default()
    };
    let insecure = RegistrySettings {
        insecure: vec![registry.address.clone()],
        ..RegistrySettings::default()
    };
    for registries in [trusted, insecure] {
        let home = Home::with(Settings {
            registries,
            ..Settings::default()
        });
        let (pulled, _) = pull(&home, request(&name))
            .map_err(|error| panic!("{}", chain(&error)))
            .unwrap();
        assert_eq!(pulled.id, image.id());
    }
}

#[test]
fn a_mirror_serves_the_usual_names() {
    let registry = Distribution::start();
    let image = image();
    registry.push(&image, "library/busybox:1", "oci", "gzip");
    let home = Home::with(Settings {
        registries: RegistrySettings {
            // One that is down is passed over.
            mirrors: vec![
                "http://127.0.0.1:1".into(),
                format!("http://{}", registry.address),
            ],
            mirrors_of: vec![(
                "ghcr.io".into(),
                vec![format!("http://{}/library", registry.address)],
            )],
            ..RegistrySettings::default()
        },
        ..Settings::default()
    });
    let (pulled, _) = pull(&home, request("busybox:1"))
        .map_err(|error| panic!("{}", chain(&error)))
        .unwrap();
    assert_eq!(home.store.resolve("busybox:1").unwrap().id, pulled.id);
    let (other, _) = pull(&home, request("ghcr.io/busybox:1")).unwrap();
    assert_eq!(other.id, pulled.id);
}

#[test]
fn tokens_are_fetched_and_credentials_stay_where_they_belong() {
    let image = image();
    let elsewhere = {
        let image = image.clone();
        Fake::image(&image, |asked, answer| {
            assert!(!asked.headers.contains_key("authorization"), "{asked:?}");
            answer
        })
    };
    let storage = elsewhere.address.clone();
    let auth = Fake::start(|asked| {
        assert!(asked.path.contains("service=tests"), "{}", asked.path);
        assert!(
            asked.path.contains("scope=repository%3Aa%2Fb%3Apull"),
            "{}",
            asked.path
        );
        match asked.headers.get("authorization").map(String::as_str) {
            // me:secret
            Some("Basic bWU6c2VjcmV0") => Answer::ok(br#"{"token":"good","expires_in":300}"#),
            None => Answer::ok(br#"{"access_token":"anonymous"}"#),
            _ => Answer::status(401),
        }
    });
    let realm = auth.address.clone();
    let registry = Fake::image(&image, move |asked, answer| {
        let challenge = format!(
            r#"Bearer realm="http://{realm}/token",service="tests",scope="repository:a/b:pull""#
        );
        match asked.headers.get("authorization").map(String::as_str) {
            Some("Bearer good") if asked.path.contains("/blobs/") => {
                Answer::status(307).header("Location", &format!("http://{storage}{}", asked.path))
            }
            Some("Bearer good") => answer,
            Some("Bearer anonymous") => {
                let mut answer = Answer::status(403);
                answer.body = br#"{"errors":[{"code":"DENIED","message":"requested access to the resource is denied"}]}"#.to_vec();
                answer
            }
            _ => Answer::status(401).header("WWW-Authenticate", &challenge),
        }
    });
    let name = format!("{}/a/b:1", registry.address);
    let home = Home::new();
    let error = refused(&home, &name);
    assert_eq!(
        error.to_string(),
        format!(
            "pull access denied for {}/a/b, repository does not exist or may require 'docker login': denied: requested access to the resource is denied",
            registry.address
        )
    );
    let with = |username: &str, password: &str| PullRequest {
        credentials: Some(Credentials {
            username: username.into(),
            password: password.into(),
            ..Credentials::default()
        }),
        ..request(&name)
    };
    assert!(pull(&home, with("me", "wrong")).is_err());
    let asked_before = auth.count("token");
    let (pulled, _) = pull(&home, with("me", "secret"))
        .map_err(|error| panic!("{}", chain(&error)))
        .unwrap();
    assert_eq!(pulled.id, image.id());
    assert_eq!(auth.count("token") - asked_before, 1);
}

#[test]
fn basic_credentials_are_sent_when_asked_for() {
    let image = image();
    let registry = Fake::image(&image, |asked, answer| {
        if asked.headers.get("authorization").map(String::as_str) == Some("Basic bWU6c2VjcmV0") {
            return answer;
        }
        Answer::status(401).header("WWW-Authenticate", "Basic realm=\"x\"")
    });
    let name = format!("{}/a/b:1", registry.address);
    let home = Home::new();
    assert_eq!(refused(&home, &name).kind(), ErrorKind::NotFound);
    let credentials = Credentials {
        username: "me".into(),
        password: "secret".into(),
        ..Credentials::default()
    };
    let request = PullRequest {
        credentials: Some(credentials),
        ..request(&name)
    };
    pull(&home, request).unwrap();
}

#[test]
fn requests_go_through_the_proxy_that_the_settings_name() {
    let image = image();
    let proxy = {
        let image = image.clone();
        Fake::start(move |asked| {
            assert!(
                asked.path.starts_with("http://registry.invalid:5000/v2/"),
                "{}",
                asked.path
            );
            assert_eq!(asked.headers["proxy-authorization"], "Basic bWU6c2VjcmV0");
            let last = asked.path.rsplit('/').next().unwrap_or_default();
            match last
                .parse()
                .ok()
                .and_then(|digest| image.blobs.get(&digest))
            {
                Some(bytes) => Answer::ok(bytes),
                None => Answer::ok(&image.manifest).header("Content-Type", media::OCI_MANIFEST),
            }
        })
    };
    let home = Home::with(Settings {
        registries: RegistrySettings {
            insecure: vec!["registry.invalid:5000".into()],
            http_proxy: Some(format!("http://me:secret@{}", proxy.address)),
            no_proxy: Some("localhost".into()),
            ..RegistrySettings::default()
        },
        ..Settings::default()
    });
    pull(&home, request("registry.invalid:5000/a/b:1"))
        .map_err(|error| panic!("{}", chain(&error)))
        .unwrap();
}
