//! The credentials port: the keys that requests are signed with, and their renewal.

pub mod account;
#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
pub mod file;
pub mod memory;
pub mod profile;
pub mod renewing;
pub mod sts;

use std::fmt;
use std::future::Future;

use backbeat_core::time::WallTime;

/// A text that is never shown: `Debug` gives its place holder, and there is no `Display`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Hides a text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text, for signing.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<secret>")
    }
}

/// Keys to sign with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// The access key id.
    pub access_key: String,
    /// The secret key.
    pub secret_key: Secret,
    /// The token that goes with temporary keys.
    pub session_token: Option<Secret>,
    /// When temporary keys end.
    pub expires: Option<WallTime>,
}

impl Credentials {
    /// Keys that do not expire.
    pub fn lasting(access_key: impl Into<String>, secret_key: impl Into<String>) -> Self {
        Self {
            access_key: access_key.into(),
            secret_key: Secret::new(secret_key),
            session_token: None,
            expires: None,
        }
    }
}

impl From<&Credentials> for crate::http::Credentials {
    fn from(credentials: &Credentials) -> Self {
        Self {
            access_key: credentials.access_key.clone(),
            secret_key: credentials.secret_key.expose().to_owned(),
            session_token: credentials.session_token.as_ref().map(|token| token.expose().to_owned()),
        }
    }
}

/// Why there are no credentials.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CredentialsError {
    /// They were refused for good: a role that does not exist or may not be assumed, an account that is not configured.
    #[error("no credentials: {0}")]
    Denied(String),
    /// They could not be fetched now; trying again may help.
    #[error("credentials could not be fetched: {0}")]
    Unavailable(String),
}

/// Gives the credentials of one role or account.
pub trait CredentialSource: Send + Sync + 'static {
    /// Credentials valid now, renewed ahead of their expiry. Concurrent callers share one renewal.
    fn current(&self) -> impl Future<Output = Result<Credentials, CredentialsError>> + Send;

    /// Says that the server called `rejected` expired: the next [`CredentialSource::current`] does not give them again,
    /// unless they are all there is. Ignored if they were replaced already.
    fn reject(&self, rejected: &Credentials) -> impl Future<Output = ()> + Send;
}
