//! Signatures of AWS Signature Version 4 for requests that are made by the thousand a second: the key of a day is derived once, and
//! what is signed is put together in one text out of what the request was built of.
//!
//! The cryptography is the library's, which is also what the tests compare with. Deriving the key and parsing the request again for
//! each signature were more than half of what one cost.

use super::client::{Credentials, percent_encode};
use crate::timestamp;
use aws_sigv4::sign::v4::{calculate_signature, generate_signing_key};
use http::header::{AUTHORIZATION, HOST};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use s3s::crypto::{Checksum as _, Sha256};
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const DATE: HeaderName = HeaderName::from_static("x-amz-date");
const DIGEST: HeaderName = HeaderName::from_static("x-amz-content-sha256");
const TOKEN: HeaderName = HeaderName::from_static("x-amz-security-token");
const DAY: Duration = Duration::from_hours(24);

/// What the signature says about the body.
#[derive(Clone, Copy)]
pub(super) enum Payload<'a> {
    /// Nothing: it may still be streaming.
    Unsigned,
    /// Its digest.
    Whole(&'a [u8]),
}

/// What is signed besides the headers. Path and query are encoded.
pub(super) struct Signable<'a> {
    pub(super) method: &'a Method,
    pub(super) path: &'a str,
    pub(super) query: Vec<(String, String)>,
    pub(super) payload: Payload<'a>,
}

/// Signs for one service in one region, in anybody's name. Clones share the key that was used last.
#[derive(Clone)]
pub(super) struct Signer {
    region: String,
    service: &'static str,
    last: Arc<Mutex<Option<DayKey>>>,
}

/// The key that follows from a secret for one day.
struct DayKey {
    day: u64,
    secret: String,
    key: Arc<[u8]>,
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { region, service, last: _ } = self;
        formatter
            .debug_struct("Signer")
            .field("region", region)
            .field("service", service)
            .finish_non_exhaustive()
    }
}

impl Signer {
    pub(super) fn new(region: String, service: &'static str) -> Self {
        Self { region, service, last: Arc::default() }
    }

    /// The same for another service.
    pub(super) fn for_service(self, service: &'static str) -> Self {
        Self::new(self.region, service)
    }

    pub(super) fn service(&self) -> &'static str {
        self.service
    }

    /// Adds to `headers` what a request that is made `at` a time has to carry, its signature last. The name of the host is one of them
    /// already.
    ///
    /// # Errors
    /// Says which of the credentials no header can carry.
    pub(super) fn sign(
        &self,
        signable: Signable<'_>,
        headers: &mut HeaderMap,
        credentials: &Credentials,
        at: SystemTime,
    ) -> Result<(), String> {
        let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
        let date = basic_date(since);
        let digest = match signable.payload {
            Payload::Unsigned => HeaderValue::from_static("UNSIGNED-PAYLOAD"),
            Payload::Whole(bytes) => value(&hex::encode(Sha256::checksum(bytes)), "the digest")?,
        };
        headers.insert(DATE, value(&date, "the date")?);
        headers.insert(DIGEST, digest);
        if let Some(token) = &credentials.session_token {
            let mut token = value(token, "the session token")?;
            token.set_sensitive(true);
            headers.insert(TOKEN, token);
        }
        let (canonical, signed) = canonical(signable, headers);
        let scope = format!("{}/{}/{}/aws4_request", &date[..8], self.region, self.service);
        let text = format!(
            "AWS4-HMAC-SHA256\n{date}\n{scope}\n{}",
            hex::encode(Sha256::checksum(canonical.as_bytes()))
        );
        let signature = calculate_signature(self.key(credentials, since, at), text.as_bytes());
        let key = &credentials.access_key;
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential={key}/{scope}, SignedHeaders={signed}, Signature={signature}"
        );
        let mut authorization = value(&authorization, "the access key")?;
        authorization.set_sensitive(true);
        headers.insert(AUTHORIZATION, authorization);
        Ok(())
    }

    fn key(&self, credentials: &Credentials, since: Duration, at: SystemTime) -> Arc<[u8]> {
        let day = since.as_secs() / DAY.as_secs();
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = &*last
            && known.day == day
            && known.secret == credentials.secret_key
        {
            return Arc::clone(&known.key);
        }
        let derived = generate_signing_key(&credentials.secret_key, at, &self.region, self.service);
        let key: Arc<[u8]> = derived.as_ref().into();
        *last = Some(DayKey { day, secret: credentials.secret_key.clone(), key: Arc::clone(&key) });
        key
    }
}

fn value(text: &str, what: &str) -> Result<HeaderValue, String> {
    // What it is may be secret: it is named, not shown.
    HeaderValue::from_str(text).map_err(|_| format!("no header can carry {what}"))
}

/// `20261122T081530Z`.
fn basic_date(since: Duration) -> String {
    let mut date = timestamp::iso(since.as_secs() * 1000);
    date.truncate(19);
    date.retain(|letter| letter != '-' && letter != ':');
    date.push('Z');
    date
}

/// True for headers that are signed: servers want those of Amazon and the host, others may be changed on the way.
fn is_signed(name: &HeaderName) -> bool {
    name == HOST || name == "content-md5" || name.as_str().starts_with("x-")
}

/// The text whose digest is signed, and the list of the headers in it.
fn canonical(signable: Signable<'_>, headers: &HeaderMap) -> (String, String) {
    let Signable { method, path, mut query, payload: _ } = signable;
    let mut text = String::with_capacity(1024);
    text.push_str(method.as_str());
    text.push('\n');
    text.push_str(path);
    text.push('\n');
    query.sort_unstable();
    for (number, (name, value)) in query.iter().enumerate() {
        if number > 0 {
            text.push('&');
        }
        text.push_str(name);
        text.push('=');
        text.push_str(value);
    }
    text.push('\n');
    // What is beyond ASCII cannot be signed in the same way by all servers: it travels unsigned.
    let is_text = |name: &HeaderName| headers.get_all(name).iter().any(|value| value.to_str().is_ok());
    let mut names: Vec<&HeaderName> =
        headers.keys().filter(|name| is_signed(name) && is_text(name)).collect();
    names.sort_unstable_by_key(|name| name.as_str());
    let mut signed = String::with_capacity(128);
    for name in names {
        if !signed.is_empty() {
            signed.push(';');
        }
        signed.push_str(name.as_str());
        text.push_str(name.as_str());
        let mut separator = ':';
        for value in headers.get_all(name).iter().filter_map(|value| value.to_str().ok()) {
            text.push(separator);
            push_trimmed(&mut text, value);
            separator = ',';
        }
        text.push('\n');
    }
    text.push('\n');
    text.push_str(&signed);
    text.push('\n');
    text.push_str(headers.get(DIGEST).and_then(|digest| digest.to_str().ok()).unwrap_or_default());
    (text, signed)
}

/// A value without blanks around it, and with one where there are several.
fn push_trimmed(text: &mut String, value: &str) {
    let mut before = ' ';
    for letter in value.trim_matches(' ').chars() {
        if letter != ' ' || before != ' ' {
            text.push(letter);
        }
        before = letter;
    }
}

/// Names and values of a query, encoded.
pub(super) fn encoded(query: &[(String, String)]) -> Vec<(String, String)> {
    query.iter().map(|(name, value)| (percent_encode(name, false), percent_encode(value, false))).collect()
}

/// Path and query as they stand in a request line, if they are encoded.
pub(super) fn target(path: &str, query: &[(String, String)]) -> String {
    let mut target = path.to_owned();
    for (number, (name, value)) in query.iter().enumerate() {
        let sign = if number == 0 { '?' } else { '&' };
        write!(target, "{sign}{name}={value}").expect("writing to a string cannot fail");
    }
    target
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_sigv4::http_request::{
        PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SigningParams,
        SigningSettings, UriPathNormalizationMode, sign,
    };
    use aws_sigv4::sign::v4;
    use proptest::prelude::*;

    /// The headers that the library adds.
    fn by_library(
        (method, path, query): (&str, &str, &[(String, String)]),
        headers: &HeaderMap,
        payload: Payload<'_>,
        (region, service): (&str, &str),
        credentials: &Credentials,
        at: SystemTime,
    ) -> Vec<(String, String)> {
        let mut settings = SigningSettings::default();
        settings.percent_encoding_mode = PercentEncodingMode::Single;
        settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
        settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
        let Credentials { access_key, secret_key, session_token } = credentials.clone();
        let identity =
            aws_credential_types::Credentials::new(access_key, secret_key, session_token, None, "test")
                .into();
        let params: SigningParams<'_> = v4::SigningParams::builder()
            .identity(&identity)
            .region(region)
            .name(service)
            .time(at)
            .settings(settings)
            .build()
            .expect("parameters")
            .into();
        let headers: Vec<_> = headers
            .iter()
            .filter(|(name, _)| is_signed(name))
            .map(|(name, value)| (name.as_str(), value.to_str().expect("text")))
            .collect();
        let body = match payload {
            Payload::Unsigned => SignableBody::UnsignedPayload,
            Payload::Whole(bytes) => SignableBody::Bytes(bytes),
        };
        let uri = format!("http://host:80{}", target(path, query));
        let signable = SignableRequest::new(method, uri, headers.into_iter(), body).expect("a request");
        let (instructions, _) = sign(signable, &params).expect("a signature").into_parts();
        let mut added: Vec<_> =
            instructions.headers().map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect();
        added.sort();
        added
    }

    fn any_headers() -> impl Strategy<Value = Vec<(String, String)>> {
        let name = "x-(amz|scal)-[a-z]{1,6}|content-md5|content-type|range";
        proptest::collection::vec((name, "[!-~]{0,6}( {1,3}[!-~]{1,6}){0,2}"), 0..5)
    }

    proptest! {
        #[test]
        fn signatures_are_those_of_the_library(
            method in prop::sample::select(vec![Method::GET, Method::PUT, Method::HEAD, Method::DELETE]),
            path in "(/[a-zA-Z0-9 +%~é._-]{1,12}){1,3}",
            query in proptest::collection::vec(("[a-zA-Z0-9 +&=é-]{1,8}", "[a-zA-Z0-9 /+&=é-]{0,8}"), 0..4),
            extra in any_headers(),
            body in prop::option::of("[a-z]{0,20}"),
            token in prop::option::of("[a-zA-Z0-9+/=]{1,40}"),
            secret in "[a-zA-Z0-9+/]{1,40}",
            seconds in 1_500_000_000_u64..2_500_000_000,
        ) {
            let path = percent_encode(&path, true);
            let query = encoded(&query);
            let mut headers = HeaderMap::new();
            headers.insert(HOST, HeaderValue::from_static("host:80"));
            for (name, value) in extra {
                let name = HeaderName::from_bytes(name.as_bytes()).expect("a name");
                headers.append(name, HeaderValue::from_str(&value).expect("a value"));
            }
            let credentials =
                Credentials { session_token: token, ..Credentials::new("accessKey1", secret) };
            let at = UNIX_EPOCH + Duration::from_secs(seconds);
            let payload = body.as_ref().map_or(Payload::Unsigned, |body| Payload::Whole(body.as_bytes()));
            let expected = by_library(
                (method.as_str(), &path, &query), &headers, payload, ("us-east-2", "s3"), &credentials, at,
            );
            let before: Vec<_> = headers.keys().cloned().collect();
            let signer = Signer::new("us-east-2".into(), "s3");
            // The second time the key is known.
            for _ in 0..2 {
                let mut headers = headers.clone();
                let signable = Signable { method: &method, path: &path, query: query.clone(), payload };
                signer.sign(signable, &mut headers, &credentials, at).expect("a signature");
                let mut added: Vec<_> = headers
                    .iter()
                    .filter(|(name, _)| !before.contains(name))
                    .map(|(name, value)| (name.to_string(), value.to_str().expect("text").to_owned()))
                    .collect();
                added.sort();
                prop_assert_eq!(&added, &expected);
            }
        }
    }

    #[test]
    fn the_key_follows_the_secret_and_the_day() {
        let signer = Signer::new("us-east-1".into(), "s3");
        let key = |secret: &str, seconds: u64| {
            let since = Duration::from_secs(seconds);
            signer.clone().key(&Credentials::new("key", secret), since, UNIX_EPOCH + since)
        };
        let first = key("secret", 0);
        assert_eq!(key("secret", 86_399), first);
        assert_ne!(key("secret", 86_400), first);
        assert_ne!(key("other", 0), first);
        assert_eq!(key("secret", 0), first);
    }

    #[test]
    fn what_no_header_carries_is_named_and_not_shown() {
        let signer = Signer::new("us-east-1".into(), "s3");
        let credentials =
            Credentials { session_token: Some("to\nken".into()), ..Credentials::new("key", "secret") };
        let signable =
            Signable { method: &Method::GET, path: "/", query: Vec::new(), payload: Payload::Unsigned };
        let refused = signer.sign(signable, &mut HeaderMap::new(), &credentials, UNIX_EPOCH);
        assert_eq!(refused.unwrap_err(), "no header can carry the session token");
        assert!(!format!("{signer:?}").contains("secret"));
    }
}
