//! Whether everything is as it has to be (replication reference 9.2, done right).

use backbeat_backends::objects::Versioning;
use backbeat_core::model::{StoredReplication, StoredRule};
use backbeat_core::request::Side;

use super::{Both, Wanted, policy, side_name, versioning_name};

/// What was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The buckets that there are.
    pub buckets: Both<Option<Versioning>>,
    /// The replication configuration of the source bucket, as it stands there.
    pub replication: Option<String>,
    /// The roles that it names.
    pub roles: Both<RoleSeen>,
}

/// What IAM knows of a role.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum RoleSeen {
    /// IAM is not to be asked, or there is no name to ask for.
    #[default]
    NotAsked,
    /// There is no such role.
    Absent,
    /// It did not say.
    Refused(String),
    /// There is.
    There {
        /// Its ARN.
        arn: String,
        /// What its policies say, or why that is not known.
        documents: Result<Vec<String>, String>,
    },
}

/// How a check ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// As it has to be.
    Ok,
    /// Not as it has to be: what is wrong, and what to do.
    Failed {
        /// What is wrong.
        why: String,
        /// What to do.
        fix: String,
    },
    /// Nobody looked, and why.
    NotRun(String),
}

/// One check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// Where.
    pub side: Side,
    /// What was looked at.
    pub what: String,
    /// How it ended.
    pub outcome: Outcome,
}

const SETUP: &str = "run backbeat replication setup";

fn failed(why: impl Into<String>, fix: impl Into<String>) -> Outcome {
    Outcome::Failed { why: why.into(), fix: fix.into() }
}

/// Makes the checks.
pub fn checks(wanted: &Wanted, seen: &Seen) -> Vec<Check> {
    let mut checks = Vec::new();
    for &side in wanted.sides() {
        bucket(wanted, seen, side, &mut checks);
    }
    let mut check = |side, what: String, outcome| checks.push(Check { side, what, outcome });
    let what = format!("replication configuration of {}", wanted.source_bucket);
    let Some(document) = &seen.replication else {
        check(Side::Source, what, failed("there is none", SETUP));
        return checks;
    };
    let Some(stored) = StoredReplication::read(document) else {
        check(Side::Source, what, failed("it is not understood", "put another one"));
        return checks;
    };
    check(Side::Source, what, Outcome::Ok);
    for (number, rule) in (1..).zip(&stored.rules) {
        let id = if rule.id.is_empty() { format!("number {number}") } else { rule.id.clone() };
        check(Side::Source, format!("rule {id}"), of_rule(wanted, rule));
    }
    if let Some(site) = &wanted.site {
        let names_it = |rule: &StoredRule| rule.is_enabled && rule.sites.contains(site);
        let outcome = if stored.rules.iter().any(names_it) {
            Outcome::Ok
        } else {
            failed("no enabled rule names it", SETUP)
        };
        check(Side::Source, format!("a rule for the site {site}"), outcome);
    }
    let expected = wanted.sides().len();
    let what = format!("roles of {}", wanted.source_bucket);
    if stored.roles.len() != expected {
        let named = if stored.roles.is_empty() { "none".to_owned() } else { stored.roles.join(", ") };
        let fix =
            "put a configuration with a role of the source, and one of the target if it has roles of its own";
        check(
            Side::Source,
            what,
            failed(format!("there have to be {expected}, and there are: {named}"), fix),
        );
        return checks;
    }
    for (&side, arn) in wanted.sides().iter().zip(&stored.roles) {
        of_role(wanted, seen, side, arn, &mut checks);
    }
    checks
}

fn bucket(wanted: &Wanted, seen: &Seen, side: Side, checks: &mut Vec<Check>) {
    let bucket = wanted.bucket(side);
    let Some(versioning) = seen.buckets.at(side).copied().flatten() else {
        checks.push(Check {
            side,
            what: format!("bucket {bucket}"),
            outcome: failed("there is none", SETUP),
        });
        return;
    };
    checks.push(Check { side, what: format!("bucket {bucket}"), outcome: Outcome::Ok });
    let outcome = if versioning == Versioning::Enabled {
        Outcome::Ok
    } else {
        failed(format!("it is {}", versioning_name(versioning)), format!("enable it, or {SETUP}"))
    };
    checks.push(Check { side, what: format!("versioning of {bucket}"), outcome });
}

fn of_rule(wanted: &Wanted, rule: &StoredRule) -> Outcome {
    let destination = wanted.destination();
    match rule.bucket.as_deref() {
        Some(bucket) if bucket == destination => {}
        other => {
            let why = format!("its destination is {} and not {destination}", other.unwrap_or("missing"));
            return failed(why, "look at --target-bucket, or change the rule");
        }
    }
    if !rule.is_enabled {
        let keys =
            if rule.prefix.is_empty() { "all keys".to_owned() } else { format!("keys {}*", rule.prefix) };
        return failed(format!("it is Disabled, for {keys}"), "enable it, or take it away");
    }
    Outcome::Ok
}

fn of_role(wanted: &Wanted, seen: &Seen, side: Side, named: &str, checks: &mut Vec<Check>) {
    let mut check = |what: String, outcome| checks.push(Check { side, what, outcome });
    let role = format!("role {named}");
    if let Some(given) = wanted.roles.as_ref().and_then(|roles| roles.at(side)) {
        let outcome = if given == named {
            Outcome::Ok
        } else {
            failed(
                format!("it is not the one that is given, {given}"),
                "look at --role, or change the configuration",
            )
        };
        check(role, outcome);
    } else {
        match seen.roles.at(side) {
            Some(RoleSeen::There { arn, .. }) if arn == named => check(role, Outcome::Ok),
            Some(RoleSeen::There { arn, .. }) => {
                let why = format!("IAM knows it as {arn}");
                return check(
                    role,
                    failed(why, "name that ARN in the configuration, or look at the profile"),
                );
            }
            Some(RoleSeen::Absent) => return check(role, failed("there is no such role", SETUP)),
            Some(RoleSeen::Refused(code)) => {
                let profile = format!("look at --{}-profile and what its account may", side_name(side));
                return check(role, failed(format!("IAM answered {code}"), profile));
            }
            Some(RoleSeen::NotAsked) | None => {
                check(role, Outcome::NotRun("there is no name to ask for".to_owned()));
            }
        }
    }
    let what = format!("rights of the role {}", named.rsplit('/').next().unwrap_or(named));
    let outcome = match seen.roles.at(side) {
        Some(RoleSeen::There { documents: Ok(documents), .. }) => {
            let rights = wanted.rights(side);
            let missing = policy::missing(&rights, documents);
            let missing: Vec<String> =
                missing.into_iter().map(|right| format!("{} on {}", right.action, right.resource)).collect();
            if missing.is_empty() {
                Outcome::Ok
            } else {
                let fix = format!("{SETUP}, or add them to a policy of the role");
                failed(format!("its policies do not grant {}", missing.join(", ")), fix)
            }
        }
        Some(RoleSeen::There { documents: Err(code), .. }) => {
            Outcome::NotRun(format!("IAM answered {code} when asked for its policies"))
        }
        _ => Outcome::NotRun("IAM was not asked".to_owned()),
    };
    check(what, outcome);
}

#[cfg(test)]
mod tests;
