//! Taking in the bytes of a request: streamed to a file, bounded in memory and in time, checked against every digest
//! that the client gave.

use super::data::{DataFiles, Incoming};
use super::error::{Outcome, Refusal};
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use http::HeaderMap;
use s3s::TrailingHeaders;
use s3s::checksum::ChecksumHasher;
use s3s::crypto::{Checksum as _, Crc32, Crc32c, Crc64Nvme, Sha1, Sha256};
use s3s::dto::Checksum;
use std::time::Duration;

type StreamError = Box<dyn std::error::Error + Send + Sync>;

/// A client that sends nothing for so long is given up.
const SILENCE_MAX: Duration = Duration::from_mins(1);
/// Largest object in one piece, as S3 has it.
pub(super) const SIZE_MAX: u64 = 5 << 30;

const CHECKSUM_HEADERS: [&str; 5] = [
    "x-amz-checksum-crc32",
    "x-amz-checksum-crc32c",
    "x-amz-checksum-crc64nvme",
    "x-amz-checksum-sha1",
    "x-amz-checksum-sha256",
];

/// The digests that a client gave, in headers or after the body.
pub(super) struct Expected {
    length: Option<u64>,
    md5: Option<String>,
    checksums: Vec<(&'static str, Option<String>)>,
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
            let bytes = base64_decode(encoded).filter(|bytes| bytes.len() == 16);
            bytes.map(hex::encode).ok_or(Refusal::invalid_digest())
        });
        let trailing = text("x-amz-trailer").unwrap_or("").to_ascii_lowercase();
        let checksums = CHECKSUM_HEADERS
            .into_iter()
            .filter_map(|name| match text(name) {
                Some(value) => Some((name, Some(value.to_owned()))),
                None => trailing.split(',').any(|trailer| trailer.trim() == name).then_some((name, None)),
            })
            .collect();
        Ok(Self { length, md5: md5.transpose()?, checksums, trailers })
    }

    /// Only a length.
    pub(super) fn length(length: u64) -> Self {
        Self { length: Some(length), md5: None, checksums: Vec::new(), trailers: None }
    }

    fn hasher(&self) -> ChecksumHasher {
        let asked = |name: &str| self.checksums.iter().any(|(asked, _)| *asked == name);
        ChecksumHasher {
            crc32: asked(CHECKSUM_HEADERS[0]).then(Crc32::new),
            crc32c: asked(CHECKSUM_HEADERS[1]).then(Crc32c::new),
            crc64nvme: asked(CHECKSUM_HEADERS[2]).then(Crc64Nvme::new),
            sha1: asked(CHECKSUM_HEADERS[3]).then(Sha1::new),
            sha256: asked(CHECKSUM_HEADERS[4]).then(Sha256::new),
        }
    }

    /// Compares with what came.
    fn check(&self, incoming: &Incoming, computed: &Checksum) -> Outcome<()> {
        if self.length.is_some_and(|length| length != incoming.size()) {
            return Err(Refusal::incomplete_body());
        }
        if self.md5.as_ref().is_some_and(|md5| *md5 != incoming.md5()) {
            return Err(Refusal::bad_digest());
        }
        let computed = [
            &computed.checksum_crc32,
            &computed.checksum_crc32c,
            &computed.checksum_crc64nvme,
            &computed.checksum_sha1,
            &computed.checksum_sha256,
        ];
        for (name, computed) in CHECKSUM_HEADERS.into_iter().zip(computed) {
            let Some((_, given)) = self.checksums.iter().find(|(asked, _)| *asked == name) else { continue };
            let given = given.clone().or_else(|| {
                self.trailers
                    .as_ref()?
                    .read(|trailers| Some(trailers.get(name)?.to_str().ok()?.trim().to_owned()))?
            });
            if given.is_none() || given != *computed {
                return Err(Refusal::bad_digest().with_message(format!(
                    "The {} you specified did not match what we received.",
                    &name["x-amz-checksum-".len()..]
                )));
            }
        }
        Ok(())
    }
}

/// Streams a body to a new file. The file is checked but not yet durable: finish it, or drop it.
pub(super) async fn receive<S>(
    files: &DataFiles,
    body: Option<S>,
    expected: &Expected,
) -> Outcome<(Incoming, Checksum)>
where
    S: Stream<Item = Result<Bytes, StreamError>> + Unpin,
{
    let mut incoming = files.create().await?;
    let mut hasher = expected.hasher();
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
    let computed = hasher.finalize();
    expected.check(&incoming, &computed)?;
    Ok((incoming, computed))
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
        Refusal { code: "XAmzContentSHA256Mismatch", ..Refusal::bad_digest() }
            .with_message("The provided 'x-amz-content-sha256' header does not match what was computed.")
    } else if text.contains("SignatureMismatch") {
        Refusal::signature_mismatch()
    } else {
        Refusal::incomplete_body()
    }
}

/// Standard base64 with padding.
fn base64_decode(text: &str) -> Option<Vec<u8>> {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let text = text.as_bytes();
    let digits = text.strip_suffix(b"==").or_else(|| text.strip_suffix(b"=")).unwrap_or(text);
    if text.is_empty() || !text.len().is_multiple_of(4) {
        return None;
    }
    let mut bits: u32 = 0;
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    for (at, digit) in digits.iter().enumerate() {
        let value = ALPHABET.iter().position(|known| known == digit)?;
        bits = (bits << 6 | u32::try_from(value).ok()?) & 0x00ff_ffff;
        if at % 4 != 0 {
            let shift = 6 - 2 * (at % 4);
            bytes.push(u8::try_from(bits >> shift & 0xff).ok()?);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_read_as_clients_write_it() {
        assert_eq!(base64_decode("aGVsbG8gbGFi").unwrap(), b"hello lab");
        assert_eq!(base64_decode("aGVsbG8=").unwrap(), b"hello");
        assert_eq!(base64_decode("aGVsbA==").unwrap(), b"hell");
        assert_eq!(base64_decode("aGVsbA"), None);
        assert_eq!(base64_decode("!!!!"), None);
        assert_eq!(base64_decode(""), None);
    }
}
