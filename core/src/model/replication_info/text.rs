//! The member as text: read with every spelling kept, written as it was read.

use std::sync::Arc;

use crate::model::json_text::{Cursor, JsonError, RawJson, Scalar, write_string};
use crate::model::members::{self, Slot};
use crate::model::metadata_error::MetadataError;
use crate::model::status::{ContentFlag, OverallStatus};

use super::{Backend, ReplicationInfo, Settings, Shared};

const INFO_MEMBERS: [&str; 9] = [
    "status",
    "backends",
    "content",
    "destination",
    "storageClass",
    "role",
    "storageType",
    "dataStoreVersionId",
    "isNFS",
];

fn write_list<T>(out: &mut String, items: &[T], mut write: impl FnMut(&mut String, &T)) {
    out.push('[');
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        write(out, item);
    }
    out.push(']');
}

impl ReplicationInfo {
    pub(in crate::model) fn parse(text: &str) -> Result<Self, MetadataError> {
        let mut cursor = Cursor::new(text);
        let info = Self::read(&mut cursor)?;
        cursor.end()?;
        info
    }

    /// Passes over the value at `cursor` and returns what it says.
    pub(in crate::model) fn read(cursor: &mut Cursor<'_>) -> Result<Result<Self, MetadataError>, JsonError> {
        let mut status = OverallStatus::None;
        let mut backends = Ok(Vec::new());
        let mut settings = Settings::default();
        let known = |name: &str| INFO_MEMBERS.into_iter().find(|known| *known == name);
        let slots = members::read(cursor, INFO_MEMBERS.len(), known, |name, cursor| {
            match name {
                "backends" => {
                    let mut list = Ok(Vec::new());
                    let is_array = cursor.elements(|cursor| {
                        let backend = Backend::read(cursor)?;
                        members::collect(&mut list, backend);
                        Ok(())
                    })?;
                    if is_array {
                        backends = list;
                    } else {
                        cursor.skip()?;
                    }
                    return Ok(is_array);
                }
                "content" => {
                    let mut flags = Some(Vec::new());
                    let is_array = cursor.elements(|cursor| {
                        flags = match (flags.take(), cursor.scalar()?) {
                            (Some(mut flags), Scalar::Text(flag)) => {
                                flags.push(ContentFlag::from(&*flag));
                                Some(flags)
                            }
                            (_, _) => None,
                        };
                        Ok(())
                    })?;
                    if !is_array {
                        cursor.skip()?;
                        return Ok(false);
                    }
                    let fits = flags.is_some();
                    settings.content = flags.unwrap_or_default().into();
                    return Ok(fits);
                }
                "isNFS" => {
                    let value = cursor.value()?;
                    settings.is_nfs = match value {
                        "true" => Some(true),
                        "false" => Some(false),
                        _ => None,
                    };
                    return Ok(matches!(value, "true" | "false" | "null"));
                }
                _ => {}
            }
            let content = match cursor.scalar()? {
                Scalar::Text(content) => Some(content),
                Scalar::Other(_) => None,
            };
            if name == "status" {
                status = OverallStatus::from(content.as_deref().unwrap_or(""));
                return Ok(content.is_some());
            }
            let Some(content) = content else { return Ok(false) };
            let field = match name {
                "destination" => &mut settings.destination,
                "storageClass" => &mut settings.storage_class,
                "role" => &mut settings.role,
                "storageType" => &mut settings.storage_type,
                _ => &mut settings.data_store_version_id,
            };
            // No text at all is shared by everybody.
            *field = if content.is_empty() { Arc::default() } else { content.as_ref().into() };
            Ok(true)
        })?;
        let Some(slots) = slots else {
            cursor.skip()?;
            return Ok(Err(MetadataError::member("replicationInfo", "an object")));
        };
        let usual = slots.iter().map(Slot::name).eq(INFO_MEMBERS)
            && slots.iter().all(|slot| matches!(slot, Slot::Typed(_)));
        settings.form = (!usual).then(|| slots.into());
        let info = |backends: Vec<Backend>| Self {
            status,
            backends: backends.into(),
            shared: Shared::new(settings),
        };
        Ok(backends.map(info))
    }

    pub(in crate::model) fn write(&self, out: &mut String) {
        let extra: Vec<&'static str> = match &self.settings().form {
            None => INFO_MEMBERS.to_vec(),
            Some(_) => INFO_MEMBERS.into_iter().filter(|name| self.says(name)).collect(),
        };
        let form = self.settings().form.as_deref().unwrap_or(&[]);
        members::write(out, form, &extra, |out, name| self.write_member(out, name));
    }

    fn says(&self, name: &str) -> bool {
        let settings = self.settings();
        match name {
            "status" => self.status != OverallStatus::None,
            "backends" => !self.backends.is_empty(),
            "content" => !settings.content.is_empty(),
            "destination" => !settings.destination.is_empty(),
            "storageClass" => !settings.storage_class.is_empty(),
            "role" => !settings.role.is_empty(),
            "storageType" => !settings.storage_type.is_empty(),
            "isNFS" => settings.is_nfs.is_some(),
            _ => !settings.data_store_version_id.is_empty(),
        }
    }

    fn write_member(&self, out: &mut String, name: &str) {
        let settings = self.settings();
        match name {
            "status" => write_string(out, self.status.as_str()),
            "backends" => write_list(out, &self.backends, |out, backend| backend.write(out)),
            "content" => write_list(out, &settings.content, |out, flag| write_string(out, flag.as_str())),
            "destination" => write_string(out, &settings.destination),
            "storageClass" => write_string(out, &settings.storage_class),
            "role" => write_string(out, &settings.role),
            "storageType" => write_string(out, &settings.storage_type),
            "isNFS" => out.push_str(match settings.is_nfs {
                Some(true) => "true",
                Some(false) => "false",
                None => "null",
            }),
            _ => write_string(out, &settings.data_store_version_id),
        }
    }

    /// The JSON text of this value.
    pub fn to_json(&self) -> RawJson {
        let mut out = String::with_capacity(512);
        self.write(&mut out);
        RawJson::scanned(&out)
    }
}
