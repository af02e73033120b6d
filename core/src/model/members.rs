//! Objects whose known members are typed and whose other members survive as text, in their place.

use std::sync::Arc;

use smol_str::SmolStr;

use super::json_text::{JsonError, Members, RawJson, decode_string, write_name};

/// The name of a member. Well-known names cost nothing to copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Name {
    Known(&'static str),
    Other(SmolStr),
}

impl Name {
    pub(super) fn as_str(&self) -> &str {
        match self {
            Self::Known(name) => name,
            Self::Other(name) => name,
        }
    }
}

/// One member of an object: either one that a typed field of its owner stands for, or one kept as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Slot {
    /// The place of a typed member.
    Typed(&'static str),
    /// A member kept as it was.
    Raw(Name, RawJson),
}

impl Slot {
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Typed(name) => name,
            Self::Raw(name, _) => name.as_str(),
        }
    }
}

/// The members of an object in their order.
pub(super) type Form = Arc<[Slot]>;

/// Reads the object `text`. `typed` says which members the caller takes over (it returns the name to mark their place with);
/// all others are kept. Of duplicates the last value counts, at the first one's place, as everywhere JavaScript has read them.
/// `None` if the text is not an object.
pub(super) fn read<'a>(
    text: &'a str,
    known: impl Fn(&str) -> Option<&'static str>,
    mut typed: impl FnMut(&'static str, &'a str) -> bool,
) -> Option<Result<Vec<Slot>, JsonError>> {
    let members = Members::of(text)?;
    let mut slots: Vec<Slot> = Vec::with_capacity(32);
    for member in members {
        let (name, value) = match member {
            Ok(member) => member,
            Err(error) => return Some(Err(error)),
        };
        let name = match decode_string(name) {
            Ok(name) => name,
            Err(error) => return Some(Err(error)),
        };
        let slot = match known(&name) {
            Some(known) if typed(known, value) => Slot::Typed(known),
            Some(known) => Slot::Raw(Name::Known(known), RawJson::scanned(value)),
            None => Slot::Raw(Name::Other(name.as_ref().into()), RawJson::scanned(value)),
        };
        match slots.iter_mut().find(|earlier| earlier.name() == name) {
            Some(earlier) => *earlier = slot,
            None => slots.push(slot),
        }
    }
    Some(Ok(slots))
}

/// Writes an object of the given form. `typed` appends the value of a typed member. Typed members in `extra` that the form does not
/// place follow at the end; one whose place holds text of another type replaces it.
pub(super) fn write(
    out: &mut String,
    form: &[Slot],
    extra: &[&'static str],
    mut typed: impl FnMut(&mut String, &'static str),
) {
    out.push('{');
    for slot in form {
        match slot {
            Slot::Typed(name) => {
                write_name(out, name);
                typed(out, name);
            }
            Slot::Raw(Name::Known(name), _) if extra.contains(name) => {
                write_name(out, name);
                typed(out, name);
            }
            Slot::Raw(name, value) => {
                write_name(out, name.as_str());
                out.push_str(value.as_str());
            }
        }
    }
    for name in extra {
        if form.iter().all(|slot| slot.name() != *name) {
            write_name(out, name);
            typed(out, name);
        }
    }
    out.push('}');
}
