//! Reading the answers of S3 that the demo needs: version listings, tag sets, error documents, replication status.

use anyhow::{Context, Result, bail};
use quick_xml::Reader;
use quick_xml::events::Event;
use serde::Deserialize;
use std::collections::BTreeMap;

/// One row of a version listing.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ListedVersion {
    /// The key.
    pub(super) key: String,
    /// The version id as clients see it.
    pub(super) version: String,
    /// True for the current version.
    pub(super) is_latest: bool,
    /// True for a delete marker.
    pub(super) is_marker: bool,
}

/// One answer of a version listing.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Page {
    /// Its rows.
    pub(super) versions: Vec<ListedVersion>,
    /// Key and version id from which the next page goes on, if there is one.
    pub(super) next: Option<(String, String)>,
}

/// Calls `seen` at the end of every element, with the path of names to it and its text if it holds no other element.
fn walk(document: &[u8], mut seen: impl FnMut(&[String], Option<String>)) -> Result<()> {
    let document = std::str::from_utf8(document).context("not UTF-8")?;
    let mut reader = Reader::from_str(document);
    let mut path: Vec<String> = Vec::new();
    let mut text = String::new();
    let mut is_leaf = false;
    loop {
        match reader.read_event().context("not an XML document")? {
            Event::Start(start) => {
                path.push(start.local_name().as_ref().to_owned());
                text.clear();
                is_leaf = true;
            }
            Event::Empty(empty) => {
                path.push(empty.local_name().as_ref().to_owned());
                seen(&path, Some(String::new()));
                path.pop();
                is_leaf = false;
            }
            Event::End(_) => {
                seen(&path, is_leaf.then(|| std::mem::take(&mut text)));
                is_leaf = false;
                path.pop();
            }
            Event::Text(piece) => text.push_str(&piece.xml10_content()),
            Event::CData(piece) => text.push_str(&piece.xml10_content()),
            Event::GeneralRef(reference) => match reference.resolve_char_ref()? {
                Some(character) => text.push(character),
                None => match quick_xml::escape::resolve_predefined_entity(&reference) {
                    Some(resolved) => text.push_str(resolved),
                    None => bail!("an unknown entity in an XML document"),
                },
            },
            Event::Eof => return Ok(()),
            Event::Decl(_) | Event::PI(_) | Event::DocType(_) | Event::Comment(_) => {}
        }
    }
}

/// The text of the first element called `name` that holds no other, in whatever document.
pub(super) fn element(document: &[u8], name: &str) -> Option<String> {
    let mut found = None;
    walk(document, |path, text| {
        if found.is_none() && path.last().is_some_and(|last| last == name) {
            found = text;
        }
    })
    .ok()?;
    found
}

/// Reads a page of a version listing.
pub(super) fn parse(document: &[u8]) -> Result<Page> {
    let mut page = Page::default();
    let mut row = BTreeMap::new();
    let mut is_truncated = false;
    let (mut key_marker, mut version_marker) = (None, None);
    walk(document, |path, text| {
        let names: Vec<&str> = path.iter().map(String::as_str).collect();
        match (names.as_slice(), text) {
            ([_, "IsTruncated"], Some(text)) => is_truncated = text == "true",
            ([_, "NextKeyMarker"], text) => key_marker = text,
            ([_, "NextVersionIdMarker"], text) => version_marker = text,
            ([_, "Version" | "DeleteMarker", field], Some(text)) => {
                row.insert((*field).to_owned(), text);
            }
            ([_, kind @ ("Version" | "DeleteMarker")], None) => {
                let mut take = |field: &str| row.remove(field).unwrap_or_default();
                page.versions.push(ListedVersion {
                    key: take("Key"),
                    version: take("VersionId"),
                    is_latest: take("IsLatest") == "true",
                    is_marker: *kind == "DeleteMarker",
                });
                row.clear();
            }
            _ => {}
        }
    })?;
    if is_truncated {
        page.next = Some((
            key_marker.context("a listing goes on but does not say from which key")?,
            version_marker.context("a listing goes on but does not say from which version")?,
        ));
    }
    Ok(page)
}

/// Reads a tag set.
pub(super) fn tags(document: &[u8]) -> Result<BTreeMap<String, String>> {
    let mut tags = BTreeMap::new();
    let mut name = String::new();
    let mut value = String::new();
    walk(document, |path, text| match (path.last().map(String::as_str), text) {
        (Some("Key"), Some(text)) => name = text,
        (Some("Value"), Some(text)) => value = text,
        (Some("Tag"), _) => {
            tags.insert(std::mem::take(&mut name), std::mem::take(&mut value));
        }
        _ => {}
    })?;
    Ok(tags)
}

/// Reads the replication status by site out of an answer of the internal metadata route.
pub(super) fn statuses(body: &[u8]) -> Result<BTreeMap<String, String>> {
    #[derive(Deserialize)]
    struct Answer {
        #[serde(rename = "Body")]
        body: String,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Metadata {
        replication_info: ReplicationInfo,
    }
    #[derive(Deserialize)]
    struct ReplicationInfo {
        backends: Vec<Backend>,
    }
    #[derive(Deserialize)]
    struct Backend {
        site: String,
        status: String,
    }
    let answer: Answer = serde_json::from_slice(body).context("not an answer with metadata")?;
    let metadata: Metadata = serde_json::from_str(&answer.body).context("not metadata of an object")?;
    Ok(metadata.replication_info.backends.into_iter().map(|backend| (backend.site, backend.status)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listing_gives_versions_and_markers_in_order_whatever_the_order_of_their_members() {
        let document = br#"<?xml version="1.0"?>
            <ListVersionsResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>b</Name>
            <IsTruncated>true</IsTruncated><NextKeyMarker>k&amp;2</NextKeyMarker>
            <NextVersionIdMarker>v9</NextVersionIdMarker>
            <DeleteMarker><Key>a b</Key><VersionId>v1</VersionId><IsLatest>true</IsLatest></DeleteMarker>
            <Version><IsLatest>false</IsLatest><VersionId>v2</VersionId><Owner><ID>x</ID></Owner>
            <Key>&#x65E5; </Key></Version></ListVersionsResult>"#;
        let page = parse(document).unwrap();
        assert_eq!(page.next, Some(("k&2".to_owned(), "v9".to_owned())));
        let row = |key: &str, version: &str, is_latest, is_marker| ListedVersion {
            key: key.to_owned(),
            version: version.to_owned(),
            is_latest,
            is_marker,
        };
        assert_eq!(page.versions, [row("a b", "v1", true, true), row("日 ", "v2", false, false)]);
    }

    #[test]
    fn a_listing_that_cannot_go_on_is_an_error() {
        assert!(parse(b"<L><IsTruncated>true</IsTruncated></L>").is_err());
        assert!(parse(b"<L><IsTruncated>").is_err() || parse(b"<L><IsTruncated>").unwrap().next.is_none());
    }

    #[test]
    fn tags_may_be_empty_and_keep_their_characters() {
        let tags = tags(
            b"<Tagging><TagSet><Tag><Key>a &lt;b</Key><Value/></Tag><Tag><Key>c</Key><Value>d e</Value></Tag>\
              </TagSet></Tagging>",
        )
        .unwrap();
        assert_eq!(
            tags.into_iter().collect::<Vec<_>>(),
            [("a <b".to_owned(), String::new()), ("c".to_owned(), "d e".to_owned())]
        );
    }

    #[test]
    fn the_code_of_an_error_is_found_and_nothing_in_other_text() {
        assert_eq!(element(b"<Error><Code>NoSuchKey</Code></Error>", "Code").as_deref(), Some("NoSuchKey"));
        assert_eq!(element(b"{}", "Code"), None);
    }

    #[test]
    fn statuses_are_read_by_site() {
        let body = br#"{"Body":"{\"replicationInfo\":{\"status\":\"PENDING\",\"backends\":[{\"site\":\"paris\",\"status\":\"COMPLETED\"}]}}"}"#;
        assert_eq!(statuses(body).unwrap()["paris"], "COMPLETED");
    }
}
