//! The checksums that clients may have beside MD5: which kinds there are, how they are written in headers and metadata,
//! and how those of parts become the one of an object.

use super::error::{Outcome, Refusal};
use super::json::quoted;
use backbeat_core::model::ObjectMd;
use crc_fast::CrcAlgorithm;
use http::HeaderMap;
use s3s::checksum::ChecksumHasher;
use s3s::crypto::{Checksum as _, Crc32, Crc32c, Crc64Nvme, Sha1, Sha256};
use s3s::dto::{Checksum, ChecksumAlgorithm, ChecksumType};
use serde::{Deserialize, Serialize};

/// The metadata member that keeps the checksum of an object. Upstream's baseline has none.
pub(super) const MEMBER: &str = "checksum";

/// A kind of checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Algorithm {
    #[serde(rename = "CRC32")]
    Crc32,
    #[serde(rename = "CRC32C")]
    Crc32c,
    #[serde(rename = "CRC64NVME")]
    Crc64Nvme,
    #[serde(rename = "SHA1")]
    Sha1,
    #[serde(rename = "SHA256")]
    Sha256,
}

/// What a checksum of a multipart object is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Kind {
    /// Of all bytes.
    #[serde(rename = "FULL_OBJECT")]
    FullObject,
    /// Of the checksums of the parts, with their number behind it.
    #[serde(rename = "COMPOSITE")]
    Composite,
}

impl Kind {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::FullObject => "FULL_OBJECT",
            Self::Composite => "COMPOSITE",
        }
    }

    /// As answers name it.
    pub(super) fn shown(self) -> ChecksumType {
        ChecksumType::from_static(self.as_str())
    }
}

/// A checksum as metadata keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stored {
    #[serde(rename = "checksumAlgorithm")]
    pub(super) algorithm: Algorithm,
    /// Base64, for a composite one with the number of parts.
    #[serde(rename = "checksumValue")]
    pub(super) value: String,
    #[serde(rename = "checksumType")]
    pub(super) kind: Kind,
}

impl Algorithm {
    pub(super) const ALL: [Self; 5] = [Self::Crc32, Self::Crc32c, Self::Crc64Nvme, Self::Sha1, Self::Sha256];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Crc32 => "CRC32",
            Self::Crc32c => "CRC32C",
            Self::Crc64Nvme => "CRC64NVME",
            Self::Sha1 => "SHA1",
            Self::Sha256 => "SHA256",
        }
    }

    /// As listings name it.
    pub(super) fn shown(self) -> ChecksumAlgorithm {
        ChecksumAlgorithm::from_static(self.as_str())
    }

    /// The header, or trailer, that carries it.
    pub(super) fn header(self) -> &'static str {
        match self {
            Self::Crc32 => "x-amz-checksum-crc32",
            Self::Crc32c => "x-amz-checksum-crc32c",
            Self::Crc64Nvme => "x-amz-checksum-crc64nvme",
            Self::Sha1 => "x-amz-checksum-sha1",
            Self::Sha256 => "x-amz-checksum-sha256",
        }
    }

    fn bytes(self) -> usize {
        match self {
            Self::Crc32 | Self::Crc32c => 4,
            Self::Crc64Nvme => 8,
            Self::Sha1 => 20,
            Self::Sha256 => 32,
        }
    }

    /// The kind of CRC, if it is one.
    fn crc(self) -> Option<CrcAlgorithm> {
        match self {
            Self::Crc32 => Some(CrcAlgorithm::Crc32IsoHdlc),
            Self::Crc32c => Some(CrcAlgorithm::Crc32Iscsi),
            Self::Crc64Nvme => Some(CrcAlgorithm::Crc64Nvme),
            Self::Sha1 | Self::Sha256 => None,
        }
    }

    /// What `x-amz-checksum-algorithm` names.
    pub(super) fn parse(name: &str) -> Outcome<Self> {
        Self::ALL.into_iter().find(|known| known.as_str().eq_ignore_ascii_case(name)).ok_or_else(|| {
            Refusal::invalid_request(
                "Checksum algorithm provided is unsupported. Please try again with any of the valid types: \
                 [CRC32, CRC32C, CRC64NVME, SHA1, SHA256]",
            )
        })
    }

    /// The kind of the checksum of a multipart object: what the upload asks for, else what S3 takes for the algorithm.
    pub(super) fn kind(self, asked: Option<&str>) -> Outcome<Kind> {
        let kind = match asked.map(str::to_ascii_uppercase).as_deref() {
            None if self == Self::Crc64Nvme => Kind::FullObject,
            None | Some("COMPOSITE") => Kind::Composite,
            Some("FULL_OBJECT") => Kind::FullObject,
            Some(_) => {
                return Err(Refusal::invalid_request("Value for x-amz-checksum-type header is invalid."));
            }
        };
        let is_possible = match kind {
            Kind::FullObject => self.crc().is_some(),
            Kind::Composite => self != Self::Crc64Nvme,
        };
        if is_possible {
            return Ok(kind);
        }
        Err(Refusal::invalid_request(format!(
            "The {} checksum type cannot be used with the {} checksum algorithm.",
            kind.as_str(),
            self.as_str()
        )))
    }

    /// Counts the bytes of one body.
    pub(super) fn hasher(self) -> ChecksumHasher {
        let mut hasher = ChecksumHasher::default();
        match self {
            Self::Crc32 => hasher.crc32 = Some(Crc32::new()),
            Self::Crc32c => hasher.crc32c = Some(Crc32c::new()),
            Self::Crc64Nvme => hasher.crc64nvme = Some(Crc64Nvme::new()),
            Self::Sha1 => hasher.sha1 = Some(Sha1::new()),
            Self::Sha256 => hasher.sha256 = Some(Sha256::new()),
        }
        hasher
    }

    /// The value of this kind among all.
    pub(super) fn of(self, all: Checksum) -> Option<String> {
        match self {
            Self::Crc32 => all.checksum_crc32,
            Self::Crc32c => all.checksum_crc32c,
            Self::Crc64Nvme => all.checksum_crc64nvme,
            Self::Sha1 => all.checksum_sha1,
            Self::Sha256 => all.checksum_sha256,
        }
    }

    /// The base64 form of a checksum over `bytes`.
    fn digest(self, bytes: &[u8]) -> String {
        let mut hasher = self.hasher();
        hasher.update(bytes);
        self.of(hasher.finalize()).unwrap_or_default()
    }

    /// A value that a client gave, if it can be one.
    pub(super) fn decode(self, value: &str) -> Option<Vec<u8>> {
        let bytes = base64_simd::STANDARD.decode_to_vec(value).ok()?;
        (bytes.len() == self.bytes()).then_some(bytes)
    }

    /// What a value that cannot be one is answered with.
    pub(super) fn invalid_value(self) -> Refusal {
        Refusal::invalid_request(format!("Value for {} header is invalid.", self.header()))
    }

    /// What a value that is another one is answered with.
    pub(super) fn mismatch(self) -> Refusal {
        Refusal::bad_digest().with_message(format!(
            "The {} you specified did not match the calculated checksum.",
            self.as_str()
        ))
    }
}

/// The one checksum that a request carries in a header; several are refused.
pub(super) fn in_headers(headers: &HeaderMap) -> Outcome<Option<(Algorithm, String)>> {
    let mut found = None;
    for algorithm in Algorithm::ALL {
        let Some(value) = headers.get(algorithm.header()) else { continue };
        let value = value.to_str().map_err(|_| algorithm.invalid_value())?.trim().to_owned();
        if found.replace((algorithm, value)).is_some() {
            return Err(Refusal::invalid_request(
                "Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed.",
            ));
        }
    }
    // What a client says that it computed, and what it sends, are one thing.
    let computed = headers.get("x-amz-sdk-checksum-algorithm").and_then(|value| value.to_str().ok());
    if let (Some(computed), Some((algorithm, _))) = (computed, &found)
        && !algorithm.as_str().eq_ignore_ascii_case(computed)
    {
        return Err(Refusal::invalid_request("Value for x-amz-sdk-checksum-algorithm header is invalid."));
    }
    Ok(found)
}

impl Stored {
    pub(super) fn full(algorithm: Algorithm, value: String) -> Self {
        Self { algorithm, value, kind: Kind::FullObject }
    }

    /// What metadata says.
    pub(super) fn of(md: &ObjectMd) -> Option<Self> {
        serde_json::from_str(md.member(MEMBER)?.as_str()).ok()
    }

    pub(super) fn to_json(&self) -> String {
        format!(
            r#"{{"checksumAlgorithm":"{}","checksumValue":{},"checksumType":"{}"}}"#,
            self.algorithm.as_str(),
            quoted(&self.value),
            self.kind.as_str()
        )
    }

    /// As answers carry it.
    pub(super) fn shown(&self) -> Checksum {
        let mut all = self.shown_of_part();
        all.checksum_type = Some(self.kind.shown());
        all
    }

    /// As answers about parts carry it: without its type.
    pub(super) fn shown_of_part(&self) -> Checksum {
        let mut all = Checksum::default();
        let value = Some(self.value.clone());
        match self.algorithm {
            Algorithm::Crc32 => all.checksum_crc32 = value,
            Algorithm::Crc32c => all.checksum_crc32c = value,
            Algorithm::Crc64Nvme => all.checksum_crc64nvme = value,
            Algorithm::Sha1 => all.checksum_sha1 = value,
            Algorithm::Sha256 => all.checksum_sha256 = value,
        }
        all
    }
}

/// The checksum of an object from those of its parts, each with the number of bytes it is of. None if one is missing.
pub(super) fn of_parts(
    algorithm: Algorithm,
    kind: Kind,
    parts: &[(Option<&Stored>, u64)],
) -> Outcome<Option<Stored>> {
    let mut decoded = Vec::with_capacity(parts.len());
    for (part, size) in parts {
        let Some(part) = part.filter(|part| part.algorithm == algorithm) else { return Ok(None) };
        decoded.push((algorithm.decode(&part.value).ok_or(Refusal::internal())?, *size));
    }
    let value = match (kind, algorithm.crc()) {
        (Kind::Composite, _) => {
            let all: Vec<u8> = decoded.iter().flat_map(|(bytes, _)| bytes.iter().copied()).collect();
            format!("{}-{}", algorithm.digest(&all), parts.len())
        }
        (Kind::FullObject, Some(crc)) => {
            let number =
                |bytes: &[u8]| bytes.iter().fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
            let mut parts = decoded.into_iter().map(|(bytes, size)| (number(&bytes), size));
            let Some((mut whole, _)) = parts.next() else { return Ok(None) };
            for (part, size) in parts {
                whole = crc_fast::checksum_combine(crc, whole, part, size);
            }
            base64_simd::STANDARD.encode_to_string(&whole.to_be_bytes()[8 - algorithm.bytes()..])
        }
        (Kind::FullObject, None) => return Err(Refusal::internal()),
    };
    Ok(Some(Stored { algorithm, value, kind }))
}

/// Puts the five values and the type of a checksum into an answer that has fields for them.
macro_rules! put_checksum {
    ($answer:expr, $checksum:expr) => {{
        let checksum: s3s::dto::Checksum = $checksum;
        $answer.checksum_type = checksum.checksum_type.clone();
        $crate::site::checksums::put_part_checksum!($answer, checksum);
    }};
}

/// Puts the five values of a checksum into an answer that has fields for them.
macro_rules! put_part_checksum {
    ($answer:expr, $checksum:expr) => {{
        let checksum: s3s::dto::Checksum = $checksum;
        $answer.checksum_crc32 = checksum.checksum_crc32;
        $answer.checksum_crc32c = checksum.checksum_crc32c;
        $answer.checksum_crc64nvme = checksum.checksum_crc64nvme;
        $answer.checksum_sha1 = checksum.checksum_sha1;
        $answer.checksum_sha256 = checksum.checksum_sha256;
    }};
}

pub(super) use {put_checksum, put_part_checksum};

#[cfg(test)]
mod tests {
    use super::*;

    fn full(algorithm: Algorithm, bytes: &[u8]) -> Stored {
        Stored::full(algorithm, algorithm.digest(bytes))
    }

    #[test]
    fn checksums_of_known_bytes_are_those_that_others_compute() {
        let known = [
            (Algorithm::Crc32, "y/Q5Jg=="),
            (Algorithm::Crc32c, "4waSgw=="),
            (Algorithm::Crc64Nvme, "rosUhgp5mIg="),
            (Algorithm::Sha1, "98O8HYCOBHMq32eZZczDTKeuNEE="),
            (Algorithm::Sha256, "FeKw08M4keuw8e9gnsQZQgwg4yDOlMZfvIwzEkSOsiU="),
        ];
        for (algorithm, value) in known {
            assert_eq!(algorithm.digest(b"123456789"), value, "{algorithm:?}");
        }
    }

    #[test]
    fn the_full_checksum_of_parts_is_that_of_their_bytes() {
        let bytes: Vec<u8> = (0..10_000_u32).map(|number| (number % 251) as u8).collect();
        for algorithm in [Algorithm::Crc32, Algorithm::Crc32c, Algorithm::Crc64Nvme] {
            for cuts in [vec![0, 10_000], vec![0, 1, 10_000], vec![0, 3000, 3000, 9999, 10_000]] {
                let pieces: Vec<&[u8]> = cuts.windows(2).map(|cut| &bytes[cut[0]..cut[1]]).collect();
                let sums: Vec<Stored> = pieces.iter().map(|piece| full(algorithm, piece)).collect();
                let parts: Vec<_> =
                    sums.iter().zip(&pieces).map(|(sum, piece)| (Some(sum), piece.len() as u64)).collect();
                let whole = of_parts(algorithm, Kind::FullObject, &parts).unwrap().unwrap();
                assert_eq!(whole, full(algorithm, &bytes), "{algorithm:?} {cuts:?}");
            }
        }
    }

    #[test]
    fn a_composite_checksum_is_of_the_checksums_and_counts_them() {
        let parts = [full(Algorithm::Sha256, b"a"), full(Algorithm::Sha256, b"b")];
        let listed = [(Some(&parts[0]), 1), (Some(&parts[1]), 1)];
        let whole = of_parts(Algorithm::Sha256, Kind::Composite, &listed).unwrap().unwrap();
        assert_eq!(whole.value, "5aAf7hTg7VxIcU8iGA8lrYNltT+XefedxKPX6Tlj+Uo=-2");
        assert_eq!(of_parts(Algorithm::Sha256, Kind::Composite, &[(None, 1)]).unwrap(), None);
        assert_eq!(of_parts(Algorithm::Sha1, Kind::Composite, &listed).unwrap(), None);
    }

    #[test]
    fn types_go_only_with_the_algorithms_that_have_them() {
        assert_eq!(Algorithm::Crc64Nvme.kind(None).unwrap(), Kind::FullObject);
        assert_eq!(Algorithm::Crc32.kind(None).unwrap(), Kind::Composite);
        assert_eq!(Algorithm::Crc32.kind(Some("FULL_OBJECT")).unwrap(), Kind::FullObject);
        for (algorithm, kind) in [
            (Algorithm::Sha1, "FULL_OBJECT"),
            (Algorithm::Crc64Nvme, "COMPOSITE"),
            (Algorithm::Crc32, "HALF"),
        ] {
            assert_eq!(
                algorithm.kind(Some(kind)).unwrap_err().code,
                "InvalidRequest",
                "{algorithm:?} {kind}"
            );
        }
    }

    #[test]
    fn values_of_another_length_are_none() {
        assert!(Algorithm::Crc32.decode("y/Q5Jg==").is_some());
        assert!(Algorithm::Crc32c.decode("y/Q5Jg").is_none());
        assert!(Algorithm::Sha1.decode("y/Q5Jg==").is_none());
        assert!(Algorithm::Crc32.decode("!!!!!!==").is_none());
    }
}
