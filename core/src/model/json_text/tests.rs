use super::*;
use proptest::prelude::*;

fn canonical(text: &str) -> String {
    let mut out = String::new();
    write_canonical(&mut out, check(text).expect("test text is valid"));
    out
}

#[test]
fn canonical_form_ignores_order_blanks_escapes_and_number_forms() {
    let one = canonical(r#" {"b": [1.0, 2e1, -0], "a": "\u00e9\/x", "c": 1} "#);
    let two = canonical(r#"{"a":"é/x","c":1.00,"b":[1,20,0]}"#);
    assert_eq!(one, two);
    assert_ne!(one, canonical(r#"{"a":"é/x","c":1,"b":[20,1,0]}"#));
}

#[test]
fn the_last_of_duplicate_members_counts_in_the_canonical_form() {
    assert_eq!(canonical(r#"{"a":1,"a":2}"#), r#"{"a":2}"#);
}

#[test]
fn lone_surrogates_are_refused_by_decode_but_kept_as_text() {
    assert!(decode_string(r#""\ud800""#).is_err());
    assert!(decode_string(r#""\ud800\u0041""#).is_err());
    assert_eq!(decode_string(r#""\ud83d\ude00""#).expect("a pair"), "😀");
    let mut out = String::new();
    write_compact(&mut out, r#"["\ud800"]"#);
    assert_eq!(out, r#"["\ud800"]"#);
}

#[test]
fn deep_nesting_is_refused_instead_of_overflowing() {
    let text = "[".repeat(100_000);
    assert_eq!(check(&text).expect_err("too deep").reason, "nested too deeply");
}

#[test]
fn control_characters_are_escaped_as_javascript_does() {
    let mut out = String::new();
    write_string(&mut out, "\u{0}\u{1f}\u{7f}\n\"\\é");
    assert_eq!(out, "\"\\u0000\\u001f\u{7f}\\n\\\"\\\\é\"");
}

fn json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<f64>().prop_map(Into::into),
        any::<String>().prop_map(Into::into),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Into::into),
            prop::collection::btree_map(any::<String>(), inner, 0..6)
                .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn accepts_what_serde_accepts(value in json()) {
        let text = value.to_string();
        prop_assert_eq!(check(&text), Ok(text.as_str()));
        let mut compact = String::new();
        write_compact(&mut compact, &serde_json::to_string_pretty(&value).expect("a value prints"));
        prop_assert_eq!(compact, text);
    }

    #[test]
    fn refuses_what_serde_refuses(value in json(), cut in any::<prop::sample::Index>(), with in "[ -~]{0,2}") {
        let mut text: Vec<char> = value.to_string().chars().collect();
        let at = cut.index(text.len());
        text.splice(at..=at, with.chars());
        let text: String = text.into_iter().collect();
        let serde = serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok();
        prop_assert_eq!(check(&text).is_ok(), serde, "{}", text);
    }

    #[test]
    fn strings_survive_a_round_trip(content in any::<String>()) {
        let mut out = String::new();
        write_string(&mut out, &content);
        prop_assert_eq!(&out, &serde_json::to_string(&content).expect("a string prints"));
        prop_assert_eq!(decode_string(&out).expect("just written"), content);
    }

    #[test]
    fn spelled_text_has_the_content_of_its_string(
        pieces in prop::collection::vec(r#"[a-zé ]{1,40}|\\"|\\\\|\\n|\\u00e9|\\|"|\n"#, 0..20),
        rest in "[,\\]\"]{0,40}",
    ) {
        let string = format!("\"{}\"{rest}", pieces.concat());
        let mut cursor: Cursor<'_> = Cursor::new(&string);
        let end = skip_value::<Bare>(string.as_bytes(), 0, 0);
        let spelled = cursor.spelled();
        prop_assert_eq!(spelled.as_ref().err(), end.as_ref().err());
        if let (Ok(spelled), Ok(end)) = (spelled, end) {
            let raw = &string[..end];
            let content = decode_string(raw).expect("there are no surrogates");
            let spelled = spelled.expect("it is a string");
            prop_assert_eq!(spelled.as_str(), &*content);
            let only_quotes = raw.replace("\\\"", "");
            prop_assert_eq!(spelled.spelling().is_some(), !only_quotes.contains('\\'));
            let mut out = String::new();
            spelled.write(&mut out);
            prop_assert_eq!(out, serde_json::to_string(&content).expect("a string prints"));
        }
    }
}
