//! The replication configuration of a bucket as it stands there, whoever wrote it. Nothing is checked, nothing is left out:
//! what is not understood stays in the document.

use super::replication_info::PREFERRED_READ;
use super::xml_element::{Element, write_element};

const ROOT: &str = "ReplicationConfiguration";

/// What a configuration says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoredReplication {
    /// The ARNs of the roles, in their order.
    pub roles: Vec<String>,
    /// The rules in their order.
    pub rules: Vec<StoredRule>,
}

/// What a rule says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoredRule {
    /// The id; empty if it has none.
    pub id: String,
    /// The keys it applies to.
    pub prefix: String,
    /// Whether it is enabled.
    pub is_enabled: bool,
    /// The ARN of the destination bucket.
    pub bucket: Option<String>,
    /// The sites; none for the default site.
    pub sites: Vec<String>,
}

impl StoredReplication {
    /// Reads a document; `None` if it is none.
    pub fn read(document: &str) -> Option<Self> {
        let root = Element::parse(document).ok().filter(|root| root.name == ROOT)?;
        let roles = root.child_text("Role").unwrap_or_default();
        let roles = roles.split(',').map(|role| role.trim().to_owned());
        let rules = root.children.iter().filter(|child| child.name == "Rule");
        Some(Self {
            roles: roles.filter(|role| !role.is_empty()).collect(),
            rules: rules.map(StoredRule::read).collect(),
        })
    }
}

impl StoredRule {
    fn read(rule: &Element) -> Self {
        // Where a rule may have a filter, the prefix is in there, alone or among others.
        let filter = rule.child("Filter");
        let among = filter.and_then(|filter| filter.child("And"));
        let prefix = [Some(rule), filter, among].into_iter().flatten();
        let destination = rule.child("Destination");
        let text = |name: &str| destination.and_then(|destination| destination.child_text(name));
        let sites = text("StorageClass").unwrap_or_default().split(',').map(str::trim);
        let sites = sites.filter(|site| !site.is_empty());
        Self {
            id: rule.child_text("ID").unwrap_or_default().trim().to_owned(),
            prefix: prefix
                .filter_map(|element| element.child_text("Prefix"))
                .next_back()
                .unwrap_or_default()
                .to_owned(),
            is_enabled: rule.child_text("Status").is_some_and(|status| status.trim() == "Enabled"),
            bucket: text("Bucket").map(|bucket| bucket.trim().to_owned()),
            sites: sites.map(|site| site.strip_suffix(PREFERRED_READ).unwrap_or(site).to_owned()).collect(),
        }
    }

    /// `document` with this rule after those that it has; everything else in it stays as it is. `None` if it is no such
    /// document.
    pub fn added_to(&self, document: &str) -> Option<String> {
        Element::parse(document).ok().filter(|root| root.name == ROOT)?;
        // Names with a namespace before them are nothing that servers write.
        let end = document.rfind("</ReplicationConfiguration>")?;
        let mut added = document[..end].to_owned();
        self.write(&mut added);
        added.push_str(&document[end..]);
        Some(added)
    }

    fn write(&self, out: &mut String) {
        out.push_str("<Rule>");
        write_element(out, "ID", &self.id);
        write_element(out, "Prefix", &self.prefix);
        write_element(out, "Status", if self.is_enabled { "Enabled" } else { "Disabled" });
        out.push_str("<Destination>");
        if let Some(bucket) = &self.bucket {
            write_element(out, "Bucket", bucket);
        }
        if !self.sites.is_empty() {
            write_element(out, "StorageClass", &self.sites.join(","));
        }
        out.push_str("</Destination></Rule>");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STORED: &str = r#"<?xml version="1.0"?>
        <ReplicationConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/">
          <Role>arn:1, arn:2</Role>
          <Rule><ID>logs</ID><Priority>1</Priority><Filter><And><Prefix>l&amp;/</Prefix><Tag/></And></Filter><Status>Enabled</Status>
            <Destination><Bucket>arn:aws:s3:::t</Bucket><StorageClass>a,b:preferred_read</StorageClass></Destination></Rule>
          <Rule><Filter><Prefix>f/</Prefix></Filter><Status>Disabled</Status></Rule>
          <Rule><Prefix/></Rule>
        </ReplicationConfiguration>
        "#;

    fn rule() -> StoredRule {
        StoredRule {
            id: "ours".to_owned(),
            prefix: "a&b/".to_owned(),
            is_enabled: true,
            bucket: Some("arn:aws:s3:::t".to_owned()),
            sites: vec!["paris".to_owned()],
        }
    }

    #[test]
    fn rules_are_read_whoever_wrote_them() {
        let read = StoredReplication::read(STORED).expect("a configuration");
        assert_eq!(read.roles, ["arn:1", "arn:2"]);
        let prefixes: Vec<&str> = read.rules.iter().map(|rule| rule.prefix.as_str()).collect();
        assert_eq!(prefixes, ["l&/", "f/", ""]);
        assert_eq!(read.rules[0].sites, ["a", "b"]);
        assert_eq!(read.rules.iter().map(|rule| rule.is_enabled).collect::<Vec<_>>(), [true, false, false]);
        assert_eq!(read.rules[1].bucket, None);
        assert_eq!(StoredReplication::read("<Other/>"), None);
        assert_eq!(StoredReplication::read("<ReplicationConfiguration>"), None);
    }

    #[test]
    fn a_rule_is_added_and_nothing_else_is_touched() {
        let added = rule().added_to(STORED).expect("a configuration");
        let read = StoredReplication::read(&added).expect("still one");
        assert_eq!(read.rules.last(), Some(&rule()));
        assert_eq!(read.rules.len(), 4);
        let before = STORED.rfind("</Rep").expect("the end");
        assert!(added.starts_with(&STORED[..before]) && added.ends_with(&STORED[before..]), "{added}");
        assert_eq!(rule().added_to("<Other></Other>"), None);
    }
}
