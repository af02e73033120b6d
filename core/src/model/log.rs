//! Journal records as a source hands them out, and entries as the populator's filter sees them.

use std::sync::OnceLock;

use smol_str::SmolStr;

use crate::id::Bucket;

use super::deciding::{is_copy_of_version, version_of};
use super::json_text::{
    Cursor, JsonError, RawJson, Scalar, Text, write_compact, write_name, write_quoted_name, write_string,
};
use super::key::{is_master, object_key, strip_format_prefix};
use super::members::{self, Slot};
use super::{ObjectMd, ObjectRef, VersionRef};

/// Why a text is not a journal record or entry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    /// The text is not JSON.
    #[error("journal record is {0}")]
    Json(#[from] JsonError),
    /// The text is JSON of another shape.
    #[error("journal record: {0}")]
    Shape(&'static str),
}

const NO_OBJECT: &str = "it is not an object";

/// The commonest kind of entry.
const PUT: SmolStr = SmolStr::new_static("put");

/// The stored value of a key: a text, and the metadata in it, which is read once at most, however many readers the record has.
#[derive(Clone, Debug)]
pub struct StoredValue {
    text: Text,
    md: OnceLock<Option<ObjectMd>>,
}

impl StoredValue {
    /// A text whose metadata is known already. The text may leave out members that no filter rule looks at.
    pub fn known(text: impl Into<Text>, md: ObjectMd) -> Self {
        Self { text: text.into(), md: OnceLock::from(Some(md)) }
    }

    /// The text.
    pub fn text(&self) -> &Text {
        &self.text
    }

    /// The metadata, if the text is that.
    pub fn md(&self) -> Option<&ObjectMd> {
        self.md.get_or_init(|| ObjectMd::parse(&self.text).ok()).as_ref()
    }

    /// Which version it says that it is, without reading all of it; `None` if it is no metadata.
    fn version(&self) -> Option<VersionRef> {
        match self.md.get() {
            Some(md) => md.as_ref().map(ObjectMd::version_ref),
            None => version_of(&self.text),
        }
    }

    /// Whether this, stored under a master key, is the copy of a version that has a key of its own.
    fn is_copy_of_version(&self) -> bool {
        match self.md.get() {
            Some(md) => md.as_ref().is_some_and(|md| md.version_id().is_some() && !md.is_null()),
            // A look at the members that decide is much cheaper than reading the document.
            None => is_copy_of_version(&self.text),
        }
    }
}

impl PartialEq for StoredValue {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for StoredValue {}

impl<T: Into<Text>> From<T> for StoredValue {
    fn from(text: T) -> Self {
        Self { text: text.into(), md: OnceLock::new() }
    }
}

/// One journal entry: one key changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    /// What happened: `put`, `del`, or whatever else the source says.
    pub kind: SmolStr,
    /// The stored metadata key, format prefix included; records of bucket attributes have none.
    pub key: Option<SmolStr>,
    /// The stored value; deletes have none.
    pub value: Option<StoredValue>,
    /// When the operation happened, if the source tells: ISO 8601.
    pub timestamp: Option<SmolStr>,
    /// The version id that the source tells beside the value, if any.
    pub version_id: Option<SmolStr>,
}

impl LogEntry {
    /// A key was written.
    pub fn put(key: impl Into<SmolStr>, value: impl Into<StoredValue>) -> Self {
        Self {
            kind: PUT,
            key: Some(key.into()),
            value: Some(value.into()),
            timestamp: None,
            version_id: None,
        }
    }

    /// A key was removed.
    pub fn del(key: impl Into<SmolStr>) -> Self {
        Self {
            kind: SmolStr::new_static("del"),
            key: Some(key.into()),
            value: None,
            timestamp: None,
            version_id: None,
        }
    }

    /// Passes over the entry at `cursor`; `None` if the value there is not an object.
    fn read(cursor: &mut Cursor<'_>) -> Result<Option<Self>, JsonError> {
        let mut entry = Self { kind: PUT, key: None, value: None, timestamp: None, version_id: None };
        let is_object = cursor.members(|cursor, name| {
            match name {
                // Raft logs leave the type of a put out (replication reference 2.1).
                b"type" => {
                    entry.kind = match cursor.scalar()? {
                        Scalar::Text(kind) if *kind != *PUT => kind.as_ref().into(),
                        Scalar::Text(_) | Scalar::Other(_) => PUT,
                    }
                }
                b"key" => entry.key = shared(&cursor.scalar()?),
                b"value" => entry.value = cursor.spelled()?.ok().map(StoredValue::from),
                b"timestamp" => entry.timestamp = shared(&cursor.scalar()?),
                b"overhead" => {
                    entry.version_id = None;
                    let is_object = cursor.members(|cursor, name| {
                        let value = cursor.scalar()?;
                        if name == b"versionId" {
                            entry.version_id = shared(&value);
                        }
                        Ok(())
                    })?;
                    if !is_object {
                        cursor.skip()?;
                    }
                }
                _ => {
                    cursor.skip()?;
                }
            }
            Ok(())
        })?;
        if !is_object {
            cursor.skip()?;
        }
        Ok(is_object.then_some(entry))
    }

    fn write(&self, out: &mut String) {
        out.push('{');
        write_name(out, "type");
        write_string(out, &self.kind);
        write_optional(out, "key", self.key.as_deref());
        if let Some(value) = &self.value {
            write_name(out, "value");
            value.text().write(out);
        }
        write_optional(out, "timestamp", self.timestamp.as_deref());
        if let Some(version_id) = &self.version_id {
            out.push_str(",\"overhead\":{");
            write_optional(out, "versionId", Some(version_id));
            out.push('}');
        }
        out.push('}');
    }
}

/// One record of a journal: changes that were stored together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogRecord {
    /// When the record was committed: ISO 8601.
    pub timestamp: Option<SmolStr>,
    /// The bucket, or one of the special names in [`super::METASTORE`] and [`super::USERS_BUCKET`].
    pub db: Bucket,
    /// The changes, in order.
    pub entries: Vec<LogEntry>,
}

impl LogRecord {
    /// The record in `text`: `{timestamp, db, entries}`.
    pub fn parse(text: &str) -> Result<Self, LogError> {
        let (mut timestamp, mut db, mut entries) = (None, None, None);
        let mut cursor = Cursor::new(text);
        let is_object = cursor.members(|cursor, name| {
            match name {
                b"timestamp" => timestamp = shared(&cursor.scalar()?),
                b"db" => db = shared(&cursor.scalar()?).map(Bucket::from),
                b"entries" => {
                    let mut read = Some(Vec::new());
                    let is_array = cursor.elements(|cursor| {
                        let entry = LogEntry::read(cursor)?;
                        read = read.take().zip(entry).map(|(mut read, entry)| {
                            read.push(entry);
                            read
                        });
                        Ok(())
                    })?;
                    if !is_array {
                        cursor.skip()?;
                    }
                    entries = is_array.then_some(read);
                }
                _ => {
                    cursor.skip()?;
                }
            }
            Ok(())
        })?;
        if !is_object {
            cursor.skip()?;
        }
        cursor.end()?;
        if !is_object {
            return Err(LogError::Shape(NO_OBJECT));
        }
        let db = db.ok_or(LogError::Shape("`db` is missing or not text"))?;
        let entries = entries.ok_or(LogError::Shape("`entries` is missing or not an array"))?;
        let entries = entries.ok_or(LogError::Shape("an entry is not an object"))?;
        Ok(Self { timestamp, db, entries })
    }

    /// The JSON text of this record.
    pub fn to_json(&self) -> String {
        let mut out = String::from("{");
        write_optional(&mut out, "timestamp", self.timestamp.as_deref());
        write_optional(&mut out, "db", Some(self.db.as_str()));
        out.push_str(",\"entries\":[");
        for (index, entry) in self.entries.iter().enumerate() {
            if index > 0 {
                out.push(',');
            }
            entry.write(&mut out);
        }
        out.push_str("]}");
        out
    }

    /// The versions that this record writes, with their metadata: entries of versions and of null versions, without the copies that
    /// master keys hold. What is no metadata at first sight is left out; the filter says so.
    pub fn versions(&self) -> impl Iterator<Item = (ObjectRef, &StoredValue)> + '_ {
        self.entries.iter().filter_map(|entry| {
            let (key, value) = (strip_format_prefix(entry.key.as_deref()?), entry.value.as_ref()?);
            if &*entry.kind != "put" || (is_master(key) && value.is_copy_of_version()) {
                return None;
            }
            let version = match value.version()? {
                VersionRef::Version(_) if is_master(key) => return None,
                VersionRef::Version(id) => VersionRef::Version(id),
                // An object without an id becomes the null version when something is written to it.
                VersionRef::Null | VersionRef::Unversioned => VersionRef::Null,
            };
            Some((ObjectRef { bucket: self.db.clone(), key: object_key(key).into(), version }, value))
        })
    }

    /// What the filter gets to see of this record: every entry that has a value, its key without format prefix
    /// (replication reference 2.6). In boxes, because entries are large and handed on.
    pub fn populator_entries(&self) -> impl Iterator<Item = Box<PopulatorEntry>> + '_ {
        self.entries.iter().filter(|entry| entry.value.is_some()).map(|entry| {
            Box::new(PopulatorEntry {
                kind: Field::Text(entry.kind.clone().into()),
                bucket: Field::Text(self.db.shared().into()),
                key: entry.key.as_ref().map_or(Field::Absent, |key| {
                    let stripped = strip_format_prefix(key);
                    Field::Text(if stripped.len() == key.len() {
                        key.clone().into()
                    } else {
                        stripped.into()
                    })
                }),
                value: entry.value.as_ref().map_or(Field::Absent, |value| Field::Text(value.text().clone())),
                rest: Rest::Overhead {
                    commit_timestamp: self.timestamp.clone(),
                    op_timestamp: entry.timestamp.clone(),
                    version_id: entry.version_id.clone(),
                },
            })
        })
    }
}

/// A member of a populator entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Field {
    /// Not there.
    Absent,
    /// Text.
    Text(Text),
    /// There, but not text, or text that Unicode cannot hold.
    Other(RawJson),
}

impl Field {
    /// The text, if it is text.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Absent | Self::Other(_) => None,
        }
    }

    fn spelled_len(&self) -> usize {
        match self {
            Self::Absent => 0,
            Self::Text(text) => text.spelled_len(),
            Self::Other(raw) => raw.as_str().len(),
        }
    }

    /// Whether the member is there at all.
    pub fn is_present(&self) -> bool {
        *self != Self::Absent
    }
}

/// What a populator entry has besides the four members that decide.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Rest {
    /// Built from a journal record.
    Overhead { commit_timestamp: Option<SmolStr>, op_timestamp: Option<SmolStr>, version_id: Option<SmolStr> },
    /// Read as a document of its own: every member in its place.
    Document(Vec<Slot>),
}

/// A journal entry as the filter sees it and as it is published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PopulatorEntry {
    /// What happened.
    pub kind: Field,
    /// The bucket.
    pub bucket: Field,
    /// The metadata key, without format prefix.
    pub key: Field,
    /// The metadata, as text.
    pub value: Field,
    rest: Rest,
}

const ENTRY_MEMBERS: [&str; 4] = ["type", "bucket", "key", "value"];
const ENTRY_MEMBERS_QUOTED: [&str; 4] = ["\"type\":", "\"bucket\":", "\"key\":", "\"value\":"];

impl PopulatorEntry {
    /// The entry in `text`: `{type, bucket, key, value, ...}`. Other members are kept in their place.
    pub fn parse(text: &str) -> Result<Self, LogError> {
        let mut fields = [Field::Absent, Field::Absent, Field::Absent, Field::Absent];
        let known = |name: &str| ENTRY_MEMBERS.into_iter().find(|known| *known == name);
        let slots = members::read_text(text, 8, known, |name, cursor| {
            let index =
                ENTRY_MEMBERS.iter().position(|known| *known == name).expect("only known members get here");
            fields[index] = match cursor.spelled()? {
                Ok(content) => Field::Text(content),
                Err(raw) => Field::Other(RawJson::scanned(raw)),
            };
            Ok(true)
        })?;
        let slots = slots.ok_or(LogError::Shape(NO_OBJECT))?;
        let [kind, bucket, key, value] = fields;
        Ok(Self { kind, bucket, key, value, rest: Rest::Document(slots) })
    }

    /// The message to publish: the entry with its members in their order (replication reference 3.3).
    pub fn message(&self) -> String {
        let size: usize = ENTRY_MEMBERS.iter().map(|name| self.field(name).spelled_len()).sum();
        let mut out = String::with_capacity(size + 256);
        match &self.rest {
            Rest::Document(slots) => {
                members::write(&mut out, &compact(slots), &[], |out, name| self.write_field(out, name));
            }
            Rest::Overhead { commit_timestamp, op_timestamp, version_id } => {
                out.push('{');
                for (name, quoted) in ENTRY_MEMBERS.into_iter().zip(ENTRY_MEMBERS_QUOTED) {
                    if self.field(name).is_present() {
                        write_quoted_name(&mut out, quoted);
                        self.write_field(&mut out, name);
                    }
                }
                out.push_str(",\"overheadFields\":{");
                let overhead = [
                    ("\"commitTimestamp\":", commit_timestamp),
                    ("\"opTimestamp\":", op_timestamp),
                    ("\"versionId\":", version_id),
                ];
                for (name, value) in overhead {
                    if let Some(value) = value {
                        write_quoted_name(&mut out, name);
                        write_string(&mut out, value);
                    }
                }
                out.push_str("}}");
            }
        }
        out
    }

    fn field(&self, name: &str) -> &Field {
        match name {
            "type" => &self.kind,
            "bucket" => &self.bucket,
            "key" => &self.key,
            _ => &self.value,
        }
    }

    fn write_field(&self, out: &mut String, name: &str) {
        match self.field(name) {
            Field::Text(text) => text.write(out),
            Field::Other(raw) => write_compact(out, raw.as_str()),
            Field::Absent => out.push_str("null"),
        }
    }
}

fn compact(slots: &[Slot]) -> Vec<Slot> {
    slots
        .iter()
        .map(|slot| match slot {
            Slot::Typed(name) => Slot::Typed(name),
            Slot::Raw(name, value) => {
                let mut out = String::with_capacity(value.as_str().len());
                write_compact(&mut out, value.as_str());
                Slot::Raw(name.clone(), RawJson::scanned(&out))
            }
        })
        .collect()
}

fn shared(value: &Scalar<'_>) -> Option<SmolStr> {
    match value {
        Scalar::Text(content) => Some(content.as_ref().into()),
        Scalar::Other(_) => None,
    }
}

fn write_optional(out: &mut String, name: &str, value: Option<&str>) {
    if let Some(value) = value {
        write_name(out, name);
        write_string(out, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_look_like_json_survive() {
        let text = r#"{"db":"a{,b","entries":[{"type":"put","key":"{,"}]}"#;
        let record = LogRecord::parse(text).expect("valid");
        assert_eq!(record.db.as_str(), "a{,b");
        assert_eq!(record.to_json(), text);
    }

    #[test]
    fn a_record_survives_its_text_form() {
        for text in [
            r#"{"timestamp":"t","db":"b","entries":[{"type":"put","key":"k\u0000v","value":"{}","timestamp":"u","overhead":{"versionId":"v"}},{"type":"del","key":"k"}]}"#,
            r#"{"db":"b","entries":[]}"#,
        ] {
            assert_eq!(LogRecord::parse(text).expect("valid").to_json(), text);
        }
    }

    #[test]
    fn members_that_nobody_knows_are_passed_over_whatever_their_names() {
        let text =
            r#"{"\ud800":1,"db":"b","entries":[{"type":"put","\udc00key":{},"key":"k","overhead":[7]}]}"#;
        let record = LogRecord::parse(text).expect("valid");
        assert_eq!(record.to_json(), r#"{"db":"b","entries":[{"type":"put","key":"k"}]}"#);
    }

    #[test]
    fn what_is_no_record_is_refused() {
        for text in ["", "[]", "null", r#"{"db":"b"}"#, r#"{"entries":[]}"#, r#"{"db":"b","entries":[1]}"#] {
            assert!(LogRecord::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn deletes_are_not_shown_and_prefixes_are_stripped() {
        let text = r#"{"timestamp":"t","db":"b","entries":[{"key":"\u007fVk\u0000v","value":"x"},{"type":"del","key":"k"},{"value":"y"}]}"#;
        let record = LogRecord::parse(text).expect("valid");
        let messages: Vec<String> = record.populator_entries().map(|entry| entry.message()).collect();
        assert_eq!(
            messages,
            [
                r#"{"type":"put","bucket":"b","key":"k\u0000v","value":"x","overheadFields":{"commitTimestamp":"t"}}"#,
                r#"{"type":"put","bucket":"b","value":"y","overheadFields":{"commitTimestamp":"t"}}"#,
            ]
        );
    }

    #[test]
    fn an_entry_read_on_its_own_keeps_the_order_of_its_members() {
        let text = r#" {"z" : [1.0, "\u00e9"], "key":"k","value":null,"bucket":"b"}"#;
        let entry = PopulatorEntry::parse(text).expect("valid");
        assert_eq!(entry.message(), r#"{"z":[1.0,"é"],"key":"k","value":null,"bucket":"b"}"#);
        assert_eq!(entry.kind, Field::Absent);
    }
}
