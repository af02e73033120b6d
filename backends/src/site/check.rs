//! Checking a site that is not in use: every record against its checksum, every data file against the size and the MD5
//! that metadata has of it.

use super::changes::{DATA, JOURNAL, RECORDS};
use super::metadata::{DATA_FOLDER, SiteError};
use crate::embedded::{Store, StoreError};
use backbeat_core::model::ObjectMd;
use md5::{Digest, Md5};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

/// What is wrong in one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file.
    pub file: PathBuf,
    /// The record or the object concerned: table or bucket, then key.
    pub key: String,
    /// What is wrong.
    pub problem: String,
}

/// What a check came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// Records looked at.
    pub records: u64,
    /// Data files looked at.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// What was found, in no particular order.
    pub problems: Vec<Problem>,
}

/// What metadata says about a data file.
struct Described {
    object: String,
    size: Option<u64>,
    md5: Option<String>,
}

/// An uploaded part that is not yet part of an object.
#[derive(Deserialize)]
struct Part {
    #[serde(rename = "partLocations")]
    locations: Vec<PartLocation>,
    #[serde(rename = "content-md5")]
    md5: String,
    #[serde(rename = "content-length")]
    size: u64,
}

#[derive(Deserialize)]
struct PartLocation {
    key: String,
}

/// Checks the store in `directory`, and the data files beside it if there are any. Changes nothing.
///
/// # Errors
/// Another process uses the directory, or its format is not known. Damage is no error: it is in the answer.
pub fn check(directory: &Path) -> Result<Checked, SiteError> {
    let store = match Store::open(directory) {
        Ok(store) => store,
        Err(error @ StoreError::Damaged { .. }) => {
            let problem = Problem {
                file: directory.to_owned(),
                key: "the whole file".to_owned(),
                problem: error.to_string(),
            };
            return Ok(Checked { problems: vec![problem], ..Checked::default() });
        }
        Err(error) => return Err(error.into()),
    };
    let mut checked = Checked::default();
    let mut described = BTreeMap::new();
    let mut known = Vec::new();
    let visited = store.read(|txn| {
        txn.visit_all(&mut |record| {
            checked.records += 1;
            let key = match <[u8; 8]>::try_from(record.key) {
                Ok(number) if record.table == JOURNAL.0 => u64::from_be_bytes(number).to_string(),
                Ok(_) | Err(_) => String::from_utf8_lossy(record.key).into_owned(),
            };
            let Some(value) = record.value else {
                let problem = Problem {
                    file: store.file().to_owned(),
                    key: format!("{} {}", record.table, key.escape_debug()),
                    problem: "the record does not match its checksum".to_owned(),
                };
                checked.problems.push(problem);
                return;
            };
            if record.table == DATA.0 {
                known.push(key);
            } else if record.table == RECORDS.0 {
                describe(&key, &String::from_utf8_lossy(value), &mut described);
            }
        })
    });
    if let Err(error) = visited {
        checked.problems.push(Problem {
            file: store.file().to_owned(),
            key: "the whole file".to_owned(),
            problem: error.to_string(),
        });
    }
    let folder = directory.join(DATA_FOLDER);
    for key in known {
        let file = folder.join(key.get(..2).unwrap_or_default()).join(&key);
        let described = described.get(&key);
        match compare(&file, described) {
            Ok(bytes) => {
                checked.files += 1;
                checked.bytes += bytes;
            }
            Err(problem) => {
                let object = described.map_or_else(|| format!("data {key}"), |known| known.object.clone());
                checked.problems.push(Problem { file, key: object, problem });
            }
        }
    }
    Ok(checked)
}

/// Notes which data files a record mentions. What is no metadata of objects mentions none.
fn describe(key: &str, json: &str, described: &mut BTreeMap<String, Described>) {
    let object = key.replacen('\0', "/", 1).escape_debug().to_string();
    if let Ok(part) = serde_json::from_str::<Part>(json) {
        for location in part.locations {
            let described_as =
                Described { object: object.clone(), size: Some(part.size), md5: Some(part.md5.clone()) };
            described.insert(location.key, described_as);
        }
    } else if let Ok(md) = ObjectMd::parse(json) {
        for location in md.locations() {
            let described_as = Described {
                object: object.clone(),
                size: Some(location.size),
                md5: location.md5().map(str::to_owned),
            };
            described.insert(location.key.to_string(), described_as);
        }
    }
}

/// Reads a file; answers its bytes, or what is wrong with it.
fn compare(file: &Path, described: Option<&Described>) -> Result<u64, String> {
    let (size, md5) = digest(file).map_err(|error| {
        if error.kind() == io::ErrorKind::NotFound {
            "the file is missing".to_owned()
        } else {
            format!("the file cannot be read: {error}")
        }
    })?;
    let Some(described) = described else { return Ok(size) };
    if let Some(expected) = described.size.filter(|expected| *expected != size) {
        return Err(format!("the file has {size} bytes, metadata says {expected}"));
    }
    if let Some(expected) = described.md5.as_ref().filter(|expected| **expected != md5) {
        return Err(format!("the MD5 of the file is {md5}, metadata says {expected}"));
    }
    Ok(size)
}

fn digest(file: &Path) -> io::Result<(u64, String)> {
    let mut file = File::open(file)?;
    let mut md5 = Md5::new();
    let mut buffer = vec![0; 1 << 20];
    let mut size = 0;
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok((size, hex::encode(md5.finalize())));
        }
        size += read as u64;
        md5.update(&buffer[..read]);
    }
}
