//! Connections: name resolution, proxies, TLS.
//!
//! Owns: the two HTTP clients, one that verifies certificates and one for registries that the owner calls
//! insecure. They are made on first use, since certificate stores cost memory that an idle engine need not pay.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::Uri;
use http_body_util::Full;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::client::proxy::matcher::Matcher;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio::net::TcpStream;

use crate::error::{ImageError, Result};
use crate::limits;
use crate::settings::RegistrySettings;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// A client for requests with a small body or none.
pub(crate) type HttpClient = Client<HttpsConnector<Dial>, Full<Bytes>>;

/// Makes TCP connections, through a proxy where the settings say so.
#[derive(Clone)]
pub(crate) struct Dial {
    tcp: HttpConnector,
    proxies: Arc<Matcher>,
}

/// A connection that knows whether a proxy answers at its other end.
pub(crate) struct Dialed {
    stream: TokioIo<TcpStream>,
    proxied: bool,
}

impl tower_service::Service<Uri> for Dial {
    type Response = Dialed;
    type Error = Failure;
    type Future = Pin<Box<dyn Future<Output = Result<Dialed, Failure>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        self.tcp.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, destination: Uri) -> Self::Future {
        let mut tcp = self.tcp.clone();
        let intercept = self.proxies.intercept(&destination);
        Box::pin(async move {
            let Some(intercept) = intercept else {
                return Ok(Dialed {
                    stream: tcp.call(destination).await?,
                    proxied: false,
                });
            };
            let proxy = intercept.uri().clone();
            if proxy.scheme_str() != Some("http") {
                return Err(format!("the proxy {proxy} is not reached by http://").into());
            }
            if destination.scheme_str() == Some("https") {
                let mut tunnel = Tunnel::new(proxy, tcp);
                if let Some(credentials) = intercept.basic_auth() {
                    tunnel = tunnel.with_auth(credentials.clone());
                }
                return Ok(Dialed {
                    stream: tunnel.call(destination).await?,
                    proxied: false,
                });
            }
            Ok(Dialed {
                stream: tcp.call(proxy).await?,
                proxied: true,
            })
        })
    }
}

impl Connection for Dialed {
    fn connected(&self) -> Connected {
        Connected::new().proxy(self.proxied)
    }
}

impl Read for Dialed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl Write for Dialed {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// The clients of a store.
pub(crate) struct Clients {
    settings: RegistrySettings,
    proxies: Arc<Matcher>,
    verifying: OnceLock<HttpClient>,
    trusting: OnceLock<HttpClient>,
}

impl std::fmt::Debug for Clients {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Clients")
    }
}

impl Clients {
    pub(crate) fn new(settings: &RegistrySettings) -> Self {
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        let proxies = Matcher::builder()
            .http(text(&settings.http_proxy))
            .https(text(&settings.https_proxy))
            .no(text(&settings.no_proxy))
            .build();
        Self {
            settings: settings.clone(),
            proxies: Arc::new(proxies),
            verifying: OnceLock::new(),
            trusting: OnceLock::new(),
        }
    }

    /// The value of `Proxy-Authorization` for a plain request that goes to a proxy.
    pub(crate) fn proxy_credentials(&self, destination: &Uri) -> Option<http::HeaderValue> {
        if destination.scheme_str() != Some("http") {
            return None;
        }
        self.proxies.intercept(destination)?.basic_auth().cloned()
    }

    pub(crate) fn verifying(&self) -> Result<&HttpClient> {
        if let Some(client) = self.verifying.get() {
            return Ok(client);
        }
        let roots = self.roots()?;
        let config = tls()?.with_root_certificates(roots).with_no_client_auth();
        Ok(self.verifying.get_or_init(|| self.client(config)))
    }

    pub(crate) fn trusting(&self) -> Result<&HttpClient> {
        if let Some(client) = self.trusting.get() {
            return Ok(client);
        }
        let verifier = Arc::new(AnyCertificate(provider()));
        let config = tls()?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth();
        Ok(self.trusting.get_or_init(|| self.client(config)))
    }

    fn client(&self, config: ClientConfig) -> HttpClient {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_connect_timeout(Some(limits::CONNECT_TIMEOUT));
        tcp.set_nodelay(true);
        let dial = Dial {
            tcp,
            proxies: self.proxies.clone(),
        };
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(config)
            .https_or_http()
            .enable_http1()
            .wrap_connector(dial);
        Client::builder(TokioExecutor::new())
            .pool_idle_timeout(std::time::Duration::from_secs(15))
            .pool_max_idle_per_host(self.settings.concurrent_downloads + 1)
            .pool_timer(hyper_util::rt::TokioTimer::new())
            .build(connector)
    }

    /// The authorities of the host, the built-in ones when the host has none, and those of the settings.
    fn roots(&self) -> Result<RootCertStore> {
        let mut roots = RootCertStore::empty();
        let native = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(native.certs);
        if roots.is_empty() {
            roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        }
        for path in &self.settings.certificate_files {
            let bad = |reason: String| ImageError::Setting {
                setting: format!("certificate file {}", path.display()),
                reason,
            };
            let certificates = CertificateDer::pem_file_iter(path)
                .and_then(Iterator::collect::<Result<Vec<_>, _>>)
                .map_err(|error| bad(error.to_string()))?;
            if certificates.is_empty() {
                return Err(bad("it contains no certificate".into()));
            }
            for certificate in certificates {
                roots
                    .add(certificate)
                    .map_err(|error| bad(error.to_string()))?;
            }
        }
        Ok(roots)
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn tls() -> Result<rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>> {
    ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| ImageError::Setting {
            setting: "TLS".into(),
            reason: error.to_string(),
        })
}

/// Takes every certificate: only for registries that the owner declared insecure. Digests still decide
/// whether content is taken.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
