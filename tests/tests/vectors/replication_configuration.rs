use std::collections::BTreeSet;

use backbeat_core::model::{ConfigurationRules, Endpoint, ReplicationConfiguration};
use serde_json::{Value, json};

use crate::Outcome;
use crate::compare::{expect, json as parse, member, text};

pub(crate) fn check(case: &str, shared: &Value) -> Outcome {
    let case = parse(case)?;
    let endpoints = member(member(shared, "endpointSets")?, text(&case, "endpoints")?)?;
    let rules = rules(endpoints)?;
    let generate = || "<generated>".to_owned();
    let found = ReplicationConfiguration::parse(text(&case, "xml")?, &rules, generate);
    let throws = case.get("throws").is_some_and(|throws| !throws.is_null());
    match (found, case.get("error")) {
        (Err(_), None) if throws => Ok(()),
        (Ok(found), None) if !throws => check_accepted(&found, &case),
        (Err(found), Some(wanted)) => {
            expect("code", &json!(found.code), member(wanted, "code")?)?;
            for (name, found) in
                [("description", json!(found.description)), ("httpStatus", json!(found.http_status))]
            {
                if let Some(wanted) = wanted.get(name) {
                    expect(name, &found, wanted)?;
                }
            }
            Ok(())
        }
        (Ok(found), _) => Err(format!("wanted an error, found {found:?}")),
        (Err(found), None) => Err(format!("wanted a configuration, found the error {found}")),
    }
}

fn check_accepted(found: &ReplicationConfiguration, case: &Value) -> Outcome {
    let rules: Vec<Value> = found
        .rules
        .iter()
        .map(|rule| {
            let mut value = json!({"id": rule.id, "prefix": rule.prefix, "enabled": rule.enabled});
            if let Some(storage_class) = &rule.storage_class {
                value["storageClass"] = json!(storage_class);
            }
            value
        })
        .collect();
    let result = json!({
        "role": found.role,
        "destination": found.destination,
        "rules": rules,
        "preferredReadLocation": found.preferred_read_location,
    });
    expect("result", &result, member(case, "result")?)?;
    match case.get("serialized") {
        Some(Value::String(wanted)) => expect("serialized", &json!(found.to_xml()), &json!(wanted)),
        _ => Ok(()),
    }
}

fn rules(endpoints: &Value) -> Result<ConfigurationRules, String> {
    let list = member(endpoints, "replicationEndpoints")?
        .as_array()
        .ok_or("`replicationEndpoints` is not an array")?;
    let list = list.iter().map(|endpoint| {
        Ok(Endpoint {
            site: text(endpoint, "site")?.to_owned(),
            kind: endpoint["type"].as_str().map(str::to_owned),
            is_default: endpoint["default"].as_bool() == Some(true),
        })
    });
    let locations = endpoints["locationConstraints"].as_object().into_iter().flatten();
    let cold = locations.filter(|(_, location)| location["isCold"].as_bool() == Some(true));
    Ok(ConfigurationRules {
        endpoints: list.collect::<Result<_, String>>()?,
        cold_locations: cold.map(|(name, _)| name.clone()).collect::<BTreeSet<_>>(),
        one_role_may_stand_for_both: false,
    })
}
