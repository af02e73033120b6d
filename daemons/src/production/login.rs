//! Who asks sites: accounts with keys of their own, and roles.

use std::path::PathBuf;
use std::sync::Arc;

use backbeat_backends::clock::WallClock;
use backbeat_backends::credentials::account::{Account, AccountFile};
use backbeat_backends::credentials::file::FileCredentials;
use backbeat_backends::credentials::renewing::Renewing;
use backbeat_backends::credentials::sts::AssumeRole;
use backbeat_backends::credentials::{CredentialSource, Credentials, CredentialsError};
use backbeat_backends::http::{self, SignedClient};
use serde::Deserialize;

use super::sites::{REGION, SOURCE_CERTIFICATES};
use super::{StartError, secrets};
use crate::config::{Auth, Config, Sts};

/// What sessions are called (replication reference 8.1).
const SESSION: &str = "backbeat-replication";

/// The credentials of a site, renewed by themselves.
#[derive(Debug)]
pub(crate) enum SiteCredentials {
    /// Those of an account, as its file has them.
    Account(FileCredentials),
    /// Those of a role.
    Role(Box<Renewing<AssumeRole>>),
}

impl CredentialSource for SiteCredentials {
    async fn current(&self) -> Result<Credentials, CredentialsError> {
        match self {
            Self::Account(source) => source.current().await,
            Self::Role(source) => source.current().await,
        }
    }

    async fn reject(&self, rejected: &Credentials) {
        match self {
            Self::Account(source) => source.reject(rejected).await,
            Self::Role(source) => source.reject(rejected).await,
        }
    }
}

/// Who asks, and how it proves that. Clones share the credentials.
#[derive(Clone, Debug)]
pub(super) struct Login {
    pub(super) account: Account,
    pub(super) credentials: Arc<SiteCredentials>,
}

/// Who `auth`, found at `key` of the configuration, speaks of (replication reference 8.1). Roles are assumed before this
/// returns, so that one that may not be is found out at the start.
pub(super) async fn login(config: &Config, key: &str, auth: &Auth) -> Result<Login, StartError> {
    let wrong = |member: &str, why: String| StartError::Configuration(format!("{key}.{member}: {why}"));
    let name = || {
        let name = auth.account.as_deref();
        name.ok_or_else(|| wrong("account", format!("missing, type {} needs it", auth.kind)))
    };
    match auth.kind.as_str() {
        "account" | "service" => {
            let (account, keys) = FileCredentials::open(account_file(config), name()?)?;
            Ok(Login { account, credentials: Arc::new(SiteCredentials::Account(keys)) })
        }
        "assumeRole" => {
            let account = AccountFile::read(&account_file(config))?.identity(name()?)?;
            let missing = |member: &str| wrong(member, "missing, type assumeRole needs it".to_owned());
            let role = auth.role_name.as_deref().ok_or_else(|| missing("roleName"))?;
            let sts = auth.sts.as_ref().ok_or_else(|| missing("sts"))?;
            let arn = format!("arn:aws:iam::{}:role/{role}", account.id);
            let role =
                Renewing::new(AssumeRole::new(client(config, key, sts)?, arn, SESSION), WallClock::system());
            role.current().await.map_err(|error| match error {
                CredentialsError::Denied(_) => StartError::Denied(format!("{key}: {error}")),
                CredentialsError::Unavailable(_) => StartError::Unavailable(format!("{key}: {error}")),
            })?;
            Ok(Login { account, credentials: Arc::new(SiteCredentials::Role(Box::new(role))) })
        }
        kind => {
            Err(wrong("type", format!("{kind} is not supported yet: use account, service or assumeRole")))
        }
    }
}

fn account_file(config: &Config) -> PathBuf {
    match std::env::var_os("S3AUTH_CONFIG") {
        Some(file) => PathBuf::from(file),
        None => secrets::beside(config, "authdata.json"),
    }
}

/// A client of the STS, with the keys of whoever may assume roles there.
fn client(config: &Config, key: &str, sts: &Sts) -> Result<SignedClient, StartError> {
    let transport = secrets::transport(config, sts.transport, SOURCE_CERTIFICATES)?;
    let endpoint = format!("{}:{}", sts.host, sts.port);
    let keys = match (&sts.access_key, &sts.secret_key, &sts.external_file) {
        (Some(access), Some(secret), None) => http::Credentials::new(access, secret),
        (None, None, Some(name)) => external(config, key, name)?,
        _ => {
            let told = format!("{key}.sts: name accessKey and secretKey, or externalFile");
            return Err(StartError::Configuration(told));
        }
    };
    Ok(SignedClient::over(&transport, endpoint, keys, REGION))
}

/// `{"accessKey","secretKey"}` in a file.
fn external(config: &Config, key: &str, name: &str) -> Result<http::Credentials, StartError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Keys {
        access_key: String,
        secret_key: String,
    }
    let file = secrets::beside(config, name);
    let wrong =
        |why: String| StartError::Configuration(format!("{key}.sts.externalFile: {} {why}", file.display()));
    let text = std::fs::read(&file).map_err(|error| wrong(format!("cannot be read: {error}")))?;
    // What the parser says may quote what is there.
    let keys: Keys = serde_json::from_slice(&text)
        .map_err(|_| wrong("holds no accessKey and secretKey in JSON".to_owned()))?;
    Ok(http::Credentials::new(keys.access_key, keys.secret_key))
}
