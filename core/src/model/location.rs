//! Where the bytes of a version lie: one entry per stored piece.

use smol_str::SmolStr;
use xxhash_rust::xxh3::{xxh3_64, xxh3_128_with_seed};

use super::digest;
use super::json_text::{Cursor, JsonError, RawJson, Scalar, text_of, write_string};
use super::members::{self, Form, Slot};
use super::metadata_error::MetadataError;

const MEMBERS: [&str; 9] = [
    "key",
    "start",
    "size",
    "dataStoreName",
    "dataStoreType",
    "dataStoreETag",
    "dataStoreVersionId",
    "cryptoScheme",
    "cipheredDataKey",
];

/// One stored piece of a version (wire reference 2.5). Unknown members survive.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Location {
    /// Key at the data store.
    pub key: SmolStr,
    /// First byte of the piece within the object.
    pub start: u64,
    /// Length in bytes.
    pub size: u64,
    /// Name of the location that holds the piece.
    pub data_store_name: SmolStr,
    /// Type of that location, where it is told.
    pub data_store_type: Option<SmolStr>,
    /// `<part number>:<hex md5>`; data written by a multipart upload to a cloud may lack the prefix.
    pub etag: Option<SmolStr>,
    /// The version id that a cloud gave.
    pub data_store_version_id: Option<SmolStr>,
    /// 1 when the piece is encrypted.
    pub crypto_scheme: Option<u64>,
    /// The wrapped key of an encrypted piece, base64.
    pub ciphered_data_key: Option<SmolStr>,
    form: Option<Form>,
}

/// One part as a reader of the object sees it: what must be the same at every copy.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Part {
    /// The part number; 1 for an object written in one piece.
    pub number: u32,
    /// Length in bytes.
    pub size: u64,
    /// Lower-case hexadecimal MD5 of the part; empty where unknown.
    pub md5: SmolStr,
}

impl Part {
    /// A digest of what a reader sees of it.
    pub(super) fn digest(&self) -> u128 {
        let seed = xxh3_64(&self.size.to_le_bytes()) ^ u64::from(self.number).rotate_left(32);
        xxh3_128_with_seed(self.md5.as_bytes(), seed)
    }
}

impl Location {
    /// A piece of `size` bytes at `start`, stored under `key` in `data_store_name`, holding part `part` with digest `md5` (hex).
    pub fn new(key: &str, start: u64, size: u64, data_store_name: &str, part: u32, md5: &str) -> Self {
        let number = part.to_string();
        let mut etag = String::with_capacity(number.len() + 1 + md5.len());
        etag.extend([&number, ":", md5]);
        Self {
            key: key.into(),
            start,
            size,
            data_store_name: data_store_name.into(),
            etag: Some(etag.into()),
            ..Self::default()
        }
    }

    /// What a data write answers at the least: a key and the location that holds it.
    pub fn stored(key: &str, data_store_name: &str) -> Self {
        Self { key: key.into(), data_store_name: data_store_name.into(), ..Self::default() }
    }

    /// What a legacy document says that holds a data key alone.
    pub(super) fn legacy(key: &str) -> Self {
        Self { key: key.into(), form: Some([Slot::Typed("key")].into()), ..Self::default() }
    }

    /// The piece that the JSON object `text` describes, as in metadata or in the answer to a data write.
    pub fn parse(text: &str) -> Result<Self, MetadataError> {
        let mut cursor = Cursor::new(text);
        let found = Self::read(&mut cursor)?;
        cursor.end()?;
        found
    }

    /// Passes over the value at `cursor` and returns the piece that it describes.
    pub(super) fn read(cursor: &mut Cursor<'_>) -> Result<Result<Self, MetadataError>, JsonError> {
        let mut found = Self::default();
        let known = |name: &str| MEMBERS.into_iter().find(|known| *known == name);
        let slots = members::read(cursor, 8, known, |name, cursor| match name {
            "start" | "size" | "cryptoScheme" => {
                let value = cursor.value()?;
                let Ok(number) = value.parse::<u64>() else { return Ok(found.lenient(name, value)) };
                match name {
                    "start" => found.start = number,
                    "size" => found.size = number,
                    _ => found.crypto_scheme = Some(number),
                }
                Ok(true)
            }
            _ => {
                let Scalar::Text(content) = cursor.scalar()? else { return Ok(false) };
                let content = SmolStr::from(content.as_ref());
                match name {
                    "key" => found.key = content,
                    "dataStoreName" => found.data_store_name = content,
                    "dataStoreType" => found.data_store_type = Some(content),
                    "dataStoreETag" => found.etag = Some(content),
                    "dataStoreVersionId" => found.data_store_version_id = Some(content),
                    _ => found.ciphered_data_key = Some(content),
                }
                Ok(true)
            }
        })?;
        let Some(slots) = slots else {
            cursor.skip()?;
            return Ok(Err(MetadataError::member("location", "null, a string or an array of objects")));
        };
        found.form = Some(slots.into());
        Ok(Ok(found))
    }

    /// Takes the value of a number that is spelled as text or as a fraction; its spelling is kept, so the slot stays raw.
    fn lenient(&mut self, name: &str, value: &str) -> bool {
        if let Some(number) = lenient_u64(value) {
            match name {
                "start" => self.start = number,
                "size" => self.size = number,
                _ => self.crypto_scheme = Some(number),
            }
        }
        false
    }

    /// Appends the JSON object.
    pub(super) fn write(&self, out: &mut String) {
        let says = |name: &&'static str| match *name {
            "key" => !self.key.is_empty(),
            "start" => self.form.is_none() || self.differs_from_form("start", self.start),
            "size" => self.form.is_none() || self.differs_from_form("size", self.size),
            "dataStoreName" => !self.data_store_name.is_empty(),
            "dataStoreType" => self.data_store_type.is_some(),
            "dataStoreETag" => self.etag.is_some(),
            "dataStoreVersionId" => self.data_store_version_id.is_some(),
            "cryptoScheme" => {
                self.crypto_scheme.is_some_and(|scheme| self.differs_from_form("cryptoScheme", scheme))
            }
            _ => self.ciphered_data_key.is_some(),
        };
        let extra: Vec<&'static str> = MEMBERS.into_iter().filter(says).collect();
        // A typed member that was taken away since the text was read loses its place.
        let kept: Vec<Slot> = self
            .form
            .iter()
            .flat_map(|form| form.iter())
            .filter(|slot| match slot {
                Slot::Typed(name) => {
                    extra.contains(name) || matches!(*name, "key" | "start" | "size" | "dataStoreName")
                }
                Slot::Raw(..) => true,
            })
            .cloned()
            .collect();
        members::write(out, &kept, &extra, |out, name| self.write_member(out, name));
    }

    fn differs_from_form(&self, name: &str, value: u64) -> bool {
        let slot = self.form.iter().flat_map(|form| form.iter()).find(|slot| slot.name() == name);
        match slot {
            None => value != 0,
            Some(Slot::Typed(_)) => true,
            Some(Slot::Raw(_, raw)) => lenient_u64(raw.as_str()).unwrap_or(0) != value,
        }
    }

    fn write_member(&self, out: &mut String, name: &str) {
        let text =
            |out: &mut String, text: &Option<SmolStr>| write_string(out, text.as_deref().unwrap_or(""));
        match name {
            "key" => write_string(out, &self.key),
            "start" => out.push_str(&self.start.to_string()),
            "size" => out.push_str(&self.size.to_string()),
            "dataStoreName" => write_string(out, &self.data_store_name),
            "dataStoreType" => text(out, &self.data_store_type),
            "dataStoreETag" => text(out, &self.etag),
            "dataStoreVersionId" => text(out, &self.data_store_version_id),
            "cryptoScheme" => out.push_str(&self.crypto_scheme.unwrap_or(0).to_string()),
            _ => text(out, &self.ciphered_data_key),
        }
    }

    /// What this entry says, whatever its spelling.
    pub(super) fn digest(&self) -> u128 {
        let texts = [
            ("key", Some(&self.key)),
            ("dataStoreName", Some(&self.data_store_name)),
            ("dataStoreType", self.data_store_type.as_ref()),
            ("dataStoreETag", self.etag.as_ref()),
            ("dataStoreVersionId", self.data_store_version_id.as_ref()),
            ("cipheredDataKey", self.ciphered_data_key.as_ref()),
        ];
        let texts = texts.into_iter().filter_map(|(name, text)| Some(digest::text(name, text?)));
        let numbers =
            [("start", Some(self.start)), ("size", Some(self.size)), ("cryptoScheme", self.crypto_scheme)];
        let numbers = numbers.into_iter().filter_map(|(name, number)| Some(digest::number(name, number?)));
        let raw = self.form.iter().flat_map(|form| form.iter()).filter_map(|slot| match slot {
            Slot::Raw(name, value) => Some(digest::member(name.as_str(), value.as_str())),
            Slot::Typed(_) => None,
        });
        texts.chain(numbers).chain(raw).fold(0, u128::wrapping_add)
    }

    /// The JSON text of this entry.
    pub fn to_json(&self) -> RawJson {
        let mut out = String::with_capacity(192);
        self.write(&mut out);
        RawJson::scanned(&out)
    }

    /// The part number before the colon of the ETag.
    pub fn part_number(&self) -> Option<u32> {
        Self::split(self.etag.as_deref()?).0?.parse().ok()
    }

    /// The hex MD5 of the part: the ETag without its part number. `None` where the store told no digest.
    pub fn md5(&self) -> Option<&str> {
        self.etag.as_deref().map(|etag| Self::split(etag).1)
    }

    /// An ETag's part number, if it has one, and its MD5.
    fn split(etag: &str) -> (Option<&str>, &str) {
        // The colon comes after a few digits: nothing to search for with wide registers.
        match etag.bytes().position(|byte| byte == b':') {
            Some(colon) => (Some(&etag[..colon]), &etag[colon + 1..]),
            None => (None, etag),
        }
    }

    /// This part as stored by a target: key, location, version id and encryption are the target's or gone; position, size and
    /// digest stay (wire reference 2.5).
    pub fn stored_at(&self, target: &Self) -> Self {
        Self {
            key: target.key.clone(),
            data_store_name: target.data_store_name.clone(),
            data_store_version_id: target.data_store_version_id.clone(),
            crypto_scheme: target.crypto_scheme,
            ciphered_data_key: target.ciphered_data_key.clone(),
            data_store_type: None,
            form: None,
            ..self.clone()
        }
    }
}

/// Consecutive pieces of the same part as one: sizes summed, the start of the run, everything else from its last piece
/// (replication reference 4.4). Pieces without a part number stay alone.
pub fn reduce(locations: &[Location]) -> Vec<Location> {
    let mut reduced: Vec<Location> = Vec::with_capacity(locations.len());
    for piece in locations {
        match reduced.last_mut() {
            Some(run) if run.part_number().is_some() && run.part_number() == piece.part_number() => {
                *run =
                    Location { start: run.start, size: run.size.saturating_add(piece.size), ..piece.clone() };
            }
            _ => reduced.push(piece.clone()),
        }
    }
    reduced
}

/// The parts that a reader sees. A piece without a part number counts on from the one before.
pub(super) fn parts(locations: &[Location]) -> Vec<Part> {
    let mut last = 0;
    reduce(locations)
        .iter()
        .map(|piece| {
            let number = piece.part_number().unwrap_or(last + 1);
            last = number;
            Part { number, size: piece.size, md5: piece.md5().unwrap_or("").into() }
        })
        .collect()
}

/// A count of bytes that may be spelled as a number, a fraction without remainder, or digits in a string.
pub(super) fn lenient_u64(raw: &str) -> Option<u64> {
    lenient_u64_of(text_of(raw).as_deref().unwrap_or(raw))
}

/// As [`lenient_u64`], without quotes.
pub(super) fn lenient_u64_of(text: &str) -> Option<u64> {
    let digits = text.trim();
    if let Ok(number) = digits.parse::<u64>() {
        return Some(number);
    }
    let number = digits.parse::<f64>().ok()?;
    let exact = (0.0..9_007_199_254_740_992.0).contains(&number) && number.fract() == 0.0;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "checked: a whole number below 2^53"
    )]
    exact.then_some(number as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Location {
        Location::parse(text).expect("test text is valid")
    }

    #[test]
    fn a_piece_that_a_data_write_answered_reads_the_same_once_written() {
        let written = Location::stored("data-1", "disk").to_json();
        let read = Location::parse(written.as_str()).expect("just written");
        assert_eq!((&*read.key, &*read.data_store_name), ("data-1", "disk"));
        assert_eq!(Location::parse(read.to_json().as_str()).expect("just written"), read);
    }

    #[test]
    fn an_entry_survives_with_its_order_and_unknown_members() {
        for text in [
            r#"{"size":3,"key":"k","z":{"a":1e2},"start":0,"dataStoreETag":"1:x"}"#,
            r#"{"key":"","blockId":"b","size":"12","start":1.0}"#,
            r#"{"key":7,"cryptoScheme":1,"cipheredDataKey":"a=="}"#,
            "{}",
        ] {
            assert_eq!(parse(text).to_json().as_str(), text);
        }
        assert_eq!(parse(r#"{"size":"12"}"#).size, 12);
    }

    #[test]
    fn consecutive_pieces_of_one_part_become_one() {
        let piece = |key: &str, start, size, part| Location::new(key, start, size, "us", part, "d");
        let reduced =
            reduce(&[piece("a", 0, 5, 1), piece("b", 5, 7, 1), piece("c", 12, 1, 2), piece("d", 13, 1, 1)]);
        let seen: Vec<_> = reduced.iter().map(|run| (&*run.key, run.start, run.size)).collect();
        assert_eq!(seen, [("b", 0, 12), ("c", 12, 1), ("d", 13, 1)]);
    }

    #[test]
    fn a_targets_answer_replaces_or_removes_what_it_speaks_of() {
        let source = parse(
            r#"{"key":"s","start":4,"size":6,"dataStoreName":"src","dataStoreType":"file","dataStoreETag":"2:e","cryptoScheme":1,"cipheredDataKey":"x"}"#,
        );
        let stored = source.stored_at(&parse(r#"{"key":"t","dataStoreName":"dst"}"#));
        assert_eq!(
            stored.to_json().as_str(),
            r#"{"key":"t","start":4,"size":6,"dataStoreName":"dst","dataStoreETag":"2:e"}"#
        );
    }

    #[test]
    fn the_layout_counts_pieces_without_numbers() {
        let plain = parse(r#"{"size":4,"dataStoreETag":"abc"}"#);
        let layout = parts(&[plain.clone(), plain]);
        assert_eq!(layout.iter().map(|part| part.number).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(&*layout[0].md5, "abc");
    }
}
