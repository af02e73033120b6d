//! The suite against the S3 of an embedded site, and what other servers say.

use std::sync::Mutex;

use http_body_util::{BodyExt as _, Full};

use super::conformance::S3Harness;
use super::*;
use crate::conformance::{applied as value, refused as kind_of};
use crate::credentials::account::StaticCredentials;
use crate::http::passage;
use crate::objects::Versioning;
use crate::objects::tests::{Served, keys, limits};

/// The S3 of an embedded site, which gives what is written over it ids of its own.
struct Embedded {
    served: Served,
    site: S3Site<StaticCredentials>,
}

impl Embedded {
    async fn start() -> Self {
        let served = Served::in_process().await;
        let credentials = Arc::new(StaticCredentials::new(keys()));
        let site = S3Site::over(vec![served.client.clone()], credentials, limits(), S3Settings::default());
        Self { served, site }
    }
}

impl S3Harness for Embedded {
    type Credentials = StaticCredentials;

    fn site(&self) -> &S3Site<StaticCredentials> {
        &self.site
    }

    fn client(&self) -> &SignedClient {
        &self.served.client
    }

    fn bucket(&self) -> Bucket {
        "conformance-bucket".into()
    }

    async fn create_bucket(&self, versioning: Versioning) {
        self.served.create_bucket("conformance-bucket", versioning).await;
    }

    fn is_conditional(&self) -> bool {
        true
    }
}

crate::s3_conformance!(conformance_cases, embedded_site, Embedded::start().await);

/// What a server answers to a request line: a status, headers, a body.
type Answer = (u16, &'static [(&'static str, &'static str)], &'static str);

/// A site behind a server that answers as it is told, and the request lines that it saw.
struct Scripted {
    site: S3Site<StaticCredentials>,
    asked: Arc<Mutex<Vec<String>>>,
    _door: crate::http::Door,
}

impl Scripted {
    /// The first of these whose beginning fits answers.
    fn new(answers: &'static [(&'static str, Answer)]) -> Self {
        let (passage, door) = passage();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&asked);
        door.open(Arc::new(move |request| {
            let line = format!("{} {}", request.method(), request.uri());
            let line = line.replace("http://site:80", "");
            let found = answers.iter().find(|(begin, _)| line.starts_with(begin));
            let (status, headers, body) = found.map_or((501, &[][..], ""), |(_, answer)| *answer);
            seen.lock().expect("nobody panicked").push(line);
            let body =
                Full::new(Bytes::from_static(body.as_bytes())).map_err(|never| match never {}).boxed_unsync();
            let mut answer = Response::builder().status(status);
            for (name, value) in headers {
                answer = answer.header(*name, *value);
            }
            let answer = answer.body(body).expect("a valid answer");
            Box::pin(async move { answer })
        }));
        let client = SignedClient::in_process(passage, "site:80", (&keys()).into(), "us-east-1");
        let credentials = Arc::new(StaticCredentials::new(keys()));
        let site = S3Site::over(vec![client], credentials, limits(), S3Settings::default());
        Self { site, asked, _door: door }
    }

    async fn find(&self) -> Ending<Box<Copies>> {
        let request = MintingRequest::FindCopies { object: object(), known: None, depth: 10 };
        let MintingReply::Found(ending) = self.site.ask(&request).await else {
            panic!("not a list of copies")
        };
        ending
    }
}

fn object() -> ObjectRef {
    ObjectRef::new("b", "k", VersionRef::Version(VersionId::from("98281999999999999999RG001  ")))
}

const ONE_VERSION: Answer = (
    200,
    &[],
    "<ListVersionsResult><Version><Key>k</Key><VersionId>v1</VersionId><ETag>\"0123456789abcdef0123456789abcdef\"</ETag><Size>5</Size></Version></ListVersionsResult>",
);

#[tokio::test]
async fn expired_keys_are_not_taken_for_a_version_that_is_gone() {
    let scripted = Scripted::new(&[
        ("GET /b?versions", ONE_VERSION),
        ("HEAD /b/k", (400, &[], "")),
        ("GET /b/k?tagging", (400, &[], "<Error><Code>ExpiredToken</Code></Error>")),
    ]);
    assert_eq!(kind_of(scripted.find().await), RefusalKind::ExpiredCredentials);
}

#[tokio::test]
async fn an_id_that_is_none_is_one_of_nothing() {
    let scripted = Scripted::new(&[
        ("GET /b?versions", ONE_VERSION),
        ("HEAD /b/k", (400, &[], "")),
        ("GET /b/k?tagging", (400, &[], "<Error><Code>InvalidArgument</Code></Error>")),
    ]);
    assert_eq!(value(scripted.find().await).newest_first, []);
}

#[tokio::test]
async fn entity_tags_of_encrypted_objects_prove_nothing_and_versions_are_looked_at_once() {
    let scripted = Scripted::new(&[
        ("GET /b?versions", ONE_VERSION),
        (
            "HEAD /b/k",
            (
                200,
                &[
                    ("content-length", "5"),
                    ("etag", "\"0123456789abcdef0123456789abcdef\""),
                    ("x-amz-server-side-encryption", "aws:kms"),
                    ("x-amz-meta-scal-version-id", "aJ87MPaUKYOz00000000001I4j3QKItW"),
                ],
                "",
            ),
        ),
        ("GET /b/k?tagging", (404, &[], "<Error><Code>NoSuchTagSet</Code></Error>")),
    ]);
    for _ in 0..2 {
        let found = value(scripted.find().await);
        let version = &found.newest_first[0];
        assert_eq!(version.marker, Some(object().version));
        assert_eq!(version.etag, "opaque:0123456789abcdef0123456789abcdef");
    }
    let asked = scripted.asked.lock().expect("nobody panicked");
    assert_eq!(asked.iter().filter(|line| line.starts_with("HEAD")).count(), 1, "{asked:?}");
}

#[test]
fn a_condition_names_the_entity_tag_as_the_site_knows_it() {
    let request = || Request::new(Method::PUT, "/b/k");
    let headers = |condition: CurrentIs| conditional(request(), Some(&condition)).headers().to_vec();
    let pair = |name: &str, value: &str| vec![(name.to_owned(), value.to_owned())];
    assert_eq!(headers(CurrentIs::Etag("opaque:e".to_owned())), pair("if-match", "\"e\""));
    assert_eq!(headers(CurrentIs::Absent), pair("if-none-match", "*"));
    assert_eq!(conditional(request(), None).headers(), []);
}

#[tokio::test]
async fn a_completion_that_fails_after_it_said_200_is_no_version() {
    let complete = |upload: &str| MintingRequest::CompleteUpload {
        object: object(),
        upload: upload.into(),
        parts: vec![(1, "e".to_owned())],
        condition: None,
    };
    let scripted = Scripted::new(&[
        ("POST /b/k?uploadId=wrong", (200, &[], "<Error><Code>InvalidPart</Code></Error>")),
        ("POST /b/k?uploadId=lost", (200, &[], "<Error><Code>InternalError</Code></Error>")),
        ("POST /b/k?uploadId=cut", (200, &[], "")),
        ("POST /b/k?uploadId=busy", (500, &[], "<Error><Code>InternalError</Code></Error>")),
        ("GET /b/k?uploadId=busy", (404, &[], "<Error><Code>NoSuchUpload</Code></Error>")),
    ]);
    let end = async |upload| match scripted.site.ask(&complete(upload)).await {
        MintingReply::Minted(ending) => ending,
        other @ (MintingReply::Found(_)
        | MintingReply::Current(_)
        | MintingReply::Put { .. }
        | MintingReply::Uploads(_)
        | MintingReply::Created(_)
        | MintingReply::Parts(_)
        | MintingReply::Done(_)) => panic!("not a version: {other:?}"),
    };
    assert_eq!(kind_of(end("wrong").await), RefusalKind::Invalid);
    assert_eq!(end("lost").await, Ending::Unknown);
    assert_eq!(end("cut").await, Ending::Unknown);
    assert_eq!(kind_of(end("busy").await), RefusalKind::NotFound);
}

#[tokio::test]
async fn uploads_of_others_are_left_alone() {
    const LISTED: &str = "<ListMultipartUploadsResult><Upload><Key>k</Key><UploadId>theirs</UploadId><Initiator><ID>them</ID></Initiator></Upload><Upload><Key>k</Key><UploadId>ours</UploadId><Initiator><ID>me</ID></Initiator></Upload><Upload><Key>k</Key><UploadId>probe</UploadId><Initiator><ID>me</ID></Initiator></Upload></ListMultipartUploadsResult>";
    let scripted = Scripted::new(&[
        ("GET /b?uploads", (200, &[], LISTED)),
        (
            "POST /b/k?uploads",
            (
                200,
                &[],
                "<InitiateMultipartUploadResult><UploadId>probe</UploadId></InitiateMultipartUploadResult>",
            ),
        ),
        ("DELETE /b/k?uploadId=probe", (204, &[], "")),
    ]);
    let request = MintingRequest::ListUploads { object: object() };
    let MintingReply::Uploads(ending) = scripted.site.ask(&request).await else { panic!("not uploads") };
    let own: Vec<String> = value(ending).iter().map(ToString::to_string).collect();
    // The list was made before the probe: a real site would not show it.
    assert_eq!(own, ["ours", "probe"]);
    let asked = scripted.asked.lock().expect("nobody panicked");
    assert!(asked.iter().any(|line| line == "DELETE /b/k?uploadId=probe"), "{asked:?}");
}
