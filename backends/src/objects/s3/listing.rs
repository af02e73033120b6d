//! The lists that S3 answers with.

use backbeat_core::id::MintedId;
use backbeat_core::request::minting::UploadedPart;

use crate::http::form_decode;
use crate::timestamp::parse_iso;
use crate::xml::elements;

/// A version in the answer to `?versions`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::objects) struct Listed {
    pub(in crate::objects) key: String,
    pub(in crate::objects) id: String,
    /// Without quotes; empty for a delete marker.
    pub(super) etag: String,
    pub(super) size: u64,
    pub(super) is_delete_marker: bool,
    pub(super) is_latest: bool,
    /// Milliseconds since the epoch, if the answer says so.
    pub(super) modified: Option<u64>,
}

/// A page of versions, in the answer's order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::objects) struct Versions {
    pub(in crate::objects) listed: Vec<Listed>,
    /// Where the next page begins: a key and a version of it.
    pub(in crate::objects) next: Option<(String, String)>,
    /// Whether there is said to be a next page.
    pub(in crate::objects) is_truncated: bool,
}

/// An upload in the answer to `?uploads`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Upload {
    pub(super) key: String,
    pub(super) id: String,
    /// Who began it, if the answer says so.
    pub(super) initiator: String,
}

/// A page of uploads, and where the next one begins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Uploads {
    pub(super) listed: Vec<Upload>,
    pub(super) next: Option<(String, String)>,
}

/// A page of parts, and the number after which the next one begins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Parts {
    pub(super) listed: Vec<UploadedPart>,
    pub(super) next: Option<String>,
}

/// What every page says of the next one.
#[derive(Default)]
struct Paging {
    is_truncated: bool,
    markers: (String, String),
}

impl Paging {
    /// Without a marker there is no next page, whatever is said.
    fn next(self) -> Option<(String, String)> {
        Some(self.markers).filter(|markers| self.is_truncated && !markers.0.is_empty())
    }
}

/// An entity tag without its quotes.
pub(super) fn unquoted(etag: &str) -> &str {
    etag.trim().trim_matches('"')
}

/// Whether a list has to be asked for with encoded names: XML cannot hold all that keys can. It is not asked for otherwise, because
/// there are servers that encode and do not say so.
pub(super) fn needs_encoding(key: &str) -> bool {
    key.chars().any(|character| character.is_control() || matches!(character, '\u{fffe}' | '\u{ffff}'))
}

/// How the names in a list are read.
fn names(are_encoded: bool) -> fn(&str) -> String {
    if are_encoded { form_decode } else { str::to_owned }
}

/// A page of versions; `are_encoded` if it was asked for with encoded names.
pub(in crate::objects) fn versions(document: &[u8], are_encoded: bool) -> Option<Versions> {
    let elements = elements(document)?;
    let name = names(are_encoded);
    let (mut listed, mut paging, mut one) = (Vec::new(), Paging::default(), Listed::default());
    for (path, text) in &elements {
        match path.strip_prefix("ListVersionsResult")? {
            "/Version/Key" | "/DeleteMarker/Key" => one.key = name(text),
            "/Version/VersionId" | "/DeleteMarker/VersionId" => text.trim().clone_into(&mut one.id),
            "/Version/ETag" => unquoted(text).clone_into(&mut one.etag),
            "/Version/Size" => one.size = text.trim().parse().ok()?,
            "/Version/IsLatest" | "/DeleteMarker/IsLatest" => one.is_latest = text.trim() == "true",
            "/Version/LastModified" | "/DeleteMarker/LastModified" => one.modified = parse_iso(text.trim()),
            "/Version" => listed.push(std::mem::take(&mut one)),
            "/DeleteMarker" => {
                listed.push(Listed { is_delete_marker: true, ..std::mem::take(&mut one) });
            }
            "/IsTruncated" => paging.is_truncated = text.trim() == "true",
            "/NextKeyMarker" => paging.markers.0 = name(text),
            "/NextVersionIdMarker" => text.trim().clone_into(&mut paging.markers.1),
            _ => {}
        }
    }
    Some(Versions { listed, is_truncated: paging.is_truncated, next: paging.next() })
}

/// Puts versions of one key into the order in which they were made, newest first.
///
/// S3 lists them so. Servers whose documents keep delete markers apart from the other versions say with dates how they belong
/// together; where the dates contradict what is said to be the latest, the document's order stands.
pub(super) fn newest_first(listed: Vec<Listed>) -> Vec<Listed> {
    let changes = listed.windows(2).filter(|pair| pair[0].is_delete_marker != pair[1].is_delete_marker);
    let is_apart = changes.count() == 1;
    let is_dated = listed.iter().all(|version| version.modified.is_some());
    if !is_apart || !is_dated || listed.is_sorted_by(|a, b| a.modified >= b.modified) {
        return listed;
    }
    let mut merged = listed.clone();
    merged.sort_by_key(|version| std::cmp::Reverse(version.modified));
    let latest = |listed: &[Listed]| listed.iter().position(|version| version.is_latest);
    if latest(&merged).is_some_and(|place| place > 0) { listed } else { merged }
}

/// A page of uploads; `are_encoded` if it was asked for with encoded names.
pub(super) fn uploads(document: &[u8], are_encoded: bool) -> Option<Uploads> {
    let elements = elements(document)?;
    let name = names(are_encoded);
    let (mut listed, mut paging, mut one) = (Vec::new(), Paging::default(), Upload::default());
    for (path, text) in &elements {
        match path.strip_prefix("ListMultipartUploadsResult")? {
            "/Upload/Key" => one.key = name(text),
            "/Upload/UploadId" => text.trim().clone_into(&mut one.id),
            "/Upload/Initiator/ID" => text.trim().clone_into(&mut one.initiator),
            "/Upload" => listed.push(std::mem::take(&mut one)),
            "/IsTruncated" => paging.is_truncated = text.trim() == "true",
            "/NextKeyMarker" => paging.markers.0 = name(text),
            "/NextUploadIdMarker" => text.trim().clone_into(&mut paging.markers.1),
            _ => {}
        }
    }
    Some(Uploads { listed, next: paging.next() })
}

pub(super) fn parts(document: &[u8]) -> Option<Parts> {
    let (mut listed, mut paging) = (Vec::new(), Paging::default());
    let (mut number, mut size, mut etag) = (0, 0, String::new());
    for (path, text) in elements(document)? {
        match path.strip_prefix("ListPartsResult")? {
            "/Part/PartNumber" => number = text.trim().parse().ok()?,
            "/Part/Size" => size = text.trim().parse().ok()?,
            "/Part/ETag" => unquoted(&text).clone_into(&mut etag),
            "/Part" => listed.push(UploadedPart { number, size, etag: std::mem::take(&mut etag) }),
            "/IsTruncated" => paging.is_truncated = text.trim() == "true",
            "/NextPartNumberMarker" => text.trim().clone_into(&mut paging.markers.0),
            _ => {}
        }
    }
    Some(Parts { listed, next: paging.next().map(|(number, _)| number) })
}

/// The text of the element at `path`.
pub(super) fn text_at(document: &[u8], path: &str) -> Option<String> {
    elements(document)?.into_iter().find(|(found, _)| found == path).map(|(_, text)| text)
}

/// The tags in the answer to `?tagging`.
pub(super) fn tags(document: &[u8]) -> Option<std::collections::BTreeMap<String, String>> {
    let (mut tags, mut name, mut value) = (std::collections::BTreeMap::new(), String::new(), String::new());
    for (path, text) in elements(document)? {
        match path.strip_prefix("Tagging")? {
            "/TagSet/Tag/Key" => name = text,
            "/TagSet/Tag/Value" => value = text,
            "/TagSet/Tag" => {
                tags.insert(std::mem::take(&mut name), std::mem::take(&mut value));
            }
            _ => {}
        }
    }
    Some(tags)
}

/// The id of a version as the list names it: sites that keep none say `null`.
pub(super) fn minted(id: &str) -> MintedId {
    MintedId::from(if id.is_empty() { "null" } else { id })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_and_delete_markers_are_read_in_their_order() {
        let document = br#"<?xml version="1.0" encoding="UTF-8"?>
            <ListVersionsResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>b</Name>
              <IsTruncated>true</IsTruncated>
              <NextKeyMarker>a+b%2Bc</NextKeyMarker><NextVersionIdMarker>v1</NextVersionIdMarker>
              <DeleteMarker><Key>a%20b%2Bc</Key><VersionId>v3</VersionId><IsLatest>true</IsLatest>
                <LastModified>2026-11-20T10:00:02.000Z</LastModified><Owner><ID>o</ID></Owner></DeleteMarker>
              <Version><Key>a+b%2Bc</Key><VersionId>null</VersionId><IsLatest>false</IsLatest>
                <ETag>&quot;e-2&quot;</ETag><Size>7</Size><Owner><ID>o</ID></Owner></Version>
            </ListVersionsResult>"#;
        let found = versions(document, true).expect("a list");
        assert_eq!(found.next, Some(("a b+c".to_owned(), "v1".to_owned())));
        let [marker, version] = &found.listed[..] else { panic!("{found:?}") };
        assert_eq!((&*marker.key, &*marker.id, marker.is_delete_marker), ("a b+c", "v3", true));
        assert!(marker.is_latest && !version.is_latest);
        assert_eq!((&*version.key, &*version.etag, version.size), ("a b+c", "e-2", 7));
        assert_eq!((marker.modified.is_some(), version.modified), (true, None));
        assert_eq!(versions(b"<html></html>", true), None);
        assert_eq!(versions(b"<ListVersionsResult>", true), None);
    }

    #[test]
    fn names_are_decoded_only_where_they_are_encoded() {
        let document = b"<ListVersionsResult><Version><Key>a+b%2B</Key></Version></ListVersionsResult>";
        assert_eq!(versions(document, false).expect("a list").listed[0].key, "a+b%2B");
        assert_eq!(versions(document, true).expect("a list").listed[0].key, "a b+");
        assert!(needs_encoding("a\nb") && !needs_encoding("a b+%é"));
    }

    #[test]
    fn delete_markers_that_are_listed_apart_are_put_in_their_place() {
        let one = |id: &str, is_delete_marker, modified| Listed {
            id: id.to_owned(),
            is_delete_marker,
            modified: Some(modified),
            is_latest: id == "latest",
            ..Listed::default()
        };
        let ids =
            |listed| -> Vec<String> { newest_first(listed).into_iter().map(|version| version.id).collect() };
        // As S3 lists them, also when two have the same date.
        let in_order = vec![one("latest", false, 3), one("2", true, 2), one("1", false, 2)];
        assert_eq!(ids(in_order), ["latest", "2", "1"]);
        let apart = vec![one("3", true, 3), one("1", true, 1), one("latest", false, 4), one("2", false, 2)];
        assert_eq!(ids(apart.clone()), ["latest", "3", "2", "1"]);
        // What took long was begun early: the date is not when it became a version.
        let begun_early = vec![one("latest", false, 1), one("2", true, 2)];
        assert_eq!(ids(begun_early), ["latest", "2"]);
        let undated = apart.into_iter().map(|version| Listed { modified: None, ..version }).collect();
        assert_eq!(ids(undated), ["3", "1", "latest", "2"]);
    }

    #[test]
    fn uploads_and_parts_are_read() {
        let document = b"<ListMultipartUploadsResult><IsTruncated>true</IsTruncated><NextKeyMarker/>
            <Upload><Key>k</Key><UploadId>u</UploadId><Initiator><ID>me</ID></Initiator>
            <Owner><ID>other</ID></Owner></Upload></ListMultipartUploadsResult>";
        let found = uploads(document, false).expect("a list");
        let upload = Upload { key: "k".to_owned(), id: "u".to_owned(), initiator: "me".to_owned() };
        assert_eq!(found, Uploads { listed: vec![upload], next: None });
        let document = b"<ListPartsResult><IsTruncated>true</IsTruncated>
            <NextPartNumberMarker>2</NextPartNumberMarker><Part><PartNumber>2</PartNumber><Size>5</Size>
            <ETag>\"e\"</ETag></Part></ListPartsResult>";
        let found = parts(document).expect("a list");
        let part = UploadedPart { number: 2, size: 5, etag: "e".to_owned() };
        assert_eq!(found, Parts { listed: vec![part], next: Some("2".to_owned()) });
        assert_eq!(
            parts(b"<ListPartsResult><Part><PartNumber>x</PartNumber></Part></ListPartsResult>"),
            None
        );
    }
}
