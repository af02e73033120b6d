use proptest::prelude::*;

use super::*;
use crate::model::{Backend, ContentFlag, OverallStatus, SiteStatus};

fn parse(text: &str) -> ObjectMd {
    ObjectMd::parse(text).expect("test metadata is valid")
}

const SAMPLE: &str = r#"{"owner-display-name":"Alice","owner-id":"a1","content-length":10,"content-md5":"9f-2","x-amz-meta-a":"1","tags":{"t":"v"},"location":[{"key":"k1","size":6,"start":0,"dataStoreName":"us","dataStoreType":"file","dataStoreETag":"1:aa"},{"key":"k2","size":4,"start":6,"dataStoreName":"us","dataStoreETag":"2:bb"}],"replicationInfo":{"status":"PENDING","backends":[{"site":"paris","status":"PENDING","dataStoreVersionId":""}],"content":["DATA","METADATA"],"destination":"arn:aws:s3:::d","storageClass":"paris","role":"r1,r2","storageType":"","dataStoreVersionId":"","isNFS":null},"dataStoreName":"us","last-modified":"2024-03-03T14:08:25.354Z","md-model-version":3,"versionId":"98235976506070999668PARIS  ","originOp":"s3:ObjectCreated:Put"}"#;

#[test]
fn an_unedited_document_is_written_as_it_was_read() {
    assert_eq!(parse(SAMPLE).to_json(), SAMPLE);
}

#[test]
fn a_time_that_is_its_default_is_the_same_revision_as_none() {
    for text in [
        r#"{"creation-time":""}"#,
        r#"{"creation-time":"t","last-modified":"t"}"#,
        r#"{"last-modified":"t"}"#,
    ] {
        let md = parse(text);
        assert_eq!(parse(&md.to_model_json()).revision(), md.revision(), "{text}");
    }
}

#[test]
fn tags_are_compared_as_the_map_of_them_would_be() {
    let documents = [
        "{}",
        r#"{"tags":{}}"#,
        r#"{"tags":{"a":"1"}}"#,
        r#"{"tags":{"\u0061":"\u0031"}}"#,
        r#"{"tags":{"a":"1","a":"1"}}"#,
        r#"{"tags":{"a":"2","a":"1"}}"#,
        r#"{"tags":{"a":"1","b":2}}"#,
        r#"{"tags":{"a":"1","b":"2"}}"#,
        r#"{"tags":{"b":"2","a":"1"}}"#,
        r#"{"tags":["a"]}"#,
    ];
    for one in documents {
        for other in documents {
            let tags = parse(other).tags();
            assert_eq!(parse(one).has_tags(&tags), parse(one).tags() == tags, "{one} {other}");
        }
    }
}

#[test]
fn accessors_read_what_the_document_says() {
    let md = parse(SAMPLE);
    assert_eq!(md.version_ref(), VersionRef::Version("98235976506070999668PARIS  ".into()));
    assert_eq!((md.content_length(), md.is_multipart(), md.data_store_name()), (10, true, "us"));
    assert_eq!(md.tags().into_iter().collect::<Vec<_>>(), [("t".to_owned(), "v".to_owned())]);
    assert_eq!(md.user_metadata().collect::<Vec<_>>(), [("a", "1".to_owned())]);
    assert_eq!(md.user_metadata_json().as_deref(), Some(r#"{"x-amz-meta-a":"1"}"#));
    assert_eq!(
        md.part_layout().iter().map(|part| (part.number, part.size)).collect::<Vec<_>>(),
        [(1, 6), (2, 4)]
    );
    assert!(md.replication().has(&ContentFlag::Data));
    assert_eq!(parse(r#"{"isNull":true,"versionId":"x"}"#).version_ref(), VersionRef::Null);
    assert_eq!(parse(r#"{"versionId":""}"#).version_ref(), VersionRef::Unversioned);
    assert_eq!(parse(r#"{"content-length":"012"}"#).content_length(), 12);
}

#[test]
fn a_status_edit_keeps_the_revision_and_changes_the_state() {
    let md = parse(SAMPLE);
    let site = "paris".into();
    let done = md.replication().with_site_status(&site, SiteStatus::Completed).with_computed_status();
    let edited = md.with_replication(done).with_origin_op("s3:Replication:OperationCompletedReplication");
    assert_eq!(edited.revision(), md.revision());
    assert_eq!(edited.fingerprint(), md.fingerprint());
    assert_ne!(edited.state_tag(), md.state_tag());
    assert_eq!(parse(&edited.to_json()).revision(), md.revision());
    assert_eq!(parse(&edited.to_json()).state_tag(), edited.state_tag());
    assert_eq!(
        edited.to_json(),
        SAMPLE
            .replace("\"status\":\"PENDING\"", "\"status\":\"COMPLETED\"")
            .replace("s3:ObjectCreated:Put", "s3:Replication:OperationCompletedReplication")
    );
}

#[test]
fn every_client_change_changes_the_revision() {
    let md = parse(SAMPLE);
    for (old, new) in [
        (r#"{"t":"v"}"#, r#"{"t":"w"}"#),
        (r#""x-amz-meta-a":"1""#, r#""x-amz-meta-a":"2""#),
        (r#"["DATA","METADATA"]"#, r#"["METADATA"]"#),
        (r#""key":"k1""#, r#""key":"k9""#),
        (r#""owner-id":"a1""#, r#""owner-id":"a2""#),
        ("10,", "11,"),
    ] {
        let changed = SAMPLE.replace(old, new);
        assert_ne!(changed, SAMPLE);
        assert_ne!(parse(&changed).revision(), md.revision(), "{old}");
    }
}

#[test]
fn spelling_defaults_and_the_list_of_sites_do_not_change_the_revision() {
    let md = parse(SAMPLE);
    let reordered = serde_json::from_str::<serde_json::Value>(SAMPLE).expect("valid").to_string();
    assert_eq!(parse(&reordered).revision(), md.revision());
    assert_eq!(parse(&md.to_model_json()).revision(), md.revision());
    assert_eq!(parse(&SAMPLE.replace(":10,", ":1.0e1,")).revision(), md.revision());
    let retry = md.with_replication(md.replication().retry(&"paris".into()));
    assert_eq!(parse(&retry.to_json()).revision(), md.revision());
}

#[test]
fn covering_a_null_version_changes_nothing_that_clients_wrote() {
    let md = parse(SAMPLE).without_member("versionId");
    let id = ("versionId", RawJson::string("99999999999999999999RG001  "));
    let covered = md.with_members(&[id, ("isNull", RawJson::bool(true))]);
    assert_eq!(covered.version_ref(), VersionRef::Null);
    assert_eq!(covered.revision(), md.revision());
    assert_eq!(covered.fingerprint(), md.fingerprint());
    let above = md.with_members(&[("nullVersionId", RawJson::string("99999999999999999999RG002  "))]);
    assert_eq!(parse(&above.to_json()).fingerprint(), md.fingerprint());
}

#[test]
fn the_fingerprint_of_a_replica_equals_the_sources() {
    let md = parse(SAMPLE);
    let stored: Vec<Location> =
        md.reduced_locations().iter().map(|part| part.stored_at(&Location::stored("t", "dst"))).collect();
    let encryption = Encryption { algorithm: "AES256".to_owned(), ..Encryption::default() };
    let replica = md
        .replica(md.replication().with_status(OverallStatus::Replica), &Owner::new("other", "Bob"), stored)
        .with_encryption(&encryption);
    assert_ne!(replica.revision(), md.revision());
    assert_eq!(parse(&replica.to_json()).fingerprint(), md.fingerprint());
    assert_eq!(parse(&replica.to_model_json()).fingerprint(), md.fingerprint());
    let cut = md.with_location(md.locations()[..1].to_vec());
    assert_ne!(cut.fingerprint(), md.fingerprint());
    let tagged = md.with_member("tags", &RawJson::parse("{}").expect("json")).expect("a plain member");
    assert_ne!(tagged.fingerprint(), md.fingerprint());
}

#[test]
fn edits_add_missing_members_at_the_end_and_empty_locations_become_null() {
    let md = parse(r#"{"z":1}"#);
    let info = ReplicationInfo::new(
        OverallStatus::Pending,
        vec![Backend::new("s".into(), SiteStatus::Pending)],
        vec![ContentFlag::Metadata],
        "d",
        "s",
        "r",
        "",
    );
    let edited = md.with_replication(info).with_location(Vec::new()).with_origin_op("op");
    assert_eq!(
        edited.to_json(),
        r#"{"z":1,"replicationInfo":{"status":"PENDING","backends":[{"site":"s","status":"PENDING","dataStoreVersionId":""}],"content":["METADATA"],"destination":"d","storageClass":"s","role":"r","storageType":"","dataStoreVersionId":"","isNFS":null},"location":null,"originOp":"op"}"#
    );
    assert_eq!(
        edited.without_member("replicationInfo").without_member("z").to_json(),
        r#"{"location":null,"originOp":"op"}"#
    );
}

#[test]
fn a_legacy_location_becomes_a_list_in_the_model_form() {
    let md = parse(r#"{"location":"abc"}"#);
    assert_eq!(md.to_json(), r#"{"location":"abc"}"#);
    assert!(md.to_model_json().starts_with(r#"{"location":[{"key":"abc"}],"#), "{}", md.to_model_json());
}

#[test]
fn what_cannot_be_metadata_is_refused_with_a_reason() {
    assert_eq!(ObjectMd::parse("[]").expect_err("not an object"), MetadataError::NotAnObject);
    assert!(matches!(ObjectMd::parse("{"), Err(MetadataError::Json(_))));
    assert!(matches!(ObjectMd::parse(""), Err(MetadataError::Json(_))));
    assert!(matches!(ObjectMd::parse(r#"{"a":1}{"#), Err(MetadataError::Json(_))));
    for wrong in
        [r#"{"replicationInfo":7}"#, r#"{"location":[7]}"#, r#"{"replicationInfo":{"backends":[1]}}"#]
    {
        assert!(matches!(ObjectMd::parse(wrong), Err(MetadataError::Member { .. })), "{wrong}");
    }
}

fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("null".to_owned()),
        Just("true".to_owned()),
        Just("12345678901234567890123456789.10e-7".to_owned()),
        Just("1.0".to_owned()),
        Just(r#""\ud800\/\u00e9""#.to_owned()),
        Just(r#"{"a":[1,{"b":"\u0000"}],"a":2}"#.to_owned()),
        any::<i64>().prop_map(|number| number.to_string()),
        any::<String>().prop_map(|text| RawJson::string(&text).as_str().to_owned()),
    ]
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        prop::sample::select(vec![
            "content-length",
            "tags",
            "versionId",
            "isNull",
            "acl",
            "originOp",
            "owner-id"
        ])
        .prop_map(str::to_owned),
        any::<String>(),
        "x-amz-meta-[a-z]{1,5}",
    ]
}

proptest! {
    #[test]
    fn any_object_survives_reading_and_writing(members in prop::collection::btree_map(name(), value(), 0..12)) {
        prop_assume!(!members.contains_key("replicationInfo") && !members.contains_key("location"));
        let mut text = String::from("{");
        for (name, value) in &members {
            write_name(&mut text, name);
            text.push_str(value);
        }
        text.push('}');
        let md = parse(&text);
        prop_assert_eq!(md.json_len(), text.len());
        prop_assert_eq!(md.to_json(), text);
        // The lone surrogate among the values keeps serde from reading all of them; the model form is valid all the same.
        prop_assert!(crate::model::json_text::check(&md.to_model_json()).is_ok());
        prop_assert_eq!(parse(&md.to_model_json()).revision(), md.revision());
        prop_assert_eq!(parse(&md.to_model_json()).fingerprint(), md.fingerprint());
    }

    #[test]
    fn parsing_is_total(text in any::<String>(), middle in "[{}\\[\\]\":,a-z0-9\\\\]{0,40}") {
        for text in [text, format!("{{{middle}}}")] {
            if let Ok(md) = ObjectMd::parse(&text) {
                prop_assert_eq!(md.json_len(), md.to_json().len());
                prop_assert!(ObjectMd::parse(&md.to_json()).is_ok());
            }
        }
    }
}

#[test]
fn the_same_content_written_again_has_another_tag_where_the_site_marks_changes() {
    let marked = |md: &ObjectMd, mark: &str| md.with_members(&[("microVersionId", RawJson::string(mark))]);
    let (first, again) = (marked(&parse(SAMPLE), "a1"), marked(&parse(SAMPLE), "a2"));
    assert_ne!(first.state_tag(), again.state_tag());
    assert_ne!(first.fingerprint(), again.fingerprint());
}
