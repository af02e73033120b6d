//! Checking a site that is not in use: every record against its checksum, the data of every object against the size and
//! the MD5 that metadata has of it.

use super::changes::RECORDS;
use super::data::{BYTES, DATA, DataRow, DataStore, Place};
use super::error::SiteError;
use super::journal::JOURNAL;
use crate::embedded::{DATABASE_FILE, OlderFormat, Read as _, Store, StoreError, StoreOptions};
use backbeat_core::model::ObjectMd;
use md5::{Digest, Md5};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

/// What is wrong in one place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// The file.
    pub file: PathBuf,
    /// The record or the object concerned: table or bucket, then key.
    pub key: String,
    /// What is wrong.
    pub problem: String,
}

/// What a check came to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checked {
    /// Records looked at, those of small data too.
    pub records: u64,
    /// Files of larger data looked at.
    pub files: u64,
    /// Bytes of all data, small and larger.
    pub bytes: u64,
    /// What was found, in no particular order.
    pub problems: Vec<Problem>,
}

/// What metadata says about data.
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
/// (Some damage ends the process, though: the database panics while a panic cleans up, or asks for more memory than there
/// is. Who has to go on checks in another process.)
pub fn check(directory: &Path) -> Result<Checked, SiteError> {
    let options = StoreOptions { older: OlderFormat::Keep, ..StoreOptions::default() };
    let store = match Store::open_with(directory, options) {
        Ok(store) => store,
        Err(error @ StoreError::Damaged { .. }) => {
            let problem = Problem {
                file: directory.join(DATABASE_FILE),
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
    let mut damaged = BTreeSet::new();
    let visited = store.read(|txn| {
        txn.visit_all(&mut |record| {
            checked.records += 1;
            let key = match <[u8; 8]>::try_from(record.key) {
                Ok(number) if record.table == JOURNAL.0 => u64::from_be_bytes(number).to_string(),
                Ok(_) | Err(_) => String::from_utf8_lossy(record.key).into_owned(),
            };
            let Some(value) = record.value else {
                if record.table == BYTES.0 {
                    // It is told with the name of its object.
                    damaged.insert(key);
                    return;
                }
                let problem = Problem {
                    file: store.file().to_owned(),
                    key: format!("{} {}", record.table, key.escape_debug()),
                    problem: "the record does not match its checksum".to_owned(),
                };
                checked.problems.push(problem);
                return;
            };
            if record.table == DATA.0 {
                known.push((key, DataRow::decode(value).place));
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
    for (key, place) in known {
        let described = described.get(&key);
        let (file, looked_at) = match place {
            Place::File => {
                let file = DataStore::file_in(directory, &key);
                let looked_at = digest(&file).map_err(|error| unreadable(&error));
                (file, looked_at)
            }
            Place::Store(size) => (store.file().to_owned(), digest_in(&store, &key, size)),
        };
        damaged.remove(&key);
        match looked_at.and_then(|(size, md5)| compare(size, &md5, described)) {
            Ok(bytes) => {
                checked.files += u64::from(place == Place::File);
                checked.bytes += bytes;
            }
            Err(problem) => {
                let object = described.map_or_else(|| format!("data {key}"), |known| known.object.clone());
                checked.problems.push(Problem { file, key: object, problem });
            }
        }
    }
    // What is left is the data of rows that are damaged themselves.
    for key in damaged {
        let object = described.get(&key).map_or_else(|| format!("data {key}"), |known| known.object.clone());
        let problem = "the bytes do not match their checksum".to_owned();
        checked.problems.push(Problem { file: store.file().to_owned(), key: object, problem });
    }
    Ok(checked)
}

/// Notes which data a record mentions. What is no metadata of objects mentions none.
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

/// Compares data with what metadata says; answers its bytes, or what is wrong with it.
fn compare(size: u64, md5: &str, described: Option<&Described>) -> Result<u64, String> {
    let Some(described) = described else { return Ok(size) };
    if let Some(expected) = described.size.filter(|expected| *expected != size) {
        return Err(format!("there are {size} bytes, metadata says {expected}"));
    }
    if let Some(expected) = described.md5.as_ref().filter(|expected| *expected != md5) {
        return Err(format!("the MD5 of the bytes is {md5}, metadata says {expected}"));
    }
    Ok(size)
}

fn unreadable(error: &io::Error) -> String {
    if error.kind() == io::ErrorKind::NotFound {
        "the file is missing".to_owned()
    } else {
        format!("the file cannot be read: {error}")
    }
}

/// Size and MD5 of small data.
fn digest_in(store: &Store, key: &str, size: u32) -> Result<(u64, String), String> {
    let bytes = store.read(|txn| txn.get(BYTES, key.as_bytes())).map_err(|error| {
        if matches!(error, StoreError::Corrupt { .. }) {
            "the bytes do not match their checksum".to_owned()
        } else {
            error.to_string()
        }
    })?;
    let bytes = bytes.ok_or_else(|| "the bytes are missing".to_owned())?;
    if bytes.len() as u64 != u64::from(size) {
        return Err(format!("there are {} bytes, their record says {size}", bytes.len()));
    }
    Ok((bytes.len() as u64, hex::encode(Md5::digest(&bytes))))
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
