//! A server that speaks TLS for one that does not.

use crate::authority::{Authority, Issued};
use anyhow::Result;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use std::sync::Arc;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

/// Takes connections over TLS, and passes on what comes. It goes when it is dropped.
pub struct TlsRelay {
    address: String,
    serving: JoinHandle<()>,
}

impl TlsRelay {
    /// One in front of `address`, which says to be `own`; if `clients` is there, those alone may come that it issued
    /// certificates for.
    ///
    /// # Errors
    /// If the certificates cannot be used, or loopback has no ports.
    pub async fn to(address: &str, own: &Issued, clients: Option<&Authority>) -> Result<Self> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()?;
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(authority) => {
                let mut roots = RootCertStore::empty();
                roots.add(CertificateDer::from_pem_file(authority.file())?)?;
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build()?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let chain = vec![CertificateDer::from_pem_file(&own.certificate)?];
        let config = builder.with_single_cert(chain, PrivateKeyDer::from_pem_file(&own.key)?)?;
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let (own_address, behind) = (listener.local_addr()?.to_string(), address.to_owned());
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, behind) = (acceptor.clone(), behind.clone());
                tokio::spawn(async move {
                    // Whoever is not let in, or goes, has said so to itself.
                    let Ok(mut stream) = acceptor.accept(stream).await else { return };
                    let Ok(mut server) = TcpStream::connect(behind).await else { return };
                    drop(tokio::io::copy_bidirectional(&mut stream, &mut server).await);
                });
            }
        });
        Ok(Self { address: own_address, serving })
    }

    /// Where it listens, `host:port`.
    pub fn address(&self) -> &str {
        &self.address
    }
}

impl Drop for TlsRelay {
    fn drop(&mut self) {
        self.serving.abort();
    }
}
