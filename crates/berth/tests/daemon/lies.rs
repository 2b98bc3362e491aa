//! Registries and token servers that lie: each lie is refused with a clear error, and costs the daemon little memory,
//! disk and time.
//!
//! What single answers are made of is tested beside the code (`berth-image`: pull, resume, access, formats). Here the
//! whole daemon is looked at.

use std::fs;
use std::io;
use std::time::{Duration, Instant};

use berth_testkit::archive::{Dialect, Image, Layer, digest};
use berth_testkit::liar::{Answer, Asked, Liar};
use berth_testkit::{Daemon, Engine, Settings, wait};

use crate::push::noise;

/// How much the daemon may grow by one lie, in KiB. What it keeps of pools and buffers is far below.
const GROWTH_KIB: u64 = 48 << 10;

/// Bytes that one lie may have the data root hold while it is told: nothing but what was promised and checked.
const LAYER: usize = 12 << 20;

/// How long one lie may take: below the longest wait for an answer, with every retry.
const TIME: Duration = Duration::from_secs(60);

fn settings() -> Settings {
    Settings {
        without_images: true,
        // One that is given up sooner shows the same.
        arguments: vec!["--max-download-attempts".into(), "2".into()],
        ..Settings::default()
    }
}

fn rss_kib(daemon: &Daemon) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.pid())).expect("a status");
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().nth(1));
    number.expect("VmRSS").parse().expect("a number")
}

/// Bytes of all files of the content store, the unfinished ones included.
fn stored(daemon: &Daemon) -> u64 {
    fn sum(path: &std::path::Path) -> u64 {
        let entries = fs::read_dir(path).into_iter().flatten().flatten();
        entries
            .map(|entry| match entry.metadata() {
                Ok(metadata) if metadata.is_dir() => sum(&entry.path()),
                Ok(metadata) => metadata.len(),
                Err(_) => 0,
            })
            .sum()
    }
    sum(&daemon.data_root().join("blobs")) + sum(&daemon.data_root().join("layers"))
}

/// An image, and what an honest registry says of it.
struct Honest {
    image: Image,
    manifest: Vec<u8>,
    blobs: Vec<Vec<u8>>,
}

impl Honest {
    fn new() -> Self {
        let layer = Layer::new().file("noise", 0o644, noise(11, LAYER));
        let image = Image::new("told:1", &["none"], vec![layer.finish()]);
        let (manifest, blobs) = image.manifest(Dialect::Oci).expect("a manifest");
        Self {
            image,
            manifest,
            blobs,
        }
    }

    /// The layer's content.
    fn layer(&self) -> &[u8] {
        &self.blobs[1]
    }

    fn is_layer(&self, asked: &Asked) -> bool {
        asked.target.ends_with(&digest(self.layer()))
    }

    fn tell(&self, asked: &Asked, answer: &mut Answer<'_>) -> io::Result<()> {
        if asked.target.contains("/manifests/") {
            let kind = [("Content-Type", Dialect::Oci.manifest())];
            return answer.whole(200, &kind, &self.manifest);
        }
        let wanted = asked.target.rsplit('/').next().unwrap_or_default();
        let Some(bytes) = self.blobs.iter().find(|blob| digest(blob) == wanted) else {
            return answer.whole(if asked.target == "/v2/" { 200 } else { 404 }, &[], b"");
        };
        let Some((first, last)) = asked.range else {
            return answer.whole(200, &[("Accept-Ranges", "bytes")], bytes);
        };
        let last = last.unwrap_or(bytes.len() as u64 - 1);
        let stated = format!("bytes {first}-{last}/{}", bytes.len());
        let part = &bytes[usize::try_from(first).unwrap_or(0)..=usize::try_from(last).unwrap_or(0)];
        answer.whole(206, &[("Content-Range", &stated)], part)
    }
}

type Lie = Box<dyn Fn(&Honest, &Asked, &mut Answer<'_>) -> io::Result<()> + Send + Sync>;

/// A lie about the layer when the first half of it has come: what is asked for then is its second half.
fn about_ranges(
    lie: impl Fn(&Honest, u64, &mut Answer<'_>) -> io::Result<()> + Send + Sync + 'static,
) -> Lie {
    Box::new(move |honest, asked, answer| {
        if !honest.is_layer(asked) {
            return honest.tell(asked, answer);
        }
        match asked.range {
            Some((first, _)) => lie(honest, first, answer),
            None => {
                let half = honest.layer().len() / 2;
                let length = honest.layer().len().to_string();
                answer.head(
                    200,
                    &[("Content-Length", &length), ("Accept-Ranges", "bytes")],
                )?;
                answer.raw(&honest.layer()[..half])
            }
        }
    })
}

/// A lie in place of what is asked for by a path that contains `part`.
fn instead_of(
    part: &'static str,
    lie: impl Fn(&Asked, &mut Answer<'_>) -> io::Result<()> + Send + Sync + 'static,
) -> Lie {
    Box::new(move |honest, asked, answer| {
        if asked.target.contains(part) {
            lie(asked, answer)
        } else {
            honest.tell(asked, answer)
        }
    })
}

fn lies() -> Vec<(&'static str, &'static str, Lie)> {
    let range = |first: u64, last: u64, total: u64| format!("bytes {first}-{last}/{total}");
    vec![
        (
            "the second range is another one",
            "another range",
            about_ranges(move |honest, first, answer| {
                let size = honest.layer().len() as u64;
                let stated = range(first + 1, size - 1, size);
                answer.whole(
                    206,
                    &[("Content-Range", &stated)],
                    &honest.layer()[first as usize + 1..],
                )
            }),
        ),
        (
            "it overlaps what is there",
            "another range",
            about_ranges(move |honest, first, answer| {
                let size = honest.layer().len() as u64;
                let stated = range(first - 1000, size - 1, size);
                answer.whole(
                    206,
                    &[("Content-Range", &stated)],
                    &honest.layer()[first as usize - 1000..],
                )
            }),
        ),
        (
            "it is of something larger",
            "another range",
            about_ranges(move |honest, first, answer| {
                let size = honest.layer().len() as u64;
                let stated = range(first, size - 1, size + 1);
                answer.whole(
                    206,
                    &[("Content-Range", &stated)],
                    &honest.layer()[first as usize..],
                )
            }),
        ),
        (
            "a part without a word of which",
            "another range",
            about_ranges(|honest, first, answer| {
                answer.whole(206, &[], &honest.layer()[first as usize..])
            }),
        ),
        (
            "a part that is the whole",
            "wrong size",
            about_ranges(move |honest, first, answer| {
                let size = honest.layer().len() as u64;
                let stated = range(first, size - 1, size);
                answer.whole(206, &[("Content-Range", &stated)], honest.layer())
            }),
        ),
        (
            "other bytes",
            "does not match its digest",
            about_ranges(move |honest, first, answer| {
                let size = honest.layer().len() as u64;
                let stated = range(first, size - 1, size);
                let other = noise(99, honest.layer().len() - first as usize);
                answer.whole(206, &[("Content-Range", &stated)], &other)
            }),
        ),
        (
            "a part without an end",
            "wrong size",
            about_ranges(move |honest, first, answer| {
                let size = honest.layer().len() as u64;
                let stated = range(first, size - 1, size);
                answer.head(206, &[("Content-Range", &stated)])?;
                answer.endless(b"more")
            }),
        ),
        (
            "next to nothing for each request",
            "download layer",
            about_ranges(move |honest, first, answer| {
                let size = honest.layer().len() as u64;
                let stated = range(first, size - 1, size);
                let length = (size - first).to_string();
                answer.head(
                    206,
                    &[("Content-Range", &stated), ("Content-Length", &length)],
                )?;
                answer.raw(&honest.layer()[first as usize..][..1])
            }),
        ),
        (
            "a length that is not kept",
            "download layer",
            Box::new(|honest, asked, answer| {
                if !honest.is_layer(asked) {
                    return honest.tell(asked, answer);
                }
                answer.head(200, &[("Content-Length", "1000000000000")])?;
                answer.raw(&honest.layer()[..10])
            }),
        ),
        (
            "a layer without an end",
            "wrong size",
            Box::new(|honest, asked, answer| {
                if !honest.is_layer(asked) {
                    return honest.tell(asked, answer);
                }
                answer.head(200, &[])?;
                answer.raw(honest.layer())?;
                answer.endless(&noise(5, 4096))
            }),
        ),
        (
            "a manifest without an end",
            "exceeds the limit of 4194304 bytes",
            instead_of("/manifests/", |_, answer| {
                answer.head(200, &[("Content-Type", Dialect::Oci.manifest())])?;
                answer.endless(b"{\"schemaVersion\":2,")
            }),
        ),
        (
            "a manifest that says it is larger than anything",
            "exceeds the limit of 4194304 bytes",
            instead_of("/manifests/", |_, answer| {
                answer.head(200, &[("Content-Length", "9000000000000000000")])?;
                answer.endless(b" ")
            }),
        ),
        (
            "headers without an end",
            "too large",
            instead_of("/manifests/", |_, answer| {
                answer.raw(b"HTTP/1.1 200 X\r\n")?;
                answer.endless(b"X-More: and more\r\n")
            }),
        ),
        (
            "one header without an end",
            "too large",
            instead_of("/manifests/", |_, answer| {
                answer.raw(b"HTTP/1.1 200 X\r\nX-Long: ")?;
                answer.endless(b"long ")
            }),
        ),
        (
            "chunks with a size beyond all bounds",
            "chunk size",
            instead_of("/manifests/", |_, answer| {
                answer.head(200, &[("Transfer-Encoding", "chunked")])?;
                answer.raw(b"fffffffffffffffffffff\r\n")?;
                answer.endless(b"more")
            }),
        ),
        (
            "an error without an end",
            "status 418",
            instead_of("/manifests/", |_, answer| {
                answer.head(418, &[])?;
                answer.endless(b"I am a teapot. ")
            }),
        ),
        (
            "redirects without an end",
            "more than 8 redirects",
            instead_of("/blobs/", |asked, answer| {
                let next = format!("{}x", asked.target);
                answer.whole(307, &[("Location", &next)], b"")
            }),
        ),
        (
            "a redirect to a file of the host",
            "a redirect leads nowhere",
            instead_of("/blobs/", |_, answer| {
                answer.whole(307, &[("Location", "file:///etc/shadow")], b"")
            }),
        ),
        (
            "a token server that sends elsewhere for ever",
            "get a token",
            instead_of("/", |asked, answer| {
                if asked.target.starts_with("/token") {
                    let next = format!("{}&again", asked.target);
                    return answer.whole(302, &[("Location", &next)], b"");
                }
                let challenge = format!("Bearer realm=\"http://{}/token?a\"", asked.host);
                answer.whole(401, &[("WWW-Authenticate", &challenge)], b"")
            }),
        ),
        (
            "a token without an end",
            "exceeds the limit of 1048576 bytes",
            instead_of("/", |asked, answer| {
                if asked.target.starts_with("/token") {
                    answer.head(200, &[("Content-Type", "application/json")])?;
                    answer.raw(b"{\"token\":\"")?;
                    return answer.endless(b"secret");
                }
                let challenge = format!("Bearer realm=\"http://{}/token\"", asked.host);
                answer.whole(401, &[("WWW-Authenticate", &challenge)], b"")
            }),
        ),
        (
            "a token that is never enough",
            "denied",
            instead_of("/", |asked, answer| {
                if asked.target.starts_with("/token") {
                    return answer.whole(200, &[], b"{\"token\":\"x\"}");
                }
                let challenge = format!("Bearer realm=\"http://{}/token\"", asked.host);
                answer.whole(401, &[("WWW-Authenticate", &challenge)], b"")
            }),
        ),
    ]
}

#[test]
fn lies_are_refused_at_little_cost() {
    let daemon = Daemon::with(Engine::Berth, settings());
    let honest = Honest::new();
    let before = stored(&daemon);
    // What pools, threads and buffers need is there after the first pull.
    let truth = Honest::new();
    let first = Liar::start(move |asked, answer| truth.tell(asked, answer));
    let name = format!("{}/told:1", first.host());
    daemon.berth(&format!("pull -q {name}")).ok();
    assert_eq!(
        daemon
            .berth(&format!("images -q --no-trunc {name}"))
            .ok()
            .text(),
        honest.image.id()
    );
    daemon.berth(&format!("rmi {name}")).ok();
    let small = rss_kib(&daemon);
    for (what, words, lie) in lies() {
        let truth = Honest::new();
        let liar = Liar::start(move |asked, answer| lie(&truth, asked, answer));
        let started = Instant::now();
        let told = daemon.berth(&format!("pull {}/told:1", liar.host()));
        let took = started.elapsed();
        assert_eq!(told.code(), 1, "{what}: {told}");
        let stderr = &told.stderr;
        assert!(stderr.contains(words), "{what}: expected {words:?}: {told}");
        assert!(
            stderr.contains(&liar.host()) || stderr.contains("layer"),
            "{what}: {told}"
        );
        assert!(
            stderr.len() < 2000,
            "{what}: {} bytes of error",
            stderr.len()
        );
        assert!(took < wait::scaled(TIME), "{what}: {took:?}");
        let grown = rss_kib(&daemon).saturating_sub(small);
        assert!(grown < GROWTH_KIB, "{what}: {grown} KiB more");
        let kept = stored(&daemon).saturating_sub(before);
        assert!(kept < 2 * LAYER as u64, "{what}: {kept} bytes more");
        // Nobody listens to it any more.
        wait::until(&format!("the connections are closed: {what}"), || {
            liar.open() == 0
        });
        assert_eq!(daemon.berth("images -q told").ok().stdout, "", "{what}");
    }
    daemon.berth("system check --deep -q").ok();
}

#[test]
fn lists_without_an_end_are_refused() {
    let daemon = Daemon::with(Engine::Berth, settings());
    let liar = Liar::start(|asked, answer| {
        let (path, query) = asked.target.split_once('?').unwrap_or((&asked.target, ""));
        let number: u64 = query
            .rsplit(['=', '&'])
            .next()
            .and_then(|text| text.parse().ok())
            .unwrap_or(0);
        let next = format!("<{path}?last={}>; rel=\"next\"", number + 1);
        let next = [("Link", next.as_str())];
        match path {
            "/v2/" => answer.whole(200, &[], b"{}"),
            "/v2/small/tags/list" => {
                let page = format!("{{\"tags\":[\"t{number}\"]}}");
                answer.whole(200, &next, page.as_bytes())
            }
            "/v2/large/tags/list" => {
                let page = format!("{{\"tags\":[\"{number}{}\"]}}", "x".repeat(3 << 20));
                answer.whole(200, &next, page.as_bytes())
            }
            "/v2/endless/tags/list" => {
                answer.head(200, &[])?;
                answer.raw(b"{\"tags\":[")?;
                answer.endless(b"\"t\",")
            }
            "/v2/_catalog" => {
                let page = format!("{{\"repositories\":[\"r{number}\"]}}");
                answer.whole(200, &next, page.as_bytes())
            }
            _ => answer.whole(404, &[], b""),
        }
    });
    let small = rss_kib(&daemon);
    let host = liar.host();
    for (line, words) in [
        (
            format!("pull -a {host}/small"),
            "exceeds the limit of 1000 pages",
        ),
        (
            format!("pull -a {host}/large"),
            "exceeds the limit of 67108864 bytes",
        ),
        (
            format!("pull -a {host}/endless"),
            "exceeds the limit of 4194304 bytes",
        ),
        (
            format!("search {host}/nothing"),
            "exceeds the limit of 100000 repositories",
        ),
    ] {
        let started = Instant::now();
        let told = daemon.berth(&line).exits(1).says(words);
        assert!(started.elapsed() < wait::scaled(TIME), "{told}");
        // One list at its limit, and its last page.
        let grown = rss_kib(&daemon).saturating_sub(small);
        assert!(grown < 3 * GROWTH_KIB, "{line}: {grown} KiB more");
    }
}
