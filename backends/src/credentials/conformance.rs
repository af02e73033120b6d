//! The contract of the credentials port as code: every adapter passes these cases.

use super::CredentialSource;

/// Stamps out the suite for one adapter; the harness is the source itself.
#[macro_export]
macro_rules! credentials_conformance {
    ($adapter:ident, $harness:expr) => {
        $crate::conformance_cases! { $adapter, $harness, credentials;
            credentials_stay_the_same_while_they_are_good,
            there_are_credentials_after_a_rejection,
            secrets_are_not_shown,
        }
    };
}

/// No needless renewals.
pub async fn credentials_stay_the_same_while_they_are_good(source: &impl CredentialSource) {
    let (one, two) = tokio::join!(source.current(), source.current());
    assert_eq!(one.expect("there are credentials"), two.expect("there are credentials"));
}

/// A rejection replaces temporary credentials and leaves lasting ones.
pub async fn there_are_credentials_after_a_rejection(source: &impl CredentialSource) {
    let rejected = source.current().await.expect("there are credentials");
    source.reject(&rejected).await;
    let next = source.current().await.expect("there are credentials");
    assert_eq!(next == rejected, rejected.expires.is_none());
    source.reject(&rejected).await;
    assert_eq!(
        source.current().await.expect("there are credentials"),
        next,
        "rejecting twice changes nothing"
    );
}

/// Logging a request shows no secret.
pub async fn secrets_are_not_shown(source: &impl CredentialSource) {
    let credentials = source.current().await.expect("there are credentials");
    let shown = format!("{credentials:?}");
    assert!(!shown.contains(credentials.secret_key.expose()), "{shown}");
    if let Some(token) = &credentials.session_token {
        assert!(!shown.contains(token.expose()), "{shown}");
    }
}
