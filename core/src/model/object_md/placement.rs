//! Where the bytes of a document lie, how it spelled that, and what follows from it, each computed once.

use std::sync::OnceLock;

use crate::model::digest;
use crate::model::json_text::{Cursor, JsonError, Scalar, write_string};
use crate::model::location::{self, Location, Part};
use crate::model::members;
use crate::model::metadata_error::MetadataError;

use super::names::LOCATION;

/// How the document spelled its locations, kept until they are replaced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Form {
    #[default]
    Null,
    /// A legacy document holds the data key alone.
    Key,
    List,
}

/// The member `location`.
#[derive(Debug, Default)]
pub(super) struct Placement {
    form: Form,
    locations: Vec<Location>,
    digest: OnceLock<digest::Stored>,
    layout: OnceLock<Vec<Part>>,
    layout_digest: OnceLock<digest::Stored>,
}

impl Placement {
    pub(super) fn new(form: Form, locations: Vec<Location>) -> Self {
        Self { form, locations, ..Self::default() }
    }

    /// Of these locations; none at all are written as null.
    pub(super) fn of(locations: Vec<Location>) -> Self {
        Self::new(if locations.is_empty() { Form::Null } else { Form::List }, locations)
    }

    /// Passes over the value at `cursor` and returns what it says.
    pub(super) fn read(cursor: &mut Cursor<'_>) -> Result<Result<Self, MetadataError>, JsonError> {
        let mut locations = Ok(Vec::new());
        let is_array = cursor.elements(|cursor| {
            let location = Location::read(cursor)?;
            members::collect(&mut locations, location);
            Ok(())
        })?;
        if is_array {
            return Ok(locations.map(|locations| Self::new(Form::List, locations)));
        }
        Ok(match cursor.scalar()? {
            Scalar::Other("null") => Ok(Self::default()),
            Scalar::Text(key) => Ok(Self::new(Form::Key, vec![Location::legacy(&key)])),
            Scalar::Other(_) => Err(MetadataError::member(LOCATION, "null, a string or an array of objects")),
        })
    }

    pub(super) fn parse(value: &str) -> Result<Self, MetadataError> {
        let mut cursor = Cursor::new(value);
        let placement = Self::read(&mut cursor)?;
        cursor.end()?;
        placement
    }

    pub(super) fn locations(&self) -> &[Location] {
        &self.locations
    }

    pub(super) fn into_locations(self) -> Vec<Location> {
        self.locations
    }

    /// What it says; where a piece stands in the list counts, hence the rotation.
    pub(super) fn digest(&self) -> u128 {
        let digest = self.digest.get_or_init(|| {
            let pieces = self.locations.iter().map(Location::digest);
            pieces.fold(0, |sum: u128, piece| sum.rotate_left(1).wrapping_add(piece)).into()
        });
        (*digest).into()
    }

    /// The parts that a reader sees, in order.
    pub(super) fn layout(&self) -> &[Part] {
        self.layout.get_or_init(|| location::parts(&self.locations))
    }

    /// What a reader sees of it: parts, their sizes and digests.
    pub(super) fn layout_digest(&self) -> u128 {
        let digest = self.layout_digest.get_or_init(|| {
            let parts = self.layout().iter().map(Part::digest);
            parts.fold(0, |sum: u128, part| sum.rotate_left(1).wrapping_add(part)).into()
        });
        (*digest).into()
    }

    /// Appends it as the document spelled it.
    pub(super) fn write(&self, out: &mut String) {
        match self.form {
            Form::Null => out.push_str("null"),
            Form::Key => write_string(out, self.locations.first().map_or("", |only| &only.key)),
            Form::List => self.write_list(out),
        }
    }

    /// Appends it as upstream's model would: a legacy key becomes a list.
    pub(super) fn write_model(&self, out: &mut String) {
        if self.form == Form::Null { out.push_str("null") } else { self.write_list(out) }
    }

    fn write_list(&self, out: &mut String) {
        out.push('[');
        for (index, location) in self.locations.iter().enumerate() {
            if index > 0 {
                out.push(',');
            }
            location.write(out);
        }
        out.push(']');
    }
}
