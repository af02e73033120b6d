//! What is in the files, checked and ready for use by clients.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::client::WebPkiServerVerifier;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{AlertDescription, ClientConfig, RootCertStore};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::TlsFiles;

/// How long a server that is asked what it misses may take.
const ASK_TIME_MAX: Duration = Duration::from_secs(2);

/// Why files of certificates and keys cannot be used. No message holds what is in them.
#[derive(Debug, thiserror::Error)]
#[error("{}: {reason}", .file.as_deref().map_or_else(|| "authorities of this system".into(), Path::to_string_lossy))]
pub struct TlsError {
    file: Option<PathBuf>,
    reason: String,
}

/// Whom to believe and who we are, as clients need it. Clones share it.
#[derive(Clone)]
pub struct Tls(Arc<Parts>);

struct Parts {
    config: Arc<ClientConfig>,
    authorities: Option<String>,
    identity: Option<Identity>,
}

/// A certificate and its key as texts, for clients that read them by themselves.
#[derive(Clone)]
pub(crate) struct Identity {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Tls {
    /// Reads the files, and checks that a certificate and its key go together.
    ///
    /// # Errors
    /// [`TlsError`], which names the file.
    pub fn read(files: &TlsFiles) -> Result<Self, TlsError> {
        let mut roots = RootCertStore::empty();
        let mut authorities = None;
        if let Some(file) = &files.authorities {
            let (text, certificates) = certificates(file)?;
            for certificate in certificates {
                roots.add(certificate).map_err(|error| wrong(file, error.to_string()))?;
            }
            authorities = Some(text);
        } else {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
        let none = || TlsError { file: None, reason: "there are none: name a file with some".to_owned() };
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .build()
            .map_err(|_| none())?;
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|_| none())?
            .with_webpki_verifier(verifier);
        let mut own = None;
        let config = match &files.identity {
            None => builder.with_no_client_auth(),
            Some(identity) => {
                let (certificate, chain) = certificates(&identity.certificate)?;
                let text = text_of(&identity.key)?;
                let key = PrivateKeyDer::from_pem_slice(text.as_bytes())
                    .map_err(|_| wrong(&identity.key, "holds no private key that can be read".to_owned()))?;
                own = Some(Identity { certificate, key: text });
                builder.with_client_auth_cert(chain, key).map_err(|error| {
                    let file = identity.certificate.display();
                    wrong(&identity.key, format!("does not go with the certificate in {file}: {error}"))
                })?
            }
        };
        Ok(Self(Arc::new(Parts { config: Arc::new(config), authorities, identity: own })))
    }

    pub(crate) fn config(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.0.config)
    }

    /// The text of the authorities; none: those of this system.
    #[cfg(any(feature = "redis", feature = "zookeeper"))]
    pub(crate) fn authorities(&self) -> Option<&str> {
        self.0.authorities.as_deref()
    }

    #[cfg(any(feature = "redis", feature = "zookeeper"))]
    pub(crate) fn identity(&self) -> Option<&Identity> {
        self.0.identity.as_ref()
    }

    /// Why the server at `address`, `host:port`, and we do not trust each other, if that is so. For clients that do not tell.
    #[cfg(feature = "zookeeper")]
    pub(crate) async fn distrust_at(&self, address: &str) -> Option<String> {
        let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
        let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned()).ok()?;
        let ask = async {
            let stream = TcpStream::connect(address).await.ok()?;
            let mut stream = match TlsConnector::from(self.config()).connect(name, stream).await {
                Ok(stream) => stream,
                Err(error) => return distrust(&error),
            };
            // What it misses of us it may say only now.
            stream.read_u8().await.err().and_then(|error| distrust(&error))
        };
        tokio::time::timeout(ASK_TIME_MAX, ask).await.ok().flatten()
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Tls")
            .field("own_authorities", &self.0.authorities.is_some())
            .field("has_identity", &self.0.identity.is_some())
            .finish_non_exhaustive()
    }
}

fn wrong(file: &Path, reason: String) -> TlsError {
    TlsError { file: Some(file.to_owned()), reason }
}

fn text_of(file: &Path) -> Result<String, TlsError> {
    std::fs::read_to_string(file).map_err(|error| wrong(file, format!("cannot be read: {error}")))
}

fn certificates(file: &Path) -> Result<(String, Vec<CertificateDer<'static>>), TlsError> {
    let text = text_of(file)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
    let found = found.map_err(|error| wrong(file, format!("not PEM: {error}")))?;
    if found.is_empty() {
        return Err(wrong(file, "holds no certificate".to_owned()));
    }
    Ok((text, found))
}

/// Whether a certificate could have been made for it: a name or an address.
#[cfg(feature = "zookeeper")]
pub(crate) fn is_server_name(host: &str) -> bool {
    ServerName::try_from(host).is_ok()
}

/// What of TLS an error was about, if it was: `error` or something that caused it.
pub(crate) fn distrust(error: &(dyn Error + 'static)) -> Option<String> {
    tls_error(error).map(ToString::to_string)
}

/// The same, if the server said so before it looked at anything that it was sent.
pub(crate) fn refusal_of_identity(error: &(dyn Error + 'static)) -> Option<String> {
    let tls = tls_error(error)?;
    let is_refusal = matches!(tls, rustls::Error::AlertReceived(alert) if is_about_identity(*alert));
    is_refusal.then(|| tls.to_string())
}

fn tls_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        // What is wrapped so is not named as a cause.
        let shared =
            error.downcast_ref::<Arc<dyn Error + Send + Sync>>().map(|shared| &**shared as &dyn Error);
        let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        next = shared.or_else(|| wrapped.map(|wrapped| wrapped as &dyn Error)).or_else(|| error.source());
    }
    None
}

fn is_about_identity(alert: AlertDescription) -> bool {
    matches!(
        alert,
        AlertDescription::CertificateRequired
            | AlertDescription::NoCertificate
            | AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied
            | AlertDescription::HandshakeFailure
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrapped_in_other_errors_is_found() {
        let expired = || io::Error::other(rustls::Error::AlertReceived(AlertDescription::CertificateExpired));
        let shared: Arc<dyn Error + Send + Sync> = Arc::new(expired());
        for error in [&expired() as &(dyn Error + 'static), &io::Error::other(expired()), &shared] {
            assert!(distrust(error).is_some_and(|told| told.contains("CertificateExpired")), "{error}");
            assert!(refusal_of_identity(error).is_some());
        }
        let broken = io::Error::other(rustls::Error::AlertReceived(AlertDescription::InternalError));
        assert!(refusal_of_identity(&broken).is_none(), "it may have come to something");
        assert_eq!(distrust(&io::Error::from(io::ErrorKind::BrokenPipe)), None);
    }

    #[test]
    fn files_that_cannot_be_used_are_named_without_what_is_in_them() {
        let folder = tempfile::tempdir().expect("a directory");
        let file = folder.path().join("ca.pem");
        let read = || Tls::read(&TlsFiles { authorities: Some(file.clone()), identity: None });
        let told = || read().expect_err("it is of no use").to_string();
        assert!(told().contains("ca.pem: cannot be read"), "{}", told());
        std::fs::write(&file, "hush").expect("written");
        assert!(told().ends_with("ca.pem: holds no certificate"), "{}", told());
        std::fs::write(&file, "-----BEGIN CERTIFICATE-----\naHVzaA==\n-----END CERTIFICATE-----\n")
            .expect("written");
        assert!(told().contains("ca.pem: ") && !told().contains("hush"), "{}", told());
    }
}
