//! TLS for `https` checks.

use super::probe::Question;
use ctl::config::{Config, ConfigError, Health, HealthType};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// The system's authorities, where Debian keeps them.
const SYSTEM: &str = "/etc/ssl/certs/ca-certificates.crt";
/// Most bytes of a file of authorities.
const MOST: u64 = 8 << 20;

/// How certificates are judged: by the authorities in a file, or not at all.
type Trust = Option<PathBuf>;

/// What is needed to speak TLS to backends, for each way to judge certificates.
#[derive(Debug, Clone, Default)]
pub(super) struct Clients(HashMap<Trust, Client>);

/// One side of TLS.
#[derive(Debug, Clone)]
pub(super) struct Client(Arc<ClientConfig>);

fn trust(health: &Health) -> Trust {
    (health.tls_verify == Some(true)).then(|| health.tls_ca.clone().unwrap_or_else(|| SYSTEM.into()))
}

impl Clients {
    /// For all checks of `config`; files are read anew.
    ///
    /// # Errors
    /// The keys whose files cannot be used.
    pub(super) fn of(config: &Config) -> Result<Self, Vec<ConfigError>> {
        let (mut clients, mut errors) = (HashMap::new(), Vec::new());
        for (index, service) in config.services.iter().enumerate() {
            let Some(health) = service.health.as_ref().filter(|health| health.kind == HealthType::Https)
            else {
                continue;
            };
            let trust = trust(health);
            if clients.contains_key(&trust) {
                continue;
            }
            match Client::new(trust.as_deref()) {
                Ok(client) => drop(clients.insert(trust, client)),
                Err(problem) => {
                    let key = if health.tls_ca.is_some() { "tls_ca" } else { "tls_verify" };
                    let path = format!("service[{index}].health.{key}");
                    let remedy = "name a PEM file with the certificates of the authorities that you trust";
                    errors.push(ConfigError::at(&config.origin, &path, problem, remedy));
                }
            }
        }
        if errors.is_empty() { Ok(Self(clients)) } else { Err(errors) }
    }

    pub(super) fn get(&self, health: &Health) -> Option<Client> {
        self.0.get(&trust(health)).cloned()
    }
}

impl Client {
    fn new(authorities: Option<&Path>) -> Result<Self, String> {
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| format!("TLS cannot be used: {error}"))?;
        let mut config = match authorities {
            Some(path) => builder.with_root_certificates(roots(path)?),
            None => builder.dangerous().with_custom_certificate_verifier(Anybody::of(&provider)),
        }
        .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        // Each check shakes hands anew: that is part of what it checks.
        config.resumption = rustls::client::Resumption::disabled();
        Ok(Self(Arc::new(config)))
    }

    /// Shakes hands over `stream`.
    pub(super) async fn connect<S>(&self, stream: S, question: &Question) -> Result<TlsStream<S>, String>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let name = server_name(question)?;
        TlsConnector::from(Arc::clone(&self.0)).connect(name, stream).await.map_err(|error| {
            // The library's own words are behind the error of the stream.
            let cause = error.get_ref().map_or_else(|| error.to_string(), ToString::to_string);
            format!("TLS: {cause}")
        })
    }
}

/// The name to ask for: the one configured, that of the Host header, or the address.
fn server_name(question: &Question) -> Result<ServerName<'static>, String> {
    let health = &question.health;
    let host = health.host.as_deref().map(|host| match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    });
    let Some(name) = health.tls_name.as_deref().or(host) else {
        return Ok(ServerName::IpAddress(question.remote.into()));
    };
    let plain = name.trim_start_matches('[').trim_end_matches(']');
    ServerName::try_from(plain.to_owned()).map_err(|_| format!("{name:?} is not a server name"))
}

fn roots(path: &Path) -> Result<RootCertStore, String> {
    let shown = path.display();
    let unreadable = |error: &dyn std::fmt::Display| format!("{shown} cannot be read: {error}");
    let length = std::fs::metadata(path).map_err(|error| unreadable(&error))?.len();
    if length > MOST {
        return Err(format!("{shown} has {length} bytes, more than authorities need"));
    }
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(|error| unreadable(&error))? {
        // A bundle may hold one that the library does not take; those that are left are trusted.
        let certificate = certificate.map_err(|error| unreadable(&error))?;
        if let Err(error) = roots.add(certificate) {
            tracing::debug!("{shown}: a certificate is left out: {error}");
        }
    }
    if roots.is_empty() { Err(format!("{shown} holds no certificate")) } else { Ok(roots) }
}

/// Takes any certificate from anybody: without a name to be sure of, the rest proves nothing.
#[derive(Debug)]
struct Anybody(WebPkiSupportedAlgorithms);

impl Anybody {
    fn of(provider: &CryptoProvider) -> Arc<Self> {
        Arc::new(Self(provider.signature_verification_algorithms))
    }
}

impl ServerCertVerifier for Anybody {
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
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}
