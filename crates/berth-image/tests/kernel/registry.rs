//! Registries for tests: Debian's, and a small one that can be made to misbehave.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use berth_image::digest_of;
use berth_image::documents::media;

use crate::support::Made;

/// The CNCF distribution server on a port of its own.
pub(crate) struct Distribution {
    child: Child,
    pub(crate) address: String,
    _data: tempfile::TempDir,
}

impl Distribution {
    pub(crate) fn start() -> Self {
        Self::start_on("127.0.0.1", "")
    }

    /// With TLS on an address that is not a loopback one, certified by an authority made for it; tells the
    /// authority's certificate.
    pub(crate) fn start_with_tls() -> (Self, tempfile::TempDir) {
        Self::start_certified(false)
    }

    /// The same, talking only to who shows a certificate of the authority (`cert.pem` with `key.pem` is one).
    pub(crate) fn start_with_client_certificates() -> (Self, tempfile::TempDir) {
        Self::start_certified(true)
    }

    fn start_certified(clients: bool) -> (Self, tempfile::TempDir) {
        // Connecting a datagram socket sends nothing; it only chooses the address of this machine.
        let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
        socket
            .connect("192.0.2.1:9")
            .expect("a network interface besides loopback");
        let address = socket.local_addr().unwrap().ip().to_string();
        let keys = tempfile::tempdir().unwrap();
        let openssl = |arguments: &[&str]| {
            let output = Command::new("openssl")
                .current_dir(keys.path())
                .args(arguments)
                .output()
                .expect("openssl is installed");
            assert!(output.status.success(), "{output:?}");
        };
        let new_key = [
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
        ];
        openssl(
            &[
                &[
                    "req",
                    "-x509",
                    "-days",
                    "2",
                    "-subj",
                    "/CN=test authority",
                    "-keyout",
                    "ca.key",
                    "-out",
                    "ca.pem",
                ][..],
                &new_key,
            ]
            .concat(),
        );
        openssl(
            &[
                &[
                    "req",
                    "-subj",
                    "/CN=registry",
                    "-keyout",
                    "key.pem",
                    "-out",
                    "request.pem",
                ][..],
                &new_key,
            ]
            .concat(),
        );
        std::fs::write(
            keys.path().join("extensions"),
            format!("subjectAltName=IP:{address}\n"),
        )
        .unwrap();
        openssl(&[
            "x509",
            "-req",
            "-days",
            "2",
            "-in",
            "request.pem",
            "-CA",
            "ca.pem",
            "-CAkey",
            "ca.key",
            "-CAcreateserial",
            "-extfile",
            "extensions",
            "-out",
            "cert.pem",
        ]);
        let path = keys.path().display();
        let clients = if clients {
            format!(", clientcas: [{path}/ca.pem]")
        } else {
            String::new()
        };
        let tls = format!(", tls: {{certificate: {path}/cert.pem, key: {path}/key.pem{clients}}}");
        (Self::start_on(&address, &tls), keys)
    }

    fn start_on(host: &str, tls: &str) -> Self {
        let data = tempfile::tempdir().unwrap();
        // Free when asked for; a test that loses the race for it says so by name.
        let port = TcpListener::bind((host, 0))
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let address = format!("{host}:{port}");
        let config = data.path().join("config.yml");
        std::fs::write(
            &config,
            format!(
                "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\nstorage:\n  filesystem: {{rootdirectory: {}}}\nhttp: {{addr: '{address}'{tls}}}\n",
                data.path().join("store").display()
            ),
        )
        .unwrap();
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("docker-registry is installed");
        let registry = Self {
            child,
            address,
            _data: data,
        };
        let deadline = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(&registry.address).is_err() {
            assert!(Instant::now() < deadline, "docker-registry did not start");
            std::thread::sleep(Duration::from_millis(20));
        }
        registry
    }

    /// Pushes with another program, in the format it is told ("oci" or "v2s2").
    pub(crate) fn push(&self, image: &Made, name: &str, format: &str, compression: &str) {
        self.push_with(
            image,
            name,
            format,
            compression,
            &["--dest-tls-verify=false".into()],
        );
    }

    /// Pushes with another program, which takes its certificates from a directory as we do.
    pub(crate) fn push_from(&self, image: &Made, name: &str, certificates: &std::path::Path) {
        let option = format!("--dest-cert-dir={}", certificates.display());
        self.push_with(image, name, "oci", "gzip", &[option]);
    }

    fn push_with(
        &self,
        image: &Made,
        name: &str,
        format: &str,
        compression: &str,
        options: &[String],
    ) {
        let archive = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(archive.path(), image.layout("docker.io/library/in:1")).unwrap();
        let output = Command::new("skopeo")
            .args(["copy", "--insecure-policy"])
            .args(options)
            .args(["--format", format, "--dest-compress-format", compression])
            .arg(format!("oci-archive:{}", archive.path().display()))
            .arg(format!("docker://{}/{name}", self.address))
            .output()
            .expect("skopeo is installed");
        assert!(output.status.success(), "{output:?}");
    }
}

impl Drop for Distribution {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A request as far as the tests look at it.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) path: String,
    pub(crate) headers: HashMap<String, String>,
    /// How many requests for this path came before.
    pub(crate) earlier: usize,
}

/// An answer.
#[derive(Clone, Default)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// Break the connection after so many bytes of the body.
    pub(crate) cut: Option<usize>,
    /// Send the body in small pieces with a pause between them.
    pub(crate) slow: bool,
    /// Say nothing any more after so many bytes, and keep the connection.
    pub(crate) stall: Option<usize>,
    /// Bytes of the body for each second.
    pub(crate) rate: Option<usize>,
    /// Size of the pieces in which they come; zero is 64 KiB.
    pub(crate) piece: usize,
}

impl Answer {
    pub(crate) fn ok(body: &[u8]) -> Self {
        Self {
            status: 200,
            body: body.to_vec(),
            ..Self::default()
        }
    }

    pub(crate) fn status(status: u16) -> Self {
        Self {
            status,
            ..Self::default()
        }
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }
}

type Handler = dyn Fn(&Asked) -> Answer + Send + Sync;

/// A server that answers what a function says.
pub(crate) struct Fake {
    pub(crate) address: String,
    pub(crate) log: Arc<Mutex<Vec<Asked>>>,
}

impl Fake {
    pub(crate) fn start(handler: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let log: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let handler: Arc<Handler> = Arc::new(handler);
        let shared = log.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                stream.set_nodelay(true).unwrap();
                let (handler, log) = (handler.clone(), shared.clone());
                std::thread::spawn(move || serve(&stream, &*handler, &log));
            }
        });
        Self { address, log }
    }

    /// An ordinary registry with one image behind every name, through which `change` may step in.
    pub(crate) fn image(
        image: &Made,
        change: impl Fn(&Asked, Answer) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let image = image.clone();
        Self::start(move |asked| {
            let answer = ordinary(&image, asked);
            change(asked, answer)
        })
    }

    pub(crate) fn count(&self, part: &str) -> usize {
        self.log
            .lock()
            .unwrap()
            .iter()
            .filter(|asked| asked.path.contains(part))
            .count()
    }
}

fn ordinary(image: &Made, asked: &Asked) -> Answer {
    if asked.path.contains("/manifests/") {
        let wanted = asked.path.rsplit('/').next().unwrap_or_default();
        let own = digest_of(&image.manifest).to_string();
        if wanted.starts_with("sha256:") && wanted != own {
            return Answer::status(404);
        }
        return Answer::ok(&image.manifest).header("Content-Type", media::OCI_MANIFEST);
    }
    let digest = asked.path.rsplit('/').next().unwrap_or_default();
    let Some(content) = berth_types::Digest::parse(digest)
        .ok()
        .and_then(|digest| image.blobs.get(&digest))
    else {
        return Answer::status(404);
    };
    let range = asked.headers.get("range").and_then(|range| {
        let (from, last) = range.strip_prefix("bytes=")?.split_once('-')?;
        let last = match last {
            "" => content.len() - 1,
            last => last.parse().ok()?,
        };
        Some((from.parse::<usize>().ok()?, last))
    });
    match range {
        Some((from, last)) => {
            let mut answer = Answer::ok(&content[from..=last]);
            answer.status = 206;
            answer.header(
                "Content-Range",
                &format!("bytes {from}-{last}/{}", content.len()),
            )
        }
        None => Answer::ok(content),
    }
}

fn serve(stream: &TcpStream, handler: &Handler, log: &Mutex<Vec<Asked>>) {
    static SERVED: AtomicUsize = AtomicUsize::new(0);
    SERVED.fetch_add(1, Ordering::Relaxed);
    let mut reader = BufReader::new(stream);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return;
        }
        // A client that begins with TLS finds out that this is none.
        let mut words = line.split_whitespace();
        let (Some("GET" | "POST"), Some(path)) = (words.next(), words.next()) else {
            return;
        };
        let path = path.to_owned();
        let mut headers = HashMap::new();
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            match line.trim_end().split_once(": ") {
                Some((name, value)) => {
                    headers.insert(name.to_ascii_lowercase(), value.to_owned());
                }
                None => break,
            }
        }
        if let Some(length) = headers
            .get("content-length")
            .and_then(|l| l.parse::<u64>().ok())
        {
            let mut body = String::new();
            let _ = (&mut reader).take(length).read_to_string(&mut body);
            headers.insert("body".into(), body);
        }
        let asked = {
            let mut log = log.lock().unwrap();
            let earlier = log.iter().filter(|asked| asked.path == path).count();
            let asked = Asked {
                path,
                headers,
                earlier,
            };
            log.push(asked.clone());
            asked
        };
        if send(stream, &handler(&asked)).is_err() {
            return;
        }
    }
}

fn send(mut stream: &TcpStream, answer: &Answer) -> std::io::Result<()> {
    let mut head = format!(
        "HTTP/1.1 {} X\r\nContent-Length: {}\r\n",
        answer.status,
        answer.body.len()
    );
    for (name, value) in &answer.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    stream.write_all(head.as_bytes())?;
    if let Some(cut) = answer.cut {
        stream.write_all(&answer.body[..cut.min(answer.body.len())])?;
        stream.shutdown(std::net::Shutdown::Both)?;
        return Err(std::io::ErrorKind::ConnectionAborted.into());
    }
    if let Some(stall) = answer.stall {
        stream.write_all(&answer.body[..stall.min(answer.body.len())])?;
        // Until the other end has had enough.
        let _ = stream.read(&mut [0]);
        return Err(std::io::ErrorKind::ConnectionAborted.into());
    }
    if let Some(rate) = answer.rate {
        let started = Instant::now();
        let size = match answer.piece {
            0 => 64 << 10,
            size => size,
        };
        for (number, piece) in answer.body.chunks(size).enumerate() {
            let due = Duration::from_secs_f64((number * size) as f64 / rate as f64);
            std::thread::sleep(due.saturating_sub(started.elapsed()));
            stream.write_all(piece)?;
        }
        return Ok(());
    }
    if answer.slow {
        for piece in answer.body.chunks(16 << 10) {
            stream.write_all(piece)?;
            std::thread::sleep(Duration::from_millis(2));
        }
        return Ok(());
    }
    stream.write_all(&answer.body)
}
