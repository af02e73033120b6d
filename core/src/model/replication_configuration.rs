//! The replication configuration of a bucket: reading, checking and writing it as S3 clients see it (wire reference 5).

use std::collections::BTreeSet;

use super::replication_info::PREFERRED_READ;
use super::xml_element::{Element, write_element};

const RULES_MAX: usize = 1000;
const PREFIX_LENGTH_MAX: usize = 1024;
const ID_LENGTH_MAX: usize = 255;
/// Storage classes that stand for the default site.
const BUILT_IN_CLASSES: [&str; 3] = ["STANDARD", "STANDARD_IA", "REDUCED_REDUNDANCY"];

/// A refusal as the client sees it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {description}")]
pub struct ConfigurationError {
    /// S3's error code.
    pub code: &'static str,
    /// The message for people.
    pub description: String,
    /// HTTP status.
    pub http_status: u16,
}

impl ConfigurationError {
    fn new(code: &'static str, description: impl Into<String>) -> Self {
        Self { code, description: description.into(), http_status: 400 }
    }

    fn malformed() -> Self {
        let description =
            "The XML you provided was not well-formed or did not validate against our published schema.";
        Self::new("MalformedXML", description)
    }

    fn role(detail: &str) -> Self {
        Self::new("InvalidArgument", format!("Invalid Role specified in replication configuration: {detail}"))
    }
}

/// A site that a rule may name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The name.
    pub site: String,
    /// The cloud type; `None` for a Scality site.
    pub kind: Option<String>,
    /// Whether rules that name no site mean this one.
    pub is_default: bool,
}

/// What a configuration is checked against.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfigurationRules {
    /// The sites.
    pub endpoints: Vec<Endpoint>,
    /// Sites that are cold locations: no rule may name them.
    pub cold_locations: BTreeSet<String>,
    /// Whether a single role is accepted for a Scality site, standing for both sides. Upstream wants two.
    pub one_role_may_stand_for_both: bool,
}

impl ConfigurationRules {
    fn default_is_scality(&self) -> bool {
        let chosen =
            self.endpoints.iter().find(|endpoint| endpoint.is_default).or_else(|| self.endpoints.first());
        chosen.is_some_and(|endpoint| endpoint.kind.is_none())
    }
}

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicationRule {
    /// The id, unique in its configuration.
    pub id: String,
    /// The keys it applies to.
    pub prefix: String,
    /// Whether it is enabled.
    pub enabled: bool,
    /// The sites, comma-separated, as given; `None` for the default site.
    pub storage_class: Option<String>,
}

/// The replication configuration of a bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicationConfiguration {
    /// One or two role ARNs, comma-separated.
    pub role: String,
    /// The ARN of the destination bucket; may be missing when all sites are clouds.
    pub destination: Option<String>,
    /// The rules in their order.
    pub rules: Vec<ReplicationRule>,
    /// The site to read from while others are behind.
    pub preferred_read_location: Option<String>,
}

impl ReplicationConfiguration {
    /// Reads and checks the document `xml`. `generate_id` names the rules that have no id.
    pub fn parse(
        xml: &str,
        rules: &ConfigurationRules,
        generate_id: impl FnMut() -> String,
    ) -> Result<Self, ConfigurationError> {
        let root = Element::parse(xml).map_err(|_| ConfigurationError::malformed())?;
        if root.name != "ReplicationConfiguration" {
            return Err(ConfigurationError::malformed());
        }
        Check { rules, scality: false, destination: None, preferred: None, found: Vec::new(), generate_id }
            .run(&root)
    }

    /// The document for clients.
    pub fn to_xml(&self) -> String {
        let mut out = String::from(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?><ReplicationConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">",
        );
        for rule in &self.rules {
            out.push_str("<Rule>");
            write_element(&mut out, "ID", &rule.id);
            write_element(&mut out, "Prefix", &rule.prefix);
            write_element(&mut out, "Status", if rule.enabled { "Enabled" } else { "Disabled" });
            out.push_str("<Destination>");
            write_element(&mut out, "Bucket", self.destination.as_deref().unwrap_or("null"));
            if let Some(storage_class) = &rule.storage_class {
                write_element(&mut out, "StorageClass", storage_class);
            }
            out.push_str("</Destination></Rule>");
        }
        write_element(&mut out, "Role", &self.role);
        out.push_str("</ReplicationConfiguration>");
        out
    }

    /// The enabled rule that applies to `key`: the first one, in stored order.
    pub fn rule_for(&self, key: &str) -> Option<&ReplicationRule> {
        self.rules.iter().find(|rule| rule.enabled && key.starts_with(&rule.prefix))
    }
}

/// The state of one check: rules one by one, each in the order status, prefix, id, storage class, bucket; the role last.
struct Check<'a, F> {
    rules: &'a ConfigurationRules,
    /// Whether a Scality site is in play. The default site sets it, a named site can only raise it, as upstream.
    scality: bool,
    destination: Option<String>,
    preferred: Option<String>,
    found: Vec<ReplicationRule>,
    generate_id: F,
}

impl<F: FnMut() -> String> Check<'_, F> {
    fn run(mut self, root: &Element) -> Result<ReplicationConfiguration, ConfigurationError> {
        let rules: Vec<&Element> = root.children.iter().filter(|child| child.name == "Rule").collect();
        if rules.is_empty() {
            return Err(ConfigurationError::malformed());
        }
        if rules.len() > RULES_MAX {
            let description = format!("Number of defined replication rules cannot exceed {RULES_MAX}");
            return Err(ConfigurationError::new("InvalidRequest", description));
        }
        for rule in rules {
            self.check_rule(rule)?;
        }
        let role = root.child_text("Role").ok_or_else(ConfigurationError::malformed)?;
        self.check_role(role)?;
        Ok(ReplicationConfiguration {
            role: role.to_owned(),
            destination: self.destination,
            rules: self.found,
            preferred_read_location: self.preferred,
        })
    }

    fn check_rule(&mut self, rule: &Element) -> Result<(), ConfigurationError> {
        let enabled = match rule.child_text("Status") {
            Some("Enabled") => true,
            Some("Disabled") => false,
            _ => return Err(ConfigurationError::malformed()),
        };
        let prefix = rule.child_text("Prefix").ok_or_else(ConfigurationError::malformed)?.to_owned();
        self.check_prefix(&prefix)?;
        let id = self.check_id(rule.child_text("ID").unwrap_or(""))?;
        let destination = rule.child("Destination").filter(|destination| !destination.is_empty());
        let destination = destination.ok_or_else(ConfigurationError::malformed)?;
        let storage_class = destination.child_text("StorageClass");
        match storage_class {
            Some(classes) => self.check_storage_class(classes)?,
            None => self.scality = self.rules.default_is_scality(),
        }
        self.check_bucket(destination.child_text("Bucket"))?;
        let storage_class = storage_class.map(str::to_owned);
        self.found.push(ReplicationRule { id, prefix, enabled, storage_class });
        Ok(())
    }

    fn check_prefix(&self, prefix: &str) -> Result<(), ConfigurationError> {
        if prefix.encode_utf16().count() > PREFIX_LENGTH_MAX {
            let description = "Rule prefix cannot be longer than maximum allowed key length of 1024";
            return Err(ConfigurationError::new("InvalidArgument", description));
        }
        let overlaps = |earlier: &&ReplicationRule| {
            earlier.prefix.starts_with(prefix) || prefix.starts_with(&earlier.prefix)
        };
        match self.found.iter().find(overlaps) {
            Some(earlier) => {
                let description = format!("Found overlapping prefixes '{}' and '{prefix}'", earlier.prefix);
                Err(ConfigurationError::new("InvalidRequest", description))
            }
            None => Ok(()),
        }
    }

    fn check_id(&mut self, id: &str) -> Result<String, ConfigurationError> {
        if id.encode_utf16().count() > ID_LENGTH_MAX {
            return Err(ConfigurationError::new("InvalidArgument", "Rule Id cannot be greater than 255"));
        }
        if id.is_empty() {
            return Ok((self.generate_id)());
        }
        if self.found.iter().any(|earlier| earlier.id == id) {
            return Err(ConfigurationError::new("InvalidRequest", "Rule Id must be unique"));
        }
        Ok(id.to_owned())
    }

    fn check_storage_class(&mut self, classes: &str) -> Result<(), ConfigurationError> {
        for class in classes.split(',') {
            let site = class.strip_suffix(PREFERRED_READ).unwrap_or(class);
            if BUILT_IN_CLASSES.contains(&site) {
                self.scality = self.rules.default_is_scality();
                continue;
            }
            let endpoint = self.rules.endpoints.iter().find(|endpoint| endpoint.site == site);
            let endpoint = endpoint.filter(|_| !self.rules.cold_locations.contains(site));
            let endpoint = endpoint.ok_or_else(ConfigurationError::malformed)?;
            self.scality |= endpoint.kind.is_none();
        }
        if let Some(preferred) = classes.split(',').find_map(|class| class.strip_suffix(PREFERRED_READ)) {
            self.preferred = Some(preferred.to_owned());
        }
        Ok(())
    }

    fn check_bucket(&mut self, bucket: Option<&str>) -> Result<(), ConfigurationError> {
        let Some(arn) = bucket else {
            return if self.scality { Err(ConfigurationError::malformed()) } else { Ok(()) };
        };
        let invalid = |description: &str| Err(ConfigurationError::new("InvalidArgument", description));
        if arn.is_empty() {
            return invalid("Destination bucket cannot be null or empty");
        }
        let Some(name) = arn.strip_prefix("arn:aws:s3:::") else { return invalid("Invalid bucket ARN") };
        // As upstream, what follows a further colon is not part of the name that is checked.
        let name = name.split(':').next().unwrap_or(name);
        if !is_bucket_name(name) {
            return invalid("The specified bucket is not valid");
        }
        match &self.destination {
            Some(earlier) if earlier != arn => Err(ConfigurationError::new(
                "InvalidRequest",
                "The destination bucket must be same for all rules",
            )),
            _ => {
                self.destination = Some(arn.to_owned());
                Ok(())
            }
        }
    }

    fn check_role(&self, role: &str) -> Result<(), ConfigurationError> {
        let roles: Vec<&str> = role.split(',').collect();
        if self.scality && roles.len() != 2 && !(self.rules.one_role_may_stand_for_both && roles.len() == 1) {
            return Err(ConfigurationError::role("Role must be a comma-separated list of two IAM roles"));
        }
        if !self.scality && roles.len() > 1 {
            return Err(ConfigurationError::role("Role may not contain a comma separator"));
        }
        match roles.into_iter().find(|role| !is_role_arn(role)) {
            Some(wrong) => Err(ConfigurationError::role(&format!("'{wrong}'"))),
            None => Ok(()),
        }
    }
}

/// Whether `name` can name a bucket: 3 to 63 lower-case letters, digits, dots and hyphens, every label beginning and ending with a
/// letter or digit, and not the form of an IPv4 address.
pub fn is_bucket_name(name: &str) -> bool {
    let label = |label: &str| {
        let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let ends = label.bytes().next().is_some_and(fits) && label.bytes().next_back().is_some_and(fits);
        ends && label.bytes().all(|byte| fits(byte) || byte == b'-')
    };
    let octet = |label: &str| label.len() <= 3 && label.bytes().all(|byte| byte.is_ascii_digit());
    let address = name.split('.').count() == 4 && name.split('.').all(octet);
    (3..=63).contains(&name.len()) && name.split('.').all(label) && !address
}

fn is_role_arn(role: &str) -> bool {
    let fields: Vec<&str> = role.split(':').collect();
    match fields.as_slice() {
        ["arn", "aws", "iam", "", account, resource, ..] => {
            (*account == "*" || account.chars().count() > 1) && resource.starts_with("role")
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(one_role: bool) -> ConfigurationRules {
        let endpoint = |site: &str, kind: Option<&str>| Endpoint {
            site: site.to_owned(),
            kind: kind.map(str::to_owned),
            is_default: false,
        };
        ConfigurationRules {
            endpoints: vec![endpoint("a", None), endpoint("c", Some("gcp"))],
            cold_locations: BTreeSet::new(),
            one_role_may_stand_for_both: one_role,
        }
    }

    fn parse(role: &str, body: &str, one_role: bool) -> Result<ReplicationConfiguration, ConfigurationError> {
        let xml = format!("<ReplicationConfiguration><Role>{role}</Role>{body}</ReplicationConfiguration>");
        ReplicationConfiguration::parse(&xml, &rules(one_role), || "new".to_owned())
    }

    const RULE: &str = "<Rule><Status>Enabled</Status><Prefix>p/</Prefix><Destination><Bucket>arn:aws:s3:::dst</Bucket></Destination></Rule>";

    #[test]
    fn one_role_stands_for_both_only_where_allowed() {
        let role = "arn:aws:iam::12:role/r";
        assert_eq!(parse(role, RULE, true).expect("accepted").role, role);
        assert_eq!(parse(role, RULE, false).expect_err("two wanted").code, "InvalidArgument");
    }

    #[test]
    fn the_first_enabled_rule_whose_prefix_fits_applies() {
        let config = parse("arn:aws:iam::12:role/r", RULE, true).expect("accepted");
        assert_eq!(config.rule_for("p/x").map(|rule| rule.id.as_str()), Some("new"));
        assert_eq!(config.rule_for("q"), None);
        let read =
            ReplicationConfiguration::parse(&config.to_xml(), &rules(true), String::new).expect("our own");
        assert_eq!(read, config);
    }

    /// A rule; parts that are empty are left out.
    fn rule(id: &str, prefix: &str, classes: &str, bucket: &str) -> String {
        let part = |name: &str, text: &str| {
            if text.is_empty() { String::new() } else { format!("<{name}>{text}</{name}>") }
        };
        let id = part("ID", id);
        let destination = part("Bucket", bucket) + &part("StorageClass", classes);
        format!(
            "<Rule>{id}<Status>Enabled</Status><Prefix>{prefix}</Prefix><Destination>{destination}</Destination></Rule>"
        )
    }

    #[test]
    fn what_is_wrong_with_a_configuration_has_a_code_and_a_reason() {
        const BUCKET: &str = "arn:aws:s3:::dst";
        let two = |first: String, second: String| first + &second;
        for (body, code, reason) in [
            (String::new(), "MalformedXML", "not well-formed"),
            (RULE.replace("Enabled", "Perhaps"), "MalformedXML", "not well-formed"),
            (rule("", &"p".repeat(1025), "", BUCKET), "InvalidArgument", "longer than maximum"),
            (two(rule("1", "a", "", BUCKET), rule("2", "ab", "", BUCKET)), "InvalidRequest", "overlapping"),
            (two(rule("1", "a", "", BUCKET), rule("1", "b", "", BUCKET)), "InvalidRequest", "must be unique"),
            (rule(&"i".repeat(256), "a", "", BUCKET), "InvalidArgument", "greater than 255"),
            (rule("", "a", "nowhere", BUCKET), "MalformedXML", "not well-formed"),
            (rule("", "a", "a", ""), "MalformedXML", "not well-formed"),
            (RULE.replace(BUCKET, ""), "InvalidArgument", "null or empty"),
            (rule("", "a", "a", "dst"), "InvalidArgument", "Invalid bucket ARN"),
            (rule("", "a", "a", "arn:aws:s3:::A_B"), "InvalidArgument", "not valid"),
            (
                two(rule("1", "a", "a", BUCKET), rule("2", "b", "a", "arn:aws:s3:::other")),
                "InvalidRequest",
                "must be same",
            ),
            (
                (0..=RULES_MAX).map(|index| rule("", &format!("{index:04}"), "", BUCKET)).collect(),
                "InvalidRequest",
                "cannot exceed",
            ),
        ] {
            let error = parse("arn:aws:iam::12:role/r", &body, true).expect_err(reason);
            assert_eq!(error.code, code, "{}", error.description);
            assert!(error.description.contains(reason), "{}", error.description);
        }
        let error = ReplicationConfiguration::parse("<Other/>", &rules(true), String::new);
        assert_eq!(error.expect_err("another document").code, "MalformedXML");
    }

    #[test]
    fn storage_classes_name_sites_and_the_one_to_read_from() {
        let role = "arn:aws:iam::12:role/r";
        let config = parse(role, &rule("", "a", "a,c:preferred_read", "arn:aws:s3:::dst"), true);
        let config = config.expect("accepted");
        assert_eq!(config.preferred_read_location.as_deref(), Some("c"));
        assert_eq!(config.destination.as_deref(), Some("arn:aws:s3:::dst"));
        // A cloud location needs no bucket; a class of S3's own stands for the default site.
        assert_eq!(parse(role, &rule("", "a", "c", ""), true).expect("accepted").destination, None);
        assert_eq!(parse(role, &rule("", "a", "STANDARD_IA", "arn:aws:s3:::dst"), true).map(|_| ()), Ok(()));
    }

    #[test]
    fn bucket_names_follow_the_rules_of_dns() {
        for name in ["abc", "a.b-c.d", "1.2.3.4.5", "a--b"] {
            assert!(is_bucket_name(name), "{name}");
        }
        for name in ["ab", "a_b", "-ab", "ab-", "a..b", "1.2.3.4", "Abc", "a.-b", &"x".repeat(64)] {
            assert!(!is_bucket_name(name), "{name}");
        }
    }
}
