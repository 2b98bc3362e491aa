//! Connections: TCP or the way through a proxy ([`super::proxy`]), and TLS.
//!
//! Owns: the HTTP clients: one that verifies certificates, one for registries that the owner calls insecure, and
//! one for each registry that has certificates of its own. They are made on first use, since certificate stores
//! cost memory that an idle engine need not pay.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::PROXY_AUTHORIZATION;
use http::{Request, Response, StatusCode, Uri};
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Incoming;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::rt::TokioExecutor;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tower_service::Service;

use super::certificates::{self, HostCertificates, Stamp};
use super::failure::RequestFailure;
use super::proxy::{Dials, Link, Proxies, Proxy};
use crate::error::{ImageError, Result};
use crate::limits;
use crate::settings::RegistrySettings;

pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

/// The body of a request: bytes at hand, or a stream of them.
pub(crate) type Outgoing = UnsyncBoxBody<Bytes, Failure>;

/// A client for requests.
pub(crate) type HttpClient = Client<HttpsConnector<Dial>, Outgoing>;

/// Makes connections, through a proxy where the settings say so.
#[derive(Clone)]
pub(crate) struct Dial {
    dials: Dials,
    proxies: Arc<Proxies>,
}

/// A connection that knows whether a proxy answers at its other end.
pub(crate) struct Dialed {
    stream: Link,
    proxied: bool,
}

impl Service<Uri> for Dial {
    type Response = Dialed;
    type Error = Failure;
    type Future = Pin<Box<dyn Future<Output = Result<Dialed, Failure>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        self.dials.tcp.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, destination: Uri) -> Self::Future {
        let mut dials = self.dials.clone();
        let proxy = self.proxies.choose(&destination);
        Box::pin(async move {
            let (stream, proxied) = match proxy {
                Some(proxy) => proxy.open(&destination, dials).await?,
                None => {
                    let stream = dials.tcp.call(destination).await?;
                    (Link::Http(stream), false)
                }
            };
            Ok(Dialed { stream, proxied })
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
        Self {
            settings: settings.clone(),
            proxies: Arc::new(Proxies::new(settings)),
            roots: OnceLock::new(),
            verifying: OnceLock::new(),
            trusting: OnceLock::new(),
            own: Mutex::default(),
        }
    }

    /// Sends a request and waits for the head of the answer; with `trusting`, every certificate is taken.
    pub(crate) async fn send(
        &self,
        mut request: Request<Outgoing>,
        trusting: bool,
        words: &str,
    ) -> Result<Response<Incoming>> {
        let failed = |source: Failure| ImageError::Transport {
            attempt: words.to_owned(),
            source,
        };
        let uri = request.uri();
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        let client = self.for_host(authority, trusting)?;
        // A plain request is handed to the proxy, which then is who answers first.
        let proxy = match uri.scheme_str() {
            Some("http") => self.proxies.choose(uri),
            _ => None,
        };
        if let Some(credentials) = proxy.as_ref().and_then(Proxy::credentials) {
            let credentials = credentials.clone();
            request
                .headers_mut()
                .insert(PROXY_AUTHORIZATION, credentials);
        }
        let sent = client.request(request).await;
        let response = sent.map_err(|error| failed(RequestFailure::from(error).into()))?;
        match proxy {
            Some(proxy) if response.status() == StatusCode::PROXY_AUTHENTICATION_REQUIRED => {
                Err(failed(proxy.wants_credentials().into()))
            }
            _ => Ok(response),
        }
    }

    /// The client for this host and port; with `trusting`, one that takes every certificate.
    fn for_host(&self, authority: &str, trusting: bool) -> Result<HttpClient> {
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
        let client = self.client(config)?;
        Ok(shared.get_or_init(|| client).clone())
    }

    fn with_own(&self, authority: &str, stamp: Stamp, trusting: bool) -> Result<HttpClient> {
        let own = || self.own.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, client)) = own().get(authority)
            && *known == stamp
        {
            return Ok(client.clone());
        }
        let client = self.client(self.config(stamp.read()?, trusting)?)?;
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

    fn client(&self, config: ClientConfig) -> Result<HttpClient> {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_connect_timeout(Some(limits::CONNECT_TIMEOUT));
        tcp.set_nodelay(true);
        let to_proxies = if self.proxies.has_tls() {
            // What one registry may show or wants to see says nothing about a proxy.
            let config = self.config(HostCertificates::default(), false)?;
            Some(over_tls(config, tcp.clone()))
        } else {
            None
        };
        let dial = Dial {
            dials: Dials {
                tcp,
                tls: to_proxies,
            },
            proxies: self.proxies.clone(),
        };
        let connector = over_tls(config, dial);
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(std::time::Duration::from_secs(15))
            .pool_max_idle_per_host(
                self.settings
                    .concurrent_downloads
                    .max(self.settings.concurrent_uploads)
                    + 1,
            )
            .pool_timer(hyper_util::rt::TokioTimer::new())
            .build(connector);
        Ok(client)
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

/// TLS above the connections of `below`, where an address asks for it.
fn over_tls<C>(config: ClientConfig, below: C) -> HttpsConnector<C> {
    HttpsConnectorBuilder::new()
        .with_tls_config(config)
        .https_or_http()
        .enable_http1()
        .wrap_connector(below)
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
