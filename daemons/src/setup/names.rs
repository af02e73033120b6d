//! What is wanted, and what things are called: names come from the buckets, so that a second run finds what the first made.

use backbeat_core::model::StoredRule;
use backbeat_core::request::Side;
use xxhash_rust::xxh3::xxh3_64;

use super::Both;

/// Letters of a bucket's name in the name of its role: names of roles have at most 64.
const BUCKET_CHARS_MAX: usize = 24;

/// What kind of site the target is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetSite {
    /// It keeps version ids: CloudServer.
    Keeping,
    /// It is reached by S3 alone.
    Minting,
    /// A cloud that is reached through the source: nothing is prepared there.
    External,
}

/// What is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The bucket that clients write to.
    pub source_bucket: String,
    /// The bucket that takes the copies.
    pub target_bucket: String,
    /// What kind of site has it.
    pub target: TargetSite,
    /// The keys that are to be replicated begin so.
    pub prefix: String,
    /// The site that the rule has to name.
    pub site: Option<String>,
    /// The site that rules may name: the one that is looked at.
    pub asked_site: Option<String>,
    /// The roles, where they are given; then IAM is not asked.
    pub roles: Option<Both<String>>,
}

impl Wanted {
    /// The sides that have something to prepare.
    pub fn sides(&self) -> &'static [Side] {
        match self.target {
            TargetSite::External => &[Side::Source],
            TargetSite::Keeping | TargetSite::Minting => &[Side::Source, Side::Target],
        }
    }

    /// The bucket of one side.
    pub fn bucket(&self, side: Side) -> &str {
        match side {
            Side::Source => &self.source_bucket,
            Side::Target => &self.target_bucket,
        }
    }

    /// What the role and the policy of one side are called.
    pub fn name(&self, side: Side) -> String {
        let pair = format!("{}/{}", self.source_bucket, self.target_bucket);
        let bucket: String = self.bucket(side).chars().take(BUCKET_CHARS_MAX).collect();
        let side = super::side_name(side);
        format!("bb-replication-{side}-{bucket}-{:016x}", xxh3_64(pair.as_bytes()))
    }

    /// The ARN of the destination bucket.
    pub fn destination(&self) -> String {
        format!("arn:aws:s3:::{}", self.target_bucket)
    }

    /// The rule.
    pub fn rule(&self) -> StoredRule {
        let what = format!("{}/{}/{:?}", self.target_bucket, self.prefix, self.site);
        StoredRule {
            id: format!("backbeat-{:016x}", xxh3_64(what.as_bytes())),
            prefix: self.prefix.clone(),
            is_enabled: true,
            bucket: Some(self.destination()),
            sites: self.site.iter().cloned().collect(),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A pair of buckets at two CloudServers.
    pub(in crate::setup) fn wanted() -> Wanted {
        Wanted {
            source_bucket: "photos".to_owned(),
            target_bucket: "photos-copy".to_owned(),
            target: TargetSite::Keeping,
            prefix: String::new(),
            site: None,
            asked_site: Some("paris".to_owned()),
            roles: None,
        }
    }

    #[test]
    fn names_are_the_same_each_time_and_differ_between_pairs_and_sides() {
        let one = wanted();
        assert_eq!(one.name(Side::Source), "bb-replication-source-photos-dac7939d20f4ba3e");
        assert_ne!(one.name(Side::Source), one.name(Side::Target));
        let other = Wanted { target_bucket: "elsewhere".to_owned(), ..wanted() };
        assert_ne!(one.name(Side::Source), other.name(Side::Source));
        let long = Wanted { source_bucket: "x".repeat(63), target_bucket: "x".repeat(62) + "y", ..wanted() };
        assert!(long.name(Side::Source).len() <= 64 && long.name(Side::Target).len() <= 64);
    }

    #[test]
    fn rules_of_one_bucket_have_ids_of_their_own() {
        let rule = wanted().rule();
        assert_eq!(rule, wanted().rule());
        for other in [
            Wanted { prefix: "logs/".to_owned(), ..wanted() },
            Wanted { site: Some("paris".to_owned()), ..wanted() },
        ] {
            assert_ne!(rule.id, other.rule().id);
        }
    }
}
