//! Connections: name resolution, proxies, TLS.
//!
//! Owns: the HTTP clients: one that verifies certificates, one for registries that the owner calls insecure, and
//! one for each registry that has certificates of its own. They are made on first use, since certificate stores
//! cost memory that an idle engine need not pay.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::Uri;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::proxy::{SocksV5, Tunnel};
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio::net::TcpStream;

use super::certificates::{self, HostCertificates, Stamp};
use super::endpoint::host_of;
use crate::error::{ImageError, Result};
use crate::limits;
use crate::settings::RegistrySettings;

pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

/// The body of a request: bytes at hand, or a stream of them.
pub(crate) type Outgoing = UnsyncBoxBody<Bytes, Failure>;

/// A client for requests.
pub(crate) type HttpClient = Client<HttpsConnector<Dial>, Outgoing>;

/// Makes TCP connections, through a proxy where the settings say so.
#[derive(Clone)]
pub(crate) struct Dial {
    tcp: HttpConnector,
    proxies: Arc<Proxies>,
}

/// Which proxy, if any, a request goes through.
pub(crate) struct Proxies(Matcher);

impl Proxies {
    /// As in Go, what runs on this machine is never behind a proxy.
    fn intercept(&self, destination: &Uri) -> Option<Intercept> {
        let host = host_of(destination.authority()?.as_str());
        let loopback = host
            .parse::<IpAddr>()
            .map_or(host == "localhost", |address| address.is_loopback());
        if loopback {
            return None;
        }
        self.0.intercept(destination)
    }
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
            match proxy.scheme_str() {
                Some("http") => {}
                Some(scheme @ ("socks5" | "socks5h")) => {
                    // The last letter says who resolves names.
                    let by_us = scheme == "socks5";
                    let mut socks = SocksV5::new(proxy, tcp).local_dns(by_us);
                    if let Some((user, password)) = intercept.raw_auth() {
                        socks = socks.with_auth(user.to_owned(), password.to_owned());
                    }
                    return Ok(Dialed {
                        stream: socks.call(destination).await?,
                        proxied: false,
                    });
                }
                _ => {
                    return Err(format!(
                        "the proxy {} is reached by neither http:// nor socks5://",
                        proxy.authority().map_or("", |authority| authority.as_str())
                    )
                    .into());
                }
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
    proxies: Arc<Proxies>,
    roots: OnceLock<RootCertStore>,
    verifying: OnceLock<HttpClient>,
    trusting: OnceLock<HttpClient>,
    /// Of registries with certificates of their own, by host and port; as many as the owner made directories.
    own: Mutex<HashMap<String, (Stamp, HttpClient)>>,
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
            proxies: Arc::new(Proxies(proxies)),
            roots: OnceLock::new(),
            verifying: OnceLock::new(),
            trusting: OnceLock::new(),
            own: Mutex::default(),
        }
    }

    /// The value of `Proxy-Authorization` for a plain request that goes to a proxy.
    pub(crate) fn proxy_credentials(&self, destination: &Uri) -> Option<http::HeaderValue> {
        if destination.scheme_str() != Some("http") {
            return None;
        }
        self.proxies.intercept(destination)?.basic_auth().cloned()
    }

    /// The client for this host and port; with `trusting`, one that takes every certificate.
    pub(crate) fn for_host(&self, authority: &str, trusting: bool) -> Result<HttpClient> {
        let stamp = Stamp::of(&self.settings.certificate_directories, authority)?;
        if !stamp.is_empty() {
            return self.with_own(authority, stamp, trusting);
        }
        let shared = if trusting {
            &self.trusting
        } else {
            &self.verifying
        };
        if let Some(client) = shared.get() {
            return Ok(client.clone());
        }
        let config = self.config(HostCertificates::default(), trusting)?;
        Ok(shared.get_or_init(|| self.client(config)).clone())
    }

    fn with_own(&self, authority: &str, stamp: Stamp, trusting: bool) -> Result<HttpClient> {
        let own = || self.own.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, client)) = own().get(authority)
            && *known == stamp
        {
            return Ok(client.clone());
        }
        let client = self.client(self.config(stamp.read()?, trusting)?);
        own().insert(authority.to_owned(), (stamp, client.clone()));
        Ok(client)
    }

    fn config(&self, own: HostCertificates, trusting: bool) -> Result<ClientConfig> {
        let bad = |error: rustls::Error| ImageError::Setting {
            setting: "a registry's certificates".into(),
            reason: error.to_string(),
        };
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(bad)?;
        let builder = if trusting {
            builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider())))
        } else {
            let mut roots = self.roots()?;
            for certificate in own.authorities {
                roots.add(certificate).map_err(bad)?;
            }
            builder.with_root_certificates(roots)
        };
        match own.client {
            Some((chain, key)) => builder.with_client_auth_cert(chain, key).map_err(bad),
            None => Ok(builder.with_no_client_auth()),
        }
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
            .pool_max_idle_per_host(
                self.settings
                    .concurrent_downloads
                    .max(self.settings.concurrent_uploads)
                    + 1,
            )
            .pool_timer(hyper_util::rt::TokioTimer::new())
            .build(connector)
    }

    /// The authorities of the host, the built-in ones when the host has none, and those of the settings.
    fn roots(&self) -> Result<RootCertStore> {
        if let Some(roots) = self.roots.get() {
            return Ok(roots.clone());
        }
        let mut roots = RootCertStore::empty();
        let native = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(native.certs);
        if roots.is_empty() {
            roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        }
        for path in &self.settings.certificate_files {
            for certificate in certificates::certificates(path)? {
                roots
                    .add(certificate)
                    .map_err(|error| certificates::bad(path, &error.to_string()))?;
            }
        }
        Ok(self.roots.get_or_init(|| roots).clone())
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
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
