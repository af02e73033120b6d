//! Taking in the bytes of a request: streamed, bounded in memory and in time, checked against every digest
//! that the client gave.

use super::checksums::{self, Algorithm, Stored};
use super::data::{DataStore, Incoming};
use super::error::{Outcome, Refusal};
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use http::HeaderMap;
use s3s::TrailingHeaders;
use s3s::dto::Checksum;
use std::time::Duration;

type StreamError = Box<dyn std::error::Error + Send + Sync>;

/// A client that sends nothing for so long is given up.
const SILENCE_MAX: Duration = Duration::from_mins(1);
/// Largest object in one piece, as S3 has it.
pub(super) const SIZE_MAX: u64 = 5 << 30;

/// Where the value of a checksum comes from.
#[derive(Clone, Debug)]
enum Given {
    /// The request's head.
    Head(String),
    /// Behind the body.
    Trailer,
    /// Nowhere: it is only computed.
    Nowhere,
}

/// The digests that a client gave, in headers or after the body.
pub(super) struct Expected {
    length: Option<u64>,
    md5: Option<String>,
    checksum: Option<(Algorithm, Given)>,
    trailers: Option<TrailingHeaders>,
}

impl Expected {
    /// Reads what S3 requests say: `Content-MD5` in base64, checksums in headers or named in `x-amz-trailer`.
    pub(super) fn of(headers: &HeaderMap, trailers: Option<TrailingHeaders>) -> Outcome<Self> {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
        let length = text("x-amz-decoded-content-length").or_else(|| text("content-length"));
        let length = length.map(|text| text.parse().map_err(|_| Refusal::invalid_argument())).transpose()?;
        if length.is_some_and(|length| length > SIZE_MAX) {
            return Err(Refusal::entity_too_large());
        }
        let md5 = text("content-md5").map(|encoded| {
            let bytes = base64_simd::STANDARD.decode_to_vec(encoded).ok().filter(|bytes| bytes.len() == 16);
            bytes.map(hex::encode).ok_or(Refusal::invalid_digest())
        });
        let trailing = text("x-amz-trailer").unwrap_or("").to_ascii_lowercase();
        let trailing = Algorithm::ALL
            .into_iter()
            .find(|algorithm| trailing.split(',').any(|trailer| trailer.trim() == algorithm.header()));
        let checksum = match (checksums::in_headers(headers)?, trailing) {
            (Some((algorithm, value)), _) => {
                algorithm.decode(&value).ok_or_else(|| algorithm.invalid_value())?;
                Some((algorithm, Given::Head(value)))
            }
            (None, Some(algorithm)) => Some((algorithm, Given::Trailer)),
            (None, None) => None,
        };
        Ok(Self { length, md5: md5.transpose()?, checksum, trailers })
    }

    /// Only a length.
    pub(super) fn length(length: u64) -> Self {
        Self { length: Some(length), md5: None, checksum: None, trailers: None }
    }

    /// The kind of checksum that the client gave.
    pub(super) fn algorithm(&self) -> Option<Algorithm> {
        self.checksum.as_ref().map(|(algorithm, _)| *algorithm)
    }

    /// With a checksum of that kind computed if the client gave none.
    pub(super) fn computing(mut self, algorithm: Algorithm) -> Self {
        self.checksum.get_or_insert((algorithm, Given::Nowhere));
        self
    }

    fn given(&self, algorithm: Algorithm, given: &Given) -> Outcome<Option<String>> {
        match given {
            Given::Head(value) => Ok(Some(value.clone())),
            Given::Nowhere => Ok(None),
            Given::Trailer => {
                let read = |trailers: &HeaderMap| {
                    Some(trailers.get(algorithm.header())?.to_str().ok()?.trim().to_owned())
                };
                let value = self.trailers.as_ref().and_then(|trailers| trailers.read(read)).flatten();
                let value = value.ok_or_else(|| algorithm.mismatch())?;
                algorithm.decode(&value).ok_or_else(|| algorithm.invalid_value())?;
                Ok(Some(value))
            }
        }
    }

    /// Compares with what came; answers the checksum.
    fn check(&self, incoming: &Incoming, computed: Checksum) -> Outcome<Option<Stored>> {
        if self.length.is_some_and(|length| length != incoming.size()) {
            return Err(Refusal::incomplete_body());
        }
        if self.md5.as_ref().is_some_and(|md5| *md5 != incoming.md5()) {
            return Err(Refusal::bad_digest());
        }
        let Some((algorithm, given)) = &self.checksum else { return Ok(None) };
        let computed = algorithm.of(computed).ok_or(Refusal::internal())?;
        match self.given(*algorithm, given)? {
            Some(given) if given != computed => Err(algorithm.mismatch()),
            Some(_) | None => Ok(Some(Stored::full(*algorithm, computed))),
        }
    }
}

/// Takes in a body. It is checked but not yet durable: finish it, or drop it.
pub(super) async fn receive<S>(
    data: &DataStore,
    body: Option<S>,
    expected: &Expected,
) -> Outcome<(Incoming, Option<Stored>)>
where
    S: Stream<Item = Result<Bytes, StreamError>> + Unpin,
{
    let mut incoming = data.receive();
    let mut hasher = expected.algorithm().map(Algorithm::hasher).unwrap_or_default();
    if let Some(mut body) = body {
        let length_max = expected.length.unwrap_or(SIZE_MAX);
        while let Some(chunk) =
            tokio::time::timeout(SILENCE_MAX, body.next()).await.map_err(|_| Refusal::request_timeout())?
        {
            let chunk = chunk.map_err(|error| broken(&error))?;
            hasher.update(&chunk);
            incoming.write(&chunk).await?;
            if incoming.size() > length_max {
                return Err(Refusal::incomplete_body());
            }
        }
    }
    let checksum = expected.check(&incoming, hasher.finalize())?;
    Ok((incoming, checksum))
}

/// Collects a small body.
pub(super) async fn collect<S>(mut body: S, bytes_max: usize) -> Outcome<Vec<u8>>
where
    S: Stream<Item = Result<Bytes, StreamError>> + Unpin,
{
    let mut bytes = Vec::new();
    while let Some(chunk) =
        tokio::time::timeout(SILENCE_MAX, body.next()).await.map_err(|_| Refusal::request_timeout())?
    {
        bytes.extend_from_slice(&chunk.map_err(|error| broken(&error))?);
        if bytes.len() > bytes_max {
            return Err(Refusal::entity_too_large());
        }
    }
    Ok(bytes)
}

/// What a body that breaks off means. The protocol library's stream errors have no public type, only a text.
fn broken(error: &StreamError) -> Refusal {
    let text = error.to_string();
    tracing::debug!(%error, "a request body broke off");
    if text.contains("Sha256Mismatch") {
        Refusal::sha256_mismatch()
    } else if text.contains("SignatureMismatch") {
        Refusal::signature_mismatch()
    } else {
        Refusal::incomplete_body()
    }
}
