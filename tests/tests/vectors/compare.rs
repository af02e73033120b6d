//! Comparison of JSON by value.

use serde_json::Value;

/// Whether two values are equal, whatever the order of members and the form of numbers.
pub(crate) fn same(one: &Value, two: &Value) -> bool {
    match (one, two) {
        (Value::Number(one), Value::Number(two)) => one == two || one.as_f64() == two.as_f64(),
        (Value::Array(one), Value::Array(two)) => {
            one.len() == two.len() && one.iter().zip(two).all(|(one, two)| same(one, two))
        }
        (Value::Object(one), Value::Object(two)) => {
            one.len() == two.len()
                && one.iter().all(|(name, one)| two.get(name).is_some_and(|two| same(one, two)))
        }
        _ => one == two,
    }
}

/// Fails with both values unless they are equal.
pub(crate) fn expect(what: &str, found: &Value, wanted: &Value) -> Result<(), String> {
    if same(found, wanted) { Ok(()) } else { Err(format!("{what}:\n  wanted {wanted}\n  found  {found}")) }
}

/// A JSON text as a value.
pub(crate) fn json(text: &str) -> Result<Value, String> {
    serde_json::from_str(text).map_err(|error| format!("not JSON: {error}: {text}"))
}

/// The member `name` of a case, which must be there.
pub(crate) fn member<'a>(case: &'a Value, name: &str) -> Result<&'a Value, String> {
    case.get(name).ok_or_else(|| format!("the case has no `{name}`"))
}

/// The text in the member `name` of a case.
pub(crate) fn text<'a>(case: &'a Value, name: &str) -> Result<&'a str, String> {
    member(case, name)?.as_str().ok_or_else(|| format!("`{name}` of the case is not text"))
}
