//! Reading XML documents of which little is wanted.

use quick_xml::events::Event;

/// The texts of all elements of an XML document, each with its path, in the order of their ends.
pub(crate) fn elements(document: &[u8]) -> Option<Vec<(String, String)>> {
    let text = std::str::from_utf8(document).ok()?;
    let mut reader = quick_xml::Reader::from_str(text);
    let (mut found, mut path, mut texts) = (Vec::new(), Vec::<String>::new(), Vec::<String>::new());
    loop {
        match reader.read_event().ok()? {
            Event::Start(element) => {
                path.push(element.local_name().as_ref().to_owned());
                texts.push(String::new());
            }
            Event::Empty(element) => {
                path.push(element.local_name().as_ref().to_owned());
                found.push((path.join("/"), String::new()));
                path.pop();
            }
            Event::Text(part) => {
                if let Some(text) = texts.last_mut() {
                    text.push_str(&part);
                }
            }
            Event::GeneralRef(reference) => {
                let resolved = match reference.resolve_char_ref().ok()? {
                    Some(character) => character.to_string(),
                    None => quick_xml::escape::resolve_xml_entity(&reference)?.to_owned(),
                };
                if let Some(text) = texts.last_mut() {
                    text.push_str(&resolved);
                }
            }
            Event::CData(part) => {
                if let Some(text) = texts.last_mut() {
                    text.push_str(&part);
                }
            }
            Event::End(_) => {
                found.push((path.join("/"), texts.pop()?));
                path.pop();
            }
            Event::Eof => return path.is_empty().then_some(found),
            Event::Decl(_) | Event::PI(_) | Event::Comment(_) | Event::DocType(_) => {}
        }
    }
}
