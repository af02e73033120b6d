//! Policies as documents: written from rights, and asked what they grant.

use serde_json::{Value, json};

use super::rights::Right;

/// Who may assume the roles (replication reference 9.1).
pub(super) fn trust() -> String {
    let statement =
        json!({"Effect": "Allow", "Principal": {"Service": "backbeat"}, "Action": "sts:AssumeRole"});
    json!({"Version": "2012-10-17", "Statement": [statement]}).to_string()
}

/// The policy that grants `rights` and nothing else.
pub(super) fn document(rights: &[Right]) -> String {
    let mut statements: Vec<(&str, Vec<&str>)> = Vec::new();
    for Right { action, resource } in rights {
        match statements.iter_mut().find(|(known, _)| known == resource) {
            Some((_, actions)) => actions.push(action),
            None => statements.push((resource, vec![action])),
        }
    }
    let statements = statements
        .into_iter()
        .map(|(resource, actions)| json!({"Effect": "Allow", "Action": actions, "Resource": [resource]}));
    json!({"Version": "2012-10-17", "Statement": statements.collect::<Vec<_>>()}).to_string()
}

/// Those of `rights` that the policies together do not grant. What has conditions or speaks of everything but something
/// grants nothing here, and denies nothing.
pub(super) fn missing<'a>(rights: &'a [Right], documents: &[String]) -> Vec<&'a Right> {
    let policies: Vec<Value> = documents.iter().filter_map(|text| serde_json::from_str(text).ok()).collect();
    let statements: Vec<&Value> =
        policies.iter().flat_map(|policy| list(&policy["Statement"])).filter(|each| is_plain(each)).collect();
    let says = |effect: &str, right: &Right| {
        let speaks = |statement: &&&Value| {
            statement["Effect"] == effect
                && list(&statement["Action"]).any(|action| fits(action, right.action, true))
                && list(&statement["Resource"]).any(|resource| fits(resource, &right.resource, false))
        };
        statements.iter().find(speaks).is_some()
    };
    rights.iter().filter(|right| !says("Allow", right) || says("Deny", right)).collect()
}

fn is_plain(statement: &Value) -> bool {
    ["Condition", "NotAction", "NotResource"].iter().all(|member| statement.get(member).is_none())
}

/// The members of a list, or the one thing that stands where a list may.
fn list(value: &Value) -> impl Iterator<Item = &Value> {
    match value {
        Value::Array(values) => values.iter(),
        Value::Null => [].iter(),
        Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => {
            std::slice::from_ref(value).iter()
        }
    }
}

fn fits(pattern: &Value, text: &str, ignores_case: bool) -> bool {
    let Some(pattern) = pattern.as_str() else { return false };
    if ignores_case {
        matches(pattern.to_ascii_lowercase().as_bytes(), text.to_ascii_lowercase().as_bytes())
    } else {
        matches(pattern.as_bytes(), text.as_bytes())
    }
}

/// Whether `text` fits `pattern`, in which `*` stands for any text and `?` for any letter.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at, mut from) = (0, 0);
    // Where the last star was, and how much of the text it stands for so far.
    let mut star: Option<(usize, usize)> = None;
    while from < text.len() {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at, from));
                at += 1;
            }
            Some(&letter) if letter == b'?' || letter == text[from] => {
                at += 1;
                from += 1;
            }
            _ => {
                let Some((star_at, taken)) = star else { return false };
                star = Some((star_at, taken + 1));
                at = star_at + 1;
                from = taken + 1;
            }
        }
    }
    pattern[at..].iter().all(|&letter| letter == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;
    use backbeat_core::request::Side;

    use crate::setup::names::tests::wanted;

    #[test]
    fn a_policy_grants_what_it_was_written_for() {
        let rights = wanted().rights(Side::Source);
        let document = document(&rights);
        assert_eq!(missing(&rights, std::slice::from_ref(&document)), Vec::<&Right>::new());
        assert!(!document.contains(r#""*""#), "{document}");
        let others = wanted().rights(Side::Target);
        assert_eq!(missing(&others, &[document]).len(), others.len());
        assert_eq!(missing(&rights, &["no JSON".to_owned()]).len(), rights.len());
    }

    #[test]
    fn patterns_single_values_and_denials_count() {
        let right = |action| vec![Right { action, resource: "arn:aws:s3:::b/*".to_owned() }];
        let grants = |statement: &str| {
            let document = format!(r#"{{"Statement":{statement}}}"#);
            missing(&right("s3:GetObjectVersion"), &[document]).is_empty()
        };
        assert!(grants(r#"{"Effect":"Allow","Action":"s3:*","Resource":"*"}"#));
        assert!(grants(r#"[{"Effect":"Allow","Action":["S3:getobject*"],"Resource":["arn:aws:s3:::?/*"]}]"#));
        assert!(!grants(r#"{"Effect":"Allow","Action":"s3:GetObject","Resource":"*"}"#));
        assert!(!grants(r#"{"Effect":"Allow","Action":"s3:*","Resource":"arn:aws:s3:::b"}"#));
        let conditional = r#"{"Effect":"Allow","Action":"s3:*","Resource":"*","Condition":{}}"#;
        assert!(!grants(conditional));
        let denied = r#"[{"Effect":"Allow","Action":"s3:*","Resource":"*"},{"Effect":"Deny","Action":"s3:Get*","Resource":"*"}]"#;
        assert!(!grants(denied));
    }

    #[test]
    fn stars_stand_for_any_text() {
        for (pattern, text, fit) in [
            ("", "", true),
            ("*", "", true),
            ("a*b*c", "axxbyyc", true),
            ("a*b*c", "axxbyy", false),
            ("a*bc", "abcbc", true),
            ("?", "", false),
            ("a", "ab", false),
            ("*a", "aab", false),
        ] {
            assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), fit, "{pattern} {text}");
        }
    }
}
