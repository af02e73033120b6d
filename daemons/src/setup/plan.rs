//! What is to be done, from what is wanted and what was found.

use backbeat_backends::objects::Versioning;
use backbeat_core::model::{StoredReplication, StoredRule};
use backbeat_core::request::Side;

use super::{Both, Wanted, policy, side_name, versioning_name};

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// The buckets that there are.
    pub buckets: Both<Option<Versioning>>,
    /// The replication configuration of the source bucket, as it stands there.
    pub replication: Option<String>,
    /// What IAM knows; none if roles are given.
    pub iam: Option<Both<FoundIam>>,
}

/// What the IAM of a side knows by the names that are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FoundIam {
    /// The role's ARN.
    pub role: Option<String>,
    /// The policy.
    pub policy: Option<FoundPolicy>,
    /// Whether the role has the policy.
    pub is_attached: bool,
}

/// A policy that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundPolicy {
    /// Its ARN.
    pub arn: String,
    /// What it says.
    pub document: String,
}

/// One thing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Make the bucket.
    CreateBucket(Side),
    /// Make the role.
    CreateRole(Side),
    /// Make the policy.
    CreatePolicy(Side),
    /// Have the policy that is there grant what it lacks.
    ChangePolicy(Side),
    /// Have the bucket keep versions.
    EnableVersioning(Side),
    /// Give the role its policy.
    AttachPolicy(Side),
    /// Put the rule into the source bucket's replication configuration.
    PutReplication,
}

impl Step {
    /// Where.
    pub fn side(self) -> Side {
        match self {
            Self::CreateBucket(side)
            | Self::CreateRole(side)
            | Self::CreatePolicy(side)
            | Self::ChangePolicy(side)
            | Self::EnableVersioning(side)
            | Self::AttachPolicy(side) => side,
            Self::PutReplication => Side::Source,
        }
    }
}

/// A step, and whether there is anything to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// The step.
    pub step: Step,
    /// What it is about, for people.
    pub what: String,
    /// Whether all of it is there.
    pub is_there: bool,
}

/// All that is to be done, in this order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The steps, also those that have nothing to do.
    pub items: Vec<Item>,
}

impl Plan {
    /// The steps that have something to do.
    pub fn to_do(&self) -> impl Iterator<Item = &Item> {
        self.items.iter().filter(|item| !item.is_there)
    }
}

/// Something that is there and speaks against the plan. It is never changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Conflict(pub String);

/// Makes the plan.
///
/// # Errors
/// What is there and speaks against it.
pub fn plan(wanted: &Wanted, found: &Found) -> Result<Plan, Conflict> {
    let mut items = Vec::new();
    let sides = wanted.sides();
    for &side in sides {
        let is_there = found.buckets.at(side).is_some_and(Option::is_some);
        let what = format!("bucket {}", wanted.bucket(side));
        items.push(Item { step: Step::CreateBucket(side), what, is_there });
    }
    let known = |side| found.iam.as_ref().and_then(|iam| iam.at(side));
    for (side, iam) in sides.iter().filter_map(|&side| Some((side, known(side)?))) {
        let what = format!("role {}", wanted.name(side));
        items.push(Item { step: Step::CreateRole(side), what, is_there: iam.role.is_some() });
    }
    for (side, iam) in sides.iter().filter_map(|&side| Some((side, known(side)?))) {
        items.push(policy_item(wanted, side, iam));
    }
    for &side in sides {
        let versioning = found.buckets.at(side).copied().flatten();
        let is_there = versioning == Some(Versioning::Enabled);
        let now = versioning.filter(|_| !is_there).map(versioning_name);
        let now = now.map_or_else(String::new, |now| format!(" (is {now})"));
        let what = format!("versioning of {} Enabled{now}", wanted.bucket(side));
        items.push(Item { step: Step::EnableVersioning(side), what, is_there });
    }
    for (side, iam) in sides.iter().filter_map(|&side| Some((side, known(side)?))) {
        let name = wanted.name(side);
        let what = format!("policy {name} of the role {name}");
        items.push(Item { step: Step::AttachPolicy(side), what, is_there: iam.is_attached });
    }
    let is_there = has_rule(wanted, found)?;
    let prefix = if wanted.prefix.is_empty() { "all keys".to_owned() } else { format!("{}*", wanted.prefix) };
    let site = wanted.site.as_ref().map_or_else(String::new, |site| format!(" at the site {site}"));
    let what = format!("rule of {}: {prefix} to {}{site}", wanted.source_bucket, wanted.target_bucket);
    items.push(Item { step: Step::PutReplication, what, is_there });
    Ok(Plan { items })
}

fn policy_item(wanted: &Wanted, side: Side, iam: &FoundIam) -> Item {
    let name = wanted.name(side);
    let Some(FoundPolicy { document, .. }) = &iam.policy else {
        let what = format!("policy {name}");
        return Item { step: Step::CreatePolicy(side), what, is_there: false };
    };
    let rights = wanted.rights(side);
    let missing = policy::missing(&rights, std::slice::from_ref(document));
    if missing.is_empty() {
        return Item { step: Step::CreatePolicy(side), what: format!("policy {name}"), is_there: true };
    }
    let missing: Vec<&str> = missing.into_iter().map(|right| right.action).collect();
    let what = format!("policy {name} with what it lacks: {}", missing.join(", "));
    Item { step: Step::ChangePolicy(side), what, is_there: false }
}

/// Whether the source bucket's configuration does what is wanted.
fn has_rule(wanted: &Wanted, found: &Found) -> Result<bool, Conflict> {
    let Some(document) = &found.replication else { return Ok(false) };
    let bucket = &wanted.source_bucket;
    let unreadable = || Conflict(format!("the replication configuration of {bucket} is not understood"));
    let stored = StoredReplication::read(document).ok_or_else(unreadable)?;
    let mut has_rule = false;
    for (number, rule) in (1..).zip(&stored.rules) {
        has_rule |= stands_for(wanted, rule).map_err(|why| {
            let id = if rule.id.is_empty() { format!("number {number}") } else { rule.id.clone() };
            Conflict(format!("rule {id} of {bucket} is left as it is and {why}"))
        })?;
    }
    for &side in wanted.sides() {
        right_role(wanted, found, &stored, side)?;
    }
    Ok(has_rule)
}

/// Whether a rule does what is wanted, or lets another one do it, or why not.
fn stands_for(wanted: &Wanted, rule: &StoredRule) -> Result<bool, String> {
    let destination = wanted.destination();
    let bucket = rule.bucket.as_deref().unwrap_or_default();
    let prefix = &rule.prefix;
    if bucket != destination {
        return Err(format!(
            "replicates to {bucket}: all rules of a bucket have one destination; take the rule away, or choose that bucket"
        ));
    }
    if !wanted.prefix.starts_with(prefix.as_str()) {
        return if prefix.starts_with(&wanted.prefix) {
            Err(format!(
                "has a part of these keys ({prefix:?}): take the rule away, or choose a --prefix beside it"
            ))
        } else {
            Ok(false)
        };
    }
    let is_site = match (&wanted.site, &wanted.asked_site) {
        (Some(site), _) => rule.sites.contains(site),
        (None, Some(site)) => rule.sites.is_empty() || rule.sites.contains(site),
        (None, None) => true,
    };
    if !is_site {
        let sites = if rule.sites.is_empty() { "the default site".to_owned() } else { rule.sites.join(", ") };
        return Err(format!(
            "sends these keys to {sites}: take the rule away, or name that site with --site-name"
        ));
    }
    if !rule.is_enabled {
        return Err("has these keys and is Disabled: enable it, or take it away".to_owned());
    }
    Ok(true)
}

/// A configuration has the same roles for all of its rules.
fn right_role(
    wanted: &Wanted,
    found: &Found,
    stored: &StoredReplication,
    side: Side,
) -> Result<(), Conflict> {
    let place = usize::from(side == Side::Target);
    let expected = wanted.sides().len();
    let roles = stored.roles.join(",");
    let bucket = &wanted.source_bucket;
    let advice = format!("to keep what is there, give it with --role {roles}");
    if stored.roles.len() != expected {
        let count = stored.roles.len();
        return Err(Conflict(format!("{bucket} replicates with {count} roles and not {expected}; {advice}")));
    }
    let there = &stored.roles[place];
    let is_right = match (&wanted.roles, found.iam.as_ref().and_then(|iam| iam.at(side))) {
        (Some(given), _) => given.at(side) == Some(there),
        (None, Some(FoundIam { role: Some(role), .. })) => role == there,
        // It is not there and will be made, with the ARN that it had.
        (None, _) => there.rsplit('/').next() == Some(&wanted.name(side)),
    };
    if is_right {
        return Ok(());
    }
    let side = side_name(side);
    Err(Conflict(format!("{bucket} replicates with another role at the {side}, {there}; {advice}")))
}

#[cfg(test)]
mod tests;
