//! `backbeat replication setup` and `validate` as people run them: against S3 and IAM that nobody here wrote (moto), and
//! between the sites of a `dev`, which have no IAM.

mod stage;

use anyhow::{Result, ensure};
use backbeat_tests::client;
use backbeat_tests::services::OwnMoto;
use backbeat_tests::suite::Test;
use http::Method;
use stage::{Asker, Desk, SECRET, Stage, TIME_MAX, between, running};
use std::time::{Duration, Instant};

const LOOK: Duration = Duration::from_millis(100);

pub(crate) fn tests() -> Vec<Test> {
    let moto = |name: &str, run: fn() -> Result<()>| {
        Test::new(format!("replication_setup::{name}"), client::moto(), run)
    };
    let alone = |name: &str, run: fn() -> Result<()>| {
        Test::new(format!("replication_setup::{name}"), Ok::<_, String>(()), run)
    };
    vec![
        moto("a_second_setup_finds_everything_and_a_dry_one_changes_nothing", twice),
        moto("validate_names_what_is_wrong_and_setup_repairs_it", repaired),
        moto("a_setup_that_is_refused_says_what_it_did_and_goes_on_from_there", refused_midway),
        moto("a_cloud_behind_the_source_is_not_prepared", cloud),
        alone("what_cannot_be_used_is_named_before_anything_is_asked", unusable),
        alone("sites_without_iam_take_given_roles_and_then_replicate", without_iam),
        alone("rules_of_others_stay_as_they_are", others),
    ]
}

fn twice() -> Result<()> {
    let stage = Stage::new()?;
    let dry = stage.desk.pair("setup", &["--dry-run"])?.ended(0)?;
    dry.says("11 to do; nothing was changed")?;
    ensure!(stage.source.counts()? == (0, 0) && stage.target.counts()? == (0, 0), "a dry run made something");
    for (asker, bucket) in [(&stage.source, "/photos"), (&stage.target, "/photos-copy")] {
        ensure!(asker.s3(Method::GET, bucket, Some("versioning"), "")?.0 == 404, "a dry run made {bucket}");
    }
    stage.desk.pair("validate", &[])?.ended(3)?.says("bucket photos: there is none")?;

    let first = stage.desk.pair("setup", &["--json"])?.ended(0)?;
    ensure!(first.json()?["changed"] == 11, "{}", first.stdout);
    ensure!(first.states("steps")?.iter().all(|state| state == "done"), "{}", first.stdout);
    ensure!(first.states("checks")?.iter().all(|state| state == "ok"), "{}", first.stdout);
    let configuration = stage.source.replication()?;
    for asker in [&stage.source, &stage.target] {
        ensure!(asker.counts()? == (1, 1), "{:?}", asker.counts());
        ensure!(configuration.contains(&format!("role/{}", asker.role()?)), "{configuration}");
    }
    ensure!(configuration.contains("arn:aws:s3:::photos-copy"), "{configuration}");

    stage.desk.pair("setup", &["--dry-run"])?.ended(0)?.says("nothing to do")?;
    let second = stage.desk.pair("setup", &[])?.ended(0)?;
    second.says("nothing to do")?;
    second.says("all is well")?;
    for asker in [&stage.source, &stage.target] {
        ensure!(asker.counts()? == (1, 1), "the second made more: {:?}", asker.counts());
    }
    ensure!(stage.source.replication()? == configuration, "the second changed the configuration");
    let valid = stage.desk.pair("validate", &["--json"])?.ended(0)?;
    ensure!(valid.states("checks")?.len() == 10, "{}", valid.stdout);
    Ok(())
}

fn repaired() -> Result<()> {
    let stage = Stage::new()?;
    let Stage { desk, source, target, .. } = &stage;
    let is_well = || desk.pair("validate", &[])?.ended(0)?.says("all is well");
    let is_wrong = |words: &str| desk.pair("validate", &[])?.ended(3)?.says(words);
    let repair = |changed: u64| {
        let told = desk.pair("setup", &["--json"])?.ended(0)?;
        ensure!(told.json()?["changed"] == changed, "{}", told.stdout);
        is_well()
    };
    repair(11)?;

    source.versioning("photos", "Suspended")?;
    target.versioning("photos-copy", "Suspended")?;
    is_wrong("versioning of photos: it is Suspended")?;
    is_wrong("versioning of photos-copy: it is Suspended")?;
    repair(2)?;

    let (here, there) = (source.role()?, target.role()?);
    let policy = between(&target.iam(&[("Action", "ListPolicies"), ("Scope", "Local")])?, "Arn")?.to_owned();
    let detach = [("Action", "DetachRolePolicy"), ("RoleName", &there), ("PolicyArn", &policy)];
    target.iam(&detach)?;
    is_wrong(&format!("rights of the role {there}: its policies do not grant s3:GetBucketVersioning"))?;
    repair(1)?;

    // The policy is there and grants too little.
    let narrow = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:ListBucket","Resource":"*"}]}"#;
    target.iam(&[
        ("Action", "CreatePolicyVersion"),
        ("PolicyArn", &policy),
        ("PolicyDocument", narrow),
        ("SetAsDefault", "true"),
    ])?;
    is_wrong("do not grant s3:GetBucketVersioning")?;
    repair(1)?;

    let attached = source.iam(&[("Action", "ListAttachedRolePolicies"), ("RoleName", &here)])?;
    let policy = between(&attached, "PolicyArn")?;
    source.iam(&[("Action", "DetachRolePolicy"), ("RoleName", &here), ("PolicyArn", policy)])?;
    source.iam(&[("Action", "DeleteRole"), ("RoleName", &here)])?;
    is_wrong("there is no such role")?;
    // The role and what it is given; the policy is there still.
    repair(2)?;

    let configuration = source.replication()?;
    let disabled = configuration.replace("<Status>Enabled</Status>", "<Status>Disabled</Status>");
    source.put("/photos", Some("replication"), &disabled)?;
    is_wrong("it is Disabled, for all keys")?;
    // Somebody disabled it: it is not for us to enable it again.
    desk.pair("setup", &[])?.ended(6)?.says("has these keys and is Disabled")?;
    ensure!(source.replication()?.contains("Disabled"), "it was enabled");
    let elsewhere = configuration.replace("photos-copy", "elsewhere");
    source.put("/photos", Some("replication"), &elsewhere)?;
    is_wrong("its destination is arn:aws:s3:::elsewhere and not arn:aws:s3:::photos-copy")?;
    let other_role = configuration.replace(&here, "bb-replication-1700000000000");
    source.put("/photos", Some("replication"), &other_role)?;
    is_wrong("there is no such role")?;
    desk.pair("setup", &[])?.ended(6)?.says("to keep what is there, give it with --role arn:aws:iam::")?;
    ensure!(source.counts()? == (1, 1) && target.counts()? == (1, 1), "more was made");
    Ok(())
}

/// A user who may make buckets and no roles, and then may.
fn refused_midway() -> Result<()> {
    let moto = OwnMoto::start(3)?;
    let address = moto.address();
    let anybody = Asker::new(&address, "anybody", "anything")?;
    let may = |actions: &str| {
        format!(
            r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Allow","Action":["s3:*","iam:Get*","iam:List*","iam:PutUserPolicy"{actions}],"Resource":"*"}}]}}"#
        )
    };
    anybody.iam(&[("Action", "CreateUser"), ("UserName", "owner")])?;
    let policy = may("");
    let put = [
        ("Action", "PutUserPolicy"),
        ("UserName", "owner"),
        ("PolicyName", "p"),
        ("PolicyDocument", &policy),
    ];
    anybody.iam(&put)?;
    let keys = anybody.iam(&[("Action", "CreateAccessKey"), ("UserName", "owner")])?;
    let (access, secret) = (between(&keys, "AccessKeyId")?, between(&keys, "SecretAccessKey")?);
    let desk = Desk::new(&[("here", access, secret), ("there", access, secret), ("wrong", access, SECRET)])?;
    let url = format!("http://{address}");
    let places = [
        ["--source-endpoint", &url],
        ["--source-iam-endpoint", &url],
        ["--target-endpoint", &url],
        ["--target-iam-endpoint", &url],
    ]
    .concat();

    let wrong = ["--source-profile", "wrong", "--source-bucket", "photos", "--target-bucket", "photos-copy"];
    let wrong = [&["setup", "--target-profile", "there", "--retry-time", "1"], &wrong[..], &places].concat();
    let told = desk.run(&wrong)?.ended(7)?;
    told.says("SignatureDoesNotMatch")?;
    told.says("--source-profile")?;

    let told = desk.pair("setup", &places)?.ended(7)?;
    told.says("source: role bb-replication-source-photos")?;
    told.says(&format!("{address} answered AccessDenied"))?;
    told.says("done so far: source bucket photos, target bucket photos-copy; 9 left")?;
    ensure!(!format!("{}{}", told.stdout, told.stderr).contains(secret), "a secret is told");

    let owner = Asker::new(&address, access, secret)?;
    let policy = may(r#","iam:Create*","iam:AttachRolePolicy""#);
    let put = [
        ("Action", "PutUserPolicy"),
        ("UserName", "owner"),
        ("PolicyName", "p"),
        ("PolicyDocument", &policy),
    ];
    owner.iam(&put)?;
    let told = desk.pair("setup", &[&places[..], &["--json"]].concat())?.ended(0)?;
    ensure!(told.json()?["changed"] == 9, "{}", told.stdout);
    // One account has both roles.
    ensure!(owner.counts()? == (2, 2), "{:?}", owner.counts());
    Ok(())
}

fn cloud() -> Result<()> {
    let stage = Stage::new()?;
    let pair = ["--source-bucket", "photos", "--target-bucket", "photos-copy", "--source-profile", "here"];
    let on_cloud = |action: &'static str| {
        stage.desk.run(&[&[action, "--site-name", "cloud", "--json"], &pair[..]].concat())
    };
    ensure!(on_cloud("setup")?.ended(0)?.json()?["changed"] == 6, "a source has six steps");
    ensure!(on_cloud("setup")?.ended(0)?.json()?["changed"] == 0, "everything is there");
    on_cloud("validate")?.ended(0)?;
    let configuration = stage.source.replication()?;
    ensure!(configuration.contains("<StorageClass>cloud</StorageClass>"), "{configuration}");
    ensure!(!between(&configuration, "Role")?.contains(','), "{configuration}");
    ensure!(stage.source.counts()? == (1, 1) && stage.target.counts()? == (0, 0), "the target was touched");
    let told = stage.desk.run(&[&["setup", "--site-name", "paris"], &pair[..]].concat())?.ended(2)?;
    told.says("the site paris has servers of its own")
}

fn unusable() -> Result<()> {
    let desk = Desk::new(&[("here", "key-one", SECRET), ("half", "key-two", "")])?;
    for missing in [vec!["setup"], vec!["validate", "--source-bucket", "photos"]] {
        desk.run(&missing)?.ended(2)?.says("--target-bucket <BUCKET>")?;
    }
    let pair = |target_profile, more: &[&str]| {
        let pair =
            ["setup", "--source-bucket", "photos", "--source-profile", "here", "--target-bucket", "copy"];
        desk.run(&[&pair[..], &["--target-profile", target_profile, "--retry-time", "0"], more].concat())
    };
    // Nobody listens there.
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?.to_string();
    drop(listener);
    let role = "arn:aws:iam::123456789012:role/one";
    let nowhere = ["--source-endpoint", &address, "--target-endpoint", &address, "--role", role];
    pair("nobody", &nowhere)?
        .ended(2)?
        .says("no profile is named \"nobody\"; there are \"here\", \"half\"")?;
    pair("half", &nowhere)?.ended(2)?.says("profile \"half\" has no aws_secret_access_key")?;
    pair("here", &[])?.ended(2)?.says("--source-endpoint")?;
    pair("here", &nowhere[..4])?.ended(2)?.says("--source-iam-endpoint")?;
    pair("here", &[&nowhere[..4], &["--role", "one"]].concat())?
        .ended(2)?
        .says("is not like arn:aws:iam::")?;
    let told = pair("here", &nowhere)?.ended(5)?;
    told.says("source: looking at the bucket photos: cannot connect to")?;
    told.says(&address)?;
    Ok(())
}

const ROLES: &str = "arn:aws:iam::123456789012:role/here,arn:aws:iam::123456789012:role/there";

fn without_iam() -> Result<()> {
    let (desk, dev, source, target, places) = running()?;
    let places: Vec<&str> = places.iter().map(String::as_str).collect();
    let with_roles = [&places[..], &["--role", ROLES]].concat();
    let told = desk.pair("setup", &with_roles)?.ended(0)?;
    told.says("all is well")?;
    told.says("not run")?;
    desk.pair("setup", &with_roles)?.ended(0)?.says("nothing to do")?;
    let told = desk.pair("validate", &[&with_roles[..], &["--json"]].concat())?.ended(0)?;
    ensure!(
        told.states("checks")?.iter().filter(|state| *state == "not run").count() == 2,
        "{}",
        told.stdout
    );
    let other = [&places[..], &["--role", "arn:aws:iam::123456789012:role/other"]].concat();
    desk.pair("validate", &other)?.ended(3)?.says("it is not the one that is given")?;

    source.put("/photos/readme", None, "hello")?;
    let deadline = Instant::now() + TIME_MAX;
    while target.s3(Method::GET, "/photos-copy/readme", None, "")? != (200, "hello".to_owned()) {
        ensure!(Instant::now() < deadline, "what was set up does not replicate");
        std::thread::sleep(LOOK);
    }
    dev.kill()
}

fn others() -> Result<()> {
    let (desk, dev, source, _, places) = running()?;
    let places: Vec<&str> = places.iter().map(String::as_str).collect();
    let with_roles = [&places[..], &["--role", ROLES]].concat();
    source.put("/photos", None, "")?;
    source.versioning("photos", "Enabled")?;
    let rule = |id: &str, prefix: &str, bucket: &str| {
        format!(
            "<Rule><ID>{id}</ID><Prefix>{prefix}</Prefix><Status>Enabled</Status><Destination><Bucket>arn:aws:s3:::{bucket}</Bucket></Destination></Rule>"
        )
    };
    let configuration = |rule: &str| {
        format!("<ReplicationConfiguration><Role>{ROLES}</Role>{rule}</ReplicationConfiguration>")
    };
    let put = |rule: &str| source.put("/photos", Some("replication"), &configuration(rule));

    put(&rule("logs", "logs/", "photos-copy"))?;
    desk.pair("setup", &with_roles)?.ended(6)?.says("rule logs of photos is left as it is")?;
    let beside = [&with_roles[..], &["--prefix", "raw/"]].concat();
    let told = desk.pair("setup", &beside)?.ended(0)?;
    told.says("all is well")?;
    let now = source.replication()?;
    ensure!(now.contains("<ID>logs</ID>") && now.contains("<Prefix>raw/</Prefix>"), "{now}");
    ensure!(now.matches("<Rule>").count() == 2, "{now}");
    desk.pair("setup", &beside)?.ended(0)?.says("nothing to do")?;

    put(&rule("away", "", "elsewhere"))?;
    let before = source.replication()?;
    desk.pair("setup", &with_roles)?
        .ended(6)?
        .says("rule away of photos is left as it is and replicates to arn:aws:s3:::elsewhere")?;
    let given = [&places[..], &["--role", "arn:aws:iam::123456789012:role/other"]].concat();
    put(&rule("all", "", "photos-copy"))?;
    desk.pair("setup", &given)?.ended(6)?.says(&format!("--role {ROLES}"))?;
    put(&rule("away", "", "elsewhere"))?;
    ensure!(source.replication()? == before, "a refusal changed something");
    dev.kill()
}
