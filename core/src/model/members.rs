//! Objects whose known members are typed and whose other members survive as text, in their place.

use std::sync::Arc;

use smallvec::SmallVec;
use smol_str::SmolStr;

use super::json_text::{Cursor, JsonError, RawJson, write_name, write_plain_name};

/// The name of a member. Well-known names cost nothing to copy, and need no escapes.
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

    /// Appends the name as a member's of an object being written.
    pub(super) fn write_name(&self, out: &mut String) {
        match self {
            Self::Typed(name) | Self::Raw(Name::Known(name), _) => write_plain_name(out, name),
            Self::Raw(Name::Other(name), _) => write_name(out, name),
        }
    }
}

/// The members of an object in their order.
pub(super) type Form = Arc<[Slot]>;

/// Reads the object at `cursor`; `None`, and nothing is passed over, if the value there is not an object. Mostly it has no more members than `usual_len`. `known` says which
/// members are well known, and gives the constant to name them by. For those `typed` is called, which must pass over the value and
/// says whether it takes the member over; all others are kept. Of duplicates the last
/// value counts, at the first one's place, as everywhere JavaScript has read them.
pub(super) fn read<'a>(
    cursor: &mut Cursor<'a>,
    usual_len: usize,
    known: impl Fn(&str) -> Option<&'static str>,
    mut typed: impl FnMut(&'static str, &mut Cursor<'a>) -> Result<bool, JsonError>,
) -> Result<Option<Vec<Slot>>, JsonError> {
    let mut slots: Vec<Slot> = Vec::with_capacity(usual_len);
    let mut sketches: SmallVec<[u32; 64]> = SmallVec::new();
    let is_object = cursor.named_members(|cursor, name| {
        let start = cursor.position();
        let known = known(&name);
        let slot = match known {
            Some(known) if typed(known, cursor)? => Slot::Typed(known),
            _ => {
                if known.is_none() {
                    cursor.skip()?;
                }
                let kept = known.map_or_else(|| Name::Other(name.as_ref().into()), Name::Known);
                Slot::Raw(kept, RawJson::scanned(cursor.since(start)))
            }
        };
        let sketch = sketch(&name);
        let earlier = if sketches.contains(&sketch) {
            slots.iter_mut().find(|earlier| earlier.name() == name)
        } else {
            None
        };
        if let Some(earlier) = earlier {
            *earlier = slot;
        } else {
            sketches.push(sketch);
            slots.push(slot);
        }
        Ok(())
    })?;
    Ok(is_object.then_some(slots))
}

/// Reads the object that `text` is; `None` if it is another value.
pub(super) fn read_text<'a>(
    text: &'a str,
    usual_len: usize,
    known: impl Fn(&str) -> Option<&'static str>,
    typed: impl FnMut(&'static str, &mut Cursor<'a>) -> Result<bool, JsonError>,
) -> Result<Option<Vec<Slot>>, JsonError> {
    let mut cursor = Cursor::new(text);
    let slots = read(&mut cursor, usual_len, known, typed)?;
    if slots.is_none() {
        cursor.skip()?;
    }
    cursor.end()?;
    Ok(slots)
}

/// Adds `item` to `list`, of which the first error stays.
pub(super) fn collect<T, E>(list: &mut Result<Vec<T>, E>, item: Result<T, E>) {
    match (&mut *list, item) {
        (Ok(list), Ok(item)) => list.push(item),
        (Ok(_), Err(error)) => *list = Err(error),
        (Err(_), _) => {}
    }
}

/// A number that differs for most names: what differs in it need not be compared.
fn sketch(name: &str) -> u32 {
    let bytes = name.as_bytes();
    let ends = match (bytes.first_chunk(), bytes.last_chunk()) {
        (Some(first), Some(last)) => u32::from_le_bytes(*first) ^ u32::from_le_bytes(*last).rotate_left(15),
        (_, _) => bytes.iter().fold(0, |sum, &byte| sum << 8 | u32::from(byte)),
    };
    // Names are short; what is cut off of a length only makes for more comparing.
    #[expect(clippy::cast_possible_truncation, reason = "a sketch may lose something")]
    let len = bytes.len() as u32;
    ends ^ len.wrapping_mul(0x9e37_79b9)
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
        slot.write_name(out);
        match slot {
            Slot::Typed(name) => typed(out, name),
            Slot::Raw(Name::Known(name), _) if extra.contains(name) => typed(out, name),
            Slot::Raw(_, value) => out.push_str(value.as_str()),
        }
    }
    for name in extra {
        if form.iter().all(|slot| slot.name() != *name) {
            write_plain_name(out, name);
            typed(out, name);
        }
    }
    out.push('}');
}
