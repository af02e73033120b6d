use backbeat_core::model::{ConfigurationRules, Endpoint, ReplicationConfiguration};

use super::super::TargetSite;
use super::super::names::tests::wanted;
use super::super::work::replication_document;
use super::*;

const SIDES: [Side; 2] = [Side::Source, Side::Target];

fn arn(wanted: &Wanted, side: Side) -> String {
    format!("arn:aws:iam::123456789012:role/{}", wanted.name(side))
}

fn nothing() -> Found {
    let iam = Both { source: FoundIam::default(), target: Some(FoundIam::default()) };
    Found { buckets: Both { source: None, target: Some(None) }, replication: None, iam: Some(iam) }
}

fn iam(wanted: &Wanted, side: Side) -> FoundIam {
    let policy = FoundPolicy {
        arn: format!("arn:aws:iam::123456789012:policy/{}", wanted.name(side)),
        document: policy::document(&wanted.rights(side)),
    };
    FoundIam { role: Some(arn(wanted, side)), policy: Some(policy), is_attached: true }
}

/// As it is after a setup.
fn everything(wanted: &Wanted) -> Found {
    let [source, target] = SIDES;
    let roles = [arn(wanted, source), arn(wanted, target)];
    Found {
        buckets: Both { source: Some(Versioning::Enabled), target: Some(Some(Versioning::Enabled)) },
        replication: replication_document(wanted, None, &roles),
        iam: Some(Both { source: iam(wanted, source), target: Some(iam(wanted, target)) }),
    }
}

fn steps(wanted: &Wanted, found: &Found) -> Vec<Step> {
    plan(wanted, found).expect("nothing speaks against it").to_do().map(|item| item.step).collect()
}

fn conflict(wanted: &Wanted, found: &Found) -> String {
    plan(wanted, found).expect_err("something speaks against it").to_string()
}

#[test]
fn where_nothing_is_everything_is_made_in_upstreams_order() {
    let [source, target] = SIDES;
    let both = |step: fn(Side) -> Step| [step(source), step(target)];
    let expected = [
        both(Step::CreateBucket),
        both(Step::CreateRole),
        both(Step::CreatePolicy),
        both(Step::EnableVersioning),
        both(Step::AttachPolicy),
    ];
    let mut expected = expected.concat();
    expected.push(Step::PutReplication);
    assert_eq!(steps(&wanted(), &nothing()), expected);
}

#[test]
fn where_everything_is_nothing_is_done() {
    let plan = plan(&wanted(), &everything(&wanted())).expect("nothing speaks against it");
    assert_eq!(plan.to_do().count(), 0);
    assert_eq!(plan.items.len(), 11);
}

#[test]
fn each_thing_that_is_missing_is_made_alone() {
    let whole = everything(&wanted());
    let without = |take: &dyn Fn(&mut Found)| {
        let mut found = whole.clone();
        take(&mut found);
        steps(&wanted(), &found)
    };
    let iam = |found: &mut Found, side, take: &dyn Fn(&mut FoundIam)| {
        take(found.iam.as_mut().and_then(|iam| iam.at_mut(side)).expect("asked"));
    };
    for side in SIDES {
        let suspended = without(&|found| {
            *found.buckets.at_mut(side).expect("looked at") = Some(Versioning::Suspended);
        });
        assert_eq!(suspended, [Step::EnableVersioning(side)]);
        assert_eq!(
            without(&|found| iam(found, side, &|iam| iam.is_attached = false)),
            [Step::AttachPolicy(side)]
        );
        // Its ARN is in the configuration already, and will be the same.
        assert_eq!(without(&|found| iam(found, side, &|iam| iam.role = None)), [Step::CreateRole(side)]);
        let weaker = |iam: &mut FoundIam| {
            iam.policy.as_mut().expect("there").document = r#"{"Statement":[]}"#.to_owned();
        };
        assert_eq!(without(&|found| iam(found, side, &weaker)), [Step::ChangePolicy(side)]);
        let stronger = |iam: &mut FoundIam| {
            let all = r#"{"Statement":{"Effect":"Allow","Action":"s3:*","Resource":"*"}}"#;
            iam.policy.as_mut().expect("there").document = all.to_owned();
        };
        assert_eq!(without(&|found| iam(found, side, &stronger)), []);
    }
    assert_eq!(without(&|found| found.replication = None), [Step::PutReplication]);
}

#[test]
fn a_target_behind_the_source_is_left_alone() {
    let wanted = Wanted { target: TargetSite::External, site: Some("cloud".to_owned()), ..wanted() };
    let found = Found { iam: Some(Both::default()), ..Found::default() };
    let made = steps(&wanted, &found);
    assert_eq!(made.len(), 6);
    assert!(made.iter().all(|step| step.side() == Side::Source), "{made:?}");
}

#[test]
fn roles_that_are_given_are_not_made() {
    let [source, target] = SIDES.map(|side| arn(&wanted(), side));
    let wanted = Wanted { roles: Some(Both { source, target: Some(target) }), ..wanted() };
    let found = Found { iam: None, ..nothing() };
    let [source, target] = SIDES;
    assert_eq!(
        steps(&wanted, &found),
        [
            Step::CreateBucket(source),
            Step::CreateBucket(target),
            Step::EnableVersioning(source),
            Step::EnableVersioning(target),
            Step::PutReplication
        ]
    );
    let found = Found { iam: None, ..everything(&wanted) };
    assert_eq!(steps(&wanted, &found), []);
}

fn stored(wanted: &Wanted, rules: &[StoredRule]) -> Found {
    let mut document = format!(
        "<ReplicationConfiguration><Role>{},{}</Role></ReplicationConfiguration>",
        arn(wanted, Side::Source),
        arn(wanted, Side::Target)
    );
    for rule in rules {
        document = rule.added_to(&document).expect("a configuration");
    }
    Found { replication: Some(document), ..everything(wanted) }
}

fn logs() -> StoredRule {
    StoredRule { id: "logs".to_owned(), prefix: "logs/".to_owned(), ..wanted().rule() }
}

#[test]
fn rules_beside_ours_stay_and_what_comes_of_it_is_accepted_by_cloudserver() {
    let wanted = Wanted { prefix: "photos/".to_owned(), ..wanted() };
    let found = stored(&wanted, &[logs()]);
    assert_eq!(steps(&wanted, &found), [Step::PutReplication]);
    let roles = SIDES.map(|side| arn(&wanted, side));
    let document = replication_document(&wanted, found.replication.as_deref(), &roles).expect("a document");
    let endpoint = Endpoint { site: "paris".to_owned(), kind: None, is_default: true };
    let known = ConfigurationRules { endpoints: vec![endpoint], ..ConfigurationRules::default() };
    let accepted = ReplicationConfiguration::parse(&document, &known, String::new).expect("accepted");
    let ids: Vec<&str> = accepted.rules.iter().map(|rule| rule.id.as_str()).collect();
    assert_eq!(ids, ["logs", &wanted.rule().id]);
    assert_eq!(steps(&wanted, &Found { replication: Some(document), ..found }), []);
}

#[test]
fn a_wider_rule_that_is_there_is_enough() {
    let wider = StoredRule { id: "all".to_owned(), ..wanted().rule() };
    let wanted = Wanted { prefix: "photos/".to_owned(), ..wanted() };
    assert_eq!(steps(&wanted, &stored(&wanted, &[wider])), []);
}

#[test]
fn rules_that_speak_against_ours_are_named_and_kept() {
    let all = wanted();
    let told = |rule: StoredRule| conflict(&all, &stored(&all, &[rule]));
    let elsewhere = told(StoredRule { bucket: Some("arn:aws:s3:::other".to_owned()), ..logs() });
    assert!(
        elsewhere.contains("rule logs of photos") && elsewhere.contains("arn:aws:s3:::other"),
        "{elsewhere}"
    );
    let narrower = told(logs());
    assert!(narrower.contains("rule logs") && narrower.contains("--prefix"), "{narrower}");
    let disabled = told(StoredRule { id: String::new(), is_enabled: false, ..all.rule() });
    assert!(disabled.contains("rule number 1") && disabled.contains("Disabled"), "{disabled}");
    let other_site = told(StoredRule { sites: vec!["tokyo".to_owned()], ..all.rule() });
    assert!(other_site.contains("tokyo") && other_site.contains("--site-name"), "{other_site}");
    let named = Wanted { site: Some("paris".to_owned()), ..wanted() };
    let default_site = conflict(&named, &stored(&named, &[all.rule()]));
    assert!(default_site.contains("the default site"), "{default_site}");
}

#[test]
fn other_roles_are_named_and_kept() {
    let wanted = wanted();
    let with = |roles: &str| {
        let document = format!("<ReplicationConfiguration><Role>{roles}</Role></ReplicationConfiguration>");
        conflict(&wanted, &Found { replication: Some(document), ..everything(&wanted) })
    };
    let others = "arn:aws:iam::1:role/bb-replication-1,arn:aws:iam::2:role/bb-replication-2";
    let told = with(others);
    assert!(told.contains("bb-replication-1;") && told.contains(&format!("--role {others}")), "{told}");
    assert!(with("arn:aws:iam::1:role/one").contains("1 roles and not 2"));
    let broken = Found { replication: Some("<html>".to_owned()), ..everything(&wanted) };
    assert!(conflict(&wanted, &broken).contains("not understood"));
}
