//! Protected connections: whom to believe, and who we are.

#[cfg(feature = "tls")]
mod client;

use std::path::PathBuf;

#[cfg(feature = "zookeeper")]
pub(crate) use client::is_server_name;
#[cfg(feature = "tls")]
pub use client::{Tls, TlsError};
#[cfg(feature = "tls")]
pub(crate) use client::{distrust, refusal_of_identity};

/// The files of protected connections, PEM all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// Certificates of authorities; those that this system believes if absent.
    pub authorities: Option<PathBuf>,
    /// Who we are, for servers that ask.
    pub identity: Option<IdentityFiles>,
}

/// A certificate and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityFiles {
    /// The certificate, and after it those that it was issued with.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}
