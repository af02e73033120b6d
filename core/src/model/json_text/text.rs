//! Text that came as a JSON string and mostly becomes one again.

use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, OnceLock};

use smol_str::SmolStr;

use super::write_string;

/// Text of which the spelling as a JSON string is kept where it was read. Journal entries carry a whole document as such a string,
/// and are published with the same string in them: its content is made only when somebody asks for it. Compares by content.
/// Cheap to clone.
#[derive(Clone)]
pub struct Text(Form);

#[derive(Clone)]
enum Form {
    Content(SmolStr),
    Quoting(Arc<Quoting>),
}

/// The inside of a string whose only escapes are quotes: the one way to spell its content.
struct Quoting {
    spelling: Box<str>,
    content: OnceLock<Box<str>>,
}

impl Text {
    /// The text spelled `"<spelling>"`, in which no escapes are but quotes.
    pub(super) fn quoting(spelling: &str) -> Self {
        Self(Form::Quoting(Arc::new(Quoting { spelling: spelling.into(), content: OnceLock::new() })))
    }

    /// The content.
    pub fn as_str(&self) -> &str {
        match &self.0 {
            Form::Content(content) => content,
            Form::Quoting(text) => text.content.get_or_init(|| {
                let mut content = String::with_capacity(text.spelling.len());
                text.spelling.split('\\').for_each(|piece| content.push_str(piece));
                content.into()
            }),
        }
    }

    /// The content as text that is cheap to copy.
    pub(in crate::model) fn shared(&self) -> SmolStr {
        match &self.0 {
            Form::Content(content) => content.clone(),
            Form::Quoting(_) => self.as_str().into(),
        }
    }

    /// The content with a backslash before every quote, if it is known in that form and needs no other escape.
    pub(in crate::model) fn spelling(&self) -> Option<&str> {
        match &self.0 {
            Form::Content(_) => None,
            Form::Quoting(text) => Some(&text.spelling),
        }
    }

    /// About how long it is, spelled: never less unless there are many escapes.
    pub(in crate::model) fn spelled_len(&self) -> usize {
        match &self.0 {
            Form::Content(content) => content.len() + content.len() / 4,
            Form::Quoting(text) => text.spelling.len(),
        }
    }

    /// Appends it as a JSON string.
    pub(in crate::model) fn write(&self, out: &mut String) {
        match &self.0 {
            Form::Content(content) => write_string(out, content),
            Form::Quoting(text) => {
                out.push('"');
                out.push_str(&text.spelling);
                out.push('"');
            }
        }
    }
}

impl<T: Into<SmolStr>> From<T> for Text {
    fn from(content: T) -> Self {
        Self(Form::Content(content.into()))
    }
}

impl Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl PartialEq for Text {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Text {}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}
