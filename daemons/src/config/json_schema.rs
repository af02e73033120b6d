//! The keys of a configuration as a JSON Schema, for editors and pipelines.

use serde_json::{Map, Value, json};

use super::schema::{Key, Kind, ROOT};

/// The schema (draft 2020-12). What it refuses, `config check` calls an error, and the other way round; keys that are not known
/// are allowed, as there.
pub(super) fn json_schema() -> Value {
    let mut schema = of(Kind::Section(ROOT), false);
    schema["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    schema["title"] = json!("Backbeat");
    schema
}

/// Of a value. In entries of a list keys may be needed; elsewhere each has a default.
fn of(kind: Kind, is_entry: bool) -> Value {
    match kind {
        Kind::Any => json!({}),
        Kind::Text => json!({"type": "string", "minLength": 1}),
        Kind::OptionalText => json!({"type": "string"}),
        Kind::TextOf(length) => json!({"type": "string", "minLength": length, "maxLength": length}),
        Kind::Word(words) => json!({"enum": words}),
        Kind::Flag => json!({"type": "boolean"}),
        Kind::Whole(min, max) => json!({"type": "integer", "minimum": min, "maximum": max}),
        Kind::Number(min) => json!({"type": "number", "minimum": min}),
        Kind::Section(keys) => section(keys, is_entry),
        Kind::List(entry) => json!({"type": "array", "items": of(*entry, true)}),
        Kind::Either(one, other) => json!({"anyOf": [of(*one, false), of(*other, false)]}),
    }
}

fn section(keys: &[Key], is_entry: bool) -> Value {
    let properties: Map<String, Value> =
        keys.iter().map(|key| (key.name.to_owned(), of(key.kind, false))).collect();
    let mut schema = json!({"type": "object", "properties": properties});
    let needed: Vec<&str> = keys.iter().filter(|key| is_entry && key.needed).map(|key| key.name).collect();
    if !needed.is_empty() {
        schema["required"] = json!(needed);
    }
    schema
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_its_words() {
        const ENTRY: Kind = Kind::Section(&[Key { name: "a", kind: Kind::Flag, needed: true }]);
        assert_eq!(of(Kind::Any, false), json!({}));
        assert_eq!(of(Kind::TextOf(7), false), json!({"type": "string", "minLength": 7, "maxLength": 7}));
        assert_eq!(of(Kind::Whole(1, 9), false), json!({"type": "integer", "minimum": 1, "maximum": 9}));
        assert_eq!(of(Kind::Word(&["x", "y"]), false), json!({"enum": ["x", "y"]}));
        let entry = json!({"type": "object", "properties": {"a": {"type": "boolean"}}});
        assert_eq!(of(ENTRY, false), entry, "outside of lists keys have defaults");
        let mut needed = entry;
        needed["required"] = json!(["a"]);
        assert_eq!(of(Kind::List(&ENTRY), false), json!({"type": "array", "items": needed}));
        let either = of(Kind::Either(&Kind::Flag, &Kind::OptionalText), false);
        assert_eq!(either, json!({"anyOf": [{"type": "boolean"}, {"type": "string"}]}));
    }

    #[test]
    fn all_sections_are_there() {
        let schema = json_schema();
        let place = "/properties/extensions/properties/replication/properties/destination/properties/bootstrapList/items";
        assert_eq!(schema.pointer(&format!("{place}/required")), Some(&json!(["site"])));
        assert_eq!(schema.pointer("/properties/replicationGroupId/maxLength"), Some(&json!(7)));
    }
}
