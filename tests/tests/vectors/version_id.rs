use backbeat_core::model::{VersionId, is_master};
use serde_json::{Value, json};

use crate::Outcome;
use crate::compare::{expect, json as parse, text};

pub(crate) fn check(case: &str, _shared: &Value) -> Outcome {
    let case = parse(case)?;
    let input = text(&case, "input")?;
    let raw = || VersionId::from(input);
    let decoded = |result: Result<VersionId, _>| result.map(|id| json!(id.as_str()));
    let found = match text(&case, "op")? {
        "encode" => Ok(json!(raw().encode())),
        "decode" => decoded(VersionId::decode(input)),
        "hexEncode" => Ok(json!(raw().to_hex())),
        "hexDecode" => decoded(VersionId::from_hex(input)),
        "base62Encode" => Ok(json!(raw().to_base62())),
        "base62Decode" => decoded(VersionId::from_base62(input)),
        "getInfVid" => Ok(json!(VersionId::infinite(input).as_str())),
        "isMasterKey" => Ok(json!(is_master(input))),
        other => return Err(format!("unknown op `{other}`")),
    };
    match (found, case.get("value")) {
        (Ok(found), Some(wanted)) => expect("value", &found, wanted),
        (Err(_), None) => Ok(()),
        (Ok(found), None) => Err(format!("wanted an error, found {found}")),
        (Err(error), Some(wanted)) => Err(format!("wanted {wanted}, found the error: {error}")),
    }
}
