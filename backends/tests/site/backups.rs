//! Copies of a site that is in use, and checks of one that is not.

use crate::harness::{Server, config};
use backbeat_backends::embedded::{DATABASE_FILE, StoreError};
use backbeat_backends::site::{SiteError, check};
use std::path::{Path, PathBuf};

/// The data files below a site's folder, in order.
fn files(site: &Path) -> Vec<PathBuf> {
    let folders = std::fs::read_dir(site.join("data")).unwrap();
    let mut files: Vec<PathBuf> = folders
        .flat_map(|folder| std::fs::read_dir(folder.unwrap().path()).unwrap())
        .map(|file| file.unwrap().path())
        .collect();
    files.sort();
    files
}

/// Every other one is large.
fn content(number: usize) -> String {
    format!("{number}").repeat(if number.is_multiple_of(2) { 1000 } else { 40_000 })
}

#[tokio::test]
async fn a_copy_made_under_load_is_whole_and_opens() {
    let directory = tempfile::tempdir().unwrap();
    let original = directory.path().join("original");
    let copy = directory.path().join("copy");
    let server = Server::start(&original).await;
    server.client.bucket("bucket", true).await;
    for number in 0..40 {
        server.client.put(&format!("/bucket/{number}"), content(number)).await.expect(200);
    }
    // Meanwhile versions come and go.
    let client = server.client.clone();
    let load = tokio::spawn(async move {
        for number in 0..40 {
            let path = format!("/bucket/{number}");
            let version = client.put(&path, "new").await.expect(200).version();
            client.delete(&format!("{path}?versionId={version}")).await.expect(204);
        }
    });
    let copied = server.site.copy_to(&copy).await.unwrap();
    assert!(copied.files >= 20, "{copied:?}");
    load.await.unwrap();
    server.client.delete("/bucket/0").await.expect(204);
    server.stop().await;

    let checked = check(&copy).unwrap();
    assert_eq!(checked.problems, []);
    assert_eq!((checked.files, checked.bytes), (copied.files, copied.bytes));
    assert_eq!(check(&original).unwrap().problems, []);
    let server = Server::start(&copy).await;
    for number in 0..40 {
        // Whatever was current then; never a version without its data.
        let answer = server.client.get(&format!("/bucket/{number}")).await.expect(200);
        assert!(answer.text() == "new" || answer.text() == content(number));
    }
    let again = server.site.copy_to(&copy).await.unwrap_err();
    assert!(matches!(again, SiteError::Store(StoreError::InUse { .. })), "{again}");
    server.stop().await;
}

/// Changes a byte of a text wherever a database file has it.
fn turn(database: &Path, text: &[u8], at: usize) {
    let mut bytes = std::fs::read(database).unwrap();
    let places: Vec<usize> =
        (0..bytes.len() - text.len()).filter(|at| bytes[*at..].starts_with(text)).collect();
    assert!(!places.is_empty());
    for place in places {
        bytes[place + at] ^= 0x20;
    }
    std::fs::write(database, bytes).unwrap();
}

#[tokio::test]
async fn damage_is_found_and_named() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path()).await;
    server.client.bucket("bucket", true).await;
    for key in ["kept", "cut", "changed", "gone"] {
        let text = format!("the bytes of {key} and so on").repeat(2000);
        server.client.put(&format!("/bucket/{key}"), text).await.expect(200);
    }
    for key in ["whole", "turned"] {
        server.client.put(&format!("/bucket/{key}"), format!("the few bytes of {key}")).await.expect(200);
    }
    let in_use = check(directory.path()).unwrap_err();
    assert!(matches!(in_use, SiteError::Store(StoreError::InUse { .. })), "{in_use}");
    server.stop().await;
    let checked = check(directory.path()).unwrap();
    assert_eq!((checked.problems.len(), checked.files), (0, 4));

    for file in files(directory.path()) {
        let text = std::fs::read_to_string(&file).unwrap();
        match text.split(' ').nth(3).unwrap() {
            "cut" => std::fs::write(&file, "the").unwrap(),
            "changed" => std::fs::write(&file, text.replace("bytes", "BYTES")).unwrap(),
            "gone" => std::fs::remove_file(&file).unwrap(),
            _ => {}
        }
    }
    // A byte of a record, in every page that holds it; and of the bytes of a small object.
    let database = directory.path().join(DATABASE_FILE);
    turn(&database, b"\"key\":\"kept\"", 8);
    turn(&database, b"the few bytes of turned", 18);
    let problems = check(directory.path()).unwrap().problems;
    let told: Vec<String> =
        problems.iter().map(|found| format!("{}: {}", found.key, found.problem)).collect();
    for (key, problem) in [
        ("bucket/turned", "the bytes do not match their checksum"),
        ("bucket/cut", "there are 3 bytes, metadata says 52000"),
        ("bucket/changed", "the MD5 of the bytes is"),
        ("bucket/gone", "the file is missing"),
        ("bucket\\0kept", "does not match its checksum"),
    ] {
        assert!(told.iter().any(|line| line.contains(key) && line.contains(problem)), "{key}: {told:#?}");
    }
    assert!(!told.iter().any(|line| line.contains("whole")), "{told:#?}");
    assert!(problems.iter().all(|found| found.file.starts_with(directory.path())));
}

#[tokio::test]
async fn a_directory_of_a_newer_version_is_refused_untouched() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path()).await;
    server.stop().await;
    let format = directory.path().join("FORMAT");
    std::fs::write(&format, "backbeat embedded store 3\n").unwrap();
    let before = std::fs::read(directory.path().join(DATABASE_FILE)).unwrap();
    let refused = backbeat_backends::site::Site::open(config(directory.path())).await.unwrap_err();
    assert!(refused.to_string().contains("use the newer version that wrote it"), "{refused}");
    assert!(matches!(check(directory.path()), Err(SiteError::Store(StoreError::NewerFormat { .. }))));
    assert_eq!(std::fs::read(directory.path().join(DATABASE_FILE)).unwrap(), before);
    std::fs::write(&format, "backbeat embedded store 2\n").unwrap();
    Server::start(directory.path()).await.stop().await;
}
