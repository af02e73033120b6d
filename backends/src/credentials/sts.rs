//! Roles: temporary credentials from an STS (wire reference 8.2).

use std::fmt;
use std::time::Duration;

use backbeat_core::time::WallTime;
use http::Response;

use super::renewing::Issuer;
use super::{Credentials, CredentialsError, Secret};
use crate::http::{Request, SignedClient};
use crate::query;
use crate::timestamp::parse_iso;
use crate::xml;

/// How long an answer may take.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(10);
const ANSWER_BYTES_MAX: usize = 1 << 20;
/// How long credentials are asked to live, seconds (replication reference 8.1).
const LIFE_SECS: u32 = 3_600;

/// Assumes a role at an STS.
pub struct AssumeRole {
    client: SignedClient,
    role: String,
    session: String,
}

impl AssumeRole {
    /// The role with the ARN `role`, for sessions called `session`. `client` signs for the STS with the keys of whoever may
    /// assume it.
    pub fn new(client: SignedClient, role: impl Into<String>, session: impl Into<String>) -> Self {
        Self { client: client.for_service("sts"), role: role.into(), session: session.into() }
    }

    fn unavailable(&self, why: impl fmt::Display) -> CredentialsError {
        CredentialsError::Unavailable(format!("role {} at {}: {why}", self.role, self.client.endpoint()))
    }

    /// What an answer other than 200 says.
    fn refused(&self, answer: &Response<bytes::Bytes>) -> CredentialsError {
        let code = query::error(answer.body()).code;
        let is_passing = query::may_pass(answer.status(), code.as_deref());
        let told = code.unwrap_or_else(|| answer.status().to_string());
        if is_passing {
            return self.unavailable(told);
        }
        CredentialsError::Denied(format!(
            "role {} at {}: {told}; look at its name, its trust policy and the keys of the STS",
            self.role,
            self.client.endpoint()
        ))
    }
}

impl fmt::Debug for AssumeRole {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("AssumeRole").field("role", &self.role).finish_non_exhaustive()
    }
}

/// The credentials in the answer of an STS.
fn credentials(document: &[u8]) -> Option<Credentials> {
    let elements = xml::elements(document)?;
    let text = |name: &str| {
        let path = format!("AssumeRoleResponse/AssumeRoleResult/Credentials/{name}");
        elements.iter().find(|(found, _)| *found == path).map(|(_, text)| text.trim().to_owned())
    };
    let expires = parse_iso(&text("Expiration")?)?;
    Some(Credentials {
        access_key: text("AccessKeyId")?,
        secret_key: Secret::new(text("SecretAccessKey")?),
        session_token: Some(Secret::new(text("SessionToken")?)),
        expires: Some(WallTime::from_millis(i64::try_from(expires).ok()?)),
    })
}

impl Issuer for AssumeRole {
    async fn issue(&self) -> Result<Credentials, CredentialsError> {
        let life = LIFE_SECS.to_string();
        let members = [
            ("Action", "AssumeRole"),
            ("Version", "2011-06-15"),
            ("RoleArn", &self.role),
            ("RoleSessionName", &self.session),
            ("DurationSeconds", &life),
        ];
        let request = Request::form("/", &members);
        let answer = self
            .client
            .fetch(request, ANSWER_TIME_MAX, ANSWER_BYTES_MAX)
            .await
            .map_err(|error| self.unavailable(error))?;
        if !answer.status().is_success() {
            return Err(self.refused(&answer));
        }
        credentials(answer.body()).ok_or_else(|| self.unavailable("the answer holds no credentials"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    const ANSWER: &str = r"<AssumeRoleResponse><AssumeRoleResult>
        <Credentials><SessionToken>the-token</SessionToken><SecretAccessKey>hush-hush</SecretAccessKey>
        <Expiration>2026-11-20T16:26:14.965Z</Expiration><AccessKeyId>ASIA1</AccessKeyId></Credentials>
        <AssumedRoleUser><Arn>arn:x</Arn></AssumedRoleUser></AssumeRoleResult></AssumeRoleResponse>";

    #[test]
    fn credentials_are_read_in_any_order_of_members() {
        let found = credentials(ANSWER.as_bytes()).expect("they are there");
        assert_eq!(found.access_key, "ASIA1");
        assert_eq!(found.session_token, Some(Secret::new("the-token")));
        assert_eq!(found.expires, Some(WallTime::from_millis(1_795_191_974_965)));
        assert!(!format!("{found:?}").contains("hush"));
        assert_eq!(credentials(b"<AssumeRoleResponse/>"), None);
    }

    #[test]
    fn what_may_pass_is_told_apart_from_what_may_not() {
        let keys = crate::http::Credentials::new("key", "secret");
        let role = AssumeRole::new(SignedClient::new("sts:80", keys, "us-east-1"), "arn:role", "session");
        let refused = |status: u16, code: &str| {
            let body = format!("<ErrorResponse><Error><Code>{code}</Code></Error></ErrorResponse>");
            let answer = Response::builder().status(status).body(Bytes::from(body)).expect("an answer");
            role.refused(&answer)
        };
        assert!(
            matches!(refused(403, "AccessDenied"), CredentialsError::Denied(told) if told.contains("AccessDenied"))
        );
        assert!(matches!(refused(404, "NoSuchEntity"), CredentialsError::Denied(_)));
        assert!(matches!(refused(500, "InternalError"), CredentialsError::Unavailable(_)));
        assert!(matches!(refused(400, "Throttling"), CredentialsError::Unavailable(_)));
        let silent = Response::builder().status(503).body(Bytes::new()).expect("an answer");
        assert!(matches!(role.refused(&silent), CredentialsError::Unavailable(told) if told.contains("503")));
    }
}
