use super::*;

const CONFIGURED: &str = r#"{"extensions":{"replication":{
    "source":{"transport":"https","s3":{"host":"here","port":8000},
        "auth":{"type":"role","vault":{"host":"vault","port":8500,"adminPort":8600}}},
    "destination":{"auth":{"type":"role"},"bootstrapList":[
        {"site":"cloud","type":"aws_s3"},
        {"site":"paris","servers":["there:9000","too:9000"]},
        {"site":"plain","type":"s3","servers":["store"],"transport":"https","region":"eu"}]}}}}"#;

fn places(
    text: &str,
    overrides: &Overrides<'_>,
    site: Option<&str>,
    is_external: bool,
    with_iam: bool,
) -> Result<Places, String> {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("config.json");
    std::fs::write(&file, text).expect("written");
    let config = Config::load(Some(&file), []).expect("usable");
    Places::of(&config, overrides, site, is_external, with_iam)
}

fn configured(site: Option<&str>) -> Places {
    places(CONFIGURED, &Overrides::default(), site, false, true).expect("all is configured")
}

fn shown(place: &Place) -> String {
    format!("{:?} {}{}", place.transport, place.endpoint, place.path)
}

#[test]
fn places_are_where_upstream_looks_for_them() {
    let places = configured(None);
    assert_eq!(shown(&places.source), "Https here:8000/");
    assert_eq!(places.source_iam.as_ref().map(shown).as_deref(), Some("Https vault:8600/"));
    let target = places.target.expect("it is a site with servers");
    assert_eq!((target.site.as_deref(), target.kind), (Some("paris"), TargetSite::Keeping));
    assert_eq!(shown(&target.s3), "Http there:9000/");
    assert_eq!(target.iam.as_ref().map(shown).as_deref(), Some("Http there:9000/_/backbeat/iam"));
}

#[test]
fn options_come_before_the_configuration() {
    let overrides = Overrides {
        source: Some("one"),
        source_iam: Some("http://two:1/iam/"),
        target: Some("https://three"),
        target_iam: Some("four:4"),
    };
    let places = places(CONFIGURED, &overrides, Some("plain"), false, true).expect("all is named");
    assert_eq!(shown(&places.source), "Https one:443/");
    assert_eq!(places.source_iam.as_ref().map(shown).as_deref(), Some("Http two:1/iam"));
    let target = places.target.expect("it is a site with servers");
    assert_eq!((target.kind, target.region.as_str()), (TargetSite::Minting, "eu"));
    assert_eq!(shown(&target.s3), "Https three:443/");
    assert_eq!(target.iam.as_ref().map(shown).as_deref(), Some("Https four:4/"));
}

#[test]
fn what_is_missing_is_named_with_what_to_do() {
    let none = Overrides::default();
    let told = |text, overrides: &Overrides<'_>, site, is_external| {
        places(text, overrides, site, is_external, true).expect_err("not enough")
    };
    assert!(told("{}", &none, None, false).contains("--source-endpoint"));
    let source = Overrides { source: Some("a:1"), ..none.clone() };
    assert!(told("{}", &source, None, false).contains("--source-iam-endpoint"));
    let source = Overrides { source_iam: Some("a:2"), ..source };
    assert!(told("{}", &source, None, false).contains("--target-endpoint"));
    assert!(told(CONFIGURED, &none, Some("plain"), false).contains("--target-iam-endpoint"));
    assert!(told(CONFIGURED, &none, Some("rome"), false).ends_with("it has: cloud, paris, plain"));
    assert!(told(CONFIGURED, &none, Some("rome"), true).ends_with("it has: cloud, paris, plain"));
    assert!(told(CONFIGURED, &none, Some("cloud"), false).contains("leave --target-profile out"));
    assert!(told(CONFIGURED, &none, Some("paris"), true).contains("--target-profile"));
    for (wrong, why) in
        [("ftp://a", "ftp"), ("http://key:hush@a:1", "profiles"), ("a:b", "no port"), (":1", "no host")]
    {
        let told = told(CONFIGURED, &Overrides { source: Some(wrong), ..none.clone() }, None, false);
        assert!(told.starts_with("--source-endpoint: ") && told.contains(why), "{told}");
        assert!(!told.contains("hush"), "{told}");
    }
}

#[test]
fn with_given_roles_no_iam_is_needed_and_clouds_have_no_places() {
    let plain = places(CONFIGURED, &Overrides::default(), Some("plain"), false, false).expect("enough");
    assert_eq!((plain.source_iam, plain.target.expect("a site").iam), (None, None));
    let cloud = places(CONFIGURED, &Overrides::default(), Some("cloud"), true, true);
    assert_eq!(cloud.expect("enough").target, None);
}
