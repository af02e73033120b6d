//! A page of a raft log: some of its records, with what is said of the log (wire reference 4.2).

use super::LogError;
use super::json_text::{Bare, Cursor};

/// A page, taken apart without reading what is in it: `{"info": {...}, "log": [record...]}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogPage<'a> {
    /// What is said of the log, as it is written. Nothing if nothing is said.
    pub info: Option<&'a str>,
    /// The records as they are written.
    pub records: Vec<&'a str>,
}

impl<'a> LogPage<'a> {
    /// Takes a page apart. A page without `log` has no records; what else is in it is passed over.
    ///
    /// # Errors
    /// If the text is not JSON, no object, or its `log` is no array.
    pub fn split(text: &'a str) -> Result<Self, LogError> {
        let mut page = Self { info: None, records: Vec::new() };
        let mut is_array = true;
        let mut cursor: Cursor<'_, Bare> = Cursor::new(text);
        let is_object = cursor.members(|cursor, name| match name {
            b"info" => {
                page.info = Some(cursor.value()?);
                Ok(())
            }
            b"log" => {
                page.records.clear();
                is_array = cursor.elements(|cursor| {
                    page.records.push(cursor.value()?);
                    Ok(())
                })?;
                if is_array { Ok(()) } else { cursor.skip() }
            }
            _ => cursor.skip(),
        })?;
        if !is_object {
            cursor.skip()?;
        }
        cursor.end()?;
        match (is_object, is_array) {
            (true, true) => Ok(page),
            (true, false) => Err(LogError::Shape("`log` is not an array")),
            (false, _) => Err(LogError::Shape("a page is an object")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_page_is_taken_apart_as_it_is_written() {
        let page = LogPage::split(r#" {"other":[1],"info": {"start":7},"log":[ {"db":"a,]}"} , 7,[]]} "#);
        let records = vec![r#"{"db":"a,]}"}"#, "7", "[]"];
        assert_eq!(page, Ok(LogPage { info: Some(r#"{"start":7}"#), records }));
        assert_eq!(LogPage::split("{}"), Ok(LogPage { info: None, records: Vec::new() }));
    }

    #[test]
    fn what_is_no_page_is_refused() {
        for text in ["", "[]", "7", r#"{"log":7}"#, r#"{"log":[}"#, r#"{"log":[]}x"#, r#"{"log":[1 2]}"#] {
            assert!(LogPage::split(text).is_err(), "{text}");
        }
    }

    proptest! {
        /// Whatever texts records hold, they come back.
        #[test]
        fn records_come_back(texts in proptest::collection::vec(any::<String>(), 0..5)) {
            let records: Vec<String> =
                texts.iter().map(|text| serde_json::json!({"value": text}).to_string()).collect();
            let page = format!(r#"{{"info":{{}},"log":[{}]}}"#, records.join(" ,\n"));
            let split = LogPage::split(&page).expect("a page");
            prop_assert_eq!(split.records, records);
        }
    }
}
