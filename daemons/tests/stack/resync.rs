//! Existing objects, replicated once more.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use backbeat::patience::Patience;
use backbeat::resync::{Count, Job, Place, Tally, Work};
use backbeat::stack::{ACCESS_KEY, REGION, SECRET_KEY, Stack};
use backbeat_backends::credentials::Credentials;
use backbeat_backends::credentials::account::StaticCredentials;
use backbeat_backends::http::Request;
use backbeat_backends::objects::TimeLimits;
use backbeat_backends::objects::cloudserver::CloudServer;
use backbeat_core::model::{Resync, Standing};
use http::Method;

use crate::harness::{Server, start};

fn source_of(stack: &Stack) -> CloudServer<StaticCredentials> {
    let keys = Arc::new(StaticCredentials::new(Credentials::lasting(ACCESS_KEY, SECRET_KEY)));
    CloudServer::new(&[stack.addresses().source.to_string()], REGION, keys, TimeLimits::default())
}

fn job(prefix: &str, site: &str, standings: &[Standing]) -> Job {
    Job {
        bucket: "photos".into(),
        prefix: prefix.to_owned(),
        resync: Resync {
            site: site.into(),
            standings: standings.iter().copied().collect(),
            default_site: None,
            cold_locations: BTreeSet::new(),
        },
        before: None,
        is_dry: false,
        concurrency: 4,
    }
}

async fn done(source: &CloudServer<StaticCredentials>, job: &Job, place: Option<&Place>) -> Tally {
    let patience = Patience::of(Duration::from_secs(10));
    // Pages so small that keys go over several of them.
    let work = Work { job, source, patience, place, run: "test".to_owned(), page_max: 3 };
    work.run(|_, _| {}).await.expect("it is done")
}

fn queued(tally: &Tally) -> Vec<(&str, u64)> {
    tally.queued.iter().map(|(standing, count)| (standing.as_str(), count.versions)).collect()
}

/// A stack, its source and its first target, with buckets that keep versions.
async fn prepared(dir: &Path) -> (Stack, Server, Vec<Server>) {
    let stack = start(dir).await;
    let addresses = stack.addresses();
    let source = Server::at(addresses.source);
    let targets: Vec<Server> = addresses.targets.iter().map(|(_, address)| Server::at(*address)).collect();
    source.make_bucket("photos").await;
    for target in &targets {
        target.make_bucket("copies").await;
    }
    (stack, source, targets)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_older_than_its_rule_arrives_with_all_its_versions() {
    let dir = tempfile::tempdir().expect("a directory");
    let (stack, http, targets) = prepared(dir.path()).await;
    let mut versions = Vec::new();
    for number in 0..30_u8 {
        let key = format!("dir {}/k\u{e9}y+%20{}", number % 2, number % 6);
        let bytes = vec![number; usize::from(number) * 100];
        versions.push((http.put("photos", &key, bytes.clone()).await, key, bytes));
    }
    let deleted = http.ok(Request::new(Method::DELETE, "/photos/dir%200/gone")).await;
    let marker = deleted.headers()["x-amz-version-id"].to_str().expect("ASCII").to_owned();
    http.replicate("photos", "copies", "paris,tokyo").await;
    let source = source_of(&stack);

    let plan = Job { is_dry: true, ..job("", "paris", &[Standing::New]) };
    let planned = done(&source, &plan, None).await;
    assert_eq!(queued(&planned), [("new", 31)]);
    assert_eq!(planned.queued_in_all(), Count { versions: 31, bytes: (0..30).sum::<u64>() * 100 });
    let (version, key, _) = &versions[5];
    assert_eq!(http.status_of("photos", key, version).await, "", "nothing was changed");

    // One folder alone, then all of it: what is there already is left.
    let folder = done(&source, &job("dir 1/", "paris", &[Standing::New]), None).await;
    assert_eq!(queued(&folder), [("new", 15)]);
    for (version, key, _) in versions.iter().filter(|(_, key, _)| key.starts_with("dir 1/")) {
        http.settle("photos", key, version, "COMPLETED").await;
    }
    let all = done(&source, &job("", "paris", &[Standing::New]), None).await;
    assert_eq!(queued(&all), [("new", 16)]);
    assert_eq!(all.left.get("completed").map(|count| count.versions), Some(15));
    for (version, key, bytes) in &versions {
        http.settle("photos", key, version, "COMPLETED").await;
        assert_eq!(&targets[0].get("copies", key, version).await.body()[..], &bytes[..], "{key} {version}");
        assert_eq!(targets[1].get("copies", key, version).await.status(), 404, "{key}: nobody asked for it");
    }
    let gone = || Request::new(Method::HEAD, "/copies/dir%200/gone").query("versionId", &*marker);
    let settled = async {
        while targets[0].send(gone()).await.status() != 405 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_mins(1), settled).await.expect("the delete marker arrives, too");

    // Another site comes to those that there are.
    let other = done(&source, &job("", "tokyo", &[Standing::New]), None).await;
    assert_eq!(queued(&other), [("new", 31)]);
    for (version, key, bytes) in &versions {
        http.settle("photos", key, version, "COMPLETED").await;
        assert_eq!(&targets[1].get("copies", key, version).await.body()[..], &bytes[..], "{key} {version}");
    }
    let none = done(&source, &job("", "tokyo", &[Standing::New, Standing::Failed]), None).await;
    assert_eq!((none.seen, queued(&none)), (31, vec![]), "there is nothing left to do");
    stack.shutdown().await.expect("it stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_site_lost_is_copied_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let (stack, http, targets) = prepared(dir.path()).await;
    http.replicate("photos", "copies", "paris").await;
    let version = http.put("photos", "a.jpg", "one").await;
    http.settle("photos", "a.jpg", &version, "COMPLETED").await;
    let lost = Request::new(Method::DELETE, "/copies/a.jpg").query("versionId", &*version);
    targets[0].ok(lost).await;
    assert_eq!(targets[0].get("copies", "a.jpg", &version).await.status(), 404);

    let tally = done(&source_of(&stack), &job("a", "paris", &[Standing::Completed]), None).await;
    assert_eq!(queued(&tally), [("completed", 1)]);
    http.settle("photos", "a.jpg", &version, "COMPLETED").await;
    assert_eq!(&targets[0].get("copies", "a.jpg", &version).await.body()[..], b"one");
    stack.shutdown().await.expect("it stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_ended_early_goes_on_behind_what_is_done() {
    let dir = tempfile::tempdir().expect("a directory");
    let (stack, http, _targets) = prepared(dir.path()).await;
    for number in 0..20 {
        http.put("photos", &format!("k{number:02}"), "data").await;
    }
    http.replicate("photos", "copies", "paris").await;
    let (source, job) = (source_of(&stack), job("", "paris", &[Standing::New]));
    let file = dir.path().join("place");
    let place = Place::new(&file, "here", &job);
    let before = Tally { seen: 12, ..Tally::default() };
    place.write("k11", &before).expect("it is written");

    let tally = done(&source, &job, Some(&place)).await;
    assert_eq!((tally.seen, queued(&tally)), (20, vec![("new", 8)]), "those behind k11");
    assert!(!file.exists(), "there is nothing to go on with");
    stack.shutdown().await.expect("it stops");
}
