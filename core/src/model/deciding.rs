//! The few members of metadata that decide what the populator does with it: scanned for, no tree is built.

use std::borrow::Cow;

use smallvec::SmallVec;

use super::VersionRef;
use super::json_text::{Bare, Cursor, Escaped, JsonError, Quotes, Scalar, Text};

const PENDING: &str = "PENDING";

/// The members of the metadata that decide.
#[derive(Default)]
pub(super) struct Deciding<'a> {
    pub(super) version_id: Option<Scalar<'a>>,
    pub(super) is_null: bool,
    pub(super) data_store_name: Option<Scalar<'a>>,
    pub(super) content_length: Option<Scalar<'a>>,
    pub(super) replication: Replication<'a>,
}

/// The deciding members of `replicationInfo`.
#[derive(Default)]
pub(super) struct Replication<'a> {
    pub(super) is_pending: bool,
    pub(super) is_nfs: bool,
    pub(super) has_data: bool,
    /// The destinations that are PENDING.
    pub(super) pending: SmallVec<[Cow<'a, str>; 4]>,
}

/// Whether `value`, stored under a master key, is the copy of a version that has a key of its own.
pub(super) fn is_copy_of_version(value: &Text) -> bool {
    matches!(scan_text(value), Ok(Some(deciding)) if deciding.version_id.is_some() && !deciding.is_null)
}

/// Which version `value` says that it is; `None` if it is no metadata.
pub(super) fn version_of(value: &Text) -> Option<VersionRef> {
    let deciding = scan_text(value).ok()??;
    Some(match deciding.version_id {
        _ if deciding.is_null => VersionRef::Null,
        Some(Scalar::Text(id)) => VersionRef::Version((&*id).into()),
        Some(Scalar::Other(_)) | None => VersionRef::Unversioned,
    })
}

/// The deciding members of the metadata in `text`, read in the spelling that is at hand.
pub(super) fn scan_text(text: &Text) -> Result<Option<Deciding<'_>>, JsonError> {
    match text.spelling().map(scan::<Escaped>) {
        Some(Ok(deciding)) => Ok(deciding),
        // What is wrong is said of the content.
        Some(Err(_)) | None => scan::<Bare>(text.as_str()),
    }
}

/// The deciding members of the metadata in `value`, `None` if it is null. Of duplicates the last one counts.
fn scan<Q: Quotes>(value: &str) -> Result<Option<Deciding<'_>>, JsonError> {
    let mut deciding = Deciding::default();
    let mut cursor = Cursor::<Q>::new(value);
    let is_object = cursor.members(|cursor, name| {
        match name {
            b"replicationInfo" => deciding.replication = Replication::scan(cursor)?,
            b"versionId" => deciding.version_id = Some(cursor.scalar()?),
            b"isNull" => deciding.is_null = cursor.value()? == "true",
            b"dataStoreName" => deciding.data_store_name = Some(cursor.scalar()?),
            b"content-length" => deciding.content_length = Some(cursor.scalar()?),
            _ => {
                cursor.skip()?;
            }
        }
        Ok(())
    })?;
    // Anything but an object has no status, hence is not PENDING; upstream fails on null alone.
    let is_null = !is_object && cursor.value()? == "null";
    cursor.end()?;
    Ok((!is_null).then_some(deciding))
}

impl<'a> Replication<'a> {
    fn scan<Q: Quotes>(cursor: &mut Cursor<'a, Q>) -> Result<Self, JsonError> {
        let mut found = Self::default();
        let is_object = cursor.members(|cursor, name| {
            match name {
                b"status" => found.is_pending = cursor.scalar()?.is_text(PENDING),
                b"isNFS" => found.is_nfs = cursor.value()? == "true",
                b"backends" => found.pending = scan_backends(cursor)?,
                b"content" => {
                    found.has_data = false;
                    let is_array = cursor.elements(|cursor| {
                        found.has_data |= cursor.scalar()?.is_text("DATA");
                        Ok(())
                    })?;
                    if !is_array {
                        cursor.skip()?;
                    }
                }
                _ => {
                    cursor.skip()?;
                }
            }
            Ok(())
        })?;
        if !is_object {
            cursor.skip()?;
        }
        Ok(found)
    }
}

/// The sites among the destinations that are PENDING.
fn scan_backends<'a, Q: Quotes>(
    cursor: &mut Cursor<'a, Q>,
) -> Result<SmallVec<[Cow<'a, str>; 4]>, JsonError> {
    let mut pending = SmallVec::new();
    let is_array = cursor.elements(|cursor| {
        let (mut site, mut is_pending) = (None, false);
        let is_object = cursor.members(|cursor, name| {
            let value = cursor.scalar()?;
            match name {
                b"site" => site = Some(value),
                b"status" => is_pending = value.is_text(PENDING),
                _ => {}
            }
            Ok(())
        })?;
        if !is_object {
            cursor.skip()?;
        }
        if let Some(Scalar::Text(site)) = site
            && is_pending
        {
            pending.push(site);
        }
        Ok(())
    })?;
    if !is_array {
        cursor.skip()?;
    }
    Ok(pending)
}
