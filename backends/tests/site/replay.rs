//! Every captured request to CloudServer, sent to the embedded site: answers are equal but for ids and dates, or
//! `captures/differences.json` says why not.
//!
//! The captures are replayed in their order. What was done between them without being captured is done by
//! `prepare`. Ids are learnt on the way: where an answer holds another id of the same kind in the same place, later
//! requests that name the captured one are sent with ours.

use crate::harness::{Answer, Server, at, config};
use backbeat_backends::http::{Body, Request};
use backbeat_backends::site::{CloudLocation, ReplicationEndpoint, SiteConfig};
use backbeat_core::model::VersionId;
use http::Method;
use serde::Deserialize;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

const DIFFERENCES: &str = include_str!("../captures/differences.json");
const REPLICATION: (&str, &str) =
    ("captures-replication-routes.json", include_str!("../captures/captures-replication-routes.json"));
const MULTIPLE_BACKEND: (&str, &str) = (
    "captures-multiplebackend-routes.json",
    include_str!("../captures/captures-multiplebackend-routes.json"),
);
const OTHER: (&str, &str) =
    ("captures-other-routes.json", include_str!("../captures/captures-other-routes.json"));
const CAP: &str = "/cap-1795192705";
const MB: &str = "/mb-1795192754";
const NV: &str = "/nv-1795192845";
const NR: &str = "/nr-1795192845";
const LC: &str = "/lc-1795192845";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Difference {
    file: String,
    /// JSON pointers into a pair and the values that they must have there.
    r#match: Map<String, Value>,
    reason: String,
    doc: String,
}

/// Source and target as they were when the captures were made.
struct Sites {
    source: Server,
    target: Server,
}

/// A replay under way.
struct Replay {
    sites: Sites,
    differences: Vec<Difference>,
    matched: Vec<bool>,
    /// Captured ids and ours.
    known: BTreeMap<String, String>,
    failures: Vec<String>,
}

fn own(config: SiteConfig, group: &str) -> SiteConfig {
    SiteConfig { replication_group: group.into(), ..config }
}

impl Sites {
    async fn start(directory: &std::path::Path) -> Self {
        let target = Server::start_configured(own(config(&directory.join("target")), "RG002")).await;
        let location = |name: &str, bucket: &str, keeps_keys| CloudLocation {
            name: name.into(),
            endpoint: target.client.signed.endpoint().to_owned(),
            bucket: bucket.into(),
            access_key: "accessKey1".into(),
            secret_key: "verySecretKey1".into(),
            keeps_keys,
        };
        let cloud = |site: &str| ReplicationEndpoint {
            site: site.into(),
            cloud_type: Some("aws_s3".into()),
            is_default: false,
        };
        let mut source = own(config(&directory.join("source")), "RG001");
        source.locations =
            vec![location("aws-loc", "aws-loc-target", true), location("aws-loc2", "aws-loc2-target", false)];
        source.replication_endpoints.extend([cloud("aws-loc"), cloud("aws-loc2")]);
        // A port that nothing listens on.
        source.api = Some("127.0.0.1:1".into());
        let source = Server::start_configured(source).await;
        for bucket in ["dst-bucket", "aws-loc-target", "aws-loc2-target"] {
            target.client.bucket(bucket, true).await;
        }
        Self { source, target }
    }

    async fn put(&self, path: &str, headers: &[(&str, &str)], body: &str) -> String {
        let request = at(Method::PUT, path).body(Body::full(body.to_owned()));
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        let answer = self.source.client.send(request).await.expect(200);
        answer.header("x-amz-version-id").unwrap_or("null").to_owned()
    }
}

impl Replay {
    async fn start(directory: &std::path::Path) -> Self {
        let differences: Vec<Difference> = serde_json::from_str(DIFFERENCES).unwrap();
        let matched = vec![false; differences.len()];
        let sites = Sites::start(directory).await;
        Self { sites, differences, matched, known: BTreeMap::new(), failures: Vec::new() }
    }

    /// Notes that a captured version is ours, in both spellings of its id.
    fn is_version(&mut self, theirs: &str, ours: &str) {
        self.known.insert(theirs.into(), ours.into());
        if let (Ok(theirs), Ok(ours)) = (VersionId::decode(theirs), VersionId::decode(ours)) {
            self.known.insert(theirs.to_string(), ours.to_string());
        }
    }

    /// A captured text with our ids.
    fn translate(&self, text: &str) -> String {
        // Longer ones first: a data key may be part of another.
        let mut known: Vec<_> = self.known.iter().collect();
        known.sort_by_key(|(theirs, _)| std::cmp::Reverse(theirs.len()));
        known.iter().fold(text.to_owned(), |text, (theirs, ours)| text.replace(theirs.as_str(), ours))
    }

    async fn send(&self, pair: &Value) -> Answer {
        let captured = &pair["request"];
        let method = captured["method"].as_str().unwrap().parse::<Method>().unwrap();
        let mut request = Request::new(method, captured["path"].as_str().unwrap());
        for (name, value) in captured["query"].as_object().unwrap() {
            request = request.query(name, self.translate(value.as_str().unwrap()));
        }
        for (name, value) in captured["headers"].as_object().unwrap() {
            request = request.header(name, self.translate(value.as_str().unwrap()));
        }
        let body = match captured["body"].as_str().unwrap() {
            "<5242880 bytes>" => "z".repeat(5_242_880),
            body => self.translate(body),
        };
        request = request.body(Body::full(body));
        let server =
            if captured["port"] == 8100 { &self.sites.target.client } else { &self.sites.source.client };
        let client = match captured["account"].as_str().unwrap() {
            "accessKey1" => server.clone(),
            "accessKey2" => server.with("accessKey2", "verySecretKey2"),
            "replicationKey1" if pair["description"] == "metadata with a wrong secret" => {
                server.with("replicationKey1", "wrong")
            }
            "replicationKey1" => server.with("replicationKey1", "replicationSecretKey1"),
            "lifecycleKey1" => server.with("lifecycleKey1", "lifecycleSecretKey1"),
            "unknownkey" => server.with("unknownkey", "whatever"),
            "anonymous" => {
                request = request.unsigned();
                server.clone()
            }
            other => panic!("account {other}"),
        };
        client.send(request).await
    }

    /// Replays one file.
    async fn run(&mut self, (file, captures): (&str, &str)) {
        let all: Value = serde_json::from_str(captures).unwrap();
        let pairs = all["captures"].as_array().unwrap();
        assert!(pairs.len() > 40, "{file} is not whole");
        for pair in pairs {
            let description = pair["description"].as_str().unwrap();
            self.prepare(file, description, pairs).await;
            let answer = self.send(pair).await;
            let compared = self.compare(pair, &answer);
            let fits = |difference: &Difference| {
                difference.file == file
                    && !difference.r#match.is_empty()
                    && difference.r#match.iter().all(|(at, wanted)| pair.pointer(at) == Some(wanted))
            };
            let listed = self.differences.iter().position(fits);
            match (compared, listed) {
                (Ok(()), None) => {}
                (Err(_), Some(listed)) => self.matched[listed] = true,
                (Ok(()), Some(_)) => {
                    self.failures.push(format!(
                        "{file}: {description}: listed as different, but it is equal: take it off the list"
                    ));
                }
                (Err(problem), None) => self.failures.push(format!("{file}: {description}: {problem}")),
            }
        }
    }

    /// What was done before a captured request without being captured.
    async fn prepare(&mut self, file: &str, description: &str, pairs: &[Value]) {
        let client = self.sites.source.client.clone();
        let version_of = |description: &str| {
            let pair = pairs.iter().find(|pair| pair["description"] == description).unwrap();
            pair["request"]["query"]["versionId"].as_str().unwrap().to_owned()
        };
        match (file, description) {
            (_, "GET replication before any is set") => client.bucket(&CAP[1..], false).await,
            (_, "PUT replication") => {
                client.versioning(&CAP[1..], "Enabled").await.expect(200);
            }
            (_, "metadata of plain") => {
                let plain = [
                    ("cache-control", "max-age=3"),
                    ("content-disposition", "attachment"),
                    ("content-encoding", "identity"),
                    ("content-type", "text/plain"),
                    ("x-amz-meta-color", "blue"),
                ];
                let tags = [("x-amz-tagging", "env=prod&k%C3%A9=v%2B1")];
                let put = async |key: &str, headers: &[(&str, &str)], body: &str| {
                    self.sites.put(&format!("{CAP}/{key}"), headers, body).await
                };
                let mut made = vec![
                    ("plain", put("plain.txt", &plain, "hello lab").await),
                    ("tagged", put("tagged é.txt", &tags, "tagged body").await),
                    ("zero", put("zero", &[], "").await),
                    ("mpu", self.upload(&format!("{CAP}/mpu/big.bin")).await),
                    ("todelete", put("todelete", &[], "x").await),
                ];
                made.push(("dm", client.delete(&format!("{CAP}/todelete")).await.expect(204).version()));
                let copy = at(Method::PUT, &format!("{CAP}/copied.txt"));
                let copy = copy.header("x-amz-copy-source", format!("{CAP}/plain.txt"));
                let copied = client.send(copy).await;
                made.extend(copied.header("x-amz-version-id").map(|ours| ("copy", ours.to_owned())));
                for (kind, ours) in made {
                    self.is_version(&version_of(&format!("metadata of {kind}")), &ours);
                }
            }
            (_, "metadata after PutObjectTagging on a COMPLETED object") => {
                let tags = "<Tagging><TagSet><Tag><Key>late</Key><Value>1</Value></Tag></TagSet></Tagging>";
                client.put(&format!("{CAP}/plain.txt?tagging"), tags).await.expect(200);
            }
            (_, "metadata after DeleteObjectTagging") => {
                client.delete(&format!("{CAP}/plain.txt?tagging")).await.expect(204);
            }
            (_, "metadata after PutObjectAcl") => {
                let acl = at(Method::PUT, &format!("{CAP}/plain.txt?acl")).header("x-amz-acl", "public-read");
                client.send(acl).await;
            }
            (_, "metadata of an object with two cloud sites") => {
                client.bucket(&MB[1..], true).await;
                let rules = crate::harness::replication_xml(
                    "arn:aws:iam::123456789012:role/bb-src",
                    "aws-loc,aws-loc2",
                );
                let rules = rules.replace("dst-bucket", "aws-loc-target");
                client.put(&format!("{MB}?replication"), rules).await.expect(200);
                let headers = [("x-amz-tagging", "a=1"), ("x-amz-meta-u", "1")];
                let ours = self.sites.put(&format!("{MB}/cloud.txt"), &headers, "cloud body").await;
                self.is_version(&version_of(description), &ours);
            }
            (_, "metadata, non-versioned bucket") => {
                client.bucket(&NV[1..], false).await;
                self.sites.put(&format!("{NV}/plain"), &[], "nv").await;
            }
            (_, "null version after a newer version was put") => {
                client.versioning(&NV[1..], "Enabled").await.expect(200);
                self.sites.put(&format!("{NV}/plain"), &[], "newer").await;
            }
            (_, "null version put while suspended") => {
                client.versioning(&NV[1..], "Suspended").await.expect(200);
                self.sites.put(&format!("{NV}/plain"), &[], "susp").await;
            }
            (_, "null delete marker while suspended") => {
                client.delete(&format!("{NV}/plain")).await.expect(204);
            }
            (_, "null version of an object older than versioning") => {
                client.bucket(&NR[1..], false).await;
                self.sites.put(&format!("{NR}/old"), &[], "old").await;
                client.versioning(&NR[1..], "Enabled").await.expect(200);
            }
            (_, "lifecycle list current") => self.prepare_lifecycle().await,
            (_, "GET lifecycle") => {
                let rules = "<LifecycleConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Rule><ID>x</ID>\
                    <Status>Enabled</Status><Filter><Prefix>logs/</Prefix></Filter><AbortIncompleteMultipartUpload>\
                    <DaysAfterInitiation>1</DaysAfterInitiation></AbortIncompleteMultipartUpload><Expiration><Days>3</Days>\
                    </Expiration><NoncurrentVersionExpiration><NoncurrentDays>2</NoncurrentDays><NewerNoncurrentVersions>3\
                    </NewerNoncurrentVersions></NoncurrentVersionExpiration></Rule><Rule><ID>t</ID><Status>Enabled</Status>\
                    <Filter><And><Prefix>q</Prefix><Tag><Key>a</Key><Value>b</Value></Tag></And></Filter><Transition>\
                    <Days>1</Days><StorageClass>aws-loc</StorageClass></Transition></Rule></LifecycleConfiguration>";
                client.put(&format!("{LC}?lifecycle"), rules).await;
            }
            _ => {}
        }
    }

    async fn prepare_lifecycle(&self) {
        let client = &self.sites.source.client;
        client.bucket(&LC[1..], true).await;
        for (key, body, tags) in [("logs/0", "", ""), ("logs/1", "x", "k=v"), ("logs/2", "xx", "")] {
            let tags = [("x-amz-tagging", tags)];
            let headers: &[_] = if tags[0].1.is_empty() { &[] } else { &tags };
            self.sites.put(&format!("{LC}/{key}"), headers, body).await;
        }
        self.sites.put(&format!("{LC}/logs/0"), &[], "again").await;
        self.sites.put(&format!("{LC}/logs/0"), &[], "again").await;
        client.delete(&format!("{LC}/logs/2")).await.expect(204);
        let orphan = self.sites.put(&format!("{LC}/orphan"), &[], "o").await;
        client.delete(&format!("{LC}/orphan")).await.expect(204);
        client.delete(&format!("{LC}/orphan?versionId={orphan}")).await.expect(204);
    }

    /// An upload of two parts.
    async fn upload(&self, path: &str) -> String {
        let client = &self.sites.source.client;
        let start = at(Method::POST, &format!("{path}?uploads"));
        let start = start.header("content-type", "application/x-thing").header("x-amz-meta-m", "1");
        let id = client.send(start).await.expect(200).element("UploadId");
        let mut listed = Vec::new();
        for (number, bytes) in [(1, "a".repeat(5_242_880)), (2, "b".repeat(1000))] {
            let part = format!("{path}?partNumber={number}&uploadId={id}");
            let tag = client.put(&part, bytes).await.expect(200).header("etag").unwrap().to_owned();
            listed.push(format!("<Part><PartNumber>{number}</PartNumber><ETag>{tag}</ETag></Part>"));
        }
        let body = format!("<CompleteMultipartUpload>{}</CompleteMultipartUpload>", listed.concat());
        client.post(&format!("{path}?uploadId={id}"), body).await.expect(200).version()
    }

    fn compare(&mut self, pair: &Value, answer: &Answer) -> Result<(), String> {
        let theirs = &pair["response"];
        if theirs["status"] != u64::from(answer.status.as_u16()) {
            return Err(format!(
                "status {}, {} was captured: {}",
                answer.status,
                theirs["status"],
                answer.text()
            ));
        }
        self.compare_headers(pair, answer)?;
        if !theirs["bodyJson"].is_null() {
            let ours =
                serde_json::from_slice(answer.bytes()).map_err(|_| format!("no JSON: {}", answer.text()))?;
            return self.compare_json("", &theirs["bodyJson"], &ours);
        }
        let (theirs, ours) = (xml(theirs["bodyText"].as_str().unwrap_or_default()), xml(answer.text()));
        if theirs == ours { Ok(()) } else { Err(format!("body\n  ours   {ours}\n  theirs {theirs}")) }
    }

    fn compare_headers(&mut self, pair: &Value, answer: &Answer) -> Result<(), String> {
        let is_internal = pair["request"]["path"].as_str().unwrap().starts_with("/_/");
        for (name, theirs) in pair["response"]["headers"].as_object().unwrap() {
            let (name, theirs) = (name.to_ascii_lowercase(), theirs.as_str().unwrap());
            let ours = answer.header(&name).ok_or_else(|| format!("no header {name}"))?;
            match name.as_str() {
                // Ids in the body have other lengths, and so has the XML of errors.
                "content-length" if is_internal || theirs == "0" || answer.status.as_u16() != 200 => {}
                "last-modified" if kind(ours) == kind(theirs) => {}
                "x-amz-version-id" => self.learn(&name, theirs, ours)?,
                _ if ours == theirs => {}
                _ => return Err(format!("header {name}: {ours:?}, {theirs:?} was captured")),
            }
        }
        let status = "x-amz-replication-status";
        if pair["response"]["headers"].get(status).is_none() && answer.header(status).is_some() {
            return Err(format!("header {status} was not captured"));
        }
        Ok(())
    }

    /// Compares texts that may be ids.
    fn learn(&mut self, place: &str, theirs: &str, ours: &str) -> Result<(), String> {
        let expected = self.translate(theirs);
        if expected == ours {
            return Ok(());
        }
        let wrong = || format!("{place}: {ours:?}, {theirs:?} was captured");
        let (their_kind, our_kind) = (kind(theirs), kind(ours));
        match (their_kind, our_kind) {
            (Some("date"), Some("date")) => Ok(()),
            (Some("version"), Some("version")) if !self.known.contains_key(theirs) => {
                self.is_version(theirs, ours);
                Ok(())
            }
            (Some(theirs_is), Some(ours_is)) if theirs_is == ours_is && !self.known.contains_key(theirs) => {
                self.known.insert(theirs.into(), ours.into());
                Ok(())
            }
            _ => Err(wrong()),
        }
    }

    fn compare_json(&mut self, place: &str, theirs: &Value, ours: &Value) -> Result<(), String> {
        match (theirs, ours) {
            (Value::Object(theirs), Value::Object(ours)) => {
                // An id that the captured release did not write yet.
                let named = |map: &Map<String, Value>| {
                    map.keys().filter(|name| *name != "microVersionId").cloned().collect::<Vec<_>>()
                };
                if named(theirs) != named(ours) {
                    return Err(format!(
                        "{place}: members {:?}, {:?} were captured",
                        named(ours),
                        named(theirs)
                    ));
                }
                for (name, theirs) in theirs {
                    self.compare_json(&format!("{place}/{name}"), theirs, &ours[name])?;
                }
                Ok(())
            }
            (Value::Array(theirs), Value::Array(ours)) if theirs.len() == ours.len() => {
                theirs.iter().zip(ours).enumerate().try_for_each(|(at, (theirs, ours))| {
                    self.compare_json(&format!("{place}/{at}"), theirs, ours)
                })
            }
            (Value::String(theirs), Value::String(ours)) if place == "/Body" => {
                let parse =
                    |text: &str| serde_json::from_str::<Value>(text).map_err(|error| error.to_string());
                self.compare_json("/Body", &parse(theirs)?, &parse(ours)?)?;
                let (theirs, ours) = (order(theirs), order(ours));
                if theirs == ours { Ok(()) } else { Err(format!("order {ours:?}, {theirs:?} was captured")) }
            }
            (Value::String(theirs), Value::String(ours)) => self.learn(place, theirs, ours),
            _ if theirs == ours => Ok(()),
            _ => Err(format!("{place}: {ours}, {theirs} was captured")),
        }
    }
}

/// What kind of id or date a text is.
fn kind(text: &str) -> Option<&'static str> {
    let is_hex = |text: &str| text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let is_date = text.len() == 24 && text.ends_with('Z') && text.as_bytes()[10] == b'T';
    match text.len() {
        _ if is_date || text.len() == 29 && text.ends_with(" GMT") => Some("date"),
        20 if is_hex(text) => Some("request"),
        32 if is_hex(text) => Some("upload"),
        40 if is_hex(text) => Some("data"),
        27.. if text.contains("RG00") && text.is_char_boundary(14) => Some("raw version"),
        32.. if VersionId::decode(text).is_ok() => Some("version"),
        _ => None,
    }
}

/// The names of the members of a document in their order.
fn order(document: &str) -> Vec<String> {
    let mut stream = Vec::new();
    let (mut depth, mut at) = (0, 0);
    let bytes = document.as_bytes();
    while at < bytes.len() {
        match bytes[at] {
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth -= 1,
            b'"' => {
                let end = at + 1 + document[at + 1..].find('"').unwrap();
                if depth == 1 && bytes.get(end + 1) == Some(&b':') {
                    stream.push(document[at + 1..end].to_owned());
                }
                at = end;
            }
            _ => {}
        }
        at += 1;
    }
    stream.retain(|name| name != "microVersionId");
    stream
}

/// XML without what writers are free in: declaration, namespace, empty elements, escapes, request id.
fn xml(text: &str) -> String {
    let text = text.trim();
    let text =
        if text.starts_with("<?xml") { text.split_once("?>").map_or(text, |(_, rest)| rest) } else { text };
    let mut plain = text.trim().replace(" xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"", "");
    for (escape, character) in [("&apos;", "'"), ("&quot;", "\"")] {
        plain = plain.replace(escape, character);
    }
    while let Some(end) = plain.find("/>") {
        let start = plain[..end].rfind('<').unwrap();
        let name = plain[start + 1..end].trim().to_owned();
        plain.replace_range(start..end + 2, &format!("<{name}></{name}>"));
    }
    for name in ["Resource", "RequestId"] {
        let (open, close) = (format!("<{name}>"), format!("</{name}>"));
        if let (Some(start), Some(end)) = (plain.find(&open), plain.find(&close)) {
            plain.replace_range(start..end + close.len(), "");
        }
    }
    plain
}

#[tokio::test]
async fn captured_requests_are_answered_as_cloudserver_answered_them() {
    let directory = tempfile::tempdir().unwrap();
    let mut replay = Replay::start(directory.path()).await;
    for file in [REPLICATION, MULTIPLE_BACKEND, OTHER] {
        replay.run(file).await;
    }
    let unmatched = replay.differences.iter().zip(&replay.matched).filter(|(_, matched)| !**matched);
    let unmatched = unmatched.map(|(difference, _)| {
        format!(
            "no capture matches the difference {:?} ({}, {})",
            difference.r#match, difference.reason, difference.doc
        )
    });
    let failures: Vec<String> = replay.failures.iter().cloned().chain(unmatched).collect();
    assert!(failures.is_empty(), "{} of them:\n{}", failures.len(), failures.join("\n"));
    assert!(replay.differences.iter().all(|difference| difference.doc.starts_with("docs/differences.md#")));
    let Sites { source, target } = replay.sites;
    source.stop().await;
    target.stop().await;
}
