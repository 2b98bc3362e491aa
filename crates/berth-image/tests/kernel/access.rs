//! How registries are reached: mirrors, proxies, TLS, credentials.

use berth_image::documents::media;
use berth_image::{
    Credentials, PullRequest, PushRequest, RegistrySettings, RemoteRequest, Settings, digest_of,
};
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

fn with_directory(certificates: &std::path::Path) -> Settings {
    Settings {
        registries: RegistrySettings {
            certificate_directories: vec![certificates.to_owned()],
            ..RegistrySettings::default()
        },
        ..Settings::default()
    }
}

#[test]
fn a_registry_can_have_certificates_of_its_own() {
    let (registry, keys) = Distribution::start_with_client_certificates();
    let image = image();
    let name = format!("{}/a/b:1", registry.address);
    let certificates = tempfile::tempdir().unwrap();
    let home = Home::with(with_directory(certificates.path()));
    // Files count as soon as they are there, without a restart; for both ways.
    assert!(chain(&refused(&home, &name)).contains("certificate"));
    let other = format!("{}/other/c:1", registry.address);
    let pushing = Home::with(with_directory(certificates.path()));
    pushing
        .load(&image.layout(&other))
        .unwrap_or_else(|error| panic!("{}", chain(&error)));
    let push = || {
        let request = PushRequest {
            reference: other.parse().unwrap(),
            all_tags: false,
            platform: None,
            credentials: None,
        };
        let silent = berth_image::progress::silent();
        crate::pull::runtime().block_on(pushing.store.push(request, silent))
    };
    assert!(chain(&push().unwrap_err()).contains("certificate"));
    let own = certificates.path().join(&registry.address);
    std::fs::create_dir(&own).unwrap();
    std::fs::copy(keys.path().join("ca.pem"), own.join("ca.crt")).unwrap();
    let error = chain(&refused(&home, &name));
    assert!(
        error.contains("CertificateRequired") || error.contains("ertificate"),
        "{error}"
    );
    let error = chain(&push().unwrap_err());
    assert!(error.contains("ertificate"), "{error}");
    std::fs::copy(keys.path().join("cert.pem"), own.join("client.cert")).unwrap();
    let error = chain(&refused(&home, &name));
    assert!(error.contains("missing key client.key"), "{error}");
    std::fs::copy(keys.path().join("key.pem"), own.join("client.key")).unwrap();
    registry.push_from(&image, "a/b:1", &own);
    let (pulled, _) = pull(&home, request(&name))
        .map_err(|error| panic!("{}", chain(&error)))
        .unwrap();
    assert_eq!(pulled.id, image.id());
    let pushed = push().unwrap_or_else(|error| panic!("{}", chain(&error)));
    assert_eq!(pushed[0].tag, "1");
    let fresh = Home::with(with_directory(certificates.path()));
    let (pulled, _) = pull(&fresh, request(&other)).unwrap();
    assert_eq!(pulled.id, image.id());
}

#[test]
fn who_asks_too_often_is_told_when_to_come_back() {
    let limited = |after: &'static str| {
        Fake::image(&image(), move |asked, answer| {
            if asked.path.contains("/manifests/") {
                let mut answer = Answer::status(429).header("Retry-After", after);
                answer.body = br#"{"errors":[{"code":"TOOMANYREQUESTS","message":"You have reached your pull rate limit."}]}"#.to_vec();
                return answer;
            }
            answer
        })
    };
    // Longer than anybody wants to look at a command: told at once, and asked once.
    let registry = limited("3600");
    let error = refused(&Home::new(), &format!("{}/a/b:1", registry.address));
    assert_eq!(error.kind(), ErrorKind::ResourceExhausted);
    let text = chain(&error);
    assert!(
        text.contains("toomanyrequests: You have reached your pull rate limit.")
            && text.contains("try again in 3600 s"),
        "{text}"
    );
    assert_eq!(registry.count("/manifests/"), 1);
    let registry = limited("0");
    refused(&Home::new(), &format!("{}/a/b:1", registry.address));
    assert_eq!(registry.count("/manifests/"), 5);
}

#[test]
fn tags_and_referrers_are_listed_page_by_page() {
    let digest = digest_of(b"signature");
    let image = image();
    let own = digest_of(&image.manifest);
    let referrers = Fake::image(&image, move |asked, answer| {
        let page = |next: &str, body: String| {
            Answer::ok(body.as_bytes()).header("Link", &format!("<{next}>; rel=\"next\""))
        };
        match asked.path.as_str() {
            "/v2/a/b/tags/list" => page("/v2/a/b/tags/list?last=2", r#"{"name":"a/b","tags":["1","2"]}"#.into()),
            "/v2/a/b/tags/list?last=2" => Answer::ok(br#"{"name":"a/b","tags":["2","3"]}"#),
            // Every page has a next one.
            "/v2/a/c/tags/list" => page("http://elsewhere.example/x?1", r#"{"tags":null}"#.into()),
            path if path.starts_with("/v2/a/c/tags/list?") => {
                let number: u64 = path.rsplit('?').next().unwrap().parse().unwrap();
                page(&format!("?{}", number + 1), r#"{"tags":["x"]}"#.into())
            }
            // The same for what refers to a manifest.
            path if path.starts_with(&format!("/v2/a/d/referrers/{own}")) => {
                let number: u64 = path.split('?').nth(1).map_or(0, |query| query.parse().unwrap());
                page(
                    &format!("?{}", number + 1),
                    format!(r#"{{"manifests":[{{"mediaType":"m","digest":"{digest}","size":9}}]}}"#),
                )
            }
            path if path.ends_with(&format!("/referrers/{own}")) => Answer::ok(
                format!(r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"m","digest":"{digest}","size":9,"artifactType":"signature"}}]}}"#).as_bytes(),
            ),
            path if path.contains("/referrers/") => Answer::status(404),
            path if path.ends_with("/manifests/sha256-") => Answer::status(404),
            _ => answer,
        }
    });
    let home = Home::new();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let reference = |name: &str| format!("{}/{name}", referrers.address).parse().unwrap();
    let tags = runtime
        .block_on(home.store.remote_tags(&reference("a/b"), None))
        .unwrap();
    assert_eq!(tags, ["1", "2", "3"]);
    let error = runtime
        .block_on(home.store.remote_tags(&reference("a/c"), None))
        .unwrap_err();
    assert!(error.to_string().contains("1000 pages"), "{error}");
    let asking = |name: &str| RemoteRequest {
        reference: reference(name),
        credentials: None,
        insecure: false,
    };
    let error = runtime
        .block_on(home.store.referrers(&asking("a/d:1"), None))
        .unwrap_err();
    assert!(error.to_string().contains("1000 pages"), "{error}");
    let asked = asking("a/b:1");
    let found = runtime
        .block_on(home.store.referrers(&asked, None))
        .unwrap();
    assert_eq!(found.subject, digest_of(&image.manifest));
    let found = found.found;
    assert_eq!(
        (found[0].digest, found[0].artifact_type.as_str()),
        (digest, "signature")
    );
}

#[test]
fn lists_are_bounded_in_entries_and_bytes() {
    // Many small entries in a page, and a few large ones in many pages.
    let registry = Fake::start(|asked| {
        let (path, query) = asked.path.split_once('?').unwrap_or((&asked.path, "0"));
        let number: u64 = query.parse().unwrap_or(0);
        let tags: Vec<String> = match path {
            "/v2/a/many/tags/list" => (0..150_000).map(|tag| format!("{tag:x}")).collect(),
            _ => vec![format!("{number}{}", "x".repeat(3 << 20))],
        };
        let body = serde_json::json!({ "tags": tags }).to_string();
        Answer::ok(body.as_bytes()).header("Link", &format!("<?{}>; rel=\"next\"", number + 1))
    });
    let home = Home::new();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for (name, words) in [
        ("a/many", "the limit of 100000 entries"),
        ("a/large", "the limit of 67108864 bytes"),
    ] {
        let reference = format!("{}/{name}", registry.address).parse().unwrap();
        let error = runtime
            .block_on(home.store.remote_tags(&reference, None))
            .unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
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
