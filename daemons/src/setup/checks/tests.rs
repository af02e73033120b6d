use super::super::TargetSite;
use super::super::names::tests::wanted;
use super::super::work::replication_document;
use super::*;

const SOURCE: &str = "arn:aws:iam::1:role/here";
const TARGET: &str = "arn:aws:iam::2:role/there";

fn role(wanted: &Wanted, side: Side, arn: &str) -> RoleSeen {
    let documents = Ok(vec![policy::document(&wanted.rights(side))]);
    RoleSeen::There { arn: arn.to_owned(), documents }
}

fn well(wanted: &Wanted) -> Seen {
    Seen {
        buckets: Both { source: Some(Versioning::Enabled), target: Some(Some(Versioning::Enabled)) },
        replication: replication_document(wanted, None, &[SOURCE.to_owned(), TARGET.to_owned()]),
        roles: Both {
            source: role(wanted, Side::Source, SOURCE),
            target: Some(role(wanted, Side::Target, TARGET)),
        },
    }
}

/// What failed: what was looked at, and what is wrong.
fn failures(wanted: &Wanted, seen: &Seen) -> Vec<String> {
    let checks = checks(wanted, seen).into_iter().filter_map(|check| match check.outcome {
        Outcome::Failed { why, .. } => Some(format!("{}: {why}", check.what)),
        Outcome::Ok | Outcome::NotRun(_) => None,
    });
    checks.collect()
}

#[test]
fn what_is_well_is_well() {
    let checks = checks(&wanted(), &well(&wanted()));
    assert_eq!(checks.len(), 10);
    assert!(checks.iter().all(|check| check.outcome == Outcome::Ok), "{checks:?}");
}

#[test]
fn versioning_that_is_suspended_or_was_never_enabled_fails() {
    for (versioning, word) in [(Versioning::Suspended, "Suspended"), (Versioning::Never, "not enabled")] {
        let mut seen = well(&wanted());
        seen.buckets.source = Some(versioning);
        assert_eq!(failures(&wanted(), &seen), [format!("versioning of photos: it is {word}")]);
    }
    let mut seen = well(&wanted());
    seen.buckets.target = Some(None);
    assert_eq!(failures(&wanted(), &seen), ["bucket photos-copy: there is none"]);
}

#[test]
fn all_rules_are_looked_at() {
    let mut seen = well(&wanted());
    let document = seen.replication.take().expect("there is one");
    let disabled = StoredRule { id: "off".to_owned(), is_enabled: false, ..wanted().rule() };
    let away =
        StoredRule { id: "away".to_owned(), bucket: Some("arn:aws:s3:::x".to_owned()), ..wanted().rule() };
    let document = disabled.added_to(&document).and_then(|document| away.added_to(&document));
    seen.replication = document;
    assert_eq!(
        failures(&wanted(), &seen),
        [
            "rule off: it is Disabled, for all keys",
            "rule away: its destination is arn:aws:s3:::x and not arn:aws:s3:::photos-copy"
        ]
    );
    let site = Wanted { site: Some("tokyo".to_owned()), ..wanted() };
    assert_eq!(failures(&site, &well(&wanted())), ["a rule for the site tokyo: no enabled rule names it"]);
}

#[test]
fn a_configuration_that_is_missing_or_strange_fails() {
    let none = Seen { replication: None, ..well(&wanted()) };
    assert_eq!(failures(&wanted(), &none), ["replication configuration of photos: there is none"]);
    let strange = Seen { replication: Some("<a/>".to_owned()), ..well(&wanted()) };
    assert_eq!(failures(&wanted(), &strange), ["replication configuration of photos: it is not understood"]);
    let one = replication_document(&wanted(), None, &[SOURCE.to_owned()]);
    let one = Seen { replication: one, ..well(&wanted()) };
    assert_eq!(
        failures(&wanted(), &one),
        [format!("roles of photos: there have to be 2, and there are: {SOURCE}")]
    );
}

#[test]
fn roles_that_are_gone_others_or_weak_fail_by_name() {
    let with = |source: RoleSeen| {
        let mut seen = well(&wanted());
        seen.roles.source = source;
        failures(&wanted(), &seen)
    };
    assert_eq!(with(RoleSeen::Absent), [format!("role {SOURCE}: there is no such role")]);
    let other = role(&wanted(), Side::Source, TARGET);
    assert_eq!(with(other), [format!("role {SOURCE}: IAM knows it as {TARGET}")]);
    let refused = RoleSeen::Refused("AccessDenied".to_owned());
    assert_eq!(with(refused), [format!("role {SOURCE}: IAM answered AccessDenied")]);
    let weak = with(RoleSeen::There { arn: SOURCE.to_owned(), documents: Ok(Vec::new()) });
    assert_eq!(weak.len(), 1);
    assert!(weak[0].starts_with("rights of the role here: its policies do not grant s3:"), "{weak:?}");
    assert!(weak[0].contains("s3:GetObjectVersion on arn:aws:s3:::photos/*"), "{weak:?}");
}

#[test]
fn what_nobody_looked_at_is_not_called_well() {
    let roles = Both { source: SOURCE.to_owned(), target: Some(TARGET.to_owned()) };
    let given = Wanted { roles: Some(roles), ..wanted() };
    let seen = Seen {
        roles: Both { source: RoleSeen::NotAsked, target: Some(RoleSeen::NotAsked) },
        ..well(&wanted())
    };
    let not_run = checks(&given, &seen);
    let not_run: Vec<&Check> =
        not_run.iter().filter(|check| matches!(check.outcome, Outcome::NotRun(_))).collect();
    assert_eq!(not_run.len(), 2, "{not_run:?}");
    assert!(failures(&given, &seen).is_empty());
    let other =
        Wanted { roles: Some(Both { source: TARGET.to_owned(), target: Some(TARGET.to_owned()) }), ..given };
    assert_eq!(
        failures(&other, &seen),
        [format!("role {SOURCE}: it is not the one that is given, {TARGET}")]
    );
}

#[test]
fn nothing_is_looked_at_at_a_target_behind_the_source() {
    let wanted = Wanted { target: TargetSite::External, site: Some("cloud".to_owned()), ..wanted() };
    let seen = Seen {
        buckets: Both { source: Some(Versioning::Enabled), target: None },
        replication: replication_document(&wanted, None, &[SOURCE.to_owned()]),
        roles: Both { source: role(&wanted, Side::Source, SOURCE), target: None },
    };
    let checks = checks(&wanted, &seen);
    assert!(
        checks.iter().all(|check| check.side == Side::Source && check.outcome == Outcome::Ok),
        "{checks:?}"
    );
}
