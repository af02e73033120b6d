//! Targets that are reached by S3 alone and give versions ids of their own: a real Ceph, and the S3 of an embedded site.

use crate::daemons::{Client, LIST, System, TIME_MAX, places};
use ::http::Method;
use anyhow::{Context as _, Result, bail, ensure};
use backbeat::stack::{ACCESS_KEY, REGION, SECRET_KEY};
use backbeat_backends::conformance::{applied, run};
use backbeat_backends::credentials::Credentials;
use backbeat_backends::credentials::account::StaticCredentials;
use backbeat_backends::http::{self, Body, Request, SignedClient};
use backbeat_backends::objects::s3::conformance::S3Harness;
use backbeat_backends::objects::s3::{S3Settings, S3Site};
use backbeat_backends::objects::{TimeLimits, Versioning};
use backbeat_backends::s3_conformance;
use backbeat_core::id::Bucket;
use backbeat_core::model::{ObjectRef, VersionId, VersionRef};
use backbeat_core::request::minting::{Copies, MintingReply, MintingRequest};
use backbeat_tests::fleet::{Fleet, Places};
use backbeat_tests::services::{CEPH_KEYS, OwnCeph, Services, ceph_programs, unique};
use backbeat_tests::suite::Test;
use serde_json::json;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

const BUCKET: &str = "photos";
const LOOK: Duration = Duration::from_millis(100);

pub(crate) fn tests(services: &Services) -> Vec<Test> {
    let ceph = SharedCeph::default();
    let known = ceph.clone();
    let make = move || {
        let target = known.target(&unique());
        async move { target.expect("a Ceph") }
    };
    let cases = s3_conformance!(conformance_list, ceph, make.clone());
    let mut tests: Vec<Test> = cases
        .into_iter()
        .map(|(name, case)| {
            let run = move || {
                case();
                Ok(())
            };
            Test::new(format!("s3_targets::{name}"), ceph_programs(), run)
        })
        .collect();
    let places = places(services);
    let needed = places.clone().and_then(|_| ceph_programs());
    tests.push(Test::new(
        "s3_targets::everything_arrives_once_though_daemons_are_killed",
        needed,
        move || {
            let places = places.unwrap_or_else(|missing| panic!("{missing}"));
            arrives(&places, &ceph)
        },
    ));
    tests
}

/// One Ceph for all cases, started by the first that needs it.
#[derive(Clone, Default)]
struct SharedCeph(Arc<Mutex<Option<OwnCeph>>>);

impl SharedCeph {
    fn address(&self) -> Result<String> {
        let mut ceph = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if ceph.is_none() {
            *ceph = Some(OwnCeph::start()?);
        }
        ceph.as_ref().map(OwnCeph::address).context("it was started")
    }

    /// A bucket of its own there, not made yet.
    fn target(&self, bucket: &str) -> Result<Target> {
        let (access, secret) = CEPH_KEYS;
        Ok(Target::at(&self.address()?, access, secret, bucket))
    }
}

/// A bucket of a site, as the engine reaches it and as a client does.
struct Target {
    site: S3Site<StaticCredentials>,
    client: SignedClient,
    bucket: Bucket,
}

impl Target {
    fn at(address: &str, access: &str, secret: &str, bucket: &str) -> Self {
        let client = SignedClient::new(address, http::Credentials::new(access, secret), REGION);
        let keys = Arc::new(StaticCredentials::new(Credentials::lasting(access, secret)));
        let site = S3Site::over(vec![client.clone()], keys, TimeLimits::default(), S3Settings::default());
        Self { site, client, bucket: bucket.into() }
    }

    async fn find(&self, key: &str, version: &str) -> Result<Copies> {
        let version = VersionRef::Version(VersionId::decode(version)?);
        let object = ObjectRef::new(self.bucket.clone(), key, version);
        let request = MintingRequest::FindCopies { object, known: None, depth: 100 };
        let MintingReply::Found(ending) = self.site.ask(&request).await else {
            bail!("not a list of copies")
        };
        Ok(*applied(ending))
    }

    async fn read(&self, key: &str, version: &str) -> Result<Vec<u8>> {
        let request =
            Request::new(Method::GET, format!("/{}/{key}", self.bucket)).query("versionId", version);
        let answer = self.client.fetch(request, TIME_MAX, 64 << 20).await?;
        ensure!(answer.status().is_success(), "{key} at {version}: {answer:?}");
        Ok(answer.body().to_vec())
    }
}

impl S3Harness for Target {
    type Credentials = StaticCredentials;

    fn site(&self) -> &S3Site<StaticCredentials> {
        &self.site
    }

    fn client(&self) -> &SignedClient {
        &self.client
    }

    fn bucket(&self) -> Bucket {
        self.bucket.clone()
    }

    async fn create_bucket(&self, versioning: Versioning) {
        let client = Client::over(self.client.clone());
        let made = match versioning {
            Versioning::Enabled => client.make_bucket(self.bucket.as_str()).await,
            Versioning::Never => client.put(&format!("/{}", self.bucket), None, "").await,
            Versioning::Suspended => panic!("no case of this suite has such a bucket"),
        };
        made.expect("the bucket is made");
    }

    fn is_conditional(&self) -> bool {
        false
    }
}

/// A version that a client wrote at the source: its id, and its bytes.
type Written = (String, Vec<u8>);

/// Writes at the source as clients do.
struct Writer(SignedClient);

impl Writer {
    async fn ask(&self, request: Request) -> Result<::http::Response<bytes::Bytes>> {
        let what = request.describe();
        let answer = self.0.fetch(request, TIME_MAX, 1 << 20).await?;
        ensure!(answer.status().is_success(), "{what}: {answer:?}");
        Ok(answer)
    }

    async fn version(&self, request: Request) -> Result<String> {
        let answer = self.ask(request).await?;
        let id = answer.headers().get("x-amz-version-id").context("a version")?;
        Ok(id.to_str()?.to_owned())
    }

    async fn put(&self, key: &str, bytes: &[u8]) -> Result<Written> {
        let request = Request::new(Method::PUT, format!("/{BUCKET}/{key}"))
            .header("content-type", "text/plain")
            .header("x-amz-meta-color", "green")
            .body(Body::full(bytes.to_vec()));
        Ok((self.version(request).await?, bytes.to_vec()))
    }

    async fn put_in_parts(&self, key: &str, parts: &[&[u8]]) -> Result<Written> {
        let request = |method| Request::new(method, format!("/{BUCKET}/{key}"));
        let answer = self.ask(request(Method::POST).query("uploads", "")).await?;
        let text = String::from_utf8(answer.body().to_vec())?;
        let id = text.split("<UploadId>").nth(1).and_then(|rest| rest.split('<').next()).context("an id")?;
        let mut listed = String::new();
        for (number, part) in (1..).zip(parts) {
            let number = format!("{number}");
            let put = request(Method::PUT).query("partNumber", &number).query("uploadId", id);
            let answer = self.ask(put.body(Body::full(part.to_vec()))).await?;
            let etag = answer.headers().get("etag").context("a tag")?.to_str()?;
            write!(listed, "<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>")?;
        }
        let body = format!("<CompleteMultipartUpload>{listed}</CompleteMultipartUpload>");
        let complete = request(Method::POST).query("uploadId", id).body(Body::full(body));
        Ok((self.version(complete).await?, parts.concat()))
    }
}

/// Objects, versions over one another, one in parts, tags, a deletion; meanwhile the daemons are killed. At the end each target has
/// each version once, in the source's order.
fn arrives(places: &Places, ceph: &SharedCeph) -> Result<()> {
    let (access, secret) = CEPH_KEYS;
    let mut system = System::start(places)?;
    system.fleet.add_account("ceph", access, secret)?;
    let tokyo = system.addresses.targets.iter().find(|(site, _)| site == "tokyo").context("tokyo")?.1.clone();
    let account = json!({"type": "account", "account": "ceph"});
    let list = json!([
        {"site": "paris", "type": "s3", "servers": [ceph.address()?], "auth": account, "region": REGION},
        {"site": "tokyo", "type": "s3", "servers": [tokyo], "conditionalWrites": true},
    ]);
    system.fleet.configure(LIST, list)?;
    let targets = [ceph.target(BUCKET)?, Target::at(&tokyo, ACCESS_KEY, SECRET_KEY, BUCKET)];
    let mut arrived = Ok(());
    let arrive = async {
        for target in &targets {
            target.create_bucket(Versioning::Enabled).await;
        }
        let source = Client::at(&system.addresses.source);
        source.make_bucket(BUCKET).await?;
        source.replicate(BUCKET, "paris,tokyo").await?;
        let keys = http::Credentials::new(ACCESS_KEY, SECRET_KEY);
        let writer = Writer(SignedClient::new(&*system.addresses.source, keys, REGION));

        let daemons = system.fleet.start_ready(&["run", "--all"])?;
        let mut written: Vec<(String, Vec<Written>)> = Vec::new();
        for number in 0..20 {
            let key = format!("many/{number} é+");
            let first = writer.put(&key, format!("{key}, first").as_bytes()).await?;
            let second = writer.put(&key, format!("{key}, second").as_bytes()).await?;
            written.push((key, vec![first, second]));
        }
        // Somewhere in the middle of it, whatever was done by then.
        daemons.kill()?;
        let daemons = system.fleet.start_ready(&["run", "--all"])?;
        let large = vec![7; 5 << 20];
        let in_parts = writer.put_in_parts("in parts", &[&large, b"the end"]).await?;
        written.push(("in parts".to_owned(), vec![in_parts]));
        written.push(("empty".to_owned(), vec![writer.put("empty", b"").await?]));
        let gone = writer.put("gone", b"soon").await?;
        written.push(("gone".to_owned(), vec![gone]));
        writer.ask(Request::new(Method::DELETE, format!("/{BUCKET}/gone"))).await?;

        for (key, versions) in &written {
            if key != "gone" {
                source.wait_for(&format!("/{BUCKET}/{key}"), "COMPLETED").await?;
            }
            for target in &targets {
                let newest = &versions.last().context("a version")?.0;
                let until = Instant::now() + TIME_MAX;
                let mut copies = target.find(key, newest).await?;
                let is_deleted = |copies: &Copies| {
                    copies.newest_first.first().is_some_and(|newest| newest.is_delete_marker)
                };
                while key == "gone" && !is_deleted(&copies) {
                    ensure!(Instant::now() < until, "{key} is not deleted");
                    tokio::time::sleep(LOOK).await;
                    copies = target.find(key, newest).await?;
                }
                let objects: Vec<_> =
                    copies.newest_first.iter().rev().filter(|version| !version.is_delete_marker).collect();
                ensure!(objects.len() == versions.len(), "{key}: {versions:?} became {copies:?}");
                for (copy, (id, bytes)) in objects.iter().zip(versions) {
                    let marker = copy.marker.as_ref().and_then(VersionRef::query);
                    ensure!(marker.as_deref() == Some(id), "{key}: {copies:?}");
                    ensure!(target.read(key, copy.id.as_str()).await? == *bytes, "{key}: other bytes");
                }
            }
        }

        // Metadata alone: nothing is copied again.
        let (key, versions) = &written[0];
        let tags = "<Tagging><TagSet><Tag><Key>a</Key><Value>b c</Value></Tag></TagSet></Tagging>";
        source.put(&format!("/{BUCKET}/{key}"), Some("tagging"), tags).await?;
        source.wait_for(&format!("/{BUCKET}/{key}"), "COMPLETED").await?;
        for target in &targets {
            let copies = target.find(key, &versions[1].0).await?;
            ensure!(copies.newest_first.len() == 2, "{copies:?}");
            ensure!(copies.newest_first[0].tags.get("a").map(String::as_str) == Some("b c"), "{copies:?}");
        }
        Fleet::terminate(daemons)
    };
    run(async { arrived = arrive.await });
    arrived
}
