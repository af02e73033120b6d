//! The model of core: journal records, queue messages, metadata documents, keys and replication configurations.

use backbeat_core::id::{ObjectKey, Site};
use backbeat_core::model::{
    ConfigurationRules, Endpoint, FilterConfig, LogRecord, Message, ObjectMd, Owner, PopulatorEntry, RawJson,
    ReplicationConfiguration, SiteStatus, VersionId, decide, encode_uri_component, object_key, parse_message,
    strip_format_prefix, version_key, version_suffix,
};

fn text(data: &[u8]) -> Option<&str> {
    std::str::from_utf8(data).ok()
}

/// A journal record, through the populator's filter. What is written is read back as it was.
pub fn journal_record(data: &[u8]) {
    let Some(text) = text(data) else { return };
    if let Ok(record) = LogRecord::parse(text) {
        let again = LogRecord::parse(&record.to_json()).expect("what is written can be read");
        assert_eq!(again, record);
        for entry in record.populator_entries() {
            filter(&entry);
        }
    }
    if let Ok(entry) = PopulatorEntry::parse(text) {
        filter(&entry);
    }
}

fn filter(entry: &PopulatorEntry) {
    let message = entry.message();
    PopulatorEntry::parse(&message).expect("what is written can be read");
    decide(entry, &FilterConfig::default());
}

/// A queue message. What the engine publishes about it is the same again once it is read.
pub fn queue_message(data: &[u8]) {
    let Message::Object(entry) = parse_message(data) else { return };
    let site = Site::from("site-8001");
    let forms = [
        entry.to_kafka(None).1,
        entry.to_kafka(Some(&site)).1,
        entry.to_retry(&site).to_kafka(Some(&site)).1,
        entry.to_replica(&site).to_kafka(None).1,
        entry.to_completed(&site).to_kafka(Some(&site)).1,
        entry.to_failed(&site).to_kafka(Some(&site)).1,
    ];
    for form in forms {
        let Message::Object(read) = parse_message(form.as_bytes()) else {
            panic!("a message that the engine wrote is not understood: {form}");
        };
        let Message::Object(again) = parse_message(read.to_kafka(None).1.as_bytes()) else {
            panic!("a message that the engine wrote is not understood: {form}");
        };
        assert_eq!(again.md().to_json(), read.md().to_json());
        assert_eq!(again.object_ref(), read.object_ref());
    }
    assert!(!entry.queue_key().is_empty());
    entry.canonical_key();
}

/// An object's metadata. Nothing is lost by reading and writing, and the digests of an edited document are those of
/// the document read anew.
pub fn object_metadata(data: &[u8]) {
    let Some(text) = text(data) else { return };
    let Ok(md) = ObjectMd::parse(text) else { return };
    let written = md.to_json();
    let read = same(&md, &written);
    assert_eq!(read.to_json(), written);
    let model = ObjectMd::parse(&md.to_model_json()).expect("what is written can be read");
    assert_eq!(model.revision(), md.revision(), "defaults do not make another revision");
    assert_eq!(model.to_model_json(), md.to_model_json());
    md.tags();
    md.user_metadata_json();
    md.part_layout();
    md.reduced_locations();
    md.version_ref();
    let site = Site::from("sf");
    let edits = [
        md.with_origin_op("s3:ObjectTagging:Put"),
        md.replica(md.replication().clone(), &Owner::new("owner", "name"), md.reduced_locations()),
        md.with_location(md.reduced_locations()),
        md.with_replication(md.replication().with_site_status(&site, SiteStatus::Completed)),
        md.with_replication(md.replication().retry(&site)),
        md.without_member("tags"),
        md.without_member("versionId"),
    ];
    for edited in edits {
        same(&edited, &edited.to_json());
    }
    for value in ["null", "1e3", "\"\\ud83d\\ude00\"", "[{}]"] {
        let value = RawJson::parse(value).expect("it is JSON");
        for name in ["x-amz-meta-a", "tags", "isNull", "content-length", "location", "replicationInfo"] {
            if let Ok(edited) = md.with_member(name, &value) {
                same(&edited, &edited.to_json());
            }
        }
    }
}

/// Reads a document that was written, and compares it with what it was written of.
fn same(md: &ObjectMd, written: &str) -> ObjectMd {
    let read = ObjectMd::parse(written).expect("what is written can be read");
    assert_eq!(read.revision(), md.revision(), "{written}");
    assert_eq!(read.state_tag(), md.state_tag(), "{written}");
    assert_eq!(read.fingerprint(), md.fingerprint(), "{written}");
    read
}

/// A metadata key, and a version id in either of its spellings.
pub fn metadata_key(data: &[u8]) {
    let Some(text) = text(data) else { return };
    let plain = strip_format_prefix(text);
    let (key, version) = (object_key(plain), version_suffix(plain));
    if let Some(version) = version {
        assert_eq!(version_key(&ObjectKey::from(key), version), plain);
    }
    encode_uri_component(text);
    // Upstream reads ids leniently, so only ids as sites make them come back as they were.
    for read in [VersionId::decode(text), VersionId::from_hex(text), VersionId::from_base62(text)] {
        if let Ok(id) = read {
            id.encode();
        }
    }
    if let [a, b, c, d, rank_high, rank_low, info @ ..] = data {
        let (time, rank) =
            (u32::from_be_bytes([*a, *b, *c, *d]), u16::from_be_bytes([*rank_high, *rank_low]));
        let info: String = info.iter().take(8).map(|byte| char::from(b'0' + byte % 10)).collect();
        let id = VersionId::new(u64::from(time) * 1000, rank.into(), "RG001", &info);
        assert_eq!(VersionId::decode(&id.encode()).expect("what is written can be read"), id);
    }
    let id = VersionId::from(text);
    id.encode();
    id.to_hex();
}

/// A replication configuration. What is accepted is accepted again in the form that clients get.
pub fn replication_configuration(data: &[u8]) {
    let Some(text) = text(data) else { return };
    let endpoint = |site: &str, kind: Option<&str>| Endpoint {
        site: site.into(),
        kind: kind.map(str::to_owned),
        is_default: kind.is_none(),
    };
    let rules = ConfigurationRules {
        endpoints: vec![endpoint("sf", None), endpoint("aws-loc", Some("aws_s3"))],
        one_role_may_stand_for_both: data.len() % 2 == 0,
        ..ConfigurationRules::default()
    };
    let mut made = 0;
    let mut name = || {
        made += 1;
        format!("generated-{made}")
    };
    let Ok(read) = ReplicationConfiguration::parse(text, &rules, &mut name) else { return };
    read.rule_for("logs/0");
    let again = ReplicationConfiguration::parse(&read.to_xml(), &rules, &mut name);
    let again = again.unwrap_or_else(|error| panic!("{error}: {}", read.to_xml()));
    assert_eq!(again.rules, read.rules);
    assert_eq!((again.role, again.destination), (read.role, read.destination));
}
