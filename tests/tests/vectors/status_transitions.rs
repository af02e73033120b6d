use backbeat_core::id::Site;
use backbeat_core::model::{AccountId, ObjectEntry, ObjectMd, SiteStatus};
use serde_json::{Value, json};

use crate::Outcome;
use crate::compare::{expect, json as parse, member, text};

pub(crate) fn check(case: &str, _shared: &Value) -> Outcome {
    let case = parse(case)?;
    let site: Site = text(&case, "site")?.into();
    let input = entry(member(&case, "input")?)?;
    let output = apply(&input, text(&case, "method")?, &site)?;
    let found = json!({
        "bucket": output.bucket().as_str(),
        "objectVersionedKey": output.versioned_key(),
        "objectKey": output.object_key().as_str(),
        "site": output.site.as_ref().map(Site::as_str),
        "replayCount": output.replay_count,
        "accountId": match &output.account_id {
            AccountId::Known(id) => Some(&**id),
            AccountId::Absent | AccountId::Null => None,
        },
        "replicationInfo": parse(output.replication().to_json().as_str())?,
        "originOp": output.md().origin_op(),
        "status": output.replication().status().as_str(),
        "value": parse(&output.md().to_model_json())?,
    });
    for (name, wanted) in member(&case, "output")?.as_object().into_iter().flatten() {
        expect(name, &found[name], wanted)?;
    }
    let (key, message) = output.to_kafka(Some(&site));
    let wanted = member(&case, "outputKafkaEntry")?;
    expect("key", &json!(key), member(wanted, "key")?)?;
    expect("message", &opened(parse(&message)?)?, &opened(member(wanted, "message")?.clone())?)?;
    // Upstream shares the state of replication between an entry and what is made of it; here the source stays as it was.
    let before = member(member(&case, "input")?, "value")?;
    expect("input", &parse(&input.md().to_json())?, before)
}

pub(crate) fn check_sequence(case: &str, _shared: &Value) -> Outcome {
    let case = parse(case)?;
    let mut entry = entry(member(&case, "input")?)?;
    let steps = member(&case, "steps")?.as_array().ok_or("`steps` is not an array")?;
    for (index, step) in steps.iter().enumerate() {
        let site: Site = text(step, "site")?.into();
        entry = match text(step, "op")? {
            "setReplicationSiteStatus" => {
                let status = SiteStatus::from(text(step, "arg")?);
                let info = entry.replication().with_site_status(&site, status);
                entry.with_md(entry.md().with_replication(info))
            }
            "setReplicationSiteDataStoreVersionId" => entry.with_site_version_id(&site, text(step, "arg")?),
            method => apply(&entry, method, &site)?,
        };
        let info = parse(entry.replication().to_json().as_str())?;
        let found = json!({
            "status": info["status"],
            "backends": info["backends"],
            "originOp": entry.md().origin_op(),
        });
        expect(&format!("after step {index}"), &found, member(step, "after")?)?;
    }
    Ok(())
}

fn entry(input: &Value) -> Result<ObjectEntry, String> {
    let md = ObjectMd::parse(&member(input, "value")?.to_string()).map_err(|error| error.to_string())?;
    let mut entry = ObjectEntry::new(text(input, "bucket")?, text(input, "key")?, md);
    if let Some(account) = input["accountId"].as_str() {
        entry.account_id = AccountId::Known(account.into());
    }
    entry.replay_count = input["replayCount"].as_i64();
    entry.site = input["site"].as_str().map(Site::from);
    Ok(entry)
}

fn apply(entry: &ObjectEntry, method: &str, site: &Site) -> Result<ObjectEntry, String> {
    Ok(match method {
        "toPendingEntry" => entry.to_pending(site),
        "toCompletedEntry" => entry.to_completed(site),
        "toFailedEntry" => entry.to_failed(site),
        "toReplicaEntry" => entry.to_replica(site),
        "toRetryEntry" => entry.to_retry(site),
        other => return Err(format!("unknown method `{other}`")),
    })
}

/// A message with its nested text as JSON.
pub(crate) fn opened(mut message: Value) -> Result<Value, String> {
    let value = parse(text(&message, "value")?)?;
    message["value"] = value;
    Ok(message)
}
