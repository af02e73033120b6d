//! One destination of a version: how far it is, and how the document spelled it.

use smol_str::SmolStr;

use crate::id::Site;
use crate::model::json_text::{Cursor, JsonError, Scalar, write_string};
use crate::model::members::{self, Form, Slot};
use crate::model::metadata_error::MetadataError;
use crate::model::status::SiteStatus;

/// One destination of a version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backend {
    /// The site.
    pub site: Site,
    /// How far it is.
    pub status: SiteStatus,
    /// The version id that a cloud site gave to its copy; empty for sites that keep ids.
    pub data_store_version_id: SmolStr,
    /// How the document spelled this entry, if it is not the usual three members.
    pub(super) form: Option<Form>,
}

const BACKEND_MEMBERS: [&str; 3] = ["site", "status", "dataStoreVersionId"];

impl Backend {
    /// The destination `site` with the given status and no version id.
    pub fn new(site: Site, status: SiteStatus) -> Self {
        Self { site, status, data_store_version_id: SmolStr::default(), form: None }
    }

    pub(super) fn read(cursor: &mut Cursor<'_>) -> Result<Result<Self, MetadataError>, JsonError> {
        let (mut site, mut status, mut version) = (None, None, None);
        let known = |name: &str| BACKEND_MEMBERS.into_iter().find(|known| *known == name);
        let slots = members::read(cursor, 3, known, |name, cursor| {
            let content = match cursor.scalar()? {
                Scalar::Text(content) => Some(content),
                Scalar::Other(_) => None,
            };
            let fits = content.is_some();
            match name {
                "site" => site = content,
                "status" => status = content,
                _ => version = content,
            }
            Ok(fits)
        })?;
        let Some(slots) = slots else {
            cursor.skip()?;
            return Ok(Err(MetadataError::member("replicationInfo.backends", "an array of objects")));
        };
        let usual = slots.iter().map(Slot::name).eq(BACKEND_MEMBERS)
            && slots.iter().all(|slot| matches!(slot, Slot::Typed(_)));
        Ok(Ok(Self {
            site: site.unwrap_or_default().as_ref().into(),
            status: SiteStatus::from(status.unwrap_or_default().as_ref()),
            data_store_version_id: version.unwrap_or_default().as_ref().into(),
            form: (!usual).then(|| slots.into()),
        }))
    }

    pub(super) fn write(&self, out: &mut String) {
        let typed = |out: &mut String, name: &str| match name {
            "site" => write_string(out, self.site.as_str()),
            "status" => write_string(out, self.status.as_str()),
            _ => write_string(out, &self.data_store_version_id),
        };
        let Some(form) = &self.form else {
            return members::write(out, &[], &BACKEND_MEMBERS, typed);
        };
        // A member that the document did not have is added only once it says something.
        let says = |name: &&'static str| match *name {
            "site" => !self.site.as_str().is_empty(),
            "status" => !self.status.as_str().is_empty(),
            _ => !self.data_store_version_id.is_empty(),
        };
        let extra: Vec<&'static str> = BACKEND_MEMBERS.into_iter().filter(says).collect();
        members::write(out, form, &extra, typed);
    }
}
