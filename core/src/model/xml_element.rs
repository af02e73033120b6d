//! A small XML document as a tree: enough for the configurations that S3 clients send.

use quick_xml::Reader;
use quick_xml::escape::{escape, resolve_predefined_entity};
use quick_xml::events::Event;

/// How deep elements may nest.
const DEPTH_MAX: usize = 32;

/// The text is no well-formed XML document, or nests too deeply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a well-formed XML document")]
pub(super) struct XmlError;

/// An element: its name without namespace prefix, its own text, its child elements in order. Attributes are ignored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Element {
    pub(super) name: String,
    pub(super) text: String,
    pub(super) children: Vec<Self>,
}

impl Element {
    /// The root element of the document `text`.
    pub(super) fn parse(text: &str) -> Result<Self, XmlError> {
        let mut reader = Reader::from_str(text);
        let mut open: Vec<Self> = Vec::new();
        let mut root = None;
        loop {
            let event = reader.read_event().map_err(|_| XmlError)?;
            match event {
                Event::Start(start) => {
                    if open.len() >= DEPTH_MAX || (open.is_empty() && root.is_some()) {
                        return Err(XmlError);
                    }
                    open.push(Self::named(start.local_name().as_ref()));
                }
                Event::Empty(start) => {
                    if open.is_empty() && root.is_some() {
                        return Err(XmlError);
                    }
                    let element = Self::named(start.local_name().as_ref());
                    Self::close(element, &mut open, &mut root);
                }
                Event::End(_) => {
                    let element = open.pop().ok_or(XmlError)?;
                    Self::close(element, &mut open, &mut root);
                }
                Event::Text(content) => Self::append(&mut open, &content.xml10_content())?,
                Event::CData(content) => Self::append(&mut open, &content.xml10_content())?,
                Event::GeneralRef(reference) => {
                    if let Some(character) = reference.resolve_char_ref().map_err(|_| XmlError)? {
                        Self::append(&mut open, character.encode_utf8(&mut [0; 4]))?;
                    } else {
                        let name = reference.into_inner();
                        Self::append(&mut open, resolve_predefined_entity(&name).ok_or(XmlError)?)?;
                    }
                }
                Event::Eof if open.is_empty() => return root.ok_or(XmlError),
                // A document type could define entities; nobody sends one in a configuration.
                Event::Eof | Event::DocType(_) => return Err(XmlError),
                Event::Decl(_) | Event::PI(_) | Event::Comment(_) => {}
            }
        }
    }

    fn named(name: &str) -> Self {
        Self { name: name.to_owned(), ..Self::default() }
    }

    fn close(mut element: Self, open: &mut [Self], root: &mut Option<Self>) {
        // Blanks between elements are layout, not content.
        if element.text.trim().is_empty() && !element.children.is_empty() {
            element.text.clear();
        }
        match open.last_mut() {
            Some(parent) => parent.children.push(element),
            None => *root = Some(element),
        }
    }

    fn append(open: &mut [Self], text: &str) -> Result<(), XmlError> {
        match open.last_mut() {
            Some(element) => element.text.push_str(text),
            None if text.trim().is_empty() => {}
            None => return Err(XmlError),
        }
        Ok(())
    }

    /// The first child with this name.
    pub(super) fn child(&self, name: &str) -> Option<&Self> {
        self.children.iter().find(|child| child.name == name)
    }

    /// The text of the first child with this name.
    pub(super) fn child_text(&self, name: &str) -> Option<&str> {
        self.child(name).map(|child| child.text.as_str())
    }

    /// Whether there is nothing in it.
    pub(super) fn is_empty(&self) -> bool {
        self.children.is_empty() && self.text.trim().is_empty()
    }
}

/// Appends `<name>text</name>`, or `<name/>` without text.
pub(super) fn write_element(out: &mut String, name: &str, text: &str) {
    out.push('<');
    out.push_str(name);
    if text.is_empty() {
        out.push_str("/>");
        return;
    }
    out.push('>');
    out.push_str(&escape(text));
    out.push_str("</");
    out.push_str(name);
    out.push('>');
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn entities_namespaces_and_layout_are_understood() {
        let text =
            "<?xml version=\"1.0\"?>\n<a:R xmlns:a='u'>\n <P>x&amp;&#233;<![CDATA[<]]></P>\n <E/> </a:R>\n";
        let root = Element::parse(text).expect("well-formed");
        assert_eq!((root.name.as_str(), root.text.as_str()), ("R", ""));
        assert_eq!(root.child_text("P"), Some("x&é<"));
        assert!(root.child("E").expect("there").is_empty());
    }

    #[test]
    fn broken_documents_are_refused() {
        let deep = "<a>".repeat(100);
        for text in
            ["", "hello", "<a>", "<a></b>", "<a/><b/>", "<a>&nope;</a>", "<!DOCTYPE a><a/>", "x<a/>", &deep]
        {
            assert_eq!(Element::parse(text), Err(XmlError), "{text}");
        }
    }

    proptest! {
        #[test]
        fn text_survives(text in "[ -~é\u{20ac}]{0,40}") {
            let mut out = String::new();
            write_element(&mut out, "a", &text);
            prop_assert_eq!(Element::parse(&out).expect("well-formed").text, text);
        }

        #[test]
        fn parsing_is_total(text in "[<>/a-c&;!\\[\\]\"'= ]{0,60}") {
            if let Ok(root) = Element::parse(&text) {
                prop_assert!(!root.name.is_empty());
            }
        }
    }
}
