//! Writing JSON member by member, as metadata documents are written.

use std::fmt::Write as _;

/// A JSON object in the making; begins with its brace.
pub(super) struct Writer(pub(super) String);

impl Writer {
    pub(super) fn member(&mut self, name: &str, json: &str) {
        let separator = if self.0.len() == 1 { "" } else { "," };
        write!(self.0, "{separator}{}:{json}", quoted(name)).expect("writing to a string cannot fail");
    }

    pub(super) fn text(&mut self, name: &str, value: &str) {
        self.member(name, &quoted(value));
    }

    pub(super) fn optional(&mut self, name: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.text(name, value);
        }
    }
}

/// A JSON string.
pub(super) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
